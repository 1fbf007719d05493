//! What each role may do, and that it may do nothing else.

use postgres::error::SqlState;
use postgres::{Client, NoTls};

use crate::server::{Database, Login, ours, shared, unique};

const WRITER: &str = "pingeon_writer";
const READER: &str = "pingeon_reader";

/// A store with today's partition and some rows everywhere.
fn store(about: &str) -> Database {
    let database = shared().database(about).migrated();
    let sql =
        format!("SELECT pingeon.make_days(ARRAY[(now() AT TIME ZONE 'UTC')::date], '1 day'); {LOG}; {REJECT}; {HOUR}");
    database.connect(WRITER).batch_execute(&sql).unwrap();
    database
}

const LOG: &str = "INSERT INTO pingeon.log (uid, agent, boot, seq, label, kind, target, due_at, interval_ms, verdict, result)
    SELECT (lpad(to_hex(floor(extract(epoch FROM now()) * 1000)::bigint), 12, '0') || '7000800000000000' || to_hex(4096
        + (random() * 60000)::integer))::uuid,
        'edge-01', '01930000-0000-7000-8000-000000000001', 1, 'shop', 'http', 'https://shop.example.com', now(), 10000, 'up', '{}'
    ON CONFLICT (uid) DO NOTHING RETURNING uid";
const REJECT: &str =
    "INSERT INTO pingeon.rejected (origin, reason, bytes) VALUES ('logs/0@1', 'no log', 'x') ON CONFLICT DO NOTHING";
const HOUR: &str =
    "SELECT pingeon.add_hours(ARRAY['shop'], ARRAY['edge-01'], ARRAY[date_trunc('hour', now())], '{1}', '{1}', '{1}',
    '{1}', '{1}', '{1}', '{1}', '{1}', '{1}')";

/// `statements` that the role may not run; each in a transaction of its own, which comes to nothing. `today` is what the name of
/// today's partition ends in.
fn refused(database: &Database, role: &str, statements: &[&str]) {
    let mut client = database.connect(role);
    let today: String = client.query_one("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')", &[]).unwrap().get(0);
    let mut allowed = Vec::new();
    for statement in statements {
        let mut transaction = client.transaction().unwrap();
        match transaction.batch_execute(&statement.replace("{today}", &today)) {
            Ok(()) => allowed.push(format!("{statement}: done")),
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {}
            Err(error) => allowed.push(format!("{statement}: {error:?}")),
        }
    }
    assert!(allowed.is_empty(), "{role}:\n{}", allowed.join("\n"));
}

/// What nobody may do but the owner.
const REFUSED_TO_ALL: &[&str] = &[
    // To make or change things, here and in other schemas.
    "CREATE TABLE pingeon.mine (n int)",
    "CREATE TABLE public.mine (n int)",
    "CREATE SCHEMA mine",
    "CREATE TEMP TABLE mine (n int)",
    "SELECT 1 AS n INTO TEMP mine",
    "CREATE FUNCTION pingeon.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OR REPLACE FUNCTION pingeon.schema_version() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "ALTER FUNCTION pingeon.drop_day(interval) RESET ALL",
    "CREATE VIEW public.mine AS SELECT 1",
    "ALTER TABLE pingeon.log ADD COLUMN mine int",
    "ALTER TABLE pingeon.log DETACH PARTITION pingeon.log_p{today}",
    "DROP TABLE pingeon.log",
    "DROP TABLE pingeon.log_p{today}",
    "DROP SCHEMA pingeon CASCADE",
    "CREATE INDEX ON pingeon.log (agent)",
    "CREATE TRIGGER mine BEFORE INSERT ON pingeon.log FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE ROLE mine",
    "COMMENT ON TABLE pingeon.log IS 'mine'",
    "GRANT SELECT ON pingeon.setting TO PUBLIC",
    "ALTER DEFAULT PRIVILEGES FOR ROLE pingeon_owner GRANT ALL ON TABLES TO PUBLIC",
    "TRUNCATE pingeon.log",
    "TRUNCATE pingeon.log_p{today}",
    "LOCK TABLE pingeon.hour IN ACCESS EXCLUSIVE MODE",
    // To be somebody else.
    "SET ROLE pingeon_owner",
    "SET SESSION AUTHORIZATION postgres",
    "GRANT pingeon_owner TO CURRENT_USER",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    // To delete or change what is there.
    "DELETE FROM pingeon.log",
    "DELETE FROM pingeon.rejected",
    "DELETE FROM pingeon.hour",
    "DELETE FROM pingeon.day",
    "DELETE FROM pingeon.summed",
    "LOCK TABLE pingeon.summed IN ROW EXCLUSIVE MODE",
    "UPDATE pingeon.log SET verdict = 'up'",
    "UPDATE pingeon.log SET uid = uid",
    "UPDATE pingeon.log_p{today} SET verdict = 'up'",
    "UPDATE pingeon.hour SET up = 0",
    "UPDATE pingeon.day SET up = 0",
    "UPDATE pingeon.setting SET value = '1 day'",
    "INSERT INTO pingeon.setting VALUES ('mine', '1')",
    "INSERT INTO pingeon.migration VALUES (9, 'mine', 'x')",
    "INSERT INTO pingeon.hour DEFAULT VALUES",
    "INSERT INTO pingeon.day DEFAULT VALUES",
    "INSERT INTO pingeon.summed VALUES (now())",
    "INSERT INTO pingeon.duplicate DEFAULT VALUES",
    "INSERT INTO pingeon.log_p{today} DEFAULT VALUES",
    "INSERT INTO pingeon.rejected (at, origin, reason, bytes) VALUES (now(), 'a', 'b', 'c')",
    // To read what only the owner knows.
    "SELECT * FROM pingeon.setting",
    "SELECT * FROM pingeon.migration",
    "SELECT pingeon.retention('1 day')",
    // To leave the database.
    "COPY (SELECT 1) TO '/tmp/mine'",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT lo_import('/etc/passwd')",
];

