//! How the store is reached: each `sslmode` against each kind of server, held against what libpq does; who is let in; what is
//! said when nobody is; and poolers that know nothing of named statements.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pingeon::check::Verdict;
use pingeon::clock::{Clock as _, SystemClock};
use pingeon::config::{self, Prepared};
use pingeon::flow::{Batch, Delivered, Fault, Sink as _};
use pingeon::logs::{Author, Log, VERSION};
use pingeon::net::Pem;
use pingeon::secret::Secret;
use pingeon::store::postgres::{Address, Files, Postgres};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use crate::pooler::Pooler;
use crate::servant::give;
use crate::server::{CERTIFIED, Database, Login, OTHER_HOST, Server, free_port, ours, unique};

const DAY: Duration = Duration::from_secs(86_400);

fn settings(url: &str, password: Option<&str>) -> config::Postgres {
    let pem = |name: &str| {
        let content = std::fs::read_to_string(name).map_err(|error| format!("{name}: {error}"))?;
        Ok(Pem { path: name.into(), content: Secret::new(content) })
    };
    let files = Files { certificates: &pem, key: &pem };
    config::Postgres {
        url: Address::parse(url, &files).map(Arc::new).unwrap_or_else(|unusable| panic!("{url}: {unusable:?}")),
        password: password.map(Secret::new),
        batch_max: 1_000,
        batch_wait: Duration::from_millis(100),
        connections: 1,
        prepared: Prepared::Auto,
        retention: 90 * DAY,
    }
}

fn sink(url: &str, password: Option<&str>) -> Postgres {
    Postgres::new(&settings(url, password), Arc::new(SystemClock))
}

fn sink_that_is(prepared: Prepared, url: &str) -> Postgres {
    Postgres::new(&config::Postgres { prepared, ..settings(url, None) }, Arc::new(SystemClock))
}

/// One log that nobody has yet.
fn batch() -> Batch {
    let now = SystemClock.now().wall;
    let author = Author::new("edge-01".into(), now);
    let log = Log {
        v: VERSION,
        uid: author.boot,
        agent: author.agent,
        boot: author.boot,
        seq: 1,
        label: "shop".into(),
        kind: "http".into(),
        target: "https://shop.example.com/health".into(),
        due_at: now,
        started_at: Some(now),
        ended_at: Some(now),
        duration_us: Some(51_234),
        interval_ms: 10_000,
        verdict: Verdict::Up,
        phase: None,
        reason: None,
        result: pingeon::logs::Object::default(),
        unknown_fields: serde_json::Map::new(),
    };
    Batch { logs: vec![log], ..Batch::default() }
}

const ONE: Delivered = Delivered { new: 1, duplicate: 0, refused: Vec::new(), rejected: 0 };

fn broken(fault: Fault) -> String {
    match fault {
        Fault::Broken(why) => why,
        Fault::Retry(why) => panic!("would be tried again: {why}"),
    }
}

fn tried_again(fault: Fault) -> String {
    match fault {
        Fault::Retry(why) => why,
        Fault::Broken(why) => panic!("is given up: {why}"),
    }
}

/// A role that may write into the store of `database`.
fn writer(server: &Server, database: &Database, login: Login<'_>) -> String {
    let role = server.role("writer", login);
    database.superuser().batch_execute(&format!("GRANT pingeon_writer TO {role}")).unwrap();
    role
}

fn stored(database: &Database) -> i64 {
    database.superuser().query_one("SELECT count(*) FROM pingeon.log", &[]).unwrap().get(0)
}

/// `url`, seen by another host's name for the same server, with these parameters.
fn at(url: &str, host: &str, parameters: &str) -> String {
    format!("{}?{parameters}", url.replace("127.0.0.1", host))
}

/// What came of an attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Plain,
    Secure,
    /// Refused, with this in the reason.
    Not(&'static str),
}
use End::{Not, Plain, Secure};

/// A server that has `ssl = off`, with a store.
fn plain_server() -> &'static (Server, Database) {
    static PLAIN: OnceLock<(Server, Database)> = OnceLock::new();
    PLAIN.get_or_init(|| {
        let server = Server::alone_with(&[("ssl", "off")]);
        let database = server.database("plain").migrated();
        (server, database)
    })
}

