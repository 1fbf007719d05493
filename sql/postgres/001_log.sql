-- Postgres, version 1. The columns of `log` have the names of the wire form. Written for PostgreSQL 14 to 18.
-- Run by `pingeon migrate`, in one transaction, as a role that may create roles and schemas, or by a DBA from `migrate --print`.

DO $$
DECLARE
    wanted text;
    setting text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['pingeon_writer', 'pingeon_reader'] LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = wanted);
        BEGIN
            EXECUTE format('CREATE ROLE %I LOGIN', wanted);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO pingeon_writer, pingeon_reader', current_database());
    -- So that a client that hangs holds nobody up: each batch is far below these.
    FOREACH setting IN ARRAY ARRAY['statement_timeout = ''60s''', 'lock_timeout = ''30s''',
        'idle_in_transaction_session_timeout = ''60s''']
    LOOP
        EXECUTE format('ALTER ROLE pingeon_writer IN DATABASE %I SET %s', current_database(), setting);
    END LOOP;
    -- What everybody may do in a database by default, the writer may not; only the owners of the two can say so.
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    IF has_database_privilege('pingeon_writer', current_database(), 'TEMPORARY') THEN
        RAISE EXCEPTION 'everybody may create temporary tables in the database "%"', current_database() USING
            ERRCODE = 'insufficient_privilege', HINT = 'run the migration as the owner of the database or as a superuser';
    END IF;
    -- Up to version 14 everybody may create tables in `public`.
    IF to_regnamespace('public') IS NOT NULL AND has_schema_privilege('pingeon_writer', 'public', 'CREATE') THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
        IF has_schema_privilege('pingeon_writer', 'public', 'CREATE') THEN
            RAISE EXCEPTION 'everybody may create tables in the schema "public"' USING
                ERRCODE = 'insufficient_privilege', HINT = 'as a superuser: REVOKE CREATE ON SCHEMA public FROM PUBLIC';
        END IF;
    END IF;
END $$;

SET LOCAL ROLE pingeon_owner;
-- By itself the owner alone has any right here, also to what later migrations make.
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

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
    -- How many checks that found the target up or degraded took how long, in forty classes (see src/store/rollup.rs): their counts
    -- side by side in one number, twelve digits each, so that `sum` adds them all at once. `latencies` takes them apart.
    latency     numeric     NOT NULL,
    PRIMARY KEY (label, agent, hour)
) WITH (fillfactor = 70);

-- For all labels at once, and for the retention.
CREATE INDEX hour_hour ON pingeon.hour (hour);

-- The hours of a day of UTC added up, so that a report over weeks reads one row where there are 24 hours. Counts for the days in
-- `summed` alone.
CREATE TABLE pingeon.day (
    label       text        COLLATE "C" NOT NULL,
    agent       text        COLLATE "C" NOT NULL,
    -- When it begins.
    day         timestamptz NOT NULL,
    up_ms       integer     NOT NULL,
    degraded_ms integer     NOT NULL,
    down_ms     integer     NOT NULL,
    up          integer     NOT NULL,
    degraded    integer     NOT NULL,
    down        integer     NOT NULL,
    unknown     integer     NOT NULL,
    missed      integer     NOT NULL,
    latency     numeric     NOT NULL,
    -- Whether its hours have to be asked instead: one has more said about it than it holds, or a sum is more than there is room for.
    crowded     boolean     NOT NULL,
    PRIMARY KEY (label, agent, day)
);
CREATE INDEX day_day ON pingeon.day (day);

-- The days whose hours are as they were when they were added up. Whoever changes hours locks this table first, to the end of the
-- transaction: see `sum_day`.
CREATE TABLE pingeon.summed (
    day timestamptz PRIMARY KEY
);

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
    agent text        COLLATE "C" NOT NULL,
    boot  uuid        NOT NULL,
    lane  smallint    NOT NULL,
    count bigint      NOT NULL,
    -- When the last of them came.
    at    timestamptz NOT NULL DEFAULT now(),
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

-- How long logs are kept: as the owner has set it, or longer where a consumer asks for that, up to ten years.
CREATE FUNCTION pingeon.retention(wanted interval) RETURNS interval
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT greatest(least(wanted, interval '3650 days'), (SELECT value::interval FROM pingeon.setting WHERE name = 'retention'))
$$;

