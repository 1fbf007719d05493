//! The agent half: every thread and channel of it, on one screen.
//!
//! ```text
//! schedule ──slots──▶ worker × n ──logs──▶ spool ──(pump)──▶ Kafka, where there is a queue
//!     ▲  └────────────missed logs──────────▲
//!     └──returns─────────┘
//! ```
//!
//! Workers are started when they are needed, up to what the config allows (see `crew`).
//!
//! | channel | bound | at the bound |
//! |---|---|---|
//! | slots (see `line`) | `SLOTS_MAX` | the slot stays in the schedule; its successor's due makes it missed, `workers busy` |
//! | returns | slots and workers together, so it is never reached | |
//! | reloads | 0 | whoever reloads waits until the schedule takes it up, for `GRACE` at most |
//! | logs | `LOGS_MAX` | workers wait, and what the schedule cannot hand out meanwhile is missed, `spool full` |
//!
//! Told to stop, the schedule hands out no more, and workers end what they are at and leave what they have not begun; that
//! closes `logs`, and the spool commits what it has. Then the pump empties the spool, for a bounded time; the rest stays there.

mod crew;
mod foreman;
mod gate;
mod line;
mod once;
mod publish;
mod starvation;
#[cfg(test)]
mod tests;

pub use gate::judging_max;
pub use once::{Checked, once};
pub use publish::publish;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use crate::check::{Check, Outcome, Verdict};
use crate::clock::{Clock, SLEPT_MIN, Steady, SystemClock};
use crate::flows::SetAtEnd;
use crate::jobs::{Jobs, Stop, panic_message, step_back};
use crate::logs::Author;
use crate::net::Net;
use crate::schedule::{Schedule, Slot};
use crate::spool;
use crew::Crew;
use foreman::Foreman;
use gate::Gate;
use line::{Line, SLOTS_MAX};

/// Logs on their way to the spool: what one group commit takes in at a thousand checks a second.
const LOGS_MAX: usize = 1_024;

/// A thread that comes back this much later than it said is stuck.
const GRACE: Duration = Duration::from_secs(5);

/// Enough for a TLS handshake with a debug build's frames; only what is touched takes memory.
const WORKER_STACK: usize = 512 * 1024;
const STACK: usize = 256 * 1024;

/// How a check is run: [`check::run`](crate::check::run), or what a test puts in its place.
pub type Run = fn(&Check, &Net, Instant) -> Outcome;

/// What the agent half works on.
#[derive(Debug)]
pub struct Plan {
    /// Who writes the logs.
    pub author: Author,
    /// How each check is run.
    pub run: Run,
    /// The checks that tell whether the agent's own network works (see `gate`).
    pub network_gate: Vec<Arc<Check>>,
    /// How many threads may run checks at once.
    pub workers: usize,
    /// How long a log waits for others to be committed with it.
    pub flush: Duration,
}

/// The running agent half, for what can be asked of it.
#[derive(Debug)]
pub struct Agent {
    reloads: Sender<Vec<Arc<Check>>>,
    gate: Arc<Gate>,
    /// Gone with the last worker: it holds the way to the spool open.
    crew: Weak<Crew>,
}

/// A slot that comes back from a worker.
#[derive(Debug)]
enum Return {
    /// It ran and ended then; its log is on its way.
    Ran(Slot, Steady),
    /// It was taken up when its successor was due already, so it did not run.
    TooLate(Slot),
}

