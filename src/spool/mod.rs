//! The durable queue on disk: a Sink and a Source.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::config;
use crate::flow::{Batch, Delivered, Fault, Refused, Sink, Source};
use crate::jobs::Stop;
use crate::logs::{Author, Log};

/// A spool that was opened, before its two ends go to their threads.
#[derive(Debug)]
pub struct Spool {}

/// The end that takes logs in. Gives each its `seq`.
#[derive(Debug)]
pub struct Writer {}

/// The end that hands logs on.
#[derive(Debug)]
pub struct Reader {}

/// Looks at the spool from anywhere, at any time.
#[derive(Clone, Debug, Default)]
pub struct Gauge {}

/// How the spool stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Logs not yet handed on.
    pub depth: u64,
    /// What it takes on disk.
    pub bytes: u64,
    /// Logs dropped since this run began, by reason: `thinned`, `dropped_oldest`, `not_kept_at_stop`.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Logs that the sink refused or nobody could read, set aside since this run began.
    pub refused: u64,
    /// The last log that was accepted.
    pub last_accepted: Option<Accepted>,
    /// When logs were last committed to disk (wall clock).
    pub last_commit_at: Option<Timestamp>,
    /// Why the spool can't write right now; `None`: it can.
    pub error: Option<String>,
}

/// A log that the spool has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its name.
    pub uid: Uuid,
    /// Which check.
    pub label: Arc<str>,
    /// When it was due.
    pub due_at: Timestamp,
}

impl Spool {
    /// Opens the spool, or makes it. Logs of `author` get their `seq` here.
    ///
    /// # Errors
    /// A sentence for people: in use by another process, not a spool, damaged, made by a newer Pingeon.
    pub fn open(_settings: &config::Spool, _author: &Author) -> Result<Self, String> {
        Ok(Spool {})
    }

    /// The last slot that was kept of each label, by this run and those before it.
    pub fn last_due(&self) -> HashMap<Arc<str>, Timestamp> {
        HashMap::new()
    }

    /// A view of the figures that outlives the spool.
    pub fn gauge(&self) -> Gauge {
        Gauge::default()
    }

    /// The two ends; the reader's waits end when `stop` is set.
    pub fn split(self, _stop: Stop) -> (Writer, Reader) {
        (Writer {}, Reader {})
    }
}

impl Gauge {
    /// How the spool stands now.
    pub fn figures(&self) -> Figures {
        Figures::default()
    }
}

/// Takes logs in until their channel closes, and commits them together every `flush`. Never wakes while nothing comes.
/// Once `stop` is set, a disk that fails or a spool that is full is waited for no longer than a bounded time.
///
/// # Errors
/// A sentence for people, when the spool is damaged.
pub fn write(_writer: Writer, _logs: &Receiver<Log>, _flush: Duration, _stop: &Stop) -> Result<(), String> {
    Ok(())
}

impl Sink for Writer {
    fn deliver(&mut self, _batch: &Batch) -> Result<Delivered, Fault> {
        Ok(Delivered::default())
    }
}

impl Source for Reader {
    fn pull(&mut self, _wait: Duration) -> Result<Batch, Fault> {
        Ok(Batch::default())
    }

    fn commit(&mut self, _batch: &Batch, _refused: &[Refused]) -> Result<(), Fault> {
        Ok(())
    }
}
