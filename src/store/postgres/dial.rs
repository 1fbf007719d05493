//! From an address to a connection: each server in turn, each of its addresses, with TLS as `sslmode` says (PostgreSQL manual,
//! "SSL Support").
//!
//! No connect takes longer than [`DIAL_MAX`], whatever the servers do: one that accepts a connection and then says nothing is
//! left for the next one.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};
use postgres::config::SslMode as Asked;
use postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::{Address, Server, SslMode};
use super::unreached::{Attempt, Kind, Unreached};
use crate::clock::SystemClock;
use crate::jobs;
use crate::net::lookup::{self, Lookups, Unresolved};
use crate::net::tls::{self, Configs};
use crate::net::{Host, IpFamily};
use crate::secret::Secret;

/// How long all servers of an address may take together.
const DIAL_MAX: Duration = Duration::from_secs(30);
/// Connects that nobody waits for any more, since they took too long, and that have not ended.
const STUCK_MAX: usize = 8;
/// A handshake and the crate's own runtime.
const STACK: usize = 1024 * 1024;
/// A peer that is gone is noticed within half a minute: asked whether it is there after so long without a word …
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// … so often …
const ASK_EVERY: Duration = Duration::from_secs(5);
/// … and so many times; or when it has not said for so long that it got what was sent.
const ASKED_MAX: u32 = 3;
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

/// Makes connections.
pub(super) struct Dialer {
    address: Address,
    password: Option<Secret>,
    lookups: Lookups,
    configs: Configs,
    /// One more for each connect that is under way.
    under_way: Arc<()>,
}

/// How a connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Without TLS.
    Plain,
    /// With TLS if the server offers it.
    IfOffered,
    /// With TLS.
    Secured,
}

impl Dialer {
    /// To `address`, as who knows `password`.
    pub(super) fn new(address: &Address, password: Option<&Secret>) -> Self {
        Dialer {
            address: address.clone(),
            password: password.cloned(),
            lookups: Lookups::new(Arc::new(lookup::system)),
            configs: Configs::new(Arc::new(SystemClock)),
            under_way: Arc::default(),
        }
    }

    /// A connection to the first server that takes one. A server that does not want this user ends the search, as it does for
    /// libpq.
    ///
    /// # Errors
    /// What became of each server.
    pub(super) fn dial(&self) -> Result<Client, Unreached> {
        let deadline = Instant::now() + DIAL_MAX;
        let mut unreached: Option<Unreached> = None;
        for server in &self.address.servers {
            match self.reach(server, deadline) {
                Err(this) if this.kind != Kind::Unwanted => {
                    unreached = Some(unreached.map_or_else(|| this.clone(), |others| others.and(&this)));
                }
                result => return result,
            }
        }
        Err(unreached.unwrap_or_else(|| Unreached::now("no server is named")))
    }

    /// A connection to the first address of `server` that takes one.
    fn reach(&self, server: &Server, deadline: Instant) -> Result<Client, Unreached> {
        let addresses = match server {
            Server::Socket(..) => vec![None],
            Server::Tcp(Host::Address(address), _) => vec![Some(*address)],
            Server::Tcp(Host::Name(name), _) => self.resolve(name, deadline)?.into_iter().map(Some).collect(),
        };
        let mut unreached: Option<Unreached> = None;
        for address in addresses {
            match self.reach_at(server, address, deadline) {
                Err(this) if this.kind == Kind::Silent => {
                    unreached = Some(unreached.map_or_else(|| this.clone(), |others| others.and(&this)));
                }
                result => return result,
            }
        }
        Err(unreached.unwrap_or_else(|| Unreached::now(format!("{server} has no address"))))
    }

    fn resolve(&self, name: &str, deadline: Instant) -> Result<Vec<IpAddr>, Unreached> {
        let by = deadline.min(Instant::now() + self.address.connect_max);
        self.lookups.ask(name, IpFamily::Any, by).map_err(|error| {
            Unreached::now(match error {
                Unresolved::NoSuchName => format!("no such host: `{name}`"),
                Unresolved::NoAddress => format!("the host `{name}` has no address"),
                Unresolved::NoAnswer | Unresolved::Late => format!("the name service did not answer for `{name}`"),
                Unresolved::AllStuck => format!("all lookups are stuck, so `{name}` could not be looked up"),
                Unresolved::Agent(reason) => reason,
            })
        })
    }

