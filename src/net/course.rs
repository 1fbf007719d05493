//! How far one check has come: which phase it is in, since when, until when it may go on, and whom it has met.
//!
//! A phase is timed from when it is entered until the next one is entered; a phase that is entered again (the next hop of a
//! redirect) adds up. What is never entered stays `None`. There is one deadline for all of it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::dial::share;
use super::timeline::Timeline;
use super::tls::{Certificate, Session};
use crate::check::{Phase, Phases};

/// The course of one check, from its begin to its deadline.
#[derive(Debug)]
pub struct Course {
    begun: Instant,
    deadline: Instant,
    phases: Phases,
    current: Option<(Phase, Instant)>,
    /// The address that accepted, or was tried last.
    pub address: Option<SocketAddr>,
    /// The newest TLS session, also one whose certificate was refused.
    pub session: Option<Session>,
    /// The certificate that ends first, of all hops.
    pub ends_first: Option<Arc<Certificate>>,
    /// What happened when, where somebody watches.
    pub timeline: Timeline,
}

impl Course {
    /// A course that begins now and has to end by `deadline`.
    pub fn new(deadline: Instant) -> Self {
        Course {
            begun: Instant::now(),
            deadline,
            phases: Phases::default(),
            current: None,
            address: None,
            session: None,
            ends_first: None,
            timeline: Timeline::default(),
        }
    }

    /// Hands this course over, to be put back when the other owner is done. What stays behind is blank.
    pub fn take(&mut self) -> Self {
        let blank = Course { begun: self.begun, ..Course::new(self.deadline) };
        std::mem::replace(self, blank)
    }

    /// Has `work` done for the `at`th of `all` who take turns: it gets a fair share of the time that is left, as a course of
    /// its own, which is added to this one.
    pub fn turn<T>(&mut self, at: usize, all: usize, work: impl FnOnce(&mut Course) -> T) -> T {
        if all <= 1 {
            return work(self);
        }
        let until = share(Instant::now(), self.deadline, all.saturating_sub(at));
        let mut part = Course { timeline: self.timeline.alike(), ..Course::new(until) };
        let done = work(&mut part);
        self.add(part);
        done
    }

    /// Takes in what `part` has come to: its phases, and whom it has met.
    pub fn add(&mut self, mut part: Course) {
        self.leave();
        part.leave();
        self.phases.add_all(&part.phases);
        self.timeline.add(std::mem::take(&mut part.timeline));
        self.address = part.address.or(self.address);
        self.session = part.session.or(self.session.take());
        self.ends_first =
            [self.ends_first.take(), part.ends_first].into_iter().flatten().min_by_key(|one| one.not_after);
    }

    /// Ends the phase before, and begins `phase`. Nothing happens when it has begun already.
    pub fn enter(&mut self, phase: Phase) {
        if self.phase() == Some(phase) {
            return;
        }
        let now = Instant::now();
        self.leave_at(now);
        self.current = Some((phase, now));
        self.timeline.enter(phase, now);
    }

    /// Ends the phase that is under way.
    pub fn leave(&mut self) {
        self.leave_at(Instant::now());
    }

    fn leave_at(&mut self, now: Instant) {
        if let Some((phase, since)) = self.current.take() {
            let took = now.saturating_duration_since(since);
            self.phases.add(phase, took);
            self.timeline.leave(phase, since, took);
        }
    }

    /// Has the phase that was entered last carry a line for whoever watches; nobody asks for it otherwise.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        self.timeline.note(|| [line()]);
    }

    /// The phase that is under way.
    pub fn phase(&self) -> Option<Phase> {
        self.current.map(|(phase, _)| phase)
    }

    /// When it has to end.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Leaves out time that was not the target's.
    pub fn leave_out(&mut self, time: Duration) {
        self.begun += time;
    }

    /// How long it has taken so far.
    pub fn took(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How long each phase took, of those that have ended.
    pub fn phases(&self) -> Phases {
        self.phases
    }

    /// All the time that there was, for people.
    pub fn budget(&self) -> Spoken {
        Spoken(self.deadline.saturating_duration_since(self.begun))
    }

    /// Takes note of a TLS session and of the certificate of it that ends first.
    pub fn met(&mut self, session: Session) {
        let earliest = session.certificates.iter().min_by_key(|certificate| certificate.not_after);
        if let Some(certificate) = earliest
            && self.ends_first.as_ref().is_none_or(|first| certificate.not_after < first.not_after)
        {
            self.ends_first = Some(certificate.clone());
        }
        self.session = Some(session);
    }

    /// The phase under way is `phase` after all, and has been from its begin.
    pub fn is_still(&mut self, phase: Phase) {
        if let Some((current, since)) = &mut self.current {
            self.timeline.is_still(*current, *since, phase);
            *current = phase;
        }
    }

    /// A failure of the target in `phase`, which ends here.
    pub fn failed(&mut self, phase: Phase, reason: impl Into<String>) -> Failure {
        self.leave();
        Failure { phase, blame: Blame::Target, reason: reason.into() }
    }

    /// A failure of the agent itself in `phase`, which ends here.
    pub fn blocked(&mut self, phase: Phase, reason: impl Into<String>) -> Failure {
        Failure { blame: Blame::Agent, ..self.failed(phase, reason) }
    }
}

