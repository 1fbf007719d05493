//! Fetching: from every leader of a partition that is owned, as fast as it sends and no faster than it is worked off.
//!
//! Each leader has one request out for all its partitions. Its answer is read when nothing is left of the answers before, and
//! the next request goes out before the messages are handed on: the broker works while the store does, and of each leader at
//! most one answer is here and one on its way. Batches are decoded one by one as they are handed out.
//!
//! A leader that fails costs its own partitions a pause, and no other's. What lies behind an offset that is not there any more
//! is read from the earliest on; nothing that is still there is passed over.
//!
//! Specified by <https://kafka.apache.org/protocol.html>, KIP-74 (bounds, and their exception for a large batch) and KIP-98
//! (transactions).

mod earliest;
mod open;
mod place;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::client::{ANSWER_MAX, Client};
use super::connection::Connection;
use super::figures::Figures;
use super::group::Placed;
use super::{Error, Message, codes};
use crate::jobs::Stop;
use open::Open;
use place::Place;

/// How long a broker waits for messages before it answers that there are none.
const ANSWER_EMPTY: Duration = Duration::from_millis(500);

/// What a broker sends at once, and of one partition, in bytes. Its first batch it sends even if that alone is larger.
const ANSWER_BYTES: i32 = 4 << 20;
const PARTITION_BYTES: i32 = 1 << 20;

/// How long a wait may be before whoever waits looks around.
const WAIT_MAX: Duration = Duration::from_millis(200);

const READ_COMMITTED: i8 = 1;
const UNKNOWN_TOPIC: i16 = ResponseError::UnknownTopicOrPartition.code();
const CONSUMER: BrokerId = BrokerId(-1);

/// The partitions that are owned, and what is fetched from them.
#[derive(Debug)]
pub struct Fetcher {
    figures: Arc<Figures>,
    /// How many partitions the topic had when it was last asked for them; `None`: not since the current ones are owned.
    partitions: Option<i32>,
    /// Whether a broker has said since then that the topic is not there.
    gone: bool,
    places: BTreeMap<i32, Place>,
    /// In which order partitions are asked for: a broker fills its answer from the front.
    order: VecDeque<i32>,
    /// Partitions that have batches, in the order in which they get their turns.
    ready: VecDeque<i32>,
    open: Option<Open>,
    /// The leaders that have a request, by node id.
    asked: BTreeMap<i32, Asked>,
    /// What went wrong last and was not said, and whether it was in order before.
    trouble: Option<(Error, bool)>,
}

/// A request that is not answered yet.
#[derive(Debug)]
struct Asked {
    at: Instant,
    /// The partition that was asked for first.
    first: i32,
    /// From where on each was asked for.
    offsets: BTreeMap<i32, i64>,
}

impl Fetcher {
    pub fn new(figures: Arc<Figures>) -> Self {
        let (places, asked) = (BTreeMap::new(), BTreeMap::new());
        let (order, ready) = (VecDeque::new(), VecDeque::new());
        Fetcher { figures, partitions: None, gone: false, places, order, ready, open: None, asked, trouble: None }
    }

    /// Owns these partitions and no others from now on.
    pub fn begin(&mut self, placed: Vec<Placed>) {
        self.give_up();
        self.order = placed.iter().map(|(partition, _)| *partition).collect();
        self.places = placed.into_iter().map(|(partition, offset)| (partition, Place::new(offset))).collect();
    }

    /// Owns nothing any more; what was not handed out is thrown away. Requests that are out stay out: their answers are for
    /// whoever owns the partitions by then, as long as they begin where that one stands.
    pub fn give_up(&mut self) {
        for partition in self.places.keys() {
            self.figures.forget_lag(*partition);
        }
        (self.partitions, self.gone) = (None, false);
        self.places.clear();
        self.order.clear();
        self.ready.clear();
        self.open = None;
    }

    /// How many partitions the topic has, as far as that was learned since the current ones are owned. None once a broker has
    /// said that it is not there: it may be another one by now, whose offsets begin again.
    pub fn partitions(&self) -> Option<i32> {
        if self.gone { Some(0) } else { self.partitions }
    }

    /// What to commit when everything before `offset` is done with; `None` where the partition is not owned. It may be more:
    /// what is passed over is done with, too.
    pub fn done(&self, partition: i32, offset: i64) -> Option<i64> {
        let place = self.places.get(&partition)?;
        Some(if offset == place.handed { place.position.max(offset) } else { offset })
    }

    /// Up to `most` messages; waits for them until then, or a little less.
    ///
    /// # Errors
    /// When something is newly wrong with the partitions, and none of them is in order.
    pub fn fetch(&mut self, client: &mut Client, until: Instant, most: usize) -> Result<Vec<Message>, Error> {
        let mut messages = Vec::new();
        loop {
            self.hand_out(client, &mut messages, most);
            if messages.len() >= most {
                return Ok(messages);
            }
            // What is there is handed on; what more there is is only looked for.
            let until = if messages.is_empty() { until } else { Instant::now() };
            match self.fetch_more(client, until) {
                Ok(true) => {}
                Err(error) if messages.is_empty() => return Err(error),
                Ok(false) | Err(_) => return Ok(messages),
            }
        }
    }

