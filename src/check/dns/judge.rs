//! What servers answered, held against what was expected, and the outcome of it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::message::{Message, Resource};
use super::records::RecordType;
use super::{CHAIN_MAX, Dns, Ignored, Look};
use crate::check::assertions::Assertions;
use crate::check::{Outcome, Phase, Verdict, certificates};
use crate::net::{Blame, Course, Net, blanked, shown};
use crate::secret::Secret;

/// Answers that a log carries, at most.
const ANSWERS_SHOWN: usize = 20;

/// The outcome of asking each server.
pub(super) fn outcome(dns: &Dns, net: &Net, course: &Course, looks: &[Look]) -> Outcome {
    let took = course.took();
    let mut assertions = Assertions::default();
    for look in looks {
        hold(dns, look, looks.len() > 1, &mut assertions);
    }
    if dns.expect.same_serial {
        same_serial(dns, looks, &mut assertions);
    }
    if looks.iter().all(|look| look.answer.is_ok()) {
        if let Some(limit) = dns.expect.under {
            assertions.under(limit, took);
        }
        if let Some(days) = dns.expect.certificate_days {
            certificates::days(days, net, course, &mut assertions);
        }
    }
    let judged = assertions.verdict();
    let (verdict, phase, reason) = match (failure(looks, Blame::Target), failure(looks, Blame::Agent)) {
        (Some((phase, reason)), _) => (Verdict::Down, Some(phase), Some(reason)),
        // What one server did wrong is known, whatever kept the agent from asking another.
        (None, Some((phase, reason))) if judged.0 != Verdict::Down => (Verdict::Unknown, Some(phase), Some(reason)),
        _ => judged,
    };
    Outcome {
        verdict,
        phase,
        reason,
        phases: course.phases(),
        assertions: assertions.listed,
        result: result(dns, net, course, looks),
        timeline: course.timeline.spans(),
    }
}

/// In which phase the first of those failed who are at fault like this, and the reasons of all of them.
fn failure(looks: &[Look], blame: Blame) -> Option<(Phase, String)> {
    let failures =
        || looks.iter().filter_map(|look| look.answer.as_ref().err()).filter(|failure| failure.blame == blame);
    let phase = failures().next()?.phase;
    Some((phase, failures().map(|failure| failure.reason.as_str()).collect::<Vec<_>>().join("; ")))
}

/// Holds the answer of one server; `named` says which it is, where there are others.
fn hold(dns: &Dns, look: &Look, named: bool, to: &mut Assertions<'_>) {
    let Ok(message) = &look.answer else { return };
    let expect = &dns.expect;
    let what = |key: &str| if named { format!("{} {key}", look.server) } else { key.to_owned() };
    let by = if named { format!("{}: ", look.server) } else { String::new() };
    let whose = |who: &str| if named { format!("{who} of {}", look.server) } else { who.to_owned() };
    let (answers, _) = message.answers_to(&dns.name, dns.record);
    let texts: Vec<String> = answers.iter().map(|one| one.data.clone()).collect();

    let (got, expected) = (message.rcode, expect.rcode);
    let reason = || format!("{by}{got}{}, expected {expected}{}", got.meaning(), explained(message));
    to.must(got == expected, &what("rcode"), expected.to_string(), got.to_string(), reason);
    if let Some(expected) = expect.authoritative {
        let word = |is: bool| if is { "authoritative" } else { "not authoritative" };
        let reason = || format!("{by}the answer is {}", word(message.authoritative));
        let held = message.authoritative == expected;
        to.must(held, &what("authoritative"), word(expected), word(message.authoritative), reason);
    }
    if expect.answers_min > 0 {
        let (got, least) = (texts.len(), expect.answers_min);
        let reason = || format!("{by}{}, expected at least {least}{}", counted(dns, got), without(dns, message));
        let held = u32::try_from(got).unwrap_or(u32::MAX) >= least;
        to.must(held, &what("answers_min"), format!("at least {least}"), got.to_string(), reason);
    }
    let same = |expected: &str, got: &str| dns.record.canonical(expected) == got;
    to.texts(&what("answers"), &whose("answer"), &expect.answers, &texts, same);
    if let Some(expected) = &expect.exactly {
        exactly(dns.record, &what("answers.exactly"), &by, expected, &texts, to);
    }
    let authority: Vec<String> =
        message.authority.iter().map(|one| format!("{} {} {}", one.name, one.record, one.data)).collect();
    to.texts(&what("authority"), &whose("record in the authority section"), &expect.authority, &authority, str::eq);
}

