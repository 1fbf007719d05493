//! How the records of a batch are compressed: gzip, snappy and LZ4 both ways, zstd for reading; all of it in Rust.
//!
//! Guarantees: what comes out is never larger than the caller says, whatever went in claims, and no more memory is reserved than
//! a format's best ratio makes of the bytes that are there.
//!
//! Formats, as the Java client and librdkafka write and read them: gzip by RFC 1952; snappy in the frames of the Java library
//! xerial/snappy-java, or bare as librdkafka writes it (<https://github.com/google/snappy/blob/main/format_description.txt>); LZ4
//! frames (KIP-57, <https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md>); zstd by RFC 8878 (KIP-110). Frames may follow
//! each other in all of them. Checksums within are not looked at where that is up to us: the batch has its own.

mod zstd;

use std::io::{self, Read, Write};

use bytes::Buf;

use super::Compression;

impl Compression {
    /// Its number in the attributes of a batch.
    pub(crate) fn codec(self) -> i16 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
        }
    }
}

/// Compresses all of `raw`; `None` when there is nothing to be done.
///
/// # Errors
/// When there is more of it than the format can say.
pub(crate) fn compress(compression: Compression, raw: &[u8]) -> io::Result<Option<Vec<u8>>> {
    Ok(match compression {
        Compression::None => None,
        Compression::Gzip => Some(gzip(raw)?),
        Compression::Snappy => Some(snappy(raw)?),
        Compression::Lz4 => Some(lz4(raw)?),
    })
}

/// Undoes what the codec of this number did, up to `most` bytes.
///
/// # Errors
/// Why that cannot be, for people; also when there would be more.
pub(crate) fn decompress(codec: i16, packed: &[u8], most: usize) -> Result<Vec<u8>, String> {
    let (name, raw) = match codec {
        1 => ("gzip", gunzip(packed, most)),
        2 => ("snappy", unsnappy(packed, most)),
        3 => ("lz4", unlz4(packed, most)),
        4 => ("zstd", zstd::decompress(packed, most)),
        _ => return Err(format!("compressed with codec {codec}, which is none that is known here")),
    };
    raw.map_err(|e| format!("{name}: {e}"))
}

fn too_large(most: usize) -> io::Error {
    broken(format!("grows beyond {most} bytes"))
}

fn cut_off() -> io::Error {
    broken("cut off")
}

fn broken(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn bounded(size: usize, most: usize) -> io::Result<usize> {
    if size <= most { Ok(size) } else { Err(too_large(most)) }
}

/// The next `size` bytes.
fn take<'a>(from: &mut &'a [u8], size: usize) -> io::Result<&'a [u8]> {
    from.split_off(..size).ok_or_else(cut_off)
}

/// Half the work of the usual 6, for 1 % more bytes (of logs).
const GZIP_LEVEL: u32 = 4;

fn gzip(raw: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder =
        flate2::write::GzEncoder::new(Vec::with_capacity(raw.len() / 4), flate2::Compression::new(GZIP_LEVEL));
    encoder.write_all(raw)?;
    encoder.finish()
}

fn gunzip(packed: &[u8], most: usize) -> io::Result<Vec<u8>> {
    let mut raw = Vec::new();
    flate2::bufread::MultiGzDecoder::new(packed).take(most as u64 + 1).read_to_end(&mut raw)?;
    bounded(raw.len(), most)?;
    Ok(raw)
}

/// What xerial's stream starts with, before each run of chunks: its name, its version and the oldest that can read it.
const XERIAL: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// Its name: what a bare block never starts with, since that would have it start with a copy of what is not there yet.
const XERIAL_NAME: &[u8] = XERIAL.split_at(8).0;
/// What goes into one of our chunks; any size can be read, and snappy looks back no further.
const SNAPPY_CHUNK_BYTES: usize = 64 << 10;
/// Snappy makes at most 64 bytes of a copy of 3.
const SNAPPY_RATIO_MAX: usize = 22;

fn snappy(raw: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = snap::raw::Encoder::new();
    let mut packed = Vec::with_capacity(XERIAL.len() + raw.len() / 2);
    packed.extend_from_slice(&XERIAL);
    for chunk in raw.chunks(SNAPPY_CHUNK_BYTES) {
        let at = packed.len();
        packed.resize(at + 4 + snap::raw::max_compress_len(chunk.len()), 0);
        let size = encoder.compress(chunk, &mut packed[at + 4..])?;
        packed[at..at + 4].copy_from_slice(&(size as u32).to_be_bytes());
        packed.truncate(at + 4 + size);
    }
    Ok(packed)
}

fn unsnappy(mut packed: &[u8], most: usize) -> io::Result<Vec<u8>> {
    let mut raw = Vec::new();
    if !packed.starts_with(XERIAL_NAME) {
        unsnappy_block(packed, most, &mut raw)?;
        return Ok(raw);
    }
    while !packed.is_empty() {
        if packed.starts_with(XERIAL_NAME) {
            take(&mut packed, XERIAL.len())?;
            continue;
        }
        let size = take(&mut packed, 4)?.get_u32();
        unsnappy_block(take(&mut packed, size as usize)?, most, &mut raw)?;
    }
    Ok(raw)
}

