//! WebSocket: `http` checks whose URL is `ws` or `wss`. The cases are configs, as users write them.

use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, channel};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pingeon::check::Outcome;
use pingeon::check::Phase::*;
use pingeon::check::Verdict::*;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::pki::{Authority, FINE};
use crate::proxies::connects;
use crate::secure::{BOTH, serve_tls, trusting};
use crate::servers::{Do, answers, closed_port, leads_to, read_until, serve, serve_with};
use crate::steps::steps as check;
use crate::table::{LONG, SHORT, case, expect, look, net, run, with};

/// What a server of WebSocket answers. `ACCEPT` is the proof that it has understood.
const RIGHT: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n\r\n";

/// A server that gives `answer` to a handshake as RFC 6455, section 4.1 has it, and refuses any other request.
fn socket(answer: impl Into<String>) -> u16 {
    socket_that_hears(answer).0
}

/// The same, and what came after the request.
fn socket_that_hears(answer: impl Into<String>) -> (u16, Receiver<Vec<u8>>) {
    let (sender, heard) = channel();
    let answer = answer.into();
    let port = serve_with(move |mut stream| {
        let head = String::from_utf8_lossy(&read_until(&mut stream, b"\r\n\r\n")).into_owned();
        let answer =
            if is_handshake(&head) { proving(&answer, &head) } else { "HTTP/1.1 400 Bad Request\r\n\r\n".into() };
        let _ = stream.write_all(answer.as_bytes());
        let mut after = Vec::new();
        let _ = stream.read_to_end(&mut after);
        let _ = sender.send(after);
    });
    (port, heard)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = head.lines().filter_map(|line| line.split_once(": "));
    headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn is_handshake(head: &str) -> bool {
    let wanted = [("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-version", "13")];
    let key = header(head, "sec-websocket-key").and_then(|key| BASE64.decode(key).ok());
    head.starts_with("GET ")
        && wanted.iter().all(|(name, value)| header(head, name) == Some(value))
        && key.is_some_and(|key| key.len() == 16)
        && header(head, "host").is_some_and(|host| host.starts_with("local.example:"))
}

/// The answer with the proof in it.
pub fn proving(answer: &str, head: &str) -> String {
    let key = header(head, "sec-websocket-key").unwrap_or_default();
    let proof = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes());
    answer.replace("ACCEPT", &BASE64.encode(proof))
}

/// A right answer with one line put in the place of another.
fn but(line: &str, instead: &str) -> String {
    assert!(RIGHT.contains(line));
    RIGHT.replace(line, instead)
}

fn also(line: &str) -> String {
    but("Upgrade: websocket", &format!("Upgrade: websocket\r\n{line}"))
}

/// A server that gives a right answer to a request with all of `lines`.
fn socket_if(lines: &'static str) -> u16 {
    serve_with(move |mut stream| {
        let head = String::from_utf8_lossy(&read_until(&mut stream, b"\r\n\r\n")).into_owned();
        let sent = lines.split("\r\n").filter_map(|line| line.split_once(": "));
        let all = sent.into_iter().all(|(name, value)| header(&head, name) == Some(value));
        let answer = if all { proving(RIGHT, &head) } else { "HTTP/1.1 400 Bad Request\r\n\r\n".into() };
        let _ = stream.write_all(answer.as_bytes());
        let _ = stream.read_to_end(&mut Vec::new());
    })
}

