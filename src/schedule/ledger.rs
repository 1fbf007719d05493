//! The ledger of slots that did not run: why, and from when to when.
//!
//! Slots are entered as runs and never one by one, so that a night's sleep of a check that is due four times a second costs no
//! more than one of a daily check. Times are microseconds of the steady clock.

use std::collections::VecDeque;
use std::sync::Arc;

use super::wall::Wall;
use super::{MissedRange, interval_us};
use crate::check::Check;
use crate::logs::{Cause, Missed};

/// Halts that are remembered; the oldest goes first, and slots that lay in it count for what they would else.
/// It matters only to labels that were neither free nor given up since.
const HALTS_MAX: usize = 16;

/// Halts of one cause that are no further apart than this are one: a machine that wakes for a moment did not run.
const HALT_MERGE_US: u64 = 1_000_000;

/// What did not run.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    halts: VecDeque<Halt>,
    complete: Vec<MissedRange>,
}

/// A time in which nothing could be handed out.
#[derive(Clone, Copy, Debug)]
struct Halt {
    from: u64,
    to: u64,
    cause: Cause,
}

/// Slots of one check, the first due at `first`, the others an interval apart.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) check: Arc<Check>,
    pub(super) first: u64,
    pub(super) slots: u64,
}

impl Ledger {
    /// From `from` to `to` nothing could be handed out. Halts come in the order of time.
    pub(super) fn halt(&mut self, from: u64, to: u64, cause: Cause) {
        if let Some(last) = self.halts.back_mut()
            && last.cause == cause
            && from.saturating_sub(last.to) <= HALT_MERGE_US
        {
            last.to = to.max(last.to);
            return;
        }
        if self.halts.len() == HALTS_MAX {
            self.halts.pop_front();
        }
        self.halts.push_back(Halt { from, to, cause });
    }

    /// Enters slots that did not run, for `cause` where they do not lie in a halt.
    pub(super) fn enter(&mut self, run: &Run, cause: Cause, wall: Wall) {
        let interval = interval_us(&run.check);
        let (mut due, mut left) = (run.first, run.slots);
        let mut open: Option<(Cause, u64, u64)> = None;
        while left > 0 {
            let (halt, slots) = self.halt_at(due, interval);
            let (cause, slots) = (halt.unwrap_or(cause), slots.min(left));
            match &mut open {
                Some((same, _, count)) if *same == cause => *count += slots,
                _ => {
                    if let Some(range) = open.replace((cause, due, slots)) {
                        self.close(run, range, wall);
                    }
                }
            }
            due += slots * interval;
            left -= slots;
        }
        if let Some(range) = open {
            self.close(run, range, wall);
        }
    }

    /// Enters a range as it is.
    pub(super) fn enter_range(&mut self, range: MissedRange) {
        self.complete.push(range);
    }

    /// Hands out what was entered since.
    pub(super) fn hand_out(&mut self) -> Vec<MissedRange> {
        std::mem::take(&mut self.complete)
    }

    fn close(&mut self, run: &Run, (cause, first, slots): (Cause, u64, u64), wall: Wall) {
        let last_due_at = wall.at(first + (slots - 1) * interval_us(&run.check));
        let missed = Missed { cause, slots, last_due_at };
        self.complete.push(MissedRange { check: run.check.clone(), first_due_at: wall.at(first), missed });
    }

    /// The halt that the slot due at `due` was lost to, if any, and for how many slots from it on that is the answer (at
    /// least 1). A slot is lost to a halt when its whole window, from its due to its successor's, lies in it.
    fn halt_at(&self, due: u64, interval: u64) -> (Option<Cause>, u64) {
        let mut until = u64::MAX;
        for halt in &self.halts {
            let first = due + halt.from.saturating_sub(due).div_ceil(interval) * interval;
            let whole = halt.to.saturating_sub(first) / interval;
            if whole == 0 {
                continue;
            }
            if first == due {
                return (Some(halt.cause), whole);
            }
            until = until.min(first);
        }
        (None, (until - due) / interval)
    }
}
