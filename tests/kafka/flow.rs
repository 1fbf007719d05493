//! Checks → spool → Kafka → store, by the program as it is shipped.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use pingeon::kafka::partitioner::partition;
use rustix::process::Signal;
use serde_json::Value;

use crate::cluster::{Broker, Listener, Version, shared};
use crate::peer::Entry;
use crate::proxy::Fault;
use crate::running::{PATIENCE, Place, Service, wait_for};

const PARTITIONS: usize = 6;
const AGENT: &str = "edge-01";

/// Nobody listens there, so each check is down at once: a log is a log.
const CHECKS: &str = "\
checks:
  - {label: \"port-{n}\", for: {n: [a, b, c, d]}, tcp: \"127.0.0.1:1\", interval: 100ms, timeout: 100ms}
spool: {flush: 20ms}
";

const STORE: &str = "store: {sqlite: {path: pingeon.db}}\n";

/// A config with these sections and this queue.
fn config(sections: &[&str], bootstrap: &str, topic: &str, settings: &str) -> String {
    let queue =
        format!("queue: {{kafka: {{brokers: [\"{bootstrap}\"], topic: {topic}, group: {topic}, {settings}}}}}\n");
    format!("agent: {AGENT}\n{}{queue}", sections.concat())
}

fn stored(centre: &Place) -> Vec<i64> {
    centre.stored("SELECT seq FROM log ORDER BY boot, seq")
}

/// Stops it as systemd does.
fn stop(service: Service) -> String {
    service.signal(Signal::TERM);
    let (status, took, said) = service.ends();
    assert!(status.success(), "{status} after {took:?}\n{said}");
    said
}

/// What a process that was stopped did not store any more, another does; then there are so many logs.
fn store_the_rest(place: &Place, logs: usize) {
    let mut rest = place.start("consume");
    rest.says("Kafka: consuming");
    wait_for("all logs in the store", || (stored(place).len() == logs).then_some(()));
    stop(rest);
}

/// All that an agent wrote is in the topic, by the partition of its key; how many logs. `again`: how often a log may be there.
fn written(broker: &Broker, topic: &str, twice: bool) -> usize {
    let entries = broker.peer().consume(topic, &[]);
    let mut seqs = BTreeSet::new();
    for Entry { partition: lies_in, key, value, .. } in &entries {
        let (key, log) = (key.as_ref().unwrap(), value.as_ref().unwrap());
        let log: Value = serde_json::from_slice(log).unwrap();
        let expected = format!("{AGENT}/{}", log["label"].as_str().unwrap());
        assert_eq!((&String::from_utf8_lossy(key)[..], *lies_in), (&*expected, partition(key, PARTITIONS as i32)));
        assert!(seqs.insert(log["seq"].as_u64().unwrap()) || twice, "twice in the topic: {log}");
    }
    assert_eq!(seqs, (1..=seqs.len() as u64).collect(), "some are missing in the topic");
    seqs.len()
}

/// An agent publishes, a centre stores; each is another process. The centre is killed once, and the agent stopped at the end.
/// By its name the group knows the centre again at once.
fn carries(version: Version, settings: &str, producing: &str, consuming: &str) {
    let broker = shared(version);
    let topic = broker.topic("flow", PARTITIONS);
    let bootstrap = broker.bootstrap(Listener::Plaintext);
    let agent = Place::with(&config(&[CHECKS], &bootstrap, &topic, settings));
    let centre = Place::with(&config(&[STORE], &bootstrap, &topic, &format!("{settings}, instance_id: centre")));

    let mut producer = agent.start("produce");
    assert!(producer.says("Kafka: producing").contains(producing), "{version:?}, {settings}");
    let mut killed = centre.start("consume");
    assert!(killed.says("Kafka: consuming").contains(consuming), "{version:?}, {settings}");
    wait_for("logs in the store", || (stored(&centre).len() >= 20).then_some(()));
    killed.signal(Signal::KILL);
    drop(killed);

    let consumer = centre.start("consume");
    let before = stored(&centre).len();
    wait_for("more logs in the store", || (stored(&centre).len() >= before + 20).then_some(()));
    stop(producer);
    // Nothing was in doubt, so also who is not idempotent has written nothing twice.
    let logs = written(broker, &topic, false);
    wait_for("all logs in the store", || (stored(&centre).len() == logs).then_some(()));
    assert_eq!(stored(&centre), (1..=logs as i64).collect::<Vec<_>>());
    stop(consumer);
    let committed: i64 = broker.peer().committed(&topic, &topic).values().sum();
    assert_eq!(committed, logs as i64, "the offsets are not all committed");
    assert!(!centre.path().join("spool.db").exists(), "a consumer has no spool");
}

const NATIVE: &str = "by the native client, since";
const BY_CRATE: &str = "by the `kafka` crate, since";

#[test]
fn flows_on_the_old_broker_with_what_auto_takes() {
    carries(Version::V3_9, "compression: snappy", &format!("{BY_CRATE} the broker speaks Fetch 0–"), NATIVE);
}

#[test]
fn flows_on_the_old_broker_with_what_auto_takes_for_lz4() {
    carries(Version::V3_9, "compression: lz4", &format!("{NATIVE} the config asks for lz4"), NATIVE);
}

#[test]
fn flows_on_the_old_broker_by_the_kafka_crate() {
    carries(Version::V3_9, "client: kafka-crate, compression: gzip", BY_CRATE, BY_CRATE);
}

#[test]
fn flows_on_the_old_broker_by_the_native_client() {
    carries(Version::V3_9, "client: native", NATIVE, NATIVE);
}

#[test]
fn flows_on_the_new_broker_with_what_auto_takes() {
    carries(Version::V4_3, "compression: gzip", &format!("{NATIVE} the broker speaks Fetch 4–"), NATIVE);
}

#[test]
fn flows_on_the_new_broker_by_the_native_client() {
    carries(Version::V4_3, "client: native", NATIVE, NATIVE);
}

#[test]
fn the_kafka_crate_on_the_new_broker_is_an_error_that_says_what_to_do() {
    let broker = shared(Version::V4_3);
    let topic = broker.topic("crate", 1);
    let bootstrap = broker.bootstrap(Listener::Plaintext);
    for command in ["run", "produce", "consume"] {
        let place = Place::with(&config(&[CHECKS, STORE], &bootstrap, &topic, "client: kafka-crate"));
        let (status, _, said) = place.start(command).ends();
        assert_eq!(status.code(), Some(1), "{command}: {said}");
        let error = said.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        let why = "broker speaks Fetch 4–18; the `kafka` crate speaks 0; use `client: native`";
        assert!(error.ends_with(why), "{command}: {said}");
    }
    assert_eq!(broker.peer().consume(&topic, &[]).len(), 0);
}

#[test]
fn one_process_does_it_all_and_shows_it() {
    let broker = shared(Version::V4_3);
    let topic = broker.topic("all", PARTITIONS);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let web = format!("web: {{listen: \"127.0.0.1:{port}\"}}\n");
    let place =
        Place::with(&config(&[CHECKS, STORE, &web], &broker.bootstrap(Listener::Plaintext), &topic, "client: auto"));
    let summary = String::from_utf8(place.pingeon(&["validate"]).stdout).unwrap();
    assert!(summary.contains(&format!("queue    kafka, topic {topic} at localhost:")), "{summary}");
    let service = place.run();
    wait_for("logs in the store", || (stored(&place).len() >= 20).then_some(()));
    let health = wait_for("/healthz to answer", || healthz(port));
    let flows: Vec<_> = ["spool to Kafka", "Kafka to store"]
        .map(|name| health["flows"].as_array().unwrap().iter().find(|flow| flow["name"] == name).unwrap())
        .into();
    for flow in &flows {
        let figure = |name: &str| flow["kafka"][name].as_f64().unwrap();
        assert!(figure("batches") > 0.0 && figure("bytes") > 0.0 && figure("in_flight_ms") > 0.0, "{health}");
        assert_eq!((&flow["fault"], &flow["kafka"]["refusals"]), (&Value::Null, &0.into()), "{health}");
    }
    assert_eq!(flows[1]["kafka"]["lag"].as_object().unwrap().len(), PARTITIONS, "{health}");
    stop(service);
    // What it could not store itself any more is in the topic.
    let logs = written(broker, &topic, false);
    store_the_rest(&place, logs);
}

/// What /healthz answers, when it does.
pub fn healthz(port: u16) -> Option<Value> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).ok()?;
    connection.set_read_timeout(Some(PATIENCE)).ok()?;
    connection.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split("\r\n\r\n").nth(1)?).ok()
}