/// How our own connection ends.
fn end(url: &str, database: &Database) -> Result<End, String> {
    let name = unique("application");
    let mut sink = sink(&format!("{url}&application_name={name}"), None);
    match sink.deliver(&batch()) {
        Err(fault) => Err(broken(fault)),
        Ok(delivered) => {
            assert_eq!(delivered, ONE);
            let sql = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = $1";
            let secure: bool = database.superuser().query_one(sql, &[&name]).unwrap().get(0);
            Ok(if secure { Secure } else { Plain })
        }
    }
}

/// How libpq's ends.
fn end_of_libpq(url: &str) -> Option<End> {
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let psql = Command::new("psql").args(["-XAtw", "-c", sql, url]).env("HOME", "/nonexistent").output().unwrap();
    match String::from_utf8(psql.stdout).unwrap().trim() {
        "t" => Some(Secure),
        "f" => Some(Plain),
        _ => None,
    }
}

#[test]
fn every_sslmode_does_with_every_server_what_libpq_does() {
    let secure = ours();
    let database = secure.database("sslmode").migrated();
    let (_, plain) = plain_server();
    let stranger = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&stranger, rcgen::generate_simple_self_signed([]).unwrap().cert.pem()).unwrap();
    let ca = format!("sslrootcert={}", secure.pki().ca().display());
    let stranger = format!("sslrootcert={}", stranger.path().display());
    let by_tls = writer(secure, &database, Login::Tls);
    let urls = [database.url("pingeon_writer"), plain.url("pingeon_writer"), database.url(&by_tls)];
    let [url, url_plain, url_by_tls] = &urls;
    let not_offered = "does not offer TLS and sslmode is";
    let unknown =
        "the server's certificate is not trusted: certificate is signed by an unknown authority: CN=Pingeon tests";
    let other_name = "the server's certificate is not trusted: certificate is for localhost, 127.0.0.1, not 127.0.0.2";
    for (server, host, mode, root, expected) in [
        (url, "127.0.0.1", "disable", "", Plain),
        (url, "127.0.0.1", "allow", "", Plain),
        (url, "127.0.0.1", "prefer", "", Secure),
        (url, "127.0.0.1", "require", "", Secure),
        (url, "127.0.0.1", "require", &*ca, Secure),
        (url, "127.0.0.1", "verify-ca", &ca, Secure),
        (url, "127.0.0.1", "verify-full", &ca, Secure),
        (url, "localhost", "verify-full", &ca, Secure),
        // The name is wrong.
        (url, OTHER_HOST, "prefer", &ca, Secure),
        (url, OTHER_HOST, "require", &ca, Secure),
        (url, OTHER_HOST, "verify-ca", &ca, Secure),
        (url, OTHER_HOST, "verify-full", &ca, Not(other_name)),
        // The authority is unknown.
        (url, "127.0.0.1", "disable", &stranger, Plain),
        (url, "127.0.0.1", "allow", &stranger, Plain),
        (url, "127.0.0.1", "prefer", &stranger, Plain),
        (url, "127.0.0.1", "require", &stranger, Not(unknown)),
        (url, "127.0.0.1", "verify-ca", &stranger, Not(unknown)),
        (url, "127.0.0.1", "verify-full", &stranger, Not(unknown)),
        // The server has no TLS.
        (url_plain, "127.0.0.1", "disable", "", Plain),
        (url_plain, "127.0.0.1", "allow", "", Plain),
        (url_plain, "127.0.0.1", "prefer", "", Plain),
        (url_plain, "127.0.0.1", "prefer", &ca, Plain),
        (url_plain, "127.0.0.1", "require", "", Not(not_offered)),
        (url_plain, "127.0.0.1", "verify-ca", &ca, Not(not_offered)),
        (url_plain, "127.0.0.1", "verify-full", &ca, Not(not_offered)),
        // The server lets this role in by TLS only.
        (url_by_tls, "127.0.0.1", "disable", "", Not("pg_hba.conf")),
        (url_by_tls, "127.0.0.1", "allow", "", Secure),
        (url_by_tls, "127.0.0.1", "allow", &stranger, Not(unknown)),
        (url_by_tls, "127.0.0.1", "prefer", "", Secure),
        (url_by_tls, "127.0.0.1", "prefer", &stranger, Not(unknown)),
    ] {
        let database = if server == url_plain { plain } else { &database };
        meets(&at(server, host, &format!("sslmode={mode}&{root}")), database, expected);
    }
}

