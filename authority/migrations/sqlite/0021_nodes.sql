-- Each node writes a journal of its own (docs/decisions/0036): one row for each, of the one there was.

CREATE TABLE fence_of_nodes (
    node    TEXT    NOT NULL PRIMARY KEY,            -- whose journal
    journal TEXT    NOT NULL,                        -- which one it writes into
    line    INTEGER NOT NULL CHECK (line >= 1),      -- a line that stood there, rising with every checkpoint
    hash    BLOB    NOT NULL CHECK (length(hash) = 32) -- of that line
) STRICT;
INSERT INTO fence_of_nodes (node, journal, line, hash)
    SELECT meta.node, fence.journal, fence.line, fence.hash FROM fence, meta;
DROP TABLE fence;
ALTER TABLE fence_of_nodes RENAME TO fence;
