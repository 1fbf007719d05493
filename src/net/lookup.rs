//! Names to addresses, by the system's getaddrinfo(3), under a deadline.
//!
//! getaddrinfo blocks for as long as the name service likes and cannot be interrupted. So it runs on threads of its own: they
//! grow on demand up to [`THREADS_MAX`] and end when idle for `IDLE`. A check waits for its answer until its deadline and
//! then goes; the thread that is stuck ends its lookup by itself.
//!
//! A name is looked up once at a time: who asks for it meanwhile waits for the same answer. So a name service that does not
//! answer for some names (a zone whose servers are dead takes glibc ten seconds and more, past the checks' own timeouts)
//! holds one thread for each of them, however many checks ask for them and however often. Nothing is cached: an answer is
//! for those who were waiting when it came.

use std::collections::HashMap;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError, bounded};
use dns_lookup::{AddrFamily, AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};
use rustix::io::Errno;

use super::IpFamily;
use crate::jobs;

/// Lookups that run at once, at most, so the names that may be stuck before checks of other names are `unknown`. It can be
/// this many since a thread that waits costs little: its stack is address space, of which a few pages are touched.
pub const THREADS_MAX: usize = 512;

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
    flights: Flights,
    names: Arc<Names>,
}

type Answer = Result<Vec<IpAddr>, Unresolved>;
type Key = (String, IpFamily);
/// The lookups that are under way: no more than there are threads, and askers who wait for a thread.
type Flights = Arc<Mutex<HashMap<Key, Arc<Flight>>>>;

/// A lookup that is under way.
#[derive(Default)]
struct Flight {
    answer: Mutex<Option<Answer>>,
    landed: Condvar,
}