    /// Asks every leader, and takes what they have sent. Whether there was anything.
    fn fetch_more(&mut self, client: &mut Client, until: Instant) -> Result<bool, Error> {
        self.ask_all(client)?;
        let nodes = self.answered(client, until)?;
        for node in &nodes {
            self.take(client, *node);
        }
        if !nodes.is_empty() {
            // The brokers work on the next answers while these are worked off.
            self.ask_all(client)?;
        }
        let troubled = self.places.values().all(Place::is_troubled);
        match self.trouble.take() {
            Some((error, _)) if troubled || error == Error::Stopped => Err(error),
            Some((error, true)) => {
                log::warn!("{error}; the other partitions go on");
                Ok(!nodes.is_empty())
            }
            _ => Ok(!nodes.is_empty()),
        }
    }

    /// Sends a request to every leader that has none.
    fn ask_all(&mut self, client: &mut Client) -> Result<(), Error> {
        let partitions = client.partitions();
        self.gone |= matches!(partitions, Err(Error::Code(UNKNOWN_TOPIC, _)));
        self.partitions = Some(partitions?);
        let open = client.connections();
        self.asked.retain(|node, _| open.get(node).is_some_and(|connection| connection.waiting() > 0));
        let now = Instant::now();
        let mut nodes: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        let mut leaderless = Vec::new();
        for &partition in &self.order {
            let rests = self.places.get(&partition).and_then(Place::rests_until);
            match client.leader(partition) {
                _ if rests.is_some_and(|until| until > now) => {}
                None => leaderless.push(partition),
                Some(node) if self.asked.contains_key(&node) => {}
                Some(node) => nodes.entry(node).or_default().push(partition),
            }
        }
        if let Some(first) = leaderless.first() {
            let what = format!("partition {first} of topic `{}` has no leader now", client.topic());
            self.fail(&leaderless, Error::Away(what));
            client.doubt();
        }
        for (node, partitions) in nodes {
            if let Err(error) = self.ask(client, node, &partitions) {
                self.fail(&partitions, error);
                client.drop_broker(node);
            }
        }
        Ok(())
    }

    /// Asks one leader for these partitions of it.
    fn ask(&mut self, client: &mut Client, node: i32, partitions: &[i32]) -> Result<(), Error> {
        self.find_earliest(client, node, partitions)?;
        let next = |partition: &i32| Some((*partition, self.places.get(partition)?.next?));
        let offsets: Vec<(i32, i64)> = partitions.iter().filter_map(next).collect();
        let Some((first, _)) = offsets.first().copied() else { return Ok(()) };
        let wanted = offsets.iter().map(|(partition, offset)| {
            FetchPartition::default()
                .with_partition(*partition)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(PARTITION_BYTES)
        });
        let topic = FetchTopic::default().with_topic(client.topic_name()).with_partitions(wanted.collect());
        let request = FetchRequest::default()
            .with_replica_id(CONSUMER)
            .with_max_wait_ms(ANSWER_EMPTY.as_millis() as i32)
            .with_min_bytes(1)
            .with_max_bytes(ANSWER_BYTES)
            .with_isolation_level(READ_COMMITTED)
            .with_topics(vec![topic]);
        let at = Instant::now();
        client.broker(node)?.send(&request, at + ANSWER_MAX)?;
        self.asked.insert(node, Asked { at, first, offsets: offsets.into_iter().collect() });
        Ok(())
    }

    /// The leaders whose answers have begun to come; waits for one until then, or a little less.
    fn answered(&mut self, client: &Client, until: Instant) -> Result<Vec<i32>, Error> {
        // Those that have rested wait for the request that is out to their leader.
        let now = Instant::now();
        let due = self.places.values().filter_map(Place::rests_until).filter(|due| *due > now).min();
        let until = due.map_or(until, |due| due.min(until));
        let waiting = || client.connections().iter().filter(|(node, _)| self.asked.contains_key(node));
        let connections: Vec<&Connection> = waiting().map(|(_, connection)| connection).collect();
        let ready = wait(&connections, until, &client.access().stop)?;
        let nodes: Vec<i32> = waiting().map(|(node, _)| *node).collect();
        Ok(ready.into_iter().map(|at| nodes[at]).collect())
    }

    /// Takes a leader's answer.
    fn take(&mut self, client: &mut Client, node: i32) {
        let Some(asked) = self.asked.remove(&node) else { return };
        let answer = client.broker(node).and_then(|connection| {
            let answer = connection.receive::<FetchRequest>(Instant::now() + ANSWER_MAX)?;
            match answer.error_code {
                0 => Ok(answer),
                code => {
                    Err(Error::Garbage(format!("broker {} answered Fetch: {}", connection.peer(), codes::name(code))))
                }
            }
        });
        match answer {
            Ok(answer) => self.take_answer(client, &asked, answer),
            Err(error) => {
                let partitions: Vec<i32> = asked.offsets.into_keys().collect();
                self.fail(&partitions, error);
                client.drop_broker(node);
            }
        }
    }

