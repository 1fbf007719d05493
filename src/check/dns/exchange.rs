//! Question to answer, with one address: the phases `connect`, `tls`, `send`, `first_byte` and `body`.
//!
//! By UDP there is no `connect`, and all of the answer comes with its first byte; reading it is `body`.

use std::net::SocketAddr;

use super::message::{Message, Question};
use super::{Dns, Look, Transport};
use crate::check::Phase;
use crate::net::datagram::{Came, Datagrams};
use crate::net::tls::Asked;
use crate::net::{Course, Failure, Host, IpFamily, Net, Stream, Trouble, shown, tls};

/// The longest message there can be: by TCP its length is two bytes.
const MESSAGE_BYTES_MAX: usize = 65_535;

/// What is ignored, at most, before the check gives up: a flood would keep the agent busy until the deadline.
const IGNORED_MAX: u64 = 1_000;

/// Asks `address`, a server of `host`, and waits for the answer. How it came is noted in `look`.
///
/// # Errors
/// Why there was none that could be read.
pub(super) fn ask(
    dns: &Dns,
    host: &Host,
    address: SocketAddr,
    look: &mut Look,
    net: &Net,
    course: &mut Course,
) -> Result<Message, Failure> {
    course.address = Some(address);
    look.transport = dns.transport;
    if dns.transport == Transport::Udp {
        let answer = by_datagram(&question(dns, course)?, address, look, course)?;
        if !answer.truncated {
            return Ok(answer);
        }
        // RFC 7766, section 5: ask again by TCP.
        (look.cut, look.transport) = (true, Transport::Tcp);
    }
    let answer = by_stream(dns, host, address, look, net, course).map_err(|mut failure| {
        if look.cut {
            failure.reason = format!("the answer by UDP was cut off, and by TCP: {}", failure.reason);
        }
        failure
    })?;
    if answer.truncated {
        return Err(course.failed(Phase::Body, format!("the answer of {address} was cut off, though not by UDP")));
    }
    Ok(answer)
}

fn question<'a>(dns: &'a Dns, course: &mut Course) -> Result<Question<'a>, Failure> {
    let mut id = [0; 2];
    getrandom::fill(&mut id)
        .map_err(|error| course.blocked(Phase::Send, format!("the system has no random bytes for an id: {error}")))?;
    Ok(Question { id: u16::from_be_bytes(id), name: &dns.name, record: dns.record, recursion: dns.recursion })
}

fn by_datagram(
    question: &Question<'_>,
    address: SocketAddr,
    look: &mut Look,
    course: &mut Course,
) -> Result<Message, Failure> {
    course.enter(Phase::Send);
    let socket = Datagrams::to(address).map_err(|error| Trouble::from(error).failure(course, Phase::Send, &address))?;
    course.note(|| format!("> {} {} to {address} by UDP", question.name, question.record));
    let deadline = course.deadline();
    socket.send(&question.message(), deadline).map_err(|trouble| trouble.failure(course, Phase::Send, &address))?;
    course.enter(Phase::FirstByte);
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    loop {
        match socket.receive(&mut buffer, deadline) {
            Ok(Came::FromElsewhere) => look.ignored.source += 1,
            Ok(Came::FromPeer(length)) => {
                let message = &buffer[..length];
                if question.is_answered_by(message, &mut look.ignored) {
                    look.bytes = length;
                    return read(message, address, course);
                }
            }
            Err(trouble) => return Err(unanswered(trouble, Phase::FirstByte, address, look, course)),
        }
        give_up_on_floods(address, look, course)?;
    }
}

