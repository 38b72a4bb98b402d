-- What terminals saw goes after its days.

CREATE TABLE report_fence (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1), -- there is one row, from the first raise on
    below_ms INTEGER NOT NULL                          -- no event from before it is kept; only rises
) STRICT;
