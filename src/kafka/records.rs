//! Record batches, as they are written to and read from a partition (format v2, "magic 2").
//!
//! Guarantees: a batch is written in one pass, straight to where it goes; it is read in one pass, and its messages share its
//! bytes. Nothing that a batch claims is believed before the bytes bear it out: no claim makes for a panic, a large reservation
//! or a loop. A batch that cannot be read is told apart from bytes that are no batch: the first is set aside and reading goes on
//! behind it, after the second there is nothing to go on with.
//!
//! Specified by <https://kafka.apache.org/documentation/#recordbatch>, KIP-98 (the format) and KIP-32 (timestamps).

mod batches;

use bytes::{BufMut, BytesMut};
use crc32c::crc32c;

pub use batches::{Batch, Batches, DECOMPRESSED_BYTES_MAX, Marker, RECORDS_MAX, batches};

use super::{Compression, Error, Record, compression};

/// What a batch takes besides its records.
pub const OVERHEAD: usize = 61;
/// What a record takes besides its key and its value, at most: five varints, the attributes and the number of headers.
const RECORD_OVERHEAD: usize = 5 + 1 + 10 + 5 + 5 + 5 + 1;

/// The format that is read and written here.
const MAGIC: i8 = 2;
/// Base offset and length stand before what the length counts.
const PREFIX: usize = 12;
/// Where the checksum stands, and where what it covers begins.
const CRC: usize = 17;
const CRC_BEGIN: usize = 21;

/// Tells a broker which batches it has already (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Given by the broker.
    pub producer_id: i64,
    /// Given by the broker.
    pub epoch: i16,
    /// The number of the first record among those of the producer in the partition.
    pub sequence: i32,
}

impl Stamp {
    /// What a producer writes that is not idempotent.
    pub const NONE: Stamp = Stamp { producer_id: -1, epoch: -1, sequence: -1 };
}

/// What a record takes in a batch at most, uncompressed.
pub fn size(record: &Record) -> usize {
    RECORD_OVERHEAD + record.key.len() + record.value.len()
}

/// Writes one batch of all of `records`. It takes [`OVERHEAD`] and their [`size`]s at most: a batch that would not shrink is not
/// compressed.
///
/// # Errors
/// When there are none, or more than a batch can hold; then nothing is written.
pub fn encode<'a>(
    records: impl Iterator<Item = &'a Record> + Clone,
    stamp: Stamp,
    compression: Compression,
    into: &mut BytesMut,
) -> Result<(), Error> {
    let bound = records.clone().fold(OVERHEAD, |sum, record| sum.saturating_add(size(record)));
    let first = records.clone().next().map(|record| record.timestamp);
    let (Some(base), Ok(_)) = (first, i32::try_from(bound)) else {
        return Err(Error::Unusable(format!("a batch cannot be of {bound} bytes")));
    };
    let begin = into.len();
    into.reserve(bound);
    into.put_bytes(0, OVERHEAD);
    let (mut count, mut latest) = (0, base);
    for record in records {
        latest = latest.max(record.timestamp);
        put_record(record, record.timestamp.wrapping_sub(base), count, into);
        count += 1;
    }
    let compressed = compress(compression, begin + OVERHEAD, into);
    let codec = compressed.inspect_err(|_| into.truncate(begin))?;
    put_header(&mut into[begin..], codec, (base, latest), stamp, count as i32);
    Ok(())
}

/// Compresses what lies behind `begin`, if that makes it smaller. Returns the codec by which it did.
fn compress(compression: Compression, begin: usize, into: &mut BytesMut) -> Result<i16, Error> {
    let size = into.len() - begin;
    let packed = compression::compress(compression, &into[begin..])
        .map_err(|e| Error::Unusable(format!("cannot compress a batch of {size} bytes: {e}")))?;
    let Some(packed) = packed.filter(|packed| packed.len() < size) else {
        return Ok(Compression::None.codec());
    };
    into.truncate(begin);
    into.extend_from_slice(&packed);
    Ok(compression.codec())
}

/// Writes the header of a batch whose records are there.
fn put_header(batch: &mut [u8], codec: i16, (base, latest): (i64, i64), stamp: Stamp, count: i32) {
    let length = batch.len() - PREFIX;
    let mut header = &mut batch[..OVERHEAD];
    header.put_i64(0);
    header.put_i32(length as i32);
    header.put_i32(-1); // the leader epoch, which the broker sets
    header.put_i8(MAGIC);
    header.put_u32(0); // the checksum, of what follows
    header.put_i16(codec);
    header.put_i32(count - 1);
    header.put_i64(base);
    header.put_i64(latest);
    header.put_i64(stamp.producer_id);
    header.put_i16(stamp.epoch);
    header.put_i32(stamp.sequence);
    header.put_i32(count);
    let crc = crc32c(&batch[CRC_BEGIN..]);
    batch[CRC..CRC_BEGIN].copy_from_slice(&crc.to_be_bytes());
}

fn put_record(record: &Record, timestamp: i64, offset: i64, into: &mut BytesMut) {
    let (key, value) = (record.key.as_slice(), record.value.as_slice());
    let mut head = Varints::default();
    head.put(0); // the attributes, of which there are none
    head.put(timestamp);
    head.put(offset);
    head.put(key.len() as i64);
    let mut middle = Varints::default();
    middle.put(value.len() as i64);
    let mut length = Varints::default();
    length.put((head.size + key.len() + middle.size + value.len() + 1) as i64);
    into.extend_from_slice(length.bytes());
    into.extend_from_slice(head.bytes());
    into.extend_from_slice(key);
    into.extend_from_slice(middle.bytes());
    into.extend_from_slice(value);
    into.put_u8(0); // the number of headers
}

/// A few varints with their sign in the last bit, as in Protocol Buffers.
#[derive(Default)]
struct Varints {
    bytes: [u8; 32],
    size: usize,
}

impl Varints {
    fn put(&mut self, value: i64) {
        let mut rest = (value << 1 ^ value >> 63).cast_unsigned();
        while rest >= 0x80 {
            self.bytes[self.size] = rest as u8 | 0x80;
            self.size += 1;
            rest >>= 7;
        }
        self.bytes[self.size] = rest as u8;
        self.size += 1;
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.size]
    }
}

#[cfg(test)]
mod tests;
