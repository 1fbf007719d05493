//! Expectations held against what came: the list of them, and the verdict they come to.

use std::time::Duration;

use super::http::Text;
use super::{Assertion, Phase, Verdict};
use crate::net::{Spoken, shown};

/// The expectations looked at so far, and the first reasons for being down and for being degraded.
#[derive(Debug, Default)]
pub struct Assertions {
    /// Each of them.
    pub listed: Vec<Assertion>,
    down: Option<String>,
    degraded: Option<String>,
}

impl Assertions {
    /// Lists one whose failure means down; `reason` says so.
    pub fn must(
        &mut self,
        held: bool,
        what: &str,
        expected: impl Into<String>,
        got: impl Into<String>,
        reason: impl FnOnce() -> String,
    ) {
        if !held {
            self.down.get_or_insert_with(reason);
        }
        self.list(held, what, expected, got);
    }

    /// Lists one whose failure means degraded; `reason` says so.
    pub fn limit(
        &mut self,
        held: bool,
        what: &str,
        expected: impl Into<String>,
        got: impl Into<String>,
        reason: impl FnOnce() -> String,
    ) {
        if !held {
            self.degraded.get_or_insert_with(reason);
        }
        self.list(held, what, expected, got);
    }

    fn list(&mut self, held: bool, what: &str, expected: impl Into<String>, got: impl Into<String>) {
        self.listed.push(Assertion { what: what.to_owned(), expected: expected.into(), got: got.into(), held });
    }

    /// Lists that the check should take no longer than `limit`.
    pub fn under(&mut self, limit: Duration, took: Duration) {
        let (limit_spoken, took_spoken) = (Spoken(limit), Spoken(took));
        let reason = || format!("took {took_spoken}, expected at most {limit_spoken}");
        self.limit(took <= limit, "under", format!("at most {limit_spoken}"), took_spoken.to_string(), reason);
    }

    /// Lists all that is expected of a text, which people know as `who`.
    pub fn text(&mut self, what: &str, who: &str, text: &Text, got: &[u8]) {
        let got_shown = shown(got);
        if let Some(equals) = &text.equals {
            let reason = || format!("{who} is `{got_shown}`, expected `{}`", shown(equals.as_bytes()));
            self.must(got == equals.as_bytes(), &format!("{what}.equals"), equals, got_shown.clone(), reason);
        }
        if let Some(part) = &text.contains {
            let reason = || format!("{who} does not contain `{part}`");
            self.must(holds(got, part.as_bytes()), &format!("{what}.contains"), part, got_shown.clone(), reason);
        }
        if let Some(part) = &text.not_contains {
            let reason = || format!("{who} contains `{part}`");
            self.must(!holds(got, part.as_bytes()), &format!("{what}.not_contains"), part, got_shown.clone(), reason);
        }
        if let Some(regex) = &text.matches {
            let reason = || format!("{who} does not match `{regex}`");
            self.must(regex.is_match(got), &format!("{what}.matches"), regex.as_str(), got_shown.clone(), reason);
        }
    }

    /// What they come to.
    pub fn verdict(&self) -> (Verdict, Option<Phase>, Option<String>) {
        match (&self.down, &self.degraded) {
            (Some(reason), _) => (Verdict::Down, Some(Phase::Assert), Some(reason.clone())),
            // It works: it has failed in no phase.
            (None, Some(reason)) => (Verdict::Degraded, None, Some(reason.clone())),
            (None, None) => (Verdict::Up, None, None),
        }
    }
}

impl Text {
    /// Whether nothing is expected.
    pub fn is_empty(&self) -> bool {
        self.equals.is_none() && self.contains.is_none() && self.not_contains.is_none() && self.matches.is_none()
    }
}

/// Whether `part` is in `bytes`.
fn holds(bytes: &[u8], part: &[u8]) -> bool {
    part.is_empty() || bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_down_beats_a_degraded_and_the_first_of_each_gives_the_reason() {
        let mut assertions = Assertions::default();
        assertions.under(Duration::from_millis(1), Duration::from_millis(2));
        assert_eq!(
            assertions.verdict(),
            (Verdict::Degraded, None, Some("took 2 ms, expected at most 1 ms".to_owned()))
        );
        assertions.text("body", "body", &Text { contains: Some("ok".to_owned()), ..Text::default() }, b"no");
        assertions.must(false, "x", "", "", || "later".to_owned());
        let reason = "body does not contain `ok`".to_owned();
        assert_eq!(assertions.verdict(), (Verdict::Down, Some(Phase::Assert), Some(reason)));
        assert_eq!(assertions.listed.len(), 3);
    }
}
