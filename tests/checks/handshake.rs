//! TLS alone: the handshake, and the certificates that come with it.

use std::sync::Arc;
use std::time::Duration;

use pingeon::check::Outcome;
use pingeon::check::Phase::{Assert, Connect, Resolve, Tls as InTls};
use pingeon::check::Verdict::{Degraded, Down, Unknown, Up};
use pingeon::check::certificates::ExpectTls;
use pingeon::check::http::Text;
use pingeon::check::tls::Tls;
use pingeon::net::tls::{Certificate, Pin, Version};
use pingeon::net::{Host, TlsSettings, Verify};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use crate::pki::{Authority, FINE, Issued};
use crate::secure::{ANSWER, BOTH, days, pem, serve_tls};
use crate::servers::*;
use crate::table::*;

const NAME: &str = "local.example";

/// A handshake with `local.example` that trusts `authority`.
fn trusting(authority: &Authority, port: u16) -> Tls {
    let tls = TlsSettings { ca: Some(pem("ca.pem", &authority.pem())), ..TlsSettings::default() };
    Tls { tls: Arc::new(tls), ..Tls::to(Host::Name(NAME.to_owned()), port) }
}

fn set(mut tls: Tls, change: impl FnOnce(&mut TlsSettings)) -> Tls {
    change(Arc::make_mut(&mut tls.tls));
    tls
}

fn expecting(tls: Tls, change: impl FnOnce(&mut ExpectTls)) -> Tls {
    let mut expect = tls.expect.clone();
    change(&mut expect);
    Tls { expect, ..tls }
}

fn shows(issued: Issued) -> u16 {
    serve_tls(issued, BOTH, None, ANSWER)
}

/// The pin of the certificate at `place` in a chain.
fn pin(issued: &Issued, place: usize) -> Pin {
    Certificate::read(&issued.chain[place]).unwrap().pin
}

fn certificate(outcome: &Outcome, place: usize) -> &serde_json::Value {
    &outcome.result["tls"]["certificates"][place]
}

fn distrust(outcome: &Outcome) -> usize {
    outcome.result["tls"]["distrust"].as_array().map_or(0, Vec::len)
}

