//! `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in either case. There is no specification; this follows what
//! curl(1) and Go's `http.ProxyFromEnvironment` agree on. `HTTP_PROXY` in capitals is taken too, since an agent is no CGI
//! program, whose clients could set it.

use std::net::IpAddr;

use super::Through;
use crate::net::{Host, ProxyScheme};
use crate::secret::Secret;

/// What the environment says about proxies, read once.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    http: Option<Result<Entry, String>>,
    https: Option<Result<Entry, String>>,
    except: Vec<Exception>,
}

#[derive(Clone, Debug)]
struct Entry {
    scheme: ProxyScheme,
    host: Host,
    port: u16,
    credentials: Option<(String, Secret)>,
}

/// An item of `no_proxy`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    Everything,
    /// The domain (without a leading dot) and all below it, on this port or on any.
    Domain(String, Option<u16>),
    Address(IpAddr, Option<u16>),
    Network(IpAddr, u8),
}

impl Environment {
    /// Reads the environment through `get`.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Self {
        let either = |name: &str| {
            [name.to_owned(), name.to_uppercase()].iter().find_map(|name| get(name).filter(|value| !value.is_empty()))
        };
        let proxy = |name: &str| {
            let found = |name: &str| either(name).map(|value| (name.to_owned(), value));
            found(name).or_else(|| found("all_proxy")).map(|(name, value)| Entry::parse(&name, &value))
        };
        let except = either("no_proxy").unwrap_or_default();
        Environment {
            http: proxy("http_proxy"),
            https: proxy("https_proxy"),
            except: except.split([',', ' ']).filter_map(Exception::parse).collect(),
        }
    }

    /// The proxy to take to `host`.
    ///
    /// # Errors
    /// What is wrong with its URL.
    pub fn towards(&self, secure: bool, host: &Host, port: u16) -> Result<Option<Through<'_>>, String> {
        let Some(entry) = (if secure { &self.https } else { &self.http }) else { return Ok(None) };
        if self.except.iter().any(|exception| exception.covers(host, port)) || is_local(host) {
            return Ok(None);
        }
        let Entry { scheme, host, port, credentials } = entry.as_ref().map_err(Clone::clone)?;
        Ok(Some(Through { scheme: *scheme, host, port: *port, credentials: credentials.as_ref() }))
    }
}

/// This machine is never behind a proxy.
fn is_local(host: &Host) -> bool {
    match host {
        Host::Name(name) => name.eq_ignore_ascii_case("localhost"),
        Host::Address(address) => address.is_loopback(),
    }
}

impl Entry {
    /// Reads `http://user:password@host:port`; without a scheme it is `http`. What is wrong never repeats the value, which
    /// may hold a password.
    fn parse(name: &str, value: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("the environment's `{name}` {what}");
        let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
        let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (ProxyScheme::Http, 80),
            "socks5" | "socks5h" => (ProxyScheme::Socks5, 1080),
            _ => return Err(wrong("is neither an `http://` nor a `socks5://` URL")),
        };
        let (authority, beyond) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if beyond.contains('@') {
            // Cut there, the user would be taken for the host, and be shown.
            return Err(wrong("has a `/`, `?` or `#` in its user or password, which must be percent-encoded"));
        }
        let (credentials, place) = match authority.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, authority),
        };
        let credentials = credentials.map(|text| {
            let (user, password) = text.split_once(':').unwrap_or((text, ""));
            (decoded(user), Secret::new(decoded(password)))
        });
        let (host, port) = split_port(place).ok_or_else(|| wrong("has a port that is no number"))?;
        if host.is_empty() {
            return Err(wrong("names no host"));
        }
        if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:[]%".contains(&byte)) {
            return Err(wrong("has a host that is neither a name nor an address"));
        }
        Ok(Entry { scheme, host: Host::parse(host), port: port.unwrap_or(default_port), credentials })
    }
}

impl Exception {
    fn parse(item: &str) -> Option<Self> {
        let item = item.trim();
        if item == "*" {
            return Some(Exception::Everything);
        }
        if let Some((address, bits)) = item.split_once('/') {
            return Some(Exception::Network(address.parse().ok()?, bits.parse().ok()?));
        }
        if let Ok(address) = item.parse() {
            return Some(Exception::Address(address, None));
        }
        let (host, port) = split_port(item)?;
        match Host::parse(host) {
            Host::Address(address) => Some(Exception::Address(address, port)),
            Host::Name(name) => {
                let name = name.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
                (!name.is_empty()).then_some(Exception::Domain(name, port))
            }
        }
    }

    fn covers(&self, host: &Host, port: u16) -> bool {
        match (self, host) {
            (Exception::Everything, _) => true,
            (Exception::Domain(domain, on), Host::Name(name)) => {
                let name = name.to_ascii_lowercase();
                let below =
                    name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                below && on.is_none_or(|on| on == port)
            }
            (Exception::Address(one, on), Host::Address(other)) => one == other && on.is_none_or(|on| on == port),
            (Exception::Network(network, bits), Host::Address(address)) => in_network(*network, *bits, *address),
            _ => false,
        }
    }
}

