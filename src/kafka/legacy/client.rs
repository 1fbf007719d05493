//! The crate's client on a thread of its own, so that a call that hangs can be given up.

use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use kafka::client::{Compression as CrateCompression, GroupOffsetStorage, KafkaClient};

use super::{CALL_MAX, translate};
use crate::jobs::{Stop, panic_message, start_detached};
use crate::kafka::connection::Access;
use crate::kafka::{Compression, Error, codes};

/// Threads that may hang in calls that were given up. Each ends by itself: the crate asks a bounded number of times and waits up to
/// 120 s for more of an answer, and the system gives up connecting after some 130 s, at one broker after the other. With several
/// brokers that swallow packets more would hang than this, since a call is given up every [`CALL_MAX`]: then calls fail at once
/// until one has ended. Only a peer that lets its answer trickle holds a thread for longer. What is still under way in them
/// changes nothing but that records may be there twice.
const THREADS_MAX: usize = 8;

const STACK: usize = 512 * 1024;

/// A client that was not used for this long is made anew, since the broker or something between may have closed its connections
/// without a word.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// How often the crate asks for a group's coordinator, and for its offsets at each, 100 ms apart, while they are moving.
const ATTEMPTS_MAX: u32 = 10;

/// What is lost, at most, in finding out why brokers cannot be reached, all together; not counting the lookup of their names.
const REASONS_MAX: Duration = Duration::from_secs(5);

type Call = Box<dyn FnOnce(&mut KafkaClient) + Send>;

/// The crate's client.
pub(super) struct Client {
    brokers: Vec<String>,
    topic: String,
    compression: CrateCompression,
    stop: Stop,
    thread: Option<Sender<Call>>,
    threads: Arc<AtomicUsize>,
    used: Instant,
    /// How many clients there were: each begins at another broker.
    made: usize,
    /// [`CALL_MAX`], but in tests.
    pub(super) call_max: Duration,
}

impl Client {
    /// Connects to nobody before it is asked.
    ///
    /// # Errors
    /// [`Error::Unusable`] for what the crate has not.
    pub(super) fn new(access: &Access, topic: &str, compression: Compression) -> Result<Self, Error> {
        let lacks = |what: &str| Err(Error::Unusable(format!("the `kafka` crate has no {what}; use `client: native`")));
        let compression = match compression {
            Compression::None => CrateCompression::NONE,
            Compression::Gzip => CrateCompression::GZIP,
            Compression::Snappy => CrateCompression::SNAPPY,
            Compression::Lz4 => return lacks("lz4"),
        };
        if access.cluster.tls.is_some() {
            return lacks("TLS here");
        }
        if access.cluster.sasl.is_some() {
            return lacks("SASL");
        }
        Ok(Client {
            brokers: access.cluster.brokers.clone(),
            topic: topic.to_owned(),
            compression,
            stop: access.stop.clone(),
            thread: None,
            threads: Arc::default(),
            used: Instant::now(),
            made: 0,
            call_max: CALL_MAX,
        })
    }

    /// The topic.
    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// The leader of each partition, by its number, as the brokers name it; `None` where there is none now.
    ///
    /// # Errors
    /// When no broker answers, or the topic is not there.
    pub(super) fn leaders(&mut self) -> Result<Vec<Option<String>>, Error> {
        let (topic, brokers) = (self.topic.clone(), self.brokers.clone());
        let leaders = self.begin(move |client| {
            client.load_metadata(&[&topic]).map_err(|error| unreached(&error, &brokers, REASONS_MAX))?;
            let partitions = client.topics();
            let partitions = partitions.partitions(&topic);
            let leader =
                |partition: kafka::client::metadata::Partition<'_>| Some(partition.leader()?.host().to_owned());
            Ok(partitions.map(|all| all.iter().map(leader).collect()).unwrap_or_default())
        })?;
        let leaders: Vec<_> = leaders;
        if leaders.is_empty() {
            return Err(codes::topic(UNKNOWN_TOPIC, &self.topic, &self.brokers[0]));
        }
        Ok(leaders)
    }

