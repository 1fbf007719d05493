//! A broker that follows a script stands in for those that do what real ones do once a year.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ProducerId;
use kafka_protocol::messages::fetch_response::AbortedTransaction;
use proptest::collection::vec;
use proptest::prelude::*;

use super::place::Taken;
use super::*;
use crate::kafka::connection::Access;
use crate::kafka::records::{OVERHEAD, Stamp, encode};
use crate::kafka::{Cluster, Compression, Record};
use crate::net::Net;

const TOPIC: &str = "t";
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

fn record(key: &[u8], value: &str) -> Record {
    Record { key: key.to_vec(), value: value.as_bytes().to_vec(), timestamp: -1 }
}

/// A batch whose first offset is `base`, with other attributes than ours have.
fn batch_of(base: i64, producer_id: i64, attributes: i16, records: &[Record]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    encode(records.iter(), Stamp { producer_id, epoch: 0, sequence: 0 }, Compression::None, &mut bytes).unwrap();
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.to_vec()
}

/// One whose messages say where they lie.
fn batch(base: i64, count: i64) -> Vec<u8> {
    batch_of(base, -1, 0, &values(base, count))
}

fn values(base: i64, count: i64) -> Vec<Record> {
    (base..base + count).map(|offset| record(b"k", &offset.to_string())).collect()
}

/// The end of a transaction.
fn marker(offset: i64, producer_id: i64, commit: bool) -> Vec<u8> {
    batch_of(offset, producer_id, TRANSACTIONAL | CONTROL, &[record(&[0, 0, 0, u8::from(commit)], "")])
}

/// One that says something else than its checksum.
fn broken(base: i64, count: i64) -> Vec<u8> {
    let mut bytes = batch(base, count);
    *bytes.last_mut().unwrap() ^= 1;
    bytes
}

fn answer(records: Vec<u8>, end: i64) -> PartitionData {
    PartitionData::default().with_high_watermark(end).with_last_stable_offset(end).with_records(Some(records.into()))
}

fn bases(place: &Place) -> Vec<i64> {
    place.batches.iter().map(|batch| batch.base_offset).collect()
}

#[test]
fn aborted_transactions_and_what_holds_no_messages_are_passed_over() {
    let (one, two) = (7, 8);
    let of = |base, producer| batch_of(base, producer, TRANSACTIONAL, &values(base, 2));
    for (name, batches, aborted, kept, next) in [
        ("committed", vec![of(0, one), marker(2, one, true)], vec![], vec![0], 3),
        ("aborted", vec![of(0, one), marker(2, one, false)], vec![(one, 0)], vec![], 3),
        (
            "aborted, then committed",
            vec![of(0, one), marker(2, one, false), of(3, one), marker(5, one, true)],
            vec![(one, 0)],
            vec![3],
            6,
        ),
        (
            "two at once",
            vec![of(0, one), of(2, two), of(4, one), marker(6, two, true), marker(7, one, false), of(8, one)],
            vec![(one, 0)],
            vec![2, 8],
            10,
        ),
        (
            "twice aborted",
            vec![of(0, one), marker(2, one, false), of(3, one), marker(5, one, false)],
            vec![(one, 3), (one, 0)],
            vec![],
            6,
        ),
        ("begun before what is asked for", vec![of(4, one), marker(6, one, false)], vec![(one, 0)], vec![], 7),
        ("no transaction", vec![batch_of(0, one, 0, &values(0, 2)), batch(2, 2)], vec![(one, 0)], vec![0, 2], 4),
        ("markers alone", vec![marker(0, one, true), marker(1, two, false)], vec![], vec![], 2),
        ("compacted to nothing at the end", vec![batch(0, 1), marker(9, one, true)], vec![], vec![0], 10),
    ] {
        let aborted = aborted.into_iter().map(|(producer, first)| {
            AbortedTransaction::default().with_producer_id(ProducerId(producer)).with_first_offset(first)
        });
        let mut place = Place::new(Some(0));
        let answer = answer(batches.concat(), 100).with_aborted_transactions(Some(aborted.collect()));
        place.take(0, answer).unwrap();
        assert_eq!((bases(&place), place.next), (kept.clone(), Some(next)), "{name}");
        // With nothing to hand out it has gone on; else it goes on when that is handed out.
        assert_eq!(place.position, if kept.is_empty() { next } else { 0 }, "{name}");
    }
}

