//! Where checks go: URLs, hosts and ports, proxies.

use std::net::{IpAddr, SocketAddr};

use ureq::http::Uri;

use super::error::Complaint;
use super::expand::Expanded;
use crate::net::{Host, Proxy, ProxyScheme};
use crate::secret::Secret;

/// How long a DNS name may be, in bytes (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
/// How long a URL may be, in bytes: what most servers take.
const URL_BYTES_MAX: usize = 8_000;

/// An absolute `http` or `https` URL without user info or fragment.
pub(super) fn url(text: &str) -> Result<Uri, Complaint> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(Complaint::new("is not a URL").hint(format!("write `https://{text}`")));
    };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(Complaint::new("is neither an http nor an https URL")
            .hint("a WebSocket: `wss://…`; other protocols: `tcp: host:port`"));
    }
    if text.len() > URL_BYTES_MAX {
        return Err(format!("is longer than {URL_BYTES_MAX} bytes").into());
    }
    if text.contains('#') {
        return Err(Complaint::new("has a fragment, which is never sent").hint("take out all from the `#` on"));
    }
    if let Some(odd) = text.chars().find(|c| !c.is_ascii_graphic()) {
        let complaint = Complaint::new(format!("holds `{}`, which a URL cannot", odd.escape_default()));
        return Err(complaint.hint("percent-encode it; names go in their `xn--` form"));
    }
    let uri: Uri = text.parse().map_err(|error| Complaint::new(format!("is not a URL: {error}")))?;
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let after_address = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
    let port = after_address.rsplit_once(':').map(|(_, port)| port);
    if port.is_some_and(|port| !matches!(port.parse::<u16>(), Ok(1..))) {
        return Err("has no port from 1 to 65535".into());
    }
    host(uri.host().unwrap_or_default())?;
    Ok(uri)
}

/// What of a URL may be in every log: scheme, host and port, whatever gave them, and the path without what the environment
/// gave to it, for many a service takes its token there. A query is only said to be there, as in what redirects lead to.
pub(super) fn url_shown(url: &Expanded<'_>) -> String {
    let text = &*url.text;
    let path = path_begin(text);
    let query = text.find('?').unwrap_or(text.len());
    let mut shown = String::with_capacity(text.len());
    let mut at = 0;
    for given in &url.given {
        // The slash that ends the host is no secret.
        let hidden = given.start.max(path + usize::from(query > path))..given.end.min(query);
        if hidden.is_empty() {
            continue;
        }
        shown += &text[at..hidden.start];
        shown += "***";
        at = hidden.end;
    }
    shown += &text[at..query];
    if query < text.len() {
        shown += "?…";
    }
    shown
}

/// Where the path of a URL begins, or its query where it has no path.
pub(super) fn path_begin(url: &str) -> usize {
    let place = url.find("://").map_or(0, |at| at + 3);
    url[place..].find(['/', '?']).map_or(url.len(), |at| place + at)
}

/// Whether a URL names a user, and maybe a password, so that no message may show it.
pub(super) fn has_user_info(text: &str) -> bool {
    let after = text.split_once("://").map_or(text, |(_, after)| after);
    after.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}

/// A DNS name, an IPv4 address, or an IPv6 address with or without brackets.
pub(super) fn host(text: &str) -> Result<Host, Complaint> {
    let address = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = address.parse::<IpAddr>() {
        return Ok(Host::Address(address));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    // Underscores are no host names by RFC 952, and are in use.
    let part = |part: &str| {
        let allowed = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        allowed && (1..=63).contains(&part.len()) && !part.starts_with('-') && !part.ends_with('-')
    };
    let numeric = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if name.is_empty() {
        return Err("has no host".into());
    }
    if name.len() > NAME_BYTES_MAX || numeric || !name.split('.').all(part) {
        return Err(Complaint::new("has a host that is neither a name nor an address"));
    }
    Ok(Host::Name(text.to_owned()))
}

/// `name:port`, `192.0.2.1:port` or `[2001:db8::1]:port`.
pub(super) fn host_port(text: &str) -> Result<(Host, u16), Complaint> {
    let form = "write `host:port`, and an IPv6 address in brackets: `[2001:db8::1]:443`";
    let (name, port) = text.rsplit_once(':').ok_or_else(|| Complaint::new("has no port").hint(form))?;
    if name.contains("://") || name.contains('/') || port.contains('/') {
        return Err(Complaint::new("is not a host and a port").hint(form));
    }
    if name.contains(':') && !name.starts_with('[') {
        return Err(Complaint::new("is not a host and a port").hint(form));
    }
    let port = match port.parse() {
        Ok(port @ 1..=u16::MAX) => port,
        _ => return Err("has no port from 1 to 65535".into()),
    };
    Ok((host(name)?, port))
}

/// `host:port` as [`host_port`] reads it.
pub(crate) fn host_port_text(host: &Host, port: u16) -> String {
    match host {
        Host::Name(name) => format!("{name}:{port}"),
        Host::Address(IpAddr::V4(address)) => format!("{address}:{port}"),
        Host::Address(IpAddr::V6(address)) => format!("[{address}]:{port}"),
    }
}

/// An address with a port, or without one where `port` stands in.
pub(super) fn address(text: &str, port: Option<u16>) -> Result<SocketAddr, Complaint> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let (Ok(address), Some(port)) = (bare.parse::<IpAddr>(), port) {
        return Ok(SocketAddr::new(address, port));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 || port.is_none() => Ok(address),
        Ok(_) => Err("has no port from 1 to 65535".into()),
        Err(_) => {
            Err(Complaint::new("is not an address and a port").hint("write `192.0.2.7:443` or `[2001:db8::7]:443`"))
        }
    }
}