/// Why a check came to an end before it could be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where.
    pub phase: Phase,
    /// Whose fault it is.
    pub blame: Blame,
    /// In words for people.
    pub reason: String,
}

/// Whose fault a failure is. It decides between down and unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The target's: it is down.
    Target,
    /// The agent's own, or that of what stands between: nothing is known about the target.
    Agent,
}

/// What goes wrong on a socket, before it is known what it was used for.
#[derive(Debug)]
pub enum Trouble {
    /// The deadline has come.
    Late,
    /// The other side closed where it should have gone on.
    Closed,
    /// The system said so.
    Io(io::Error),
    /// TLS said so.
    Tls(rustls::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Trouble::Late,
            // WriteZero is what `write_tls` makes of a peer that is gone.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::WriteZero => Trouble::Closed,
            _ => Trouble::Io(error),
        }
    }
}

impl From<rustls::Error> for Trouble {
    fn from(error: rustls::Error) -> Self {
        Trouble::Tls(error)
    }
}

impl Trouble {
    /// The failure that TLS with `peer` ends in after its handshake: with TLS 1.3 the other side says only then what it thinks
    /// of our certificate.
    pub fn after_handshake(self, course: &mut Course, peer: &dyn fmt::Display) -> Failure {
        self.failure(course, Phase::Tls, peer)
    }

    /// The failure that this trouble with `peer` is for a check in `phase`.
    pub fn failure(self, course: &mut Course, phase: Phase, peer: &dyn fmt::Display) -> Failure {
        let (doing, budget) = (doing(phase), course.budget());
        match self {
            Trouble::Late => course.failed(phase, late(phase, peer, budget)),
            Trouble::Closed => course.failed(phase, format!("connection closed by {peer} {doing}")),
            Trouble::Tls(error) => super::tls::failure(course, phase, peer, error),
            Trouble::Io(error) => {
                if let Some(reason) = agents_fault(&error) {
                    return course.blocked(phase, reason);
                }
                let reason = match error.kind() {
                    io::ErrorKind::ConnectionRefused => format!("connection refused by {peer}"),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe if phase == Phase::Connect => {
                        format!("connection reset by {peer}")
                    }
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                        format!("connection reset by {peer} {doing}")
                    }
                    // ICMP host unreachable, or no answer to ARP: somebody near the target speaks for it.
                    io::ErrorKind::HostUnreachable => format!("{peer} is unreachable"),
                    _ => format!("{peer}: {error} {doing}"),
                };
                course.failed(phase, reason)
            }
        }
    }
}

fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::Resolve | Phase::Connect => "while connecting",
        Phase::Tls => "in the TLS handshake",
        Phase::Send => "while sending",
        Phase::FirstByte => "while waiting for the first byte",
        Phase::Body | Phase::Assert => "in the middle of the answer",
    }
}

/// What is said of a peer that did not answer within `budget`.
pub(super) fn late(phase: Phase, peer: &dyn fmt::Display, budget: Spoken) -> String {
    match phase {
        Phase::Resolve | Phase::Connect => format!("no answer from {peer} within {budget}"),
        Phase::Tls => format!("TLS handshake with {peer} not done within {budget}"),
        Phase::Send => format!("{peer} did not take all that was sent within {budget}"),
        Phase::FirstByte => format!("no first byte from {peer} within {budget}"),
        Phase::Body | Phase::Assert => format!("answer of {peer} not complete within {budget}"),
    }
}