#[test]
fn only_whole_batches_from_here_to_the_end_are_taken() {
    for (name, bytes, from, kept, next, good) in [
        ("nothing", vec![], 5, vec![], 5, true),
        ("begins before", batch(3, 4), 5, vec![3], 7, true),
        ("lies before", [batch(3, 2), batch(5, 1)].concat(), 5, vec![5], 6, true),
        ("cut off", [batch(5, 2), batch(7, 2)[..40].to_vec()].concat(), 5, vec![5], 7, true),
        ("a gap", [batch(5, 1), batch(9, 1)].concat(), 5, vec![5, 9], 10, true),
        ("behind the end", [batch(5, 1), batch(101, 2)].concat(), 5, vec![5], 6, false),
        ("over the end", [batch(5, 1), batch(99, 2)].concat(), 5, vec![5, 99], 101, true),
        ("at the end", [batch(5, 1), batch(100, 2)].concat(), 5, vec![5, 100], 102, true),
        ("written meanwhile", [batch(98, 2), batch(100, 3), batch(103, 1)].concat(), 98, vec![98, 100, 103], 104, true),
        ("a gap behind the end", [batch(98, 3), batch(102, 1)].concat(), 98, vec![98], 101, false),
        ("no batch", [batch(5, 1), vec![255; 100]].concat(), 5, vec![5], 6, false),
        ("nothing behind a broken one", [broken(5, 2), batch(7, 1)].concat(), 5, vec![5], 7, true),
        ("broken and far off", [broken(5000, 2), batch(7000, 1)].concat(), 5, vec![99], 100, true),
        ("broken and long gone", [broken(1, 1), batch(2, 1)].concat(), 5, vec![5], 6, true),
    ] {
        let mut place = Place::new(Some(from));
        let taken = place.take(from, answer(bytes, 100));
        assert_eq!((bases(&place), place.next, taken.is_ok()), (kept, Some(next), good), "{name}");
    }
}

#[test]
fn what_lies_before_counts_for_nothing() {
    let mut place = Place::new(Some(5));
    let taken = place.take(5, answer([batch(1, 2), batch(3, 4), batch(3, 1)].concat(), 100)).unwrap();
    assert_eq!(taken, Taken { batches: 1, bytes: batch(3, 4).len() as u64 });
}

#[test]
fn marks_that_are_none_are_refused() {
    for (high, stable, good) in [
        (100, 100, true),
        (100, -1, true),
        (-1, -1, false),
        (i64::MIN, -1, false),
        (100, -2, false),
        (0, i64::MIN, false),
    ] {
        let mut place = Place::new(Some(5));
        let answer = answer(batch(5, 1), high).with_last_stable_offset(stable);
        assert_eq!(place.take(5, answer).is_ok(), good, "{high} {stable}");
        assert_eq!((place.next, place.lag()), (Some(5 + i64::from(good)), good.then_some(95)), "{high} {stable}");
    }
}