    /// A connection to one address of `server`, in the first way that works out.
    fn reach_at(&self, server: &Server, ip: Option<IpAddr>, deadline: Instant) -> Result<Client, Unreached> {
        let (way, otherwise) = match (server, self.address.sslmode) {
            // Nobody listens on the way to a Unix socket; libpq does without TLS there, too.
            (Server::Socket(..), _) | (_, SslMode::Disable) => (Way::Plain, None),
            (_, SslMode::Allow) => (Way::Plain, Some(Way::Secured)),
            (_, SslMode::Prefer) => (Way::IfOffered, Some(Way::Plain)),
            (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => (Way::Secured, None),
        };
        let first = self.connect(server, ip, way, deadline);
        match (first, otherwise) {
            (Err(unreached), Some(other)) if [Kind::Tls, Kind::Way].contains(&unreached.kind) => {
                self.connect(server, ip, other, deadline).map_err(|second| unreached.and(&second))
            }
            (result, _) => result,
        }
    }

    /// A connection to one address of `server`, in one way. The crate cannot be told when to give up once the server has
    /// accepted, so it connects on a thread of its own, which is left alone when that takes too long.
    fn connect(&self, server: &Server, ip: Option<IpAddr>, way: Way, deadline: Instant) -> Result<Client, Unreached> {
        let left = deadline.saturating_duration_since(Instant::now()).min(self.address.connect_max);
        let within = format!("{server} did not answer within {} s", left.as_secs().max(1));
        if left.is_zero() {
            return Err(Unreached::now(format!("{server} was not tried any more")));
        }
        if Arc::strong_count(&self.under_way) > STUCK_MAX {
            return Err(Unreached::now(format!("{STUCK_MAX} connects have got no answer, and wait for one still")));
        }
        let config = self.config(server, ip, way, left);
        let tls = match way {
            Way::Plain => None,
            Way::IfOffered | Way::Secured => Some(self.tls().map_err(|reason| Unreached::unusable(server, &reason))?),
        };
        let (answer, answered) = bounded(1);
        let (place, attempt) = (self.under_way.clone(), Attempt::new(&self.address, server));
        let connect = move || {
            let _place = place;
            let connected = match tls {
                Some(tls) => config.connect(tls),
                None => config.connect(NoTls),
            };
            // Whoever asked may have gone; then the connection is closed again.
            let _ = answer.send(connected.map_err(|error| attempt.unreached(&error)));
        };
        jobs::start_detached("postgres", STACK, connect)
            .map_err(|error| Unreached::now(format!("cannot start a thread to connect to {server}: {error}")))?;
        answered.recv_timeout(left).unwrap_or_else(|error| {
            Err(match error {
                RecvTimeoutError::Timeout => Unreached::silent(within),
                RecvTimeoutError::Disconnected => Unreached::now(format!("a connect to {server} died")),
            })
        })
    }

    /// What the crate is told.
    fn config(&self, server: &Server, ip: Option<IpAddr>, way: Way, left: Duration) -> Config {
        let Address { user, database, channel_binding, session, application, options, .. } = &self.address;
        let mut config = Config::new();
        match server {
            // An address in brackets is one of a URL.
            Server::Tcp(Host::Address(address), port) => config.host(&address.to_string()).port(*port),
            Server::Tcp(Host::Name(name), port) => config.host(name).port(*port),
            Server::Socket(directory, port) => config.host_path(directory).port(*port),
        };
        ip.iter().for_each(|ip| {
            config.hostaddr(*ip);
        });
        config.user(user).dbname(database).application_name(application);
        options.iter().for_each(|options| {
            config.options(options);
        });
        self.password.iter().for_each(|password| {
            config.password(password.expose());
        });
        config
            .ssl_mode(match way {
                Way::Plain => Asked::Disable,
                Way::IfOffered => Asked::Prefer,
                Way::Secured => Asked::Require,
            })
            .channel_binding(*channel_binding)
            .target_session_attrs(*session)
            .connect_timeout(left)
            .keepalives_idle(SILENCE_MAX)
            .keepalives_interval(ASK_EVERY)
            .keepalives_retries(ASKED_MAX)
            .tcp_user_timeout(UNACKNOWLEDGED_MAX)
            .notice_callback(|notice| log::debug!("Postgres: {}: {}", notice.severity(), notice.message()));
        config
    }

    fn tls(&self) -> Result<MakeRustlsConnect, String> {
        let config = self.configs.get(&self.address.tls, true, None).map_err(|tls::Unusable(reason)| reason)?;
        Ok(MakeRustlsConnect::new((*config).clone()))
    }
}
