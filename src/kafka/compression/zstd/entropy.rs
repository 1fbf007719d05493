//! How zstd packs numbers: bits read from the end, FSE and Huffman tables (RFC 8878, 4).

use std::io;

use super::super::{broken, cut_off, take};

/// The largest a Huffman code may be, in bits, and the most symbols that may have one.
const HUFFMAN_LOG_MAX: u32 = 11;
const HUFFMAN_SYMBOLS_MAX: usize = 256;

/// Reads from the last bit to the first. Before the first there are zeros, and [`Bits::overrun`] tells.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    left: isize,
}

impl<'a> Bits<'a> {
    /// What is to be read lies before the last bit that is set.
    pub(super) fn new(bytes: &'a [u8]) -> io::Result<Self> {
        let last = bytes.last().copied().filter(|last| *last != 0).ok_or_else(cut_off)?;
        Ok(Bits { bytes, left: (8 * bytes.len() as isize) - 1 - last.leading_zeros() as isize })
    }

    /// The next bits, of which there are at most 31.
    pub(super) fn read(&mut self, bits: u8) -> u64 {
        let value = self.peek(bits);
        self.left -= isize::from(bits);
        value
    }

    fn peek(&self, bits: u8) -> u64 {
        let from = self.left - isize::from(bits);
        let word = word(self.bytes, from.max(0).cast_unsigned());
        let word = if from >= 0 { word } else { word.checked_shl(from.unsigned_abs() as u32).unwrap_or(0) };
        word & ((1 << bits) - 1)
    }

    /// Whether more was read than there is.
    pub(super) fn overrun(&self) -> bool {
        self.left < 0
    }

    /// Whether all of it was read, and no more.
    pub(super) fn is_empty(&self) -> bool {
        self.left == 0
    }
}

/// At least 57 bits from this one on; behind the last there are zeros.
fn word(bytes: &[u8], bit: usize) -> u64 {
    let rest = bytes.get(bit / 8..).unwrap_or_default();
    let word = rest.first_chunk().copied().unwrap_or_else(|| {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        word
    });
    u64::from_le_bytes(word) >> (bit % 8)
}

/// 4.1: a table of a finite state entropy code.
pub(super) struct Fse {
    log: u8,
    states: Vec<State>,
}

#[derive(Clone, Copy, Default)]
struct State {
    symbol: u8,
    bits: u8,
    base: u16,
}

impl Fse {
    /// With one symbol for all that comes.
    pub(super) fn of_one(symbol: u8, most: u8) -> io::Result<Self> {
        if symbol > most {
            return Err(broken("a code of no meaning"));
        }
        Ok(Fse { log: 0, states: vec![State { symbol, bits: 0, base: 0 }] })
    }

    /// 4.1.1: as it is described, of symbols up to `most`.
    pub(super) fn read(packed: &mut &[u8], log_max: u8, most: u8) -> io::Result<Self> {
        let log = (word(packed, 0) & 0xf) as u8 + 5;
        if log > log_max {
            return Err(broken("a table that is larger than the format allows"));
        }
        let mut at = 4;
        let mut remaining = 1_i32 << log;
        let mut likelihoods = Vec::new();
        while remaining > 0 {
            let bits = (remaining + 1).ilog2() + 1;
            let mut value = (word(packed, at) & ((1 << bits) - 1)) as i32;
            // The values that are left would not fill the bits: the small ones have one less.
            let (low, spare) = ((1 << (bits - 1)) - 1, (1 << bits) - 2 - remaining);
            if value & low < spare {
                value &= low;
                at += bits as usize - 1;
            } else {
                value -= if value > low { spare } else { 0 };
                at += bits as usize;
            }
            likelihoods.push(value as i16 - 1);
            remaining -= (value - 1).abs();
            let mut more = value == 1;
            while more {
                let zeros = word(packed, at) as usize & 3;
                at += 2;
                likelihoods.resize(likelihoods.len() + zeros, 0);
                more = zeros == 3 && likelihoods.len() <= usize::from(most);
            }
            if likelihoods.len() > usize::from(most) + 1 {
                return Err(broken("a table of more codes than there are"));
            }
        }
        take(packed, at.div_ceil(8))?;
        Fse::new(&likelihoods, log)
    }

