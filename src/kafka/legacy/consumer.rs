//! Consuming by the `kafka` crate: one consumer for the whole topic, since the crate does not share partitions out.
//!
//! Offsets are kept in Kafka for the group. Where a partition has none, or the one it has is not there any more, reading begins
//! at the earliest message. The crate reads uncommitted messages: those of aborted transactions are seen. It takes no lz4 or zstd:
//! a topic that holds those ends in an error, since skipping them would lose logs.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka::client::{FetchOffset, FetchPartition, KafkaClient};
use kafka::error::KafkaCode;

use super::client::{Client, named};
use super::commit::Committer;
use super::{ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, code_name, of_group, translate};
use crate::kafka::client::METADATA_AGE_MAX;
use crate::kafka::connection::Access;
use crate::kafka::figures::Figures;
use crate::kafka::{Compression, Consume, Error, Message};

/// What is asked of one partition at once, in bytes; more when a batch does not fit, up to the largest.
const PARTITION_BYTES: i32 = 1 << 20;
const PARTITION_BYTES_LARGEST: i32 = 64 << 20;

/// At least so much is asked of one partition.
const PARTITION_BYTES_LEAST: i32 = 64 << 10;

/// What is asked of all partitions at once, in bytes. Compressed batches may come to more: the crate does not bound that.
const FETCH_BYTES_MAX: i32 = 16 << 20;

/// How long a broker may hold back an answer for want of messages. Leaders are asked one after the other, so each gets a part.
const FETCH_WAIT_MAX: Duration = Duration::from_millis(500);

/// The smallest batch that a broker keeps, in bytes: what two of them take that are told apart.
const BATCH_BYTES_SMALLEST: i32 = 61;

/// Brings messages from one topic.
pub struct LegacyConsumer {
    client: Client,
    committer: Committer,
    group: String,
    figures: Arc<Figures>,
    leaders: Vec<Option<String>>,
    learned: Option<Instant>,
    /// By partition: where reading goes on.
    places: BTreeMap<i32, Place>,
    /// What was fetched and not handed out yet: at most what one fetch brings.
    ready: VecDeque<Message>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    next: i64,
    /// What is asked for at once, in bytes.
    bytes: i32,
}

impl fmt::Debug for LegacyConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegacyConsumer")
            .field("group", &self.group)
            .field("places", &self.places)
            .finish_non_exhaustive()
    }
}

/// What one fetch says of a partition: its end and its messages, or what is wrong.
type Fetched = (i32, Result<(i64, Vec<Message>), KafkaCode>);

impl LegacyConsumer {
    /// Nothing is asked of the cluster before the first poll.
    ///
    /// # Errors
    /// [`Error::Unusable`] for what the crate has not: TLS, SASL.
    pub fn new(access: &Access, topic: &str, group: &str, figures: Arc<Figures>) -> Result<Self, Error> {
        let client = Client::new(access, topic, Compression::None)?;
        let committer = Committer::new(access, topic, group);
        let (group, leaders, places, ready) = (group.to_owned(), Vec::new(), BTreeMap::new(), VecDeque::new());
        Ok(LegacyConsumer { client, committer, group, figures, leaders, learned: None, places, ready })
    }

    /// Who leads which partition, and where reading of new ones begins.
    fn learn(&mut self) -> Result<(), Error> {
        if self.learned.is_some_and(|at| at.elapsed() <= METADATA_AGE_MAX) {
            return Ok(());
        }
        self.leaders = self.client.leaders()?;
        let partitions = 0..i32::try_from(self.leaders.len()).unwrap_or(i32::MAX);
        let new: Vec<i32> = partitions.filter(|partition| !self.places.contains_key(partition)).collect();
        if !new.is_empty() {
            let (committed, bytes) = (self.committed()?, PARTITION_BYTES);
            let begun = new.iter().filter_map(|new| Some((*new, *committed.get(new)?)));
            self.places.extend(begun.map(|(partition, next)| (partition, Place { next, bytes })));
            // Those whose group has no offset.
            if new.iter().any(|new| !committed.contains_key(new)) {
                let earliest = self.earliest()?;
                let begun = new.iter().filter_map(|new| Some((*new, *earliest.get(new)?)));
                for (partition, next) in begun {
                    self.places.entry(partition).or_insert(Place { next, bytes });
                }
            }
        }
        self.learned = Some(Instant::now());
        Ok(())
    }

