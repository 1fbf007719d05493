//! Source, Sink and pump: the seams of the flow, and its one loop.
//!
//! `source.pull → sink.deliver → source.commit`. At-least-once: a batch is committed only after the sink has it, and a batch
//! whose commit was lost comes again; the store drops what it has already.

use std::time::Duration;

use crate::jobs::Stop;
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
    /// Logs that it had already.
    pub duplicate: usize,
    /// Logs that it will never take. A sink that keeps such logs itself has none here.
    pub refused: Vec<Refused>,
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

/// Why a pump ended before it was told to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowError(pub String);

/// How long to wait before the next try: doubles from `first` to `most`, with jitter.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// At most.
    pub most: Duration,
}

/// The one loop of the system.
///
/// # Errors
/// [`FlowError`] when either end is broken.
pub fn pump(_source: &mut dyn Source, _sink: &mut dyn Sink, _backoff: Backoff, _stop: &Stop) -> Result<(), FlowError> {
    Ok(())
}
