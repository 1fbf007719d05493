//! Datagrams to one peer and back, each wait with a deadline.
//!
//! The socket is connected, so the system takes nothing from elsewhere for the peer's, and tells when the peer's host refuses.
//! Beside it a second one with the same port hears what others send to it: that is somebody's mistake, or an attempt to
//! answer in the peer's place, and worth counting.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::course::Trouble;
use super::stream::wait_for;

/// A way to send datagrams to one peer, from a port of its own.
#[derive(Debug)]
pub struct Datagrams {
    peer: UdpSocket,
    others: UdpSocket,
}

/// A datagram that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// From the peer; so long.
    FromPeer(usize),
    /// From another address or port.
    FromElsewhere,
}

impl Datagrams {
    /// Gets ready to send to `address`. The port is one that the system draws at random, as Linux does.
    ///
    /// # Errors
    /// What the system lacks.
    pub fn to(address: SocketAddr) -> io::Result<Self> {
        let any = match address {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let others = UdpSocket::bind((any, 0))?;
        others.set_nonblocking(true)?;
        // Only now that the port is its own may it be shared, so that no other check is given it.
        set_socket_reuseaddr(&others, true)?;
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let peer: OwnedFd = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
        set_socket_reuseaddr(&peer, true)?;
        rustix::net::bind(&peer, &SocketAddr::new(any, others.local_addr()?.port()))?;
        let peer = UdpSocket::from(peer);
        peer.connect(address)?;
        Ok(Datagrams { peer, others })
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// What kept it from being sent by `deadline`.
    pub fn send(&self, bytes: &[u8], deadline: Instant) -> Result<(), Trouble> {
        loop {
            match self.peer.send(bytes) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait_for(&mut [PollFd::new(&self.peer, PollFlags::OUT)], deadline, None)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next datagram.
    ///
    /// # Errors
    /// Why none came by `deadline`.
    pub fn receive(&self, buffer: &mut [u8], deadline: Instant) -> Result<Came, Trouble> {
        loop {
            let sockets = [self.peer.as_fd(), self.others.as_fd()];
            let mut polled = sockets.map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN));
            wait_for(&mut polled, deadline, None)?;
            // These first: after the peer's answer nobody looks at them.
            match self.others.recv_from(&mut [0; 1]) {
                Ok(_) => return Ok(Came::FromElsewhere),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            match self.peer.recv(buffer) {
                Ok(length) => return Ok(Came::FromPeer(length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn the_peer_and_others_are_told_apart() {
        // There are machines without IPv6.
        let addresses = ["127.0.0.1:0", "[::1]:0"].into_iter().filter(|address| UdpSocket::bind(address).is_ok());
        let addresses: Vec<&str> = addresses.collect();
        assert!(!addresses.is_empty());
        for address in addresses {
            let (peer, other) = (UdpSocket::bind(address).unwrap(), UdpSocket::bind(address).unwrap());
            let datagrams = Datagrams::to(peer.local_addr().unwrap()).unwrap();
            datagrams.send(b"ask", soon()).unwrap();
            let mut buffer = [0; 16];
            let (length, from) = peer.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"ask");
            other.send_to(b"forged", from).unwrap();
            assert_eq!(datagrams.receive(&mut buffer, soon()).unwrap(), Came::FromElsewhere);
            peer.send_to(b"answer", from).unwrap();
            assert_eq!(datagrams.receive(&mut buffer, soon()).unwrap(), Came::FromPeer(6));
            assert!(matches!(datagrams.receive(&mut buffer, Instant::now()), Err(Trouble::Late)));
        }
    }

    #[test]
    fn no_two_have_the_same_port() {
        let all: Vec<_> = (0..200).map(|_| Datagrams::to("127.0.0.1:53".parse().unwrap()).unwrap()).collect();
        let ports: std::collections::HashSet<_> = all.iter().map(|one| one.peer.local_addr().unwrap().port()).collect();
        assert_eq!(ports.len(), all.len());
    }
}
