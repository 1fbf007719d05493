//! A leader dies while it is written to and while it is read from: nothing is lost, nothing is in the topic twice, and nothing
//! is brought twice.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use pingeon::jobs::Stop;
use pingeon::kafka::{Compression, Record};

use crate::clients::{Kind, Reader, Writer};
use crate::cluster::{Three, Version, cluster_of_three, unique};

const RECORDS: usize = 100_000;
/// Enough for several batches in flight to each leader.
const AT_ONCE: usize = 20_000;
const VALUE_BYTES: usize = 400;
const LABELS: usize = 97;
const PARTITIONS: usize = 3;
/// Until a cluster has to be over the death of a node.
const OVER_IT: Duration = Duration::from_secs(90);

#[test]
fn leaders_of_the_old_version_die() {
    leaders_die(Version::V3_9);
}

#[test]
fn leaders_of_the_new_version_die() {
    leaders_die(Version::V4_3);
}

fn leaders_die(version: Version) {
    let mut three = cluster_of_three(version);
    let topic = three.topic("failover", PARTITIONS);
    written(&mut three, &topic);
    read(&mut three, &topic);
}

/// All is written once and in order, though the leader of partition 0 is killed on the way and comes back.
fn written(three: &mut Three, topic: &str) {
    let (peer, cluster) = (three.peer(), three.cluster());
    let mut writer = Writer::new(Kind::Native, cluster, topic, Compression::None);
    let figures = writer.figures.clone();
    thread::scope(|scope| {
        scope.spawn(move || {
            let leader = three.leader_of(topic, 0);
            wait_for("some batches to be there", || figures.batches.load(Relaxed) > 10);
            three.kill(leader);
            wait_for("more batches to be there", || figures.batches.load(Relaxed) > 30);
            three.restart(leader);
        });
        writer.send_all(&records(), AT_ONCE);
    });
    assert!(writer.figures.retries.load(Relaxed) > 0, "nothing was in the way");
    let found = peer.consume(topic, &[]);
    let found = found.iter().map(|entry| (entry.key.as_deref().unwrap(), entry.value.as_deref().unwrap()));
    assert_once_in_order(found);
}

/// All is brought once and in order, though the leader of partition 0 is killed on the way.
fn read(three: &mut Three, topic: &str) {
    three.whole(topic);
    let mut reader = Reader::new(Kind::Native, three.cluster(), topic, &unique("failover"));
    let mut messages = reader.read_by(RECORDS / 3, 500);
    let leader = three.leader_of(topic, 0);
    three.kill(leader);
    messages.extend(reader.read_by(RECORDS - messages.len(), 500));
    assert_once_in_order(messages.iter().map(|message| (message.key.as_deref().unwrap(), &*message.value)));
}

/// Of each label, every record once, in the order they were given in.
fn assert_once_in_order<'a>(found: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    let mut numbers: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    for (key, value) in found {
        let number = std::str::from_utf8(value).unwrap().trim_start().parse().unwrap();
        numbers.entry(key.to_vec()).or_default().push(number);
    }
    for label in 0..LABELS {
        let expected: Vec<usize> = (label..RECORDS).step_by(LABELS).collect();
        let found = &numbers[key(label).as_bytes()];
        let wrong = found.iter().zip(&expected).find(|(found, expected)| found != expected);
        assert!(wrong.is_none() && found.len() == expected.len(), "{}: {wrong:?}, {} records", key(label), found.len());
    }
    assert_eq!(numbers.len(), LABELS);
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
