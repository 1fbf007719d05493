//! The agent half: every thread and channel of it, on one screen.
//!
//! ```text
//! schedule ──slots──▶ worker × n ──logs──▶ spool
//!     ▲  └────────────missed logs──────────▲
//!     └──returns─────────┘
//! ```
//!
//! One worker at a time waits for the next slot and for its due, the others rest; when it goes to run the check, the next one
//! waits. When none rests, another worker is started, up to the number that the config needs when every check runs to its
//! timeout. So there are as many as ever ran at once, and a target that hangs holds up no other.
//!
//! | channel | bound | at the bound |
//! |---|---|---|
//! | slots | `SLOTS_MAX` | the slot stays in the schedule; its successor's due makes it missed, `workers busy` |
//! | returns | slots and workers together, so it is never reached | |
//! | logs | `LOGS_MAX` | workers wait, and what the schedule cannot hand out meanwhile is missed, `spool full` |
//!
//! Told to stop, the schedule ends first and closes `slots`; workers end what they are at and leave what they have not begun;
//! that closes `logs`, and the spool commits what it has.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};

use crate::check::{self, Check, Outcome};
use crate::clock::{Clock, Now, Steady, SystemClock, Timestamp};
use crate::jobs::{Jobs, Pulse, Stop, panic_message};
use crate::logs::{Author, Cause, Log, Ran};
use crate::net::Net;
use crate::schedule::{MissedRange, Schedule, Slot};
use crate::spool;

/// Slots that are handed to the workers and not yet taken by one. With [`TICK`] it bounds how many checks a second can be
/// handed out: 20,000.
const SLOTS_MAX: usize = 2_048;

/// Logs on their way to the spool: what one group commit takes in at a thousand checks a second.
const LOGS_MAX: usize = 1_024;

/// The schedule hands out due slots this often at most: waking once for many costs less, and since each slot keeps its own
/// moment (the worker waits for it), intervals are none the worse.
const TICK: Duration = Duration::from_millis(100);

/// How far ahead slots are handed out: more than a tick, so that a tick that comes late makes no slot late.
const AHEAD: Duration = Duration::from_millis(150);

/// How long the schedule may sleep when nothing is due: it looks at labels that are stuck meanwhile.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// A thread that comes back this much later than it said is stuck.
const GRACE: Duration = Duration::from_secs(5);

/// Enough for a TLS handshake with a debug build's frames; only what is touched takes memory.
const WORKER_STACK: usize = 512 * 1024;
const STACK: usize = 256 * 1024;

/// How a check is run: [`check::run`], or what a test puts in its place.
pub type Run = fn(&Check, &Net, Instant) -> Outcome;

/// The running agent half, for what can be asked of it.
#[derive(Debug)]
pub struct Agent {
    reloads: Sender<Vec<Arc<Check>>>,
    workers_most: Arc<AtomicUsize>,
}

/// The workers, and what they work with.
#[derive(Debug)]
struct Crew {
    author: Author,
    run: Run,
    net: Arc<Net>,
    /// Held by the worker that waits for the next slot.
    slots: Mutex<Receiver<Slot>>,
    returns: Sender<Return>,
    logs: Sender<Log>,
    stop: Stop,
    jobs: Jobs,
    /// Workers that wait or rest.
    idle: AtomicUsize,
    /// Workers there are, and may be.
    hired: AtomicUsize,
    most: Arc<AtomicUsize>,
}

/// A slot that comes back from a worker.
#[derive(Debug)]
enum Return {
    /// It ran and ended then; its log is on its way.
    Ran(Slot, Steady),
    /// It was taken up when its successor was due already, so it did not run.
    TooLate(Slot),
}

/// What the agent half works on.
#[derive(Debug)]
pub struct Plan {
    /// Who writes the logs.
    pub author: Author,
    /// How each check is run.
    pub run: Run,
    /// How many threads may run checks at once.
    pub workers: usize,
    /// How long a log waits for others to be committed with it.
    pub flush: Duration,
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
    let (slots_in, slots) = bounded(SLOTS_MAX);
    let (returns, returned) = bounded(SLOTS_MAX + WORKERS_MOST);
    let (logs, logs_out) = bounded(LOGS_MAX);
    let (reloads, reloaded) = bounded(1);
    let workers_most = Arc::new(AtomicUsize::new(plan.workers));
    let crew = Crew {
        author: plan.author.clone(),
        run: plan.run,
        net: net.clone(),
        slots: Mutex::new(slots),
        returns,
        logs: logs.clone(),
        stop: stop.clone(),
        jobs: jobs.clone(),
        idle: AtomicUsize::new(0),
        hired: AtomicUsize::new(0),
        most: workers_most.clone(),
    };
    Arc::new(crew).hire()?;

