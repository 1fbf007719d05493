//! The target server of the bench: HTTP/1.1 (RFC 9112), a new connection for each request, every answer late by a set delay.
//!
//! It shares two cores with the agent that it measures, so it is one thread on epoll(7) and spends a handful of system calls
//! on a request. It listens on many loopback addresses, since at thousands of connections a second one address runs out of
//! ports: each that was closed stays in TIME_WAIT for a minute. Arrivals are kept in memory and written out at the end.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags, accept_with, send};
use rustix::time::{ClockId, Timespec, clock_gettime};
use rustls::ServerConfig;
use socket2::{Domain, Socket, Type};

use crate::tls::{self, Talk};

/// On how many addresses it listens: 127.0.0.2 and up.
pub const ADDRESSES: usize = 40;

const BACKLOG: i32 = 4096;
const HEAD_BYTES_MAX: usize = 8 * 1024;
const EVENTS_MAX: usize = 256;
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";

/// The address that check number `check` goes to.
pub fn address(check: usize) -> Ipv4Addr {
    let host = u8::try_from(2 + check % ADDRESSES).unwrap_or(2);
    Ipv4Addr::new(127, 0, 0, host)
}

/// Microseconds of the machine's monotonic clock: the same in every process.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000
}

/// Serves `checks` paths, `/0` and up, until standard input closes. Writes the port as its first line, and at the end a line
/// for each path: when its connections came. Over TLS where it has an identity.
///
/// # Errors
/// What the system refused.
pub fn serve(checks: usize, delay: Duration, identity: Option<&Path>) -> io::Result<()> {
    let mut server = Server::listen(checks, delay, identity.map(tls::config).transpose()?)?;
    writeln!(io::stdout(), "{}", server.port)?;
    let mut events = Vec::with_capacity(EVENTS_MAX);
    loop {
        events.clear();
        match epoll::wait(&server.epoll, spare_capacity(&mut events), server.patience().as_ref()) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        for event in &events {
            match event.data.u64() {
                STDIN => return server.write_arrivals(&mut io::stdout().lock()),
                listener if listener >= LISTENER => server.accept(listener - LISTENER)?,
                fd => server.read(fd)?,
            }
        }
        server.answer_due();
    }
}

// What epoll gives back: a connection's file descriptor, a listener's number on top of `LISTENER`, or standard input.
const LISTENER: u64 = 1 << 32;
const STDIN: u64 = u64::MAX;

struct Server {
    port: u16,
    epoll: OwnedFd,
    listeners: Vec<Socket>,
    /// By file descriptor, which the kernel gives out lowest first.
    open: Vec<Option<Connection>>,
    /// The delay is the same for all, so that the first to come is the first that is due.
    waiting: VecDeque<(u64, Connection)>,
    delay: u64,
    arrivals: Vec<Vec<u64>>,
    tls: Option<Arc<ServerConfig>>,
}

struct Connection {
    socket: OwnedFd,
    arrived: u64,
    head: Vec<u8>,
    tls: Option<Talk>,
}