fn in_network(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    let (network, address, width) = match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (u128::from(network.to_bits()), u128::from(address.to_bits()), 32)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => (network.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    let Some(rest) = u32::checked_sub(width, u32::from(bits)) else { return false };
    // A shift by the whole width is none at all: every address is in a network of 0 bits.
    network.checked_shr(rest).unwrap_or(0) == address.checked_shr(rest).unwrap_or(0)
}

/// `host:port` or `host`; `None` when the port is no number.
fn split_port(place: &str) -> Option<(&str, Option<u16>)> {
    let after_brackets = place.rfind(']').map_or(0, |at| at + 1);
    match place[after_brackets..].rfind(':') {
        Some(at) => {
            let (host, port) = place.split_at(after_brackets + at);
            Some((host, Some(port[1..].parse().ok()?)))
        }
        None => Some((place, None)),
    }
}

/// Percent-decoding (RFC 3986, section 2.1); what is no such code stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = (*first == b'%').then(|| after.get(..2)).flatten();
        let value = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::read(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    fn taken(environment: &Environment, secure: bool, host: &str, port: u16) -> String {
        match environment.towards(secure, &Host::parse(host), port) {
            Ok(Some(through)) => format!("{:?} {}:{}", through.scheme, through.host, through.port),
            Ok(None) => "none".to_owned(),
            Err(reason) => reason,
        }
    }

    #[test]
    fn the_variable_of_the_scheme_comes_first_then_all_proxy() {
        let both = environment(&[("http_proxy", "http://p:3128"), ("ALL_PROXY", "socks5://s")]);
        for (variables, secure, expected) in [
            (&both, false, "Http p:3128"),
            (&both, true, "Socks5 s:1080"),
            (&environment(&[("HTTPS_PROXY", "p.example")]), true, "Http p.example:80"),
            (&environment(&[("HTTPS_PROXY", "p.example")]), false, "none"),
            (&environment(&[("https_proxy", "http://u:p%40ss@[::1]:8")]), true, "Http [::1]:8"),
            (
                &environment(&[("https_proxy", "ftp://secret@p")]),
                true,
                "the environment's `https_proxy` is neither an `http://` nor a `socks5://` URL",
            ),
            (
                &environment(&[("https_proxy", "p:x")]),
                true,
                "the environment's `https_proxy` has a port that is no number",
            ),
        ] {
            assert_eq!(taken(variables, secure, "example.com", 443), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_proxy_is_read_or_refused_and_its_password_is_not_told(before: String, password in "[/?#@:%]*hunter2", after: String) {
            let read = environment(&[("https_proxy", &format!("{before}:{password}@{after}")), ("no_proxy", &before)]);
            if let Err(reason) = read.towards(true, &Host::parse("example.com"), 443) {
                proptest::prop_assert!(!reason.contains("hunter2"), "{}", reason);
            }
        }
    }

    #[test]
    fn credentials_are_decoded_and_hidden() {
        let read = environment(&[("https_proxy", "http://u:p%40ss%zz@p")]);
        let through = read.towards(true, &Host::parse("example.com"), 443).unwrap().unwrap();
        let (user, password) = through.credentials.unwrap();
        assert_eq!((user.as_str(), password.expose()), ("u", "p@ss%zz"));
        assert!(!format!("{read:?}").contains("p@ss"));
    }

    #[test]
    fn no_proxy_exempts() {
        let no_proxy =
            "example.com, .dotted.org,*.star.net,192.0.2.7,198.51.100.0/24,2001:db8::/32,odd.example:8080,[::2]:9,:";
        let read = environment(&[("all_proxy", "http://p"), ("no_proxy", no_proxy)]);
        for (host, port, direct) in [
            ("example.com", 443, true),
            ("EXAMPLE.com", 443, true),
            ("www.example.com", 443, true),
            ("notexample.com", 443, false),
            ("a.dotted.org", 1, true),
            ("a.star.net", 1, true),
            ("192.0.2.7", 80, true),
            ("192.0.2.8", 80, false),
            ("198.51.100.200", 80, true),
            ("198.51.101.1", 80, false),
            ("2001:db8::9", 80, true),
            ("2001:db9::9", 80, false),
            ("odd.example", 8080, true),
            ("odd.example", 80, false),
            ("::2", 9, true),
            ("::2", 10, false),
            ("localhost", 80, true),
            ("127.0.0.9", 80, true),
        ] {
            assert_eq!(taken(&read, true, host, port) == "none", direct, "{host}:{port}");
        }
        let all = environment(&[("all_proxy", "http://p"), ("NO_PROXY", "*")]);
        assert_eq!(taken(&all, false, "example.com", 80), "none");
        assert!(in_network("0.0.0.0".parse().unwrap(), 0, "203.0.113.1".parse().unwrap()));
        assert!(!in_network("0.0.0.0".parse().unwrap(), 33, "203.0.113.1".parse().unwrap()));
    }
}
