//! A remote host that answers echo requests as it is told, by the last number of the address that is asked.

use std::collections::HashMap;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::namespaces::Namespace;

/// What is done about a request.
#[derive(Clone, Copy)]
pub enum Do {
    /// The reply, as it should be.
    Reply,
    /// Nothing.
    Drop,
    /// The same reply twice.
    Twice,
    /// The reply, after this long.
    After(u64),
    /// The reply, right before that to the next request.
    AfterNext,
    /// All that earlier runs asked, and not what this one does.
    Earlier,
    /// The reply with its ICMP message changed so.
    Changed(fn(&mut Vec<u8>)),
    /// Likewise, and then the reply as it should be.
    ChangedFirst(fn(&mut Vec<u8>)),
    /// The reply from another address.
    FromElsewhere,
    /// An ICMP error, for IPv4 and for IPv6, from the router.
    Refuse((u8, u8), (u8, u8)),
    /// Likewise, with no more of the request than has to be in it.
    RefuseShort((u8, u8), (u8, u8)),
    /// Likewise about a request to somebody else.
    RefuseOther((u8, u8), (u8, u8)),
    /// Likewise, and then the reply.
    RefuseFirst((u8, u8), (u8, u8)),
}

/// The router that is in the way.
pub const ROUTERS: [&str; 2] = ["10.77.1.254", "fd77:1::254"];

/// An echo request, as it came.
#[derive(Clone)]
struct Request {
    from: IpAddr,
    to: IpAddr,
    /// All of it, from the IP header on.
    packet: Vec<u8>,
    header: usize,
}

/// Answers what comes to `remote` until the process ends: requests to the address that ends in a number, as `script` says of
/// the number and of how many the same run has sent before. A message for each request.
pub fn respond(remote: &Namespace, script: impl Fn(u8, usize) -> Do + Send + 'static) -> Receiver<u8> {
    let (seen, told) = channel();
    let (mut wire, senders) = remote.within(|| (all_that_comes(), [Domain::IPV4, Domain::IPV6].map(sender)));
    std::thread::spawn(move || {
        let mut runs: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut pending: Vec<(Instant, Request)> = Vec::new();
        let mut earlier: HashMap<(IpAddr, [u8; 2]), Vec<Request>> = HashMap::new();
        loop {
            let now = Instant::now();
            while let Some(at) = pending.iter().position(|(due, _)| *due <= now) {
                let (_, request) = pending.swap_remove(at);
                send(&senders, &request.to, &request.from, request.reply());
            }
            let next = pending.iter().map(|(due, _)| due.saturating_duration_since(now)).min();
            wire.set_read_timeout(Some(next.unwrap_or(Duration::from_secs(60)).max(Duration::from_millis(1)))).unwrap();
            let Some(request) = Request::read(&mut wire) else { continue };
            let (number, asker) = (request.number(), (request.to, request.id()));
            let index = runs.entry(request.packet[request.header + 8..][..16].to_vec()).or_default();
            let todo = script(number, *index);
            *index += 1;
            match todo {
                Do::After(millis) => pending.push((Instant::now() + Duration::from_millis(millis), request)),
                Do::AfterNext | Do::Earlier => {
                    if matches!(todo, Do::Earlier) && *index == 1 {
                        let held = earlier.remove(&asker).unwrap_or_default();
                        held.iter().for_each(|request| send(&senders, &request.to, &request.from, request.reply()));
                    }
                    earlier.entry(asker).or_default().push(request);
                }
                todo => {
                    request.answer(todo, &senders);
                    let held = earlier.remove(&asker).unwrap_or_default();
                    held.iter().for_each(|request| send(&senders, &request.to, &request.from, request.reply()));
                }
            }
            let _ = seen.send(number);
        }
    });
    told
}

impl Request {
    /// The next one; `None` for all else.
    fn read(wire: &mut Socket) -> Option<Self> {
        let mut packet = vec![0; 2048];
        let length = wire.read(&mut packet).ok()?;
        packet.truncate(length);
        let address = |at: usize, length: usize| -> Option<IpAddr> {
            let bytes = packet.get(at..at + length)?;
            let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
        };
        let (header, from, to) = match packet.first()? >> 4 {
            4 if packet.get(9) == Some(&1) => (20, address(12, 4)?, address(16, 4)?),
            6 if packet.get(6) == Some(&58) => (40, address(8, 16)?, address(24, 16)?),
            _ => return None,
        };
        let wanted = if to.is_ipv4() { 8 } else { 128 };
        let is_request = packet.get(header) == Some(&wanted) && packet.len() >= header + 24;
        is_request.then_some(Request { from, to, packet, header })
    }