    /// Lets the crate do `call`, within [`CALL_MAX`], once it knows the topic. After a failure the next call is made by a new
    /// client.
    ///
    /// # Errors
    /// What `call` says; that it was given up; [`Error::Stopped`].
    pub(super) fn ask<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&mut KafkaClient) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (topic, brokers) = (self.topic.clone(), self.brokers.clone());
        self.begin(move |client| {
            if !client.topics().contains(&topic) {
                client.load_metadata(&[&topic]).map_err(|error| unreached(&error, &brokers, REASONS_MAX))?;
            }
            call(client)
        })
    }

    /// Lets the crate do `call`, even if it knows nothing yet.
    fn begin<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&mut KafkaClient) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = bounded(1);
        let guarded: Call = Box::new(move |client| {
            let said = catch_unwind(AssertUnwindSafe(|| call(client)));
            // Nobody waits any more once the call was given up.
            let _ = answer.send(said.unwrap_or_else(|panic| {
                let what = panic_message(&*panic);
                Err(Error::Garbage(format!("the `kafka` crate panicked over what a broker sent: {what}")))
            }));
        });
        let said = self.hand(guarded).and_then(|()| self.wait(&answered));
        match &said {
            Ok(_) | Err(Error::Code(..)) => self.used = Instant::now(),
            Err(Error::Away(_) | Error::Garbage(_) | Error::Unusable(_) | Error::Stopped) => self.drop_client(),
        }
        said
    }

    /// The next call is made by a new client, which begins at another broker.
    pub(super) fn drop_client(&mut self) {
        self.thread = None;
    }

    fn hand(&mut self, call: Call) -> Result<(), Error> {
        if self.stop.is_set() {
            return Err(Error::Stopped);
        }
        if self.used.elapsed() > IDLE_MAX {
            self.drop_client();
        }
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => self.start()?,
        };
        let handed = thread.send(call).map_err(|_| Error::Away("the thread of the `kafka` crate is gone".to_owned()));
        self.thread = Some(thread);
        handed
    }

    fn wait<T>(&self, answered: &Receiver<Result<T, Error>>) -> Result<T, Error> {
        let gone = || Error::Away("the thread of the `kafka` crate is gone".to_owned());
        select! {
            recv(answered) -> said => said.map_err(|_| gone())?,
            recv(self.stop.channel()) -> _ => Err(Error::Stopped),
            default(self.call_max) => {
                let brokers = named(&self.brokers);
                Err(Error::Away(format!("{brokers}: not connected and answered within {} s", self.call_max.as_secs())))
            }
        }
    }

    fn start(&mut self) -> Result<Sender<Call>, Error> {
        if self.threads.load(Relaxed) >= THREADS_MAX {
            let brokers = named(&self.brokers);
            return Err(Error::Away(format!("{brokers}: {THREADS_MAX} calls hang that were given up; none is begun")));
        }
        let mut brokers = self.brokers.clone();
        brokers.rotate_left(self.made % self.brokers.len().max(1));
        self.made += 1;
        let mut client = KafkaClient::new(brokers);
        client.set_client_id("pingeon".to_owned());
        client.set_compression(self.compression);
        client.set_group_offset_storage(Some(GroupOffsetStorage::Kafka));
        client.set_retry_max_attempts(ATTEMPTS_MAX);
        client.set_fetch_min_bytes(1);
        let (calls, to_do) = bounded::<Call>(1);
        let alive = Alive::enter(&self.threads);
        let work = move || {
            let _alive = alive;
            to_do.iter().for_each(|call| call(&mut client));
        };
        start_detached("kafka-crate", STACK, work)
            .map_err(|error| Error::Away(format!("cannot start a thread: {error}")))?;
        self.used = Instant::now();
        Ok(calls)
    }
}

/// `UNKNOWN_TOPIC_OR_PARTITION`. The crate leaves the topic's error out of the answer; a topic without partitions is none.
const UNKNOWN_TOPIC: i16 = 3;

/// Brokers as messages name them.
pub(super) fn named(brokers: &[String]) -> String {
    match brokers {
        [one] => format!("broker {one}"),
        several => format!("brokers {}", several.join(", ")),
    }
}

/// What keeps brokers from being reached: the crate itself does not say.
pub(super) fn unreached(error: &kafka::Error, brokers: &[String], within: Duration) -> Error {
    if !matches!(error, kafka::Error::NoHostReachable) {
        return translate(error, &named(brokers));
    }
    let by = Instant::now() + within;
    let why = |broker: &String| connect(broker, by).err().map(|error| format!("broker {broker}: {error}"));
    let reasons: Vec<String> = brokers.iter().filter_map(why).collect();
    if reasons.is_empty() { translate(error, &named(brokers)) } else { Error::Away(reasons.join("; ")) }
}

/// Connects by a deadline to one of the broker's addresses.
fn connect(broker: &str, by: Instant) -> io::Result<()> {
    let mut said = Err(io::Error::other("its name has no address"));
    for address in broker.to_socket_addrs()? {
        // Nothing left is no time that can be waited.
        let left = by.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        said = TcpStream::connect_timeout(&address, left).map(drop);
        if said.is_ok() {
            break;
        }
    }
    said
}

/// One of the threads that are alive.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn enter(threads: &Arc<AtomicUsize>) -> Self {
        threads.fetch_add(1, Relaxed);
        Alive(threads.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