#[test]
#[rustfmt::skip]
fn certificates() {
    let root = Authority::root("Test Root");
    let intermediate = root.under("Test Intermediate", FINE);
    let ends_first = root.under("Ends First", (-300, 10));
    let ended = root.under("Ended", (-300, -3));
    let stranger = Authority::root("Stranger");
    let plain = |issued: Issued| trusting(&root, shows(issued));
    let unverified = |issued: Issued| set(plain(issued), |tls| tls.verify = Verify::Nothing);
    let limit = |tls: Tls| expecting(tls, |expect| expect.certificate_days = Some(14));
    run(vec![
        case("fine", plain(root.issue(NAME, FINE)), Up, None, "").also(|outcome| {
            let tls = &outcome.result["tls"];
            assert_eq!((&tls["version"], days(outcome), distrust(outcome)), (&"1.3".into(), 90, 0));
            assert!(tls["cipher"].as_str().unwrap().starts_with("TLS_"), "{tls}");
            assert!(outcome.phases.resolve.is_some() && outcome.phases.connect.is_some() && outcome.phases.tls.is_some());
            assert!(outcome.phases.send.is_none() && outcome.phases.first_byte.is_none());
            let own = certificate(outcome, 0);
            assert_eq!((&own["subject"], &own["issuer"], &own["names"][0]), (&"CN=local.example".into(), &"CN=Test Root".into(), &NAME.into()));
            assert_eq!((own["pin"].as_str().unwrap().len(), own["not_after"].as_str().unwrap().len()), (44, 27));
            assert!(outcome.result["address"].as_str().unwrap().starts_with("127.0.0.1:"));
        }),
        case("TLS 1.2 only", trusting(&root, serve_tls(root.issue(NAME, FINE), &[&TLS12], None, ANSWER)), Up, None, "").also(|outcome| {
            assert_eq!((&outcome.result["tls"]["version"], days(outcome)), (&"1.2".into(), 90));
        }),
        case("with an intermediate", plain(intermediate.issue(NAME, FINE).with(&intermediate)), Up, None, "").also(|outcome| {
            assert_eq!(certificate(outcome, 1)["subject"], "CN=Test Intermediate");
            assert!(certificate(outcome, 1).get("pin").is_none() && certificate(outcome, 2).is_null());
        }),
        case("expired", plain(root.issue(NAME, (-30, -3))), Down, Some(InTls), "certificate expired 20").also(|outcome| {
            assert_eq!((days(outcome), distrust(outcome)), (-3, 1));
            assert_eq!(certificate(outcome, 0)["issuer"], "CN=Test Root");
            // How far it came is told, too.
            assert_eq!(outcome.result["tls"]["version"], "1.3");
        }),
        case("expired, TLS 1.2", trusting(&root, serve_tls(root.issue(NAME, (-30, -3)), &[&TLS12], None, ANSWER)), Down, Some(InTls), "certificate expired 20").also(|outcome| {
            assert_eq!((&outcome.result["tls"]["version"], days(outcome)), (&"1.2".into(), -3));
        }),
        case("not yet valid", plain(root.issue(NAME, (5, 90))), Down, Some(InTls), "certificate not valid before 20"),
        case("wrong name", plain(root.issue("a.example", FINE)), Down, Some(InTls), "certificate is for a.example, not local.example").also(|outcome| {
            assert_eq!(certificate(outcome, 0)["names"], serde_json::json!(["a.example"]));
        }),
        case("wrong name and expired", plain(root.issue("a.example", (-30, -3))), Down, Some(InTls), "(2 days ago); certificate is for a.example, not local.example").also(|outcome| {
            assert_eq!(distrust(outcome), 2);
        }),
        case("unknown authority", plain(stranger.issue(NAME, FINE)), Down, Some(InTls), "certificate is signed by an unknown authority: CN=Stranger").also(|outcome| {
            assert_eq!((days(outcome), distrust(outcome)), (90, 1));
        }),
        case("self-signed", plain(Issued::self_signed(NAME)), Down, Some(InTls), "certificate is self-signed: CN=local.example"),
        case("self-signed and wrong name", plain(Issued::self_signed("a.example")), Down, Some(InTls), "certificate is self-signed: CN=a.example; certificate is for a.example, not"),
        case("missing intermediate", plain(intermediate.issue(NAME, FINE)), Down, Some(InTls), "(the server sent no intermediate certificate)"),
        case("intermediate expired", plain(ended.issue(NAME, FINE).with(&ended)), Down, Some(InTls), "certificate of CN=Ended expired").also(|outcome| assert_eq!(days(outcome), -3)),
        case("intermediate ends first", plain(ends_first.issue(NAME, FINE).with(&ends_first)), Up, None, "").also(|outcome| assert_eq!(days(outcome), 10)),
        case("fewer days than wanted", limit(plain(ends_first.issue(NAME, FINE).with(&ends_first))), Degraded, None, "certificate CN=Ends First ends 20"),
        case("days enough", limit(plain(root.issue(NAME, FINE))), Up, None, "").also(|outcome| {
            assert!(outcome.assertions.len() == 1 && outcome.assertions[0].what == "certificate_days", "{:?}", outcome.assertions);
        }),
        case("days of one that is refused", limit(plain(root.issue(NAME, (-30, -3)))), Down, Some(InTls), "certificate expired").also(|outcome| {
            assert!(outcome.assertions.len() == 1 && !outcome.assertions[0].held, "{:?}", outcome.assertions);
        }),
        case("unverified, expired", unverified(root.issue(NAME, (-30, -3))), Up, None, "").also(|outcome| assert_eq!((days(outcome), distrust(outcome)), (-3, 0))),
        case("unverified, expired, with a limit", limit(unverified(root.issue(NAME, (-30, -3)))), Degraded, None, "(in -3 days)"),
        case("other name asked for", set(plain(root.issue("a.example", FINE)), |tls| tls.server_name = Some("a.example".to_owned())), Up, None, ""),
        case("an address", Tls { host: Host::Address([127, 0, 0, 1].into()), ..plain(root.issue("127.0.0.1", FINE)) }, Up, None, "").also(|outcome| {
            assert!(outcome.phases.resolve.is_none() && certificate(outcome, 0)["names"][0] == "127.0.0.1");
        }),
        case("an address that it is not for", Tls { host: Host::Address([127, 0, 0, 1].into()), ..plain(root.issue(NAME, FINE)) }, Down, Some(InTls), "certificate is for local.example, not 127.0.0.1"),
        case("a certificate that is none", trusting(&root, shows_garbage()), Down, Some(InTls), "certificate is not valid: "),
        case("ca that is none", set(plain(root.issue(NAME, FINE)), |tls| tls.ca = Some(pem("ca.pem", "nothing"))), Unknown, Some(InTls), "`ca.pem` holds no certificate"),
    ]);
}

