//! What is written is what is read, whoever writes and reads: every broker, client, codec and way in.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use pingeon::kafka::{Compression, Message, Record};
use serde_json::json;

use crate::clients::{Kind, PATIENCE, Reader, Writer, records};
use crate::cluster::{LISTENERS, Listener, VERSIONS, Version, shared, unique};
use crate::peer::Entry;

const CODECS: [Compression; 4] = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4];
/// What others may write.
const THEIR_CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const PARTITIONS: usize = 5;

/// Who can speak with whom: the `kafka` crate has no TLS, no SASL and no protocol that Kafka 4 knows.
fn kinds(version: Version, listener: Listener) -> &'static [Kind] {
    match (version, listener) {
        (Version::V3_9, Listener::Plaintext) => &[Kind::Native, Kind::Crate],
        _ => &[Kind::Native],
    }
}

/// What a record says, wherever it lies. The `kafka` crate's protocol has no time: its records have -1.
fn written(kind: Kind, records: &[Record]) -> Vec<Entry> {
    let time = |record: &Record| if kind == Kind::Crate { -1 } else { record.timestamp };
    sorted(records.iter().map(|record| Entry {
        key: Some(record.key.clone()),
        value: Some(record.value.clone()),
        timestamp: time(record),
        ..Entry::default()
    }))
}

/// The same of what lies there.
fn found(entries: &[Entry]) -> Vec<Entry> {
    sorted(entries.iter().map(|entry| Entry { partition: 0, offset: 0, ..entry.clone() }))
}

fn sorted<T: Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = all.collect();
    all.sort();
    all
}

/// What our consumer brought, as the other client shows it, but for the time, which it does not tell.
fn brought(messages: &[Message]) -> Vec<Entry> {
    sorted(messages.iter().map(|message| Entry {
        partition: message.partition,
        offset: message.offset,
        key: message.key.as_ref().map(|key| key.to_vec()),
        value: Some(message.value.to_vec()),
        timestamp: 0,
    }))
}

/// As our consumer tells it: no time, and no value is an empty one.
fn timeless(entries: &[Entry]) -> Vec<Entry> {
    let value = |entry: &Entry| entry.value.clone().or(Some(Vec::new()));
    entries.iter().map(|entry| Entry { value: value(entry), timestamp: 0, ..entry.clone() }).collect()
}

/// The same entries on both sides; else the first that differ, not all.
#[track_caller]
fn assert_same(left: &[Entry], right: &[Entry], about: &str) {
    let differ = left.iter().zip(right).find(|(left, right)| left != right);
    assert!(differ.is_none(), "{about}: {differ:?}");
    assert_eq!(left.len(), right.len(), "{about}");
}

/// Records of one key come in the order they were given in, which their values tell.
fn assert_in_order(entries: &[Entry]) {
    let mut last: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
    for entry in entries {
        let (key, value) = (entry.key.as_deref().unwrap(), entry.value.as_deref().unwrap());
        let before = last.insert(key, value);
        assert!(before < Some(value), "out of order at {}@{}", entry.partition, entry.offset);
    }
}

/// Messages of one partition come in the order of their offsets, none twice.
fn assert_rising(messages: &[Message]) {
    let mut last = BTreeMap::new();
    for message in messages {
        let before = last.insert(message.partition, message.offset);
        assert!(before < Some(message.offset), "{}@{} after {before:?}", message.partition, message.offset);
    }
}

#[test]
fn what_we_write_the_other_client_reads_and_we_do() {
    for (broker, codec) in VERSIONS.map(shared).into_iter().flat_map(|broker| CODECS.map(|codec| (broker, codec))) {
        let topic = broker.topic("ours", PARTITIONS);
        let mut sent = Vec::new();
        for listener in LISTENERS {
            for &kind in kinds(broker.version(), listener) {
                if kind == Kind::Crate && codec == Compression::Lz4 {
                    continue;
                }
                let records = records(&format!("{listener:?}-{kind:?}"), 500, 40);
                Writer::new(kind, broker.cluster(listener), &topic, codec).send_all(&records, 200);
                sent.extend(written(kind, &records));
            }
        }
        let entries = broker.peer().consume(&topic, &[]);
        let about = format!("{:?} {codec:?}", broker.version());
        assert_same(&found(&entries), &sorted(sent.into_iter()), &about);
        assert_in_order(&entries);
        let mut reader = Reader::new(Kind::Native, broker.cluster(Listener::Plaintext), &topic, &unique("ours"));
        let messages = reader.read(entries.len());
        assert_same(&brought(&messages), &timeless(&entries), &about);
        assert_rising(&messages);
    }
}

