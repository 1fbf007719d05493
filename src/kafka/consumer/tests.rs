//! A broker that leads everything and is the coordinator of a group of one.

use std::sync::Mutex;
use std::sync::atomic::AtomicI32;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{OffsetFetchResponsePartition, OffsetFetchResponseTopic};
use kafka_protocol::messages::{
    BrokerId, FetchRequest, FetchResponse, FindCoordinatorResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupResponse, MetadataResponse, OffsetCommitResponse, OffsetFetchResponse, SyncGroupRequest,
    SyncGroupResponse, TopicName,
};
use kafka_protocol::protocol::{Decodable as _, StrBytes};

use super::*;
use crate::kafka::fake::{Fake, access, answer};
use crate::kafka::records::{Stamp, encode};
use crate::kafka::{Compression, Record};

const TOPIC: &str = "t";

/// Answers what a consumer asks. There are always messages, in every partition.
struct Broker {
    partitions: AtomicI32,
    /// Its own, as soon as that is known.
    address: Mutex<String>,
    generation: AtomicI32,
}

impl Broker {
    fn start(partitions: i32) -> (Arc<Self>, Fake) {
        let (partitions, generation) = (AtomicI32::new(partitions), AtomicI32::new(0));
        let broker = Arc::new(Broker { partitions, address: Mutex::default(), generation });
        let fake = Fake::start({
            let broker = broker.clone();
            move |key, version, body| broker.answer(key, version, body)
        });
        broker.address.lock().unwrap().clone_from(&fake.address);
        (broker, fake)
    }

    fn answer(&self, key: i16, version: i16, mut body: Bytes) -> Option<Vec<u8>> {
        let topic = TopicName(StrBytes::from_static_str(TOPIC));
        let address = self.address.lock().unwrap().clone();
        let (host, port) = address.rsplit_once(':')?;
        let (host, port) = (StrBytes::from_string(host.to_owned()), port.parse().ok()?);
        match key {
            1 => {
                let asked = FetchRequest::decode(&mut body, version).ok()?;
                let answers =
                    asked.topics[0].partitions.iter().map(|asked| messages(asked.partition, asked.fetch_offset));
                let topic = FetchableTopicResponse::default().with_topic(topic).with_partitions(answers.collect());
                answer(&FetchResponse::default().with_responses(vec![topic]), version)
            }
            3 => {
                let partitions = (0..self.partitions.load(Relaxed)).map(|index| {
                    MetadataResponsePartition::default().with_partition_index(index).with_leader_id(BrokerId(0))
                });
                let topic =
                    MetadataResponseTopic::default().with_name(Some(topic)).with_partitions(partitions.collect());
                let broker =
                    MetadataResponseBroker::default().with_node_id(BrokerId(0)).with_host(host).with_port(port);
                answer(&MetadataResponse::default().with_brokers(vec![broker]).with_topics(vec![topic]), version)
            }
            8 => {
                let partitions = vec![OffsetCommitResponsePartition::default()];
                let topic = OffsetCommitResponseTopic::default().with_name(topic).with_partitions(partitions);
                answer(&OffsetCommitResponse::default().with_topics(vec![topic]), version)
            }
            9 => answer(&OffsetFetchResponse::default().with_topics(self.committed(topic)), version),
            10 => answer(&FindCoordinatorResponse::default().with_host(host).with_port(port), version),
            11 => {
                let asked = JoinGroupRequest::decode(&mut body, version).ok()?;
                let (member, metadata) = (StrBytes::from_static_str("m"), asked.protocols[0].metadata.clone());
                let one = JoinGroupResponseMember::default().with_member_id(member.clone()).with_metadata(metadata);
                let joined = JoinGroupResponse::default()
                    .with_generation_id(self.generation.fetch_add(1, Relaxed))
                    .with_protocol_name(Some(asked.protocols[0].name.clone()))
                    .with_leader(member.clone())
                    .with_member_id(member)
                    .with_members(vec![one]);
                answer(&joined, version)
            }
            13 => answer(&LeaveGroupResponse::default(), version),
            14 => {
                let asked = SyncGroupRequest::decode(&mut body, version).ok()?;
                let assignment = asked.assignments[0].assignment.clone();
                answer(&SyncGroupResponse::default().with_assignment(assignment), version)
            }
            _ => None,
        }
    }

    fn committed(&self, topic: TopicName) -> Vec<OffsetFetchResponseTopic> {
        let partitions = (0..self.partitions.load(Relaxed))
            .map(|index| OffsetFetchResponsePartition::default().with_partition_index(index).with_committed_offset(0));
        vec![OffsetFetchResponseTopic::default().with_name(topic).with_partitions(partitions.collect())]
    }
}

/// One message from `offset` on, and many behind it.
fn messages(partition: i32, offset: i64) -> PartitionData {
    let record = Record { key: b"k".to_vec(), value: b"v".to_vec(), timestamp: -1 };
    let mut bytes = BytesMut::new();
    let stamp = Stamp { producer_id: -1, epoch: 0, sequence: 0 };
    encode([&record].into_iter(), stamp, Compression::None, &mut bytes).unwrap();
    bytes[..8].copy_from_slice(&offset.to_be_bytes());
    PartitionData::default()
        .with_partition_index(partition)
        .with_high_watermark(1 << 40)
        .with_last_stable_offset(1 << 40)
        .with_records(Some(bytes.freeze()))
}

#[test]
fn who_has_a_backlog_reads_new_partitions_too() {
    let (broker, fake) = Broker::start(1);
    let (client, figures) = (Client::new(access(vec![fake.address.clone()], None), TOPIC.to_owned()), Arc::default());
    let mut consumer = Consumer::new(client, Settings::new("g".to_owned()), figures);
    let polled = |consumer: &mut Consumer| {
        let messages = consumer.poll(Duration::from_secs(10), 1).unwrap();
        let done: Vec<(i32, i64)> = messages.iter().map(|message| (message.partition, message.offset + 1)).collect();
        consumer.commit(&done).unwrap();
        done.first().map(|(partition, _)| *partition)
    };
    for _ in 0..5 {
        assert_eq!(polled(&mut consumer), Some(0));
    }
    broker.partitions.store(2, Relaxed);
    // As what is known gets old.
    consumer.client.doubt();
    let partitions: Vec<Option<i32>> = (0..50).map(|_| polled(&mut consumer)).collect();
    assert!(partitions.contains(&Some(1)), "{partitions:?}");
    assert_eq!(consumer.figures.rebalances.load(Relaxed), 2, "shared out anew once");
    assert!(!partitions.contains(&None), "with nothing in hand, none is brought: {partitions:?}");
}