/// Holds our own connection and libpq's against what is expected of both.
fn meets(url: &str, database: &Database, expected: End) {
    let url = url.trim_end_matches('&');
    match (end(url, database), expected) {
        (Err(why), Not(reason)) => {
            assert!(why.contains(reason), "{url}: {why}");
            assert_eq!(end_of_libpq(url), None, "libpq, {url}");
        }
        (end, expected) => {
            assert_eq!(end, Ok(expected), "{url}");
            assert_eq!(end_of_libpq(url), Some(expected), "libpq, {url}");
        }
    }
}

/// As the manual's section "Creating Certificates" makes one: signed by itself, and an authority, too.
#[test]
fn a_certificate_that_no_authority_signed_is_trusted_by_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::new(["127.0.0.1".to_owned()]).unwrap());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap().pem();
    for (name, content) in [("server.crt", &certificate), ("server.key", &key.serialize_pem()), ("copy", &certificate)]
    {
        std::fs::write(path(name), content).unwrap();
        std::fs::set_permissions(path(name), Permissions::from_mode(0o600)).unwrap();
    }
    give(folder.path());
    let quoted = |name: &str| format!("'{}'", path(name).display());
    let (certificate, key) = (quoted("server.crt"), quoted("server.key"));
    let server = Server::alone_with(&[("ssl_cert_file", &certificate), ("ssl_key_file", &key)]);
    let database = server.database("selfsigned").migrated();
    let url = database.url("pingeon_writer");
    let root = format!("sslrootcert={}", path("copy").display());
    let other_name = "certificate is for 127.0.0.1, not localhost";
    for (host, mode, root, expected) in [
        ("127.0.0.1", "require", &*root, Secure),
        ("localhost", "verify-ca", &root, Secure),
        ("127.0.0.1", "verify-full", &root, Secure),
        ("localhost", "verify-full", &root, Not(other_name)),
        ("127.0.0.1", "verify-ca", "", Not("not trusted")),
    ] {
        meets(&at(&url, host, &format!("sslmode={mode}&{root}")), &database, expected);
    }
}

#[test]
fn the_system_s_authorities_are_trusted_where_no_other_is_named() {
    let database = ours().database("system").migrated();
    for parameters in ["sslmode=verify-ca", "sslmode=verify-full", "sslrootcert=system"] {
        let why = end(&at(&database.url("pingeon_writer"), "127.0.0.1", parameters), &database).unwrap_err();
        assert!(why.contains("not trusted") || why.contains("no CA certificates"), "{parameters}: {why}");
    }
}

#[test]
fn a_unix_socket_needs_no_tls() {
    let database = ours().database("socket").migrated();
    let (folder, port) = (ours().folder().display().to_string(), ours().port());
    for mode in ["prefer", "verify-full"] {
        let url = format!(
            "postgresql://pingeon_writer@{}:{port}/{}?sslmode={mode}",
            folder.replace('/', "%2F"),
            database.name()
        );
        assert_eq!(sink(&url, None).deliver(&batch()), Ok(ONE), "{url}");
    }
    let gone = format!("postgresql://pingeon_writer@/x?host=/nonexistent&port={port}");
    let why = tried_again(sink(&gone, None).deliver(&batch()).unwrap_err());
    assert_eq!(why, format!("Postgres at /nonexistent/.s.PGSQL.{port}: there is no such socket"));
}

#[test]
fn who_shows_what_the_server_wants_is_let_in() {
    let database = ours().database("login").migrated();
    for (login, password, bound) in [
        (Login::Scram("Tauben' fliegen"), "Tauben' fliegen", true),
        (Login::Md5("heim"), "heim", false),
        (Login::Cleartext("wieder"), "wieder", false),
    ] {
        let role = writer(ours(), &database, login);
        let url = |parameters: &str| at(&database.url(&role), "127.0.0.1", parameters);
        for mode in ["sslmode=disable", "sslmode=require", "sslmode=require&channel_binding=disable"] {
            assert_eq!(sink(&url(mode), Some(password)).deliver(&batch()), Ok(ONE), "{login:?} {mode}");
        }
        let result = sink(&url("sslmode=require&channel_binding=require"), Some(password)).deliver(&batch());
        match bound {
            true => assert_eq!(result, Ok(ONE), "{login:?}"),
            false => {
                let why = broken(result.unwrap_err());
                assert!(why.ends_with("the server does not bind to TLS and channel_binding is require"), "{why}");
            }
        }
        let why = broken(sink(&url(""), Some("wrong")).deliver(&batch()).unwrap_err());
        let said = format!("user \"{role}\" (SQLSTATE 28P01): does `password_file` hold the password of {role}?");
        assert!(why.ends_with(&said), "{why}");
        let why = broken(sink(&url(""), None).deliver(&batch()).unwrap_err());
        assert!(why.ends_with(&format!("a password is needed for {role}: give `password_file`")), "{why}");
    }
}

