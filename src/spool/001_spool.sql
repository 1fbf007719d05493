-- The spool, version 1.

-- In the order of `id`, which is the order in which logs were accepted. `up` and `label` tell what can be thinned out.
CREATE TABLE log (
    id    INTEGER PRIMARY KEY,
    label INTEGER NOT NULL,
    up    INTEGER NOT NULL,
    json  BLOB    NOT NULL
) STRICT;

-- Every label that was ever accepted, with the last of its slots (microseconds since 1970).
CREATE TABLE label (
    id       INTEGER PRIMARY KEY,
    name     TEXT    NOT NULL UNIQUE,
    last_due INTEGER NOT NULL
) STRICT;

-- What the sink refused or nobody could read: the newest of it.
CREATE TABLE refused (
    id     INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    origin TEXT    NOT NULL,
    reason TEXT    NOT NULL,
    bytes  BLOB    NOT NULL
) STRICT;

-- One row: the run that wrote last, its last number, and how many rows `log` has.
CREATE TABLE tally (
    boot BLOB    NOT NULL,
    seq  INTEGER NOT NULL,
    logs INTEGER NOT NULL
) STRICT;
INSERT INTO tally VALUES (x'', 0, 0);
