//! `pingeon migrate`: each migration once, all or nothing, by whom it may be run, and what is refused.

use std::fs;
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread;

use pingeon::clock::SystemClock;
use pingeon::config::Postgres;
use pingeon::flow::{Batch, Fault, Sink as _, Unreadable};
use pingeon::store::postgres::{self as store, schema};
use postgres::Client;

use crate::running::{Place, wait_for};
use crate::server::{Database, Login, Server, ours, shared, unique};

const SUPERUSER: &str = "postgres";

/// What a role or a schema has, by what `what` selects.
fn texts(client: &mut Client, what: &str) -> Vec<String> {
    client.query(what, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

fn applied(database: &Database) -> Vec<String> {
    texts(&mut database.superuser(), "SELECT version || ' ' || name FROM pingeon.migration ORDER BY version")
}

/// The schema as far as it can be told apart: relations with their columns and rights, constraints, indexes, functions.
fn picture(database: &Database) -> Vec<String> {
    texts(
        &mut database.superuser(),
        "SELECT concat_ws(' ', 'column', c.oid::regclass, attname, atttypid::regtype, attnotnull, relacl::text, attacl::text)
            FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid WHERE relnamespace = 'pingeon'::regnamespace
         UNION ALL SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'pingeon'::regnamespace
         UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'pingeon'
         UNION ALL SELECT pg_get_functiondef(oid) || proacl::text FROM pg_proc WHERE pronamespace = 'pingeon'::regnamespace
         UNION ALL SELECT 'migration ' || name || checksum FROM pingeon.migration
         UNION ALL SELECT name || value FROM pingeon.setting
         UNION ALL SELECT array_to_string(setconfig, ' ') FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase
            WHERE datname = current_database()
         ORDER BY 1",
    )
}

/// `pingeon migrate` with a config whose store is `database`, as its writer.
fn pingeon_migrate(database: &Database, retention: &str, arguments: &[&str]) -> Output {
    let url = database.url("pingeon_writer");
    let place = Place::with(&format!("store: {{postgres: {{url: \"{url}\", retention: {retention}}}}}\n"));
    fs::write(place.path().join("password"), "Tauben\n").unwrap();
    place.pingeon(&[&["migrate"], arguments].concat())
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn migrate(settings: &Postgres) -> Result<usize, String> {
    store::migrate(settings, Some(settings.retention))
}

#[test]
fn each_migration_is_applied_once() {
    let database = shared().database("once");
    assert_eq!(migrate(&database.settings(SUPERUSER)), Ok(1));
    assert_eq!(applied(&database), ["1 001_log.sql"]);
    assert_eq!(migrate(&database.settings(SUPERUSER)), Ok(0));
    assert_eq!(applied(&database), ["1 001_log.sql"]);
}

#[test]
fn what_is_printed_makes_the_same_schema_in_psql() {
    let (ours, by_hand) = (shared().database("ours").migrated(), shared().database("by_hand"));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), schema(Some(by_hand.settings(SUPERUSER).retention))).unwrap();
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &by_hand.url(SUPERUSER), "-f"]).arg(file.path());
    let output = psql.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((output.stdout, output.stderr), (Vec::new(), Vec::new()));
    assert_eq!(picture(&by_hand), picture(&ours));
    assert_eq!(migrate(&by_hand.settings(SUPERUSER)), Ok(0));
}

#[test]
fn the_command_prints_and_applies_as_whom_it_is_told() {
    let database = ours().database("command");
    let sql = printed(&pingeon_migrate(&database, "10d", &["--print"]));
    assert!(sql.contains("CREATE TABLE pingeon.log") && sql.contains("'864000 seconds'"), "{sql}");

    let refused = complaint(&pingeon_migrate(&database, "10d", &[]));
    assert!(refused.contains("--url") || refused.contains("pingeon_writer"), "{refused}");

    let role = ours().role("migrator", Login::Scram("Tauben"));
    let superuser = format!("ALTER ROLE {role} SUPERUSER");
    database.superuser().batch_execute(&superuser).unwrap();
    let url = database.url(&role);
    let done = pingeon_migrate(&database, "10d", &["--url", &url, "--password-file", "password"]);
    assert_eq!(printed(&done), "the store's schema is up to date by 1 migration that it lacked\n");

    let retention = "SELECT (value::interval)::text FROM pingeon.setting WHERE name = 'retention'";
    let kept = |database: &Database| {
        let mut client = database.superuser();
        client.batch_execute("SET intervalstyle = 'postgres'").unwrap();
        texts(&mut client, retention)
    };
    assert_eq!(kept(&database), ["240:00:00"]);
    let again = printed(&pingeon_migrate(&database, "2d", &["--url", &database.url(SUPERUSER)]));
    assert_eq!(again, "the store's schema is up to date, and was before\n");
    assert_eq!(kept(&database), ["48:00:00"]);
}

