-- Shoppers sign in with a browser: whose session it is, which sign-ins are under way, which identities
-- wait to be linked. No secret of a browser lies here, only its hash.

CREATE TABLE sessions (
    id                  BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- one browser, signed in once
    secret              BLOB    NOT NULL UNIQUE CHECK (length(secret) = 32),  -- SHA-256 of the secret in its cookie
    person              BLOB    NOT NULL REFERENCES persons (id),             -- whose profile it opens
    issuer              TEXT    NOT NULL,                                     -- issuer and subject: the identity that signed in
    subject             TEXT    NOT NULL,
    provider            TEXT    NOT NULL,                                     -- name of the identity provider at that time
    provider_session    TEXT,                                                 -- what the provider calls its own session (sid); null: it did not say
    authenticated_at_ms INTEGER NOT NULL,                                     -- when the provider last asked for a password or a finger; 0: it did not say
    strong              INTEGER NOT NULL CHECK (strong IN (0, 1)),            -- whether that was strong customer authentication
    started_at_ms       INTEGER NOT NULL,                                     -- when
    seen_at_ms          INTEGER NOT NULL,                                     -- when it was used last, to the minute
    ended_at_ms         INTEGER,                                              -- good for nothing since then; null: until a limit ends it
    end_reason          TEXT    CHECK (end_reason IN ('signed-out', 'replaced', 'provider', 'everywhere', 'too-many', 'unlinked', 'deleted')), -- why
    CHECK ((ended_at_ms IS NULL) = (end_reason IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_person ON sessions (person, started_at_ms);
CREATE INDEX open_sessions_by_identity ON sessions (issuer, subject) WHERE ended_at_ms IS NULL;
CREATE INDEX sessions_by_start ON sessions (started_at_ms);

CREATE TABLE sign_in_attempts (
    state         BLOB    NOT NULL PRIMARY KEY CHECK (length(state) = 32), -- SHA-256 of the state that the provider gives back
    visitor       BLOB    NOT NULL CHECK (length(visitor) = 32), -- SHA-256 of the secret of the browser that began it
    provider      TEXT    NOT NULL,                              -- id of the identity provider in the configuration
    purpose       TEXT    NOT NULL CHECK (purpose IN ('pay', 'link', 'profile')), -- what for
    claim         BLOB    REFERENCES claims (id),                -- what is to be paid afterwards; null: nothing yet
    session       BLOB    REFERENCES sessions (id),              -- whose profile the identity is to join, for a link
    expires_at_ms INTEGER NOT NULL,                              -- refused from then on
    taken_at_ms   INTEGER,                                       -- when the provider sent the browser back; once
    opened        BLOB    REFERENCES sessions (id),              -- the session that came of it
    CHECK ((purpose = 'link') = (session IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX sign_in_attempts_by_end ON sign_in_attempts (expires_at_ms);
CREATE INDEX sign_in_attempts_by_visitor ON sign_in_attempts (visitor);

CREATE TABLE offered_links (
    id            BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- an identity that has signed in to join a profile
    session       BLOB    NOT NULL REFERENCES sessions (id), -- who must confirm
    issuer        TEXT    NOT NULL,                          -- issuer and subject: the identity
    subject       TEXT    NOT NULL,
    provider      TEXT    NOT NULL,                          -- name of its provider
    brought       TEXT,                                      -- JSON: the accounts it brings; null: it says nothing of accounts
    expires_at_ms INTEGER NOT NULL                           -- refused from then on
) STRICT, WITHOUT ROWID;
CREATE INDEX offered_links_by_end ON offered_links (expires_at_ms);

CREATE TABLE logout_tokens (
    issuer        TEXT    NOT NULL, -- the identity provider that ended a session of its own
    jti           TEXT    NOT NULL, -- its name for saying so, once
    expires_at_ms INTEGER NOT NULL, -- refused as too old from then on, so it may be forgotten
    PRIMARY KEY (issuer, jti)
) STRICT, WITHOUT ROWID;

-- When the phone's shopper signed in, which lengthens the hold, once; null: not after the claim.
ALTER TABLE claims ADD COLUMN signed_in_at_ms INTEGER;
