-- Postgres, version 1. The columns of `log` have the names of the wire form. Written for PostgreSQL 14 to 18.
-- Run by `pingeon migrate`, in one transaction, as a role that may create roles and schemas, or by a DBA from `migrate --print`.

DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'pingeon_writer') THEN CREATE ROLE pingeon_writer LOGIN; END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'pingeon_reader') THEN CREATE ROLE pingeon_reader LOGIN; END IF;
    -- Of the databases here, this one is not for temporary tables of anybody: only its owner can say so.
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO pingeon_writer, pingeon_reader', current_database());
END $$;

-- So that a client that hangs holds nobody up: each batch is far below these.
ALTER ROLE pingeon_writer SET statement_timeout = '60s';
ALTER ROLE pingeon_writer SET lock_timeout = '30s';
ALTER ROLE pingeon_writer SET idle_in_transaction_session_timeout = '60s';

REVOKE ALL ON SCHEMA pingeon FROM PUBLIC;
SET LOCAL ROLE pingeon_owner;

-- By day on the UUIDv7 itself, whose milliseconds are those of `due_at`: the conflict target is the uid alone.
-- Text is compared byte by byte, as everywhere in Pingeon, and faster.
CREATE TABLE pingeon.log (
    uid         uuid        NOT NULL PRIMARY KEY,
    agent       text        COLLATE "C" NOT NULL CHECK (octet_length(agent) BETWEEN 1 AND 255),
    boot        uuid        NOT NULL,
    seq         bigint      NOT NULL CHECK (seq >= 0),
    label       text        COLLATE "C" NOT NULL CHECK (octet_length(label) BETWEEN 1 AND 200),
    kind        text        NOT NULL,
    target      text        NOT NULL,
    due_at      timestamptz NOT NULL,
    started_at  timestamptz,
    ended_at    timestamptz,
    duration_us bigint,
    interval_ms bigint      NOT NULL CHECK (interval_ms > 0),
    verdict     text        COLLATE "C" NOT NULL CHECK (verdict IN ('up', 'degraded', 'down', 'unknown', 'missed')),
    phase       text,
    reason      text,
    result      jsonb       NOT NULL,
    -- Fields that a newer agent wrote; null: none.
    extra       jsonb
) PARTITION BY RANGE (uid);

CREATE INDEX log_label ON pingeon.log (label, uid DESC);

-- What the logs of one label and agent come to in each hour (see src/store/rollup.rs). Room is left on each page, so that an
-- hour that goes on is changed in place.
CREATE TABLE pingeon.hour (
    label       text        COLLATE "C" NOT NULL,
    agent       text        COLLATE "C" NOT NULL,
    hour        timestamptz NOT NULL,
    up_ms       integer     NOT NULL,
    degraded_ms integer     NOT NULL,
    -- What is in none of the three is unknown.
    down_ms     integer     NOT NULL,
    up          integer     NOT NULL,
    degraded    integer     NOT NULL,
    down        integer     NOT NULL,
    unknown     integer     NOT NULL,
    missed      integer     NOT NULL,
    -- How many checks that found the target up or degraded took how long: element n, from 1 on, counts those below 125 × √2^(n-1)
    -- microseconds and in no element before it; the 40th all that took longer.
    latency     integer[]   NOT NULL,
    PRIMARY KEY (label, agent, hour)
) WITH (fillfactor = 70);

-- A range of hours is a range of pages.
CREATE INDEX hour_hour ON pingeon.hour USING brin (hour) WITH (pages_per_range = 16);

-- What could not be kept as a log. What comes twice is known by its origin and its bytes.
CREATE TABLE pingeon.rejected (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    origin   text        NOT NULL,
    reason   text        NOT NULL,
    -- Where the server refused it, its code for that.
    sqlstate text,
    -- Whose it was, where it could be read as a log.
    agent    text        COLLATE "C",
    boot     uuid,
    seq      bigint,
    bytes    bytea       NOT NULL
);
CREATE UNIQUE INDEX rejected_origin ON pingeon.rejected (md5(origin), sha256(bytes));

