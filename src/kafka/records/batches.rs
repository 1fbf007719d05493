//! Reading: the batches of a fetch response, and the messages of a batch. See [`super`] for what holds and where it is specified.

use std::ops::Range;

use bytes::{Buf, Bytes};
use crc32c::crc32c;

use super::super::{Compression, Error, Message, compression};
use super::{MAGIC, OVERHEAD, PREFIX};

/// What a record takes at least: how long it is, and six bytes.
const RECORD_MIN: usize = 7;
/// How many records a batch may have to be read here. A message takes a hundred bytes of memory and a record as few as seven,
/// so a batch with more of them, which no producer has reason to write, is not read.
pub const RECORDS_MAX: usize = 1 << 20;

/// How large the records of a batch may become. Brokers take batches of 1 MiB unless told otherwise, and logs shrink to a
/// tenth; a batch that grows further is not read.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// What the length says at least: that of format 0. In all formats the magic lies within it, and at the same place.
pub(super) const LENGTH_MIN: usize = 14;
const CODEC: i16 = 0b111;
const TRANSACTIONAL: i16 = 1 << 4;
pub(super) const CONTROL: i16 = 1 << 5;

/// The whole batches of one partition's part of a fetch response, in order.
pub fn batches(records: Bytes) -> Batches {
    Batches { rest: records, over: false }
}

/// See [`batches`]. An error is the last that comes.
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
    over: bool,
}

impl Batches {
    /// What is left: after the last batch, the bytes of one that was cut off. A broker cuts off any but the first.
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let size = whole(&self.rest);
        self.over = !matches!(size, Ok(Some(_)));
        size.transpose().map(|size| {
            let bytes = self.rest.split_to(size?);
            Ok(Batch::read(bytes, &self.rest))
        })
    }
}

/// How many bytes the batch has that `bytes` begin with, if it is all there.
fn whole(bytes: &[u8]) -> Result<Option<usize>, Error> {
    if bytes.len() < PREFIX {
        return Ok(None);
    }
    let mut prefix = bytes;
    let (base, length) = (prefix.get_i64(), prefix.get_i32());
    let size = usize::try_from(length).ok().filter(|length| *length >= LENGTH_MIN && base >= 0);
    let size = size.ok_or_else(|| Error::Garbage(format!("a batch of {length} bytes at offset {base} is none")))?;
    Ok(Some(size + PREFIX).filter(|size| *size <= bytes.len()))
}

/// One batch.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The offset of its first record.
    pub base_offset: i64,
    /// The offset of its last record. What comes next is behind it, also where the batch is damaged or compacted.
    pub last_offset: i64,
    /// Of the leader that wrote it.
    pub leader_epoch: i32,
    /// Who wrote it; −1: a producer that is not idempotent.
    pub producer_id: i64,
    /// Whether it counts only if its transaction is committed.
    pub transactional: bool,
    /// Whether it holds no messages, but a [`Marker`] or whatever else is between the brokers.
    pub control: bool,
    /// Why it cannot be read, if that is known already: its checksum is wrong, or it is of a format that is none of ours.
    pub damage: Option<String>,
    codec: i16,
    count: i32,
    bytes: Bytes,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// What it wrote does not count.
    Abort,
    /// What it wrote counts.
    Commit,
}

impl Batch {
    /// It, as it came.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Adds its messages of offset `from` and later; a control batch has none.
    ///
    /// # Errors
    /// Why it cannot be read; then nothing is added.
    pub fn messages(&self, partition: i32, from: i64, into: &mut Vec<Message>) -> Result<(), String> {
        if let Some(damage) = &self.damage {
            return Err(damage.clone());
        }
        if self.control || self.last_offset < from {
            return Ok(());
        }
        let records = self.records()?;
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        if count > RECORDS_MAX || count > records.len() / RECORD_MIN {
            return Err(format!("claims to hold {} records in {} bytes", self.count, records.len()));
        }
        let before = into.len();
        into.reserve(count);
        let read = self.read_records(&records, partition, from, into);
        if read.is_err() {
            into.truncate(before);
        }
        read
    }

    /// How the transaction of its producer ended, if it is a control batch that says so.
    pub fn marker(&self) -> Option<Marker> {
        if !self.control || self.damage.is_some() {
            return None;
        }
        let records = self.records().ok()?;
        let key = Reader { bytes: &records, at: 0 }.record()?.key?;
        let mut key = records.get(key)?;
        // Its version may grow, and with it what follows the type.
        match (key.try_get_i16().ok()?, key.try_get_i16().ok()?) {
            (0.., 0) => Some(Marker::Abort),
            (0.., 1) => Some(Marker::Commit),
            _ => None,
        }
    }

