//! Sinks that know SQL, and the queries that reports and pages ask.

pub mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use crate::check::Verdict;
use crate::clock::Timestamp;
use crate::logs::Missed;

/// What a report reads of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Who wrote it.
    pub agent: Arc<str>,
    /// Which check.
    pub label: Arc<str>,
    /// When the slot was due; for `missed`, the first of the slots that it covers.
    pub due_at: Timestamp,
    /// How far apart the slots are: the weight of this log in time.
    pub interval: Duration,
    /// What it came to.
    pub verdict: Verdict,
    /// How long it took, in microseconds; `None` for `missed`.
    pub duration_us: Option<u64>,
    /// Why, for people.
    pub reason: Option<Arc<str>>,
    /// Which slots, and why; for `missed` only.
    pub missed: Option<Missed>,
}
