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
/// `forgotten`.
pub(super) fn is_whole(boot: &Uuid, forgotten: Timestamp) -> bool {
    began_at(boot) >= forgotten.plus(MARGIN)
}

/// The numbers of runs, given in the order of agent, boot and number; in what comes out, no log came again.
#[derive(Debug)]
pub(super) struct Runs {
    forgotten: Timestamp,
    current: Option<(Arc<str>, Uuid, Numbers)>,
    ended: Vec<Delivery>,
}

impl Runs {
    /// None yet; `forgotten` as for [`is_whole`].
    pub(super) fn new(forgotten: Timestamp) -> Self {
        Runs { forgotten, current: None, ended: Vec::new() }
    }

    /// The next number: that of a log due at `due_at`, or (`None`) of one that was set aside.
    pub(super) fn push(&mut self, agent: &str, boot: Uuid, seq: u64, due_at: Option<Timestamp>) {
        let current = match self.current.take() {
            Some(current) if (&*current.0, current.1) == (agent, boot) => current,
            before => {
                self.end(before);
                (agent.into(), boot, Numbers::new(is_whole(&boot, self.forgotten)))
            }
        };
        let (_, _, numbers) = self.current.insert(current);
        match due_at {
            Some(due_at) => numbers.stored(seq, due_at),
            None => numbers.rejected(seq),
        }
    }

    fn end(&mut self, run: Option<(Arc<str>, Uuid, Numbers)>) {
        self.ended.extend(run.and_then(|(agent, boot, numbers)| numbers.delivery(agent, boot)));
    }

    /// There are no more.
    pub(super) fn deliveries(mut self) -> Vec<Delivery> {
        let last = self.current.take();
        self.end(last);
        self.ended
    }
}

/// The numbers of one run, given in their order.
#[derive(Debug, Default)]
struct Numbers {
    /// The number that comes next when none is missing; `None`: whichever is the first.
    due: Option<u64>,
    /// Lowest and highest, and the first and last time, of what is stored.
    span: Option<(u64, u64, Timestamp, Timestamp)>,
    stored: u64,
    rejected: u64,
    /// What is missing before a number that is stored: the first ranges, and how many numbers in all.
    missing: Vec<(u64, u64)>,
    missing_total: u64,
    /// Likewise after it: nobody knows yet whether they have been given out.
    pending: Vec<(u64, u64)>,
    pending_total: u64,
}

impl Numbers {
    /// Of a run, from 1 on where it is `whole`.
    fn new(whole: bool) -> Self {
        Numbers { due: whole.then_some(1), ..Numbers::default() }
    }

    /// There is a log with this number.
    fn stored(&mut self, seq: u64, due_at: Timestamp) {
        self.pass(seq);
        let room = MISSING_MAX - self.missing.len();
        self.missing.extend(self.pending.drain(..).take(room));
        self.missing_total += std::mem::take(&mut self.pending_total);
        let (lowest, highest, first, last) = self.span.unwrap_or((seq, seq, due_at, due_at));
        self.span = Some((lowest.min(seq), highest.max(seq), first.min(due_at), last.max(due_at)));
        self.stored += 1;
    }

    /// One with this number was set aside.
    fn rejected(&mut self, seq: u64) {
        // Where it is not known what came before the first that is stored, it does not matter.
        if self.due.is_some() {
            self.pass(seq);
        }
        self.rejected += 1;
    }

    fn pass(&mut self, seq: u64) {
        let due = self.due.unwrap_or(seq);
        if seq > due {
            if self.pending.len() < MISSING_MAX {
                self.pending.push((due, seq - 1));
            }
            self.pending_total += seq - due;
        }
        self.due = Some(due.max(seq.saturating_add(1)));
    }

    /// `None`: nothing of the run is stored.
    fn delivery(self, agent: Arc<str>, boot: Uuid) -> Option<Delivery> {
        let Numbers { stored, rejected, missing, missing_total, .. } = self;
        let (lowest, highest, first_due_at, last_due_at) = self.span?;
        Some(Delivery {
            agent,
            boot,
            lowest,
            highest,
            stored,
            rejected,
            duplicates: 0,
            missing,
            missing_total,
            first_due_at,
            last_due_at,
        })
    }
}