    let mut foreman = Foreman { schedule, author: plan.author, slots: slots_in, logs, missed: VecDeque::new() };
    let heard = stop.clone();
    jobs.start("schedule", STACK, move |pulse| foreman.run(&returned, &reloaded, &heard, pulse))?;

    let (heard, drained) = (stop.clone(), drained.clone());
    jobs.start("spool", STACK, move |pulse| {
        let end = spool::write(writer, &logs_out, plan.flush, &heard, pulse);
        drained.set();
        end
    })?;
    Ok(Agent { reloads, workers_most })
}

/// The most workers that a config may ask for (`defaults.workers_max`).
pub const WORKERS_MOST: usize = 65_536;

impl Agent {
    /// Takes up a new set of checks; those that are running are not touched.
    ///
    /// # Errors
    /// When a reload is under way already.
    pub fn reload(&self, checks: Vec<Arc<Check>>, workers: usize) -> Result<(), String> {
        self.reloads.try_send(checks).map_err(|_| "the reload before is not done yet; try again".to_owned())?;
        self.workers_most.store(workers, Relaxed);
        Ok(())
    }
}

/// The thread that owns the schedule.
struct Foreman {
    schedule: Schedule,
    author: Author,
    slots: Sender<Slot>,
    logs: Sender<Log>,
    /// Missed logs that the spool has no room for yet; while there are any, nothing is handed out.
    missed: VecDeque<Log>,
}

impl Foreman {
    fn run(
        &mut self,
        returned: &Receiver<Return>,
        reloaded: &Receiver<Vec<Arc<Check>>>,
        stop: &Stop,
        pulse: &Pulse,
    ) -> Result<(), String> {
        while !stop.is_set() {
            returned.try_iter().for_each(|slot| self.take_back(slot));
            let now = SystemClock.now();
            self.hand_out(now);
            if let Some(step) = self.schedule.wall_step() {
                let seconds = step as f64 / 1e6;
                log::warn!("the wall clock was set by {seconds:+.3} s; checks go on in their rhythm");
            }
            let wait = self.idle_for(now);
            pulse.back_in(wait + GRACE);
            // What comes back within a tick is taken together; a longer sleep is broken by it, since it may bring a new due.
            let returned = if wait > TICK { returned } else { &crossbeam_channel::never() };
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
        Ok(())
    }

    /// How long nothing needs to be done.
    fn idle_for(&self, now: Now) -> Duration {
        let next = self.schedule.next_due().map_or(IDLE_MAX, |due| due.since(now.steady).saturating_sub(AHEAD / 2));
        next.clamp(TICK, IDLE_MAX)
    }

    fn take_back(&mut self, slot: Return) {
        match slot {
            Return::Ran(slot, ended) => self.schedule.done(slot, ended),
            Return::TooLate(slot) => self.schedule.put_back(slot),
        }
    }

    /// Hands out what is due, as long as there is room. What was missed goes ahead of what is taken, so that the logs of a
    /// label reach the spool in the order of their slots.
    fn hand_out(&mut self, now: Now) {
        loop {
            let ranges = self.schedule.missed();
            self.keep(ranges);
            if !self.send_missed() {
                return self.schedule.hold(now, Cause::SpoolFull);
            }
            if self.slots.is_full() {
                let cause = if self.logs.is_full() { Cause::SpoolFull } else { Cause::WorkersBusy };
                return self.schedule.hold(now, cause);
            }
            let Some(slot) = self.schedule.take(now, AHEAD) else { return };
            let ranges = self.schedule.missed();
            self.keep(ranges);
            if !self.send_missed() {
                self.schedule.put_back(slot);
            } else if let Err(TrySendError::Full(slot) | TrySendError::Disconnected(slot)) = self.slots.try_send(slot) {
                self.schedule.put_back(slot);
            }
        }
    }

    fn keep(&mut self, ranges: Vec<MissedRange>) {
        self.missed.extend(
            ranges.iter().map(|range| Log::missed(&self.author, &range.check, range.first_due_at, range.missed)),
        );
    }

    /// Sends missed logs to the spool as far as there is room; whether all have gone.
    fn send_missed(&mut self) -> bool {
        while let Some(log) = self.missed.pop_front() {
            if let Err(TrySendError::Full(log) | TrySendError::Disconnected(log)) = self.logs.try_send(log) {
                self.missed.push_front(log);
                return false;
            }
        }
        true
    }
}

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

/// Runs each check once, now, several at a time. The results come as they are ready, and the channel closes after the last.
///
/// # Errors
/// When a thread cannot be started.
pub fn once(checks: &[Arc<Check>], net: &Arc<Net>) -> Result<Receiver<Checked>, String> {
    let (waiting_in, waiting) = bounded(checks.len());
    let (results, results_out) = bounded(checks.len());
    for check in checks.iter().cloned().enumerate() {
        // There is room for all of them.
        let _ = waiting_in.send(check);
    }
    let jobs = Jobs::default();
    for n in 0..checks.len().min(AT_ONCE_MAX) {
        let (waiting, results, net) = (waiting.clone(), results.clone(), net.clone());
        jobs.start(&format!("check-{n}"), WORKER_STACK, move |_| {
            for (place, check) in waiting.try_iter() {
                let started_at = SystemClock.now().wall;
                let (outcome, took) = run_check(check::run, &check, &net);
                // Whoever asked may have gone.
                let _ = results.send(Checked { place, due_at: started_at, ran: Ran { started_at, took }, outcome });
            }
            Ok(())
        })?;
    }
    Ok(results_out)
}

impl Crew {
    /// Starts one more worker, if there may be more.
    fn hire(self: Arc<Self>) -> Result<(), String> {
        let most = self.most.load(Relaxed);
        let Ok(n) = self.hired.fetch_update(Relaxed, Relaxed, |hired| (hired < most).then_some(hired + 1)) else {
            return Ok(());
        };
        let jobs = self.jobs.clone();
        jobs.start(&format!("worker-{n}"), WORKER_STACK, move |pulse| {
            self.work(pulse);
            Ok(())
        })
    }

