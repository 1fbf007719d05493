//! `http` checks: one request in HTTP/1.1 (RFC 9112) over a new connection, redirects followed, and what came back held
//! against what was expected.
//!
//! # What its phases mean
//!
//! `first_byte` ends with the first byte of the answer; the rest of its head and its body are `body`. A check that comes to
//! nothing after the first byte has failed in `body`, unless what began to come is no HTTP answer (garbage, an endless
//! head): then there was no first byte of an answer, and it has failed in `first_byte`. A redirect adds to the phases of
//! the hop before. Too many redirects fail in `assert`: every hop answered, but not as was asked. A server that misses a
//! client certificate in TLS 1.3 says so only once the request was sent: that fails in `tls`, and `send` has a time.
//!
//! # What goes to whom
//!
//! Credentials are for the URL's own origin (scheme, host and port). Any other origin that a redirect leads to gets none,
//! no client certificate, and of the user's headers only those that `heads` knows to say what is wanted. `connect_to` and
//! `tls.server_name` are for the own origin too. A redirect that would take the body to another origin is not followed, and one
//! from `https` to `http`, or to a link-local address, only if it is allowed: the target leads where it must not, and has
//! failed in `assert`.
//!
//! # What it does not speak
//!
//! HTTP/2 and 3 are not spoken: over TLS only `http/1.1` is offered. ureq speaks HTTP/1.1 alone, the one HTTP/2 crate that is
//! kept well (h2) is asynchronous, and what they are for, many requests at once on a connection, is no help to one request. A
//! server that speaks nothing else is down in `tls` or `first_byte`, with a reason.
//!
//! The health service of gRPC (`grpc.health.v1`) needs HTTP/2, with trailers. It can be asked by an `exec` check whose program
//! keeps the convention of plugins around `grpc_health_probe`; that the port listens or shakes hands, `tcp` and `tls` tell.

mod answer;
mod exchange;
mod guard;
mod heads;
mod hidden;
mod judge;
mod redirect;
mod request;
pub mod steps;
mod take;
mod template;
mod token;
pub mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Outcome;
use super::each::each;
use crate::net::{Course, Failure, Host, IpFamily, Net, Proxy, TlsSettings};
use crate::secret::Secret;
use answer::Answer;
pub use guard::Allow;
pub use heads::is_harmless;
use redirect::Hop;
pub use steps::{Step, Steps};
use take::Taken;
pub use take::{Source, TAKES_MAX, Take};
pub use template::percent_encoded;
pub use token::{Credentials, Grant, Tokens};

/// What to ask, how, and what to expect.
#[derive(Clone, Debug)]
pub struct Http {
    /// Where: an absolute `http` or `https` URL without user info or fragment.
    pub url: ureq::http::Uri,
    /// Ask to go on as a WebSocket; the URL is then that of the handshake.
    pub websocket: bool,
    /// The URL as the config has it, where it holds more than a log may: a query, or what the environment gave.
    pub typed: Option<Secret>,
    /// How: an RFC 9110 method.
    pub method: ureq::http::Method,
    /// Sent beside our own; values may hold secrets.
    pub headers: Vec<(ureq::http::HeaderName, Secret)>,
    /// Sent as it is, and may hold a secret; empty: no body.
    pub body: Secret,
    /// Credentials.
    pub auth: Option<Auth>,
    /// How many redirects to follow; 0: none, a redirect is then an answer like any other.
    pub redirects: u32,
    /// Where they may lead that they otherwise may not.
    pub redirects_allow: Allow,
    /// Through what.
    pub proxy: Proxy,
    /// Go to this address, keep Host and SNI; port 0: the URL's port.
    pub connect_to: Option<SocketAddr>,
    /// Which addresses of the name to take.
    pub ip: IpFamily,
    /// How to do TLS, where the URL or a redirect asks for it.
    pub tls: Arc<TlsSettings>,
    /// What must hold; kept once for the many checks that expect the same.
    pub expect: Arc<Expect>,
    /// Keep the answer's body for what a step takes out of it.
    pub keep_body: bool,
    /// What the steps before took, as a peer may repeat it: not to be shown.
    pub known: Vec<Secret>,
}

/// Redirects that are followed unless the config says otherwise.
pub const REDIRECTS: u32 = 5;

impl Http {
    /// A GET of `url`, with nothing else said: what a check is whose config holds the URL alone.
    pub fn get(url: ureq::http::Uri) -> Self {
        Http {
            url,
            websocket: false,
            typed: None,
            method: ureq::http::Method::GET,
            headers: Vec::new(),
            body: Secret::default(),
            auth: None,
            redirects: REDIRECTS,
            redirects_allow: Allow::default(),
            proxy: Proxy::default(),
            connect_to: None,
            ip: IpFamily::default(),
            tls: Arc::default(),
            expect: Arc::default(),
            keep_body: false,
            known: Vec::new(),
        }
    }
}

