//! The config: the only place that knows YAML.
//!
//! A file is read into a tree (`yaml`), and each section takes its part of the tree (`walk`) into types that cannot hold
//! a bad value. Anything wrong ends in one [`ConfigError`] with file, line, column, the key's path and a hint.

mod auth;
mod checks;
mod connections;
mod dns_checks;
mod error;
mod expand;
mod explain;
mod kinds;
mod load;
mod maintenance;
mod quantities;
mod references;
mod sections;
mod shared;
mod source;
mod steps;
mod summary;
mod tables;
mod targets;
mod variables;
mod walk;
mod web_checks;
mod write;
mod yaml;

pub use error::{ConfigError, nearest};
pub use explain::explain;
pub use load::{find, load, outline};
pub use sections::postgres_at;
pub use shared::read_again;

use crate::secret::Secret;
pub use summary::{summary, too_few_workers, workers};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::check::Check;
use crate::kafka::{Cluster, Compression};
use crate::maintenance::Window;
use crate::store::postgres::Address;

/// All that a config says, defaults filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who writes the logs.
    pub agent: Arc<str>,
    /// Threads that may run checks at once, at most.
    pub workers_max: usize,
    /// What to check; labels are unique.
    pub checks: Vec<Arc<Check>>,
    /// Those of them that tell whether the agent's own network works.
    pub network_gate: Vec<Arc<Check>>,
    /// Time that reports count as planned.
    pub maintenance: Vec<Arc<Window>>,
    /// The durable queue on the agent's disk.
    pub spool: Spool,
    /// The broker between agents and store; `None`: the spool feeds the store in this process.
    pub queue: Option<Kafka>,
    /// Where logs end up. `None` only with a queue: this process consumes nothing.
    pub store: Option<Store>,
    /// Where the page, the metrics and the health are served.
    pub web: Option<Web>,
    /// How much to say.
    pub log_level: log::LevelFilter,
}

impl Config {
    /// The keys besides `checks` and `defaults` in which `other` differs: a running process does not take them up.
    pub fn differs_in(&self, other: &Config) -> Vec<&'static str> {
        let same = [
            ("agent", self.agent == other.agent),
            ("spool", self.spool == other.spool),
            ("queue", self.queue == other.queue),
            ("store", self.store == other.store),
            ("web", self.web == other.web),
            ("log", self.log_level == other.log_level),
        ];
        same.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
    }
}

/// The durable queue on the agent's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spool {
    /// The file.
    pub path: PathBuf,
    /// How large it may become, in bytes.
    pub max_bytes: u64,
    /// What happens then.
    pub when_full: WhenFull,
    /// Logs are committed to disk together, this often; a log waits for it at most this long.
    pub flush: Duration,
}

/// What happens when the spool is full. What is dropped is counted, and leaves its sequence numbers missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Drops `up` logs between changes first, oldest first.
    Thin,
    /// Drops the oldest.
    DropOldest,
    /// Drops nothing: checks wait, and slots go missed.
    Block,
}

/// A Kafka cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// How to reach it.
    pub cluster: Cluster,
    /// The topic of the logs.
    pub topic: String,
    /// Which client to use.
    pub client: KafkaClient,
    /// How batches are compressed.
    pub compression: Compression,
    /// The consumer group.
    pub group: String,
    /// By what the group knows this process again after a restart (static membership, KIP-345).
    pub instance_id: Option<String>,
}

/// Which Kafka client to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaClient {
    /// Ask the broker.
    Auto,
    /// The `kafka` crate.
    KafkaCrate,
    /// Our own.
    Native,
}

impl KafkaClient {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            KafkaClient::Auto => "auto",
            KafkaClient::KafkaCrate => "kafka-crate",
            KafkaClient::Native => "native",
        }
    }
}

/// Where logs end up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// The embedded database.
    Sqlite(Sqlite),
    /// A Postgres server.
    Postgres(Postgres),
}

/// What can be said of a store without reaching it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outline {
    /// The embedded database.
    Sqlite,
    /// A Postgres server, which keeps logs for so long; `None`: nothing is said of that.
    Postgres(Option<Duration>),
}

/// The embedded store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sqlite {
    /// The file.
    pub path: PathBuf,
    /// How long logs are kept.
    pub retention: Duration,
}

/// A Postgres server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgres {
    /// How to reach it.
    pub url: Arc<Address>,
    /// The password.
    pub password: Option<Secret>,
    /// Logs in one insert, at most.
    pub batch_max: usize,
    /// How long a smaller batch may wait for more.
    pub batch_wait: Duration,
    /// Consumers in this process, each with its own connection.
    pub connections: usize,
    /// How statements are prepared.
    pub prepared: Prepared,
    /// How long logs are kept.
    pub retention: Duration,
}

/// How Postgres statements are prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// Named, unless a transaction-pooling pgbouncer is in the way.
    Auto,
    /// Once a connection.
    Named,
    /// With each batch.
    Unnamed,
}

/// Where the page, the metrics and the health are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// Address and port.
    pub listen: SocketAddr,
}

#[cfg(test)]
mod tests;
