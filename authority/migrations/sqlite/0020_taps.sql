-- What tags counted is compared with what was claimed: one row for each link that a terminal had on its
-- tag, one for each terminal and day, and alarms, one for each terminal, kind and day.

CREATE TABLE tag_watches (
    terminal INTEGER NOT NULL PRIMARY KEY REFERENCES terminals (id), -- whose tag
    tag_uid  TEXT    NOT NULL,                          -- the one it visited last
    counter  INTEGER CHECK (counter >= 0),              -- where the tag's counter stood when it was left; null: it is not told
    epoch    INTEGER,                                   -- epoch to turn: what is on it; null: nothing was written yet
    "window" INTEGER,
    turn     INTEGER,
    unsure   INTEGER NOT NULL CHECK (unsure IN (0, 1)), -- 1: a visit since then failed or was forgotten, so another link may be on it
    CHECK ((epoch IS NULL) = ("window" IS NULL) AND (epoch IS NULL) = (turn IS NULL))
) STRICT;

CREATE TABLE tag_links (
    terminal     INTEGER NOT NULL REFERENCES terminals (id), -- which had it on its tag
    epoch        INTEGER NOT NULL,                          -- epoch to turn: what was on the tag
    "window"     INTEGER NOT NULL,
    turn         INTEGER NOT NULL,
    until_epoch  INTEGER,                                   -- what took its place; null: it is on the tag
    until_window INTEGER,
    until_turn   INTEGER,
    taps         INTEGER NOT NULL CHECK (taps >= 0),        -- how often phones read it
    counted      INTEGER NOT NULL CHECK (counted IN (0, 1)), -- 0: not all the time, so nothing follows from it
    judged       INTEGER NOT NULL CHECK (judged IN (0, 1)), -- 1: compared with the claims
    next_at_ms   INTEGER,                                   -- when it is judged, or forgotten once it is; null: it is on the tag
    CHECK ((until_epoch IS NULL) = (until_window IS NULL) AND (until_epoch IS NULL) = (until_turn IS NULL)),
    PRIMARY KEY (terminal, epoch, "window", turn)
) STRICT, WITHOUT ROWID;
CREATE INDEX tag_links_by_next ON tag_links (next_at_ms) WHERE next_at_ms IS NOT NULL;

CREATE TABLE tap_days (
    terminal      INTEGER NOT NULL REFERENCES terminals (id), -- whose tag
    day           INTEGER NOT NULL,                           -- days since 1970, UTC
    taps          INTEGER NOT NULL CHECK (taps >= 0),         -- how often phones read it, as the terminal told
    counted       INTEGER NOT NULL CHECK (counted IN (0, 1)), -- 1: it told how often that day; 0: only second places are known
    claims        INTEGER NOT NULL CHECK (claims >= 0),       -- on nfc, when the day was judged last
    second_places INTEGER NOT NULL CHECK (second_places >= 0), -- spent links that another network brought again
    next_at_ms    INTEGER,                                    -- when it is judged; null: nothing has changed
    PRIMARY KEY (terminal, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX tap_days_by_next ON tap_days (next_at_ms) WHERE next_at_ms IS NOT NULL;
CREATE INDEX judged_tap_days ON tap_days (day) WHERE next_at_ms IS NULL;

CREATE TABLE tag_alarms (
    terminal     INTEGER NOT NULL REFERENCES terminals (id), -- where
    kind         TEXT    NOT NULL CHECK (kind IN ('claims-without-taps', 'counter-back', 'second-place', 'taps-without-claims')),
    day          INTEGER NOT NULL,                    -- days since 1970, UTC
    times        INTEGER NOT NULL CHECK (times >= 1), -- how much of it
    reason       TEXT    NOT NULL,                    -- in words, with numbers
    first_at_ms  INTEGER NOT NULL,                    -- when it was raised
    last_at_ms   INTEGER NOT NULL,                    -- when it last grew
    closed_at_ms INTEGER,                             -- since when an operator takes it for explained; null: open
    closed_by    TEXT,                                -- who
    closed_note  TEXT,                                -- what they found
    closed_times INTEGER,                             -- how much of it there was then: twice as much opens it again
    PRIMARY KEY (terminal, kind, day),
    CHECK ((closed_at_ms IS NULL) = (closed_by IS NULL) AND (closed_at_ms IS NULL) = (closed_note IS NULL)
        AND (closed_at_ms IS NULL) = (closed_times IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX tag_alarms_by_time ON tag_alarms (last_at_ms);
CREATE INDEX closed_tag_alarms ON tag_alarms (closed_at_ms) WHERE closed_at_ms IS NOT NULL;
CREATE INDEX open_tag_alarms ON tag_alarms (kind) WHERE closed_at_ms IS NULL;
