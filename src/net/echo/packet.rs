//! Echo requests and replies as they are on the wire (RFC 792; RFC 4443, section 4), and what ICMP errors mean.

/// What is sent along, and has to come back: as much as ping(8) sends.
pub const PAYLOAD_BYTES: usize = 56;
/// Type, code, checksum, identifier and sequence number.
const HEADER_BYTES: usize = 8;

/// The content of an echo request.
pub type Payload = [u8; PAYLOAD_BYTES];

/// Which ICMP: each has numbers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// ICMP over IPv4.
    V4,
    /// ICMPv6.
    V6,
}

/// An echo reply, as far as it concerns us.
#[derive(Debug, PartialEq, Eq)]
pub struct Echo<'a> {
    /// Whose it is. On datagram sockets the kernel's.
    pub id: u16,
    /// To which request.
    pub seq: u16,
    /// What came back.
    pub payload: &'a [u8],
}

/// An echo request.
pub fn request(family: Family, id: u16, seq: u16, payload: &Payload) -> [u8; HEADER_BYTES + PAYLOAD_BYTES] {
    let mut bytes = [0; HEADER_BYTES + PAYLOAD_BYTES];
    bytes[0] = request_type(family);
    bytes[4..6].copy_from_slice(&id.to_be_bytes());
    bytes[6..8].copy_from_slice(&seq.to_be_bytes());
    bytes[8..].copy_from_slice(payload);
    // That of ICMPv6 covers addresses that only the kernel knows, and it fills it in (RFC 3542, section 3.1).
    if family == Family::V4 {
        let sum = checksum(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

/// The echo reply that `bytes` are, if they are one.
pub fn reply(family: Family, bytes: &[u8]) -> Option<Echo<'_>> {
    let reply_type = if family == Family::V4 { 0 } else { 129 };
    let (header, payload) = bytes.split_at_checked(HEADER_BYTES)?;
    let [kind, 0, _, _, id_high, id_low, seq_high, seq_low] = *header else { return None };
    let (id, seq) = (u16::from_be_bytes([id_high, id_low]), u16::from_be_bytes([seq_high, seq_low]));
    (kind == reply_type).then_some(Echo { id, seq, payload })
}

/// Identifier and sequence number of the echo request that an ICMP error quotes. No more than its header has to be there.
pub fn quoted(family: Family, bytes: &[u8]) -> Option<(u16, u16)> {
    let [kind, 0, _, _, id_high, id_low, seq_high, seq_low, ..] = *bytes else { return None };
    let (id, seq) = (u16::from_be_bytes([id_high, id_low]), u16::from_be_bytes([seq_high, seq_low]));
    (kind == request_type(family)).then_some((id, seq))
}

/// What a raw IPv4 socket reads, without the IP header that stands before it (raw(7)).
pub fn without_ip_header(bytes: &[u8]) -> Option<&[u8]> {
    let words = usize::from(bytes.first()? & 0x0f);
    bytes.get(words * 4..)
}

/// What an ICMP error says became of the request. `None` for what does not end it: redirects, a smaller MTU.
pub fn meaning(family: Family, kind: u8, code: u8) -> Option<&'static str> {
    Some(match (family, kind, code) {
        (Family::V4, 3, 0 | 6 | 11) | (Family::V6, 1, 0) => "network unreachable",
        (Family::V4, 3, 1 | 7 | 8 | 12) | (Family::V6, 1, 3) => "host unreachable",
        (Family::V4, 3, 2) => "ICMP refused",
        (Family::V4, 3, 3) | (Family::V6, 1, 4) => "port unreachable",
        (Family::V4, 3, 4) => return None,
        (Family::V4, 3, 9 | 10 | 13..=15) | (Family::V6, 1, 1 | 5 | 6) => "administratively prohibited",
        (Family::V4, 3, _) | (Family::V6, 1, _) => "unreachable",
        (Family::V4, 11, 0) | (Family::V6, 3, 0) => "TTL exceeded, as in a routing loop",
        (Family::V4, 11, _) | (Family::V6, 3, _) => "fragments lost",
        (Family::V4, 12, _) | (Family::V6, 4, _) => "request not understood",
        _ => return None,
    })
}

fn request_type(family: Family) -> u8 {
    if family == Family::V4 { 8 } else { 128 }
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_the_rfcs_say() {
        let bytes = request(Family::V4, 0x1234, 7, &[0xab; PAYLOAD_BYTES]);
        assert_eq!((bytes.len(), &bytes[..2], &bytes[4..8]), (64, &[8, 0][..], &[0x12, 0x34, 0, 7][..]));
        assert_eq!(checksum(&bytes), 0, "a packet sums up to zero together with its checksum");
        let bytes = request(Family::V6, 0x1234, 7, &[0xab; PAYLOAD_BYTES]);
        assert_eq!(&bytes[..8], [128, 0, 0, 0, 0x12, 0x34, 0, 7]);
        assert_eq!(quoted(Family::V6, &bytes[..8]), Some((0x1234, 7)));
    }

    #[test]
    fn replies_are_told_from_all_else() {
        let header = |kind, code| [kind, code, 0, 0, 0, 1, 0, 2, b'x'];
        for (name, family, bytes, is) in [
            ("a reply", Family::V4, &header(0, 0)[..], true),
            ("a reply of the other family", Family::V6, &header(0, 0), false),
            ("a reply over IPv6", Family::V6, &header(129, 0), true),
            ("a request", Family::V4, &header(8, 0), false),
            ("a reply with a code", Family::V4, &header(0, 1), false),
            ("an error", Family::V4, &header(3, 1), false),
            ("half a header", Family::V4, &header(0, 0)[..7], false),
            ("nothing", Family::V4, &[], false),
        ] {
            let wanted = is.then_some(Echo { id: 1, seq: 2, payload: b"x" });
            assert_eq!(reply(family, bytes), wanted, "{name}");
        }
        for (name, bytes, wanted) in [
            ("a header with options", [&[0x46; 24][..], b"icmp"].concat(), Some(&b"icmp"[..])),
            ("one that is longer than all", vec![0x4f; 20], None),
            ("nothing", vec![], None),
        ] {
            assert_eq!(without_ip_header(&bytes), wanted, "{name}");
        }
    }

    #[test]
    fn what_does_not_end_a_request_is_no_refusal() {
        for (family, kind, code) in [(Family::V4, 3, 4), (Family::V4, 4, 0), (Family::V4, 5, 1), (Family::V6, 2, 0)] {
            assert_eq!(meaning(family, kind, code), None, "{family:?} {kind} {code}");
        }
        assert_eq!(meaning(Family::V4, 3, 13), meaning(Family::V6, 1, 1));
        assert_eq!(meaning(Family::V4, 11, 0), meaning(Family::V6, 3, 0));
    }
}
