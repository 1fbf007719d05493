//! Dialogues that go on in TLS.

use std::io::{Read, Write};
use std::sync::Arc;

use pingeon::check::Phase::{Assert, Body, FirstByte, Tls as InTls};
use pingeon::check::Verdict::{Degraded, Down, Up};
use pingeon::check::tcp::{Hex, Step, Tcp};
use pingeon::net::tls::Version;
use pingeon::net::{Host, TlsSettings};
use pingeon::secret::Secret;
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS12;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::pki::{Authority, FINE, Issued};
use crate::secure::{BOTH, days, pem};
use crate::servers::*;
use crate::table::*;

const NAME: &str = "local.example";

fn expect(regex: &str) -> Step {
    Step::Expect(regex.parse().unwrap())
}

fn send(text: &str) -> Step {
    Step::Send(Secret::new(text))
}

fn says(text: &str) -> Do {
    Do::Send(text.as_bytes().to_vec())
}

/// What a server does after its plain text.
#[derive(Clone)]
struct Then {
    config: Arc<ServerConfig>,
    /// What it says in TLS at once.
    greeting: &'static str,
    /// In TLS it answers a line by this.
    answer: &'static str,
}

impl Then {
    fn shows(issued: Issued) -> Self {
        Self::with(issued, BOTH, None)
    }

    fn with(
        issued: Issued,
        versions: &[&'static rustls::SupportedProtocolVersion],
        clients: Option<&Authority>,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).unwrap();
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots
                    .add(rustls::pki_types::pem::PemObject::from_pem_slice(clients.pem().as_bytes()).unwrap())
                    .unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
                config.with_client_cert_verifier(verifier)
            }
        };
        let key = issued.private_key();
        let config = Arc::new(config.with_single_cert(issued.chain, key).unwrap());
        Then { config, greeting: "", answer: "250 mail\r\n" }
    }
}

/// A server that does `plain`, and goes on in TLS.
fn upgrades(plain: Vec<Do>, then: Then) -> u16 {
    serve_with(move |mut stream| {
        if !perform(&plain, &mut stream) {
            return;
        }
        let mut stream = StreamOwned::new(ServerConnection::new(then.config.clone()).unwrap(), stream);
        let _ = stream.write_all(then.greeting.as_bytes());
        while read_until(&mut stream, b"\n").ends_with(b"\n") {
            match then.answer {
                "" => break,
                "hangs" => {}
                answer => drop(stream.write_all(answer.as_bytes())),
            }
        }
        let _ = stream.sock.shutdown(std::net::Shutdown::Write);
        while matches!(stream.sock.read(&mut [0; 1024]), Ok(1..)) {}
    })
}

/// A dialogue with `local.example` that trusts `authority`.
fn trusting(authority: &Authority, port: u16, dialogue: Vec<Step>) -> Tcp {
    let tls = TlsSettings { ca: Some(pem("ca.pem", &authority.pem())), ..TlsSettings::default() };
    Tcp { dialogue, tls: Arc::new(tls), ..Tcp::to(Host::Name(NAME.to_owned()), port) }
}

/// SMTP (RFC 3207) up to TLS, and what follows.
fn smtp(then: Vec<Step>) -> Vec<Step> {
    let begin = vec![
        expect("^220 "),
        send("EHLO pingeon\r\n"),
        expect("250[ -]STARTTLS"),
        send("STARTTLS\r\n"),
        expect("^220 "),
        Step::StartTls,
    ];
    begin.into_iter().chain(then).collect()
}

/// What a server says in that.
fn mail(last: Vec<Do>) -> Vec<Do> {
    let begin = vec![
        says("220 mail ESMTP\r\n"),
        Do::ReadUntil(b"pingeon\r\n"),
        says("250-mail\r\n250-STARTTLS\r\n250 HELP\r\n"),
        Do::ReadUntil(b"STARTTLS\r\n"),
    ];
    begin.into_iter().chain(last).collect()
}

