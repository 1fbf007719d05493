//! One connection to one broker: requests out, their answers in, in the same order.
//!
//! A frame is a 32-bit length and that many bytes (<https://kafka.apache.org/protocol.html#protocol_common>). No answer may be
//! larger than [`FRAME_MAX`] or come after its deadline; after any error the connection is of no more use.
//!
//! Most of what goes wrong on a new connection is a port, a certificate or a password in the config, so what is seen of the
//! other side is told together with what to set.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader};
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::api::{Api, Versions};
use super::{Cluster, Error, Sasl, codes, sasl};
use crate::jobs::Stop;
use crate::net::{Blame, Course, Failure, Host, IpFamily, Net, Stream, Trouble, shown, tls};

/// The largest answer that is read, in bytes. A fetch asks for a sixteenth of it, and gets more only when one batch is larger.
pub const FRAME_MAX: usize = 64 << 20;

/// The largest answer before the connection is ready, in bytes: who it is, is not known yet. A broker's versions take a few
/// hundred.
const FIRST_FRAME_MAX: usize = 64 << 10;

/// Until a connection has to be ready: name, TCP, TLS, versions and credentials together.
const READY_MAX: Duration = Duration::from_secs(15);

/// Of that, until TCP has to be there. A broker whose packets are swallowed must leave time for the others of the list.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// The header of requests before the flexible versions (KIP-482).
const HEADER_VERSION: i16 = 1;

const CLIENT_ID: &str = "pingeon";

/// What every connection to a cluster needs.
#[derive(Clone, Debug)]
pub struct Access {
    /// How it is reached.
    pub cluster: Cluster,
    /// The network.
    pub net: Arc<Net>,
    /// Ends every wait.
    pub stop: Stop,
}