    /// The group's offset of each partition that has one.
    fn committed(&mut self) -> Result<BTreeMap<i32, i64>, Error> {
        let (topic, group) = (self.client.topic().to_owned(), self.group.clone());
        self.client.ask(move |client| {
            let offsets = client.fetch_group_topic_offset(&group, &topic);
            let group_of = |error| of_group(translate(&error, &format!("consumer group `{group}`")), &group);
            let offsets = offsets.map_err(group_of)?;
            Ok(offsets.into_iter().filter(|of| of.offset >= 0).map(|of| (of.partition, of.offset)).collect())
        })
    }

    /// The offset of the first message of each partition that has a leader.
    fn earliest(&mut self) -> Result<BTreeMap<i32, i64>, Error> {
        let topic = self.client.topic().to_owned();
        self.client.ask(move |client| {
            let offsets = client.fetch_topic_offsets(&topic, FetchOffset::Earliest);
            let offsets = offsets.map_err(|error| translate(&error, &format!("topic `{topic}`")))?;
            Ok(offsets.into_iter().filter(|of| of.offset >= 0).map(|of| (of.partition, of.offset)).collect())
        })
    }

    /// Asks every leader once. What failed while others brought messages is met again.
    fn fetch(&mut self, wait: Duration) -> Result<(), Error> {
        let mut by_leader = BTreeMap::<&String, Vec<(i32, Place)>>::new();
        for (leader, partition) in self.leaders.iter().zip(0..) {
            if let (Some(leader), Some(place)) = (leader, self.places.get(&partition)) {
                by_leader.entry(leader).or_default().push((partition, *place));
            }
        }
        if by_leader.is_empty() {
            self.learned = None;
            let what = format!("no partition of topic `{}` has a leader now", self.client.topic());
            return Err(Error::Code(KafkaCode::LeaderNotAvailable as i16, what));
        }
        let some_left_out = by_leader.values().map(Vec::len).sum::<usize>() < self.leaders.len();
        let share = i32::try_from(self.places.len()).map_or(1, |partitions| FETCH_BYTES_MAX / partitions.max(1));
        let wait = (wait.min(FETCH_WAIT_MAX)) / u32::try_from(by_leader.len().max(1)).unwrap_or(1);
        let questions: Vec<_> = by_leader.into_iter().map(|(leader, places)| (leader.clone(), places)).collect();
        let mut failed = None;
        if some_left_out {
            self.learned = None;
        }
        for (leader, mut places) in questions {
            for (_, place) in &mut places {
                // One that was enlarged for a large batch keeps what it needs.
                place.bytes = if place.bytes > PARTITION_BYTES { place.bytes } else { place.bytes.min(share) };
            }
            let taken = self.ask(leader.clone(), places, wait).and_then(|answers| {
                answers.into_iter().try_for_each(|(partition, said)| self.take(&leader, partition, said))
            });
            if let Err(error) = taken {
                failed.get_or_insert(error);
            }
        }
        if let Some(error) = failed {
            self.learned = None;
            self.figures.retries.fetch_add(1, Relaxed);
            if self.ready.is_empty() {
                return Err(error);
            }
        }
        Ok(())
    }

    /// One question to one leader.
    fn ask(&mut self, leader: String, places: Vec<(i32, Place)>, wait: Duration) -> Result<Vec<Fetched>, Error> {
        let topic = self.client.topic().to_owned();
        self.client.ask(move |client| {
            let wrong = |error: kafka::Error| translate(&error, &named(std::slice::from_ref(&leader)));
            client.set_fetch_max_wait_time(wait).map_err(wrong)?;
            fetched(client, &topic, &places).map_err(wrong)
        })
    }

    /// Takes up what a leader said of a partition.
    fn take(
        &mut self,
        leader: &str,
        partition: i32,
        said: Result<(i64, Vec<Message>), KafkaCode>,
    ) -> Result<(), Error> {
        let Some(place) = self.places.get(&partition).copied() else { return Ok(()) };
        let (end, mut messages) = match said {
            Ok(brought) => brought,
            Err(KafkaCode::OffsetOutOfRange) => return self.reset(partition, place),
            Err(code) => {
                let place = format!("topic `{}`, partition {partition}", self.client.topic());
                // Brokers say it of zstd, by a code that is newer than the crate (KIP-110).
                let zstd = if code == KafkaCode::Unknown { "; perhaps it is zstd: use `client: native`" } else { "" };
                let what = format!("{place}: {}{zstd}", code_name(code as i16));
                return Err(Error::Code(code as i16, what));
            }
        };
        if messages.first().is_some_and(|first| first.offset > place.next) {
            messages = self.unmask(leader, partition, place, messages)?;
        }
        let size: usize = messages.iter().map(|message| message.value.len()).sum();
        let next = match messages.last() {
            Some(last) => Place { next: last.offset.saturating_add(1), bytes: place.bytes.min(PARTITION_BYTES) },
            None if end <= place.next => place,
            // What lies there is larger than what was asked for.
            None if place.bytes < PARTITION_BYTES_LARGEST => Place { bytes: place.bytes * 2, ..place },
            // Or it is none that a consumer is shown, such as the mark at the end of a transaction.
            None => Place { next: place.next.saturating_add(1), bytes: PARTITION_BYTES },
        };
        // Of several compressed batches the crate shows the first alone: asking for more of them is in vain.
        let in_vain = !messages.is_empty() && size < place.bytes.unsigned_abs() as usize / 8;
        let bytes = if in_vain { (next.bytes / 2).max(PARTITION_BYTES_LEAST) } else { next.bytes };
        self.places.insert(partition, Place { bytes, ..next });
        self.figures.note_lag(partition, end.saturating_sub(next.next).max(0));
        self.figures.batches.fetch_add(u64::from(!messages.is_empty()), Relaxed);
        self.figures.bytes.fetch_add(size as u64, Relaxed);
        self.ready.extend(messages);
        Ok(())
    }

