//! rustls configurations by their settings.
//!
//! A configuration holds parsed roots and keys, which is far too much work for every check. One is made when a check first
//! needs it and kept for as long as a check has the settings. Checks with settings of equal content share one.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_native_certs::{CertificateResult, load_native_certs};

use super::certificate::Certificate;
use super::known::{Known, Verified};
use super::{WITNESS, moment};
use crate::clock::{Clock, Timestamp};
use crate::net::{Pem, TlsSettings, Verify};

/// Settings that cannot be used on this agent, and why. That is not the target's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable(pub String);

/// The configurations that are in use.
pub struct Configs {
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
    system_roots: OnceLock<Result<Arc<RootCertStore>, Unusable>>,
    certificates: Arc<Known>,
    made: Mutex<HashMap<(usize, bool, Alpn), Made>>,
}

/// The protocol to offer (RFC 7301), if the one that is spoken has a name there.
pub type Alpn = Option<&'static [u8]>;

/// The weak pointer keeps the address from being used again for other settings, for as long as the entry lives.
type Made = (Weak<TlsSettings>, Arc<ClientConfig>);

impl Configs {
    /// No configuration yet; certificates are judged by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let mut provider = rustls::crypto::ring::default_provider();
        // AES-128 first, as browsers and Go have it: its handshakes hash with SHA-256, for which CPUs have instructions. Servers
        // mostly take what the client names first.
        provider
            .cipher_suites
            .sort_by_key(|suite| !suite.suite().as_str().is_some_and(|name| name.contains("AES_128")));
        Configs {
            provider: Arc::new(provider),
            clock,
            system_roots: OnceLock::new(),
            certificates: Arc::default(),
            made: Mutex::default(),
        }
    }

    /// The configuration for `settings`; without the client's certificate unless `show_client`, and offering `alpn`.
    ///
    /// # Errors
    /// Why there cannot be one on this agent.
    pub fn get(
        &self,
        settings: &Arc<TlsSettings>,
        show_client: bool,
        alpn: Alpn,
    ) -> Result<Arc<ClientConfig>, Unusable> {
        let show_client = show_client && settings.client.is_some();
        let key = (Arc::as_ptr(settings) as usize, show_client, alpn);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, config)) = made.get(&key) {
            return Ok(config.clone());
        }
        // Something new: the moment to forget what no check has any more (after a reload), and to look for its like.
        made.retain(|_, (settings, _)| settings.strong_count() > 0);
        let like = made.iter().find(|((_, shows, offers), (other, _))| {
            (*shows, *offers) == (show_client, alpn)
                && other.upgrade().is_some_and(|other| same(&other, settings, show_client))
        });
        let config = match like {
            Some((_, (_, config))) => config.clone(),
            None => Arc::new(self.make(settings, show_client, alpn)?),
        };
        made.insert(key, (Arc::downgrade(settings), config.clone()));
        Ok(config)
    }

    fn make(&self, settings: &TlsSettings, show_client: bool, alpn: Alpn) -> Result<ClientConfig, Unusable> {
        let builder = ClientConfig::builder_with_details(self.provider.clone(), Arc::new(Time(self.clock.clone())))
            .with_safe_default_protocol_versions()
            .map_err(|error| Unusable(format!("TLS cannot be set up: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(self.verifier(settings)?));
        let own = match settings.client.as_ref().filter(|_| show_client) {
            Some((chain, key)) => {
                let own = CertifiedKey::from_der(certificates(chain)?, private_key(key)?, &self.provider)
                    .map_err(|error| Unusable(format!("the client certificate cannot be used: {error}")))?;
                Some(Arc::new(own))
            }
            None => None,
        };
        let mut config = builder.with_client_cert_resolver(Arc::new(OurCertificate(own)));
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        if !settings.resume {
            config.resumption = Resumption::disabled();
        }
        Ok(config)
    }

    fn verifier(&self, settings: &TlsSettings) -> Result<Verifier, Unusable> {
        let (provider, known) = (self.provider.clone(), self.certificates.clone());
        if settings.verify == Verify::Nothing {
            return Ok(Verifier { provider, known, trust: None });
        }
        let (roots, named) = match &settings.ca {
            Some(pem) => (roots(pem)?, certificates(pem)?),
            None => (self.system_roots.get_or_init(|| system_roots(load_native_certs())).clone()?, Vec::new()),
        };
        let (name, verified) = (settings.verify == Verify::ChainAndName, Verified::default());
        let trust = Trust { roots, named, name, verified };
        Ok(Verifier { provider, known, trust: Some(trust) })
    }
}

impl fmt::Debug for Configs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configs").finish_non_exhaustive()
    }
}

