//! The consumer half: every thread and channel of it, on one screen.
//!
//! ```text
//! spool ──▶ pump ──▶ store ◀── retention          without a queue
//!
//! topic ──▶ pump × connections ──▶ store ◀── retention      behind one; by the `kafka` crate one pump, no heart
//!   ▲ heart × connections, last word × connections
//! ```
//!
//! No channels: a pump pulls a batch, delivers it and commits it, and holds one batch at a time. Each member of the consumer
//! group has its own connection to the store, and a heart that tells the group that it lives.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::{Kafka, KafkaClient, Store};
use crate::flow::{Fault, Source};
use crate::flows::{self, Flow, last_word};
use crate::jobs::{Jobs, Pulse, Stop, step_back};
use crate::kafka::Consume;
use crate::kafka::client::Client;
use crate::kafka::connection::Access;
use crate::kafka::consumer::{Consumer, Settings};
use crate::kafka::figures::Figures;
use crate::net::Net;
use crate::queue::{CrateConsumer, Gather, QueueSource};
use crate::store::{self, Keep};

const STACK: usize = 512 * 1024;

/// How often old logs are looked for.
const RETENTION_EVERY: Duration = Duration::from_secs(600);

/// While there are more of them, the pump gets this long to write between two rounds of deleting.
const RETENTION_PAUSE: Duration = Duration::from_millis(100);

/// A round that takes longer than this is stuck: it is some twenty transactions, each of which may wait for 5 s to begin.
const PULSE_LIMIT: Duration = Duration::from_secs(120);

/// How the embedded store's batches are gathered; one consumer, since it has one writer.
const EMBEDDED: Gather = Gather { logs_max: 2_000, wait: Duration::from_millis(500) };

/// Starts every thread of the consumer half without a queue. `drained` is set when nothing more comes into the source: the pump
/// empties it and ends.
///
/// # Errors
/// When the store cannot be opened or a thread cannot be started.
pub(crate) fn start<S>(jobs: &Jobs, source: S, store: &Store, drained: &Stop) -> Result<Flow, String>
where
    S: Source + Send + 'static,
{
    let flow = Flow::embedded("spool to store");
    flows::start(jobs, "pump", &flow, (source, store::sink(store)?), (drained, &Stop::default()))?;
    start_retention(jobs, store, drained)?;
    Ok(flow)
}

/// Starts every thread of the consumer half behind a queue. After `stop` each consumer ends with the batch in hand.
///
/// # Errors
/// When the store cannot be opened or a thread cannot be started.
pub(crate) fn start_from_queue(
    jobs: &Jobs,
    kafka: &Kafka,
    store: &Store,
    net: &Arc<Net>,
    stop: &Stop,
) -> Result<Vec<Flow>, String> {
    let (gather, connections) = gathering(store);
    let reading = Reading::decide(kafka.client, connections);
    let mut all = Vec::new();
    for number in 1..=reading.pumps() {
        // Known by its number where there are several.
        let suffix = |sign: char| if reading.pumps() > 1 { format!("{sign}{number}") } else { String::new() };
        let numbered = |name: &str| format!("{name}{}", suffix('-'));
        let flow = Flow::with_kafka(format!("Kafka to store{}", suffix(' ')));
        let over = last_word(jobs, &numbered("last-word"), stop)?;
        let access = Access { cluster: kafka.cluster.clone(), net: net.clone(), stop: over.clone() };
        let figures = flow.kafka.clone().unwrap_or_default();
        let consumer: Box<dyn Consume + Send> = match reading {
            Reading::Crate => Box::new(CrateConsumer::new(kafka, &access, &figures).map_err(|e| e.to_string())?),
            Reading::Members(_) => {
                let member = member_of(kafka, kafka.instance_id.as_deref().map(&numbered), access, figures);
                start_heart(jobs, &numbered("heart"), &member, &over)?;
                Box::new(member)
            }
        };
        let source = QueueSource::new(consumer, kafka.topic.clone(), gather, stop.clone());
        flows::start(jobs, &numbered("from-kafka"), &flow, (source, store::sink(store)?), (stop, &over))?;
        all.push(flow);
    }
    start_retention(jobs, store, stop)?;
    Ok(all)
}

/// How the store's batches are gathered, and how many connections it takes.
fn gathering(store: &Store) -> (Gather, usize) {
    match store {
        Store::Sqlite(_) => (EMBEDDED, 1),
        Store::Postgres(store) => {
            (Gather { logs_max: store.batch_max, wait: store.batch_wait }, store.connections.max(1))
        }
    }
}

/// Who reads the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// The `kafka` crate, alone: it does not share partitions.
    Crate,
    /// So many members of the consumer group, by the native client.
    Members(usize),
}