    /// Brings what the crate hides: of a batch in which messages stand before a compressed one, it shows the compressed alone. So
    /// when the first message is not the one that was asked for, less is asked for until the compressed one is cut off.
    fn unmask(
        &mut self,
        leader: &str,
        partition: i32,
        place: Place,
        found: Vec<Message>,
    ) -> Result<Vec<Message>, Error> {
        let (mut found, mut low, mut high) = (found, 0, place.bytes);
        while high - low > BATCH_BYTES_SMALLEST && found.first().is_some_and(|first| first.offset > place.next) {
            let middle = low + (high - low) / 2;
            let question = vec![(partition, Place { bytes: middle, ..place })];
            let answer = self.ask(leader.to_owned(), question, Duration::ZERO)?;
            let messages = answer.into_iter().find_map(|(_, said)| Some(said.ok()?.1)).unwrap_or_default();
            match (messages.first(), found.first()) {
                (None, _) => low = middle,
                (Some(first), Some(shown)) if first.offset < shown.offset => (found, high) = (messages, middle),
                _ => high = middle,
            }
        }
        Ok(found)
    }

    /// The offset is not there any more: reading goes on at the earliest.
    fn reset(&mut self, partition: i32, place: Place) -> Result<(), Error> {
        let Some(next) = self.earliest()?.get(&partition).copied() else { return Ok(()) };
        self.figures.resets.fetch_add(1, Relaxed);
        log::warn!(
            "topic `{}`, partition {partition}: offset {} is not there any more; reading goes on at {next}, the earliest",
            self.client.topic(),
            place.next
        );
        self.places.insert(partition, Place { next, ..place });
        Ok(())
    }
}

impl Consume for LegacyConsumer {
    fn poll(&mut self, wait: Duration, most: usize) -> Result<Vec<Message>, Error> {
        let until = Instant::now() + wait;
        while self.ready.is_empty() {
            self.learn()?;
            let left = until.saturating_duration_since(Instant::now());
            self.fetch(left)?;
            if left.is_zero() {
                break;
            }
        }
        Ok(self.ready.drain(..most.min(self.ready.len())).collect())
    }

    fn commit(&mut self, offsets: &[(i32, i64)]) -> Result<(), Error> {
        let committed = self.committer.commit(offsets);
        if let Err(Error::Code(ILLEGAL_GENERATION | UNKNOWN_MEMBER_ID, _)) = committed {
            self.figures.fenced.fetch_add(1, Relaxed);
        }
        committed
    }
}

fn fetched(client: &mut KafkaClient, topic: &str, places: &[(i32, Place)]) -> kafka::Result<Vec<Fetched>> {
    let question = |(partition, place): &(i32, Place)| {
        FetchPartition::new(topic, *partition, place.next).with_max_bytes(place.bytes)
    };
    let mut all = Vec::new();
    for response in client.fetch_messages(places.iter().map(question))? {
        let partitions = response.topics().iter().filter(|of| of.topic() == topic).flat_map(|of| of.partitions());
        for partition in partitions {
            let said = match partition.data() {
                Ok(data) => {
                    let messages = data.messages().iter().map(|message| Message {
                        partition: partition.partition(),
                        offset: message.offset,
                        key: (!message.key.is_empty()).then(|| Bytes::copy_from_slice(message.key)),
                        value: Bytes::copy_from_slice(message.value),
                        damage: None,
                    });
                    Ok((data.highwatermark_offset(), messages.collect()))
                }
                Err(error) => match &*error {
                    kafka::Error::Kafka(code) => Err(*code),
                    _ => Err(KafkaCode::Unknown),
                },
            };
            all.push((partition.partition(), said));
        }
    }
    Ok(all)
}
