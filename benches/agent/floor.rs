//! The least that the same checks can cost on this machine: sockets, rustls and threads that sleep until the next one is due. It
//! judges nothing, keeps nothing, and has no deadline. It verifies the chain each time, though, which the agent does once. What
//! machines differ in drops out of the agent's figure divided by its.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::target::address;

/// A check takes less than this, that of the target's delay included: so many at a time is what the pace asks for.
const TAKES_MAX: Duration = Duration::from_millis(100);
/// Threads beside those, for moments at which more run at once.
const THREADS_MORE: u128 = 14;

/// Asks for the path `/{checks}` of the target at `port` as often as the checks would, until standard input closes; over TLS
/// where `identity` is where its authority is.
///
/// # Errors
/// What the system refused.
pub fn run(port: u16, checks: usize, interval: Duration, identity: Option<&Path>) -> io::Result<()> {
    let tls = identity.map(trusting).transpose()?;
    let (begun, taken) = (Instant::now(), Arc::new(AtomicU32::new(0)));
    let pause = interval / u32::try_from(checks).unwrap_or(u32::MAX);
    for _ in 0..THREADS_MORE + TAKES_MAX.as_nanos() / pause.as_nanos().max(1) {
        let (tls, taken) = (tls.clone(), taken.clone());
        std::thread::spawn(move || {
            loop {
                let nth = taken.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep((begun + pause * nth).saturating_duration_since(Instant::now()));
                let answered = check(port, usize::try_from(nth).unwrap_or(0), checks, tls.clone());
                assert!(answered.as_ref().is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200 ")), "{answered:?}");
            }
        });
    }
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

fn trusting(identity: &Path) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(identity.join("ca.pem")).map_err(io::Error::other)?;
    roots.add(authority).map_err(io::Error::other)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn check(port: u16, nth: usize, path: usize, tls: Option<Arc<ClientConfig>>) -> io::Result<Vec<u8>> {
    let host = address(nth);
    let mut stream = TcpStream::connect((host, port))?;
    stream.set_nodelay(true)?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::with_capacity(1024);
    match tls {
        Some(tls) => {
            let name = ServerName::IpAddress(host.into());
            let mut stream = StreamOwned::new(ClientConnection::new(tls, name).map_err(io::Error::other)?, stream);
            stream.write_all(request.as_bytes())?;
            stream.read_to_end(&mut answer)?;
        }
        None => {
            stream.write_all(request.as_bytes())?;
            // The target closes only when we do.
            while !answer.ends_with(b"ok\n") {
                let mut part = [0; 1024];
                let read = stream.read(&mut part)?;
                answer.extend_from_slice(&part[..read]);
            }
        }
    }
    Ok(answer)
}
