//! `tcp` checks: a connection, and a dialogue over it.
//!
//! Each step of a dialogue takes its turn: what is sent is the phase `send`, the wait for the first byte of what is expected
//! is `first_byte`, and the rest of it `body`; several steps add up. In an expectation, `^` and `$` are those of what has come
//! since the last match, or of any line in it: the protocols that people hold dialogues in speak in lines.
//!
//! After the step `starttls` the dialogue goes on in TLS. Nothing that came before counts any longer: what is left of the line
//! that was matched last is dropped, and more than that is refused, since whoever is in between could have put it there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::certificates::ExpectTls;
use super::each::each;
use super::{Outcome, Pattern, Phase};
use crate::net::{Course, Failure, Host, IpFamily, Net, Stream, TlsSettings, Trouble, blanked, shown, tls};
use crate::secret::Secret;

/// Where to connect, what to say, and what to expect.
#[derive(Clone, Debug)]
pub struct Tcp {
    /// The name or address to connect to.
    pub host: Host,
    /// Its port; never 0.
    pub port: u16,
    /// Which addresses of the name to take.
    pub ip: IpFamily,
    /// Each step in turn, after connecting.
    pub dialogue: Vec<Step>,
    /// How to do TLS, where a step asks for it.
    pub tls: Arc<TlsSettings>,
    /// A check that takes longer is degraded.
    pub under: Option<Duration>,
    /// What must hold of what the handshake tells.
    pub expect: ExpectTls,
}

impl Tcp {
    /// A connection to `host`, with nothing else said: what a check is whose config holds the place alone.
    pub fn to(host: Host, port: u16) -> Self {
        let expect = ExpectTls::default();
        Tcp { host, port, ip: IpFamily::default(), dialogue: Vec::new(), tls: Arc::default(), under: None, expect }
    }
}

/// A step of a dialogue.
#[derive(Clone, Debug)]
pub enum Step {
    /// Read until this matches what has come since the last step.
    Expect(Pattern),
    /// Send this, which may hold a secret.
    Send(Secret),
    /// Send these bytes.
    SendHex(Hex),
    /// Go on in TLS. At most one step is this.
    StartTls,
}

/// Bytes that are written in hexadecimal digits.
#[derive(Clone)]
pub struct Hex {
    /// As they were typed; they may hold a secret.
    pub typed: Secret,
    bytes: Vec<u8>,
}

impl Hex {
    /// Reads pairs of digits, with blanks between them or not; `None` when it is something else, or nothing.
    pub fn parse(typed: Secret) -> Option<Self> {
        let digits: Vec<u8> = typed.expose().bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let byte = |pair: &[u8]| Some(digit(*pair.first()?)? * 16 + digit(*pair.get(1)?)?);
        let bytes: Vec<u8> = digits.chunks(2).map(byte).collect::<Option<_>>()?;
        (!bytes.is_empty()).then_some(Hex { typed, bytes })
    }

    /// The bytes themselves.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::fmt::Debug for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hex({:?})", self.typed)
    }
}

/// A dialogue's expectation may look at this much; what comes beyond it without a match fails.
const DIALOGUE_BYTES_MAX: usize = 64 * 1024;

/// How much is read at once.
const READ_BYTES: usize = 4 * 1024;

/// Connects once, and holds the dialogue; with each address where that is asked for.
pub fn run(tcp: &Tcp, net: &Net, deadline: Instant) -> Outcome {
    match tcp.ip {
        IpFamily::Each => each(&tcp.host, tcp.port, net, deadline, |address, until| look(tcp, &address, net, until)),
        _ => look(tcp, &tcp.host, net, deadline),
    }
}

/// Connects to `place`, and holds the dialogue.
fn look(tcp: &Tcp, place: &Host, net: &Net, deadline: Instant) -> Outcome {
    let mut course = net.course(deadline);
    let mut received = 0;
    let failure = talk(tcp, place, net, &mut course, &mut received).err();
    let mut outcome = tcp.expect.outcome(failure, tcp.under, net, course);
    if !tcp.dialogue.is_empty() {
        outcome.result.insert("received".to_owned(), received.into());
    }
    outcome
}

