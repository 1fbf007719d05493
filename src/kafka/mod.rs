//! Kafka: a thin synchronous client of our own, and the `kafka` crate beside it, behind the same two traits.
//!
//! It stands alone: what a log is, it does not know. It takes [`Record`]s (a key and bytes) to a topic ([`Produce`]) and
//! brings [`Message`]s from it ([`Consume`]); of the rest of the crate it uses connections ([`crate::net`]), the word to stop,
//! the pulse of a thread and secrets. Its hints name keys of the config (`queue.kafka.tls`, `client: native`), since those are
//! what people can set; it reads none of them.
//!
//! # What is spoken
//!
//! Kafka 1.0 to 4.x. Each broker is asked which versions it speaks (ApiVersions, KIP-35), and the newest is taken that both
//! sides do:
//!
//! | API | versions | for |
//! |---|---|---|
//! | ApiVersions | 0 | which versions a broker speaks (KIP-35, KIP-511) |
//! | SaslHandshake, SaslAuthenticate | 1, 0–1 | PLAIN and SCRAM (KIP-43, KIP-84, KIP-152) |
//! | Metadata | 4–8 | who leads which partition |
//! | InitProducerId, Produce | 0–1, 3–8 | idempotent, record batches v2 (KIP-98, KIP-467) |
//! | Fetch, ListOffsets | 4–11, 1–5 | committed messages only (KIP-98) |
//! | FindCoordinator, JoinGroup, SyncGroup, Heartbeat, LeaveGroup | 0–2, 1–5, 0–3, 0–3, 0–3 | consumer groups by the classic protocol (KIP-62), static membership (KIP-345, from Kafka 2.3 on), member ids (KIP-394) |
//! | OffsetCommit, OffsetFetch | 2–7, 2–5 | where a group stands |
//!
//! They end before the flexible versions (KIP-482), topic ids (KIP-516) and the new group protocol (KIP-848): nothing of those is
//! needed here, and Kafka 4.x still speaks what comes before them (KIP-896). Requests and answers are `kafka-protocol`'s;
//! record batches are read and written by [`records`], which copies each record once.

pub mod api;
mod assign;
pub mod client;
mod codes;
pub mod compression;
pub mod connection;
pub mod consumer;
#[cfg(test)]
#[path = "fake/tests.rs"]
mod fake;
mod fetch;
pub mod figures;
pub mod group;
pub mod legacy;
pub mod partitioner;
pub mod producer;
pub mod records;
mod sasl;
mod scram;
mod shape;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::net::TlsSettings;
use crate::secret::Secret;

/// How to reach a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `host:port` of the brokers to begin with, at least one; the others are learned from them.
    pub brokers: Vec<String>,
    /// TLS to the brokers; `None`: plaintext.
    pub tls: Option<Arc<TlsSettings>>,
    /// Who we are; `None`: nobody asks.
    pub sasl: Option<Sasl>,
}

/// SASL credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sasl {
    /// How they are shown.
    pub mechanism: Mechanism,
    /// Who.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// How SASL credentials are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// RFC 7677.
    ScramSha256,
    /// The same with SHA-512.
    ScramSha512,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// Gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
}

/// What goes to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Decides the partition; records of one key stay in order.
    pub key: Vec<u8>,
    /// What it says.
    pub value: Vec<u8>,
    /// Its time, in milliseconds since 1970.
    pub timestamp: i64,
}

/// What comes from a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The partition that it lies in.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// What its partition was decided by.
    pub key: Option<Bytes>,
    /// What it says; empty where the broker has none (a tombstone).
    pub value: Bytes,
    /// Why it cannot be read, if it cannot: then `value` is what lies there instead, as it came (a whole batch).
    pub damage: Option<String>,
}

/// A record that the cluster will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which of the records.
    pub index: usize,
    /// Why.
    pub reason: String,
}

/// Takes records to one topic.
pub trait Produce {
    /// Takes all of `records` there, and returns when every replica that has to has them (acks=all). Those that will never be
    /// taken are named; all others are there.
    ///
    /// After an error some are there and some are not. The same records have to be given again: those that are known to be
    /// there are not sent again.
    ///
    /// # Errors
    /// See [`Error`].
    fn send(&mut self, records: &[Record]) -> Result<Vec<Refusal>, Error>;
}

/// Brings messages from one topic.
pub trait Consume {
    /// Waits up to `wait` for messages, and brings up to `most` of them; of each partition in order. Several polls may come before
    /// one commit. When the partitions are wanted elsewhere and something is in hand, one poll brings nothing at once, so that it
    /// can be committed; the next one gives them up.
    ///
    /// # Errors
    /// See [`Error`].
    fn poll(&mut self, wait: Duration, most: usize) -> Result<Vec<Message>, Error>;

    /// All before these offsets, each of a partition, is done with: it does not come again. Where the partition belongs to
    /// somebody else by now, nothing happens: they do it again.
    ///
    /// # Errors
    /// See [`Error`].
    fn commit(&mut self, offsets: &[(i32, i64)]) -> Result<(), Error>;
}

/// Why Kafka did not do its part; split by what the caller does about it. Each says, for people, who did what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// A broker cannot be reached, closed the connection, or did not answer in time: come again, or ask another.
    Away(String),
    /// A broker answered with this error code (<https://kafka.apache.org/protocol.html#protocol_error_codes>).
    Code(i16, String),
    /// A broker sent what is no answer. The connection is of no more use.
    Garbage(String),
    /// Cannot work as things are set, however often it is tried.
    Unusable(String),
    /// The word to stop came first.
    Stopped,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Away(what) | Error::Garbage(what) | Error::Unusable(what) | Error::Code(_, what) => {
                f.write_str(what)
            }
            Error::Stopped => f.write_str("told to stop"),
        }
    }
}

impl std::error::Error for Error {}
