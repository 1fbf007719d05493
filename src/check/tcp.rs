//! `tcp` checks: a connection, and a dialogue over it.
//!
//! Each step of a dialogue takes its turn: what is sent is the phase `send`, the wait for the first byte of what is expected
//! is `first_byte`, and the rest of it `body`; several steps add up. In an expectation, `^` and `$` are those of what has come
//! since the last match, or of any line in it: the protocols that people hold dialogues in speak in lines.

use std::time::{Duration, Instant};

use regex::bytes::Regex;
use serde_json::{Map, json};

use super::assertions::Assertions;
use super::{Outcome, Phase, Verdict};
use crate::net::{Blame, Course, Failure, Host, IpFamily, Net, Stream, Trouble, blanked, shown};
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
    /// A check that takes longer is degraded.
    pub under: Option<Duration>,
}

/// A step of a dialogue.
#[derive(Clone, Debug)]
pub enum Step {
    /// Read until this matches what has come since the last step.
    Expect(Regex),
    /// Send this, which may hold a secret.
    Send(Secret),
    /// Go on in TLS. Not available in this build yet; `config` refuses it.
    StartTls,
}

/// A dialogue's expectation may look at this much; what comes beyond it without a match fails.
const DIALOGUE_BYTES_MAX: usize = 64 * 1024;

/// How much is read at once.
const READ_BYTES: usize = 4 * 1024;

/// Connects once, and holds the dialogue.
pub fn run(tcp: &Tcp, net: &Net, deadline: Instant) -> Outcome {
    let mut course = Course::new(deadline);
    let mut received = 0;
    let failure = talk(tcp, net, &mut course, &mut received).err();
    course.leave();
    let mut assertions = Assertions::default();
    if let (Some(limit), None) = (tcp.under, &failure) {
        assertions.under(limit, course.took());
    }
    let (verdict, phase, reason) = match failure {
        Some(Failure { blame: Blame::Target, phase, reason }) => (Verdict::Down, Some(phase), Some(reason)),
        Some(Failure { blame: Blame::Agent, phase, reason }) => (Verdict::Unknown, Some(phase), Some(reason)),
        None => assertions.verdict(),
    };
    let mut result = Map::new();
    result.insert("phases".to_owned(), json!(course.phases()));
    if let Some(address) = course.address {
        result.insert("address".to_owned(), address.to_string().into());
    }
    if !tcp.dialogue.is_empty() {
        result.insert("received".to_owned(), received.into());
    }
    Outcome { verdict, phase, reason, phases: course.phases(), assertions: assertions.listed, result }
}

fn talk(tcp: &Tcp, net: &Net, course: &mut Course, received: &mut u64) -> Result<(), Failure> {
    let mut stream = net.dial(&tcp.host, tcp.port, tcp.ip, course)?;
    let peer = course.address.map(|address| address.to_string()).unwrap_or_default();
    let sent = tcp.dialogue.iter().filter_map(|step| if let Step::Send(text) = step { Some(text) } else { None });
    let secrets = sent.flat_map(Secret::kept_elsewhere).collect();
    let mut heard = Heard { bytes: Vec::new(), total: received, secrets };
    for step in &tcp.dialogue {
        match step {
            Step::Send(text) => {
                course.enter(Phase::Send);
                stream
                    .write_all(text.expose().as_bytes(), course.deadline())
                    .map_err(|trouble| trouble.failure(course, Phase::Send, &peer))?;
            }
            Step::Expect(regex) => heard.until(regex, &mut stream, &peer, course)?,
            // `config` refuses it with the same words.
            Step::StartTls => {
                return Err(course.blocked(Phase::Tls, "`starttls` is not available in this build yet"));
            }
        }
    }
    Ok(())
}

/// What came since the last match.
struct Heard<'a> {
    bytes: Vec<u8>,
    total: &'a mut u64,
    /// What is sent and must not be shown, though servers repeat it.
    secrets: Vec<&'a str>,
}

