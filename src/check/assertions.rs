//! Expectations held against what came: the list of them, and the verdict they come to.

use std::time::Duration;

use super::http::Text;
use super::{Assertion, Pattern, Phase, Verdict};
use crate::net::{Blame, Failure, Spoken, blanked, shown};
use crate::secret::Secret;

/// The expectations looked at so far, and the first reasons for being down and for being degraded.
#[derive(Debug, Default)]
pub struct Assertions<'a> {
    /// Each of them.
    pub listed: Vec<Assertion>,
    /// What was sent and is not to be shown where it comes back.
    secrets: Vec<&'a str>,
    down: Option<String>,
    degraded: Option<String>,
}

/// So much of what came is looked at to show some of it.
const LOOKED_AT_BYTES_MAX: usize = 16 * 1024;

impl<'a> Assertions<'a> {
    /// None so far, of an answer that may repeat `secrets`.
    pub fn without(secrets: Vec<&'a str>) -> Self {
        Assertions { secrets, ..Assertions::default() }
    }

    /// What came, for people.
    pub fn got(&self, got: &[u8]) -> String {
        shown_without(got, &self.secrets)
    }

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
        if text.is_empty() {
            return;
        }
        let expected = [&text.equals, &text.contains, &text.not_contains].into_iter().flatten();
        let expected = expected.chain(text.matches.iter().filter_map(Pattern::apart));
        let mut secrets: Vec<&str> = expected.flat_map(Secret::kept_elsewhere).collect();
        secrets.extend(&self.secrets);
        let got_shown = shown_without(got, &secrets);
        let told = |text: &Secret| String::from_utf8_lossy(&blanked(text.expose().as_bytes(), &secrets)).into_owned();
        if let Some(equals) = &text.equals {
            let expected = told(equals);
            let reason = || format!("{who} is `{got_shown}`, expected `{}`", shown(expected.as_bytes()));
            let held = got == equals.expose().as_bytes();
            self.must(held, &format!("{what}.equals"), expected.clone(), got_shown.clone(), reason);
        }
        if let Some(part) = &text.contains {
            let (held, part) = (holds(got, part.expose().as_bytes()), told(part));
            let reason = || format!("{who} does not contain `{part}`");
            self.must(held, &format!("{what}.contains"), part.clone(), got_shown.clone(), reason);
        }
        if let Some(part) = &text.not_contains {
            let (held, part) = (!holds(got, part.expose().as_bytes()), told(part));
            let reason = || format!("{who} contains `{part}`");
            self.must(held, &format!("{what}.not_contains"), part.clone(), got_shown.clone(), reason);
        }
        if let Some(regex) = &text.matches {
            let reason = || format!("{who} does not match `{regex}`");
            self.must(
                regex.regex().is_match(got),
                &format!("{what}.matches"),
                regex.to_string(),
                got_shown.clone(),
                reason,
            );
        }
    }

    /// What they come to after `failure`, which outweighs them: they were held as far as there was something to look at.
    pub fn verdict_after(&self, failure: Option<Failure>) -> (Verdict, Option<Phase>, Option<String>) {
        match failure {
            Some(Failure { blame: Blame::Target, phase, reason }) => (Verdict::Down, Some(phase), Some(reason)),
            Some(Failure { blame: Blame::Agent, phase, reason }) => (Verdict::Unknown, Some(phase), Some(reason)),
            None => self.verdict(),
        }
    }

    /// Lists all that is expected of several texts, each of which people know as `who`: that one of them is (as `same` has it)
    /// or holds what it should, and that none holds what it should not.
    pub fn texts(&mut self, what: &str, who: &str, text: &Text, got: &[String], same: impl Fn(&str, &str) -> bool) {
        let expected = [&text.equals, &text.contains, &text.not_contains].into_iter().flatten();
        let expected = expected.chain(text.matches.iter().filter_map(Pattern::apart));
        let mut secrets: Vec<&str> = expected.flat_map(Secret::kept_elsewhere).collect();
        secrets.extend(&self.secrets);
        let all = shown_without(got.join(", ").as_bytes(), &secrets);
        let told = |text: &Secret| String::from_utf8_lossy(&blanked(text.expose().as_bytes(), &secrets)).into_owned();
        if let Some(equals) = &text.equals {
            let (held, equals) = (got.iter().any(|got| same(equals.expose(), got)), told(equals));
            let reason = || format!("no {who} is `{equals}`");
            self.must(held, &format!("{what}.equals"), equals.clone(), all.clone(), reason);
        }
        if let Some(part) = &text.contains {
            let (held, part) = (got.iter().any(|got| got.contains(part.expose())), told(part));
            let reason = || format!("no {who} contains `{part}`");
            self.must(held, &format!("{what}.contains"), part.clone(), all.clone(), reason);
        }
        if let Some(part) = &text.not_contains {
            let (held, part) = (!got.iter().any(|got| got.contains(part.expose())), told(part));
            let reason = || format!("{who} contains `{part}`");
            self.must(held, &format!("{what}.not_contains"), part.clone(), all.clone(), reason);
        }
        if let Some(regex) = &text.matches {
            let held = got.iter().any(|got| regex.regex().is_match(got.as_bytes()));
            let reason = || format!("no {who} matches `{regex}`");
            self.must(held, &format!("{what}.matches"), regex.to_string(), all.clone(), reason);
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

/// What came, for people, without `secrets`.
fn shown_without(got: &[u8], secrets: &[&str]) -> String {
    shown(&blanked(&got[..got.len().min(LOOKED_AT_BYTES_MAX)], secrets))
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
        assertions.text("body", "body", &Text { contains: Some(Secret::new("ok")), ..Text::default() }, b"no");
        assertions.must(false, "x", "", "", || "later".to_owned());
        let reason = "body does not contain `ok`".to_owned();
        assert_eq!(assertions.verdict(), (Verdict::Down, Some(Phase::Assert), Some(reason)));
        assert_eq!(assertions.listed.len(), 3);
    }

    #[test]
    fn what_the_environment_gave_is_shown_neither_as_expected_nor_as_got() {
        let parts = vec![Secret::new("hunter2")];
        let origin = crate::secret::Origin::Environment { typed: "k=${TOKEN}".to_owned(), whole: false, parts };
        let text = || Some(Secret::new("k=hunter2").from(origin.clone()));
        let all = Text { equals: text(), contains: text(), not_contains: text(), matches: None };
        for got in ["k=hunter2", "k=hunter2 and token-9", "no"] {
            let mut assertions = Assertions::without(vec!["token-9"]);
            assertions.text("body", "body", &all, got.as_bytes());
            let told = format!("{assertions:?}").replace("secrets: [\"token-9\"]", "");
            assert!(told.contains("k=***") && !told.contains("hunter2") && !told.contains("token-9"), "{told}");
        }
    }
}