#[test]
#[rustfmt::skip]
fn handshakes() {
    let at = |port: u16| check("http: 'ws://local.example:PORT/chat?room=1'", port);
    let offering = |port: u16| check("http: 'ws://local.example:PORT/', headers: {Sec-WebSocket-Protocol: 'mqtt, v2.stomp'}", port);
    let answered = |answer: String| at(socket(answer));
    let taken = |line: &str| offering(socket(also(line)));
    let to = |location: String| at(serve(leads_to(&location)));
    run(vec![
        case("accepted", at(socket(RIGHT)), Up, None, "").also(|outcome| {
            assert_eq!(outcome.result["status_code"], 101);
            assert!(outcome.phases.first_byte.is_some() && outcome.phases.body.is_some());
            assert_eq!(listed(outcome), [("status", "101", "101", true), ("websocket", "accepted", "accepted", true)]);
        }),
        case("in other letters", answered(but("websocket", "WebSocket").replace("n: Upgrade", "n: keep-alive, UPGRADE")), Up, None, ""),
        case("a frame follows at once", answered(RIGHT.to_owned() + "\u{1}\u{2}hi"), Up, None, ""),
        case("after early hints", answered("HTTP/1.1 103 Early Hints\r\n\r\n".to_owned() + RIGHT), Up, None, ""),

        case("wrong proof", answered(but("ACCEPT", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")), Down, Some(Assert), "no WebSocket: header `sec-websocket-accept` is `s3pPLMBiTxaQ9kYGzzhZRbK+xOo=`, expected `").also(|outcome| {
            assert!(outcome.assertions.iter().any(|one| one.what == "websocket" && !one.held));
        }),
        case("proof in other letters", answered(but("ACCEPT", "ACCEPT ").replace("ACCEPT ", "aCCEPT")), Down, Some(Assert), "is `aCCEPT`"),
        case("no proof", answered(but("Sec-WebSocket-Accept: ACCEPT\r\n", "")), Down, Some(Assert), "no WebSocket: header `sec-websocket-accept` is absent"),
        case("two proofs", answered(also("Sec-WebSocket-Accept: ACCEPT")), Down, Some(Assert), "header `sec-websocket-accept` is"),
        case("no upgrade", answered(but("Upgrade: websocket\r\n", "")), Down, Some(Assert), "header `upgrade` is absent, expected `websocket`"),
        case("upgrade to else", answered(but("websocket", "h2c")), Down, Some(Assert), "header `upgrade` is `h2c`"),
        case("no connection", answered(but("Connection: Upgrade\r\n", "")), Down, Some(Assert), "header `connection` is absent, expected `upgrade`"),
        case("connection closes", answered(but("Connection: Upgrade", "Connection: close")), Down, Some(Assert), "header `connection` is `close`"),
        case("an extension", answered(also("Sec-WebSocket-Extensions: permessage-deflate")), Down, Some(Assert), "the server uses the extension `permessage-deflate`, and none was offered"),

        case("subprotocol taken", taken("Sec-WebSocket-Protocol: v2.stomp"), Up, None, ""),
        case("other subprotocol", taken("Sec-WebSocket-Protocol: stomp"), Down, Some(Assert), "the server takes the subprotocol `stomp`, which was not offered"),
        case("both subprotocols", taken("Sec-WebSocket-Protocol: mqtt, v2.stomp"), Down, Some(Assert), "subprotocol `mqtt, v2.stomp`"),
        case("no subprotocol", offering(socket(RIGHT)), Down, Some(Assert), "the server takes none of the subprotocols offered"),
        case("subprotocol unasked", answered(also("Sec-WebSocket-Protocol: mqtt")), Down, Some(Assert), "subprotocol `mqtt`, which was not offered"),

        case("200", answered("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".into()), Down, Some(Assert), "status 200, expected 101").also(|outcome| assert_eq!(outcome.assertions.len(), 1)),
        case("403", answered("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".into()), Down, Some(Assert), "status 403, expected 101"),
        case("426", answered("HTTP/1.1 426 Upgrade Required\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n".into()), Down, Some(Assert), "status 426, expected 101"),
        case("nobody listens", at(closed_port()), Down, Some(Connect), "refused"),
        case("closes", at(serve(vec![Do::ReadHead])), Down, Some(FirstByte), "closed by"),
        case("closes in the head", at(serve(answers(&RIGHT[..60]))), Down, Some(Body), "in the middle of the answer's head"),
        case("resets", at(serve(vec![Do::ReadHead, Do::Reset])), Down, Some(FirstByte), "reset"),
        case("hangs", at(serve(vec![Do::Hang])), Down, Some(FirstByte), "no first byte").within(SHORT),
        case("hangs in the head", at(serve(vec![Do::ReadHead, Do::Send(RIGHT[..60].into()), Do::Hang])), Down, Some(Body), "not complete within 300 ms").within(SHORT),
        case("not HTTP", at(serve(answers("SSH-2.0-x\r\n"))), Down, Some(FirstByte), "does not answer in HTTP"),
        case("an endless head", at(serve(vec![Do::ReadHead, Do::Send(format!("HTTP/1.1 101 x\r\nx: {}", "x".repeat(70_000)).into())])), Down, Some(FirstByte), "larger than 64 KiB"),

        case("redirected", to(format!("http://local.example:{}/", socket(RIGHT))), Up, None, "").also(|outcome| assert_eq!(outcome.result["hops"], 1)),
        case("redirected to ws", to(format!("ws://local.example:{}/", socket(RIGHT))), Up, None, ""),
        case("redirects are answers", check("http: 'ws://local.example:PORT/', redirects: 0", serve(leads_to("/x"))), Down, Some(Assert), "status 302, expected 101"),
    ]);
}

/// What was expected, what came, and whether it held.
fn listed(outcome: &Outcome) -> Vec<(&str, &str, &str, bool)> {
    outcome.assertions.iter().map(|one| (&*one.what, &*one.expected, &*one.got, one.held)).collect()
}

#[test]
#[rustfmt::skip]
fn handshakes_in_tls() {
    let root = Authority::root("Test Root");
    let issued = |days| root.issue("local.example", days);
    let secure = |days, answer: &'static str| {
        with(trusting(&root, serve_tls(issued(days), BOTH, None, answer), |_| {}), |http| {
            http.websocket = true;
            expect(http).status = vec![(101, 101)];
            expect(http).certificate_days = Some(14);
        })
    };
    run(vec![
        case("accepted", secure(FINE, RIGHT), Up, None, "").also(|outcome| assert!(outcome.phases.tls.is_some())),
        case("soon no more", secure((-30, 10), RIGHT), Degraded, None, "certificate CN="),
        case("ended", secure((-30, -3), RIGHT), Down, Some(Tls), "certificate expired"),
        case("no WebSocket", secure(FINE, "HTTP/1.1 101 x\r\n\r\n"), Down, Some(Assert), "header `upgrade` is absent"),
        case("no TLS", check("http: 'wss://local.example:PORT/'", serve(vec![Do::Send(b"220 mail\r\n".to_vec()), Do::Hang])), Down, Some(Tls), "does not speak TLS"),
    ]);
}

#[test]
#[rustfmt::skip]
fn handshakes_on_other_ways() {
    let login = || serve(answers("HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"token\": \"t\"}"));
    let after = |port: u16| format!("steps: [{{http: 'http://local.example:{}/', take: {{token: {{json: /token}}}}}}, {{http: 'ws://local.example:{port}/{{token}}'}}]", login());
    run(vec![
        case("through a tunnel", check(&format!("http: 'ws://local.example:PORT/', proxy: 'http://127.0.0.1:{}'", connects()), socket(RIGHT)), Up, None, ""),
        case("credentials and a header", check("http: 'ws://local.example:PORT/', auth: {bearer: {token: t0ken}}, headers: {X-Should-Be-Sent: 'true'}", socket_if("authorization: Bearer t0ken\r\nx-should-be-sent: true")), Up, None, ""),
        case("each address", check("http: 'ws://local.example:PORT/', ip: each", socket(RIGHT)), Up, None, ""),
        case("last of steps", check(&after(socket(RIGHT)), 0), Up, None, "").also(|outcome| {
            let listed: Vec<_> = outcome.assertions.iter().map(|one| one.what.as_str()).collect();
            assert!(listed.contains(&"step 2: websocket"), "{listed:?}");
        }),
        case("last of steps, refused", check(&after(socket("HTTP/1.1 403 x\r\n\r\n")), 0), Down, Some(Assert), "step 2: status 403, expected 101"),
    ]);
}

#[test]
fn who_accepts_is_told_goodbye_and_who_does_not_is_told_nothing() {
    for (answer, frame) in
        [(RIGHT.to_owned(), true), (but("ACCEPT", "x"), false), ("HTTP/1.1 200 OK\r\n\r\n".into(), false)]
    {
        let (port, heard) = socket_that_hears(answer);
        look(check("http: 'ws://local.example:PORT/'", port), &net(), LONG);
        let heard = heard.recv_timeout(LONG).unwrap();
        let [0x88, 0x82, mask @ .., high, low] = &heard[..] else {
            assert!(!frame && heard.is_empty(), "{heard:?}");
            continue;
        };
        assert!(frame && mask.len() == 4);
        assert_eq!(u16::from_be_bytes([high ^ mask[0], low ^ mask[1]]), 1000);
    }
}

#[test]
fn each_handshake_has_a_key_of_its_own() {
    let port = serve_with(|mut stream| {
        let head = String::from_utf8_lossy(&read_until(&mut stream, b"\r\n\r\n")).into_owned();
        let key = header(&head, "sec-websocket-key").unwrap_or_default();
        let _ = stream.write_all(format!("HTTP/1.1 404 Not Found\r\nx-key: {key}\r\n\r\n").as_bytes());
    });
    let check = check("http: 'ws://local.example:PORT/', expect: {headers: {x-key: {contains: =}}}", port);
    let key = || look(check.clone(), &net(), LONG).assertions.last().map(|one| one.got.clone());
    let (one, other) = (key(), key());
    assert!(one.is_some() && one != other, "{one:?} {other:?}");
}
