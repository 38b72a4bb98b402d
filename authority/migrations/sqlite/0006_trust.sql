-- Which roots each terminal trusts, as far as it said so.

CREATE TABLE trust_followers (
    terminal   INTEGER NOT NULL PRIMARY KEY REFERENCES terminals (id), -- who
    sequence   INTEGER NOT NULL CHECK (sequence >= 0), -- of the list of roots it follows; 0: only the root it pinned
    seen_at_ms INTEGER NOT NULL                        -- when it was connected last, to the hour
) STRICT;
