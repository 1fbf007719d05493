//! Where to begin when nothing is committed, or what was committed is not there any more: at the earliest offset that is.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use kafka_protocol::messages::ListOffsetsRequest;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};

use super::{CONSUMER, Fetcher};
use crate::kafka::Error;
use crate::kafka::client::{ANSWER_MAX, Client};

/// What ListOffsets calls the earliest offset.
const EARLIEST: i64 = -2;

impl Fetcher {
    /// Asks for the earliest offset where no other is known.
    pub(super) fn find_earliest(&mut self, client: &mut Client, node: i32, partitions: &[i32]) -> Result<(), Error> {
        let unknown = partitions.iter().filter(|p| self.places.get(p).is_some_and(|place| place.next.is_none()));
        let wanted: Vec<_> = unknown
            .map(|p| ListOffsetsPartition::default().with_partition_index(*p).with_timestamp(EARLIEST))
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let topic = ListOffsetsTopic::default().with_name(client.topic_name()).with_partitions(wanted);
        let request = ListOffsetsRequest::default().with_replica_id(CONSUMER).with_topics(vec![topic]);
        let answer = client.broker(node)?.call(&request, Instant::now() + ANSWER_MAX)?;
        for found in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            match found.error_code {
                0 => self.begin_at(client.topic(), found.partition_index, found.offset),
                code => self.refused(client, found.partition_index, code),
            }
        }
        Ok(())
    }

    /// The earliest offset that there is.
    pub(super) fn begin_at(&mut self, topic: &str, partition: i32, earliest: i64) {
        let Some(place) = self.places.get_mut(&partition).filter(|place| place.next.is_none()) else { return };
        let (lost, earliest) = (place.lost, earliest.max(0));
        place.go_to(earliest);
        if let Some(lost) = lost {
            self.figures.resets.fetch_add(1, Relaxed);
            log::warn!(
                "partition {partition} of topic `{topic}`: offset {lost} is not there any more; reading goes on at \
                 {earliest}, so that {} offsets are skipped: see the topic's `retention.ms`",
                earliest.saturating_sub(lost).max(0)
            );
        }
    }
}