impl Flight {
    /// Its answer; `None` when the deadline comes first.
    fn wait(&self, deadline: Instant) -> Option<Answer> {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.landed.wait_timeout_while(lock(&self.answer), left, |answer| answer.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

/// A lookup to be done. Whatever becomes of it, those who wait for it are told.
struct Question {
    key: Key,
    flight: Arc<Flight>,
    flights: Flights,
    answer: Answer,
}

impl Drop for Question {
    fn drop(&mut self) {
        // Off the list first: who asks from here on asks anew.
        lock(&self.flights).remove(&self.key);
        let answer = std::mem::replace(&mut self.answer, Err(Unresolved::NoAnswer));
        *lock(&self.flight.answer) = Some(answer);
        self.flight.landed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lookups {
    /// Lookups by `names`. No thread runs until a name is asked for.
    pub fn new(names: Arc<Names>) -> Self {
        // Without capacity: a question is handed to a thread that waits, or to a new one; none lies in a queue.
        let (questions, taken) = bounded(0);
        Lookups { questions, taken, threads: Arc::default(), flights: Flights::default(), names }
    }

    /// The addresses of `name`, in the order in which they should be tried.
    ///
    /// # Errors
    /// Why there are none by `deadline`.
    pub fn ask(&self, name: &str, family: IpFamily, deadline: Instant) -> Result<Vec<IpAddr>, Unresolved> {
        let mut may_be_old = true;
        loop {
            let (flight, question) = self.board(name, family);
            let first = question.is_some();
            if let Some(question) = question {
                self.begin(question, deadline)?;
            }
            match flight.wait(deadline) {
                // Whoever asked first had less time to wait for a thread; this one may have some left.
                Some(Err(Unresolved::AllStuck)) if !first => {}
                // A lookup that was under way already may have failed of what is over by now: the next one began later.
                Some(Err(_)) if !first && may_be_old => may_be_old = false,
                Some(answer) => return answer,
                None => return Err(Unresolved::Late),
            }
        }
    }

    /// The lookup of a name that is under way, or a new one that has yet to begin.
    fn board(&self, name: &str, family: IpFamily) -> (Arc<Flight>, Option<Question>) {
        let key = (name.to_owned(), family);
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.get(&key) {
            return (flight.clone(), None);
        }
        let flight = Arc::new(Flight::default());
        flights.insert(key.clone(), flight.clone());
        let answer = Err(Unresolved::Agent("a name lookup died".to_owned()));
        (flight.clone(), Some(Question { key, flight, flights: self.flights.clone(), answer }))
    }

    fn begin(&self, question: Question, deadline: Instant) -> Result<(), Unresolved> {
        match self.questions.try_send(question) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(question) | TrySendError::Disconnected(question)) => {
                self.hand_over(question, deadline)
            }
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
        self.questions.send_deadline(question, deadline).map_err(|error| {
            let (SendTimeoutError::Timeout(mut question) | SendTimeoutError::Disconnected(mut question)) = error;
            question.answer = Err(Unresolved::AllStuck);
            Unresolved::AllStuck
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
            while let Ok(mut question) = next {
                question.answer = names(&question.key.0, question.key.1);
                // Whoever asked may have gone already.
                drop(question);
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
        // Without a file descriptor to read it, getaddrinfo takes /etc/hosts for empty.
        LookupErrorKind::NoName if let Err(error) = one_more_file() => {
            Unresolved::Agent(format!("cannot look up `{name}`: {error}"))
        }
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
    // One more than are looked at, so that it can be told that there are more.
    for info in found.flatten().take(ADDRESSES_MAX + 1) {
        if !addresses.contains(&info.sockaddr.ip()) {
            addresses.push(info.sockaddr.ip());
        }
    }
    if addresses.is_empty() { Err(Unresolved::NoAddress) } else { Ok(addresses) }
}

/// Whether this process may open one more file.
fn one_more_file() -> io::Result<()> {
    match std::fs::File::open("/dev/null") {
        Err(error) if [Errno::MFILE, Errno::NFILE].iter().any(|no| error.raw_os_error() == Some(no.raw_os_error())) => {
            Err(error)
        }
        _ => Ok(()),
    }
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
        for n in 0..THREADS_MAX {
            assert_eq!(lookups.ask(&format!("stuck-{n}"), IpFamily::Any, past), Err(Unresolved::Late));
        }
        assert_eq!(lookups.ask("another", IpFamily::Any, soon()), Err(Unresolved::AllStuck));
        assert_eq!(lookups.ask("another", IpFamily::Any, soon()), Err(Unresolved::AllStuck), "and is told so again");
        assert_eq!(lookups.ask("stuck-0", IpFamily::Any, soon()), Err(Unresolved::Late));
        drop(hold);
    }

    #[test]
    fn who_joins_a_lookup_that_fails_asks_once_more() {
        let (hold, held) = bounded::<()>(0);
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let lookups = Arc::new(Lookups::new(Arc::new(move |_, _| match counted.fetch_add(1, Ordering::Relaxed) {
            0 => {
                let _ = held.recv();
                Err(Unresolved::NoAnswer)
            }
            _ => Ok(vec![IpAddr::from([192, 0, 2, 7])]),
        })));
        assert_eq!(lookups.ask("x", IpFamily::Any, Instant::now()), Err(Unresolved::Late));
        let (flight, none) = lookups.board("x", IpFamily::Any);
        assert!(none.is_none());
        let (asked, late) = (lookups.clone(), Instant::now() + Duration::from_secs(30));
        let joins = std::thread::spawn(move || asked.ask("x", IpFamily::Any, late));
        // The list, the question, this test, and the one that has joined.
        while Arc::strong_count(&flight) < 4 && Instant::now() < late {
            std::thread::yield_now();
        }
        drop(hold);
        assert_eq!(joins.join().unwrap(), Ok(vec![IpAddr::from([192, 0, 2, 7])]));
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_name_is_looked_up_once_at_a_time() {
        let (hold, held) = bounded::<()>(0);
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let lookups = Arc::new(Lookups::new(Arc::new(move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = held.recv();
            Ok(vec![IpAddr::from([192, 0, 2, 7])])
        })));
        for _ in 0..2 * THREADS_MAX {
            assert_eq!(lookups.ask("stuck", IpFamily::Any, Instant::now()), Err(Unresolved::Late));
        }
        assert_eq!(lookups.threads.load(Ordering::Relaxed), 1);
        // Another family is another question.
        assert_eq!(lookups.ask("stuck", IpFamily::V4, Instant::now()), Err(Unresolved::Late));
        assert_eq!(lookups.threads.load(Ordering::Relaxed), 2);
        let askers: Vec<_> = (0..8)
            .map(|_| {
                let lookups = lookups.clone();
                let late = Instant::now() + Duration::from_secs(10);
                std::thread::spawn(move || lookups.ask("stuck", IpFamily::Any, late))
            })
            .collect();
        // Each waits on its flight, which the map, the thread's question and every asker hold.
        let deadline = Instant::now() + Duration::from_secs(10);
        let key = ("stuck".to_owned(), IpFamily::Any);
        while lock(&lookups.flights).get(&key).map_or(0, Arc::strong_count) < 2 + 8 {
            assert!(Instant::now() < deadline, "the askers do not come");
            std::thread::yield_now();
        }
        drop(hold);
        for asker in askers {
            assert_eq!(asker.join().unwrap(), Ok(vec![IpAddr::from([192, 0, 2, 7])]));
        }
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        // Nothing is kept: who asks now asks anew.
        assert!(lookups.ask("stuck", IpFamily::Any, Instant::now() + Duration::from_secs(10)).is_ok());
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn the_system_knows_localhost_and_not_what_cannot_be() {
        assert_eq!(system("localhost", IpFamily::V4), Ok(vec![IpAddr::from([127, 0, 0, 1])]));
        // Labels longer than 63 bytes are no names (RFC 1035, section 2.3.4): this is told without a name service.
        assert!(system(&"x".repeat(70), IpFamily::Any).is_err());
    }
}
