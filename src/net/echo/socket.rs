//! A socket for echoes: a datagram one where the kernel grants it to this process's group, else a raw one.
//!
//! Linux has datagram sockets for pings (`net.ipv4.ping_group_range`, which counts for IPv6 too): the kernel puts its own
//! identifier into each request and hands over only the replies to it. A raw socket takes CAP_NET_RAW and hears every ICMP
//! message of the machine; there the identifier is ours. Either has an error queue (ip(7), `IP_RECVERR`), from which come the
//! ICMP errors with their sender and the head of the request that they are about.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, RecvMsg, SockaddrStorage, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto};

use super::packet::{self, Family, Payload};
use crate::clock::{Clock, SystemClock, Timestamp};

/// Asked for; the kernel grants what `net.core.rmem_max` and `wmem_max` allow. Room for the replies of a burst, and for
/// requests to neighbours that do not answer to ARP, which lie with the kernel for seconds.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// What is longer is no echo of ours: its rest is cut off.
const MESSAGE_BYTES_MAX: usize = 512;
/// The control messages that we ask for take 200 bytes.
const CONTROL_BYTES_MAX: usize = 512;
/// How often a request is handed to the kernel again, when it reported what had become of another request instead.
const SEND_TRIES_MAX: usize = 16;

/// A socket for the echoes of one family.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    family: Family,
    /// Our identifier on a raw socket; none on a datagram socket, where the kernel has one for us.
    raw_id: Option<u16>,
    /// By which it stands in the kernel's table of them.
    inode: Option<String>,
}

/// Why there is no socket.
#[derive(Debug)]
pub enum Unopened {
    /// This process may open neither kind.
    NotPermitted,
    /// The system said so.
    Io(io::Error),
}

/// What came in.
#[derive(Debug)]
pub enum Message<'a> {
    /// An echo reply with our identifier.
    Reply(Reply<'a>),
    /// An ICMP error about a request with our identifier.
    Refusal(Refusal),
    /// Something that is none of our business.
    Other,
}

/// An echo reply.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// Who sent it.
    pub from: IpAddr,
    /// To which request.
    pub seq: u16,
    /// What came back.
    pub payload: &'a [u8],
    /// The hops that it had left.
    pub hop_limit: Option<u8>,
    /// When the kernel took it in.
    pub at: Instant,
    /// Messages that the kernel has dropped since the socket is open, for want of room.
    pub dropped: u32,
}

/// An ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// To whom the request went.
    pub to: IpAddr,
    /// Which request.
    pub seq: u16,
    /// Who says so.
    pub by: Option<IpAddr>,
    /// What: `host unreachable`.
    pub what: &'static str,
}

/// Room for a message.
#[derive(Debug)]
pub struct Room {
    bytes: [u8; MESSAGE_BYTES_MAX],
    control: [u8; CONTROL_BYTES_MAX],
}

impl Default for Room {
    fn default() -> Self {
        Room { bytes: [0; MESSAGE_BYTES_MAX], control: [0; CONTROL_BYTES_MAX] }
    }
}

impl Socket {
    /// Opens one.
    ///
    /// # Errors
    /// Why there is none.
    pub fn open(family: Family) -> Result<Self, Unopened> {
        let (fd, raw) = match unnamed(family, SocketType::DGRAM) {
            Ok(fd) => (fd, false),
            // Not in the group, or a kernel without such sockets.
            Err(Errno::ACCESS | Errno::PERM | Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) => {
                (unnamed(family, SocketType::RAW).map_err(Unopened::from)?, true)
            }
            Err(error) => return Err(error.into()),
        };
        let raw_id = if raw { Some(random_id()?) } else { None };
        set_up(&fd, family).map_err(|error| Unopened::Io(error.into()))?;
        let inode = inode(&fd);
        Ok(Socket { fd, family, raw_id, inode })
    }

    /// Whether it is a raw one.
    pub fn is_raw(&self) -> bool {
        self.raw_id.is_some()
    }

    /// How many messages the kernel has dropped since the socket is open, for want of room. A raw socket tells it with each
    /// message ([`Reply::dropped`]); of a datagram socket it stands in a table.
    pub fn dropped(&self) -> Option<u32> {
        let inode = self.inode.as_deref().filter(|_| !self.is_raw())?;
        let path = if self.family == Family::V4 { "/proc/thread-self/net/icmp" } else { "/proc/thread-self/net/icmp6" };
        dropped_of(&std::fs::read_to_string(path).ok()?, inode)
    }