    /// 4.1.1, from "Each symbol": of how likely each symbol is; −1: less than one in all.
    pub(super) fn new(likelihoods: &[i16], log: u8) -> io::Result<Self> {
        let size = 1_usize << log;
        let total: usize = likelihoods.iter().map(|likely| usize::from(likely.unsigned_abs())).sum();
        if total != size {
            return Err(broken("a table that does not add up"));
        }
        let mut states = vec![State::default(); size];
        let mut seen: Vec<u16> = likelihoods.iter().map(|likely| likely.unsigned_abs()).collect();
        let of = |likely: fn(i16) -> bool| (0_u8..).zip(likelihoods).filter(move |(_, there)| likely(**there));
        let mut high = size;
        for (symbol, _) in of(|likely| likely < 0) {
            high -= 1;
            states[high].symbol = symbol;
        }
        let (step, mut at) = ((size >> 1) + (size >> 3) + 3, 0);
        for (symbol, likely) in of(|likely| likely > 0) {
            for _ in 0..*likely {
                states[at].symbol = symbol;
                at = (at + step) % size;
                while at >= high {
                    at = (at + step) % size;
                }
            }
        }
        for state in &mut states {
            let nth = &mut seen[usize::from(state.symbol)];
            state.bits = log - nth.ilog2() as u8;
            state.base = (*nth << state.bits) - size as u16;
            *nth += 1;
        }
        Ok(Fse { log, states })
    }

    pub(super) fn start(&self, bits: &mut Bits<'_>) -> usize {
        bits.read(self.log) as usize
    }

    pub(super) fn symbol(&self, state: usize) -> u8 {
        self.states[state].symbol
    }

    pub(super) fn next(&self, state: usize, bits: &mut Bits<'_>) -> usize {
        let State { bits: more, base, .. } = self.states[state];
        usize::from(base) + bits.read(more) as usize
    }
}

/// 4.2: a table of a Huffman code.
pub(super) struct Huffman {
    log: u8,
    /// By the next `log` bits: the symbol, and how many bits are its own.
    codes: Vec<(u8, u8)>,
}

impl Huffman {
    /// 4.2.1: as it is described.
    pub(super) fn read(packed: &mut &[u8]) -> io::Result<Self> {
        let header = take(packed, 1)?[0];
        let weights = if header < 128 {
            fse_weights(take(packed, usize::from(header))?)?
        } else {
            let count = usize::from(header - 127);
            let halves = take(packed, count.div_ceil(2))?.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
            halves.take(count).collect()
        };
        Huffman::new(weights)
    }

    /// 4.2.1.3. The weight of the last symbol is what the others leave.
    fn new(mut weights: Vec<u8>) -> io::Result<Self> {
        let wrong = || broken("a Huffman table that does not add up");
        if weights.iter().any(|weight| u32::from(*weight) > HUFFMAN_LOG_MAX) {
            return Err(wrong());
        }
        let total: u32 = weights.iter().map(|weight| 1 << weight >> 1).sum();
        let log = total.checked_ilog2().ok_or_else(wrong)? + 1;
        let left = (1_u32 << log.min(31)) - total;
        if log > HUFFMAN_LOG_MAX || !left.is_power_of_two() {
            return Err(wrong());
        }
        let log = log as u8;
        weights.push(left.ilog2() as u8 + 1);
        let mut codes = Vec::with_capacity(1 << log);
        for weight in 1..=log {
            for (symbol, _) in (0..=u8::MAX).zip(&weights).filter(|(_, there)| **there == weight) {
                codes.resize(codes.len() + (1 << (weight - 1)), (symbol, log + 1 - weight));
            }
        }
        Ok(Huffman { log, codes })
    }

    /// Adds the `size` symbols that `packed` holds.
    pub(super) fn decode(&self, packed: &[u8], size: usize, into: &mut Vec<u8>) -> io::Result<()> {
        let mut bits = Bits::new(packed)?;
        for _ in 0..size {
            let (symbol, own) = self.codes[bits.peek(self.log) as usize];
            bits.left -= isize::from(own);
            into.push(symbol);
        }
        if bits.is_empty() { Ok(()) } else { Err(broken("literals of another length")) }
    }
}