-- How many logs of a run of an agent came again and were dropped. In lanes, so that consumers do not wait for each other.
CREATE TABLE pingeon.duplicate (
    agent text     COLLATE "C" NOT NULL,
    boot  uuid     NOT NULL,
    lane  smallint NOT NULL,
    count bigint   NOT NULL,
    PRIMARY KEY (agent, boot, lane)
);

-- What the owner has set: only `pingeon migrate` writes here.
CREATE TABLE pingeon.setting (
    name  text PRIMARY KEY,
    value text NOT NULL
);
INSERT INTO pingeon.setting VALUES ('retention', '90 days');

-- The number of the last migration: what a consumer asks first.
CREATE FUNCTION pingeon.schema_version() RETURNS integer
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT max(version) FROM pingeon.migration $$;

-- The first uid of a moment's millisecond.
CREATE FUNCTION pingeon.uid_floor(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;

-- The moment of a uid's millisecond.
CREATE FUNCTION pingeon.uid_time(uid uuid) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN to_timestamp(('x' || substr(replace(uid::text, '-', ''), 1, 12))::bit(48)::bigint / 1000.0);

-- The days that there are partitions for.
CREATE FUNCTION pingeon.days() RETURNS SETOF date
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT to_date(substr(c.relname, 6), 'YYYYMMDD') FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'pingeon.log'::regclass AND c.relname ~ '^log_p[0-9]{8}$'
$$;

-- How long logs are kept at least: what the owner has set, whatever a consumer asks for.
CREATE FUNCTION pingeon.retention(wanted interval) RETURNS interval
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT greatest(wanted, value::interval) FROM pingeon.setting WHERE name = 'retention' $$;

-- Makes the partitions that are missing for the days from first_day to last_day; how many that were. No further back than what is
-- kept, no further ahead than eight days, no more than 62 at once: a consumer cannot fill the catalogue.
CREATE FUNCTION pingeon.make_days(first_day date, last_day date, kept interval) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '5s'
AS $$
DECLARE
    today date := now()::date;
    day date;
    part text;
    made integer := 0;
BEGIN
    IF first_day IS NULL OR last_day IS NULL OR last_day - first_day NOT BETWEEN 0 AND 61 OR last_day > today + 8
        OR first_day < (now() - pingeon.retention(kept))::date - 1 THEN
        RAISE EXCEPTION 'no partitions for % to %', first_day, last_day USING ERRCODE = '22023';
    END IF;
    IF NOT EXISTS (SELECT generate_series(0, last_day - first_day) + first_day EXCEPT SELECT pingeon.days()) THEN
        RETURN 0;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('pingeon'), hashtext('days'));
    FOR day IN SELECT generate_series(0, last_day - first_day) + first_day EXCEPT SELECT pingeon.days() ORDER BY 1 LOOP
        part := 'log_p' || to_char(day, 'YYYYMMDD');
        -- In two steps, since CREATE … PARTITION OF waits for every insert under way. The check lets ranges of `due_at` leave
        -- out days.
        EXECUTE format('CREATE TABLE pingeon.%I (LIKE pingeon.log INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES,
            CONSTRAINT %I CHECK (due_at >= %L AND due_at < %L))', part, part || '_day', day::timestamptz, (day + 1)::timestamptz);
        EXECUTE format('ALTER TABLE pingeon.log ATTACH PARTITION pingeon.%I FOR VALUES FROM (%L) TO (%L)', part,
            pingeon.uid_floor(day::timestamptz), pingeon.uid_floor((day + 1)::timestamptz));
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;

-- Drops the oldest day that is past what is kept, and returns it; null: there is none. To be called in a transaction of its own.
-- A drop needs the table for itself for a moment: it waits for that a tenth of a second at a time, so that inserts are held up
-- no longer, and gives up after two seconds (55P03).
CREATE FUNCTION pingeon.drop_day(kept interval) RETURNS date
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '100ms'
AS $$
DECLARE
    cutoff timestamptz := now() - pingeon.retention(kept);
    day date;
