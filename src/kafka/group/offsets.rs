//! A group's committed offsets: where to go on, and that something is done with.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{OffsetCommitRequest, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;

use super::seat::Heard;
use super::{Group, Placed, moved};
use crate::kafka::client::Client;
use crate::kafka::{Error, codes};

impl Group {
    /// Asks which offsets are committed.
    pub(super) fn positions(&mut self, client: &mut Client, partitions: Vec<i32>) -> Result<Vec<Placed>, Error> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let topic = OffsetFetchRequestTopic::default()
            .with_name(client.topic_name())
            .with_partition_indexes(partitions.clone());
        let request =
            OffsetFetchRequest::default().with_group_id(self.settings.group_id()).with_topics(Some(vec![topic]));
        let answer = self.ask(client, &request)?;
        let found: BTreeMap<i32, _> = answer
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .map(|found| (found.partition_index, found))
            .collect();
        let failed = found.values().map(|found| found.error_code).find(|code| *code != 0);
        if let Some(code) = Some(answer.error_code).filter(|code| *code != 0).or(failed) {
            return Err(codes::group(code, &self.settings.group));
        }
        let committed = |partition| Some(found.get(&partition)?.committed_offset).filter(|offset| *offset >= 0);
        Ok(partitions.into_iter().map(|partition| (partition, committed(partition))).collect())
    }

    /// Commits offsets. What is in the way, if the member has lost its seat: then nothing is committed.
    ///
    /// # Errors
    /// When it may go well at another time.
    pub fn commit(&mut self, client: &mut Client, offsets: &[(i32, i64)]) -> Result<Option<String>, Error> {
        let Some((member, generation)) = self.seat.taken() else {
            return Ok(Some(format!("consumer group `{}`: this member is none any more", self.settings.group)));
        };
        let partitions = offsets.iter().map(|(partition, offset)| {
            OffsetCommitRequestPartition::default().with_partition_index(*partition).with_committed_offset(*offset)
        });
        let topic = OffsetCommitRequestTopic::default()
            .with_name(client.topic_name())
            .with_partitions(partitions.map(|p| p.with_committed_metadata(Some(StrBytes::default()))).collect());
        let request = OffsetCommitRequest::default()
            .with_group_id(self.settings.group_id())
            .with_generation_id_or_member_epoch(generation)
            .with_member_id(member)
            .with_group_instance_id(self.settings.instance())
            .with_topics(vec![topic]);
        let answer = self.ask(client, &request)?;
        let answered = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let Some(code) = answered.map(|partition| partition.error_code).find(|code| *code != 0) else {
            return Ok(None);
        };
        if code == ResponseError::UnknownTopicOrPartition.code() {
            return Ok(Some(self.topic_is_gone()));
        }
        let error = codes::group(code, &self.settings.group);
        match self.seat.hear(code, generation) {
            Heard::Rejoin | Heard::Lost => return Ok(Some(error.to_string())),
            Heard::Fine | Heard::Other => {}
        }
        if moved(code) {
            self.connection = None;
        }
        Err(error)
    }
}