/// 4.2.1.2: weights by two states in turn, until the bits are used up.
fn fse_weights(mut packed: &[u8]) -> io::Result<Vec<u8>> {
    let fse = Fse::read(&mut packed, 6, HUFFMAN_LOG_MAX as u8 + 1)?;
    let mut bits = Bits::new(packed)?;
    let (mut now, mut then) = (fse.start(&mut bits), fse.start(&mut bits));
    let mut weights = Vec::new();
    while !bits.overrun() {
        weights.push(fse.symbol(now));
        (now, then) = (then, fse.next(now, &mut bits));
        if weights.len() >= HUFFMAN_SYMBOLS_MAX - 1 {
            return Err(broken("more Huffman weights than symbols"));
        }
    }
    weights.push(fse.symbol(now));
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_read_from_the_end_and_are_zero_before_the_beginning() {
        let mut bits = Bits::new(&[0b1010_0101, 0x00, 0xff, 0b0001_0110]).unwrap();
        assert_eq!([bits.read(3), bits.read(2), bits.read(15)], [0b011, 0b01, 0b111_1111_0000_0000]);
        assert!(!bits.is_empty());
        assert_eq!((bits.read(8), bits.is_empty(), bits.overrun()), (0b1010_0101, true, false));
        assert_eq!((bits.read(5), bits.is_empty(), bits.overrun()), (0, false, true));
        let mut long = Bits::new(&[0xff; 20]).unwrap();
        assert!((0..5).all(|_| long.read(31) == 0x7fff_ffff));
        assert_eq!((long.read(31), long.overrun()), (0xf << 27, true));
        assert!(Bits::new(&[]).is_err() && Bits::new(&[1, 0]).is_err());
    }

    #[test]
    fn a_huffman_table_adds_up() {
        // The example of RFC 8878, 4.2.1: weights of 0 to 4 are given, and that of 5 is what is left.
        let table = Huffman::new(vec![4, 3, 2, 0, 1]).unwrap();
        let own = |symbol| table.codes.iter().find(|code| code.0 == symbol).map(|code| code.1);
        assert_eq!((table.log, table.codes.len()), (4, 16));
        assert_eq!([0, 1, 2, 3, 4, 5].map(own), [Some(1), Some(2), Some(3), None, Some(4), Some(4)]);
        assert_eq!(table.codes[..2], [(4, 4), (5, 4)]);
        for (name, weights) in [
            ("none", vec![]),
            ("zeros", vec![0, 0]),
            ("no power of two is left", vec![4, 1]),
            ("a code too long", vec![12]),
            ("codes too long", vec![11, 11]),
        ] {
            assert!(Huffman::new(weights.clone()).is_err(), "{name}");
        }
    }

    #[test]
    fn literals_are_as_many_as_was_said() {
        let table = Huffman::new(vec![1]).unwrap();
        for (size, fits) in [(3, false), (4, true), (5, false)] {
            let mut symbols = Vec::new();
            assert_eq!(table.decode(&[0b1_0110], size, &mut symbols).is_ok(), fits, "{size}");
            assert_eq!(symbols[..3], [0, 1, 1]);
        }
    }

    #[test]
    fn weights_come_to_an_end() {
        // One symbol, in a table of 32: no state takes a bit.
        let endless = [0xf0, 0x03, 0xff, 0xff];
        let fse = Fse::read(&mut &endless[..], 6, 12);
        assert!(fse.is_ok_and(|fse| fse.states.iter().all(|state| state.bits == 0)));
        assert_eq!(fse_weights(&endless).unwrap_err().to_string(), "more Huffman weights than symbols");
    }

    #[test]
    fn a_table_is_of_the_codes_that_there_are() {
        for (name, packed, most, why) in [
            ("too large", &[0x02, 0xff][..], 12, "a table that is larger than the format allows"),
            ("zeros without end", &[0x10, 0xfe, 0xff, 0xff, 0xff], 12, "a table of more codes than there are"),
            ("cut off", &[0x10], 60, "cut off"),
        ] {
            let read = Fse::read(&mut &packed[..], 6, most).map(|_| ()).map_err(|e| e.to_string());
            assert_eq!(read, Err(why.to_owned()), "{name}");
        }
        assert!(Fse::new(&[31], 5).is_err() && Fse::new(&[16, -1, 15], 5).is_ok());
    }
}
