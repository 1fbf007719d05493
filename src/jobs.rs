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

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded};

use crate::clock::{Clock, Now, SystemClock};

/// The threads of this process that it waits for at its end. A handle: clones start and wait for the same ones.
#[derive(Clone, Debug)]
pub struct Jobs(Arc<Running>);

#[derive(Debug)]
struct Running {
    handles: Mutex<Vec<(Id, JoinHandle<()>)>>,
    roster: Roster,
    started: AtomicU64,
    // One message a job, so it is bounded by their number.
    ended: (Sender<Ended>, Receiver<Ended>),
}

/// Which job: its number, since names may come again, and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Id(u64, String);

/// A job that has ended. To be given to [`Jobs::reap`].
#[derive(Debug)]
pub struct Ended {
    id: Id,
    /// How: what it said when it failed, or the message of its panic.
    pub end: Result<(), String>,
}

impl Ended {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.id.1
    }
}

impl Default for Jobs {
    fn default() -> Self {
        let (handles, roster, started) = (Mutex::default(), Roster::default(), AtomicU64::new(0));
        Jobs(Arc::new(Running { handles, roster, started, ended: unbounded() }))
    }
}

impl Jobs {
    /// Starts a job with a stack of `stack` bytes. It is handed its pulse.
    ///
    /// # Errors
    /// When the machine has no more threads to give; the message says so.
    pub fn start<W>(&self, name: &str, stack: usize, work: W) -> Result<(), String>
    where
        W: FnOnce(&Pulse) -> Result<(), String> + Send + 'static,
    {
        let id = Id(self.0.started.fetch_add(1, Relaxed), name.to_owned());
        let pulse = self.0.roster.enter(&id);
        let (sender, roster, own) = (self.0.ended.0.clone(), self.roster(), id.clone());
        let body = move || {
            let end = catch_unwind(AssertUnwindSafe(|| work(&pulse)))
                .unwrap_or_else(|panic| Err(format!("panicked: {}", panic_message(&*panic))));
            roster.leave(&own);
            // Nobody listens any more once the process is on its way out.
            let _ = sender.send(Ended { id: own, end });
        };
        // Held over the start, so that a job that ends at once is known by then.
        let mut handles = self.handles();
        let handle = Builder::new().name(name.to_owned()).stack_size(stack).spawn(body).map_err(|error| {
            self.0.roster.leave(&id);
            format!("cannot start the thread `{name}`: {error}")
        })?;
        handles.push((id, handle));
        Ok(())
    }

    /// Where jobs report their end.
    pub fn ended(&self) -> &Receiver<Ended> {
        &self.0.ended.1
    }

    /// Takes note of a job that has ended: it is not waited for any more.
    pub fn reap(&self, ended: &Ended) {
        let mut handles = self.handles();
        if let Some(at) = handles.iter().position(|(id, _)| *id == ended.id) {
            // It has sent its last word, so this does not wait; its panic was caught.
            let _ = handles.swap_remove(at).1.join();
        }
    }

    /// The threads as they are now and will be, for /healthz.
    pub fn roster(&self) -> Roster {
        self.0.roster.clone()
    }

    /// Waits until every job has ended, up to `most`; the names of those that have not, and those that failed.
    pub fn join(&self, most: Duration) -> (Vec<String>, Vec<Ended>) {
        let by = Instant::now() + most;
        let mut failed = Vec::new();
        while !self.handles().is_empty() {
            let Ok(ended) = self.0.ended.1.recv_deadline(by) else { break };
            self.reap(&ended);
            if ended.end.is_err() {
                failed.push(ended);
            }
        }
        (self.handles().iter().map(|(id, _)| id.1.clone()).collect(), failed)
    }

    fn handles(&self) -> MutexGuard<'_, Vec<(Id, JoinHandle<()>)>> {
        self.0.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which threads are alive, and their pulses.
#[derive(Clone, Debug, Default)]
pub struct Roster(Arc<Mutex<Vec<(Id, Pulse)>>>);

impl Roster {
    /// How many are alive.
    pub fn alive(&self) -> usize {
        self.lock().len()
    }

