//! Names to addresses, by the system's getaddrinfo(3), under a deadline.
//!
//! getaddrinfo blocks for as long as the name service likes and cannot be interrupted. So it runs on threads of its own: they
//! grow on demand up to [`THREADS_MAX`] and end when idle for `IDLE`. A check waits for its answer until its deadline and
//! then goes; the thread that is stuck ends its lookup by itself. Nothing is cached: a check asks anew each time.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, io};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, TrySendError, bounded};
use dns_lookup::{AddrFamily, AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};

use super::IpFamily;
use crate::jobs;

/// Lookups that run at once, at most. When all are stuck, checks of names are `unknown`.
pub const THREADS_MAX: usize = 128;

/// A lookup thread without work ends after this long.
const IDLE: Duration = Duration::from_secs(10);

/// glibc's resolver keeps answers of up to 64 KiB on the stack.
const STACK_BYTES: usize = 256 * 1024;

/// Addresses of one name that are looked at, at most; the rest are left out.
pub const ADDRESSES_MAX: usize = 16;

/// Why a name has no address to offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// There is no such name.
    NoSuchName,
    /// The name exists and has no address of the family that was asked for.
    NoAddress,
    /// The name service did not answer, or could not find out.
    NoAnswer,
    /// The deadline came first.
    Late,
    /// Every lookup thread is busy, and none came free before the deadline.
    AllStuck,
    /// The agent itself could not ask.
    Agent(String),
}

/// How a name is looked up: getaddrinfo, or a test's own table.
pub type Names = dyn Fn(&str, IpFamily) -> Result<Vec<IpAddr>, Unresolved> + Send + Sync;

/// The lookup threads.
pub struct Lookups {
    questions: Sender<Question>,
    taken: Receiver<Question>,
    threads: Arc<AtomicUsize>,
    names: Arc<Names>,
}

struct Question {
    name: String,
    family: IpFamily,
    reply: Sender<Result<Vec<IpAddr>, Unresolved>>,
}

impl Lookups {
    /// Lookups by `names`. No thread runs until a name is asked for.
    pub fn new(names: Arc<Names>) -> Self {
        // Without capacity: a question is handed to a thread that waits, or to a new one; none lies in a queue.
        let (questions, taken) = bounded(0);
        Lookups { questions, taken, threads: Arc::default(), names }
    }

    /// The addresses of `name`, in the order in which they should be tried.
    ///
    /// # Errors
    /// Why there are none by `deadline`.
    pub fn ask(&self, name: &str, family: IpFamily, deadline: Instant) -> Result<Vec<IpAddr>, Unresolved> {
        let (reply, answer) = bounded(1);
        let question = Question { name: name.to_owned(), family, reply };
        match self.questions.try_send(question) {
            Ok(()) => {}
            Err(TrySendError::Full(question) | TrySendError::Disconnected(question)) => {
                self.hand_over(question, deadline)?;
            }
        }
        match answer.recv_deadline(deadline) {
            Ok(addresses) => addresses,
            Err(RecvTimeoutError::Timeout) => Err(Unresolved::Late),
            Err(RecvTimeoutError::Disconnected) => Err(Unresolved::Agent("a name lookup died".to_owned())),
        }
    }

    /// No thread is idle: starts one with this question, or waits at the bound for one to come free.
    fn hand_over(&self, question: Question, deadline: Instant) -> Result<(), Unresolved> {
        let grow = |threads| (threads < THREADS_MAX).then_some(threads + 1);
        if self.threads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_ok() {
            return self
                .start(question)
                .map_err(|error| Unresolved::Agent(format!("cannot start a thread for name lookups: {error}")));
        }
        self.questions.send_deadline(question, deadline).map_err(|error| match error {
            SendTimeoutError::Timeout(_) | SendTimeoutError::Disconnected(_) => Unresolved::AllStuck,
        })
    }

    /// Starts a lookup thread. It is not joined: it may hang in getaddrinfo for longer than anybody
    /// wants to wait, and holds nothing but its question.
    fn start(&self, first: Question) -> io::Result<()> {
        let (taken, names) = (self.taken.clone(), self.names.clone());
        let place = Place(self.threads.clone());
        let serve = move || {
            let _place = place;
            let mut next = Ok(first);
            while let Ok(question) = next {
                // Whoever asked may have gone already.
                let _ = question.reply.send(names(&question.name, question.family));
                next = taken.recv_timeout(IDLE);
            }
        };
        jobs::start_detached("lookup", STACK_BYTES, serve)
    }
}

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookups").field("threads", &self.threads).finish_non_exhaustive()
    }
}

