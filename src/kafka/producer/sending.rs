//! What was given to the producer and is not all there yet: by partition what is left, by broker what is in flight.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::lane::Lane;
use crate::kafka::{Error, Record, Refusal};

/// What was given and is not all there yet.
#[derive(Debug, Default)]
pub struct Sending {
    pub lanes: BTreeMap<i32, Lane>,
    pub refusals: Vec<Refusal>,
    /// What is not answered yet, by broker.
    pub flights: BTreeMap<i32, VecDeque<Flight>>,
    /// Partitions that wait for the others, since something was wrong with them, and what it was last.
    pub resting: BTreeSet<i32>,
    pub wrong: Option<Error>,
    /// By what the records are known again when they are given again.
    pub mark: Option<u32>,
}

/// One request in flight.
#[derive(Debug)]
pub struct Flight {
    pub sent: Instant,
    pub bytes: usize,
    /// What one batch was allowed to take, in bytes.
    pub room: usize,
    /// The partitions and the numbers of their batches.
    pub batches: Vec<(i32, i32)>,
}

/// By what records are known again when they are given again.
pub(in crate::kafka) fn mark(records: &[Record]) -> u32 {
    let of = |mark, record: &Record| crc32c::crc32c_append(crc32c::crc32c_append(mark, &record.key), &record.value);
    records.iter().fold(records.len() as u32, of)
}
