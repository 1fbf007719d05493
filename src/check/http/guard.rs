//! Where a redirect may not lead: who answers chooses where the agent goes next, and what it asks there.
//!
//! Link-local addresses (RFC 3927, RFC 4291) are those of the agent's own neighbourhood, and at one of them clouds tell a machine
//! its credentials. What is judged is the address that is connected to, after the lookup and right before the connection, so that
//! a name that means another address the next time it is asked for does not get around it. Where the check's own URL is at such
//! an address its user has put it there, and redirects that stay at its host are followed. Through a proxy the proxy looks names
//! up, and only addresses are judged.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ureq::http::Uri;
use ureq::http::uri::Scheme;

use super::Http;
use super::redirect::{self, Hop};
use crate::check::Phase;
use crate::net::{Course, Failure, Host};

/// Where redirects may lead that they otherwise may not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// From `https` to `http`.
    pub downgrade: bool,
    /// To another host's link-local address, or the metadata address of a cloud.
    pub link_local: bool,
}

/// Where clouds tell a machine its credentials, beside link-local addresses: Alibaba, Azure; Amazon and Google by IPv6.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// The first 96 bits of an IPv4 address that is reached by IPv6 through a translator (RFC 6052).
const TRANSLATED: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// What kind of address no redirect may lead to this is, if it is one.
fn forbidden(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) if v4.is_link_local() => Some("link-local address"),
        IpAddr::V4(v4) if METADATA_V4.contains(&v4) => Some("metadata address of a cloud"),
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("link-local address"),
        IpAddr::V6(v6) if METADATA_V6.contains(&v6) => Some("metadata address of a cloud"),
        IpAddr::V6(v6) => within(v6).and_then(|v4| forbidden(v4.into())),
    }
}

