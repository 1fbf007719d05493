//! What the Kafka clients do: `cargo bench --bench kafka [-- RECORDS]`.
//!
//! Starts real brokers (`tests/run brokers` brings them), and measures in one run: the native client against the `kafka` crate
//! on 3.9.1 in batches of 1,000 records of 400 bytes, and against librdkafka on 4.3.1, with the same acks and codec. Each figure
//! is the median of [`ROUNDS`] rounds that take turns. CPU is that of the client's own process.

// The tests' brokers; not all of what they offer is needed here.
#[allow(dead_code)]
#[path = "../../tests/kafka/cluster.rs"]
mod cluster;
mod cost;
#[allow(dead_code)]
#[path = "../../tests/service/daemon.rs"]
mod daemon;
#[allow(dead_code)]
#[path = "../../tests/kafka/node.rs"]
mod node;
#[allow(dead_code)]
#[path = "../../tests/kafka/peer.rs"]
mod peer;
#[allow(dead_code)]
#[path = "../../tests/kafka/pki.rs"]
mod pki;
#[allow(dead_code)]
#[path = "../../tests/kafka/proxy.rs"]
mod proxy;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::{Broker, Listener, Version, shared, unique};
use cost::{Cost, measured, median};
use pingeon::jobs::Stop;
use pingeon::kafka::client::Client;
use pingeon::kafka::connection::Access;
use pingeon::kafka::consumer::Consumer;
use pingeon::kafka::group::Settings;
use pingeon::kafka::legacy::{LegacyConsumer, LegacyProducer};
use pingeon::kafka::producer::Producer;
use pingeon::kafka::{Compression, Consume, Produce, Record};
use pingeon::net::Net;

const ROUNDS: usize = 5;
const WARM_UP: usize = 3;
const VALUE_BYTES: usize = 400;
const KEYS: usize = 1_000;
/// Records in one batch on 3.9.1. The `kafka` crate is given one batch at a time, since it waits for each; the native client also
/// several at once.
const BATCH: usize = 1_000;
/// As many records, in the native client's own count of bytes.
const BATCH_BYTES: usize = BATCH * (VALUE_BYTES + 30);
/// What a pump that is behind gives the native client at once; librdkafka gathers as much in its own queue.
const BACKLOG: usize = 10_000;

fn main() {
    let given = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let count: usize = given.unwrap_or(300_000);
    println!("{count} records of {VALUE_BYTES} bytes, medians of {ROUNDS} rounds\n");
    println!("{:<42} {:>12} {:>14}", "", "records/s", "CPU µs/record");
    for codec in [Compression::None, Compression::Snappy, Compression::Gzip] {
        against_the_crate(count, codec);
    }
    for codec in [Compression::None, Compression::Lz4] {
        against_librdkafka(count, codec);
    }
}

fn against_the_crate(count: usize, codec: Compression) {
    let broker = shared(Version::V3_9);
    let records = records(count);
    let name = format!("{codec:?}").to_lowercase();
    let topics: Vec<String> = (0..2).map(|_| broker.topic("bench", 1)).collect();
    let native = || native_producer(broker, &topics[0], codec).with_batch_bytes(BATCH_BYTES);
    let legacy = || legacy_producer(broker, &topics[1], codec);
    let mut costs = [const { Vec::new() }; 5];
    // For nothing, until the broker has compiled what it runs.
    for _ in 0..WARM_UP {
        produce(&mut native(), &records, BACKLOG);
        produce(&mut legacy(), &records, BATCH);
    }
    for _ in 0..ROUNDS {
        costs[0].push(measured(|| produce(&mut native(), &records, BACKLOG)));
        costs[1].push(measured(|| produce(&mut native(), &records, BATCH)));
        costs[2].push(measured(|| produce(&mut legacy(), &records, BATCH)));
    }
    for _ in 0..ROUNDS {
        let mut native = native_consumer(broker, &topics[0]);
        costs[3].push(measured(|| consume(&mut native, count)));
        let mut legacy = legacy_consumer(broker, &topics[0]);
        costs[4].push(measured(|| consume(&mut legacy, count)));
    }
    let [native, one_by_one, legacy, native_read, legacy_read] = costs.map(median);
    show(&format!("3.9.1 produce, {name}, native, in flight"), count, native);
    show(&format!("3.9.1 produce, {name}, native, one by one"), count, one_by_one);
    show(&format!("3.9.1 produce, {name}, kafka crate"), count, legacy);
    compare(native, legacy);
    compare(one_by_one, legacy);
    show(&format!("3.9.1 fetch, {name}, native"), count, native_read);
    show(&format!("3.9.1 fetch, {name}, kafka crate"), count, legacy_read);
    compare(native_read, legacy_read);
}