    fn take_answer(&mut self, client: &mut Client, asked: &Asked, answer: FetchResponse) {
        let micros = u64::try_from(asked.at.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.figures.in_flight_us.fetch_add(micros, Relaxed);
        self.figures.requests.fetch_add(1, Relaxed);
        let (mut served, mut explained) = (BTreeSet::new(), false);
        for partition in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
            let index = partition.partition_index;
            let Some(offset) = asked.offsets.get(&index) else { continue };
            // The partition may have been given up, or its position moved, since it was asked for.
            let wanted = self.places.get(&index).is_some_and(|place| place.next == Some(*offset));
            explained |= !wanted || partition.error_code != 0;
            match partition.error_code {
                _ if !wanted => {}
                0 => {
                    if self.take_partition(client, asked, partition) {
                        served.insert(index);
                    }
                }
                code => self.refused(client, index, code),
            }
        }
        if served.is_empty() && !explained {
            self.brake(asked);
        }
        // To the back of the queue, one behind the other as they were.
        let (back, front) = self.order.iter().partition::<Vec<i32>, _>(|partition| served.contains(partition));
        self.order = front.into_iter().chain(back).collect();
    }

    /// An answer that brings nothing comes when the broker has waited. One that did not (it sends what is known, or is told
    /// by a quota to send nothing) is not asked again before it would have been time.
    fn brake(&mut self, asked: &Asked) {
        for partition in asked.offsets.keys() {
            let place = self.places.get_mut(partition).filter(|place| !place.is_troubled());
            if let Some(place) = place {
                place.rest(asked.at + ANSWER_EMPTY);
            }
        }
    }

    /// Whether there were messages in it, or anything else that is new.
    fn take_partition(&mut self, client: &mut Client, asked: &Asked, answer: PartitionData) -> bool {
        let (index, first) = (answer.partition_index, asked.first);
        let Some(&offset) = asked.offsets.get(&index) else { return false };
        let Some(place) = self.places.get_mut(&index) else { return false };
        let idle = place.batches.is_empty();
        let something = answer.records.as_ref().is_some_and(|records| !records.is_empty());
        let taken = place.take(offset, answer);
        if idle && !place.batches.is_empty() {
            self.ready.push_back(index);
        }
        if let Some(lag) = place.lag() {
            self.figures.note_lag(index, lag);
        }
        let taken = match taken {
            // The first one that was asked for comes whole, however large it is.
            Ok(taken) if taken.batches == 0 && something && index == first => {
                Err("no whole batch comes that is new".to_owned())
            }
            Ok(taken) => Ok(taken),
            Err(error) => Err(error.to_string()),
        };
        let taken = match taken {
            Ok(taken) => taken,
            Err(what) => {
                let what = format!("partition {index} of topic `{}` at offset {offset}: {what}", client.topic());
                self.fail(&[index], Error::Garbage(what));
                // Over a new connection it may be right.
                if let Some(node) = client.leader(index) {
                    client.drop_broker(node);
                }
                return false;
            }
        };
        place.recover();
        self.figures.batches.fetch_add(taken.batches, Relaxed);
        self.figures.bytes.fetch_add(taken.bytes, Relaxed);
        taken.batches > 0
    }

    /// A broker said `code` of a partition.
    fn refused(&mut self, client: &mut Client, partition: i32, code: i16) {
        let Some(place) = self.places.get_mut(&partition) else { return };
        if code == ResponseError::OffsetOutOfRange.code() {
            place.lost = place.next.take().or(place.lost);
            place.fail(Instant::now());
            return;
        }
        self.gone |= code == UNKNOWN_TOPIC;
        // Most of them say that another leads, and all of them may.
        client.doubt();
        let broker = client.access().cluster.brokers.first().map_or("", String::as_str);
        let error = codes::topic(code, client.topic(), broker);
        self.fail(&[partition], error);
    }

    /// Something is wrong with these partitions: they rest for a while.
    fn fail(&mut self, partitions: &[i32], error: Error) {
        let now = Instant::now();
        let mut new = false;
        for partition in partitions {
            if let Some(place) = self.places.get_mut(partition) {
                new |= !place.is_troubled();
                place.fail(now);
            }
        }
        self.figures.retries.fetch_add(1, Relaxed);
        self.trouble = Some((error, new));
    }
}

/// Waits until something has come on one of the connections, until then or a little less; which ones that are.
///
/// # Errors
/// [`Error::Stopped`] when told to stop.
pub fn wait(connections: &[&Connection], until: Instant, stop: &Stop) -> Result<Vec<usize>, Error> {
    if stop.is_set() {
        return Err(Error::Stopped);
    }
    let left = until.saturating_duration_since(Instant::now()).min(WAIT_MAX);
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
    let mut fds: Vec<PollFd<'_>> =
        connections.iter().map(|connection| PollFd::new(*connection, PollFlags::IN)).collect();
    // A signal that interrupts it ends the wait early.
    let _ = poll(&mut fds, Some(&timeout));
    Ok((0..).zip(&fds).filter(|(_, fd)| !fd.revents().is_empty()).map(|(at, _)| at).collect())
}