fn talk(tcp: &Tcp, place: &Host, net: &Net, course: &mut Course, received: &mut u64) -> Result<(), Failure> {
    let mut stream = net.dial(place, tcp.port, tcp.ip, course)?;
    let peer = course.address.map(|address| address.to_string()).unwrap_or_default();
    let mut heard = Heard { bytes: Vec::new(), mid_line: false, total: received, secrets: secrets(&tcp.dialogue) };
    for step in &tcp.dialogue {
        match step {
            Step::Send(text) => send(text.expose().as_bytes(), &heard.secrets, &mut stream, &peer, course)?,
            Step::SendHex(hex) => send(hex.bytes(), &heard.secrets, &mut stream, &peer, course)?,
            Step::Expect(regex) => heard.until(regex, &mut stream, &peer, course)?,
            Step::StartTls => {
                heard.leave_plain_text(&mut stream, &peer, course)?;
                let asked = tls::Asked { settings: &tcp.tls, host: &tcp.host, own_host: true, alpn: None };
                tls::secure(&mut stream, net.tls(), asked, &peer, course)?;
            }
        }
    }
    match tcp.dialogue.last() {
        Some(Step::StartTls) => tls::part(&mut stream, &peer, course),
        _ => {
            stream.say_goodbye();
            Ok(())
        }
    }
}

fn send(bytes: &[u8], secrets: &[&str], stream: &mut Stream, peer: &str, course: &mut Course) -> Result<(), Failure> {
    course.enter(Phase::Send);
    course.timeline.note(|| lines('>', bytes, secrets));
    stream.write_all(bytes, course.deadline()).map_err(|trouble| trouble.failure(course, Phase::Send, &peer))
}

/// What was said or heard, line by line, for people.
fn lines(mark: char, bytes: &[u8], secrets: &[&str]) -> Vec<String> {
    let bytes = blanked(bytes, secrets);
    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
    lines.map(|line| format!("{mark} {}", shown(line.trim_ascii_end()))).collect()
}

/// What is sent and must not be shown, though servers repeat it.
fn secrets(dialogue: &[Step]) -> Vec<&str> {
    let sent = dialogue.iter().flat_map(|step| match step {
        Step::Send(text) => text.kept_elsewhere(),
        Step::SendHex(hex) if hex.typed.origin().is_some() => Vec::from_iter(std::str::from_utf8(hex.bytes())),
        Step::SendHex(_) | Step::Expect(_) | Step::StartTls => Vec::new(),
    });
    sent.collect()
}

/// What came since the last match.
struct Heard<'a> {
    bytes: Vec<u8>,
    /// Whether that is not all of a line whose begin was matched.
    mid_line: bool,
    total: &'a mut u64,
    /// What is sent and must not be shown, though servers repeat it.
    secrets: Vec<&'a str>,
}