#[test]
fn a_certificate_lets_in_who_has_the_key() {
    let database = ours().database("certificate").migrated();
    database.superuser().batch_execute(&format!("GRANT pingeon_writer TO {CERTIFIED}")).unwrap();
    let url = |certificate: &Path, key: &Path| {
        let parameters = format!("sslmode=require&sslcert={}&sslkey={}", certificate.display(), key.display());
        at(&database.url(CERTIFIED), "127.0.0.1", &parameters)
    };
    let pki = ours().pki();
    assert_eq!(sink(&url(&pki.certificate(CERTIFIED), &pki.key(CERTIFIED)), None).deliver(&batch()), Ok(ONE));
    let without = at(&database.url(CERTIFIED), "127.0.0.1", "sslmode=require");
    let why = broken(sink(&without, None).deliver(&batch()).unwrap_err());
    assert!(why.contains("requires a valid client certificate"), "{why}");
    let (folder, strange) = (tempfile::tempdir().unwrap(), rcgen::generate_simple_self_signed([]).unwrap());
    let (certificate, key) = (folder.path().join("certificate"), folder.path().join("key"));
    std::fs::write(&certificate, strange.cert.pem()).unwrap();
    std::fs::write(&key, strange.signing_key.serialize_pem()).unwrap();
    let why = broken(sink(&url(&certificate, &key), None).deliver(&batch()).unwrap_err());
    assert!(
        why.ends_with("refused the TLS handshake (unknown_ca): does it trust the certificate in `sslcert`?"),
        "{why}"
    );
}

/// A server that accepts connections and says nothing.
fn mute() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[test]
fn the_first_host_that_serves_is_taken() {
    let database = ours().database("hosts").migrated();
    let (mute, gone) = (mute(), free_port());
    let silent = mute.local_addr().unwrap();
    let (port, name) = (ours().port(), database.name());
    let hosts = |hosts: &str| format!("postgresql://pingeon_writer@{hosts}/{name}?connect_timeout=1");
    let all = format!("127.0.0.1:{gone},no-such-host.invalid,{silent},localhost:{port}");
    assert_eq!(sink(&hosts(&all), None).deliver(&batch()), Ok(ONE));
    let none = format!("127.0.0.1:{gone},no-such-host.invalid,{silent}");
    let why = tried_again(sink(&hosts(&none), None).deliver(&batch()).unwrap_err());
    let expected =
        [format!("Postgres at 127.0.0.1:{gone}: connection refused"), format!("{silent} did not answer within 1 s")];
    assert!(expected.iter().all(|part| why.contains(part)), "{why}");
    assert!(why.contains("`no-such-host.invalid`"), "{why}");
    // Who is not wanted by one is not wanted by the others, and is not locked out there as well.
    let role = ours().role("hosts", Login::Scram("right"));
    let url = format!("postgresql://{role}@127.0.0.1:{port},localhost:{port}/{name}");
    let why = broken(sink(&url, Some("wrong")).deliver(&batch()).unwrap_err());
    assert!(why.contains("password authentication failed") && !why.contains("localhost"), "{why}");
}

#[test]
fn what_is_set_wrong_is_said_at_the_first_contact() {
    let (bare, database) = (ours().database("bare"), ours().database("wrong").migrated());
    let why = broken(sink(&bare.url("pingeon_writer"), None).deliver(&batch()).unwrap_err());
    assert!(why.ends_with("run `pingeon migrate`"), "{why}");
    let stranger = ours().role("stranger", Login::Scram("x"));
    let why = broken(sink(&database.url(&stranger), Some("x")).deliver(&batch()).unwrap_err());
    assert!(why.contains("SQLSTATE 42501") && why.contains("grants to `pingeon_writer`"), "{why}");
    let url = database.url("pingeon_writer").replace(database.name(), "elsewhere");
    let why = broken(sink(&url, None).deliver(&batch()).unwrap_err());
    assert!(why.ends_with("(SQLSTATE 3D000): create `elsewhere`, or name another database in `url`"), "{why}");
}

