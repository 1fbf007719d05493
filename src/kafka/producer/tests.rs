//! Against brokers that follow a script, and keep the numbers of a producer as real ones do.

use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    BrokerId, InitProducerIdResponse, MetadataRequest, MetadataResponse, ProducerId, TopicName,
};
use kafka_protocol::protocol::{Decodable, StrBytes};

use super::*;
use crate::kafka::api::Api;
use crate::kafka::fake::{Fake, access, answer, frame, request, versions};

const TOO_LARGE: i16 = 10;
const NOT_LEADER: i16 = 6;

/// What the cluster is said to be: where each node is, and who leads each partition.
type Cluster = Arc<Mutex<(Vec<String>, Vec<i32>)>>;

/// What was taken: partition, first number, number of records.
type Taken = Arc<Mutex<Vec<(i32, i32, i32)>>>;

/// What is said of a batch of so many bytes.
type Judge = fn(partition: i32, bytes: usize) -> i16;

fn metadata(cluster: &Cluster, version: i16) -> Option<Vec<u8>> {
    let (nodes, leaders) = cluster.lock().unwrap().clone();
    let brokers = nodes.iter().enumerate().map(|(at, address)| {
        let (host, port) = address.rsplit_once(':').unwrap();
        let broker = MetadataResponseBroker::default().with_node_id(BrokerId(at as i32 + 1));
        broker.with_host(StrBytes::from_string(host.to_owned())).with_port(port.parse().unwrap())
    });
    let partitions = leaders.iter().enumerate().map(|(at, leader)| {
        MetadataResponsePartition::default().with_partition_index(at as i32).with_leader_id(BrokerId(*leader))
    });
    let topic = MetadataResponseTopic::default().with_name(Some(name())).with_partitions(partitions.collect());
    answer(&MetadataResponse::default().with_brokers(brokers.collect()).with_topics(vec![topic]), version)
}

fn name() -> TopicName {
    TopicName(StrBytes::from_static_str("logs"))
}

fn speak(key: i16, version: i16, body: Bytes, cluster: &Cluster, taken: &Taken, judge: Judge) -> Option<Vec<u8>> {
    match key {
        MetadataRequest::KEY => metadata(cluster, version),
        InitProducerIdRequest::KEY => {
            answer(&InitProducerIdResponse::default().with_producer_id(ProducerId(7)), version)
        }
        ProduceRequest::KEY => produce(body, version, taken, judge),
        _ => None,
    }
}

/// Takes what comes next, and refuses what is out of order, as a broker that knows the producer does.
fn produce(mut body: Bytes, version: i16, taken: &Taken, judge: Judge) -> Option<Vec<u8>> {
    let asked = ProduceRequest::decode(&mut body, version).unwrap();
    let mut taken = taken.lock().unwrap();
    let partitions = asked.topic_data[0].partition_data.iter().map(|partition| {
        let bytes = partition.records.clone().unwrap();
        // Where a batch has its first number, and how many records follow.
        let (sequence, count) = ((&bytes[53..57]).get_i32(), (&bytes[57..61]).get_i32());
        let next = taken.iter().rev().find(|batch| batch.0 == partition.index).map(|batch| batch.1 + batch.2);
        let code = match judge(partition.index, bytes.len()) {
            0 if next.is_some_and(|next| next != sequence) => 45,
            code => code,
        };
        if code == 0 {
            taken.push((partition.index, sequence, count));
        }
        PartitionProduceResponse::default().with_index(partition.index).with_error_code(code)
    });
    let topic = TopicProduceResponse::default().with_name(name()).with_partition_responses(partitions.collect());
    answer(&ProduceResponse::default().with_responses(vec![topic]), version)
}

/// One broker that leads all partitions that have a leader.
fn broker(leaders: &[i32], judge: Judge) -> (Fake, Cluster, Taken) {
    let (cluster, taken) = (Cluster::default(), Taken::default());
    let (known, kept) = (cluster.clone(), taken.clone());
    let fake = Fake::start(move |key, version, body| speak(key, version, body, &known, &kept, judge));
    *cluster.lock().unwrap() = (vec![fake.address.clone()], leaders.to_vec());
    (fake, cluster, taken)
}

fn producer(fake: &Fake, batch_bytes: usize) -> Producer {
    let client = Client::new(access(vec![fake.address.clone()], None), "logs".to_owned());
    Producer::new(client, Compression::None, Arc::default()).with_batch_bytes(batch_bytes)
}

/// So many records of one partition of two.
fn records(partition: i32, count: usize, bytes: usize) -> Vec<Record> {
    let key = (0..).map(|n| format!("key-{n}").into_bytes()).find(|key| super::partition(key, 2) == partition).unwrap();
    (0..count).map(|_| Record { key: key.clone(), value: vec![b'x'; bytes], timestamp: -1 }).collect()
}

#[test]
fn many_batches_are_in_flight_and_there_in_order() {
    let (fake, _, taken) = broker(&[1, 1], |_, _| 0);
    let mut producer = producer(&fake, 500);
    for _ in 0..2 {
        assert_eq!(producer.send(&records(0, 90, 100)), Ok(vec![]));
    }
    let taken = taken.lock().unwrap();
    assert!(taken.len() > 20, "{taken:?}");
    assert_eq!(taken.iter().map(|batch| batch.2).sum::<i32>(), 180);
}