proptest! {
    /// Whatever a broker sends: no panic, never back, and nothing kept that counts for nothing.
    #[test]
    fn a_place_stands_whatever_comes(
        from in offset(),
        marks in (offset(), offset()),
        pieces in vec((offset(), 1..4i64, 0..6u8, 7..9i64), 0..5),
        aborted in vec((7..9i64, offset()), 0..3),
        cut in 0..9usize,
    ) {
        let from = from.max(0);
        let mut bytes: Vec<u8> = pieces.iter().flat_map(|(base, count, kind, producer)| {
            let values = values(0, *count);
            match kind {
                0 => {
                    let mut bytes = batch_of(*base, -1, 0, &values);
                    *bytes.last_mut().unwrap() ^= 1;
                    bytes
                }
                1 => batch_of(*base, *producer, TRANSACTIONAL | CONTROL, &[record(&[0, 0, 0, 0], "")]),
                2 => batch_of(*base, *producer, TRANSACTIONAL, &values),
                _ => batch_of(*base, -1, 0, &values),
            }
        }).collect();
        bytes.truncate(bytes.len().saturating_sub(cut));
        let whole = bytes.len() as u64;
        let aborted = aborted.into_iter().map(|(producer, first)| {
            AbortedTransaction::default().with_producer_id(ProducerId(producer)).with_first_offset(first)
        });
        let answer = answer(bytes, marks.0).with_last_stable_offset(marks.1);
        let mut place = Place::new(Some(from));
        let taken = place.take(from, answer.with_aborted_transactions(Some(aborted.collect())));
        let next = place.next.unwrap();
        prop_assert!(next >= from && place.position >= from && place.position <= next);
        prop_assert!(place.lag().is_none_or(|lag| lag >= 0));
        prop_assert!(next > from || place.batches.is_empty());
        if let Ok(taken) = taken {
            prop_assert!(taken.bytes <= whole && (taken.batches > 0) == (next > from));
        }
    }
}

/// Those at which arithmetic goes wrong, and some that lie near each other.
fn offset() -> impl Strategy<Value = i64> {
    prop_oneof![0..12i64, 95..105i64, (i64::MAX - 3)..=i64::MAX, i64::MIN..(i64::MIN + 3), -3..0i64, any::<i64>()]
}

#[test]
fn a_partition_rests_longer_after_each_failure_up_to_the_most() {
    let (mut place, now) = (Place::new(None), Instant::now());
    let mut rests = Vec::new();
    for _ in 0..40 {
        place.fail(now);
        rests.push(place.rests_until().unwrap().duration_since(now).as_millis());
    }
    assert_eq!((&rests[..3], rests[39], place.is_troubled()), (&[50, 100, 200][..], 10_000, true));
    place.recover();
    assert_eq!((place.rests_until(), place.is_troubled()), (None, false));
}

/// What a broker answers of one partition: error code, batches, and how far it may be read.
type Said = (i16, Vec<u8>, i64);

/// Asked with partition, offset, and how many times it was asked before.
type Script = dyn Fn(i32, i64, usize) -> Said + Send + Sync;

/// Brokers that speak just enough; the leaders of the partitions in turn.
struct Brokers {
    ports: Vec<u16>,
    partitions: i32,
    earliest: i64,
    script: Box<Script>,
    asked: Mutex<Vec<(i32, i64)>>,
    connections: Mutex<usize>,
}

