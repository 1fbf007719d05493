//! What a TLS handshake told, held against what was expected of it, and the figures of it that a log carries.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Outcome;
use super::assertions::Assertions;
use super::http::Text;
use crate::net::tls::{self, Certificate, Pin, Session, Version};
use crate::net::{Course, Failure, Net};

/// What is expected of a handshake and of the certificates that came with it.
#[derive(Clone, Debug, Default)]
pub struct ExpectTls {
    /// An older version is down.
    pub version_min: Option<Version>,
    /// The key of the server's own certificate must be one of these; empty: any will do. It is the one key of the chain that
    /// the server has shown to have.
    pub pins: Vec<Pin>,
    /// What the issuer of the server's own certificate must be.
    pub issuer: Option<Text>,
    /// Fewer days left on any certificate of the chain: degraded.
    pub certificate_days: Option<u32>,
}

/// Certificates of a chain that a log carries, at most.
const CERTIFICATES_SHOWN: usize = 6;

impl ExpectTls {
    /// Holds all of it against what the handshake told. Nothing is listed where there was none, or no certificate in it: then
    /// the check has failed before.
    pub fn hold(&self, net: &Net, course: &Course, to: &mut Assertions<'_>) {
        let Some(session) = &course.session else { return };
        if let (Some(least), Some(version)) = (self.version_min, session.version) {
            let (least_name, name) = (least.name(), version.name());
            let reason = || format!("TLS {name} was spoken, expected {least_name} or newer");
            to.must(version >= least, "tls_version_min", format!("at least {least_name}"), name, reason);
        }
        let Some(own) = session.certificates.first() else { return };
        if !self.pins.is_empty() {
            self.hold_pins(own, to);
        }
        if let Some(issuer) = &self.issuer {
            let who = format!("issuer of {}", own.subject);
            to.text("certificate_issuer", &who, issuer, own.issuer.as_bytes());
        }
        if let Some(limit) = self.certificate_days {
            days(limit, net, course, to);
        }
    }

    /// What a connection comes to that got as far as `failure`, with what of `under` and of this held.
    pub(super) fn outcome(
        &self,
        failure: Option<Failure>,
        under: Option<Duration>,
        net: &Net,
        mut course: Course,
    ) -> Outcome {
        course.leave();
        let mut assertions = Assertions::default();
        self.hold(net, &course, &mut assertions);
        if let (Some(limit), None) = (under, &failure) {
            assertions.under(limit, course.took());
        }
        let (verdict, phase, reason) = assertions.verdict_after(failure);
        let mut result = Map::new();
        result.insert("phases".to_owned(), json!(course.phases()));
        if let Some(address) = course.address {
            result.insert("address".to_owned(), address.to_string().into());
        }
        if let Some(figures) = figures_in_full(net, &course) {
            result.insert("tls".to_owned(), figures);
        }
        let (phases, timeline) = (course.phases(), course.timeline.spans());
        Outcome { verdict, phase, reason, phases, assertions: assertions.listed, result, timeline }
    }

    fn hold_pins(&self, own: &Certificate, to: &mut Assertions<'_>) {
        let pins = self.pins.iter().map(Pin::to_string).collect::<Vec<_>>().join(" or ");
        let (subject, pin) = (&own.subject, own.pin);
        let reason = || format!("certificate {subject} has the pin {pin}, expected {pins}");
        to.must(self.pins.contains(&pin), "certificate_pins", pins.clone(), pin.to_string(), reason);
    }
}

/// Holds the days left on the certificate that ends first, of all that were met on the way, against `limit`.
pub fn days(limit: u32, net: &Net, course: &Course, to: &mut Assertions<'_>) {
    let (what, expected) = ("certificate_days", format!("at least {limit}"));
    let Some(certificate) = &course.ends_first else {
        let reason = || format!("no certificate was shown, expected one for at least {limit} days");
        return to.limit(false, what, expected, "no certificate", reason);
    };
    let left = certificate.days_left(net.now());
    let (subject, ends) = (&certificate.subject, tls::date(certificate.not_after));
    let reason = || format!("certificate {subject} ends {ends} (in {left} days), expected at least {limit} days");
    to.limit(left >= i64::from(limit), what, expected, left.to_string(), reason);
}

/// The figures of the newest handshake, for the logs of checks that are about something else: every log carries them, so they
/// are few, but where somebody watches.
pub fn figures(net: &Net, course: &Course) -> Option<Value> {
    if course.timeline.is_watched() {
        return figures_in_full(net, course);
    }
    let certificate =
        |one: &Certificate, _: bool| json!({"subject": one.subject, "not_after": tls::date(one.not_after)});
    told(net, course, course.session.as_ref()?, certificate)
}

/// All that the newest handshake told, also one in which the certificate was refused.
pub fn figures_in_full(net: &Net, course: &Course) -> Option<Value> {
    let session = course.session.as_ref()?;
    let certificate = |one: &Certificate, own: bool| {
        let mut told = json!({
            "subject": one.subject, "issuer": one.issuer,
            "not_before": one.not_before.to_string(), "not_after": one.not_after.to_string(),
        });
        if own {
            told["names"] = one.names.clone().into();
            told["pin"] = one.pin.to_string().into();
        }
        told
    };
    let mut figures = told(net, course, session, certificate);
    if let Some(Value::Object(figures)) = &mut figures
        && !session.distrust.is_empty()
    {
        figures.insert("distrust".to_owned(), session.distrust.clone().into());
    }
    figures
}

/// The figures, with each certificate as `certificate` tells it, which is also told whether it is the server's own.
fn told(
    net: &Net,
    course: &Course,
    session: &Session,
    certificate: impl Fn(&Certificate, bool) -> Value,
) -> Option<Value> {
    let mut tls = Map::new();
    if let Some(version) = session.version {
        tls.insert("version".to_owned(), version.name().into());
    }
    if let Some(cipher) = &session.cipher {
        tls.insert("cipher".to_owned(), cipher.as_str().into());
    }
    if let Some(first) = &course.ends_first {
        tls.insert("certificate_days".to_owned(), first.days_left(net.now()).into());
    }
    let shown = session.certificates.iter().take(CERTIFICATES_SHOWN).enumerate();
    let certificates: Vec<Value> = shown.map(|(at, one)| certificate(one, at == 0)).collect();
    if !certificates.is_empty() {
        tls.insert("certificates".to_owned(), certificates.into());
    }
    (!tls.is_empty()).then_some(Value::Object(tls))
}
