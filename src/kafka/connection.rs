//! One connection to one broker: requests out, their answers in, in the same order.
//!
//! A frame is a 32-bit length and that many bytes (<https://kafka.apache.org/protocol.html#protocol_common>). No answer may be
//! larger than [`FRAME_MAX`] or come after its deadline; after any error the connection is of no more use.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader};
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::api::{Api, Versions};
use super::{Cluster, Error, sasl};
use crate::jobs::Stop;
use crate::net::course::{Course, Failure, Trouble};
use crate::net::{Host, IpFamily, Net, Stream, tls};

/// The largest answer that is read, in bytes. A fetch asks for a quarter of it, and gets more only when one batch is larger.
pub const FRAME_MAX: usize = 64 << 20;

/// Until a connection has to be ready: name, TCP, TLS, versions and credentials together.
const READY_MAX: Duration = Duration::from_secs(15);

/// How often the word to stop is looked for in a long wait.
const STOP_EVERY: Duration = Duration::from_millis(200);

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
    stop: Stop,
    versions: Versions,
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
        if access.stop.is_set() {
            return Err(Error::Stopped);
        }
        let by = Instant::now() + READY_MAX;
        let stream = dial(peer, access, by)?;
        let mut connection = Connection {
            peer: peer.to_owned(),
            stream,
            stop: access.stop.clone(),
            versions: Versions::default(),
            next: 0,
            waiting: VecDeque::new(),
            outgoing: BytesMut::new(),
        };
        connection.learn_versions(by)?;
        if let Some(credentials) = &access.cluster.sasl {
            sasl::authenticate(&mut connection, credentials, by)?;
        }
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
        self.stream.write_all(&self.outgoing, by).map_err(|trouble| self.lost(trouble, A::NAME))?;
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
        A::answer(frame, version).map_err(|what| self.garbage(A::NAME, &what))
    }

    /// One frame, without its length; it holds the correlation id at least.
    fn frame(&mut self, asked: &str, by: Instant) -> Result<Bytes, Error> {
        let mut length = [0; 4];
        self.fill(&mut length, asked, by)?;
        let length = u32::from_be_bytes(length) as usize;
        if !(4..=FRAME_MAX).contains(&length) {
            return Err(self.not_kafka(length as u32));
        }
        // Zeroed memory is not touched before something is written there: what never comes costs nothing.
        let mut frame = BytesMut::zeroed(length);
        self.fill(&mut frame, asked, by)?;
        Ok(frame.freeze())
    }

    fn fill(&mut self, into: &mut [u8], asked: &str, by: Instant) -> Result<(), Error> {
        let mut filled = 0;
        while filled < into.len() {
            let slice = by.min(Instant::now() + STOP_EVERY);
            match self.stream.read(&mut into[filled..], slice) {
                Ok(0) => return Err(self.lost(Trouble::Closed, asked)),
                Ok(read) => filled += read,
                Err(Trouble::Late) if Instant::now() < by => {
                    if self.stop.is_set() {
                        return Err(Error::Stopped);
                    }
                }
                Err(trouble) => return Err(self.lost(trouble, asked)),
            }
        }
        Ok(())
    }

    fn learn_versions(&mut self, by: Instant) -> Result<(), Error> {
        let answer = self.call(&ApiVersionsRequest::default(), by)?;
        if answer.error_code != 0 {
            return Err(self.garbage("ApiVersions", &format!("error code {}", answer.error_code)));
        }
        self.versions = Versions::new(&answer);
        Ok(())
    }

    fn garbage(&self, asked: &str, what: &str) -> Error {
        Error::Garbage(format!("broker {} answered {asked} with what is no answer: {what}", self.peer))
    }

    /// What begins with no sensible length is another protocol.
    fn not_kafka(&self, length: u32) -> Error {
        let [kind, major, ..] = length.to_be_bytes();
        // A TLS record that is an alert or a handshake (RFC 8446, section 5.1).
        if matches!(kind, 21 | 22) && major == 3 {
            let hint = "it expects TLS on this port; set `queue.kafka.tls` or take its plaintext port";
            return Error::Garbage(format!("broker {} answered in TLS: {hint}", self.peer));
        }
        if length.to_be_bytes() == *b"HTTP" {
            return Error::Garbage(format!("{} answered in HTTP: it is no Kafka broker", self.peer));
        }
        self.garbage("a request", &format!("a frame of {length} bytes, of at most {FRAME_MAX}"))
    }

    fn lost(&self, trouble: Trouble, asked: &str) -> Error {
        let peer = &self.peer;
        match trouble {
            Trouble::Late => Error::Away(format!("broker {peer} did not answer {asked} in time")),
            Trouble::Closed => Error::Away(format!("broker {peer} closed the connection after {asked}")),
            Trouble::Io(error) => Error::Away(format!("broker {peer}: {error} after {asked}")),
            Trouble::Tls(error) => Error::Away(format!("broker {peer}: {error} after {asked}")),
        }
    }
}

/// Name, TCP and TLS.
fn dial(peer: &str, access: &Access, by: Instant) -> Result<Stream, Error> {
    let away = |failure: Failure| Error::Away(format!("broker {peer}: {}", failure.reason));
    let (host, port) = peer
        .rsplit_once(':')
        .and_then(|(host, port)| Some((Host::parse(host), port.parse().ok()?)))
        .ok_or_else(|| Error::Unusable(format!("`{peer}` is no host and port")))?;
    let mut course = Course::new(by);
    let mut stream = access.net.dial(&host, port, IpFamily::Any, &mut course).map_err(away)?;
    if let Some(settings) = &access.cluster.tls {
        let asked = tls::Asked { settings, host: &host, own_host: true };
        tls::secure(&mut stream, access.net.tls(), asked, &peer, &mut course).map_err(away)?;
    }
    Ok(stream)
}