impl Brokers {
    fn start(
        brokers: usize,
        partitions: i32,
        script: impl Fn(i32, i64, usize) -> Said + Send + Sync + 'static,
    ) -> Arc<Self> {
        let listeners: Vec<_> = (0..brokers).map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap()).collect();
        let ports = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        let brokers = Arc::new(Brokers {
            ports,
            partitions,
            earliest: 40,
            script: Box::new(script),
            asked: Mutex::default(),
            connections: Mutex::default(),
        });
        for listener in listeners {
            let brokers = brokers.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let brokers = brokers.clone();
                    *brokers.connections.lock().unwrap() += 1;
                    std::thread::spawn(move || brokers.serve(stream));
                }
            });
        }
        brokers
    }

    fn client(&self) -> Client {
        let cluster = Cluster { brokers: vec![format!("127.0.0.1:{}", self.ports[0])], tls: None, sasl: None };
        Client::new(Access { cluster, net: Arc::new(Net::system()), stop: Stop::default() }, TOPIC.to_owned())
    }

    /// Until the client hangs up.
    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        loop {
            let mut length = [0; 4];
            stream.read_exact(&mut length).ok()?;
            let mut request = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut request).ok()?;
            let mut request = Bytes::from(request);
            let (key, _version, correlation) = (request.get_i16(), request.get_i16(), request.get_i32());
            string(&mut request);
            let mut body = BytesMut::new();
            match key {
                18 => {
                    body.put_slice(&[0, 0, 0, 0, 0, 3]);
                    [1, 4, 4, 2, 1, 1, 3, 4, 4].into_iter().for_each(|number: i16| body.put_i16(number));
                }
                3 => self.metadata(&mut body),
                2 => self.offsets(&mut request, &mut body),
                _ => self.fetch(&mut request, &mut body)?,
            }
            let head = [(body.len() as i32 + 4).to_be_bytes(), correlation.to_be_bytes()].concat();
            stream.write_all(&[&head[..], &body].concat()).ok()?;
        }
    }

    /// Metadata, version 4.
    fn metadata(&self, body: &mut BytesMut) {
        body.put_i32(0);
        body.put_i32(self.ports.len() as i32);
        for (node, port) in (0..).zip(&self.ports) {
            body.put_i32(node);
            put_string(body, "127.0.0.1");
            body.put_i32(i32::from(*port));
            body.put_i16(-1);
        }
        body.put_i16(-1);
        body.put_i32(0);
        body.put_slice(&[0, 0, 0, 1, 0, 0]);
        put_string(body, TOPIC);
        body.put_u8(0);
        body.put_i32(self.partitions);
        for partition in 0..self.partitions {
            body.put_i16(0);
            body.put_i32(partition);
            body.put_i32(partition % self.ports.len() as i32);
            body.put_slice(&[0; 8]);
        }
    }

    /// ListOffsets, version 1.
    fn offsets(&self, request: &mut Bytes, body: &mut BytesMut) {
        request.advance(4 + 4);
        string(request);
        let count = request.get_i32();
        body.put_i32(1);
        put_string(body, TOPIC);
        body.put_i32(count);
        for _ in 0..count {
            body.put_i32(request.get_i32());
            request.advance(8);
            body.put_i16(0);
            body.put_i64(-1);
            body.put_i64(self.earliest);
        }
    }

    /// Fetch, version 4. `None`: hangs up instead of answering.
    fn fetch(&self, request: &mut Bytes, body: &mut BytesMut) -> Option<()> {
        request.advance(4 + 4 + 4 + 4 + 1 + 4);
        string(request);
        let count = request.get_i32();
        body.put_i32(0);
        body.put_i32(1);
        put_string(body, TOPIC);
        body.put_i32(count);
        for _ in 0..count {
            let (partition, offset) = (request.get_i32(), request.get_i64());
            request.advance(4);
            let before = {
                let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
                asked.push((partition, offset));
                asked.iter().filter(|(other, _)| *other == partition).count() - 1
            };
            let (code, records, end) = (self.script)(partition, offset, before);
            if code == HANG_UP {
                return None;
            }
            body.put_i32(partition);
            body.put_i16(code);
            body.put_i64(end);
            body.put_i64(end);
            body.put_i32(-1);
            body.put_i32(records.len() as i32);
            body.put_slice(&records);
        }
        Some(())
    }
}

const HANG_UP: i16 = i16::MIN;

fn string(bytes: &mut Bytes) {
    let length = bytes.get_i16();
    bytes.advance(usize::try_from(length).unwrap());
}

fn put_string(body: &mut BytesMut, text: &str) {
    body.put_i16(text.len() as i16);
    body.put_slice(text.as_bytes());
}

