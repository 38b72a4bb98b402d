-- Wallets: access tokens come with a proof of their key, approvals are signed by it, and a request may be repeated.

CREATE TABLE nonce_keys (
    only_row   INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    key        BLOB    NOT NULL CHECK (length(key) = 32), -- makes the nonces of proofs: the same on every node, so that any of them knows any other's
    made_at_ms INTEGER NOT NULL                           -- when
) STRICT;

CREATE TABLE proofs (
    key      BLOB    NOT NULL CHECK (length(key) = 32), -- thumbprint of the key that signed the proof
    jti      BLOB    NOT NULL CHECK (length(jti) = 32), -- SHA-256 of the proof's jti
    until_ms INTEGER NOT NULL,                          -- from then on it is too old for everybody, and the row goes
    PRIMARY KEY (key, jti)
) STRICT, WITHOUT ROWID;
CREATE INDEX proofs_by_end ON proofs (until_ms);

CREATE TABLE signed_approvals (
    claim        BLOB    NOT NULL PRIMARY KEY REFERENCES claims (id), -- which the approval spends its token for
    key          BLOB    NOT NULL CHECK (length(key) = 32), -- thumbprint of the wallet's key
    jti          BLOB    NOT NULL CHECK (length(jti) = 32), -- SHA-256 of the approval's jti
    public_point BLOB    NOT NULL CHECK (length(public_point) = 65), -- the wallet's key, uncompressed SEC 1: verifies the approval
    jws          TEXT    NOT NULL,                          -- the approval as the wallet sent it
    kept_at_ms   INTEGER NOT NULL,                          -- when
    UNIQUE (key, jti)
) STRICT, WITHOUT ROWID;

CREATE TABLE wallet_requests (
    key              BLOB    NOT NULL CHECK (length(key) = 32),         -- thumbprint of the wallet's key
    name             BLOB    NOT NULL CHECK (length(name) = 32),        -- SHA-256 of the Idempotency-Key
    fingerprint      BLOB    NOT NULL CHECK (length(fingerprint) = 32), -- SHA-256 of who asked for what
    claim            BLOB    NOT NULL CHECK (length(claim) = 16),       -- the id of the claim that it makes: a repeat goes on with it
    began_at_ms      INTEGER NOT NULL,                                  -- first asked
    running_until_ms INTEGER NOT NULL,                                  -- a repeat waits until then; 0: nobody is at work
    status           INTEGER,                                           -- of the refusal that stays its answer; null: none
    refusal          BLOB,                                              -- its body
    PRIMARY KEY (key, name),
    CHECK ((status IS NULL) = (refusal IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX wallet_requests_by_time ON wallet_requests (began_at_ms);
