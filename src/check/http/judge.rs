//! What came, held against what was expected, and the outcome of it.
//!
//! Every expectation is looked at and listed, as far as there is something to look at. The first that makes the check down
//! gives the reason; limits (`under`, `certificate_days`) make it degraded, which a down beats.

use std::time::Duration;

use serde_json::{Map, Value, json};
use ureq::http::Version;

use super::answer::{Answer, Head};
use super::take::Taken;
use super::{Expect, Http, Text, Visit};
use crate::check::assertions::Assertions;
use crate::check::certificates;
use crate::check::{Outcome, Phase};
use crate::net::timeline::Span;
use crate::net::{Blame, Failure, Net, blanked};
use crate::secret::Secret;

impl Expect {
    /// Whether an answer may have this status.
    pub fn allows(&self, status: u16) -> bool {
        self.status.iter().any(|(from, until)| (*from..=*until).contains(&status))
    }

    /// Whether any expectation needs the body itself.
    pub fn looks_at_body(&self) -> bool {
        !self.body.is_empty() || !self.json.is_empty()
    }
}

/// The outcome of a visit, that failed or came to its end, and of what it was to take.
pub fn outcome(http: &Http, net: &Net, visit: &Visit, failure: Option<Failure>, taken: &[Taken<'_>]) -> Outcome {
    let took = visit.course.took();
    let hidden = http.hidden();
    let mut secrets: Vec<&str> = hidden.iter().map(AsRef::as_ref).collect();
    secrets.extend(taken.iter().flat_map(|one| &one.spellings).map(Secret::expose));
    // What was taken was not known yet when it failed.
    let failure = failure.map(|failure| Failure { reason: without(&failure.reason, &secrets), ..failure });
    let mut assertions = Assertions::without(secrets);
    hold_head(&http.expect, &visit.answer, &mut assertions);
    if failure.is_none() {
        hold_rest(&http.expect, net, visit, took, &mut assertions);
        taken.iter().for_each(|one| one.hold(&mut assertions));
    }
    let forbidden = refused_by_proxy(visit);
    let (verdict, phase, reason) = assertions.verdict_after(failure.or(forbidden));
    Outcome {
        verdict,
        phase,
        reason,
        phases: visit.course.phases(),
        assertions: assertions.listed,
        result: result(net, visit),
        timeline: timeline(visit, taken),
    }
}

/// What happened when. What was taken was not known yet when the answer's head was noted, and maybe cut.
fn timeline(visit: &Visit, taken: &[Taken<'_>]) -> Vec<Span> {
    let mut spans = visit.course.timeline.spans();
    let secrets: Vec<&str> = taken.iter().flat_map(|one| &one.spellings).map(Secret::expose).collect();
    for note in spans.iter_mut().flat_map(|span| &mut span.notes).filter(|_| !secrets.is_empty()) {
        *note = without(note, &secrets);
    }
    spans
}

/// What was told already, without `secrets`. Where it was cut, one may have lost its end.
fn without(told: &str, secrets: &[&str]) -> String {
    let parts = told.split('…').map(|part| String::from_utf8_lossy(&blanked(part.as_bytes(), secrets)).into_owned());
    parts.collect::<Vec<_>>().join("…")
}

/// A forwarding proxy that wants credentials answers in the target's place.
fn refused_by_proxy(visit: &Visit) -> Option<Failure> {
    let status = visit.answer.head.as_ref()?.status.as_u16();
    let reason = "the proxy asks for credentials (status 407)".to_owned();
    (visit.forwarded && status == 407).then_some(Failure { phase: Phase::FirstByte, blame: Blame::Agent, reason })
}

fn hold_head(expect: &Expect, answer: &Answer, to: &mut Assertions<'_>) {
    let Some(head) = &answer.head else { return };
    status(expect, head, to);
    if let Some(accepted) = &answer.websocket {
        let got = accepted.as_ref().map_or_else(String::as_str, |()| "accepted");
        to.must(accepted.is_ok(), "websocket", "accepted", got, || format!("no WebSocket: {got}"));
    }
    for (name, text) in &expect.headers {
        header(name, text, head, to);
    }
}

/// What can only be told of an answer that came whole, and of a check that came to its end.
fn hold_rest(expect: &Expect, net: &Net, visit: &Visit, took: Duration, to: &mut Assertions<'_>) {
    body(expect, &visit.answer, to);
    if let Some(limit) = expect.under {
        to.under(limit, took);
    }
    if let Some(days) = expect.certificate_days {
        certificates::days(days, net, &visit.course, to);
    }
}

fn status(expect: &Expect, head: &Head, to: &mut Assertions<'_>) {
    let status = head.status.as_u16();
    let held = expect.allows(status);
    let ranges = expect.status.iter().map(|(from, until)| match from == until {
        true => from.to_string(),
        false => format!("{from}-{until}"),
    });
    let expected = ranges.collect::<Vec<_>>().join(", ");
    let reason = || format!("status {status}, expected {expected}");
    to.must(held, "status", expected.clone(), status.to_string(), reason);
}

/// A header that is absent fails whatever is expected of it, also that it must not hold something: otherwise a typing
/// mistake in its name would go unseen.
fn header(name: &str, text: &Text, head: &Head, to: &mut Assertions<'_>) {
    let what = format!("headers.{name}");
    let who = format!("header `{name}`");
    match head.header(name) {
        Some(value) => {
            if text.is_empty() {
                to.must(true, &what, "present", to.got(&value), String::new);
            }
            to.text(&what, &who, text, &value);
        }
        None => to.must(false, &what, "present", "absent", || format!("{who} is absent")),
    }
}

fn body(expect: &Expect, answer: &Answer, to: &mut Assertions<'_>) {
    to.text("body", "body", &expect.body, &answer.body);
    if expect.json.is_empty() {
        return;
    }
    let read = serde_json::from_slice::<Value>(&answer.body);
    for (pointer, expected) in &expect.json {
        let what = format!("body.json.{pointer}");
        let wanted = expected.to_string();
        let found = match &read {
            Ok(body) => body.pointer(pointer),
            Err(_) => {
                let why = if answer.cut { "not JSON, cut at `body_max`" } else { "not JSON" };
                to.must(false, &what, wanted, why, || format!("body is {why}"));
                continue;
            }
        };
        match found {
            Some(found) => {
                let got = to.got(found.to_string().as_bytes());
                let reason = || format!("`{pointer}` is {got}, expected {wanted}");
                to.must(equal(found, expected), &what, wanted.clone(), got.clone(), reason);
            }
            None => {
                to.must(false, &what, wanted.clone(), "absent", || format!("`{pointer}` is absent, expected {wanted}"))
            }
        }
    }
}

/// Equal as values: YAML reads `1` and JSON `1.0`, and nobody means them to differ.
fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (one, other) => one == other,
    }
}

/// The `result` of the log. Every log carries it, so it is kept small.
fn result(net: &Net, visit: &Visit) -> Map<String, Value> {
    let Visit { course, answer, hops, .. } = visit;
    let mut result = Map::new();
    let mut set = |key: &str, value: Value| result.insert(key.to_owned(), value);
    if let Some(head) = &answer.head {
        set("status_code", head.status.as_u16().into());
        set("http_version", version(head.version).into());
        set("bytes", answer.bytes.into());
        if answer.cut {
            set("body_cut", true.into());
        }
    }
    set("phases", json!(course.phases()));
    if let Some(address) = course.address {
        set("address", address.to_string().into());
    }
    if *hops > 0 {
        set("hops", (*hops).into());
    }
    if let Some(tls) = certificates::figures(net, course) {
        set("tls", tls);
    }
    result
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}
