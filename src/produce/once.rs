//! Checks outside of the schedule: each once, now.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crossbeam_channel::{Receiver, bounded};

use super::gate::Gate;
use super::starvation::Starvation;
use super::{WORKER_STACK, run_check};
use crate::check::{self, Check, Outcome};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::jobs::{Jobs, Stop};
use crate::logs::{Ran, Strain};
use crate::net::Net;

/// A check that was run outside of the schedule.
#[derive(Debug)]
pub struct Checked {
    /// Its place among the checks that were asked for.
    pub place: usize,
    /// When it was due: when it began.
    pub due_at: Timestamp,
    /// When it ran.
    pub ran: Ran,
    /// What it found.
    pub outcome: Outcome,
}

/// How many checks run at once outside of the schedule: enough that a few slow ones hold up nobody.
const AT_ONCE_MAX: usize = 32;

/// Runs each check once, now, several at a time; `network_gate` is asked as by the agent. The results come as they are ready, and
/// the channel closes after the last.
///
/// # Errors
/// When a thread cannot be started.
pub fn once(checks: &[Arc<Check>], network_gate: Vec<Arc<Check>>, net: &Arc<Net>) -> Result<Receiver<Checked>, String> {
    let (waiting_in, waiting) = bounded(checks.len());
    let (results, results_out) = bounded(checks.len());
    for check in checks.iter().cloned().enumerate() {
        // There is room for all of them.
        let _ = waiting_in.send(check);
    }
    let (jobs, gate) = (Jobs::default(), Arc::new(Gate::new(check::run, network_gate, &Stop::default())));
    let running = Arc::new(AtomicU32::new(0));
    for n in 0..checks.len().min(AT_ONCE_MAX) {
        let (waiting, results, net, gate) = (waiting.clone(), results.clone(), net.clone(), gate.clone());
        let all_running = running.clone();
        jobs.start(&format!("check-{n}"), WORKER_STACK, move |_| {
            let starvation = Starvation::of_this_thread(n);
            for (place, check) in waiting.try_iter() {
                let (started_at, running) = (SystemClock.now().wall, Some(all_running.fetch_add(1, Relaxed) + 1));
                let ((outcome, took), starved_us) = starvation.during(|| run_check(check::run, &check, &net));
                all_running.fetch_sub(1, Relaxed);
                let outcome = gate.judge(&check, (outcome, took), &net);
                // It was not due, so it cannot be late.
                let strain = Strain { running, starved_us, ..Strain::default() };
                // Whoever asked may have gone.
                let _ =
                    results.send(Checked { place, due_at: started_at, ran: Ran { started_at, took, strain }, outcome });
            }
            Ok(())
        })?;
    }
    Ok(results_out)
}
