//! The queue between agents and store: logs to a Kafka topic and from it.
//!
//! A log is one message: its key `agent/label`, so that the logs of a label stay in order, its value the log's wire form.
//! Which of the two clients is used is chosen in `choice`. What cannot be read as a log is set aside by the
//! store with its topic, partition and offset; it never stops the flow.

mod choice;
mod sink;
mod source;
#[cfg(test)]
mod tests;

pub(crate) use choice::{CrateConsumer, producer};
pub(crate) use sink::QueueSink;
pub(crate) use source::{Gather, QueueSource};

use crate::flow::Fault;
use crate::kafka::Error;

/// What the pump does about an error. What cannot work as things are set ends it, unless it has worked before: then a broker was
/// changed under it and may be changed back, and the logs wait.
fn fault(error: Error, contacted: bool) -> Fault {
    match error {
        Error::Unusable(what) if !contacted => Fault::Broken(what),
        Error::Stopped => Fault::Retry("the time to stop is over; what is not there stays where it was".to_owned()),
        error => Fault::Retry(error.to_string()),
    }
}
