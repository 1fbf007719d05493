//! Redirects (RFC 9110, section 15.4): where an answer leads, and what goes along. A body may hold a password: where one
//! would go along to another origin, nobody is asked.

use ureq::http::uri::{Authority, PathAndQuery, Scheme};
use ureq::http::{Method, StatusCode, Uri};

use super::answer::Answer;
use super::{Http, guard, websocket};
use crate::check::Phase;
use crate::net::{Course, Failure, shown};

/// One request on the way.
#[derive(Clone, Debug)]
pub struct Hop {
    /// Where it goes.
    pub uri: Uri,
    /// How it asks.
    pub method: Method,
    /// Whether the check's body goes along.
    pub with_body: bool,
    /// Whether this is the origin that the config names, which alone gets credentials.
    pub own_origin: bool,
    /// Whether it may go to no address that is forbidden to redirects.
    pub guarded: bool,
    /// Whether a proxy was asked for it, so that its own address is not known.
    pub proxied: bool,
}

impl Hop {
    /// The request that the config names.
    pub fn first(http: &Http) -> Self {
        Hop {
            uri: http.url.clone(),
            method: http.method.clone(),
            with_body: true,
            own_origin: true,
            guarded: false,
            proxied: false,
        }
    }
}

/// Where an answer leads: its `Location`, when its status says to go there.
pub fn location(answer: &Answer) -> Option<&[u8]> {
    let head = answer.head.as_ref()?;
    match head.status.as_u16() {
        301 | 302 | 303 | 307 | 308 => head.headers.get("location").map(|value| value.as_bytes()),
        _ => None,
    }
}

/// The next request.
///
/// # Errors
/// What is wrong with the `Location`, or that it must not lead there, or not with the body.
pub fn follow(http: &Http, hop: &Hop, answer: &Answer, course: &mut Course) -> Result<Hop, Failure> {
    let given = location(answer).unwrap_or_default();
    let status = answer.head.as_ref().map(|head| head.status).unwrap_or_default();
    let given_text = if http.websocket { std::str::from_utf8(given).ok() } else { None };
    let over_http = given_text.and_then(websocket::over_http);
    let uri = resolve(&hop.uri, over_http.as_deref().map_or(given, str::as_bytes)).ok_or_else(|| {
        course.failed(
            Phase::Assert,
            format!("redirected to `{}`, which is no `http` or `https` URL", without_secrets(http, given)),
        )
    })?;
    guard::schemes(http, &hop.uri, &uri, course)?;
    // A form that was sent is not sent again to where it leads, as browsers do it; 307 and 308 are there to insist.
    let becomes_get = match status {
        StatusCode::SEE_OTHER => hop.method != Method::HEAD,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => hop.method == Method::POST,
        _ => false,
    };
    let own_origin = origin(&uri) == origin(&http.url);
    let with_body = hop.with_body && !becomes_get;
    if with_body && !own_origin && !http.body.expose().is_empty() {
        let to = without_query(http, &uri);
        let reason = format!("redirected to {to}, with the body: that goes to the origin of the check's own URL alone");
        return Err(course.failed(Phase::Assert, reason));
    }
    Ok(Hop {
        own_origin,
        guarded: guard::is_on(http, hop, &uri, course),
        uri,
        method: if becomes_get { Method::GET } else { hop.method.clone() },
        with_body,
        proxied: false,
    })
}

/// The failure when there are more redirects than the check follows.
pub fn too_many(http: &Http, followed: u32, seen: &[Uri], next: &Hop, course: &mut Course) -> Failure {
    let what = if seen.contains(&next.uri) { "redirect loop" } else { "too many redirects" };
    course.failed(
        Phase::Assert,
        format!("{what}: followed {followed}, the last one leads to {}", without_query(http, &next.uri)),
    )
}

/// A URL without its query, which often holds tokens, and without what the environment gave to the check's own URL.
pub fn without_query(http: &Http, uri: &Uri) -> String {
    let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", Authority::as_str));
    let query = if uri.query().is_some() { "?…" } else { "" };
    let path = http.without_secrets(uri.path().as_bytes());
    format!("{scheme}://{authority}{}{query}", String::from_utf8_lossy(&path))
}

