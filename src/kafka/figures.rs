//! What the clients have done, for health and metrics. Shared with whoever shows it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the clients of one topic have done, since the start. The clients of several consumers may share one. Both clients count
/// alike, but where it is said.
#[derive(Debug, Default)]
pub struct Figures {
    /// Batches that were answered for: written, whether the cluster took them or not (of the `kafka` crate those that it took), or
    /// whole ones that a broker sent (of the crate: answers with messages of a partition).
    pub batches: AtomicU64,
    /// Their bytes, as they are on the wire (of the `kafka` crate: uncompressed; when reading, of the values alone).
    pub bytes: AtomicU64,
    /// Times that something went wrong and was, or will be, tried again: also a wait for a leader, and partitions that rest after
    /// an error.
    pub retries: AtomicU64,
    /// Records that the cluster will never take, such as those that are too large.
    pub refusals: AtomicU64,
    /// Times that the partitions were shared out anew among the consumers.
    pub rebalances: AtomicU64,
    /// Commits that came too late: the partitions had another owner by then.
    pub fenced: AtomicU64,
    /// Times that an offset was not there any more and reading went on at the earliest.
    pub resets: AtomicU64,
    /// Time from a request to write or fetch records to its answer, in microseconds, all of them together; how many are the
    /// `requests`. That of a fetch includes how long the broker held it back for want of messages. Fetches of the `kafka` crate are
    /// not counted.
    pub in_flight_us: AtomicU64,
    /// Requests to write or fetch records that were answered.
    pub requests: AtomicU64,
    lag: Mutex<BTreeMap<i32, i64>>,
}

impl Figures {
    /// How many messages are waiting in each partition that is consumed here.
    pub fn lag(&self) -> BTreeMap<i32, i64> {
        self.lock().clone()
    }

    /// Takes note of how many are waiting in a partition.
    pub(crate) fn note_lag(&self, partition: i32, messages: i64) {
        self.lock().insert(partition, messages);
    }

    /// The partition is consumed elsewhere from now on.
    pub(crate) fn forget_lag(&self, partition: i32) {
        self.lock().remove(&partition);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, i64>> {
        self.lag.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