impl Heard<'_> {
    /// Reads until `regex` matches. What comes after the match is left for the next step.
    ///
    /// Nothing at all fails in `first_byte`, as the wait for it does. Something else is shown: where it was all that there is, that
    /// fails in `assert`; where no more came in time, in `body`, for the rest may have been lost on the way.
    fn until(&mut self, regex: &Pattern, stream: &mut Stream, peer: &str, course: &mut Course) -> Result<(), Failure> {
        loop {
            if let Some(end) = end_of_match(regex, &self.bytes) {
                self.mid_line = self.bytes.last() != Some(&b'\n');
                self.bytes.drain(..end);
                return Ok(());
            }
            if self.bytes.len() >= DIALOGUE_BYTES_MAX {
                let why = format!("{} KiB came without it", DIALOGUE_BYTES_MAX / 1024);
                return Err(course.failed(Phase::Assert, self.unmet(regex, &why)));
            }
            course.enter(if self.bytes.is_empty() { Phase::FirstByte } else { Phase::Body });
            let mut chunk = [0; READ_BYTES];
            match stream.read(&mut chunk, course.deadline()) {
                Ok(0) if self.bytes.is_empty() => {
                    return Err(Trouble::Closed.failure(course, Phase::FirstByte, &peer));
                }
                Ok(0) => {
                    let unmet = self.unmet(regex, "then the connection was closed");
                    return Err(course.failed(Phase::Assert, unmet));
                }
                Ok(read) => {
                    *self.total += read as u64;
                    course.timeline.note(|| lines('<', &chunk[..read], &self.secrets));
                    self.bytes.extend_from_slice(&chunk[..read]);
                }
                Err(Trouble::Late) if !self.bytes.is_empty() => {
                    let why = format!("nothing else within {}", course.budget());
                    return Err(course.failed(Phase::Body, self.unmet(regex, &why)));
                }
                Err(trouble) => {
                    let phase = course.phase().unwrap_or(Phase::FirstByte);
                    return Err(trouble.failure(course, phase, &peer));
                }
            }
        }
    }

    /// Forgets the rest of the line that was matched last, of which some may still be on its way. There must be no more.
    fn leave_plain_text(&mut self, stream: &mut Stream, peer: &str, course: &mut Course) -> Result<(), Failure> {
        let line = self.bytes.iter().position(|&byte| byte == b'\n').map_or(self.bytes.len(), |end| end + 1);
        if line < self.bytes.len() {
            let more = shown(&blanked(&self.bytes[line..], &self.secrets));
            return Err(course.failed(Phase::Tls, format!("{peer} went on in plain text before TLS: `{more}`")));
        }
        self.bytes.clear();
        if std::mem::take(&mut self.mid_line) {
            stream.in_mid_line();
        }
        Ok(())
    }

    fn unmet(&self, regex: &Pattern, why: &str) -> String {
        let mut secrets = self.secrets.clone();
        secrets.extend(regex.apart().into_iter().flat_map(Secret::kept_elsewhere));
        let got = shown(&blanked(&self.bytes, &secrets));
        format!("expected `{regex}`, got `{got}`, {why}")
    }
}

/// Where the first match ends: in all of it, or in one of its lines. A reply may have more lines than the step before asked
/// for, and `^220 ` should still find its own.
fn end_of_match(regex: &Pattern, bytes: &[u8]) -> Option<usize> {
    let whole = regex.regex().find(bytes).map(|found| found.end());
    whole.or_else(|| {
        let mut start = 0;
        bytes.split_inclusive(|&byte| byte == b'\n').find_map(|line| {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            let found = regex.regex().find(text).map(|found| start + found.end());
            start += line.len();
            found
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Origin;

    #[test]
    fn a_secret_that_the_server_repeats_is_not_shown() {
        let mut total = 0;
        let origin = Origin::File("secrets/mail".into());
        let sent = Secret::new("AUTH PLAIN hunter2\r\n").from(origin);
        let bytes = b"500 AUTH PLAIN hunter2 unknown; 500 AUTH PL".to_vec();
        let heard = Heard { bytes, mid_line: false, total: &mut total, secrets: sent.kept_elsewhere() };
        let unmet = heard.unmet(&"^250".parse().unwrap(), "then the connection was closed");
        assert_eq!(unmet, "expected `^250`, got `500 *** unknown; 500 ***`, then the connection was closed");
    }

    #[test]
    fn bytes_are_read_of_pairs_of_digits() {
        for (typed, bytes) in [
            ("0000000804d2162f", Some(&b"\0\0\0\x08\x04\xd2\x16\x2f"[..])),
            ("00 FF\n0a", Some(b"\0\xff\n")),
            ("0", None),
            ("0x00", None),
            ("zz", None),
            ("+1", None),
            ("", None),
            (" ", None),
        ] {
            assert_eq!(Hex::parse(Secret::new(typed)).map(|hex| hex.bytes).as_deref(), bytes, "{typed}");
        }
    }

    #[test]
    fn a_match_is_looked_for_in_all_of_it_and_in_every_line() {
        for (regex, bytes, end) in [
            ("^220 ", "220 mail", Some(4)),
            ("^220 ", "\r\n250 SIZE\r\n220 go", Some(16)),
            ("^220$", "250\r\n220\r\n", Some(8)),
            ("ready\r\n", "220 ready\r\n", Some(11)),
            ("250 a\r\n250 b", "250 a\r\n250 b", Some(12)),
            ("^250 ", "220 go\r\n250 \r\n", Some(12)),
            ("^220 ", "x220 ", None),
            ("^220 ", "", None),
            ("", "", Some(0)),
        ] {
            assert_eq!(end_of_match(&regex.parse().unwrap(), bytes.as_bytes()), end, "{regex} in {bytes:?}");
        }
    }
}
