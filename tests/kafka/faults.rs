//! Whatever the network does: nothing is lost, and with the native producer nothing is in the topic twice.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use pingeon::jobs::Stop;
use pingeon::kafka::{Compression, Record};

use crate::clients::{Kind, PATIENCE, Reader, Writer, records};
use crate::cluster::{Broker, Listener, VERSIONS, Version, shared, unique};
use crate::proxy::{Fault, Proxy};

/// What goes on for as long as it is set, and what happens several times; each while requests are under way.
const FAULTS: [Fault; 8] = [
    Fault::None,
    Fault::Delay(Duration::from_millis(30)),
    Fault::Dribble,
    Fault::Cut { after: 5, times: 6 },
    Fault::Cut { after: 700, times: 4 },
    Fault::Noise { times: 4 },
    Fault::NoiseInside { times: 4 },
    Fault::Closed,
];
/// How long nobody can be reached, where that is the fault.
const CLOSED_FOR: Duration = Duration::from_millis(700);

const PARTITIONS: usize = 3;
/// Before the fault, so that connections are there when it strikes.
const BEFORE: usize = 100;
const ALL: usize = 1500;
const AT_ONCE: usize = 100;
/// So that several batches of each partition are in flight.
const BATCH_BYTES: usize = 1_000;

/// Does `work` while the fault is there, and shows that it was.
fn with(fault: Fault, proxy: &Proxy, work: impl FnOnce()) {
    thread::scope(|scope| {
        proxy.set(fault);
        if fault == Fault::Closed {
            scope.spawn(|| {
                Stop::default().wait(CLOSED_FOR);
                assert!(proxy.struck() > 0, "{fault:?} did nothing");
                proxy.set(Fault::None);
            });
        }
        work();
    });
    assert!(matches!(fault, Fault::None | Fault::Closed) || proxy.struck() > 0, "{fault:?} did nothing");
}

/// Numbers of the records.
fn numbers<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<usize> {
    values.map(|value| std::str::from_utf8(value).unwrap().split(' ').nth(1).unwrap().parse().unwrap()).collect()
}

/// Which of so many records are not there, and which are more than once.
fn missing_and_doubled(numbers: &[usize], of: usize) -> (Vec<usize>, Vec<usize>) {
    let mut times = vec![0; of];
    numbers.iter().for_each(|number| times[*number] += 1);
    let which = |wanted: fn(usize) -> bool| (0..of).filter(|number| wanted(times[*number])).collect();
    (which(|times| times == 0), which(|times| times > 1))
}

const NONE: (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());

/// Writes all through the proxy, the fault striking on the way; the numbers of what lies in the topic then.
fn write_through(broker: &Broker, kind: Kind, fault: Fault) -> Vec<usize> {
    let topic = broker.topic("written", PARTITIONS);
    let proxy = broker.proxy();
    let mut writer = Writer::in_batches(kind, broker.cluster_behind(&proxy), &topic, Compression::None, BATCH_BYTES);
    let records: Vec<Record> = records("log", ALL, 30);
    writer.send_all(&records[..BEFORE], AT_ONCE);
    with(fault, &proxy, || writer.send_all(&records[BEFORE..], AT_ONCE));
    let entries = broker.peer().consume(&topic, &[]);
    if kind == Kind::Native {
        let mut last = BTreeMap::new();
        for entry in &entries {
            let before = last.insert(entry.key.clone(), entry.timestamp);
            assert!(before < Some(entry.timestamp), "{fault:?}: out of order at {}@{}", entry.partition, entry.offset);
        }
    }
    numbers(entries.iter().map(|entry| entry.value.as_deref().unwrap()))
}

#[test]
fn what_the_native_producer_writes_is_there_once_and_in_order() {
    for broker in VERSIONS.map(shared) {
        for fault in FAULTS {
            let found = write_through(broker, Kind::Native, fault);
            assert_eq!(missing_and_doubled(&found, ALL), NONE, "{:?} {fault:?}", broker.version());
        }
    }
}

#[test]
fn what_the_kafka_crate_writes_is_there() {
    let broker = shared(Version::V3_9);
    for fault in FAULTS {
        let (missing, _) = missing_and_doubled(&write_through(broker, Kind::Crate, fault), ALL);
        assert_eq!(missing, NONE.0, "{fault:?}");
    }
}

/// Reads all through the proxy, the fault striking on the way, while it is written past the proxy.
fn read_through(broker: &Broker, kind: Kind, fault: Fault) -> Vec<usize> {
    let (topic, group) = (broker.topic("read", PARTITIONS), unique("read"));
    let mut writer = Writer::new(Kind::Native, broker.cluster(Listener::Plaintext), &topic, Compression::None);
    let records = records("log", ALL, 30);
    writer.send_all(&records[..BEFORE], AT_ONCE);
    let proxy = broker.proxy();
    let mut reader = Reader::new(kind, broker.cluster_behind(&proxy), &topic, &group);
    let mut messages = reader.read(BEFORE);
    with(fault, &proxy, || {
        thread::scope(|scope| {
            scope.spawn(|| {
                for records in records[BEFORE..].chunks(AT_ONCE) {
                    writer.send_all(records, AT_ONCE);
                    Stop::default().wait(Duration::from_millis(50));
                }
            });
            messages.extend(reader.read(ALL - BEFORE));
        });
    });
    let committed: i64 = broker.peer().committed(&group, &topic).values().sum();
    assert_eq!(committed, ALL as i64, "{:?} {fault:?}", broker.version());
    numbers(messages.iter().map(|message| &*message.value))
}

#[test]
fn what_is_written_the_native_consumer_brings_once() {
    for broker in VERSIONS.map(shared) {
        for fault in FAULTS {
            let found = read_through(broker, Kind::Native, fault);
            assert_eq!(missing_and_doubled(&found, ALL), NONE, "{:?} {fault:?}", broker.version());
        }
    }
}

#[test]
fn what_is_written_the_kafka_crate_brings() {
    let broker = shared(Version::V3_9);
    for fault in FAULTS {
        let (missing, _) = missing_and_doubled(&read_through(broker, Kind::Crate, fault), ALL);
        assert_eq!(missing, NONE.0, "{fault:?}");
    }
}

#[test]
fn answers_that_never_come_are_given_up_and_nothing_is_written_twice() {
    let broker = shared(Version::V4_3);
    let topic = broker.topic("hole", PARTITIONS);
    let proxy = broker.proxy();
    let mut writer = Writer::new(Kind::Native, broker.cluster_behind(&proxy), &topic, Compression::None);
    let records: Vec<Record> = records("log", 200, 30);
    writer.send_all(&records[..100], 100);
    // Done by the broker, and never answered; then the connection is of no more use.
    proxy.set(Fault::Mute { times: 1 });
    let begin = Instant::now();
    writer.send_all(&records[100..], 100);
    assert!(begin.elapsed() < PATIENCE && proxy.struck() > 0);
    assert!(writer.figures.retries.load(Relaxed) > 0, "nothing was sent again");
    let found = numbers(broker.peer().consume(&topic, &[]).iter().map(|entry| entry.value.as_deref().unwrap()));
    assert_eq!(missing_and_doubled(&found, 200), NONE);
}