fn unsnappy_block(packed: &[u8], most: usize, raw: &mut Vec<u8>) -> io::Result<()> {
    let size = snap::raw::decompress_len(packed)?;
    if size / SNAPPY_RATIO_MAX > packed.len() {
        return Err(broken("claims more than it can hold"));
    }
    let at = raw.len();
    raw.resize(bounded(at.saturating_add(size), most)?, 0);
    snap::raw::Decoder::new().decompress(packed, &mut raw[at..])?;
    Ok(())
}

const LZ4_MAGIC: u32 = 0x184d_2204;
/// What our frames start with: the magic, version 1 with independent blocks and no checksums, blocks of 64 KiB, and the
/// second byte of the XXH32 of these two.
const LZ4_HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
const LZ4_BLOCK_BYTES: usize = 64 << 10;
/// A block that would not shrink is stored as it is, and this is set in its size.
const LZ4_STORED: u32 = 1 << 31;
const LZ4_WINDOW_BYTES: usize = 64 << 10;
/// LZ4 makes at most 255 bytes of one.
const LZ4_RATIO_MAX: usize = 255;

fn lz4(raw: &[u8]) -> io::Result<Vec<u8>> {
    let mut packed = Vec::with_capacity(LZ4_HEADER.len() + raw.len() / 2);
    packed.extend_from_slice(&LZ4_HEADER);
    for block in raw.chunks(LZ4_BLOCK_BYTES) {
        let at = packed.len();
        packed.resize(at + 4 + lz4_flex::block::get_maximum_output_size(block.len()), 0);
        let mut size = lz4_flex::block::compress_into(block, &mut packed[at + 4..]).map_err(broken)?;
        let mut head = size as u32;
        if size >= block.len() {
            size = block.len();
            head = size as u32 | LZ4_STORED;
            packed[at + 4..at + 4 + size].copy_from_slice(block);
        }
        packed[at..at + 4].copy_from_slice(&head.to_le_bytes());
        packed.truncate(at + 4 + size);
    }
    packed.extend_from_slice(&[0; 4]);
    Ok(packed)
}

fn unlz4(mut packed: &[u8], most: usize) -> io::Result<Vec<u8>> {
    let mut raw = Vec::new();
    while !packed.is_empty() {
        unlz4_frame(&mut packed, most, &mut raw)?;
    }
    Ok(raw)
}

fn unlz4_frame(packed: &mut &[u8], most: usize, raw: &mut Vec<u8>) -> io::Result<()> {
    let mut header = take(packed, 6)?;
    if header.get_u32_le() != LZ4_MAGIC {
        return Err(broken("no LZ4 frame"));
    }
    let (flags, size) = (header.get_u8(), header.get_u8());
    let [independent, block_checksums, content_size, content_checksum, dictionary] =
        [5, 4, 3, 2, 0].map(|bit| flags >> bit & 1 == 1);
    if flags >> 6 != 1 || dictionary {
        return Err(broken("a frame of another version, or with a dictionary"));
    }
    let block_bytes_max = match size >> 4 {
        log @ 4..=7 => 1 << (8 + 2 * log),
        _ => return Err(broken("a block size that is not one")),
    };
    // The size of all, where it is said, and the checksum of the header, which Kafka got wrong before KIP-57.
    take(packed, if content_size { 9 } else { 1 })?;
    let begin = raw.len();
    loop {
        let head = take(packed, 4)?.get_u32_le();
        if head == 0 {
            break;
        }
        let block = take(packed, (head & !LZ4_STORED) as usize)?;
        if block.len() > block_bytes_max {
            return Err(broken("a block that is larger than its frame allows"));
        }
        if head & LZ4_STORED != 0 {
            bounded(raw.len() + block.len(), most)?;
            raw.extend_from_slice(block);
        } else {
            // LZ4 looks back 64 KiB, and not at all where blocks are independent.
            let end = raw.len();
            let window = if independent { end } else { begin.max(end.saturating_sub(LZ4_WINDOW_BYTES)) };
            unlz4_block(block, (block_bytes_max, most), window, raw)?;
        }
        take(packed, if block_checksums { 4 } else { 0 })?;
    }
    take(packed, if content_checksum { 4 } else { 0 })?;
    Ok(())
}

/// The block may copy from what is in `raw` already, from `window` on.
fn unlz4_block(block: &[u8], (block_max, most): (usize, usize), window: usize, raw: &mut Vec<u8>) -> io::Result<()> {
    let at = raw.len();
    let wanted = block_max.min(block.len() * LZ4_RATIO_MAX);
    let had = wanted.min(most - at);
    raw.resize(at + had, 0);
    let (before, here) = raw.split_at_mut(at);
    let size = lz4_flex::block::decompress_into_with_dict(block, here, &before[window..])
        .map_err(|e| if had < wanted { too_large(most) } else { broken(e) })?;
    raw.truncate(at + size);
    Ok(())
}

#[cfg(test)]
mod tests;
