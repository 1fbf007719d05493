//! Producing by the `kafka` crate.
//!
//! One request at a time to each leader, with a batch of each of its partitions, so that the records of a partition stay in
//! order. Not idempotent: what was sent again after a lost answer may be in the topic twice.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use kafka::client::{ProduceMessage, RequiredAcks};
use kafka::error::KafkaCode;

use super::client::{Client, named};
use super::{code_name, translate};
use crate::kafka::client::METADATA_AGE_MAX;
use crate::kafka::connection::Access;
use crate::kafka::figures::Figures;
use crate::kafka::partitioner::partition;
use crate::kafka::producer::{BATCH_BYTES_MIN, REPLICAS_MAX, REQUEST_BYTES_MAX, mark};
use crate::kafka::{Compression, Error, Produce, Record, Refusal, codes};

/// What one batch may take, uncompressed, in bytes: less than a topic takes by default (`max.message.bytes`, 1,048,588), since
/// the broker makes larger ones of them.
const BATCH_BYTES_MAX: usize = 900_000;

/// What a message takes beyond its key and value, in bytes: offset, size, checksum, two numbers and two lengths.
const MESSAGE_OVERHEAD: usize = 26;

/// Takes records to one topic.
pub struct LegacyProducer {
    pub(super) client: Client,
    figures: Arc<Figures>,
    leaders: Vec<Option<String>>,
    learned: Option<Instant>,
    batch_bytes: usize,
    sending: Option<Sending>,
}

/// What was given and is not all there yet.
#[derive(Debug, Default)]
struct Sending {
    /// By partition: which records are not there yet.
    lanes: BTreeMap<i32, Lane>,
    refusals: Vec<Refusal>,
    /// By what the records are known again when they are given again.
    mark: Option<u32>,
}

#[derive(Debug)]
struct Lane {
    left: VecDeque<usize>,
    /// How many records one batch may have: fewer after one that was too large.
    most: usize,
}

/// A batch: its partition, how many of the lane's first records it has, and their bytes.
type Batch = (i32, usize, usize);

impl fmt::Debug for LegacyProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegacyProducer").field("sending", &self.sending).finish_non_exhaustive()
    }
}

impl LegacyProducer {
    /// Nothing is asked of the cluster before there is something to send.
    ///
    /// # Errors
    /// [`Error::Unusable`] for what the crate has not: TLS, SASL, lz4.
    pub fn new(access: &Access, topic: &str, compression: Compression, figures: Arc<Figures>) -> Result<Self, Error> {
        let client = Client::new(access, topic, compression)?;
        let (leaders, batch_bytes) = (Vec::new(), BATCH_BYTES_MAX);
        Ok(LegacyProducer { client, figures, leaders, learned: None, batch_bytes, sending: None })
    }

    /// What is left of the records since they were given before, or all of them; also when a partition is gone that some were for.
    fn take_up(&mut self, records: &[Record]) -> Result<Sending, Error> {
        self.learn()?;
        let partitions = i32::try_from(self.leaders.len()).unwrap_or(i32::MAX);
        if let Some(sending) = self.sending.take().filter(|sending| sending.mark == Some(mark(records))) {
            let Some(gone) = sending.lanes.keys().copied().find(|partition| *partition >= partitions) else {
                return Ok(sending);
            };
            // The topic was made anew, so what was confirmed may be gone with the old one.
            log::warn!(
                "topic `{}` has {partitions} partitions and no partition {gone} any more; all records in hand are sent again, so \
                 some may be there twice",
                self.client.topic()
            );
        }
        let mut sending = Sending::default();
        for (index, record) in records.iter().enumerate() {
            let lane = sending.lanes.entry(partition(&record.key, partitions));
            lane.or_insert_with(|| Lane { left: VecDeque::new(), most: usize::MAX }).left.push_back(index);
        }
        Ok(sending)
    }

    fn learn(&mut self) -> Result<(), Error> {
        if self.learned.is_none_or(|at| at.elapsed() > METADATA_AGE_MAX) {
            self.leaders = self.client.leaders()?;
            self.learned = Some(Instant::now());
        }
        Ok(())
    }

    /// Sends until all is there, or something fails; even then all that can go goes once.
    fn carry(&mut self, sending: &mut Sending, records: &Arc<[Record]>) -> Result<(), Error> {
        let mut failed = None;
        while failed.is_none() && !sending.lanes.is_empty() {
            self.learn()?;
            let (plan, mut leaderless) = self.plan(sending, records);
            failed = leaderless.pop().map(|partition| {
                codes::produce(KafkaCode::LeaderNotAvailable as i16, None, self.client.topic(), partition)
            });
            for batches in plan.into_values() {
                if let Err(error) = self.deliver(sending, records, batches) {
                    failed.get_or_insert(error);
                }
            }
            sending.lanes.retain(|_, lane| !lane.left.is_empty());
        }
        failed.map_or(Ok(()), |error| {
            self.learned = None;
            self.figures.retries.fetch_add(1, Relaxed);
            Err(error)
        })
    }

