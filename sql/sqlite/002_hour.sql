-- The embedded store, version 2: roll-ups, and what the delivery audit asks.

-- What the logs of one label and agent come to in each hour (see src/store/rollup.rs), by the hour first: the hour that all
-- labels write to now lies on a few pages, and retention cuts off the beginning.
CREATE TABLE hour (
    label       TEXT    NOT NULL,
    agent       TEXT    NOT NULL,
    hour        INTEGER NOT NULL,
    up_ms       INTEGER NOT NULL,
    degraded_ms INTEGER NOT NULL,
    -- What is in none of the three is unknown.
    down_ms     INTEGER NOT NULL,
    up          INTEGER NOT NULL,
    degraded    INTEGER NOT NULL,
    down        INTEGER NOT NULL,
    unknown     INTEGER NOT NULL,
    missed      INTEGER NOT NULL,
    -- How many checks that found the target up or degraded took how long: for each class that has some, its number (a byte) and
    -- their count (LEB128). Most of the forty have none, and a row is read and written with each batch, so it is kept small.
    latency     BLOB    NOT NULL,
    PRIMARY KEY (hour, label, agent)
) STRICT, WITHOUT ROWID;

-- How many logs of a run of an agent came again and were dropped, and when last.
CREATE TABLE duplicate (
    agent TEXT    NOT NULL,
    boot  BLOB    NOT NULL,
    count INTEGER NOT NULL,
    at    INTEGER NOT NULL,
    PRIMARY KEY (agent, boot)
) STRICT, WITHOUT ROWID;

-- Whose it was, where it could be read as a log.
ALTER TABLE rejected ADD COLUMN agent TEXT;
ALTER TABLE rejected ADD COLUMN boot BLOB;
ALTER TABLE rejected ADD COLUMN seq INTEGER;

-- One row: when the retention last ran to its end (null: not yet), and before when logs were due that it may have deleted.
-- Of those that an older build deleted no more is known than what is left.
CREATE TABLE retention (
    ran_at    INTEGER,
    forgotten INTEGER NOT NULL
) STRICT;
INSERT INTO retention SELECT NULL, coalesce((SELECT due_at FROM log ORDER BY uid LIMIT 1), 0);
