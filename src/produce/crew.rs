//! The workers, who run the checks.
//!
//! One worker at a time waits for the next slot and for its due, the others rest; when it goes to run the check, the next one
//! waits. When none rests, another worker is started, up to what the config allows: so there are as many as ever ran at once,
//! and a target that hangs holds up no other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender};

use super::gate::Gate;
use super::starvation::Starvation;
use super::{GRACE, Plan, Return, Run, SLOTS_MAX, WORKER_STACK, run_check};
use crate::clock::{Clock, Now, Steady, SystemClock};
use crate::jobs::{Jobs, Pulse, Stop};
use crate::logs::{Author, Log, Ran, Strain};
use crate::net::Net;
use crate::schedule::Slot;

/// The workers, and what they work with.
#[derive(Debug)]
pub(super) struct Crew {
    author: Author,
    run: Run,
    gate: Arc<Gate>,
    net: Arc<Net>,
    turn: Mutex<Turn>,
    returns: Sender<Return>,
    logs: Sender<Log>,
    stop: Stop,
    jobs: Jobs,
    /// Workers that wait or rest.
    idle: AtomicUsize,
    /// Workers that run a check.
    running: AtomicU32,
    /// Workers there are, and may be.
    hired: AtomicUsize,
    most: Arc<AtomicUsize>,
    /// When to ask the machine again for a worker that it refused, in milliseconds of the awake clock; 0: it refused none.
    hire_again: AtomicU64,
}

/// How long after a refusal the machine is asked again for one more thread.
const HIRE_AGAIN_MS: u64 = 5_000;

/// What the worker holds whose turn it is to wait.
#[derive(Debug)]
pub(super) struct Turn {
    slots: Receiver<Slot>,
    /// Slots that were taken in, [`SLOTS_MAX`] at most, by their due and then as they came: the earliest goes first, also when
    /// it came last. With each, when it was taken in.
    waiting: BTreeMap<(Steady, u64), (Slot, Steady)>,
    taken_in: u64,
}

impl Crew {
    pub(super) fn new(
        plan: &Plan,
        gate: &Arc<Gate>,
        (net, jobs, stop): (&Arc<Net>, &Jobs, &Stop),
        slots: Receiver<Slot>,
        returns: Sender<Return>,
        (logs, most): (Sender<Log>, Arc<AtomicUsize>),
    ) -> Self {
        Crew {
            author: plan.author.clone(),
            run: plan.run,
            gate: gate.clone(),
            net: net.clone(),
            turn: Mutex::new(Turn::of(slots)),
            returns,
            logs,
            stop: stop.clone(),
            jobs: jobs.clone(),
            idle: AtomicUsize::new(0),
            running: AtomicU32::new(0),
            hired: AtomicUsize::new(0),
            most,
            hire_again: AtomicU64::new(0),
        }
    }

    /// Starts one more worker, if there may be more. Where the machine has none to give, it is asked again after
    /// [`HIRE_AGAIN_MS`], and only the first refusal is an error.
    pub(super) fn hire(self: Arc<Self>) -> Result<(), String> {
        let now = u64::try_from(SystemClock.now().awake().0.as_millis()).unwrap_or(u64::MAX);
        let (again, most) = (self.hire_again.load(Relaxed), self.most.load(Relaxed));
        if now < again {
            return Ok(());
        }
        let Ok(n) = self.hired.fetch_update(Relaxed, Relaxed, |hired| (hired < most).then_some(hired + 1)) else {
            return Ok(());
        };
        let (jobs, crew) = (self.jobs.clone(), self.clone());
        let started = jobs.start(&format!("worker-{n}"), WORKER_STACK, move |pulse| {
            crew.work(&Starvation::of_this_thread(n), pulse);
            Ok(())
        });
        let refused = started.is_err();
        if refused {
            self.hired.fetch_sub(1, Relaxed);
        }
        self.hire_again.store(if refused { now + HIRE_AGAIN_MS } else { 0 }, Relaxed);
        if again > 0 { Ok(()) } else { started }
    }