#[test]
fn what_goes_wrong_later_is_tried_until_it_is_put_right() {
    let database = ours().database("later").migrated();
    let role = writer(ours(), &database, Login::Scram("right"));
    let mut superuser = database.superuser();
    let mut part = |sql: String| {
        superuser.batch_execute(&sql).unwrap();
        // A new session for the sink, in which that counts.
        let ended = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = $1";
        superuser.query(ended, &[&role]).unwrap();
    };
    let mut sink = sink(&database.url(&role), Some("right"));
    assert_eq!(sink.deliver(&batch()), Ok(ONE));
    for (wrong, reason, right) in [
        (format!("ALTER ROLE {role} PASSWORD 'other'"), "password", format!("ALTER ROLE {role} PASSWORD 'right'")),
        (format!("ALTER ROLE {role} NOLOGIN"), "not permitted to log in", format!("ALTER ROLE {role} LOGIN")),
        (format!("REVOKE pingeon_writer FROM {role}"), "42501", format!("GRANT pingeon_writer TO {role}")),
    ] {
        part(wrong);
        let why = tried_again(sink.deliver(&batch()).unwrap_err());
        assert!(why.starts_with("Postgres"), "the session was lost: {why}");
        let why = tried_again(sink.deliver(&batch()).unwrap_err());
        assert!(why.contains(reason), "{why}");
        part(right);
        assert_eq!(sink.deliver(&batch()), Ok(ONE), "after {reason}");
    }
}

#[test]
fn a_password_is_read_again_from_its_file() {
    let database = ours().database("file").migrated();
    let role = writer(ours(), &database, Login::Scram("new"));
    let folder = tempfile::tempdir().unwrap();
    let (file, password) = (folder.path().join("pingeon.yaml"), folder.path().join("password"));
    let url = database.url(&role);
    std::fs::write(&file, format!("store: {{postgres: {{url: '{url}', password_file: password}}}}\nchecks: []\n"))
        .unwrap();
    std::fs::write(&password, "old\n").unwrap();
    let config = config::load(&file, &|_| None).unwrap();
    let Some(config::Store::Postgres(settings)) = &config.store else { panic!("{:?}", config.store) };
    let mut sink = Postgres::new(settings, Arc::new(SystemClock));
    let why = broken(sink.deliver(&batch()).unwrap_err());
    assert!(why.contains("password authentication failed"), "{why}");
    std::fs::write(&password, "new\n").unwrap();
    assert_eq!(sink.deliver(&batch()), Ok(ONE));
}

#[test]
fn a_peer_that_is_silent_is_asked_whether_it_is_there() {
    let database = ours().database("silent").migrated();
    let name = unique("application");
    let url = at(&database.url("pingeon_writer"), "127.0.0.1", &format!("application_name={name}"));
    let mut sink = sink(&url, None);
    assert_eq!(sink.deliver(&batch()), Ok(ONE));
    let sql = "SELECT client_port FROM pg_stat_activity WHERE application_name = $1";
    let port: i32 = database.superuser().query_one(sql, &[&name]).unwrap().get(0);
    // proc(5), /proc/net/tcp: local address, remote address, state, queues, and timer: its kind and when it is due.
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let timer = |line: &str| {
        let fields: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        fields.get(1)?.ends_with(&format!(":{port:04X}")).then(|| fields.get(5).cloned())?
    };
    let timer = sockets.lines().find_map(timer).unwrap();
    let (kind, due) = timer.split_once(':').unwrap();
    let ticks = u32::from_str_radix(due, 16).unwrap();
    assert!(kind == "02" && ticks <= 1_000, "keepalive is due within 10 s, in hundredths of a second: {timer}");
}

#[test]
fn a_server_that_became_a_standby_is_left() {
    let database = ours().database("standby").migrated();
    let set = |to: &str| {
        let sql = format!("ALTER DATABASE {} SET default_transaction_read_only = {to}", database.name());
        let mut superuser = database.superuser();
        superuser.batch_execute("SET default_transaction_read_only = off").unwrap();
        superuser.batch_execute(&sql).unwrap();
    };
    set("on");
    let mut any = sink(&database.url("pingeon_writer"), None);
    let why = tried_again(any.deliver(&batch()).unwrap_err());
    assert!(why.contains("SQLSTATE 25006") && why.ends_with("`target_session_attrs=read-write`"), "{why}");
    let url = at(&database.url("pingeon_writer"), "127.0.0.1", "target_session_attrs=read-write");
    let mut read_write = sink(&url, None);
    let why = tried_again(read_write.deliver(&batch()).unwrap_err());
    assert!(why.ends_with("database does not allow writes"), "{why}");
    set("off");
    for sink in [&mut any, &mut read_write] {
        assert_eq!(sink.deliver(&batch()), Ok(ONE), "a new session is begun");
    }
}

