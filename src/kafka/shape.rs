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

/// Elements of all arrays of an answer together. A decoded element takes up to some hundred bytes, also where it came as
/// four, so that a full frame of them would be many times its size. A topic with 100,000 partitions has 700,000.
const ELEMENTS_MAX: usize = 1 << 20;

/// Measures `bytes` against `shape`.
///
/// # Errors
/// What does not fit, and where.
pub fn measure(shape: &'static str, version: i16, bytes: &[u8]) -> Result<(), String> {
    let mut rest = bytes;
    let mut words = shape.as_bytes();
    let mut room = ELEMENTS_MAX;
    fields(&mut words, version, &mut rest, &mut room, DEPTH_MAX).map_err(|what| {
        let at = bytes.len() - rest.len();
        format!("{what} at byte {at} of {}", bytes.len())
    })?;
    if rest.is_empty() { Ok(()) } else { Err(format!("{} bytes too many", rest.len())) }
}

/// Measures fields until the array that they are in ends. Leaves `words` behind its bracket.
fn fields(
    words: &mut &'static [u8],
    version: i16,
    rest: &mut &[u8],
    room: &mut usize,
    depth: usize,
) -> Result<(), String> {
    while let Some((&word, after)) = words.split_first() {
        *words = after;
        match word {
            b' ' => {}
            b']' => return Ok(()),
            _ => {
                let since = since(word, words);
                let field = if since.is_some() { next(words) } else { word };
                let there = since.is_none_or(|since| version >= since);
                measure_field(field, words, there.then_some(version), rest, room, depth)?;
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
    room: &mut usize,
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
            *room = room
                .checked_sub(count.max(0) as usize)
                .ok_or_else(|| format!("an array of {count}, with others more than {ELEMENTS_MAX} elements"))?;
            for _ in 0..count {
                fields(&mut &of[..end], version, rest, room, depth - 1)?;
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
mod tests;
