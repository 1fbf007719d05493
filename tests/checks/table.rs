//! A case is a name, a check, and what must come of it. Cases of a table run at the same time, each on a thread of its own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pingeon::check::dns::Dns;
use pingeon::check::exec::Exec;
use pingeon::check::http::{Expect, Http, Text};
use pingeon::check::icmp::Icmp;
use pingeon::check::tcp::{Step, Tcp};
use pingeon::check::tls::Tls;
use pingeon::check::{self, Check, Kind, Outcome, Phase, Verdict};
use pingeon::clock::SystemClock;
use pingeon::net::lookup::Unresolved;
use pingeon::net::{Host, IpFamily, Net};
use pingeon::secret::Secret;

/// Time that a case gets which is meant to use it up.
pub const SHORT: Duration = Duration::from_millis(300);
/// Time that a case gets which is not.
pub const LONG: Duration = Duration::from_secs(20);
/// How late a check may come back on a loaded machine. The promise is 50 ms; an idle machine keeps it.
const SLACK: Duration = Duration::from_millis(300);

pub struct Case {
    pub name: &'static str,
    pub kind: Kind,
    pub timeout: Duration,
    pub net: Arc<Net>,
    pub verdict: Verdict,
    pub phase: Option<Phase>,
    /// Part of the reason.
    pub reason: &'static str,
    /// More that must hold.
    pub also: fn(&Outcome),
}

/// A case in one line: name, check, verdict, phase, part of the reason.
pub fn case(
    name: &'static str,
    kind: impl Into<Probe>,
    verdict: Verdict,
    phase: Option<Phase>,
    reason: &'static str,
) -> Case {
    let Probe(kind) = kind.into();
    Case { name, kind, timeout: LONG, net: net(), verdict, phase, reason, also: |_| {} }
}

impl Case {
    pub fn within(self, timeout: Duration) -> Self {
        Case { timeout, ..self }
    }

    pub fn on(self, net: Arc<Net>) -> Self {
        Case { net, ..self }
    }

    pub fn also(self, also: fn(&Outcome)) -> Self {
        Case { also, ..self }
    }
}

pub struct Probe(Kind);

impl From<Http> for Probe {
    fn from(http: Http) -> Self {
        Probe(Kind::Http(Box::new(http)))
    }
}

impl From<Kind> for Probe {
    fn from(kind: Kind) -> Self {
        Probe(kind)
    }
}

impl From<Tcp> for Probe {
    fn from(tcp: Tcp) -> Self {
        Probe(Kind::Tcp(Box::new(tcp)))
    }
}

impl From<Tls> for Probe {
    fn from(tls: Tls) -> Self {
        Probe(Kind::Tls(Box::new(tls)))
    }
}

impl From<Dns> for Probe {
    fn from(dns: Dns) -> Self {
        Probe(Kind::Dns(Box::new(dns)))
    }
}

impl From<Icmp> for Probe {
    fn from(icmp: Icmp) -> Self {
        Probe(Kind::Icmp(Box::new(icmp)))
    }
}

impl From<Exec> for Probe {
    fn from(exec: Exec) -> Self {
        Probe(Kind::Exec(Box::new(exec)))
    }
}

