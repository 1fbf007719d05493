//! The consumer half: every thread and channel of it, on one screen.
//!
//! ```text
//! spool ──▶ pump ──▶ store ◀── keeper             without a queue
//!
//! topic ──▶ pump × connections ──▶ store ◀── keeper         behind one; by the `kafka` crate one pump, no heart
//!   ▲ heart × connections, last word × connections
//! ```
//!
//! No channels: a pump pulls a batch, delivers it and commits it, and holds one batch at a time. Each member of the consumer
//! group has its own connection to the store, and a heart that tells the group that it lives.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::config::{Kafka, KafkaClient, Store};
use crate::flow::Source;
use crate::flows::{self, Flow, last_word};
use crate::jobs::{Jobs, Stop, step_back};
use crate::kafka::Consume;
use crate::kafka::client::Client;
use crate::kafka::connection::Access;
use crate::kafka::consumer::{Consumer, Settings};
use crate::kafka::figures::Figures;
use crate::net::Net;
use crate::queue::{CrateConsumer, Gather, QueueSource};
use crate::store;
use crate::store::watch::{Watch, tend};

const STACK: usize = 512 * 1024;

/// How the embedded store's batches are gathered; one consumer, since it has one writer.
const EMBEDDED: Gather = Gather { logs_max: 2_000, wait: Duration::from_millis(500) };

/// Starts every thread of the consumer half without a queue. `drained` is set when nothing more comes into the source: the pump
/// empties it and ends.
///
/// # Errors
/// When the store cannot be opened or a thread cannot be started.
pub(crate) fn start<S>(jobs: &Jobs, source: S, store: &Store, drained: &Stop) -> Result<(Flow, Arc<Watch>), String>
where
    S: Source + Send + 'static,
{
    let flow = Flow::embedded("spool to store");
    flows::start(jobs, "pump", &flow, (source, store::sink(store)?), (drained, &Stop::default()))?;
    Ok((flow, start_keeper(jobs, store, drained)?))
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
) -> Result<(Vec<Flow>, Arc<Watch>), String> {
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
    Ok((all, start_keeper(jobs, store, stop)?))
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

fn start_keeper(jobs: &Jobs, store: &Store, stop: &Stop) -> Result<Arc<Watch>, String> {
    let (mut keeper, stop) = (store::keeper(store)?, stop.clone());
    let watch = Arc::new(Watch::new(SystemClock.now().wall));
    let seen = watch.clone();
    jobs.start("keeper", STACK, move |pulse| {
        step_back();
        tend(keeper.as_mut(), &seen, pulse, &stop)
    })?;
    Ok(watch)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
