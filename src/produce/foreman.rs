//! The thread that owns the schedule: it hands out what is due and logs what was missed.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, select};

use super::line::Line;
use super::{GRACE, Return};
use crate::check::Check;
use crate::clock::{Clock, Now, SystemClock};
use crate::jobs::{Pulse, Stop};
use crate::logs::{Author, Cause, Log};
use crate::schedule::{AHEAD, MissedRange, Schedule, TICK};

/// The thread that owns the schedule.
pub(super) struct Foreman {
    schedule: Schedule,
    author: Author,
    line: Arc<Line>,
    logs: Sender<Log>,
    /// Missed logs that the spool has no room for yet; while there are any, nothing is handed out.
    missed: VecDeque<Log>,
}

impl Foreman {
    pub(super) fn new(schedule: Schedule, author: Author, line: Arc<Line>, logs: Sender<Log>) -> Self {
        Foreman { schedule, author, line, logs, missed: VecDeque::new() }
    }

    /// Hands out slots until told to stop.
    pub(super) fn run(
        &mut self,
        returned: &Receiver<Return>,
        reloaded: &Receiver<Vec<Arc<Check>>>,
        stop: &Stop,
        pulse: &Pulse,
    ) {
        while !stop.is_set() {
            returned.try_iter().for_each(|slot| self.take_back(slot));
            let now = SystemClock.now();
            let handed_out = self.hand_out(now);
            if let Some(step) = self.schedule.wall_step() {
                let seconds = step as f64 / 1e6;
                log::warn!("the wall clock was set by {seconds:+.3} s; checks go on in their rhythm");
            }
            let (wait, hear) = self.schedule.rest(now, handed_out);
            let wait = if self.logs.is_full() { TICK } else { wait };
            pulse.back_in(wait + GRACE);
            let returned = if hear { returned } else { &crossbeam_channel::never() };
            select! {
                recv(returned) -> slot => slot.into_iter().for_each(|slot| self.take_back(slot)),
                recv(reloaded) -> checks => if let Ok(checks) = checks {
                    self.schedule.reload(&checks, SystemClock.now());
                },
                recv(stop.channel()) -> _ => {}
                default(wait) => {}
            }
        }
        returned.try_iter().for_each(|slot| self.take_back(slot));
        let ranges = self.schedule.finish(SystemClock.now());
        self.keep(ranges);
        self.send_missed();
    }

    fn take_back(&mut self, slot: Return) {
        match slot {
            Return::Ran(slot, ended) => self.schedule.done(slot, ended),
            Return::TooLate(slot) => self.schedule.put_back(slot),
        }
    }

    /// Hands out what is due, as long as there is room, and says how many. What was missed goes ahead of what is taken, so
    /// that the logs of a label reach the spool in the order of their slots.
    pub(super) fn hand_out(&mut self, now: Now) -> usize {
        let mut handed_out = 0;
        loop {
            // A worker that cannot send its log would be held up as well.
            if !self.send_missed() || self.logs.is_full() {
                self.schedule.hold(now, Cause::SpoolFull);
                return handed_out;
            }
            if self.line.is_full() {
                self.schedule.hold(now, Cause::WorkersBusy);
                return handed_out;
            }
            let Some(slot) = self.schedule.take(now, AHEAD) else { return handed_out };
            if !self.send_missed() {
                self.schedule.put_back(slot);
                continue;
            }
            match self.line.put(slot) {
                Ok(()) => handed_out += 1,
                Err(slot) => self.schedule.put_back(slot),
            }
        }
    }

    fn keep(&mut self, ranges: Vec<MissedRange>) {
        self.missed.extend(
            ranges.iter().map(|range| Log::missed(&self.author, &range.check, range.first_due_at, range.missed)),
        );
    }

    /// Sends what was missed to the spool as far as there is room; whether all of it has gone.
    fn send_missed(&mut self) -> bool {
        let ranges = self.schedule.missed();
        self.keep(ranges);
        while let Some(log) = self.missed.pop_front() {
            if let Err(TrySendError::Full(log) | TrySendError::Disconnected(log)) = self.logs.try_send(log) {
                self.missed.push_front(log);
                return false;
            }
        }
        true
    }
}

impl Drop for Foreman {
    /// However it ends, nobody waits for it.
    fn drop(&mut self) {
        self.line.close();
    }
}