fn against_librdkafka(count: usize, codec: Compression) {
    let broker = shared(Version::V4_3);
    let records = records(count);
    let name = format!("{codec:?}").to_lowercase();
    let topics: Vec<String> = (0..2).map(|_| broker.topic("bench", 6)).collect();
    let other = librdkafka();
    let bootstrap = broker.bootstrap(Listener::Plaintext);
    let (count_text, bytes, keys) = (count.to_string(), VALUE_BYTES.to_string(), KEYS.to_string());
    let mut costs = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        let mut native = native_producer(broker, &topics[0], codec);
        costs[0].push(measured(|| produce(&mut native, &records, BACKLOG)));
        costs[1].push(run(&other, &["produce", &bootstrap, &topics[1], &count_text, &bytes, &keys, &name]));
    }
    for _ in 0..ROUNDS {
        let mut native = native_consumer(broker, &topics[0]);
        costs[2].push(measured(|| consume(&mut native, count)));
        costs[3].push(run(&other, &["consume", &bootstrap, &topics[0], &count_text]));
    }
    let [native, theirs, native_read, their_read] = costs.map(median);
    show(&format!("4.3.1 produce, {name}, native"), count, native);
    show(&format!("4.3.1 produce, {name}, librdkafka"), count, theirs);
    compare(native, theirs);
    show(&format!("4.3.1 fetch, {name}, native"), count, native_read);
    show(&format!("4.3.1 fetch, {name}, librdkafka"), count, their_read);
    compare(native_read, their_read);
}

fn show(what: &str, count: usize, [seconds, cpu]: Cost) {
    println!("{what:<42} {:>12.0} {:>14.2}", count as f64 / seconds, cpu * 1e6 / count as f64);
}

fn compare(ours: Cost, theirs: Cost) {
    println!(
        "{:<42} {:>12} {:>14}",
        "",
        format!("× {:.2}", theirs[0] / ours[0]),
        format!("× {:.2}", ours[1] / theirs[1])
    );
}

fn records(count: usize) -> Vec<Record> {
    let pattern = br#"{"v":1,"agent":"edge-01","seq":"#;
    let filling: Vec<u8> = pattern.iter().copied().cycle().take(VALUE_BYTES - 20).collect();
    let record = |n: usize| {
        let value = [&filling[..], format!("{n:020}").as_bytes()].concat();
        Record { key: format!("edge-01/{}", n % KEYS).into_bytes(), value, timestamp: 1_790_000_000_000 + n as i64 }
    };
    (0..count).map(record).collect()
}

fn access(broker: &Broker) -> Access {
    let (net, stop) = (Arc::new(Net::system()), Stop::default());
    Access { cluster: broker.cluster(Listener::Plaintext), net, stop }
}

fn client(broker: &Broker, topic: &str) -> Client {
    Client::new(access(broker), topic.to_owned())
}

fn native_producer(broker: &Broker, topic: &str, codec: Compression) -> Producer {
    Producer::new(client(broker, topic), codec, Arc::default())
}

fn legacy_producer(broker: &Broker, topic: &str, codec: Compression) -> LegacyProducer {
    LegacyProducer::new(&access(broker), topic, codec, Arc::default()).unwrap()
}

fn native_consumer(broker: &Broker, topic: &str) -> Consumer {
    Consumer::new(client(broker, topic), Settings::new(unique("bench")), Arc::default())
}

fn legacy_consumer(broker: &Broker, topic: &str) -> LegacyConsumer {
    LegacyConsumer::new(&access(broker), topic, &unique("bench"), Arc::default()).unwrap()
}

fn produce(producer: &mut dyn Produce, records: &[Record], at_once: usize) {
    for records in records.chunks(at_once) {
        // A broker that has just started may not be ready for its first producer.
        let by = Instant::now() + Duration::from_secs(30);
        while let Err(error) = producer.send(records) {
            assert!(Instant::now() < by, "{error}");
        }
    }
}

fn consume(consumer: &mut dyn Consume, count: usize) {
    let (mut read, by) = (0, Instant::now() + Duration::from_secs(60));
    while read < count {
        assert!(Instant::now() < by, "{read} of {count}");
        let Ok(messages) = consumer.poll(Duration::from_secs(1), 2_000) else { continue };
        assert!(messages.iter().all(|message| message.value.len() == VALUE_BYTES));
        read += messages.len();
    }
}

/// Compiles the other side.
fn librdkafka() -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-librdkafka");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/kafka/librdkafka.c");
    let compiled = Command::new("cc").args(["-O2", "-o"]).arg(&program).arg(source).arg("-lrdkafka").status();
    assert!(compiled.is_ok_and(|status| status.success()), "needs a C compiler and `librdkafka-dev`");
    program
}

fn run(program: &Path, arguments: &[&str]) -> Cost {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut figures = text.split_whitespace().map(|figure| figure.parse().unwrap());
    [figures.next().unwrap(), figures.next().unwrap()]
}