#[test]
fn the_writer_inserts_reads_uids_and_calls_its_functions() {
    let database = store("writer");
    let mut client = database.connect(WRITER);
    for statement in [
        LOG,
        REJECT,
        HOUR,
        "SELECT uid FROM pingeon.log",
        "SELECT pingeon.schema_version()",
        "SELECT pingeon.make_days(ARRAY[current_date, current_date + 7], '90 days')",
        "SELECT pingeon.drop_day('90 days')",
        "SELECT pingeon.delete_past('90 days')",
        "SELECT pingeon.sum_day('90 days')",
        "SELECT * FROM pingeon.condition()",
        "SELECT pingeon.add_duplicates(ARRAY['edge-01'], ARRAY['01930000-0000-7000-8000-000000000001'::uuid], '{3}')",
    ] {
        client.batch_execute(statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}

#[test]
fn the_writer_may_do_nothing_else() {
    let database = store("nothing_else");
    let mut client = database.superuser();
    client
        .batch_execute(
            "SELECT pingeon.add_duplicates(ARRAY['a'], ARRAY['01930000-0000-7000-8000-000000000001'::uuid], '{3}')",
        )
        .unwrap();
    refused(&database, WRITER, REFUSED_TO_ALL);
    refused(
        &database,
        WRITER,
        &[
            "SELECT result FROM pingeon.log",
            "SELECT agent FROM pingeon.log",
            "SELECT count(label) FROM pingeon.log",
            "SELECT * FROM pingeon.log",
            "SELECT uid FROM pingeon.log_p{today}",
            "SELECT l FROM pingeon.log AS l",
            "SELECT * FROM pingeon.hour",
            "SELECT * FROM pingeon.day",
            "SELECT * FROM pingeon.summed",
            "SELECT * FROM pingeon.rejected",
            "SELECT bytes FROM pingeon.rejected",
            "SELECT * FROM pingeon.duplicate",
            "SELECT * FROM pingeon.delivery",
            "SELECT * FROM pingeon.missing",
            "SELECT * FROM pingeon.stretch",
            "COPY pingeon.log TO STDOUT",
            "INSERT INTO pingeon.log SELECT * FROM pingeon.log",
            "INSERT INTO pingeon.log (uid) VALUES ('01930000-0000-7000-8000-000000000001') ON CONFLICT (uid) DO UPDATE SET agent = 'x'",
            "INSERT INTO pingeon.log (uid) VALUES ('01930000-0000-7000-8000-000000000001') RETURNING agent",
            "SELECT pingeon.uid_floor(now())",
            "SELECT pingeon.uid_time('01930000-0000-7000-8000-000000000001')",
            "SELECT pingeon.days()",
        ],
    );
}

#[test]
fn the_writer_takes_nothing_away_from_sums() {
    let database = store("writer_sums");
    let mut client = database.connect(WRITER);
    for (numbers, hour) in [
        ("'{-1}', '{0}', '{0}', '{0}', '{0}', '{0}', '{0}', '{0}', '{0}'", "now()"),
        ("'{0}', '{0}', '{0}', '{0}', '{0}', '{0}', '{0}', '{-1}', '{0}'", "now()"),
        ("'{0}', '{0}', '{0}', '{0}', '{0}', '{0}', '{0}', '{0}', '{-1}'", "now()"),
        ("'{0}', '{0}', '{0}', '{0}', '{0}', '{0}', '{0}', '{0}', '{0}'", "timestamptz 'infinity'"),
    ] {
        let sql = format!("SELECT pingeon.add_hours('{{shop}}', '{{edge-01}}', ARRAY[{hour}], {numbers})");
        let refused = client.batch_execute(&sql).unwrap_err();
        assert_eq!(refused.code(), Some(&SqlState::INVALID_PARAMETER_VALUE), "{sql}");
    }
    let fewer =
        "SELECT pingeon.add_duplicates('{edge-01}', ARRAY['0193a5c0-0000-7000-8000-000000000001'::uuid], '{-7}')";
    client.batch_execute(fewer).unwrap();
    let duplicates = "SELECT count(*) FROM pingeon.duplicate";
    assert_eq!(database.superuser().query_one(duplicates, &[]).unwrap().get::<_, i64>(0), 0);
}

#[test]
fn the_writer_makes_no_days_that_are_not_needed() {
    let database = store("writer_days");
    let mut client = database.connect(WRITER);
    let without_end =
        "SELECT pingeon.make_days(ARRAY(SELECT current_date - n FROM generate_series(1, 63) n), '1000 days')";
    let refused = client.query_one(without_end, &[]).unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::INVALID_PARAMETER_VALUE));
    let today = client.query_one("SELECT pingeon.make_days(ARRAY[(now() AT TIME ZONE 'UTC')::date], '1 day')", &[]);
    assert!(today.unwrap().get::<_, i32>(0) <= 1);
    for (days, kept) in [
        ("current_date - 100", "1 day"),
        ("date '1970-01-01'", "1000000 days"),
        ("(now() AT TIME ZONE 'UTC')::date, current_date + 30", "1 day"),
        ("date 'infinity', date '-infinity'", "1 day"),
        ("NULL::date", "1 day"),
    ] {
        let sql = format!("SELECT pingeon.make_days(ARRAY[{days}], '{kept}')");
        assert_eq!(client.query_one(&sql, &[]).unwrap().get::<_, i32>(0), 0, "{days}");
    }
}

