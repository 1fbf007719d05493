//! The native producer: idempotent, acks=all, several batches in flight.
//!
//! Records go to partitions as the Java client's do (murmur2 of the key). Each leader gets one request with a batch of each of
//! its partitions, and up to `IN_FLIGHT_MAX` of them before the first is answered. The broker knows the producer by an id and
//! each batch by its number (KIP-98), so what is sent again after a lost answer is not written again, and never out of order.
//!
//! The id lives as long as the producer: what was sent before a restart of the process and is sent again after it is written
//! twice, and dropped where it is stored. The same goes for what is in doubt when a broker has forgotten the producer.

mod lane;
mod sending;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest, ProduceResponse};

use super::client::{ANSWER_MAX, Client};
use super::connection::Connection;
use super::figures::Figures;
use super::partitioner::partition;
use super::records::{self, Stamp};
use super::{Compression, Error, Produce, Record, Refusal, codes};
use lane::{Batch, Lane, Rejection, Remedy};
pub(super) use sending::mark;
use sending::{Flight, Sending};

/// Requests to one broker that are not answered yet. A broker remembers the last five batches of a producer (KIP-98).
const IN_FLIGHT_MAX: usize = 5;

/// What one batch may take, uncompressed, in bytes: a little less than a topic takes by default (`max.message.bytes`, 1,048,588).
const BATCH_BYTES_MAX: usize = 1_000_000;

/// A broker that finds batches too large gets smaller ones, down to this.
pub(super) const BATCH_BYTES_MIN: usize = 16 * 1024;
/// For so long; the topic's limit may have been raised by then.
const SMALLER_FOR: Duration = Duration::from_secs(300);

/// One request takes no further batch beyond this, in bytes.
pub(super) const REQUEST_BYTES_MAX: usize = 4_000_000;

/// A broker forgets a producer that is silent for a day (`producer.id.expiration.ms`).
const KNOWN_FOR: Duration = Duration::from_secs(3_600);

/// How long the leader waits for its replicas.
pub(super) const REPLICAS_MAX: Duration = Duration::from_secs(25);

/// How often, and how long apart, something is tried again here that goes away within a moment, as an election does. After
/// that the caller decides.
const RETRIES_MAX: u32 = 10;
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Takes records to one topic.
#[derive(Debug)]
pub struct Producer {
    client: Client,
    compression: Compression,
    figures: Arc<Figures>,
    identity: Identity,
    /// The next number of each partition, and since when the broker has known it.
    sequences: BTreeMap<i32, (i32, Instant)>,
    batch_bytes: usize,
    /// What a broker found not too large, in bytes, and since when.
    smaller: Option<(usize, Instant)>,
    sending: Option<Sending>,
}

/// By what brokers know this producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Identity {
    /// Not asked for yet.
    Unknown,
    /// An id and an epoch.
    Known(i64, i16),
    /// They give it none: what is sent again may be written twice.
    Denied,
}

impl Producer {
    /// Nothing is asked of the cluster before there is something to send.
    pub fn new(client: Client, compression: Compression, figures: Arc<Figures>) -> Self {
        Producer {
            client,
            compression,
            figures,
            identity: Identity::Unknown,
            sequences: BTreeMap::new(),
            batch_bytes: BATCH_BYTES_MAX,
            smaller: None,
            sending: None,
        }
    }

    /// The same, with batches of at most so many bytes, uncompressed; one that holds a single record may be larger.
    pub fn with_batch_bytes(self, batch_bytes: usize) -> Self {
        Producer { batch_bytes, ..self }
    }
}

impl Produce for Producer {
    fn send(&mut self, records: &[Record]) -> Result<Vec<Refusal>, Error> {
        let mut sending = self.take_up(records)?;
        match self.carry(&mut sending, records) {
            Ok(()) => {
                let (lanes, now) = (sending.lanes.iter(), Instant::now());
                self.sequences.extend(lanes.map(|(partition, lane)| (*partition, (lane.sequence(), now))));
                sending.refusals.sort_by_key(|refusal| refusal.index);
                Ok(sending.refusals)
            }
            Err(error) => {
                sending.mark = Some(mark(records));
                self.sending = Some(sending);
                Err(error)
            }
        }
    }
}

