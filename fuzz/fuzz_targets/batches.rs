//! What a broker sends as the records of a partition: no panic, no endless loop, and no more than the bytes bear out.
//!
//! The first byte says what is done to the rest before it is read: nothing; or the length, the format and the checksum are made
//! right, so that what lies behind them is reached; or it becomes the records of a batch, by a codec.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pingeon::kafka::records::{OVERHEAD, RECORDS_MAX, batches};

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else { return };
    let bytes = match first >> 4 {
        0 => rest.to_vec(),
        1 => sealed(rest.to_vec()),
        _ => sealed(wrapped(first & 7, rest)),
    };
    read(Bytes::from(bytes));
});

fn read(bytes: Bytes) {
    let whole = bytes.len();
    let mut taken = 0;
    let mut batches = batches(bytes);
    for batch in batches.by_ref() {
        let Ok(batch) = batch else { break };
        taken += batch.bytes().len();
        assert!(batch.base_offset <= batch.last_offset);
        let mut messages = Vec::new();
        let read = batch.messages(0, batch.base_offset, &mut messages);
        assert!(messages.len() <= RECORDS_MAX && (read.is_ok() || messages.is_empty()));
        assert!(messages.is_sorted_by(|one, next| one.offset < next.offset));
        let (first, last) = (messages.first(), messages.last());
        assert!(first.is_none_or(|message| message.offset >= batch.base_offset));
        assert!(last.is_none_or(|message| message.offset <= batch.last_offset));
        batch.marker();
    }
    assert_eq!(taken + batches.rest().len(), whole);
    assert!(batches.next().is_none());
}

/// A batch of these records, as many as its last two bytes say.
fn wrapped(codec: u8, records: &[u8]) -> Vec<u8> {
    let (records, count) = records.split_at(records.len().saturating_sub(2));
    let mut batch = vec![0; OVERHEAD];
    batch[22] = codec;
    batch[23..27].fill(0x3f);
    batch[61 - count.len()..].copy_from_slice(count);
    batch.extend_from_slice(records);
    batch
}

/// With its length, its format and its checksum.
fn sealed(mut batch: Vec<u8>) -> Vec<u8> {
    if batch.len() >= OVERHEAD {
        let length = batch.len() as u32 - 12;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[16] = 2;
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    batch
}
