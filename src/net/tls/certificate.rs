//! What a certificate says (RFC 5280), as far as checks tell it.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::clock::Timestamp;
use crate::net::shown;

/// What is kept of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// It is valid from then on.
    pub not_before: Timestamp,
    /// It is valid until then.
    pub not_after: Timestamp,
}

impl Certificate {
    /// Reads DER; `None` when it is no certificate.
    pub fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, read) = X509Certificate::from_der(der).ok()?;
        Some(Certificate {
            subject: shown(read.subject().to_string().as_bytes()),
            issuer: shown(read.issuer().to_string().as_bytes()),
            not_before: moment(read.validity().not_before),
            not_after: moment(read.validity().not_after),
        })
    }

    /// Whole days from `now` until it ends; negative once it has.
    pub fn days_left(&self, now: Timestamp) -> i64 {
        (self.not_after.as_micros() - now.as_micros()).div_euclid(86_400 * 1_000_000)
    }
}

fn moment(time: ASN1Time) -> Timestamp {
    Timestamp::from_micros(time.timestamp().saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_left_round_down() {
        let ends = |not_after: &str| Certificate {
            subject: String::new(),
            issuer: String::new(),
            not_before: Timestamp::default(),
            not_after: Timestamp::parse(not_after).unwrap(),
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
}