impl Producer {
    /// What is left of the records since they were given before, or all of them.
    fn take_up(&mut self, records: &[Record]) -> Result<Sending, Error> {
        let partitions = self.client.partitions()?;
        if let Some(sending) = self.sending.take() {
            let gone = sending.lanes.keys().any(|partition| *partition >= partitions);
            if sending.mark == Some(mark(records)) && !gone {
                return Ok(sending);
            }
            if gone {
                let topic = self.client.topic();
                log::warn!(
                    "topic `{topic}` has {partitions} partitions now; what was under way is sent again, perhaps twice"
                );
            }
            // Given up in the middle: which of the numbers are taken is not known.
            sending.flights.keys().for_each(|node| self.client.drop_broker(*node));
            self.forget_identity();
        }
        let mut sending = Sending::default();
        for (index, record) in records.iter().enumerate() {
            let partition = partition(&record.key, partitions);
            let (sequence, known) = match self.sequences.get(&partition) {
                Some((sequence, since)) => (*sequence, *sequence != 0 && since.elapsed() < KNOWN_FOR),
                None => (0, false),
            };
            sending.lanes.entry(partition).or_insert_with(|| Lane::new(sequence, known)).push(index);
        }
        Ok(sending)
    }

    /// Sends and collects until all is there. What something is wrong with is tried again when all else is done.
    fn carry(&mut self, sending: &mut Sending, records: &[Record]) -> Result<(), Error> {
        let mut retries = 0;
        loop {
            self.client.partitions()?;
            self.notice_lost(sending);
            self.settle(sending)?;
            self.identify(sending)?;
            self.dispatch(sending, records)?;
            if !sending.flights.is_empty() {
                self.collect(sending)?;
                continue;
            }
            if sending.lanes.values().all(Lane::is_done) {
                return Ok(());
            }
            retries += 1;
            self.figures.retries.fetch_add(1, Relaxed);
            self.client.doubt();
            let wrong = sending.wrong.take();
            sending.resting.clear();
            match wrong {
                // Each try takes its time; the caller decides how long to wait for the next.
                Some(error) if !matches!(error, Error::Code(..)) => return Err(error),
                wrong if retries > RETRIES_MAX => return Err(wrong.unwrap_or_else(|| self.leaderless(sending))),
                _ => {}
            }
            if self.client.access().stop.wait(RETRY_PAUSE) {
                return Err(Error::Stopped);
            }
        }
    }

    /// A connection that was closed because its broker moved takes with it what was in flight.
    fn notice_lost(&mut self, sending: &mut Sending) {
        let nodes: Vec<i32> = sending.flights.keys().copied().collect();
        for node in nodes {
            let open = self.client.connections().get(&node).map_or(0, Connection::waiting);
            if open < sending.flights.get(&node).map_or(0, VecDeque::len) {
                self.lose(sending, node);
            }
        }
    }

    /// Mends what is wrong with the lanes, as far as that can be done now.
    fn settle(&mut self, sending: &mut Sending) -> Result<(), Error> {
        let (mut give_up, mut identity_lost) = (None, None);
        for (partition, lane) in &mut sending.lanes {
            let topic = self.client.topic();
            let say = |rejection: Rejection| codes::produce(rejection.code, rejection.message, topic, *partition);
            match lane.settle() {
                Remedy::GoOn => {}
                Remedy::Again(rejection) => {
                    sending.resting.insert(*partition);
                    sending.wrong = Some(say(rejection));
                }
                Remedy::GiveUp(rejection) => give_up = Some(say(rejection)),
                Remedy::NewIdentity(rejection) => {
                    sending.resting.insert(*partition);
                    identity_lost = Some(say(rejection));
                }
                Remedy::Refuse(index, rejection) => {
                    self.figures.refusals.fetch_add(1, Relaxed);
                    sending.refusals.push(Refusal { index, reason: say(rejection).to_string() });
                }
            }
        }
        if let Some(why) = identity_lost {
            log::warn!("{why}; going on under a new producer id: what was not acknowledged may be in the topic twice");
            self.forget_identity();
            sending.wrong = Some(why);
        }
        give_up.map_or(Ok(()), Err)
    }

