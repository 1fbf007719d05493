//! `tls` checks: a connection and a TLS handshake over it, nothing else, and the certificates that came with it.
//!
//! The certificates are read and told also where they are refused, with every reason for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Outcome;
use super::certificates::ExpectTls;
use super::each::each;
use crate::net::{Course, Failure, Host, IpFamily, Net, TlsSettings, tls};

/// Where to shake hands, and what to expect.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The name or address to connect to.
    pub host: Host,
    /// Its port; never 0.
    pub port: u16,
    /// Which addresses of the name to take.
    pub ip: IpFamily,
    /// How.
    pub tls: Arc<TlsSettings>,
    /// A check that takes longer is degraded.
    pub under: Option<Duration>,
    /// What must hold of what the handshake tells.
    pub expect: ExpectTls,
}

impl Tls {
    /// A handshake with `host`, with nothing else said: what a check is whose config holds the place alone.
    pub fn to(host: Host, port: u16) -> Self {
        let expect = ExpectTls::default();
        Tls { host, port, ip: IpFamily::default(), tls: Arc::default(), under: None, expect }
    }
}

/// Shakes hands once; with each address where that is asked for.
pub fn run(tls: &Tls, net: &Net, deadline: Instant) -> Outcome {
    match tls.ip {
        IpFamily::Each => each(&tls.host, tls.port, net, deadline, |address, until| look(tls, &address, net, until)),
        _ => look(tls, &tls.host, net, deadline),
    }
}

/// Shakes hands at `place`.
fn look(tls: &Tls, place: &Host, net: &Net, deadline: Instant) -> Outcome {
    let mut course = net.course(deadline);
    let failure = shake_hands(tls, place, net, &mut course).err();
    tls.expect.outcome(failure, tls.under, net, course)
}

fn shake_hands(tls: &Tls, place: &Host, net: &Net, course: &mut Course) -> Result<(), Failure> {
    let mut stream = net.dial(place, tls.port, tls.ip, course)?;
    let peer = course.address.map(|address| address.to_string()).unwrap_or_default();
    let asked = tls::Asked { settings: &tls.tls, host: &tls.host, own_host: true, alpn: None };
    tls::secure(&mut stream, net.tls(), asked, &peer, course)?;
    tls::part(&mut stream, &peer, course)
}
