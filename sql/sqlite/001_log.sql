-- The embedded store, version 1. The columns have the names of the wire form; times are microseconds since 1970 (UTC).

-- By the UUIDv7 itself: logs arrive nearly in its order, retention cuts off its beginning, and it is what makes a log that
-- comes twice known.
CREATE TABLE log (
    uid         BLOB    NOT NULL PRIMARY KEY CHECK (length(uid) = 16),
    agent       TEXT    NOT NULL,
    boot        BLOB    NOT NULL,
    seq         INTEGER NOT NULL,
    label       TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    target      TEXT    NOT NULL,
    due_at      INTEGER NOT NULL,
    started_at  INTEGER,
    ended_at    INTEGER,
    duration_us INTEGER,
    interval_ms INTEGER NOT NULL,
    verdict     TEXT    NOT NULL,
    phase       TEXT,
    reason      TEXT,
    result      TEXT    NOT NULL,
    -- Fields that a newer agent wrote; null: none.
    extra       TEXT
) STRICT, WITHOUT ROWID;

-- What reports ask: one label of one agent after another, in time.
CREATE INDEX log_label ON log (label, agent, uid);

-- What could not be kept as a log: the newest of it. Its origin makes what comes twice known.
CREATE TABLE rejected (
    id     INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    origin TEXT    NOT NULL UNIQUE,
    reason TEXT    NOT NULL,
    bytes  BLOB    NOT NULL
) STRICT;
