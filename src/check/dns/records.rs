//! Record types and response codes, and what records hold, as text.
//!
//! The text is that of zone files (RFC 1035, section 5), as `dig +short` prints it, but for TXT: its strings are joined, as
//! those who read them do (RFC 7208, section 3.3), and stand in no quotes.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::cursor::{Cursor, Malformed};

/// A record type, by its number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RecordType(pub u16);

impl RecordType {
    pub(super) const CNAME: RecordType = RecordType(5);
    pub(super) const NS: RecordType = RecordType(2);
    pub(super) const SOA: RecordType = RecordType(6);
    pub(super) const OPT: RecordType = RecordType(41);

    /// Those that a check may ask for.
    pub const KNOWN: [(&str, RecordType); 12] = [
        ("A", RecordType(1)),
        ("AAAA", RecordType(28)),
        ("CAA", RecordType(257)),
        ("CNAME", RecordType::CNAME),
        ("DS", RecordType(43)),
        ("MX", RecordType(15)),
        ("NS", RecordType::NS),
        ("PTR", RecordType(12)),
        ("SOA", RecordType::SOA),
        ("SRV", RecordType(33)),
        ("TLSA", RecordType(52)),
        ("TXT", RecordType(16)),
    ];

    /// Text of a record as people may write it, in the form that answers are shown in: addresses in their shortest form, names in
    /// lower case and with their last dot.
    pub fn canonical(self, text: &str) -> String {
        match self.name() {
            Some("A" | "AAAA") => {
                text.parse::<std::net::IpAddr>().map_or_else(|_| text.to_owned(), |ip| ip.to_string())
            }
            Some("CNAME" | "MX" | "NS" | "PTR" | "SRV") if !text.ends_with('.') => text.to_ascii_lowercase() + ".",
            Some("CNAME" | "MX" | "NS" | "PTR" | "SRV" | "SOA" | "DS" | "TLSA") => text.to_ascii_lowercase(),
            _ => text.to_owned(),
        }
    }

    fn name(self) -> Option<&'static str> {
        Self::KNOWN.iter().find(|(_, known)| *known == self).map(|(name, _)| *name)
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "TYPE{}", self.0), // RFC 3597, section 5
        }
    }
}

impl fmt::Debug for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A response code, extended by EDNS (RFC 6891, section 6.1.3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rcode(pub u16);

impl Rcode {
    /// All is well, though there may be no record.
    pub const NOERROR: Rcode = Rcode(0);

    /// Those that a check may expect.
    pub const KNOWN: [(&str, Rcode); 11] = [
        ("NOERROR", Rcode::NOERROR),
        ("FORMERR", Rcode(1)),
        ("SERVFAIL", Rcode(2)),
        ("NXDOMAIN", Rcode(3)),
        ("NOTIMP", Rcode(4)),
        ("REFUSED", Rcode(5)),
        ("YXDOMAIN", Rcode(6)),
        ("YXRRSET", Rcode(7)),
        ("NXRRSET", Rcode(8)),
        ("NOTAUTH", Rcode(9)),
        ("NOTZONE", Rcode(10)),
    ];

    /// What it means, for people; nothing where few could say.
    pub fn meaning(self) -> &'static str {
        match self.0 {
            1 => " (the server did not understand the question)",
            2 => " (the server failed)",
            3 => " (no such name)",
            4 => " (the server does not do that)",
            5 => " (the server does not answer this agent, or not for this name)",
            16 => " (the server knows no such version of EDNS)",
            _ => "",
        }
    }
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::KNOWN.iter().find(|(_, known)| known == self) {
            Some((name, _)) => f.write_str(name),
            None if self.0 == 16 => f.write_str("BADVERS"),
            None => write!(f, "RCODE{}", self.0),
        }
    }
}

impl fmt::Debug for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What a record of `kind` holds, which is all that is left of `from`.
pub(super) fn data(kind: RecordType, from: &mut Cursor<'_>) -> Result<String, Malformed> {
    let text = match kind.name() {
        Some("A") => Ipv4Addr::from(from.array::<4>()?).to_string(),
        Some("AAAA") => Ipv6Addr::from(from.array::<16>()?).to_string(),
        Some("CNAME" | "NS" | "PTR") => from.name()?.to_string(),
        Some("MX") => format!("{} {}", from.u16()?, from.name()?),
        Some("SRV") => format!("{} {} {} {}", from.u16()?, from.u16()?, from.u16()?, from.name()?),
        Some("SOA") => {
            let names = format!("{} {}", from.name()?, from.name()?);
            (0..5).try_fold(names, |text, _| Ok(format!("{text} {}", from.u32()?)))?
        }
        Some("TXT") => {
            let mut joined = Vec::new();
            while from.left() > 0 {
                joined.extend(from.string()?);
            }
            String::from_utf8_lossy(&joined).into_owned()
        }
        Some("CAA") => {
            let (flags, tag) = (from.u8()?, from.string()?);
            format!("{flags} {} \"{}\"", String::from_utf8_lossy(tag), String::from_utf8_lossy(from.rest()))
        }
        Some("DS") => format!("{} {} {} {}", from.u16()?, from.u8()?, from.u8()?, hex(from.rest())),
        Some("TLSA") => format!("{} {} {} {}", from.u8()?, from.u8()?, from.u8()?, hex(from.rest())),
        _ => format!("\\# {} {}", from.left(), hex(from.rest())),
    };
    if from.left() > 0 { Err(Malformed("a record is longer than what it holds")) } else { Ok(text) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_what_servers_say() {
        let kind = |name: &str| RecordType::KNOWN.iter().find(|(known, _)| *known == name).unwrap().1;
        for (name, written, said) in [
            ("AAAA", "2001:DB8:0::7", "2001:db8::7"),
            ("A", "192.0.2.7", "192.0.2.7"),
            ("NS", "NS1.example.com", "ns1.example.com."),
            ("MX", "10 Mail.example.com.", "10 mail.example.com."),
            ("TXT", "V=spf1", "V=spf1"),
            ("DS", "1 8 2 AB", "1 8 2 ab"),
        ] {
            assert_eq!(kind(name).canonical(written), said);
        }
    }
}