-- Makes those of the days wanted that are missing; how many that were. Left out are those further back than what is kept, by the
-- server's clock, or further ahead than eight days; no more than 62 are made at once: a consumer cannot fill the catalogue.
CREATE FUNCTION pingeon.make_days(wanted date[], kept interval) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' SET lock_timeout = '5s'
AS $$
DECLARE
    first date := (now() - pingeon.retention(kept))::date - 1;
    last date := now()::date + 8;
    day date;
    part text;
    made integer := 0;
BEGIN
    IF cardinality(wanted) > 62 THEN
        RAISE EXCEPTION '% days are more than are made at once', cardinality(wanted) USING ERRCODE = '22023';
    END IF;
    wanted := ARRAY(SELECT u.day FROM unnest(wanted) AS u (day) WHERE u.day BETWEEN first AND last);
    IF wanted <@ ARRAY(SELECT pingeon.days()) THEN
        RETURN 0;
    END IF;
    -- One at a time. An advisory lock, anybody who may connect could hold for ever.
    LOCK TABLE pingeon.setting IN SHARE ROW EXCLUSIVE MODE;
    FOR day IN SELECT unnest(wanted) EXCEPT SELECT pingeon.days() ORDER BY 1 LOOP
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

-- Drops the oldest day that is past what is kept, and returns it; null: there is none, or another consumer is at it. To be called
-- in a transaction of its own. A drop needs the table for itself for a moment: it waits for that a tenth of a second at a time, so
-- that inserts are held up no longer, and gives up after two seconds (55P03).
CREATE FUNCTION pingeon.drop_day(kept interval) RETURNS date
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' SET lock_timeout = '100ms'
AS $$
DECLARE
    first date := (now() - pingeon.retention(kept))::date;
    day date;
BEGIN
    BEGIN
        LOCK TABLE pingeon.setting IN SHARE ROW EXCLUSIVE MODE NOWAIT;
    EXCEPTION WHEN lock_not_available THEN
        -- Another consumer is at it.
        RETURN NULL;
    END;
    SELECT min(days) INTO day FROM pingeon.days() WHERE days < first;
    FOR try IN 1..10 LOOP
        EXIT WHEN day IS NULL;
        BEGIN
            EXECUTE format('DROP TABLE pingeon.%I', 'log_p' || to_char(day, 'YYYYMMDD'));
            INSERT INTO pingeon.setting AS s VALUES ('forgotten', (day + 1)::text)
                ON CONFLICT (name) DO UPDATE SET value = greatest(s.value, excluded.value);
            RETURN day;
        EXCEPTION WHEN lock_not_available THEN
            IF try = 10 THEN
                RAISE EXCEPTION 'the logs of % cannot be dropped: somebody has been reading for longer than two seconds', day
                    USING ERRCODE = 'lock_not_available';
            END IF;
        END;
        PERFORM pg_sleep(0.1);
    END LOOP;
    RETURN NULL;
END $$;

-- Fails where a statement does not see what others have committed until it begins, whatever the database's default is.
CREATE FUNCTION pingeon.sees_commits() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'sums of days need transactions that are READ COMMITTED' USING ERRCODE = 'invalid_transaction_state';
    END IF;
END $$;

-- Deletes what else is past what is kept, of each kind no more than 10,000 rows; whether there may be more. Of what was set aside
-- the last hundred thousand stay.
CREATE FUNCTION pingeon.delete_past(kept interval) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO'
AS $$
DECLARE
    at_once constant integer := 10000;
    cutoff timestamptz := (now() - pingeon.retention(kept))::date;
    hours integer;
    sums integer;
    rejects integer;
    duplicates integer;
