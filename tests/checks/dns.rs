//! DNS: one question to servers that misbehave. Their messages are put together by hand here, byte by byte, so that reader
//! and writer of the checks are not held against themselves.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use pingeon::check::Outcome;
use pingeon::check::Phase::{Assert, Body, Connect, FirstByte, Resolve, Tls};
use pingeon::check::Verdict::{Degraded, Down, Unknown, Up};
use pingeon::check::dns::{Dns, Expect, Name, Rcode, RecordType, Server, Servers, Transport};
use pingeon::clock::SystemClock;
use pingeon::net::{Host, IpFamily, Net, Pem, TlsSettings};
use pingeon::secret::Secret;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::pki::{Authority, FINE, Issued};
use crate::servers::{Do, closed_port, read_until, reset, serve, serve_with};
use crate::table::*;

const NAME: &str = "www.zone.example";
const ADDRESS: &str = "192.0.2.80";

// What is asked for.
const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
const SOA: u16 = 6;

// Flags of an answer, beside the one that says that it is one.
const ANSWER: u16 = 0x8000;
const AA: u16 = 0x0400;
const TC: u16 = 0x0200;
const OPCODE_NOTIFY: u16 = 4 << 11;

/// Whence a question came.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Udp,
    Tcp,
}

/// What a server does with a question.
#[derive(Clone)]
enum Act {
    /// Send a message.
    Say(Vec<u8>),
    /// Send one from another port, by UDP.
    SayFromElsewhere(Vec<u8>),
    /// Send bytes as they are, by TCP.
    Raw(Vec<u8>),
    /// Send a message one byte at a time, by TCP.
    Drip(Vec<u8>, Duration),
    /// Close with a reset.
    Reset,
    /// Say nothing more, until the other side goes.
    Hang,
}

use Act::*;

/// An answer, to be written.
#[derive(Clone)]
struct Answer {
    id_off: u16,
    flags: u16,
    /// Instead of the one that was asked.
    question: Option<Vec<u8>>,
    answers: Vec<Vec<u8>>,
    authority: Vec<Vec<u8>>,
    additional: Vec<Vec<u8>>,
    /// Whatever is behind all sections.
    tail: Vec<u8>,
    /// How many answers there are said to be.
    claims: Option<u16>,
}

fn answer() -> Answer {
    Answer {
        id_off: 0,
        flags: ANSWER,
        question: None,
        answers: Vec::new(),
        authority: Vec::new(),
        additional: Vec::new(),
        tail: Vec::new(),
        claims: None,
    }
}

impl Answer {
    fn flags(mut self, flags: u16) -> Self {
        self.flags |= flags;
        self
    }

    fn with(mut self, record: Vec<u8>) -> Self {
        self.answers.push(record);
        self
    }

    fn authority(mut self, record: Vec<u8>) -> Self {
        self.authority.push(record);
        self
    }

    fn additional(mut self, record: Vec<u8>) -> Self {
        self.additional.push(record);
        self
    }

    fn to(self, query: &[u8]) -> Vec<u8> {
        let id = u16::from_be_bytes([query[0], query[1]]).wrapping_add(self.id_off);
        let asked = self.question.clone().unwrap_or_else(|| question_of(query).to_vec());
        let count = |records: &[Vec<u8>]| u16::try_from(records.len()).unwrap();
        let numbers = [
            id,
            self.flags,
            u16::from(!asked.is_empty()),
            self.claims.unwrap_or(count(&self.answers)),
            count(&self.authority),
            count(&self.additional),
        ];
        let mut message: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        message.extend(asked);
        for record in [&self.answers, &self.authority, &self.additional].into_iter().flatten() {
            message.extend(record);
        }
        message.extend(&self.tail);
        message
    }
}

/// The question section of a query: a name, a type and a class.
fn question_of(query: &[u8]) -> &[u8] {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    &query[12..end]
}

fn name(text: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        wire.push(u8::try_from(label.len()).unwrap());
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// The name that was asked for, by a pointer to it.
const ASKED: [u8; 2] = [0xc0, 12];

fn record_of(owner: &[u8], kind: u16, class: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = owner.to_vec();
    record.extend([kind.to_be_bytes(), class.to_be_bytes()].concat());
    record.extend(ttl.to_be_bytes());
    record.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    record.extend(data);
    record
}

fn record(kind: u16, data: &[u8]) -> Vec<u8> {
    record_of(&ASKED, kind, 1, 300, data)
}

fn a(last: u8) -> Vec<u8> {
    record(A, &[192, 0, 2, last])
}

fn soa(serial: u32) -> Vec<u8> {
    let mut data = [name("ns1.zone.example"), name("hostmaster.zone.example")].concat();
    [serial, 7200, 3600, 1_209_600, 300].iter().for_each(|number| data.extend(number.to_be_bytes()));
    record(SOA, &data)
}

/// OPT with an extended response code and options.
fn opt(rcode_high: u8, options: &[u8]) -> Vec<u8> {
    record_of(&[0], 41, 1232, u32::from(rcode_high) << 24, options)
}

fn fine() -> Answer {
    answer().flags(AA).with(a(80))
}

/// A server on UDP and TCP at one port.
fn server(acts: impl Fn(&[u8], By) -> Vec<Act> + Send + Sync + 'static) -> u16 {
    let (udp, tcp) = both_at("127.0.0.1");
    let port = udp.local_addr().unwrap().port();
    let acts = Arc::new(acts);
    let by_udp = acts.clone();
    std::thread::spawn(move || answer_datagrams(&udp, &*by_udp));
    std::thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            let acts = acts.clone();
            std::thread::spawn(move || converse(stream, &*acts));
        }
    });
    port
}