#[test]
#[rustfmt::skip]
fn protocols() {
    let root = Authority::root("Test Root");
    let fine = || Then::shows(root.issue(NAME, FINE));
    let ehlo = || smtp(vec![send("EHLO pingeon\r\n"), expect("^250 ")]);
    let imap = vec![expect("^\\* OK"), send("a STARTTLS\r\n"), expect("^a OK"), Step::StartTls, send("b CAPABILITY\r\n"), expect("^b OK")];
    let imap_server = vec![says("* OK ready\r\n"), Do::ReadUntil(b"STARTTLS\r\n"), says("a OK begin TLS\r\n")];
    let pop3 = vec![expect("^\\+OK"), send("STLS\r\n"), expect("^\\+OK"), Step::StartTls, send("QUIT\r\n"), expect("^\\+OK")];
    let pop3_server = vec![says("+OK ready\r\n"), Do::ReadUntil(b"STLS\r\n"), says("+OK begin TLS\r\n")];
    let postgres = || vec![Step::SendHex(Hex::parse(Secret::new("00000008 04d2162f")).unwrap()), expect("^S"), Step::StartTls];
    let asked = || Do::ReadUntil(b"\0\0\0\x08\x04\xd2\x16\x2f");
    let from_the_start = vec![Step::StartTls, expect("^220 ")];
    run(vec![
        case("SMTP", trusting(&root, upgrades(mail(vec![says("220 go\r\n")]), fine()), ehlo()), Up, None, "").also(|outcome| {
            let tls = &outcome.result["tls"];
            assert_eq!((&tls["version"], days(outcome)), (&"1.3".into(), 90));
            assert_eq!(tls["certificates"][0]["names"][0], "local.example");
            assert!(outcome.phases.tls.is_some() && outcome.phases.send.is_some());
            assert_eq!(outcome.result["received"], 16 + 34 + 8 + 10);
        }),
        case("SMTP, TLS 1.2", trusting(&root, upgrades(mail(vec![says("220 go\r\n")]), Then::with(root.issue(NAME, FINE), &[&TLS12], None)), ehlo()), Up, None, ""),
        case("IMAP", trusting(&root, upgrades(imap_server, Then { answer: "* CAPABILITY IMAP4rev1\r\nb OK done\r\n", ..fine() }), imap), Up, None, ""),
        case("POP3", trusting(&root, upgrades(pop3_server, Then { answer: "+OK bye\r\n", ..fine() }), pop3), Up, None, ""),
        case("PostgreSQL", trusting(&root, upgrades(vec![asked(), says("S")], fine()), postgres()), Up, None, "").also(|outcome| {
            assert_eq!((&outcome.result["received"], days(outcome)), (&1.into(), 90));
        }),
        case("PostgreSQL without TLS", trusting(&root, serve(vec![asked(), says("N"), Do::Hang]), postgres()), Down, Some(Body), "expected `^S`, got `N`").within(SHORT),
        case("TLS from the start", trusting(&root, upgrades(vec![], Then { greeting: "220 mail\r\n", ..fine() }), from_the_start), Up, None, ""),
    ]);
}

#[test]
#[rustfmt::skip]
fn the_turn_to_tls() {
    let root = Authority::root("Test Root");
    let fine = || Then::shows(root.issue(NAME, FINE));
    let ehlo = || smtp(vec![send("EHLO pingeon\r\n"), expect("^250 ")]);
    let turns = |last: Vec<Do>| trusting(&root, upgrades(mail(last), fine()), ehlo());
    let never = |last: Vec<Do>| trusting(&root, serve(mail(last)), ehlo());
    run(vec![
        case("the rest of its line comes late", turns(vec![says("220 "), Do::AwaitByte, says("Ready to start TLS\r\n")]), Up, None, ""),
        case("the end of its line comes late", turns(vec![says("220 go\r"), Do::AwaitByte, says("\n")]), Up, None, ""),
        case("a word and no end of line", turns(vec![says("220 ")]), Up, None, ""),
        case("more in plain text", turns(vec![says("220 go\r\n250 injected\r\n")]), Down, Some(InTls), "went on in plain text before TLS: `250 injected\\r\\n`"),
        case("more in plain text, late", never(vec![says("220 go\r\n"), Do::AwaitByte, says("250 late\r\n")]), Down, Some(InTls), "does not speak TLS (answered in plain text)"),
        case("a line without end", never(vec![says("220 "), Do::AwaitByte, Do::Send(vec![b'x'; 100_000])]), Down, Some(InTls), "does not speak TLS (answered in plain text)"),
        case("refuses", never(vec![says("454 TLS not available\r\n"), Do::Hang]), Down, Some(Body), "expected `^220 `, got").within(SHORT),
        case("closes", never(vec![says("220 go\r\n")]), Down, Some(InTls), "connection closed by 127.0.0.1:"),
        case("closes in mid-line", never(vec![says("220 ")]), Down, Some(InTls), "connection closed by 127.0.0.1:"),
        case("resets", never(vec![says("220 go\r\n"), Do::AwaitByte, Do::Reset]), Down, Some(InTls), "connection reset by 127.0.0.1:"),
        case("hangs", never(vec![says("220 go\r\n"), Do::Hang]), Down, Some(InTls), "TLS handshake with 127.0.0.1:").within(SHORT),
        case("hangs in mid-line", never(vec![says("220 go"), Do::Hang]), Down, Some(InTls), "not done within 300 ms").within(SHORT),
        case("a reply of many lines", trusting(&root, upgrades(vec![says("220 ESMTP StartTLS pseudo-server\n"), Do::ReadUntil(b"prober\r\n"), says("250-pseudo-server.example.net\n250-STARTTLS\n250 DSN\n"), Do::ReadUntil(b"STARTTLS\r\n"), says("220 2.0.0 Ready to start TLS\n")], Then { answer: "250-AUTH\n250 DSN\n", ..fine() }), vec![expect("^220.*ESMTP.*$"), send("EHLO tls.prober\r\n"), expect("^250-STARTTLS"), send("STARTTLS\r\n"), expect("^220"), Step::StartTls, send("EHLO tls.prober\r\n"), expect("^250-AUTH"), send("QUIT\r\n")]), Up, None, ""),
        case("was not asked", trusting(&root, serve(vec![says("220 mail\r\n"), Do::Hang]), vec![Step::StartTls]), Down, Some(InTls), "does not speak TLS (answered in plain text)"),
    ]);
}

