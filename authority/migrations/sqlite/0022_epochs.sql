-- What is behind every terminal for ever.

CREATE TABLE epoch_fence (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1), -- there is one row, from the first raise on
    below    INTEGER NOT NULL CHECK (below >= 0)       -- no token of an epoch below it is accepted; only rises
) STRICT;
