-- The merchant's books: what moved on a merchant's account, refunds, closed days, and what the merchant is
-- told by webhook.

ALTER TABLE payments ADD COLUMN refunded_minor INTEGER NOT NULL DEFAULT 0
    CHECK (refunded_minor BETWEEN 0 AND amount_minor); -- given back or being given back; never more than was paid

CREATE INDEX claims_by_charge ON claims (charge, claimed_at_ms);

CREATE TABLE merchant_terms (
    merchant             BLOB    NOT NULL PRIMARY KEY REFERENCES merchants (id), -- whose; without a row the defaults count
    zone                 TEXT,                                        -- time zone of its business days, by its IANA name; null: the configuration's
    refund_day_max_minor INTEGER CHECK (refund_day_max_minor >= 0),   -- most that is refunded on one business day; null: the configuration's
    pin_salt             BLOB    CHECK (length(pin_salt) = 16),       -- random; null: no PIN, so no refund from a till
    pin_hash             BLOB    CHECK (length(pin_hash) = 32),       -- scrypt over the PIN
    pin_cost             INTEGER CHECK (pin_cost BETWEEN 1 AND 31),   -- scrypt's log2 N
    pin_set_at_ms        INTEGER,                                     -- when
    pin_misses           INTEGER NOT NULL DEFAULT 0 CHECK (pin_misses >= 0), -- tries since the last right one, begun or over
    pin_locked_until_ms  INTEGER,                                     -- no try before; null: not locked
    CHECK ((pin_salt IS NULL) = (pin_hash IS NULL)),
    CHECK ((pin_salt IS NULL) = (pin_cost IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE refunds (
    id             BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- of the asker's making; again is the same refund
    payment        BLOB    NOT NULL REFERENCES payments (id),      -- what is given back, to the account that paid it
    movement       BLOB    NOT NULL UNIQUE CHECK (length(movement) = 16), -- its ledger entries, and its key at the rail
    receipt        BLOB    NOT NULL UNIQUE CHECK (length(receipt) = 16), -- id of its receipt, signed afterwards
    amount_minor   INTEGER NOT NULL CHECK (amount_minor > 0),      -- how much, in the payment's currency
    reason         TEXT,                                           -- in the merchant's words
    terminal       INTEGER REFERENCES terminals (id),              -- who asked; null: an operator
    operator       TEXT,                                           -- who asked; null: a terminal
    day            TEXT    NOT NULL,                               -- the business day whose cap it counts against
    state          TEXT    NOT NULL CHECK (state IN ('asked', 'refunded', 'declined')), -- where it stands; asked: the rail has not said
    rail_reference TEXT,                                           -- what the rail calls it
    decline_reason TEXT,                                           -- why the rail does not do it
    tries          INTEGER NOT NULL CHECK (tries >= 0),            -- calls of the rail
    next_at_ms     INTEGER NOT NULL,                               -- the rail is asked again then
    asked_at_ms    INTEGER NOT NULL,                               -- when
    ended_at_ms    INTEGER,                                        -- when the rail said
    CHECK ((terminal IS NULL) <> (operator IS NULL)),
    CHECK ((state = 'asked') = (ended_at_ms IS NULL)),
    CHECK ((state = 'refunded') = (rail_reference IS NOT NULL)),
    CHECK ((state = 'declined') = (decline_reason IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX refunds_by_payment ON refunds (payment);
CREATE INDEX refunds_open ON refunds (next_at_ms) WHERE state = 'asked';

CREATE TABLE refund_days (
    merchant       BLOB    NOT NULL REFERENCES merchants (id),     -- whose
    day            TEXT    NOT NULL,                               -- business day, as YYYY-MM-DD
    refunded_minor INTEGER NOT NULL CHECK (refunded_minor >= 0),   -- given back or being given back on it
    PRIMARY KEY (merchant, day)
) STRICT, WITHOUT ROWID;

CREATE TABLE refund_receipts_due (
    ended_at_ms INTEGER NOT NULL,                         -- first, because the oldest goes first
    refund      BLOB    NOT NULL REFERENCES refunds (id), -- refunded, and its receipt not yet stored
    PRIMARY KEY (ended_at_ms, refund)
) STRICT, WITHOUT ROWID;

CREATE TABLE refund_receipts (
    refund       BLOB    NOT NULL PRIMARY KEY REFERENCES refunds (id), -- what it is the receipt of
    jws          TEXT    NOT NULL,                                     -- compact JWS; the first stays for ever
    stored_at_ms INTEGER NOT NULL                                      -- when
) STRICT;

CREATE TABLE bookings (
    movement       BLOB    NOT NULL PRIMARY KEY CHECK (length(movement) = 16), -- of its ledger entries
    refund         BLOB    REFERENCES refunds (id),                -- the refund; null: it is the payment
    payment        BLOB    NOT NULL REFERENCES payments (id),      -- what was paid, or is given back
    merchant       BLOB    NOT NULL REFERENCES merchants (id),     -- whose books
    person         BLOB    NOT NULL REFERENCES persons (id),       -- who paid
    terminal       INTEGER NOT NULL REFERENCES terminals (id),     -- where it was paid, or the refund asked for; an operator's refund: where it was paid
    amount_minor   INTEGER NOT NULL CHECK (amount_minor <> 0),     -- to the merchant if positive; the same as the ledger entry
    rail           TEXT    NOT NULL,                               -- what moved the money
    rail_reference TEXT    NOT NULL,                               -- what the rail calls it
    booked_at_ms   INTEGER NOT NULL,                               -- when
    settlement     INTEGER CHECK (settlement >= 1),                -- number of the merchant's closed day that holds it; null: not closed
    CHECK ((refund IS NULL) = (amount_minor > 0))
) STRICT, WITHOUT ROWID;
CREATE INDEX bookings_by_merchant ON bookings (merchant, booked_at_ms, movement);
CREATE INDEX bookings_by_terminal ON bookings (terminal, booked_at_ms, movement);
CREATE INDEX bookings_by_person ON bookings (person, booked_at_ms, movement);
CREATE INDEX bookings_not_settled ON bookings (merchant, booked_at_ms) WHERE settlement IS NULL;

INSERT INTO bookings (movement, payment, merchant, person, terminal, amount_minor, rail, rail_reference, booked_at_ms)
    SELECT payments.id, payments.id, charges.merchant, service_accounts.person, charges.terminal,
           payments.amount_minor, payments.rail, payments.rail_reference, payments.paid_at_ms
    FROM payments
    JOIN claims ON claims.id = payments.claim
    JOIN charges ON charges.id = claims.charge
    JOIN service_accounts ON service_accounts.id = payments.service_account;

CREATE TABLE settlements (
    merchant      BLOB    NOT NULL REFERENCES merchants (id),  -- whose books
    number        INTEGER NOT NULL CHECK (number >= 1),        -- of the merchant, from 1, without gaps
    day           TEXT    NOT NULL,                            -- the business day that it closes, as YYYY-MM-DD
    zone          TEXT    NOT NULL,                            -- the time zone of that day
    from_ms       INTEGER NOT NULL,                            -- the cut before; the merchant's first: when it was added
    to_ms         INTEGER NOT NULL,                            -- what was booked before this cut, and is in no earlier one
    first_ms      INTEGER NOT NULL,                            -- its earliest booking: one that came late may lie before from_ms
    last_ms       INTEGER NOT NULL,                            -- its latest
    opening_minor INTEGER NOT NULL,                            -- the merchant's ledger account at the cut before
    closing_minor INTEGER NOT NULL,                            -- and at this one
    credits       INTEGER NOT NULL CHECK (credits >= 0),       -- how many payments
    credit_minor  INTEGER NOT NULL CHECK (credit_minor >= 0),  -- their sum
    debits        INTEGER NOT NULL CHECK (debits >= 0),        -- how many refunds
    debit_minor   INTEGER NOT NULL CHECK (debit_minor >= 0),   -- their sum
    closed_by     TEXT    NOT NULL,                            -- an operator, or the authority at the day's end
    closed_at_ms  INTEGER NOT NULL,                            -- when
    PRIMARY KEY (merchant, number),
    CHECK (closing_minor = opening_minor + credit_minor - debit_minor),
    CHECK (from_ms < to_ms)
) STRICT, WITHOUT ROWID;

CREATE TABLE settlement_rails (
    merchant      BLOB    NOT NULL,                            -- merchant and number: which closed day
    number        INTEGER NOT NULL,
    rail          TEXT    NOT NULL,                            -- what moved the money
    opening_minor INTEGER NOT NULL,                            -- what came in over it until the cut before
    closing_minor INTEGER NOT NULL,                            -- and until this one
    credits       INTEGER NOT NULL CHECK (credits >= 0),       -- how many payments
    credit_minor  INTEGER NOT NULL CHECK (credit_minor >= 0),  -- their sum
    debits        INTEGER NOT NULL CHECK (debits >= 0),        -- how many refunds
    debit_minor   INTEGER NOT NULL CHECK (debit_minor >= 0),   -- their sum
    PRIMARY KEY (merchant, number, rail),
    FOREIGN KEY (merchant, number) REFERENCES settlements (merchant, number),
    CHECK (closing_minor = opening_minor + credit_minor - debit_minor)
) STRICT, WITHOUT ROWID;

CREATE TABLE settlement_statements (
    merchant     BLOB    NOT NULL,                             -- merchant and number: which closed day
    number       INTEGER NOT NULL,
    jws          TEXT    NOT NULL,                             -- compact JWS over the totals and the digests of the files; the first stays for ever
    stored_at_ms INTEGER NOT NULL,                             -- when
    PRIMARY KEY (merchant, number),
    FOREIGN KEY (merchant, number) REFERENCES settlements (merchant, number)
) STRICT;

CREATE TABLE settlement_statements_due (
    merchant BLOB    NOT NULL,                                 -- merchant and number: closed, and not signed yet
    number   INTEGER NOT NULL,
    PRIMARY KEY (merchant, number),
    FOREIGN KEY (merchant, number) REFERENCES settlements (merchant, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE webhooks (
    merchant  BLOB    NOT NULL PRIMARY KEY REFERENCES merchants (id), -- who is told
    url       TEXT    NOT NULL,                                -- where
    set_at_ms INTEGER NOT NULL                                 -- when
) STRICT, WITHOUT ROWID;

CREATE TABLE notices (
    id              BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- by time; what the merchant tells repeats by
    merchant        BLOB    NOT NULL REFERENCES merchants (id), -- who is told
    kind            TEXT    NOT NULL CHECK (kind IN ('payment.paid', 'payment.refunded', 'settlement.closed')), -- what happened
    charge          BLOB    REFERENCES charges (id),           -- notices of one charge go in their order; null: of a closed day
    movement        BLOB    REFERENCES bookings (movement),    -- what was booked; null: of a closed day
    settlement      INTEGER,                                   -- number of the closed day; null: of a booking
    state           TEXT    NOT NULL CHECK (state IN ('waiting', 'delivered', 'parked')), -- where it stands
    tries           INTEGER NOT NULL CHECK (tries >= 0),       -- how often it was sent
    next_at_ms      INTEGER NOT NULL,                          -- not before
    made_at_ms      INTEGER NOT NULL,                          -- when it happened
    delivered_at_ms INTEGER,                                   -- when the merchant took it
    last_problem    TEXT,                                      -- why the last try failed
    CHECK ((movement IS NULL) <> (settlement IS NULL)),
    CHECK ((charge IS NULL) = (movement IS NULL)),
    CHECK ((state = 'delivered') = (delivered_at_ms IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX notices_waiting ON notices (merchant, next_at_ms) WHERE state = 'waiting';
CREATE INDEX notices_of_a_charge ON notices (charge, id) WHERE state <> 'delivered';
CREATE INDEX notices_parked ON notices (merchant, id) WHERE state = 'parked';
