//! Source, Sink and pump: the seams of the flow, and its one loop.
//!
//! `source.pull → sink.deliver → source.commit`. At-least-once: a batch is committed only after the sink has it, and a batch
//! whose commit was lost comes again; the store drops what it has already.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::{Clock, Steady, SystemClock};
use crate::jobs::{Pulse, Stop};
use crate::logs::Log;

/// Logs on their way, and what the source needs to commit them.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// In the source's order.
    pub logs: Vec<Log>,
    /// What could not be read as a log. The sink keeps it aside, with its reason.
    pub unreadable: Vec<Unreadable>,
    /// Where the source stands after this batch.
    pub position: Position,
}

impl Batch {
    /// Whether there is nothing to deliver.
    pub fn is_empty(&self) -> bool {
        self.logs.is_empty() && self.unreadable.is_empty()
    }
}

/// Partition and offset pairs; only the source that made them knows what they mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position(pub Vec<(i32, i64)>);

/// What could not be read as a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// As it came.
    pub bytes: Vec<u8>,
    /// Where it came from: `spool 42`, `pingeon.logs/3@1042`.
    pub origin: String,
    /// Why it is no log.
    pub reason: String,
}

/// A log that the sink will never take, set aside by the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which of the batch's logs.
    pub index: usize,
    /// Why.
    pub reason: String,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Logs that the sink did not have.
    pub new: usize,
    /// Logs, and what it set aside, that it had already.
    pub duplicate: usize,
    /// Logs that it will never take, for the source to set aside.
    pub refused: Vec<Refused>,
    /// Logs that it will never take and what could not be read, which it set aside itself.
    pub rejected: usize,
}

/// Why a source or a sink did not do its part; split by what the caller does about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// May go away by itself: back off and try the same again.
    Retry(String),
    /// Will not go away by itself: stop, and say so.
    Broken(String),
}

/// Where logs come from.
pub trait Source {
    /// Waits up to `wait` for logs; an empty batch when none came. A batch that was pulled and not committed comes again,
    /// after this source or the next one on the same place begins anew.
    ///
    /// # Errors
    /// See [`Fault`].
    fn pull(&mut self, wait: Duration) -> Result<Batch, Fault>;

    /// The sink has `batch`, but for what it `refused`, which the source keeps aside: none of it comes again.
    ///
    /// # Errors
    /// See [`Fault`].
    fn commit(&mut self, batch: &Batch, refused: &[Refused]) -> Result<(), Fault>;
}

/// Where logs go.
pub trait Sink {
    /// Keeps the whole batch durably or none of it.
    ///
    /// # Errors
    /// See [`Fault`]; after one, nothing of the batch counts as kept.
    fn deliver(&mut self, batch: &Batch) -> Result<Delivered, Fault>;
}

impl Sink for Box<dyn Sink + Send> {
    fn deliver(&mut self, batch: &Batch) -> Result<Delivered, Fault> {
        (**self).deliver(batch)
    }
}

/// Why a pump ended before it was told to: what the broken end said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowError(pub String);

/// How long to wait before the next try: doubles from `first` to `most`, and a random half of it is left out, so that many
/// agents that lost the same broker do not come back all at once.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// At most.
    pub most: Duration,
}

impl Backoff {
    /// The wait after `failures` in a row, at least 1; `random` lies in [0, 1).
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(20));
        doubled.min(self.most).mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
    }
}

/// What a pump has done, for health and metrics. Shared with whoever shows it.
#[derive(Debug, Default)]
pub struct Figures {
    /// Logs that the sink did not have.
    pub new: AtomicU64,
    /// Logs that it had already.
    pub duplicate: AtomicU64,
    /// Logs and unreadable messages that will never be taken.
    pub refused: AtomicU64,
    /// Tries that failed.
    pub retries: AtomicU64,
    fault: Mutex<Option<Trouble>>,
    refusal: Mutex<Option<Trouble>>,
}

/// What is wrong with a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What the end that fails says.
    pub reason: String,
    /// Since when something is wrong, by the clock that stands still while the machine sleeps.
    pub since: Steady,
}

