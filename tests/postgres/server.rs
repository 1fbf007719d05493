//! Real Postgres servers: one that all tests share, and those that a test has for itself, to stop, kill and fill.
//!
//! Tests share a server, so each makes its own database. Roles belong to all databases of a server.

use std::ffi::OsString;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{env, fs};

use pingeon::clock::{Clock as _, SystemClock};
use pingeon::config;
use pingeon::store::postgres::{Address, Files};
use postgres::config::Host;
use postgres::{Client, Config, NoTls};

use crate::daemon::{Daemon, End};
use crate::pki::Pki;
use crate::running::wait_for;
use crate::servant::{as_servant, give};

/// What to do where something is missing.
pub const SET_UP: &str = "`tests/run postgres` installs what the Postgres tests need";

/// Names a server that runs already, by the URL of a superuser. It has to let everybody in without a password.
const VARIABLE: &str = "PINGEON_TEST_POSTGRES";

/// The role that has a certificate.
pub const CERTIFIED: &str = "certified";
/// A name of the server that its certificate does not have.
pub const OTHER_HOST: &str = "127.0.0.2";

const SUPERUSER: &str = "postgres";
const DAY: Duration = Duration::from_secs(86_400);
const MICROS_OF_A_DAY: i64 = 86_400_000_000;
/// Less than what is waited for anything.
const MICROS_OF_A_TEST: i64 = 15_000_000;
/// A port that was free may be somebody else's a moment later.
const STARTS_MAX: usize = 3;

/// As at a user's who set some things in his own way: nothing may depend on them. `fsync` and all else is the default, but that
/// what lies on the disk is synced at once after a crash, not file by file, which takes seconds.
const SETTINGS: [(&str, &str); 7] = [
    ("listen_addresses", "'127.0.0.1,127.0.0.2'"),
    ("max_connections", "200"),
    ("timezone", "'Asia/Kolkata'"),
    ("datestyle", "'SQL, DMY'"),
    ("intervalstyle", "'sql_standard'"),
    ("log_timezone", "'UTC'"),
    ("recovery_init_sync_method", "syncfs"),
];

/// Of a server that can be made to die between a commit and its answer: see [`Server::falls_silent`].
pub const WITHOUT_STANDBY: [(&str, &str); 2] =
    [("synchronous_standby_names", "'nobody'"), ("synchronous_commit", "local")];

/// Who has to show what; the first line that fits counts.
const ACCESS: &str = "
local     all all            trust
hostnossl all +by_tls        all reject
hostnossl all +by_certificate all reject
hostssl   all +by_certificate all cert
host      all +by_scram      all scram-sha-256
host      all +by_md5        all md5
host      all +by_cleartext  all password
host      all all            all trust
";

/// What a role has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login<'a> {
    /// Nothing, but by TLS.
    Tls,
    /// A password, with SCRAM-SHA-256.
    Scram(&'a str),
    /// A password, as its MD5.
    Md5(&'a str),
    /// A password as it is.
    Cleartext(&'a str),
}

/// How a server is stopped (its manual, "Shutting Down the Server").
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// As by a crash: the next start has to recover.
    Immediate,
    /// Clients are sent away, and what is in memory is written.
    Fast,
}

/// A server by itself.
pub struct Server {
    /// The way in for the superuser.
    superuser: Config,
    ours: Option<Ours>,
}

/// What there is of a server that we started.
struct Ours {
    folder: PathBuf,
    port: u16,
    pki: Pki,
    /// None while it is stopped.
    daemon: Option<Daemon>,
}

/// The server that all tests share; the first who asks starts it.
pub fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| match env::var(VARIABLE) {
        Ok(url) => {
            let superuser = url.parse().unwrap_or_else(|error| panic!("{VARIABLE}: {error}"));
            Server { superuser, ours: None }
        }
        Err(_) => Server::alone(),
    })
}

/// A server of ours that all tests share, whatever the environment names: for what a foreign one cannot do.
pub fn ours() -> &'static Server {
    static OURS: OnceLock<Server> = OnceLock::new();
    if env::var_os(VARIABLE).is_none() { shared() } else { OURS.get_or_init(Server::alone) }
}

