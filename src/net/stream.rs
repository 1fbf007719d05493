//! A connection whose every read and write ends by a deadline.
//!
//! The socket never blocks by itself: before each read it is polled for what is left of the time, so a peer that sends one
//! byte at a time cannot stretch the deadline, and none of it spins.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustls::ClientConnection;

use super::course::Trouble;
use crate::jobs::Stop;

/// How often the word to stop is looked for in a long wait, and how long there still is for what takes a moment.
const STOP_EVERY: Duration = Duration::from_millis(200);

/// A TCP connection, with TLS over it once it was secured.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// What was read may have ended in the middle of a line.
    mid_line: bool,
    stop: Option<Stop>,
}

impl Stream {
    /// Connects to `address`.
    ///
    /// # Errors
    /// What kept it from connecting by `deadline`.
    pub fn connect(address: SocketAddr, deadline: Instant) -> Result<Self, Trouble> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd: OwnedFd = rustix::net::socket_with(family, SocketType::STREAM, flags, None).map_err(io::Error::from)?;
        match rustix::net::connect(&fd, &address) {
            Ok(()) => {}
            // A connect that a signal interrupted goes on by itself (connect(2)).
            Err(Errno::INPROGRESS | Errno::INTR) => {
                wait(&fd, PollFlags::OUT, deadline, None)?;
                rustix::net::sockopt::socket_error(&fd).map_err(io::Error::from)?.map_err(io::Error::from)?;
            }
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let socket = TcpStream::from(fd);
        // Head and body, or handshake and request, are separate small writes: Nagle would hold the second one back.
        socket.set_nodelay(true)?;
        Ok(Stream { socket, tls: None, mid_line: false, stop: None })
    }

    /// From here on no wait goes on for longer than `STOP_EVERY` after the word to stop; it ends as if the deadline had come.
    pub fn heed(&mut self, stop: Stop) {
        self.stop = Some(stop);
    }

    /// Shakes hands as `tls` says. The stream is secured from here on.
    ///
    /// # Errors
    /// What kept the handshake from its end by `deadline`; the peer has been told by an alert where TLS has one for it.
    pub fn secure(&mut self, tls: ClientConnection, deadline: Instant) -> Result<(), Trouble> {
        let tls = self.tls.insert(Box::new(tls));
        let mut socket = Armed { socket: &self.socket, deadline, stop: self.stop.as_ref() };
        while tls.is_handshaking() {
            flush(tls, &mut socket)?;
            if !tls.is_handshaking() {
                break;
            }
            // A server may say goodbye in the middle: then rustls wants to read no more, and waits for nothing.
            let came = tls.wants_read().then(|| match std::mem::take(&mut self.mid_line) {
                true => tls.read_tls(&mut AfterLine(&mut socket)),
                false => tls.read_tls(&mut socket),
            });
            if came.transpose()?.is_none_or(|read| read == 0) {
                return Err(Trouble::Closed);
            }
            process(tls, &mut socket)?;
        }
        flush(tls, &mut socket)
    }

    /// Says that what came so far may have ended in the middle of a line, and that the rest of it means nothing: it is dropped
    /// where it comes before the first record of TLS.
    pub fn in_mid_line(&mut self) {
        self.mid_line = true;
    }

    /// Its own end.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }

    /// Whether TLS is spoken.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// TLS, once it is spoken or was tried to.
    pub fn tls(&self) -> Option<&ClientConnection> {
        self.tls.as_deref()
    }