/// The brokers are away at the start and once more later; both halves go on by themselves.
fn outlives_its_brokers(version: Version, settings: &str, twice: bool) {
    let broker = shared(version);
    let topic = broker.topic("away", PARTITIONS);
    let proxy = broker.proxy();
    proxy.set(Fault::Closed);
    let place = Place::with(&config(&[CHECKS, STORE], &proxy.bootstrap(), &topic, settings));
    let mut service = place.run();
    service.says("spool to Kafka: broker localhost");
    proxy.set(Fault::None);
    wait_for("logs in the store", || (stored(&place).len() >= 10).then_some(()));
    proxy.set(Fault::Closed);
    service.says("trying again");
    proxy.set(Fault::None);
    service.says("goes on after");
    let before = stored(&place).len();
    wait_for("more logs in the store", || (stored(&place).len() > before + 10).then_some(()));
    stop(service);
    let logs = written(broker, &topic, twice);
    store_the_rest(&place, logs);
}

#[test]
fn brokers_that_are_away_are_waited_for() {
    outlives_its_brokers(Version::V4_3, "client: auto", false);
}

#[test]
fn brokers_that_are_away_are_waited_for_by_the_kafka_crate() {
    outlives_its_brokers(Version::V3_9, "client: kafka-crate", true);
}

#[test]
fn what_is_no_log_is_set_aside_with_its_origin_and_stops_nothing() {
    for (version, settings) in
        [(Version::V3_9, "client: kafka-crate"), (Version::V3_9, "client: native"), (Version::V4_3, "client: auto")]
    {
        let broker = shared(version);
        let topic = broker.topic("poison", 1);
        broker.peer().produce(&topic, &[(b"a", b"not a log"), (b"b", b"{\"v\":2}"), (b"c", b"\xff")], &[]);
        let place = Place::with(&config(&[CHECKS, STORE], &broker.bootstrap(Listener::Plaintext), &topic, settings));
        let service = place.run();
        wait_for("logs in the store", || (stored(&place).len() >= 10).then_some(()));
        let origins = place.stored::<String>("SELECT origin FROM rejected ORDER BY origin");
        assert_eq!(origins, (0..3).map(|offset| format!("{topic}/0@{offset}")).collect::<Vec<_>>(), "{settings}");
        let bytes = place.stored::<Vec<u8>>("SELECT bytes FROM rejected ORDER BY origin");
        assert_eq!(bytes, [&b"not a log"[..], b"{\"v\":2}", b"\xff"], "{settings}");
        stop(service);
    }
}