/// Whether one configuration serves both. The server's name is asked for with each connection.
fn same(one: &TlsSettings, other: &TlsSettings, show_client: bool) -> bool {
    let pem = |one: &Pem, other: &Pem| one.content == other.content;
    let client = || match (&one.client, &other.client) {
        (Some(one), Some(other)) => pem(&one.0, &other.0) && pem(&one.1, &other.1),
        (one, other) => one.is_none() && other.is_none(),
    };
    let ca = match (&one.ca, &other.ca) {
        (Some(one), Some(other)) => pem(one, other),
        (one, other) => one.is_none() && other.is_none(),
    };
    one.verify == other.verify && one.resume == other.resume && ca && (!show_client || client())
}

/// The roots that the system has.
fn system_roots(found: CertificateResult) -> Result<Arc<RootCertStore>, Unusable> {
    let mut store = RootCertStore::empty();
    // Systems carry a few roots that no verifier takes; the others still count.
    let (added, _) = store.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(Arc::new(store));
    }
    let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
    Err(Unusable(format!("no CA certificates on this host{why}; install `ca-certificates` or set `ca_file`")))
}

fn roots(pem: &Pem) -> Result<Arc<RootCertStore>, Unusable> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem)? {
        store
            .add(certificate)
            .map_err(|error| Unusable(format!("`{}` cannot be used as a CA: {error}", pem.path.display())))?;
    }
    Ok(Arc::new(store))
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let bytes = pem.content.expose().as_bytes();
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(Unusable(format!("`{}` holds no certificate", pem.path.display()))),
        Err(error) => Err(Unusable(format!("`{}` is not PEM: {error}", pem.path.display()))),
    }
}

fn private_key(pem: &Pem) -> Result<PrivateKeyDer<'static>, Unusable> {
    PrivateKeyDer::from_pem_slice(pem.content.expose().as_bytes())
        .map_err(|error| Unusable(format!("`{}` holds no private key: {error}", pem.path.display())))
}

/// Takes note of the chain that the server shows, then verifies it, if it is to be verified, and takes note of all that is
/// wrong with it.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    known: Arc<Known>,
    trust: Option<Trust>,
}

/// Whom to take for the server.
#[derive(Debug)]
struct Trust {
    roots: Arc<RootCertStore>,
    /// Certificates that the user has named: a server that shows one of them is trusted though no authority has signed it.
    named: Vec<CertificateDer<'static>>,
    /// Whether the certificate must be for the name that was asked for.
    name: bool,
    /// Chains that were found to be good, by these roots.
    verified: Verified,
}

impl Trust {
    /// All that is wrong with the server's own certificate: with its chain, which was `read`, and with its name.
    fn verify(
        &self,
        (own, rest): (&CertificateDer<'_>, &[CertificateDer<'_>]),
        read: &[Arc<Certificate>],
        name: &ServerName<'_>,
        now: UnixTime,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Vec<rustls::Error> {
        let parsed = match ParsedCertificate::try_from(own) {
            Ok(parsed) => parsed,
            Err(error) => return vec![error],
        };
        let signed = || verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, rest, now, algorithms.all);
        let chain = match self.named.contains(own) {
            true => in_its_time(Certificate::read(own).as_ref(), now),
            false => self.verified.unless_known(std::iter::once(own).chain(rest), read, moment(now), signed),
        };
        let name = if self.name { verify_server_name(&parsed, name) } else { Ok(()) };
        [chain, name].into_iter().filter_map(Result::err).collect()
    }
}

