//! What a peer sent, shown to people.

use std::borrow::Cow;

/// So much of it is shown.
const CHARS_MAX: usize = 120;

/// What came, on one line, not too long, and without control characters, those that turn the direction of writing included:
/// they could steer a terminal or the eye, and a peer must not be able to.
pub fn shown(bytes: &[u8]) -> String {
    // Four bytes make a character, at most; what is longer need not be looked at.
    let looked_at = &bytes[..bytes.len().min(CHARS_MAX * 4)];
    let text = String::from_utf8_lossy(looked_at);
    let mut shown = String::new();
    for c in text.chars().take(CHARS_MAX) {
        if c.is_control() || turns(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    if looked_at.len() < bytes.len() || text.chars().count() > CHARS_MAX {
        shown.push('…');
    }
    shown
}

/// Whether it turns the direction of what is written after it (Unicode Annex 9).
fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What is shorter is in every text, and no secret.
const SECRET_BYTES_MIN: usize = 3;
/// So much of a secret at the end or the beginning of what came is taken for a part of it that was cut off.
const PART_BYTES_MIN: usize = 4;

/// What came, with `***` wherever it repeats one of `secrets`, which peers do to what was sent to them: in whole, or in part
/// where the end or the beginning of it is missing. To be done before [`shown`] cuts it.
pub fn blanked<'b>(bytes: &'b [u8], secrets: &[&str]) -> Cow<'b, [u8]> {
    // The longest first: one may hold another.
    let mut secrets: Vec<&[u8]> = secrets
        .iter()
        .map(|secret| secret.as_bytes().trim_ascii())
        .filter(|secret| secret.len() >= SECRET_BYTES_MIN)
        .collect();
    if secrets.is_empty() {
        return bytes.into();
    }
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let mut blanked = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    'bytes: while let [first, after @ ..] = rest {
        for secret in &secrets {
            if let Some(length) = repeats(rest, secret, rest.len() == bytes.len()) {
                blanked.extend(b"***");
                rest = &rest[length..];
                continue 'bytes;
            }
        }
        blanked.push(*first);
        rest = after;
    }
    blanked.into()
}

/// How many bytes of `rest` repeat `secret`, if they do.
fn repeats(rest: &[u8], secret: &[u8], at_begin: bool) -> Option<usize> {
    if rest.starts_with(secret) {
        return Some(secret.len());
    }
    if (PART_BYTES_MIN..secret.len()).contains(&rest.len()) && secret.starts_with(rest) {
        return Some(rest.len());
    }
    // Asked for once: a secret may be as long as the body of a request.
    if !at_begin {
        return None;
    }
    let tails = 1..=secret.len().saturating_sub(PART_BYTES_MIN);
    tails.map(|cut| &secret[cut..]).find(|tail| rest.starts_with(tail)).map(<[u8]>::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_that_come_back_are_blanked() {
        for (came, secrets, left) in [
            ("no hunter2, no hunter2!", vec!["hunter2\r\n"], "no ***, no ***!"),
            ("you said hunt", vec!["hunter2"], "you said ***"),
            ("er2 is wrong, hunt is a word", vec!["hunter2"], "er2 is wrong, hunt is a word"),
            ("nter2 is wrong", vec!["hunter2"], "*** is wrong"),
            ("hunter2", vec!["hunt", "hunter2"], "***"),
            ("ok, code", vec!["", "\r\n", "de"], "ok, code"),
            ("", vec!["hunter2"], ""),
            // As long as a body may be: in no time.
            (&"b".repeat(16 << 10), vec![&"a".repeat(1 << 20)], &"b".repeat(16 << 10)),
        ] {
            assert_eq!(String::from_utf8_lossy(&blanked(came.as_bytes(), &secrets)), left, "{came}");
        }
    }

    #[test]
    fn what_came_is_short_and_harmless() {
        assert_eq!(shown(b"ok\n\x1b[31m"), "ok\\n\\u{1b}[31m");
        assert_eq!(shown("a\u{202e}b\u{2066}c\u{200f}".as_bytes()), "a\\u{202e}b\\u{2066}c\\u{200f}");
        assert_eq!(shown(&[b'a'; 120]).len(), 120);
        assert_eq!(shown(&[b'a'; 121]), format!("{}…", "a".repeat(120)));
        assert_eq!(shown("ü".repeat(500).as_bytes()), format!("{}…", "ü".repeat(120)));
    }
}
