//! Which member of a consumer group gets which partitions, and the two forms in which members and leader say so.
//!
//! Shared out in ranges, as the Java client's `RangeAssignor` does: members in order, each with partitions that follow each
//! other, the first ones with one more where it does not come out even. What members say came through brokers from others:
//! it is measured before it is read.
//!
//! Specified by <https://kafka.apache.org/protocol.html> and KIP-345 (the order of static members); the forms by
//! `ConsumerProtocolSubscription.json` and `ConsumerProtocolAssignment.json` of Kafka's sources.

use std::cmp::Ordering;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition;
use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::shape;

/// The name of this way of sharing out: members that know no common one cannot be in one group.
pub const NAME: &str = "range";

/// In which version both forms are written. Later ones are read, too.
const VERSION: i16 = 0;

const SUBSCRIPTION: &str = "[s] b 1:[s [4]] 2:4 3:s";
const ASSIGNMENT: &str = "[s [4]] b";

/// A member, as the coordinator names it to the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Given by the coordinator.
    pub id: StrBytes,
    /// Given by whoever runs it; `None`: it comes and goes.
    pub instance: Option<StrBytes>,
}

impl Member {
    /// Static members first, by their own names; the names of the others change with every start.
    fn order(&self, other: &Member) -> Ordering {
        match (&self.instance, &other.instance) {
            (Some(ours), Some(theirs)) => ours.as_bytes().cmp(theirs.as_bytes()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => self.id.as_bytes().cmp(other.id.as_bytes()),
        }
    }
}

/// Shares out `partitions`, each to exactly one of `members`.
pub fn range(mut members: Vec<Member>, partitions: i32) -> Vec<(Member, Vec<i32>)> {
    members.sort_by(Member::order);
    let count = i32::try_from(members.len()).unwrap_or(i32::MAX).max(1);
    let (each, more) = (partitions / count, partitions % count);
    let mut next = 0;
    let shares = (0..).zip(members).map(|(place, member)| {
        let share = next..next + each + i32::from(place < more);
        next = share.end;
        (member, share.collect())
    });
    shares.collect()
}

/// What a member tells the leader: that it wants `topic`, and how many partitions it knows of, so that a member that has seen
/// the topic grow brings a subscription that is new to the coordinator.
///
/// # Errors
/// When the topic cannot be put into bytes.
pub fn subscription(topic: &str, partitions: i32) -> Result<Bytes, String> {
    let known = Bytes::copy_from_slice(&partitions.to_be_bytes());
    let subscription = ConsumerProtocolSubscription::default()
        .with_topics(vec![StrBytes::from_string(topic.to_owned())])
        .with_user_data(Some(known));
    written(&subscription)
}

/// Whether a member's subscription is for `topic`.
///
/// # Errors
/// What is wrong with it.
pub fn subscribed(metadata: Bytes, topic: &str) -> Result<bool, String> {
    let subscription: ConsumerProtocolSubscription = read(metadata, SUBSCRIPTION)?;
    Ok(subscription.topics.iter().any(|other| **other == *topic))
}

/// What the leader tells a member: its partitions of `topic`.
///
/// # Errors
/// When the topic cannot be put into bytes.
pub fn assignment(topic: &TopicName, partitions: Vec<i32>) -> Result<Bytes, String> {
    let own = TopicPartition::default().with_topic(topic.clone()).with_partitions(partitions);
    written(&ConsumerProtocolAssignment::default().with_assigned_partitions(vec![own]))
}

/// The partitions of `topic` in an assignment, in order.
///
/// # Errors
/// What is wrong with it.
pub fn assigned(assignment: Bytes, topic: &TopicName) -> Result<Vec<i32>, String> {
    // A leader that has nothing for a member may leave it out.
    if assignment.is_empty() {
        return Ok(Vec::new());
    }
    let assignment: ConsumerProtocolAssignment = read(assignment, ASSIGNMENT)?;
    let own = assignment.assigned_partitions.into_iter().filter(|part| part.topic == *topic);
    let mut partitions: Vec<i32> = own.flat_map(|part| part.partitions).collect();
    partitions.sort_unstable();
    partitions.dedup();
    Ok(partitions)
}

/// Partitions for people: `partitions 0–2, 5`.
pub fn shown(partitions: &[i32]) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for &partition in partitions {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == partition => *last = partition,
            _ => runs.push((partition, partition)),
        }
    }
    let run = |(first, last): &(i32, i32)| if first == last { first.to_string() } else { format!("{first}–{last}") };
    match runs.as_slice() {
        [] => "no partition".to_owned(),
        [(first, last)] if first == last => format!("partition {first}"),
        runs => format!("partitions {}", runs.iter().map(run).collect::<Vec<_>>().join(", ")),
    }
}

