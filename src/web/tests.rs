//! Clients of every kind against the real listener. The time that a whole test process is short of is in `PATIENCE`.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::server::{CONNECTIONS_MAX, DEADLINE, HEAD_BYTES_MAX};
use super::*;
use crate::jobs::Stop;
use crate::spool;

const PATIENCE: Duration = Duration::from_secs(20);
const ASK: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A server that runs. Dropped, it must end at once, whoever is connected.
struct Running {
    web: Web,
    jobs: Jobs,
}

fn start() -> Running {
    let (web, jobs) = (Web::listen(([127, 0, 0, 1], 0).into()).unwrap(), Jobs::default());
    let spool = Box::new(spool::Figures::default);
    let health =
        Health { agent: "a".into(), roster: jobs.roster(), spool: Some(spool), flows: Vec::new(), store: None };
    web.serve(&jobs, Arc::new(health)).unwrap();
    Running { web, jobs }
}

impl Running {
    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.web.0.address().unwrap()).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    /// A client that has sent `head` and is still there.
    fn that_sent(&self, head: &[u8]) -> TcpStream {
        let mut client = self.connect();
        client.write_all(head).unwrap();
        client
    }

    /// The whole answer to `head`.
    fn answer(&self, head: &[u8]) -> String {
        rest(self.that_sent(head))
    }

    fn is_well(&self) -> bool {
        self.answer(ASK).starts_with("HTTP/1.1 200 OK\r\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.web.close();
        let began = Instant::now();
        let (late, failed) = self.jobs.join(PATIENCE);
        if !std::thread::panicking() {
            assert!(late.is_empty() && failed.is_empty(), "{late:?} {failed:?}");
            assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        }
    }
}

