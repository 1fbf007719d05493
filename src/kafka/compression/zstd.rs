//! zstd, for reading: RFC 8878, whose sections are named below. Dictionaries are not known to Kafka, and neither here.
//!
//! Guarantees: no block grows beyond the 128 KiB that the format allows, and none of what comes out is kept elsewhere on the way,
//! so that a frame costs what is in it, not what it claims.
//!
//! It is here because ruzstd 0.8.3 does not bound what the sequences of a block make while it executes them
//! (`decoding/sequence_execution.rs`), so that a caller sees how large a block is when it has grown: four kilobytes of copies, as in
//! the test of bombs, made it take 262 MB. Once it stops at the format's 128 KiB, this can go and that be used.

use std::io;

use bytes::Buf;

use super::{bounded, broken, cut_off, take};

mod entropy;

use entropy::{Bits, Fse, Huffman};

const MAGIC: u32 = 0xfd2f_b528;
/// Of frames that are to be skipped; the last four bits are free.
const SKIPPED_MAGIC: u32 = 0x184d_2a50;
/// A block holds at most this, compressed or not.
const BLOCK_BYTES_MAX: usize = 128 << 10;

/// All frames of `packed`, up to `most` bytes.
pub(super) fn decompress(mut packed: &[u8], most: usize) -> io::Result<Vec<u8>> {
    let mut raw = Vec::new();
    while !packed.is_empty() {
        let magic = take(&mut packed, 4)?.get_u32_le();
        if magic == MAGIC {
            frame(&mut packed, most, &mut raw)?;
        } else if magic & !0xf == SKIPPED_MAGIC {
            let size = take(&mut packed, 4)?.get_u32_le();
            take(&mut packed, size as usize)?;
        } else {
            return Err(broken("no frame"));
        }
    }
    Ok(raw)
}

/// 3.1.1: a frame.
fn frame(packed: &mut &[u8], most: usize, raw: &mut Vec<u8>) -> io::Result<()> {
    let flags = take(packed, 1)?[0];
    let single_segment = flags >> 5 & 1 == 1;
    if flags & 0b1011 != 0 {
        return Err(broken("a frame with a dictionary, or of a later version"));
    }
    // How far back it looks is not needed: all of it is there. How large it is, is seen.
    let content_size = [usize::from(single_segment), 2, 4, 8][usize::from(flags >> 6)];
    take(packed, usize::from(!single_segment) + content_size)?;
    let mut decoder = Decoder { begin: raw.len(), recent: [1, 4, 8], ..Decoder::default() };
    loop {
        let header = take(packed, 3)?.get_uint_le(3) as usize;
        let size = header >> 3;
        if size > BLOCK_BYTES_MAX {
            return Err(broken("a block that is larger than the format allows"));
        }
        let end = raw.len() + size;
        match header >> 1 & 3 {
            0 => {
                bounded(end, most)?;
                raw.extend_from_slice(take(packed, size)?);
            }
            1 => raw.resize(bounded(end, most)?, take(packed, 1)?[0]),
            2 => decoder.block(take(packed, size)?, most, raw)?,
            _ => return Err(broken("a block of no kind")),
        }
        if header & 1 == 1 {
            break;
        }
    }
    take(packed, if flags >> 2 & 1 == 1 { 4 } else { 0 })?; // a checksum
    Ok(())
}

/// What the blocks of a frame have in common.
#[derive(Default)]
struct Decoder {
    /// Where the frame begins in what is decompressed.
    begin: usize,
    /// The last three offsets.
    recent: [usize; 3],
    huffman: Option<Huffman>,
    /// Of literal lengths, offsets and match lengths.
    tables: [Option<Fse>; 3],
    literals: Vec<u8>,
}