/// A thread's place among those that may run; given back however the thread ends, or if it cannot begin.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Asks the system: `/etc/hosts`, DNS and whatever else it is set up to ask.
///
/// # Errors
/// Why it gives no address.
pub fn system(name: &str, family: IpFamily) -> Result<Vec<IpAddr>, Unresolved> {
    let address = match family {
        IpFamily::Any | IpFamily::Each => 0,
        IpFamily::V4 => AddrFamily::Inet.into(),
        IpFamily::V6 => AddrFamily::Inet6.into(),
    };
    let hints = AddrInfoHints { socktype: SockType::Stream.into(), address, ..AddrInfoHints::default() };
    let found = getaddrinfo(Some(name), None, Some(hints)).map_err(|error| match error.kind() {
        LookupErrorKind::NoName => Unresolved::NoSuchName,
        LookupErrorKind::NoData => Unresolved::NoAddress,
        LookupErrorKind::Again | LookupErrorKind::Fail if !has_route() => {
            Unresolved::Agent(format!("cannot look up `{name}`: this agent has no route to any network"))
        }
        LookupErrorKind::Again | LookupErrorKind::Fail => Unresolved::NoAnswer,
        // EAI_ADDRFAMILY, which the crate does not name: glibc has addresses of the other family only.
        LookupErrorKind::Unknown if error.error_num() == -9 => Unresolved::NoAddress,
        _ => Unresolved::Agent(format!("cannot look up `{name}`: {}", io::Error::from(error))),
    })?;
    let mut addresses = Vec::new();
    for info in found.flatten().take(ADDRESSES_MAX) {
        if !addresses.contains(&info.sockaddr.ip()) {
            addresses.push(info.sockaddr.ip());
        }
    }
    if addresses.is_empty() { Err(Unresolved::NoAddress) } else { Ok(addresses) }
}

/// Whether this machine knows a way to anywhere but itself. Connecting a datagram socket sends nothing; it only looks the
/// address up in the routing table. The addresses are those of documentation (RFC 5737, RFC 3849), so nobody's.
fn has_route() -> bool {
    let reaches = |local: &str, remote: &str| UdpSocket::bind(local).and_then(|socket| socket.connect(remote)).is_ok();
    reaches("0.0.0.0:0", "192.0.2.1:53") || reaches("[::]:0", "[2001:db8::1]:53")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(100)
    }

    #[test]
    fn a_stuck_lookup_is_cut_by_the_deadline_and_does_not_hold_up_others() {
        let (_hold, held) = bounded::<()>(0);
        let lookups = Lookups::new(Arc::new(move |name, _| {
            if name == "stuck" {
                let _ = held.recv();
            }
            Ok(vec![IpAddr::from([192, 0, 2, 7])])
        }));
        assert_eq!(lookups.ask("stuck", IpFamily::Any, soon()), Err(Unresolved::Late));
        assert_eq!(
            lookups.ask("fine", IpFamily::Any, Instant::now() + Duration::from_secs(10)),
            Ok(vec![IpAddr::from([192, 0, 2, 7])])
        );
    }

    #[test]
    fn an_idle_thread_is_used_again() {
        let lookups = Lookups::new(Arc::new(|_, _| Err(Unresolved::NoSuchName)));
        let deadline = Instant::now() + Duration::from_secs(10);
        for _ in 0..500 {
            assert_eq!(lookups.ask("x", IpFamily::Any, deadline), Err(Unresolved::NoSuchName));
        }
        assert!(lookups.threads.load(Ordering::Relaxed) < 50, "{lookups:?}");
    }

    #[test]
    fn a_lookup_that_panics_gives_its_place_back() {
        let lookups = Lookups::new(Arc::new(|_, _| panic!("on purpose")));
        for _ in 0..2 * THREADS_MAX {
            let answer = lookups.ask("x", IpFamily::Any, Instant::now() + Duration::from_secs(10));
            assert_eq!(answer, Err(Unresolved::Agent("a name lookup died".to_owned())));
        }
    }

    #[test]
    fn at_the_bound_the_agent_says_so() {
        let (hold, held) = bounded::<()>(0);
        let lookups = Lookups::new(Arc::new(move |_, _| {
            let _ = held.recv();
            Err(Unresolved::NoAnswer)
        }));
        let past = Instant::now();
        for _ in 0..THREADS_MAX {
            assert_eq!(lookups.ask("stuck", IpFamily::Any, past), Err(Unresolved::Late));
        }
        assert_eq!(lookups.ask("stuck", IpFamily::Any, soon()), Err(Unresolved::AllStuck));
        drop(hold);
    }

    #[test]
    fn the_system_knows_localhost_and_not_what_cannot_be() {
        assert_eq!(system("localhost", IpFamily::V4), Ok(vec![IpAddr::from([127, 0, 0, 1])]));
        // Labels longer than 63 bytes are no names (RFC 1035, section 2.3.4): this is told without a name service.
        assert!(system(&"x".repeat(70), IpFamily::Any).is_err());
    }
}
