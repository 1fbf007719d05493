//! Which check is due when. Pure: no threads, no clock of its own; one thread owns it and says what time it is.
//!
//! # What it guarantees
//!
//! * Slots of a label lie one interval apart, at wall times that leave the label's phase (see `phase.rs`); a restart keeps it.
//!   The wall clock is read once to place them. From then on the steady clock drives them, so that a wall clock that is set
//!   neither bunches nor skips; it only changes what wall time a slot is said to be due at.
//! * No two slots of one label are out at once.
//! * A slot is handed out until its successor is due, and never after.
//! * Every slot is handed out and [`done`](Schedule::done), or lies in exactly one [`MissedRange`], with its cause.
//! * When workers are too few, the label that has waited longest goes first, so none starves.
//!
//! # Causes
//!
//! A slot whose whole window, from its due to its successor's, lies in a time when the machine slept or the owner of the
//! schedule did not call, was missed for that; so too where the owner says that it cannot hand out ([`Schedule::hold`]).
//! Else, if the slot before was out: `still running` if that had begun, `workers busy` if it had not. Else `workers busy`.

mod label;
mod ledger;
mod phase;
mod rest;
mod slot;
#[cfg(test)]
mod tests;
mod wall;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::check::Check;
use crate::clock::{Now, SLEPT_MIN, Steady, Timestamp};
use crate::logs::{Cause, Missed};
use label::{Label, NEVER, Out, give_back};
use ledger::{Ledger, Run};
pub use rest::{AHEAD, TICK};
pub use slot::Slot;
use wall::{Wall, micros, offset, steady, timestamp};

/// How far wall − steady may wander before it counts as a step of the wall clock: the two are not read at one instant.
const WALL_NOISE_US: i64 = 50_000;

/// How far a slot may be from the wall time that it was kept under: it was placed by the steady clock.
const KEPT_NOISE_US: u64 = 1_000_000;

/// A check that ends so late, or by a tenth of its interval, begins its next slot late rather than to miss it.
const OVERRUN_US: u64 = 100_000;

/// An owner that is this late, beyond twice its `ahead`, stood still.
const STALL_US: u64 = 1_000_000;

/// A missed range is handed out when it has grown for this long, also when its label never gets free again.
const GROWN_US: u64 = 60_000_000;

/// How often all labels are looked through for such ranges.
const SWEEP_US: u64 = 10_000_000;

/// Consecutive slots of one label that did not run, for one cause: becomes one `missed` log.
#[derive(Clone, Debug)]
pub struct MissedRange {
    /// Whose slots.
    pub check: Arc<Check>,
    /// When the first of them was due.
    pub first_due_at: Timestamp,
    /// Why, how many, and until when.
    pub missed: Missed,
}

/// Which check is due when.
///
/// The owner calls [`take`](Schedule::take) (or [`hold`](Schedule::hold)) whenever [`next_due`](Schedule::next_due) is less
/// than `ahead` away, and after that at least once a second as long as it is: a longer silence counts as a stall. When next,
/// says [`rest`](Schedule::rest). After every other call it drains [`missed`](Schedule::missed), before it hands what it took
/// to a worker, so that a label's logs go out in the order of their slots.
#[derive(Debug)]
pub struct Schedule {
    agent: String,
    labels: Vec<Option<Label>>,
    vacant: Vec<u32>,
    /// Labels that are free, by how long they wait.
    waiting: BTreeSet<(u64, u32)>,
    /// Labels whose slot is out, by when they are due again.
    away: BTreeSet<(u64, u32)>,
    /// When the first of them was due as the owner saw it last: until then it may sleep. `None`: for as long as it takes.
    /// What comes back meanwhile, and how long that waits, it cannot know.
    first_known: Option<u64>,
    /// Labels that were taken while older slots of theirs had not run; these are entered unless the slot is put back.
    taken_late: Vec<u32>,
    ledger: Ledger,
    wall: Wall,
    ahead: u64,
    seen: u64,
    slept: Duration,
    sweep_at: u64,
}