/// The IPv4 address that an IPv6 address stands for, if it does: mapped or compatible (RFC 4291, section 2.5.5), or translated.
fn within(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [first @ .., high, low] = address.segments();
    let translated = (first == TRANSLATED).then(|| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    address.to_ipv4().or(translated)
}

/// Whether the redirect from `hop` to `uri` has to be guarded: whether it may lead to no such address.
pub fn is_on(http: &Http, hop: &Hop, uri: &Uri, course: &Course) -> bool {
    let at = match Host::parse(hop.uri.host().unwrap_or_default()) {
        // The address that was connected to is the proxy's.
        Host::Address(address) if hop.proxied => Some(address),
        Host::Name(_) if hop.proxied => None,
        _ => course.address.map(|address| address.ip()),
    };
    let at_one = at.is_some_and(|at| forbidden(at).is_some());
    let stays = !hop.guarded && at_one && redirect::same_host(&hop.uri, uri);
    !http.redirects_allow.link_local && !stays
}

/// Makes sure that a redirect from `from` may lead to `to` as far as their schemes say.
///
/// # Errors
/// That what was said in TLS would go on in plain text.
pub fn schemes(http: &Http, from: &Uri, to: &Uri, course: &mut Course) -> Result<(), Failure> {
    let downgrades = from.scheme() == Some(&Scheme::HTTPS) && to.scheme() == Some(&Scheme::HTTP);
    if !downgrades || http.redirects_allow.downgrade {
        return Ok(());
    }
    let to = redirect::without_query(http, to);
    Err(course.failed(
        Phase::Assert,
        format!("redirected from `https` to {to}, which is not encrypted; `redirects_allow: [downgrade]` lets it"),
    ))
}

/// Leaves of the addresses of `hop`'s host those that it may go to.
///
/// # Errors
/// That there is none.
pub fn addresses(
    http: &Http,
    hop: &Hop,
    mut addresses: Vec<SocketAddr>,
    course: &mut Course,
) -> Result<Vec<SocketAddr>, Failure> {
    let first = addresses.iter().find_map(|address| Some((address.ip(), forbidden(address.ip())?)));
    if let Some((address, kind)) = first.filter(|_| hop.guarded) {
        addresses.retain(|address| forbidden(address.ip()).is_none());
        if addresses.is_empty() {
            let to = redirect::without_query(http, &hop.uri);
            return Err(course.failed(
                Phase::Assert,
                format!("redirected to {to}, which is at {address}, a {kind}; `redirects_allow: [link_local]` lets it"),
            ));
        }
    }
    Ok(addresses)
}

/// The same for a host that a proxy is asked to reach. A name that ends in a number is none in the DNS: a proxy may take it for
/// an address, in one of the spellings that C libraries know (`0xa9fea9fe`).
///
/// # Errors
/// That it is such an address, or may be.
pub fn literal(http: &Http, hop: &Hop, host: &Host, course: &mut Course) -> Result<(), Failure> {
    match host {
        Host::Address(address) => addresses(http, hop, vec![(*address, 0).into()], course).map(|_| ()),
        Host::Name(name) if hop.guarded && ends_in_a_number(name) => {
            let to = redirect::without_query(http, &hop.uri);
            Err(course.failed(
                Phase::Assert,
                format!("redirected to {to}, whose host the proxy may take for a link-local address; `redirects_allow: [link_local]` lets it"),
            ))
        }
        Host::Name(_) => Ok(()),
    }
}

/// As browsers tell addresses from names (WHATWG URL, section 3.5).
fn ends_in_a_number(name: &str) -> bool {
    let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    last.starts_with("0x") || (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_and_metadata_addresses_are_known_in_every_form() {
        for (address, known) in [
            ("169.254.169.254", true),
            ("169.254.0.0", true),
            ("169.253.255.255", false),
            ("100.100.100.200", true),
            ("100.100.100.201", false),
            ("168.63.129.16", true),
            ("168.63.129.17", false),
            ("127.0.0.1", false),
            ("10.0.0.1", false),
            ("fe80::1", true),
            ("febf:ffff::1", true),
            ("fec0::1", false),
            ("fd00:ec2::254", true),
            ("fd20:ce::254", true),
            ("fd00:ec2::255", false),
            ("::ffff:169.254.169.254", true),
            ("::ffff:a9fe:1", true),
            ("::ffff:127.0.0.1", false),
            ("64:ff9b::169.254.169.254", true),
            ("64:ff9b::192.0.2.1", false),
            ("::169.254.169.254", true),
            ("::192.0.2.1", false),
            ("::1", false),
        ] {
            assert_eq!(forbidden(address.parse().unwrap()).is_some(), known, "{address}");
        }
    }

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn a_redirect_is_guarded_unless_it_stays_where_the_user_sent_it() {
        for (from, at, to, link_local, guarded) in [
            ("http://a.example/", "192.0.2.1:80", "http://a.example/x", false, true),
            ("http://a.example/", "192.0.2.1:80", "http://b.example/", false, true),
            ("http://a.example/", "169.254.1.1:80", "http://A.example:8080/", false, false),
            ("http://a.example/", "169.254.1.1:80", "http://b.example/", false, true),
            ("http://169.254.1.1/", "169.254.1.1:80", "https://169.254.1.1/", false, false),
            ("http://169.254.1.1/", "169.254.1.1:80", "http://169.254.169.254/", false, true),
            ("http://a.example/", "192.0.2.1:80", "http://b.example/", true, false),
        ] {
            let redirects_allow = Allow { link_local, ..Allow::default() };
            let http = Http { redirects_allow, ..Http::get(uri(from)) };
            let mut course = Course::new(std::time::Instant::now());
            course.address = Some(at.parse().unwrap());
            let hop = Hop::first(&http);
            assert_eq!(is_on(&http, &hop, &uri(to), &course), guarded, "{from} at {at} to {to}");
            let back = Hop { guarded: true, ..hop };
            assert_eq!(is_on(&http, &back, &uri(to), &course), !link_local, "a guarded hop frees none: {from} to {to}");
        }
    }

    #[test]
    fn through_a_proxy_it_is_the_host_in_the_url_that_counts() {
        for (from, at, to, guarded) in [
            ("http://169.254.1.1/", "10.0.0.1:3128", "http://169.254.1.1/x", false),
            ("http://169.254.1.1/", "10.0.0.1:3128", "http://169.254.1.2/x", true),
            ("http://a.example/", "169.254.1.1:3128", "http://a.example/x", true),
        ] {
            let http = Http::get(uri(from));
            let mut course = Course::new(std::time::Instant::now());
            course.address = Some(at.parse().unwrap());
            let hop = Hop { proxied: true, ..Hop::first(&http) };
            assert_eq!(is_on(&http, &hop, &uri(to), &course), guarded, "{from} through {at} to {to}");
        }
    }

    #[test]
    fn through_a_proxy_no_redirect_leads_to_what_may_be_an_address() {
        for (host, is_let) in [
            ("a.example", true),
            ("a.example.", true),
            ("192.0.2.1", true),
            ("169.254.1.1", false),
            ("169.254.1.1.", false),
            ("2852039166", false),
            ("0xa9fea9fe", false),
            ("169.254.0XFE", false),
            ("1a.2b", true),
        ] {
            let http = Http::get(uri(&format!("http://{host}/")));
            let mut course = Course::new(std::time::Instant::now());
            let hop = Hop { guarded: true, ..Hop::first(&http) };
            assert_eq!(literal(&http, &hop, &Host::parse(host), &mut course).is_ok(), is_let, "{host}");
            assert!(literal(&http, &Hop::first(&http), &Host::parse(host), &mut course).is_ok(), "{host}");
        }
    }

    #[test]
    fn of_several_addresses_those_are_left_that_are_not_forbidden() {
        let http = Http::get(uri("http://a.example/?token=1"));
        for (guarded, given, left) in [
            (true, &["169.254.1.1:80", "192.0.2.1:80", "[fe80::1]:80"][..], Some(1)),
            (true, &["169.254.1.1:80", "[::ffff:169.254.1.1]:80"], None),
            (true, &[], Some(0)),
            (false, &["169.254.1.1:80"], Some(1)),
        ] {
            let hop = Hop { guarded, ..Hop::first(&http) };
            let mut course = Course::new(std::time::Instant::now());
            let given = given.iter().map(|address| address.parse().unwrap()).collect();
            let left_over = addresses(&http, &hop, given, &mut course);
            let reason = left_over.as_ref().err().map(|failure| failure.reason.clone()).unwrap_or_default();
            assert_eq!(left_over.ok().map(|left| left.len()), left);
            assert!(
                left.is_some() || reason.starts_with("redirected to http://a.example/?…, which is at 169.254.1.1, a"),
                "{reason}"
            );
        }
    }
}