/// A server that gives the same answer to all.
fn says(answer: Answer) -> u16 {
    server(move |query, _| vec![Say(answer.clone().to(query))])
}

/// The same that is asked by UDP only: nobody listens on TCP.
fn by_udp_only(acts: impl Fn(&[u8], By) -> Vec<Act> + Send + 'static) -> u16 {
    let (udp, tcp) = both_at("127.0.0.1");
    drop(tcp);
    let port = udp.local_addr().unwrap().port();
    std::thread::spawn(move || answer_datagrams(&udp, &acts));
    port
}

/// A server whose answer by UDP is cut off, and that does this by TCP.
fn cut_then(acts: impl Fn(&[u8]) -> Vec<Act> + Send + Sync + 'static) -> u16 {
    server(move |query, by| match by {
        By::Udp => vec![Say(answer().flags(TC).to(query))],
        By::Tcp => acts(query),
    })
}

fn both_at(address: &str) -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind((address, 0)).unwrap();
        // Somebody may have the same port of UDP.
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

fn answer_datagrams(socket: &UdpSocket, acts: &dyn Fn(&[u8], By) -> Vec<Act>) {
    let mut buffer = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        for act in acts(&buffer[..length], By::Udp) {
            match act {
                Say(message) => drop(socket.send_to(&message, from)),
                SayFromElsewhere(message) => {
                    drop(UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&message, from));
                }
                _ => {}
            }
        }
    }
}