impl Schedule {
    /// The schedule of an agent that starts `now`. `last_kept` says for each label when the last slot was due that an earlier
    /// run kept a log of: the slots since become one range, `agent was off`. One in the future (the wall clock was set back)
    /// says nothing. It need not lie on a slot exactly, but within a second of it: the slots after that were missed.
    pub fn new(agent: &str, checks: &[Arc<Check>], now: Now, last_kept: &HashMap<Arc<str>, Timestamp>) -> Self {
        let seen = micros(now.steady.0);
        let mut schedule = Schedule {
            agent: agent.to_owned(),
            labels: Vec::with_capacity(checks.len()),
            vacant: Vec::new(),
            waiting: BTreeSet::new(),
            away: BTreeSet::new(),
            first_known: None,
            taken_late: Vec::new(),
            ledger: Ledger::default(),
            wall: Wall { offset: offset(now), step: 0 },
            ahead: 0,
            seen,
            slept: now.slept,
            sweep_at: seen + SWEEP_US,
        };
        for check in checks {
            let first = schedule.add(check);
            if let Some(&kept) = last_kept.get(&check.label)
                && kept <= now.wall
            {
                schedule.enter_off(check, kept, first);
            }
        }
        schedule.know_first();
        schedule
    }

    /// The next slot that is due by `now + ahead`, of the free label that waits longest: the newest that is due, since what is
    /// older than that was missed; or the one ahead.
    pub fn take(&mut self, now: Now, ahead: Duration) -> Option<Slot> {
        self.ahead = micros(ahead);
        self.observe(now);
        let &(since, place) = self.waiting.first()?;
        if since > self.seen + self.ahead {
            return None;
        }
        self.waiting.remove(&(since, place));
        self.know_first();
        let label = self.labels.get_mut(place as usize)?.as_mut()?;
        let interval = interval_us(&label.check);
        let due = label.next + self.seen.saturating_sub(label.next) / interval * interval;
        if label.next < due {
            self.taken_late.push(place);
        } else {
            label.next = due + interval;
        }
        let (begun, again) = (Arc::new(AtomicBool::new(false)), due + interval);
        label.out = Some(Out::of(&label.check, due, &begun));
        self.away.insert((again, place));
        Some(Slot {
            check: label.check.clone(),
            due: steady(due),
            due_at: self.wall.at(due),
            since: steady(since),
            place,
            begun,
        })
    }

    /// Nothing can be handed out now, for `cause`: in place of [`take`](Schedule::take), when the workers' queue is full
    /// ([`Cause::WorkersBusy`]) or the spool is ([`Cause::SpoolFull`]).
    pub fn hold(&mut self, now: Now, cause: Cause) {
        let from = self.observe(now);
        if cause != Cause::WorkersBusy {
            self.ledger.halt(from, self.seen, cause);
        }
    }

    /// Takes back a slot that was not run: the workers' queue had no room, or a worker could not [`begin`](Slot::begin) it in
    /// time. It is offered again until its successor is due; then it is missed.
    pub fn put_back(&mut self, slot: Slot) {
        let Some((label, out)) = give_back(&mut self.labels, &mut self.away, &slot) else { return };
        let interval = interval_us(&out.check);
        let alone = Run { check: out.check, first: out.due, slots: 1 };
        if out.replaced {
            self.ledger.enter(&alone, Cause::WorkersBusy, self.wall);
            for run in &out.overrun {
                self.ledger.enter(run, Cause::WorkersBusy, self.wall);
            }
        } else if label.next == out.due + interval {
            label.next = out.due;
        } else if label.next > out.due {
            // The slots after it are entered already; it is stale, and goes in by itself.
            self.ledger.enter(&alone, Cause::WorkersBusy, self.wall);
        }
        // It keeps its place among those that wait, unless that place was of another interval.
        let since = if out.replaced { label.next } else { label.since };
        self.free(slot.place, since);
    }

    /// The check has run, and ended at `ended`; its log is on its way. Slots that came due in the meantime are missed, but for one
    /// that came due just before: a check that runs to its timeout, which may be its interval, ends a moment after that.
    pub fn done(&mut self, slot: Slot, ended: Steady) {
        self.enter_older(slot.place);
        let Some((label, out)) = give_back(&mut self.labels, &mut self.away, &slot) else { return };
        let end = micros(ended.0).saturating_sub(OVERRUN_US.min(interval_us(&label.check) / 10));
        for run in out.overrun.iter().chain([&label.due_before(end)]) {
            self.ledger.enter(run, Cause::StillRunning, self.wall);
        }
        let since = label.next;
        self.free(slot.place, since);
    }

