use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{FindCoordinatorResponse, OffsetCommitResponse};
use kafka_protocol::protocol::StrBytes;

use super::*;
use crate::jobs::Stop;
use crate::kafka::connection::Access;
use crate::kafka::fake::{Fake, answer};
use crate::kafka::figures::Figures;
use crate::kafka::partitioner::partition;
use crate::kafka::{Cluster, Compression, Consume as _, Produce, Record};
use crate::net::Net;

/// What a broker of the test does with a request.
enum Says {
    /// This, as the answer that it belongs to.
    Answer(Vec<u8>),
    /// These bytes, whatever they are.
    Raw(Vec<u8>),
    Nothing,
    Closes,
}

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const METADATA: i16 = 3;
const OFFSET_COMMIT: i16 = 8;
const OFFSET_FETCH: i16 = 9;
const FIND_COORDINATOR: i16 = 10;
const TOPIC: &str = "logs";

/// A broker that does what it is told. Its threads live as long as the test's process.
fn broker(says: impl FnMut(i16, &[u8]) -> Says + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let says = Arc::new(Mutex::new(says));
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let says = says.clone();
            std::thread::spawn(move || serve(connection, &mut |api, body| says.lock().unwrap()(api, body)));
        }
    });
    address
}

fn serve(mut connection: TcpStream, says: &mut dyn FnMut(i16, &[u8]) -> Says) -> Option<()> {
    loop {
        let mut length = [0; 4];
        connection.read_exact(&mut length).ok()?;
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        connection.read_exact(&mut request).ok()?;
        let mut read = Reader(&request);
        let (api, _version, correlation) = (read.number::<2>() as i16, read.number::<2>(), read.bytes(4).to_vec());
        read.text();
        match says(api, read.0) {
            Says::Answer(answer) => {
                let length = (answer.len() + 4) as u32;
                connection.write_all(&[&length.to_be_bytes()[..], &correlation, &answer].concat()).ok()?;
            }
            Says::Raw(bytes) => connection.write_all(&bytes).ok()?,
            Says::Nothing => {}
            Says::Closes => return None,
        }
    }
}

/// Reads what requests are made of.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes
    }
    fn number<const N: usize>(&mut self) -> i64 {
        self.bytes(N).iter().fold(0, |number, byte| number << 8 | i64::from(*byte))
    }
    fn text(&mut self) -> &'a str {
        let length = self.number::<2>() as usize;
        std::str::from_utf8(self.bytes(length)).unwrap()
    }
    fn blob(&mut self) -> &'a [u8] {
        let length = self.number::<4>() as usize;
        self.bytes(length)
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [&(items.len() as u32).to_be_bytes()[..], &items.concat()].concat()
}