fn converse(mut stream: TcpStream, acts: &dyn Fn(&[u8], By) -> Vec<Act>) {
    let mut length = [0; 2];
    if stream.read_exact(&mut length).is_err() {
        return;
    }
    let mut query = vec![0; u16::from_be_bytes(length).into()];
    if stream.read_exact(&mut query).is_err() {
        return;
    }
    for act in acts(&query, By::Tcp) {
        let _ = match act {
            Say(message) => stream.write_all(&framed(&message)),
            Raw(bytes) => stream.write_all(&bytes),
            Drip(message, pause) => framed(&message).iter().try_for_each(|byte| {
                std::thread::park_timeout(pause);
                stream.write_all(&[*byte])
            }),
            Reset => return reset(&stream),
            Hang => {
                while matches!(stream.read(&mut [0; 512]), Ok(1..)) {}
                Ok(())
            }
            SayFromElsewhere(_) => Ok(()),
        };
    }
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = read_until(&mut stream, b"\0\0\0\0never");
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

fn record_type(name: &str) -> RecordType {
    RecordType::KNOWN.iter().find(|(known, _)| *known == name).unwrap().1
}

fn rcode(name: &str) -> Rcode {
    Rcode::KNOWN.iter().find(|(known, _)| *known == name).unwrap().1
}

fn here(port: u16) -> Server {
    Server { host: Host::Address([127, 0, 0, 1].into()), port }
}

/// The A records of [`NAME`], of the server at `port`.
fn ask(port: u16) -> Dns {
    ask_each(vec![here(port)])
}

fn ask_each(servers: Vec<Server>) -> Dns {
    Dns {
        name: Name::parse(NAME).unwrap(),
        record: record_type("A"),
        servers: Servers::Listed(servers),
        transport: Transport::Udp,
        recursion: true,
        ip: IpFamily::Any,
        tls: Arc::default(),
        expect: Expect::default(),
    }
}

fn by_tcp(port: u16) -> Dns {
    Dns { transport: Transport::Tcp, ..ask(port) }
}

/// What `dns` expects, after `change`.
fn expecting(mut dns: Dns, change: impl FnOnce(&mut Expect)) -> Dns {
    change(&mut dns.expect);
    dns
}

fn of_type(kind: &str, dns: Dns) -> Dns {
    Dns { record: record_type(kind), ..dns }
}

/// A check of one record of `kind` with `data`, that expects its text.
fn holds(kind: &str, data: &[u8], text: &str) -> Dns {
    let port = says(answer().with(record(record_number(kind), data)));
    expecting(of_type(kind, ask(port)), |expect| expect.answers.equals = Some(Secret::new(text)))
}

fn record_number(kind: &str) -> u16 {
    record_type(kind).0
}

fn exactly(texts: &[&str]) -> Option<Vec<Secret>> {
    Some(texts.iter().map(|text| Secret::new(*text)).collect())
}

fn ignored(outcome: &Outcome, what: &str) -> u64 {
    outcome.result["ignored"][what].as_u64().unwrap()
}

#[test]
#[rustfmt::skip]
fn answers_that_do_not_come() {
    let hangs = || server(|_, _| vec![Hang]);
    run(vec![
        case("answers", ask(says(fine())), Up, None, "").also(|outcome| {
            let result = &outcome.result;
            assert_eq!((&result["rcode"], &result["answers"], &result["answer_count"]), (&"NOERROR".into(), &serde_json::json!([ADDRESS]), &1.into()));
            assert_eq!((&result["transport"], &result["authoritative"], &result["ttl"]), (&"udp".into(), &true.into(), &300.into()));
            assert!(result["address"].as_str().unwrap().starts_with("127.0.0.1:") && result.get("ignored").is_none() && result.get("cut_by_udp").is_none());
            let phases = outcome.phases;
            assert!(phases.send.is_some() && phases.first_byte.is_some() && phases.body.is_some());
            assert_eq!((phases.resolve, phases.connect, phases.tls), (None, None, None));
        }),
        case("says nothing", ask(hangs()), Down, Some(FirstByte), "no answer from 127.0.0.1:").within(SHORT).also(|outcome| {
            assert!(outcome.reason.as_ref().unwrap().ends_with("within 300 ms"), "{:?}", outcome.reason);
            assert!(outcome.phases.first_byte.unwrap() > 250_000 && outcome.phases.body.is_none());
            assert!(outcome.assertions.is_empty() && outcome.result.get("rcode").is_none());
        }),
        case("nobody listens", ask(closed_udp_port()), Down, Some(FirstByte), "connection refused by 127.0.0.1:"),
        case("has a deadline that is past", ask(says(fine())), Down, Some(FirstByte), "no answer from").within(Duration::ZERO),
        case("nobody listens on TCP", by_tcp(closed_port()), Down, Some(Connect), "connection refused by 127.0.0.1:"),
        case("says nothing by TCP", by_tcp(hangs()), Down, Some(FirstByte), "no answer from 127.0.0.1:").within(SHORT),
        case("closes", by_tcp(server(|_, _| vec![])), Down, Some(FirstByte), "connection closed by 127.0.0.1:"),
        case("resets", by_tcp(server(|_, _| vec![Reset])), Down, Some(FirstByte), "connection reset by 127.0.0.1:"),
        case("closes in the length", by_tcp(server(|_, _| vec![Raw(vec![0])])), Down, Some(Body), "connection closed by 127.0.0.1:"),
        case("closes in the message", by_tcp(server(|_, _| vec![Raw(vec![0, 99, 1, 2])])), Down, Some(Body), "in the middle of the answer"),
        case("hangs in the message", by_tcp(server(|_, _| vec![Raw(vec![0, 99, 1, 2]), Hang])), Down, Some(Body), "not complete within 300 ms").within(SHORT),
        case("drips", by_tcp(server(|query, _| vec![Drip(fine().to(query), Duration::from_millis(20))])), Down, Some(Body), "not complete within 300 ms").within(SHORT),
        case("drips in time", by_tcp(server(|query, _| vec![Drip(fine().to(query), Duration::from_micros(100))])), Up, None, ""),
        case("answers by TCP", by_tcp(says(fine())), Up, None, "").also(|outcome| {
            assert_eq!(outcome.result["transport"], "tcp");
            assert!(outcome.phases.connect.is_some() && outcome.phases.body.is_some() && outcome.phases.tls.is_none());
        }),
        case("has no such server name", ask_each(vec![Server { host: Host::Name("nowhere.example".into()), port: 53 }]), Down, Some(Resolve), "no such name: `nowhere.example`"),
        case("has a server name that nobody knows of", ask_each(vec![Server { host: Host::Name("servfail.example".into()), port: 53 }]), Unknown, Some(Resolve), "the name service did not answer"),
        case("has a server name without such addresses", Dns { ip: IpFamily::V6, ..ask_each(vec![Server { host: Host::Name("v4-only.example".into()), port: 53 }]) }, Down, Some(Resolve), "has no IPv6 address"),
        case("has a server name", ask_each(vec![Server { host: Host::Name("local.example".into()), port: says(fine()) }]), Up, None, "").also(|outcome| {
            assert!(outcome.phases.resolve.is_some());
        }),
        case("has a server name whose first address refuses", ask_each(vec![Server { host: Host::Name("first-refuses.example".into()), port: says(fine()) }]), Up, None, "").also(|outcome| {
            assert!(outcome.result["silent"][0].as_str().unwrap().starts_with("connection refused by 127.0.0.2:"), "{:?}", outcome.result);
            assert!(outcome.result["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{:?}", outcome.result);
        }),
        case("has a server name whose addresses all refuse", ask_each(vec![Server { host: Host::Name("all-refuse.example".into()), port: closed_udp_port() }]), Down, Some(FirstByte), "(2 addresses tried)"),
    ]);
}

/// A port of UDP where whoever sends is refused: its socket is connected, and only takes what comes from the other end.
fn closed_udp_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect("127.0.0.9:9").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::mem::forget(socket);
    port
}

#[test]
#[rustfmt::skip]
fn what_does_not_answer_the_question() {
    let before = |say: fn(&[u8]) -> Act| server(move |query, _| vec![say(query), Say(fine().to(query))]);
    let only = |say: fn(&[u8]) -> Act| server(move |query, _| vec![say(query)]);
    let other_question = |query: &[u8]| {
        let question = [name("other.example"), vec![0, 1, 0, 1]].concat();
        Say(Answer { question: Some(question), ..fine() }.to(query))
    };
    let other_type = |query: &[u8]| {
        let mut question = question_of(query).to_vec();
        let kind = question.len() - 3;
        question[kind] = 28;
        Say(Answer { question: Some(question), ..fine() }.to(query))
    };
    let other_id = |query: &[u8]| Say(Answer { id_off: 1, ..fine() }.to(query));
    let in_capitals = |query: &[u8]| Say(Answer { question: Some(question_of(query).to_ascii_uppercase()), ..fine() }.to(query));
    run(vec![
        case("other id first", ask(before(other_id)), Up, None, "").also(|outcome| {
            assert_eq!((ignored(outcome, "id"), ignored(outcome, "question"), ignored(outcome, "source")), (1, 0, 0));
        }),
        case("other id only", ask(only(other_id)), Down, Some(FirstByte), "within 300 ms (ignored: 1 with another id)").within(SHORT).also(|outcome| {
            assert_eq!(ignored(outcome, "id"), 1);
        }),
        case("other question first", ask(before(other_question)), Up, None, "").also(|outcome| assert_eq!(ignored(outcome, "question"), 1)),
        case("other question only", ask(only(other_question)), Down, Some(FirstByte), "(ignored: 1 to another question)").within(SHORT),
        case("other type first", ask(before(other_type)), Up, None, "").also(|outcome| assert_eq!(ignored(outcome, "question"), 1)),
        case("no question", ask(only(|query| Say(Answer { question: Some(Vec::new()), ..fine() }.to(query)))), Down, Some(FirstByte), "(ignored: 1 to another question)").within(SHORT),
        case("same question in capitals", ask(only(in_capitals)), Up, None, ""),
        case("from another port first", ask(before(|query| SayFromElsewhere(fine().to(query)))), Up, None, "").also(|outcome| assert_eq!(ignored(outcome, "source"), 1)),
        case("from another port only", ask(only(|query| SayFromElsewhere(fine().to(query)))), Down, Some(FirstByte), "(ignored: 1 from elsewhere)").within(SHORT),
        case("the question itself first", ask(before(|query| Say(query.to_vec()))), Up, None, "").also(|outcome| assert_eq!(ignored(outcome, "garbage"), 1)),
        case("a few bytes only", ask(only(|_| Say(b"SSH-2.0".to_vec()))), Down, Some(FirstByte), "(ignored: 1 that are no answers)").within(SHORT),
        case("nothing at all in a datagram", ask(before(|_| Say(Vec::new()))), Up, None, "").also(|outcome| assert_eq!(ignored(outcome, "garbage"), 1)),
        case("a notification", ask(only(|query| Say(fine().flags(OPCODE_NOTIFY).to(query)))), Down, Some(FirstByte), "(ignored: 1 that are no answers)").within(SHORT),
        case("a flood", by_tcp(server(move |query, _| vec![other_id(query); 1_001])), Down, Some(FirstByte), "that do not answer the question"),
        case("other id first, by TCP", by_tcp(before(other_id)), Up, None, "").also(|outcome| assert_eq!(ignored(outcome, "id"), 1)),
        case("other question only, by TCP", by_tcp(only(other_question)), Down, Some(FirstByte), "connection closed by").also(|outcome| assert_eq!(ignored(outcome, "question"), 1)),
        case("empty message, by TCP", by_tcp(before(|_| Say(Vec::new()))), Up, None, "").also(|outcome| assert_eq!(ignored(outcome, "garbage"), 1)),
        case("an error without the question", ask(says(Answer { question: Some(Vec::new()), ..answer().flags(1) })), Down, Some(Assert), "FORMERR (the server did not understand the question), expected NOERROR"),
    ]);
}

#[test]
#[rustfmt::skip]
fn messages_that_cannot_be_read() {
    let broken = |answer: Answer| ask(says(answer));
    let at_answer = 12 + name(NAME).len() as u16 + 4;
    let pointer = |to: u16| (0xc000 | to).to_be_bytes();
    let long_label = [vec![63], vec![b'x'; 63]].concat();
    let long_name = [long_label.repeat(5), vec![0]].concat();
    run(vec![
        case("ends in a record", broken(Answer { claims: Some(2), ..fine() }), Down, Some(Body), "cannot be read: it ends too early"),
        case("a name that points at itself", broken(answer().with(record_of(&pointer(at_answer), A, 1, 0, &[192, 0, 2, 80]))), Down, Some(Body), "a name in it runs in a circle"),
        case("a name that points at its own beginning", broken(answer().with(record_of(&[&b"\x01x"[..], &pointer(at_answer)].concat(), A, 1, 0, &[192, 0, 2, 80]))), Down, Some(Body), "a name in it runs in a circle"),
        case("a name that points ahead", broken(answer().with(record_of(&pointer(at_answer + 4), A, 1, 0, &[192, 0, 2, 80]))), Down, Some(Body), "a name in it runs in a circle"),
        case("a name that points beyond the end", broken(answer().with(record_of(&pointer(0x3fff), A, 1, 0, &[192, 0, 2, 80]))), Down, Some(Body), "a name in it runs in a circle"),
        case("a name that is too long", broken(answer().with(record_of(&long_name, A, 1, 0, &[192, 0, 2, 80]))), Down, Some(Body), "a name in it is too long"),
        case("a label of an unknown kind", broken(answer().with(record_of(&[0x80, 0], A, 1, 0, &[192, 0, 2, 80]))), Down, Some(Body), "a part of an unknown kind"),
        case("an address that is too short", broken(answer().with(record(A, &[192, 0, 2]))), Down, Some(Body), "it ends too early"),
        case("an address that is too long", broken(answer().with(record(A, &[192, 0, 2, 80, 0]))), Down, Some(Body), "a record is longer than what it holds"),
        case("a name in a record that leaves it", of_type("NS", broken(answer().with(record(NS, b"\x07ns1")))), Down, Some(Body), "it ends too early"),
        case("a record without its end", broken(Answer { tail: vec![0xc0, 12, 0, 1], claims: Some(1), ..answer() }), Down, Some(Body), "it ends too early"),
        case("an option that is too long", broken(fine().additional(opt(0, &[0, 15, 0, 9, 0, 6]))), Down, Some(Body), "it ends too early"),
        case("bytes behind the message", broken(Answer { tail: b"more".to_vec(), ..fine() }), Up, None, ""),
        case("unreadable by TCP", by_tcp(says(Answer { claims: Some(2), ..fine() })), Down, Some(Body), "cannot be read"),
        case("pointers to pointers", broken(many_pointers()), Down, Some(Body), "a name in it"),
    ]);
}

/// Many records whose names lead through many pointers each: what reading must not take long for.
fn many_pointers() -> Answer {
    let at = 12 + name(NAME).len() + 4;
    // One record of nothing but pointers, each to the one before it.
    let first = at + 2 + 10;
    let pointers: Vec<u8> = (0..7_000_usize)
        .flat_map(|nth| {
            let to = if nth == 0 { 12 } else { first + 2 * (nth - 1) };
            (0xc000 | u16::try_from(to).unwrap()).to_be_bytes()
        })
        .collect();
    let last = u16::try_from(first + pointers.len() - 2).unwrap();
    let owner = (0xc000 | last).to_be_bytes();
    let mut answer = answer().with(record(65_280, &pointers));
    for _ in 0..2_000 {
        answer = answer.with(record_of(&owner, 65_280, 1, 0, &[]));
    }
    answer
}

#[test]
#[rustfmt::skip]
fn answers_that_were_cut_off() {
    let fine_by_tcp = || cut_then(|query| vec![Say(fine().to(query))]);
    run(vec![
        case("whole by TCP", ask(fine_by_tcp()), Up, None, "").also(|outcome| {
            assert_eq!((&outcome.result["cut_by_udp"], &outcome.result["transport"]), (&true.into(), &"tcp".into()));
            assert!(outcome.phases.connect.is_some() && outcome.phases.first_byte.is_some());
        }),
        case("TCP refused", ask(by_udp_only(|query, _| vec![Say(answer().flags(TC).to(query))])), Down, Some(Connect), "the answer by UDP was cut off, and by TCP: connection refused by 127.0.0.1:"),
        case("nothing by TCP", ask(cut_then(|_| vec![Hang])), Down, Some(FirstByte), "the answer by UDP was cut off, and by TCP: no answer from").within(SHORT),
        case("cut off by TCP, too", ask(cut_then(|query| vec![Say(answer().flags(TC).to(query))])), Down, Some(Body), "was cut off, though not by UDP"),
        case("cut off by TCP alone", by_tcp(says(answer().flags(TC))), Down, Some(Body), "was cut off, though not by UDP"),
        case("cut off in the middle of a record", ask(server(|query, by| match by {
            By::Udp => vec![Say(Answer { claims: Some(9), tail: vec![0xc0], ..answer().flags(TC) }.to(query))],
            By::Tcp => vec![Say(fine().to(query))],
        })), Up, None, ""),
        case("large by TCP", expecting(ask(cut_then(|query| vec![Say((0..=255).fold(answer(), |answer, last| answer.with(a(last))).to(query))])), |expect| expect.answers_min = 256), Up, None, "").also(|outcome| {
            assert_eq!((&outcome.result["answer_count"], outcome.result["answers"].as_array().unwrap().len()), (&256.into(), 20));
        }),
    ]);
}

#[test]
#[rustfmt::skip]
fn expectations() {
    let two = || says(answer().with(a(80)).with(a(81)));
    let expecting_of = |port: u16, change: fn(&mut Expect)| expecting(ask(port), change);
    let says_rcode = |rcode: u16| says(answer().flags(rcode));
    let zone_of = |serial: u32| here(says(answer().flags(AA).with(soa(serial))));
    let serials = |servers: Vec<Server>| expecting(of_type("SOA", ask_each(servers)), |expect| expect.same_serial = true);
    let alias = |target: &str| record(CNAME, &name(target));
    let address_of = |owner: &str| record_of(&name(owner), A, 1, 60, &[192, 0, 2, 80]);
    let referral = |record: Vec<u8>| says(answer().authority(record));
    run(vec![
        case("NXDOMAIN", ask(says_rcode(3)), Down, Some(Assert), "NXDOMAIN (no such name), expected NOERROR").also(|outcome| assert_eq!(outcome.result["rcode"], "NXDOMAIN")),
        case("NXDOMAIN as expected", expecting(ask(says_rcode(3)), |expect| (expect.rcode, expect.answers_min) = (rcode("NXDOMAIN"), 0)), Up, None, ""),
        case("NOERROR where NXDOMAIN is expected", expecting_of(two(), |expect| (expect.rcode, expect.answers_min) = (rcode("NXDOMAIN"), 0)), Down, Some(Assert), "NOERROR, expected NXDOMAIN"),
        case("SERVFAIL", ask(says_rcode(2)), Down, Some(Assert), "SERVFAIL (the server failed), expected NOERROR"),
        case("SERVFAIL with its reason", ask(says(answer().flags(2).additional(opt(0, b"\x00\x0f\x00\x05\x00\x07old")))), Down, Some(Assert), "expected NOERROR; extended error 7, signature expired: `old`").also(|outcome| {
            assert_eq!(outcome.result["extended_error"], serde_json::json!({"code": 7, "text": "old"}));
        }),
        case("REFUSED", ask(says_rcode(5)), Down, Some(Assert), "REFUSED (the server does not answer this agent"),
        case("BADVERS", ask(says(answer().additional(opt(1, &[])))), Down, Some(Assert), "BADVERS (the server knows no such version of EDNS)"),
        case("an unknown code", ask(says_rcode(12)), Down, Some(Assert), "RCODE12, expected NOERROR"),
        case("no record", ask(says(answer())), Down, Some(Assert), "no A record of `www.zone.example`, expected at least 1"),
        case("no record, as expected", expecting_of(says(answer()), |expect| (expect.exactly, expect.answers_min) = (exactly(&[]), 0)), Up, None, ""),
        case("a referral", ask(referral(record_of(&name("zone.example"), NS, 1, 60, &name("ns9.zone.example")))), Down, Some(Assert), "the server knows nothing of it and refers to `ns9.zone.example.`"),
        case("one record of two", expecting_of(says(fine()), |expect| expect.answers_min = 2), Down, Some(Assert), "1 A record of `www.zone.example`, expected at least 2"),
        case("contains", expecting_of(two(), |expect| expect.answers = contains("192.0.2.81")), Up, None, ""),
        case("does not contain", expecting_of(two(), |expect| expect.answers = contains("192.0.2.82")), Down, Some(Assert), "no answer contains `192.0.2.82`").also(|outcome| {
            let failed = outcome.assertions.iter().find(|one| !one.held).unwrap();
            assert_eq!((&*failed.what, &*failed.got), ("answers.contains", "192.0.2.80, 192.0.2.81"));
        }),
        case("holds what it must not", expecting_of(two(), |expect| expect.answers = lacks(".81")), Down, Some(Assert), "answer contains `.81`"),
        case("matches", expecting_of(two(), |expect| expect.answers = matches("^192[.]0[.]2[.]81$")), Up, None, ""),
        case("does not match", expecting_of(two(), |expect| expect.answers = matches("^10[.]")), Down, Some(Assert), "no answer matches `^10[.]`"),
        case("exactly, in another order", expecting_of(two(), |expect| expect.exactly = exactly(&["192.0.2.81", ADDRESS])), Up, None, ""),
        case("one more than exactly", expecting_of(two(), |expect| expect.exactly = exactly(&[ADDRESS])), Down, Some(Assert), "the answers are `192.0.2.80, 192.0.2.81`, expected exactly `192.0.2.80`"),
        case("one less than exactly", expecting_of(says(fine()), |expect| expect.exactly = exactly(&[ADDRESS, "192.0.2.81"])), Down, Some(Assert), "the answers are `192.0.2.80`, expected exactly"),
        case("authoritative", expecting_of(says(fine()), |expect| expect.authoritative = Some(true)), Up, None, ""),
        case("not authoritative", expecting_of(two(), |expect| expect.authoritative = Some(true)), Down, Some(Assert), "the answer is not authoritative"),
        case("authoritative where it must not be", expecting_of(says(fine()), |expect| expect.authoritative = Some(false)), Down, Some(Assert), "the answer is authoritative"),
        case("authority", expecting_of(says(fine().authority(record_of(&name("zone.example"), NS, 1, 60, &name("NS1.zone.example")))), |expect| expect.authority = contains("zone.example. NS ns1.zone.example.")), Up, None, ""),
        case("no such authority", expecting_of(says(fine()), |expect| expect.authority = contains("ns1")), Down, Some(Assert), "no record in the authority section contains `ns1`"),
        case("slow", expecting_of(two(), |expect| expect.under = Some(Duration::from_nanos(1))), Degraded, None, "expected at most"),
        case("an alias", ask(says(answer().with(alias("other.example")).with(address_of("other.example")))), Up, None, "").also(|outcome| {
            assert_eq!((&outcome.result["aliases"], &outcome.result["ttl"]), (&serde_json::json!(["other.example."]), &60.into()));
        }),
        case("aliases in disorder", ask(says(answer().with(address_of("c.example")).with(record_of(&name("B.example"), CNAME, 1, 60, &name("c.example"))).with(alias("b.EXAMPLE")))), Up, None, ""),
        case("an alias that leads nowhere", ask(says(answer().with(alias("other.example")))), Down, Some(Assert), "it is an alias of `other.example.`, of which the server says nothing"),
        case("an address of another name", ask(says(answer().with(address_of("other.example")))), Down, Some(Assert), "no A record of"),
        case("aliases in a circle", ask(says(answer().with(alias(NAME)))), Down, Some(Assert), "more than 16 aliases, or they run in a circle"),
        case("the alias itself is asked for", of_type("CNAME", ask(says(answer().with(alias("other.example"))))), Up, None, "").also(|outcome| assert_eq!(outcome.result["answers"][0], "other.example.")),
        case("a record of another class", ask(says(answer().with(record_of(&ASKED, A, 3, 0, &[192, 0, 2, 80])))), Down, Some(Assert), "no A record of"),
        case("same serials", serials(vec![zone_of(7), zone_of(7)]), Up, None, "").also(|outcome| {
            assert_eq!((&outcome.result["servers"][0]["serial"], outcome.result["servers"].as_array().unwrap().len()), (&7.into(), 2));
        }),
        case("other serials", serials(vec![zone_of(8), zone_of(7)]), Down, Some(Assert), "serial numbers differ: 8 at 127.0.0.1:"),
        case("no serial", serials(vec![zone_of(8), here(says(answer()))]), Down, Some(Assert), "no SOA record of"),
        case("one of two servers is gone", serials(vec![zone_of(8), here(closed_udp_port())]), Down, Some(FirstByte), "connection refused by 127.0.0.1:").also(|outcome| {
            assert!(outcome.result["servers"][1]["failed"].as_str().unwrap().contains("refused"), "{:?}", outcome.result);
            assert_eq!(outcome.result["servers"][0]["serial"], 8);
        }),
        case("one of two servers lags behind", ask_each(vec![here(says(fine())), here(says(answer().flags(3)))]), Down, Some(Assert), ": NXDOMAIN (no such name), expected NOERROR"),
        case("one of two servers cannot be asked", ask_each(vec![Server { host: Host::Name("servfail.example".into()), port: 53 }, here(says(fine()))]), Unknown, Some(Resolve), "the name service did not answer"),
        case("a wrong one outweighs one that cannot be asked", ask_each(vec![Server { host: Host::Name("servfail.example".into()), port: 53 }, here(says(answer().flags(3)))]), Down, Some(Assert), "NXDOMAIN"),
        case("a slow one leaves time for the other", ask_each(vec![here(server(|_, _| vec![Hang])), here(says(fine()))]), Down, Some(FirstByte), "within 150 ms").within(SHORT).also(|outcome| {
            assert_eq!(outcome.result["servers"][1]["rcode"], "NOERROR");
        }),
    ]);
}

#[test]
#[rustfmt::skip]
fn records_of_every_type() {
    let mail = name("Mail.zone.example");
    run(vec![
        case("A", holds("A", &[192, 0, 2, 80], ADDRESS), Up, None, ""),
        case("AAAA", holds("AAAA", &"2001:db8::80".parse::<std::net::Ipv6Addr>().unwrap().octets(), "2001:DB8:0::80"), Up, None, ""),
        case("CNAME", holds("CNAME", &mail, "Mail.zone.example"), Up, None, ""),
        case("MX", holds("MX", &[&[0, 10][..], &mail].concat(), "10 mail.zone.example."), Up, None, ""),
        case("NS", holds("NS", b"\x02ns\xc0\x10", "ns.zone.example."), Up, None, ""),
        case("TXT", holds("TXT", b"\x09v=spf1 a \x04-all", "v=spf1 a -all"), Up, None, ""),
        case("SOA", holds("SOA", &[&name("a")[..], &name("b"), &[0; 19], &[9]].concat(), "a. b. 0 0 0 0 9"), Up, None, ""),
        case("SRV", holds("SRV", &[&[0, 1, 0, 2, 0x13, 0xc4][..], &mail].concat(), "1 2 5060 mail.zone.example."), Up, None, ""),
        case("PTR", holds("PTR", &mail, "mail.zone.example."), Up, None, ""),
        case("CAA", holds("CAA", b"\x80\x05issueca.example", "128 issue \"ca.example\""), Up, None, ""),
        case("DS", holds("DS", &[0xbe, 0xef, 13, 2, 0xab], "48879 13 2 AB"), Up, None, ""),
        case("TLSA", holds("TLSA", &[3, 1, 1, 0xab, 0xcd], "3 1 1 abcd"), Up, None, ""),
        case("control characters", of_type("TXT", ask(says(answer().with(record(16, b"\x04\x1b[2J"))))), Up, None, "").also(|outcome| assert_eq!(outcome.result["answers"][0], "\\u{1b}[2J")),
        case("empty text", holds("TXT", b"\x00", ""), Up, None, ""),
    ]);
}

#[test]
fn what_is_asked() {
    let (asked, heard) = std::sync::mpsc::channel();
    let port = server(move |query, _| {
        let _ = asked.send(query.to_vec());
        vec![Say(answer().with(a(80)).to(query))]
    });
    let dns = ask(port);
    run(vec![case("with recursion", dns.clone(), Up, None, "")]);
    run(vec![case("without", Dns { recursion: false, ..dns.clone() }, Up, None, "")]);
    let messages: Vec<Vec<u8>> = heard.try_iter().collect();
    let rest = [name(NAME), vec![0, 1, 0, 1], vec![0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]].concat();
    for (message, flags) in messages.iter().zip([1, 0]) {
        assert_eq!(message[2..12], [flags, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert_eq!(message[12..], rest);
    }
    // Of 40 ids few are the same, if they are drawn.
    run((0..40).map(|_| case("again", dns.clone(), Up, None, "")).collect());
    let ids: std::collections::HashSet<Vec<u8>> = heard.try_iter().map(|message| message[..2].to_vec()).collect();
    assert!(messages.len() == 2 && ids.len() > 35, "{} ids", ids.len());
}

/// A network whose own servers are these.
fn with_resolvers(resolvers: Result<Vec<SocketAddr>, String>) -> Arc<Net> {
    let names = Arc::new(|_: &str, _: IpFamily| Err(pingeon::net::lookup::Unresolved::NoSuchName));
    Arc::new(Net::new(Arc::new(SystemClock), |_| None, names).with_resolvers(Arc::new(move || resolvers.clone())))
}

#[test]
#[rustfmt::skip]
fn the_servers_of_the_system() {
    let system = || Dns { servers: Servers::System, ..ask(1) };
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let (hangs, refuses) = (at(server(|_, _| vec![Hang])), at(closed_udp_port()));
    let (answers, fails) = (at(says(fine())), at(says(answer().flags(2))));
    run(vec![
        case("the first answers", system(), Up, None, "").on(with_resolvers(Ok(vec![answers, fails]))).also(|outcome| assert!(outcome.result.get("silent").is_none())),
        case("the first refuses", system(), Up, None, "").on(with_resolvers(Ok(vec![refuses, answers]))).also(|outcome| {
            assert!(outcome.result["silent"][0].as_str().unwrap().contains("refused"), "{:?}", outcome.result);
        }),
        case("the first is silent", system(), Up, None, "").on(with_resolvers(Ok(vec![hangs, answers]))).within(SHORT).also(|outcome| {
            assert!(outcome.result["silent"][0].as_str().unwrap().ends_with("within 150 ms"), "{:?}", outcome.result);
        }),
        case("the first fails", system(), Down, Some(Assert), "SERVFAIL").on(with_resolvers(Ok(vec![fails, answers]))),
        case("none answers", system(), Down, Some(FirstByte), "(2 addresses tried)").on(with_resolvers(Ok(vec![refuses, hangs]))).within(SHORT),
        case("nobody knows them", system(), Unknown, Some(Resolve), "cannot read it").on(with_resolvers(Err("cannot read it".to_owned()))),
    ]);
}

/// A server that speaks TLS and answers `answer`.
fn by_tls(issued: Issued, answer: Answer) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = issued.private_key();
    let config = Arc::new(builder.with_no_client_auth().with_single_cert(issued.chain, key).unwrap());
    serve_with(move |stream| {
        let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
        let mut length = [0; 2];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut query = vec![0; u16::from_be_bytes(length).into()];
        if stream.read_exact(&mut query).is_ok() {
            let _ = stream.write_all(&framed(&answer.clone().to(&query)));
            let _ = stream.read(&mut [0; 1]);
        }
    })
}

#[test]
#[rustfmt::skip]
fn over_tls() {
    let root = Authority::root("Test Root");
    let trusting = |host: &str, port: u16| {
        let ca = Some(Pem { path: "ca.pem".into(), content: Secret::new(root.pem()) });
        let host = Host::parse(host);
        Dns { transport: Transport::Tls, tls: Arc::new(TlsSettings { ca, ..TlsSettings::default() }), ..ask_each(vec![Server { host, port }]) }
    };
    let named = |issued: Issued| trusting("local.example", by_tls(issued, fine()));
    let name = "local.example";
    run(vec![
        case("fine", named(root.issue(name, FINE)), Up, None, "").also(|outcome| {
            assert_eq!((&outcome.result["transport"], &outcome.result["tls"]["certificate_days"]), (&"tls".into(), &90.into()));
            assert!(outcome.phases.tls.is_some() && outcome.phases.resolve.is_some() && outcome.phases.connect.is_some());
        }),
        case("an address on the certificate", trusting("127.0.0.1", by_tls(root.issue("127.0.0.1", FINE), fine())), Up, None, ""),
        case("another name on the certificate", named(root.issue("a.example", FINE)), Down, Some(Tls), "certificate is for a.example, not local.example"),
        case("expired", named(root.issue(name, (-30, -3))), Down, Some(Tls), "certificate expired 20"),
        case("ends soon", expecting(named(root.issue(name, (-30, 5))), |expect| expect.certificate_days = Some(14)), Degraded, None, "(in 5 days), expected at least 14 days"),
        case("no TLS", trusting(name, serve(vec![Do::Send(b"220 mail\r\n".to_vec())])), Down, Some(Tls), "does not speak TLS"),
        case("a wrong answer", trusting(name, by_tls(root.issue(name, FINE), answer().flags(5))), Down, Some(Assert), "REFUSED"),
    ]);
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 64, failure_persistence: None, ..Default::default() })]

    /// Whatever stands behind the question ends in an outcome, and none of it in a panic or a wait.
    #[test]
    fn any_bytes_behind_the_question(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
        claims in proptest::num::u16::ANY,
        flags in proptest::num::u16::ANY,
    ) {
        let flags = (flags | ANSWER) & !TC & !0x7800;
        let port = says(Answer { flags, claims: Some(claims), tail: bytes, ..answer() });
        let outcome = look(pingeon::check::Kind::Dns(Box::new(ask(port))), &net(), LONG);
        proptest::prop_assert!(outcome.verdict == Up || outcome.reason.is_some(), "{:?}", outcome);
        proptest::prop_assert!(outcome.phases.body.is_some(), "{:?}", outcome);
    }
}