/// Credentials of a request (RFC 7617, RFC 6750).
#[derive(Clone, Debug)]
pub enum Auth {
    /// User and password.
    Basic {
        /// The user; holds no colon.
        user: Secret,
        /// The password.
        password: Secret,
    },
    /// A token.
    Bearer(Secret),
    /// A token that is got where it is given out.
    OAuth2 {
        /// Where, and by whom.
        grant: Arc<Grant>,
        /// The token, once it was got.
        token: Option<Secret>,
    },
}

/// What an answer must be. Only what the config names is looked at, but for the status.
#[derive(Clone, Debug)]
pub struct Expect {
    /// Any of these ranges, ends included; never empty.
    pub status: Vec<(u16, u16)>,
    /// A header, by its lower-case name, and what it must be.
    pub headers: Vec<(String, Text)>,
    /// What the body must be.
    pub body: Text,
    /// RFC 6901 pointers into a JSON body, and the value that must be there.
    pub json: Vec<(String, serde_json::Value)>,
    /// Read no more than this many bytes of the body.
    pub body_max: usize,
    /// A check that takes longer is degraded.
    pub under: Option<Duration>,
    /// Fewer days left on any certificate of the chain: degraded.
    pub certificate_days: Option<u32>,
}

impl Default for Expect {
    fn default() -> Self {
        Expect {
            status: vec![(200, 299)],
            headers: Vec::new(),
            body: Text::default(),
            json: Vec::new(),
            body_max: 1 << 20,
            under: None,
            certificate_days: None,
        }
    }
}

/// What a text must be. All that is set must hold. It is shown, but for what the environment gave.
#[derive(Clone, Debug, Default)]
pub struct Text {
    /// Must be exactly this.
    pub equals: Option<Secret>,
    /// Must hold this.
    pub contains: Option<Secret>,
    /// Must not hold this.
    pub not_contains: Option<Secret>,
    /// Must match this somewhere.
    pub matches: Option<super::Pattern>,
}

/// Asks once; each address where that is asked for.
pub fn run(http: &Http, net: &Net, deadline: Instant) -> Outcome {
    token::with(http, net, deadline, |http, _| asked(http, net, deadline))
}

fn asked(http: &Http, net: &Net, deadline: Instant) -> Outcome {
    if http.ip != IpFamily::Each || http.connect_to.is_some() {
        return look(http, None, net, deadline);
    }
    let (host, port) = (Host::parse(http.url.host().unwrap_or_default()), redirect::port(&http.url));
    each(&host, port, net, deadline, |place, until| look(http, Some(&place), net, until))
}

/// Asks once, the URL's own host at `place` where that is given.
fn look(http: &Http, place: Option<&Host>, net: &Net, deadline: Instant) -> Outcome {
    let (visit, failure) = Visit::made(http, place, net, deadline);
    visit.judged(http, net, failure, &[])
}

/// One check under way: all that is known so far, also when it fails.
struct Visit {
    course: Course,
    /// The newest answer, as far as it came.
    answer: Answer,
    /// Redirects followed.
    hops: u32,
    /// The answer came from the URL's own origin, which alone gets credentials.
    own_origin: bool,
    /// The answer came from a forwarding proxy, which may answer in the target's place.
    forwarded: bool,
}

impl Visit {
    /// All of a visit, and what it failed for, if it did.
    fn made(http: &Http, place: Option<&Host>, net: &Net, deadline: Instant) -> (Self, Option<Failure>) {
        let (course, answer) = (net.course(deadline), Answer::default());
        let mut visit = Visit { course, answer, hops: 0, own_origin: true, forwarded: false };
        let failure = visit.go(http, place, net).err();
        visit.course.leave();
        (visit, failure)
    }

    /// The outcome of it, and of what it was to take.
    fn judged(&self, http: &Http, net: &Net, failure: Option<Failure>, taken: &[Taken<'_>]) -> Outcome {
        let mut outcome = judge::outcome(http, net, self, failure, taken);
        token::refused(http, net, self, &mut outcome);
        outcome
    }

    fn go(&mut self, http: &Http, place: Option<&Host>, net: &Net) -> Result<(), Failure> {
        let mut hop = Hop::first(http);
        let mut seen = Vec::new();
        loop {
            self.answer = Answer::default();
            self.own_origin = hop.own_origin;
            let wire = request::reach(http, place, net, &hop, &mut self.course)?;
            self.forwarded = wire.forwarded.is_some();
            hop.proxied = wire.proxied;
            // The body of a redirect is for browsers that cannot follow it.
            let leads_on = |answer: &Answer| http.redirects > 0 && redirect::location(answer).is_some();
            // Nor is anything asked of the body of who refuses a WebSocket.
            let head_only = |answer: &Answer| http.websocket || leads_on(answer);
            exchange::exchange(http, &hop, wire, head_only, &mut self.course, &mut self.answer)?;
            if !leads_on(&self.answer) {
                return Ok(());
            }
            let next = redirect::follow(http, &hop, &self.answer, &mut self.course)?;
            if self.hops == http.redirects {
                return Err(redirect::too_many(http, self.hops, &seen, &next, &mut self.course));
            }
            self.hops += 1;
            seen.push(std::mem::replace(&mut hop, next).uri);
        }
    }
}
