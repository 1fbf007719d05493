//! What happened when, a line a span: a bar on the scale of the whole check, how long it took, and what is to be known of it.

use std::fmt::Write;
use std::time::Duration;

use super::millis;
use crate::check::{Kind, Outcome, Phase};

/// How wide the whole check is.
const WIDTH: usize = 24;

/// Adds the spans of `outcome`, and the phases that it did not reach.
pub(super) fn lines(text: &mut String, kind: &Kind, outcome: &Outcome) {
    let spans = &outcome.timeline;
    let Some(begin) = spans.iter().map(|span| span.began).min() else { return };
    let length = spans.iter().map(|span| span.began + span.took - begin).max().unwrap_or_default();
    for span in spans {
        let bar = bar(span.began - begin, span.took, length);
        // What was said and heard goes below; all else is about the span itself.
        let spoken = |note: &&String| note.starts_with(['>', '<']);
        let about: Vec<&str> = span.notes.iter().filter(|note| !spoken(note)).map(String::as_str).collect();
        let line = format!("  {:<10} |{bar}| {:>9}  {}", span.phase.name(), millis(span.took), about.join("; "));
        let _ = writeln!(text, "{}", line.trim_end());
        for note in span.notes.iter().filter(spoken) {
            let _ = writeln!(text, "      {}", note.trim_end());
        }
    }
    for phase in not_reached(kind, outcome) {
        let _ = writeln!(text, "  {:<10} |{:width$}| {:>9}", phase.name(), "", "-", width = WIDTH);
    }
}

/// The part of `length` from `start` on that was `took` long; never nothing.
fn bar(start: Duration, took: Duration, length: Duration) -> String {
    let place = |moment: Duration| match length.as_nanos() {
        0 => 0,
        length => usize::try_from(moment.as_nanos() * WIDTH as u128 / length).unwrap_or(WIDTH).min(WIDTH),
    };
    let from = place(start).min(WIDTH - 1);
    let until = place(start + took).max(from + 1);
    format!("{:from$}{}{:after$}", "", "=".repeat(until - from), "", after = WIDTH - until)
}

/// What an `http` check would have gone on to.
fn not_reached(kind: &Kind, outcome: &Outcome) -> Vec<Phase> {
    let (Kind::Http(http), Some(failed)) = (kind, outcome.phase) else { return Vec::new() };
    let secure = http.url.scheme_str() == Some("https");
    let ahead = Phase::TIMED.into_iter().filter(|phase| *phase > failed);
    ahead.filter(|phase| outcome.phases.get(*phase).is_none() && (secure || *phase != Phase::Tls)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_its_place_and_is_never_nothing() {
        let ms = Duration::from_millis;
        for (start, took, length, expected) in [
            (0, 24, 24, "========================"),
            (0, 12, 24, "============            "),
            (12, 12, 24, "            ============"),
            (6, 0, 24, "      =                 "),
            (24, 0, 24, "                       ="),
            (0, 0, 0, "=                       "),
        ] {
            assert_eq!(bar(ms(start), ms(took), ms(length)), expected);
        }
    }
}