    /// The next batch of each partition, by leader, and the partitions that have none.
    fn plan(&self, sending: &Sending, records: &[Record]) -> (BTreeMap<String, Vec<Batch>>, Vec<i32>) {
        let (mut plan, mut leaderless) = (BTreeMap::<String, Vec<Batch>>::new(), Vec::new());
        for (partition, lane) in &sending.lanes {
            let leader = usize::try_from(*partition).ok().and_then(|index| self.leaders.get(index)?.clone());
            let Some(leader) = leader else {
                leaderless.push(*partition);
                continue;
            };
            let batches = plan.entry(leader).or_default();
            if batches.iter().map(|(_, _, bytes)| bytes).sum::<usize>() < REQUEST_BYTES_MAX {
                let (count, bytes) = lane.next(records, self.batch_bytes);
                batches.push((*partition, count, bytes));
            }
        }
        (plan, leaderless)
    }

    /// Takes one request to one leader.
    fn deliver(&mut self, sending: &mut Sending, records: &Arc<[Record]>, batches: Vec<Batch>) -> Result<(), Error> {
        let sent = Instant::now();
        let confirmed = self.produce(sending, records, &batches)?;
        self.figures.requests.fetch_add(1, Relaxed);
        self.figures.in_flight_us.fetch_add(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX), Relaxed);
        let mut failed = None;
        for (partition, count, bytes) in batches {
            let Some(lane) = sending.lanes.get_mut(&partition) else { continue };
            match confirmed.iter().find(|(of, _)| *of == partition) {
                Some((_, None)) => {
                    lane.left.drain(..count);
                    self.figures.batches.fetch_add(1, Relaxed);
                    self.figures.bytes.fetch_add(bytes as u64, Relaxed);
                }
                Some((_, Some(KafkaCode::MessageSizeTooLarge | KafkaCode::RecordListTooLarge))) if count == 1 => {
                    let too_large = KafkaCode::MessageSizeTooLarge as i16;
                    let reason = codes::produce(too_large, None, self.client.topic(), partition).to_string();
                    sending.refusals.extend(lane.left.pop_front().map(|index| Refusal { index, reason }));
                    self.figures.refusals.fetch_add(1, Relaxed);
                }
                Some((_, Some(KafkaCode::MessageSizeTooLarge | KafkaCode::RecordListTooLarge))) => {
                    lane.most = count / 2;
                    self.batch_bytes = self.batch_bytes.min(bytes / 2).max(BATCH_BYTES_MIN);
                    self.figures.retries.fetch_add(1, Relaxed);
                }
                Some((_, Some(code))) => {
                    let what =
                        format!("topic `{}`, partition {partition}: {}", self.client.topic(), code_name(*code as i16));
                    failed = Some(Error::Code(*code as i16, what));
                }
                None => {
                    self.client.drop_client();
                    let what = format!("a broker answered without partition {partition} of `{}`", self.client.topic());
                    failed = Some(Error::Garbage(what));
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// What the leader says of each partition.
    fn produce(
        &mut self,
        sending: &Sending,
        records: &Arc<[Record]>,
        batches: &[Batch],
    ) -> Result<Vec<(i32, Option<KafkaCode>)>, Error> {
        let (records, topic) = (records.clone(), self.client.topic().to_owned());
        let leader =
            batches.first().and_then(|(partition, ..)| self.leaders.get(usize::try_from(*partition).ok()?)?.clone());
        let leader = named(&[leader.unwrap_or_default()]);
        let first = |(partition, count, _): &Batch| {
            let lane = sending.lanes.get(partition).map(|lane| lane.left.iter().take(*count));
            lane.into_iter().flatten().map(|index| (*partition, *index)).collect::<Vec<_>>()
        };
        let these: Vec<(i32, usize)> = batches.iter().flat_map(first).collect();
        self.client.ask(move |client| {
            let messages = these.iter().map(|(partition, index)| {
                let Record { key, value, .. } = &records[*index];
                ProduceMessage::new(&topic, *partition, Some(key), Some(value))
            });
            let confirmed = client.produce_messages(RequiredAcks::All, REPLICAS_MAX, messages);
            let confirmed = confirmed.map_err(|error| translate(&error, &leader))?;
            let confirmed = confirmed.into_iter().filter(|confirm| confirm.topic == topic);
            let partitions = confirmed.flat_map(|confirm| confirm.partition_confirms);
            Ok(partitions.map(|confirm| (confirm.partition, confirm.offset.err())).collect())
        })
    }
}

impl Produce for LegacyProducer {
    fn send(&mut self, records: &[Record]) -> Result<Vec<Refusal>, Error> {
        let mut sending = self.take_up(records)?;
        // The crate's thread may still hold them when the call was given up.
        match self.carry(&mut sending, &records.into()) {
            Ok(()) => {
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

impl Lane {
    /// How many records the next batch has, and their bytes: at least one, however large it is.
    fn next(&self, records: &[Record], room: usize) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        for index in self.left.iter().take(self.most) {
            let size = size(&records[*index]);
            if count > 0 && bytes + size > room {
                break;
            }
            (count, bytes) = (count + 1, bytes + size);
        }
        (count, bytes)
    }
}

fn size(record: &Record) -> usize {
    MESSAGE_OVERHEAD + record.key.len() + record.value.len()
}
