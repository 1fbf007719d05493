//! Proxies: CONNECT (RFC 9110, section 9.3.6) and SOCKS 5 (RFC 1928, RFC 1929), as a part of the phase `connect`.
//!
//! A proxy resolves the target's name. One that cannot be reached or refuses us says nothing about the target, so the
//! check is unknown; one that tried and could not reach the target speaks for it, so the target is down.

mod environment;

pub use environment::Environment;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::course::{Blame, Course, Failure, Trouble};
use super::stream::Stream;
use super::{Host, IpFamily, Net, Proxy, ProxyScheme, shown};
use crate::check::Phase;
use crate::secret::Secret;

/// The head of a proxy's answer may be this long; no honest one comes near it.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// A proxy to go through.
#[derive(Clone, Debug)]
pub struct Through<'a> {
    /// How to speak to it.
    pub scheme: ProxyScheme,
    /// Where it is.
    pub host: &'a Host,
    /// Its port.
    pub port: u16,
    /// User and password.
    pub credentials: Option<&'a (String, Secret)>,
}

impl fmt::Display for Through<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proxy {}:{}", self.host, self.port)
    }
}

impl Proxy {
    /// The proxy to take to `host`; `None`: straight there.
    ///
    /// # Errors
    /// What is wrong with the environment's proxy.
    pub fn towards<'a>(
        &'a self,
        environment: &'a Environment,
        secure: bool,
        host: &Host,
        port: u16,
    ) -> Result<Option<Through<'a>>, String> {
        match self {
            Proxy::None => Ok(None),
            Proxy::Environment => environment.towards(secure, host, port),
            Proxy::Through { scheme, host, port, credentials } => {
                Ok(Some(Through { scheme: *scheme, host, port: *port, credentials: credentials.as_ref() }))
            }
        }
    }
}