impl Server {
    /// One for the caller alone. It ends with the value.
    pub fn alone() -> Self {
        Server::alone_with(&[])
    }

    /// The same, with these settings in `postgresql.conf` besides.
    pub fn alone_with(settings: &[(&str, &str)]) -> Self {
        Server::start_in(workplace(), &[], settings)
    }

    /// The same in this folder, started with these words before its command.
    pub fn start_in(folder: PathBuf, before: &[OsString], settings: &[(&str, &str)]) -> Self {
        let pki = Pki::make(&folder.join("pki"), &[CERTIFIED]);
        // Neither the server nor its clients take a key that others can read.
        for name in ["broker", CERTIFIED] {
            fs::set_permissions(pki.key(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        give(&folder);
        // Whoever runs the tests reads the authority's certificate and the client's key.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        init(&folder);
        let mut complaints = Vec::new();
        for _ in 0..STARTS_MAX {
            let port = free_port();
            configure(&folder, &pki, port, settings);
            let mut superuser = Config::new();
            superuser.host("127.0.0.1").port(port).user(SUPERUSER).dbname("postgres");
            match start(&folder, before, &superuser) {
                Ok(daemon) => {
                    let ours = Ours { folder, port, pki, daemon: Some(daemon) };
                    let server = Server { superuser, ours: Some(ours) };
                    let groups = ["tls", "certificate", "scram", "md5", "cleartext"];
                    let sql: String = groups.iter().map(|group| format!("CREATE ROLE by_{group};")).collect();
                    let certified = format!("CREATE ROLE {CERTIFIED} LOGIN; GRANT by_certificate TO {CERTIFIED}");
                    server.superuser().batch_execute(&(sql + &certified)).unwrap();
                    return server;
                }
                Err(complaint) => complaints.push(complaint),
            }
        }
        panic!("Postgres does not start:\n{}", complaints.join("\n"));
    }

    /// The superuser in the database `postgres`.
    pub fn superuser(&self) -> Client {
        self.superuser.connect(NoTls).unwrap()
    }

    /// An empty database for the caller alone.
    pub fn database(&self, about: &str) -> Database {
        self.database_in("pg_default", about)
    }

    /// The same in this tablespace.
    pub fn database_in(&self, tablespace: &str, about: &str) -> Database {
        let name = unique(about);
        self.superuser().batch_execute(&format!("CREATE DATABASE {name} TABLESPACE {tablespace}")).unwrap();
        let mut superuser = self.superuser.clone();
        superuser.dbname(&name);
        Database { name, superuser, foreign: self.ours.is_none() }
    }

    /// A role that nobody else has, which comes in as `login` says; its name.
    pub fn role(&self, about: &str, login: Login<'_>) -> String {
        let (group, hash, password) = match login {
            Login::Tls => ("tls", "scram-sha-256", None),
            Login::Scram(password) => ("scram", "scram-sha-256", Some(password)),
            Login::Md5(password) => ("md5", "md5", Some(password)),
            Login::Cleartext(password) => ("cleartext", "scram-sha-256", Some(password)),
        };
        let name = unique(about);
        let password =
            password.map_or(String::new(), |password| format!("PASSWORD '{}'", password.replace('\'', "''")));
        let mut superuser = self.superuser();
        superuser.batch_execute(&format!("SET password_encryption = '{hash}'")).unwrap();
        superuser.batch_execute(&format!("CREATE ROLE {name} LOGIN {password}; GRANT by_{group} TO {name}")).unwrap();
        name
    }

    fn of_ours(&self) -> &Ours {
        self.ours.as_ref().unwrap_or_else(|| panic!("needs a server of ours, not the one that {VARIABLE} names"))
    }

    fn of_ours_to_change(&mut self) -> &mut Ours {
        self.ours.as_mut().unwrap_or_else(|| panic!("needs a server of ours, not the one that {VARIABLE} names"))
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.of_ours().port
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        let daemon = self.of_ours().daemon.as_ref();
        daemon.unwrap_or_else(|| panic!("it is stopped")).pid()
    }

    /// Where its files are, among them the folder of its Unix socket.
    pub fn folder(&self) -> &Path {
        &self.of_ours().folder
    }

    /// Whose authority signed the certificates of the server and of [`CERTIFIED`].
    pub fn pki(&self) -> &Pki {
        &self.of_ours().pki
    }

    /// Ends it, and waits for that.
    pub fn stop(&mut self, stop: Stop) {
        let signal = match stop {
            Stop::Immediate => "QUIT",
            Stop::Fast => "INT",
        };
        let daemon = self.of_ours_to_change().daemon.take();
        daemon.unwrap_or_else(|| panic!("it is stopped already")).end(signal);
    }

    /// Starts it again, and waits until it serves.
    pub fn start(&mut self) {
        let superuser = self.superuser.clone();
        let ours = self.of_ours_to_change();
        assert!(ours.daemon.is_none(), "it runs already");
        // Where `ALTER SYSTEM` writes to.
        fs::write(ours.folder.join("data/postgresql.auto.conf"), "").unwrap();
        ours.daemon = Some(start(&ours.folder, &[], &superuser).unwrap_or_else(|complaint| panic!("{complaint}")));
    }

    /// From now on and until its next start it commits and does not say so: it waits for a standby that does not exist. What is
    /// committed then is durable, and nobody sees it before that start. Needs [`WITHOUT_STANDBY`].
    pub fn falls_silent(&self) {
        let mut superuser = self.superuser();
        superuser.batch_execute("ALTER SYSTEM SET synchronous_commit = on").unwrap();
        superuser.batch_execute("SELECT pg_reload_conf()").unwrap();
        // Who comes in now has it, and so has everybody else before the next statement.
        let commits = || self.superuser().query_one("SHOW synchronous_commit", &[]).unwrap().get::<_, String>(0);
        wait_for("the setting to be read", || (commits() == "on").then_some(()));
    }

    /// Waits until so many sessions, or more, have committed and have no answer.
    pub fn owes_answers(&self, sessions: i64) {
        let mut superuser = self.superuser();
        let owed = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        let mut owed = || superuser.query_one(owed, &[]).unwrap().get::<_, i64>(0);
        wait_for("commits without an answer", || (owed() >= sessions).then_some(()));
    }

    /// As `pg_ctl restart -m immediate`.
    pub fn restart_immediate(&mut self) {
        self.stop(Stop::Immediate);
        self.start();
    }
}

/// A database that nobody else has.
pub struct Database {
    name: String,
    superuser: Config,
    /// On a server that goes on when the tests are over.
    foreign: bool,
}

impl Database {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a config would say, without a password.
    pub fn url(&self, role: &str) -> String {
        let host = match self.superuser.get_hosts() {
            [Host::Tcp(host)] => host,
            hosts => panic!("needs one server on TCP, not {hosts:?}"),
        };
        let port = self.superuser.get_ports().first().copied().unwrap_or(5432);
        format!("postgresql://{role}@{host}:{port}/{}", self.name)
    }

    /// The way in for this role, without TLS.
    pub fn config(&self, role: &str) -> Config {
        self.url(role).parse().unwrap()
    }

    /// A connection as this role, without TLS.
    pub fn connect(&self, role: &str) -> Client {
        self.config(role).connect(NoTls).unwrap()
    }

    pub fn superuser(&self) -> Client {
        self.superuser.connect(NoTls).unwrap()
    }

    /// With the schema of this build, on a day that goes on for a while: some tests count in days.
    pub fn migrated(self) -> Self {
        let of_today = || SystemClock.now().wall.as_micros() % MICROS_OF_A_DAY;
        wait_for("midnight to pass", || (MICROS_OF_A_DAY - of_today() > MICROS_OF_A_TEST).then_some(()));
        let settings = self.settings(self.superuser.get_user().unwrap());
        pingeon::store::postgres::migrate(&settings, Some(settings.retention)).unwrap();
        self
    }

    /// What a config would come to, for this role, without TLS.
    pub fn settings(&self, role: &str) -> config::Postgres {
        settings(&self.url(role))
    }
}

/// What a config with this URL would come to, without TLS.
pub fn settings(url: &str) -> config::Postgres {
    let none = |name: &str| Err(format!("no file is named, not `{name}`"));
    let url = Address::parse(url, &Files { certificates: &none, key: &none });
    config::Postgres {
        url: url.map(Arc::new).unwrap_or_else(|unusable| panic!("{unusable:?}")),
        password: None,
        batch_max: 1_000,
        batch_wait: Duration::from_millis(100),
        connections: 1,
        prepared: config::Prepared::Auto,
        retention: 90 * DAY,
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.foreign {
            let mut other = self.superuser.clone();
            let dropped = other
                .dbname("postgres")
                .connect(NoTls)
                .and_then(|mut client| client.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)));
            if let Err(error) = dropped {
                eprintln!("the database {} is left: {error}", self.name);
            }
        }
    }
}

/// A name that nobody else has, and that needs no quotes in SQL.
pub fn unique(about: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("pingeon_test_{about}_{}_{}", process::id(), NEXT.fetch_add(1, Relaxed))
}

/// A folder for a server, which the servers' user reaches. What a process left that was killed is removed.
pub fn workplace() -> PathBuf {
    let (top, start) = (Path::new("/var/tmp"), "pingeon_test_server_");
    for left in fs::read_dir(top).into_iter().flatten().flatten() {
        let name = left.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(start).and_then(|rest| rest.split('_').next());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            let _ = fs::remove_dir_all(left.path());
        }
    }
    let folder = top.join(unique("server"));
    fs::create_dir(&folder).unwrap();
    folder
}

pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// One of Postgres' programs: as `PATH` has it, as `pg_config` says, or the newest where Debian puts them.
fn program(name: &str) -> PathBuf {
    let in_path = env::var_os("PATH").map(|path| env::split_paths(&path).map(|folder| folder.join(name)).collect());
    let told = Command::new("pg_config").arg("--bindir").output().ok();
    let told = told.map(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).join(name));
    let mut debian: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin").join(name))))
        .collect();
    debian.sort_unstable_by(|one, other| other.cmp(one));
    let mut places: Vec<PathBuf> = in_path.unwrap_or_default();
    places.extend(told);
    places.extend(debian.into_iter().map(|(_, path)| path));
    places.into_iter().find(|path| path.is_file()).unwrap_or_else(|| panic!("no program `{name}`: {SET_UP}"))
}

fn init(folder: &Path) {
    let mut words = as_servant();
    words.push(program("initdb").into());
    words.extend(
        ["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--username", SUPERUSER]
            .map(OsString::from),
    );
    words.extend([OsString::from("--pgdata"), folder.join("data").into()]);
    let output = Command::new(&words[0]).args(&words[1..]).current_dir("/").output().unwrap();
    assert!(output.status.success(), "initdb: {}; {SET_UP}", String::from_utf8_lossy(&output.stderr));
}

