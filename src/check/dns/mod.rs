//! `dns` checks: one question (RFC 1035), to one server or to several.
//!
//! It goes by UDP, and by TCP where the answer was cut off, which the protocol asks for; or by TCP or TLS (RFC 7858) alone.
//! A question that gets lost is not sent again: the loss is what the check finds. Of servers that are listed each is asked
//! and has to pass. Without a list the system's are asked in turn until one answers, as its own resolver does; so are the
//! addresses of a server's name.
//!
//! What comes by UDP from another address, with another id or to another question, is counted and ignored, and the wait goes
//! on (RFC 5452). Question and answer are read and written by hand: the smallest crate for it would add thirty others.

mod cursor;
mod exchange;
mod judge;
mod message;
mod name;
mod records;

pub use name::Name;
pub use records::{Rcode, RecordType};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::http::Text;
use super::{Outcome, Phase};
use crate::net::{Blame, Course, Failure, Host, IpFamily, Net, TlsSettings};
use crate::secret::Secret;
use message::Message;

/// Servers of one check, at most.
pub const SERVERS_MAX: usize = 8;
/// Aliases that one answer may go through, as resolvers have it.
const CHAIN_MAX: usize = 16;

/// What to ask of whom, and what to expect.
#[derive(Clone, Debug)]
pub struct Dns {
    /// The name to ask for.
    pub name: Name,
    /// The record type.
    pub record: RecordType,
    /// Whom to ask.
    pub servers: Servers,
    /// How to ask.
    pub transport: Transport,
    /// Whether the server is to ask others for us.
    pub recursion: bool,
    /// Which addresses of a server's name to take.
    pub ip: IpFamily,
    /// How to do TLS.
    pub tls: Arc<TlsSettings>,
    /// What to expect.
    pub expect: Expect,
}

/// Whom to ask.
#[derive(Clone, Debug)]
pub enum Servers {
    /// Those that the system asks: the first that answers is judged.
    System,
    /// Each of these; 1 to [`SERVERS_MAX`].
    Listed(Vec<Server>),
}

/// A DNS server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name or address.
    pub host: Host,
    /// Its port; never 0.
    pub port: u16,
}

/// How to ask a DNS server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams, then TCP for an answer that was cut off.
    Udp,
    /// TCP.
    Tcp,
    /// DNS over TLS (RFC 7858).
    Tls,
}

impl Transport {
    /// All of them, by their names in config and logs.
    pub const ALL: [(&str, Transport); 3] = [("udp", Transport::Udp), ("tcp", Transport::Tcp), ("tls", Transport::Tls)];

    /// The word that the config and logs have.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        }
    }
}

/// What an answer must be.
#[derive(Clone, Debug)]
pub struct Expect {
    /// The response code that must come back.
    pub rcode: Rcode,
    /// What one of the answers must be; none of them what must not be.
    pub answers: Text,
    /// What the answers must be, in whatever order.
    pub exactly: Option<Vec<Secret>>,
    /// How many answers there must be at least.
    pub answers_min: u32,
    /// Likewise of the records in the authority section: `example.com. NS ns1.example.com.`
    pub authority: Text,
    /// Whether the server must speak for the zone itself, or must not.
    pub authoritative: Option<bool>,
    /// Whether the serial numbers of all servers must be the same.
    pub same_serial: bool,
    /// A check that takes longer is degraded.
    pub under: Option<Duration>,
    /// Fewer days left on any certificate of the chain: degraded.
    pub certificate_days: Option<u32>,
}

impl Default for Expect {
    fn default() -> Self {
        Expect {
            rcode: Rcode::NOERROR,
            answers: Text::default(),
            exactly: None,
            answers_min: 1,
            authority: Text::default(),
            authoritative: None,
            same_serial: false,
            under: None,
            certificate_days: None,
        }
    }
}

/// What came that was no answer to the question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ignored {
    /// From another address or port.
    source: u64,
    /// With another id.
    id: u64,
    /// To another question.
    question: u64,
    /// Nothing that could be an answer.
    garbage: u64,
}

