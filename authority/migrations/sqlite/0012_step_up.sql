-- What a shopper may pay, and when a sign-in is not enough: passkeys and what they confirmed, what was
-- paid since the last strong authentication, and caps.

CREATE TABLE passkeys (
    id            BLOB    NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 1023), -- what its authenticator calls it
    person        BLOB    NOT NULL REFERENCES persons (id),                  -- whose payments it confirms
    public_point  BLOB    NOT NULL CHECK (length(public_point) = 65),        -- uncompressed, P-256
    counter       INTEGER NOT NULL CHECK (counter BETWEEN 0 AND 4294967295), -- the highest its authenticator has shown; 0: it keeps none
    name          TEXT    NOT NULL,                                          -- what the shopper calls it
    added_at_ms   INTEGER NOT NULL,                                          -- when
    used_at_ms    INTEGER,                                                   -- when it last confirmed a payment; null: never
    removed_at_ms INTEGER                                                    -- confirms nothing since then, and stays for what it confirmed before
) STRICT, WITHOUT ROWID;
CREATE INDEX passkeys_by_person ON passkeys (person) WHERE removed_at_ms IS NULL;

CREATE TABLE challenges (
    challenge    BLOB    NOT NULL PRIMARY KEY CHECK (length(challenge) = 32), -- what a passkey is to sign, once
    person       BLOB    NOT NULL REFERENCES persons (id),                 -- whose passkey
    nonce        BLOB    NOT NULL CHECK (length(nonce) = 32),              -- random, an input of the challenge of a payment
    claim        BLOB    REFERENCES claims (id),                           -- what is to be paid; null: a new passkey is to be made
    amount_minor INTEGER CHECK (amount_minor > 0),                         -- in the charge's currency
    account      BLOB    REFERENCES service_accounts (id),                 -- what it is to be paid from
    ends_at_ms   INTEGER NOT NULL,                                         -- good for nothing from then on
    CHECK ((claim IS NULL) = (amount_minor IS NULL) AND (claim IS NULL) = (account IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX challenges_by_person ON challenges (person, ends_at_ms);

CREATE TABLE confirmations (
    payment            BLOB NOT NULL PRIMARY KEY CHECK (length(payment) = 16), -- the payment, or the intent that came to nothing
    passkey            BLOB NOT NULL REFERENCES passkeys (id),                 -- what signed
    nonce              BLOB NOT NULL CHECK (length(nonce) = 32),               -- with the payment's own fields this makes the challenge again
    authenticator_data BLOB NOT NULL,                                          -- authenticator_data ‖ SHA-256(client_data) is what is signed
    client_data        BLOB NOT NULL,                                          -- the browser's JSON: challenge and origin
    signature          BLOB NOT NULL                                           -- ECDSA over P-256 with SHA-256, DER
) STRICT, WITHOUT ROWID;

CREATE TABLE allowances (
    person           BLOB    NOT NULL REFERENCES persons (id), -- who pays
    currency         TEXT    NOT NULL CHECK (length(currency) = 3), -- of everything in this row
    strong_at_ms     INTEGER,                                  -- the last strong authentication; null: none yet
    unaided_minor    INTEGER NOT NULL CHECK (unaided_minor >= 0),    -- paid since then without one
    unaided_payments INTEGER NOT NULL CHECK (unaided_payments >= 0), -- in so many payments
    unaided_at_ms    INTEGER,                                  -- the last of them
    day              INTEGER NOT NULL,                         -- days since 1970, UTC
    day_minor        INTEGER NOT NULL CHECK (day_minor >= 0),  -- paid on that day
    own_each_minor   INTEGER CHECK (own_each_minor >= 0),      -- the shopper's own limit per payment; null: none
    own_day_minor    INTEGER CHECK (own_day_minor >= 0),       -- and per day; null: none
    PRIMARY KEY (person, currency)
) STRICT, WITHOUT ROWID;

CREATE TABLE merchant_limits (
    merchant   BLOB    NOT NULL PRIMARY KEY REFERENCES merchants (id), -- who is paid
    day_minor  INTEGER NOT NULL CHECK (day_minor >= 0),                -- the most in a day; goes before the configuration's
    set_at_ms  INTEGER NOT NULL                                        -- when
) STRICT, WITHOUT ROWID;

CREATE TABLE merchant_days (
    merchant    BLOB    NOT NULL PRIMARY KEY REFERENCES merchants (id), -- who is paid; only those who have a limit
    day         INTEGER NOT NULL,                                       -- days since 1970, UTC
    taken_minor INTEGER NOT NULL CHECK (taken_minor >= 0)               -- on that day
) STRICT, WITHOUT ROWID;

CREATE INDEX held_claims_by_person ON claims (person) WHERE state IN ('held', 'paying');