/// As on the machine of who owns the database, where neither the agents' secrets nor their checks are.
#[test]
fn what_is_printed_or_reached_by_a_url_needs_no_whole_config() {
    let database = ours().database("by_url");
    let postgres =
        "{url: postgresql://pingeon_writer@db.example.com/pingeon, password_file: secrets/none, retention: 10d}";
    let place = Place::with(&format!("store: {{postgres: {postgres}}}\nchecks: [{{label: shop, http: nowhere}}]\n"));
    let url = database.url(SUPERUSER);
    let said = |arguments: &[&str]| {
        let output = place.pingeon(arguments);
        (printed(&output), String::from_utf8(output.stderr).unwrap())
    };
    let (sql, complaint) = said(&["migrate", "--print"]);
    assert!(sql.contains("'864000 seconds'") && complaint.is_empty(), "{sql}{complaint}");
    let done = "the store's schema is up to date by 1 migration that it lacked\n";
    assert_eq!(said(&["migrate", "--url", &url]), (done.to_owned(), String::new()));
    let retention =
        "SELECT extract(epoch FROM value::interval)::bigint::text FROM pingeon.setting WHERE name = 'retention'";
    assert_eq!(texts(&mut database.superuser(), retention), ["864000"]);
    let (audit, complaint) = said(&["report", "--delivery", "--url", &url]);
    assert!(audit.contains("there is nothing to audit") && complaint.is_empty(), "{audit}{complaint}");
    let (_, complaint) = said(&["report", "--url", &url, "-c", "pingeon.yaml"]);
    insta::assert_snapshot!(complaint, @"warning: goes on without the config: pingeon.yaml:2:30: checks[0].http: `nowhere` is not a URL");

    fs::remove_file(place.path().join("pingeon.yaml")).unwrap();
    assert!(!said(&["migrate", "--print"]).0.contains("UPDATE pingeon.setting"));
    assert_eq!(said(&["migrate", "--url", &url]).0, "the store's schema is up to date, and was before\n");
    assert_eq!(texts(&mut database.superuser(), retention), ["864000"], "nothing was said of it");
    assert_eq!(said(&["report", "--url", &url]).1, "");
    // Another store counts only where both were named; a key that is not known is no retention.
    fs::write(place.path().join("pingeon.yaml"), "checks: []\n").unwrap();
    assert_eq!(said(&["report", "--url", &url]).1, "");
    let misspelt = "checks: []\nstore: {postgres: {url: postgresql://db.example.com/pingeon, retenton: 10d}}\n";
    fs::write(place.path().join("misspelt.yaml"), misspelt).unwrap();
    let refused = place.pingeon(&["migrate", "--url", &url, "-c", "misspelt.yaml"]);
    insta::assert_snapshot!(String::from_utf8(refused.stderr).unwrap(), @"
    error: misspelt.yaml:2:62: store.postgres: unknown key `retenton`
    hint: did you mean `retention`?
    ");
    fs::remove_file(place.path().join("pingeon.yaml")).unwrap();
    // One that was named is wanted.
    for command in [&["migrate", "--print"][..], &["migrate", "--url", &url], &["report", "--url", &url]] {
        let output = place.pingeon(&[command, &["-c", "pingeon.yaml"]].concat());
        assert_eq!(output.status.code(), Some(2), "{command:?}");
    }
}

#[test]
fn an_owner_of_the_database_who_may_create_roles_is_enough() {
    let server = Server::alone();
    let mut superuser = server.superuser();
    superuser.batch_execute("CREATE ROLE dba LOGIN CREATEROLE; CREATE ROLE nobody LOGIN CREATEROLE").unwrap();
    let database = server.database("owned");
    superuser.batch_execute(&format!("ALTER DATABASE {} OWNER TO dba", database.name())).unwrap();

    let refused = migrate(&database.settings("nobody")).unwrap_err();
    insta::assert_snapshot!(refused.replace(database.name(), "pingeon"), @"000_migration.sql: permission denied for database pingeon (SQLSTATE 42501): name a superuser, or an owner of the database who may create roles, with `--url`");
    assert_eq!(migrate(&database.settings("dba")), Ok(1));
    assert_eq!(migrate(&database.settings("dba")), Ok(0));

    let by_superuser = server.database("by_superuser").migrated();
    assert_eq!(picture(&database), picture(&by_superuser));
}

#[test]
fn an_edited_migration_is_refused() {
    let database = shared().database("edited").migrated();
    let before = picture(&database);
    database.superuser().batch_execute("UPDATE pingeon.migration SET checksum = 'another'").unwrap();
    insta::assert_snapshot!(migrate(&database.settings(SUPERUSER)).unwrap_err(), @"`sql/postgres/001_log.sql` was edited after it was applied to this store as migration 1: use a build that has it as it was, and put the change into a new file");
    let other = picture(&database).iter().filter(|line| !before.contains(line)).count();
    assert_eq!(other, 1, "more than the checksum is different");
}

#[test]
fn a_newer_schema_is_refused_by_all() {
    let database = shared().database("newer").migrated();
    let newer = "INSERT INTO pingeon.migration (version, name, checksum) VALUES (2, '002_later.sql', 'x')";
    database.superuser().batch_execute(newer).unwrap();
    let refused = migrate(&database.settings(SUPERUSER)).unwrap_err();
    insta::assert_snapshot!(refused, @"the store's schema is version 2, made by a newer Pingeon, and this build knows up to 1: upgrade Pingeon here, too");
    let mut sink = store::Postgres::new(&database.settings("pingeon_writer"), Arc::new(SystemClock));
    let unreadable = Unreadable { bytes: b"?".to_vec(), origin: "logs[0]@1".to_owned(), reason: "no log".to_owned() };
    let fault = sink.deliver(&Batch { unreadable: vec![unreadable], ..Batch::default() }).unwrap_err();
    assert_eq!(fault, Fault::Broken(refused));
}

#[test]
fn a_store_that_knows_of_no_migration_is_refused() {
    let database = shared().database("emptied").migrated();
    database.superuser().batch_execute("DELETE FROM pingeon.migration").unwrap();
    let refused = store::Archive::open(&database.settings(SUPERUSER)).unwrap_err();
    assert!(refused.contains("is version 0 and this build needs 1: run `pingeon migrate`"), "{refused}");
}

#[test]
fn a_failure_half_way_changes_nothing() {
    let database = shared().database("half_way");
    // Where the migration makes a function, late, one is in the way.
    let in_the_way =
        "CREATE SCHEMA pingeon; CREATE FUNCTION pingeon.add_duplicates(text[], uuid[], bigint[]) RETURNS void
        LANGUAGE sql AS 'SELECT'; GRANT CREATE, USAGE ON SCHEMA pingeon TO PUBLIC";
    database.superuser().batch_execute(in_the_way).unwrap();
    let refused = migrate(&database.settings(SUPERUSER)).unwrap_err();
    assert!(refused.starts_with("001_log.sql: function \"add_duplicates\" already exists"), "{refused}");
    let left = "SELECT relname::text FROM pg_class WHERE relnamespace = 'pingeon'::regnamespace";
    assert_eq!(texts(&mut database.superuser(), left), Vec::<String>::new());
    database.superuser().batch_execute("DROP SCHEMA pingeon CASCADE").unwrap();
    assert_eq!(migrate(&database.settings(SUPERUSER)), Ok(1));
}

#[test]
fn of_two_at_once_one_waits() {
    let database = shared().database("two");
    let mut first = database.superuser();
    let mut under_way = first.transaction().unwrap();
    under_way.batch_execute("SELECT pg_advisory_xact_lock(hashtext('pingeon'), hashtext('migration'))").unwrap();
    thread::scope(|scope| {
        let run = || migrate(&database.settings(SUPERUSER)).unwrap();
        let both = [scope.spawn(run), scope.spawn(run)];
        let mut other = database.superuser();
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'";
        wait_for("both to wait", || (other.query_one(waiting, &[]).unwrap().get::<_, i64>(0) == 2).then_some(()));
        under_way.commit().unwrap();
        let mut files = both.map(|one| one.join().unwrap());
        files.sort_unstable();
        assert_eq!(files, [0, 1]);
    });
}

/// Roles belong to all databases of a server: another one's migration may make them at the same time.
#[test]
fn databases_of_one_server_are_migrated_at_once() {
    let server = Server::alone();
    for role in ["pingeon_owner NOLOGIN", "pingeon_writer LOGIN", "pingeon_reader LOGIN"] {
        let (database, mut other) = (server.database("at_once"), server.superuser());
        let mut under_way = other.transaction().unwrap();
        under_way.batch_execute(&format!("CREATE ROLE {role}")).unwrap();
        thread::scope(|scope| {
            let migration = scope.spawn(|| migrate(&database.settings(SUPERUSER)));
            let mut looker = server.superuser();
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'transactionid'";
            let waits = |looker: &mut Client| looker.query_one(waiting, &[]).unwrap().get::<_, i64>(0) == 1;
            wait_for("the migration to wait for the role", || waits(&mut looker).then_some(()));
            under_way.commit().unwrap();
            assert_eq!(migration.join().unwrap(), Ok(1), "{role}");
        });
        let mut superuser = server.superuser();
        superuser.batch_execute(&format!("DROP DATABASE {}", database.name())).unwrap();
        superuser.batch_execute("DROP ROLE pingeon_owner, pingeon_writer, pingeon_reader").unwrap();
    }
}

#[test]
fn a_schema_that_others_may_write_to_misleads_nobody() {
    let database = shared().database("misled");
    let trap = unique("trap");
    let sql = format!(
        "CREATE TABLE public.{trap} (n int);
         CREATE FUNCTION public.hashtext(text) RETURNS integer LANGUAGE sql AS 'INSERT INTO public.{trap} VALUES (1); SELECT 1';
         CREATE FUNCTION public.to_regclass(text) RETURNS regclass LANGUAGE sql AS
            'INSERT INTO public.{trap} VALUES (2); SELECT NULL::regclass';
         ALTER DATABASE {} SET search_path = public, pg_catalog",
        database.name()
    );
    database.superuser().batch_execute(&sql).unwrap();
    assert_eq!(migrate(&database.settings(SUPERUSER)), Ok(1));
    let sprung = format!("SELECT count(*) FROM public.{trap}");
    assert_eq!(database.superuser().query_one(&sprung, &[]).unwrap().get::<_, i64>(0), 0);
}