/// Lists that the answers are these, in whatever order.
fn exactly(record: RecordType, what: &str, by: &str, expected: &[Secret], got: &[String], to: &mut Assertions<'_>) {
    // What is not to be shown may come back in lower case.
    let secrets: Vec<String> = expected
        .iter()
        .flat_map(Secret::kept_elsewhere)
        .flat_map(|secret| [secret.to_owned(), secret.to_ascii_lowercase()])
        .collect();
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    let list = |texts: &BTreeSet<String>| match texts.len() {
        0 => "none".to_owned(),
        _ => {
            let some: Vec<&str> = texts.iter().take(ANSWERS_SHOWN).map(String::as_str).collect();
            shown(&blanked(some.join(", ").as_bytes(), &secrets))
        }
    };
    let expected: BTreeSet<String> = expected.iter().map(|text| record.canonical(text.expose())).collect();
    let got: BTreeSet<String> = got.iter().cloned().collect();
    let (wanted, came) = (list(&expected), list(&got));
    let reason = || format!("{by}the answers are `{came}`, expected exactly `{wanted}`");
    to.must(got == expected, what, wanted.clone(), came.clone(), reason);
}

/// Lists that all servers have the same version of the zone.
fn same_serial(dns: &Dns, looks: &[Look], to: &mut Assertions<'_>) {
    let serials: Vec<(&str, Option<u64>)> =
        looks.iter().filter_map(|look| Some((look.server.as_str(), serial(dns, look.answer.as_ref().ok()?)))).collect();
    let listed = serials.iter().map(|(server, serial)| match serial {
        Some(serial) => format!("{serial} at {server}"),
        None => format!("none at {server}"),
    });
    let listed = listed.collect::<Vec<_>>().join(", ");
    let first = serials.first().and_then(|(_, serial)| *serial);
    let held = first.is_some() && serials.iter().all(|(_, serial)| *serial == first);
    to.must(held, "same_serial", "the same everywhere", listed.clone(), || format!("serial numbers differ: {listed}"));
}

/// The version of the zone (RFC 1035, section 3.3.13).
fn serial(dns: &Dns, message: &Message) -> Option<u64> {
    let (answers, _) = message.answers_to(&dns.name, dns.record);
    let zone = answers.iter().find(|one| one.record == RecordType::SOA)?;
    zone.data.split(' ').nth(2)?.parse().ok()
}

fn counted(dns: &Dns, count: usize) -> String {
    let (name, record) = (dns.name.bare(), dns.record);
    match count {
        0 => format!("no {record} record of `{name}`"),
        1 => format!("1 {record} record of `{name}`"),
        count => format!("{count} {record} records of `{name}`"),
    }
}

/// Why there may be no answer, as far as the server tells.
fn without(dns: &Dns, message: &Message) -> String {
    let (answers, aliases) = message.answers_to(&dns.name, dns.record);
    let has = |record: RecordType| message.authority.iter().find(|one| one.record == record);
    match (aliases.last(), has(RecordType::NS)) {
        _ if !answers.is_empty() => String::new(),
        _ if aliases.len() >= CHAIN_MAX => format!(": it has more than {CHAIN_MAX} aliases, or they run in a circle"),
        (Some(alias), _) => format!(": it is an alias of `{alias}`, of which the server says nothing"),
        (None, Some(Resource { data, .. })) if !message.authoritative && has(RecordType::SOA).is_none() => {
            format!(": the server knows nothing of it and refers to `{data}`")
        }
        _ => String::new(),
    }
}

/// What the server itself says of its error.
fn explained(message: &Message) -> String {
    let Some((code, text)) = &message.extended else { return String::new() };
    let meaning = EXTENDED_ERRORS.get(usize::from(*code)).unwrap_or(&"unknown");
    match text.is_empty() {
        true => format!("; extended error {code}, {meaning}"),
        false => format!("; extended error {code}, {meaning}: `{}`", shown(text.as_bytes())),
    }
}

