//! A private public-key infrastructure: authorities, and certificates of any age.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

/// From when until when, in days from now.
pub type Days = (i64, i64);

/// What nothing is wrong with: ends in 90 days.
pub const FINE: Days = (-30, 90);

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn root(name: &str) -> Self {
        Authority(CertifiedIssuer::self_signed(authority(name, (-3650, 3650)), KeyPair::generate().unwrap()).unwrap())
    }

    /// An intermediate.
    pub fn under(&self, name: &str, days: Days) -> Self {
        Authority(CertifiedIssuer::signed_by(authority(name, days), KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `name` (or an address), without the intermediates that lead to it.
    pub fn issue(&self, name: &str, days: Days) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf(name, days).signed_by(&key, &self.0).unwrap();
        Issued { chain: vec![certificate.der().clone()], pem: certificate.pem(), key }
    }
}

pub struct Issued {
    pub chain: Vec<CertificateDer<'static>>,
    pub pem: String,
    pub key: KeyPair,
}

impl Issued {
    pub fn self_signed(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf(name, FINE).self_signed(&key).unwrap();
        Issued { chain: vec![certificate.der().clone()], pem: certificate.pem(), key }
    }

    /// The same, sent together with the intermediate that signed it.
    pub fn with(mut self, intermediate: &Authority) -> Self {
        self.chain.push(intermediate.0.der().clone());
        self.pem.push_str(&intermediate.pem());
        self
    }

    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }
}

fn leaf(name: &str, days: Days) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    name_and_age(&mut params, name, days);
    params
}

fn authority(name: &str, days: Days) -> CertificateParams {
    let mut params = CertificateParams::default();
    name_and_age(&mut params, name, days);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn name_and_age(params: &mut CertificateParams, name: &str, (from, until): Days) {
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // Half a day more, so that a test that runs over midnight counts the same days.
    let day = |days| OffsetDateTime::now_utc() + Duration::days(days) + Duration::hours(12);
    params.not_before = day(from);
    params.not_after = day(until);
}
