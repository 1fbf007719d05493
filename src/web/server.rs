//! A small HTTP/1.1 server (RFC 9112) for a few short pages: one thread, and no client can hold it up.
//!
//! * One answer a connection, then it is closed. A request's body is never looked at, so its length means nothing here.
//! * At most [`CONNECTIONS_MAX`] at once. When all places are taken, the next one waits in the backlog of the system until
//!   the oldest has had its [`GRACE`], and takes the place of that one, which goes without an answer.
//! * Each is gone [`DEADLINE`] after it came, whatever it did or did not do until then.
//! * A head has at most [`HEAD_BYTES_MAX`] bytes and [`HEADERS_MAX`] fields; 431 beyond.
//! * Nothing wakes the thread while nobody is connected.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::jobs::Pulse;

/// Connections at once.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// Connections that wait for a place; the system may allow fewer (listen(2)).
const BACKLOG_MAX: i32 = 1024;
/// For all that happens on one connection: head, answer and goodbye.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// How long a connection keeps its place when others wait for it. A client's request follows at the heels of its connect.
const GRACE: Duration = Duration::from_millis(20);
/// A request line and its header fields.
pub(super) const HEAD_BYTES_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 64;
/// How long nobody is let in after the system could not give a connection.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// How often that is said at most: while connections come and go, it comes and goes with them.
const SAID_AGAIN: Duration = Duration::from_secs(600);
/// For one round: whatever is ready gets one step.
const ROUND_MAX: Duration = Duration::from_secs(10);

/// What is answered.
pub(super) struct Answer {
    pub status: u16,
    /// The media type of `body`.
    pub kind: &'static str,
    pub body: String,
}

/// From a method and a path, without its query, to what is answered. It runs on the server's only thread.
pub(super) type Route<'a> = &'a dyn Fn(&str, &str) -> Answer;

/// The listening socket, and the word to stop: a pair of sockets, one of which is shut down.
#[derive(Debug)]
pub(super) struct Server {
    listener: TcpListener,
    stop: UnixStream,
    stopped: UnixStream,
}