impl Ignored {
    fn all(self) -> u64 {
        self.source + self.id + self.question + self.garbage
    }
}

/// A server as it was asked, and what came of it.
struct Look {
    /// Who it is, for people.
    server: String,
    /// The address that answered, or was tried last.
    address: Option<SocketAddr>,
    /// How the answer came, or failed to.
    transport: Transport,
    /// Whether it was cut off by UDP.
    cut: bool,
    /// How long it was.
    bytes: usize,
    ignored: Ignored,
    /// Why those that were asked before did not answer.
    silent: Vec<String>,
    answer: Result<Message, Failure>,
}

/// Asks once, and judges what came.
pub fn run(dns: &Dns, net: &Net, deadline: Instant) -> Outcome {
    let mut course = net.course(deadline);
    let looks = match &dns.servers {
        Servers::Listed(servers) => {
            let each = servers.iter().enumerate();
            each.map(|(at, server)| course.turn(at, servers.len(), |course| listed(dns, server, net, course))).collect()
        }
        Servers::System => vec![system(dns, net, &mut course)],
    };
    course.leave();
    judge::outcome(dns, net, &course, &looks)
}

/// A server that the check names.
fn listed(dns: &Dns, server: &Server, net: &Net, course: &mut Course) -> Look {
    let mut look = Look::at(format!("{}:{}", server.host, server.port), dns.transport);
    match net.resolve(&server.host, server.port, dns.ip, course) {
        Ok(addresses) => look.any_of(&addresses, Some(&server.host), dns, net, course),
        Err(failure) => look.answer = Err(failure),
    }
    look
}

/// The servers that the system asks.
fn system(dns: &Dns, net: &Net, course: &mut Course) -> Look {
    let mut look = Look::at("the system's resolver".to_owned(), dns.transport);
    match net.resolvers() {
        Ok(addresses) => look.any_of(&addresses, None, dns, net, course),
        Err(reason) => look.answer = Err(course.blocked(Phase::Resolve, reason)),
    }
    look
}

impl Look {
    fn at(server: String, transport: Transport) -> Self {
        let nobody =
            Failure { phase: Phase::Resolve, blame: Blame::Agent, reason: "there is nobody to ask".to_owned() };
        Look {
            server,
            address: None,
            transport,
            cut: false,
            bytes: 0,
            ignored: Ignored::default(),
            silent: Vec::new(),
            answer: Err(nobody),
        }
    }

    /// Asks one address after the other until one answers, each in a fair share of the time. `host` is whose addresses they
    /// are, if they are one host's.
    fn any_of(&mut self, addresses: &[SocketAddr], host: Option<&Host>, dns: &Dns, net: &Net, course: &mut Course) {
        let mut failures: Vec<Failure> = Vec::new();
        for (at, &address) in addresses.iter().enumerate() {
            self.address = Some(address);
            let own = Host::Address(address.ip());
            let host = host.unwrap_or(&own);
            match course.turn(at, addresses.len(), |course| exchange::ask(dns, host, address, self, net, course)) {
                Ok(answer) => {
                    self.silent = failures.into_iter().map(|failure| failure.reason).collect();
                    self.answer = Ok(answer);
                    return;
                }
                Err(failure) => failures.push(failure),
            }
        }
        if let Some(failure) = of_all(failures) {
            self.answer = Err(failure);
        }
    }
}

/// One failure out of those of all addresses: what a server did outweighs what the agent lacks.
fn of_all(failures: Vec<Failure>) -> Option<Failure> {
    let tried = failures.len();
    let blame = match failures.iter().any(|failure| failure.blame == Blame::Target) {
        true => Blame::Target,
        false => Blame::Agent,
    };
    let relevant: Vec<Failure> = failures.into_iter().filter(|failure| failure.blame == blame).collect();
    let phase = relevant.first()?.phase;
    let reasons = relevant.into_iter().map(|failure| failure.reason).collect::<Vec<_>>().join("; ");
    let reason = if tried > 1 { format!("{reasons} ({tried} addresses tried)") } else { reasons };
    Some(Failure { phase, blame, reason })
}