/// Starts every thread of the agent half. `stop` ends it; `drained` is set when its last log is in the spool.
///
/// # Errors
/// When a thread cannot be started.
pub fn start(
    jobs: &Jobs,
    plan: Plan,
    schedule: Schedule,
    writer: spool::Writer,
    net: &Arc<Net>,
    (stop, drained): (&Stop, &Stop),
) -> Result<Agent, String> {
    let line = Arc::new(Line::new(plan.workers.min(WORKERS_MAX)));
    // Slots are in the line, or with a worker.
    let (returns, returned) = bounded(SLOTS_MAX + WORKERS_MAX);
    let (logs, logs_out) = bounded(LOGS_MAX);
    // Without room: a reload is done when the schedule has it, and the next one cannot come too early.
    let (reloads, reloaded) = bounded(0);

    let gate = Arc::new(Gate::new(plan.run, plan.network_gate.clone(), stop));
    let crew = Crew::new(&plan, &gate, (net, jobs, stop), line.clone(), returns, logs.clone());
    let crew = Arc::new(crew);
    crew.clone().hire()?;
    let crew = Arc::downgrade(&crew);

    let mut foreman = Foreman::new(schedule, plan.author, line, logs);
    let heard = stop.clone();
    jobs.start("schedule", STACK, move |pulse| {
        foreman.run(&returned, &reloaded, &heard, pulse);
        Ok(())
    })?;

    let (heard, drained) = (stop.clone(), SetAtEnd(drained.clone()));
    jobs.start("spool", STACK, move |pulse| {
        let _drained = drained;
        step_back();
        spool::write(writer, &logs_out, plan.flush, &heard, pulse)
    })?;
    Ok(Agent { reloads, gate, crew })
}

/// The most workers that a config may ask for (`defaults.workers_max`).
pub const WORKERS_MAX: usize = 10_000;

impl Agent {
    /// How many checks run.
    pub fn running(&self) -> u32 {
        self.crew.upgrade().map_or(0, |crew| crew.running())
    }

    /// Takes up a new set of checks and another gate; those that are running are not touched.
    ///
    /// # Errors
    /// When the schedule does not take it within five seconds: it is stuck, or has ended.
    pub fn reload(&self, checks: Vec<Arc<Check>>, network_gate: Vec<Arc<Check>>, workers: usize) -> Result<(), String> {
        let sent = self.reloads.send_timeout(checks, GRACE);
        sent.map_err(|_| format!("the schedule has not taken it up within {} s; try again", GRACE.as_secs()))?;
        self.gate.change(network_gate);
        if let Some(crew) = self.crew.upgrade() {
            crew.change_most(workers.min(WORKERS_MAX));
        }
        Ok(())
    }
}

/// A check that comes back this much after its timeout was not held up by its target: checks keep theirs to within 50 ms.
const OVERRUN_MAX: Duration = Duration::from_millis(500);

/// Runs a check within its timeout. A panic in it is an `unknown` outcome with the panic's message; so is whatever it says when
/// the agent stood still meanwhile (stopped by a signal, starved), since what it saw then is no fault of the target.
fn run_check(run: Run, check: &Check, net: &Net) -> (Outcome, Duration) {
    let (started, slept) = (Instant::now(), SystemClock.now().slept);
    let guarded = AssertUnwindSafe(|| run(check, net, started + check.timeout));
    let outcome = catch_unwind(guarded).unwrap_or_else(|panic| panicked(check, &*panic));
    let (took, slept) = (started.elapsed(), SystemClock.now().slept.saturating_sub(slept));
    let outcome = match stood_still(took, check.timeout, slept) {
        // The evidence stays in the result; the verdict does not.
        Some(reason) => Outcome { verdict: Verdict::Unknown, reason: Some(reason), ..outcome },
        None => outcome,
    };
    (outcome, took)
}

/// Why a check is no judge of its target, if it is not: the agent, or the whole machine, stood still in the midst of it.
fn stood_still(took: Duration, timeout: Duration, slept: Duration) -> Option<String> {
    if slept >= SLEPT_MIN {
        return Some(format!("the machine slept for {:.1} s during the check", slept.as_secs_f64()));
    }
    let (late, timeout) = (took > timeout + OVERRUN_MAX, timeout.as_secs_f64());
    late.then(|| {
        let took = took.as_secs_f64();
        format!("the agent stood still: the check ended after {took:.1} s, and its timeout is {timeout} s")
    })
}

fn panicked(check: &Check, panic: &(dyn Any + Send)) -> Outcome {
    log::error!("the check `{}` panicked: {}", check.label, panic_message(panic));
    Outcome::unknown(format!("the check panicked: {}", panic_message(panic)))
}
