//! What many checks have in common is read once and kept once: regular expressions, TLS settings, PEM files.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::error::Complaint;
use super::walk::{At, Read};
use crate::check::Pattern;
use crate::check::http::Expect;
use crate::net::{Pem, TlsSettings, Verify};
use crate::secret::{Origin, Secret};

/// How large a secret may be, in bytes.
const SECRET_BYTES_MAX: u64 = 64 << 10;
/// How large a PEM file may be, in bytes: all of the world's authorities take a quarter of it.
const PEM_BYTES_MAX: u64 = 1 << 20;
/// How large a regular expression may be, compiled, in bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// What was read so far.
#[derive(Default)]
pub(super) struct Shared {
    regexes: RefCell<HashMap<String, Regex>>,
    pems: RefCell<HashMap<(PathBuf, Section), Pem>>,
    tls: RefCell<HashMap<TlsKey, Arc<TlsSettings>>>,
    /// What most checks expect.
    pub(super) expect: Arc<Expect>,
}

type TlsKey = (Option<PathBuf>, Option<String>, Option<(PathBuf, PathBuf)>, Verify, bool);

/// What a PEM file must hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Section {
    Certificates,
    Key,
}

/// A regular expression, of the dialect of the `regex` crate.
pub(super) fn regex(at: &At<'_>) -> Read<Pattern> {
    let given = at.expanded("a regular expression")?.secret();
    let regex = at.text("a regular expression", |text| {
        let mut regexes = at.reading.shared.regexes.borrow_mut();
        if let Some(regex) = regexes.get(text) {
            return Ok(regex.clone());
        }
        let regex = RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build().map_err(|error| {
            // The crate draws an arrow over several lines; the last says what is wrong.
            let error = error.to_string();
            let last = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Complaint::new(format!("is not a regular expression: {last}"))
        })?;
        regexes.insert(text.to_owned(), regex.clone());
        Ok(regex)
    })?;
    Ok(Pattern::new(regex, given))
}

/// The secret under `key`, or in the file that `key` + `_file` names.
pub(super) fn secret(mapping: &At<'_>, key: &str) -> Read<Option<Secret>> {
    let file_key = format!("{key}_file");
    let direct = mapping.read(key, |at| at.secret())?;
    let file = mapping.read(&file_key, |at| {
        let path = at.path_value()?;
        secret_in(path).map_err(|complaint| at.fail(complaint))
    })?;
    if direct.is_some() && file.is_some() {
        return Err(mapping.fail_key(&file_key, format!("`{key}` and `{file_key}` are both given")));
    }
    Ok(direct.or(file))
}

/// All that a text file of at most `most` bytes holds, as a secret.
pub(super) fn whole_file(path: PathBuf, most: u64) -> Result<Secret, Complaint> {
    let text = read_text(&path, most)?;
    match text.is_empty() {
        true => Err(Complaint::new(format!("the file `{}` is empty", path.display()))),
        false => Ok(Secret::new(text).from(Origin::File(path))),
    }
}

/// The secret that a file holds, without the newline at its end.
pub(super) fn secret_in(path: PathBuf) -> Result<Secret, Complaint> {
    let text = read_text(&path, SECRET_BYTES_MAX)?;
    let text = text.strip_suffix('\n').map_or(&*text, |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() {
        return Err(Complaint::new(format!("the file `{}` is empty", path.display())));
    }
    Ok(Secret::new(text).from(Origin::File(path)))
}

/// The same secret as its file has it now, where it came from one; as it was where that cannot be read.
pub fn read_again(secret: &Secret) -> Secret {
    let Some(Origin::File(path)) = secret.origin() else { return secret.clone() };
    secret_in(path.clone()).unwrap_or_else(|Complaint { what, .. }| {
        log::warn!("{what}; the secret that it held before is taken");
        secret.clone()
    })
}

/// The keys of TLS settings.
pub(super) const TLS_KEYS: &[&str] = &["ca_file", "server_name", "cert_file", "key_file", "verify", "resume"];

/// How to do TLS; equal settings are one and the same.
pub(super) fn tls(at: &At<'_>) -> Read<Arc<TlsSettings>> {
    at.mapping(TLS_KEYS)?;
    tls_of(at)
}

/// The same, where other keys stand beside.
pub(super) fn tls_of(at: &At<'_>) -> Read<Arc<TlsSettings>> {
    let ca = at.read("ca_file", |at| pem(at, Section::Certificates))?;
    let server_name =
        at.read("server_name", |at| at.text("a name", |text| super::targets::host(text).map(|_| text.to_owned())))?;
    let cert = at.read("cert_file", |at| pem(at, Section::Certificates))?;
    let key = at.read("key_file", |at| pem(at, Section::Key))?;
    let client = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => return Err(at.fail_key("cert_file", "a certificate needs a `key_file` beside it")),
        (None, Some(_)) => return Err(at.fail_key("key_file", "a key needs a `cert_file` beside it")),
    };
    let verify = match at.read("verify", |at| at.boolean())? {
        Some(false) => Verify::Nothing,
        _ => Verify::ChainAndName,
    };
    let resume = at.read("resume", |at| at.boolean())?.unwrap_or(false);
    Ok(at.reading.shared.tls_once(TlsSettings { ca, server_name, client, verify, resume }))
}

