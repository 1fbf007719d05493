//! What checks share: resolve, connect, TLS, each a timed phase under one deadline.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::config::Secret;

/// A name or an address to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A DNS name.
    Name(String),
    /// An address literal.
    Address(IpAddr),
}

/// Which addresses of a name to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IpFamily {
    /// The first address that accepts, in the resolver's order.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Every address must pass. Not available in this build yet; `config` refuses it.
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
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// Trust these (PEM) instead of the system's.
    pub ca: Option<Pem>,
    /// The name to ask for and to verify, instead of the target's.
    pub server_name: Option<String>,
    /// Certificate chain and key to show.
    pub client: Option<(Pem, Pem)>,
    /// Whether the certificate must be valid.
    pub verify: bool,
    /// Whether sessions may be resumed; a resumed handshake does not show the certificate again.
    pub resume: bool,
}

impl Default for TlsSettings {
    fn default() -> Self {
        TlsSettings { ca: None, server_name: None, client: None, verify: true, resume: false }
    }
}

/// The content of a PEM file, read when the config was.
#[derive(Clone, Debug)]
pub struct Pem {
    /// Where it was read from, for messages.
    pub path: PathBuf,
    /// What it holds; a key is a secret.
    pub content: Secret,
}

/// What all checks share: the resolver, and TLS configurations by their settings.
#[derive(Debug, Default)]
pub struct Net {
    _sketch: Option<SocketAddr>,
}
