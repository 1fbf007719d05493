//! The part of Kafka's protocol that is spoken here: which requests, in which versions, and the shape of their answers.
//!
//! Versions end where the flexible ones begin (KIP-482): what comes after them adds nothing that is needed here, and every
//! broker from 1.0 to 4.x speaks one of those before (KIP-896 names the oldest that 4.x keeps).

use bytes::Bytes;
use kafka_protocol::messages as m;
use kafka_protocol::protocol::{Decodable, Encodable};

use super::shape;

/// A request, and what is needed to read its answer.
pub trait Api: Encodable {
    /// What the broker answers.
    type Answer: Decodable;
    /// The API's number.
    const KEY: i16;
    /// Its name, for messages.
    const NAME: &'static str;
    /// The oldest and the newest version that are spoken here.
    const VERSIONS: (i16, i16);
    /// The answer's fields, in the words of `shape`.
    const SHAPE: &'static str;

    /// Reads an answer.
    ///
    /// # Errors
    /// What is wrong with it.
    fn answer(mut bytes: Bytes, version: i16) -> Result<Self::Answer, String> {
        shape::measure(Self::SHAPE, version, &bytes)?;
        Self::Answer::decode(&mut bytes, version).map_err(|error| error.to_string())
    }
}

/// An API, for tests that go over all of them.
#[cfg(test)]
pub struct Spoken {
    /// As [`Api::KEY`].
    pub key: i16,
    /// As [`Api::NAME`].
    pub name: &'static str,
    /// As [`Api::VERSIONS`].
    pub versions: (i16, i16),
    /// As [`Api::SHAPE`].
    pub shape: &'static str,
    /// Reads an answer, and writes what was read.
    pub read_and_write: fn(Bytes, i16) -> Result<Bytes, String>,
}

macro_rules! apis {
    ($($request:ident $answer:ident $name:literal $key:literal $versions:tt $shape:literal;)*) => {
        $(impl Api for m::$request {
            type Answer = m::$answer;
            const KEY: i16 = $key;
            const NAME: &'static str = $name;
            const VERSIONS: (i16, i16) = $versions;
            const SHAPE: &'static str = $shape;
        })*

        /// All of them.
        #[cfg(test)]
        pub fn spoken() -> Vec<Spoken> {
            vec![$(Spoken {
                key: $key,
                name: $name,
                versions: $versions,
                shape: $shape,
                read_and_write: |bytes, version| {
                    let mut written = bytes::BytesMut::new();
                    let answer = <m::$request as Api>::answer(bytes, version)?;
                    answer.encode(&mut written, version).map_err(|error| error.to_string())?;
                    Ok(written.freeze())
                },
            }),*]
        }
    };
}

// As in <https://kafka.apache.org/protocol.html#protocol_messages>.
apis! {
    ProduceRequest ProduceResponse "Produce" 0 (3, 8) "[s [4 2 8 8 5:8 8:[4 s] 8:s]] 4";
    FetchRequest FetchResponse "Fetch" 1 (4, 11) "4 7:2 7:4 [s [4 2 8 8 5:8 [8 8] 11:4 b]]";
    ListOffsetsRequest ListOffsetsResponse "ListOffsets" 2 (1, 5) "2:4 [s [4 2 8 8 4:4]]";
    MetadataRequest MetadataResponse "Metadata" 3 (4, 8) "4 [4 s 4 s] s 4 [2 s 1 [2 4 4 7:4 [4] [4] 5:[4]] 8:4] 8:4";
    OffsetCommitRequest OffsetCommitResponse "OffsetCommit" 8 (2, 7) "3:4 [s [4 2]]";
    OffsetFetchRequest OffsetFetchResponse "OffsetFetch" 9 (2, 5) "3:4 [s [4 8 5:4 s 2]] 2";
    FindCoordinatorRequest FindCoordinatorResponse "FindCoordinator" 10 (0, 2) "1:4 2 1:s 4 s 4";
    JoinGroupRequest JoinGroupResponse "JoinGroup" 11 (1, 5) "2:4 2 4 s s s [s 5:s b]";
    HeartbeatRequest HeartbeatResponse "Heartbeat" 12 (0, 3) "1:4 2";
    LeaveGroupRequest LeaveGroupResponse "LeaveGroup" 13 (0, 3) "1:4 2 3:[s s 2]";
    SyncGroupRequest SyncGroupResponse "SyncGroup" 14 (0, 3) "1:4 2 b";
    SaslHandshakeRequest SaslHandshakeResponse "SaslHandshake" 17 (1, 1) "2 [s]";
    ApiVersionsRequest ApiVersionsResponse "ApiVersions" 18 (0, 0) "2 [2 2 2]";
    InitProducerIdRequest InitProducerIdResponse "InitProducerId" 22 (0, 1) "4 2 8 2";
    SaslAuthenticateRequest SaslAuthenticateResponse "SaslAuthenticate" 36 (0, 1) "2 s b 1:8";
}

/// Which versions a broker speaks, from its answer to ApiVersions (KIP-35).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions(Vec<(i16, i16, i16)>);

impl Versions {
    /// Takes note of what a broker has said.
    pub fn new(answer: &m::ApiVersionsResponse) -> Self {
        Versions(answer.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect())
    }

    /// The oldest and the newest version of an API that the broker speaks; `None` when it does not know the API.
    pub fn of(&self, key: i16) -> Option<(i16, i16)> {
        self.0.iter().find(|(known, ..)| *known == key).map(|(_, oldest, newest)| (*oldest, *newest))
    }

    /// The oldest and the newest version of Fetch that the broker speaks: the honest sign of what it can do, since brokers list
    /// versions of Produce that they refuse (KIP-896).
    pub fn fetch(&self) -> Option<(i16, i16)> {
        self.of(m::FetchRequest::KEY)
    }

    /// The newest version of `A` that both sides speak.
    ///
    /// # Errors
    /// Which versions the broker speaks instead.
    pub fn choose<A: Api>(&self) -> Result<i16, String> {
        let (ours_oldest, ours_newest) = A::VERSIONS;
        let Some((oldest, newest)) = self.of(A::KEY) else {
            return Err(format!("does not know {}", A::NAME));
        };
        let common = newest.min(ours_newest);
        if common < oldest.max(ours_oldest) {
            let theirs = format!("speaks {} {oldest}–{newest}", A::NAME);
            return Err(format!("{theirs}; Pingeon speaks {ours_oldest}–{ours_newest} (Kafka 1.0 to 4.x)"));
        }
        Ok(common)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::api_versions_response::ApiVersion;

    #[test]
    fn the_newest_common_version_is_taken() {
        for (theirs, chosen) in [
            (Some((0, 11)), Ok(11)),
            (Some((4, 18)), Ok(11)),
            (Some((0, 6)), Ok(6)),
            (Some((0, 3)), Err("speaks Fetch 0–3; Pingeon speaks 4–11 (Kafka 1.0 to 4.x)")),
            (Some((12, 20)), Err("speaks Fetch 12–20; Pingeon speaks 4–11 (Kafka 1.0 to 4.x)")),
            (None, Err("does not know Fetch")),
        ] {
            let keys = theirs.iter().map(|(oldest, newest)| {
                ApiVersion::default().with_api_key(1).with_min_version(*oldest).with_max_version(*newest)
            });
            let versions = Versions::new(&m::ApiVersionsResponse::default().with_api_keys(keys.collect()));
            assert_eq!(versions.choose::<m::FetchRequest>(), chosen.map_err(str::to_owned), "{theirs:?}");
        }
    }
}
