//! What `pingeon check` shows a person of one outcome.

use std::fmt::Write;
use std::time::Duration;

use super::{Assertion, Check, Outcome, Phase, Verdict};

/// Several lines: the verdict, why, every phase, every assertion. Readable without colour.
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

fn millis(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1_000.0)
}