    /// A worker: takes slots until there are no more.
    fn work(self: &Arc<Self>, pulse: &Pulse) {
        while let Some(slot) = self.next() {
            let now = SystemClock.now();
            let back = if slot.begin(now.steady) {
                pulse.back_by(now.steady.plus(slot.check.timeout + GRACE));
                let log = self.run(&slot, now);
                // The spool ends after the workers do.
                let _ = self.logs.send(log);
                Return::Ran(slot, SystemClock.now().steady)
            } else {
                Return::TooLate(slot)
            };
            pulse.rest();
            // The schedule ends before the workers do, and then needs it no more.
            let _ = self.returns.send(back);
        }
    }

    /// The next slot, at the moment when it is due. `None` once the agent stops: what is not begun by then is left to the
    /// next start, which finds it missed.
    fn next(self: &Arc<Self>) -> Option<Slot> {
        self.idle.fetch_add(1, Relaxed);
        let turn = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = turn.recv().ok()?;
        if self.stop.wait(slot.due.since(SystemClock.now().steady)) {
            return None;
        }
        drop(turn);
        let nobody_waits = self.idle.fetch_sub(1, Relaxed) == 1;
        if nobody_waits && let Err(reason) = self.clone().hire() {
            // It will not have more, so this is the most from now on, and said once.
            let most = self.hired.fetch_sub(1, Relaxed) - 1;
            self.most.store(most, Relaxed);
            log::warn!("{reason}; checks share the {most} workers that there are");
        }
        Some(slot)
    }

