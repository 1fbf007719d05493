//! TLS 1.2 and 1.3 (RFC 5246, RFC 8446) by rustls: the handshake as a phase, and what it tells about the server.
//!
//! Every check shakes hands in full unless it is told to resume, since a resumed handshake shows no certificate. The
//! certificates that a server shows are kept also when they are refused, so that the reason can name them.

mod certificate;
mod configs;
mod known;

pub use certificate::{Certificate, Pin};
pub use configs::{Alpn, Configs, Unusable};

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use rustls::pki_types::{ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConnection, InvalidMessage, PeerIncompatible, ProtocolVersion};

use super::course::{Course, Failure, Trouble};
use super::stream::Stream;
use super::{Host, TlsSettings, shown};
use crate::check::Phase;
use crate::clock::Timestamp;

/// A version of TLS that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl Version {
    /// As people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Version::Tls12 => "1.2",
            Version::Tls13 => "1.3",
        }
    }
}

/// What a handshake came to, as far as it got.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// The version; `None` when the handshake did not get that far.
    pub version: Option<Version>,
    /// The cipher suite, by its IANA name.
    pub cipher: Option<String>,
    /// What the server sent, its own certificate first.
    pub certificates: Vec<Arc<Certificate>>,
    /// Why those are not to be trusted, in words for people: each reason. Empty where nothing is to be verified.
    pub distrust: Vec<String>,
    /// Whether the server asked for a certificate of ours and we have none.
    pub certificate_wanted: bool,
    /// Whether the server asked for a certificate of ours and was shown it.
    pub certificate_shown: bool,
}

/// What rustls tells on the way through one handshake.
#[derive(Default)]
struct Witness {
    /// What the server showed, its own first.
    chain: Vec<Arc<Certificate>>,
    /// All that is wrong with that.
    wrong: Vec<rustls::Error>,
    certificate_wanted: bool,
    certificate_shown: bool,
}

impl Witness {
    /// All that is wrong with the chain, in words for people.
    fn distrust(&self) -> Vec<String> {
        let wrong = self.wrong.iter().map(|wrong| match wrong {
            rustls::Error::InvalidCertificate(error) => certificate_reason(error, &self.chain),
            error => format!("certificate cannot be verified: {error}"),
        });
        wrong.collect()
    }
}

thread_local! {
    /// rustls calls its verifier and its certificate resolver without saying for which connection, but on the thread that
    /// drives the handshake. So what they see is handed over here; it is taken out at the end of the same handshake.
    static WITNESS: RefCell<Witness> = RefCell::default();
}

/// Whom a handshake is for, and how it is done.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// How.
    pub settings: &'a Arc<TlsSettings>,
    /// The host that must be at the other end, unless the settings have another name for it.
    pub host: &'a Host,
    /// Whether this is the target of the check. The name and the client's certificate in the settings are for it, and not
    /// for whoever it redirects to.
    pub own_host: bool,
    /// What is spoken over it.
    pub alpn: Alpn,
}

/// Secures `stream`: shakes hands with `peer`. The session is noted in `course` whatever comes of it.
///
/// # Errors
/// Why the handshake failed.
pub fn secure(
    stream: &mut Stream,
    configs: &Configs,
    asked: Asked<'_>,
    peer: &dyn fmt::Display,
    course: &mut Course,
) -> Result<(), Failure> {
    course.enter(Phase::Tls);
    let Asked { settings, host, own_host, alpn } = asked;
    let name = match (settings.server_name.as_ref().filter(|_| own_host), host) {
        (Some(name), _) | (None, Host::Name(name)) => ServerName::try_from(name.clone()),
        (None, Host::Address(address)) => Ok(ServerName::IpAddress((*address).into())),
    };
    let Ok(name) = name else {
        return Err(course.blocked(Phase::Tls, format!("{host} is not a name that TLS can ask for")));
    };
    let config =
        configs.get(settings, own_host, alpn).map_err(|Unusable(reason)| course.blocked(Phase::Tls, reason))?;
    course.note(|| format!("for {}", name.to_str()));
    let connection = ClientConnection::new(config, name)
        .map_err(|error| course.blocked(Phase::Tls, format!("cannot begin a TLS handshake: {error}")))?;

    WITNESS.take();
    let deadline = course.deadline();
    let result = stream.secure(connection, deadline);
    let witness = WITNESS.take();

    course.met(session(stream.tls(), witness));
    result.map_err(|trouble| trouble.failure(course, Phase::Tls, peer))
}

