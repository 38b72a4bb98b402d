-- What must not begin anew: counters of who leaves, locks and passkeys that a restore would forget, tries of
-- a day, and what a payment took of a limit.

ALTER TABLE meta ADD COLUMN parting_key BLOB CHECK (length(parting_key) = 32); -- random; names in parted are macs under it

CREATE TABLE parted (
    identity      BLOB    NOT NULL PRIMARY KEY CHECK (length(identity) = 32), -- HMAC of issuer and subject; the names themselves are nowhere
    kept_until_ms INTEGER NOT NULL,                         -- goes then
    misses        INTEGER NOT NULL CHECK (misses >= 0),     -- wrong codes of the profile it left, lately
    missed_at_ms  INTEGER                                   -- the last of them
) STRICT, WITHOUT ROWID;
CREATE INDEX parted_by_end ON parted (kept_until_ms);

CREATE TABLE parted_allowances (
    identity         BLOB    NOT NULL REFERENCES parted (identity) ON DELETE CASCADE, -- who left
    currency         TEXT    NOT NULL CHECK (length(currency) = 3), -- of everything in this row
    unaided_minor    INTEGER NOT NULL CHECK (unaided_minor >= 0),    -- as in allowances
    unaided_payments INTEGER NOT NULL CHECK (unaided_payments >= 0), -- as in allowances
    unaided_at_ms    INTEGER,                                        -- as in allowances
    day              INTEGER NOT NULL,                               -- days since 1970, UTC
    day_minor        INTEGER NOT NULL CHECK (day_minor >= 0),        -- paid on that day
    PRIMARY KEY (identity, currency)
) STRICT, WITHOUT ROWID;

CREATE TABLE parted_locks (
    identity     BLOB    NOT NULL PRIMARY KEY CHECK (length(identity) = 32), -- as in parted: it opened a profile that a restore has lost
    person       BLOB    NOT NULL CHECK (length(person) = 16), -- that profile
    turn         INTEGER NOT NULL CHECK (turn > 0),         -- its lock_turn then
    locked_at_ms INTEGER NOT NULL,                          -- since when it was locked
    reason       TEXT    NOT NULL                           -- why
) STRICT, WITHOUT ROWID;
CREATE INDEX parted_locks_by_person ON parted_locks (person);

ALTER TABLE persons ADD COLUMN lock_turn INTEGER NOT NULL DEFAULT 0 CHECK (lock_turn >= 0); -- how often it was locked or unlocked
UPDATE persons SET lock_turn = 1 WHERE locked_at_ms IS NOT NULL;
ALTER TABLE persons ADD COLUMN brought_misses INTEGER NOT NULL DEFAULT 0 CHECK (brought_misses >= 0); -- wrong codes that an identity brought along
ALTER TABLE persons ADD COLUMN brought_missed_at_ms INTEGER; -- the last of them
CREATE INDEX persons_locked ON persons (id) WHERE locked_at_ms IS NOT NULL;
CREATE INDEX passkeys_removed ON passkeys (removed_at_ms) WHERE removed_at_ms IS NOT NULL;

ALTER TABLE merchant_terms ADD COLUMN pin_day INTEGER NOT NULL DEFAULT 0; -- days since 1970, UTC
ALTER TABLE merchant_terms ADD COLUMN pin_day_misses INTEGER NOT NULL DEFAULT 0 CHECK (pin_day_misses >= 0); -- tries of that day that were not right

ALTER TABLE intents ADD COLUMN took_of_shopper INTEGER NOT NULL DEFAULT 0 CHECK (took_of_shopper IN (0, 1)); -- counted in allowances, and not given back
ALTER TABLE intents ADD COLUMN took_of_merchant INTEGER NOT NULL DEFAULT 0 CHECK (took_of_merchant IN (0, 1)); -- the same in merchant_days
ALTER TABLE intents ADD COLUMN took_of_account INTEGER NOT NULL DEFAULT 0 CHECK (took_of_account IN (0, 1)); -- the same in account_caps
UPDATE intents SET took_of_shopper = 1, took_of_merchant = 1, took_of_account = 1 WHERE next_at_ms IS NOT NULL;

ALTER TABLE claims ADD COLUMN signed_in_by BLOB REFERENCES persons (id); -- who signed in for a claim of nobody known: it counts as held by them
CREATE INDEX held_claims_by_sign_in ON claims (signed_in_by) WHERE state IN ('held', 'paying');

ALTER TABLE sign_in_attempts ADD COLUMN fresh INTEGER NOT NULL DEFAULT 0 CHECK (fresh IN (0, 1)); -- the provider was told to ask for the password; a link always does
UPDATE sign_in_attempts SET fresh = 1 WHERE session IS NOT NULL;
-- How many wait, and who waits longest without a claim: asked whenever a sign-in begins.
CREATE INDEX sign_in_attempts_waiting ON sign_in_attempts (claim IS NOT NULL, expires_at_ms) WHERE taken_at_ms IS NULL;