    /// What was missed since the last call; each range once.
    pub fn missed(&mut self) -> Vec<MissedRange> {
        for place in std::mem::take(&mut self.taken_late) {
            self.enter_older(place);
        }
        self.ledger.hand_out()
    }

    /// When a label that is free is due, or was, if it could not be handed out yet. `None`: all are out, or there are none.
    pub fn next_due(&self) -> Option<Steady> {
        self.waiting.first().map(|&(since, _)| steady(since))
    }

    /// How far the wall clock was set since the last call, in microseconds, forward if positive; `None`: it was not.
    pub fn wall_step(&mut self) -> Option<i64> {
        Some(std::mem::take(&mut self.wall.step)).filter(|&step| step != 0)
    }

    /// Takes up a new set of checks. A label whose interval is the same keeps its slots, and its check changes with the next
    /// one handed out. Another interval gives other slots, from `now` on. A label that is gone just ends, also when its slot
    /// is out. Slots that were due before `now` and did not run are missed.
    pub fn reload(&mut self, checks: &[Arc<Check>], now: Now) {
        self.observe(now);
        let known = |(place, label): (usize, &Option<Label>)| {
            label.as_ref().map(|label| (label.check.label.clone(), u32::try_from(place).unwrap_or(u32::MAX)))
        };
        let mut places: HashMap<Arc<str>, u32> = self.labels.iter().enumerate().filter_map(known).collect();
        for check in checks {
            match places.remove(&check.label) {
                Some(place) => self.change(place, check),
                None => {
                    self.add(check);
                }
            }
        }
        let mut gone: Vec<u32> = places.into_values().collect();
        gone.sort_unstable();
        for place in gone {
            self.drop_label(place);
        }
        self.know_first();
    }

    /// The agent stops `now`: what was missed until then. Slots that could still run, and those of labels whose slot is out,
    /// are left to the next start, which finds that the agent was off.
    pub fn finish(&mut self, now: Now) -> Vec<MissedRange> {
        self.observe(now);
        self.enter_stale(|label| label.out.is_none());
        self.missed()
    }
}

impl Schedule {
    /// A new label, from now on; when its first slot is due.
    fn add(&mut self, check: &Arc<Check>) -> u64 {
        let next = self.first_slot(check, self.seen);
        let label = Label { check: check.clone(), next, since: next, out: None };
        let place = self.vacant.pop().unwrap_or_else(|| {
            self.labels.push(None);
            u32::try_from(self.labels.len() - 1).unwrap_or(u32::MAX)
        });
        self.labels[place as usize] = Some(label);
        self.waiting.insert((next, place));
        next
    }

    /// The first slot of a check at or after `from`, by the wall clock as it stands now.
    fn first_slot(&self, check: &Check, from: u64) -> u64 {
        let wall = self.wall.micros(from);
        from + phase::first_at_or_after(wall, self.phase(check), interval_us(check)) - wall
    }

    fn phase(&self, check: &Check) -> u64 {
        phase::phase_ms(&self.agent, &check.label, interval_us(check) / 1_000) * 1_000
    }

    /// Enters the slots after `kept`, give or take a little, and before `first`: the agent was off.
    fn enter_off(&mut self, check: &Arc<Check>, kept: Timestamp, first: u64) {
        let interval = interval_us(check);
        let kept = u64::try_from(kept.as_micros()).unwrap_or(0).saturating_add(KEPT_NOISE_US.min(interval / 2));
        let first_off = phase::first_at_or_after(kept + 1, self.phase(check), interval);
        let slots = self.wall.micros(first).saturating_sub(first_off) / interval;
        if slots == 0 {
            return;
        }
        let first_due_at = timestamp(first_off);
        let last_due_at = timestamp(first_off + (slots - 1) * interval);
        let missed = Missed { cause: Cause::AgentOff, slots, last_due_at };
        self.ledger.enter_range(MissedRange { check: check.clone(), first_due_at, missed });
    }

