//! What checks share: resolve, connect, TLS, each a timed phase under one deadline.
//!
//! A [`Course`] carries the deadline and the phases of one check from function to function. Nothing in here retries, keeps a
//! connection, or starts a thread for a check, but for lookups of names ([`lookup`]) and ICMP echoes ([`echo`]).

pub mod course;
pub mod datagram;
mod dial;
pub mod echo;
pub mod lookup;
pub mod proxy;
pub mod resolvers;
mod shown;
pub mod stream;
pub mod timeline;
pub mod tls;

pub use course::{Blame, Course, Failure, Spoken, Trouble};
pub(crate) use dial::share;
pub use lookup::ADDRESSES_MAX;
pub use shown::{blanked, shown};
pub use stream::Stream;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::check::http::Tokens;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::secret::Secret;

/// A name or an address to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A DNS name.
    Name(String),
    /// An address literal.
    Address(IpAddr),
}

/// Which addresses of a name to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum IpFamily {
    /// The first address that accepts, in the resolver's order.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// All of them, each by itself: every one must pass. For a single connection it is as [`IpFamily::Any`].
    Each,
}

/// Through what a check reaches its target.
#[derive(Clone, Debug, Default)]
pub enum Proxy {
    /// What `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` say.
    #[default]
    Environment,
    /// Straight to the target.
    None,
    /// Through this one.
    Through {
        /// How to speak to it.
        scheme: ProxyScheme,
        /// Where it is.
        host: Host,
        /// Its port.
        port: u16,
        /// User and password.
        credentials: Option<(String, Secret)>,
    },
}

/// How to speak to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyScheme {
    /// CONNECT (RFC 9110, section 9.3.6).
    Http,
    /// SOCKS 5 (RFC 1928); the proxy resolves the name.
    Socks5,
}

/// How to do TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Trust these (PEM) instead of the system's.
    pub ca: Option<Pem>,
    /// The name to ask for and to verify, instead of the target's.
    pub server_name: Option<String>,
    /// Certificate chain and key to show.
    pub client: Option<(Pem, Pem)>,
    /// What of the server's certificate must be right.
    pub verify: Verify,
    /// Whether sessions may be resumed; a resumed handshake does not show the certificate again.
    pub resume: bool,
}

impl Default for TlsSettings {
    fn default() -> Self {
        TlsSettings { ca: None, server_name: None, client: None, verify: Verify::ChainAndName, resume: false }
    }
}

/// What of a server's certificate must be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verify {
    /// Whatever it shows will do.
    Nothing,
    /// An authority that is trusted has signed it.
    Chain,
    /// Likewise, and it is for the name that was asked for.
    ChainAndName,
}

/// The content of a PEM file, read when the config was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pem {
    /// Where it was read from, for messages.
    pub path: PathBuf,
    /// What it holds; a key is a secret.
    pub content: Secret,
}

impl Host {
    /// The host of an authority or a URL, where an IPv6 address stands in brackets.
    pub fn parse(text: &str) -> Self {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        bare.parse().map_or_else(|_| Host::Name(text.to_owned()), Host::Address)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// What all checks share: the lookup threads, the sockets for echoes, TLS configurations by their settings, tokens, and what the environment says.
pub struct Net {
    clock: Arc<dyn Clock>,
    tls: tls::Configs,
    proxies: proxy::Environment,
    lookups: lookup::Lookups,
    resolvers: Arc<resolvers::Resolvers>,
    echoes: echo::Echoes,
    tokens: Tokens,
    watched: bool,
}

impl Net {
    /// The network as `clock`, `environment` (which proxies to take) and `names` (how names are looked up) make it.
    /// Nothing is read or started before a check needs it, but for the environment.
    pub fn new(clock: Arc<dyn Clock>, environment: impl Fn(&str) -> Option<String>, names: Arc<lookup::Names>) -> Self {
        Net {
            tls: tls::Configs::new(clock.clone()),
            clock,
            proxies: proxy::Environment::read(environment),
            lookups: lookup::Lookups::new(names),
            resolvers: Arc::new(resolvers::system),
            echoes: echo::Echoes::default(),
            tokens: Tokens::default(),
            watched: false,
        }
    }

    /// The same with other servers for checks that name none.
    pub fn with_resolvers(self, resolvers: Arc<resolvers::Resolvers>) -> Self {
        Net { resolvers, ..self }
    }

    /// The same for checks that somebody watches: they tell what happened when (see [`timeline`]).
    pub fn watched(self) -> Self {
        Net { watched: true, ..self }
    }

    /// The course of a check that begins now and has to end by `deadline`.
    pub fn course(&self, deadline: Instant) -> Course {
        let mut course = Course::new(deadline);
        if self.watched {
            course.timeline = timeline::Timeline::watched();
        }
        course
    }

    /// The network of this machine, as this process's environment sees it.
    pub fn system() -> Self {
        // What is no UTF-8 is taken too: a proxy that cannot be understood is better than one that is left out unseen.
        let environment = |name: &str| Some(std::env::var_os(name)?.to_string_lossy().into_owned());
        Self::new(Arc::new(SystemClock), environment, Arc::new(lookup::system))
    }

    /// What the wall clock shows: certificates are judged by it.
    pub fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    /// The proxies that the environment names.
    pub fn proxies(&self) -> &proxy::Environment {
        &self.proxies
    }

    /// Whom this machine asks for names.
    ///
    /// # Errors
    /// Why that cannot be said.
    pub fn resolvers(&self) -> Result<Vec<SocketAddr>, String> {
        (self.resolvers)()
    }

    /// The ICMP echoes that are under way.
    pub fn echoes(&self) -> &echo::Echoes {
        &self.echoes
    }

    /// The tokens that checks with `oauth2` have.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// TLS configurations by their settings.
    pub fn tls(&self) -> &tls::Configs {
        &self.tls
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net").field("proxies", &self.proxies).field("lookups", &self.lookups).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        for (text, host, shown) in [
            ("a.example", Host::Name("a.example".to_owned()), "a.example"),
            ("192.0.2.7", Host::Address([192, 0, 2, 7].into()), "192.0.2.7"),
            ("[2001:db8::7]", Host::Address("2001:db8::7".parse().unwrap()), "[2001:db8::7]"),
            ("::1", Host::Address("::1".parse().unwrap()), "[::1]"),
            ("[a.example]", Host::Name("[a.example]".to_owned()), "[a.example]"),
        ] {
            assert_eq!(Host::parse(text), host);
            assert_eq!(host.to_string(), shown);
        }
    }
}
