-- A shopper is a profile: several identities, several accounts to pay from. What a person was known by
-- until now becomes the first identity of their profile, and their account in the ledger their first
-- service account.

CREATE TABLE profiles (
    id              BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- random, tells nothing
    audit_salt      BLOB    NOT NULL CHECK (length(audit_salt) = 32),     -- random; without it the audit's commitments name nobody
    pairwise_salt   BLOB    NOT NULL CHECK (length(pairwise_salt) = 32),  -- random; key of the pseudonyms towards merchants
    default_account BLOB,                                                 -- the service account that is offered first; null: the oldest
    locked_at_ms    INTEGER,                                              -- pays nothing since then; null: not locked
    lock_reason     TEXT,                                                 -- why, in the words of whoever locked it
    deleted_at_ms   INTEGER,                                              -- the shopper left: no identity leads here, and the salts are new ones
    CHECK ((locked_at_ms IS NULL) = (lock_reason IS NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO profiles (id, audit_salt, pairwise_salt) SELECT id, audit_salt, pairwise_salt FROM persons;

CREATE TABLE identities (
    issuer       TEXT    NOT NULL,                              -- the identity provider
    subject      TEXT    NOT NULL,                              -- the provider's name for the person, never an e-mail address
    person       BLOB    NOT NULL REFERENCES persons (id),      -- whose profile it opens
    linked_at_ms INTEGER NOT NULL,                              -- when
    PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;
INSERT INTO identities (issuer, subject, person, linked_at_ms) SELECT issuer, subject, id, 0 FROM persons;
CREATE INDEX identities_by_person ON identities (person);

-- The tables that point to persons keep their words; foreign keys are off while this runs.
DROP TABLE persons;
ALTER TABLE profiles RENAME TO persons;

CREATE TABLE service_accounts (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- as the shopper chooses it; in the ledger the account's own id
    person       BLOB    NOT NULL REFERENCES persons (id), -- who pays from it
    rail         TEXT    NOT NULL,                         -- what moves its money: 'ledger', or a rail of the configuration
    reference    TEXT    NOT NULL,                         -- what the rail calls it
    name         TEXT    NOT NULL,                         -- what the shopper calls it
    currency     TEXT    NOT NULL CHECK (length(currency) = 3), -- of every payment from it
    issuer       TEXT,                                     -- issuer and subject: the identity that brought it; null in the ledger
    subject      TEXT,
    added_at_ms  INTEGER NOT NULL,                         -- when
    closed_at_ms INTEGER,                                  -- pays no more since then; null: open
    CHECK ((issuer IS NULL) = (subject IS NULL))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_open_service_account_per_reference
    ON service_accounts (person, rail, reference) WHERE closed_at_ms IS NULL;
INSERT INTO service_accounts (id, person, rail, reference, name, currency, added_at_ms)
    SELECT id, person, 'ledger', lower(hex(id)), 'Balance', currency, opened_at_ms
    FROM accounts WHERE kind = 'shopper';