BEGIN
    -- Before any hour, as in `add_hours`: no day counts as summed that has lost hours.
    LOCK TABLE pingeon.summed IN ROW EXCLUSIVE MODE;
    DELETE FROM pingeon.summed
    WHERE day IN (SELECT s.day FROM pingeon.summed AS s WHERE s.day < cutoff ORDER BY s.day FOR UPDATE);
    DELETE FROM pingeon.day WHERE ctid = ANY (ARRAY(SELECT ctid FROM pingeon.day WHERE day < cutoff LIMIT at_once));
    GET DIAGNOSTICS sums = ROW_COUNT;
    DELETE FROM pingeon.hour WHERE ctid = ANY (ARRAY(SELECT ctid FROM pingeon.hour WHERE hour < cutoff LIMIT at_once));
    GET DIAGNOSTICS hours = ROW_COUNT;
    -- Looked for among the oldest alone: their numbers are in the order in which they came.
    DELETE FROM pingeon.rejected WHERE id IN (
        SELECT id FROM (SELECT id, at FROM pingeon.rejected ORDER BY id LIMIT at_once) AS oldest
        WHERE at < cutoff OR id < (SELECT id FROM pingeon.rejected ORDER BY id DESC OFFSET 99999 LIMIT 1));
    GET DIAGNOSTICS rejects = ROW_COUNT;
    DELETE FROM pingeon.duplicate WHERE ctid = ANY (ARRAY(SELECT ctid FROM pingeon.duplicate WHERE at < cutoff LIMIT at_once));
    GET DIAGNOSTICS duplicates = ROW_COUNT;
    IF at_once IN (hours, sums, rejects, duplicates) OR EXISTS (SELECT FROM pingeon.days() WHERE days < cutoff::date) THEN
        RETURN true;
    END IF;
    INSERT INTO pingeon.setting VALUES ('retained_at', now()::text) ON CONFLICT (name) DO UPDATE SET value = excluded.value;
    RETURN false;
END $$;

-- Adds up the hours of the last day that is over and does not count as summed, first of those that never did; whether there may be
-- more of those. One that did before waits for the next round, since late logs may go on for long. To be called in a transaction of
-- its own.
--
-- No log that comes late is missed, since whoever changes hours first locks `summed` against this, and takes their days out of it. A
-- transaction that did so before is waited for, and what it added is seen; one that comes later waits, and then finds the day summed.
-- It goes by the lock for logs of today too, and not by what the time is: a transaction of today may end long after midnight, when
-- its commit waits for a standby. While a day is added up, some hundredths of a second for a thousand labels, no log is kept.
CREATE FUNCTION pingeon.sum_day(kept interval) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' SET lock_timeout = '100ms' SET jit = off
AS $$
DECLARE
    first timestamptz := (now() - pingeon.retention(kept))::date;
    -- While its last logs still come, a day would only be added up in vain.
    last timestamptz := (now() - interval '1 hour')::date - 1;
    past timestamptz;
    again boolean;
BEGIN
    PERFORM pingeon.sees_commits();
    BEGIN
        LOCK TABLE pingeon.summed IN SHARE ROW EXCLUSIVE MODE;
    EXCEPTION WHEN lock_not_available THEN
        -- Another consumer is at it, or keeps a batch. Those who wait behind this are not held up for longer.
        RETURN false;
    END;
    SELECT days INTO past FROM generate_series(first, last, interval '1 day') AS days
    WHERE NOT EXISTS (SELECT FROM pingeon.summed WHERE day = days)
        AND EXISTS (SELECT FROM pingeon.hour WHERE hour >= days AND hour < days + interval '1 day')
    ORDER BY EXISTS (SELECT FROM pingeon.day WHERE day = days), days DESC LIMIT 1;
    IF past IS NULL THEN
        RETURN false;
    END IF;
    DELETE FROM pingeon.day WHERE day = past;
    again := FOUND;
    INSERT INTO pingeon.day (label, agent, day, up_ms, degraded_ms, down_ms, up, degraded, down, unknown, missed, latency, crowded)
    SELECT label, agent, past, least(sum(up_ms), 2147483647), least(sum(degraded_ms), 2147483647), least(sum(down_ms), 2147483647),
        least(sum(up), 2147483647), least(sum(degraded), 2147483647), least(sum(down), 2147483647),
        least(sum(unknown), 2147483647), least(sum(missed), 2147483647), sum(latency),
        bool_or(up_ms::bigint + degraded_ms + down_ms > 3600000)
            OR greatest(sum(up), sum(degraded), sum(down), sum(unknown), sum(missed)) > 2147483647
    FROM pingeon.hour WHERE hour >= past AND hour < past + interval '1 day' GROUP BY label, agent;
    INSERT INTO pingeon.summed VALUES (past);
    RETURN NOT again;
