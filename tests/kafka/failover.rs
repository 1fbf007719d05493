//! The leader dies while it is written to and while it is read from: nothing is lost, and nothing is in the topic twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use pingeon::jobs::Stop;
use pingeon::kafka::{Compression, Record};

use crate::clients::{Kind, Reader, Writer};
use crate::cluster::{Three, VERSIONS, cluster_of_three, unique};
use crate::peer::Peer;

const RECORDS: usize = 100_000;
/// Enough for several batches in flight to each leader.
const AT_ONCE: usize = 20_000;
const VALUE_BYTES: usize = 400;
const LABELS: usize = 97;
const PARTITIONS: usize = 3;
/// What a consumer has in hand at once.
const IN_HAND: usize = 500;
/// Until a cluster has to be over the death of a node.
const OVER_IT: Duration = Duration::from_secs(60);

#[test]
fn a_leader_that_dies_loses_nothing_and_doubles_nothing() {
    for version in VERSIONS {
        let mut three = cluster_of_three(version);
        let topic = three.topic("failover", PARTITIONS);
        write_while_one_dies(&mut three, &topic);
        assert_all_once_and_in_order(&three.peer(), &topic);
        read_while_one_dies(&mut three, &topic);
    }
}

fn write_while_one_dies(three: &mut Three, topic: &str) {
    let mut writer = Writer::new(Kind::Native, three.cluster(), topic, Compression::None);
    let figures = writer.figures.clone();
    let leader = three.leader_of(topic, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            wait_for("some batches to be there", || figures.batches.load(Relaxed) > 10);
            three.kill(leader);
            wait_for("more batches to be there", || figures.batches.load(Relaxed) > 30);
            three.restart(leader);
        });
        writer.send_all(&records(), AT_ONCE);
    });
    assert!(figures.retries.load(Relaxed) > 0, "nothing was in the way");
}

fn assert_all_once_and_in_order(peer: &Peer, topic: &str) {
    let found = peer.consume(topic, &[]);
    let mut numbers: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    for entry in &found {
        numbers.entry(entry.key.clone().unwrap()).or_default().push(number(entry.value.as_deref().unwrap()));
    }
    for label in 0..LABELS {
        let expected: Vec<usize> = (label..RECORDS).step_by(LABELS).collect();
        assert_eq!(numbers[key(label).as_bytes()], expected, "{}", key(label));
    }
    assert_eq!(found.len(), RECORDS);
}

/// All comes, and what comes twice was in hand, or just committed, when its leader died.
fn read_while_one_dies(three: &mut Three, topic: &str) {
    three.whole(topic);
    let mut reader = Reader::new(Kind::Native, three.cluster(), topic, &unique("failover"));
    let read = AtomicU64::new(0);
    let leader = three.leader_of(topic, 1);
    thread::scope(|scope| {
        let count = &read;
        scope.spawn(move || {
            wait_for("some messages to be read", || count.load(Relaxed) > 10_000);
            three.kill(leader);
        });
        let (mut seen, mut twice, end) = (BTreeSet::new(), 0, Instant::now() + OVER_IT);
        while seen.len() < RECORDS {
            assert!(Instant::now() < end, "{} of {RECORDS} were read", seen.len());
            let messages = reader.poll(IN_HAND, end);
            reader.commit(&messages, end);
            twice += messages.iter().filter(|message| !seen.insert((message.partition, message.offset))).count();
            read.store(seen.len() as u64, Relaxed);
        }
        assert!(twice <= IN_HAND, "{twice} came twice");
    });
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let by = Instant::now() + OVER_IT;
    while !done() {
        assert!(Instant::now() < by, "waited for {what}");
        Stop::default().wait(Duration::from_millis(2));
    }
}

fn key(n: usize) -> String {
    format!("edge-01/{}", n % LABELS)
}

fn records() -> Vec<Record> {
    let record = |n: usize| Record {
        key: key(n).into_bytes(),
        value: format!("{n:VALUE_BYTES$}").into_bytes(),
        timestamp: 1_790_000_000_000 + n as i64,
    };
    (0..RECORDS).map(record).collect()
}

fn number(value: &[u8]) -> usize {
    std::str::from_utf8(value).unwrap().trim_start().parse().unwrap()
}