    /// Says goodbye in TLS, as far as that can be done without waiting: a server would otherwise have to take the end for a
    /// cut (RFC 8446, section 6.1). Nothing can be written from here on.
    pub fn say_goodbye(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.write_tls(&mut &self.socket);
        }
    }

    /// Waits, after the goodbye, for a sign of the server that it took our side of the handshake: a ticket, data, or that it
    /// closes without an alert, which may be by a reset where it has not read the goodbye.
    ///
    /// # Errors
    /// Its alert, or that there is no sign by `deadline`.
    pub fn wait_for_consent(&mut self, deadline: Instant) -> Result<(), Trouble> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        let mut socket = Armed { socket: &self.socket, deadline, stop: self.stop.as_ref() };
        loop {
            let state = tls.process_new_packets()?;
            if tls.tls13_tickets_received() > 0 || state.plaintext_bytes_to_read() > 0 || state.peer_has_closed() {
                return Ok(());
            }
            match tls.read_tls(&mut socket) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                read => read?,
            };
        }
    }

    /// Reads what is there, and waits for it if nothing is. 0: the other side closed.
    ///
    /// # Errors
    /// What kept it from reading by `deadline`.
    pub fn read(&mut self, buffer: &mut [u8], deadline: Instant) -> Result<usize, Trouble> {
        let mut socket = Armed { socket: &self.socket, deadline, stop: self.stop.as_ref() };
        let Some(tls) = &mut self.tls else { return Ok(socket.read(buffer)?) };
        loop {
            match tls.reader().read(buffer) {
                Ok(read) => return Ok(read),
                // Closed without a word of goodbye. Many servers do; where a body has a length, it shows that it is short.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            tls.read_tls(&mut socket)?;
            process(tls, &mut socket)?;
            flush(tls, &mut socket)?;
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// What kept it from writing by `deadline`.
    pub fn write_all(&mut self, bytes: &[u8], deadline: Instant) -> Result<(), Trouble> {
        let mut socket = Armed { socket: &self.socket, deadline, stop: self.stop.as_ref() };
        let Some(tls) = &mut self.tls else { return Ok(socket.write_all(bytes)?) };
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = tls.writer().write(rest)?;
            rest = &rest[taken..];
            flush(tls, &mut socket)?;
        }
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Reads the records that came. On an error the alert that belongs to it still goes out, as far as it can without waiting.
fn process(tls: &mut ClientConnection, socket: &mut Armed<'_>) -> Result<(), Trouble> {
    if let Err(error) = tls.process_new_packets() {
        let _ = tls.write_tls(&mut socket.socket);
        return Err(error.into());
    }
    Ok(())
}

fn flush(tls: &mut ClientConnection, socket: &mut Armed<'_>) -> Result<(), Trouble> {
    while tls.wants_write() {
        tls.write_tls(socket)?;
    }
    Ok(())
}

/// A socket with the deadline of its reads and writes. Past it they end in `TimedOut`.
struct Armed<'a> {
    socket: &'a TcpStream,
    deadline: Instant,
    stop: Option<&'a Stop>,
}

impl Read for Armed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // Polled first: right after a write, and between two packets, nothing is there yet.
            wait(self.socket, PollFlags::IN, self.deadline, self.stop)?;
            match self.socket.read(buffer) {
                Err(error) if again(&error) => {}
                result => return result,
            }
        }
    }
}

impl Write for Armed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    /// Records that are ready together go out in one packet, each of which would have to wake the peer.
    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            match self.socket.write_vectored(parts) {
                Err(error) if again(&error) => wait(self.socket, PollFlags::OUT, self.deadline, self.stop)?,
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket on which the rest of a line may come before the first record of TLS.
struct AfterLine<'a, 'b>(&'a mut Armed<'b>);

/// The types of records (RFC 8446, section 5.1): control characters, with which no line goes on.
const RECORD_TYPES: std::ops::RangeInclusive<u8> = 20..=23;

/// The rest of a line may be this long.
const LINE_BYTES_MAX: usize = 4 * 1024;

impl Read for AfterLine<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut dropped = 0;
        loop {
            let read = self.0.read(buffer)?;
            let begins_tls = dropped == 0 && buffer.first().is_some_and(|first| RECORD_TYPES.contains(first));
            if read == 0 || begins_tls || dropped > LINE_BYTES_MAX {
                return Ok(read);
            }
            match buffer[..read].iter().position(|&byte| byte == b'\n') {
                Some(end) if end + 1 == read => return self.0.read(buffer),
                Some(end) => {
                    buffer.copy_within(end + 1..read, 0);
                    return Ok(read - end - 1);
                }
                None => dropped += read,
            }
        }
    }
}

fn again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Waits until `fd` is ready for `events`; `TimedOut` when the deadline or the word to stop comes first.
fn wait(fd: &impl AsFd, events: PollFlags, deadline: Instant, stop: Option<&Stop>) -> io::Result<()> {
    wait_for(&mut [PollFd::new(fd, events)], deadline, stop)
}

/// The same for any of several.
pub(super) fn wait_for(polled: &mut [PollFd<'_>], deadline: Instant, stop: Option<&Stop>) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let left = if stop.is_some() { left.min(STOP_EVERY) } else { left };
        let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(polled, Some(&left)) {
            // What comes at once is still taken: a connection is also used for the goodbye.
            Ok(0) if stop.is_some_and(Stop::is_set) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
