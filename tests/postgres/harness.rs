//! What the other tests stand on: the servers serve, let in whom they should, and come back.

use std::process::Command;

use postgres::NoTls;
use postgres::error::SqlState;

use crate::disk::SmallDisk;
use crate::pooler::Pooler;
use crate::server::{CERTIFIED, Database, Login, OTHER_HOST, Server, Stop, ours, shared};

fn number(database: &Database, role: &str) -> i32 {
    database.connect(role).query_one("SELECT 1", &[]).unwrap().get(0)
}

#[test]
fn each_test_has_a_database_of_its_own() {
    let (one, other) = (shared().database("one"), shared().database("other"));
    one.superuser().batch_execute("CREATE TABLE here (n int)").unwrap();
    let missing = other.superuser().batch_execute("SELECT n FROM here").unwrap_err();
    assert_eq!(missing.code(), Some(&SqlState::UNDEFINED_TABLE));
}

#[test]
fn a_role_has_to_show_what_it_was_made_for() {
    let database = ours().database("login");
    for login in [Login::Scram("Tauben' fliegen"), Login::Md5("heim"), Login::Cleartext("wieder")] {
        let (Login::Scram(password) | Login::Md5(password) | Login::Cleartext(password)) = login else { continue };
        let role = ours().role("role", login);
        let mut config = database.config(&role);
        assert!(config.clone().connect(NoTls).is_err(), "{login:?} without a password");
        assert!(config.clone().password("wrong").connect(NoTls).is_err(), "{login:?} with a wrong password");
        config.password(password).connect(NoTls).unwrap_or_else(|error| panic!("{login:?}: {error}"));
    }
    let role = ours().role("role", Login::Tls);
    let refused = database.config(&role).connect(NoTls).map(drop).unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION));
}

#[test]
fn the_certificates_are_what_libpq_takes_them_for() {
    let (server, database) = (ours(), ours().database("tls"));
    let files = format!(
        "sslrootcert={} sslcert={} sslkey={}",
        server.pki().ca().display(),
        server.pki().certificate(CERTIFIED).display(),
        server.pki().key(CERTIFIED).display()
    );
    let come_in = |host: &str, mode: &str| {
        let way = format!("host={host} port={} dbname={} user={CERTIFIED}", server.port(), database.name());
        let mut psql = Command::new("psql");
        psql.args(["-At", "-c", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"]);
        let output = psql.arg(format!("{way} sslmode={mode} {files}")).output().unwrap();
        String::from_utf8(if output.status.success() { output.stdout } else { output.stderr }).unwrap()
    };
    assert_eq!(come_in("127.0.0.1", "verify-full"), "t\n");
    assert_eq!(come_in(OTHER_HOST, "verify-ca"), "t\n");
    let other = come_in(OTHER_HOST, "verify-full");
    assert!(other.contains("does not match host name"), "{other}");
    let open = come_in("127.0.0.1", "disable");
    assert!(open.contains("pg_hba.conf rejects connection"), "{open}");
}

#[test]
fn a_database_has_the_schema_of_this_build() {
    let database = shared().database("schema").migrated();
    let own = database.superuser().query_one("SELECT pingeon.schema_version()", &[]).unwrap().get::<_, i32>(0);
    let found = postgres::Client::connect(&database.url("pingeon_writer"), NoTls)
        .and_then(|mut client| client.query_one("SELECT pingeon.schema_version()", &[]))
        .map(|row| row.get::<_, i32>(0));
    assert_eq!(found.unwrap(), own);
}

#[test]
fn a_server_comes_back_as_after_a_crash() {
    let mut server = Server::alone();
    let database = server.database("crash");
    let mut before = database.superuser();
    before.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)").unwrap();
    server.restart_immediate();
    server.stop(Stop::Fast);
    server.start();
    assert!(before.batch_execute("SELECT 1").is_err(), "the connection outlived its server");
    let kept: i64 = database.superuser().query_one("SELECT count(*) FROM kept", &[]).unwrap().get(0);
    assert_eq!(kept, 1);
}

#[test]
fn a_pooler_shares_connections() {
    let database = ours().database("pooled");
    let role = "postgres";
    assert_eq!(number(&database, role), 1);
    let pooler = Pooler::start(ours(), &[role]);
    let mut clients: Vec<_> =
        (0..5).map(|_| postgres::Client::connect(&pooler.url(&database, role), NoTls).unwrap()).collect();
    let mut backends: Vec<i32> = Vec::new();
    for client in &mut clients {
        let rows = client.simple_query("SELECT pg_backend_pid()").unwrap();
        let pid = rows.iter().find_map(|message| match message {
            postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        backends.push(pid.unwrap().parse().unwrap());
    }
    backends.sort_unstable();
    backends.dedup();
    assert!(backends.len() < clients.len(), "{backends:?}");
}

#[test]
fn a_small_disk_is_filled_and_emptied() {
    let disk = SmallDisk::start(64);
    let mut client = disk.database("full").superuser();
    client.batch_execute("CREATE TABLE here (filler text)").unwrap();
    let insert = "INSERT INTO here SELECT repeat('x', 1000) FROM generate_series(1, 1000)";
    client.batch_execute(insert).unwrap();
    disk.fill();
    let full = client.batch_execute(insert).unwrap_err();
    assert_eq!(full.code(), Some(&SqlState::DISK_FULL));
    disk.empty();
    client.batch_execute(insert).unwrap();
}