/// The same for what is no URL of ours; user info is left out as well. It is shown last: cut short, it could have lost the
/// `@` that tells user info.
pub fn without_secrets(http: &Http, given: &[u8]) -> String {
    let given = given.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    let begin = given.windows(2).position(|pair| pair == b"//").map_or(0, |at| at + 2);
    let (scheme, rest) = given.split_at(begin);
    // Without `//` it may be `mailto:`, whose `@` is no user info. A password may hold a `/`, so the last `@` of all counts.
    let user_info = if begin > 0 { rest.iter().rposition(|&byte| byte == b'@').map_or(0, |at| at + 1) } else { 0 };
    let bare = [scheme, &rest[user_info..]].concat();
    shown(&http.without_secrets(&bare))
}

/// Whether the port, if there is one, is from 1 to 65535: the parser takes any digits, and then has no port to give. An empty
/// one stands for the scheme's own (RFC 3986, section 3.2.3).
fn has_a_port_that_there_is(authority: &Authority) -> bool {
    let after_address = authority.as_str().rsplit(']').next().unwrap_or_default();
    match after_address.rsplit_once(':') {
        Some((_, port)) if !port.is_empty() => matches!(port.parse::<u16>(), Ok(1..)),
        _ => true,
    }
}

/// Scheme, host and port.
pub fn origin(uri: &Uri) -> (Option<&str>, Option<String>, u16) {
    (uri.scheme_str(), uri.host().map(str::to_ascii_lowercase), port(uri))
}

/// Whether two URLs are of one host.
pub fn same_host(one: &Uri, other: &Uri) -> bool {
    one.host().is_some_and(|one| other.host().is_some_and(|other| one.eq_ignore_ascii_case(other)))
}

/// The port of a URL, given or the scheme's own.
pub fn port(uri: &Uri) -> u16 {
    let own = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    uri.port_u16().unwrap_or(own)
}

/// Resolves a reference against a base (RFC 3986, section 5.2). `None` when it leads to no `http` or `https` URL.
fn resolve(base: &Uri, reference: &[u8]) -> Option<Uri> {
    let reference = escaped(reference);
    let reference = reference.split('#').next().unwrap_or_default();
    let base_path = base.path();
    let (scheme, rest) = match reference.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase().parse().ok()?, rest),
        _ => (base.scheme()?.clone(), reference),
    };
    if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
        return None;
    }
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            // User info in a redirect is never sent: it would be a credential that the user did not give.
            let place = rest[..end].rsplit('@').next().unwrap_or_default();
            (place.parse::<Authority>().ok()?, rest[end..].to_owned())
        }
        // `https:path` is no reference to anywhere.
        None if rest.len() != reference.len() => return None,
        None => (base.authority()?.clone(), merged(base_path, base.query(), rest)),
    };
    if authority.host().is_empty() || !has_a_port_that_there_is(&authority) {
        return None;
    }
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        None => (path, None),
    };
    let mut target = without_dots(&path);
    if let Some(query) = query {
        target.push('?');
        target.push_str(&query);
    }
    Uri::builder().scheme(scheme).authority(authority).path_and_query(target.parse::<PathAndQuery>().ok()?).build().ok()
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// The path and query of a relative reference (RFC 3986, sections 5.2.2 and 5.2.3).
fn merged(base: &str, query: Option<&str>, reference: &str) -> String {
    match reference.chars().next() {
        None => query.map_or_else(|| base.to_owned(), |query| format!("{base}?{query}")),
        Some('/') => reference.to_owned(),
        Some('?') => format!("{base}{reference}"),
        Some(_) => {
            let folder = base.rfind('/').map_or("/", |at| &base[..=at]);
            format!("{folder}{reference}")
        }
    }
}

/// RFC 3986, section 5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