/// A connection to a broker that has told its versions and knows who we are.
pub struct Connection {
    peer: String,
    stream: Stream,
    /// How it came about, for the words when TLS ends later.
    course: Course,
    stop: Stop,
    versions: Versions,
    credentials: Option<Sasl>,
    /// When to show the credentials anew, where the broker believes them for a time only (KIP-368).
    renew: Option<Instant>,
    /// Whether it has told its versions and taken the credentials.
    ready: bool,
    /// Whether it has answered something that only those get answered who may come in.
    heard: bool,
    next: i32,
    /// Correlation id, API and version of what was sent and not yet answered.
    waiting: VecDeque<(i32, i16, i16)>,
    outgoing: BytesMut,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Connection {
    /// Connects to `peer`, a `host:port`.
    ///
    /// # Errors
    /// What kept it from being ready in time.
    pub fn open(peer: &str, access: &Access) -> Result<Self, Error> {
        Self::open_by(peer, access, Instant::now() + READY_MAX)
    }

    /// As [`open`](Self::open), by a deadline of the caller's.
    pub(super) fn open_by(peer: &str, access: &Access, by: Instant) -> Result<Self, Error> {
        if access.stop.is_set() {
            return Err(Error::Stopped);
        }
        let (stream, course) = dial(peer, access, by)?;
        let mut connection = Connection {
            peer: peer.to_owned(),
            stream,
            course,
            stop: access.stop.clone(),
            versions: Versions::default(),
            credentials: access.cluster.sasl.clone(),
            renew: None,
            ready: false,
            heard: false,
            next: 0,
            waiting: VecDeque::new(),
            outgoing: BytesMut::new(),
        };
        connection.learn_versions(by)?;
        connection.show_credentials(by)?;
        connection.ready = true;
        Ok(connection)
    }

    /// Whom it is connected to.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Whether nobody in between can read what is sent.
    pub fn is_secure(&self) -> bool {
        self.stream.is_secure()
    }

    /// What the broker speaks.
    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// How many requests are not answered yet.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Which version of `A` is spoken on this connection.
    ///
    /// # Errors
    /// [`Error::Unusable`] when there is none.
    pub fn version<A: Api>(&self) -> Result<i16, Error> {
        self.versions.choose::<A>().map_err(|what| Error::Unusable(format!("broker {} {what}", self.peer)))
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// As [`send`](Self::send) and [`receive`](Self::receive).
    pub fn call<A: Api>(&mut self, request: &A, by: Instant) -> Result<A::Answer, Error> {
        self.send(request, by)?;
        self.receive::<A>(by)
    }

    /// Sends a request; its answer is to be [`receive`](Self::receive)d, in the order of the requests.
    ///
    /// # Errors
    /// When the broker does not take it by then, or speaks no version of it.
    pub fn send<A: Api>(&mut self, request: &A, by: Instant) -> Result<(), Error> {
        // Where there is always something under way it cannot be done in between. The broker closes such a connection when
        // its time is over, and the next one begins with the credentials.
        if self.waiting.is_empty() && self.renew.is_some_and(|at| at <= Instant::now()) {
            self.show_credentials(by)?;
        }
        let version = if A::KEY == ApiVersionsRequest::KEY { 0 } else { self.version::<A>()? };
        self.next = self.next.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(A::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.next)
            .with_client_id(Some(StrBytes::from_static_str(CLIENT_ID)));
        self.outgoing.clear();
        self.outgoing.put_u32(0);
        header
            .encode(&mut self.outgoing, HEADER_VERSION)
            .and_then(|()| request.encode(&mut self.outgoing, version))
            .map_err(|error| Error::Unusable(format!("cannot put {} {version} into bytes: {error}", A::NAME)))?;
        let length = u32::try_from(self.outgoing.len() - 4)
            .map_err(|_| Error::Unusable(format!("{} of {} bytes", A::NAME, self.outgoing.len())))?;
        self.outgoing[..4].copy_from_slice(&length.to_be_bytes());
        if let Err(trouble) = self.stream.write_all(&self.outgoing, by) {
            return Err(self.lost(trouble, A::NAME));
        }
        self.waiting.push_back((self.next, A::KEY, version));
        Ok(())
    }

    /// The answer to the oldest request that has none yet, which has to be an `A`.
    ///
    /// # Errors
    /// When it does not come by then or is no answer to it.
    pub fn receive<A: Api>(&mut self, by: Instant) -> Result<A::Answer, Error> {
        let Some((correlation, key, version)) = self.waiting.pop_front() else {
            return Err(Error::Garbage(format!("nothing was asked of {}", self.peer)));
        };
        let mut frame = self.frame(A::NAME, by)?;
        let answers = frame.get_i32();
        if answers != correlation || key != A::KEY {
            return Err(self.garbage(A::NAME, &format!("an answer to request {answers} in place of {correlation}")));
        }
        let answer = A::answer(frame, version).map_err(|what| self.garbage(A::NAME, &what))?;
        self.heard = self.ready;
        Ok(answer)
    }

    /// One frame, without its length; it holds the correlation id at least.
    fn frame(&mut self, asked: &str, by: Instant) -> Result<Bytes, Error> {
        let mut length = [0; 4];
        self.fill(&mut length, asked, by)?;
        let most = if self.ready { FRAME_MAX } else { FIRST_FRAME_MAX };
        let size = u32::from_be_bytes(length) as usize;
        if !(4..=most).contains(&size) {
            return Err(self.not_kafka(length, most));
        }
        // Zeroed memory is not touched before something is written there: what never comes costs nothing.
        let mut frame = BytesMut::zeroed(size);
        self.fill(&mut frame, asked, by)?;
        Ok(frame.freeze())
    }

    fn fill(&mut self, into: &mut [u8], asked: &str, by: Instant) -> Result<(), Error> {
        let mut filled = 0;
        while filled < into.len() {
            match self.stream.read(&mut into[filled..], by) {
                Ok(0) => return Err(self.lost(Trouble::Closed, asked)),
                Ok(read) => filled += read,
                Err(trouble) => return Err(self.lost(trouble, asked)),
            }
        }
        Ok(())
    }

    fn learn_versions(&mut self, by: Instant) -> Result<(), Error> {
        let answer = self.call(&ApiVersionsRequest::default(), by)?;
        if answer.error_code != 0 {
            return Err(self.garbage("ApiVersions", &codes::name(answer.error_code)));
        }
        self.versions = Versions::new(&answer);
        Ok(())
    }

    /// Shows the credentials, if there are any.
    fn show_credentials(&mut self, by: Instant) -> Result<(), Error> {
        self.renew = None;
        let Some(credentials) = self.credentials.clone() else { return Ok(()) };
        let lifetime = sasl::authenticate(self, &credentials, by)?;
        // A fifth of it is for the way to the broker, and for what is under way when it is time.
        self.renew = lifetime.and_then(|lifetime| Instant::now().checked_add(lifetime / 5 * 4));
        Ok(())
    }

    fn garbage(&self, asked: &str, what: &str) -> Error {
        Error::Garbage(format!("broker {} answered {asked} with what is no answer: {what}", self.peer))
    }

    /// What begins with no sensible length is another protocol.
    fn not_kafka(&self, begin: [u8; 4], most: usize) -> Error {
        let peer = &self.peer;
        let [kind, major, ..] = begin;
        // A TLS record that is an alert or a handshake (RFC 8446, section 5.1).
        if matches!(kind, 21 | 22) && major == 3 {
            let hint = "it expects TLS on this port; set `queue.kafka.tls` or take its plaintext port";
            return Error::Garbage(format!("broker {peer} answered in TLS: {hint}"));
        }
        if begin.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') {
            let begin = shown(&begin);
            return Error::Garbage(format!("{peer} is no Kafka broker: what it says begins with `{begin}`"));
        }
        self.garbage("a request", &format!("a frame of {} bytes, of at most {most}", i32::from_be_bytes(begin)))
    }

    fn lost(&mut self, trouble: Trouble, asked: &str) -> Error {
        let peer = &self.peer;
        Error::Away(match trouble {
            Trouble::Late if self.stop.is_set() => return Error::Stopped,
            Trouble::Late if self.versions == Versions::default() => {
                format!("broker {peer} did not answer {asked} in time; is it a Kafka broker?")
            }
            Trouble::Late => format!("broker {peer} did not answer {asked} in time"),
            Trouble::Closed => format!("broker {peer} closed the connection after {asked}{}", self.why_closed()),
            Trouble::Io(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                format!("broker {peer} reset the connection after {asked}{}", self.why_closed())
            }
            Trouble::Io(error) => format!("broker {peer}: {error} after {asked}"),
            // With TLS 1.3 a broker says only now what it thinks of our certificate.
            trouble @ Trouble::Tls(_) => {
                let failure = trouble.after_handshake(&mut self.course, &"it");
                format!("broker {peer}: {}", failure.reason)
            }
        })
    }

    /// Why it may be that a broker closes: they do it without a word.
    fn why_closed(&self) -> &'static str {
        let certificate_wanted = self.course.session.as_ref().is_some_and(|session| session.certificate_wanted);
        match (self.heard, self.versions == Versions::default()) {
            (true, _) => "",
            (false, true) if certificate_wanted => {
                "; it asks for a client certificate: set `queue.kafka.tls.cert_file` and `key_file`"
            }
            (false, true) => "; is it a Kafka broker, and does it expect TLS?",
            (false, false) if self.credentials.is_none() => {
                "; it may ask for SASL on this port: set `queue.kafka.sasl`"
            }
            (false, false) => "",
        }
    }
}

