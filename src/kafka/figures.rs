//! What the clients have done, for health and metrics. Shared with whoever shows it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the clients of one topic have done, since the start. The clients of several consumers may share one.
#[derive(Debug, Default)]
pub struct Figures {
    /// Batches written or read.
    pub batches: AtomicU64,
    /// Their bytes, as they are on the wire.
    pub bytes: AtomicU64,
    /// Requests that were sent again.
    pub retries: AtomicU64,
    /// Records that the cluster will never take.
    pub refusals: AtomicU64,
    /// Times that the partitions were shared out anew among the consumers.
    pub rebalances: AtomicU64,
    /// Commits that came too late: the partitions had another owner by then.
    pub fenced: AtomicU64,
    /// Times that an offset was not there any more and reading went on at the earliest.
    pub resets: AtomicU64,
    /// Time from a request of records to its answer, in microseconds, all of them together; how many are the `requests`.
    pub in_flight_us: AtomicU64,
    /// Requests of records that were answered.
    pub requests: AtomicU64,
    lag: Mutex<BTreeMap<i32, i64>>,
}

impl Figures {
    /// How many messages are waiting in each partition that is consumed here.
    pub fn lag(&self) -> BTreeMap<i32, i64> {
        self.lock().clone()
    }

    /// Takes note of how many are waiting in a partition.
    pub fn note_lag(&self, partition: i32, messages: i64) {
        self.lock().insert(partition, messages);
    }

    /// The partition is consumed elsewhere from now on.
    pub fn forget_lag(&self, partition: i32) {
        self.lock().remove(&partition);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, i64>> {
        self.lag.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
