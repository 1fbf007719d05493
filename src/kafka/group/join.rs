//! Joining a group, and the leader's part in it: sharing out the partitions.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse, SyncGroupRequest};
use kafka_protocol::protocol::StrBytes;

use super::seat::Heard;
use super::{Group, Phase};
use crate::kafka::assign::{self, Member};
use crate::kafka::client::{Client, PARTITIONS_MAX};
use crate::kafka::{Error, codes};

/// How long joining may take beyond the time that the others have to finish their batches.
const JOIN_SLACK: Duration = Duration::from_secs(5);

/// From which version on JoinGroup knows static members (KIP-345: Kafka 2.3).
const JOIN_STATIC: i16 = 5;

const PROTOCOL_TYPE: &str = "consumer";

impl Group {
    /// Looks at the topic, as all members do before they join: one that has grown is shared out anew once.
    pub(super) fn join(&mut self, client: &mut Client) -> Result<(), Error> {
        self.seat.stand_up();
        client.refresh()?;
        self.partitions = client.partitions()?;
        self.ask_to_join(client)
    }

    fn ask_to_join(&mut self, client: &mut Client) -> Result<(), Error> {
        let metadata = assign::subscription(client.topic(), self.partitions).map_err(Error::Unusable)?;
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str(assign::NAME))
            .with_metadata(metadata);
        let request = JoinGroupRequest::default()
            .with_group_id(self.settings.group_id())
            .with_session_timeout_ms(millis(self.settings.session))
            .with_rebalance_timeout_ms(millis(self.settings.rebalance))
            .with_member_id(self.seat.member())
            .with_group_instance_id(self.settings.instance())
            .with_protocol_type(StrBytes::from_static_str(PROTOCOL_TYPE))
            .with_protocols(vec![protocol]);
        let named = self.settings.instance_id.is_some();
        let connection = self.connection(client)?;
        if named && connection.version::<JoinGroupRequest>()? < JOIN_STATIC {
            let peer = connection.peer();
            return Err(Error::Unusable(format!("broker {peer} knows no `instance_id`; Kafka does from 2.3 on")));
        }
        self.send(&request)?;
        // Others may hold it up: those that have a batch in hand, or were killed and are not missed yet.
        log::info!("consumer group `{}`: joining", self.settings.group);
        self.phase = Phase::Joining { by: Instant::now() + self.settings.rebalance + JOIN_SLACK };
        Ok(())
    }

    /// Reads whether it has joined, and asks for its partitions.
    pub(super) fn joined(&mut self, client: &mut Client) -> Result<(), Error> {
        let answer = self.receive::<JoinGroupRequest>()?;
        match ResponseError::try_from_code(answer.error_code) {
            None => {}
            Some(ResponseError::MemberIdRequired) => {
                self.seat.name(answer.member_id);
                return self.ask_to_join(client);
            }
            Some(ResponseError::UnknownMemberId) => {
                let back = self.seat.fenced_for().is_some();
                self.seat.give_up();
                if back {
                    let name = self.settings.instance_id.as_deref().unwrap_or_default();
                    log::warn!("the consumer that had taken over `instance_id: {name}` is gone; this one joins again");
                    return self.ask_to_join(client);
                }
                return Err(codes::group(answer.error_code, &self.settings.group));
            }
            Some(ResponseError::FencedInstanceId) => {
                self.seat.fence();
                return Err(self.fenced());
            }
            Some(other) => return Err(self.refused(other)),
        }
        self.seat.take(answer.member_id.clone(), answer.generation_id);
        let assignments = if answer.leader == answer.member_id { self.share_out(client, &answer)? } else { Vec::new() };
        let request = SyncGroupRequest::default()
            .with_group_id(self.settings.group_id())
            .with_generation_id(answer.generation_id)
            .with_member_id(answer.member_id)
            .with_group_instance_id(self.settings.instance())
            .with_assignments(assignments);
        self.send(&request)?;
        let by = Instant::now() + self.settings.rebalance + JOIN_SLACK;
        self.phase = Phase::Syncing { by, generation: answer.generation_id };
        Ok(())
    }

    /// The leader's part: gives each partition to one of the members.
    fn share_out(&self, client: &Client, answer: &JoinGroupResponse) -> Result<Vec<SyncGroupRequestAssignment>, Error> {
        let (topic, group) = (client.topic_name(), &self.settings.group);
        let mut members = Vec::with_capacity(answer.members.len());
        for member in &answer.members {
            match assign::subscribed(member.metadata.clone(), client.topic()) {
                Ok(true) => {
                    let (id, instance) = (member.member_id.clone(), member.group_instance_id.clone());
                    members.push(Member { id, instance });
                }
                Ok(false) => {
                    let id = &member.member_id;
                    log::warn!(
                        "consumer group `{group}`: member {id} gets nothing: it wants another topic; use a group for each topic"
                    );
                }
                Err(what) => {
                    let id = &member.member_id;
                    log::warn!("consumer group `{group}`: member {id} gets nothing: cannot read what it wants: {what}");
                }
            }
        }
        let shares = assign::range(members, self.partitions).into_iter();
        let assignments = shares.map(|(member, partitions)| {
            let assignment = assign::assignment(&topic, partitions)?;
            Ok(SyncGroupRequestAssignment::default().with_member_id(member.id).with_assignment(assignment))
        });
        assignments.collect::<Result<_, String>>().map_err(Error::Unusable)
    }

    /// Reads which partitions it has.
    pub(super) fn synced(&mut self, client: &Client, generation: i32) -> Result<(), Error> {
        let answer = self.receive::<SyncGroupRequest>()?;
        match self.seat.hear(answer.error_code, generation) {
            Heard::Fine => {}
            // Back to joining, at once.
            Heard::Rejoin => return Ok(()),
            Heard::Lost if self.seat.fenced_for().is_some() => return Err(self.fenced()),
            Heard::Lost | Heard::Other => return Err(codes::group(answer.error_code, &self.settings.group)),
        }
        // The heart has heard before that it is none of these any more.
        if answer.error_code != 0 {
            return Ok(());
        }
        let partitions = self.partitions_of(answer.assignment, client)?;
        let (group, topic) = (&self.settings.group, client.topic());
        log::info!("consumer group `{group}`, generation {generation}: {} of `{topic}`", assign::shown(&partitions));
        self.phase = Phase::Placing { partitions };
        Ok(())
    }

    fn partitions_of(&self, assignment: Bytes, client: &Client) -> Result<Vec<i32>, Error> {
        let garbage =
            |what| Error::Garbage(format!("consumer group `{}` was shared out by {what}", self.settings.group));
        let partitions = assign::assigned(assignment, &client.topic_name())
            .map_err(|what| garbage(format!("what is no assignment: {what}")))?;
        match partitions.iter().find(|partition| !(0..PARTITIONS_MAX as i32).contains(*partition)) {
            Some(partition) => Err(garbage(format!("somebody who knows of partition {partition}"))),
            None => Ok(partitions),
        }
    }

    fn refused(&self, error: ResponseError) -> Error {
        let group = &self.settings.group;
        match error {
            ResponseError::InconsistentGroupProtocol => Error::Unusable(format!(
                "consumer group `{group}` has members that do not share out by `{}`; use another group",
                assign::NAME
            )),
            ResponseError::InvalidSessionTimeout => Error::Unusable(format!(
                "consumer group `{group}`: the broker does not allow a session of {} s; see its \
                 `group.min.session.timeout.ms` and `group.max.session.timeout.ms`",
                self.settings.session.as_secs()
            )),
            other => codes::group(other.code(), group),
        }
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
