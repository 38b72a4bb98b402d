-- How worn is the tag of each terminal, and how slow are the windows that spare it?

-- The tag that a terminal wrote last; its history is in reports.
CREATE TABLE tag_wear (
    terminal INTEGER PRIMARY KEY NOT NULL REFERENCES terminals (id),
    tag_uid TEXT NOT NULL,
    -- As the terminal counts, which may have lost its count.
    cycles INTEGER NOT NULL CHECK (cycles >= 0),
    -- What it had counted of this tag before it lost the count: added to cycles.
    cycles_before INTEGER NOT NULL DEFAULT 0 CHECK (cycles_before >= 0),
    endurance INTEGER NOT NULL CHECK (endurance > 0),
    per_link INTEGER NOT NULL CHECK (per_link > 0),
    cycles_per_day INTEGER NOT NULL,
    at_ms INTEGER NOT NULL, -- when it was written
    replace_by_ms INTEGER NOT NULL, -- reckoned then: when only the margin is left
    due_since_ms INTEGER -- when a report first told that only the margin is left; NULL: more is left
) STRICT, WITHOUT ROWID;
-- Which tags have to be replaced first; with its terminal, so that pages follow each other.
CREATE INDEX tag_wear_by_end ON tag_wear (replace_by_ms, terminal);

-- Windows of the nfc channel from an epoch on, up to the next row of the terminal. A row is written before
-- any schedule tells its first epoch, and is never changed after that: tokens are judged by it.
CREATE TABLE nfc_paces (
    terminal INTEGER NOT NULL REFERENCES terminals (id),
    from_epoch INTEGER NOT NULL,
    shortest_ms INTEGER, -- both NULL: as the policy says
    longest_ms INTEGER,
    PRIMARY KEY (terminal, from_epoch),
    CHECK ((shortest_ms IS NULL) = (longest_ms IS NULL))
) STRICT, WITHOUT ROWID;
