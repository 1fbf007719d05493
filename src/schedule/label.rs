//! A label and its slots. All times are microseconds of the steady clock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Slot;
use super::ledger::Run;
use crate::check::Check;

/// When a dropped label is due.
pub(super) const NEVER: u64 = u64::MAX;

/// A label and its slots.
#[derive(Debug)]
pub(super) struct Label {
    pub(super) check: Arc<Check>,
    /// The oldest slot that is neither out nor entered as missed; not after the one that is out while older ones are not
    /// entered. [`NEVER`]: a reload dropped the label while its slot was out.
    pub(super) next: u64,
    /// Since when it waits: its key in `waiting`.
    pub(super) since: u64,
    pub(super) out: Option<Out>,
}

/// The slot of a label that is with a worker.
#[derive(Debug)]
pub(super) struct Out {
    pub(super) check: Arc<Check>,
    pub(super) due: u64,
    /// When the label is due again: its key in `away`.
    pub(super) again: u64,
    pub(super) begun: Arc<AtomicBool>,
    /// A reload changed the interval or dropped the label since: the slot has no place among the label's slots any more.
    pub(super) replaced: bool,
    /// Slots of the intervals before that came due while this one was out.
    pub(super) overrun: Vec<Run>,
}

impl Out {
    /// The slot of `check` that is due at `due`.
    pub(super) fn of(check: &Arc<Check>, due: u64, begun: &Arc<AtomicBool>) -> Self {
        let again = due + super::interval_us(check);
        Out { check: check.clone(), due, again, begun: begun.clone(), replaced: false, overrun: Vec::new() }
    }
}

/// The label of a slot that comes back, and what was noted when it was handed out. `None`: it is not out.
pub(super) fn give_back<'a>(
    labels: &'a mut [Option<Label>],
    away: &mut BTreeSet<(u64, u32)>,
    slot: &Slot,
) -> Option<(&'a mut Label, Out)> {
    let label = labels.get_mut(slot.place as usize)?.as_mut()?;
    let out = label.out.take_if(|out| Arc::ptr_eq(&out.begun, &slot.begun))?;
    away.remove(&(out.again, slot.place));
    Some((label, out))
}

impl Label {
    /// Takes the open slots that are due before `end`.
    pub(super) fn due_before(&mut self, end: u64) -> Run {
        let interval = super::interval_us(&self.check);
        let slots = end.saturating_sub(self.next).div_ceil(interval);
        let run = Run { check: self.check.clone(), first: self.next, slots };
        self.next += slots * interval;
        run
    }
}