    /// Of all the bytes of a batch, at least [`PREFIX`] and [`LENGTH_MIN`]; and those that come behind it.
    fn read(bytes: Bytes, behind: &[u8]) -> Batch {
        let mut header = &bytes[..];
        let base_offset = header.get_i64();
        header.advance(PREFIX - 8);
        let leader_epoch = header.get_i32();
        let magic = header.get_i8();
        let mut batch = Batch {
            base_offset,
            last_offset: end_of_damage(base_offset, behind).unwrap_or(base_offset),
            leader_epoch,
            producer_id: -1,
            transactional: false,
            control: false,
            damage: None,
            codec: 0,
            count: 0,
            bytes: bytes.clone(),
        };
        if magic != MAGIC {
            batch.damage = Some(format!("is of record format {magic}; what is read here is {MAGIC}, of Kafka 0.11 on"));
        } else if bytes.len() < OVERHEAD {
            batch.damage = Some(format!("has {} bytes, fewer than its header", bytes.len()));
        } else {
            batch.read_header(header, end_of_damage(base_offset, behind));
        }
        batch
    }

    /// From the checksum on. Nothing of it is believed when the checksum is wrong, but for the number of records where two
    /// fields agree on it and nothing comes behind that tells more.
    fn read_header(&mut self, mut header: &[u8], end: Option<i64>) {
        let (claimed, actual) = (header.get_u32(), crc32c(header));
        let attributes = header.get_i16();
        let last = header.get_i32();
        header.advance(8 + 8); // the timestamps
        let producer_id = header.get_i64();
        header.advance(2 + 4); // its epoch and sequence
        let count = header.get_i32();
        let last_offset = self.base_offset.checked_add(i64::from(last)).filter(|_| last >= 0);
        if claimed != actual {
            self.damage = Some(format!("has the checksum {actual:08x}, and says that it is {claimed:08x}"));
            let agreed = last_offset.filter(|_| last == count.wrapping_sub(1));
            self.last_offset = end.or(agreed).unwrap_or(self.base_offset);
            return;
        }
        let Some(last_offset) = last_offset else {
            self.damage = Some(format!("claims to end {last} behind its offset {}", self.base_offset));
            return;
        };
        self.last_offset = last_offset;
        self.codec = attributes & CODEC;
        self.transactional = attributes & TRANSACTIONAL != 0;
        self.control = attributes & CONTROL != 0;
        self.producer_id = producer_id;
        self.count = count;
    }

    /// Its records, uncompressed.
    fn records(&self) -> Result<Bytes, String> {
        let records = self.bytes.slice(OVERHEAD..);
        if self.codec == Compression::None.codec() {
            return Ok(records);
        }
        compression::decompress(self.codec, &records, DECOMPRESSED_BYTES_MAX).map(Bytes::from)
    }

    fn read_records(&self, records: &Bytes, partition: i32, from: i64, into: &mut Vec<Message>) -> Result<(), String> {
        let mut reader = Reader { bytes: records, at: 0 };
        let mut expected = 0..=self.last_offset - self.base_offset;
        for nth in 0..self.count {
            let record = reader.record().filter(|record| expected.contains(&record.offset));
            let record = record.ok_or_else(|| format!("record {nth} of its {} cannot be read", self.count))?;
            expected = record.offset + 1..=*expected.end();
            let offset = self.base_offset + record.offset;
            if offset >= from {
                let key = record.key.map(|key| records.slice(key));
                let value = record.value.map_or_else(Bytes::new, |value| records.slice(value));
                into.push(Message { partition, offset, key, value, damage: None });
            }
        }
        match records.len() - reader.at {
            0 => Ok(()),
            left => Err(format!("has {left} bytes behind its {} records", self.count)),
        }
    }
}

/// The offset before that of the batch behind.
fn end_of_damage(base_offset: i64, mut behind: &[u8]) -> Option<i64> {
    behind.try_get_i64().ok().filter(|next| *next > base_offset).map(|next| next - 1)
}

/// Goes through uncompressed records.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A record, by where its parts lie.
struct Fields {
    /// From the base offset.
    offset: i64,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
}

impl Reader<'_> {
    /// The next record; none when the bytes are not those of one.
    fn record(&mut self) -> Option<Fields> {
        let length = usize::try_from(self.varint()?).ok()?;
        let end = self.at.checked_add(length)?;
        let mut fields = Reader { bytes: self.bytes.get(..end)?, at: self.at + 1 }; // behind the attributes, which say nothing
        let _timestamp = fields.varint()?;
        let record = Fields { offset: fields.varint()?, key: fields.slice()?, value: fields.slice()? };
        // Headers of others, which lie behind their number, say nothing to us.
        let _headers = fields.varint()?;
        self.at = end;
        Some(record)
    }

    /// Bytes with their length before them, or −1 for null.
    fn slice(&mut self) -> Option<Option<Range<usize>>> {
        let length = self.varint()?;
        if length == -1 {
            return Some(None);
        }
        let begin = self.at;
        self.at = begin.checked_add(usize::try_from(length).ok()?).filter(|end| *end <= self.bytes.len())?;
        Some(Some(begin..self.at))
    }

    fn varint(&mut self) -> Option<i64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        None
    }
}