/// Percent-encodes what may not stand in a URL and does in many a `Location`: spaces, umlauts, quotes.
fn escaped(reference: &[u8]) -> String {
    let mut text = String::with_capacity(reference.len());
    for &byte in reference.trim_ascii() {
        match byte {
            b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0..=0x1f | 0x7f.. => {
                text.push_str(&format!("%{byte:02X}"));
            }
            _ => text.push(char::from(byte)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_resolve_as_in_rfc_3986_section_5_4() {
        let base = "http://a/b/c/d;p?q".parse().unwrap();
        for (reference, expected) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q"),
            ("g#s", "http://a/b/c/g"),
            (";x", "http://a/b/c/;x"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("g?y/./x", "http://a/b/c/g?y/./x"),
            ("HTTPS://B:8443/x", "https://B:8443/x"),
            ("https://user:secret@b/", "https://b/"),
            ("//b?x", "http://b/?x"),
            ("/a b/\u{fc}", "http://a/a%20b/%C3%BC"),
            ("/a%20b", "http://a/a%20b"),
            ("x:y", ""),
            ("http:g", ""),
            ("ftp://a/", ""),
            ("javascript:alert(1)", ""),
            ("http://", ""),
            ("http://a:b:c/", ""),
            ("http://a:99999/", ""),
            ("//a:0/", ""),
            ("http://[::1]:99999/", ""),
            ("http://[::1]:8080/", "http://[::1]:8080/"),
            ("http://[::1]/", "http://[::1]/"),
        ] {
            let resolved = resolve(&base, reference.as_bytes()).map(|uri| uri.to_string()).unwrap_or_default();
            assert_eq!(resolved, expected, "{reference}");
        }
    }

    #[test]
    fn what_is_shown_holds_no_secret() {
        let http = Http::get("https://a.example/".parse().unwrap());
        let long = format!("ftp://user:{}@a.example/x", "p".repeat(500));
        for (given, raw) in [
            ("ftp://user:pass@a.example/x?token=1", "ftp://a.example/x"),
            (&long, "ftp://a.example/x"),
            ("ftp://user:p@ss@a.example/x", "ftp://a.example/x"),
            ("ftp://user:p/@ss@a.example/x", "ftp://a.example/x"),
            ("//user:pass@", "//"),
            ("mailto:me@a.example", "mailto:me@a.example"),
            ("x\n", "x\\n"),
        ] {
            assert_eq!(without_secrets(&http, given.as_bytes()), raw);
        }
        assert_eq!(without_query(&http, &"https://a.example/x?token=1".parse().unwrap()), "https://a.example/x?…");
    }

    #[test]
    fn what_the_environment_gave_to_the_url_is_not_shown_where_a_redirect_repeats_it() {
        use crate::secret::{Origin, Secret};
        let parts = vec![Secret::new("a.example"), Secret::new("hunter2")];
        let origin = Origin::Environment { typed: String::new(), whole: false, parts };
        let typed = Some(Secret::new("https://a.example/hunter2").from(origin));
        let http = Http { typed, ..Http::get("https://a.example/hunter2".parse().unwrap()) };
        assert_eq!(without_query(&http, &"https://a.example/hunter2/x".parse().unwrap()), "https://a.example/***/x");
        assert_eq!(without_secrets(&http, b"ftp://a.example/hunter2"), "ftp://a.example/***");
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |one: &str, other: &str| origin(&one.parse().unwrap()) == origin(&other.parse().unwrap());
        assert!(same("http://A.example/x", "http://a.example:80/y"));
        assert!(!same("http://a.example/", "https://a.example/"));
        assert!(!same("http://a.example/", "http://a.example:8080/"));
        assert!(!same("http://a.example/", "http://b.example/"));
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_location_it_leads_to_http_or_nowhere(reference: Vec<u8>) {
            let base = "https://a.example/b".parse().unwrap();
            if let Some(uri) = resolve(&base, &reference) {
                proptest::prop_assert!(matches!(uri.scheme_str(), Some("http" | "https")));
                proptest::prop_assert!(!uri.host().unwrap_or_default().is_empty());
                proptest::prop_assert!(!uri.authority().unwrap().as_str().contains('@'));
            }
        }
    }
}