/// Fetches until so many messages are there or `WITHIN` is over; and the errors in between.
fn fetch(fetcher: &mut Fetcher, client: &mut Client, count: usize) -> (Vec<Message>, Vec<Error>) {
    let by = Instant::now() + Duration::from_secs(30);
    let (mut messages, mut errors) = (Vec::new(), Vec::new());
    while messages.len() < count {
        assert!(Instant::now() < by, "{messages:?} {errors:?}");
        match fetcher.fetch(client, Instant::now() + Duration::from_millis(50), 3) {
            Ok(more) => {
                assert!(more.len() <= 3);
                messages.extend(more);
            }
            Err(error) => errors.push(error),
        }
    }
    (messages, errors)
}

fn offsets(messages: &[Message], partition: i32) -> Vec<i64> {
    messages.iter().filter(|message| message.partition == partition).map(|message| message.offset).collect()
}

fn begun(placed: Vec<Placed>) -> (Fetcher, Arc<Figures>) {
    let figures = Arc::new(Figures::default());
    let mut fetcher = Fetcher::new(figures.clone());
    fetcher.begin(placed);
    (fetcher, figures)
}

#[test]
fn every_leader_is_asked_and_each_partition_comes_in_order() {
    let brokers = Brokers::start(2, 4, |_, offset, _| (0, [batch(offset, 2), batch(offset + 2, 2)].concat(), 1000));
    let (mut fetcher, figures) = begun(vec![(0, Some(0)), (1, Some(10)), (2, None), (3, Some(30))]);
    let mut client = brokers.client();
    let (by, mut messages) = (Instant::now() + Duration::from_secs(30), Vec::new());
    while let Some(partition) = (0..4).find(|partition| offsets(&messages, *partition).len() <= 10) {
        assert!(Instant::now() < by, "partition {partition} starves");
        let (more, errors) = fetch(&mut fetcher, &mut client, 10);
        assert_eq!(errors, []);
        messages.extend(more);
    }
    for (partition, first) in [(0, 0), (1, 10), (2, 40), (3, 30)] {
        let got = offsets(&messages, partition);
        assert_eq!(got, (first..first + got.len() as i64).collect::<Vec<_>>());
        assert_eq!(figures.lag()[&partition], 1000 - got.last().unwrap() - 1);
    }
    assert_eq!(*brokers.connections.lock().unwrap(), 3, "one to begin with, and one to each leader");
}

#[test]
fn no_partition_starves_where_an_answer_has_no_room_for_all() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    // Of the four in each request the first two fill the answer.
    let script = move |_, offset, _| {
        let room = asked.fetch_add(1, Relaxed) % 4 < 2;
        (0, if room { batch(offset, 2) } else { vec![] }, 1000)
    };
    let brokers = Brokers::start(1, 4, script);
    let (mut fetcher, _) = begun((0..4).map(|partition| (partition, Some(0))).collect());
    let (messages, errors) = fetch(&mut fetcher, &mut brokers.client(), 80);
    let counts: Vec<usize> = (0..4).map(|partition| offsets(&messages, partition).len()).collect();
    assert!(counts.iter().all(|count| (18..=23).contains(count)) && errors.is_empty(), "{counts:?} {errors:?}");
}

#[test]
fn a_batch_that_cannot_be_read_is_fetched_once_again() {
    let script = |_, offset, before| match (offset, before) {
        (0, 0) => (0, [batch(0, 2), broken(2, 3), batch(5, 1)].concat(), 6),
        (2, _) => (0, [batch(2, 3), batch(5, 1)].concat(), 6),
        _ => (0, vec![], 6),
    };
    let brokers = Brokers::start(1, 1, script);
    let (mut fetcher, figures) = begun(vec![(0, Some(0))]);
    let (messages, errors) = fetch(&mut fetcher, &mut brokers.client(), 6);
    assert_eq!((offsets(&messages, 0), errors), ((0..6).collect(), vec![]));
    assert!(messages.iter().all(|message| message.damage.is_none()));
    assert_eq!(figures.retries.load(Relaxed), 1);
    // The first was one to begin with.
    assert_eq!(*brokers.connections.lock().unwrap(), 4);
}