#[test]
#[rustfmt::skip]
fn what_follows_in_tls() {
    let root = Authority::root("Test Root");
    let go = || mail(vec![says("220 go\r\n")]);
    let fine = || Then::shows(root.issue(NAME, FINE));
    let turns = |then: Then, steps| trusting(&root, upgrades(go(), then), smtp(steps));
    let ehlo = || vec![send("EHLO pingeon\r\n"), expect("^250 ")];
    let expired = || Then::shows(root.issue(NAME, (-30, -3)));
    let ends_soon = || Then::shows(root.issue(NAME, (-30, 10)));
    let old = || Then::with(root.issue(NAME, FINE), &[&TLS12], None);
    let clients = Authority::root("Clients");
    let wants = || Then::with(root.issue(NAME, FINE), BOTH, Some(&clients));
    let limited = |mut tcp: Tcp| { tcp.expect.certificate_days = Some(14); tcp };
    let issuer = |mut tcp: Tcp| { tcp.expect.issuer = Some(contains("Let's Encrypt")); tcp };
    let new = |mut tcp: Tcp| { tcp.expect.version_min = Some(Version::Tls13); tcp };
    run(vec![
        case("the handshake is the end", turns(fine(), vec![]), Up, None, ""),
        case("says something else", turns(fine(), vec![send("EHLO\r\n"), expect("^354 ")]), Down, Some(Body), "expected `^354 `, got `250 mail\\r\\n`, nothing else within").within(SHORT),
        case("says nothing", turns(Then { answer: "hangs", ..fine() }, ehlo()), Down, Some(FirstByte), "no first byte from 127.0.0.1:").within(SHORT),
        case("closes", turns(Then { answer: "", ..fine() }, ehlo()), Down, Some(FirstByte), "connection closed by 127.0.0.1:"),
        case("what came before does not count", turns(Then { answer: "hangs", ..fine() }, vec![expect("go")]), Down, Some(FirstByte), "no first byte").within(SHORT),
        case("expired", turns(expired(), ehlo()), Down, Some(InTls), "certificate expired 20").also(|outcome| assert_eq!(days(outcome), -3)),
        case("wrong name", turns(Then::shows(root.issue("a.example", FINE)), ehlo()), Down, Some(InTls), "certificate is for a.example, not local.example"),
        case("ends soon", limited(turns(ends_soon(), ehlo())), Degraded, None, "ends 20"),
        case("ends late enough", limited(turns(fine(), ehlo())), Up, None, ""),
        case("another issuer", issuer(turns(fine(), ehlo())), Down, Some(Assert), "issuer of CN=local.example does not contain"),
        case("an old version", new(turns(old(), ehlo())), Down, Some(Assert), "TLS 1.2 was spoken, expected 1.3 or newer"),
        case("wants a certificate", turns(wants(), ehlo()), Down, Some(InTls), "asked for a client certificate"),
        case("wants a certificate, and that is the end", turns(wants(), vec![]), Down, Some(InTls), "asked for a client certificate"),
    ]);
}