#[test]
fn the_reader_reads_and_does_nothing_else() {
    let database = store("reader");
    let mut client = database.connect(READER);
    for statement in [
        "SELECT * FROM pingeon.log",
        "SELECT * FROM pingeon.hour",
        "SELECT * FROM pingeon.day",
        "SELECT * FROM pingeon.summed",
        "SELECT * FROM pingeon.rejected",
        "SELECT * FROM pingeon.duplicate",
        "SELECT * FROM pingeon.stretch",
        "SELECT * FROM pingeon.missing",
        "SELECT * FROM pingeon.delivery",
        "SELECT * FROM pingeon.condition()",
        "SELECT pingeon.days(), pingeon.schema_version(), pingeon.uid_floor(now())",
        "SELECT pingeon.uid_time(uid) FROM pingeon.log",
    ] {
        client.batch_execute(statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
    refused(&database, READER, REFUSED_TO_ALL);
    refused(&database, READER, &[LOG, REJECT, HOUR]);
    refused(
        &database,
        READER,
        &[
            "SELECT pingeon.make_days(ARRAY[current_date + 1], '1 day')",
            "SELECT pingeon.drop_day('1 day')",
            "SELECT pingeon.delete_past('1 day')",
            "SELECT pingeon.sum_day('1 day')",
            "SELECT pingeon.add_duplicates('{}', '{}', '{}')",
        ],
    );
}

#[test]
fn others_may_do_nothing() {
    let database = store("others");
    let role = unique("stranger");
    database.superuser().batch_execute(&format!("CREATE ROLE {role} LOGIN")).unwrap();
    refused(&database, &role, REFUSED_TO_ALL);
    // Nor where they were let into the schema.
    database.superuser().batch_execute(&format!("GRANT USAGE ON SCHEMA pingeon TO {role}")).unwrap();
    let of_functions =
        "SELECT format('%s(%s)', p.oid::regproc, array_to_string(ARRAY(SELECT '(SELECT NULL::' || t::regtype || ')'
        FROM unnest(proargtypes) t), ', ')) FROM pg_proc p WHERE pronamespace = 'pingeon'::regnamespace";
    let rows = database.superuser().query(of_functions, &[]).unwrap();
    let calls: Vec<String> = rows.iter().map(|row| format!("SELECT {}", row.get::<_, String>(0))).collect();
    assert!(calls.len() > 10, "{calls:?}");
    refused(&database, &role, &calls.iter().map(String::as_str).collect::<Vec<_>>());
    database.superuser().batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
}

