//! Who the brokers and the clients of these tests are: an authority of its own, and certificates of it.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

/// Files in a folder: `ca.pem`, and for each name its `<name>.pem` (certificate) and `<name>.key` (PKCS 8).
pub struct Pki(PathBuf);

impl Pki {
    /// Makes an authority, a certificate for the broker, and one for each of `clients`.
    pub fn make(folder: &Path, clients: &[&str]) -> Self {
        fs::create_dir_all(folder).unwrap();
        let mut params = named("Pingeon tests", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let pki = Pki(folder.to_owned());
        fs::write(pki.ca(), authority.pem()).unwrap();
        let broker = ("broker", ["localhost", "127.0.0.1"].as_slice());
        for (name, addresses) in clients.iter().map(|name| (*name, [].as_slice())).chain([broker]) {
            let key = KeyPair::generate().unwrap();
            let certificate = named(name, addresses).signed_by(&key, &authority).unwrap();
            fs::write(pki.certificate(name), certificate.pem()).unwrap();
            fs::write(pki.key(name), key.serialize_pem()).unwrap();
        }
        // The broker wants its key and its chain in one file.
        let both =
            [pki.key("broker"), pki.certificate("broker")].map(|file| fs::read_to_string(file).unwrap()).concat();
        fs::write(pki.broker(), both).unwrap();
        pki
    }

    pub fn ca(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    /// Key and certificate of the broker.
    pub fn broker(&self) -> PathBuf {
        self.0.join("broker-both.pem")
    }

    pub fn certificate(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.pem"))
    }

    pub fn key(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.key"))
    }
}

fn named(name: &str, addresses: &[&str]) -> CertificateParams {
    let names: Vec<String> = addresses.iter().map(|address| (*address).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
