//! Whose turn it is: the rows of one label and agent in, and out of each of them the time that it speaks for.

use std::cmp::{Ordering, Reverse};
use std::time::Duration;

use crate::check::Verdict;
use crate::clock::Timestamp;
use crate::store::Row;

/// The last log still tells the state when two intervals have passed since its slot (it may take one to run, the next one
/// too) and this long, for the way to the store.
const LATE_MAX: Duration = Duration::from_secs(10);

/// A row and the time that it speaks for.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) row: Row,
    /// From when until when, within the range; `None`: it lies before the range and does not reach into it.
    pub(super) span: Option<(Timestamp, Timestamp)>,
}

impl Turn {
    /// How long the time is.
    pub(super) fn length(&self) -> Duration {
        self.span.map_or(Duration::ZERO, |(start, end)| end.since(start))
    }
}

/// Takes rows in the order of `due_at`, within a millisecond in any order; gives their turns in order. No time has two.
#[derive(Debug)]
pub(super) struct Turns {
    from: Timestamp,
    to: Timestamp,
    /// The newest row: how long it speaks is only known when the next one comes.
    held: Option<Row>,
    /// The slot of the row before it.
    given: Option<Timestamp>,
    /// Time before this is shared out; what of it no row spoke for is unknown.
    shared_until: Timestamp,
}

impl Turns {
    /// Of `from..to`.
    pub(super) fn new(from: Timestamp, to: Timestamp) -> Self {
        Turns { from, to, held: None, given: None, shared_until: from }
    }

    /// Takes a row; the turn that this one ends.
    pub(super) fn push(&mut self, row: Row) -> Option<Turn> {
        if row.due_at >= self.to || self.given.is_some_and(|given| row.due_at <= given) {
            return None;
        }
        let Some(held) = self.held.take() else {
            self.held = Some(row);
            return None;
        };
        let (earlier, later) = match held.due_at.cmp(&row.due_at) {
            Ordering::Less => (held, row),
            Ordering::Greater => (row, held),
            Ordering::Equal => {
                // One slot, one log, whichever of them comes first: the worse of two that contradict each other.
                self.held = Some(if weight(&held) < weight(&row) { row } else { held });
                return None;
            }
        };
        let next = later.due_at;
        self.held = Some(later);
        Some(self.turn(earlier, next))
    }

    /// The last turn; there are no more rows.
    pub(super) fn end(&mut self) -> Option<Turn> {
        let last = self.held.take()?;
        Some(self.turn(last, Timestamp::MAX))
    }

    /// The turn of `row`, after which the next one is due at `next`.
    fn turn(&mut self, row: Row, next: Timestamp) -> Turn {
        self.given = Some(row.due_at);
        let until = row.speaks_until().min(next).min(self.to);
        if until <= self.from && row.due_at < self.from {
            return Turn { row, span: None };
        }
        let start = row.due_at.max(self.shared_until);
        self.shared_until = self.shared_until.max(until);
        Turn { row, span: Some((start, until.max(start))) }
    }
}

/// What the last row says of `now`.
pub(super) fn state(last: &Row, now: Timestamp) -> Verdict {
    let says_until = last.last_slot().plus(last.interval.saturating_mul(2)).plus(LATE_MAX);
    match last.verdict {
        verdict @ (Verdict::Up | Verdict::Degraded | Verdict::Down) if now <= says_until => verdict,
        _ => Verdict::Unknown,
    }
}

/// The order among logs of one slot; the last of them counts. Every field decides, so that their own order does not.
fn weight(row: &Row) -> impl Ord {
    let verdict = match row.verdict {
        Verdict::Missed => 0,
        Verdict::Unknown => 1,
        Verdict::Up => 2,
        Verdict::Degraded => 3,
        Verdict::Down => 4,
    };
    let missed = row.missed.map(|missed| (missed.last_due_at, missed.slots));
    (verdict, row.interval, row.duration_us, row.starved_us, Reverse(row.reason.clone()), missed)
}
