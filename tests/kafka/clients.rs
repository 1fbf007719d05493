//! Pingeon's clients, made as `produce` and `consume` make them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pingeon::clock::SystemClock;
use pingeon::jobs::Stop;
use pingeon::kafka::client::Client;
use pingeon::kafka::connection::Access;
use pingeon::kafka::figures::Figures;
use pingeon::kafka::producer::Producer;
use pingeon::kafka::{Cluster, Compression, Error, Produce, Record};
use pingeon::net::{Net, lookup};

/// How long anything may take, on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const COMPRESSIONS: [Compression; 4] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4];

/// Without the environment's proxies.
pub fn access(cluster: Cluster) -> Access {
    let net = Net::new(Arc::new(SystemClock), |_| None, Arc::new(lookup::system));
    Access { cluster, net: Arc::new(net), stop: Stop::default() }
}

pub fn client(cluster: Cluster, topic: &str) -> Client {
    Client::new(access(cluster), topic.to_owned())
}

/// The native producer, and what it has done.
pub fn native_producer(cluster: Cluster, topic: &str, compression: Compression) -> (Producer, Arc<Figures>) {
    let figures = Arc::new(Figures::default());
    (Producer::new(client(cluster, topic), compression, figures.clone()), figures)
}

/// Records of `keys` keys in turn; key and value say which each is, so that no two are alike.
pub fn records(about: &str, count: usize, keys: usize) -> Vec<Record> {
    let record = |nth: usize| Record {
        key: format!("agent-{}/{about}", nth % keys).into_bytes(),
        value: format!("{about} {nth:06} {}", "abc".repeat(nth % 100)).into_bytes(),
        timestamp: 1_700_000_000_000 + nth as i64,
    };
    (0..count).map(record).collect()
}

/// Sends all, a batch at a time; after an error the same again, as the pump does. What it was told on the way.
pub fn send_all(producer: &mut dyn Produce, records: &[Record], batch: usize) -> Vec<Error> {
    let mut errors = Vec::new();
    for batch in records.chunks(batch) {
        let end = Instant::now() + PATIENCE;
        loop {
            match producer.send(batch) {
                Ok(refused) => {
                    assert_eq!(refused, []);
                    break;
                }
                Err(error) if Instant::now() < end => errors.push(error),
                Err(error) => panic!("after {PATIENCE:?}: {error}"),
            }
            // As the pump backs off, if more quickly.
            Stop::default().wait(Duration::from_millis(20));
        }
    }
    errors
}
