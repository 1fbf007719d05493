use std::sync::{Arc, Mutex};

use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{ApiVersionsResponse, BrokerId, FindCoordinatorResponse};

use super::super::fake::{Fake, access, answer};
use super::*;

const TOPIC: &str = "pingeon.logs";

fn client(brokers: &[&Fake]) -> Client {
    let brokers = brokers.iter().map(|fake| fake.address.clone()).collect();
    Client::new(access(brokers, None), TOPIC.to_owned())
}

/// What a cluster says of itself: its brokers by node id, and the leaders of the topic's partitions in order.
fn metadata(brokers: &[(i32, &str)], leaders: &[i32]) -> MetadataResponse {
    let broker = |(node, peer): &(i32, &str)| {
        let (host, port) = peer.rsplit_once(':').unwrap();
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(*node))
            .with_host(StrBytes::from_string(host.to_owned()))
            .with_port(port.parse().unwrap())
    };
    let partitions = leaders.iter().enumerate().map(|(index, leader)| {
        MetadataResponsePartition::default().with_partition_index(index as i32).with_leader_id(BrokerId(*leader))
    });
    let topic = MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_static_str(TOPIC))))
        .with_partitions(partitions.collect());
    MetadataResponse::default().with_brokers(brokers.iter().map(broker).collect()).with_topics(vec![topic])
}

/// A broker that says this of the cluster, whatever it is by then.
fn saying(said: &Arc<Mutex<MetadataResponse>>) -> Fake {
    let said = said.clone();
    Fake::start(move |key, version, _| (key == 3).then(|| answer(&*said.lock().unwrap(), version))?)
}

fn shared(said: MetadataResponse) -> Arc<Mutex<MetadataResponse>> {
    Arc::new(Mutex::new(said))
}

#[test]
fn the_next_broker_answers_for_a_dead_one_which_costs_its_time_once() {
    let dead = Fake::start(|_, _, _| None);
    let alive = saying(&shared(metadata(&[], &[7, -1])));
    let mut client = client(&[&dead, &alive]);
    assert_eq!(client.partitions(), Ok(2));
    assert_eq!((client.leader(0), client.leader(1), client.leader(2), client.leader(-1)), (Some(7), None, None, None));
    client.refresh().unwrap();
    assert_eq!(dead.asked(), [18, 3], "it is not asked again");
    assert_eq!(alive.asked(), [18, 3, 18, 3]);
}

#[test]
fn when_nobody_answers_each_says_why() {
    let (closes, empty) = (Fake::start(|_, _, _| None), Fake::start(|_, _, _| Some(Vec::new())));
    let error = client(&[&closes, &empty]).partitions().unwrap_err();
    let Error::Away(what) = error else { panic!("{error:?}") };
    let (first, second) = what.split_once("; broker ").unwrap();
    assert!(first.contains(&closes.address) && first.contains("closed the connection after Metadata"), "{what}");
    assert!(second.contains(&empty.address) && second.contains("no answer"), "{what}");
}

#[test]
fn a_port_of_another_kind_is_passed_over_and_told_when_there_is_no_other() {
    // A controller's: it speaks ApiVersions, and no Metadata.
    let controller = Fake::start(|_, version, _| answer(&ApiVersionsResponse::default(), version));
    let broker = saying(&shared(metadata(&[], &[1])));
    assert_eq!(client(&[&controller, &broker]).partitions(), Ok(1));
    let what = format!("broker {} does not know Metadata", controller.address);
    assert_eq!(client(&[&controller]).partitions(), Err(Error::Unusable(what)));
}

#[test]
fn an_advertised_address_that_cannot_be_reached_is_named_with_what_to_set() {
    let said = shared(metadata(&[(3, "127.0.0.1:1")], &[3, 4]));
    let broker = saying(&said);
    let mut client = client(&[&broker]);
    client.partitions().unwrap();
    let Err(Error::Away(what)) = client.broker(3) else { panic!("it is connected") };
    assert!(what.starts_with("broker 127.0.0.1:1: "), "{what}");
    assert!(what.ends_with(
        "; the cluster advertises broker 3 as `127.0.0.1:1`: set its `advertised.listeners` to what this host can reach"
    ), "{what}");
    let unknown = client.broker(4).unwrap_err();
    assert_eq!(unknown, Error::Away("broker 4 is not known to the cluster any more".to_owned()));
}

