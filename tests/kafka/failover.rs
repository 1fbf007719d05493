//! The leader dies while it is written to and while it is read from: nothing is lost, and nothing is in the topic twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use pingeon::jobs::Stop;
use pingeon::kafka::client::Client;
use pingeon::kafka::connection::Access;
use pingeon::kafka::figures::Figures;
use pingeon::kafka::producer::Producer;
use pingeon::kafka::{Cluster, Compression, Produce, Record};
use pingeon::net::Net;

use crate::cluster::{VERSIONS, cluster_of_three};

const RECORDS: usize = 100_000;
/// Enough for several batches in flight to each leader.
const AT_ONCE: usize = 20_000;
const VALUE_BYTES: usize = 400;
const LABELS: usize = 97;
const PARTITIONS: i32 = 3;
/// Until a cluster has to be over the death of a node.
const OVER_IT: Duration = Duration::from_secs(90);

#[test]
fn a_leader_that_dies_while_it_is_written_to_loses_nothing_and_doubles_nothing() {
    for version in VERSIONS {
        let mut three = cluster_of_three(version);
        let topic = three.topic("failover", PARTITIONS as usize);
        let (peer, cluster) = (three.peer(), three.cluster());
        let figures = Arc::new(Figures::default());
        thread::scope(|scope| {
            let seen = figures.clone();
            let name = &topic;
            let three = &mut three;
            scope.spawn(move || {
                let leader = three.leader_of(name, 0);
                wait_for("some batches to be there", || seen.batches.load(Relaxed) > 10);
                three.kill(leader);
                wait_for("more batches to be there", || seen.batches.load(Relaxed) > 30);
                three.restart(leader);
            });
            let mut producer = Producer::new(client(cluster, &topic), Compression::None, figures.clone());
            records().chunks(AT_ONCE).for_each(|records| insist(&mut producer, records));
        });
        assert!(figures.retries.load(Relaxed) > 0, "nothing was in the way");
        let found = peer.consume(&topic, &[]);
        let mut numbers: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
        for entry in &found {
            numbers.entry(entry.key.clone().unwrap()).or_default().push(number(entry.value.as_deref().unwrap()));
        }
        let expected = |label: usize| (label..RECORDS).step_by(LABELS).collect::<Vec<_>>();
        for label in 0..LABELS {
            assert_eq!(numbers[key(label).as_bytes()], expected(label), "{version:?}, {}", key(label));
        }
        assert_eq!(found.len(), RECORDS);
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let by = Instant::now() + OVER_IT;
    while !done() {
        assert!(Instant::now() < by, "waited for {what}");
        thread::yield_now();
    }
}

fn client(cluster: Cluster, topic: &str) -> Client {
    Client::new(Access { cluster, net: Arc::new(Net::system()), stop: Stop::default() }, topic.to_owned())
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

/// As the pump does, without waiting.
fn insist(producer: &mut Producer, records: &[Record]) {
    let by = Instant::now() + OVER_IT;
    loop {
        match producer.send(records) {
            Ok(refused) => return assert_eq!(refused, []),
            Err(error) => assert!(Instant::now() < by, "{error}"),
        }
    }
}
