//! What checks of several kinds tell of TLS: the session, and how long its certificates last.

use serde_json::{Map, Value, json};

use super::assertions::Assertions;
use crate::net::{Course, Net, tls};

/// Certificates of a chain that a log carries, at most.
const CERTIFICATES_SHOWN: usize = 6;

/// Lists that the certificate that ends first should last for at least `days`.
pub fn certificate_days(days: u32, net: &Net, course: &Course, to: &mut Assertions<'_>) {
    let (what, expected) = ("certificate_days", format!("at least {days}"));
    let Some(certificate) = &course.ends_first else {
        let reason = || format!("no certificate was shown, expected one for at least {days} days");
        return to.limit(false, what, expected, "no certificate", reason);
    };
    let left = certificate.days_left(net.now());
    let (subject, ends) = (&certificate.subject, tls::date(certificate.not_after));
    let reason = || format!("certificate {subject} ends {ends} (in {left} days), expected at least {days} days");
    to.limit(left >= i64::from(days), what, expected, left.to_string(), reason);
}

/// The session, for the `result` of a log.
pub fn told(net: &Net, course: &Course) -> Option<Value> {
    let session = course.session.as_ref()?;
    let mut tls = Map::new();
    if let Some(version) = session.version {
        tls.insert("version".to_owned(), version.into());
    }
    if let Some(cipher) = &session.cipher {
        tls.insert("cipher".to_owned(), cipher.as_str().into());
    }
    if let Some(certificate) = &course.ends_first {
        tls.insert("certificate_days".to_owned(), certificate.days_left(net.now()).into());
    }
    let certificates = session.certificates.iter().take(CERTIFICATES_SHOWN);
    let certificates: Vec<_> =
        certificates.map(|one| json!({"subject": one.subject, "not_after": tls::date(one.not_after)})).collect();
    if !certificates.is_empty() {
        tls.insert("certificates".to_owned(), certificates.into());
    }
    (!tls.is_empty()).then_some(Value::Object(tls))
}
