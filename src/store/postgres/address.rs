//! Where a Postgres server is and how it is to be reached: the URL of the config, as libpq understands it (PostgreSQL manual,
//! "Connection URIs" and "Parameter Key Words"). What is not understood is refused, so that nothing is left out unseen.

mod url;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postgres::config::{ChannelBinding, TargetSessionAttrs};

use self::url::{Parts, encoded};
use crate::net::{Host, Pem, TlsSettings, Verify};

/// Hosts that a URL may name.
const HOSTS_MAX: usize = 16;
/// How long a connect may take, to each address of a host.
const CONNECT_DEFAULT: Duration = Duration::from_secs(5);
/// The most that `connect_timeout` may be, in seconds.
const CONNECT_SECONDS_MAX: u64 = 30;
/// What the server shows of this program.
const APPLICATION: &str = "pingeon";
const PORT: u16 = 5432;

/// How to reach a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// To be tried in this order.
    pub(super) servers: Vec<Server>,
    /// Who asks.
    pub(super) user: String,
    /// The database.
    pub(super) database: String,
    /// Whether the connection must be secure.
    pub(super) sslmode: SslMode,
    /// Whose certificates are trusted, as it is written.
    root: Option<Root>,
    /// How to do TLS, where it is done.
    pub(super) tls: Arc<TlsSettings>,
    /// Whether SCRAM must be bound to the TLS session.
    pub(super) channel_binding: ChannelBinding,
    /// What the server must be good for.
    pub(super) session: TargetSessionAttrs,
    /// How long a connect may take, to each address of a host.
    pub(super) connect_max: Duration,
    /// What the server shows of this program.
    pub(super) application: String,
    /// Settings for the server's side of the session.
    pub(super) options: Option<String>,
}

/// One of the places where the server may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// Over the network.
    Tcp(Host, u16),
    /// The directory of a Unix socket, and the port in its name.
    Socket(PathBuf, u16),
}

/// Whether a connection must be secure (PostgreSQL manual, table "SSL Mode Descriptions").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SslMode {
    /// Never.
    Disable,
    /// Only where the server insists.
    Allow,
    /// Where the server can.
    Prefer,
    /// Always, whoever the server is.
    Require,
    /// Always, and the server's certificate must be trusted.
    VerifyCa,
    /// Likewise, and it must be for this host.
    VerifyFull,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Root {
    System,
    File(Pem),
}

const SSL_MODES: &[(&str, SslMode)] = &[
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];
const BINDINGS: &[(&str, ChannelBinding)] =
    &[("disable", ChannelBinding::Disable), ("prefer", ChannelBinding::Prefer), ("require", ChannelBinding::Require)];
const SESSIONS: &[(&str, TargetSessionAttrs)] = &[
    ("any", TargetSessionAttrs::Any),
    ("read-write", TargetSessionAttrs::ReadWrite),
    ("read-only", TargetSessionAttrs::ReadOnly),
];

impl SslMode {
    pub(super) fn name(self) -> &'static str {
        name_of(SSL_MODES, &self)
    }
}

/// Why a URL cannot be used, and what to do about it. Holds nothing of the URL that may be a secret.
#[derive(Debug, PartialEq, Eq)]
pub struct Unusable {
    /// A clause without a period.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Unusable {
    fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Unusable { what: what.into(), hint: Some(hint.into()) }
    }
}

/// Reads the files that a URL names; the config knows what their names are relative to.
pub struct Files<'a> {
    /// A file of certificates.
    pub certificates: &'a dyn Fn(&str) -> Result<Pem, String>,
    /// A file with a private key.
    pub key: &'a dyn Fn(&str) -> Result<Pem, String>,
}