    /// Reads the clocks: has the wall clock been set, did the machine sleep, did the owner stand still? Gives the time since
    /// when a slot could have been handed out.
    fn observe(&mut self, now: Now) -> u64 {
        let (before, at) = (self.seen, micros(now.steady.0).max(self.seen));
        let offset = offset(now);
        if (offset - self.wall.offset).abs() > WALL_NOISE_US {
            self.wall.step += offset - self.wall.offset;
            self.wall.offset = offset;
        }
        // The owner had no need to call before something was due that it knew of.
        let from = self.first_known.map_or(at, |since| since.saturating_sub(self.ahead).clamp(before, at));
        self.know_first();
        if now.slept.saturating_sub(self.slept) >= SLEPT_MIN {
            self.ledger.halt(before, at, Cause::MachineSlept);
        } else if at - from > 2 * self.ahead + STALL_US {
            self.ledger.halt(from, at, Cause::AgentStalled);
        }
        (self.seen, self.slept) = (at, now.slept);
        if at >= self.sweep_at {
            self.sweep_at = at + SWEEP_US;
            self.enter_stale(|label| label.next.saturating_add(GROWN_US) <= at);
        }
        from
    }

    /// The owner sees what waits now.
    fn know_first(&mut self) {
        self.first_known = self.waiting.first().map(|&(since, _)| since);
    }

    /// Enters, for every label that `which` picks, the slots that cannot run any more.
    fn enter_stale(&mut self, which: impl Fn(&Label) -> bool) {
        for place in 0..u32::try_from(self.labels.len()).unwrap_or(u32::MAX) {
            if !self.labels[place as usize].as_ref().is_some_and(&which) {
                continue;
            }
            self.enter_older(place);
            let Some(label) = &mut self.labels[place as usize] else { continue };
            let running = label.out.as_ref().is_some_and(|out| out.begun.load(Relaxed));
            let cause = if running { Cause::StillRunning } else { Cause::WorkersBusy };
            // The newest slot that is due stays open: its successor is not due yet.
            let run = label.due_before((self.seen + 1).saturating_sub(interval_us(&label.check)));
            self.ledger.enter(&run, cause, self.wall);
        }
    }

    /// Enters the slots that are older than the one of the label that is out.
    fn enter_older(&mut self, place: u32) {
        if let Some(label) = &mut self.labels[place as usize]
            && let Some(due) = label.out.as_ref().map(|out| out.due)
            && label.next <= due
        {
            let run = label.due_before(due);
            self.ledger.enter(&run, Cause::WorkersBusy, self.wall);
            label.next = due + interval_us(&label.check);
        }
    }

    /// The label waits again, or ends if it was dropped.
    fn free(&mut self, place: u32, since: u64) {
        if since == NEVER {
            self.labels[place as usize] = None;
            self.vacant.push(place);
            return;
        }
        if let Some(label) = &mut self.labels[place as usize] {
            label.since = since;
            self.waiting.insert((since, place));
        }
    }

    /// Takes up a check under a label that there is already.
    fn change(&mut self, place: u32, check: &Arc<Check>) {
        let Some(label) = &mut self.labels[place as usize] else { return };
        if label.next != NEVER && label.check.interval == check.interval {
            label.check = check.clone();
            return;
        }
        let out = label.out.as_ref().map(|out| out.due);
        self.close(place);
        let next = self.first_slot(check, out.map_or(self.seen, |due| self.seen.max(due + 1)));
        if let Some(label) = &mut self.labels[place as usize] {
            (label.check, label.next) = (check.clone(), next);
            if let Some(out) = &mut label.out {
                self.away.remove(&(out.again, place));
                out.again = next;
                self.away.insert((next, place));
            }
        }
        if out.is_none() {
            self.free(place, next);
        }
    }

    /// Forgets a label, as soon as its slot is back.
    fn drop_label(&mut self, place: u32) {
        self.close(place);
        match &mut self.labels[place as usize] {
            Some(label) if label.out.is_some() => label.next = NEVER,
            _ => self.free(place, NEVER),
        }
    }

    /// Ends a label's slots: what was due before now is missed, or will be said to be when the slot that is out is back.
    fn close(&mut self, place: u32) {
        self.enter_older(place);
        let Some(label) = &mut self.labels[place as usize] else { return };
        let run = label.due_before(self.seen);
        match &mut label.out {
            Some(out) => {
                out.replaced = true;
                out.overrun.extend(Some(run).filter(|run| run.slots > 0));
            }
            None => {
                self.ledger.enter(&run, Cause::WorkersBusy, self.wall);
                self.waiting.remove(&(label.since, place));
            }
        }
    }
}

/// The interval of a check; `config` allows none below a millisecond.
fn interval_us(check: &Check) -> u64 {
    micros(check.interval).max(1_000)
}