impl Figures {
    /// What is wrong now; `None` when the last step went well.
    pub fn fault(&self) -> Option<Trouble> {
        self.lock().clone()
    }

    /// Why logs were refused, and when the last ones were.
    pub fn refusal(&self) -> Option<Trouble> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes note that logs were refused; whether for another reason than those before, or after a while without any.
    pub fn note_refusal(&self, reason: &str) -> bool {
        let now = Trouble { reason: reason.to_owned(), since: SystemClock.now().awake() };
        let before = self.refusal.lock().unwrap_or_else(PoisonError::into_inner).replace(now.clone());
        before.is_none_or(|before| before.reason != reason || now.since.since(before.since) > REFUSAL_AGAIN)
    }

    /// With a fault, for tests of what shows it.
    #[cfg(test)]
    pub fn with_fault(reason: &str, since: Steady) -> Self {
        let fault = Mutex::new(Some(Trouble { reason: reason.to_owned(), since }));
        Figures { fault, ..Figures::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A refusal that comes so long after the one before is said again.
const REFUSAL_AGAIN: Duration = Duration::from_secs(600);

/// How long one pull may wait for logs.
const PULL_WAIT: Duration = Duration::from_secs(60);

/// And how long after a fault: until it has an answer, it is not known whether that has gone.
const PULL_WAIT_AFTER_FAULT: Duration = Duration::from_secs(2);

/// How long a pump that was told to stop goes on emptying its source; the rest stays there.
pub const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Carries logs from one source to one sink, until told to stop.
pub struct Pump<'a> {
    /// What it carries, for messages: `spool to store`.
    pub name: &'a str,
    /// How it waits after a fault.
    pub backoff: Backoff,
    /// What it has done.
    pub figures: &'a Figures,
    /// When its next sign of life is due, for /healthz.
    pub pulse: &'a Pulse,
    /// The word to stop.
    pub stop: &'a Stop,
}

/// The one loop of the system: pull, deliver, commit. Told to stop, it empties the source first, for [`DRAIN_MAX`] at most
/// and only as long as nothing fails.
///
/// # Errors
/// [`FlowError`] when either end is broken.
pub fn pump(source: &mut dyn Source, sink: &mut dyn Sink, pump: &Pump<'_>) -> Result<(), FlowError> {
    let mut drained_by = None;
    loop {
        pump.pulse.back_in(PULL_WAIT + PULSE_LIMIT);
        // Asked first, so that the last pull begins after the word to stop, and finds all that came before it.
        let stopping = pump.stop.is_set();
        let mut wait = PULL_WAIT;
        let pull = || source.pull(wait).inspect_err(|_| wait = PULL_WAIT_AFTER_FAULT);
        let Some(batch) = pump.insist(pull)? else { return Ok(()) };
        if stopping {
            let by = *drained_by.get_or_insert_with(|| Instant::now() + DRAIN_MAX);
            if batch.is_empty() || Instant::now() > by {
                return Ok(());
            }
        }
        if batch.is_empty() {
            continue;
        }
        pump.pulse.back_in(PULSE_LIMIT);
        let Some(delivered) = pump.insist(|| sink.deliver(&batch))? else { return Ok(()) };
        pump.count(&batch, &delivered);
        if pump.insist(|| source.commit(&batch, &delivered.refused))?.is_none() {
            return Ok(());
        }
    }
}

/// A step that takes longer than this makes /healthz answer that the pump is stuck.
const PULSE_LIMIT: Duration = Duration::from_secs(60);

impl Pump<'_> {
    /// Takes a step until it is done. `None` when told to stop before it was.
    fn insist<T>(&self, mut step: impl FnMut() -> Result<T, Fault>) -> Result<Option<T>, FlowError> {
        let mut failures = 0;
        loop {
            match step() {
                Ok(done) => {
                    // Told to stop, it may have done nothing.
                    if failures > 0 && !self.stop.is_set() {
                        log::info!("{}: goes on after {failures} failed tries", self.name);
                        *self.figures.lock() = None;
                    }
                    return Ok(Some(done));
                }
                Err(Fault::Broken(reason)) => return Err(FlowError(format!("{}: {reason}", self.name))),
                Err(Fault::Retry(reason)) if self.stop.is_set() => {
                    self.figures.retries.fetch_add(1, Relaxed);
                    log::info!("{}: {reason}; what is left waits for the next start", self.name);
                    return Ok(None);
                }
                Err(Fault::Retry(reason)) => {
                    failures += 1;
                    self.figures.retries.fetch_add(1, Relaxed);
                    self.say_once(&reason);
                    // A fault is no stuck thread: it has its own line in /healthz.
                    let delay = self.backoff.delay(failures, random());
                    self.pulse.back_in(delay + PULSE_LIMIT);
                    if self.stop.wait(delay) {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Logs a fault when it is not the one that was logged last.
    fn say_once(&self, reason: &str) {
        let mut fault = self.figures.lock();
        if fault.as_ref().is_none_or(|fault| fault.reason != reason) {
            log::warn!("{}: {reason}; trying again", self.name);
            let since = fault.as_ref().map_or_else(|| SystemClock.now().awake(), |fault| fault.since);
            *fault = Some(Trouble { reason: reason.to_owned(), since });
        }
    }

    fn count(&self, batch: &Batch, delivered: &Delivered) {
        self.figures.new.fetch_add(delivered.new as u64, Relaxed);
        self.figures.duplicate.fetch_add(delivered.duplicate as u64, Relaxed);
        self.figures.refused.fetch_add((delivered.refused.len() + delivered.rejected) as u64, Relaxed);
        if let Some(first) = delivered.refused.first()
            && self.figures.note_refusal(&first.reason)
        {
            let uid = batch.logs.get(first.index).map(|log| log.uid).unwrap_or_default();
            log::warn!("{}: logs are refused and set aside; the first, {uid}: {}", self.name, first.reason);
        }
    }
}

/// A number in [0, 1) for jitter; 0 where the machine has no randomness to give.
fn random() -> f64 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_or(0.0, |()| f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const QUICK: Backoff = Backoff { first: Duration::from_millis(1), most: Duration::from_millis(2) };

    /// Hands out its batches one by one, and says stop when it has no more.
    struct Scripted {
        batches: VecDeque<Result<Batch, Fault>>,
        waits: Vec<Duration>,
        committed: Vec<Position>,
        stop: Stop,
    }

    impl Scripted {
        fn new(stop: &Stop, batches: Vec<Result<Batch, Fault>>) -> Self {
            Scripted { batches: batches.into(), waits: Vec::new(), committed: Vec::new(), stop: stop.clone() }
        }
    }

    impl Source for Scripted {
        fn pull(&mut self, wait: Duration) -> Result<Batch, Fault> {
            self.waits.push(wait);
            self.batches.pop_front().unwrap_or_else(|| {
                self.stop.set();
                Ok(Batch::default())
            })
        }
        fn commit(&mut self, batch: &Batch, _refused: &[Refused]) -> Result<(), Fault> {
            self.committed.push(batch.position.clone());
            Ok(())
        }
    }

    /// Answers with its script, then with yes; keeps the positions that it was asked to deliver.
    #[derive(Default)]
    struct Answers {
        script: VecDeque<Fault>,
        asked: Vec<Position>,
        stop_at: Option<(usize, Stop)>,
    }

    impl Sink for Answers {
        fn deliver(&mut self, batch: &Batch) -> Result<Delivered, Fault> {
            self.asked.push(batch.position.clone());
            if let Some((after, stop)) = &self.stop_at
                && self.asked.len() == *after
            {
                stop.set();
            }
            let delivered = Delivered { new: 1, rejected: batch.unreadable.len(), ..Delivered::default() };
            self.script.pop_front().map_or(Ok(delivered), Err)
        }
    }

    fn batch(offset: i64) -> Result<Batch, Fault> {
        let unreadable =
            Unreadable { bytes: b"x".to_vec(), origin: format!("test {offset}"), reason: "test".to_owned() };
        Ok(Batch { logs: Vec::new(), unreadable: vec![unreadable], position: at(offset) })
    }

    fn at(offset: i64) -> Position {
        Position(vec![(0, offset)])
    }

    fn retry() -> Fault {
        Fault::Retry("away".to_owned())
    }

    fn run(source: &mut Scripted, sink: &mut Answers) -> (Result<(), FlowError>, Figures) {
        let (figures, pulse, stop) = (Figures::default(), Pulse::default(), source.stop.clone());
        let how = Pump { name: "test", backoff: QUICK, figures: &figures, pulse: &pulse, stop: &stop };
        let end = pump(source, sink, &how);
        (end, figures)
    }

    #[test]
    fn a_batch_is_committed_after_it_was_delivered_and_in_order() {
        let mut source = Scripted::new(&Stop::default(), vec![batch(1), Ok(Batch::default()), batch(2)]);
        let mut sink = Answers::default();
        let (end, figures) = run(&mut source, &mut sink);
        assert_eq!((end, source.committed, sink.asked), (Ok(()), vec![at(1), at(2)], vec![at(1), at(2)]));
        assert_eq!((figures.new.into_inner(), figures.refused.into_inner()), (2, 2));
    }

    #[test]
    fn a_fault_that_may_go_away_keeps_the_batch() {
        let mut source = Scripted::new(&Stop::default(), vec![Err(retry()), batch(1), batch(2)]);
        let mut sink = Answers { script: vec![retry(), retry(), retry()].into(), ..Answers::default() };
        let (end, figures) = run(&mut source, &mut sink);
        assert_eq!((end, &source.committed), (Ok(()), &vec![at(1), at(2)]));
        assert_eq!(sink.asked, [at(1), at(1), at(1), at(1), at(2)]);
        assert_eq!((figures.fault(), figures.retries.into_inner()), (None, 4));
    }

    #[test]
    fn after_a_fault_the_source_is_asked_for_a_quick_answer() {
        let mut source = Scripted::new(&Stop::default(), vec![Err(retry()), Ok(Batch::default())]);
        assert_eq!(run(&mut source, &mut Answers::default()).0, Ok(()));
        assert_eq!(source.waits[..3], [PULL_WAIT, PULL_WAIT_AFTER_FAULT, PULL_WAIT]);
    }

    #[test]
    fn a_broken_sink_ends_the_pump_and_commits_nothing() {
        let mut source = Scripted::new(&Stop::default(), vec![batch(1)]);
        let mut sink = Answers { script: vec![Fault::Broken("gone".to_owned())].into(), ..Answers::default() };
        let (end, _) = run(&mut source, &mut sink);
        assert_eq!((end, source.committed), (Err(FlowError("test: gone".to_owned())), vec![]));
    }

    #[test]
    fn told_to_stop_it_empties_the_source_unless_something_fails() {
        let stop = Stop::default();
        let mut source = Scripted::new(&stop, vec![batch(1), batch(2), batch(3), batch(4)]);
        let mut sink = Answers { stop_at: Some((1, stop)), ..Answers::default() };
        assert_eq!(run(&mut source, &mut sink).0, Ok(()));
        assert_eq!(source.committed, [at(1), at(2), at(3), at(4)]);

        let stop = Stop::default();
        let mut source = Scripted::new(&stop, vec![batch(1), batch(2)]);
        let mut sink = Answers { script: vec![retry()].into(), stop_at: Some((1, stop)), ..Answers::default() };
        assert_eq!(run(&mut source, &mut sink).0, Ok(()));
        assert_eq!((source.committed, sink.asked), (vec![], vec![at(1)]));
    }

    #[test]
    fn waits_double_up_to_the_most_and_jitter_takes_up_to_half() {
        let backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(30) };
        for (failures, random, millis) in [
            (1, 0.0, 100),
            (2, 0.0, 200),
            (4, 0.0, 800),
            (9, 0.0, 25_600),
            (10, 0.0, 30_000),
            (u32::MAX, 0.0, 30_000),
            (2, 0.5, 150),
        ] {
            assert_eq!(backoff.delay(failures, random), Duration::from_millis(millis), "{failures} {random}");
        }
        assert!((0..100).all(|_| (0.0..1.0).contains(&random())));
    }
}
