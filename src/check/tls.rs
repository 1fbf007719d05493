//! `tls` checks: their settings. Not available in this build yet; `config` refuses them.

use std::sync::Arc;
use std::time::Duration;

use crate::net::{Host, IpFamily, TlsSettings};

/// Where to shake hands, and what to expect.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The name or address to connect to.
    pub host: Host,
    /// Its port; never 0.
    pub port: u16,
    /// Which addresses of the name to take.
    pub ip: IpFamily,
    /// How.
    pub tls: Arc<TlsSettings>,
    /// A check that takes longer is degraded.
    pub under: Option<Duration>,
    /// Fewer days left on any certificate of the chain: degraded.
    pub certificate_days: Option<u32>,
}