/// `none`, `environment`, or the URL of a proxy. No message shows the URL: it may hold a password.
pub(super) fn proxy(text: &str) -> Result<Proxy, Complaint> {
    let form = "write `none`, `environment`, `http://host:port` or `socks5://host:port`";
    match text {
        "none" => return Ok(Proxy::None),
        "environment" => return Ok(Proxy::Environment),
        _ => {}
    }
    let (scheme, rest) = text.split_once("://").ok_or_else(|| Complaint::new("not a proxy").hint(form))?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => ProxyScheme::Http,
        "socks5" => ProxyScheme::Socks5,
        _ => return Err(Complaint::new("neither an http nor a socks5 proxy").hint(form)),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (credentials, place) = match rest.rsplit_once('@') {
        None => (None, rest),
        Some((user_info, place)) => {
            let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
            (Some((percent_decoded(user)?, Secret::new(percent_decoded(password)?))), place)
        }
    };
    let (host, port) =
        host_port(place).map_err(|complaint| Complaint::new(format!("the proxy {}", complaint.what)).hint(form))?;
    Ok(Proxy::Through { scheme, host, port, credentials })
}

fn percent_decoded(text: &str) -> Result<String, Complaint> {
    let wrong = || Complaint::new("user and password of the proxy are not percent-encoded UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                let (high, low) = (digit().ok_or_else(wrong)?, digit().ok_or_else(wrong)?);
                u8::try_from(high * 16 + low).map_err(|_| wrong())?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::http::percent_encoded;
    use proptest::prelude::*;

    #[test]
    fn urls_are_read_or_refused() {
        for (text, complaint) in [
            ("https://shop.example.com/health?a=b", ""),
            ("HTTP://[2001:db8::1]:8080", ""),
            ("http://127.0.0.1:8087/healthz", ""),
            ("http://my_host.:1/", ""),
            ("shop.example.com", "is not a URL"),
            ("wss://a/", "is neither an http nor an https URL"),
            ("ftp://a/", "is neither an http nor an https URL"),
            ("http:///x", "is not a URL: invalid format"),
            ("http://a/#b", "has a fragment, which is never sent"),
            ("http://a/b c", "holds ` `, which a URL cannot"),
            ("http://bücher.example/", "holds `\\u{fc}`, which a URL cannot"),
            ("http://a:0/", "has no port from 1 to 65535"),
            ("http://a:99999/", "has no port from 1 to 65535"),
            ("http://a:/", "has no port from 1 to 65535"),
            ("http://-a/", "has a host that is neither a name nor an address"),
            ("http://1.2.3/", "has a host that is neither a name nor an address"),
        ] {
            let what = url(text).err().map(|complaint| complaint.what).unwrap_or_default();
            assert_eq!(what, complaint, "{text}");
        }
    }

    #[test]
    fn logs_name_a_url_without_what_may_be_a_secret() {
        let environment = |name: &str| {
            let value = match name {
                "HOST" => "a.example",
                "TOKEN" => "hunter2",
                "URL" => "https://a.example:8443/services/hunter2?key=hunter2",
                "TAIL" => ".example/hunter2",
                _ => return None,
            };
            Some(value.to_owned())
        };
        for (typed, shown) in [
            ("https://${HOST}:${PORT:-8443}/${TOKEN}/x", "https://a.example:8443/***/x"),
            ("https://${HOST}", "https://a.example"),
            ("https://a.example/${NOBODY:-x}", "https://a.example/x"),
            ("https://a.example/x${TOKEN}${TOKEN}", "https://a.example/x******"),
            ("https://a.example/?token=${TOKEN}", "https://a.example/?…"),
            ("https://a.example/?token=literal", "https://a.example/?…"),
            ("https://a.example?x", "https://a.example?…"),
            ("https://a${TAIL}/x", "https://a.example/***/x"),
            ("${URL}", "https://a.example:8443/***?…"),
        ] {
            let expanded = crate::config::expand::expand(typed, &environment, None, None).unwrap();
            assert_eq!(url_shown(&expanded), shown, "{typed}");
        }
    }

    #[test]
    fn hosts_and_ports_are_read_or_refused() {
        for (text, read) in [
            ("db.example.com:5432", Some("db.example.com:5432")),
            ("192.0.2.1:25", Some("192.0.2.1:25")),
            ("[2001:db8::1]:443", Some("[2001:db8::1]:443")),
            ("2001:db8::1:443", None),
            ("db", None),
            ("db:", None),
            ("db:0", None),
            ("db:65536", None),
            (":80", None),
            ("http://a:80", None),
            ("a b:80", None),
        ] {
            let text_again = host_port(text).ok().map(|(host, port)| host_port_text(&host, port));
            assert_eq!(text_again.as_deref(), read, "{text}");
        }
    }

    #[test]
    fn proxies_are_read() {
        let Ok(Proxy::Through { scheme, host, port, credentials }) = proxy("socks5://me:p%40ss@[::1]:1080/") else {
            panic!("no proxy");
        };
        assert_eq!((scheme, host, port), (ProxyScheme::Socks5, Host::Address("::1".parse().unwrap()), 1080));
        assert_eq!(credentials, Some(("me".to_owned(), Secret::new("p@ss"))));
        for text in ["", "direct", "https://a:1", "http://a", "http://%zz@a:1", "http://%ff@a:1", "http://a:1/x"] {
            assert!(proxy(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn users_of_proxies_are_read_as_they_were_written(user in any::<String>()) {
            prop_assert_eq!(percent_decoded(&percent_encoded(&user)), Ok(user));
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = (url(&text), host(&text), host_port(&text), address(&text, None), proxy(&text), has_user_info(&text));
        }
    }
}