    /// Those that are overdue, and for how long.
    pub fn stuck(&self, now: Now) -> Vec<(String, Duration)> {
        self.lock().iter().filter_map(|(id, pulse)| Some((id.1.clone(), pulse.overdue(now)?))).collect()
    }

    fn enter(&self, id: &Id) -> Pulse {
        let pulse = Pulse::default();
        self.lock().push((id.clone(), pulse.clone()));
        pulse
    }

    fn leave(&self, id: &Id) {
        self.lock().retain(|(other, _)| other != id);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Id, Pulse)>> {
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

/// Lets the calling thread step back behind others of this machine (nice(2), which on Linux is a thread's own): what only moves
/// logs must not make a check late. Where it is not permitted, all stay alike.
pub fn step_back() {
    const NICE: i32 = 10;
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        log::debug!("cannot lower the priority of a thread: {error}");
    }
}

/// What a panic said.
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// When a job's next sign of life is due. A job sets it before each piece of work, and rests while it waits for work. Goes by
/// the clock that stands still while the machine sleeps, as the work does.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// The job will set its pulse again within `limit`.
    pub fn back_in(&self, limit: Duration) {
        let due = SystemClock.now().awake().plus(limit);
        self.0.store(u64::try_from(due.0.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The job waits for work, for as long as it takes.
    pub fn rest(&self) {
        self.0.store(u64::MAX, Relaxed);
    }

    /// For how long the job has been overdue.
    pub fn overdue(&self, now: Now) -> Option<Duration> {
        let due = self.0.load(Relaxed);
        let now = u64::try_from(now.awake().0.as_micros()).unwrap_or(u64::MAX);
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
        // A wait of no time at all would still yield the CPU a few times.
        matches!(self.closed.try_recv(), Err(TryRecvError::Disconnected))
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
        failed.sort_by(|a, b| a.name().cmp(b.name()));
        let said: Vec<_> = failed.iter().map(|e| (e.name(), e.end.clone().unwrap_err())).collect();
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
    fn a_job_whose_end_was_heard_is_not_waited_for() {
        let jobs = Jobs::default();
        jobs.start("fails", STACK, |_| Err("no luck".to_owned())).unwrap();
        let ended = jobs.ended().recv().unwrap();
        jobs.reap(&ended);
        let begun = Instant::now();
        let (late, failed) = jobs.join(Duration::from_secs(60));
        assert!(
            late.is_empty() && failed.is_empty() && begun.elapsed() < Duration::from_secs(30),
            "{late:?} {failed:?}"
        );
    }

    #[test]
    fn of_two_jobs_with_one_name_the_one_that_lives_stays_on_the_roster() {
        let (stop, jobs) = (Stop::default(), Jobs::default());
        let heard = stop.clone();
        jobs.start("twin", STACK, move |_| {
            heard.wait(Duration::from_secs(60));
            Ok(())
        })
        .unwrap();
        jobs.start("twin", STACK, |_| Ok(())).unwrap();
        jobs.reap(&jobs.ended().recv().unwrap());
        assert_eq!(jobs.roster().alive(), 1);
        stop.set();
        assert_eq!(jobs.join(Duration::from_secs(30)).0, Vec::<String>::new());
    }

    #[test]
    fn a_pulse_is_overdue_after_its_moment_and_not_at_rest_or_for_a_sleep() {
        let later = |seconds, slept| {
            let mut now = SystemClock.now();
            now.steady = now.steady.plus(Duration::from_secs(seconds));
            now.slept += Duration::from_secs(slept);
            now
        };
        let pulse = Pulse::default();
        assert_eq!(pulse.overdue(later(100, 0)), None);
        pulse.back_in(Duration::from_secs(10));
        assert_eq!((pulse.overdue(later(5, 0)), pulse.overdue(later(500, 495))), (None, None));
        assert_eq!(pulse.overdue(later(15, 0)).map(|late| late.as_secs()), Some(5));
        pulse.rest();
        assert_eq!(pulse.overdue(later(100, 0)), None);
    }
}
