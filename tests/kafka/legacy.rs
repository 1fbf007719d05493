//! What the `kafka` crate does by itself, or does not: on the one broker that it speaks to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pingeon::kafka::legacy::LegacyConsumer;
use pingeon::kafka::{Compression, Consume, Error};

use crate::clients::{Kind, PATIENCE, Reader, Writer, access, records};
use crate::cluster::{Broker, Listener, Version, cluster_of_three, shared, unique};

fn old() -> &'static Broker {
    shared(Version::V3_9)
}

/// Writes a batch of these values with this codec and these options, all under one key. Each value a thousand times, since
/// what becomes no smaller is not compressed.
fn write(topic: &str, codec: &str, values: &[&str], options: &[&str]) {
    let values: Vec<String> = values.iter().map(|value| value.repeat(1_000)).collect();
    let lines: Vec<(&[u8], &[u8])> = values.iter().map(|value| (&b"key"[..], value.as_bytes())).collect();
    old().peer().produce(topic, &lines, &[&["--codec", codec], options].concat());
}

fn read(topic: &str, count: usize) -> Vec<String> {
    let mut reader = Reader::new(Kind::Crate, old().cluster(Listener::Plaintext), topic, &unique("legacy"));
    reader.read(count).iter().map(|message| String::from_utf8_lossy(&message.value).into_owned()).collect()
}

fn initials(values: &[String]) -> String {
    values.iter().filter_map(|value| value.chars().next()).collect()
}

/// The crate itself shows the messages of the first compressed batch and forgets those that stand before it.
#[test]
fn what_stands_before_a_compressed_batch_is_seen() {
    let topic = old().topic("mixed", 1);
    let batches: &[(&str, &[&str])] = &[
        ("none", &["a"]),
        ("none", &["b", "c"]),
        ("gzip", &["d", "e", "f"]),
        ("none", &["g"]),
        ("snappy", &["h"]),
        ("snappy", &["i"]),
        ("none", &["j", "k"]),
        ("gzip", &["l"]),
        ("none", &["m"]),
    ];
    batches.iter().for_each(|(codec, values)| write(&topic, codec, values, &[]));
    assert_eq!(initials(&read(&topic, 13)), "abcdefghijklm");
}

#[test]
fn a_batch_larger_than_what_is_asked_for_is_read() {
    let topic = unique("large");
    old().create_topic(&topic, 1, &[("max.message.bytes", "8000000")]);
    let large = "x".repeat(3_000_000);
    let all = ["before", &large, "after"];
    let peer = old().peer().set("message.max.bytes", "8000000");
    for value in all {
        peer.produce(&topic, &[(b"key", value.as_bytes())], &[]);
    }
    assert!(read(&topic, 3) == all, "not what was written");
}

/// It reads uncommitted: what was aborted is seen, but the marks of transactions hold up nothing.
#[test]
fn transactions_hold_up_nothing() {
    let topic = old().topic("transactions", 1);
    write(&topic, "none", &["a", "b"], &["--transaction", &topic]);
    write(&topic, "gzip", &["c"], &["--transaction", &topic, "--abort"]);
    write(&topic, "none", &["d"], &[]);
    write(&topic, "gzip", &["e"], &["--transaction", &topic]);
    assert_eq!(initials(&read(&topic, 5)), "abcde");
}

#[test]
fn what_it_cannot_read_is_an_error_that_loses_nothing() {
    for codec in ["lz4", "zstd"] {
        let topic = old().topic("unread", 1);
        write(&topic, "none", &["before"], &[]);
        write(&topic, codec, &["cannot be read"], &[]);
        let (access, group) = (access(old().cluster(Listener::Plaintext)), unique("unread"));
        let mut consumer = LegacyConsumer::new(&access, &topic, &group, Arc::default()).unwrap();
        let end = Instant::now() + PATIENCE;
        let error = loop {
            assert!(Instant::now() < end, "{codec}: no error");
            match consumer.poll(Duration::from_millis(100), 10) {
                Ok(messages) => consumer.commit(&[(0, messages.last().map_or(0, |last| last.offset + 1))]).unwrap(),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().ends_with("use `client: native`"), "{codec}: {error}");
        assert!(old().peer().committed(&group, &topic).values().all(|offset| *offset <= 1), "{codec}");
    }
}

#[test]
fn a_group_with_members_does_not_take_its_commits() {
    let topic = old().topic("shared", 1);
    let group = unique("shared");
    let cluster = old().cluster(Listener::Plaintext);
    Writer::new(Kind::Crate, cluster.clone(), &topic, Compression::Gzip).send_all(&records("shared", 10, 1), 10);
    let mut member = Reader::new(Kind::Native, cluster.clone(), &topic, &group);
    assert_eq!(member.read(10).len(), 10);
    let figures = Arc::default();
    let mut consumer = LegacyConsumer::new(&access(cluster), &topic, &group, Arc::clone(&figures)).unwrap();
    consumer.poll(Duration::ZERO, 10).unwrap();
    match consumer.commit(&[(0, 3)]) {
        Err(Error::Code(25, what)) => assert!(what.contains("has members that share its partitions"), "{what}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(figures.fenced.load(Relaxed), 1);
    assert_eq!(old().peer().committed(&group, &topic)[&0], 10);
}

const RECORDS: usize = 20_000;
const AT_ONCE: usize = 200;

/// It is not idempotent, so some may be there twice; the store drops those.
#[test]
fn a_leader_that_dies_loses_nothing() {
    let mut three = cluster_of_three(Version::V3_9);
    let topic = three.topic("legacy-failover", 3);
    let records = records("failover", RECORDS, 50);
    let (cluster, leader) = (three.cluster(), three.leader_of(&topic, 0));
    let mut writer = Writer::new(Kind::Crate, cluster.clone(), &topic, Compression::Snappy);
    let (begin, rest) = records.split_at(RECORDS / 4);
    writer.send_all(begin, AT_ONCE);
    three.kill(leader);
    writer.send_all(rest, AT_ONCE);
    assert!(writer.figures.retries.load(Relaxed) > 0, "nothing was in the way");
    three.restart(leader);

    let mut reader = Reader::new(Kind::Crate, cluster, &topic, &unique("legacy-failover"));
    let mut messages = reader.read(RECORDS / 4);
    three.kill(three.leader_of(&topic, 1));
    let end = Instant::now() + PATIENCE;
    let mut values: BTreeSet<_> = messages.iter().map(|message| message.value.clone()).collect();
    while values.len() < RECORDS {
        assert!(Instant::now() < end, "{} of {RECORDS} have come", values.len());
        let more = reader.poll(1_000, end);
        reader.commit(&more, end);
        values.extend(more.iter().map(|message| message.value.clone()));
        messages.extend(more);
    }
    // The first of each in their order: values tell their number.
    let mut last = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for message in messages.iter().filter(|message| seen.insert(message.value.clone())) {
        let before = last.insert(message.key.clone(), message.value.clone());
        assert!(before.is_none_or(|before| before < message.value), "out of order: {message:?}");
    }
}
