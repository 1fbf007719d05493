//! What a peer sent, shown to people.

/// So much of it is shown.
const CHARS_MAX: usize = 120;

/// What came, on one line, not too long, and without control characters: those could steer a terminal, and a peer must not
/// be able to.
pub fn shown(bytes: &[u8]) -> String {
    // Four bytes make a character, at most; what is longer need not be looked at.
    let looked_at = &bytes[..bytes.len().min(CHARS_MAX * 4)];
    let text = String::from_utf8_lossy(looked_at);
    let mut shown = String::new();
    for c in text.chars().take(CHARS_MAX) {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    if looked_at.len() < bytes.len() || text.chars().count() > CHARS_MAX {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_short_and_harmless() {
        assert_eq!(shown(b"ok\n\x1b[31m"), "ok\\n\\u{1b}[31m");
        assert_eq!(shown(&[b'a'; 120]).len(), 120);
        assert_eq!(shown(&[b'a'; 121]), format!("{}…", "a".repeat(120)));
        assert_eq!(shown("ü".repeat(500).as_bytes()), format!("{}…", "ü".repeat(120)));
    }
}