    /// What is wrong when nothing was said to be.
    fn leaderless(&self, sending: &Sending) -> Error {
        let waiting = sending.lanes.iter().find(|(_, lane)| !lane.is_done()).map_or(-1, |(partition, _)| *partition);
        codes::produce(ResponseError::LeaderNotAvailable.code(), None, self.client.topic(), waiting)
    }

    fn forget_identity(&mut self) {
        self.identity = Identity::Unknown;
        self.sequences.clear();
    }

    /// Sees to it that brokers know this producer. A new identity begins when nothing is in flight any more.
    fn identify(&mut self, sending: &mut Sending) -> Result<(), Error> {
        if self.identity != Identity::Unknown {
            return Ok(());
        }
        while !sending.flights.is_empty() {
            self.collect(sending)?;
        }
        let request =
            InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(i32::MAX);
        let answer = self.client.ask_anyone(|connection| connection.call(&request, Instant::now() + ANSWER_MAX))?;
        self.identity = match ResponseError::try_from_code(answer.error_code) {
            None => Identity::Known(answer.producer_id.0, answer.producer_epoch),
            // Before 2.8 this needs a right of its own (KIP-679).
            Some(ResponseError::ClusterAuthorizationFailed) => {
                log::warn!(
                    "no right to produce idempotently (`IdempotentWrite` on the cluster): what is sent again may be in the topic twice"
                );
                Identity::Denied
            }
            Some(code) if code.is_retriable() => {
                sending.wrong = Some(codes::producer_id(answer.error_code));
                return Ok(());
            }
            Some(_) => return Err(codes::producer_id(answer.error_code)),
        };
        sending.lanes.values_mut().for_each(Lane::begin_anew);
        Ok(())
    }

    /// Sends all that may be sent now.
    fn dispatch(&mut self, sending: &mut Sending, records: &[Record]) -> Result<(), Error> {
        if self.identity == Identity::Unknown {
            return Ok(());
        }
        // Without numbers the order is kept by waiting for each answer.
        let most = if self.identity == Identity::Denied { 1 } else { IN_FLIGHT_MAX };
        let waiting =
            sending.lanes.iter().filter(|(partition, lane)| !lane.is_done() && !sending.resting.contains(partition));
        let mut leaders: Vec<i32> = waiting.filter_map(|(partition, _)| self.client.leader(*partition)).collect();
        leaders.sort_unstable();
        leaders.dedup();
        for node in leaders {
            // Before anything is on its way there: what was never sent is not in doubt. The others go on meanwhile.
            if let Err(error) = self.client.broker(node) {
                let led = sending.lanes.keys().filter(|partition| self.client.leader(**partition) == Some(node));
                sending.resting.extend(led);
                sending.wrong = Some(error);
                continue;
            }
            while sending.flights.get(&node).map_or(0, VecDeque::len) < most {
                let Some((request, flight)) = self.request(sending, node, records)? else { break };
                // Noted first: what a broken connection took of it is not known.
                sending.flights.entry(node).or_default().push_back(flight);
                let by = Instant::now() + ANSWER_MAX;
                let sent = self.client.broker(node).and_then(|connection| connection.send(&request, by));
                sent.inspect_err(|_| self.lose(sending, node))?;
            }
        }
        Ok(())
    }

    /// The next request to a broker: a batch of each of its partitions that has one.
    fn request(
        &self,
        sending: &mut Sending,
        node: i32,
        records: &[Record],
    ) -> Result<Option<(ProduceRequest, Flight)>, Error> {
        let room = self.room();
        let mut flight = Flight { sent: Instant::now(), bytes: 0, room, batches: Vec::new() };
        let mut partitions = Vec::new();
        for (index, lane) in &mut sending.lanes {
            let elsewhere = self.client.leader(*index) != Some(node) || sending.resting.contains(index);
            if elsewhere || flight.bytes >= REQUEST_BYTES_MAX {
                continue;
            }
            let Some(batch) = lane.next(node, room, |record| records::size(&records[record])) else { continue };
            let bytes = self.encode(lane, &batch, records)?.freeze();
            flight.bytes += bytes.len();
            flight.batches.push((*index, batch.sequence));
            partitions.push(PartitionProduceData::default().with_index(*index).with_records(Some(bytes)));
        }
        // Only now, since none of them is on its way when one cannot be put into bytes.
        for (index, sequence) in &flight.batches {
            sending.lanes.entry(*index).and_modify(|lane| lane.sent(*sequence, node));
        }
        if partitions.is_empty() {
            return Ok(None);
        }
        let topic = TopicProduceData::default().with_name(self.client.topic_name()).with_partition_data(partitions);
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(REPLICAS_MAX.as_millis() as i32)
            .with_topic_data(vec![topic]);
        Ok(Some((request, flight)))
    }

