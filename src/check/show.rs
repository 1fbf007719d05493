//! What `pingeon check` shows a person of one outcome.

use std::fmt::Write;
use std::time::Duration;

use super::{Assertion, Check, Kind, Outcome, Phase, Verdict, exec};

/// Several lines: the verdict, why, every phase, every assertion, and what a plugin printed. Readable without colour.
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
    if Phase::TIMED.iter().any(|phase| outcome.phases.get(*phase).is_some()) {
        let _ = writeln!(text, "  {}", phase_line(outcome));
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
fn phase_line(outcome: &Outcome) -> String {
    let figure = |phase: &Phase| match outcome.phases.get(*phase) {
        Some(micros) => format!("{phase} {}", millis(Duration::from_micros(micros))),
        None => format!("{phase} -"),
    };
    Phase::TIMED.iter().map(figure).collect::<Vec<_>>().join(" | ")
}

fn assertion_line(assertion: &Assertion) -> String {
    format!("{}: {}, expected {}", assertion.what, assertion.got, assertion.expected)
}

/// Short, and never `0` for what took some time.
fn millis(took: Duration) -> String {
    match took.as_micros() {
        micros @ ..1_000 => format!("{micros} µs"),
        micros => format!("{:.1} ms", micros as f64 / 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Phases, http::Http};

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

    #[test]
    fn a_failed_assertion_is_shown_beside_those_that_held_and_every_phase() {
        let phases = Phases {
            resolve: Some(812),
            connect: Some(10_231),
            tls: Some(21_233),
            send: Some(40),
            first_byte: Some(15_111),
            body: Some(2_101),
        };
        let outcome = Outcome {
            verdict: Verdict::Down,
            phase: Some(Phase::Assert),
            reason: Some("body does not contain `ok`".to_owned()),
            phases,
            assertions: vec![
                assertion("status", "200", "200-299", true),
                assertion("body.contains", "\"failed\"", "\"ok\"", false),
            ],
            ..Outcome::unknown("")
        };
        insta::assert_snapshot!(show(&shop(), &outcome, Duration::from_micros(51_324), false), @r#"
        shop  down in 51.3 ms  https://shop.example.com/health
          assert: body does not contain `ok`
          resolve 812 µs | connect 10.2 ms | tls 21.2 ms | send 40 µs | first_byte 15.1 ms | body 2.1 ms
          ok  status: 200, expected 200-299
          no  body.contains: "failed", expected "ok"
        "#);
    }

    #[test]
    fn a_phase_that_was_not_reached_has_no_time_and_colour_moves_nothing() {
        let outcome = Outcome {
            verdict: Verdict::Down,
            phase: Some(Phase::Connect),
            reason: Some("connection refused by 192.0.2.7:443".to_owned()),
            phases: Phases { resolve: Some(812), connect: Some(1_031), ..Phases::default() },
            ..Outcome::unknown("")
        };
        let plain = show(&shop(), &outcome, Duration::from_micros(1_843), false);
        insta::assert_snapshot!(plain, @r"
        shop  down in 1.8 ms  https://shop.example.com/health
          connect: connection refused by 192.0.2.7:443
          resolve 812 µs | connect 1.0 ms | tls - | send - | first_byte - | body -
        ");
        let mut coloured = show(&shop(), &outcome, Duration::from_micros(1_843), true);
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[31m"] {
            coloured = coloured.replace(code, "");
        }
        assert_eq!(coloured, plain);
    }
}
