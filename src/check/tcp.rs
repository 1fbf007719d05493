//! `tcp` checks.

use std::time::{Duration, Instant};

use super::Outcome;
use crate::net::{Host, IpFamily, Net};

/// Where to connect, what to say, and what to expect.
#[derive(Clone, Debug)]
pub struct Tcp {
    /// The name or address to connect to.
    pub host: Host,
    /// Its port; never 0.
    pub port: u16,
    /// Which addresses of the name to take.
    pub ip: IpFamily,
    /// Each step in turn, after connecting.
    pub dialogue: Vec<Step>,
    /// A check that takes longer is degraded.
    pub under: Option<Duration>,
}

/// A step of a dialogue.
#[derive(Clone, Debug)]
pub enum Step {
    /// Read until this matches what has come since the last step.
    Expect(regex::bytes::Regex),
    /// Send these bytes.
    Send(Vec<u8>),
    /// Go on in TLS. Not available in this build yet; `config` refuses it.
    StartTls,
}

/// Connects once.
pub fn run(_tcp: &Tcp, _net: &Net, _deadline: Instant) -> Outcome {
    Outcome::unknown("not built yet")
}