impl Address {
    /// Reads a URL: `postgresql://user@host:port,host/database?parameter=value&…`, all parts percent-encoded.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str, files: &Files<'_>) -> Result<Self, Unusable> {
        let Parts { user, hosts, database, parameters } = Parts::of(url)?;
        let get = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let user = get("user").map(str::to_owned).or(user).ok_or_else(|| {
            Unusable::new("the URL names no user", "write `postgresql://pingeon_writer@db.example.com/pingeon`")
        })?;
        let database = get("dbname").map(str::to_owned).or(database).unwrap_or_else(|| user.clone());
        let (sslmode, root, tls) = tls(&get, files)?;
        let channel_binding = choice(BINDINGS, "channel_binding", get("channel_binding"), ChannelBinding::Prefer)?;
        if channel_binding == ChannelBinding::Require && sslmode == SslMode::Disable {
            let what = "`channel_binding=require` needs TLS, and `sslmode=disable` does without";
            return Err(Unusable::new(what, "write `sslmode=verify-full`"));
        }
        Ok(Address {
            servers: servers(hosts, get("host"), get("port"))?,
            user,
            database,
            sslmode,
            root,
            tls: Arc::new(tls),
            channel_binding,
            session: choice(SESSIONS, "target_session_attrs", get("target_session_attrs"), TargetSessionAttrs::Any)?,
            connect_max: get("connect_timeout").map_or(Ok(CONNECT_DEFAULT), seconds)?,
            application: get("application_name").unwrap_or(APPLICATION).to_owned(),
            options: get("options").map(str::to_owned),
        })
    }
}

/// The servers that the URL names, before its path or as parameters.
fn servers(
    hosts: Vec<(String, Option<String>)>,
    host: Option<&str>,
    port: Option<&str>,
) -> Result<Vec<Server>, Unusable> {
    let hosts = match host {
        Some(_) if !hosts.is_empty() => {
            return Err(Unusable::new("the URL names hosts twice", "take the parameter `host` out"));
        }
        Some(host) => host.split(',').map(|host| (host.to_owned(), None)).collect(),
        None => hosts,
    };
    if hosts.is_empty() {
        let hint = "write `postgresql://user@host/database`, or `?host=/run/postgresql` for a local socket";
        return Err(Unusable::new("the URL names no host", hint));
    }
    if hosts.len() > HOSTS_MAX {
        return Err(Unusable::new(format!("the URL names more than {HOSTS_MAX} hosts"), "name fewer"));
    }
    let ports: Vec<&str> = port.map(|ports| ports.split(',').collect()).unwrap_or_default();
    if ports.len() > 1 && ports.len() != hosts.len() || port.is_some() && hosts.iter().any(|(_, port)| port.is_some()) {
        return Err(Unusable::new("the ports of the URL do not fit its hosts", "write each as `host:port`"));
    }
    let port_of = |nth: usize| ports.get(nth).or(ports.first()).map(|port| (*port).to_owned());
    hosts.into_iter().enumerate().map(|(nth, (host, port))| server(&host, port.or_else(|| port_of(nth)))).collect()
}

fn server(host: &str, port: Option<String>) -> Result<Server, Unusable> {
    let port = match port.as_deref() {
        None | Some("") => PORT,
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
            Unusable::new("a port of the URL is not a number from 1 to 65535", format!("Postgres' own is {PORT}"))
        })?,
    };
    if host.starts_with('/') {
        return Ok(Server::Socket(PathBuf::from(host), port));
    }
    let host = host.parse::<IpAddr>().map_or_else(|_| Host::Name(host.to_owned()), Host::Address);
    match &host {
        Host::Name(name)
            if name.is_empty()
                || name.len() > 253
                || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) =>
        {
            Err(Unusable::new("a host of the URL is neither a name nor an address", "write `user@db.example.com:5432`"))
        }
        _ => Ok(Server::Tcp(host, port)),
    }
}

type Get<'a> = dyn Fn(&str) -> Option<&'a str> + 'a;