BEGIN
    -- Another consumer is at it.
    IF NOT pg_try_advisory_xact_lock(hashtext('pingeon'), hashtext('days')) THEN
        RETURN NULL;
    END IF;
    SELECT min(days) INTO day FROM pingeon.days() WHERE days + 1 <= cutoff::date;
    FOR try IN 1..10 LOOP
        EXIT WHEN day IS NULL;
        BEGIN
            EXECUTE format('DROP TABLE pingeon.%I', 'log_p' || to_char(day, 'YYYYMMDD'));
            RETURN day;
        EXCEPTION WHEN lock_not_available THEN
            IF try = 10 THEN RAISE; END IF;
        END;
        PERFORM pg_sleep(0.1);
    END LOOP;
    DELETE FROM pingeon.hour WHERE hour < cutoff - interval '1 day';
    DELETE FROM pingeon.rejected WHERE at < cutoff
        OR id <= (SELECT max(id) - 1000000 FROM pingeon.rejected);
    -- The boot's own time is that of the agent's start.
    DELETE FROM pingeon.duplicate d WHERE pingeon.uid_time(boot) < cutoff
        AND NOT EXISTS (SELECT FROM pingeon.hour h WHERE h.agent = d.agent);
    INSERT INTO pingeon.setting VALUES ('retained_at', now()::text) ON CONFLICT (name) DO UPDATE SET value = excluded.value;
    RETURN NULL;
END $$;

