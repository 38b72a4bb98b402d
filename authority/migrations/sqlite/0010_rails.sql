-- What moves the money may be somebody else. A payment says on which rail and from which service account;
-- what a rail was asked for is an intent, recorded before it is asked; a claim that a rail works on is
-- 'paying', which nothing but the intent's own outcome ends. And a key signs what rails are asked.

CREATE TABLE claims_with_rails (
    id            BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- one phone has spent one token
    charge        BLOB    NOT NULL REFERENCES charges (id),  -- what it holds
    epoch         INTEGER NOT NULL,                          -- epoch to turn: the token it spent
    version       INTEGER NOT NULL,                          -- of the seed
    channel       INTEGER NOT NULL CHECK (channel IN (1, 2, 3)), -- 1 nfc, 2 qr, 3 code
    "window"      INTEGER NOT NULL,                          -- number within epoch and channel
    turn          INTEGER NOT NULL,                          -- number within the window
    phone         BLOB    NOT NULL CHECK (length(phone) = 32), -- SHA-256 of the secret in the phone's cookie
    person        BLOB    REFERENCES persons (id),           -- who claimed, when that was known at the claim
    mark          INTEGER NOT NULL CHECK (mark BETWEEN 0 AND 99), -- two digits on phone, kiosk, till and receipt
    state         TEXT    NOT NULL CHECK (state IN ('held', 'paying', 'released', 'paid')), -- where it stands; paying: an open intent works on it
    claimed_at_ms INTEGER NOT NULL,                          -- when
    held_until_ms INTEGER NOT NULL                           -- may be approved until then
) STRICT, WITHOUT ROWID;
INSERT INTO claims_with_rails SELECT * FROM claims;
DROP TABLE claims;
ALTER TABLE claims_with_rails RENAME TO claims;
CREATE UNIQUE INDEX one_claim_at_a_time_per_charge ON claims (charge) WHERE state <> 'released';
CREATE INDEX held_claims_by_end ON claims (held_until_ms) WHERE state = 'held';

CREATE TABLE payments_with_rails (
    id              BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- also the movement of its ledger entries
    receipt         BLOB    NOT NULL UNIQUE CHECK (length(receipt) = 16), -- id of the receipt, signed afterwards
    claim           BLOB    NOT NULL UNIQUE REFERENCES claims (id),       -- what was approved, once
    service_account BLOB    NOT NULL REFERENCES service_accounts (id),    -- what it was paid from, and so who paid
    account         BLOB    NOT NULL REFERENCES accounts (id),            -- what the ledger took it from: the shopper's account, or the clearing account of the rail
    amount_minor    INTEGER NOT NULL CHECK (amount_minor > 0),            -- as approved, in the charge's currency
    pseudonym       TEXT    NOT NULL,                                     -- of the shopper towards this merchant
    rail            TEXT    NOT NULL,                                     -- what moved the money: 'ledger', or a rail of the configuration
    rail_reference  TEXT    NOT NULL,                                     -- what the rail calls it
    approved_at_ms  INTEGER NOT NULL,                                     -- when the shopper agreed
    paid_at_ms      INTEGER NOT NULL                                      -- when the money had moved
) STRICT, WITHOUT ROWID;
INSERT INTO payments_with_rails
    SELECT id, receipt, claim, account, account, amount_minor, pseudonym, 'ledger', rail_reference,
           paid_at_ms, paid_at_ms
    FROM payments;
DROP TABLE payments;
ALTER TABLE payments_with_rails RENAME TO payments;