#[test]
fn what_the_other_client_writes_we_read() {
    for broker in VERSIONS.map(shared) {
        let topic = broker.topic("theirs", PARTITIONS);
        for codec in THEIR_CODECS {
            let records = records(codec, 300, 20);
            let lines: Vec<(&[u8], &[u8])> = records.iter().map(|record| (&*record.key, &*record.value)).collect();
            broker.peer().produce(&topic, &lines, &["--codec", codec]);
        }
        let entries = timeless(&broker.peer().consume(&topic, &[]));
        assert_eq!(entries.len(), 300 * THEIR_CODECS.len());
        for listener in LISTENERS {
            let mut reader = Reader::new(Kind::Native, broker.cluster(listener), &topic, &unique("theirs"));
            let messages = reader.read(entries.len());
            assert_same(&brought(&messages), &entries, &format!("{:?} {listener:?}", broker.version()));
            assert_rising(&messages);
        }
    }
}

#[test]
fn what_the_other_client_writes_the_kafka_crate_reads() {
    let broker = shared(Version::V3_9);
    let topic = broker.topic("theirs-old", PARTITIONS);
    for codec in ["none", "gzip", "snappy"] {
        let records = records(codec, 300, 20);
        let lines: Vec<(&[u8], &[u8])> = records.iter().map(|record| (&*record.key, &*record.value)).collect();
        broker.peer().produce(&topic, &lines, &["--codec", codec]);
    }
    let entries = timeless(&broker.peer().consume(&topic, &[]));
    let mut reader = Reader::new(Kind::Crate, broker.cluster(Listener::Plaintext), &topic, &unique("theirs-old"));
    let messages = reader.read(entries.len());
    assert_same(&brought(&messages), &entries, "the crate");
    assert_rising(&messages);
}

#[test]
fn what_no_log_has_is_read_too() {
    let lines = [
        json!({"key": null, "value": "no key"}),
        json!({"key": "tombstone", "value": null}),
        json!({"key": "", "value": ""}),
        json!({"key": "headers", "value": "some", "headers": {"a": "b", "c": null, "": "x"}}),
        json!({"key": "\u{0}\u{ff}", "value": "\u{80}".repeat(300_000)}),
    ];
    let lines = lines.map(|line| format!("{line}\n")).concat();
    for broker in VERSIONS.map(shared) {
        for codec in THEIR_CODECS {
            let topic = broker.topic("odd", 2);
            broker.peer().produce_lines(&topic, &lines, &["--codec", codec]);
            let messages =
                Reader::new(Kind::Native, broker.cluster(Listener::Plaintext), &topic, &unique("odd")).read(5);
            assert_eq!(messages.iter().find(|message| message.damage.is_some()), None);
            let entries = timeless(&broker.peer().consume(&topic, &[]));
            assert_same(&brought(&messages), &entries, &format!("{:?} {codec}", broker.version()));
        }
    }
}

#[test]
fn a_transaction_is_read_when_it_is_committed_and_never_when_it_is_not() {
    for broker in VERSIONS.map(shared) {
        let (topic, peer) = (broker.topic("transactions", 2), broker.peer());
        let mut kept = Vec::new();
        for nth in 0..2 {
            for (fate, options) in [("kept", &[][..]), ("dropped", &["--abort"][..])] {
                let records = records(&format!("{fate}-{nth}"), 50, 10);
                let lines: Vec<(&[u8], &[u8])> = records.iter().map(|record| (&*record.key, &*record.value)).collect();
                peer.produce(&topic, &lines, &[&["--transaction", &unique(fate)], options].concat());
                kept.extend(records.into_iter().filter(|_| fate == "kept").map(|record| record.value));
            }
        }
        peer.produce(&topic, &[(b"last", b"of all")], &[]);
        kept.push(b"of all".to_vec());
        assert_eq!(peer.consume(&topic, &["--uncommitted"]).len(), 2 * 100 + 1, "nothing was aborted");
        let mut reader =
            Reader::new(Kind::Native, broker.cluster(Listener::Plaintext), &topic, &unique("transactions"));
        let messages = reader.read(kept.len());
        let values = sorted(messages.iter().map(|message| message.value.to_vec()));
        assert_eq!(values, sorted(kept.into_iter()), "{:?}", broker.version());
        assert_rising(&messages);
    }
}

/// Which partition each key lies in; a key lies in one alone.
fn partitions(entries: &[Entry]) -> BTreeMap<Vec<u8>, i32> {
    let mut partitions = BTreeMap::new();
    for entry in entries {
        let first = *partitions.entry(entry.key.clone().unwrap()).or_insert(entry.partition);
        assert_eq!(first, entry.partition, "a key lies in two partitions");
    }
    partitions
}

