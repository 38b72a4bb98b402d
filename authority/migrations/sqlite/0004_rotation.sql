-- Keys that are prepared, activated, tainted and retired, seeds that are made anew, and the operations
-- of operators that do so and go on after a crash.

CREATE TABLE operations (
    id            BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- by time
    verb          TEXT    NOT NULL,              -- what an operator asked for
    work          TEXT    NOT NULL,              -- JSON: what is carried out, exactly
    asked_by      TEXT    NOT NULL,              -- the operator
    consent       TEXT,                          -- id of the request that others consented to; null: nobody else was needed
    state         TEXT    NOT NULL CHECK (state IN ('running', 'done', 'refused')), -- running ones go on by themselves
    outcome       TEXT,                          -- what came of it, in words; null while it runs
    total         INTEGER CHECK (total >= 0),    -- terminals it concerns; null: not counted yet, or none
    done          INTEGER NOT NULL CHECK (done >= 0), -- of these
    after_id      INTEGER,                       -- the last of these, in order of id; null: before the first
    started_at_ms INTEGER NOT NULL,              -- asked for
    ended_at_ms   INTEGER,                       -- null while it runs
    CHECK ((state = 'running') = (ended_at_ms IS NULL)),
    CHECK ((state = 'running') = (outcome IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX running_operations ON operations (id) WHERE state = 'running';

CREATE TABLE operation_rows (
    operation BLOB    NOT NULL REFERENCES operations (id), -- whose transcript
    node      TEXT    NOT NULL,                            -- whose audit chain
    sequence  INTEGER NOT NULL,                            -- the row that tells of it
    PRIMARY KEY (operation, node, sequence)
) STRICT, WITHOUT ROWID;

ALTER TABLE keys RENAME TO keys_of_version_1;
CREATE TABLE keys (
    kid             TEXT    NOT NULL PRIMARY KEY,  -- RFC 7638 thumbprint; for keys without a public half, the label
    purpose         TEXT    NOT NULL CHECK (purpose IN ('schedule', 'receipt', 'checkpoint', 'sealing', 'binding')), -- what it is for
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
INSERT INTO keys (kid, purpose, state, label, public_point, made_at_ms, since_ms, published_at_ms)
    SELECT kid, purpose, state, label, public_point, made_at_ms, made_at_ms, made_at_ms FROM keys_of_version_1;
DROP TABLE keys_of_version_1;
CREATE UNIQUE INDEX one_active_key_per_purpose ON keys (purpose) WHERE state = 'active';
CREATE UNIQUE INDEX one_prepared_key_per_purpose ON keys (purpose) WHERE state = 'prepared';

-- Made anew by this operation; null: with the terminal.
ALTER TABLE seeds ADD COLUMN operation BLOB REFERENCES operations (id);
CREATE INDEX seeds_by_sealing_key ON seeds (sealing_label, terminal);
CREATE INDEX seeds_by_binding_key ON seeds (binding_label, terminal);

-- 1: every schedule it holds is void, until it has fetched one from the present on.
ALTER TABLE terminals ADD COLUMN refetch INTEGER NOT NULL DEFAULT 0 CHECK (refetch IN (0, 1));
-- The key that signed its last schedule; null before the first.
ALTER TABLE terminals ADD COLUMN schedule_kid TEXT;
-- The last epoch of any schedule that an earlier key signed; null: there is none.
ALTER TABLE terminals ADD COLUMN former_until INTEGER;
