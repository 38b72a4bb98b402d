-- Certificates that are renewed, superseded, revoked and listed, and join tokens that are taken back.
-- Rows from before this step keep the defaults: their issuing key and their bytes were not kept.

ALTER TABLE certificates ADD COLUMN issuer_key TEXT NOT NULL DEFAULT ''; -- key identifier of the issuing CA, lower-case hex; empty: not kept
ALTER TABLE certificates ADD COLUMN renews TEXT REFERENCES certificates (serial); -- the certificate it was issued under; null: a first one
ALTER TABLE certificates ADD COLUMN join_token BLOB REFERENCES join_tokens (hash); -- the join token it was issued for; null: another way
ALTER TABLE certificates ADD COLUMN used_at_ms INTEGER; -- when a terminal first came with it; null: not yet
ALTER TABLE certificates ADD COLUMN superseded_at_ms INTEGER; -- since when it is refused because a later one has been used; null: it is not

-- The database judges: one successor per certificate, one certificate per join token.
CREATE UNIQUE INDEX one_successor_per_certificate ON certificates (renews) WHERE renews IS NOT NULL;
CREATE UNIQUE INDEX one_certificate_per_join_token ON certificates (join_token) WHERE join_token IS NOT NULL;
CREATE INDEX certificates_by_key ON certificates (spki_sha256);
CREATE INDEX certificates_by_subject ON certificates (subject_kind, subject, issued_at_ms);
CREATE INDEX certificates_in_force_by_end ON certificates (not_after_ms, subject_kind) WHERE superseded_at_ms IS NULL;

CREATE TABLE certificate_bytes (
    serial TEXT NOT NULL PRIMARY KEY REFERENCES certificates (serial), -- whose bytes
    der    BLOB NOT NULL                                               -- the certificate, so that a repeated request gets the same one
) STRICT; -- with a rowid: bytes are appended at the end, and only the index is in random order

ALTER TABLE join_tokens ADD COLUMN revoked_at_ms INTEGER; -- since when an operator has taken it back; null: they have not
CREATE INDEX join_tokens_by_terminal ON join_tokens (terminal, added_at_ms);

CREATE TABLE revocations (
    serial        TEXT    NOT NULL PRIMARY KEY, -- lower-case hex; need not be in certificates: a restored database may have lost it
    issuer_key    TEXT    NOT NULL,             -- key identifier of the issuing CA whose list it is on; empty: on every list
    not_after_ms  INTEGER NOT NULL,             -- end of the certificate; it leaves the list one list later
    revoked_at_ms INTEGER NOT NULL,             -- refused from then on
    reason        TEXT    NOT NULL CHECK (reason IN ('unspecified', 'key-compromise', 'ca-compromise', 'superseded',
                                                     'cessation-of-operation', 'privilege-withdrawn')), -- RFC 5280, 5.3.1
    revoked_by    TEXT    NOT NULL              -- the verb that did it: certificate-revoke, terminal-ban or fence-raise
) STRICT, WITHOUT ROWID;
CREATE INDEX revocations_by_list ON revocations (issuer_key, not_after_ms);

CREATE TABLE crls (
    issuer_key     TEXT    NOT NULL PRIMARY KEY,          -- key identifier of the issuing CA
    number         INTEGER NOT NULL CHECK (number >= 1),  -- the highest given out, signed or not; never goes back
    this_update_ms INTEGER,                               -- of the last list that was signed; null: none yet
    next_update_ms INTEGER,                               -- when the next is there at the latest; null: none yet
    CHECK ((this_update_ms IS NULL) = (next_update_ms IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE alarms (
    terminal    INTEGER NOT NULL REFERENCES terminals (id), -- which was in two places at once
    kind        TEXT    NOT NULL CHECK (kind IN ('second-key', 'second-stream')), -- what was seen
    certificate TEXT    NOT NULL,  -- serial of the certificate it was seen with
    other       TEXT    NOT NULL,  -- the latest that contradicts it: SHA-256 of another key, or the serial of another certificate
    first_at_ms INTEGER NOT NULL,  -- when first
    last_at_ms  INTEGER NOT NULL,  -- when last
    times       INTEGER NOT NULL CHECK (times >= 1), -- how often
    PRIMARY KEY (terminal, kind, certificate)
) STRICT, WITHOUT ROWID;
CREATE INDEX alarms_by_time ON alarms (last_at_ms);
