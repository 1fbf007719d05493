//! The delivery audit: what of a run's numbers arrived, what was set aside, and what did neither.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::store::{DAY, Delivery, MISSING_MAX, began_at};

/// A run that began within this of what the retention deleted may have lost logs to it: an interval's, whose time reaches back
/// before the run's beginning.
pub(super) const MARGIN: Duration = DAY;

/// Whether nothing of the run that began at `boot`'s time was deleted for its age, where that may have happened to logs due before
/// `forgotten` (`None`: to none).
pub(super) fn is_whole(boot: &Uuid, forgotten: Option<Timestamp>) -> bool {
    forgotten.is_none_or(|forgotten| began_at(boot) >= forgotten.plus(MARGIN))
}

/// How a number arrived.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arrived {
    /// In a log that was due then.
    Stored(Timestamp),
    /// In one that was set aside then.
    SetAside(Timestamp),
}

/// The numbers of runs, given in the order of agent, boot and number; in what comes out, no log came again.
#[derive(Debug)]
pub(super) struct Runs {
    since: Timestamp,
    forgotten: Option<Timestamp>,
    current: Option<(Arc<str>, Uuid, Numbers)>,
    ended: Vec<Delivery>,
}

impl Runs {
    /// Of those that have a log due at `since` or later, or one set aside since then; `forgotten` as for [`is_whole`].
    pub(super) fn new(since: Timestamp, forgotten: Option<Timestamp>) -> Self {
        Runs { since, forgotten, current: None, ended: Vec::new() }
    }

    /// The next number.
    pub(super) fn push(&mut self, agent: &str, boot: Uuid, seq: u64, arrived: Arrived) {
        let current = match self.current.take() {
            Some(current) if (&*current.0, current.1) == (agent, boot) => current,
            before => {
                self.end(before);
                (agent.into(), boot, Numbers::new(is_whole(&boot, self.forgotten), seq))
            }
        };
        self.current.insert(current).2.push(seq, arrived);
    }

    fn end(&mut self, run: Option<(Arc<str>, Uuid, Numbers)>) {
        let Some((agent, boot, numbers)) = run else { return };
        if numbers.newest >= self.since {
            self.ended.push(numbers.delivery(agent, boot));
        }
    }

    /// There are no more.
    pub(super) fn deliveries(mut self) -> Vec<Delivery> {
        let last = self.current.take();
        self.end(last);
        self.ended
    }
}

/// The numbers of one run, given in their order.
#[derive(Debug)]
struct Numbers {
    /// The number that comes next when none is missing; `None`: whichever is the first that is stored.
    due: Option<u64>,
    lowest: u64,
    highest: u64,
    stored: u64,
    rejected: u64,
    /// The first ranges.
    missing: Vec<(u64, u64)>,
    missing_total: u64,
    /// When the first and the last of what is stored was due.
    due_at: Option<(Timestamp, Timestamp)>,
    /// When the last log was due or was set aside.
    newest: Timestamp,
}

impl Numbers {
    /// Of a run whose lowest number is given, from 1 on where it is `whole`.
    fn new(whole: bool, lowest: u64) -> Self {
        Numbers {
            due: whole.then_some(1),
            lowest,
            highest: lowest,
            stored: 0,
            rejected: 0,
            missing: Vec::new(),
            missing_total: 0,
            due_at: None,
            newest: Timestamp::from_micros(0),
        }
    }

    fn push(&mut self, seq: u64, arrived: Arrived) {
        self.highest = seq;
        match arrived {
            Arrived::Stored(due_at) => {
                self.pass(seq);
                self.stored += 1;
                let (first, last) = self.due_at.unwrap_or((due_at, due_at));
                self.due_at = Some((first.min(due_at), last.max(due_at)));
                self.newest = self.newest.max(due_at);
            }
            Arrived::SetAside(at) => {
                // What comes again of a time whose logs are deleted says nothing of those after it.
                if self.due.is_some() {
                    self.pass(seq);
                }
                self.rejected += 1;
                self.newest = self.newest.max(at);
            }
        }
    }

    fn pass(&mut self, seq: u64) {
        let due = self.due.unwrap_or(seq);
        if seq > due {
            if self.missing.len() < MISSING_MAX {
                self.missing.push((due, seq - 1));
            }
            self.missing_total += seq - due;
        }
        self.due = Some(due.max(seq.saturating_add(1)));
    }

    fn delivery(self, agent: Arc<str>, boot: Uuid) -> Delivery {
        let Numbers { lowest, highest, stored, rejected, missing, missing_total, due_at, .. } = self;
        Delivery { agent, boot, lowest, highest, stored, rejected, duplicates: 0, missing, missing_total, due_at }
    }
}
