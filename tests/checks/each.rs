//! Every address of a name.

use std::sync::Arc;
use std::time::Duration;

use pingeon::check::Phase::{Assert, Body, Connect, Resolve, Tls as InTls};
use pingeon::check::Verdict::{Degraded, Down, Unknown, Up};
use pingeon::check::http::Http;
use pingeon::check::tcp::{Step, Tcp};
use pingeon::check::tls::Tls;
use pingeon::check::{Kind, Outcome};
use pingeon::net::{Host, IpFamily, TlsSettings};
use rustls::{ServerConfig, ServerConnection};

use crate::pki::{Authority, FINE, Issued};
use crate::secure::pem;
use crate::servers::*;
use crate::table::*;

const BOTH: &[&str] = &["127.0.0.1", "127.0.0.2"];

/// Servers at both addresses of `both.example`, on one port.
fn both(first: Vec<Do>, second: Vec<Do>) -> u16 {
    serve_at(BOTH, move |place, stream| act(if place == 0 { &first } else { &second }, stream))
}

fn tcp_at(name: &str, port: u16) -> Tcp {
    Tcp { ip: IpFamily::Each, ..Tcp::to(Host::Name(name.to_owned()), port) }
}

fn http_at(name: &str, port: u16) -> Http {
    with(get(format!("http://{name}:{port}/")), |http| http.ip = IpFamily::Each)
}

