//! Named threads: start, supervise, stop, join. The only place that starts a thread.
//!
//! The first job that fails or panics stops all the others: nothing runs on half-dead. What a job is waiting for and until
//! when is written in its [`Pulse`], so that a stuck one is seen from outside.

use std::any::Any;
use std::convert::Infallible;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use crate::clock::{Clock, Steady, SystemClock};

/// The threads of this process that it waits for at its end. A handle: clones start and wait for the same ones.
#[derive(Clone, Debug)]
pub struct Jobs(Arc<Running>);

#[derive(Debug)]
struct Running {
    handles: Mutex<Vec<(String, JoinHandle<()>)>>,
    roster: Roster,
    // One message a job, so it is bounded by their number.
    ended: (Sender<Ended>, Receiver<Ended>),
}

/// A job that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its name.
    pub name: String,
    /// How: what it said when it failed, or the message of its panic.
    pub end: Result<(), String>,
}

impl Default for Jobs {
    fn default() -> Self {
        Jobs(Arc::new(Running { handles: Mutex::default(), roster: Roster::default(), ended: unbounded() }))
    }
}

impl Jobs {
    /// Starts a job under a name of its own, with a stack of `stack` bytes. It is handed its pulse.
    ///
    /// # Errors
    /// When the machine has no more threads to give; the message says so.
    pub fn start<W>(&self, name: &str, stack: usize, work: W) -> Result<(), String>
    where
        W: FnOnce(&Pulse) -> Result<(), String> + Send + 'static,
    {
        let (pulse, sender, named, roster) = (Pulse::default(), self.0.ended.0.clone(), name.to_owned(), self.roster());
        let body = {
            let pulse = pulse.clone();
            move || {
                let end = catch_unwind(AssertUnwindSafe(|| work(&pulse)))
                    .unwrap_or_else(|panic| Err(format!("panicked: {}", panic_message(&*panic))));
                roster.leave(&named);
                // Nobody listens any more once the process is on its way out.
                let _ = sender.send(Ended { name: named, end });
            }
        };
        // Held over the start, so that a job that ends at once is known by then.
        let mut handles = self.handles();
        self.0.roster.enter(name, &pulse);
        let handle = Builder::new().name(name.to_owned()).stack_size(stack).spawn(body).map_err(|error| {
            self.0.roster.leave(name);
            format!("cannot start the thread `{name}`: {error}")
        })?;
        handles.push((name.to_owned(), handle));
        Ok(())
    }

    /// Where jobs report their end.
    pub fn ended(&self) -> &Receiver<Ended> {
        &self.0.ended.1
    }

    /// The threads as they are now and will be, for /healthz.
    pub fn roster(&self) -> Roster {
        self.0.roster.clone()
    }

    /// Waits until every job has ended, up to `most`; the names of those that have not, and what the failed ones said.
    pub fn join(&self, most: Duration) -> (Vec<String>, Vec<Ended>) {
        let by = Instant::now() + most;
        let mut failed = Vec::new();
        while !self.handles().is_empty() {
            let Ok(ended) = self.0.ended.1.recv_deadline(by) else { break };
            let mut handles = self.handles();
            if let Some(at) = handles.iter().position(|(name, _)| *name == ended.name) {
                // It has sent its last word, so this does not wait; its panic was caught.
                let _ = handles.swap_remove(at).1.join();
            }
            if ended.end.is_err() {
                failed.push(ended);
            }
        }
        (self.handles().iter().map(|(name, _)| name.clone()).collect(), failed)
    }

    fn handles(&self) -> MutexGuard<'_, Vec<(String, JoinHandle<()>)>> {
        self.0.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which threads are alive, and their pulses.
#[derive(Clone, Debug, Default)]
pub struct Roster(Arc<Mutex<Vec<(String, Pulse)>>>);

impl Roster {
    /// How many are alive.
    pub fn alive(&self) -> usize {
        self.lock().len()
    }

    /// Those that are overdue, and for how long.
    pub fn stuck(&self, now: Steady) -> Vec<(String, Duration)> {
        self.lock().iter().filter_map(|(name, pulse)| Some((name.clone(), pulse.overdue(now)?))).collect()
    }

    fn enter(&self, name: &str, pulse: &Pulse) {
        self.lock().push((name.to_owned(), pulse.clone()));
    }

