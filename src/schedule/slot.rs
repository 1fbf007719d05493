//! What the schedule hands out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::check::Check;
use crate::clock::{Steady, Timestamp};

/// A check that is due, handed to a worker. The worker sleeps until `due`, begins it, runs it, and sends it back.
#[derive(Debug)]
pub struct Slot {
    /// What to run.
    pub check: Arc<Check>,
    /// When.
    pub due: Steady,
    /// When, by the wall clock.
    pub due_at: Timestamp,
    /// Since when its label waits for its turn: longer than `due` where slots before it could not run.
    pub since: Steady,
    pub(super) place: u32,
    pub(super) begun: Arc<AtomicBool>,
}

impl Slot {
    /// Whether a check that begins `now` still begins in time; notes that it did. If not, its successor is due already:
    /// the worker does not run it and gives it back for [`put_back`](super::Schedule::put_back).
    pub fn begin(&self, now: Steady) -> bool {
        let in_time = now < self.due.plus(self.check.interval);
        self.begun.fetch_or(in_time, Relaxed);
        in_time
    }
}
