-- What a restored database is compared with: the journal outside (docs/decisions/0008).

CREATE TABLE fence (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1), -- there is one row, from the first start on
    journal  TEXT    NOT NULL,                                  -- which journal this database writes into
    line     INTEGER NOT NULL CHECK (line >= 1),                -- a line that stood there, rising with every checkpoint
    hash     BLOB    NOT NULL CHECK (length(hash) = 32)         -- of that line
) STRICT;

CREATE TABLE raises (
    generation   INTEGER NOT NULL PRIMARY KEY CHECK (generation >= 2), -- in force from then on
    raised_at_ms INTEGER NOT NULL,  -- when; certificates from before it may be adopted
    reason       TEXT    NOT NULL,  -- in the operator's words
    lost_rows    INTEGER NOT NULL CHECK (lost_rows >= 0) -- audit rows that the journal knew of and this database did not
) STRICT;
