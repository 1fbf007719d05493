//! Checks: each looks at one target once and gives an [`Outcome`].
//!
//! A target that is down is an outcome, never an error. A check that could not judge its target (no permission, the agent's
//! own fault) is `unknown`, never `down`. Nothing is retried behind the user's back, and one deadline bounds all of it.
//! The settings in here come out of [`crate::config`] and cannot hold a bad value.

mod assertions;
pub mod certificates;
mod confirm;
pub mod dns;
mod each;
pub mod exec;
pub mod http;
pub mod icmp;
mod pattern;
pub mod show;
pub mod tcp;
pub mod tls;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use confirm::Confirm;
pub use pattern::Pattern;

use crate::net::Net;
use crate::net::timeline::Span;

/// A check that the config names: what to look at, how often, and for how long at most.
#[derive(Clone, Debug)]
pub struct Check {
    /// The name that its logs carry; unique within one agent.
    pub label: Arc<str>,
    /// How far apart its slots are.
    pub interval: Duration,
    /// How long the whole check may take; never longer than the interval.
    pub timeout: Duration,
    /// Results that turn the shown state; logs are never altered by it.
    pub confirm: Confirm,
    /// What its logs name as the target: never holds a credential.
    pub target: Arc<str>,
    /// What to do, with the settings of its kind.
    pub kind: Kind,
}

/// The kinds of check, each with its own settings. Boxed, so that ten thousand checks stay small.
#[derive(Clone, Debug)]
pub enum Kind {
    /// An HTTP request.
    Http(Box<http::Http>),
    /// Several, one after the other.
    Steps(Box<http::Steps>),
    /// A TCP connection, and a dialogue over it.
    Tcp(Box<tcp::Tcp>),
    /// A TLS handshake.
    Tls(Box<tls::Tls>),
    /// ICMP echo requests.
    Icmp(Box<icmp::Icmp>),
    /// A DNS query.
    Dns(Box<dns::Dns>),
    /// A monitoring plugin.
    Exec(Box<exec::Exec>),
}

impl Kind {
    /// The kind's name, as in the config and in logs.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Http(_) | Kind::Steps(_) => "http",
            Kind::Tcp(_) => "tcp",
            Kind::Tls(_) => "tls",
            Kind::Icmp(_) => "icmp",
            Kind::Dns(_) => "dns",
            Kind::Exec(_) => "exec",
        }
    }
}

/// What a look at a target, or a slot without one, came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Works.
    Up,
    /// Works, but past a set limit: slow, certificate near its end.
    Degraded,
    /// Does not work.
    Down,
    /// Could not be judged; the reason says why.
    Unknown,
    /// Was due and did not run; the reason says why.
    Missed,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Verdict; 5] = [Verdict::Up, Verdict::Degraded, Verdict::Down, Verdict::Unknown, Verdict::Missed];

    /// The word that logs and people see.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Up => "up",
            Verdict::Degraded => "degraded",
            Verdict::Down => "down",
            Verdict::Unknown => "unknown",
            Verdict::Missed => "missed",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The steps of a check, in their order. All but the last are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Name to address.
    Resolve,
    /// Address to connection; through a proxy, also the proxy's consent.
    Connect,
    /// The TLS handshake.
    Tls,
    /// The request goes out.
    Send,
    /// Until the first byte of the answer.
    FirstByte,
    /// The rest of the answer.
    Body,
    /// What was expected is held against what came.
    Assert,
}

impl Phase {
    /// The phases that take time, in their order.
    pub const TIMED: [Phase; 6] =
        [Phase::Resolve, Phase::Connect, Phase::Tls, Phase::Send, Phase::FirstByte, Phase::Body];