fn numbers(numbers: &[i32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// Metadata v0: the topic's partitions with their leaders, -1 for none.
fn metadata(brokers: &[SocketAddr], partitions: &[(i32, i32)]) -> Says {
    let broker = |(node, at): (i32, &SocketAddr)| {
        [numbers(&[node]), text("127.0.0.1"), numbers(&[i32::from(at.port())])].concat()
    };
    let brokers: Vec<_> = (0..).zip(brokers).map(broker).collect();
    let partition = |(id, leader): &(i32, i32)| [vec![0, 0], numbers(&[*id, *leader, 0, 0])].concat();
    let partitions: Vec<_> = partitions.iter().map(partition).collect();
    let topic = [vec![0, 0], text(TOPIC), list(&partitions)].concat();
    Says::Answer([list(&brokers), list(&[topic])].concat())
}

/// The partitions of a produce request and the values of each.
fn produced(body: &[u8]) -> Vec<(i32, Vec<String>)> {
    let mut read = Reader(body);
    let (acks, _timeout) = (read.number::<2>() as i16, read.number::<4>());
    assert_eq!((acks, read.number::<4>(), read.text()), (-1, 1, TOPIC));
    let partition = |read: &mut Reader<'_>| {
        let (index, mut set) = (read.number::<4>() as i32, Reader(read.blob()));
        let mut values = Vec::new();
        while !set.0.is_empty() {
            set.number::<8>();
            let mut message = Reader(set.blob());
            let (_checksum_magic_attributes, _key) = (message.bytes(6), message.blob());
            values.push(String::from_utf8(message.blob().to_vec()).unwrap());
        }
        (index, values)
    };
    (0..read.number::<4>()).map(|_| partition(&mut read)).collect()
}

/// The answer: an error code for each partition.
fn confirmed(partitions: &[(i32, i16)]) -> Says {
    let partition = |(index, code): &(i32, i16)| [numbers(&[*index]), code.to_be_bytes().to_vec(), vec![0; 8]].concat();
    let partitions: Vec<_> = partitions.iter().map(partition).collect();
    Says::Answer(list(&[[text(TOPIC), list(&partitions)].concat()]))
}

fn access(brokers: &[SocketAddr]) -> Access {
    let brokers = brokers.iter().map(ToString::to_string).collect();
    Access { cluster: Cluster { brokers, tls: None, sasl: None }, net: Arc::new(Net::system()), stop: Stop::default() }
}

fn producer(brokers: &[SocketAddr]) -> (LegacyProducer, Arc<Figures>) {
    let figures = Arc::new(Figures::default());
    (LegacyProducer::new(&access(brokers), TOPIC, Compression::None, figures.clone()).unwrap(), figures)
}

/// A record of partition `lies_in` of two.
fn record(lies_in: i32, value: &str) -> Record {
    let key = (0_u8..).map(|n| vec![n]).find(|key| partition(key, 2) == lies_in).unwrap();
    Record { key, value: value.into(), timestamp: 0 }
}

type Seen = Arc<Mutex<Vec<(i32, Vec<String>)>>>;

/// Two brokers that lead a partition each and note what they are sent; `codes`: what they say to it, one after the other, and
/// then that all is well.
fn pair(codes: [Vec<i16>; 2]) -> ([SocketAddr; 2], Seen) {
    let (seen, addresses) = (Seen::default(), Arc::new(Mutex::new(Vec::new())));
    let both = [0, 1].map(|node: usize| {
        let (seen, addresses, mut codes) = (seen.clone(), addresses.clone(), VecDeque::from(codes[node].clone()));
        broker(move |api, body| match api {
            METADATA => metadata(&addresses.lock().unwrap(), &[(0, 0), (1, 1)]),
            PRODUCE => {
                let batches = produced(body);
                let answer: Vec<_> =
                    batches.iter().map(|(index, _)| (*index, codes.pop_front().unwrap_or(0))).collect();
                seen.lock().unwrap().extend(batches);
                confirmed(&answer)
            }
            _ => Says::Closes,
        })
    });
    *addresses.lock().unwrap() = both.to_vec();
    (both, seen)
}

fn seen(seen: &Seen) -> Vec<(i32, String)> {
    let mut batches: Vec<_> = std::mem::take(&mut *seen.lock().unwrap())
        .into_iter()
        .map(|(index, values)| (index, values.join(" ")))
        .collect();
    // Each partition's in their order; which broker comes first is left open.
    batches.sort_by_key(|(index, _)| *index);
    batches
}

fn sent(batches: &[(i32, &str)]) -> Vec<(i32, String)> {
    batches.iter().map(|(index, values)| (*index, (*values).to_owned())).collect()
}

const NOT_LEADER: i16 = 6;
const TOO_LARGE: i16 = 10;

#[test]
fn after_an_error_only_what_is_not_confirmed_goes_again() {
    let (brokers, got) = pair([vec![], vec![NOT_LEADER, NOT_LEADER]]);
    let (mut producer, figures) = producer(&brokers);
    let records = [record(0, "a"), record(1, "b"), record(0, "c"), record(1, "d")];
    let refused_by = |said: Result<_, Error>| match said {
        Err(Error::Code(code, what)) => (code, what),
        other => panic!("{other:?}"),
    };
    let what = "topic `logs`, partition 1: NotLeaderOrFollower (6)".to_owned();
    assert_eq!(refused_by(producer.send(&records)), (NOT_LEADER, what));
    assert_eq!(seen(&got), sent(&[(0, "a c"), (1, "b d")]));
    assert_eq!(refused_by(producer.send(&records)).0, NOT_LEADER);
    assert_eq!(seen(&got), sent(&[(1, "b d")]));
    assert_eq!(producer.send(&records), Ok(vec![]));
    assert_eq!(seen(&got), sent(&[(1, "b d")]));
    assert_eq!(producer.send(&records), Ok(vec![]), "they are new again");
    assert_eq!(seen(&got), sent(&[(0, "a c"), (1, "b d")]));
    assert_eq!((figures.batches.load(Relaxed), figures.retries.load(Relaxed)), (4, 2));
}

#[test]
fn others_that_are_given_after_an_error_are_sent_whole() {
    let (brokers, got) = pair([vec![], vec![NOT_LEADER]]);
    let mut producer = producer(&brokers).0;
    assert!(producer.send(&[record(0, "a"), record(1, "b")]).is_err());
    assert_eq!(producer.send(&[record(0, "a"), record(1, "c")]), Ok(vec![]));
    assert_eq!(seen(&got), sent(&[(0, "a"), (0, "a"), (1, "b"), (1, "c")]));
}

#[test]
fn a_batch_too_large_is_halved_and_a_record_too_large_refused() {
    // a b c d, then a b: there; then c d, c, d.
    let (brokers, got) = pair([vec![TOO_LARGE, 0, TOO_LARGE, 0, TOO_LARGE], vec![]]);
    let (mut producer, figures) = producer(&brokers);
    let records = ["a", "b", "c", "d"].map(|value| record(0, value));
    let refused = producer.send(&records).unwrap();
    assert_eq!(refused.iter().map(|refusal| refusal.index).collect::<Vec<_>>(), [3]);
    assert!(refused[0].reason.contains("`max.message.bytes`"), "{refused:?}");
    assert_eq!(seen(&got), sent(&[(0, "a b c d"), (0, "a b"), (0, "c d"), (0, "c"), (0, "d")]));
    assert_eq!(figures.refusals.load(Relaxed), 1);
}

#[test]
fn a_batch_takes_no_more_than_its_bytes() {
    let (brokers, got) = pair([vec![], vec![]]);
    let large = "x".repeat(400_000);
    let records = [0, 1, 2].map(|_| record(0, &large));
    assert_eq!(producer(&brokers).0.send(&records), Ok(vec![]));
    assert_eq!(seen(&got).iter().map(|(_, values)| values.len()).collect::<Vec<_>>(), [800_001, 400_000]);
}

#[test]
fn a_partition_without_leader_holds_up_itself_alone() {
    let got = Seen::default();
    let (noted, own) = (got.clone(), Arc::new(Mutex::new(Vec::new())));
    let known = own.clone();
    let address = broker(move |api, body| match api {
        METADATA => metadata(&known.lock().unwrap(), &[(0, 0), (1, -1)]),
        _ => {
            noted.lock().unwrap().extend(produced(body));
            confirmed(&[(0, 0)])
        }
    });
    own.lock().unwrap().push(address);
    let mut producer = producer(&[address]).0;
    let said = producer.send(&[record(1, "b"), record(0, "a")]);
    assert!(matches!(&said, Err(Error::Code(5, what)) if what.contains("partition 1")), "{said:?}");
    assert_eq!(seen(&got), sent(&[(0, "a")]));
}

#[test]
fn a_topic_made_anew_with_fewer_partitions_gets_all_of_them_again() {
    let got = Seen::default();
    let (noted, own, asked) = (got.clone(), Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
    let known = own.clone();
    let address = broker(move |api, body| match api {
        METADATA => {
            let mut asked = asked.lock().unwrap();
            *asked += 1;
            metadata(&known.lock().unwrap(), &[(0, 0), (1, 0)][..if *asked < 3 { 2 } else { 1 }])
        }
        _ => {
            let batches = produced(body);
            let answer: Vec<_> =
                batches.iter().map(|(index, _)| (*index, if *index == 0 { 0 } else { NOT_LEADER })).collect();
            noted.lock().unwrap().extend(batches);
            confirmed(&answer)
        }
    });
    own.lock().unwrap().push(address);
    let mut producer = producer(&[address]).0;
    let records = [record(0, "a"), record(1, "b")];
    let mut tries = 1;
    while producer.send(&records).is_err() {
        assert!(tries < 9, "it goes on asking for a partition that is gone");
        tries += 1;
    }
    let got = seen(&got);
    assert_eq!(got.iter().find(|(_, values)| values == "a b").map(|(index, _)| *index), Some(0), "{got:?}");
}

#[test]
fn a_topic_that_is_not_there_comes_with_the_command_that_makes_it() {
    let address = broker(|_, _| metadata(&[], &[]));
    let said = producer(&[address]).0.send(&[record(0, "a")]);
    assert!(matches!(&said, Err(Error::Code(3, what)) if what.contains("kafka-topics.sh")), "{said:?}");
}

#[test]
fn what_is_no_broker_is_an_error_within_its_time() {
    let raw = |bytes: &[u8]| Says::Raw(bytes.to_vec());
    type Speaks = fn(&dyn Fn(&[u8]) -> Says) -> Says;
    let table: [(&str, Speaks, &str); 8] = [
        ("closes", |_| Says::Closes, "closed the connection or broke off its answer"),
        ("says nothing", |_| Says::Nothing, "not connected and answered within"),
        ("cuts its answer", |raw| raw(&[0, 0, 0, 9, 1]), "not connected and answered within"),
        ("claims less than nothing", |raw| raw(&[0xff; 8]), "panicked"),
        ("claims more than there is", |raw| raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "not connected and answered"),
        ("claims no bytes", |raw| raw(&[0; 8]), "broke off its answer"),
        ("answers with noise", |_| Says::Answer(vec![1; 30]), "sent what is no answer"),
        ("numbers its partitions wrong", |_| metadata(&[], &[(7, 0)]), "panicked"),
    ];
    for (name, speaks, expected) in table {
        let address = broker(move |_, _| speaks(&raw));
        let mut producer = producer(&[address]).0;
        producer.client.call_max = Duration::from_millis(300);
        let begun = Instant::now();
        match producer.send(&[record(0, "a")]) {
            Err(Error::Away(what) | Error::Garbage(what)) => assert!(what.contains(expected), "{name}: {what}"),
            other => panic!("{name}: {other:?}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{name}");
    }
}

#[test]
fn calls_that_hang_are_bounded() {
    let silent = broker(|_, _| Says::Nothing);
    let mut producer = producer(&[silent]).0;
    producer.client.call_max = Duration::from_millis(1);
    let said: Vec<String> = (0..10).map(|_| producer.send(&[record(0, "a")]).unwrap_err().to_string()).collect();
    let begun = said.iter().filter(|what| what.contains("not connected and answered")).count();
    assert_eq!((begun, said[9].contains("8 calls hang")), (8, true), "{said:?}");
}

#[test]
fn told_to_stop_it_waits_for_nobody() {
    let silent = broker(|_, _| Says::Nothing);
    let access = access(&[silent]);
    let stop = access.stop.clone();
    let mut producer = LegacyProducer::new(&access, TOPIC, Compression::None, Arc::default()).unwrap();
    let stops = std::thread::spawn(move || stop.set());
    assert_eq!(producer.send(&[record(0, "a")]), Err(Error::Stopped));
    assert_eq!(producer.send(&[record(0, "a")]), Err(Error::Stopped));
    stops.join().unwrap();
}

#[test]
fn one_that_does_not_answer_is_not_asked_first_again() {
    let (live, got) = pair([vec![], vec![]]);
    let silent = broker(|_, _| Says::Nothing);
    let mut producer = producer(&[silent, live[0]]).0;
    producer.client.call_max = Duration::from_millis(300);
    let records = [record(0, "a")];
    assert!(matches!(producer.send(&records), Err(Error::Away(_))));
    producer.client.call_max = CALL_MAX;
    assert_eq!((producer.send(&records), seen(&got)), (Ok(vec![]), sent(&[(0, "a")])));
}

#[test]
fn nobody_there_is_said_of_each() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = producer(&[nobody, nobody]).0.send(&[record(0, "a")]).unwrap_err().to_string();
    let each = format!("broker {nobody}: Connection refused (os error 111)");
    assert_eq!(said, format!("{each}; {each}"));
}

#[test]
fn what_the_crate_has_not_is_refused() {
    let said = LegacyProducer::new(&access(&[]), TOPIC, Compression::Lz4, Arc::default()).err();
    assert_eq!(said, Some(Error::Unusable("the `kafka` crate has no lz4; use `client: native`".to_owned())));
}

/// A message set of version 0 with one message.
fn message_set(offset: i64, value: &str) -> Vec<u8> {
    let content = [&[0, 0, 0xff, 0xff, 0xff, 0xff][..], &(value.len() as u32).to_be_bytes(), value.as_bytes()].concat();
    let mut checksum = flate2::Crc::new();
    checksum.update(&content);
    let size = content.len() as u32 + 4;
    [&offset.to_be_bytes()[..], &size.to_be_bytes(), &checksum.sum().to_be_bytes(), &content].concat()
}

#[test]
fn offsets_at_the_end_of_what_there_is_are_no_panic() {
    let own = Arc::new(Mutex::new(Vec::new()));
    let known = own.clone();
    let of_topic = |partition: Vec<u8>| list(&[[text(TOPIC), list(&[partition])].concat()]);
    let address: SocketAddr = broker(move |api, _| match api {
        METADATA => metadata(&known.lock().unwrap(), &[(0, 0)]),
        FIND_COORDINATOR => {
            let port = i32::from(known.lock().unwrap()[0].port());
            Says::Answer([vec![0, 0], numbers(&[0]), text("127.0.0.1"), numbers(&[port])].concat())
        }
        OFFSET_FETCH => {
            let next = (i64::MAX - 1).to_be_bytes();
            Says::Answer(of_topic([&[0; 4][..], &next, &text(""), &[0, 0]].concat()))
        }
        FETCH => {
            let (end, set) = (i64::MIN.to_be_bytes(), message_set(i64::MAX, "last"));
            Says::Answer(of_topic([&[0; 6][..], &end, &numbers(&[set.len() as i32]), &set].concat()))
        }
        _ => Says::Closes,
    });
    own.lock().unwrap().push(address);
    let figures = Arc::new(Figures::default());
    let mut consumer = LegacyConsumer::new(&access(&[address]), TOPIC, "group", figures.clone()).unwrap();
    let said = consumer.poll(Duration::ZERO, 10).unwrap();
    assert_eq!(said.iter().map(|message| message.offset).collect::<Vec<_>>(), [i64::MAX]);
    assert_eq!(figures.lag()[&0], 0);
}

#[test]
fn brokers_that_swallow_packets_cost_their_time_together() {
    // Its queue is full, so the system drops whoever knocks.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut queue = Vec::new();
    while let Ok(waiting) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queue.push(waiting);
    }
    let (brokers, begun) = ([0; 3].map(|_| address.to_string()), Instant::now());
    let said = client::unreached(&kafka::Error::NoHostReachable, &brokers, Duration::from_millis(300)).to_string();
    assert_eq!(said.matches("timed out").count(), 3, "{said}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

const NOT_COORDINATOR: i16 = 16;

/// A broker that both clients can ask, and what it answers to one commit after the other; `None`: it closes the connection.
fn coordinator(commits: Vec<Option<i16>>) -> Fake {
    let (mut commits, own) = (commits.into_iter(), Arc::new(Mutex::new(None::<SocketAddr>)));
    let known = own.clone();
    let fake = Fake::start(move |api, version, _| match (api, version) {
        (METADATA, 0) => match metadata(&[known.lock().unwrap().unwrap()], &[(0, 0)]) {
            Says::Answer(answer) => Some(answer),
            _ => None,
        },
        (FIND_COORDINATOR, _) => {
            let port = known.lock().unwrap().unwrap().port();
            let found = FindCoordinatorResponse::default();
            answer(&found.with_host(StrBytes::from_static_str("127.0.0.1")).with_port(port.into()), version)
        }
        (OFFSET_COMMIT, _) => {
            let partition = OffsetCommitResponsePartition::default()
                .with_error_code(commits.next().unwrap_or(Some(NOT_COORDINATOR))?);
            let topic = OffsetCommitResponseTopic::default().with_name(StrBytes::from_static_str(TOPIC).into());
            // Version 1 of the crate is the same.
            answer(
                &OffsetCommitResponse::default().with_topics(vec![topic.with_partitions(vec![partition])]),
                version.max(2),
            )
        }
        _ => None,
    });
    *own.lock().unwrap() = Some(fake.address.parse().unwrap());
    fake
}

fn consumer(fake: &Fake) -> LegacyConsumer {
    LegacyConsumer::new(&access(&[fake.address.parse().unwrap()]), TOPIC, "group", Arc::default()).unwrap()
}

fn commits(fake: &Fake) -> usize {
    fake.asked().iter().filter(|api| **api == OFFSET_COMMIT).count()
}

#[test]
fn a_commit_ends_while_the_coordinator_is_away_and_is_not_made_later() {
    let fake = coordinator(vec![Some(NOT_COORDINATOR), Some(0)]);
    let mut consumer = consumer(&fake);
    match consumer.commit(&[(0, 5)]) {
        Err(Error::Code(NOT_COORDINATOR, what)) => assert!(what.contains("group `group`"), "{what}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(commits(&fake), 1);
    assert_eq!((consumer.commit(&[(0, 6)]), commits(&fake)), (Ok(()), 2));
}

#[test]
fn a_connection_that_was_closed_in_the_meantime_is_made_anew_for_a_commit() {
    let fake = coordinator(vec![Some(0), None, Some(0), None, None]);
    let mut consumer = consumer(&fake);
    assert_eq!((consumer.commit(&[(0, 5)]), commits(&fake)), (Ok(()), 1));
    assert_eq!((consumer.commit(&[(0, 6)]), commits(&fake)), (Ok(()), 3));
    assert!(matches!(consumer.commit(&[(0, 7)]), Err(Error::Away(_))));
    assert_eq!(commits(&fake), 5);
}
