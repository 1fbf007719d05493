//! Echoes: requests to any number of addresses at once over one socket a family, and who gets which reply.
//!
//! ```text
//! check ──send──▶ socket ──▶ listener, a thread while anything is under way ──▶ table: whose is it? ──▶ check, which waits
//! ```
//!
//! The sockets are opened when first needed, and stay. The listener of a socket starts with the first request, sleeps until
//! the kernel has something for it, and ends when nothing was under way for `IDLE`; so none of it wakes up for nothing. At its
//! deadline a check looks into the socket itself: a listener that comes late makes nothing look lost, and how long a reply took
//! is told by the time at which the kernel took it in.
//!
//! Nothing is sent again: a request that is lost is lost.

mod packet;
mod socket;
mod table;

pub use socket::Refusal;
pub use table::{End, Request, Tally};

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::jobs;
use packet::Family;
use socket::{Room, Socket, Unopened};
use table::{Run, Table, lock};

/// A listener with nothing to wait for ends after this long.
const IDLE: Duration = Duration::from_secs(10);
const STACK_BYTES: usize = 128 * 1024;
/// Messages that are taken in before others get a turn: more than a socket's buffer holds.
const MESSAGES_MAX: usize = 4_096;
/// A socket that fails so often in a row, with nothing in between, is broken.
const FAILURES_MAX: usize = 64;

/// The echoes of this process.
#[derive(Debug, Default)]
pub struct Echoes {
    v4: Mutex<Option<Arc<Line>>>,
    v6: Mutex<Option<Arc<Line>>>,
}

/// Why nothing can be asked.
#[derive(Debug)]
pub enum Unasked {
    /// This process may open no socket for it.
    NotPermitted,
    /// So many are under way that there is no number left.
    Full,
    /// The system said so.
    Io(io::Error),
    /// No thread to listen with.
    NoThread(io::Error),
}

/// A socket, and all that is under way on it.
#[derive(Debug)]
struct Line {
    socket: Socket,
    table: Mutex<Table>,
    /// Held from taking a message out of the socket until it is in the table: who looks for a message in vain knows that there
    /// was none.
    room: Mutex<Room>,
}

/// Some requests to one address. What comes for them after it is dropped is late.
#[derive(Debug)]
pub struct Asking {
    line: Arc<Line>,
    run: Arc<Run>,
    to: IpAddr,
    deadline: Instant,
    dropped_before: u32,
}

impl Echoes {
    /// Begins to ask `to`, at most `count` times, until `deadline`. Nothing is sent yet.
    ///
    /// # Errors
    /// Why nothing can be asked.
    pub fn ask(&self, to: IpAddr, count: usize, deadline: Instant) -> Result<Asking, Unasked> {
        let (family, line) = if to.is_ipv4() { (Family::V4, &self.v4) } else { (Family::V6, &self.v6) };
        let line = {
            let mut line = lock(line);
            match &*line {
                Some(line) if !lock(&line.table).broken => line.clone(),
                _ => line.insert(Arc::new(Line::open(family)?)).clone(),
            }
        };
        // What was dropped until now is nothing to this run.
        let dropped_before = line.socket.dropped().unwrap_or(0);
        let mut table = lock(&line.table);
        table.dropped = table.dropped.max(dropped_before);
        let run = table.enter(to, count, deadline, random()?).ok_or(Unasked::Full)?;
        let dropped_before = table.dropped;
        let asking = Asking { line: line.clone(), run, to, deadline, dropped_before };
        if !table.listened {
            table.listened = true;
            let listener = Listener(line.clone());
            drop(table);
            jobs::start_detached("echoes", STACK_BYTES, move || listener.listen()).map_err(Unasked::NoThread)?;
        }
        Ok(asking)
    }
}

impl Asking {
    /// Sends the request at `place`.
    ///
    /// # Errors
    /// Why it did not go out.
    pub fn send(&self, place: usize) -> io::Result<()> {
        let Some(seq) = self.run.seq(place) else { return Err(io::ErrorKind::InvalidInput.into()) };
        // Before it goes: the reply may be here before this thread goes on.
        self.run.tally().requests[place].sent = Some(Instant::now());
        let sent = self.line.socket.send(self.to, seq, self.run.payload(), self.deadline);
        if sent.is_err() {
            self.run.tally().requests[place].sent = None;
        }
        sent
    }

    /// Waits until more than `ended` requests have come to an end, until `until` at most; how many have.
    pub fn wait(&self, ended: usize, until: Instant) -> usize {
        self.run.wait(ended, until)
    }

    /// Whether any reply has come.
    pub fn is_answered(&self) -> bool {
        self.run.tally().round_trips().next().is_some()
    }

    /// Whether nobody listens any more.
    pub fn is_deaf(&self) -> bool {
        self.run.tally().deaf.is_some()
    }

    /// Whether it goes over a raw socket.
    pub fn is_raw(&self) -> bool {
        self.line.socket.is_raw()
    }

    /// What became of all that was sent, with what lies in the socket right now.
    pub fn end(self) -> Tally {
        if self.run.tally().is_open() {
            // Should the socket be broken, the listener has said so.
            let _ = self.line.take_in();
            let dropped = self.line.socket.dropped().unwrap_or(0);
            let mut table = lock(&self.line.table);
            table.dropped = table.dropped.max(dropped);
        }
        let mut tally = self.run.tally().clone();
        tally.dropped = lock(&self.line.table).dropped.wrapping_sub(self.dropped_before);
        tally
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        lock(&self.line.table).leave(&self.run);
    }
}

impl Line {
    fn open(family: Family) -> Result<Self, Unasked> {
        let socket = Socket::open(family).map_err(|error| match error {
            Unopened::NotPermitted => Unasked::NotPermitted,
            Unopened::Io(error) => Unasked::Io(error),
        })?;
        Ok(Line { socket, table: Mutex::new(Table::new(random()?)), room: Mutex::default() })
    }

    /// Takes in all that lies in the socket.
    fn take_in(&self) -> io::Result<()> {
        let mut room = lock(&self.room);
        let mut failures = 0;
        for _ in 0..MESSAGES_MAX {
            match self.socket.receive(&mut room, |message| lock(&self.table).take(&message)) {
                Ok(true) => failures = 0,
                Ok(false) => break,
                // An ICMP error is told twice: so, and in the error queue.
                Err(error) => {
                    failures += 1;
                    if failures == FAILURES_MAX {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The thread that listens. However it ends, those who wait for it are told.
struct Listener(Arc<Line>);

impl Listener {
    fn listen(self) {
        let line = &self.0;
        loop {
            let heard = line.socket.heard(IDLE).and_then(|heard| line.take_in().map(|()| heard));
            let mut table = lock(&line.table);
            match heard {
                Ok(false) if table.is_empty() => {
                    table.listened = false;
                    return;
                }
                Ok(_) => {}
                Err(error) => {
                    log::error!("the socket for ICMP echoes fails: {error}");
                    table.deaf(&format!("the socket for ICMP echoes fails: {error}"));
                    (table.listened, table.broken) = (false, true);
                    return;
                }
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut table = lock(&self.0.table);
        if table.listened {
            table.listened = false;
            table.deaf("the thread that listens for ICMP echoes has died");
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N], Unasked> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Unasked::Io(io::Error::other(error)))?;
    Ok(bytes)
}