    /// The word that logs and people see.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Resolve => "resolve",
            Phase::Connect => "connect",
            Phase::Tls => "tls",
            Phase::Send => "send",
            Phase::FirstByte => "first_byte",
            Phase::Body => "body",
            Phase::Assert => "assert",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How long each timed phase took, in microseconds of the monotonic clock. A phase that was not reached is `None`
/// (null on the wire), never 0; one that was entered and failed has the time until it failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    /// Name to address; `None` for an address literal, which has nothing to resolve.
    pub resolve: Option<u64>,
    /// Address to connection.
    pub connect: Option<u64>,
    /// The TLS handshake.
    pub tls: Option<u64>,
    /// The request goes out.
    pub send: Option<u64>,
    /// Until the first byte of the answer.
    pub first_byte: Option<u64>,
    /// The rest of the answer.
    pub body: Option<u64>,
}

impl Phases {
    /// Adds time to a phase: a redirect goes through the phases once more, and a phase's figure is the sum over all hops.
    pub fn add(&mut self, phase: Phase, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let figure = match phase {
            Phase::Resolve => &mut self.resolve,
            Phase::Connect => &mut self.connect,
            Phase::Tls => &mut self.tls,
            Phase::Send => &mut self.send,
            Phase::FirstByte => &mut self.first_byte,
            Phase::Body => &mut self.body,
            Phase::Assert => return,
        };
        *figure = Some(figure.unwrap_or(0).saturating_add(micros));
    }

    /// Adds the times of `others`: the figures of a check are the sum over all that it did.
    pub fn add_all(&mut self, others: &Phases) {
        for phase in Phase::TIMED {
            if let Some(micros) = others.get(phase) {
                self.add(phase, Duration::from_micros(micros));
            }
        }
    }

    /// The time of a phase, in microseconds.
    pub fn get(&self, phase: Phase) -> Option<u64> {
        match phase {
            Phase::Resolve => self.resolve,
            Phase::Connect => self.connect,
            Phase::Tls => self.tls,
            Phase::Send => self.send,
            Phase::FirstByte => self.first_byte,
            Phase::Body => self.body,
            Phase::Assert => None,
        }
    }
}

/// One expectation held against what came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// What was looked at, as the config names it: `status`, `headers.content-type`, `body.contains`, `under`.
    pub what: String,
    /// What was expected, for people: `200-299`, `at most 800 ms`.
    pub expected: String,
    /// What came, for people; cut to a readable length.
    pub got: String,
    /// Whether it held.
    pub held: bool,
}

/// What a check found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What it came to; never [`Verdict::Missed`].
    pub verdict: Verdict,
    /// Where it failed; `None` when it did not.
    pub phase: Option<Phase>,
    /// Why, in words for people: `connection refused by 192.0.2.7:443`. `None` when up.
    pub reason: Option<String>,
    /// How long each phase took.
    pub phases: Phases,
    /// Every expectation, in the config's order, as far as they could be looked at.
    pub assertions: Vec<Assertion>,
    /// What belongs to the kind: the `result` of the log. Always a JSON object; where the kind has phases they are in it.
    pub result: serde_json::Map<String, serde_json::Value>,
    /// What happened when, where somebody watches: for people, and in no log.
    pub timeline: Vec<Span>,
}

impl Outcome {
    /// An outcome that could not be judged, for `reason`.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Outcome {
            verdict: Verdict::Unknown,
            phase: None,
            reason: Some(reason.into()),
            phases: Phases::default(),
            assertions: Vec::new(),
            result: serde_json::Map::new(),
            timeline: Vec::new(),
        }
    }
}

/// Looks at the target once. Returns by `deadline` (kept to within 50 ms), whatever the target does.
pub fn run(check: &Check, net: &Net, deadline: Instant) -> Outcome {
    match &check.kind {
        Kind::Http(http) => http::run(http, net, deadline),
        Kind::Steps(steps) => http::steps::run(steps, net, deadline),
        Kind::Tcp(tcp) => tcp::run(tcp, net, deadline),
        Kind::Tls(tls) => tls::run(tls, net, deadline),
        Kind::Dns(dns) => dns::run(dns, net, deadline),
        Kind::Icmp(icmp) => icmp::run(icmp, net, deadline),
        Kind::Exec(exec) => exec::run(exec, deadline),
    }
}