/// A server whose certificate is none.
fn shows_garbage() -> u16 {
    #[derive(Debug)]
    struct Garbage(Arc<CertifiedKey>);
    impl ResolvesServerCert for Garbage {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(self.0.clone())
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = provider.key_provider.load_private_key(Issued::self_signed(NAME).private_key()).unwrap();
    let garbage = Arc::new(CertifiedKey::new(vec![b"garbage".to_vec().into()], key));
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_cert_resolver(Arc::new(Garbage(garbage))));
    serve_with(move |mut stream| {
        let mut tls = ServerConnection::new(config.clone()).unwrap();
        while tls.complete_io(&mut stream).is_ok() {}
    })
}

#[test]
#[rustfmt::skip]
fn expectations() {
    let root = Authority::root("Test Root");
    let intermediate = root.under("Test Intermediate", FINE);
    let speaks = |versions| trusting(&root, serve_tls(root.issue(NAME, FINE), versions, None, ANSWER));
    let at_least = |tls: Tls, version| expecting(tls, |expect| expect.version_min = Some(version));
    let other = pin(&Issued::self_signed(NAME), 0);
    let pinned = |pins: fn(&Issued, Pin) -> Vec<Pin>| {
        let issued = intermediate.issue(NAME, FINE).with(&intermediate);
        let pins = pins(&issued, other);
        expecting(trusting(&root, shows(issued)), |expect| expect.pins = pins)
    };
    let issuer = |text: Text| expecting(speaks(BOTH), |expect| expect.issuer = Some(text));
    let refused = expecting(trusting(&root, shows(root.issue("a.example", FINE))), |expect| expect.pins = vec![other]);
    run(vec![
        case("as new as wanted", at_least(speaks(BOTH), Version::Tls13), Up, None, "").also(|outcome| {
            let one = &outcome.assertions[0];
            assert_eq!((&*one.what, &*one.expected, &*one.got), ("tls_version_min", "at least 1.3", "1.3"));
        }),
        case("newer than wanted", at_least(speaks(BOTH), Version::Tls12), Up, None, ""),
        case("as old as may be", at_least(speaks(&[&TLS12]), Version::Tls12), Up, None, ""),
        case("older than wanted", at_least(speaks(&[&TLS12]), Version::Tls13), Down, Some(Assert), "TLS 1.2 was spoken, expected 1.3 or newer"),
        case("pin", pinned(|issued, _| vec![pin(issued, 0)]), Up, None, ""),
        case("one of two pins", pinned(|issued, other| vec![other, pin(issued, 0)]), Up, None, ""),
        case("other pin", pinned(|_, other| vec![other]), Down, Some(Assert), "certificate CN=local.example has the pin "),
        case("pin of the intermediate", pinned(|issued, _| vec![pin(issued, 1)]), Down, Some(Assert), "has the pin "),
        case("pin, unverified", set(pinned(|issued, _| vec![pin(issued, 0)]), |tls| tls.ca = None).then_unverified(), Up, None, ""),
        case("other pin, unverified", pinned(|_, other| vec![other]).then_unverified(), Down, Some(Assert), "has the pin "),
        case("other pin and other name", refused, Down, Some(InTls), "certificate is for a.example").also(|outcome| {
            assert!(outcome.assertions.len() == 1 && !outcome.assertions[0].held, "{:?}", outcome.assertions);
        }),
        case("issuer", issuer(contains("Test Root")), Up, None, ""),
        case("issuer by a pattern", issuer(matches("^CN=Test (Root|Other)$")), Up, None, ""),
        case("other issuer", issuer(contains("Let's Encrypt")), Down, Some(Assert), "issuer of CN=local.example does not contain `Let's Encrypt`"),
        case("slow", Tls { under: Some(Duration::from_nanos(1)), ..speaks(BOTH) }, Degraded, None, "expected at most 0 µs"),
        case("slow, and the wrong issuer", Tls { under: Some(Duration::from_nanos(1)), ..issuer(contains("Let's Encrypt")) }, Down, Some(Assert), "issuer of CN=local.example"),
    ]);
}

