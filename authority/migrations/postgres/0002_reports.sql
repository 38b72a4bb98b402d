-- What terminals saw goes after its days, by the order of its ids, which are by time: no index is built for it.

CREATE TABLE report_fence (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1), -- there is one row, from the first raise on
    below_ms BIGINT NOT NULL -- no event from before it is kept; only rises
);
