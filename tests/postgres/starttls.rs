//! A `tcp` check that asks a real server for TLS (SSLRequest, as the manual's section "Message Flow" has it).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingeon::check::tcp::{Hex, Step, Tcp};
use pingeon::check::{self, Check, Kind, Outcome, Phase, Verdict};
use pingeon::clock::SystemClock;
use pingeon::net::{Host, IpFamily, Net, Pem, TlsSettings};
use pingeon::secret::Secret;

use crate::server::{Server, ours};

const SSL_REQUEST: &str = "00000008 04d2162f";

/// A message of no version that there is, after which a server closes.
const NONSENSE: &str = "00000008 00000000";

const LONG: Duration = Duration::from_secs(20);

/// Sends all of `sent` before it waits for the server's consent.
fn ask(server: &Server, ca: &str, sent: &[&'static str]) -> Outcome {
    let steps = sent.iter().map(|hex| Step::SendHex(Hex::parse(Secret::new(*hex)).unwrap()));
    let dialogue = steps.chain([Step::Expect("^S".parse().unwrap()), Step::StartTls]).collect();
    let ca = Some(Pem { path: "ca.pem".into(), content: Secret::new(ca) });
    let tls = Arc::new(TlsSettings { ca, ..TlsSettings::default() });
    let address: IpAddr = [127, 0, 0, 1].into();
    let kind = Kind::Tcp(Box::new(Tcp { dialogue, tls, ..Tcp::to(Host::Address(address), server.port()) }));
    let (label, target) = ("postgres".into(), "postgres".into());
    let check = Check { label, interval: LONG, timeout: LONG, confirm: Default::default(), target, kind };
    let net = Net::new(Arc::new(SystemClock), |_| None, Arc::new(move |_: &str, _: IpFamily| Ok(vec![address])));
    check::run(&check, &net, Instant::now() + LONG)
}

#[test]
fn a_server_that_has_tls_shows_its_certificate() {
    let ca = std::fs::read_to_string(ours().pki().ca()).unwrap();
    let outcome = ask(ours(), &ca, &[SSL_REQUEST]);
    assert_eq!((outcome.verdict, &outcome.reason), (Verdict::Up, &None), "{outcome:?}");
    assert_eq!((&outcome.result["received"], &outcome.result["tls"]["version"]), (&1.into(), &"1.3".into()));
    assert_eq!(outcome.result["tls"]["certificates"][0]["names"][1], "127.0.0.1");

    let stranger = rcgen::KeyPair::generate().unwrap();
    let stranger = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap().self_signed(&stranger).unwrap();
    let outcome = ask(ours(), &stranger.pem(), &[SSL_REQUEST]);
    assert_eq!((outcome.verdict, outcome.phase), (Verdict::Down, Some(Phase::Tls)), "{outcome:?}");
    assert!(outcome.reason.unwrap().contains("unknown authority"));
}

#[test]
fn a_server_that_has_none_says_so() {
    let server = Server::alone_with(&[("ssl", "off")]);
    // So that it ends by the server, and not by time.
    let outcome = ask(&server, "", &[SSL_REQUEST, NONSENSE]);
    assert_eq!((outcome.verdict, outcome.phase), (Verdict::Down, Some(Phase::Assert)));
    assert!(outcome.reason.as_ref().unwrap().starts_with("expected `^S`, got `N"), "{outcome:?}");
}
