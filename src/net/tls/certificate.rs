//! What a certificate says (RFC 5280), as far as checks tell it.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::clock::Timestamp;
use crate::net::shown;

/// A certificate may carry hundreds of names; so many are kept.
const NAMES_MAX: usize = 20;

/// What is kept of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// For which names and addresses, the first few of them.
    pub names: Vec<String>,
    /// It is valid from then on.
    pub not_before: Timestamp,
    /// It is valid until then.
    pub not_after: Timestamp,
    /// Its public key.
    pub pin: Pin,
}

impl Certificate {
    /// Reads DER; `None` when it is no certificate.
    pub fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, read) = X509Certificate::from_der(der).ok()?;
        Some(Certificate {
            subject: shown(read.subject().to_string().as_bytes()),
            issuer: shown(read.issuer().to_string().as_bytes()),
            names: names(&read),
            not_before: moment(read.validity().not_before),
            not_after: moment(read.validity().not_after),
            pin: Pin::of(read.public_key().raw),
        })
    }

    /// About what it takes.
    pub(super) fn bytes(&self) -> usize {
        let names = self.names.iter().map(|name| size_of::<String>() + name.len());
        size_of::<Self>() + self.subject.len() + self.issuer.len() + names.sum::<usize>()
    }

    /// Whole days from `now` until it ends; negative once it has.
    pub fn days_left(&self, now: Timestamp) -> i64 {
        (self.not_after.as_micros() - now.as_micros()).div_euclid(86_400 * 1_000_000)
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(shown(name.as_bytes())),
        GeneralName::IPAddress(bytes) => {
            let v4 = || <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let v6 = || <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            v4().or_else(|_| v6()).ok().map(|address| address.to_string())
        }
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).take(NAMES_MAX).collect()
}

fn moment(time: ASN1Time) -> Timestamp {
    Timestamp::from_micros(time.timestamp().saturating_mul(1_000_000))
}

/// The SHA-256 of a public key (its SubjectPublicKeyInfo in DER), written in base64 as RFC 7469 has it. A certificate that is
/// renewed with the same key keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; Pin::BYTES]);

impl Pin {
    /// How long it is, in bytes.
    pub const BYTES: usize = 32;

    fn of(key: &[u8]) -> Self {
        let mut pin = [0; Pin::BYTES];
        pin.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, key).as_ref());
        Pin(pin)
    }

    /// Reads base64; `None` when it is no pin.
    pub fn parse(text: &str) -> Option<Self> {
        BASE64.decode(text).ok()?.try_into().ok().map(Pin)
    }
}

impl From<[u8; Pin::BYTES]> for Pin {
    fn from(bytes: [u8; Pin::BYTES]) -> Self {
        Pin(bytes)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_left_round_down() {
        let ends = |not_after: &str| Certificate {
            subject: String::new(),
            issuer: String::new(),
            names: Vec::new(),
            not_before: Timestamp::default(),
            not_after: Timestamp::parse(not_after).unwrap(),
            pin: Pin::of(b""),
        };
        let now = Timestamp::parse("2026-11-24T12:00:00Z").unwrap();
        for (not_after, days) in [
            ("2026-11-25T11:59:59Z", 0),
            ("2026-11-25T12:00:00Z", 1),
            ("2026-12-24T12:00:00Z", 30),
            ("2026-11-24T11:59:59Z", -1),
        ] {
            assert_eq!(ends(not_after).days_left(now), days, "{not_after}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_none() {
        assert_eq!(Certificate::read(&CertificateDer::from(&b"\x30\x03abc"[..])), None);
    }

    #[test]
    fn its_names_and_its_key_are_told() {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = ["a.example", "192.0.2.7", "2001:db8::7"].map(str::to_owned);
        let own = rcgen::CertificateParams::new(names.to_vec()).unwrap().self_signed(&key).unwrap();
        let read = Certificate::read(own.der()).unwrap();
        assert_eq!(read.names, names);
        assert_eq!(read.pin, Pin::of(&rcgen::PublicKeyData::subject_public_key_info(&key)));
        assert_eq!(Pin::parse(&read.pin.to_string()), Some(read.pin));

        let many: Vec<String> = (0..50).map(|n| format!("{n}.example")).collect();
        let own = rcgen::CertificateParams::new(many.clone()).unwrap().self_signed(&key).unwrap();
        assert_eq!(Certificate::read(own.der()).unwrap().names, many[..NAMES_MAX]);
    }

    #[test]
    fn a_pin_is_that_of_rfc_7469() {
        // `openssl dgst -sha256 -binary | base64` of nothing.
        assert_eq!(Pin::of(b"").to_string(), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        for wrong in ["", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU", "47DEQpj8", "&"] {
            assert_eq!(Pin::parse(wrong), None, "{wrong}");
        }
    }
}