impl Server {
    fn listen(checks: usize, delay: Duration, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, io::stdin(), EventData::new_u64(STDIN), EventFlags::IN)?;
        let mut listeners: Vec<Socket> = Vec::with_capacity(ADDRESSES);
        let mut port = 0;
        for nth in 0..ADDRESSES {
            let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            listener.set_nonblocking(true)?;
            listener.set_reuse_address(true)?;
            listener.bind(&SocketAddr::from((address(nth), port)).into())?;
            listener.listen(BACKLOG)?;
            port = listener.local_addr()?.as_socket().map_or(0, |local| local.port());
            epoll::add(&epoll, &listener, EventData::new_u64(LISTENER + nth as u64), EventFlags::IN)?;
            listeners.push(listener);
        }
        let delay = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        let (open, waiting) = (Vec::new(), VecDeque::new());
        Ok(Server { port, epoll, listeners, open, waiting, delay, arrivals: vec![Vec::new(); checks], tls })
    }

    /// Until the next answer is due.
    fn patience(&self) -> Option<Timespec> {
        let (due, _) = self.waiting.front()?;
        let micros = i64::try_from(due.saturating_sub(now())).unwrap_or(i64::MAX);
        Some(Timespec { tv_sec: micros / 1_000_000, tv_nsec: micros % 1_000_000 * 1_000 })
    }

    /// Takes one connection: epoll reports a listener with more of them again, after everyone else had a turn.
    fn accept(&mut self, listener: u64) -> io::Result<()> {
        let Some(listener) = usize::try_from(listener).ok().and_then(|nth| self.listeners.get(nth)) else {
            return Ok(());
        };
        let socket = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => socket,
            Err(Errno::AGAIN | Errno::CONNABORTED) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let fd = u64::try_from(socket.as_raw_fd()).unwrap_or(0);
        epoll::add(&self.epoll, &socket, EventData::new_u64(fd), EventFlags::IN | EventFlags::ET)?;
        let slot = usize::try_from(fd).unwrap_or(0);
        if self.open.len() <= slot {
            self.open.resize_with(slot + 1, || None);
        }
        let tls = self.tls.as_ref().map(tls::begin).transpose()?;
        self.open[slot] = Some(Connection { socket, arrived: now(), head: Vec::new(), tls });
        self.read(fd)
    }

    /// Reads on in a request; one that is whole gets its answer, now or when the delay is over. What comes on a connection
    /// that waits for its answer (the client's end of it) is left unread.
    fn read(&mut self, fd: u64) -> io::Result<()> {
        let Some(slot) = usize::try_from(fd).ok().and_then(|fd| self.open.get_mut(fd)) else { return Ok(()) };
        let Some(connection) = slot else { return Ok(()) };
        let mut buffer = [0; HEAD_BYTES_MAX];
        let read = match connection.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(_) | Ok(0) => {
                *slot = None;
                return Ok(());
            }
            Ok(read) => read,
        };
        connection.head.extend_from_slice(&buffer[..read]);
        if !connection.head.ends_with(b"\r\n\r\n") {
            if connection.head.len() > HEAD_BYTES_MAX {
                *slot = None;
            }
            return Ok(());
        }
        let Some(mut connection) = slot.take() else { return Ok(()) };
        let path = path(&connection.head)
            .filter(|&path| path < self.arrivals.len())
            .ok_or_else(|| io::Error::other(format!("no such path: {}", connection.head.escape_ascii())))?;
        self.arrivals[path].push(connection.arrived);
        if self.delay == 0 {
            answer(&mut connection);
        } else {
            self.waiting.push_back((now() + self.delay, connection));
        }
        Ok(())
    }

    fn answer_due(&mut self) {
        let now = now();
        while self.waiting.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, mut connection)) = self.waiting.pop_front() {
                answer(&mut connection);
            }
        }
    }

    fn write_arrivals(&self, out: &mut impl io::Write) -> io::Result<()> {
        let mut out = io::BufWriter::new(out);
        for arrivals in &self.arrivals {
            for arrived in arrivals {
                write!(out, "{arrived} ")?;
            }
            writeln!(out)?;
        }
        out.flush()
    }
}

/// Answers and, by the connection's end of life, closes. A client that has gone is its own affair.
fn answer(connection: &mut Connection) {
    let _ = match &mut connection.tls {
        Some(talk) => tls::answer(talk, &connection.socket, ANSWER),
        None => send(&connection.socket, ANSWER, SendFlags::NOSIGNAL).map(drop).map_err(io::Error::from),
    };
}

impl Connection {
    /// Reads what there is of the request.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(talk) => tls::read(talk, &self.socket, buffer),
            None => Ok(rustix::io::read(&self.socket, buffer)?),
        }
    }
}

/// The number in `GET /17 HTTP/1.1`.
fn path(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).ok()?;
    head.strip_prefix("GET /")?.split(' ').next()?.parse().ok()
}
