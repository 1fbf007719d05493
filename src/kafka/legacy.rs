//! The `kafka` crate (0.10, <https://docs.rs/kafka>) behind [`Produce`](super::Produce) and [`Consume`](super::Consume).
//!
//! It speaks version 0 of every API, so brokers from 0.10 (where its commits are made by our own connection) to 3.9 (4.0 removed those versions, KIP-896), in plaintext and without
//! SASL, with gzip and snappy. Its records carry no time: where a topic keeps the time of creation, the broker writes -1.
//!
//! What it lacks is added here where it can be:
//!
//! * It has no deadline for connecting and a fixed one of 120 s for each read: every call runs on a thread of its own and is
//!   given up after `CALL_MAX`; that thread ends when the crate lets go of it.
//! * A panic in it becomes an [`Error::Garbage`], and the client is made anew. It believes the lengths that a broker claims, so a
//!   peer that is no broker may make it reserve up to 2 GiB of address space until the call is given up: whoever chooses this
//!   client asks the broker for its versions first, which [`connection`](super::connection) does within bounds.
//! * Of messages that stand before a compressed batch in one answer it shows none, and goes on after them: the consumer notices
//!   the gap and asks for less, until the compressed batch is cut off.
//! * While a group's coordinator moves it asks for ever, and commits whenever it can: commits are made on a connection of our own.
//! * It does not turn to another broker when one stops answering: after every failure a new client begins at the next of them.

mod client;
mod commit;
mod consumer;
mod producer;
#[cfg(test)]
mod tests;

pub use consumer::LegacyConsumer;
pub use producer::LegacyProducer;

use std::io::ErrorKind;
use std::time::Duration;

use kafka::error::KafkaCode;

use super::{Error, codes};

/// Until a call of the crate is given up: connecting, asking and answering together.
const CALL_MAX: Duration = Duration::from_secs(30);

/// What it does not know it numbers -1, as brokers do what they cannot explain.
const UNKNOWN: i16 = KafkaCode::Unknown as i16;

/// What the crate says, in the words of the other client. `brokers`: those it was told of.
fn translate(error: &kafka::Error, brokers: &str) -> Error {
    use kafka::Error as E;
    match error {
        E::Io(error) => Error::Away(match error.kind() {
            ErrorKind::UnexpectedEof => format!(
                "{brokers} closed the connection or broke off its answer; if it is of Kafka 4.0 or later, or expects TLS, use \
                 `client: native`"
            ),
            ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("{brokers} does not answer"),
            _ => format!("{brokers}: {error}"),
        }),
        E::NoHostReachable => Error::Away(format!("{brokers} cannot be reached")),
        E::Kafka(code) | E::TopicPartitionError { error_code: code, .. } => {
            Error::Code(*code as i16, format!("{brokers}: {}", code_name(*code as i16)))
        }
        E::UnsupportedCompression | E::UnsupportedProtocol => Error::Unusable(
            "the topic holds batches that the `kafka` crate cannot read (lz4 or zstd); use `client: native`".to_owned(),
        ),
        E::ArcSelf(error) => translate(error, brokers),
        E::InvalidSnappy(_) | E::UnexpectedEOF | E::CodecError | E::StringDecodeError => {
            Error::Garbage(format!("{brokers} sent what is no answer: {error}"))
        }
        E::NoTopicsAssigned | E::InvalidDuration | E::UnsetOffsetStorage | E::UnsetGroupId => {
            Error::Unusable(format!("{brokers}: {error}"))
        }
    }
}

const ILLEGAL_GENERATION: i16 = KafkaCode::IllegalGeneration as i16;
const UNKNOWN_MEMBER_ID: i16 = KafkaCode::UnknownMemberId as i16;

/// What is wrong with the group.
fn of_group(error: Error, group: &str) -> Error {
    match error {
        Error::Code(code @ (ILLEGAL_GENERATION | UNKNOWN_MEMBER_ID), _) => Error::Code(
            code,
            format!(
                "consumer group `{group}` has members that share its partitions, and the `kafka` crate cannot be one of them; \
                 use `client: native`, or another `group`"
            ),
        ),
        Error::Code(code, _) => codes::group(code, group),
        error => error,
    }
}

fn code_name(code: i16) -> String {
    if code == UNKNOWN { "an error that the `kafka` crate has no name for".to_owned() } else { codes::name(code) }
}