impl Heard<'_> {
    /// Reads until `regex` matches. What comes after the match is left for the next step.
    ///
    /// Nothing at all fails in `first_byte`, as the wait for it does; something else fails in `assert`, and is shown.
    fn until(&mut self, regex: &Regex, stream: &mut Stream, peer: &str, course: &mut Course) -> Result<(), Failure> {
        loop {
            if let Some(end) = end_of_match(regex, &self.bytes) {
                self.bytes.drain(..end);
                return Ok(());
            }
            if self.bytes.len() >= DIALOGUE_BYTES_MAX {
                return Err(self.unmet(regex, &format!("{} KiB came without it", DIALOGUE_BYTES_MAX / 1024), course));
            }
            course.enter(if self.bytes.is_empty() { Phase::FirstByte } else { Phase::Body });
            let mut chunk = [0; READ_BYTES];
            match stream.read(&mut chunk, course.deadline()) {
                Ok(0) if self.bytes.is_empty() => {
                    return Err(Trouble::Closed.failure(course, Phase::FirstByte, &peer));
                }
                Ok(0) => return Err(self.unmet(regex, "then the connection was closed", course)),
                Ok(read) => {
                    *self.total += read as u64;
                    self.bytes.extend_from_slice(&chunk[..read]);
                }
                Err(Trouble::Late) if !self.bytes.is_empty() => {
                    let why = format!("nothing else within {}", course.budget());
                    return Err(self.unmet(regex, &why, course));
                }
                Err(trouble) => {
                    let phase = course.phase().unwrap_or(Phase::FirstByte);
                    return Err(trouble.failure(course, phase, &peer));
                }
            }
        }
    }

    fn unmet(&self, regex: &Regex, why: &str, course: &mut Course) -> Failure {
        let got = shown(&blanked(&self.bytes, &self.secrets));
        course.failed(Phase::Assert, format!("expected `{regex}`, got `{got}`, {why}"))
    }
}

/// Where the first match ends: in all of it, or in one of its lines. A reply may have more lines than the step before asked
/// for, and `^220 ` should still find its own.
fn end_of_match(regex: &Regex, bytes: &[u8]) -> Option<usize> {
    let whole = regex.find(bytes).map(|found| found.end());
    whole.or_else(|| {
        let mut start = 0;
        bytes.split_inclusive(|&byte| byte == b'\n').find_map(|line| {
            let found = regex.find(line.trim_ascii_end()).map(|found| start + found.end());
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
        let (mut total, mut course) = (0, Course::new(Instant::now()));
        let origin = Origin::File("secrets/mail".into());
        let sent = Secret::new("AUTH PLAIN hunter2\r\n").from(origin);
        let bytes = b"500 AUTH PLAIN hunter2 unknown; 500 AUTH PL".to_vec();
        let heard = Heard { bytes, total: &mut total, secrets: sent.kept_elsewhere() };
        let failure = heard.unmet(&"^250".parse().unwrap(), "then the connection was closed", &mut course);
        assert_eq!(failure.reason, "expected `^250`, got `500 *** unknown; 500 ***`, then the connection was closed");
    }

    #[test]
    fn a_match_is_looked_for_in_all_of_it_and_in_every_line() {
        for (regex, bytes, end) in [
            ("^220 ", "220 mail", Some(4)),
            ("^220 ", "\r\n250 SIZE\r\n220 go", Some(16)),
            ("^220$", "250\r\n220\r\n", Some(8)),
            ("ready\r\n", "220 ready\r\n", Some(11)),
            ("250 a\r\n250 b", "250 a\r\n250 b", Some(12)),
            ("^220 ", "x220 ", None),
            ("^220 ", "", None),
            ("", "", Some(0)),
        ] {
            assert_eq!(end_of_match(&regex.parse().unwrap(), bytes.as_bytes()), end, "{regex} in {bytes:?}");
        }
    }
}
