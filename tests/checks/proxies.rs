//! Proxies. Where a proxy is at fault, nothing is known about the target.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use pingeon::check::Kind;
use pingeon::check::Phase::{Connect, FirstByte};
use pingeon::check::Verdict::{Down, Unknown, Up};
use pingeon::check::http::Http;
use pingeon::net::{Host, Pem, Proxy, ProxyScheme, TlsSettings};
use pingeon::secret::Secret;

use crate::pki::Authority;
use crate::servers::*;
use crate::table::*;

/// A proxy that connects whatever it is asked for to this machine, whatever the host.
pub fn connects() -> u16 {
    serve_with(|mut stream| {
        let head = String::from_utf8(read_until(&mut stream, b"\r\n\r\n")).unwrap();
        let target = head.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap();
        let port: u16 = target.rsplit(':').next().unwrap().parse().unwrap();
        stream.write_all(b"HTTP/1.1 200 Connection established\r\nvia: test\r\n\r\n").unwrap();
        join(stream, port);
    })
}

/// A SOCKS 5 proxy that wants `probe` and `hunter2`, and connects to this machine, whatever the name.
fn socks() -> u16 {
    serve_with(|mut stream| {
        let take = |stream: &mut TcpStream, count: usize| {
            let mut bytes = vec![0; count];
            stream.read_exact(&mut bytes).unwrap();
            bytes
        };
        let methods = usize::from(take(&mut stream, 2)[1]);
        assert!(take(&mut stream, methods).contains(&2));
        stream.write_all(&[5, 2]).unwrap();
        assert_eq!(take(&mut stream, 15), b"\x01\x05probe\x07hunter2");
        stream.write_all(&[1, 0]).unwrap();
        assert_eq!(take(&mut stream, 4), [5, 1, 0, 3]);
        let length = usize::from(take(&mut stream, 1)[0]);
        let name = take(&mut stream, length + 2);
        stream.write_all(b"\x05\x00\x00\x03\x04name\x00\x50").unwrap();
        join(stream, u16::from_be_bytes([name[length], name[length + 1]]));
    })
}

/// A SOCKS 5 proxy that replies with `code`.
fn socks_replies(code: u8) -> u16 {
    serve(vec![
        Do::ReadUntil(&[5, 1, 0]),
        Do::Send(vec![5, 0]),
        Do::ReadUntil(b"example"),
        Do::Send(vec![5, code, 0, 1, 0, 0, 0, 0, 0, 0]),
        Do::Hang,
    ])
}

fn join(near: TcpStream, port: u16) {
    let far = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (mut near_reads, mut far_writes) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut near_reads, &mut far_writes);
        let _ = far_writes.shutdown(std::net::Shutdown::Both);
    });
    let (mut far_reads, mut near_writes) = (far, near);
    let _ = std::io::copy(&mut far_reads, &mut near_writes);
    let _ = near_writes.shutdown(std::net::Shutdown::Both);
}

fn through(scheme: ProxyScheme, port: u16, target: &str) -> Http {
    with(get(target), |http| {
        let credentials = Some(("probe".to_owned(), Secret::new("hunter2")));
        http.proxy = Proxy::Through { scheme, host: Host::Address([127, 0, 0, 1].into()), port, credentials };
    })
}

fn without_credentials(mut http: Http) -> Http {
    if let Proxy::Through { credentials, .. } = &mut http.proxy {
        *credentials = None;
    }
    http
}

#[test]
#[rustfmt::skip]
fn connect_proxies() {
    let target = "https://nowhere.example/";
    let tls = Arc::new(TlsSettings {
        ca: Some(Pem { path: "ca.pem".into(), content: Secret::new(Authority::root("Test CA").pem()) }),
        ..TlsSettings::default()
    });
    // With an authority of its own: a machine may have none.
    let secure = |port, target: &str| with(through(ProxyScheme::Http, port, target), |http| http.tls = tls.clone());
    let via = |port| secure(port, target);
    let says = |line: &str| via(serve(answers(format!("HTTP/1.1 {line}\r\n\r\n"))));
    let pinned = |port: u16| {
        with(through(ProxyScheme::Http, connects(), "http://nowhere.example/"), |http| {
            http.connect_to = Some(([127, 0, 0, 1], port).into())
        })
    };
    run(vec![
        case("a tunnel to a plain port", secure(connects(), &format!("https://nowhere.example:{}/", serve(vec![Do::Send(b"220 mail\r\n".to_vec()), Do::Hang]))), Down, Some(pingeon::check::Phase::Tls), "does not speak TLS"),
        case("a tunnel to a pinned address", pinned(serve(ok("ok"))), Up, None, ""),
        case("refused", via(closed_port()), Unknown, Some(Connect), "cannot be reached: connection refused by 127.0.0.1:"),
        case("no such proxy", with(via(1), |http| { http.proxy = Proxy::Through { scheme: ProxyScheme::Http, host: Host::Name("nowhere.example".to_owned()), port: 1, credentials: None, } }), Unknown, Some(pingeon::check::Phase::Resolve), "no such name"),
        case("407", says("407 Proxy Authentication Required"), Unknown, Some(Connect), "asks for credentials: HTTP/1.1 407"),
        case("403", says("403 Forbidden"), Unknown, Some(Connect), "refuses to connect to nowhere.example:443: HTTP/1.1 403"),
        case("502", says("502 Bad Gateway"), Down, Some(Connect), "cannot reach nowhere.example:443: HTTP/1.1 502"),
        case("no HTTP", via(serve(answers("what?\r\n\r\n"))), Unknown, Some(Connect), "does not answer in HTTP"),
        case("endless head", via(serve(answers("x".repeat(20_000)))), Unknown, Some(Connect), "endless head"),
        case("hangs", via(serve(vec![Do::Hang])), Down, Some(Connect), "no answer from proxy 127.0.0.1:").within(SHORT),
        case("hangs up", via(serve(vec![Do::ReadHead])), Unknown, Some(Connect), "hung up"),
    ]);
}