#[test]
fn a_batch_that_nobody_can_read_is_handed_out_as_it_is_and_reading_goes_on_behind_it() {
    let script = |_, offset, _| match offset {
        0 => (0, [batch(0, 2), broken(2, 3), batch(5, 1)].concat(), 6),
        2 => (0, [broken(2, 3), batch(5, 1)].concat(), 6),
        5 => (0, batch(5, 1), 6),
        _ => (0, vec![], 6),
    };
    let brokers = Brokers::start(1, 1, script);
    let (mut fetcher, figures) = begun(vec![(0, Some(0))]);
    let (messages, errors) = fetch(&mut fetcher, &mut brokers.client(), 4);
    assert_eq!((offsets(&messages, 0), errors), (vec![0, 1, 2, 5], vec![]));
    let damage = messages[2].damage.as_deref().unwrap();
    assert!(damage.starts_with("has the checksum "), "{damage}");
    assert_eq!((&messages[2].value[..], messages[3].damage.as_ref()), (&broken(2, 3)[..], None));
    assert_eq!((fetcher.done(0, 6), fetcher.done(0, 5), fetcher.done(1, 5)), (Some(6), Some(5), None));
    assert_eq!(figures.lag()[&0], 0);
}

#[test]
fn behind_a_batch_that_nobody_can_read_nothing_of_it_is_left_to_commit() {
    let script = |_, offset, _| (0, if offset == 0 { broken(0, 3) } else { vec![] }, 3);
    let brokers = Brokers::start(1, 1, script);
    let (mut fetcher, _) = begun(vec![(0, Some(0))]);
    let (messages, _) = fetch(&mut fetcher, &mut brokers.client(), 1);
    assert_eq!(messages[0].offset, 0);
    assert_eq!((fetcher.done(0, 1), OVERHEAD < messages[0].value.len()), (Some(3), true));
}

#[test]
fn what_is_not_there_any_more_is_counted_and_reading_goes_on_at_the_earliest() {
    let out_of_range = ResponseError::OffsetOutOfRange.code();
    let script = move |_, offset, _| match offset {
        0..40 => (out_of_range, vec![], -1),
        40 => (0, batch(40, 2), 42),
        _ => (0, vec![], 42),
    };
    let brokers = Brokers::start(1, 2, script);
    let (mut fetcher, figures) = begun(vec![(0, Some(7)), (1, None)]);
    let (messages, errors) = fetch(&mut fetcher, &mut brokers.client(), 4);
    assert_eq!((offsets(&messages, 0), offsets(&messages, 1), errors), (vec![40, 41], vec![40, 41], vec![]));
    assert_eq!(figures.resets.load(Relaxed), 1, "where nothing was committed nothing is reset");
}

#[test]
fn an_earliest_offset_that_is_none_is_the_first() {
    // What is not logged is not even counted out.
    log::set_max_level(log::LevelFilter::Warn);
    let (mut fetcher, figures) = begun(vec![(0, Some(7))]);
    let place = fetcher.places.get_mut(&0).unwrap();
    place.lost = place.next.take();
    fetcher.begin_at(TOPIC, 0, i64::MIN);
    assert_eq!((fetcher.places[&0].next, figures.resets.load(Relaxed)), (Some(0), 1));
}

#[test]
fn a_leader_that_fails_costs_no_other_partition_anything() {
    let not_leader = ResponseError::NotLeaderOrFollower.code();
    for fault in [not_leader, HANG_UP] {
        let script = move |partition, offset, before| match (partition, before) {
            (1, 0..3) => (fault, vec![], -1),
            _ if offset < 10 => (0, batch(offset, 2), 10),
            _ => (0, vec![], 10),
        };
        let brokers = Brokers::start(2, 2, script);
        let (mut fetcher, figures) = begun(vec![(0, Some(0)), (1, Some(0))]);
        let (messages, errors) = fetch(&mut fetcher, &mut brokers.client(), 20);
        let all: Vec<i64> = (0..10).collect();
        assert_eq!((offsets(&messages, 0), offsets(&messages, 1), errors), (all.clone(), all, vec![]));
        assert_eq!(figures.retries.load(Relaxed), 3);
        let first = messages.iter().position(|message| message.partition == 1).unwrap();
        assert!(first >= 10, "partition 0 waited for partition 1");
    }
}