trait Unverified {
    fn then_unverified(self) -> Tls;
}

impl Unverified for Tls {
    fn then_unverified(self) -> Tls {
        set(self, |tls| tls.verify = Verify::Nothing)
    }
}

#[test]
#[rustfmt::skip]
fn client_certificates() {
    let root = Authority::root("Test Root");
    let (clients, strangers) = (Authority::root("Clients"), Authority::root("Strangers"));
    let shown = |authority: &Authority| {
        let me = authority.issue("probe", FINE);
        Some((pem("me.pem", &me.pem), pem("me.key", &me.key.serialize_pem())))
    };
    let wants = |versions, client| {
        let port = serve_tls(root.issue(NAME, FINE), versions, Some(&clients), ANSWER);
        set(trusting(&root, port), |tls| tls.client = client)
    };
    let asks = |tickets, hangs| trusting(&root, asks_in_passing(&root, &clients, tickets, hangs));
    run(vec![
        case("wanted, TLS 1.3", wants(&[&TLS13], None), Down, Some(InTls), "asked for a client certificate; set `cert_file` and `key_file`"),
        case("wanted, TLS 1.2", wants(&[&TLS12], None), Down, Some(InTls), "asked for a client certificate; set `cert_file` and `key_file`"),
        case("given, TLS 1.3", wants(&[&TLS13], shown(&clients)), Up, None, ""),
        case("given, TLS 1.2", wants(&[&TLS12], shown(&clients)), Up, None, ""),
        case("a stranger's, TLS 1.3", wants(&[&TLS13], shown(&strangers)), Down, Some(InTls), "refused the client certificate in `cert_file`: "),
        case("a stranger's, TLS 1.2", wants(&[&TLS12], shown(&strangers)), Down, Some(InTls), "refused the client certificate in `cert_file`: "),
        case("not wanted", set(trusting(&root, shows(root.issue(NAME, FINE))), |tls| tls.client = shown(&clients)), Up, None, ""),
        case("asked for in passing, with tickets", asks(2, true), Up, None, ""),
        case("asked for in passing, closes", asks(0, false), Up, None, ""),
        case("asked for, and then silence", asks(0, true), Unknown, Some(InTls), "asked for a client certificate and did not say within 300 ms whether none will do").within(SHORT),
        case("key that is none", wants(BOTH, Some((pem("me.pem", &clients.issue("probe", FINE).pem), pem("me.key", "nothing")))), Unknown, Some(InTls), "`me.key` holds no private key"),
        case("key of another", wants(BOTH, Some((pem("me.pem", &clients.issue("probe", FINE).pem), pem("me.key", &clients.issue("other", FINE).key.serialize_pem())))), Unknown, Some(InTls), "the client certificate cannot be used"),
    ]);
}