fn configure(folder: &Path, pki: &Pki, port: u16, settings: &[(&str, &str)]) {
    let data = folder.join("data");
    let path = |path: &Path| format!("'{}'", path.display());
    let own = [
        ("port", port.to_string()),
        ("unix_socket_directories", path(folder)),
        ("ssl", "on".to_owned()),
        ("ssl_cert_file", path(&pki.certificate("broker"))),
        ("ssl_key_file", path(&pki.key("broker"))),
        ("ssl_ca_file", path(&pki.ca())),
    ];
    let own = own.iter().map(|(name, value)| (*name, value.as_str()));
    // Of two lines for one setting the last counts.
    let all = own.chain(SETTINGS).chain(settings.iter().copied());
    let text: String = all.map(|(name, value)| format!("{name} = {value}\n")).collect();
    fs::write(data.join("postgresql.conf"), text).unwrap();
    fs::write(data.join("pg_hba.conf"), ACCESS).unwrap();
    give(&data);
}

/// Starts what is configured in `folder`, and waits until it serves.
fn start(folder: &Path, before: &[OsString], superuser: &Config) -> Result<Daemon, String> {
    let command = [program("postgres").into(), OsString::from("-D"), folder.join("data").into()];
    let daemon =
        Daemon::start(&[before, &as_servant()].concat(), &command, End::Quit, &folder.join("server.log"), Some(folder));
    let ready = wait_for("Postgres to serve", || {
        let ready = superuser.connect(NoTls).is_ok();
        (ready || !daemon.runs()).then_some(ready)
    });
    if ready { Ok(daemon) } else { Err(daemon.words()) }
}
