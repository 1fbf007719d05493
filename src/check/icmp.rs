//! `icmp` checks: their settings. Not available in this build yet; `config` refuses them.

use std::time::Duration;

use crate::net::{Host, IpFamily};

/// Whom to ask for an echo, and what to expect.
#[derive(Clone, Debug)]
pub struct Icmp {
    /// The name or address to send to.
    pub host: Host,
    /// Which addresses of the name to take.
    pub ip: IpFamily,
    /// How many echo requests; at least 1.
    pub count: u32,
    /// More loss than this many percent: down.
    pub loss: u8,
    /// A slower average: degraded.
    pub under: Option<Duration>,
}
