//! What a broker sends as the answer to a request, of every API and in every version that is spoken: no panic, and no more
//! memory than the bytes bear out.
//!
//! The first byte says which API, the second which version; the rest is the answer, without its correlation id.

#![no_main]

use bytes::Bytes;
use kafka_protocol::messages as m;
use libfuzzer_sys::fuzz_target;
use pingeon::kafka::api::Api;

fuzz_target!(|input: &[u8]| {
    let [api, version, answer @ ..] = input else { return };
    let (version, answer) = (*version, Bytes::copy_from_slice(answer));
    match api % 15 {
        0 => read::<m::ProduceRequest>(answer, version),
        1 => read::<m::FetchRequest>(answer, version),
        2 => read::<m::ListOffsetsRequest>(answer, version),
        3 => read::<m::MetadataRequest>(answer, version),
        4 => read::<m::OffsetCommitRequest>(answer, version),
        5 => read::<m::OffsetFetchRequest>(answer, version),
        6 => read::<m::FindCoordinatorRequest>(answer, version),
        7 => read::<m::JoinGroupRequest>(answer, version),
        8 => read::<m::HeartbeatRequest>(answer, version),
        9 => read::<m::LeaveGroupRequest>(answer, version),
        10 => read::<m::SyncGroupRequest>(answer, version),
        11 => read::<m::SaslHandshakeRequest>(answer, version),
        12 => read::<m::ApiVersionsRequest>(answer, version),
        13 => read::<m::InitProducerIdRequest>(answer, version),
        _ => read::<m::SaslAuthenticateRequest>(answer, version),
    }
});

fn read<A: Api>(answer: Bytes, version: u8) {
    let (oldest, newest) = A::VERSIONS;
    let version = oldest + i16::from(version) % (newest - oldest + 1);
    let _ = A::answer(answer, version);
}
