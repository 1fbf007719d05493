//! From the spool to Kafka.

use std::sync::Arc;

use crate::config::Kafka;
use crate::flow::Source;
use crate::flows::{self, Flow, last_word};
use crate::jobs::{Jobs, Stop};
use crate::kafka::connection::Access;
use crate::net::Net;
use crate::queue::{self, QueueSink};

/// Starts the pump from the agent's spool to Kafka. `drained` is set when nothing more comes into the spool: the pump empties it,
/// for a bounded time, and ends. Nobody is asked before there is a log.
///
/// # Errors
/// When a thread cannot be started.
pub fn publish<S>(jobs: &Jobs, spool: S, kafka: &Kafka, net: &Arc<Net>, drained: &Stop) -> Result<Flow, String>
where
    S: Source + Send + 'static,
{
    let flow = Flow::with_kafka("spool to Kafka".to_owned());
    let over = last_word(jobs, "last-word-spool", drained)?;
    let access = Access { cluster: kafka.cluster.clone(), net: net.clone(), stop: over.clone() };
    let producer = queue::producer(kafka, &access, flow.kafka.as_ref().unwrap_or(&Arc::default()));
    flows::start(jobs, "to-kafka", &flow, (spool, QueueSink::new(Box::new(producer))), (drained, &over))?;
    Ok(flow)
}