/// Puts functions and operators where the search path of a session leads first, and sees whether a function that runs as the owner
/// takes them.
#[test]
fn a_search_path_leads_no_function_astray() {
    let database = store("search_path");
    let mut superuser = database.superuser();
    let trap = "CREATE SCHEMA trap; CREATE TABLE trap.sprung (by text); GRANT USAGE ON SCHEMA trap TO PUBLIC;
        GRANT INSERT ON trap.sprung TO PUBLIC;
        CREATE FUNCTION trap.now() RETURNS timestamptz LANGUAGE sql
            AS $$INSERT INTO trap.sprung VALUES (current_user); SELECT pg_catalog.now()$$;
        CREATE FUNCTION trap.hashtext(text) RETURNS integer LANGUAGE sql
            AS $$INSERT INTO trap.sprung VALUES (current_user); SELECT 1$$;
        CREATE FUNCTION trap.to_char(timestamp, text) RETURNS text LANGUAGE sql
            AS $$INSERT INTO trap.sprung VALUES (current_user); SELECT '20200101'$$;
        CREATE FUNCTION trap.less(date, date) RETURNS boolean LANGUAGE sql
            AS $$INSERT INTO trap.sprung VALUES (current_user); SELECT true$$;
        CREATE OPERATOR trap.< (leftarg = date, rightarg = date, function = trap.less)";
    superuser.batch_execute(trap).unwrap();
    let mut client = database.connect(WRITER);
    client.batch_execute("SET search_path = trap, pg_catalog").unwrap();
    client.batch_execute("SELECT now()").unwrap();
    let sprung = |superuser: &mut Client| -> Vec<String> {
        superuser.query("SELECT by FROM trap.sprung", &[]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(sprung(&mut superuser), [WRITER], "the trap does not work at all");
    for call in [
        "pingeon.schema_version()",
        "pingeon.make_days(ARRAY[current_date + 2], '1 day')",
        "pingeon.drop_day('1 day')",
        "pingeon.delete_past('1 day')",
        "pingeon.sum_day('1 day')",
        "pingeon.condition()",
        "pingeon.add_duplicates(ARRAY['a'], ARRAY['01930000-0000-7000-8000-000000000001'::uuid], '{3}')",
    ] {
        client.batch_execute(&format!("SELECT {call}")).unwrap_or_else(|error| panic!("{call}: {error:?}"));
    }
    client.batch_execute(&HOUR.replace("now()", "current_timestamp")).unwrap();
    assert_eq!(sprung(&mut superuser), [WRITER]);
    // And each that runs as the owner says itself where it looks.
    let open = "SELECT proname::text FROM pg_proc WHERE pronamespace = 'pingeon'::regnamespace AND prosecdef
        AND NOT coalesce(proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp']";
    assert!(superuser.query(open, &[]).unwrap().is_empty());
}

#[test]
fn a_writer_that_hangs_holds_nobody_up_for_long() {
    let database = store("hangs");
    let mut client = database.connect(WRITER);
    for (name, value) in
        [("statement_timeout", "1min"), ("lock_timeout", "30s"), ("idle_in_transaction_session_timeout", "1min")]
    {
        let row = client.query_one(&format!("SELECT current_setting('{name}')"), &[]).unwrap();
        assert_eq!(row.get::<_, String>(0), value, "{name}");
    }
}

/// As up to version 14, or where a database came from there.
#[test]
fn a_schema_that_was_open_to_all_is_closed() {
    let database = ours().database("open");
    database.superuser().batch_execute("GRANT CREATE ON SCHEMA public TO PUBLIC").unwrap();
    let database = database.migrated();
    refused(&database, WRITER, &["CREATE TABLE public.mine (n int)"]);
    let other = ours().role("other", Login::Scram("x"));
    let mut config = database.config(&other);
    let mut client = config.password("x").connect(NoTls).unwrap();
    let refused = client.batch_execute("CREATE TEMP TABLE mine (n int)").unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
}
