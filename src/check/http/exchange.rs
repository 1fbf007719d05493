//! One request and its answer over a connection that stands: ureq speaks HTTP/1.1, we hold the socket and the clock.
//!
//! ureq gets an agent for each thread, whose connector hands over the connection. So it has nothing to pool, to retry, to
//! resolve, or to time out by itself, and needs no lock that other checks hold. What goes wrong on the socket is kept as a
//! [`Failure`] on our side; what ureq makes of it does not matter.

use std::cell::RefCell;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ureq::config::{AutoHeaderValue, Config};
use ureq::http::{Method, Request, Response, Uri};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};
use ureq::{Agent, Body};

use super::Http;
use super::answer::{Answer, Head};
use super::heads;
use super::redirect::Hop;
use super::request::{self, Wire};
use super::websocket::{self, Handshake};

use crate::check::Phase;
use crate::net::{Course, Failure, Trouble};

/// The head of an answer may be this long; browsers and servers refuse far shorter ones.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How much is read at once. Answers to checks are small, and memory that is touched costs time.
const READ_BYTES: usize = 4 * 1024;

/// How much is written at once, unless a header is longer.
const WRITE_BYTES: usize = 4 * 1024;

/// Sends the request of `hop` and reads its answer into `answer`, without the body when `head_only` says so.
///
/// # Errors
/// What kept the answer from coming whole.
pub fn exchange(
    http: &Http,
    hop: &Hop,
    wire: Wire,
    head_only: impl Fn(&Answer) -> bool,
    course: &mut Course,
    answer: &mut Answer,
) -> Result<(), Failure> {
    let (request, handshake) = begun(http, hop, &wire).map_err(|reason| course.blocked(Phase::Send, reason))?;
    let buffer = Buffer::new(&request);
    let talk = Talk { wire, course: course.take(), failure: None, opening: Vec::new(), sent: Vec::new() };
    let line = Line { talk: Arc::new(Mutex::new(talk)), buffer };
    let talk = line.talk.clone();
    LINE.set(Some(line));
    let response = AGENT.with(|agent| ask(agent, request, http, hop));
    // A request that ureq refuses takes no connection. After a panic it is closed with the thread's next request.
    drop(LINE.take());
    let result = response.and_then(|response| {
        let (parts, body) = response.into_parts();
        let head = answer.head.insert(Head { status: parts.status, version: parts.version, headers: parts.headers });
        lock(&talk).course.timeline.note(|| heads::came(http, head));
        answer.websocket = handshake.and_then(|handshake| handshake.accepted(http, head));
        if head_only(answer) { Ok(()) } else { read_body(http, body.into_reader(), answer) }
    });
    let mut talk = lock(&talk);
    if let Some(Ok(())) = answer.websocket {
        talk.say_goodbye();
    }
    *course = talk.course.take();
    course.timeline.note_in(Phase::Send, || heads::sent(http, &talk.sent));
    match (talk.failure.take(), result) {
        (Some(failure), _) => Err(failure),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) => Err(broken(http, &error, answer, &talk, course)),
    }
}

thread_local! {
    static AGENT: Agent = Agent::with_parts(config(), HandOver, Nowhere);
    /// The connection that ureq is to take.
    static LINE: RefCell<Option<Line>> = const { RefCell::new(None) };
}

