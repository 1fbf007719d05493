//! Domain names (RFC 1035, section 3.1).

use std::fmt::{self, Write};
use std::net::IpAddr;

/// How long a name may be on the wire (RFC 1035, section 2.3.4).
pub(super) const NAME_BYTES_MAX: usize = 255;
/// How long one part of a name may be.
const LABEL_BYTES_MAX: usize = 63;

/// A name, from the root: each label with its length before it, in lower case, since case tells no two names apart. It
/// shows as zone files have it, with a dot at the end.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(Box<[u8]>);

impl Name {
    /// A name as people write it, with or without its last dot; `.` is the root.
    ///
    /// # Errors
    /// What is wrong with it, to be said after it: `has a part without a letter`.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut wire = Vec::with_capacity(text.len() + 2);
        let labels = match text {
            "" => return Err("is empty, and a name is not"),
            "." => "",
            text => text.strip_suffix('.').unwrap_or(text),
        };
        for label in labels.split('.').filter(|_| !labels.is_empty()) {
            if label.is_empty() {
                return Err("has two dots in a row, or begins with one");
            }
            if label.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'\\') {
                return Err("holds what a name cannot; letters beyond ASCII go in their `xn--` form");
            }
            if label.len() > LABEL_BYTES_MAX {
                return Err("has a part of more than 63 characters");
            }
            push_label(&mut wire, label.as_bytes());
        }
        wire.push(0);
        if wire.len() > NAME_BYTES_MAX { Err("is longer than 253 characters") } else { Ok(Name(wire.into())) }
    }

    /// Where the name of `address` is looked up (RFC 1035, section 3.5; RFC 3596, section 2.5).
    pub fn reverse(address: IpAddr) -> Self {
        let mut wire = Vec::new();
        let top: [&[u8]; 2] = match address {
            IpAddr::V4(address) => {
                address.octets().iter().rev().for_each(|octet| push_label(&mut wire, octet.to_string().as_bytes()));
                [b"in-addr", b"arpa"]
            }
            IpAddr::V6(address) => {
                for octet in address.octets().iter().rev() {
                    [octet & 15, octet >> 4]
                        .iter()
                        .for_each(|four| push_label(&mut wire, format!("{four:x}").as_bytes()));
                }
                [b"ip6", b"arpa"]
            }
        };
        top.iter().for_each(|label| push_label(&mut wire, label));
        wire.push(0);
        Name(wire.into())
    }

    /// As people write it: without the last dot.
    pub fn bare(&self) -> String {
        match self.to_string() {
            root if root == "." => root,
            mut name => {
                name.pop();
                name
            }
        }
    }

    /// What was read from a message: labels with their lengths, and the empty one at the end.
    pub(super) fn from_wire(mut wire: Vec<u8>) -> Self {
        // A length is less than a letter, so it stays.
        wire.make_ascii_lowercase();
        Name(wire.into())
    }

    /// As it goes into a message.
    pub(super) fn wire(&self) -> &[u8] {
        &self.0
    }
}

fn push_label(wire: &mut Vec<u8>, label: &[u8]) {
    // No label is longer than 63 bytes, so its length is a byte.
    wire.push(label.len() as u8);
    wire.extend(label.to_ascii_lowercase());
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = &*self.0;
        if rest == [0] {
            return f.write_str(".");
        }
        while let [length, after @ ..] = rest
            && *length > 0
        {
            let (label, next) = after.split_at_checked(usize::from(*length)).unwrap_or((after, &[]));
            for &byte in label {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(byte))?,
                    byte if byte.is_ascii_graphic() => f.write_char(char::from(byte))?,
                    byte => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_char('.')?;
            rest = next;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_or_refused() {
        let long = format!("{}.example", "a".repeat(64));
        let longer = "abcdefg.".repeat(32);
        for (text, read) in [
            ("example.com", Ok("example.com.")),
            ("Example.COM.", Ok("example.com.")),
            (".", Ok(".")),
            ("_dmarc.example.com", Ok("_dmarc.example.com.")),
            ("0/25.2.0.192.in-addr.arpa", Ok("0/25.2.0.192.in-addr.arpa.")),
            ("*.example.com", Ok("*.example.com.")),
            ("", Err("is empty, and a name is not")),
            ("a..b", Err("has two dots in a row, or begins with one")),
            ("bücher.example", Err("holds what a name cannot; letters beyond ASCII go in their `xn--` form")),
            ("a b", Err("holds what a name cannot; letters beyond ASCII go in their `xn--` form")),
            (&long, Err("has a part of more than 63 characters")),
            (&longer, Err("is longer than 253 characters")),
        ] {
            assert_eq!(Name::parse(text).map(|name| name.to_string()), read.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn people_write_no_last_dot() {
        for (name, bare) in [("example.com.", "example.com"), ("com", "com"), (".", ".")] {
            assert_eq!(Name::parse(name).unwrap().bare(), bare);
        }
    }

    #[test]
    fn addresses_are_looked_up_backwards() {
        assert_eq!(Name::reverse([192, 0, 2, 7].into()).to_string(), "7.2.0.192.in-addr.arpa.");
        assert_eq!(
            Name::reverse("2001:db8::7".parse().unwrap()).to_string(),
            "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa."
        );
    }

    #[test]
    fn what_is_no_letter_is_shown_by_its_number() {
        assert_eq!(Name::from_wire(b"\x05A.\x00\xff\\\x00".to_vec()).to_string(), "a\\.\\000\\255\\\\.");
    }
}
