-- The first schema. Times are milliseconds since the Unix epoch, UTC. Ids are UUIDs of 16 bytes,
-- version 7 and so in order of time, unless said otherwise. Amounts are minor units of a currency of
-- ISO 4217, which is three letters. docs/DATA_MODEL.md says why the keys are as they are.

CREATE TABLE meta (
    only_row   INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1), -- there is one row
    generation INTEGER NOT NULL CHECK (generation >= 1),          -- life of this database, an input of every epoch key
    node       TEXT    NOT NULL                                   -- the authority node whose audit chain is appended here
) STRICT;

CREATE TABLE probe (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1), -- there is one row
    value    BLOB    NOT NULL                                   -- 16 random bytes of the last readiness probe
) STRICT;

CREATE TABLE keys (
    kid          TEXT    NOT NULL PRIMARY KEY,  -- RFC 7638 thumbprint; for keys without a public half, the label
    purpose      TEXT    NOT NULL,              -- schedule, receipt, checkpoint, sealing or binding
    state        TEXT    NOT NULL CHECK (state IN ('prepared', 'active', 'tainted', 'retired')), -- what it may be used for
    label        TEXT    NOT NULL UNIQUE,       -- the object's label in the HSM
    public_point BLOB    CHECK (length(public_point) = 65), -- uncompressed SEC 1 point, for signing keys
    made_at_ms   INTEGER NOT NULL               -- when it was made
) STRICT, WITHOUT ROWID;

CREATE TABLE persons (
    id            BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- random, tells nothing
    issuer        TEXT NOT NULL,                                     -- the identity provider
    subject       TEXT NOT NULL,                                     -- the provider's name for the person, never an e-mail address
    audit_salt    BLOB NOT NULL CHECK (length(audit_salt) = 32),     -- random; without it the audit's commitments name nobody
    pairwise_salt BLOB NOT NULL CHECK (length(pairwise_salt) = 32),  -- random; key of the pseudonyms towards merchants
    UNIQUE (issuer, subject)
) STRICT, WITHOUT ROWID;

