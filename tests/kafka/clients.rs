//! Pingeon's clients, made as `produce` and `consume` make them, and the habits of the pump.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingeon::clock::SystemClock;
use pingeon::jobs::{Jobs, Stop};
use pingeon::kafka::client::Client;
use pingeon::kafka::connection::Access;
use pingeon::kafka::consumer::{Consumer, Settings};
use pingeon::kafka::figures::Figures;
use pingeon::kafka::legacy::{LegacyConsumer, LegacyProducer};
use pingeon::kafka::producer::Producer;
use pingeon::kafka::{Cluster, Compression, Consume, Error, Message, Produce, Record};
use pingeon::net::{Net, lookup};

/// How long anything may take, on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries after an error: as the pump backs off, if more quickly.
const PAUSE: Duration = Duration::from_millis(20);
const STACK: usize = 512 * 1024;

/// The two clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Native,
    /// The `kafka` crate.
    Crate,
}

/// Without the environment's proxies.
pub fn access(cluster: Cluster) -> Access {
    let net = Net::new(Arc::new(SystemClock), |_| None, Arc::new(lookup::system));
    Access { cluster, net: Arc::new(net), stop: Stop::default() }
}

pub fn client(cluster: Cluster, topic: &str) -> Client {
    Client::new(access(cluster), topic.to_owned())
}

/// A producer, and what it has done.
pub struct Writer {
    producer: Box<dyn Produce + Send>,
    pub figures: Arc<Figures>,
}

impl Writer {
    pub fn new(kind: Kind, cluster: Cluster, topic: &str, codec: Compression) -> Self {
        Self::in_batches(kind, cluster, topic, codec, 1_000_000)
    }

    /// The native producer's batches have so many bytes at most; small ones are many in flight.
    pub fn in_batches(kind: Kind, cluster: Cluster, topic: &str, codec: Compression, bytes: usize) -> Self {
        let figures = Arc::new(Figures::default());
        let producer: Box<dyn Produce + Send> = match kind {
            Kind::Native => {
                let producer = Producer::new(client(cluster, topic), codec, figures.clone());
                Box::new(producer.with_batch_bytes(bytes))
            }
            Kind::Crate => Box::new(LegacyProducer::new(&access(cluster), topic, codec, figures.clone()).unwrap()),
        };
        Writer { producer, figures }
    }

    /// Sends what is refused in part: which of the records, and why.
    pub fn send(&mut self, records: &[Record]) -> Vec<(usize, String)> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.producer.send(records) {
                Ok(refused) => return refused.into_iter().map(|refusal| (refusal.index, refusal.reason)).collect(),
                Err(error) => back_off(&error, end),
            }
        }
    }

    /// Sends all, so many at a time; after an error the same again, as the pump does.
    pub fn send_all(&mut self, records: &[Record], at_once: usize) {
        for records in records.chunks(at_once) {
            assert_eq!(self.send(records), []);
        }
    }
}

/// A consumer with its heart, and what it has done.
pub struct Reader {
    consumer: Option<Box<dyn Consume>>,
    pub figures: Arc<Figures>,
    jobs: Jobs,
    stop: Stop,
}

impl Reader {
    pub fn new(kind: Kind, cluster: Cluster, topic: &str, group: &str) -> Self {
        let (figures, jobs, stop) = (Arc::new(Figures::default()), Jobs::default(), Stop::default());
        let consumer: Box<dyn Consume> = match kind {
            Kind::Native => {
                let settings = Settings::new(group.to_owned());
                let consumer = Consumer::new(client(cluster, topic), settings, figures.clone());
                let (heart, stop) = (consumer.heart(), stop.clone());
                jobs.start("heart", STACK, move |pulse| heart.run(&stop, pulse)).unwrap();
                Box::new(consumer)
            }
            Kind::Crate => Box::new(LegacyConsumer::new(&access(cluster), topic, group, figures.clone()).unwrap()),
        };
        Reader { consumer: Some(consumer), figures, jobs, stop }
    }

    /// What comes within a moment; after an error again, as the pump does.
    pub fn poll(&mut self, most: usize, end: Instant) -> Vec<Message> {
        match self.consumer.as_mut().unwrap().poll(Duration::from_millis(200), most) {
            Ok(messages) => messages,
            Err(error) => {
                back_off(&error, end);
                Vec::new()
            }
        }
    }

    /// Polls until `count` messages have come; each batch is committed before the next one.
    pub fn read(&mut self, count: usize) -> Vec<Message> {
        self.read_by(count, 1000)
    }

    /// The same, at most so many in one batch.
    pub fn read_by(&mut self, count: usize, at_once: usize) -> Vec<Message> {
        let end = Instant::now() + PATIENCE;
        let mut read = Vec::new();
        while read.len() < count {
            assert!(Instant::now() < end, "{} of {count} have come within {PATIENCE:?}", read.len());
            let messages = self.poll(at_once, end);
            self.commit(&messages, end);
            read.extend(messages);
        }
        read
    }

    /// They are done with.
    pub fn commit(&mut self, messages: &[Message], end: Instant) {
        let offsets: BTreeMap<i32, i64> =
            messages.iter().map(|message| (message.partition, message.offset + 1)).collect();
        let offsets: Vec<(i32, i64)> = offsets.into_iter().collect();
        while let Err(error) = self.consumer.as_mut().unwrap().commit(&offsets) {
            back_off(&error, end);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.consumer.take());
        self.stop.set();
        let (late, failed) = self.jobs.join(PATIENCE);
        assert!(std::thread::panicking() || (late.is_empty() && failed.is_empty()), "{late:?} {failed:?}");
    }
}

/// What no waiting mends ends the test.
fn back_off(error: &Error, end: Instant) {
    assert!(!matches!(error, Error::Unusable(_) | Error::Stopped), "{error}");
    assert!(Instant::now() < end, "after {PATIENCE:?}: {error}");
    Stop::default().wait(PAUSE);
}

/// Records of `keys` keys in turn; each says which it is, so that no two are alike. Times rise, and never repeat.
pub fn records(about: &str, count: usize, keys: usize) -> Vec<Record> {
    let record = |nth: usize| Record {
        key: format!("agent-{}/{about}", nth % keys).into_bytes(),
        value: format!("{about} {nth:06} {}", "abc".repeat(nth % 100)).into_bytes(),
        timestamp: 1_700_000_000_000 + nth as i64,
    };
    (0..count).map(record).collect()
}
