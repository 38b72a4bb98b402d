-- What more than one operator must consent to, and who the operators are.

CREATE TABLE operators (
    name          TEXT    NOT NULL PRIMARY KEY, -- the last part of the SPIFFE ID; never given to anybody else
    added_by      TEXT    NOT NULL,             -- the operator who asked for it; 'init' for the first
    added_at_ms   INTEGER NOT NULL,             -- when
    revoked_by    TEXT,                         -- the operator who asked for that; null: still an operator
    revoked_at_ms INTEGER,                      -- counts for nothing from then on
    CHECK ((revoked_by IS NULL) = (revoked_at_ms IS NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO operators (name, added_by, added_at_ms)
    SELECT subject, 'init', min(issued_at_ms) FROM certificates WHERE subject_kind = 'operator' GROUP BY subject;

CREATE TABLE consent_policy (
    only_row  INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1), -- there is one
    policy    TEXT    NOT NULL,                                  -- JSON: how many must consent to which group of verbs
    set_by    TEXT    NOT NULL,                                  -- the operator who asked for it
    set_at_ms INTEGER NOT NULL                                   -- when
) STRICT;

CREATE TABLE consent_requests (
    id            BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- by time
    verb          TEXT    NOT NULL,              -- what is asked for
    body          TEXT    NOT NULL,              -- JSON: with what, exactly
    asked_by      TEXT    NOT NULL REFERENCES operators (name), -- who signed the request
    statement     TEXT    NOT NULL,              -- the request, JWS with the certificates of the one who asks
    asked_at_ms   INTEGER NOT NULL,              -- as the request says
    expires_at_ms INTEGER NOT NULL,              -- carried out no later
    state         TEXT    NOT NULL CHECK (state IN ('open', 'begun', 'done', 'withdrawn')), -- how far it is
    begun_at_ms   INTEGER,                       -- when it was first carried out; null: not yet
    ended_at_ms   INTEGER,                       -- when it was done or withdrawn; null: neither
    answer        TEXT,                          -- JSON: what came of it, for verbs whose answer holds no secret
    CHECK ((state IN ('done', 'withdrawn')) = (ended_at_ms IS NOT NULL)),
    CHECK (state NOT IN ('begun', 'done') OR begun_at_ms IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX consent_requests_to_carry_out ON consent_requests (verb, expires_at_ms) WHERE state IN ('open', 'begun');

CREATE TABLE consent_voices (
    request     BLOB    NOT NULL REFERENCES consent_requests (id), -- about what
    operator    TEXT    NOT NULL REFERENCES operators (name),      -- who; the last word of each counts
    consents    INTEGER NOT NULL CHECK (consents IN (0, 1)),       -- 1: yes, 0: no
    serial      TEXT    NOT NULL REFERENCES certificates (serial), -- signed under this certificate
    statement   TEXT    NOT NULL,                                  -- JWS with the operator's certificates
    given_at_ms INTEGER NOT NULL,                                  -- when it came
    PRIMARY KEY (request, operator)
) STRICT, WITHOUT ROWID;

-- What was consented to once is carried out once, also by whoever resumes it after a crash.
CREATE UNIQUE INDEX one_operation_per_consent ON operations (consent) WHERE consent IS NOT NULL;