CREATE TABLE intents (
    payment         BLOB    NOT NULL PRIMARY KEY CHECK (length(payment) = 16), -- the payment that it becomes
    receipt         BLOB    NOT NULL UNIQUE CHECK (length(receipt) = 16), -- id of the receipt that it leads to
    claim           BLOB    NOT NULL REFERENCES claims (id),           -- what was approved
    service_account BLOB    NOT NULL REFERENCES service_accounts (id), -- what it is paid from, and so who pays
    rail            TEXT    NOT NULL CHECK (rail <> 'ledger'),         -- who is asked; the ledger needs no asking
    rail_account    TEXT    NOT NULL,                                  -- the reference of the account there, as it was then
    amount_minor    INTEGER NOT NULL CHECK (amount_minor > 0),         -- as approved, in the charge's currency
    rail_key        BLOB    NOT NULL UNIQUE CHECK (length(rail_key) = 16), -- random; every call carries it, and the rail acts on it once
    state           TEXT    NOT NULL CHECK (state IN ('authorising', 'capturing', 'paid', 'declined', 'reversing', 'reversed')), -- what is asked for, or what came of it
    reason          TEXT,                                              -- why it is declined or taken back
    rail_reference  TEXT,                                              -- what the rail calls it, once it has said so
    tries           INTEGER NOT NULL CHECK (tries >= 0),               -- calls without an answer since the last change of state
    next_at_ms      INTEGER,                                           -- when it is taken up again; null: it is over
    started_at_ms   INTEGER NOT NULL,                                  -- when the shopper agreed
    changed_at_ms   INTEGER NOT NULL,                                  -- since when it is in this state
    UNIQUE (claim, service_account, amount_minor), -- an account is asked once for a claim
    CHECK ((state IN ('authorising', 'capturing', 'reversing')) = (next_at_ms IS NOT NULL)),
    CHECK ((state IN ('declined', 'reversing', 'reversed')) = (reason IS NOT NULL)),
    CHECK (state NOT IN ('capturing', 'paid') OR rail_reference IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_open_intent_per_claim
    ON intents (claim) WHERE state IN ('authorising', 'capturing', 'paid');
CREATE INDEX open_intents_by_next ON intents (rail, next_at_ms) WHERE next_at_ms IS NOT NULL;

CREATE TABLE clearing_accounts (
    rail     TEXT NOT NULL,                                  -- whose payments
    currency TEXT NOT NULL CHECK (length(currency) = 3),     -- of them
    account  BLOB NOT NULL UNIQUE REFERENCES accounts (id),  -- kind outside; its entries sum up to what the rail owes, negated
    PRIMARY KEY (rail, currency)
) STRICT, WITHOUT ROWID;

ALTER TABLE keys RENAME TO keys_before_rails;
CREATE TABLE keys (
    kid             TEXT    NOT NULL PRIMARY KEY,  -- RFC 7638 thumbprint; for keys without a public half, the label
    purpose         TEXT    NOT NULL CHECK (purpose IN ('schedule', 'receipt', 'checkpoint', 'request', 'sealing', 'binding')), -- what it is for
    state           TEXT    NOT NULL CHECK (state IN ('prepared', 'active', 'superseded', 'tainted', 'retired')), -- what it may be used for
    label           TEXT    NOT NULL UNIQUE,       -- the object's label in the HSM
    public_point    BLOB    CHECK (length(public_point) = 65), -- uncompressed SEC 1 point, for signing keys
    certificates    TEXT,                          -- PEM of its own certificate and the issuing one; null: none yet
    made_at_ms      INTEGER NOT NULL,              -- when it was made
    since_ms        INTEGER NOT NULL,              -- since when it is in this state
    published_at_ms INTEGER,                       -- since when the daemon tells others of it; null: not yet
    tainted_at_ms   INTEGER,                       -- since when nothing it signs is believed; null: it was never tainted
    operation       BLOB    REFERENCES operations (id) -- that brought it into this state; null: it was made with the authority
) STRICT, WITHOUT ROWID;
INSERT INTO keys SELECT * FROM keys_before_rails;
DROP TABLE keys_before_rails;
CREATE UNIQUE INDEX one_active_key_per_purpose ON keys (purpose) WHERE state = 'active';
CREATE UNIQUE INDEX one_prepared_key_per_purpose ON keys (purpose) WHERE state = 'prepared';