/// What ureq is told for every request. All of its own time-outs are off but the one that lets a request with
/// `Expect: 100-continue` go on without it.
fn config() -> Config {
    Config::builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .max_idle_connections(0)
        .max_response_header_size(HEAD_BYTES_MAX)
        .allow_non_standard_methods(true)
        .accept_encoding(AutoHeaderValue::Provided(Arc::new("identity".to_owned())))
        .user_agent(concat!("pingeon/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// The request, as a handshake where that is asked for.
fn begun(http: &Http, hop: &Hop, wire: &Wire) -> Result<(Request<()>, Option<Handshake>), String> {
    let mut request = request::head(http, hop, wire.forwarded.as_ref())?;
    let handshake = http.websocket.then(|| Handshake::begun(&mut request)).transpose()?;
    Ok((request, handshake))
}

fn ask(agent: &Agent, request: Request<()>, http: &Http, hop: &Hop) -> Result<Response<Body>, ureq::Error> {
    let body: &[u8] = if hop.with_body { http.body.expose().as_bytes() } else { &[] };
    // Servers want these methods to say that nothing follows (RFC 9110, section 8.6).
    let names_length = matches!(hop.method, Method::POST | Method::PUT | Method::PATCH);
    if body.is_empty() && !names_length { agent.run(request) } else { agent.run(request.map(|()| body)) }
}

fn read_body(http: &Http, mut reader: impl Read, answer: &mut Answer) -> Result<(), ureq::Error> {
    let keep = http.keep_body || http.expect.looks_at_body();
    let mut chunk = [0; READ_BYTES];
    loop {
        match reader.read(&mut chunk)? {
            0 => return Ok(()),
            read => {
                let room = usize::try_from(answer.bytes).map_or(0, |bytes| http.expect.body_max.saturating_sub(bytes));
                let taken = read.min(room);
                answer.bytes += taken as u64;
                if keep {
                    answer.body.extend_from_slice(&chunk[..taken]);
                }
                if taken < read {
                    answer.cut = true;
                    return Ok(());
                }
            }
        }
    }
}

/// What is wrong with an answer that ureq gives up on, while the socket itself was fine.
fn broken(http: &Http, error: &ureq::Error, answer: &Answer, talk: &Talk, course: &mut Course) -> Failure {
    let peer = &talk.wire.peer;
    let closed = matches!(error, ureq::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof);
    let length = answer.head.as_ref().and_then(|head| head.header("content-length"));
    match (&answer.head, error) {
        _ if course.phase().is_none_or(|phase| phase < Phase::Send) => {
            course.blocked(Phase::Send, format!("the request cannot be sent: {error}"))
        }
        (Some(_), _) if closed => {
            let of = length.map(|length| format!(" of {}", String::from_utf8_lossy(&length))).unwrap_or_default();
            let bytes = answer.bytes;
            course.failed(
                Phase::Body,
                format!("connection closed by {peer} in the middle of the body, after {bytes}{of} bytes"),
            )
        }
        (Some(_), error) => course.failed(Phase::Body, format!("body cannot be read: {error}")),
        (None, ureq::Error::LargeResponseHeader(..)) => too_large(false, course),
        (None, _) if closed && talk.opening.is_empty() => {
            course.failed(Phase::FirstByte, format!("connection closed by {peer} before the first byte"))
        }
        (None, _) if closed => {
            course.failed(Phase::Body, format!("connection closed by {peer} in the middle of the answer's head"))
        }
        (None, error) if talk.opening.starts_with(b"HTTP/") => {
            no_answer_began(course, format!("answer's head cannot be read: {error}"))
        }
        (None, _) => {
            let opening = quoted(&http.without_secrets(&talk.opening));
            no_answer_began(course, format!("{peer} does not answer in HTTP: `{opening}`"))
        }
    }
}

/// The failure when what began to come was no answer: the wait for one was not over, and no `body` was reached.
fn no_answer_began(course: &mut Course, reason: String) -> Failure {
    course.is_still(Phase::FirstByte);
    course.failed(Phase::FirstByte, reason)
}

/// A head that came to its bound; once the head is done, it is that of a chunk.
fn too_large(head_done: bool, course: &mut Course) -> Failure {
    let bound = HEAD_BYTES_MAX / 1024;
    match head_done {
        false => no_answer_began(course, format!("answer's head is larger than {bound} KiB")),
        true => course.failed(Phase::Body, format!("body cannot be read: a chunk's head is larger than {bound} KiB")),
    }
}

/// The beginning of what came, as far as it can be shown on one line.
fn quoted(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// The connection as ureq sees it, and what we know about it. Both ends are on one thread; the lock is for the compiler.
#[derive(Debug)]
struct Talk {
    wire: Wire,
    course: Course,
    failure: Option<Failure>,
    /// The first bytes that came.
    opening: Vec<u8>,
    /// The first bytes that went, where somebody watches.
    sent: Vec<u8>,
}

/// So many of the first bytes are shown when they are no HTTP.
const OPENING_BYTES: usize = 40;

impl Talk {
    fn send(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let deadline = self.course.deadline();
        let absolute = self.wire.forwarded.as_mut().and_then(|forwarded| forwarded.origin.take());
        let bytes = match (absolute, bytes.iter().position(|&byte| byte == b' ')) {
            // To a forwarding proxy, the request line names the whole URL; ureq writes only the path.
            (Some(origin), Some(space)) => {
                let (method, path) = bytes.split_at(space + 1);
                &[method, origin.as_bytes(), path].concat()
            }
            _ => bytes,
        };
        if self.course.timeline.is_watched() {
            let room = HEAD_BYTES_MAX.saturating_sub(self.sent.len());
            self.sent.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        self.wire.stream.write_all(bytes, deadline)
    }

    /// Ends a WebSocket as one does. What comes of it changes nothing: the check has what it came for.
    fn say_goodbye(&mut self) {
        if let Ok(frame) = websocket::goodbye() {
            let _ = self.wire.stream.write_all(&frame, self.course.deadline());
        }
    }

    fn receive(&mut self, into: &mut [u8], until: Instant) -> Result<usize, Trouble> {
        let read = self.wire.stream.read(into, until)?;
        if self.course.phase() == Some(Phase::FirstByte) && read > 0 {
            self.course.enter(Phase::Body);
        }
        let wanted = OPENING_BYTES.saturating_sub(self.opening.len()).min(read);
        self.opening.extend_from_slice(&into[..wanted]);
        Ok(read)
    }

    /// Keeps what went wrong, and tells ureq that something did.
    fn fail(&mut self, trouble: Trouble) -> ureq::Error {
        let phase = self.course.phase().unwrap_or(Phase::Send);
        let peer = self.wire.peer.clone();
        self.failure = Some(trouble.failure(&mut self.course, phase, &peer));
        ureq::Error::ConnectionFailed
    }
}

fn lock(talk: &Mutex<Talk>) -> MutexGuard<'_, Talk> {
    talk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// ureq's side of the connection.
#[derive(Debug)]
struct Line {
    talk: Arc<Mutex<Talk>>,
    buffer: Buffer,
}

impl Transport for Line {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffer
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let mut talk = lock(&self.talk);
        talk.course.enter(Phase::Send);
        talk.send(&self.buffer.output[..amount]).map_err(|trouble| talk.fail(trouble))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let mut talk = lock(&self.talk);
        if talk.course.phase() == Some(Phase::Send) {
            talk.course.enter(Phase::FirstByte);
        }
        let deadline = talk.course.deadline();
        // Not ours: ureq waits for `100 Continue` for a while, and then goes on.
        let pause = if timeout.after.is_not_happening() { None } else { Instant::now().checked_add(*timeout.after) };
        let until = pause.map_or(deadline, |pause| pause.min(deadline));
        let before = self.buffer.input().len();
        loop {
            let Some(room) = self.buffer.room() else {
                let head_done = self.buffer.head_done;
                talk.failure = Some(too_large(head_done, &mut talk.course));
                return Err(ureq::Error::ConnectionFailed);
            };
            let read = match talk.receive(room, until) {
                Ok(read) => read,
                Err(Trouble::Late) if until < deadline => return Err(ureq::Error::Timeout(timeout.reason)),
                Err(trouble) => return Err(talk.fail(trouble)),
            };
            let line_ended = room[..read].contains(&b'\n');
            self.buffer.input_appended(read);
            // The head is read from its start each time, so while it drips in, only the end of a line is worth a look.
            if read == 0 || before == 0 || self.buffer.head_done || line_ended {
                return Ok(read > 0);
            }
        }
    }

    fn is_open(&mut self) -> bool {
        // Asked before a connection is used once more, which none is.
        false
    }

    fn is_tls(&self) -> bool {
        lock(&self.talk).wire.stream.is_secure()
    }
}

/// What came and was not looked at yet, and what goes out next. Grows only for a long head.
#[derive(Debug)]
struct Buffer {
    input: Vec<u8>,
    consumed: usize,
    filled: usize,
    output: Vec<u8>,
    progress: bool,
    head_done: bool,
}

impl Buffer {
    fn new(request: &Request<()>) -> Self {
        let longest = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
        let longest = longest.chain([request.uri().path_and_query().map_or(0, |path| path.as_str().len())]).max();
        let output = vec![0; WRITE_BYTES.max(longest.unwrap_or(0) + 64)];
        Buffer { input: vec![0; READ_BYTES], consumed: 0, filled: 0, output, progress: false, head_done: false }
    }

    /// Where to read to; `None` when a head, or the head of a chunk, has come to its bound.
    fn room(&mut self) -> Option<&mut [u8]> {
        if self.consumed > 0 {
            self.input.copy_within(self.consumed..self.filled, 0);
            self.filled -= self.consumed;
            self.consumed = 0;
        }
        if self.filled == self.input.len() {
            if self.filled >= HEAD_BYTES_MAX {
                return None;
            }
            self.input.resize(self.filled * 2, 0);
        }
        Some(&mut self.input[self.filled..])
    }
}

impl Buffers for Buffer {
    fn output(&mut self) -> &mut [u8] {
        &mut self.output
    }

    fn input(&self) -> &[u8] {
        &self.input[self.consumed..self.filled]
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.room().unwrap_or_default()
    }

    fn input_appended(&mut self, amount: usize) {
        self.filled += amount;
    }

    fn input_consume(&mut self, amount: usize) {
        self.progress = amount > 0;
        self.head_done |= amount > 0;
        self.consumed += amount;
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        (&mut self.input[self.filled..], &mut self.output)
    }

    fn can_use_input(&self) -> bool {
        !self.input().is_empty() && self.progress
    }
}

/// Gives ureq the connection that stands.
#[derive(Debug)]
struct HandOver;

impl Connector for HandOver {
    type Out = Line;

    fn connect(&self, _: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Line>, ureq::Error> {
        Ok(LINE.take())
    }
}

/// Resolves nothing: the connection stands already.
#[derive(Debug)]
struct Nowhere;

impl Resolver for Nowhere {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}
