//! Logs from a topic.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::flow::{Batch, Fault, Position, Refused, Source, Unreadable};
use crate::jobs::Stop;
use crate::kafka::{Consume, Error, Message};
use crate::logs::Log;

use super::fault;

/// How long one question to the client may wait: so often the word to stop is looked for.
const POLL_MAX: Duration = Duration::from_millis(500);

/// A batch of this size, in bytes, waits for no more. It may pass it by what the client brings at once.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// How a batch is gathered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gather {
    /// Logs in one batch, at most.
    pub(crate) logs_max: usize,
    /// How long a smaller batch waits for more after its first log, unless none comes for half a second.
    pub(crate) wait: Duration,
}

/// Brings logs from a topic.
pub(crate) struct QueueSource {
    consumer: Box<dyn Consume + Send>,
    topic: String,
    gather: Gather,
    stop: Stop,
    contacted: bool,
}

impl QueueSource {
    /// Over a client of `topic`. After `stop` no more is asked for; what was brought can still be committed.
    pub(crate) fn new(consumer: Box<dyn Consume + Send>, topic: String, gather: Gather, stop: Stop) -> Self {
        QueueSource { consumer, topic, gather, stop, contacted: false }
    }

    /// Asks until messages come, at the longest `until`; none when told to stop. With something `in_hand` only once: a client
    /// that brings nothing may be asking for a commit (see [`Consume::poll`]).
    fn poll(&mut self, until: Instant, most: usize, in_hand: bool) -> Result<Vec<Message>, Error> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.stop.is_set() {
                return Ok(Vec::new());
            }
            let messages = match self.consumer.poll(left.min(POLL_MAX), most) {
                Err(Error::Stopped) => return Ok(Vec::new()),
                polled => polled?,
            };
            self.contacted = true;
            if !messages.is_empty() || left.is_zero() || in_hand {
                return Ok(messages);
            }
        }
    }
}

impl Source for QueueSource {
    fn pull(&mut self, wait: Duration) -> Result<Batch, Fault> {
        let most = self.gather.logs_max.max(1);
        let mut gathered = Gathered::default();
        let mut until = Instant::now() + wait;
        while gathered.count < most && gathered.bytes < BATCH_BYTES_MAX {
            match self.poll(until, most - gathered.count, gathered.count > 0) {
                Ok(messages) if messages.is_empty() => break,
                Ok(messages) => {
                    if gathered.count == 0 {
                        until = Instant::now() + self.gather.wait;
                    }
                    messages.into_iter().for_each(|message| gathered.add(&self.topic, message));
                }
                // What is in hand comes first; the error will be there again.
                Err(_) if gathered.count > 0 => break,
                Err(error) => return Err(fault(error, self.contacted)),
            }
        }
        Ok(gathered.into_batch())
    }

    fn commit(&mut self, batch: &Batch, refused: &[Refused]) -> Result<(), Fault> {
        for refused in refused {
            let Some(log) = batch.logs.get(refused.index) else { continue };
            let json = String::from_utf8_lossy(&log.to_json()).into_owned();
            log::error!(
                "the log {} of `{}` is refused and stays in Kafka alone: {}; {json}",
                log.uid,
                self.topic,
                refused.reason
            );
        }
        match self.consumer.commit(&batch.position.0) {
            Ok(()) => Ok(()),
            Err(error) => Err(fault(error, true)),
        }
    }
}

/// A batch in the making.
#[derive(Debug, Default)]
struct Gathered {
    batch: Batch,
    count: usize,
    bytes: usize,
    next: BTreeMap<i32, i64>,
}

impl Gathered {
    fn add(&mut self, topic: &str, message: Message) {
        let Message { partition, offset, value, damage, .. } = message;
        self.count += 1;
        self.bytes += value.len();
        self.next.insert(partition, offset.saturating_add(1));
        let read = match damage {
            Some(damage) => Err(damage),
            None if value.is_empty() => Err("has no value".to_owned()),
            None => Log::from_json(&value),
        };
        match read {
            Ok(log) => self.batch.logs.push(log),
            Err(reason) => {
                let origin = format!("{topic}/{partition}@{offset}");
                self.batch.unreadable.push(Unreadable { bytes: value.to_vec(), origin, reason });
            }
        }
    }

    fn into_batch(mut self) -> Batch {
        self.batch.position = Position(self.next.into_iter().collect());
        self.batch
    }
}