-- How the store stands: days that can be written to after today, the first and last day, what was set aside, when the retention
-- last ran to its end.
CREATE FUNCTION pingeon.condition(OUT days_ahead integer, OUT oldest date, OUT newest date, OUT rejected bigint,
    OUT retained_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
    SELECT
        (SELECT count(*)::integer FROM pingeon.days() WHERE days > now()::date),
        (SELECT min(days) FROM pingeon.days()),
        (SELECT max(days) FROM pingeon.days()),
        (SELECT count(*) FROM pingeon.rejected),
        (SELECT value::timestamptz FROM pingeon.setting WHERE name = 'retained_at')
$$;

-- Adds to roll-ups, none of which overflows, whatever logs may say. One element each for a label, agent and hour; `latency` holds forty for each of them.
CREATE FUNCTION pingeon.add_hours(label text[], agent text[], hour timestamptz[], up_ms integer[], degraded_ms integer[],
    down_ms integer[], up integer[], degraded integer[], down integer[], unknown integer[], missed integer[], latency integer[])
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO pingeon.hour AS h
    SELECT u.label, u.agent, u.hour, u.up_ms, u.degraded_ms, u.down_ms, u.up, u.degraded, u.down, u.unknown, u.missed,
        add_hours.latency[(u.n - 1) * 40 + 1 : u.n * 40]
    FROM unnest(label, agent, hour, up_ms, degraded_ms, down_ms, up, degraded, down, unknown, missed) WITH ORDINALITY
        AS u (label, agent, hour, up_ms, degraded_ms, down_ms, up, degraded, down, unknown, missed, n)
    ON CONFLICT ON CONSTRAINT hour_pkey DO UPDATE SET
        up_ms = least(h.up_ms::bigint + excluded.up_ms, 2147483647)::integer,
        degraded_ms = least(h.degraded_ms::bigint + excluded.degraded_ms, 2147483647)::integer,
        down_ms = least(h.down_ms::bigint + excluded.down_ms, 2147483647)::integer,
        up = least(h.up::bigint + excluded.up, 2147483647)::integer,
        degraded = least(h.degraded::bigint + excluded.degraded, 2147483647)::integer,
        down = least(h.down::bigint + excluded.down, 2147483647)::integer,
        unknown = least(h.unknown::bigint + excluded.unknown, 2147483647)::integer,
        missed = least(h.missed::bigint + excluded.missed, 2147483647)::integer,
        latency = ARRAY[
            h.latency[1] + excluded.latency[1], h.latency[2] + excluded.latency[2], h.latency[3] + excluded.latency[3], h.latency[4] + excluded.latency[4],
            h.latency[5] + excluded.latency[5], h.latency[6] + excluded.latency[6], h.latency[7] + excluded.latency[7], h.latency[8] + excluded.latency[8],
            h.latency[9] + excluded.latency[9], h.latency[10] + excluded.latency[10], h.latency[11] + excluded.latency[11], h.latency[12] + excluded.latency[12],
            h.latency[13] + excluded.latency[13], h.latency[14] + excluded.latency[14], h.latency[15] + excluded.latency[15], h.latency[16] + excluded.latency[16],
            h.latency[17] + excluded.latency[17], h.latency[18] + excluded.latency[18], h.latency[19] + excluded.latency[19], h.latency[20] + excluded.latency[20],
            h.latency[21] + excluded.latency[21], h.latency[22] + excluded.latency[22], h.latency[23] + excluded.latency[23], h.latency[24] + excluded.latency[24],
            h.latency[25] + excluded.latency[25], h.latency[26] + excluded.latency[26], h.latency[27] + excluded.latency[27], h.latency[28] + excluded.latency[28],
            h.latency[29] + excluded.latency[29], h.latency[30] + excluded.latency[30], h.latency[31] + excluded.latency[31], h.latency[32] + excluded.latency[32],
            h.latency[33] + excluded.latency[33], h.latency[34] + excluded.latency[34], h.latency[35] + excluded.latency[35], h.latency[36] + excluded.latency[36],
            h.latency[37] + excluded.latency[37], h.latency[38] + excluded.latency[38], h.latency[39] + excluded.latency[39], h.latency[40] + excluded.latency[40]
        ]
$$;

-- Adds to the logs that came again.
CREATE FUNCTION pingeon.add_duplicates(agent text[], boot uuid[], count bigint[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO pingeon.duplicate AS d
    SELECT u.agent, u.boot, pg_backend_pid() % 16, u.count FROM unnest(agent, boot, count) AS u (agent, boot, count)
    ON CONFLICT ON CONSTRAINT duplicate_pkey DO UPDATE SET count = d.count + excluded.count
$$;

-- What arrived of each run of an agent. `missing` are the numbers between the lowest and the highest that are neither stored nor
-- rejected; which ones they are: pingeon.missing.
CREATE VIEW pingeon.delivery AS
SELECT l.agent, l.boot, l.lowest, l.highest, l.stored, coalesce(r.rejected, 0) AS rejected, coalesce(d.duplicates, 0) AS duplicates,
    l.first_due_at, l.last_due_at
FROM (SELECT agent, boot, min(seq) AS lowest, max(seq) AS highest, count(*) AS stored, min(due_at) AS first_due_at,
          max(due_at) AS last_due_at FROM pingeon.log GROUP BY agent, boot) l
LEFT JOIN (SELECT agent, boot, count(*) AS rejected FROM pingeon.rejected GROUP BY agent, boot) r USING (agent, boot)
LEFT JOIN (SELECT agent, boot, sum(count)::bigint AS duplicates FROM pingeon.duplicate GROUP BY agent, boot) d USING (agent, boot);

-- By itself the owner alone has any right here. A consumer inserts, reads the uids that it inserted, and calls these.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA pingeon FROM PUBLIC;
GRANT USAGE ON SCHEMA pingeon TO pingeon_writer, pingeon_reader;
GRANT INSERT, SELECT (uid) ON pingeon.log TO pingeon_writer;
GRANT INSERT (origin, reason, sqlstate, agent, boot, seq, bytes) ON pingeon.rejected TO pingeon_writer;
GRANT EXECUTE ON FUNCTION pingeon.schema_version, pingeon.make_days, pingeon.drop_day, pingeon.condition, pingeon.retention, pingeon.add_hours,
    pingeon.add_duplicates TO pingeon_writer;
GRANT SELECT ON pingeon.log, pingeon.hour, pingeon.rejected, pingeon.duplicate, pingeon.delivery TO pingeon_reader;
GRANT EXECUTE ON FUNCTION pingeon.uid_floor, pingeon.uid_time, pingeon.days, pingeon.condition, pingeon.schema_version TO pingeon_reader;
RESET ROLE;
