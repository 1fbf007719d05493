//! Committing for the consumer of the `kafka` crate, on a connection of our own.
//!
//! While a group's coordinator moves or loads, the crate asks it again until it takes the commit, for ever and in the end without
//! a pause. Such a call could be given up but not ended, and would commit later, perhaps over what was committed since. Here a
//! commit asks once, and has been made or not when it returns. It is made in the name of no member: a group whose members
//! share partitions does not take it (<https://kafka.apache.org/protocol.html#The_Messages_OffsetCommit>).

use std::time::Instant;

use kafka_protocol::messages::OffsetCommitRequest;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::protocol::StrBytes;

use super::{CALL_MAX, of_group};
use crate::kafka::Error;
use crate::kafka::client::Client;
use crate::kafka::connection::{Access, Connection};

/// Commits for one group.
pub(super) struct Committer {
    cluster: Client,
    group: String,
    /// To the coordinator, while it takes commits.
    coordinator: Option<Connection>,
}

impl Committer {
    /// Connects to nobody before there is something to commit.
    pub(super) fn new(access: &Access, topic: &str, group: &str) -> Self {
        let cluster = Client::new(access.clone(), topic.to_owned());
        Committer { cluster, group: group.to_owned(), coordinator: None }
    }

    /// Commits these offsets.
    ///
    /// # Errors
    /// When nothing is committed, or not all. Nothing is under way then but what a broker may still do that has not answered
    /// within [`CALL_MAX`]; finding the coordinator before has bounds of its own, at each broker that is asked.
    pub(super) fn commit(&mut self, offsets: &[(i32, i64)]) -> Result<(), Error> {
        if offsets.is_empty() {
            return Ok(());
        }
        let partitions = offsets.iter().map(|(partition, offset)| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(StrBytes::default()))
        });
        let topic = OffsetCommitRequestTopic::default()
            .with_name(self.cluster.topic_name())
            .with_partitions(partitions.collect());
        let request = OffsetCommitRequest::default()
            .with_group_id(StrBytes::from_string(self.group.clone()).into())
            .with_topics(vec![topic]);
        let begun = Instant::now();
        let answered = match (self.coordinator.is_some(), self.ask(&request)) {
            // Brokers close a connection on which nothing was said for long; that is seen at once.
            (true, Err(Error::Away(_))) if begun.elapsed() < CALL_MAX => self.ask(&request),
            (_, answered) => answered,
        };
        match answered? {
            0 => Ok(()),
            code => {
                // Another broker may be the coordinator by now.
                self.coordinator = None;
                Err(of_group(Error::Code(code, String::new()), &self.group))
            }
        }
    }

    /// The first error code among the partitions', 0 when there is none.
    fn ask(&mut self, request: &OffsetCommitRequest) -> Result<i16, Error> {
        let mut coordinator = match self.coordinator.take() {
            Some(coordinator) => coordinator,
            None => self.cluster.coordinator(&self.group)?,
        };
        let answer = coordinator.call(request, Instant::now() + CALL_MAX)?;
        self.coordinator = Some(coordinator);
        let mut codes = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|of| of.error_code);
        Ok(codes.find(|code| *code != 0).unwrap_or(0))
    }
}
