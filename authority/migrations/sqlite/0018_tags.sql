-- Tags that sign their links: whose they are, which keys they have, and each tap that spent a token. And a
-- key in the HSM from which the keys of tags follow.

ALTER TABLE keys RENAME TO keys_before_tags;
CREATE TABLE keys (
    kid             TEXT    NOT NULL PRIMARY KEY,  -- RFC 7638 thumbprint; for keys without a public half, the label
    purpose         TEXT    NOT NULL CHECK (purpose IN ('schedule', 'receipt', 'checkpoint', 'request', 'sealing', 'binding', 'tag')), -- what it is for
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
INSERT INTO keys SELECT * FROM keys_before_tags;
DROP TABLE keys_before_tags;
CREATE UNIQUE INDEX one_active_key_per_purpose ON keys (purpose) WHERE state = 'active';
CREATE UNIQUE INDEX one_prepared_key_per_purpose ON keys (purpose) WHERE state = 'prepared';

CREATE TABLE tags (
    uid              BLOB    NOT NULL CHECK (length(uid) = 7),  -- of the chip
    key_version      INTEGER NOT NULL CHECK (key_version BETWEEN 1 AND 255), -- of its five keys; each set of keys is a row
    terminal         INTEGER NOT NULL REFERENCES terminals (id), -- whose tag it is with these keys
    master           TEXT    NOT NULL,                          -- kid of the key from which these keys follow
    made_at_ms       INTEGER NOT NULL,                          -- when an operator had the keys
    read_floor       INTEGER NOT NULL CHECK (read_floor BETWEEN 0 AND 16777215), -- its read counter at its last write: a link counts only above it
    signing_since_ms INTEGER,                                   -- when its terminal first said, or a link first proved, that it has these keys; null: not yet
    written_at_ms    INTEGER,                                   -- when its terminal last said that it wrote it; null: never
    retired_at_ms    INTEGER,                                   -- since when its links are refused; null: they count
    retired_because  TEXT,                                      -- why, in an operator's words or ours
    PRIMARY KEY (uid, key_version),
    CHECK ((retired_at_ms IS NULL) = (retired_because IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_by_terminal ON tags (terminal) WHERE retired_at_ms IS NULL;
CREATE INDEX tags_by_master ON tags (master) WHERE retired_at_ms IS NULL;

CREATE TABLE taps (
    uid         BLOB    NOT NULL,                          -- of the tag that was read
    key_version INTEGER NOT NULL,                          -- of the keys that signed
    counter     INTEGER NOT NULL CHECK (counter BETWEEN 0 AND 16777215), -- the tag's read counter in the link
    terminal    INTEGER NOT NULL REFERENCES terminals (id), -- whose tag it was
    version     INTEGER NOT NULL,                          -- of the seed; version to turn: the token that was on the tag
    epoch       INTEGER NOT NULL,                          -- hour of the terminal
    "window"    INTEGER NOT NULL,                          -- number within epoch and channel
    turn        INTEGER NOT NULL,                          -- number within the window
    claim       BLOB    NOT NULL UNIQUE REFERENCES claims (id), -- what it began
    at_ms       INTEGER NOT NULL,                          -- when the link was spent
    PRIMARY KEY (uid, key_version, counter),
    FOREIGN KEY (uid, key_version) REFERENCES tags (uid, key_version)
) STRICT, WITHOUT ROWID;
CREATE INDEX taps_by_link ON taps (terminal, epoch, "window", turn);