    /// Sends an echo request. Waits for room with the kernel until `deadline`.
    ///
    /// # Errors
    /// Why it did not go out.
    pub fn send(&self, to: IpAddr, seq: u16, payload: &Payload, deadline: Instant) -> io::Result<()> {
        let bytes = packet::request(self.family, self.raw_id.unwrap_or(0), seq, payload);
        let mut tries = 0;
        loop {
            let error = match rustix::net::sendto(&self.fd, &bytes, SendFlags::DONTWAIT, &SocketAddr::new(to, 0)) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {
                    self.wait(PollFlags::OUT, deadline)?;
                    continue;
                }
                Err(error) => error,
            };
            // An ICMP error about any earlier request is told to whoever sends next, once; ours has not gone out then. What is
            // wrong with this one is told each time.
            tries += 1;
            if tries == SEND_TRIES_MAX || !may_be_anothers(error) {
                return Err(error.into());
            }
        }
    }

    fn wait(&self, events: PollFlags, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Errno::NOBUFS.into());
        }
        self.ready(events, left).map(drop)
    }

    /// Waits for a message, up to `most`; whether there is one.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn heard(&self, most: Duration) -> io::Result<bool> {
        self.ready(PollFlags::IN, most)
    }

    fn ready(&self, events: PollFlags, most: Duration) -> io::Result<bool> {
        let most = Timespec::try_from(most).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut [PollFd::new(&self.fd, events)], Some(&most)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Hands the next message to `take`, an error before a reply. Does not wait; whether there was one.
    ///
    /// # Errors
    /// What the system says instead. It may be about a request, and then its message comes next.
    pub fn receive(&self, room: &mut Room, take: impl FnOnce(Message<'_>)) -> io::Result<bool> {
        for queue in [MsgFlags::MSG_ERRQUEUE, MsgFlags::empty()] {
            let mut bytes = [IoSliceMut::new(&mut room.bytes)];
            let (fd, flags) = (self.fd.as_raw_fd(), queue | MsgFlags::MSG_DONTWAIT);
            let message = match recvmsg::<SockaddrStorage>(fd, &mut bytes, Some(&mut room.control), flags) {
                Ok(message) => message,
                Err(nix::errno::Errno::EAGAIN) => continue,
                Err(error) => return Err(error.into()),
            };
            let (notes, length) = (Notes::of(&message)?, message.bytes.min(MESSAGE_BYTES_MAX));
            let bytes = &room.bytes[..length];
            let message = if queue.is_empty() { self.reply(&notes, bytes) } else { self.refusal(&notes, bytes) };
            take(message.unwrap_or(Message::Other));
            return Ok(true);
        }
        Ok(false)
    }

    fn reply<'a>(&self, notes: &Notes, bytes: &'a [u8]) -> Option<Message<'a>> {
        let headed = self.raw_id.is_some() && self.family == Family::V4;
        let bytes = if headed { packet::without_ip_header(bytes)? } else { bytes };
        let echo = packet::reply(self.family, bytes).filter(|echo| self.is_ours(echo.id))?;
        let Notes { hop_limit, at, dropped, .. } = *notes;
        Some(Message::Reply(Reply { from: notes.peer?, seq: echo.seq, payload: echo.payload, hop_limit, at, dropped }))
    }

    /// The error queue gives the head of the request, and as the peer whom it went to.
    fn refusal(&self, notes: &Notes, bytes: &[u8]) -> Option<Message<'static>> {
        let (kind, code, by) = notes.error?;
        let what = packet::meaning(self.family, kind, code)?;
        let (_, seq) = packet::quoted(self.family, bytes).filter(|(id, _)| self.is_ours(*id))?;
        Some(Message::Refusal(Refusal { to: notes.peer?, seq, by, what }))
    }

    /// On a datagram socket the kernel has looked at the identifier.
    fn is_ours(&self, id: u16) -> bool {
        self.raw_id.is_none_or(|ours| ours == id)
    }
}

impl From<Errno> for Unopened {
    fn from(error: Errno) -> Self {
        match error {
            Errno::ACCESS | Errno::PERM => Unopened::NotPermitted,
            error => Unopened::Io(error.into()),
        }
    }
}

/// What the kernel says of a message beside its bytes.
struct Notes {
    peer: Option<IpAddr>,
    hop_limit: Option<u8>,
    at: Instant,
    dropped: u32,
    /// Type, code and sender of an ICMP error.
    error: Option<(u8, u8, Option<IpAddr>)>,
}