#[test]
fn when_no_partition_is_in_order_the_caller_hears_of_it() {
    let not_leader = ResponseError::NotLeaderOrFollower.code();
    let script = move |_, offset, before| if before < 2 { (not_leader, vec![], -1) } else { (0, batch(offset, 1), 9) };
    let brokers = Brokers::start(1, 1, script);
    let (mut fetcher, _) = begun(vec![(0, Some(0))]);
    let (_, errors) = fetch(&mut fetcher, &mut brokers.client(), 2);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(matches!(&errors[0], Error::Code(code, _) if *code == not_leader), "{errors:?}");
}

#[test]
fn what_is_no_batch_is_an_error_and_no_loop() {
    let script = |_, offset, before| match (offset, before) {
        (0, 0..2) => (0, vec![255; 200], 9),
        // The first one asked for has to come whole.
        (0, 2) => (0, batch(0, 9)[..60].to_vec(), 9),
        _ => (0, batch(0, 9), 9),
    };
    let brokers = Brokers::start(1, 1, script);
    let (mut fetcher, _) = begun(vec![(0, Some(0))]);
    let (messages, errors) = fetch(&mut fetcher, &mut brokers.client(), 9);
    assert_eq!((messages.len(), errors.len()), (9, 3), "{errors:?}");
    assert!(errors.iter().all(|error| matches!(error, Error::Garbage(_))), "{errors:?}");
}

#[test]
fn what_is_written_while_a_broker_answers_is_no_error() {
    // It tells the mark that it knew before it read.
    let script = |_, offset, _| (0, [batch(offset, 2), batch(offset + 2, 2)].concat(), offset + 1);
    let brokers = Brokers::start(1, 1, script);
    let (mut fetcher, figures) = begun(vec![(0, Some(0))]);
    let (messages, errors) = fetch(&mut fetcher, &mut brokers.client(), 40);
    assert_eq!((offsets(&messages, 0), errors), ((0..messages.len() as i64).collect(), vec![]));
    assert_eq!((figures.retries.load(Relaxed), figures.lag()[&0]), (0, 0));
    assert_eq!(*brokers.connections.lock().unwrap(), 2, "one to begin with, and one to the leader");
}

#[test]
fn a_broker_that_answers_at_once_with_nothing_new_is_not_asked_on_and_on() {
    for (name, said) in [("nothing", vec![]), ("what was there before", batch(0, 2))] {
        let brokers = Brokers::start(1, 2, move |_, _, _| (0, said.clone(), 100));
        let (mut fetcher, _) = begun(vec![(0, Some(5)), (1, Some(5))]);
        let (mut client, until) = (brokers.client(), Instant::now() + Duration::from_millis(400));
        while Instant::now() < until {
            // An error is as good as nothing here.
            assert_eq!(fetcher.fetch(&mut client, until, 9).unwrap_or_default(), [], "{name}");
        }
        let asked = brokers.asked.lock().unwrap().len();
        assert!((2..12).contains(&asked), "{name}: asked {asked} times");
    }
}

#[test]
fn the_word_to_stop_ends_a_wait() {
    let brokers = Brokers::start(1, 1, |_, _, _| (HANG_UP, vec![], -1));
    let (mut fetcher, _) = begun(vec![(0, Some(0))]);
    let mut client = brokers.client();
    client.access().stop.set();
    assert_eq!(fetcher.fetch(&mut client, Instant::now() + Duration::from_secs(60), 1), Err(Error::Stopped));
}