#[test]
#[rustfmt::skip]
fn forwarding_proxies() {
    let mirror = || echo(|head| format!("HTTP/1.1 200 OK\r\n\r\n{head}"));
    let sees = |regex: &'static str| {
        with(through(ProxyScheme::Http, mirror(), "http://nowhere.example:81/a?b"), |http| {
            expect(http).body = matches(regex)
        })
    };
    let environment =
        |variable: &'static str, port: u16| net_with(&[(variable, format!("http://proxy.example:{port}").as_str())]);
    run(vec![
        case("names the whole URL", sees("^GET http://nowhere.example:81/a\\?b HTTP/1.1\r\n"), Up, None, ""),
        case("keeps the host", sees("host: nowhere.example:81\r\n"), Up, None, ""),
        case("logs in", sees("proxy-authorization: Basic cHJvYmU6aHVudGVyMg==\r\n"), Up, None, ""),
        case("407", through(ProxyScheme::Http, serve(answers("HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n")), "http://nowhere.example/"), Unknown, Some(FirstByte), "the proxy asks for credentials"),
        case("407 without a proxy", get(format!("http://127.0.0.1:{}/", serve(answers("HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n")))), Down, Some(pingeon::check::Phase::Assert), "status 407"),
        case("of the environment", get("http://nowhere.example/"), Up, None, "")
            .on(environment("http_proxy", mirror())),
        case("of the environment, for all", get("http://nowhere.example/"), Up, None, "")
            .on(environment("ALL_PROXY", mirror())),
        case("not for this machine", get(format!("http://127.0.0.1:{}/", serve(ok("ok")))), Up, None, "")
            .on(environment("http_proxy", closed_port())),
        case("not when told so", with(get(format!("http://local.example:{}/", serve(ok("ok")))), |http| http.proxy = Proxy::None), Up, None, "").on(environment("http_proxy", closed_port())),
        case("that is no URL", get("http://nowhere.example/"), Unknown, Some(Connect), "the environment's `http_proxy` is neither").on(net_with(&[("http_proxy", "gopher://x")])),
    ]);
}

#[test]
fn proxies_of_the_environment_that_are_none_say_nothing_about_the_target_and_no_password() {
    let malformed = [
        "http://",
        "http://probe:hunter2@",
        "http://probe:hunter2@:1",
        "http://probe:hunter2@p:port",
        "http://probe:hunter2@p:99999",
        "http://probe:hunter2@p:0",
        "http://probe:hunter2/@p:1",
        "http://probe:12/hunter2@p:1",
        "http://hunter2#@p:1",
        "gopher://probe:hunter2@p:1",
        "probe:hunter2://p:1",
        "probe:hunter2@p p:1",
        "probe:hunter2@p\u{1b}[31m:1",
        "probe:hunter2@\u{fffd}:1",
        "probe:hunter2@[::1",
        "probe:hunter2@]:1",
        "probe:%zz%@@:",
        "://",
        ":",
        "@",
    ];
    let cases = malformed.iter().flat_map(|url| {
        ["http", "https"].map(|scheme| {
            let net = net_with(&[("all_proxy", url), ("no_proxy", "/,:,],[,%,a/b,1.2.3.4/999")]);
            (*url, look(Kind::Http(Box::new(get(format!("{scheme}://nowhere.example/")))), &net, LONG))
        })
    });
    for (url, outcome) in cases {
        let reason = outcome.reason.unwrap_or_default();
        assert_eq!(outcome.verdict, Unknown, "{url:?}: {reason}");
        assert!(!reason.is_empty() && !reason.contains("hunter2") && !reason.contains('\u{1b}'), "{url:?}: {reason:?}");
    }
}

#[test]
#[rustfmt::skip]
fn socks_proxies() {
    let target = || format!("http://nowhere.example:{}/", serve(ok("ok")));
    let replies =
        |code| without_credentials(through(ProxyScheme::Socks5, socks_replies(code), "http://nowhere.example/"));
    let says = |bytes: &[u8]| {
        through(ProxyScheme::Socks5, serve(vec![Do::Send(bytes.to_vec()), Do::Hang]), "http://nowhere.example/")
    };
    run(vec![
        case("by name, with a password", through(ProxyScheme::Socks5, socks(), &target()), Up, None, ""),
        case("target refuses", replies(5), Down, Some(Connect), "cannot reach nowhere.example:80: connection refused"),
        case("host unreachable", replies(4), Down, Some(Connect), "host unreachable"),
        case("not allowed", replies(2), Unknown, Some(Connect), "not allowed by its rules"),
        case("wants what we have not", says(&[5, 255]), Unknown, Some(Connect), "asks for credentials"),
        case("refuses the password", says(&[5, 2, 1, 1]), Unknown, Some(Connect), "refuses the credentials"),
        case("no SOCKS", says(b"HTTP/1.1 400"), Unknown, Some(Connect), "does not answer in SOCKS 5"),
        case("hangs", says(&[5]), Down, Some(Connect), "no answer from proxy").within(SHORT),
    ]);
}