impl Through<'_> {
    /// Connects to the proxy itself.
    ///
    /// # Errors
    /// Why it cannot be reached; never the target's fault.
    pub fn reach(&self, net: &Net, ip: IpFamily, course: &mut Course) -> Result<Stream, Failure> {
        net.dial(self.host, self.port, ip, course).map_err(|failure| Failure {
            blame: Blame::Agent,
            reason: format!("{self} cannot be reached: {}", failure.reason),
            ..failure
        })
    }

    /// Has the proxy connect `stream` to `host`.
    ///
    /// # Errors
    /// Why it did not.
    pub fn tunnel(&self, stream: &mut Stream, host: &Host, port: u16, course: &mut Course) -> Result<(), Failure> {
        match self.scheme {
            ProxyScheme::Http => self.connect(stream, host, port, course),
            ProxyScheme::Socks5 => self.socks5(stream, host, port, course),
        }
    }

    /// The value of `Proxy-Authorization` (RFC 7617).
    pub fn authorization(&self) -> Option<String> {
        let (user, password) = self.credentials?;
        Some(format!("Basic {}", BASE64.encode(format!("{user}:{}", password.expose()))))
    }

    fn connect(&self, stream: &mut Stream, host: &Host, port: u16, course: &mut Course) -> Result<(), Failure> {
        let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
        if let Some(value) = self.authorization() {
            request.push_str(&format!("Proxy-Authorization: {value}\r\n"));
        }
        request.push_str("\r\n");
        course.note(|| format!("> CONNECT {host}:{port} HTTP/1.1"));
        self.send(stream, request.as_bytes(), course)?;
        // One byte at a time: what follows the head belongs to the target, and must not be taken from it.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
            if head.len() == HEAD_BYTES_MAX {
                return Err(course.blocked(Phase::Connect, format!("{self} answers with an endless head")));
            }
            head.push(self.receive::<1>(stream, course)?[0]);
        }
        let line = shown(head.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii_end());
        course.note(|| format!("< {line}"));
        let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
        match status {
            Some(200..300) => Ok(()),
            // It tried, and could not get there (RFC 9110, sections 15.6.3 to 15.6.5).
            Some(502..=504) => Err(course.failed(Phase::Connect, format!("{self} cannot reach {host}:{port}: {line}"))),
            Some(407) => Err(course.blocked(Phase::Connect, format!("{self} asks for credentials: {line}"))),
            Some(_) => {
                Err(course.blocked(Phase::Connect, format!("{self} refuses to connect to {host}:{port}: {line}")))
            }
            None => Err(course.blocked(Phase::Connect, format!("{self} does not answer in HTTP"))),
        }
    }

    fn socks5(&self, stream: &mut Stream, host: &Host, port: u16, course: &mut Course) -> Result<(), Failure> {
        const NO_AUTHENTICATION: u8 = 0;
        const USER_AND_PASSWORD: u8 = 2;
        let methods: &[u8] =
            if self.credentials.is_some() { &[5, 2, NO_AUTHENTICATION, USER_AND_PASSWORD] } else { &[5, 1, 0] };
        self.send(stream, methods, course)?;
        match self.receive::<2>(stream, course)? {
            [5, NO_AUTHENTICATION] => {}
            [5, USER_AND_PASSWORD] => self.log_in(stream, course)?,
            [5, _] => return Err(course.blocked(Phase::Connect, format!("{self} asks for credentials"))),
            _ => return Err(course.blocked(Phase::Connect, format!("{self} does not answer in SOCKS 5"))),
        }
        let mut request = vec![5, 1, 0];
        match host {
            Host::Address(std::net::IpAddr::V4(address)) => {
                request.push(1);
                request.extend(address.octets());
            }
            Host::Address(std::net::IpAddr::V6(address)) => {
                request.push(4);
                request.extend(address.octets());
            }
            Host::Name(name) => {
                request.push(3);
                self.push_text(&mut request, name, "name", course)?;
            }
        }
        request.extend(port.to_be_bytes());
        course.note(|| format!("> SOCKS 5: connect to {host}:{port}"));
        self.send(stream, &request, course)?;
        let [_, reply, _, kind] = self.receive::<4>(stream, course)?;
        if reply != 0 {
            let (blame, why) = reply_reason(reply);
            let failure = course.failed(Phase::Connect, format!("{self} cannot reach {host}:{port}: {why}"));
            return Err(Failure { blame, ..failure });
        }
        // The address that it connected from, and its port; nobody needs it, but it has to be read.
        let rest = match kind {
            1 => 4,
            4 => 16,
            3 => usize::from(self.receive::<1>(stream, course)?[0]),
            _ => return Err(course.blocked(Phase::Connect, format!("{self} does not answer in SOCKS 5"))),
        };
        for _ in 0..rest + 2 {
            self.receive::<1>(stream, course)?;
        }
        Ok(())
    }

    /// RFC 1929.
    fn log_in(&self, stream: &mut Stream, course: &mut Course) -> Result<(), Failure> {
        let Some((user, password)) = self.credentials else {
            return Err(course.blocked(Phase::Connect, format!("{self} asks for credentials")));
        };
        let mut request = vec![1];
        self.push_text(&mut request, user, "user", course)?;
        self.push_text(&mut request, password.expose(), "password", course)?;
        self.send(stream, &request, course)?;
        match self.receive::<2>(stream, course)? {
            [_, 0] => Ok(()),
            _ => Err(course.blocked(Phase::Connect, format!("{self} refuses the credentials"))),
        }
    }

    fn push_text(&self, to: &mut Vec<u8>, text: &str, what: &str, course: &mut Course) -> Result<(), Failure> {
        let Ok(length) = u8::try_from(text.len()) else {
            return Err(course.blocked(Phase::Connect, format!("the {what} is longer than the 255 bytes of SOCKS 5")));
        };
        to.push(length);
        to.extend(text.as_bytes());
        Ok(())
    }

    fn send(&self, stream: &mut Stream, bytes: &[u8], course: &mut Course) -> Result<(), Failure> {
        stream.write_all(bytes, course.deadline()).map_err(|trouble| self.trouble(trouble, course))
    }

    fn receive<const N: usize>(&self, stream: &mut Stream, course: &mut Course) -> Result<[u8; N], Failure> {
        let mut bytes = [0; N];
        let mut filled = 0;
        while filled < N {
            match stream.read(&mut bytes[filled..], course.deadline()) {
                Ok(0) => return Err(course.blocked(Phase::Connect, format!("{self} hung up"))),
                Ok(read) => filled += read,
                Err(trouble) => return Err(self.trouble(trouble, course)),
            }
        }
        Ok(bytes)
    }

    /// A proxy that took the request and says nothing waits for the target, most likely; all else is between it and us.
    fn trouble(&self, trouble: Trouble, course: &mut Course) -> Failure {
        let late = matches!(trouble, Trouble::Late);
        let failure = trouble.failure(course, Phase::Connect, self);
        Failure { blame: if late { failure.blame } else { Blame::Agent }, ..failure }
    }
}

/// What a SOCKS 5 reply means (RFC 1928, section 6), and whether it speaks of the target or of the proxy.
fn reply_reason(reply: u8) -> (Blame, &'static str) {
    match reply {
        1 => (Blame::Target, "general failure"),
        2 => (Blame::Agent, "not allowed by its rules"),
        3 => (Blame::Target, "network unreachable"),
        4 => (Blame::Target, "host unreachable"),
        5 => (Blame::Target, "connection refused"),
        6 => (Blame::Target, "no answer"),
        7 => (Blame::Agent, "it does not support CONNECT"),
        8 => (Blame::Agent, "it does not support this kind of address"),
        _ => (Blame::Agent, "a reply that SOCKS 5 does not know"),
    }
}