    fn run(&self, slot: &Slot, now: Now) -> Log {
        let (outcome, took) = run_check(self.run, &slot.check, &self.net);
        Log::ran(&self.author, &slot.check, slot.due_at, Ran { started_at: now.wall, took }, outcome)
    }
}

/// Runs a check within its timeout. A panic in it is an `unknown` outcome with the panic's message.
fn run_check(run: Run, check: &Check, net: &Net) -> (Outcome, Duration) {
    let started = Instant::now();
    let guarded = AssertUnwindSafe(|| run(check, net, started + check.timeout));
    let outcome = catch_unwind(guarded).unwrap_or_else(|panic| panicked(check, &*panic));
    (outcome, started.elapsed())
}

fn panicked(check: &Check, panic: &(dyn Any + Send)) -> Outcome {
    log::error!("the check `{}` panicked: {}", check.label, panic_message(panic));
    Outcome::unknown(format!("the check panicked: {}", panic_message(panic)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Kind, Verdict, tcp};
    use crate::config::{self, WhenFull};
    use crate::flow::Source;
    use crate::net::{Host, IpFamily};
    use crate::spool::Spool;
    use std::collections::{BTreeMap, HashMap};

    fn check(label: &str, every_ms: u64) -> Arc<Check> {
        let host = Host::Address([127, 0, 0, 1].into());
        let tcp = tcp::Tcp { host, port: 1, ip: IpFamily::Any, dialogue: Vec::new(), under: None };
        let interval = Duration::from_millis(every_ms);
        let (target, kind) = ("127.0.0.1:1".into(), Kind::Tcp(Box::new(tcp)));
        Arc::new(Check { label: label.into(), interval, timeout: interval, confirm: 1, target, kind })
    }

    /// Runs the agent half in a new spool until `enough`, and gives what the spool then has.
    fn logs_of(checks: &[Arc<Check>], workers: usize, run: Run, enough: impl Fn(&[Log]) -> bool) -> Vec<Log> {
        let folder = tempfile::tempdir().unwrap();
        let flush = Duration::from_millis(10);
        let path = folder.path().join("spool.db");
        let settings = config::Spool { path, max_bytes: 64 << 20, when_full: WhenFull::Thin, flush };
        let now = SystemClock.now();
        let author = Author::new("test".into(), now.wall);
        let (stop, drained, jobs) = (Stop::default(), Stop::default(), Jobs::default());
        let (writer, mut reader) = Spool::open(&settings, &author).unwrap().split(drained.clone());
        let plan = Plan { author, run, workers, flush };
        let schedule = Schedule::new("test", checks, now, &HashMap::new());
        let agent = start(&jobs, plan, schedule, writer, &Arc::new(Net::system()), (&stop, &drained)).unwrap();

        let (mut logs, by) = (Vec::new(), Instant::now() + Duration::from_secs(30));
        while !enough(&logs) && Instant::now() < by {
            let batch = reader.pull(Duration::from_secs(1)).unwrap();
            reader.commit(&batch, &[]).unwrap();
            logs.extend(batch.logs);
        }
        stop.set();
        drop(agent);
        let (late, failed) = jobs.join(Duration::from_secs(30));
        assert!(late.is_empty() && failed.is_empty(), "{late:?} {failed:?}");
        logs.extend(reader.pull(Duration::ZERO).unwrap().logs);
        logs
    }

    fn up() -> Outcome {
        Outcome { verdict: Verdict::Up, reason: None, ..Outcome::unknown("") }
    }

    #[test]
    fn a_panic_in_a_check_is_an_unknown_log_and_the_worker_lives_on() {
        let run: Run = |check, _, _| if &*check.label == "bad" { panic!("no {}", "bananas") } else { up() };
        let checks = [check("bad", 100), check("good", 100)];
        let logs =
            logs_of(&checks, 2, run, |logs| logs.iter().filter(|log| log.verdict != Verdict::Missed).count() >= 6);
        // A debug build takes its time to print a backtrace, so that the next slot may be missed.
        for log in logs.iter().filter(|log| log.verdict != Verdict::Missed) {
            let expected = match &*log.label {
                "bad" => (Verdict::Unknown, Some("the check panicked: no bananas")),
                _ => (Verdict::Up, None),
            };
            assert_eq!((log.verdict, log.reason.as_deref()), expected, "{log:?}");
        }
    }

    #[test]
    fn sequence_numbers_have_no_holes_and_slots_no_gaps() {
        let checks: Vec<_> = (0..20).map(|n| check(&format!("check-{n}"), 100)).collect();
        let logs = logs_of(&checks, 4, |_, _, _| up(), |logs| logs.len() >= 100);
        let seqs: Vec<u64> = logs.iter().map(|log| log.seq).collect();
        assert_eq!(seqs, (1..=logs.len() as u64).collect::<Vec<_>>());
        assert_no_gaps(&logs);
    }

    #[test]
    fn what_too_few_workers_could_not_run_is_missed_with_its_reason() {
        let checks: Vec<_> = (0..4).map(|n| check(&format!("check-{n}"), 100)).collect();
        let slow: Run = |check, _, deadline| {
            // Takes its whole timeout, as a target that never answers would make it.
            Stop::default().wait(deadline.saturating_duration_since(Instant::now()));
            assert!(check.timeout > Duration::ZERO);
            up()
        };
        let missed = |logs: &[Log]| logs.iter().filter(|log| log.verdict == Verdict::Missed).count();
        let logs = logs_of(&checks, 1, slow, |logs| missed(logs) >= 4);
        assert!(missed(&logs) >= 4, "{logs:?}");
        for log in logs.iter().filter(|log| log.verdict == Verdict::Missed) {
            let cause = log.as_missed().map(|missed| missed.cause);
            assert!(matches!(cause, Some(Cause::WorkersBusy | Cause::StillRunning)), "{log:?}");
        }
        assert_no_gaps(&logs);
    }

    /// Each label's slots follow each other: every one has a log or lies in a missed range.
    fn assert_no_gaps(logs: &[Log]) {
        let mut next: BTreeMap<&str, Timestamp> = BTreeMap::new();
        for log in logs {
            let last = log.as_missed().map_or(log.due_at, |missed| missed.last_due_at);
            let after = last.plus(Duration::from_millis(log.interval_ms));
            if let Some(expected) = next.insert(&log.label, after) {
                assert_eq!(log.due_at, expected, "{log:?}");
            }
        }
    }
}
