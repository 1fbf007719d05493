//! The thread that owns the schedule: it hands out what is due and logs what was missed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, select};

use super::line::Line;
use super::{GRACE, Return};
use crate::check::Check;
use crate::clock::{Clock, Now, SystemClock};
use crate::jobs::{Pulse, Stop};
use crate::logs::{Author, Cause, Log};
use crate::schedule::{MissedRange, Schedule};

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
            let (wait, hear) = self.rest(now, handed_out);
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

    /// How long nothing needs to be done, and whether to hear meanwhile what comes back. Mostly that is taken up with the next
    /// tick, which costs no waking; but what is due again by then is heard at once, unless many slots are on their way.
    fn rest(&self, now: Now, handed_out: usize) -> (Duration, bool) {
        let again = self.schedule.next_again().map(|again| again.since(now.steady));
        let later = again.filter(|&again| again >= TICK + AHEAD / 2);
        let hear = again != later && handed_out <= FEW;
        if self.logs.is_full() || (again != later && !hear) {
            return (TICK, hear);
        }
        let due = self.schedule.next_due().map(|due| due.since(now.steady));
        let next = [due, later].into_iter().flatten().min().map_or(IDLE_MAX, |next| next.saturating_sub(AHEAD / 2));
        (next.clamp(TICK, IDLE_MAX), hear)
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use crossbeam_channel::bounded;

    use super::*;
    use crate::check::{Kind, tcp};
    use crate::clock::Steady;
    use crate::net::Host;

    #[test]
    fn it_hears_at_once_only_what_the_next_tick_would_be_too_late_for() {
        let seconds = Duration::from_secs;
        for (interval, takes, handed_out, rest) in [
            // All are free: until shortly before the first is due.
            (seconds(10), 0, 0, (seconds(10) - AHEAD / 2, false)),
            (seconds(3_600), 0, 0, (IDLE_MAX, false)),
            // One is out: until shortly before it is due again, whether it is back or not.
            (seconds(10), 1, 1, (seconds(10) - AHEAD / 2, false)),
            // It may come back at any moment, and is due again soon: there is no waking before.
            (Duration::from_millis(150), 1, 1, (IDLE_MAX, true)),
            // Unless many are on their way.
            (Duration::from_millis(150), 1, FEW + 1, (TICK, false)),
        ] {
            let now = SystemClock.now();
            let tcp = tcp::Tcp::to(Host::Address([127, 0, 0, 1].into()), 1);
            let kind = Kind::Tcp(Box::new(tcp));
            let (label, target) = ("a".into(), "a".into());
            let check = Check { label, interval, timeout: interval, confirm: Default::default(), target, kind };
            let schedule = Schedule::new("test", &[Arc::new(check)], now, &HashMap::new());
            let (logs, _logs) = bounded(1);
            let mut foreman =
                Foreman::new(schedule, Author::new("test".into(), now.wall), Arc::new(Line::new(1)), logs);
            let due = foreman.schedule.next_due().unwrap();
            // The moment when the first slot is due, an interval after which comes the next; or one that long before it.
            let at = Now { steady: if takes > 0 { due } else { Steady(due.0.saturating_sub(interval)) }, ..now };
            if takes > 0 {
                assert!(foreman.schedule.take(at, AHEAD).is_some());
            }
            assert_eq!(foreman.rest(at, handed_out), rest, "{interval:?}, {takes} out, {handed_out} handed out");
        }
    }
}