/// A server that asks for a certificate and does without; it sends `tickets`, and closes after a goodbye unless it `hangs`.
fn asks_in_passing(root: &Authority, clients: &Authority, tickets: usize, hangs: bool) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(rustls::pki_types::pem::PemObject::from_pem_slice(clients.pem().as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let verifier = verifier.allow_unauthenticated().build().unwrap();
    let issued = root.issue(NAME, FINE);
    let key = issued.private_key();
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
    let mut config = config.with_client_cert_verifier(verifier).with_single_cert(issued.chain, key).unwrap();
    config.send_tls13_tickets = tickets;
    let config = Arc::new(config);
    serve_with(move |mut stream| {
        let mut tls = ServerConnection::new(config.clone()).unwrap();
        while tls.is_handshaking() && tls.complete_io(&mut stream).is_ok() {}
        if hangs {
            perform(&[Do::Hang, Do::Freeze], &mut stream);
        }
    })
}

#[test]
#[rustfmt::skip]
fn handshakes() {
    let root = Authority::root("Test Root");
    let from = |steps| trusting(&root, serve(steps));
    let named = |name: &str| Tls { host: Host::Name(name.to_owned()), ..trusting(&root, 1) };
    // A handshake record of 16 KiB, of which one byte comes at a time.
    let endless = [&[0x16, 3, 3, 0x40, 0, 2, 0, 0x3f, 0xfc][..], &[3; 100]].concat();
    run(vec![
        case("no such name", named("nowhere.example"), Down, Some(Resolve), "no such name: `nowhere.example`").also(|outcome| {
            assert!(outcome.phases.connect.is_none() && outcome.result.get("tls").is_none());
        }),
        case("name service fails", named("servfail.example"), Unknown, Some(Resolve), "the name service did not answer"),
        case("refused", trusting(&root, closed_port()), Down, Some(Connect), "connection refused by 127.0.0.1:").also(|outcome| {
            assert!(outcome.phases.tls.is_none() && outcome.assertions.is_empty());
        }),
        case("backlog full", trusting(&root, full_port()), Down, Some(Connect), "no answer from 127.0.0.1:").within(SHORT),
        case("plain text", from(vec![Do::Send(b"220 mail ESMTP\r\n".to_vec())]), Down, Some(InTls), "does not speak TLS (answered in plain text)"),
        case("hangs", from(vec![Do::Hang]), Down, Some(InTls), "TLS handshake with 127.0.0.1:").within(SHORT).also(|outcome| {
            assert!(outcome.phases.tls.unwrap() > 250_000 && outcome.result.get("tls").is_none());
        }),
        case("drips", from(vec![Do::Drip(endless, Duration::from_millis(20))]), Down, Some(InTls), "not done within 300 ms").within(SHORT),
        case("says goodbye", from(vec![Do::Send(vec![0x15, 3, 3, 0, 2, 1, 0]), Do::Hang]), Down, Some(InTls), "not done within 300 ms").within(SHORT),
        case("closes", from(vec![]), Down, Some(InTls), "connection closed by 127.0.0.1:"),
        case("resets", from(vec![Do::ReadUntil(&[0x16]), Do::Reset]), Down, Some(InTls), "connection reset by 127.0.0.1:"),
        case("too old", from(vec![Do::Send(vec![0x15, 3, 1, 0, 2, 2, 70])]), Down, Some(InTls), "refused the TLS handshake: protocol_version"),
        case("unknown name", from(vec![Do::Send(vec![0x15, 3, 1, 0, 2, 2, 112])]), Down, Some(InTls), "does not know the server name"),
        case("past its deadline", Tls { host: Host::Address([127, 0, 0, 1].into()), ..from(vec![Do::Hang]) }, Down, Some(Connect), "no answer from").within(Duration::ZERO),
    ]);
}