#[test]
fn a_key_goes_to_the_partition_that_others_send_it_to() {
    for broker in VERSIONS.map(shared) {
        let mut records = records("keys", 300, 300);
        let first = records[0].clone();
        // Every remainder of four, and bytes that Java takes for negative.
        records.extend((1..=40).map(|length| Record { key: vec![0xf0; length], ..first.clone() }));
        let theirs = broker.topic("theirs", 7);
        let lines: Vec<(&[u8], &[u8])> = records.iter().map(|record| (&*record.key, &*record.value)).collect();
        broker.peer().produce(&theirs, &lines, &[]);
        let theirs = partitions(&broker.peer().consume(&theirs, &[]));
        assert_eq!(theirs.len(), 340);
        for &kind in kinds(broker.version(), Listener::Plaintext) {
            let ours = broker.topic("ours", 7);
            Writer::new(kind, broker.cluster(Listener::Plaintext), &ours, Compression::None).send_all(&records, 1000);
            assert_eq!(partitions(&broker.peer().consume(&ours, &[])), theirs, "{kind:?}");
        }
    }
}

/// Bytes that no codec makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[test]
fn what_is_too_large_is_refused_and_the_rest_gets_there() {
    for broker in VERSIONS.map(shared) {
        for (&kind, codec) in kinds(broker.version(), Listener::Plaintext)
            .iter()
            .flat_map(|kind| [Compression::None, Compression::Gzip].map(|codec| (kind, codec)))
        {
            let topic = unique("small");
            broker.create_topic(&topic, 2, &[("max.message.bytes", "20000")]);
            let mut records = records("fits", 400, 10);
            for nth in [0, 57, 399] {
                records[nth].value = noise(30_000);
            }
            let mut writer = Writer::new(kind, broker.cluster(Listener::Plaintext), &topic, codec);
            let refused = writer.send(&records);
            assert_eq!(refused.iter().map(|(nth, _)| *nth).collect::<Vec<_>>(), [0, 57, 399], "{kind:?} {codec:?}");
            assert!(refused[0].1.contains("too large"), "{}", refused[0].1);
            assert_eq!(writer.figures.refusals.load(Relaxed), 3);
            let fits: Vec<Record> = records.into_iter().filter(|record| record.value.len() < 20_000).collect();
            let found = found(&broker.peer().consume(&topic, &[]));
            assert_same(&found, &written(kind, &fits), &format!("{kind:?} {codec:?}"));
        }
    }
}

#[test]
fn who_comes_after_goes_on_where_the_other_was() {
    for broker in VERSIONS.map(shared) {
        for &kind in kinds(broker.version(), Listener::Plaintext) {
            let (topic, group, peer) = (broker.topic("resumed", 3), unique("resumed"), broker.peer());
            let cluster = || broker.cluster(Listener::Plaintext);
            // Which both can read.
            let mut writer = Writer::new(Kind::Native, cluster(), &topic, Compression::Gzip);
            writer.send_all(&records("before", 600, 30), 100);
            let mut all = Reader::new(kind, cluster(), &topic, &group).read(600);
            let ends: BTreeMap<i32, i64> = all.iter().map(|message| (message.partition, message.offset + 1)).collect();
            assert_eq!(peer.committed(&group, &topic), ends, "{kind:?}");
            writer.send_all(&records("after", 60, 30), 100);
            let mut reader = Reader::new(kind, cluster(), &topic, &group);
            all.extend(reader.read(60));
            assert_rising(&all);
            // Told with each answer of the broker, so with the one after the last message.
            let end = Instant::now() + PATIENCE;
            while reader.figures.lag().values().any(|lag| *lag != 0) {
                assert!(Instant::now() < end, "{kind:?}: {:?}", reader.figures.lag());
                assert_eq!(reader.poll(1000, end), []);
            }
        }
    }
}

#[test]
fn what_is_gone_is_counted_and_reading_goes_on_at_the_earliest() {
    for broker in VERSIONS.map(shared) {
        for &kind in kinds(broker.version(), Listener::Plaintext) {
            let (topic, group) = (broker.topic("gone", 1), unique("gone"));
            let cluster = || broker.cluster(Listener::Plaintext);
            let mut writer = Writer::new(Kind::Native, cluster(), &topic, Compression::None);
            writer.send_all(&records("first", 10, 1), 10);
            Reader::new(kind, cluster(), &topic, &group).read(10);
            writer.send_all(&records("second", 100, 1), 10);
            broker.delete_records(&topic, 0, 40);
            let mut reader = Reader::new(kind, cluster(), &topic, &group);
            let messages = reader.read(70);
            assert_eq!((messages[0].offset, messages.len()), (40, 70), "{kind:?}");
            assert_eq!(reader.figures.resets.load(Relaxed), 1, "{kind:?}");
        }
    }
}