impl Server {
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        // Again, for a longer backlog than std's 128: a connect that finds it full is tried again a second later.
        rustix::net::listen(&listener, BACKLOG_MAX)?;
        let (stop, stopped) = UnixStream::pair()?;
        Ok(Server { listener, stop, stopped })
    }

    #[cfg(test)]
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Ends [`serve`](Server::serve), now or as soon as it begins.
    pub fn close(&self) {
        // Fails only when it was done before.
        let _ = self.stop.shutdown(Shutdown::Both);
    }

    /// Answers until [`close`](Server::close). Connections that are open then are dropped.
    ///
    /// # Errors
    /// When the system cannot wait.
    pub fn serve(&self, pulse: &Pulse, route: Route<'_>) -> Result<(), String> {
        // The oldest first.
        let mut open: Vec<Connection> = Vec::new();
        let mut door = Door::default();
        loop {
            let now = Instant::now();
            open.retain(|connection| now < connection.since + DEADLINE);
            let full = open.len() >= CONNECTIONS_MAX;
            let opens = door.shut_until.max(open.first().filter(|_| full).map(|oldest| oldest.since + GRACE));
            let opens = opens.filter(|opens| now < *opens);
            let next = open.first().map(|oldest| oldest.since + DEADLINE).into_iter().chain(opens).min();

            pulse.rest();
            let Ready { stop, listener, connections } = self.wait(&open, opens.is_none(), next)?;
            pulse.back_in(ROUND_MAX);
            if stop {
                return Ok(());
            }
            let mut ready = connections.into_iter();
            open.retain_mut(|connection| !ready.next().unwrap_or(false) || connection.goes_on(route));
            // One a round, so that those who are in are served before those who come.
            if listener && let Some(stream) = door.accept(&self.listener) {
                if open.len() >= CONNECTIONS_MAX {
                    open.remove(0);
                }
                open.push(Connection { stream, since: Instant::now(), stage: Stage::Head(Vec::new()) });
            }
        }
    }

    /// Waits for something to happen, or for `next`.
    fn wait(&self, open: &[Connection], accepts: bool, next: Option<Instant>) -> Result<Ready, String> {
        let newcomers = if accepts { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = vec![PollFd::new(&self.stopped, PollFlags::IN), PollFd::new(&self.listener, newcomers)];
        fds.extend(open.iter().map(|connection| PollFd::new(&connection.stream, connection.waits_for())));
        let left = next.map(|next| Timespec::try_from(next.saturating_duration_since(Instant::now())));
        match poll(&mut fds, left.transpose().map_err(|e| e.to_string())?.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(format!("cannot wait for connections: {}", io::Error::from(error))),
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let (stop, listener) = (ready.next().unwrap_or(false), ready.next().unwrap_or(false));
        Ok(Ready { stop, listener, connections: ready.collect() })
    }
}

/// Where something happened.
#[derive(Default)]
struct Ready {
    stop: bool,
    listener: bool,
    /// In the order of those that are open; none when nothing happened.
    connections: Vec<bool>,
}

/// Lets connections in, and pauses when the system has none to give: out of file descriptors or memory.
#[derive(Default)]
struct Door {
    shut_until: Option<Instant>,
    quiet_until: Option<Instant>,
}

impl Door {
    fn accept(&mut self, listener: &TcpListener) -> Option<TcpStream> {
        let accepted = listener.accept().and_then(|(stream, _)| stream.set_nonblocking(true).map(|()| stream));
        match accepted {
            Ok(stream) => Some(stream),
            // It has gone away while it waited.
            Err(error) if again(&error) || error.kind() == ErrorKind::ConnectionAborted => None,
            Err(error) => {
                let now = Instant::now();
                if self.quiet_until.is_none_or(|until| until <= now) {
                    let pause = ACCEPT_PAUSE.as_secs();
                    log::warn!("web: cannot accept connections: {error}; trying again every {pause} s");
                    self.quiet_until = Some(now + SAID_AGAIN);
                }
                self.shut_until = Some(now + ACCEPT_PAUSE);
                None
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    since: Instant,
    stage: Stage,
}

enum Stage {
    /// What came of the head.
    Head(Vec<u8>),
    /// The answer, and how much of it is sent.
    Reply(Vec<u8>, usize),
    /// All is said. What still comes is read and thrown away until the client closes: to close on unread bytes would
    /// reset the connection, and take the answer from a client that has not read it yet (RFC 9112, section 9.6).
    Goodbye,
}

impl Connection {
    fn waits_for(&self) -> PollFlags {
        if matches!(self.stage, Stage::Reply(..)) { PollFlags::OUT } else { PollFlags::IN }
    }

    /// Does what can be done now without waiting; whether there is more to come.
    fn goes_on(&mut self, route: Route<'_>) -> bool {
        self.step(route).unwrap_or_else(|error| again(&error))
    }

    fn step(&mut self, route: Route<'_>) -> io::Result<bool> {
        let mut buffer = [0; HEAD_BYTES_MAX];
        if let Stage::Head(head) = &mut self.stage {
            let room = HEAD_BYTES_MAX.saturating_sub(head.len());
            let read = self.stream.read(&mut buffer[..room])?;
            head.extend_from_slice(&buffer[..read]);
            if read == 0 && head.is_empty() {
                return Ok(false);
            }
            let Some(reply) = reply(head, read == 0, route) else { return Ok(true) };
            self.stage = Stage::Reply(reply, 0);
        }
        if let Stage::Reply(reply, sent) = &mut self.stage {
            *sent += self.stream.write(&reply[*sent..])?;
            if *sent == reply.len() {
                self.stream.shutdown(Shutdown::Write)?;
                self.stage = Stage::Goodbye;
            }
            return Ok(true);
        }
        Ok(self.stream.read(&mut buffer)? > 0)
    }
}

fn again(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// The bytes to answer to `head` with; none as long as it is not whole. `ended`: no more of it comes.
pub(super) fn reply(head: &[u8], ended: bool, route: Route<'_>) -> Option<Vec<u8>> {
    let refused = |status, said: &str| Answer { status, kind: PLAIN, body: format!("{said}\n") };
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(head);
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let answer = match parsed {
        Ok(httparse::Status::Complete(_)) => route(method, target.split('?').next().unwrap_or_default()),
        Err(httparse::Error::TooManyHeaders) => refused(431, "too many header fields"),
        Ok(httparse::Status::Partial) if head.len() >= HEAD_BYTES_MAX => refused(431, "the head is too large"),
        Ok(httparse::Status::Partial) if !ended => return None,
        Ok(httparse::Status::Partial) | Err(_) => refused(400, "not HTTP/1.1"),
    };
    Some(write(&answer, method != "HEAD"))
}

/// The media type of a sentence for people.
pub(super) const PLAIN: &str = "text/plain; charset=utf-8";

fn write(answer: &Answer, with_body: bool) -> Vec<u8> {
    let Answer { status, kind, body } = answer;
    let words = match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        // The words mean nothing and may be left out (RFC 9112, section 4).
        _ => "",
    };
    let allow = if *status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    let length = body.len();
    let mut text = format!(
        "HTTP/1.1 {status} {words}\r\n{allow}Content-Type: {kind}\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    );
    if with_body {
        text.push_str(body);
    }
    text.into_bytes()
}