/// The registry of extended errors, by their numbers (RFC 8914, section 5.2).
const EXTENDED_ERRORS: [&str; 25] = [
    "other",
    "unsupported DNSKEY algorithm",
    "unsupported DS digest type",
    "stale answer",
    "forged answer",
    "DNSSEC indeterminate",
    "DNSSEC bogus",
    "signature expired",
    "signature not yet valid",
    "DNSKEY missing",
    "RRSIGs missing",
    "no zone key bit set",
    "NSEC missing",
    "cached error",
    "not ready",
    "blocked",
    "censored",
    "filtered",
    "prohibited",
    "stale NXDOMAIN answer",
    "not authoritative",
    "not supported",
    "no reachable authority",
    "network error",
    "invalid data",
];

/// The `result` of the log: of one server as it is, of several as a list.
fn result(dns: &Dns, net: &Net, course: &Course, looks: &[Look]) -> Map<String, Value> {
    let mut result = match looks {
        [look] => of_server(dns, look),
        looks => {
            let each = looks.iter().map(|look| {
                let mut told = of_server(dns, look);
                told.insert("server".to_owned(), look.server.as_str().into());
                if let Err(failure) = &look.answer {
                    told.insert("failed".to_owned(), failure.reason.as_str().into());
                }
                Value::Object(told)
            });
            Map::from_iter([("servers".to_owned(), each.collect())])
        }
    };
    result.insert("phases".to_owned(), json!(course.phases()));
    if let Some(tls) = certificates::figures(net, course) {
        result.insert("tls".to_owned(), tls);
    }
    result
}

fn of_server(dns: &Dns, look: &Look) -> Map<String, Value> {
    let mut result = Map::new();
    let mut set = |key: &str, value: Value| result.insert(key.to_owned(), value);
    if let Some(address) = look.address {
        set("address", address.to_string().into());
    }
    set("transport", look.transport.name().into());
    if look.cut {
        set("cut_by_udp", true.into());
    }
    if let Ok(message) = &look.answer {
        let (answers, aliases) = message.answers_to(&dns.name, dns.record);
        set("rcode", message.rcode.to_string().into());
        set("authoritative", message.authoritative.into());
        set("answer_count", answers.len().into());
        set("answers", answers.iter().take(ANSWERS_SHOWN).map(|one| shown(one.data.as_bytes())).collect());
        answers.iter().map(|one| one.ttl).min().into_iter().for_each(|ttl| drop(set("ttl", ttl.into())));
        if !aliases.is_empty() {
            set("aliases", aliases.iter().map(ToString::to_string).collect());
        }
        serial(dns, message).into_iter().for_each(|serial| drop(set("serial", serial.into())));
        if let Some((code, text)) = &message.extended {
            set("extended_error", json!({"code": code, "text": shown(text.as_bytes())}));
        }
        set("bytes", look.bytes.into());
    }
    if look.ignored.all() > 0 {
        let Ignored { source, id, question, garbage } = look.ignored;
        set("ignored", json!({"source": source, "id": id, "question": question, "garbage": garbage}));
    }
    if !look.silent.is_empty() {
        set("silent", look.silent.iter().map(String::as_str).collect());
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::http::Text;
    use crate::secret::Origin;

    #[test]
    fn a_secret_that_is_expected_is_shown_neither_as_it_is_nor_in_lower_case() {
        let secret = || Secret::new("Hunter2.example").from(Origin::File("secrets/alias".into()));
        let got = ["hunter2.example.".to_owned(), "other.example.".to_owned()];
        let mut assertions = Assertions::default();
        exactly(RecordType::CNAME, "answers.exactly", "", &[secret()], &got, &mut assertions);
        let text = Text { contains: Some(secret()), ..Text::default() };
        assertions.texts("answers", "answer", &text, &["other.example.".to_owned()], str::eq);
        let told = format!("{:?}", (&assertions.listed, assertions.verdict()));
        assert!(told.contains("***") && !told.to_lowercase().contains("hunter2"), "{told}");
    }
}