    fn leave(&self, name: &str) {
        self.lock().retain(|(other, _)| other != name);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, Pulse)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a thread that nobody waits for: for calls into the system that cannot be interrupted, such as a name lookup.
///
/// # Errors
/// When the machine has no more threads to give.
pub fn start_detached(name: &str, stack: usize, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    Builder::new().name(name.to_owned()).stack_size(stack).spawn(work).map(drop)
}

/// What a panic said.
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// When a job's next sign of life is due. A job sets it before each piece of work, and rests while it waits for work.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// The job will set its pulse again within `limit`.
    pub fn back_in(&self, limit: Duration) {
        self.back_by(SystemClock.now().steady.plus(limit));
    }

    /// The job will set its pulse again by `moment`.
    pub fn back_by(&self, moment: Steady) {
        self.0.store(u64::try_from(moment.0.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The job waits for work, for as long as it takes.
    pub fn rest(&self) {
        self.0.store(u64::MAX, Relaxed);
    }

    /// For how long the job has been overdue.
    pub fn overdue(&self, now: Steady) -> Option<Duration> {
        let due = self.0.load(Relaxed);
        let now = u64::try_from(now.0.as_micros()).unwrap_or(u64::MAX);
        (due != 0 && now > due).then(|| Duration::from_micros(now - due))
    }
}

/// The word to stop, given once and seen by all: a channel that closes, so that it can be selected on beside others.
#[derive(Clone, Debug)]
pub struct Stop {
    open: Arc<Mutex<Option<Sender<Infallible>>>>,
    closed: Receiver<Infallible>,
}

impl Default for Stop {
    fn default() -> Self {
        let (open, closed) = bounded(0);
        Stop { open: Arc::new(Mutex::new(Some(open))), closed }
    }
}

impl Stop {
    /// Gives the word. Everyone who waits wakes.
    pub fn set(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Whether the word was given.
    pub fn is_set(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Waits for the word, up to `most`; whether it was given.
    pub fn wait(&self, most: Duration) -> bool {
        matches!(self.closed.recv_timeout(most), Err(RecvTimeoutError::Disconnected))
    }

    /// A channel that carries nothing and closes when the word is given, for `select!`.
    pub fn channel(&self) -> &Receiver<Infallible> {
        &self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STACK: usize = 128 * 1024;

    #[test]
    fn everyone_who_waits_hears_the_word() {
        let (stop, jobs) = (Stop::default(), Jobs::default());
        for n in 0..4 {
            let stop = stop.clone();
            let waits = move |_: &Pulse| stop.wait(Duration::from_secs(60)).then_some(()).ok_or("timed out".to_owned());
            jobs.start(&format!("waiter-{n}"), STACK, waits).unwrap();
        }
        assert!(!stop.is_set());
        stop.set();
        let (late, failed) = jobs.join(Duration::from_secs(30));
        assert!(stop.is_set() && late.is_empty() && failed.is_empty(), "{late:?} {failed:?}");
    }

    #[test]
    fn an_error_and_a_panic_are_reported_with_the_name_of_the_job() {
        let jobs = Jobs::default();
        jobs.start("fails", STACK, |_| Err("no luck".to_owned())).unwrap();
        jobs.start("panics", STACK, |_| panic!("at {}", "sea")).unwrap();
        let (late, mut failed) = jobs.join(Duration::from_secs(30));
        failed.sort_by(|a, b| a.name.cmp(&b.name));
        let said: Vec<_> = failed.iter().map(|e| (e.name.as_str(), e.end.clone().unwrap_err())).collect();
        assert_eq!(late, Vec::<String>::new());
        assert_eq!(said, [("fails", "no luck".to_owned()), ("panics", "panicked: at sea".to_owned())]);
    }

    #[test]
    fn a_job_that_does_not_end_is_named() {
        let (stop, jobs) = (Stop::default(), Jobs::default());
        let held = stop.clone();
        jobs.start("stubborn", STACK, move |_| {
            held.wait(Duration::from_secs(60));
            Ok(())
        })
        .unwrap();
        assert_eq!(jobs.join(Duration::from_millis(1)).0, ["stubborn"]);
        stop.set();
    }

    #[test]
    fn a_pulse_is_overdue_after_its_moment_and_not_at_rest() {
        let at = |seconds| Steady(Duration::from_secs(seconds));
        let pulse = Pulse::default();
        assert_eq!(pulse.overdue(at(100)), None);
        pulse.back_by(at(10));
        assert_eq!((pulse.overdue(at(10)), pulse.overdue(at(13))), (None, Some(Duration::from_secs(3))));
        pulse.rest();
        assert_eq!(pulse.overdue(at(100)), None);
    }
}
