//! The workers, who run the checks.
//!
//! One by one they take slots from the line (see `line`) and run them at their due. When the last one that waits there goes to
//! run a check, another worker is started, up to what the config allows: so there is one more than ever ran at once, and a target
//! that hangs holds up no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crossbeam_channel::Sender;

use super::gate::Gate;
use super::line::{Due, Line};
use super::starvation::Starvation;
use super::{GRACE, Plan, Return, Run, WORKER_STACK, run_check};
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
    line: Arc<Line>,
    returns: Sender<Return>,
    logs: Sender<Log>,
    stop: Stop,
    jobs: Jobs,
    /// Workers that run a check.
    running: AtomicU32,
    /// Workers there are.
    hired: AtomicUsize,
    /// When to ask the machine again for a worker that it refused, in milliseconds of the awake clock; 0: it refused none.
    hire_again: AtomicU64,
}

/// How long after a refusal the machine is asked again for one more thread.
const HIRE_AGAIN_MS: u64 = 5_000;

impl Crew {
    pub(super) fn new(
        plan: &Plan,
        gate: &Arc<Gate>,
        (net, jobs, stop): (&Arc<Net>, &Jobs, &Stop),
        line: Arc<Line>,
        returns: Sender<Return>,
        logs: Sender<Log>,
    ) -> Self {
        Crew {
            author: plan.author.clone(),
            run: plan.run,
            gate: gate.clone(),
            net: net.clone(),
            line,
            returns,
            logs,
            stop: stop.clone(),
            jobs: jobs.clone(),
            running: AtomicU32::new(0),
            hired: AtomicUsize::new(0),
            hire_again: AtomicU64::new(0),
        }
    }

    /// Starts one more worker, if there may be more. Where the machine has none to give, it is asked again after
    /// [`HIRE_AGAIN_MS`], and only the first refusal is an error.
    pub(super) fn hire(self: Arc<Self>) -> Result<(), String> {
        let now = u64::try_from(SystemClock.now().awake().0.as_millis()).unwrap_or(u64::MAX);
        let (again, most) = (self.hire_again.load(Relaxed), self.line.most());
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

    /// Checks that run.
    pub(super) fn running(&self) -> u32 {
        self.running.load(Relaxed)
    }

    /// Runs so many checks at once from now on; those that run go on.
    pub(super) fn change_most(self: Arc<Self>, most: usize) {
        // Slots may wait with every worker at a check that hangs.
        if !self.line.change_most(most) {
            self.hire_or_share();
        }
    }

    /// Starts one more worker. Where there is none to be had, the next slot waits until one of those that there are is free.
    fn hire_or_share(self: Arc<Self>) {
        if let Err(reason) = self.hire() {
            log::warn!("{reason}; checks share the workers that there are");
        }
    }

    /// A worker: takes slots until the agent stops.
    fn work(self: &Arc<Self>, starvation: &Starvation, pulse: &Pulse) {
        let mut back = false;
        while let Some((slot, in_hand)) = self.next(back) {
            back = true;
            let now = SystemClock.now();
            let returned = if slot.begin(now.steady) {
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
            let _ = self.returns.send(returned);
        }
    }

    /// The next slot, at the moment when it is due, and since when a worker had it in hand. `None` once the agent stops: what is
    /// not begun by then is left to the next start, which finds it missed.
    fn next(self: &Arc<Self>, back: bool) -> Option<(Slot, Steady)> {
        let Due { slot, in_hand, last_worker } = self.line.next(&self.stop, back)?;
        if last_worker {
            self.clone().hire_or_share();
        }
        Some((slot, in_hand))
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