/// Name, TCP and TLS.
fn dial(peer: &str, access: &Access, by: Instant) -> Result<(Stream, Course), Error> {
    let away = |failure: Failure| Error::Away(format!("broker {peer}: {}", failure.reason));
    let (host, port) = peer
        .rsplit_once(':')
        .and_then(|(host, port)| Some((Host::parse(host), port.parse().ok()?)))
        .ok_or_else(|| Error::Unusable(format!("`{peer}` is no host and port")))?;
    // What is wrong with the files is wrong for every broker, and stays so.
    if let Some(settings) = &access.cluster.tls {
        access.net.tls().get(settings, true, None).map_err(|tls::Unusable(what)| Error::Unusable(what))?;
    }
    let mut course = Course::new(by.min(Instant::now() + CONNECT_MAX));
    let mut stream = access.net.dial(&host, port, IpFamily::Any, &mut course).map_err(away)?;
    stream.heed(access.stop.clone());
    let mut course = Course::new(by);
    if let Some(settings) = &access.cluster.tls {
        let asked = tls::Asked { settings, host: &host, own_host: true, alpn: None };
        tls::secure(&mut stream, access.net.tls(), asked, &"it", &mut course).map_err(|failure| {
            if access.stop.is_set() {
                return Error::Stopped;
            }
            // It did not come as far as a certificate.
            let mute = course.session.as_ref().is_none_or(|session| session.certificates.is_empty());
            let hint = if mute && failure.blame == Blame::Target {
                "; if it expects plaintext on this port, leave out `queue.kafka.tls`"
            } else {
                ""
            };
            Error::Away(format!("broker {peer}: {}{hint}", failure.reason))
        })?;
    }
    Ok((stream, course))
}

#[cfg(test)]
mod tests;
