//! Consuming by the `kafka` crate: one consumer for the whole topic, since the crate does not share partitions out.
//!
//! Offsets are kept in Kafka for the group. Where a partition has none, or the one it has is not there any more, reading begins
//! at the earliest message. The crate reads uncommitted messages: those of aborted transactions are seen. It takes no lz4 or zstd:
//! a topic that holds those ends in an error, since skipping them would lose logs.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka::client::{CommitOffset, FetchOffset, FetchPartition, KafkaClient};
use kafka::error::KafkaCode;

use super::client::{Client, named};
use super::{code_name, translate};
use crate::kafka::connection::Access;
use crate::kafka::figures::Figures;
use crate::kafka::{Compression, Consume, Error, Message, codes};

/// What is asked of one partition at once, in bytes; more when a batch does not fit, up to the largest.
const PARTITION_BYTES: i32 = 1 << 20;
const PARTITION_BYTES_LARGEST: i32 = 64 << 20;

/// What is asked of all partitions at once, in bytes. Compressed batches may come to more: the crate does not bound that.
const FETCH_BYTES_MAX: i32 = 16 << 20;

/// How long a broker may hold back an answer for want of messages. Leaders are asked one after the other, so each gets a part.
const FETCH_WAIT_MAX: Duration = Duration::from_millis(500);

/// How long what is known of the topic is believed.
const METADATA_AGE_MAX: Duration = Duration::from_secs(300);

/// The smallest batch that a broker keeps, in bytes: what two of them take that are told apart.
const BATCH_BYTES_SMALLEST: i32 = 61;

/// Brings messages from one topic.
pub struct LegacyConsumer {
    client: Client,
    group: String,
    figures: Arc<Figures>,
    leaders: Vec<Option<String>>,
    learned: Option<Instant>,
    /// By partition: where reading goes on.
    places: BTreeMap<i32, Place>,
    /// What was fetched and not handed out yet: at most what one fetch brings.
    ready: VecDeque<Message>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    next: i64,
    /// What is asked for at once, in bytes.
    bytes: i32,
}

impl fmt::Debug for LegacyConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegacyConsumer").field("group", &self.group).field("places", &self.places).finish_non_exhaustive()
    }
}

/// What one fetch says of a partition.
#[derive(Debug)]
struct Fetched {
    partition: i32,
    said: Result<(i64, Vec<Message>), KafkaCode>,
}