/// What comes until the server closes.
fn rest(mut client: TcpStream) -> String {
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

/// How a connection ends on which no answer comes, and after how long.
fn end(mut client: TcpStream) -> (Option<usize>, Duration) {
    let began = Instant::now();
    let read = client.read(&mut [0; 64]);
    // Closed with bytes of ours unread: a reset.
    let reset = read.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
    (read.ok().or(reset.then_some(0)), began.elapsed())
}

#[test]
fn every_request_has_its_answer() {
    let large = [&b"GET /healthz HTTP/1.1\r\nX: "[..], &[b'x'; HEAD_BYTES_MAX]].concat();
    let fields = ["GET /healthz HTTP/1.1\r\n", &"X: x\r\n".repeat(65), "\r\n"].concat();
    let body_of = |length| format!("POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    let (most, petabytes, missing) = (body_of(u64::MAX), body_of(1 << 46), body_of(100_000));
    let nowhere = format!("POST /x HTTP/1.1\r\nContent-Length: {}\r\n\r\n", u64::MAX);
    let server = start();
    for (name, head, status) in [
        ("get", ASK, "200 OK"),
        ("query", b"GET /healthz?a=b HTTP/1.1\r\n\r\n", "200 OK"),
        ("HTTP/1.0", b"GET /healthz HTTP/1.0\r\n\r\n", "200 OK"),
        ("lines without carriage return", b"GET /healthz HTTP/1.1\nHost: a\n\n", "200 OK"),
        ("elsewhere", b"GET /x HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("not a path", b"OPTIONS * HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("other method", b"DELETE /healthz HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        ("method of its own", b"BREW /healthz HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        ("body of all bytes there are", most.as_bytes(), "405 Method Not Allowed"),
        ("body of petabytes", petabytes.as_bytes(), "405 Method Not Allowed"),
        ("body that never comes", missing.as_bytes(), "405 Method Not Allowed"),
        ("body of all bytes there are, elsewhere", nowhere.as_bytes(), "404 Not Found"),
        ("length that is none", b"POST /x HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "404 Not Found"),
        ("chunks", b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", "404 Not Found"),
        ("expectation", b"POST /x HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", "404 Not Found"),
        ("garbage", b"\x00\xff\x00\xff\r\n\r\n", "400 Bad Request"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400 Bad Request"),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400 Bad Request"),
        ("HTTP/0.9", b"GET /healthz\r\n", "400 Bad Request"),
        ("field without a colon", b"GET /healthz HTTP/1.1\r\nno field\r\n\r\n", "400 Bad Request"),
        ("large head", &large, "431 Request Header Fields Too Large"),
        ("endless empty lines", &b"\r\n".repeat(HEAD_BYTES_MAX / 2), "431 Request Header Fields Too Large"),
        ("many fields", fields.as_bytes(), "431 Request Header Fields Too Large"),
    ] {
        let answer = server.answer(head);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{name}: {answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{name}: {answer}");
        assert!(head.ends_with("\r\nConnection: close"), "{name}: {answer}");
        assert_eq!(head.contains("\r\nAllow: GET, HEAD\r\n"), status.starts_with("405"), "{name}: {answer}");
        assert!(!body.is_empty(), "{name}: {answer}");
    }
}

#[test]
fn head_has_the_head_of_get_and_no_body() {
    let server = start();
    for target in ["/healthz", "/x"] {
        let [head, get] =
            ["HEAD", "GET"].map(|method| server.answer(format!("{method} {target} HTTP/1.1\r\n\r\n").as_bytes()));
        assert_eq!(Some(head.trim_end()), get.split("\r\n\r\n").next(), "{target}");
    }
}

#[test]
fn what_is_stuck_answers_503() {
    let (server, stop) = (start(), Stop::default());
    let (heard, (begun, has_begun)) = (stop.clone(), crossbeam_channel::bounded(1));
    let slow = move |pulse: &crate::jobs::Pulse| {
        pulse.back_in(Duration::ZERO);
        begun.send(()).unwrap();
        heard.wait(PATIENCE);
        Ok(())
    };
    server.jobs.start("slow", 128 * 1024, slow).unwrap();
    has_begun.recv_timeout(PATIENCE).unwrap();
    let answer = server.answer(ASK);
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n") && answer.contains("`slow`"), "{answer}");
    stop.set();
}

#[test]
fn a_head_may_come_in_pieces() {
    let server = start();
    let mut client = server.connect();
    client.set_nodelay(true).unwrap();
    for byte in ASK {
        client.write_all(&[*byte]).unwrap();
    }
    assert!(rest(client).starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_client_that_stops_in_the_middle_is_told_or_forgotten() {
    let server = start();
    for (name, head, status) in [("middle", &ASK[..20], "HTTP/1.1 400 "), ("nothing", b"", "")] {
        let client = server.that_sent(head);
        client.shutdown(Shutdown::Write).unwrap();
        let answer = rest(client);
        assert!(answer.starts_with(status) && answer.is_empty() == status.is_empty(), "{name}: {answer}");
    }
}

#[test]
fn a_client_that_sends_its_whole_body_first_gets_its_answer() {
    let server = start();
    let mut client = server.that_sent(b"POST /healthz HTTP/1.1\r\nContent-Length: 8388608\r\n\r\n");
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    client.write_all(&vec![b'x'; 8 * 1024 * 1024]).unwrap();
    assert!(rest(client).starts_with("HTTP/1.1 405 "));
}

#[test]
fn one_that_asks_again_and_again_and_never_reads_holds_nobody_up() {
    let server = start();
    let mut client = server.connect();
    client.set_nonblocking(true).unwrap();
    let many = ASK.repeat(1_000);
    let mut sent = 0;
    while sent < 10 * many.len() {
        match client.write(&many) {
            Ok(some) => sent += some,
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(server.is_well());
    // And the server ends at once while that client is there.
    drop(server);
    drop(client);
}

#[test]
fn an_answer_comes_within_a_second_while_sixty_clients_hang() {
    let server = start();
    let hanging: Vec<_> = (0..60).map(|nth| server.that_sent(&ASK[..nth % ASK.len()])).collect();
    for _ in 0..10 {
        let began = Instant::now();
        assert!(server.is_well());
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    drop(hanging);
}

#[test]
fn the_oldest_makes_room_for_those_who_wait() {
    let server = start();
    let mut hanging: Vec<_> = (0..CONNECTIONS_MAX + 40).map(|_| server.that_sent(&ASK[..20])).collect();
    assert!(server.is_well());
    // One more than there were places before the last one came.
    for oldest in hanging.drain(..41) {
        let (read, took) = end(oldest);
        assert!(read == Some(0) && took < DEADLINE / 2, "{read:?} {took:?}");
    }
    hanging[0].set_nonblocking(true).unwrap();
    assert_eq!(hanging[0].read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_client_that_sends_a_byte_now_and_then_is_gone_by_the_deadline() {
    let server = start();
    let (began, mut client) = (Instant::now(), server.connect());
    client.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    for byte in ASK.iter().cycle() {
        if client.write_all(&[*byte]).is_err() {
            break;
        }
        match client.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            ended => {
                assert!(!matches!(ended, Ok(1..)), "an answer to half a head");
                break;
            }
        }
        assert!(began.elapsed() < PATIENCE);
    }
    let took = began.elapsed();
    assert!(took >= DEADLINE - Duration::from_millis(500) && took < DEADLINE * 2, "{took:?}");
}

#[test]
fn a_large_page_goes_out_as_fast_as_it_is_read_and_holds_nobody_up() {
    const LARGE: usize = 32 * 1024 * 1024;
    let (web, jobs) = (Web::listen(([127, 0, 0, 1], 0).into()).unwrap(), Jobs::default());
    let server = web.0.clone();
    let page = |path: &str| if path == "/large" { "x".repeat(LARGE) } else { String::new() };
    jobs.start("web", STACK, move |pulse| {
        server.serve(pulse, &|_, path| Answer { status: 200, kind: PLAIN, body: page(path) })
    })
    .unwrap();
    let server = Running { web, jobs };
    let large = server.that_sent(b"GET /large HTTP/1.1\r\n\r\n");
    large.peek(&mut [0]).unwrap();
    assert!(server.is_well());
    assert!(rest(large).len() > LARGE);
}

#[test]
fn clients_may_go_away_at_any_point() {
    let server = start();
    for length in (0..ASK.len() + 1).chain(0..ASK.len() + 1) {
        drop(server.that_sent(&ASK[..length]));
    }
    assert!(server.is_well());
}