impl Decoder {
    /// 3.1.1.3: a compressed block.
    fn block(&mut self, mut packed: &[u8], most: usize, raw: &mut Vec<u8>) -> io::Result<()> {
        let bounds = (raw.len() + BLOCK_BYTES_MAX, most);
        self.literals.clear();
        self.read_literals(&mut packed)?;
        let count = match take(&mut packed, 1)?[0] {
            few @ 0..128 => usize::from(few),
            many @ 128..255 => usize::from(many - 128) << 8 | usize::from(take(&mut packed, 1)?[0]),
            255 => 0x7f00 + usize::from(take(&mut packed, 2)?.get_u16_le()),
        };
        let mut literals = &self.literals[..];
        if count > 0 {
            read_tables(&mut self.tables, &mut packed)?;
            let [Some(lengths), Some(offsets), Some(matches)] = &self.tables else {
                return Err(broken("a table that was never there"));
            };
            let mut sequences = Sequences::new([lengths, offsets, matches], packed)?;
            for nth in 1..=count {
                let (before, offset, size) = sequences.next(nth == count)?;
                let distance = recall(&mut self.recent, offset, before == 0);
                let literal = literals.split_off(..before).ok_or_else(|| broken("more literals than there are"))?;
                grown(raw.len() + before + size, bounds)?;
                raw.extend_from_slice(literal);
                copy(raw, self.begin, distance, size)?;
            }
            sequences.end()?;
        } else if !packed.is_empty() {
            return Err(broken("bytes that are left over"));
        }
        grown(raw.len() + literals.len(), bounds)?;
        raw.extend_from_slice(literals);
        Ok(())
    }

    /// 3.1.1.3.1: the literals.
    fn read_literals(&mut self, packed: &mut &[u8]) -> io::Result<()> {
        let first = *packed.first().ok_or_else(cut_off)?;
        let (kind, format) = (first & 3, usize::from(first >> 2 & 3));
        if kind < 2 {
            let (bytes, shift) = [(1, 3), (2, 4), (1, 3), (3, 4)][format];
            let size = take(packed, bytes)?.get_uint_le(bytes) as usize >> shift;
            bounded_literals(size)?;
            if kind == 0 {
                self.literals.extend_from_slice(take(packed, size)?);
            } else {
                self.literals.resize(size, take(packed, 1)?[0]);
            }
            return Ok(());
        }
        let (bytes, width) = [(3, 10), (3, 10), (4, 14), (5, 18)][format];
        let header = take(packed, bytes)?.get_uint_le(bytes) as usize >> 4;
        let (size, packed_size) = (header & ((1 << width) - 1), header >> width);
        bounded_literals(size)?;
        let mut streams = take(packed, packed_size)?;
        if kind == 2 {
            self.huffman = Some(Huffman::read(&mut streams)?);
        }
        let huffman = self.huffman.as_ref().ok_or_else(|| broken("a Huffman table that was never there"))?;
        if format == 0 {
            return huffman.decode(streams, size, &mut self.literals);
        }
        let mut jumps = take(&mut streams, 6)?;
        let quarter = size.div_ceil(4);
        for _ in 0..3 {
            let stream = take(&mut streams, usize::from(jumps.get_u16_le()))?;
            huffman.decode(stream, quarter, &mut self.literals)?;
        }
        let last = size.checked_sub(3 * quarter).ok_or_else(|| broken("four streams for fewer literals"))?;
        huffman.decode(streams, last, &mut self.literals)
    }
}

/// 3.1.1.3.2.1: the tables of the sequences.
fn read_tables(tables: &mut [Option<Fse>; 3], packed: &mut &[u8]) -> io::Result<()> {
    let modes = take(packed, 1)?[0];
    if modes & 3 != 0 {
        return Err(broken("a table of a later version"));
    }
    for (nth, (table, codes)) in tables.iter_mut().zip(&CODES).enumerate() {
        match modes >> (6 - 2 * nth) & 3 {
            0 => *table = Some(Fse::new(codes.predefined, codes.predefined_log)?),
            1 => *table = Some(Fse::of_one(take(packed, 1)?[0], codes.most)?),
            2 => *table = Some(Fse::read(packed, codes.log_max, codes.most)?),
            _ => {} // as in the block before
        }
    }
    Ok(())
}

/// 3.1.1.3.2.1.2: the sequences of a block.
struct Sequences<'a> {
    /// Of literal lengths, offsets and match lengths.
    tables: [&'a Fse; 3],
    states: [usize; 3],
    bits: Bits<'a>,
}

