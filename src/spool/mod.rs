//! The durable queue on the agent's own disk: logs go in by [`write()`] and out by a [`Source`](crate::flow::Source).
//!
//! A log counts as accepted once its transaction is on disk, and from then on is handed on at least once, in the order of
//! acceptance. It gets its `seq` there: 1, 2, 3 … in each run, given out by the transaction that keeps it, so that one that
//! failed gives the same numbers again.
//!
//! Disk syncs are what a spool costs, so there is one a flush: logs are committed in groups, and [`commit`](crate::flow::Source::commit) only notes
//! in memory how far the sink has come; the next group's transaction deletes up to there, and closing does. After a crash
//! what lay between comes again, with the same uid, and the store drops it.
//!
//! The file is bounded: pages in use and the write-ahead log never take more than `max_bytes`, but for the group on its way.
//! At the bound, `when_full` says what gives; see [`config::WhenFull`]. Logs in the reader's hand are never dropped, or a log
//! could be counted as dropped and delivered. What was dropped is counted and leaves its `seq` missing.
//!
//! On disk it is an SQLite database (WAL, synchronous=FULL; see `001_spool.sql`), which one process may use at a time. A file
//! that is damaged or something else is refused and left alone: no start ever deletes a backlog.

mod append;
mod lock;
mod reader;
#[cfg(test)]
mod tests;
mod thinner;
mod writer;

pub use reader::Reader;
pub use writer::{Writer, write};

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use uuid::Uuid;

use self::append::Appender;
use self::lock::Lock;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config;
use crate::database::{Access, Database, Kind};
use crate::jobs::Stop;
use crate::logs::Author;

/// The smallest bound that a config may set and that is kept to: below it, the database's own needs are most of the file.
pub const BYTES_MIN: u64 = 1024 * 1024;
/// Logs that are handed on at once, at most.
pub const BATCH_LOGS_MAX: usize = 2_000;
/// What they may take together, in bytes, unless a single log takes more.
pub const BATCH_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Page caches, in KiB: the writer's holds the end of the table and the labels, the reader's one pass over a batch.
const WRITER_CACHE_KIB: u32 = 1_024;
const READER_CACHE_KIB: u32 = 256;

const SPOOL: Kind = Kind {
    name: "spool",
    key: "spool.path",
    application_id: i32::from_be_bytes(*b"PngQ"),
    migrations: &[include_str!("001_spool.sql")],
    layout: "",
};

/// A spool that was opened, before its two ends go to their threads.
#[derive(Debug)]
pub struct Spool {
    writer: Writer,
    reader: Database,
    reader_bytes_max: u64,
    shared: Arc<Shared>,
}

/// What the two ends share.
#[derive(Debug)]
struct Shared {
    figures: Mutex<Figures>,
    handover: Mutex<Handover>,
    /// Logs not yet handed on. Below zero for a moment when the reader was faster than the writer's own count.
    depth: AtomicI64,
    /// Wakes the reader when logs were accepted: holds at most one word, which stands for any number.
    fresh: (Sender<()>, Receiver<()>),
    /// Wakes the writer when logs were handed on, likewise.
    room: (Sender<()>, Receiver<()>),
    _lock: Lock,
}

/// How far the logs have come, by their row ids. Locked while rows are read or dropped, so that neither meets the other.
#[derive(Debug, Default)]
struct Handover {
    /// The sink has all up to here.
    committed: i64,
    /// The reader has all up to here in its hand.
    pulled: i64,
    /// All up to here is deleted.
    deleted: i64,
}

/// Looks at the spool from anywhere, at any time.
#[derive(Clone, Debug)]
pub struct Gauge(Arc<Shared>);

/// How the spool stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Logs not yet handed on.
    pub depth: u64,
    /// What it takes on disk: pages in use and the write-ahead log.
    pub bytes: u64,
    /// Logs dropped since this run began, by reason: `thinned`, `dropped_oldest`, `not_kept_at_stop`.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Logs that the sink refused or nobody could read, set aside since this run began.
    pub refused: u64,
    /// The last log that was accepted.
    pub last_accepted: Option<Accepted>,
    /// When logs were last committed to disk (wall clock).
    pub last_commit_at: Option<Timestamp>,
    /// Why the spool can't take logs right now; `None`: it can.
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
    /// Opens the spool, or makes it. Logs get their `seq` as those of `author`.
    ///
    /// # Errors
    /// A sentence for people: in use by another process, not a spool, damaged, made by a newer Pingeon.
    pub fn open(settings: &config::Spool, author: &Author) -> Result<Self, String> {
        Self::open_under(Arc::new(SystemClock), settings, author)
    }

    fn open_under(clock: Arc<dyn Clock>, settings: &config::Spool, author: &Author) -> Result<Self, String> {
        let lock = Lock::take(&settings.path)?;
        let writer = Database::open(&settings.path, &SPOOL, Access::Write, WRITER_CACHE_KIB)?;
        let reader = Database::open(&settings.path, &SPOOL, Access::Write, READER_CACHE_KIB)?;
        let shared = Arc::new(Shared {
            figures: Mutex::default(),
            handover: Mutex::default(),
            depth: AtomicI64::new(0),
            fresh: bounded(1),
            room: bounded(1),
            _lock: lock,
        });
        let appender = Appender::new(writer, settings, author, Arc::clone(&shared), clock)?;
        let reader_bytes_max = BATCH_BYTES_MAX.min(appender.bytes_max() / 8);
        Ok(Spool { writer: Writer::new(appender), reader, reader_bytes_max, shared })
    }

    /// The last slot that was kept of each label, by this run and those before it.
    pub fn last_due(&self) -> HashMap<Arc<str>, Timestamp> {
        self.writer.last_due()
    }

    /// A view of the figures, which outlives the spool.
    pub fn gauge(&self) -> Gauge {
        Gauge(Arc::clone(&self.shared))
    }

    /// The two ends; the reader's waits end when `stop` is set.
    pub fn split(self, stop: Stop) -> (Writer, Reader) {
        (self.writer, Reader::new(self.reader, self.reader_bytes_max, self.shared, stop))
    }
}

impl Gauge {
    /// How the spool stands now.
    pub fn figures(&self) -> Figures {
        let depth = self.0.depth.load(Ordering::Relaxed);
        Figures { depth: u64::try_from(depth).unwrap_or(0), ..self.0.figures().clone() }
    }
}

impl Shared {
    fn count(&self, more: usize, fewer: usize) {
        let signed = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.depth.fetch_add(signed(more) - signed(fewer), Ordering::Relaxed);
    }

    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handover(&self) -> MutexGuard<'_, Handover> {
        self.handover.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