    /// The end of the address that is asked.
    fn number(&self) -> u8 {
        match self.to {
            IpAddr::V4(to) => to.octets()[3],
            IpAddr::V6(to) => format!("{:x}", to.segments()[7]).parse().unwrap_or(0),
        }
    }

    /// Of the socket that asks.
    fn id(&self) -> [u8; 2] {
        [self.packet[self.header + 4], self.packet[self.header + 5]]
    }

    fn reply(&self) -> Vec<u8> {
        let mut icmp = self.packet[self.header..].to_vec();
        icmp[0] = if self.to.is_ipv4() { 0 } else { 129 };
        icmp
    }

    fn answer(&self, todo: Do, senders: &[Socket; 2]) {
        let reply = |icmp: Vec<u8>| send(senders, &self.to, &self.from, icmp);
        let changed = |change: fn(&mut Vec<u8>)| {
            let mut icmp = self.reply();
            change(&mut icmp);
            icmp
        };
        let router: IpAddr = ROUTERS[usize::from(self.to.is_ipv6())].parse().unwrap();
        let refuse = |v4: (u8, u8), v6: (u8, u8), about: &[u8]| {
            let (kind, code) = if self.to.is_ipv4() { v4 } else { v6 };
            send(senders, &router, &self.from, [&[kind, code, 0, 0, 0, 0, 0, 0], about].concat());
        };
        match todo {
            Do::Reply => reply(self.reply()),
            Do::Twice => [reply(self.reply()), reply(self.reply())].into_iter().collect(),
            Do::Changed(change) => reply(changed(change)),
            Do::ChangedFirst(change) => [reply(changed(change)), reply(self.reply())].into_iter().collect(),
            Do::FromElsewhere => send(senders, &router, &self.from, self.reply()),
            Do::Refuse(v4, v6) => refuse(v4, v6, &self.packet),
            Do::RefuseShort(v4, v6) => refuse(v4, v6, &self.packet[..self.header + 8]),
            Do::RefuseOther(v4, v6) => {
                let mut about = self.packet.clone();
                about[self.header - 1] ^= 0x40;
                refuse(v4, v6, &about);
            }
            Do::RefuseFirst(v4, v6) => {
                refuse(v4, v6, &self.packet);
                reply(self.reply());
            }
            Do::Drop | Do::After(_) | Do::AfterNext | Do::Earlier => {}
        }
    }
}

/// Every IP packet that comes in, from its header on (packet(7)).
fn all_that_comes() -> Socket {
    const ETH_P_ALL: u16 = 3;
    Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(i32::from(ETH_P_ALL.to_be())))).unwrap()
}

/// A socket that sends packets with headers of our own.
fn sender(domain: Domain) -> Socket {
    const IPPROTO_RAW: i32 = 255;
    Socket::new(domain, Type::RAW, Some(Protocol::from(IPPROTO_RAW))).unwrap()
}

/// Sends an ICMP message, with a checksum that is right.
fn send([v4, v6]: &[Socket; 2], from: &IpAddr, to: &IpAddr, mut icmp: Vec<u8>) {
    icmp[2..4].fill(0);
    let length = u16::try_from(icmp.len()).unwrap().to_be_bytes();
    let (socket, packet) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let sum = checksum(&icmp);
            icmp[2..4].copy_from_slice(&sum);
            // The kernel fills in lengths and checksum (raw(7)).
            let header = [&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0], &from.octets()[..], &to.octets()[..]].concat();
            (v4, [header, icmp].concat())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let addresses = [from.octets(), to.octets()].concat();
            let sum = checksum(&[&addresses[..], &[0, 0], &length, &[0, 0, 0, 58], &icmp].concat());
            icmp[2..4].copy_from_slice(&sum);
            (v6, [&[0x60, 0, 0, 0], &length[..], &[58, 64], &addresses, &icmp].concat())
        }
        _ => unreachable!("a packet is of one family"),
    };
    // Whoever asked may be gone.
    let _ = socket.send_to(&packet, &SocketAddr::new(*to, 0).into());
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()).to_be_bytes()
}