/// Why an error says nothing about the target, if it does not.
///
/// No descriptors, ports, buffers or permission are the agent's own lack. "Network unreachable" comes from the agent's own
/// routing table (or from a router next to it): the target was never asked, so calling it down would be a guess.
fn agents_fault(error: &io::Error) -> Option<String> {
    use rustix::io::Errno;
    let reason = match Errno::from_io_error(error)? {
        Errno::MFILE | Errno::NFILE => "this agent has no file descriptors left; raise its limit (`ulimit -n`)",
        Errno::NOBUFS | Errno::NOMEM => "this agent has no network buffers left",
        Errno::ADDRNOTAVAIL => "this agent has no local address or port left to connect from",
        Errno::ACCESS | Errno::PERM => "this agent is not permitted to connect (a local firewall or sandbox)",
        Errno::NETUNREACH | Errno::NETDOWN => "network unreachable from this agent",
        // What a black hole in the routing table gives, and a link-local address, whose interface nobody named.
        Errno::INVAL => "this agent has no way to send to this address",
        Errno::AFNOSUPPORT => "this agent has no support for this kind of address",
        _ => return None,
    };
    Some(reason.to_owned())
}

/// A duration as people write it: `5 s`, `250 ms`, `1.25 s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spoken(pub Duration);

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        match micros {
            0..1_000 => write!(f, "{micros} µs"),
            1_000..995_000 => write!(f, "{} ms", (micros + 500) / 1_000),
            _ => {
                // To ten milliseconds, so that a check that began a moment late still says `5 s`.
                let hundredths = (micros + 5_000) / 10_000;
                let decimals = format!("{:02}", hundredths % 100);
                match decimals.trim_end_matches('0') {
                    "" => write!(f, "{} s", hundredths / 100),
                    some => write!(f, "{}.{some} s", hundredths / 100),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_spoken() {
        for (micros, spoken) in [
            (0, "0 µs"),
            (999, "999 µs"),
            (1_000, "1 ms"),
            (249_600, "250 ms"),
            (999_900, "1 s"),
            (1_250_000, "1.25 s"),
            (1_500_000, "1.5 s"),
            (4_999_900, "5 s"),
            (61_000_000, "61 s"),
        ] {
            assert_eq!(Spoken(Duration::from_micros(micros)).to_string(), spoken);
        }
    }

    #[test]
    fn a_phase_that_was_not_entered_is_none_and_one_entered_twice_adds_up() {
        let mut course = Course::new(Instant::now());
        course.enter(Phase::Connect);
        course.enter(Phase::Send);
        course.enter(Phase::Connect);
        let failure = course.failed(Phase::Connect, "gone");
        let phases = course.phases();
        assert!(phases.connect.is_some() && phases.send.is_some());
        assert_eq!((phases.resolve, phases.tls, phases.body, failure.blame), (None, None, None, Blame::Target));
    }

    #[test]
    fn who_takes_a_turn_gets_a_part_of_the_time_and_its_phases_add_up() {
        let mut course = Course::new(Instant::now() + Duration::from_secs(6));
        for at in 0..2 {
            course.turn(at, 3, |part| {
                assert!(part.budget().0 <= Duration::from_secs(6) / (3 - at as u32), "{at}: {:?}", part.budget());
                part.enter(Phase::Send);
                part.address = Some(([127, 0, 0, 1], at as u16).into());
            });
        }
        course.turn(0, 1, |whole| assert!(whole.budget().0 > Duration::from_secs(5)));
        assert!(course.phases().send.is_some() && course.phases().tls.is_none());
        assert_eq!(course.address, Some(([127, 0, 0, 1], 1).into()));
    }

    #[test]
    fn what_the_agent_lacks_is_not_the_targets_fault() {
        use rustix::io::Errno;
        for (errno, blame) in [
            (Errno::MFILE, Blame::Agent),
            (Errno::NFILE, Blame::Agent),
            (Errno::NOBUFS, Blame::Agent),
            (Errno::ACCESS, Blame::Agent),
            (Errno::PERM, Blame::Agent),
            (Errno::NETUNREACH, Blame::Agent),
            (Errno::NETDOWN, Blame::Agent),
            (Errno::ADDRNOTAVAIL, Blame::Agent),
            (Errno::INVAL, Blame::Agent),
            (Errno::CONNREFUSED, Blame::Target),
            (Errno::CONNRESET, Blame::Target),
            (Errno::HOSTUNREACH, Blame::Target),
            (Errno::TIMEDOUT, Blame::Target),
        ] {
            let mut course = Course::new(Instant::now());
            let failure = Trouble::from(io::Error::from(errno)).failure(&mut course, Phase::Connect, &"192.0.2.7:443");
            assert_eq!(failure.blame, blame, "{errno}: {}", failure.reason);
        }
    }
}
