//! HTTPS.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use pingeon::check::Outcome;
use pingeon::check::Phase::{Assert, Body, FirstByte, Tls};
use pingeon::check::Verdict::{Degraded, Down, Unknown, Up};
use pingeon::check::http::Http;
use pingeon::net::{Pem, TlsSettings};
use pingeon::secret::Secret;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

use crate::pki::{Authority, FINE, Issued};
use crate::servers::*;
use crate::table::*;
use crate::websocket::proving;

pub const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];
/// A server that answers this closes without a word.
const NOTHING: &str = "nothing";
pub const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A server that shows `issued`, wants a certificate of `clients` if that is given, and answers `answer`.
pub fn serve_tls(
    issued: Issued,
    versions: &[&'static SupportedProtocolVersion],
    clients: Option<&Authority>,
    answer: &'static str,
) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let der = rustls::pki_types::pem::PemObject::from_pem_slice(authority.pem().as_bytes()).unwrap();
            roots.add(der).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = issued.private_key();
    let mut config = builder.with_single_cert(issued.chain, key).unwrap();
    config.alpn_protocols = if answer.is_empty() { vec![b"h2".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    let config = Arc::new(config);
    serve_with(move |stream| {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
        let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
        let head = read_until(&mut stream, b"\r\n\r\n");
        let kind = format!("{:?}", stream.conn.handshake_kind().unwrap_or(HandshakeKind::Full));
        let answer = if answer == NOTHING { String::new() } else { answer.replace("KIND", &kind) };
        let answer = proving(&answer, &String::from_utf8_lossy(&head));
        let _ = stream.write_all(answer.as_bytes());
        let _ = stream.flush();
        let _ = stream.sock.shutdown(std::net::Shutdown::Write);
        while matches!(stream.sock.read(&mut [0; 1024]), Ok(1..)) {}
    })
}

pub fn pem(path: &str, content: &str) -> Pem {
    Pem { path: path.into(), content: Secret::new(content) }
}

/// A GET of `local.example` that trusts `authority`, after `change`.
pub fn trusting(authority: &Authority, port: u16, change: impl FnOnce(&mut TlsSettings)) -> Http {
    let mut tls = TlsSettings { ca: Some(pem("ca.pem", &authority.pem())), ..TlsSettings::default() };
    change(&mut tls);
    with(get(format!("https://local.example:{port}/")), |http| http.tls = Arc::new(tls))
}

pub fn days(outcome: &Outcome) -> i64 {
    outcome.result["tls"]["certificate_days"].as_i64().unwrap()
}

#[test]
#[rustfmt::skip]
fn certificates() {
    let root = Authority::root("Test Root");
    let intermediate = root.under("Test Intermediate", FINE);
    let ends_first = root.under("Ends First", (-300, 10));
    let ended = root.under("Ended", (-300, -3));
    let stranger = Authority::root("Stranger");
    let plain = |issued: Issued| trusting(&root, serve_tls(issued, BOTH, None, ANSWER), |_| {});
    let name = "local.example";
    let leads_on = {
        let next = serve_tls(root.issue(name, FINE), BOTH, None, ANSWER);
        let answer = format!("HTTP/1.1 302 Found\r\nlocation: https://{name}:{next}/\r\n\r\n");
        serve_tls(root.issue(name, (-30, 20)), BOTH, None, answer.leak())
    };
    let unverified = |issued: Issued| trusting(&root, serve_tls(issued, BOTH, None, ANSWER), |tls| tls.verify = pingeon::net::Verify::Nothing);
    run(vec![
        case("fine", plain(root.issue(name, FINE)), Up, None, "").also(|outcome| {
            assert!(outcome.phases.tls.is_some() && outcome.phases.resolve.is_some());
            let tls = &outcome.result["tls"];
            assert_eq!((&tls["version"], days(outcome)), (&"1.3".into(), 90));
            assert!(tls["cipher"].as_str().unwrap().starts_with("TLS_"), "{tls}");
            assert_eq!(tls["certificates"][0]["subject"], "CN=local.example");
        }),
        case("TLS 1.2 only", trusting(&root, serve_tls(root.issue(name, FINE), &[&TLS12], None, ANSWER), |_| {}), Up, None, "").also(|outcome| {
            assert_eq!((&outcome.result["tls"]["version"], days(outcome)), (&"1.2".into(), 90));
        }),
        case("with an intermediate", plain(intermediate.issue(name, FINE).with(&intermediate)), Up, None, "").also(
            |outcome| {
                assert_eq!(outcome.result["tls"]["certificates"].as_array().unwrap().len(), 2);
            },
        ),
        case("expired", plain(root.issue(name, (-30, -3))), Down, Some(Tls), "certificate expired 20").also(
            |outcome| {
                assert!(outcome.reason.as_ref().unwrap().ends_with("(2 days ago)"), "{:?}", outcome.reason);
                assert_eq!(days(outcome), -3);
                assert!(outcome.phases.tls.is_some() && outcome.phases.send.is_none());
            },
        ),
        case("not yet valid", plain(root.issue(name, (5, 90))), Down, Some(Tls), "(in 5 days)"),
        case("wrong name", plain(root.issue("a.example", FINE)), Down, Some(Tls), "certificate is for a.example, not local.example"),
        case("unknown authority", plain(stranger.issue(name, FINE)), Down, Some(Tls), "certificate is signed by an unknown authority: CN=Stranger").also(|outcome| {
            assert_eq!(outcome.result["tls"]["certificates"][0]["subject"], "CN=local.example");
        }),
        case("self-signed", plain(Issued::self_signed(name)), Down, Some(Tls), "certificate is self-signed: CN=local.example"),
        case("missing intermediate", plain(intermediate.issue(name, FINE)), Down, Some(Tls), "unknown authority: CN=Test Intermediate (the server sent no intermediate certificate)"),
        case("intermediate expired", plain(ended.issue(name, FINE).with(&ended)), Down, Some(Tls), "certificate of CN=Ended expired"),
        case("intermediate ends first", plain(ends_first.issue(name, FINE).with(&ends_first)), Up, None, "")
            .also(|outcome| assert_eq!(days(outcome), 10)),
        case("an earlier hop ends first", trusting(&root, leads_on, |_| {}), Up, None, "").also(|outcome| assert_eq!(days(outcome), 20)),
        case("fewer days than wanted", with(plain(ends_first.issue(name, FINE).with(&ends_first)), |http| expect(http).certificate_days = Some(14)), Degraded, None, "certificate CN=Ends First ends 20"),
        case("days enough", with(plain(root.issue(name, FINE)), |http| expect(http).certificate_days = Some(90)), Up, None, "").also(|outcome| {
            assert_eq!(outcome.assertions.last().map(|one| one.what.as_str()), Some("certificate_days"));
        }),
        case("unverified, expired", unverified(root.issue(name, (-30, -3))), Up, None, "")
            .also(|outcome| assert_eq!(days(outcome), -3)),
        case("unverified, wrong name", unverified(stranger.issue("a.example", FINE)), Up, None, ""),
        case("other name asked for", trusting(&root, serve_tls(root.issue("a.example", FINE), BOTH, None, ANSWER), |tls| { tls.server_name = Some("a.example".to_owned()) }), Up, None, ""),
        case("an address", with(plain(root.issue("127.0.0.1", FINE)), |http| { http.url = http.url.to_string().replace("local.example", "127.0.0.1").parse().unwrap(); }), Up, None, ""),
        case("ca that is none", trusting(&root, serve_tls(root.issue(name, FINE), BOTH, None, ANSWER), |tls| { tls.ca = Some(pem("ca.pem", "nothing")) }), Unknown, Some(Tls), "`ca.pem` holds no certificate"),
    ]);
}

#[test]
#[rustfmt::skip]
fn redirects() {
    let root = Authority::root("Test Root");
    let name = "local.example";
    let from_secure = |to: &str| {
        let answer = format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
        trusting(&root, serve_tls(root.issue(name, FINE), BOTH, None, answer.leak()), |_| {})
    };
    let plain = || format!("http://{name}:{}/?token=1", echo(|head| format!("HTTP/1.1 200 OK\r\n\r\n{head}")));
    let through = |issued: Issued| from_secure(&format!("https://{name}:{}/", serve_tls(issued, BOTH, None, ANSWER)));
    let back = |http: Http| with(get(format!("http://{name}:{}/", serve(leads_to(&http.url.to_string())))), |first| first.tls = http.tls);
    let logs_in = |http: &mut Http| {
        http.redirects_allow.downgrade = true;
        http.auth = Some(pingeon::check::http::Auth::Bearer(Secret::new("t0ken")));
        http.headers = vec![("cookie".parse().unwrap(), Secret::new("a=b"))];
    };
    let refused = "redirected from `https` to http://local.example:";
    run(vec![
        case("to plain text", from_secure(&plain()), Down, Some(Assert), refused).also(|outcome| {
            let reason = outcome.reason.as_ref().unwrap();
            assert!(reason.contains("/?…, which is not encrypted") && outcome.result["status_code"] == 302, "{outcome:?}");
        }),
        case("to TLS and back", back(from_secure(&plain())), Down, Some(Assert), refused),
        case("to plain text, allowed", with(from_secure(&plain()), |http| http.redirects_allow.downgrade = true), Up, None, ""),
        case("in plain text goes no password", with(with(from_secure(&plain()), logs_in), |http| expect(http).body = lacks("t0ken")), Up, None, ""),
        case("in plain text goes no cookie", with(with(from_secure(&plain()), logs_in), |http| expect(http).body = lacks("a=b")), Up, None, ""),
        case("a later hop ends first", through(root.issue(name, (-30, 20))), Up, None, "").also(|outcome| assert_eq!(days(outcome), 20)),
        case("a later hop ends too soon", with(through(root.issue(name, (-30, 20))), |http| expect(http).certificate_days = Some(21)), Degraded, None, "certificate CN=local.example ends 20"),
        case("a later hop has ended", through(root.issue(name, (-30, -3))), Down, Some(Tls), "certificate expired 20"),
    ]);
}

#[test]
#[rustfmt::skip]
fn client_certificates() {
    let root = Authority::root("Test Root");
    let clients = Authority::root("Clients");
    let me = clients.issue("probe", FINE);
    let mine = Some((pem("me.pem", &me.pem), pem("me.key", &me.key.serialize_pem())));
    let wants = |versions: &[&'static SupportedProtocolVersion]| {
        serve_tls(root.issue("local.example", FINE), versions, Some(&clients), ANSWER)
    };
    let leads_to_wanting = {
        let next = format!(
            "https://other.example:{}/",
            serve_tls(root.issue("other.example", FINE), BOTH, Some(&clients), ANSWER)
        );
        let answer = format!("HTTP/1.1 302 Found\r\nlocation: {next}\r\ncontent-length: 0\r\n\r\n");
        serve_tls(root.issue("local.example", FINE), BOTH, None, answer.leak())
    };
    run(vec![
        case("wanted, TLS 1.3", trusting(&root, wants(BOTH), |_| {}), Down, Some(Tls), "asked for a client certificate").also(|outcome| assert!(outcome.phases.tls.is_some())),
        case("wanted, TLS 1.2", trusting(&root, wants(&[&TLS12]), |_| {}), Down, Some(Tls), "asked for a client certificate"),
        case("given, TLS 1.3", trusting(&root, wants(BOTH), |tls| tls.client = mine.clone()), Up, None, ""),
        case("given, TLS 1.2", trusting(&root, wants(&[&TLS12]), |tls| tls.client = mine.clone()), Up, None, ""),
        case("not shown to another host", trusting(&root, leads_to_wanting, |tls| tls.client = mine.clone()), Down, Some(Tls), "asked for a client certificate"),
        case("key that is none", trusting(&root, wants(BOTH), |tls| { tls.client = Some((pem("me.pem", &me.pem), pem("me.key", "nothing"))); }), Unknown, Some(Tls), "`me.key` holds no private key"),
    ]);
}

#[test]
#[rustfmt::skip]
fn handshakes() {
    let root = Authority::root("Test Root");
    let from = |steps| trusting(&root, serve(steps), |_| {});
    let tls = |answer: &'static str| {
        trusting(&root, serve_tls(root.issue("local.example", FINE), BOTH, None, answer), |_| {})
    };
    // A handshake record of 16 KiB, of which one byte comes at a time.
    let endless = [&[0x16, 3, 3, 0x40, 0, 2, 0, 0x3f, 0xfc][..], &[3; 100]].concat();
    run(vec![
        case("plain port", from(vec![Do::Send(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())]), Down, Some(Tls), "does not speak TLS (answered in plain text)"),
        case("hangs", from(vec![Do::Hang]), Down, Some(Tls), "TLS handshake with 127.0.0.1:").within(SHORT).also(
            |outcome| {
                assert!(outcome.phases.tls.unwrap() > 250_000 && outcome.phases.send.is_none());
            },
        ),
        case("drips", from(vec![Do::Drip(endless, Duration::from_millis(20))]), Down, Some(Tls), "not done within 300 ms").within(SHORT),
        case("says goodbye", from(vec![Do::Send(vec![0x15, 3, 3, 0, 2, 1, 0]), Do::Hang]), Down, Some(Tls), "not done within 300 ms").within(SHORT),
        case("closes", from(vec![]), Down, Some(Tls), "in the TLS handshake"),
        case("resets", from(vec![Do::ReadUntil(&[0x16]), Do::Reset]), Down, Some(Tls), "in the TLS handshake"),
        case("too old", from(vec![Do::Send(vec![0x15, 3, 1, 0, 2, 2, 70])]), Down, Some(Tls), "refused the TLS handshake: protocol_version"),
        case("no shared cipher", from(vec![Do::Send(vec![0x15, 3, 1, 0, 2, 2, 40])]), Down, Some(Tls), "refused the TLS handshake: handshake_failure"),
        case("unknown name", from(vec![Do::Send(vec![0x15, 3, 1, 0, 2, 2, 112])]), Down, Some(Tls), "does not know the server name"),
        case("HTTP/2 only", tls(""), Down, Some(Tls), "does not offer HTTP/1.1 over TLS"),
        case("closes before the first byte", tls(NOTHING), Down, Some(FirstByte), "before the first byte"),
        case("short body", tls("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"), Down, Some(Body), "after 4 of 9 bytes"),
        case("body until close", tls("HTTP/1.1 200 OK\r\n\r\nall"), Up, None, "")
            .also(|outcome| assert_eq!(outcome.result["bytes"], 3)),
        case("redirect from plain", with(tls(ANSWER), |http| { http.url = format!("http://local.example:{}/", serve(leads_to(&http.url.to_string()))).parse().unwrap(); }), Up, None, "").also(|outcome| assert!(outcome.result["hops"] == 1 && outcome.phases.tls.is_some())),
    ]);
}

#[test]
fn a_session_is_resumed_when_told_so_and_still_tells_its_certificates() {
    let root = Authority::root("Test Root");
    for versions in [&[&TLS12][..], BOTH] {
        for (resume, second) in [(false, "Full"), (true, "Resumed")] {
            let port = serve_tls(root.issue("local.example", FINE), versions, None, "HTTP/1.1 200 OK\r\n\r\nKIND");
            let (net, http) = (net(), trusting(&root, port, |tls| tls.resume = resume));
            for kind in ["Full", second] {
                let http = with(http.clone(), |http| expect(http).body = contains(kind));
                run(vec![case(kind, http, Up, None, "").on(net.clone()).also(|outcome| assert_eq!(days(outcome), 90))]);
            }
        }
    }
}
