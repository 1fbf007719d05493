//! Whether an answer has the shape that its version says, before it is decoded.
//!
//! `kafka-protocol`'s decoders reserve room for as many elements as the wire claims: two billion of them are an allocation
//! that ends the process. Here every length is held against the bytes that are there.
//!
//! A shape is written as its fields in order: `1` `2` `4` `8` are bytes, `s` is a string (16-bit length, −1: null), `b` is
//! bytes (32-bit length, −1: null), `[…]` is an array (32-bit count, −1: null) of what is in it, and `7:` before a field says
//! that it is there from version 7 on. These are the types of <https://kafka.apache.org/protocol.html#protocol_types>.

/// Arrays in arrays: no answer has more.
const DEPTH_MAX: usize = 4;

/// Measures `bytes` against `shape`.
///
/// # Errors
/// What does not fit, and where.
pub fn measure(shape: &'static str, version: i16, bytes: &[u8]) -> Result<(), String> {
    let mut rest = bytes;
    let mut words = shape.as_bytes();
    fields(&mut words, version, &mut rest, DEPTH_MAX).map_err(|what| {
        let at = bytes.len() - rest.len();
        format!("{what} at byte {at} of {}", bytes.len())
    })?;
    if rest.is_empty() { Ok(()) } else { Err(format!("{} bytes too many", rest.len())) }
}

/// Measures fields until the array that they are in ends. Leaves `words` behind its bracket.
fn fields(words: &mut &'static [u8], version: i16, rest: &mut &[u8], depth: usize) -> Result<(), String> {
    while let Some((&word, after)) = words.split_first() {
        *words = after;
        match word {
            b' ' => {}
            b']' => return Ok(()),
            _ => {
                let since = since(word, words);
                let field = if since.is_some() { next(words) } else { word };
                let there = since.is_none_or(|since| version >= since);
                measure_field(field, words, there.then_some(version), rest, depth)?;
            }
        }
    }
    Ok(())
}

fn next(words: &mut &'static [u8]) -> u8 {
    let Some((&word, after)) = words.split_first() else { return b' ' };
    *words = after;
    word
}

/// The version from which on the field is there, if it says so: `word` is its first digit. Leaves `words` behind the colon.
fn since(word: u8, words: &mut &'static [u8]) -> Option<i16> {
    let digits = words.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !word.is_ascii_digit() || words.get(digits) != Some(&b':') {
        return None;
    }
    let number = words[..digits].iter().fold(i16::from(word - b'0'), |sum, digit| sum * 10 + i16::from(digit - b'0'));
    *words = &words[digits + 1..];
    Some(number)
}

/// Measures one field; `version` is `None` where it is not there. Leaves `words` behind it.
fn measure_field(
    field: u8,
    words: &mut &'static [u8],
    version: Option<i16>,
    rest: &mut &[u8],
    depth: usize,
) -> Result<(), String> {
    match (field, version) {
        (b'[', version) => {
            let of = *words;
            // Once over the words alone, to find where they end.
            let end = end_of_array(of);
            *words = &of[end..];
            let Some(version) = version else { return Ok(()) };
            if depth == 0 {
                return Err("an array too deep".to_owned());
            }
            let count = i32::from_be_bytes(take(rest)?);
            // No element is empty.
            if count < -1 || count.max(0) as usize > rest.len() {
                return Err(format!("an array of {count}"));
            }
            for _ in 0..count {
                fields(&mut &of[..end], version, rest, depth - 1)?;
            }
            Ok(())
        }
        (_, None) => Ok(()),
        (b's', _) => {
            let length = i16::from_be_bytes(take(rest)?);
            skip(rest, i64::from(length), "a string")
        }
        (b'b', _) => {
            let length = i32::from_be_bytes(take(rest)?);
            skip(rest, i64::from(length), "bytes")
        }
        (width, _) => skip(rest, i64::from(width - b'0'), "a number"),
    }
}

fn end_of_array(words: &[u8]) -> usize {
    let mut open = 1;
    for (at, word) in words.iter().enumerate() {
        match word {
            b'[' => open += 1,
            b']' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return at + 1;
        }
    }
    words.len()
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], String> {
    let Some((taken, after)) = rest.split_first_chunk::<N>() else { return Err("the end".to_owned()) };
    *rest = after;
    Ok(*taken)
}

fn skip(rest: &mut &[u8], length: i64, what: &str) -> Result<(), String> {
    match usize::try_from(length) {
        Ok(length) if length <= rest.len() => {
            *rest = &rest[length..];
            Ok(())
        }
        Err(_) if length == -1 => Ok(()),
        _ => Err(format!("{what} of {length} bytes")),
    }
}

#[cfg(test)]
mod tests {
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
}