    /// What one batch may take now, in bytes.
    fn room(&self) -> usize {
        let smaller = self.smaller.filter(|(_, since)| since.elapsed() < SMALLER_FOR);
        smaller.map_or(self.batch_bytes, |(bytes, _)| bytes.min(self.batch_bytes))
    }

    fn encode(&self, lane: &Lane, batch: &Batch, records: &[Record]) -> Result<BytesMut, Error> {
        let stamp = match self.identity {
            Identity::Known(producer_id, epoch) => Stamp { producer_id, epoch, sequence: batch.sequence },
            Identity::Unknown | Identity::Denied => Stamp::NONE,
        };
        let mut bytes = BytesMut::new();
        let these = lane.of(batch).iter().map(|record| &records[*record]);
        records::encode(these, stamp, self.compression, &mut bytes)?;
        Ok(bytes)
    }

    /// Waits for the answer to the oldest request.
    fn collect(&mut self, sending: &mut Sending) -> Result<(), Error> {
        let oldest = sending.flights.iter().min_by_key(|(_, flights)| flights.front().map(|flight| flight.sent));
        let Some(node) = oldest.map(|(node, _)| *node) else { return Ok(()) };
        let answer = match self.client.connection(node) {
            Some(connection) => connection.receive::<ProduceRequest>(Instant::now() + ANSWER_MAX),
            None => Err(Error::Away(format!("broker {node} is gone from the cluster"))),
        };
        let answer = answer.inspect_err(|_| self.lose(sending, node))?;
        let flights = sending.flights.get_mut(&node);
        let Some(flight) = flights.and_then(VecDeque::pop_front) else { return Ok(()) };
        sending.flights.retain(|_, flights| !flights.is_empty());
        self.count(&flight);
        self.answered(sending, node, &flight, &answer)
    }

    fn answered(
        &mut self,
        sending: &mut Sending,
        node: i32,
        flight: &Flight,
        answer: &ProduceResponse,
    ) -> Result<(), Error> {
        for (partition, sequence) in &flight.batches {
            let told = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
            let Some(told) = told.into_iter().find(|told| told.index == *partition) else {
                let what = format!("broker {node} answered Produce without partition {partition}");
                self.lose(sending, node);
                return Err(Error::Garbage(what));
            };
            let Some(lane) = sending.lanes.get_mut(partition) else { continue };
            if told.error_code == ResponseError::MessageTooLarge.code() && lane.holds_several(*sequence) {
                // Of what was allowed when it was sent, since several in the air are too large all alike.
                self.smaller = Some((self.room().min(flight.room / 2).max(BATCH_BYTES_MIN), Instant::now()));
            }
            lane.answered(*sequence, told.error_code, told.error_message.as_ref().map(ToString::to_string));
        }
        Ok(())
    }

    /// A connection is of no more use: what was in flight on it is in doubt, and goes again.
    fn lose(&mut self, sending: &mut Sending, node: i32) {
        self.client.drop_broker(node);
        sending.flights.remove(&node);
        sending.lanes.values_mut().for_each(|lane| lane.lost(node));
        self.figures.retries.fetch_add(1, Relaxed);
    }

    fn count(&self, flight: &Flight) {
        let micros = u64::try_from(flight.sent.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.figures.requests.fetch_add(1, Relaxed);
        self.figures.in_flight_us.fetch_add(micros, Relaxed);
        self.figures.batches.fetch_add(flight.batches.len() as u64, Relaxed);
        self.figures.bytes.fetch_add(flight.bytes as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests;