impl<'a> Sequences<'a> {
    fn new(tables: [&'a Fse; 3], packed: &'a [u8]) -> io::Result<Self> {
        let mut bits = Bits::new(packed)?;
        let states = tables.map(|table| table.start(&mut bits));
        Ok(Sequences { tables, states, bits })
    }

    /// The next one: how many literals come before, what is said of the offset, and how much is copied from there.
    fn next(&mut self, last: bool) -> io::Result<(usize, usize, usize)> {
        let (bits, [lengths, offsets, matches]) = (&mut self.bits, self.tables);
        let [length, offset, matched] = &mut self.states;
        let code = offsets.symbol(*offset);
        let distance = (1 << code) + bits.read(code);
        let size = value(&MATCHES, matches.symbol(*matched), bits);
        let before = value(&LITERALS, lengths.symbol(*length), bits);
        if !last {
            *length = lengths.next(*length, bits);
            *matched = matches.next(*matched, bits);
            *offset = offsets.next(*offset, bits);
        }
        if bits.overrun() { Err(cut_off()) } else { Ok((before, distance as usize, size)) }
    }

    fn end(&self) -> io::Result<()> {
        if self.bits.is_empty() { Ok(()) } else { Err(broken("bits that are left over")) }
    }
}

/// Whether the block, and all there is, may become as large as this.
fn grown(size: usize, (block_end, most): (usize, usize)) -> io::Result<()> {
    bounded(size, most)?;
    if size > block_end { Err(broken("a block that grows larger than the format allows")) } else { Ok(()) }
}

fn bounded_literals(size: usize) -> io::Result<()> {
    if size > BLOCK_BYTES_MAX { Err(broken("more literals than a block can have")) } else { Ok(()) }
}

/// 3.1.1.5: how far back it is, where the first three values stand for the last three offsets.
fn recall(recent: &mut [usize; 3], value: usize, no_literals: bool) -> usize {
    let [last, second, third] = *recent;
    let (offset, nth) = match value + usize::from(no_literals) {
        1 => (last, 0),
        2 => (second, 1),
        3 => (third, 2),
        4 if value == 3 => (last - 1, 2),
        _ => (value - 3, 2),
    };
    recent.copy_within(0..nth, 1);
    recent[0] = offset;
    offset
}

/// Adds the `size` bytes that lie `distance` back. They may be those that are being added.
fn copy(raw: &mut Vec<u8>, begin: usize, distance: usize, size: usize) -> io::Result<()> {
    if distance == 0 || distance > raw.len() - begin {
        return Err(broken("looks back to before the beginning"));
    }
    let (from, end) = (raw.len() - distance, raw.len() + size);
    while raw.len() < end {
        let there = (end - raw.len()).min(raw.len() - from);
        raw.extend_from_within(from..from + there);
    }
    Ok(())
}

/// The value that a code stands for: a base, and as many bits on top.
fn value(codes: &[(u32, u8)], code: u8, bits: &mut Bits<'_>) -> usize {
    // Tables hold no larger codes.
    let (base, extra) = codes.get(usize::from(code)).copied().unwrap_or_default();
    base as usize + bits.read(extra) as usize
}

/// 3.1.1.3.2.1.1: what the codes of literal lengths and of match lengths stand for.
#[rustfmt::skip]
const LITERALS: [(u32, u8); 36] = [
    (0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0), (9, 0), (10, 0), (11, 0), (12, 0), (13, 0), (14, 0),
    (15, 0), (16, 1), (18, 1), (20, 1), (22, 1), (24, 2), (28, 2), (32, 3), (40, 3), (48, 4), (64, 6), (128, 7), (256, 8),
    (512, 9), (1024, 10), (2048, 11), (4096, 12), (8192, 13), (16384, 14), (32768, 15), (65536, 16),
];
#[rustfmt::skip]
const MATCHES: [(u32, u8); 53] = [
    (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0), (9, 0), (10, 0), (11, 0), (12, 0), (13, 0), (14, 0), (15, 0), (16, 0),
    (17, 0), (18, 0), (19, 0), (20, 0), (21, 0), (22, 0), (23, 0), (24, 0), (25, 0), (26, 0), (27, 0), (28, 0), (29, 0), (30, 0),
    (31, 0), (32, 0), (33, 0), (34, 0), (35, 1), (37, 1), (39, 1), (41, 1), (43, 2), (47, 2), (51, 3), (59, 3), (67, 4), (83, 4),
    (99, 5), (131, 7), (259, 8), (515, 9), (1027, 10), (2051, 11), (4099, 12), (8195, 13), (16387, 14), (32771, 15), (65539, 16),
];

/// What is known of the codes of one kind.
struct Codes {
    /// The largest.
    most: u8,
    log_max: u8,
    /// 3.1.1.3.2.2: how likely they are where a block does not say.
    predefined: &'static [i16],
    predefined_log: u8,
}

#[rustfmt::skip]
const CODES: [Codes; 3] = [
    Codes { most: 35, log_max: 9, predefined_log: 6, predefined: &[
        4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1,
    ] },
    Codes { most: 31, log_max: 8, predefined_log: 5, predefined: &[
        1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
    ] },
    Codes { most: 52, log_max: 9, predefined_log: 6, predefined: &[
        1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
    ] },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_goes_on_where_the_one_before_ends() {
        for codes in [&LITERALS[..], &MATCHES] {
            for pair in codes.windows(2) {
                let [(base, extra), (next, _)] = pair else { unreachable!() };
                assert_eq!(base + (1 << extra), *next);
            }
        }
        assert_eq!((LITERALS[35], MATCHES[52]), ((1 << 16, 16), (3 + (1 << 16), 16)));
    }

    #[test]
    fn the_last_three_offsets_come_again() {
        for (value, no_literals, offset, recent) in [
            (1, false, 10, [10, 20, 30]),
            (2, false, 20, [20, 10, 30]),
            (3, false, 30, [30, 10, 20]),
            (4, false, 1, [1, 10, 20]),
            (103, false, 100, [100, 10, 20]),
            (1, true, 20, [20, 10, 30]),
            (2, true, 30, [30, 10, 20]),
            (3, true, 9, [9, 10, 20]),
            (4, true, 1, [1, 10, 20]),
        ] {
            let mut there = [10, 20, 30];
            assert_eq!((recall(&mut there, value, no_literals), there), (offset, recent), "{value} {no_literals}");
        }
    }

    /// A frame of these compressed blocks.
    fn frame_of(blocks: &[&[u8]]) -> Vec<u8> {
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0];
        for (nth, block) in blocks.iter().enumerate() {
            let header = block.len() << 3 | 2 << 1 | usize::from(nth + 1 == blocks.len());
            frame.extend(&header.to_le_bytes()[..3]);
            frame.extend_from_slice(block);
        }
        frame
    }