END $$;

-- How the store stands: days that can be written to after today, the first and last day that can be, what was set aside, when the
-- retention last ran to its end, and the day before which it has dropped logs (null: it has dropped none).
CREATE FUNCTION pingeon.condition(OUT days_ahead integer, OUT oldest date, OUT newest date, OUT rejected bigint,
    OUT retained_at timestamptz, OUT forgotten date)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
    SELECT
        (SELECT count(*)::integer FROM pingeon.days() WHERE days > now()::date),
        (SELECT min(days) FROM pingeon.days()),
        (SELECT max(days) FROM pingeon.days()),
        (SELECT count(*) FROM pingeon.rejected),
        (SELECT value::timestamptz FROM pingeon.setting WHERE name = 'retained_at'),
        (SELECT value::date FROM pingeon.setting WHERE name = 'forgotten')
$$;

-- The counts of a roll-up's `latency`, or of a sum of them: element n, from 1 on, counts the checks that took less than
-- 125 × √2^(n-1) microseconds and are in no element before it; the 40th all that took longer.
CREATE FUNCTION pingeon.latencies(latency numeric) RETURNS bigint[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ARRAY(SELECT substr(lpad(latency::text, 480, '0'), 469 - 12 * class, 12)::bigint FROM generate_series(0, 39) AS class);

-- Adds to roll-ups, none of which overflows, whatever logs may say. One element each for a label, agent and hour. In PL/pgSQL,
-- which plans it once a session.
CREATE FUNCTION pingeon.add_hours(label text[], agent text[], hour timestamptz[], up_ms integer[], degraded_ms integer[],
    down_ms integer[], up integer[], degraded integer[], down integer[], unknown integer[], missed integer[], latency numeric[])
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    last timestamptz;
BEGIN
    -- What was added is not taken away again, and no log is due that late.
    IF 0 > ANY ($4 || $5 || $6 || $7 || $8 || $9 || $10 || $11) OR 0 > ANY ($12) OR now() + interval '10 days' < ANY ($3) THEN
        RAISE EXCEPTION 'no roll-up: less than nothing, or far ahead' USING ERRCODE = '22023';
    END IF;
    PERFORM pingeon.sees_commits();
    -- Before any hour, and in the order of days, so that none waits for another in a circle.
    LOCK TABLE pingeon.summed IN ROW EXCLUSIVE MODE;
    SELECT max(day) INTO last FROM pingeon.summed;
    -- Seldom: what comes in time is due after it.
    IF last + interval '24 hours' > ANY ($3) THEN
        DELETE FROM pingeon.summed WHERE day IN (
            SELECT day FROM pingeon.summed
            WHERE day = ANY (ARRAY(SELECT DISTINCT date_bin('24 hours', due, '2000-01-01 00:00+00') FROM unnest($3) AS due))
            ORDER BY day FOR UPDATE);
    END IF;
    INSERT INTO pingeon.hour AS h (label, agent, hour, up_ms, degraded_ms, down_ms, up, degraded, down, unknown, missed, latency)
    SELECT unnest($1), unnest($2), unnest($3), unnest($4), unnest($5), unnest($6), unnest($7), unnest($8), unnest($9), unnest($10),
        unnest($11), unnest($12)
    ON CONFLICT ON CONSTRAINT hour_pkey DO UPDATE SET
        up_ms = least(h.up_ms::bigint + excluded.up_ms, 2147483647)::integer,
        degraded_ms = least(h.degraded_ms::bigint + excluded.degraded_ms, 2147483647)::integer,
        down_ms = least(h.down_ms::bigint + excluded.down_ms, 2147483647)::integer,
        up = least(h.up::bigint + excluded.up, 2147483647)::integer,
        degraded = least(h.degraded::bigint + excluded.degraded, 2147483647)::integer,
        down = least(h.down::bigint + excluded.down, 2147483647)::integer,
        unknown = least(h.unknown::bigint + excluded.unknown, 2147483647)::integer,
        missed = least(h.missed::bigint + excluded.missed, 2147483647)::integer,
        latency = h.latency + excluded.latency;
END $$;

-- Adds to the logs that came again.
CREATE FUNCTION pingeon.add_duplicates(agent text[], boot uuid[], count bigint[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO pingeon.duplicate AS d
    SELECT u.agent, u.boot, pg_backend_pid() % 16, u.count FROM unnest(agent, boot, count) AS u (agent, boot, count)
    WHERE u.count > 0
    ON CONFLICT ON CONSTRAINT duplicate_pkey DO UPDATE SET count = d.count + excluded.count, at = excluded.at
$$;

-- What arrived of each run of an agent: stretches of numbers without a hole, stored or set aside.
CREATE VIEW pingeon.stretch AS
SELECT agent, boot, min(seq) AS first, max(seq) AS last, count(due_at) AS stored, count(*) - count(due_at) AS rejected,
    min(due_at) AS first_due_at, max(due_at) AS last_due_at
FROM (
    SELECT agent, boot, seq, due_at, seq - dense_rank() OVER (PARTITION BY agent, boot ORDER BY seq) AS nth
    FROM (
        SELECT agent, boot, seq, due_at FROM pingeon.log
        UNION ALL
        SELECT agent, boot, seq, NULL FROM pingeon.rejected WHERE agent IS NOT NULL AND boot IS NOT NULL AND seq IS NOT NULL
    ) AS arrived
) AS numbered
GROUP BY agent, boot, nth;

-- The numbers that did not arrive: from 1 on, or from the first that is stored in a run that the retention may have dropped logs of.
-- Such a one began before the days that are left, or within a day of their beginning (a first log's time may lie before the run's);
-- what is set aside of it because its day is gone says nothing of the numbers after it. As src/store/delivery.rs has it.
CREATE VIEW pingeon.missing AS
SELECT agent, boot, before + 1 AS first, first - 1 AS last, first - 1 - before AS count
FROM (
    SELECT agent, boot, first, lag(last, 1, 0::bigint) OVER earlier AS before,
        pingeon.uid_time(boot) >= whole_from OR sum(stored) OVER earlier > 0 AS counts
    FROM pingeon.stretch, (
        SELECT coalesce((forgotten + 1)::timestamp AT TIME ZONE 'UTC', '-infinity') AS whole_from FROM pingeon.condition()
    ) AS oldest
    WINDOW earlier AS (PARTITION BY agent, boot ORDER BY first ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
) AS arrived
WHERE counts AND before < first - 1;

-- Likewise, one row for each run.
CREATE VIEW pingeon.delivery AS
SELECT agent, boot, lowest, highest, stored, rejected, coalesce(duplicates, 0) AS duplicates, first_due_at, last_due_at
FROM (
    SELECT agent, boot, min(first) AS lowest, max(last) AS highest, sum(stored)::bigint AS stored, sum(rejected)::bigint AS rejected,
        min(first_due_at) AS first_due_at, max(last_due_at) AS last_due_at
    FROM pingeon.stretch GROUP BY agent, boot
) AS runs
LEFT JOIN (SELECT agent, boot, sum(count)::bigint AS duplicates FROM pingeon.duplicate GROUP BY agent, boot) AS again
    USING (agent, boot);

-- A consumer inserts, reads the uids that it inserted, and calls these.
GRANT USAGE ON SCHEMA pingeon TO pingeon_writer, pingeon_reader;
GRANT INSERT, SELECT (uid) ON pingeon.log TO pingeon_writer;
GRANT INSERT (origin, reason, sqlstate, agent, boot, seq, bytes) ON pingeon.rejected TO pingeon_writer;
GRANT EXECUTE ON FUNCTION pingeon.schema_version, pingeon.make_days, pingeon.drop_day, pingeon.delete_past, pingeon.sum_day,
    pingeon.condition, pingeon.add_hours, pingeon.add_duplicates TO pingeon_writer;
GRANT SELECT ON pingeon.log, pingeon.hour, pingeon.day, pingeon.summed, pingeon.rejected, pingeon.duplicate, pingeon.stretch,
    pingeon.missing, pingeon.delivery TO pingeon_reader;
GRANT EXECUTE ON FUNCTION pingeon.uid_floor, pingeon.uid_time, pingeon.latencies, pingeon.days, pingeon.condition, pingeon.schema_version
    TO pingeon_reader;
RESET ROLE;
