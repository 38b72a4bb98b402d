-- A certificate that comes back after a later one took its place is an alarm, too.

CREATE TABLE alarms_of_three_kinds (
    terminal    INTEGER NOT NULL REFERENCES terminals (id), -- which was in two places at once
    kind        TEXT    NOT NULL CHECK (kind IN ('second-key', 'second-stream', 'superseded')), -- what was seen
    certificate TEXT    NOT NULL,  -- serial of the certificate it was seen with
    other       TEXT    NOT NULL,  -- the latest that contradicts it: SHA-256 of another key, or the serial of another certificate; empty: none
    first_at_ms INTEGER NOT NULL,  -- when first
    last_at_ms  INTEGER NOT NULL,  -- when last
    times       INTEGER NOT NULL CHECK (times >= 1), -- how often
    PRIMARY KEY (terminal, kind, certificate)
) STRICT, WITHOUT ROWID;
INSERT INTO alarms_of_three_kinds SELECT terminal, kind, certificate, other, first_at_ms, last_at_ms, times FROM alarms;
DROP TABLE alarms;
ALTER TABLE alarms_of_three_kinds RENAME TO alarms;
CREATE INDEX alarms_by_time ON alarms (last_at_ms);