    /// A worker: takes slots until the agent stops.
    fn work(self: &Arc<Self>, starvation: &Starvation, pulse: &Pulse) {
        while let Some((slot, in_hand)) = self.next() {
            let now = SystemClock.now();
            let back = if slot.begin(now.steady) {
                pulse.back_in(slot.check.timeout + GRACE);
                let log = self.run(&slot, (in_hand, now), starvation, pulse);
                // The check ends here: should the spool make us wait, that is not its target's doing.
                let ended = SystemClock.now().steady;
                // Nor is it ours: the spool says by its own pulse whether it lives, however long it waits for room.
                pulse.rest();
                if self.logs.send(log).is_err() {
                    // The spool ends after the workers do, unless it failed; then the process stops for that.
                    log::error!("a result of `{}` is lost: the spool has ended", slot.check.label);
                }
                Return::Ran(slot, ended)
            } else {
                Return::TooLate(slot)
            };
            pulse.rest();
            // Once the schedule has ended it needs it no more.
            let _ = self.returns.send(back);
        }
    }

    /// The next slot, at the moment when it is due, and since when a worker had it in hand. `None` once the agent stops: what is
    /// not begun by then is left to the next start, which finds it missed.
    fn next(self: &Arc<Self>) -> Option<(Slot, Steady)> {
        let free = SystemClock.now().steady;
        self.idle.fetch_add(1, Relaxed);
        let (slot, came) = self.turn.lock().unwrap_or_else(PoisonError::into_inner).wait(&self.stop)?;
        let nobody_waits = self.idle.fetch_sub(1, Relaxed) == 1;
        if nobody_waits && let Err(reason) = self.clone().hire() {
            // The next slot waits until one of the workers that there are is free.
            log::warn!("{reason}; checks share the workers that there are");
        }
        Some((slot, came.max(free)))
    }

    fn run(&self, slot: &Slot, (in_hand, now): (Steady, Now), starvation: &Starvation, pulse: &Pulse) -> Log {
        let running = Some(self.running.fetch_add(1, Relaxed) + 1);
        let ((outcome, took), starved_us) = starvation.during(|| run_check(self.run, &slot.check, &self.net));
        self.running.fetch_sub(1, Relaxed);
        pulse.back_in(self.gate.judging_max() + GRACE);
        let outcome = self.gate.judge(&slot.check, (outcome, took), &self.net);
        let after = |moment: Steady| Some(u64::try_from(moment.since(slot.due).as_micros()).unwrap_or(u64::MAX));
        let strain = Strain { late_us: after(now.steady), queued_us: after(in_hand), running, starved_us };
        Log::ran(&self.author, &slot.check, slot.due_at, Ran { started_at: now.wall, took, strain }, outcome)
    }
}

impl Turn {
    pub(super) fn of(slots: Receiver<Slot>) -> Self {
        Turn { slots, waiting: BTreeMap::new(), taken_in: 0 }
    }

    /// Waits until the earliest slot is due; with it, when it was taken in. `None` once the agent stops.
    pub(super) fn wait(&mut self, stop: &Stop) -> Option<(Slot, Steady)> {
        while !stop.is_set() {
            while self.waiting.len() < SLOTS_MAX
                && let Ok(slot) = self.slots.try_recv()
            {
                self.take_in(slot);
            }
            let Some((&(due, _), _)) = self.waiting.first_key_value() else {
                let slot = self.slots.recv().ok()?;
                self.take_in(slot);
                continue;
            };
            let early = due.since(SystemClock.now().steady);
            if early.is_zero() {
                return self.waiting.pop_first().map(|(_, slot)| slot);
            }
            if self.waiting.len() == SLOTS_MAX {
                stop.wait(early);
            } else if let Ok(slot) = self.slots.recv_timeout(early) {
                self.take_in(slot);
            }
        }
        None
    }

    fn take_in(&mut self, slot: Slot) {
        self.taken_in += 1;
        self.waiting.insert((slot.due, self.taken_in), (slot, SystemClock.now().steady));
    }
}