impl Notes {
    fn of(message: &RecvMsg<'_, '_, SockaddrStorage>) -> io::Result<Self> {
        let peer = message.address.as_ref().and_then(ip);
        let mut notes = Notes { peer, hop_limit: None, at: Instant::now(), dropped: 0, error: None };
        for note in message.cmsgs()? {
            match note {
                ControlMessageOwned::ScmTimestampns(time) => notes.at = moment(time),
                ControlMessageOwned::Ipv4Ttl(left) | ControlMessageOwned::Ipv6HopLimit(left) => {
                    notes.hop_limit = u8::try_from(left).ok();
                }
                ControlMessageOwned::RxqOvfl(dropped) => notes.dropped = dropped,
                ControlMessageOwned::Ipv4RecvErr(error, by) => {
                    let by = by.map(|by| IpAddr::from(by.sin_addr.s_addr.to_ne_bytes()));
                    notes.error = Some((error.ee_type, error.ee_code, by));
                }
                ControlMessageOwned::Ipv6RecvErr(error, by) => {
                    notes.error = Some((error.ee_type, error.ee_code, by.map(|by| by.sin6_addr.s6_addr.into())));
                }
                _ => {}
            }
        }
        Ok(notes)
    }
}

/// The inode of a socket, as proc(5) shows it: `socket:[1584767]`.
fn inode(fd: &OwnedFd) -> Option<String> {
    let shown = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
    Some(shown.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
}

/// The last column of the socket's line in the kernel's table of ping sockets.
fn dropped_of(table: &str, inode: &str) -> Option<u32> {
    const INODE: usize = 9;
    let line = table.lines().find(|line| line.split_whitespace().nth(INODE) == Some(inode))?;
    line.split_whitespace().last()?.parse().ok()
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
}

/// When the kernel took a message in, by the clock that never jumps. Its own stamp is of the wall clock, and should that have
/// been set in between, the message counts as taken in now.
fn moment(stamp: TimeSpec) -> Instant {
    /// No message lies there for longer while somebody waits for it.
    const LAIN_MAX: Duration = Duration::from_secs(3_600);
    let (now, wall) = (Instant::now(), SystemClock.now().wall);
    let stamp = Timestamp::from_micros(stamp.tv_sec().saturating_mul(1_000_000) + stamp.tv_nsec() / 1_000);
    let lain = wall.since(stamp);
    if lain > LAIN_MAX { now } else { now.checked_sub(lain).unwrap_or(now) }
}

fn unnamed(family: Family, kind: SocketType) -> Result<OwnedFd, Errno> {
    let (domain, protocol) = match family {
        Family::V4 => (AddressFamily::INET, ipproto::ICMP),
        Family::V6 => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    rustix::net::socket_with(domain, kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, Some(protocol))
}

fn set_up(fd: &OwnedFd, family: Family) -> nix::Result<()> {
    match family {
        Family::V4 => {
            setsockopt(fd, sockopt::Ipv4RecvErr, &true)?;
            setsockopt(fd, sockopt::Ipv4RecvTtl, &true)?;
        }
        Family::V6 => {
            setsockopt(fd, sockopt::Ipv6RecvErr, &true)?;
            setsockopt(fd, sockopt::Ipv6RecvHopLimit, &true)?;
        }
    }
    setsockopt(fd, sockopt::ReceiveTimestampns, &true)?;
    setsockopt(fd, sockopt::RxqOvfl, &1)?;
    setsockopt(fd, sockopt::RcvBuf, &BUFFER_BYTES)?;
    setsockopt(fd, sockopt::SndBuf, &BUFFER_BYTES)
}

/// Whether an error of sending may be one that an ICMP error about another request left with the socket.
fn may_be_anothers(error: Errno) -> bool {
    use Errno as E;
    let of_icmp = [E::HOSTUNREACH, E::NETUNREACH, E::CONNREFUSED, E::NOPROTOOPT, E::HOSTDOWN, E::NONET, E::OPNOTSUPP];
    of_icmp.contains(&error) || [E::PROTO, E::ACCESS, E::MSGSIZE, E::REMOTEIO].contains(&error)
}

fn random_id() -> Result<u16, Unopened> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|error| Unopened::Io(io::Error::other(error)))?;
    Ok(u16::from_ne_bytes(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_is_read_from_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n   \
            12: 00000000:F89F 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1584767 2 0000000052bb09ac 0\n   \
            13: 00000000:F8A0 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1584768 2 0000000038cb58f7 90\n";
        assert_eq!(["1584767", "1584768", "90"].map(|inode| dropped_of(table, inode)), [Some(0), Some(90), None]);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(inode(&OwnedFd::from(socket)).is_some_and(|inode| inode.parse::<u64>().is_ok()));
    }
}
