//! `dns` checks: their settings. Not available in this build yet; `config` refuses them.

use std::time::Duration;

use super::http::Text;

/// What to ask of whom, and what to expect.
#[derive(Clone, Debug)]
pub struct Dns {
    /// The name to ask for.
    pub name: String,
    /// The record type, in capitals: `A`, `MX` …
    pub record: String,
    /// Whom to ask: `address:port`.
    pub server: std::net::SocketAddr,
    /// How to ask.
    pub transport: Transport,
    /// The response code that must come back, in capitals: `NOERROR`.
    pub rcode: String,
    /// What one of the answers must be.
    pub answers: Text,
    /// How many answers there must be at least.
    pub answers_min: u32,
    /// A check that takes longer is degraded.
    pub under: Option<Duration>,
}

/// How to ask a DNS server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams, then TCP for an answer that was cut off.
    Udp,
    /// TCP.
    Tcp,
    /// DNS over TLS (RFC 7858).
    Tls,
}
