//! How many checks there were, and how long they took.

use super::durations::Durations;
use super::strain::Strained;
use super::turns::Turn;
use crate::check::Verdict;
use crate::clock::Timestamp;
use crate::store::Row;

/// What is counted of the logs themselves, whatever time they speak for.
#[derive(Debug)]
pub(super) struct Tally {
    /// Slots in the range that were run.
    pub(super) logs: u64,
    /// Slots in the range that were not.
    pub(super) missed: u64,
    /// Of those that were run.
    pub(super) strained: Strained,
    /// Of what worked in the range.
    pub(super) durations: Durations,
}

impl Tally {
    pub(super) fn new() -> Self {
        Tally { logs: 0, missed: 0, strained: Strained::default(), durations: Durations::new() }
    }

    /// Counts what of `turn` was due in `from..to`.
    pub(super) fn count(&mut self, Turn { row, span }: &Turn, from: Timestamp, to: Timestamp) {
        if span.is_none() {
            return;
        }
        if row.verdict == Verdict::Missed {
            self.missed += slots_within(row, from, to);
        } else if row.due_at >= from {
            self.logs += 1;
            self.strained += row;
            let works = matches!(row.verdict, Verdict::Up | Verdict::Degraded);
            row.duration_us.filter(|_| works).into_iter().for_each(|duration| self.durations.push(duration));
        }
    }
}

/// How many of the slots that `row` covers lie in `from..to`.
fn slots_within(row: &Row, from: Timestamp, to: Timestamp) -> u64 {
    let slots = row.missed.map_or(1, |missed| missed.slots);
    let interval = row.interval.as_micros().max(1);
    let before = |moment: Timestamp| {
        let before = moment.since(row.due_at).as_micros().div_ceil(interval);
        u64::try_from(before).unwrap_or(u64::MAX).min(slots)
    };
    before(to) - before(from)
}