CREATE TABLE accounts (
    id            BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- an outside account has 13 zero bytes and its currency
    kind          TEXT    NOT NULL CHECK (kind IN ('shopper', 'merchant', 'outside')), -- whose; outside is where credits come from
    person        BLOB    REFERENCES persons (id),             -- the shopper; null for the others
    currency      TEXT    NOT NULL CHECK (length(currency) = 3), -- of all entries
    balance_minor INTEGER CHECK (balance_minor >= 0),          -- the guarded balance of a shopper; null for the others, who are the sum of their entries
    opened_at_ms  INTEGER NOT NULL,                            -- when it was opened
    CHECK ((kind = 'shopper') = (person IS NOT NULL)),
    CHECK ((kind = 'shopper') = (balance_minor IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_account_per_person_and_currency
    ON accounts (person, currency) WHERE kind = 'shopper';

CREATE TABLE ledger_entries (
    account      BLOB    NOT NULL REFERENCES accounts (id),   -- whose entry
    movement     BLOB    NOT NULL CHECK (length(movement) = 16), -- the payment, or the credit, that moved it
    amount_minor INTEGER NOT NULL CHECK (amount_minor <> 0),  -- to the account if positive; the entries of a movement sum to zero
    PRIMARY KEY (account, movement)
) STRICT, WITHOUT ROWID;

CREATE TABLE credits (
    reference    TEXT    NOT NULL PRIMARY KEY,              -- the operator's own; the same one again is the same credit
    movement     BLOB    NOT NULL CHECK (length(movement) = 16), -- its ledger entries
    account      BLOB    NOT NULL REFERENCES accounts (id), -- whose account was credited
    amount_minor INTEGER NOT NULL CHECK (amount_minor > 0), -- how much, in the account's currency
    credited_at_ms INTEGER NOT NULL                         -- when
) STRICT, WITHOUT ROWID;

CREATE TABLE merchants (
    id             BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- who is paid
    name           TEXT    NOT NULL,                               -- as shoppers see it
    currency       TEXT    NOT NULL CHECK (length(currency) = 3),  -- of every charge
    account        BLOB    NOT NULL UNIQUE REFERENCES accounts (id), -- where the built-in ledger puts the money
    fixed_minor    INTEGER CHECK (fixed_minor > 0),                -- what everybody pays when the till asks for nothing; null: not offered
    open_cap_minor INTEGER CHECK (open_cap_minor > 0),             -- the most a shopper may choose to pay then; null: not offered
    added_at_ms    INTEGER NOT NULL                                -- when
) STRICT, WITHOUT ROWID;

CREATE TABLE terminals (
    id           INTEGER NOT NULL PRIMARY KEY CHECK (id BETWEEN 0 AND 99999999), -- the 8 digits as a number
    merchant     BLOB    NOT NULL REFERENCES merchants (id),  -- who is paid there
    name         TEXT    NOT NULL,                            -- where it stands, in the merchant's words
    banned_at_ms INTEGER,                                     -- since when it is refused; null: active
    ban_reason   TEXT,                                        -- why, in the operator's words
    version      INTEGER NOT NULL CHECK (version >= 0),       -- of the seed in force
    sequence     INTEGER NOT NULL CHECK (sequence >= 0),      -- of the last schedule; 0 before the first
    issued_until INTEGER,                                     -- the last epoch any schedule held
    revision     INTEGER NOT NULL CHECK (revision >= 0),      -- rises with every change that the terminal is told
    till_charge  BLOB    REFERENCES charges (id),             -- the charge its till started last
    added_at_ms  INTEGER NOT NULL,                            -- when
    CHECK ((banned_at_ms IS NULL) = (ban_reason IS NULL))
) STRICT;

CREATE TABLE seeds (
    terminal      INTEGER NOT NULL REFERENCES terminals (id), -- whose seed
    version       INTEGER NOT NULL CHECK (version >= 0),      -- rises with every re-seed
    from_epoch    INTEGER NOT NULL CHECK (from_epoch >= 0),   -- the first epoch derived from it
    sealing_label TEXT    NOT NULL,                           -- the HSM key it is wrapped under
    binding_label TEXT    NOT NULL,                           -- the HSM key that binds it to its header
    context       BLOB    NOT NULL,                           -- the header: terminal, version, usage
    blob          BLOB    NOT NULL,                           -- the seed, wrapped (RFC 3394)
    binding       BLOB    NOT NULL CHECK (length(binding) = 32), -- HMAC over sealing label, header and wrapped seed
    PRIMARY KEY (terminal, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE join_tokens (
    hash           BLOB    NOT NULL PRIMARY KEY CHECK (length(hash) = 32), -- SHA-256 of the secret
    terminal       INTEGER NOT NULL REFERENCES terminals (id),          -- who may enrol with it
    expires_at_ms  INTEGER NOT NULL,                                    -- refused from then on
    added_at_ms    INTEGER NOT NULL,                                    -- when
    spki_sha256    BLOB    CHECK (length(spki_sha256) = 32),            -- the key it was redeemed for; null: not redeemed
    redeemed_at_ms INTEGER,                                             -- when first
    CHECK ((spki_sha256 IS NULL) = (redeemed_at_ms IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE certificates (
    serial        TEXT    NOT NULL PRIMARY KEY,  -- lower-case hex
    subject_kind  TEXT    NOT NULL CHECK (subject_kind IN ('terminal', 'operator', 'authority')), -- what it identifies
    subject       TEXT    NOT NULL,              -- terminal id, operator name or node
    spki_sha256   BLOB    NOT NULL CHECK (length(spki_sha256) = 32), -- of its public key
    not_before_ms INTEGER NOT NULL,              -- valid from
    not_after_ms  INTEGER NOT NULL,              -- valid until
    issued_at_ms  INTEGER NOT NULL               -- recorded before it was handed out
) STRICT, WITHOUT ROWID;

CREATE TABLE spent (
    epoch    INTEGER NOT NULL, -- first, so that old epochs do not slow new ones and go together
    terminal INTEGER NOT NULL, -- whose token
    version  INTEGER NOT NULL, -- of the seed
    channel  INTEGER NOT NULL CHECK (channel IN (1, 2, 3)), -- 1 nfc, 2 qr, 3 code
    "window" INTEGER NOT NULL CHECK ("window" BETWEEN 0 AND 65535), -- number within epoch and channel
    turn     INTEGER NOT NULL CHECK (turn BETWEEN 0 AND 65535), -- number within the window
    claim    BLOB    NOT NULL CHECK (length(claim) = 16), -- the claim that spent it
    PRIMARY KEY (epoch, terminal, version, channel, "window", turn)
) STRICT, WITHOUT ROWID;

CREATE TABLE turns (
    epoch    INTEGER NOT NULL, -- first, as in spent
    terminal INTEGER NOT NULL, -- whose window
    version  INTEGER NOT NULL, -- of the seed
    channel  INTEGER NOT NULL CHECK (channel IN (1, 2, 3)), -- 1 nfc, 2 qr, 3 code
    "window" INTEGER NOT NULL CHECK ("window" BETWEEN 0 AND 65535), -- number within epoch and channel
    turn     INTEGER NOT NULL CHECK (turn BETWEEN 1 AND 65535), -- the one that counts; a window without a row is at 0
    PRIMARY KEY (epoch, terminal, version, channel, "window")
) STRICT, WITHOUT ROWID;

CREATE TABLE charges (
    id            BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- of the till's making, or of the claim's
    terminal      INTEGER NOT NULL REFERENCES terminals (id),     -- where
    merchant      BLOB    NOT NULL REFERENCES merchants (id),     -- who is paid
    kind          TEXT    NOT NULL CHECK (kind IN ('till', 'fixed', 'open')), -- where the amount comes from
    currency      TEXT    NOT NULL CHECK (length(currency) = 3),  -- of all amounts here
    asked_minor   INTEGER CHECK (asked_minor > 0),                -- what is asked for; null for an open charge
    cap_minor     INTEGER CHECK (cap_minor > 0),                  -- the most an open charge may be; null for the others
    paid_minor    INTEGER CHECK (paid_minor > 0),                 -- what was paid
    reference     TEXT,                                           -- the till's own number for the sale
    state         TEXT    NOT NULL CHECK (state IN ('offered', 'held', 'paid', 'ended')), -- where it stands
    claim         BLOB    CHECK (length(claim) = 16),             -- who holds or has paid it
    end_reason    TEXT    CHECK (end_reason IN ('cancelled', 'released', 'expired')), -- why it ended
    until_ms      INTEGER NOT NULL,                               -- on offer until then
    releases      INTEGER NOT NULL CHECK (releases >= 0),         -- how many claims came to nothing
    started_at_ms INTEGER NOT NULL,                               -- when
    CHECK ((kind = 'open') = (asked_minor IS NULL)),
    CHECK ((kind = 'open') = (cap_minor IS NOT NULL)),
    CHECK ((state IN ('held', 'paid')) = (claim IS NOT NULL)),
    CHECK ((state = 'paid') = (paid_minor IS NOT NULL)),
    CHECK ((state = 'ended') = (end_reason IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX offered_charges_by_end ON charges (until_ms) WHERE state = 'offered';
CREATE INDEX unsettled_charges_by_terminal ON charges (terminal) WHERE state IN ('offered', 'held');

CREATE TABLE claims (
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
    state         TEXT    NOT NULL CHECK (state IN ('held', 'released', 'paid')), -- where it stands
    claimed_at_ms INTEGER NOT NULL,                          -- when
    held_until_ms INTEGER NOT NULL                           -- may be approved until then
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_claim_at_a_time_per_charge ON claims (charge) WHERE state <> 'released';
CREATE INDEX held_claims_by_end ON claims (held_until_ms) WHERE state = 'held';

CREATE TABLE payments (
    id             BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- also the movement of its ledger entries
    receipt        BLOB    NOT NULL UNIQUE CHECK (length(receipt) = 16), -- id of the receipt, signed afterwards
    claim          BLOB    NOT NULL UNIQUE REFERENCES claims (id),       -- what was approved, once
    account        BLOB    NOT NULL REFERENCES accounts (id),            -- the shopper's
    amount_minor   INTEGER NOT NULL CHECK (amount_minor > 0),            -- as approved, in the charge's currency
    pseudonym      TEXT    NOT NULL,                                     -- of the shopper towards this merchant
    rail_reference TEXT    NOT NULL,                                     -- what the rail calls it
    paid_at_ms     INTEGER NOT NULL                                      -- when
) STRICT, WITHOUT ROWID;

CREATE TABLE receipts_due (
    paid_at_ms INTEGER NOT NULL,                          -- first, because the oldest goes first
    payment    BLOB    NOT NULL REFERENCES payments (id), -- paid, and its receipt not yet stored
    PRIMARY KEY (paid_at_ms, payment)
) STRICT, WITHOUT ROWID;

CREATE TABLE receipts (
    payment      BLOB    NOT NULL PRIMARY KEY REFERENCES payments (id), -- what it is the receipt of
    jws          TEXT    NOT NULL,                                      -- compact JWS; the first stays for ever
    stored_at_ms INTEGER NOT NULL                                       -- when
) STRICT;

CREATE TABLE misses (
    person   BLOB    NOT NULL REFERENCES persons (id), -- who typed a wrong code
    at_ms    INTEGER NOT NULL,                         -- when
    epoch    INTEGER NOT NULL,                         -- epoch to window: where
    terminal INTEGER NOT NULL,                         -- need not exist: it was typed
    version  INTEGER NOT NULL,                         -- of the seed
    channel  INTEGER NOT NULL,                         -- 3, a code
    "window" INTEGER NOT NULL,                         -- number within epoch and channel
    misses   INTEGER NOT NULL CHECK (misses >= 1),     -- how many in that millisecond
    PRIMARY KEY (person, at_ms, epoch, terminal, version, channel, "window")
) STRICT, WITHOUT ROWID;
CREATE INDEX misses_by_window ON misses (epoch, terminal, version, channel, "window", misses);

CREATE TABLE reports (
    id       BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- of the terminal's making; again is the same event
    terminal INTEGER NOT NULL REFERENCES terminals (id), -- who saw it
    at_ms    INTEGER NOT NULL,                           -- by the terminal's clock
    event    TEXT    NOT NULL                            -- as it came, JSON
) STRICT;
CREATE INDEX reports_by_terminal ON reports (terminal, at_ms);

CREATE TABLE audit_rows (
    node     TEXT    NOT NULL,                                -- whose chain
    sequence INTEGER NOT NULL CHECK (sequence >= 1),          -- from 1, without gaps
    previous BLOB    NOT NULL CHECK (length(previous) = 32),  -- hash of the row before
    at_ms    INTEGER NOT NULL,                                -- when
    kind     TEXT    NOT NULL,                                -- what happened, e.g. payment.paid
    body     TEXT    NOT NULL,                                -- JSON, hashed as these bytes; persons only as salted commitments
    hash     BLOB    NOT NULL CHECK (length(hash) = 32),      -- of this row, and so of all before it
    PRIMARY KEY (node, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoints (
    number INTEGER NOT NULL PRIMARY KEY CHECK (number >= 1), -- from 1, without gaps
    at_ms  INTEGER NOT NULL,                                 -- when
    jws    TEXT    NOT NULL                                  -- compact JWS that binds the heads of all chains
) STRICT;