/// A database behind a pgbouncer, with two clients that hold a connection to the server each when they are in a transaction:
/// what is not held by them is what others get.
struct Pooled {
    database: Database,
    url: String,
    held: [postgres::Client; 2],
    _pooler: Pooler,
}

impl Pooled {
    fn new(about: &str) -> Self {
        let database = ours().database(about).migrated();
        let pooler = Pooler::start(ours(), &["pingeon_writer"]);
        let url = pooler.url(&database, "pingeon_writer");
        let held = [(); 2].map(|()| postgres::Client::connect(&url, postgres::NoTls).unwrap());
        Pooled { database, url, held, _pooler: pooler }
    }

    fn say(&mut self, nth: usize, sql: &str) {
        self.held[nth].batch_execute(sql).unwrap();
    }
}

#[test]
fn behind_a_pooler_each_log_is_stored_once() {
    let mut pooled = Pooled::new("pooled");
    for (prepared, nth) in [(Prepared::Auto, 1), (Prepared::Unnamed, 2)] {
        let mut sink = sink_that_is(prepared, &pooled.url);
        let (first, second) = (batch(), batch());
        pooled.say(0, "BEGIN");
        assert_eq!(sink.deliver(&first), Ok(ONE), "{prepared:?}");
        // The connection that it had is another's now, and what it has prepared there is out of reach.
        pooled.say(1, "BEGIN");
        pooled.say(0, "COMMIT");
        assert_eq!(sink.deliver(&second), Ok(ONE), "{prepared:?}");
        pooled.say(1, "COMMIT");
        assert_eq!(sink.deliver(&second), Ok(Delivered { new: 0, duplicate: 1, ..ONE }), "{prepared:?}");
        assert_eq!(stored(&pooled.database), 2 * nth, "{prepared:?}");
    }
}

#[test]
fn named_statements_behind_a_pooler_fail_loudly() {
    let mut pooled = Pooled::new("named");
    let mut sink = sink_that_is(Prepared::Named, &pooled.url);
    pooled.say(0, "BEGIN");
    assert_eq!(sink.deliver(&batch()), Ok(ONE));
    pooled.say(1, "BEGIN");
    pooled.say(0, "COMMIT");
    let why = broken(sink.deliver(&batch()).unwrap_err());
    assert!(why.contains("SQLSTATE 26000") && why.ends_with("set `prepared: auto` or `prepared: unnamed`"), "{why}");
    assert_eq!(stored(&pooled.database), 1);
}

#[test]
fn statements_that_another_client_left_behind_are_not_taken_for_ours() {
    // The crate counts its names through the process.
    let foreign: String = (0..4_000).map(|nth| format!("PREPARE s{nth} AS SELECT $1::int;")).collect();
    // On the connection of the second batch alone: the name means something else. On both: the name is taken.
    for (everywhere, about) in [(false, "another"), (true, "taken")] {
        let mut pooled = Pooled::new(about);
        let mut sink = sink_that_is(Prepared::Auto, &pooled.url);
        pooled.say(0, "BEGIN");
        pooled.say(1, "BEGIN");
        pooled.say(0, &foreign);
        if everywhere {
            pooled.say(1, &foreign);
        }
        pooled.say(1, "COMMIT");
        assert_eq!(sink.deliver(&batch()), Ok(ONE), "{about}");
        pooled.say(1, "BEGIN");
        pooled.say(0, "COMMIT");
        assert_eq!(sink.deliver(&batch()), Ok(ONE), "{about}");
        pooled.say(1, "COMMIT");
        assert_eq!(stored(&pooled.database), 2, "{about}");
        let rejected: i64 =
            pooled.database.superuser().query_one("SELECT count(*) FROM pingeon.rejected", &[]).unwrap().get(0);
        assert_eq!(rejected, 0, "{about}");
    }
}
