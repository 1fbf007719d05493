//! What `pingeon check` shows a person of one outcome.

mod timeline;

use std::fmt::Write;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{Assertion, Check, Kind, Outcome, Phase, Phases, Verdict, exec, icmp};

/// Several lines: the verdict, why, what happened when, certificates, every assertion, and what a plugin printed. Readable without
/// colour.
pub fn show(check: &Check, outcome: &Outcome, took: Duration, colour: bool) -> String {
    let paint = |code: &str, text: &str| if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let verdict = paint(verdict_colour(outcome.verdict), outcome.verdict.name());
    let mut text = String::new();
    let _ = writeln!(text, "{}  {verdict} in {}  {}", paint("1", &check.label), millis(took), check.target);
    if let Some(reason) = &outcome.reason {
        let _ = match outcome.phase {
            Some(phase) => writeln!(text, "  {phase}: {reason}"),
            None => writeln!(text, "  {reason}"),
        };
    }
    timeline::lines(&mut text, &check.kind, outcome);
    tls_lines(&mut text, "  ", outcome.result.get("tls"));
    for address in outcome.result.get("addresses").and_then(Value::as_array).into_iter().flatten() {
        let called = address["address"].as_str().unwrap_or_default();
        part_lines(&mut text, called, address);
    }
    for (at, step) in outcome.result.get("steps").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let name = step["name"].as_str().map(|name| format!(" ({name})")).unwrap_or_default();
        part_lines(&mut text, &format!("step {}{name}", at + 1), step);
    }
    if let Kind::Icmp(_) = check.kind
        && let Some(line) = icmp::told_of(&outcome.result)
    {
        let _ = writeln!(text, "  {line}");
    }
    for assertion in &outcome.assertions {
        let mark = if assertion.held { paint("32", "ok") } else { paint("31", "no") };
        let _ = writeln!(text, "  {mark}  {}", assertion_line(assertion));
    }
    if let Kind::Exec(_) = &check.kind {
        for line in exec::lines(&outcome.result) {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

fn verdict_colour(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Up => "32",
        Verdict::Degraded => "33",
        Verdict::Down => "31",
        Verdict::Unknown | Verdict::Missed => "35",
    }
}

/// Every phase in its order; one that was not reached, or that this check has not, shows `-`.
fn phase_line(phases: &Phases) -> String {
    let figure = |phase: &Phase| match phases.get(*phase) {
        Some(micros) => format!("{phase} {}", millis(Duration::from_micros(micros))),
        None => format!("{phase} -"),
    };
    Phase::TIMED.iter().map(figure).collect::<Vec<_>>().join(" | ")
}

/// What a handshake told: each certificate a line, the server's own with its names and its pin.
fn tls_lines(text: &mut String, indent: &str, tls: Option<&Value>) {
    let Some(tls) = tls else { return };
    let spoken = ["version", "cipher"].iter().filter_map(|key| tls[*key].as_str()).collect::<Vec<_>>();
    if !spoken.is_empty() {
        let _ = writeln!(text, "{indent}TLS {}", spoken.join(", "));
    }
    for certificate in tls["certificates"].as_array().into_iter().flatten() {
        let word = |key: &str| certificate[key].as_str().unwrap_or_default();
        let date = |key: &str| word(key).chars().take(10).collect::<String>();
        let _ = write!(text, "{indent}certificate {}", word("subject"));
        if certificate["issuer"].is_string() {
            let _ = write!(text, ", issued by {}, from {}", word("issuer"), date("not_before"));
        }
        let _ = writeln!(text, " until {}", date("not_after"));
        if let Some(names) = certificate["names"].as_array() {
            let names = names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
            let _ = writeln!(text, "{indent}  for {}", if names.is_empty() { "no name" } else { &names });
            let _ = writeln!(text, "{indent}  pin {}", word("pin"));
        }
    }
}

/// One address or step of many: as the check, further in.
fn part_lines(text: &mut String, called: &str, part: &Value) {
    let word = |key: &str| part[key].as_str();
    let _ = writeln!(text, "  {called}  {}", word("verdict").unwrap_or("not reached"));
    if let Some(reason) = word("reason") {
        let phase = word("phase").map(|phase| format!("{phase}: ")).unwrap_or_default();
        let _ = writeln!(text, "    {phase}{reason}");
    }
    if let Ok(phases) = Phases::deserialize(&part["phases"]) {
        let _ = writeln!(text, "    {}", phase_line(&phases));
    }
    tls_lines(text, "    ", part.get("tls"));
}

fn assertion_line(assertion: &Assertion) -> String {
    format!("{}: {}, expected {}", assertion.what, assertion.got, assertion.expected)
}

/// Short, and never `0` for what took some time.
pub(super) fn millis(took: Duration) -> String {
    match took.as_micros() {
        micros @ ..1_000 => format!("{micros} µs"),
        micros => format!("{:.1} ms", micros as f64 / 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::check::http::Http;
    use crate::net::timeline::Span;

    fn shop() -> Check {
        let url = "https://shop.example.com/health";
        let second = Duration::from_secs(1);
        let kind = Kind::Http(Box::new(Http::get(url.parse().unwrap())));
        Check {
            label: "shop".into(),
            interval: second,
            timeout: second,
            confirm: Default::default(),
            target: url.into(),
            kind,
        }
    }

    fn assertion(what: &str, got: &str, expected: &str, held: bool) -> Assertion {
        Assertion { what: what.to_owned(), got: got.to_owned(), expected: expected.to_owned(), held }
    }

    /// Spans one after the other, each with its microseconds and notes.
    fn timeline(spans: &[(Phase, u64, &[&str])]) -> (Vec<Span>, Phases) {
        let (mut began, mut phases) = (Instant::now(), Phases::default());
        let mut all = Vec::new();
        for (phase, micros, notes) in spans {
            let took = Duration::from_micros(*micros);
            let notes = notes.iter().map(|note| (*note).to_owned()).collect();
            all.push(Span { phase: *phase, began, took, notes });
            phases.add(*phase, took);
            began += took;
        }
        (all, phases)
    }

    #[test]
    fn a_failed_assertion_is_shown_beside_those_that_held_and_every_phase() {
        let (timeline, phases) = timeline(&[
            (Phase::Resolve, 812, &["shop.example.com: 192.0.2.7, 2001:db8::7"]),
            (Phase::Connect, 10_231, &["192.0.2.7:443 from 192.0.2.1:40000"]),
            (Phase::Tls, 21_233, &["for shop.example.com"]),
            (Phase::Send, 40, &["> GET /health HTTP/1.1", "> host: shop.example.com"]),
            (Phase::FirstByte, 15_111, &[]),
            (Phase::Body, 2_101, &["< HTTP/1.1 200 OK", "< server: nginx"]),
        ]);
        let outcome = Outcome {
            verdict: Verdict::Down,
            phase: Some(Phase::Assert),
            reason: Some("body does not contain `ok`".to_owned()),
            phases,
            timeline,
            assertions: vec![
                assertion("status", "200", "200-299", true),
                assertion("body.contains", "\"failed\"", "\"ok\"", false),
            ],
            ..Outcome::unknown("")
        };
        insta::assert_snapshot!(show(&shop(), &outcome, Duration::from_micros(51_324), false), @r#"
        shop  down in 51.3 ms  https://shop.example.com/health
          assert: body does not contain `ok`
          resolve    |=                       |    812 µs  shop.example.com: 192.0.2.7, 2001:db8::7
          connect    |=====                   |   10.2 ms  192.0.2.7:443 from 192.0.2.1:40000
          tls        |     ==========         |   21.2 ms  for shop.example.com
          send       |               =        |     40 µs
              > GET /health HTTP/1.1
              > host: shop.example.com
          first_byte |               =======  |   15.1 ms
          body       |                      ==|    2.1 ms
              < HTTP/1.1 200 OK
              < server: nginx
          ok  status: 200, expected 200-299
          no  body.contains: "failed", expected "ok"
        "#);
    }

    #[test]
    fn a_phase_that_was_not_reached_has_no_time_and_colour_moves_nothing() {
        let (timeline, phases) = timeline(&[
            (Phase::Resolve, 812, &["shop.example.com: 192.0.2.7, 2001:db8::7"]),
            (Phase::Connect, 530, &["connection refused by 192.0.2.7:443"]),
            (Phase::Connect, 501, &["connection refused by [2001:db8::7]:443"]),
        ]);
        let reason = "connection refused by 192.0.2.7:443; connection refused by [2001:db8::7]:443 (2 addresses tried)";
        let outcome = Outcome {
            verdict: Verdict::Down,
            phase: Some(Phase::Connect),
            reason: Some(reason.to_owned()),
            phases,
            timeline,
            ..Outcome::unknown("")
        };
        let plain = show(&shop(), &outcome, Duration::from_micros(1_843), false);
        insta::assert_snapshot!(plain, @r"
        shop  down in 1.8 ms  https://shop.example.com/health
          connect: connection refused by 192.0.2.7:443; connection refused by [2001:db8::7]:443 (2 addresses tried)
          resolve    |==========              |    812 µs  shop.example.com: 192.0.2.7, 2001:db8::7
          connect    |          =======       |    530 µs  connection refused by 192.0.2.7:443
          connect    |                 =======|    501 µs  connection refused by [2001:db8::7]:443
          tls        |                        |         -
          send       |                        |         -
          first_byte |                        |         -
          body       |                        |         -
        ");
        let mut coloured = show(&shop(), &outcome, Duration::from_micros(1_843), true);
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[31m"] {
            coloured = coloured.replace(code, "");
        }
        assert_eq!(coloured, plain);
    }

    #[test]
    fn certificates_are_shown_of_each_address() {
        let tls = serde_json::json!({
            "version": "1.3", "cipher": "TLS_AES_256_GCM_SHA384", "certificate_days": 68,
            "certificates": [
                {"subject": "CN=shop.example.com", "issuer": "CN=R3", "not_before": "2026-11-05T00:00:00.000000Z",
                 "not_after": "2027-02-03T00:00:00.000000Z", "names": ["shop.example.com", "192.0.2.7"], "pin": "47DEQ…uFU="},
                {"subject": "CN=R3", "issuer": "CN=Root", "not_before": "2020-09-04T00:00:00.000000Z",
                 "not_after": "2027-09-15T00:00:00.000000Z"},
            ],
        });
        let (up, down) = (Phases { connect: Some(1_031), tls: Some(9_000), ..Phases::default() }, Phases::default());
        let addresses = serde_json::json!([
            {"address": "192.0.2.7:443", "verdict": "up", "phase": null, "reason": null, "phases": up, "tls": tls},
            {"address": "[2001:db8::7]:443", "verdict": "down", "phase": "connect", "reason": "connection refused", "phases": down},
        ]);
        let outcome = Outcome {
            verdict: Verdict::Down,
            phase: Some(Phase::Connect),
            reason: Some("[2001:db8::7]:443: connection refused (1 of 2 addresses)".to_owned()),
            phases: up,
            result: serde_json::Map::from_iter([("addresses".to_owned(), addresses)]),
            ..Outcome::unknown("")
        };
        insta::assert_snapshot!(show(&shop(), &outcome, Duration::from_millis(12), false), @r"
        shop  down in 12.0 ms  https://shop.example.com/health
          connect: [2001:db8::7]:443: connection refused (1 of 2 addresses)
          192.0.2.7:443  up
            resolve - | connect 1.0 ms | tls 9.0 ms | send - | first_byte - | body -
            TLS 1.3, TLS_AES_256_GCM_SHA384
            certificate CN=shop.example.com, issued by CN=R3, from 2026-11-05 until 2027-02-03
              for shop.example.com, 192.0.2.7
              pin 47DEQ…uFU=
            certificate CN=R3, issued by CN=Root, from 2020-09-04 until 2027-09-15
          [2001:db8::7]:443  down
            connect: connection refused
            resolve - | connect - | tls - | send - | first_byte - | body -
        ");
    }

    #[test]
    fn a_request_over_tls_shows_its_certificates_in_brief() {
        let tls =
            serde_json::json!({"version": "1.3", "certificates": [{"subject": "CN=a", "not_after": "2027-02-03"}]});
        let result = serde_json::Map::from_iter([("tls".to_owned(), tls)]);
        let phases = Phases { tls: Some(9_000), ..Phases::default() };
        let outcome = Outcome { verdict: Verdict::Up, reason: None, result, phases, ..Outcome::unknown("") };
        insta::assert_snapshot!(show(&shop(), &outcome, Duration::from_millis(12), false), @r"
        shop  up in 12.0 ms  https://shop.example.com/health
          TLS 1.3
          certificate CN=a until 2027-02-03
        ");
    }

    #[test]
    fn each_step_is_shown_with_its_phases_and_one_that_was_not_reached_as_such() {
        let phases = Phases { connect: Some(1_031), first_byte: Some(9_000), ..Phases::default() };
        let steps = serde_json::json!([
            {"name": "login", "verdict": "up", "phase": null, "reason": null, "phases": phases},
            {"verdict": "down", "phase": "assert", "reason": "status 403, expected 200-299", "phases": phases},
            null,
        ]);
        let result = serde_json::Map::from_iter([("steps".to_owned(), steps)]);
        let reason = Some("step 2: status 403, expected 200-299".to_owned());
        let (verdict, phase) = (Verdict::Down, Some(Phase::Assert));
        let outcome = Outcome { verdict, phase, reason, result, ..Outcome::unknown("") };
        insta::assert_snapshot!(show(&shop(), &outcome, Duration::from_millis(12), false), @r"
        shop  down in 12.0 ms  https://shop.example.com/health
          assert: step 2: status 403, expected 200-299
          step 1 (login)  up
            resolve - | connect 1.0 ms | tls - | send - | first_byte 9.0 ms | body -
          step 2  down
            assert: status 403, expected 200-299
            resolve - | connect 1.0 ms | tls - | send - | first_byte 9.0 ms | body -
          step 3  not reached
        ");
    }
}