/// Runs all cases at once and says of every one that fails how.
pub fn run(cases: Vec<Case>) {
    let running: Vec<_> = cases.into_iter().map(|case| (case.name, std::thread::spawn(move || judge(&case)))).collect();
    let failed: Vec<String> = running
        .into_iter()
        .filter_map(|(name, thread)| match thread.join() {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(format!("{name}: {why}")),
            Err(_) => Some(format!("{name}: panicked, see above")),
        })
        .collect();
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

fn judge(case: &Case) -> Result<(), String> {
    let began = Instant::now();
    let outcome = look(case.kind.clone(), &case.net, case.timeout);
    let took = began.elapsed();
    let reason = outcome.reason.clone().unwrap_or_default();
    let got = (outcome.verdict, outcome.phase);
    let reason_fits = if case.reason.is_empty() { reason.is_empty() } else { reason.contains(case.reason) };
    if got != (case.verdict, case.phase) || !reason_fits {
        let Case { verdict, phase, reason: wanted, .. } = case;
        return Err(format!("expected {verdict} {phase:?} `{wanted}`\n    got {} {:?} `{reason}`", got.0, got.1));
    }
    if took > case.timeout + SLACK {
        return Err(format!("came back after {took:?}, deadline was {:?}", case.timeout));
    }
    // None that comes after the phase that failed was reached, unless by a hop or a step before, at another address, by another
    // server, or by UDP; or in TLS 1.3, where a server tells only after the handshake that it misses a certificate.
    let before = ["hops", "received", "addresses", "servers", "cut_by_udp", "steps"];
    let before = before.iter().any(|key| outcome.result.contains_key(*key));
    let apart = before || reason.contains("asked for a client certificate");
    if let Some(phase) = outcome.phase.filter(|phase| *phase != Phase::Assert && !apart) {
        let later = Phase::TIMED.iter().filter(|later| **later > phase && **later < Phase::Body);
        if let Some(later) = later.clone().find(|later| outcome.phases.get(**later).is_some()) {
            return Err(format!("failed in {phase}, but has a time for {later}: {:?}", outcome.phases));
        }
    }
    let carried = serde_json::to_value(outcome.phases).unwrap();
    if outcome.result.get("phases") != Some(&carried) {
        return Err(format!("result has other phases: {:?}", outcome.result));
    }
    (case.also)(&outcome);
    Ok(())
}

/// Runs a check.
pub fn look(kind: Kind, net: &Net, timeout: Duration) -> Outcome {
    let check = Check {
        label: "case".into(),
        interval: timeout,
        timeout,
        confirm: Default::default(),
        target: "case".into(),
        kind,
    };
    check::run(&check, net, Instant::now() + timeout)
}

/// A network without proxies whose name service knows a few names.
pub fn net() -> Arc<Net> {
    net_with(&[])
}

/// The same with an environment.
pub fn net_with(environment: &[(&str, &str)]) -> Arc<Net> {
    let environment: HashMap<String, String> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Arc::new(Net::new(Arc::new(SystemClock), |name| environment.get(name).cloned(), Arc::new(names)))
}

/// The addresses of `many.example`: one more than are looked at.
pub const MANY: [&str; 17] = [
    "127.0.0.1",
    "127.0.0.2",
    "127.0.0.3",
    "127.0.0.4",
    "127.0.0.5",
    "127.0.0.6",
    "127.0.0.7",
    "127.0.0.8",
    "127.0.0.9",
    "127.0.0.10",
    "127.0.0.11",
    "127.0.0.12",
    "127.0.0.13",
    "127.0.0.14",
    "127.0.0.15",
    "127.0.0.16",
    "127.0.0.17",
];

static REBOUND: AtomicBool = AtomicBool::new(false);

fn names(name: &str, family: IpFamily) -> Result<Vec<IpAddr>, Unresolved> {
    let addresses: &[&str] = match name {
        "local.example" | "other.example" | "proxy.example" => &["127.0.0.1"],
        // The second address refuses on any port that only listens on the first.
        "first-refuses.example" => &["127.0.0.2", "127.0.0.1"],
        "all-refuse.example" => &["127.0.0.2", "127.0.0.3"],
        "no-way-first.example" => &["2001:db8:9::1", "127.0.0.1"],
        "v4-only.example" if family == IpFamily::V6 => return Err(Unresolved::NoAddress),
        "v4-only.example" => &["127.0.0.1"],
        "both.example" => &["127.0.0.1", "127.0.0.2"],
        // Nobody connects to a multicast address.
        "one-unreachable.example" => &["127.0.0.1", "224.0.0.1"],
        "many.example" => &MANY,
        // Nobody's: a check that is not held back must not end at what tells a machine its credentials.
        "link-local.example" => &["169.254.1.1"],
        "mapped.example" => &["::ffff:169.254.1.1"],
        "half-local.example" => &["169.254.1.1", "127.0.0.1"],
        // Another address the second time.
        "rebinds.example" => match REBOUND.swap(true, Ordering::Relaxed) {
            false => &["127.0.0.1"],
            true => &["169.254.1.1"],
        },
        "servfail.example" => return Err(Unresolved::NoAnswer),
        "slow.example" => {
            std::thread::park_timeout(Duration::from_secs(5));
            return Err(Unresolved::NoAnswer);
        }
        _ => return Err(Unresolved::NoSuchName),
    };
    Ok(addresses.iter().map(|address| address.parse().unwrap()).collect())
}

/// A plain GET of `url` that expects 200-299.
pub fn get(url: impl AsRef<str>) -> Http {
    Http::get(url.as_ref().parse().unwrap())
}

/// `http` after `change`.
pub fn with(mut http: Http, change: impl FnOnce(&mut Http)) -> Http {
    change(&mut http);
    http
}

/// A connection to `port` here, and `dialogue` over it.
pub fn tcp(port: u16, dialogue: Vec<Step>) -> Tcp {
    Tcp { dialogue, ..Tcp::to(Host::Address([127, 0, 0, 1].into()), port) }
}

/// A text that must contain `part`.
pub fn contains(part: &str) -> Text {
    Text { contains: Some(Secret::new(part)), ..Text::default() }
}

/// A text that must match `regex`.
pub fn matches(regex: &str) -> Text {
    Text { matches: Some(regex.parse().unwrap()), ..Text::default() }
}

/// A text that must not contain `part`.
pub fn lacks(part: &str) -> Text {
    Text { not_contains: Some(Secret::new(part)), ..Text::default() }
}

/// What `http` expects, to be changed.
pub fn expect(http: &mut Http) -> &mut Expect {
    Arc::make_mut(&mut http.expect)
}
