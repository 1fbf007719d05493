//! `ip: each`: every address that a name has is looked at by itself, one after the other, and all must pass.
//!
//! The name is resolved once. Each address then has a fair share of the time that is left, goes through phases of its own, and
//! is held against all that is expected, `under` included. The figures of the phases are the sum over all of them. One that is
//! down makes the check down; otherwise one that could not be judged makes it unknown: it has not passed.

use std::time::Instant;

use serde_json::{Map, Value, json};

use super::assertions::Assertions;
use super::{Assertion, Outcome, Verdict};
use crate::net::{ADDRESSES_MAX, Course, Failure, Host, IpFamily, Net, share};

/// How many addresses' reasons are told in the one of the check; `result` has all.
const REASONS_MAX: usize = 3;

/// Looks at every address of `host` by `look`, which is to come back by the instant that it is given.
pub fn each(host: &Host, port: u16, net: &Net, deadline: Instant, look: impl Fn(Host, Instant) -> Outcome) -> Outcome {
    let mut course = net.course(deadline);
    let addresses = match net.resolve(host, port, IpFamily::Each, &mut course) {
        Ok(addresses) => addresses,
        Err(failure) => return unresolved(failure, &course),
    };
    course.leave();
    let looked_at = &addresses[..addresses.len().min(ADDRESSES_MAX)];
    let looks = looked_at.iter().enumerate().map(|(at, address)| {
        let until = share(Instant::now(), deadline, looked_at.len() - at);
        (address.to_string(), look(Host::Address(address.ip()), until))
    });
    let looks: Vec<(String, Outcome)> = looks.collect();
    all(&looks, &course, addresses.len() > looked_at.len())
}

fn unresolved(failure: Failure, course: &Course) -> Outcome {
    let (verdict, phase, reason) = Assertions::default().verdict_after(Some(failure));
    let (phases, timeline) = (course.phases(), course.timeline.spans());
    let result = Map::from_iter([("phases".to_owned(), json!(phases))]);
    Outcome { verdict, phase, reason, phases, assertions: Vec::new(), result, timeline }
}

/// One outcome out of those of all addresses; `more` than those were not looked at.
fn all(looks: &[(String, Outcome)], course: &Course, more: bool) -> Outcome {
    let mut phases = course.phases();
    looks.iter().for_each(|(_, outcome)| phases.add_all(&outcome.phases));
    let worst = looks.iter().map(|(_, outcome)| outcome.verdict).max_by_key(|verdict| badness(*verdict));
    let verdict = match worst.unwrap_or(Verdict::Unknown) {
        Verdict::Up | Verdict::Degraded if more => Verdict::Unknown,
        verdict => verdict,
    };
    let to_blame: Vec<&(String, Outcome)> = looks.iter().filter(|(_, outcome)| outcome.verdict == verdict).collect();
    let reason = match verdict {
        Verdict::Up => None,
        _ if to_blame.is_empty() => Some(format!("has more than {ADDRESSES_MAX} addresses, and no more are looked at")),
        _ => Some(told(&to_blame, looks.len())),
    };
    let phase = to_blame.first().and_then(|(_, outcome)| outcome.phase);
    let assertions =
        looks.iter().flat_map(|(address, outcome)| outcome.assertions.iter().map(move |one| at(address, one)));
    let addresses: Vec<Value> = looks.iter().map(|(address, outcome)| figures(address, outcome)).collect();
    let result =
        Map::from_iter([("phases".to_owned(), json!(phases)), ("addresses".to_owned(), Value::Array(addresses))]);
    let of_looks = looks.iter().flat_map(|(_, outcome)| outcome.timeline.iter().cloned());
    let timeline = course.timeline.spans().into_iter().chain(of_looks).collect();
    Outcome { verdict, phase, reason, phases, assertions: assertions.collect(), result, timeline }
}

pub(super) fn badness(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Up => 0,
        Verdict::Degraded => 1,
        Verdict::Unknown | Verdict::Missed => 2,
        Verdict::Down => 3,
    }
}

/// `192.0.2.7:443: status 503, expected 200-299 (1 of 2 addresses)`.
fn told(to_blame: &[&(String, Outcome)], of: usize) -> String {
    let reasons = to_blame.iter().take(REASONS_MAX).map(|(address, outcome)| {
        let reason = outcome.reason.as_deref().unwrap_or_default();
        format!("{address}: {reason}")
    });
    let more = if to_blame.len() > REASONS_MAX { "; …" } else { "" };
    let reasons = reasons.collect::<Vec<_>>().join("; ");
    match of {
        1 => reasons,
        of => format!("{reasons}{more} ({} of {of} addresses)", to_blame.len()),
    }
}

fn at(address: &str, assertion: &Assertion) -> Assertion {
    Assertion { what: format!("{address} {}", assertion.what), ..assertion.clone() }
}

/// What belongs to one address: its verdict, and the result that a check of it alone would have.
fn figures(address: &str, outcome: &Outcome) -> Value {
    let own = outcome.result.iter().filter(|(key, _)| *key != "address");
    let own = own.map(|(key, value)| (key.clone(), value.clone()));
    let figures = [("address".to_owned(), address.into())].into_iter().chain(judged(outcome)).chain(own);
    Value::Object(figures.collect())
}

/// What a part of a check came to, as the log of a check says it of the whole.
pub(super) fn judged(outcome: &Outcome) -> [(String, Value); 3] {
    [
        ("verdict".to_owned(), json!(outcome.verdict)),
        ("phase".to_owned(), json!(outcome.phase)),
        ("reason".to_owned(), json!(outcome.reason)),
    ]
}