/// What there is to know of a handshake, that failed or not.
fn session(connection: Option<&ClientConnection>, witness: Witness) -> Session {
    let cipher = |connection: &ClientConnection| {
        let suite = connection.negotiated_cipher_suite()?.suite();
        Some(suite.as_str().unwrap_or("unknown").replace("TLS13_", "TLS_"))
    };
    // On a resumed session nothing was verified; rustls remembers what it saw the first time.
    let remembered = || connection.and_then(|connection| connection.peer_certificates()).unwrap_or_default();
    Session {
        version: connection.and_then(|connection| connection.protocol_version()).and_then(version),
        cipher: connection.and_then(cipher),
        distrust: witness.distrust(),
        certificates: match witness.chain.is_empty() {
            true => remembered().iter().filter_map(Certificate::read).map(Arc::new).collect(),
            false => witness.chain,
        },
        certificate_wanted: witness.certificate_wanted,
        certificate_shown: witness.certificate_shown,
    }
}

/// Says goodbye where the handshake was all there was to say. A server of TLS 1.3 says what it thinks of our certificate, or of our
/// having none, only after the handshake: where it has asked for one, this waits for a sign of that, as a part of the phase `tls`.
///
/// # Errors
/// What it thinks of it, if it is nothing good.
pub fn part(stream: &mut Stream, peer: &dyn fmt::Display, course: &mut Course) -> Result<(), Failure> {
    stream.say_goodbye();
    let session = course.session.as_ref();
    let asked = session.filter(|session| session.certificate_wanted || session.certificate_shown);
    let Some(session) = asked.filter(|session| session.version == Some(Version::Tls13)) else { return Ok(()) };
    let which = if session.certificate_shown { "the one that it was shown" } else { "none" };
    stream.wait_for_consent(course.deadline()).map_err(|trouble| match trouble {
        // It has our side of the handshake, and is in no hurry: neither up nor down.
        Trouble::Late => {
            let asked = format!("{peer} asked for a client certificate and did not say within");
            let reason = format!("{asked} {} whether {which} will do", course.budget());
            course.blocked(Phase::Tls, reason)
        }
        trouble => trouble.after_handshake(course, peer),
    })
}

fn version(version: ProtocolVersion) -> Option<Version> {
    match version {
        ProtocolVersion::TLSv1_2 => Some(Version::Tls12),
        ProtocolVersion::TLSv1_3 => Some(Version::Tls13),
        _ => None,
    }
}

/// The failure that a TLS error is for a check in `phase`.
pub fn failure(course: &mut Course, phase: Phase, peer: &dyn fmt::Display, error: rustls::Error) -> Failure {
    use rustls::Error;
    let refused = course.session.as_ref().is_some_and(|session| session.certificate_wanted);
    match error {
        Error::InvalidCertificate(error) => {
            let reason = match &course.session {
                Some(session) if !session.distrust.is_empty() => session.distrust.join("; "),
                Some(session) => certificate_reason(&error, &session.certificates),
                None => certificate_reason(&error, &[]),
            };
            course.failed(phase, reason)
        }
        // TLS 1.3 lets the client finish before the server looks at its certificate, so the refusal comes as the answer.
        Error::AlertReceived(alert) if refused && alert_means_no_certificate(alert) => {
            course.failed(Phase::Tls, format!("{peer} asked for a client certificate; set `cert_file` and `key_file`"))
        }
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            course.failed(phase, format!("{peer} does not offer HTTP/1.1 over TLS"))
        }
        Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            course.failed(phase, format!("{peer} does not know the server name that was asked for"))
        }
        Error::AlertReceived(alert) if alert_means_our_certificate(alert) => {
            let alert = alert_name(alert);
            course.failed(Phase::Tls, format!("{peer} refused the client certificate in `cert_file`: {alert}"))
        }
        Error::AlertReceived(alert) => {
            course.failed(phase, format!("{peer} refused the TLS handshake: {}", alert_name(alert)))
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) if phase == Phase::Tls => {
            course.failed(phase, format!("TLS: {peer} does not speak TLS (answered in plain text)"))
        }
        Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13)
        | Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig) => {
            course.failed(phase, format!("TLS: {peer} speaks only versions older than 1.2"))
        }
        error => course.failed(phase, format!("TLS: {peer}: {error}")),
    }
}

/// Why the certificate that a server has just shown on this thread was refused, in words for people.
pub fn distrust(error: &CertificateError) -> String {
    let witness = WITNESS.take();
    match witness.wrong.is_empty() {
        true => certificate_reason(error, &witness.chain),
        false => witness.distrust().join("; "),
    }
}

fn alert_means_no_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::HandshakeFailure
            | AlertDescription::BadCertificate
            | AlertDescription::NoCertificate
            | AlertDescription::AccessDenied
    )
}

