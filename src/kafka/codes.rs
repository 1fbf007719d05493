//! Error codes in words for people, with what to do about them.

use kafka_protocol::error::ResponseError;

use super::Error;

/// What a broker says of a topic.
pub fn topic(code: i16, topic: &str, broker: &str) -> Error {
    let what = match ResponseError::try_from_code(code) {
        Some(ResponseError::UnknownTopicOrPartition) => format!(
            "topic `{topic}` does not exist; make it: `kafka-topics.sh --bootstrap-server {broker} --create --topic {topic} \
             --partitions 6 --replication-factor 3` (1 where there is one broker)"
        ),
        Some(ResponseError::TopicAuthorizationFailed) => {
            format!(
                "not authorised for topic `{topic}`; this user needs the right to describe it, and to read or write it"
            )
        }
        Some(ResponseError::InvalidTopicException) => {
            format!("`{topic}` is no name of a topic: up to 249 letters, digits, `.`, `_` and `-`")
        }
        _ => format!("topic `{topic}`: {}", name(code)),
    };
    Error::Code(code, what)
}

/// What a broker says of records that were sent to a partition; `message`: in its own words, where it has some.
pub fn produce(code: i16, message: Option<String>, topic: &str, partition: i32) -> Error {
    let what = match ResponseError::try_from_code(code) {
        Some(ResponseError::MessageTooLarge) => {
            format!(
                "too large for topic `{topic}`; raise its `max.message.bytes` (and the brokers' `message.max.bytes`)"
            )
        }
        Some(ResponseError::TopicAuthorizationFailed) => format!("not authorised to write to topic `{topic}`"),
        _ => {
            let message = message.map(|message| format!(": {message}")).unwrap_or_default();
            format!("topic `{topic}`, partition {partition}: {}{message}", name(code))
        }
    };
    Error::Code(code, what)
}

/// What a broker says when it is asked for a producer id.
pub fn producer_id(code: i16) -> Error {
    Error::Code(code, format!("no producer id to be had: {}", name(code)))
}

/// What a broker says of a consumer group.
pub fn group(code: i16, group: &str) -> Error {
    let what = match ResponseError::try_from_code(code) {
        Some(ResponseError::GroupAuthorizationFailed) => {
            format!("not authorised for consumer group `{group}`; this user needs the right to read it")
        }
        Some(
            ResponseError::CoordinatorLoadInProgress
            | ResponseError::CoordinatorNotAvailable
            | ResponseError::NotCoordinator,
        ) => format!("consumer group `{group}`: the cluster is not ready to coordinate it: {}", name(code)),
        _ => format!("consumer group `{group}`: {}", name(code)),
    };
    Error::Code(code, what)
}

/// The code's name and number: `NotLeaderOrFollower (6)`.
pub fn name(code: i16) -> String {
    match ResponseError::try_from_code(code) {
        Some(known) => format!("{known} ({code})"),
        None => "no error (0)".to_owned(),
    }
}