fn by_stream(
    dns: &Dns,
    host: &Host,
    address: SocketAddr,
    look: &mut Look,
    net: &Net,
    course: &mut Course,
) -> Result<Message, Failure> {
    let question = question(dns, course)?;
    let mut stream = net.dial(&Host::Address(address.ip()), address.port(), IpFamily::Any, course)?;
    if dns.transport == Transport::Tls {
        let asked = Asked { settings: &dns.tls, host, own_host: true, alpn: None };
        tls::secure(&mut stream, net.tls(), asked, &address, course)?;
    }
    course.enter(Phase::Send);
    course.note(|| format!("> {} {} to {address} by {}", question.name, question.record, look.transport.name()));
    let message = question.message();
    // In one piece, as RFC 7766, section 8, asks. A question is never longer than two bytes can say.
    let framed = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
    stream.write_all(&framed, course.deadline()).map_err(|trouble| trouble.failure(course, Phase::Send, &address))?;
    loop {
        let message = next_message(&mut stream, address, look, course)?;
        if question.is_answered_by(&message, &mut look.ignored) {
            look.bytes = message.len();
            return read(&message, address, course);
        }
        give_up_on_floods(address, look, course)?;
    }
}

/// Reads a message and the two bytes before it that tell its length.
fn next_message(
    stream: &mut Stream,
    address: SocketAddr,
    look: &Look,
    course: &mut Course,
) -> Result<Vec<u8>, Failure> {
    course.enter(Phase::FirstByte);
    let mut length = [0; 2];
    fill(stream, &mut length, address, look, course)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    fill(stream, &mut message, address, look, course)?;
    Ok(message)
}

/// Reads until `buffer` is full. With its first byte the answer has begun.
fn fill(
    stream: &mut Stream,
    buffer: &mut [u8],
    address: SocketAddr,
    look: &Look,
    course: &mut Course,
) -> Result<(), Failure> {
    let mut filled = 0;
    while filled < buffer.len() {
        let trouble = match stream.read(&mut buffer[filled..], course.deadline()) {
            Ok(0) => Trouble::Closed,
            Ok(read) => {
                filled += read;
                course.enter(Phase::Body);
                continue;
            }
            Err(trouble) => trouble,
        };
        let phase = course.phase().unwrap_or(Phase::FirstByte);
        return Err(unanswered(trouble, phase, address, look, course));
    }
    Ok(())
}

fn read(message: &[u8], address: SocketAddr, course: &mut Course) -> Result<Message, Failure> {
    course.enter(Phase::Body);
    let read = Message::read(message);
    if let Ok(answer) = &read {
        course.timeline.note(|| heard(answer, message.len()));
    }
    course.leave();
    read.map_err(|wrong| course.failed(Phase::Body, format!("the answer of {address} cannot be read: {}", wrong.0)))
}

/// An answer for people: its head, and each record.
fn heard(answer: &Message, bytes: usize) -> Vec<String> {
    let flags = [(answer.authoritative, ", authoritative"), (answer.truncated, ", cut off")];
    let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
    let records =
        answer.answers.iter().map(|one| (one, "")).chain(answer.authority.iter().map(|one| (one, " (authority)")));
    let records = records.map(|(one, section)| {
        format!("< {} {} {} {}{section}", one.name, one.ttl, one.record, shown(one.data.as_bytes()))
    });
    std::iter::once(format!("< {}{flags}, {bytes} bytes", answer.rcode)).chain(records).collect()
}

/// The failure to be told of an answer that did not come, with what came instead.
fn unanswered(trouble: Trouble, phase: Phase, address: SocketAddr, look: &Look, course: &mut Course) -> Failure {
    let within = course.budget();
    let mut failure = match trouble {
        Trouble::Late if phase == Phase::FirstByte => {
            course.failed(phase, format!("no answer from {address} within {within}"))
        }
        trouble => trouble.failure(course, phase, &address),
    };
    let ignored = look.ignored;
    let told = [
        (ignored.source, "from elsewhere"),
        (ignored.id, "with another id"),
        (ignored.question, "to another question"),
        (ignored.garbage, "that are no answers"),
    ];
    let told: Vec<String> =
        told.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if !told.is_empty() {
        failure.reason = format!("{} (ignored: {})", failure.reason, told.join(", "));
    }
    failure
}

fn give_up_on_floods(address: SocketAddr, look: &Look, course: &mut Course) -> Result<(), Failure> {
    if look.ignored.all() < IGNORED_MAX {
        return Ok(());
    }
    let reason = format!("{IGNORED_MAX} messages came for {address} that do not answer the question");
    Err(course.failed(Phase::FirstByte, reason))
}