/// What is otherwise verified with the chain.
fn in_its_time(read: Option<&Certificate>, time: UnixTime) -> Result<(), rustls::Error> {
    let Some(read) = read else { return Err(CertificateError::BadEncoding.into()) };
    let moment = |at: Timestamp| UnixTime::since_unix_epoch(Duration::from_millis(at.as_millis()));
    let (not_before, not_after) = (moment(read.not_before), moment(read.not_after));
    if time < not_before {
        return Err(CertificateError::NotValidYetContext { time, not_before }.into());
    }
    if time > not_after { Err(CertificateError::ExpiredContext { time, not_after }.into()) } else { Ok(()) }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let algorithms = self.provider.signature_verification_algorithms;
        let read: Vec<_> = std::iter::once(own).chain(rest).filter_map(|one| self.known.read(one)).collect();
        let verify = |trust: &Trust| trust.verify((own, rest), &read, name, now, algorithms);
        let wrong = self.trust.as_ref().map(verify).unwrap_or_default();
        let refused = wrong.first().cloned();
        WITNESS.with_borrow_mut(|witness| {
            witness.chain = read;
            witness.wrong = wrong;
        });
        refused.map_or_else(|| Ok(ServerCertVerified::assertion()), Err)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate to show, if there is one. Takes note that it was asked for.
#[derive(Debug)]
struct OurCertificate(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for OurCertificate {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        WITNESS.with_borrow_mut(|witness| match self.0 {
            Some(_) => witness.certificate_shown = true,
            None => witness.certificate_wanted = true,
        });
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        // Otherwise rustls does not ask.
        true
    }
}

/// rustls asks the same clock as everything else.
struct Time(Arc<dyn Clock>);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let since_epoch = Duration::from_millis(self.0.now().wall.as_millis());
        Some(UnixTime::since_unix_epoch(since_epoch))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Time")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn settings(resume: bool) -> Arc<TlsSettings> {
        Arc::new(TlsSettings { verify: Verify::Nothing, resume, ..TlsSettings::default() })
    }

    #[test]
    fn a_host_without_roots_is_told_what_to_do() {
        let Err(Unusable(reason)) = system_roots(CertificateResult::default()) else { panic!("there are none") };
        assert_eq!(reason, "no CA certificates on this host; install `ca-certificates` or set `ca_file`");
    }

    #[test]
    fn settings_of_equal_content_share_a_configuration_and_what_nobody_has_is_forgotten() {
        let configs = Configs::new(Arc::new(SystemClock));
        let (one, like, other) = (settings(false), settings(false), settings(true));
        let get = |settings: &Arc<TlsSettings>| configs.get(settings, true, None).unwrap();
        assert!(Arc::ptr_eq(&get(&one), &get(&like)));
        assert!(!Arc::ptr_eq(&get(&one), &get(&other)));
        drop((like, other));
        get(&settings(false));
        assert_eq!(configs.made.lock().unwrap().len(), 2, "the first one, and the newest");
    }

    #[test]
    fn a_named_certificate_is_trusted_in_its_time_and_for_its_name() {
        let (key, mut params) =
            (rcgen::KeyPair::generate().unwrap(), rcgen::CertificateParams::new(["a.example".into()]).unwrap());
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        let own = params.self_signed(&key).unwrap().der().clone();
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let at =
            |time: &str| UnixTime::since_unix_epoch(Duration::from_millis(Timestamp::parse(time).unwrap().as_millis()));
        let (now, before, after) = (at("2026-06-01T00:00:00Z"), at("2025-12-31T00:00:00Z"), at("2027-01-02T00:00:00Z"));
        for (is_named, name, host, time, wrong) in [
            (true, true, "a.example", now, &[][..]),
            (true, false, "b.example", now, &[]),
            (true, true, "b.example", now, &["NotValidForName"]),
            (true, false, "a.example", before, &["NotValidYet"]),
            (true, false, "a.example", after, &["Expired"]),
            (true, true, "b.example", after, &["Expired", "NotValidForName"]),
            (false, false, "a.example", now, &["CaUsedAsEndEntity"]),
        ] {
            let mut roots = RootCertStore::empty();
            roots.add(own.clone()).unwrap();
            let named = is_named.then(|| own.clone()).into_iter().collect();
            let trust = Trust { roots: Arc::new(roots), named, name, verified: Verified::default() };
            let said = trust.verify((&own, &[]), &[], &ServerName::try_from(host).unwrap(), time, algorithms);
            assert_eq!(said.len(), wrong.len(), "{host} {time:?}: {said:?}, not {wrong:?}");
            for (said, wrong) in said.iter().zip(wrong) {
                assert!(format!("{said:?}").contains(wrong), "{host} {time:?}: {said:?}, not {wrong:?}");
            }
        }
    }

    #[test]
    fn a_chain_that_was_verified_is_still_held_to_its_time_its_name_and_its_bytes() {
        let mut authority = rcgen::CertificateParams::default();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        (authority.not_before, authority.not_after) =
            (rcgen::date_time_ymd(2025, 1, 1), rcgen::date_time_ymd(2030, 1, 1));
        let authority = rcgen::CertifiedIssuer::self_signed(authority, rcgen::KeyPair::generate().unwrap()).unwrap();
        let mut own = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
        (own.not_before, own.not_after) = (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2027, 1, 1));
        let own = own.signed_by(&rcgen::KeyPair::generate().unwrap(), &authority).unwrap().der().clone();
        // The signature is at the end.
        let mut forged = own.to_vec();
        *forged.last_mut().unwrap() ^= 1;
        let forged = CertificateDer::from(forged);

        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let trust = Trust { roots: Arc::new(roots), named: Vec::new(), name: true, verified: Verified::default() };
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        for (own, host, time, wrong) in [
            (&own, "a.example", "2026-06-01T00:00:00Z", ""),
            (&own, "a.example", "2026-06-02T00:00:00Z", ""),
            (&own, "b.example", "2026-06-02T00:00:00Z", "NotValidForName"),
            (&own, "a.example", "2025-12-31T23:59:59Z", "NotValidYet"),
            (&own, "a.example", "2027-01-01T00:00:01Z", "Expired"),
            (&forged, "a.example", "2026-06-02T00:00:00Z", "BadSignature"),
            (&own, "a.example", "2027-01-01T00:00:00Z", ""),
        ] {
            let now = Duration::from_millis(Timestamp::parse(time).unwrap().as_millis());
            let (now, name) = (UnixTime::since_unix_epoch(now), ServerName::try_from(host).unwrap());
            let read: Vec<_> = Certificate::read(own).map(Arc::new).into_iter().collect();
            let said = trust.verify((own, &[]), &read, &name, now, algorithms);
            assert_eq!(said.is_empty(), wrong.is_empty(), "{time}: {said:?}");
            assert!(format!("{said:?}").contains(wrong), "{time}: {said:?}, not {wrong}");
        }
        // What came with it is a part of what was verified.
        let known = trust.verified.len();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_780_000_000));
        let read: Vec<_> = [&own, authority.der()].into_iter().filter_map(Certificate::read).map(Arc::new).collect();
        let name = ServerName::try_from("a.example").unwrap();
        assert!(trust.verify((&own, &[authority.der().clone()]), &read, &name, now, algorithms).is_empty());
        assert_eq!(trust.verified.len(), known + 1);
    }

    #[test]
    fn what_is_offered_is_what_is_spoken() {
        let (configs, settings) = (Configs::new(Arc::new(SystemClock)), settings(false));
        for offered in [Some(&b"http/1.1"[..]), None] {
            let config = configs.get(&settings, true, offered).unwrap();
            assert_eq!(config.alpn_protocols, offered.iter().map(|name| name.to_vec()).collect::<Vec<_>>());
        }
    }
}
