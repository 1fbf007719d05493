//! Logs to a topic.

use crate::flow::{Batch, Delivered, Fault, Refused, Sink};
use crate::kafka::{Produce, Record};
use crate::logs::Log;

use super::fault;

/// Takes logs to a topic.
pub(crate) struct QueueSink {
    producer: Box<dyn Produce + Send>,
    contacted: bool,
}

impl QueueSink {
    /// Over a client of the topic.
    pub(crate) fn new(producer: Box<dyn Produce + Send>) -> Self {
        QueueSink { producer, contacted: false }
    }
}

impl Sink for QueueSink {
    fn deliver(&mut self, batch: &Batch) -> Result<Delivered, Fault> {
        let mut records: Vec<Record> = batch.logs.iter().map(record).collect();
        // What is no log goes too, as it is: whoever reads the topic sets it aside where people look for it.
        records.extend(batch.unreadable.iter().map(|unreadable| Record {
            key: unreadable.origin.clone().into_bytes(),
            value: unreadable.bytes.clone(),
            timestamp: NO_TIME,
        }));
        let refusals = self.producer.send(&records).map_err(|error| fault(error, self.contacted))?;
        self.contacted = true;
        let (mut refused, mut rejected) = (Vec::new(), 0);
        for refusal in refusals {
            match batch.unreadable.get(refusal.index.wrapping_sub(batch.logs.len())) {
                None => refused.push(Refused { index: refusal.index, reason: refusal.reason }),
                Some(unreadable) => {
                    log::error!("what came from {} is no log and is lost: {}", unreadable.origin, refusal.reason);
                    rejected += 1;
                }
            }
        }
        Ok(Delivered { new: batch.logs.len() - refused.len(), duplicate: 0, refused, rejected })
    }
}

/// Messages have no time of their own. Brokers keep a topic by its messages' times, so with the slot's a backlog of weeks, or one
/// of an agent whose clock stands in 1970, would be deleted before it is read; without, they go by when it was written.
const NO_TIME: i64 = -1;

fn record(log: &Log) -> Record {
    Record { key: format!("{}/{}", log.agent, log.label).into_bytes(), value: log.to_json(), timestamp: NO_TIME }
}
