use bytes::Bytes;
use proptest::prelude::*;

use super::super::api::{Spoken, spoken};
use super::*;

#[test]
fn lengths_are_held_against_what_is_there() {
    for (shape, version, bytes, fits) in [
        ("", 0, &[][..], Ok(())),
        ("2", 0, &[0, 1], Ok(())),
        ("2 4", 0, &[0, 1], Err("a number of 4 bytes at byte 2 of 2")),
        ("2", 0, &[0, 1, 2], Err("1 bytes too many")),
        ("s", 0, &[0, 2, b'a', b'b'], Ok(())),
        ("s", 0, &[255, 255], Ok(())),
        ("s", 0, &[255, 254], Err("a string of -2 bytes at byte 2 of 2")),
        ("b", 0, &[127, 255, 255, 255, 1], Err("bytes of 2147483647 bytes at byte 4 of 5")),
        ("[2] 1", 0, &[0, 0, 0, 2, 0, 1, 0, 2, 9], Ok(())),
        ("[2]", 0, &[127, 255, 255, 255, 0, 1], Err("an array of 2147483647 at byte 4 of 6")),
        ("[2]", 0, &[255, 255, 255, 255], Ok(())),
        ("[[1] s]", 0, &[0, 0, 0, 1, 0, 0, 0, 1, 7, 0, 0], Ok(())),
        ("7:4 2", 6, &[0, 1], Ok(())),
        ("7:4 2", 7, &[0, 0, 0, 0, 0, 1], Ok(())),
        ("11:4 2", 11, &[0, 0, 0, 0, 0, 1], Ok(())),
        ("8:[4 s] 2", 7, &[0, 1], Ok(())),
        ("[4 8:[4 s] 8:s]", 7, &[0, 0, 0, 1, 0, 0, 0, 1], Ok(())),
        ("[4 8:[4 s] 8:s]", 8, &[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], Ok(())),
    ] {
        assert_eq!(measure(shape, version, bytes), fits.map_err(str::to_owned), "{shape} v{version} {bytes:?}");
    }
}

#[test]
fn elements_are_counted_over_all_arrays() {
    let bytes = [&[0, 0, 0, 1][..], &(1_i32 << 20).to_be_bytes(), &vec![0; 1 << 20]].concat();
    let refused = measure("[[1]]", 0, &bytes).unwrap_err();
    assert_eq!(refused, "an array of 1048576, with others more than 1048576 elements at byte 8 of 1048584");
    let bytes = [&(1_i32 << 20).to_be_bytes()[..], &vec![0; 1 << 20]].concat();
    assert_eq!(measure("[1]", 0, &bytes), Ok(()));
}

/// Bytes of a shape, made of what `entropy` gives. Strings, bytes and arrays are null here and there if `nulls`.
struct Maker<'a> {
    version: i16,
    nulls: bool,
    entropy: std::iter::Cycle<std::slice::Iter<'a, u8>>,
    made: Vec<u8>,
}

impl Maker<'_> {
    fn draw(&mut self, below: u8) -> u8 {
        self.entropy.next().unwrap() % below
    }

    /// Written apart from what is tested: by words of the text, with a look ahead for brackets.
    fn make(&mut self, shape: &str) {
        let mut rest = shape.trim_start();
        while !rest.is_empty() {
            let (since, field) = match rest.split_once(':') {
                Some((since, field)) if since.bytes().all(|byte| byte.is_ascii_digit()) => {
                    (since.parse::<i16>().unwrap(), field)
                }
                _ => (0, rest),
            };
            let length = if field.starts_with('[') { matching(field) } else { 1 };
            if since <= self.version {
                self.field(&field[..length]);
            }
            rest = field[length..].trim_start();
        }
    }

    fn field(&mut self, field: &str) {
        let null = self.nulls && !field.as_bytes()[0].is_ascii_digit() && self.draw(4) == 0;
        let count = self.draw(4);
        match field.as_bytes()[0] {
            b'[' if null => self.made.extend([255; 4]),
            b'[' => {
                self.made.extend(i32::from(count).to_be_bytes());
                (0..count).for_each(|_| self.make(&field[1..field.len() - 1]));
            }
            b's' if null => self.made.extend([255; 2]),
            b's' => {
                self.made.extend(i16::from(count).to_be_bytes());
                self.made.extend(&b"logs"[..usize::from(count)]);
            }
            b'b' if null => self.made.extend([255; 4]),
            b'b' => {
                self.made.extend(i32::from(count).to_be_bytes());
                self.made.extend(vec![0xfe; usize::from(count)]);
            }
            // One byte is a truth value: nothing but 0 and 1 comes back as it went.
            b'1' => {
                let truth = self.draw(2);
                self.made.push(truth);
            }
            width => (0..width - b'0').for_each(|_| {
                let byte = self.draw(255);
                self.made.push(byte);
            }),
        }
    }
}

fn matching(field: &str) -> usize {
    let mut open = 0;
    let closes = |c: char| {
        open += i32::from(c == '[') - i32::from(c == ']');
        open == 0
    };
    field.find(closes).unwrap() + 1
}

fn made(api: &Spoken, version: i16, entropy: &[u8], nulls: bool) -> Bytes {
    let mut maker = Maker { version, nulls, entropy: entropy.iter().cycle(), made: Vec::new() };
    maker.make(api.shape);
    maker.made.into()
}

/// Every API in every version that is spoken.
fn each(mut visit: impl FnMut(&Spoken, i16)) {
    for api in spoken() {
        (api.versions.0..=api.versions.1).for_each(|version| visit(&api, version));
    }
}

proptest! {
    /// The decoder reads the very fields that were measured: what is of the shape is read, to the last byte, and written
    /// again as it was. So no array is decoded that was not measured.
    #[test]
    fn shapes_are_those_of_the_decoders(entropy in prop::collection::vec(any::<u8>(), 1..200)) {
        each(|api, version| {
            let bytes = made(api, version, &entropy, false);
            assert_eq!(measure(api.shape, version, &bytes), Ok(()), "{} {version}", api.name);
            assert_eq!((api.read_and_write)(bytes.clone(), version), Ok(bytes), "{} {version}", api.name);
        });
    }

    /// What may not be null is refused by the decoder, and what may be is read as such.
    #[test]
    fn nulls_are_read_or_refused(entropy in prop::collection::vec(any::<u8>(), 1..200)) {
        each(|api, version| {
            let bytes = made(api, version, &entropy, true);
            assert_eq!(measure(api.shape, version, &bytes), Ok(()), "{} {version}", api.name);
            if let Ok(written) = (api.read_and_write)(bytes.clone(), version) {
                assert_eq!(written, bytes, "{} {version}", api.name);
            }
        });
    }

    /// Whatever comes ends in an answer or an error.
    #[test]
    fn nothing_panics(
        entropy in prop::collection::vec(any::<u8>(), 1..100),
        spoilt in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        each(|api, version| {
            let mut bytes = made(api, version, &entropy, true).to_vec();
            spoilt.iter().for_each(|(at, byte)| { let at = at.index(bytes.len()); bytes[at] = *byte; });
            if let Some(cut) = cut { bytes.truncate(cut.index(bytes.len())); }
            let _ = (api.read_and_write)(bytes.into(), version);
            let _ = (api.read_and_write)(entropy.clone().into(), version);
        });
    }
}