/// Whether to do TLS, and how.
fn tls<'a>(get: &Get<'a>, files: &Files<'_>) -> Result<(SslMode, Option<Root>, TlsSettings), Unusable> {
    let read = |key: &str, file: &dyn Fn(&str) -> Result<Pem, String>| {
        let unusable = |what| Unusable { what: format!("{key} of the URL: {what}"), hint: None };
        get(key).map(|name| file(name).map_err(unusable)).transpose()
    };
    let root = match get("sslrootcert") {
        Some("system") => Some(Root::System),
        _ => read("sslrootcert", files.certificates)?.map(Root::File),
    };
    let default = if root == Some(Root::System) { SslMode::VerifyFull } else { SslMode::Prefer };
    let sslmode = choice(SSL_MODES, "sslmode", get("sslmode"), default)?;
    if root == Some(Root::System) && sslmode != SslMode::VerifyFull {
        let what = format!("`sslmode={}` is too weak for `sslrootcert=system`", sslmode.name());
        return Err(Unusable::new(what, "write `sslmode=verify-full`"));
    }
    let client = match (read("sslcert", files.certificates)?, read("sslkey", files.key)?) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err(Unusable::new("`sslcert` and `sslkey` of the URL go together", "give both or neither")),
    };
    let ca = match &root {
        Some(Root::File(pem)) => Some(pem.clone()),
        _ => None,
    };
    let verify = match sslmode {
        SslMode::VerifyFull => Verify::ChainAndName,
        SslMode::VerifyCa => Verify::Chain,
        // As libpq does: who names an authority wants it to be asked.
        _ if ca.is_some() => Verify::Chain,
        _ => Verify::Nothing,
    };
    Ok((sslmode, root, TlsSettings { ca, client, verify, ..TlsSettings::default() }))
}

fn choice<T: Copy>(choices: &[(&str, T)], key: &str, typed: Option<&str>, default: T) -> Result<T, Unusable> {
    let Some(typed) = typed else { return Ok(default) };
    let known = choices.iter().find(|(name, _)| *name == typed).map(|(_, choice)| *choice);
    known.ok_or_else(|| {
        let all = choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        Unusable { what: format!("`{key}={}` in the URL is none of {all}", typed.escape_default()), hint: None }
    })
}

fn name_of<T: PartialEq>(choices: &[(&'static str, T)], choice: &T) -> &'static str {
    choices.iter().find(|(_, known)| known == choice).map_or("", |(name, _)| name)
}

fn seconds(text: &str) -> Result<Duration, Unusable> {
    let seconds = text.parse().ok().filter(|seconds| (1..=CONNECT_SECONDS_MAX).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| {
        let what = format!("`connect_timeout` of the URL is not a number of seconds from 1 to {CONNECT_SECONDS_MAX}");
        Unusable { what, hint: None }
    })
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Server::Tcp(host, port) => write!(f, "{host}:{port}"),
            Server::Socket(directory, port) => write!(f, "{}/.s.PGSQL.{port}", directory.display()),
        }
    }
}

/// The URL, with its defaults filled in; file names as they are opened.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = |port: u16| if port == PORT { String::new() } else { format!(":{port}") };
        let server = |server: &Server| match server {
            Server::Tcp(host, at) => format!("{host}{}", port(*at)),
            Server::Socket(directory, at) => format!("{}{}", encoded(&directory.to_string_lossy(), ""), port(*at)),
        };
        let hosts = self.servers.iter().map(server).collect::<Vec<_>>().join(",");
        write!(f, "postgresql://{}@{hosts}/{}", encoded(&self.user, ""), encoded(&self.database, ""))?;
        write!(f, "?sslmode={}", self.sslmode.name())?;
        let path = |pem: &Pem| encoded(&pem.path.to_string_lossy(), "/");
        match &self.root {
            Some(Root::System) => f.write_str("&sslrootcert=system")?,
            Some(Root::File(pem)) => write!(f, "&sslrootcert={}", path(pem))?,
            None => {}
        }
        if let Some((certificate, key)) = &self.tls.client {
            write!(f, "&sslcert={}&sslkey={}", path(certificate), path(key))?;
        }
        if self.channel_binding != ChannelBinding::Prefer {
            write!(f, "&channel_binding={}", name_of(BINDINGS, &self.channel_binding))?;
        }
        if self.session != TargetSessionAttrs::Any {
            write!(f, "&target_session_attrs={}", name_of(SESSIONS, &self.session))?;
        }
        if self.connect_max != CONNECT_DEFAULT {
            write!(f, "&connect_timeout={}", self.connect_max.as_secs())?;
        }
        if self.application != APPLICATION {
            write!(f, "&application_name={}", encoded(&self.application, ""))?;
        }
        self.options.iter().try_for_each(|options| write!(f, "&options={}", encoded(options, "=")))
    }
}

#[cfg(test)]
mod tests;
