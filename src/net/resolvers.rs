//! Whom this machine asks for names, out of `/etc/resolv.conf` (resolv.conf(5)).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const FILE: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// What is beyond them in the file is not asked (MAXNS in resolv.h).
const SERVERS_MAX: usize = 3;

/// Whom to ask, in this order; or why that cannot be said.
pub type Resolvers = dyn Fn() -> Result<Vec<SocketAddr>, String> + Send + Sync;

/// The system's.
///
/// # Errors
/// Why they are not known.
pub fn system() -> Result<Vec<SocketAddr>, String> {
    match std::fs::read_to_string(FILE) {
        Ok(text) => named_in(&text).ok_or_else(|| format!("`{FILE}` names no server by an address")),
        // Without the file, a server on this machine is asked.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(named_in("").unwrap_or_default()),
        Err(error) => Err(format!("cannot read `{FILE}`: {error}")),
    }
}

/// `None` when there are servers, and none of them can be understood.
fn named_in(text: &str) -> Option<Vec<SocketAddr>> {
    let named: Vec<&str> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next()).flatten()
        })
        .collect();
    if named.is_empty() {
        return Some(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))]);
    }
    let addresses = named.iter().filter_map(|address| address.parse::<IpAddr>().ok()).take(SERVERS_MAX);
    let addresses: Vec<_> = addresses.map(|address| SocketAddr::new(address, PORT)).collect();
    (!addresses.is_empty()).then_some(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read() {
        for (text, servers) in [
            ("", Some("127.0.0.1:53")),
            ("search example.com\n# nameserver 192.0.2.9\n;nameserver 192.0.2.9\n", Some("127.0.0.1:53")),
            (
                "nameserver 192.0.2.1\n  nameserver\t2001:db8::1  # ours\noptions rotate\n",
                Some("192.0.2.1:53 [2001:db8::1]:53"),
            ),
            ("nameserver fe80::1%eth0\nnameserver 192.0.2.1", Some("192.0.2.1:53")),
            ("nameserver fe80::1%eth0\n", None),
            (
                "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4",
                Some("192.0.2.1:53 192.0.2.2:53 192.0.2.3:53"),
            ),
        ] {
            let read =
                named_in(text).map(|servers| servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
            assert_eq!(read.as_deref(), servers, "{text}");
        }
    }
}