impl Shared {
    /// The settings, kept once.
    pub(super) fn tls_once(&self, settings: TlsSettings) -> Arc<TlsSettings> {
        let TlsSettings { ca, server_name, client, verify, resume } = &settings;
        let client = client.as_ref().map(|(cert, key)| (cert.path.clone(), key.path.clone()));
        let key = (ca.as_ref().map(|ca| ca.path.clone()), server_name.clone(), client, *verify, *resume);
        self.tls.borrow_mut().entry(key).or_insert_with(|| Arc::new(settings)).clone()
    }

    /// A PEM file, read once.
    pub(super) fn pem_once(&self, path: PathBuf, section: Section) -> Result<Pem, Complaint> {
        let key = (path, section);
        if let Some(pem) = self.pems.borrow().get(&key) {
            return Ok(pem.clone());
        }
        let content = read_text(&key.0, PEM_BYTES_MAX)?;
        check_pem(&content, section).map_err(|wrong| format!("the file `{}` {wrong}", key.0.display()))?;
        let pem = Pem { path: key.0.clone(), content: Secret::new(content) };
        self.pems.borrow_mut().insert(key, pem.clone());
        Ok(pem)
    }
}

fn pem(at: &At<'_>, section: Section) -> Read<Pem> {
    at.reading.shared.pem_once(at.path_value()?, section).map_err(|complaint| at.fail(complaint))
}

fn check_pem(content: &str, section: Section) -> Result<(), &'static str> {
    match section {
        Section::Certificates => {
            let mut some = false;
            for certificate in CertificateDer::pem_slice_iter(content.as_bytes()) {
                some |= certificate.map(|_| true).map_err(|_| "is not a PEM file: a section of it cannot be read")?;
            }
            some.then_some(()).ok_or("holds no certificate in PEM form (`-----BEGIN CERTIFICATE-----`)")
        }
        Section::Key => PrivateKeyDer::from_pem_slice(content.as_bytes())
            .map(|_| ())
            .map_err(|_| "holds no private key in PEM form (`-----BEGIN PRIVATE KEY-----`)"),
    }
}

/// All of a secret's or PEM file, which must be UTF-8 and no larger than `most` bytes.
fn read_text(path: &Path, most: u64) -> Result<String, Complaint> {
    String::from_utf8(read_bytes(path, most)?)
        .map_err(|_| Complaint::new(format!("the file `{}` is not UTF-8", path.display())))
}

/// All of a file, which must be no larger than `most` bytes.
pub(super) fn read_bytes(path: &Path, most: u64) -> Result<Vec<u8>, Complaint> {
    let shown = path.display();
    let failed = |error: std::io::Error| Complaint::new(format!("cannot read `{shown}`: {}", reason(&error)));
    // Looked at before it is opened: opening a pipe would wait for somebody to write to it.
    let kind = std::fs::metadata(path).map_err(failed)?;
    if !kind.is_file() {
        let what = if kind.is_dir() { "a directory" } else { "no regular file" };
        return Err(Complaint::new(format!("cannot read `{shown}`: it is {what}")));
    }
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(Complaint::new(format!("`{shown}` is larger than {}", super::quantities::size_text(most))));
    }
    Ok(bytes)
}

/// What an I/O error says, without its number.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