fn written(form: &impl Encodable) -> Result<Bytes, String> {
    let mut bytes = BytesMut::new();
    bytes.put_i16(VERSION);
    form.encode(&mut bytes, VERSION).map_err(|error| error.to_string())?;
    Ok(bytes.freeze())
}

fn read<F: Decodable + kafka_protocol::protocol::Message>(mut bytes: Bytes, shape: &'static str) -> Result<F, String> {
    let version = bytes.try_get_i16().map_err(|_| "no version".to_owned())?;
    if !(0..=F::VERSIONS.max).contains(&version) {
        return Err(format!("version {version}"));
    }
    shape::measure(shape, version, &bytes)?;
    F::decode(&mut bytes, version).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, instance: &str) -> Member {
        let name = |text: &str| StrBytes::from_string(text.to_owned());
        Member { id: name(id), instance: Some(name(instance)).filter(|_| !instance.is_empty()) }
    }

    #[test]
    fn partitions_go_in_ranges_to_members_in_order() {
        for (partitions, members, shares) in [
            (7, &[("c", ""), ("a", ""), ("b", "")][..], &[("a", 0..3), ("b", 3..5), ("c", 5..7)][..]),
            (6, &[("a", ""), ("b", ""), ("c", "")], &[("a", 0..2), ("b", 2..4), ("c", 4..6)]),
            (6, &[("a", "")], &[("a", 0..6)]),
            (2, &[("c", ""), ("b", ""), ("a", "")], &[("a", 0..1), ("b", 1..2), ("c", 2..2)]),
            (0, &[("a", "")], &[("a", 0..0)]),
            (3, &[], &[]),
            // As the Java client's `testStaticMemberRangeAssignmentPersistent`: by instance, whatever the ids are.
            (
                5,
                &[("z", "instance1"), ("a", "instance2"), ("m", "instance3")],
                &[("z", 0..2), ("a", 2..4), ("m", 4..5)],
            ),
            (3, &[("a", ""), ("z", "x"), ("b", "")], &[("z", 0..1), ("a", 1..2), ("b", 2..3)]),
        ] {
            let given = members.iter().map(|(id, instance)| member(id, instance)).collect();
            let got: Vec<_> = range(given, partitions).into_iter().map(|(m, p)| (m.id.to_string(), p)).collect();
            let wanted: Vec<_> = shares.iter().map(|(id, range)| ((*id).to_owned(), range.clone().collect())).collect();
            assert_eq!(got, wanted, "{partitions} {members:?}");
        }
    }

    #[test]
    fn partitions_are_shown_in_runs() {
        for (partitions, text) in [
            (&[][..], "no partition"),
            (&[4], "partition 4"),
            (&[0, 1, 2], "partitions 0–2"),
            (&[0, 2, 3, 9], "partitions 0, 2–3, 9"),
        ] {
            assert_eq!(shown(partitions), text);
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let topic = TopicName(StrBytes::from_static_str("pingeon.logs"));
        let subscription = subscription(&topic, 6).unwrap();
        assert_eq!(subscribed(subscription.clone(), "pingeon.logs"), Ok(true));
        assert_eq!(subscribed(subscription, "pingeon"), Ok(false));
        assert_eq!(assigned(assignment(&topic, vec![4, 1, 4]).unwrap(), &topic), Ok(vec![1, 4]));
        assert_eq!(assigned(Bytes::new(), &topic), Ok(vec![]));
    }

    #[test]
    fn what_others_say_is_measured_before_it_is_read() {
        let topic = TopicName(StrBytes::from_static_str("t"));
        for (bytes, said) in [
            (&[][..], Ok(vec![])),
            (&[0], Err("no version")),
            (&[0, 9], Err("version 9")),
            (&[255, 255], Err("version -1")),
            (&[0, 0, 127, 255, 255, 255], Err("an array of 2147483647 at byte 4 of 4")),
            // Version 3 of a Java leader.
            (&[0, 3, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 5, 255, 255, 255, 255], Ok(vec![5])),
            (
                &[0, 3, 0, 0, 0, 1, 0, 1, b't', 127, 0, 0, 0, 0, 0, 0, 5, 255, 255, 255, 255],
                Err("an array of 2130706432 at byte 11 of 19"),
            ),
        ] {
            let read = assigned(Bytes::from_static(bytes), &topic);
            assert_eq!(read, said.map_err(str::to_owned), "{bytes:?}");
        }
        // Version 3 of a Java member: owned partitions, generation and rack.
        let java = [&[0, 3][..], &[0, 0, 0, 1, 0, 1, b't'], &[255; 4], &[0; 4], &[255; 4], &[255; 2]].concat();
        assert_eq!(subscribed(Bytes::from(java.clone()), "t"), Ok(true));
        assert_eq!(subscribed(Bytes::from(java[..9].to_vec()), "t"), Err("the end at byte 7 of 7".to_owned()));
    }
}