fn answers_with(status: &str) -> Vec<Do> {
    answers(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"))
}

/// What is told of one of the addresses.
fn address(outcome: &Outcome, place: usize) -> &serde_json::Value {
    &outcome.result["addresses"][place]
}

fn verdicts(outcome: &Outcome) -> Vec<&str> {
    let addresses = outcome.result["addresses"].as_array().unwrap();
    addresses.iter().map(|address| address["verdict"].as_str().unwrap()).collect()
}

#[test]
#[rustfmt::skip]
fn connections() {
    let one_listens = || serve(vec![Do::Hang]);
    let one_swallows = {
        let port = serve(vec![Do::Hang]);
        full_port_at(&format!("127.0.0.2:{port}"));
        port
    };
    let says = |text: &str| vec![Do::Send(text.as_bytes().to_vec()), Do::Hang];
    let greeted = |port| Tcp { dialogue: vec![Step::Expect("^220 ".parse().unwrap())], ..tcp_at("both.example", port) };
    let everywhere = serve_at(&MANY, |_, stream| act(&[Do::Hang], stream));
    run(vec![
        case("both accept", tcp_at("both.example", both(vec![Do::Hang], vec![Do::Hang])), Up, None, "").also(|outcome| {
            assert_eq!(verdicts(outcome), ["up", "up"]);
            assert!(address(outcome, 1)["address"].as_str().unwrap().starts_with("127.0.0.2:"));
            assert!(outcome.phases.resolve.is_some() && address(outcome, 0)["phases"]["resolve"].is_null());
            let each: u64 = (0..2).map(|at| address(outcome, at)["phases"]["connect"].as_u64().unwrap()).sum();
            assert_eq!(outcome.phases.connect, Some(each));
        }),
        case("one refuses", tcp_at("both.example", one_listens()), Down, Some(Connect), "connection refused by 127.0.0.2:").also(|outcome| {
            assert_eq!(verdicts(outcome), ["up", "down"]);
            assert!(outcome.reason.as_ref().unwrap().ends_with("(1 of 2 addresses)"), "{:?}", outcome.reason);
            assert_eq!((&address(outcome, 1)["phase"], &address(outcome, 0)["reason"]), (&"connect".into(), &serde_json::Value::Null));
        }),
        case("both refuse", tcp_at("all-refuse.example", closed_port()), Down, Some(Connect), "(2 of 2 addresses)").also(|outcome| {
            let reason = outcome.reason.as_ref().unwrap();
            assert!(reason.contains("by 127.0.0.2:") && reason.contains("by 127.0.0.3:"), "{reason}");
        }),
        case("one swallows packets", tcp_at("first-refuses.example", one_swallows), Down, Some(Connect), "no answer from 127.0.0.2:").within(SHORT).also(|outcome| {
            assert_eq!(verdicts(outcome), ["down", "up"]);
        }),
        case("one says something else", greeted(both(says("220 a\r\n"), says("554 b\r\n"))), Down, Some(Body), ": expected `^220 `, got `554 b").within(SHORT).also(|outcome| {
            assert_eq!((&address(outcome, 0)["received"], verdicts(outcome)), (&7.into(), vec!["up", "down"]));
        }),
        case("one cannot be asked", tcp_at("one-unreachable.example", one_listens()), Unknown, Some(Connect), "224.0.0.1:").also(|outcome| {
            assert_eq!(verdicts(outcome), ["up", "unknown"]);
        }),
        case("one refuses, one cannot be asked", tcp_at("one-unreachable.example", closed_port()), Down, Some(Connect), "connection refused by 127.0.0.1:"),
        case("one alone", tcp_at("local.example", one_listens()), Up, None, "").also(|outcome| assert_eq!(verdicts(outcome), ["up"])),
        case("one alone, refused", tcp_at("local.example", closed_port()), Down, Some(Connect), "connection refused by").also(|outcome| {
            assert!(!outcome.reason.as_ref().unwrap().contains("addresses"), "{:?}", outcome.reason);
        }),
        case("an address", Tcp { host: Host::Address([127, 0, 0, 1].into()), ..tcp_at("", one_listens()) }, Up, None, "").also(|outcome| {
            assert!(outcome.phases.resolve.is_none() && verdicts(outcome) == ["up"]);
        }),
        case("more than are looked at", tcp_at("many.example", everywhere), Unknown, None, "has more than 16 addresses").also(|outcome| {
            assert_eq!(verdicts(outcome), ["up"; 16]);
        }),
        case("more than are looked at, all refuse", tcp_at("many.example", closed_port()), Down, Some(Connect), "; … (16 of 16 addresses)"),
        case("no such name", tcp_at("nowhere.example", 1), Down, Some(Resolve), "no such name"),
        case("name service fails", tcp_at("servfail.example", 1), Unknown, Some(Resolve), "did not answer"),
        case("name service hangs", tcp_at("slow.example", 1), Unknown, Some(Resolve), "within 300 ms").within(SHORT),
    ]);
}

#[test]
#[rustfmt::skip]
fn requests() {
    let plain = |first, second| http_at("both.example", both(first, second));
    let leads_on = |second| {
        let next = both(answers_with("200 OK"), second);
        let leads = || leads_to(&format!("http://BOTH.example:{next}/"));
        http_at("both.example", both(leads(), leads()))
    };
    let elsewhere = {
        let next = serve(ok("ok"));
        let leads = || leads_to(&format!("http://local.example:{next}/"));
        http_at("both.example", both(leads(), leads()))
    };
    let pinned = with(plain(ok("ok"), answers_with("503 No")), |http| {
        http.connect_to = Some(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
    });
    run(vec![
        case("both answer", plain(ok("ok"), ok("fine")), Up, None, "").also(|outcome| {
            assert_eq!(verdicts(outcome), ["up", "up"]);
            assert_eq!((&address(outcome, 0)["status_code"], &address(outcome, 1)["bytes"]), (&200.into(), &4.into()));
            let whats: Vec<&str> = outcome.assertions.iter().map(|one| one.what.as_str()).collect();
            assert!(whats.len() == 2 && whats[1].starts_with("127.0.0.2:") && whats[1].ends_with(" status"), "{whats:?}");
        }),
        case("one is broken", plain(ok("ok"), answers_with("503 No")), Down, Some(Assert), ": status 503, expected 200-299 (1 of 2 addresses)").also(|outcome| {
            assert!(outcome.reason.as_ref().unwrap().starts_with("127.0.0.2:"), "{:?}", outcome.reason);
            assert_eq!((verdicts(outcome), &address(outcome, 1)["status_code"]), (vec!["up", "down"], &503.into()));
        }),
        case("one hangs", plain(vec![Do::Hang], ok("ok")), Down, Some(pingeon::check::Phase::FirstByte), "no first byte from 127.0.0.1:").within(SHORT).also(|outcome| {
            assert_eq!(verdicts(outcome), ["down", "up"]);
        }),
        case("both are slow", with(plain(ok("ok"), ok("ok")), |http| expect(http).under = Some(Duration::from_nanos(1))), Degraded, None, "(2 of 2 addresses)"),
        case("a redirect on the same host", leads_on(answers_with("503 No")), Down, Some(Assert), ": status 503, expected 200-299 (1 of 2 addresses)").also(|outcome| {
            assert_eq!((verdicts(outcome), &address(outcome, 1)["hops"]), (vec!["up", "down"], &1.into()));
        }),
        case("a redirect to another host", elsewhere, Up, None, "").also(|outcome| assert_eq!(verdicts(outcome), ["up", "up"])),
        case("an address that is given", pinned, Up, None, "").also(|outcome| assert!(outcome.result.get("addresses").is_none())),
        case("no such name", http_at("nowhere.example", 80), Down, Some(Resolve), "no such name"),
    ]);
}

/// The same with a proxy in between: it is told each address, and not the name.
#[test]
fn through_a_proxy() {
    let port = both(ok("ok"), answers_with("503 No"));
    let proxy = serve_with(|mut stream| {
        let head = String::from_utf8(read_until(&mut stream, b"\r\n\r\n")).unwrap();
        let place = head.split(' ').nth(1).unwrap().to_owned();
        let mut target = std::net::TcpStream::connect(place).unwrap();
        std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let (mut from, mut to) = (stream.try_clone().unwrap(), target.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let _ = std::io::copy(&mut target, &mut stream);
    });
    let net = net_with(&[("http_proxy", &format!("http://127.0.0.1:{proxy}"))]);
    let outcome = look(Kind::Http(Box::new(http_at("both.example", port))), &net, LONG);
    assert_eq!((outcome.verdict, verdicts(&outcome)), (Down, vec!["up", "down"]), "{outcome:?}");
}

#[test]
#[rustfmt::skip]
fn handshakes() {
    let root = Authority::root("Test Root");
    let check = |first: Issued, second: Issued| {
        let configs = [server(first), server(second)];
        let port = serve_at(BOTH, move |place, mut stream| {
            let mut tls = ServerConnection::new(configs[place].clone()).unwrap();
            while tls.complete_io(&mut stream).is_ok_and(|(read, _)| read > 0) {}
        });
        let tls = TlsSettings { ca: Some(pem("ca.pem", &root.pem())), ..TlsSettings::default() };
        Tls { ip: IpFamily::Each, tls: Arc::new(tls), ..Tls::to(Host::Name("both.example".to_owned()), port) }
    };
    let fine = || root.issue("both.example", FINE);
    let limited = |mut tls: Tls| { tls.expect.certificate_days = Some(14); tls };
    run(vec![
        case("both fine", check(fine(), fine()), Up, None, "").also(|outcome| {
            assert_eq!((verdicts(outcome), &address(outcome, 1)["tls"]["certificate_days"]), (vec!["up", "up"], &90.into()));
        }),
        case("one was forgotten", check(fine(), root.issue("both.example", (-90, -3))), Down, Some(InTls), ": certificate expired 20").also(|outcome| {
            assert!(outcome.reason.as_ref().unwrap().starts_with("127.0.0.2:"), "{:?}", outcome.reason);
        }),
        case("one ends soon", limited(check(root.issue("both.example", (-90, 10)), fine())), Degraded, None, "ends 20"),
        case("one ends soon, one has ended", limited(check(root.issue("both.example", (-90, 10)), root.issue("both.example", (-90, -3)))), Down, Some(InTls), "127.0.0.2:"),
    ]);
}

/// What a server needs to show `issued`.
fn server(issued: Issued) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = issued.private_key();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(issued.chain, key).unwrap())
}