/// What a server says of a certificate is said of the client's: there is no other that it would look at.
fn alert_means_our_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
    )
}

/// `HandshakeFailure` as RFC 8446 spells it: `handshake_failure`.
pub fn alert_name(alert: AlertDescription) -> String {
    let letters: Vec<char> = format!("{alert:?}").chars().collect();
    let mut name = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let is_lower = |at: usize| letters.get(at).is_some_and(char::is_ascii_lowercase);
        // A word begins; abbreviations are one word.
        if letter.is_ascii_uppercase() && at > 0 && (is_lower(at - 1) || is_lower(at + 1)) {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// Why a certificate was refused, in words for people.
fn certificate_reason(error: &CertificateError, chain: &[Arc<Certificate>]) -> String {
    match error {
        CertificateError::ExpiredContext { time, not_after } => {
            let (ended, whose) = (moment(*not_after), whose(chain, |c| c.not_after == moment(*not_after)));
            format!("certificate{whose} expired {} ({} ago)", date(ended), days(moment(*time).since(ended)))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            let (begins, whose) = (moment(*not_before), whose(chain, |c| c.not_before == moment(*not_before)));
            format!("certificate{whose} not valid before {} (in {})", date(begins), days(begins.since(moment(*time))))
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            match names(presented).as_str() {
                "" => format!("certificate is for no name at all, not for {expected}"),
                names => format!("certificate is for {names}, not {expected}"),
            }
        }
        CertificateError::UnknownIssuer => match chain {
            [only] if only.subject == only.issuer => format!("certificate is self-signed: {}", only.subject),
            [only] => format!(
                "certificate is signed by an unknown authority: {} (the server sent no intermediate certificate)",
                only.issuer
            ),
            [.., last] => format!("certificate is signed by an unknown authority: {}", last.issuer),
            [] => "certificate is signed by an unknown authority".to_owned(),
        },
        CertificateError::Revoked => "certificate was revoked".to_owned(),
        CertificateError::BadSignature => "certificate has a wrong signature".to_owned(),
        CertificateError::Other(error) if format!("{error}").contains("CaUsedAsEndEntity") => match chain.first() {
            Some(own) if own.subject == own.issuer => format!("certificate is self-signed: {}", own.subject),
            _ => "certificate is that of an authority, not of a server".to_owned(),
        },
        error => format!("certificate is not valid: {error}"),
    }
}

/// The subject of the certificate that `is_it`, unless that is the server's own, which goes without saying.
fn whose(chain: &[Arc<Certificate>], is_it: impl Fn(&Certificate) -> bool) -> String {
    match chain.iter().position(|one| is_it(one)) {
        Some(0) | None => String::new(),
        Some(at) => format!(" of {}", chain[at].subject),
    }
}

/// A certificate may carry hundreds of names; a few show which one it is.
fn names(presented: &[String]) -> String {
    const SHOWN: usize = 3;
    // rustls presents `DnsName("a.example")` and `IpAddress(192.0.2.7)`.
    let bare = |name: &String| match name.split_once('(') {
        Some((_, inner)) => shown(inner.trim_end_matches(')').trim_matches('"').as_bytes()),
        None => shown(name.as_bytes()),
    };
    let mut listed = presented.iter().take(SHOWN).map(bare).collect::<Vec<_>>().join(", ");
    if presented.len() > SHOWN {
        listed.push_str(&format!(" and {} more", presented.len() - SHOWN));
    }
    listed
}

fn moment(time: UnixTime) -> Timestamp {
    Timestamp::from_micros(i64::try_from(time.as_secs()).unwrap_or(i64::MAX).saturating_mul(1_000_000))
}

/// `2026-01-02`.
pub fn date(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

fn days(span: std::time::Duration) -> String {
    match span.as_secs() / 86_400 {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_spelled_as_in_the_rfc() {
        for (alert, name) in [
            (AlertDescription::HandshakeFailure, "handshake_failure"),
            (AlertDescription::CertificateRequired, "certificate_required"),
            (AlertDescription::UnknownCA, "unknown_ca"),
            (AlertDescription::UnknownPSKIdentity, "unknown_psk_identity"),
        ] {
            assert_eq!(alert_name(alert), name);
        }
    }

    #[test]
    fn a_few_names_stand_for_many() {
        let presented: Vec<String> = (1..=5).map(|n| format!("DnsName(\"{n}.example\")")).collect();
        assert_eq!(names(&presented), "1.example, 2.example, 3.example and 2 more");
        assert_eq!(names(&["IpAddress(192.0.2.7)".to_owned()]), "192.0.2.7");
    }
}