    #[test]
    fn what_is_wrong_within_a_block_is_told() {
        // Two raw literals; one sequence of both, an offset of `code`, and 3 to copy; all three tables are of one symbol.
        let block = |code, end: &[u8]| [&[0x10, b'a', b'b', 1, 0x54, 2, code, 0][..], end].concat();
        let of = |block: &[u8]| decompress(&frame_of(&[block]), 100).map_err(|e| e.to_string());
        let wrong = |why: &str| Err(why.to_owned());
        assert_eq!(of(&block(0, &[1])), Ok(b"abbbb".to_vec()));
        assert_eq!(of(&block(2, &[0b101])), Ok(b"ababa".to_vec()));
        for (name, block, why) in [
            ("nothing", vec![], "cut off"),
            ("no sequences", vec![0x10, b'a', b'b'], "cut off"),
            ("looks back too far", block(2, &[0b110]), "looks back to before the beginning"),
            ("too few bits", block(2, &[0b10]), "cut off"),
            ("no bits", block(0, &[0]), "cut off"),
            ("too many bits", block(0, &[2]), "bits that are left over"),
            ("bytes behind none", vec![0x10, b'a', b'b', 0, 0], "bytes that are left over"),
            ("a code of no meaning", block(32, &[1]), "a code of no meaning"),
            ("fewer literals", [&[0x08][..], &block(0, &[1])[2..]].concat(), "more literals than there are"),
            ("a table of the block before", vec![0, 1, 0xfc, 1], "a table that was never there"),
            ("its Huffman table", vec![3 | 4, 0, 0, 0], "a Huffman table that was never there"),
            ("a table of a later version", vec![0, 1, 0x55, 0, 0, 0, 1], "a table of a later version"),
            ("too many literals", vec![0x0d, 0, 0x20 + 1, 0], "more literals than a block can have"),
        ] {
            assert_eq!(of(&block), wrong(why), "{name}");
        }
        let again = frame_of(&[&block(0, &[1]), &[0x00, 1, 0xfc, 1]]);
        assert_eq!(decompress(&again, 100).map_err(|e| e.to_string()), wrong("more literals than there are"));
        // The second frame does not look back to the first.
        let two = [frame_of(&[&block(0, &[1])]), frame_of(&[&block(2, &[0b110])])].concat();
        assert_eq!(decompress(&two, 100).map_err(|e| e.to_string()), wrong("looks back to before the beginning"));
    }
}
