-- A shopper with any phone pays by SMS: what came in, where each payment by SMS stands, what is still to be
-- sent, and how much may go on one phone's bill.

CREATE TABLE sms_texts (
    gateway        TEXT    NOT NULL,                            -- the gateway's link that it came over
    message        TEXT    NOT NULL,                            -- the gateway's own id of it
    number         TEXT    NOT NULL,                            -- who sent it, as the gateway says, E.164
    print          BLOB    CHECK (length(print) = 32),          -- keyed hash of a code or number in it; null: neither
    text           TEXT,                                        -- what it says; null once it is answered
    received_at_ms INTEGER NOT NULL,                            -- when
    answered_at_ms INTEGER,                                     -- when what follows from it was committed; null: not yet
    PRIMARY KEY (gateway, message),
    CHECK ((text IS NULL) = (answered_at_ms IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX sms_texts_by_number ON sms_texts (number, received_at_ms);
CREATE INDEX sms_texts_waiting ON sms_texts (received_at_ms) WHERE answered_at_ms IS NULL;
CREATE INDEX sms_texts_by_age ON sms_texts (received_at_ms);

CREATE TABLE sms_talks (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- one payment by SMS, from the code to the receipt
    number       TEXT,                                      -- whose phone, E.164; null once it is over
    language     TEXT    NOT NULL CHECK (language IN ('en', 'fr')), -- of the answers
    claim        BLOB    NOT NULL UNIQUE CHECK (length(claim) = 16), -- the claim it makes; chosen before that is made
    print        BLOB    NOT NULL CHECK (length(print) = 32), -- of the text that began it
    typed        TEXT,                                      -- the amount that the shopper wrote, as written; null: none
    stage        TEXT    NOT NULL CHECK (stage IN ('claiming', 'wants-amount', 'offered', 'approving', 'paid', 'over')), -- where it stands
    amount_minor INTEGER CHECK (amount_minor > 0),          -- what was offered
    currency     TEXT    CHECK (length(currency) = 3),      -- of that
    wrong        INTEGER NOT NULL CHECK (wrong >= 0),       -- wrong numbers so far
    told         INTEGER NOT NULL CHECK (told IN (0, 1)),   -- the shopper knows that the answer takes time
    until_ms     INTEGER NOT NULL,                          -- the stage ends, or is taken up again, then
    begun_at_ms  INTEGER NOT NULL,                          -- when
    changed_at_ms INTEGER NOT NULL,                         -- since when it is in this stage
    CHECK ((number IS NULL) = (stage IN ('paid', 'over'))),
    CHECK ((amount_minor IS NULL) = (currency IS NULL)),
    CHECK (stage NOT IN ('offered', 'approving', 'paid') OR amount_minor IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_open_sms_talk_per_number ON sms_talks (number) WHERE number IS NOT NULL;
CREATE INDEX open_sms_talks_by_end ON sms_talks (until_ms) WHERE number IS NOT NULL;

CREATE TABLE sms_letters (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- an SMS that is still to be sent; the gateway took it: the row goes
    number     TEXT    NOT NULL,                            -- to whom, E.164
    language   TEXT    NOT NULL CHECK (language IN ('en', 'fr')), -- in which language
    talk       BLOB    REFERENCES sms_talks (id),           -- what it belongs to; null: nothing was begun
    kind       TEXT    NOT NULL,                            -- what it says
    say        TEXT    NOT NULL,                            -- the same with its particulars, JSON, but never the number that approves
    made_at_ms INTEGER NOT NULL,                            -- when
    next_at_ms INTEGER NOT NULL,                            -- when it is tried next
    tries      INTEGER NOT NULL CHECK (tries >= 0)          -- how often the gateway did not take it
) STRICT, WITHOUT ROWID;
CREATE INDEX sms_letters_by_next ON sms_letters (next_at_ms);
CREATE UNIQUE INDEX one_sms_receipt_per_talk ON sms_letters (talk) WHERE kind = 'paid';

CREATE TABLE sms_numbers (
    number   TEXT NOT NULL PRIMARY KEY,                     -- a phone that chose a language, E.164
    language TEXT NOT NULL CHECK (language IN ('en', 'fr')) -- which
) STRICT, WITHOUT ROWID;

CREATE TABLE sms_wrong (
    number TEXT    NOT NULL,                                -- a phone that replied with a wrong number
    talk   BLOB    NOT NULL REFERENCES sms_talks (id),      -- to what
    at_ms  INTEGER NOT NULL,                                -- when
    times  INTEGER NOT NULL CHECK (times > 0),              -- how often in that millisecond
    PRIMARY KEY (number, at_ms, talk)
) STRICT, WITHOUT ROWID;

CREATE TABLE account_caps (
    rail              TEXT    NOT NULL,                     -- rail and reference: the service account, whoever has it
    reference         TEXT    NOT NULL,
    currency          TEXT    NOT NULL CHECK (length(currency) = 3), -- of the caps, and of every payment from it
    payment_max_minor INTEGER NOT NULL CHECK (payment_max_minor > 0), -- the most of one payment
    month_max_minor   INTEGER NOT NULL CHECK (month_max_minor > 0),   -- the most of one calendar month, UTC
    month             TEXT    NOT NULL,                     -- the month that is counted, 2026-11
    spent_minor       INTEGER NOT NULL CHECK (spent_minor >= 0),      -- paid or being paid in it
    PRIMARY KEY (rail, reference)
) STRICT, WITHOUT ROWID;