#[test]
fn what_was_in_flight_to_a_broker_that_moved_goes_again() {
    let (cluster, taken) = (Cluster::default(), Taken::default());
    let (known, nothing) = (cluster.clone(), Taken::default());
    // The first node leads partition 0 and closes when it is written to, once; the second one never answers that.
    let mut closed = false;
    let first = Fake::start(move |key, version, body| {
        if key == ProduceRequest::KEY && !std::mem::replace(&mut closed, true) {
            return None;
        }
        speak(key, version, body, &known, &nothing, |_, _| 0)
    });
    let mute = Fake::speaking(|mut socket| {
        while let Some((key, _, correlation, _)) = request(&mut socket) {
            if key != ProduceRequest::KEY {
                std::io::Write::write_all(&mut socket, &frame(correlation, &versions().unwrap())).unwrap();
            }
        }
    });
    let (known, kept) = (cluster.clone(), taken.clone());
    let moved = Fake::start(move |key, version, body| speak(key, version, body, &known, &kept, |_, _| 0));
    *cluster.lock().unwrap() = (vec![first.address.clone(), mute.address.clone()], vec![1, 2]);

    let all = [records(0, 2, 100), records(1, 40, 100)].concat();
    let mut producer = producer(&first, 500);
    producer.identity = Identity::Known(7, 0);
    // As if both brokers had taken something before.
    producer.sequences = [(0, (5, Instant::now())), (1, (5, Instant::now()))].into();
    assert!(matches!(producer.send(&all), Err(Error::Away(_))));
    cluster.lock().unwrap().0[1] = moved.address.clone();
    // As if the first answer had come before it fell silent, so that there is room for another request.
    let sending = producer.sending.as_mut().unwrap();
    let answered = sending.flights.get_mut(&2).unwrap().pop_front().unwrap().batches;
    sending.lanes.get_mut(&1).unwrap().answered(answered[0].1, 0, None);
    assert_eq!(producer.send(&all), Ok(vec![]));
    let (taken, first) = (taken.lock().unwrap(), 3);
    assert_eq!((taken[0].1, taken.iter().map(|batch| batch.2).sum::<i32>()), (5 + first, 40 - first), "{taken:?}");
}

#[test]
fn one_record_that_is_too_large_makes_no_other_batch_smaller() {
    let (fake, _, taken) = broker(&[1, 1], |_, bytes| if bytes > 50_000 { TOO_LARGE } else { 0 });
    let mut producer = producer(&fake, BATCH_BYTES_MAX);
    for _ in 0..6 {
        assert_eq!(producer.send(&records(0, 1, 60_000)).unwrap().len(), 1);
    }
    assert_eq!(producer.send(&records(0, 90, 400)), Ok(vec![]));
    assert_eq!(*taken.lock().unwrap(), [(0, 0, 90)]);
    // Several that are too large together are, until the topic may have another limit.
    assert_eq!(producer.send(&records(0, 900, 400)), Ok(vec![]));
    assert!(producer.room() < BATCH_BYTES_MAX);
    producer.smaller = producer.smaller.map(|(bytes, since)| (bytes, since.checked_sub(SMALLER_FOR).unwrap()));
    assert_eq!(producer.room(), BATCH_BYTES_MAX);
}

#[test]
fn a_partition_without_a_leader_holds_up_no_other() {
    let (fake, cluster, taken) = broker(&[1, -1], |_, _| 0);
    let all = [records(1, 10, 100), records(0, 10, 100)].concat();
    let mut producer = producer(&fake, BATCH_BYTES_MAX);
    let Err(Error::Code(5, what)) = producer.send(&all) else { panic!("it has a leader") };
    assert_eq!(what, "topic `logs`, partition 1: LeaderNotAvailable (5)");
    assert_eq!(*taken.lock().unwrap(), [(0, 0, 10)]);
    cluster.lock().unwrap().1 = vec![1, 1];
    assert_eq!(producer.send(&all), Ok(vec![]));
    assert_eq!(*taken.lock().unwrap(), [(0, 0, 10), (1, 0, 10)]);
}

#[test]
fn a_topic_made_anew_with_fewer_partitions_gets_all() {
    let (fake, cluster, taken) = broker(&[1, 1], |partition, _| if partition == 1 { NOT_LEADER } else { 0 });
    let all = records(1, 10, 100);
    let mut producer = producer(&fake, BATCH_BYTES_MAX);
    assert!(matches!(producer.send(&all), Err(Error::Code(NOT_LEADER, _))));
    cluster.lock().unwrap().1 = vec![1];
    assert_eq!(producer.send(&all), Ok(vec![]));
    assert_eq!(*taken.lock().unwrap(), [(0, 0, 10)]);
}

#[test]
fn a_broker_that_cannot_be_reached_holds_up_no_other() {
    let (fake, cluster, taken) = broker(&[1, 2], |_, _| 0);
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    // The one that is gone comes first.
    *cluster.lock().unwrap() = (vec![gone, fake.address.clone()], vec![1, 2]);
    let all = [records(0, 10, 100), records(1, 10, 100)].concat();
    let mut producer = producer(&fake, BATCH_BYTES_MAX);
    assert!(matches!(producer.send(&all), Err(Error::Away(_))));
    assert_eq!(*taken.lock().unwrap(), [(1, 0, 10)]);
    cluster.lock().unwrap().1 = vec![2, 2];
    assert_eq!(producer.send(&all), Ok(vec![]));
    assert_eq!(*taken.lock().unwrap(), [(1, 0, 10), (0, 0, 10)]);
}