impl Reading {
    fn decide(client: KafkaClient, connections: usize) -> Self {
        let (reading, name, why) = match client {
            KafkaClient::KafkaCrate => (Reading::Crate, "`kafka` crate", "the config says so"),
            KafkaClient::Native => (Reading::Members(connections), "native client", "the config says so"),
            KafkaClient::Auto => {
                let why = "only that shares partitions among consumers";
                (Reading::Members(connections), "native client", why)
            }
        };
        log::info!("Kafka: consuming by the {name}, since {why}");
        if reading.pumps() < connections {
            log::warn!("the `kafka` crate does not share partitions among consumers: one of `connections` is used");
        }
        reading
    }

    /// How many pumps that takes.
    fn pumps(self) -> usize {
        match self {
            Reading::Crate => 1,
            Reading::Members(members) => members,
        }
    }
}

fn member_of(kafka: &Kafka, instance_id: Option<String>, access: Access, figures: Arc<Figures>) -> Consumer {
    let settings = Settings { instance_id, ..Settings::new(kafka.group.clone()) };
    Consumer::new(Client::new(access, kafka.topic.clone()), settings, figures)
}

fn start_heart(jobs: &Jobs, thread: &str, member: &Consumer, over: &Stop) -> Result<(), String> {
    let (heart, until) = (member.heart(), over.clone());
    jobs.start(thread, STACK, move |pulse| heart.run(&until, pulse))
}

fn start_retention(jobs: &Jobs, store: &Store, stop: &Stop) -> Result<(), String> {
    let (mut keeper, stop) = (store::keeper(store)?, stop.clone());
    jobs.start("retention", STACK, move |pulse| {
        step_back();
        retain(keeper.as_mut(), pulse, &stop)
    })
}

/// Looks for old logs every [`RETENTION_EVERY`] until told to stop.
fn retain(store: &mut dyn Keep, pulse: &Pulse, stop: &Stop) -> Result<(), String> {
    let mut said = None;
    loop {
        match sweep(store, SystemClock.now().wall, pulse, stop) {
            Ok(0) => said = None,
            Ok(logs) => {
                log::info!("retention: {logs} logs deleted");
                said = None;
            }
            Err(Fault::Broken(reason)) => return Err(format!("retention: {reason}")),
            Err(Fault::Retry(reason)) if said.as_ref() == Some(&reason) => {}
            Err(Fault::Retry(reason)) => {
                log::warn!("retention: {reason}; trying again");
                said = Some(reason);
            }
        }
        pulse.rest();
        if stop.wait(RETENTION_EVERY) {
            return Ok(());
        }
    }
}

/// Deletes all that is older than the retention at `now`, however much came since the last time; how many logs that were.
/// Leaves the rest to the next start when told to stop.
fn sweep(store: &mut dyn Keep, now: Timestamp, pulse: &Pulse, stop: &Stop) -> Result<u64, Fault> {
    let mut deleted = 0;
    loop {
        pulse.back_in(PULSE_LIMIT);
        let retained = store.keep(now)?;
        deleted += retained.deleted;
        if !retained.more || stop.wait(RETENTION_PAUSE) {
            return Ok(deleted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::store::sqlite::Sqlite;
    use rusqlite::Connection;

    #[test]
    fn the_crate_reads_alone_and_the_native_client_over_each_connection() {
        use KafkaClient::{Auto, KafkaCrate, Native};
        for (client, connections, reading, pumps) in [
            (KafkaCrate, 1, Reading::Crate, 1),
            (KafkaCrate, 4, Reading::Crate, 1),
            (Native, 1, Reading::Members(1), 1),
            (Native, 4, Reading::Members(4), 4),
            (Auto, 4, Reading::Members(4), 4),
        ] {
            let decided = Reading::decide(client, connections);
            assert_eq!((decided, decided.pumps()), (reading, pumps), "{client:?} {connections}");
        }
    }

    #[test]
    fn retention_goes_on_until_all_that_is_old_is_gone_or_it_is_told_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pingeon.db");
        let settings = config::Sqlite { path: path.clone(), retention: Duration::from_secs(86_400) };
        let mut store = Sqlite::open(&settings, Arc::new(SystemClock)).unwrap();
        let other = Connection::open(&path).unwrap();
        // Uids of the year 1970.
        other
            .execute_batch(
                "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 60000)
                 INSERT INTO log (uid, agent, boot, seq, label, kind, target, due_at, interval_ms, verdict, result)
                 SELECT unhex(printf('%032x', n)), 'a', x'', n, 'shop', 'http', '', 0, 1000, 'up', '{}' FROM n",
            )
            .unwrap();
        let left = || other.query_row("SELECT count(*) FROM log", [], |row| row.get::<_, u64>(0)).unwrap();
        let (now, pulse, stop, stopped) = (SystemClock.now().wall, Pulse::default(), Stop::default(), Stop::default());
        stopped.set();
        assert_eq!(sweep(&mut store, now, &pulse, &stopped), Ok(60_000 - left()));
        assert!(left() > 0, "it went on after the word to stop");
        assert_eq!((sweep(&mut store, now, &pulse, &stop), left()), (Ok(40_000), 0));
        let mut later = SystemClock.now();
        later.steady = later.steady.plus(PULSE_LIMIT);
        assert!(pulse.overdue(later).is_some());
    }
}
