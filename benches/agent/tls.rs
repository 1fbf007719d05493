//! TLS for the target: a certificate of its own authority, and a server's side of the talk on a socket that never blocks.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, ServerConnection};

use crate::target::{ADDRESSES, address};

/// The server's side of one connection.
pub type Talk = Box<ServerConnection>;

/// Writes into `folder` an authority (`ca.pem`) and what it issued for all addresses of the target: ECDSA P-256, as most of the
/// web has.
pub fn issue(folder: &Path) -> io::Result<()> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let authority = CertifiedIssuer::self_signed(authority, key).map_err(io::Error::other)?;
    let names: Vec<String> = (0..ADDRESSES).map(|nth| address(nth).to_string()).collect();
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let own =
        CertificateParams::new(names).and_then(|own| own.signed_by(&key, &authority)).map_err(io::Error::other)?;
    std::fs::write(folder.join("ca.pem"), authority.pem())?;
    std::fs::write(folder.join("own.pem"), own.pem())?;
    std::fs::write(folder.join("own.key"), key.serialize_pem())
}

/// What a server has that shows the certificate in `folder`, and resumes no session.
pub fn config(folder: &Path) -> io::Result<Arc<ServerConfig>> {
    let own = CertificateDer::from_pem_file(folder.join("own.pem")).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(folder.join("own.key")).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![own], key))
        .map_err(io::Error::other)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// A connection that came.
pub fn begin(config: &Arc<ServerConfig>) -> io::Result<Talk> {
    ServerConnection::new(config.clone()).map(Box::new).map_err(io::Error::other)
}

/// Goes on with the handshake, and reads what there is of the request.
pub fn read(talk: &mut Talk, socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match talk.reader().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        if talk.read_tls(&mut Socket(socket))? == 0 {
            return Ok(0);
        }
        talk.process_new_packets().map_err(io::Error::other)?;
        flush(talk, socket)?;
    }
}

/// Writes `answer` and a goodbye.
pub fn answer(talk: &mut Talk, socket: &OwnedFd, answer: &[u8]) -> io::Result<()> {
    talk.writer().write_all(answer)?;
    talk.send_close_notify();
    flush(talk, socket)
}

/// What is small has room in the socket's buffer: it never blocks here.
fn flush(talk: &mut Talk, socket: &OwnedFd) -> io::Result<()> {
    while talk.wants_write() {
        talk.write_tls(&mut Socket(socket))?;
    }
    Ok(())
}

struct Socket<'a>(&'a OwnedFd);

impl io::Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.0, buffer)?)
    }
}

impl io::Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(self.0, bytes, rustix::net::SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