#[test]
fn a_broker_that_moved_is_connected_anew() {
    let said = shared(metadata(&[], &[1]));
    let (old, new) = (saying(&said), saying(&said));
    *said.lock().unwrap() = metadata(&[(1, &old.address)], &[1]);
    let mut client = client(&[&old]);
    client.partitions().unwrap();
    assert_eq!(client.broker(1).unwrap().peer(), old.address);
    *said.lock().unwrap() = metadata(&[(1, &new.address)], &[1, 1]);
    client.doubt();
    assert_eq!(client.partitions(), Ok(2));
    assert!(client.connections().is_empty(), "the old connection is closed");
    assert_eq!(client.broker(1).unwrap().peer(), new.address);
}

#[test]
fn what_cannot_be_the_topic_is_refused() {
    for (name, leaders, spoil, told) in [
        (
            "no topic",
            &[1][..],
            (|said| said.topics.clear()) as fn(&mut MetadataResponse),
            "no broker tells of topic `pingeon.logs`",
        ),
        (
            "another topic",
            &[1],
            |said| said.topics[0].name = Some(TopicName(StrBytes::from_static_str("other"))),
            "no broker tells of topic `pingeon.logs`",
        ),
        ("no partition", &[], |_| {}, "topic `pingeon.logs` with 0 partitions"),
        (
            "a partition beyond",
            &[1, 1],
            |said| said.topics[0].partitions[1].partition_index = 2,
            "topic `pingeon.logs` has partition 2 of 2",
        ),
        (
            "a partition before",
            &[1, 1],
            |said| said.topics[0].partitions[1].partition_index = -1,
            "topic `pingeon.logs` has partition -1 of 2",
        ),
    ] {
        let mut said = metadata(&[], leaders);
        spoil(&mut said);
        let broker = saying(&shared(said));
        assert_eq!(client(&[&broker]).partitions(), Err(Error::Garbage(told.to_owned())), "{name}");
    }
}

#[test]
fn what_a_broker_refuses_is_told_with_what_to_do() {
    for (code, told) in [
        (
            3,
            "topic `pingeon.logs` does not exist; make it: `kafka-topics.sh --bootstrap-server PEER --create --topic pingeon.logs --partitions 6 --replication-factor 3` (1 where there is one broker)",
        ),
        (
            29,
            "not authorised for topic `pingeon.logs`; this user needs the right to describe it, and to read or write it",
        ),
        (17, "`pingeon.logs` is no name of a topic: up to 249 letters, digits, `.`, `_` and `-`"),
        (5, "topic `pingeon.logs`: LeaderNotAvailable (5)"),
        (999, "topic `pingeon.logs`: Unknown error code: 999 (999)"),
    ] {
        let mut said = metadata(&[], &[]);
        said.topics[0].error_code = code;
        let broker = saying(&shared(said));
        let error = client(&[&broker]).partitions();
        assert_eq!(error, Err(Error::Code(code, told.replace("PEER", &broker.address))));
    }
}

#[test]
fn the_coordinator_is_where_the_cluster_says() {
    let coordinator = Fake::start(|_, _, _| None);
    let (host, port) = coordinator.address.rsplit_once(':').unwrap();
    let found = FindCoordinatorResponse::default()
        .with_node_id(BrokerId(2))
        .with_host(StrBytes::from_string(host.to_owned()))
        .with_port(port.parse().unwrap());
    let denied = FindCoordinatorResponse::default().with_error_code(30);
    let answers = Mutex::new(vec![denied, found]);
    let broker =
        Fake::start(move |key, version, _| (key == 10).then(|| answer(&answers.lock().unwrap().pop()?, version))?);
    let mut client = client(&[&broker]);
    assert_eq!(client.coordinator("g").unwrap().peer(), coordinator.address);
    let error = client.coordinator("g").unwrap_err();
    let told = "not authorised for consumer group `g`; this user needs the right to read it";
    assert_eq!(error, Error::Code(30, told.to_owned()));
}

#[test]
fn addresses_are_written_as_they_are_read() {
    for (host, port, written) in [
        ("kafka-1", 9092, "kafka-1:9092"),
        ("192.0.2.7", 1, "192.0.2.7:1"),
        ("2001:db8::7", 9092, "[2001:db8::7]:9092"),
    ] {
        assert_eq!(address(host, port), written);
    }
}

#[test]
fn who_is_told_to_stop_asks_nobody() {
    let broker = saying(&shared(metadata(&[], &[1])));
    let mut client = client(&[&broker]);
    client.access().stop.set();
    assert_eq!(client.partitions(), Err(Error::Stopped));
    assert!(broker.asked().is_empty());
}
