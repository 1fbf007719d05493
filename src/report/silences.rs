//! What agents could not tell, by the reasons that they gave: of one reason, the time that any of their checks was without a
//! verdict for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::check::Verdict;
use crate::clock::Timestamp;
use crate::store::Row;

/// How many reasons of all agents are told apart, and how many times of each; further reasons are one.
const REASONS_MAX: usize = 100;
const TIMES_MAX: usize = 2_000;
const OTHERS: &str = "other reasons";

/// Why an agent could not tell, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Who.
    pub agent: Arc<str>,
    /// Why: the reason of its logs, up to the first colon.
    pub why: Arc<str>,
    /// How many times, each for one check or several at once.
    pub times: usize,
    /// How long in all; what was for several checks at once counts once.
    pub lasted: Duration,
    /// When the last time began.
    pub last: Timestamp,
    /// There were more times than are kept: it was longer than that.
    pub more: bool,
}

/// The silences of a report, as its rows come.
#[derive(Debug, Default)]
pub(super) struct Silences(BTreeMap<(Arc<str>, Arc<str>), Times>);

/// Spans that do not touch, from their beginnings to their ends.
#[derive(Debug, Default)]
struct Times {
    spans: BTreeMap<Timestamp, Timestamp>,
    last: Option<Timestamp>,
    more: bool,
}

impl Silences {
    /// Takes note of `row` if it has no verdict. It speaks for the time from `start` to `end`.
    pub(super) fn note(&mut self, row: &Row, (start, end): (Timestamp, Timestamp)) {
        if !matches!(row.verdict, Verdict::Unknown | Verdict::Missed) || start >= end {
            return;
        }
        let reason = row.reason.as_deref().unwrap_or("no reason");
        let why = reason.split_once(": ").map_or(reason, |(why, _)| why);
        let known = self.0.len() < REASONS_MAX || self.0.contains_key(&(row.agent.clone(), why.into()));
        let why = if known { why } else { OTHERS };
        self.0.entry((row.agent.clone(), why.into())).or_default().add(start, end);
    }

    /// All of them, by agent and reason.
    pub(super) fn told(self) -> Vec<Silence> {
        let silence = |((agent, why), times): ((Arc<str>, Arc<str>), Times)| {
            let lasted = times.spans.iter().map(|(start, end)| end.since(*start)).sum();
            Some(Silence { agent, why, times: times.spans.len(), lasted, last: times.last?, more: times.more })
        };
        self.0.into_iter().filter_map(silence).collect()
    }
}

impl Times {
    /// Adds a span, which swallows those that it touches.
    fn add(&mut self, mut start: Timestamp, mut end: Timestamp) {
        while let Some((&from, &to)) = self.spans.range(..=end).next_back().filter(|(_, to)| **to >= start) {
            self.spans.remove(&from);
            (start, end) = (start.min(from), end.max(to));
        }
        self.last = self.last.max(Some(start));
        if self.spans.len() < TIMES_MAX {
            self.spans.insert(start, end);
        } else {
            self.more = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_micros(0).plus(Duration::from_secs(second))
    }

    #[test]
    fn what_is_for_one_reason_counts_once() {
        let mut silences = Silences::default();
        for (label, verdict, reason, start, end) in [
            ("db", Verdict::Unknown, "own network: no answer from 192.0.2.1", 0, 10),
            ("db", Verdict::Down, "no answer from 192.0.2.1", 10, 20),
            ("db", Verdict::Missed, "agent was off", 20, 30),
            ("shop", Verdict::Unknown, "own network: no such name", 5, 15),
            ("shop", Verdict::Unknown, "own network: no such name", 40, 45),
        ] {
            let (interval, reason) = (Duration::from_secs(10), Some(reason.into()));
            let (agent, label, due_at) = ("edge".into(), label.into(), at(start));
            let row = Row {
                agent,
                label,
                due_at,
                interval,
                verdict,
                duration_us: None,
                starved_us: None,
                reason,
                missed: None,
            };
            silences.note(&row, (at(start), at(end)));
        }
        let told: Vec<_> = silences.told();
        let told: Vec<_> = told.iter().map(|told| (&*told.why, told.times, told.lasted.as_secs(), told.last)).collect();
        assert_eq!(told, [("agent was off", 1, 10, at(20)), ("own network", 2, 20, at(40))]);
    }

    proptest! {
        #[test]
        fn spans_are_what_they_cover(spans in prop::collection::vec((0_u64..40, 1_u64..6), 0..30)) {
            let mut times = Times::default();
            spans.iter().for_each(|(start, length)| times.add(at(*start), at(start + length)));
            let covered = |second: &u64| spans.iter().any(|(start, length)| (*start..start + length).contains(second));
            let kept = |second: &u64| times.spans.iter().any(|(start, end)| *start <= at(*second) && at(*second) < *end);
            for second in 0..50 {
                prop_assert_eq!(covered(&second), kept(&second), "{}", second);
            }
            let ends = times.spans.values().zip(times.spans.keys().skip(1));
            prop_assert!(ends.into_iter().all(|(end, next)| end < next));
        }
    }
}
