//! What is written is what is read, whoever writes and reads: every client, broker, codec and way in.

use std::collections::BTreeMap;

use pingeon::kafka::{Compression, Produce as _, Record};

use crate::clients::{COMPRESSIONS, native_producer, records, send_all};
use crate::cluster::{LISTENERS, Listener, VERSIONS, shared};
use crate::peer::Entry;

/// Key, value and time of each, sorted: what a topic has to hold.
fn contents(records: &[Record]) -> Vec<(Vec<u8>, Vec<u8>, i64)> {
    let mut contents: Vec<_> =
        records.iter().map(|record| (record.key.clone(), record.value.clone(), record.timestamp)).collect();
    contents.sort();
    contents
}

/// The same of what lies there.
fn found(entries: &[Entry]) -> Vec<(Vec<u8>, Vec<u8>, i64)> {
    let mut found: Vec<_> = entries
        .iter()
        .map(|entry| (entry.key.clone().unwrap(), entry.value.clone().unwrap(), entry.timestamp))
        .collect();
    found.sort();
    found
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
fn the_other_client_reads_what_the_native_producer_writes() {
    for (broker, codec) in VERSIONS.map(shared).into_iter().flat_map(|broker| COMPRESSIONS.map(|codec| (broker, codec)))
    {
        let topic = broker.topic("native", 5);
        let mut sent = Vec::new();
        for listener in LISTENERS {
            let records = records(&format!("{listener:?}"), 500, 40);
            let (mut producer, _) = native_producer(broker.cluster(listener), &topic, codec);
            assert_eq!(send_all(&mut producer, &records, 200), []);
            sent.extend(records);
        }
        let entries = broker.peer().consume(&topic, &[]);
        assert_eq!(found(&entries), contents(&sent), "{:?} {codec:?}", broker.version());
        in_order(&entries);
    }
}

/// Records of one key come in the order they were given in.
fn in_order(entries: &[Entry]) {
    let mut last: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
    for entry in entries {
        let before = last.insert(entry.key.clone().unwrap(), entry.timestamp);
        assert!(before < Some(entry.timestamp), "out of order at {}@{}", entry.partition, entry.offset);
    }
}

#[test]
fn a_key_goes_to_the_partition_that_others_send_it_to() {
    for broker in VERSIONS.map(shared) {
        let (ours, theirs) = (broker.topic("ours", 7), broker.topic("theirs", 7));
        let mut records = records("keys", 300, 300);
        // Lengths that leave each remainder, bytes past ASCII.
        let first = records[0].clone();
        records.extend((1..=40).map(|length| Record { key: vec![0xf0; length], ..first.clone() }));
        let (mut producer, _) = native_producer(broker.cluster(Listener::Plaintext), &ours, Compression::None);
        assert_eq!(send_all(&mut producer, &records, 1000), []);
        let lines: Vec<(&[u8], &[u8])> = records.iter().map(|record| (&*record.key, &*record.value)).collect();
        broker.peer().produce(&theirs, &lines, &[]);
        let [ours, theirs] = [ours, theirs].map(|topic| partitions(&broker.peer().consume(&topic, &[])));
        assert_eq!(ours, theirs);
        assert_eq!(ours.len(), 340);
    }
}

#[test]
fn what_is_too_large_is_refused_and_the_rest_gets_there() {
    for (broker, codec) in VERSIONS
        .map(shared)
        .into_iter()
        .flat_map(|broker| [Compression::None, Compression::Gzip].map(|codec| (broker, codec)))
    {
        let topic = crate::cluster::unique("small");
        broker.create_topic(&topic, 2, &[("max.message.bytes", "20000")]);
        let mut records = records("fits", 400, 10);
        for nth in [0, 57, 399] {
            // Noise, so that no codec makes it fit.
            let mut state = 1_u64;
            records[nth].value = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()[0]
            })
            .take(30_000)
            .collect();
        }
        let (mut producer, figures) = native_producer(broker.cluster(Listener::Plaintext), &topic, codec);
        let refused = producer.send(&records).unwrap();
        assert_eq!(refused.iter().map(|refusal| refusal.index).collect::<Vec<_>>(), [0, 57, 399]);
        assert!(refused[0].reason.contains("too large"), "{}", refused[0].reason);
        assert_eq!(figures.refusals.load(std::sync::atomic::Ordering::Relaxed), 3);
        let fits: Vec<Record> = records.iter().filter(|record| record.value.len() < 20_000).cloned().collect();
        assert_eq!(found(&broker.peer().consume(&topic, &[])), contents(&fits));
    }
}
