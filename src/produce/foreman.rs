//! The thread that owns the schedule: it hands out what is due and logs what was missed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, select};

use super::{GRACE, Return};
use crate::check::Check;
use crate::clock::{Clock, Now, SystemClock};
use crate::jobs::{Pulse, Stop};
use crate::logs::{Author, Cause, Log};
use crate::schedule::{MissedRange, Schedule, Slot};

/// The schedule hands out due slots this often at most: waking once for many costs less, and since each slot keeps its own
/// moment (the worker waits for it), intervals are none the worse.
const TICK: Duration = Duration::from_millis(100);

/// Slots in a tick that are no crowd yet.
const FEW: usize = 8;

/// How far ahead slots are handed out: more than a tick, so that a tick that comes late makes no slot late.
const AHEAD: Duration = Duration::from_millis(150);

/// How long the schedule may sleep, where nothing is due sooner. Slots go by the clock that counts a machine's sleep, and waits
/// by one that does not: after a sleep this is how late the first slots may be. As rare as it is, since it is the one thing
/// that wakes an agent without work.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// The thread that owns the schedule.
pub(super) struct Foreman {
    schedule: Schedule,
    author: Author,
    slots: Sender<Slot>,
    logs: Sender<Log>,
    /// Missed logs that the spool has no room for yet; while there are any, nothing is handed out.
    missed: VecDeque<Log>,
}

impl Foreman {
    pub(super) fn new(schedule: Schedule, author: Author, slots: Sender<Slot>, logs: Sender<Log>) -> Self {
        Foreman { schedule, author, slots, logs, missed: VecDeque::new() }
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
            let wait = self.idle_for(now);
            pulse.back_in(wait + GRACE);
            // Many that come back within a tick are taken together. A few are heard at once: each may bring a new due.
            let many = wait <= TICK && handed_out > FEW;
            let returned = if many { &crossbeam_channel::never() } else { returned };
            select! {
                recv(returned) -> slot => slot.into_iter().for_each(|slot| self.take_back(slot)),
                recv(reloaded) -> checks => if let Ok(checks) = checks {
                    self.schedule.reload(&checks, SystemClock.now());
                },
                recv(stop.channel()) -> _ => {}
                default(wait) => {}
            }
        }
        let ranges = self.schedule.finish(SystemClock.now());
        self.keep(ranges);
        self.send_missed();
    }

    /// How long nothing needs to be done.
    fn idle_for(&self, now: Now) -> Duration {
        if self.logs.is_full() {
            return TICK;
        }
        let next = self.schedule.next_due().map_or(IDLE_MAX, |due| due.since(now.steady).saturating_sub(AHEAD / 2));
        next.clamp(TICK, IDLE_MAX)
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
            if self.slots.is_full() {
                self.schedule.hold(now, Cause::WorkersBusy);
                return handed_out;
            }
            let Some(slot) = self.schedule.take(now, AHEAD) else { return handed_out };
            if !self.send_missed() {
                self.schedule.put_back(slot);
                continue;
            }
            match self.slots.try_send(slot) {
                Ok(()) => handed_out += 1,
                Err(TrySendError::Full(slot)) => self.schedule.put_back(slot),
                // Every worker has heard the word to stop, and so will this thread.
                Err(TrySendError::Disconnected(slot)) => {
                    self.schedule.put_back(slot);
                    return handed_out;
                }
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
