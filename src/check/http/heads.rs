//! The heads of request and answer, for whoever watches: without what is secret in them.

use ureq::http::{HeaderMap, Version};

use super::answer::Head;
use super::{Http, redirect};
use crate::net::shown;

/// Headers of a request that say what is wanted and not who asks: they go to any origin. All others may hold a key.
pub const OF_WHAT_IS_WANTED: [&str; 9] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "content-type",
    "pragma",
    "range",
    "user-agent",
];
/// Headers of a request that are about the message or the connection. `Sec-WebSocket-Protocol` is none of them: Kubernetes,
/// for one, takes a token in it.
const OF_THE_MESSAGE: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "origin",
    "sec-websocket-key",
    "sec-websocket-version",
    "transfer-encoding",
    "upgrade",
];
/// Headers of an answer whose value is shown, as far as it repeats no secret. Any other may hold a key.
const OF_AN_ANSWER: [&str; 32] = [
    "accept-ranges",
    "age",
    "allow",
    "alt-svc",
    "cache-control",
    "cf-cache-status",
    "connection",
    "content-encoding",
    "content-language",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expires",
    "keep-alive",
    "last-modified",
    "pragma",
    "retry-after",
    "sec-websocket-accept",
    "sec-websocket-version",
    "server",
    "strict-transport-security",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "x-cache",
    "x-content-type-options",
    "x-frame-options",
    "x-powered-by",
];

/// Whether a header of a request tells nobody's secret, so that its value is shown.
pub fn is_harmless(name: &str) -> bool {
    OF_WHAT_IS_WANTED.contains(&name) || OF_THE_MESSAGE.contains(&name)
}

/// The lines of a request's head in `bytes`, up to its end; the target of the request without its query.
pub fn sent(http: &Http, bytes: &[u8]) -> Vec<String> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes, |end| &bytes[..end]);
    let lines = head.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end).filter(|line| !line.is_empty());
    lines.map(|line| format!("> {}", sent_line(http, line))).collect()
}

fn sent_line(http: &Http, line: &[u8]) -> String {
    let colon = line.iter().position(|&byte| byte == b':');
    let name = colon.map(|colon| String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase());
    match name {
        // A request line may hold a colon too, but no header's name holds a space.
        Some(name) if !name.contains(' ') => match is_harmless(&name) {
            true => without_secrets(http, line),
            false => format!("{name}: ***"),
        },
        _ => without_secrets(http, &without_query(line)),
    }
}

/// The lines of an answer's head.
pub fn came(http: &Http, head: &Head) -> Vec<String> {
    let version = if head.version == Version::HTTP_10 { "1.0" } else { "1.1" };
    let status = format!("< HTTP/{version} {}", head.status);
    std::iter::once(status.trim_end().to_owned()).chain(headers(http, &head.headers)).collect()
}

fn headers(http: &Http, headers: &HeaderMap) -> impl Iterator<Item = String> {
    headers.iter().map(|(name, value)| {
        let value = match name.as_str() {
            "location" | "content-location" => place(http, value.as_bytes()),
            // What follows its scheme may be the beginning of a key that is agreed on.
            "www-authenticate" | "proxy-authenticate" => scheme(http, value.as_bytes()),
            name if OF_AN_ANSWER.contains(&name) => without_secrets(http, value.as_bytes()),
            _ => "***".to_owned(),
        };
        format!("< {name}: {value}")
    })
}

fn place(http: &Http, value: &[u8]) -> String {
    let query = if value.contains(&b'?') { "?…" } else { "" };
    redirect::without_secrets(http, value) + query
}

fn scheme(http: &Http, value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == b' ');
    let more = if end.is_some() { " ***" } else { "" };
    without_secrets(http, &value[..end.unwrap_or(value.len())]) + more
}

/// `…` in the place of a query, which often holds tokens; what follows the next space stays.
fn without_query(line: &[u8]) -> Vec<u8> {
    let Some(mark) = line.iter().position(|&byte| byte == b'?') else { return line.to_vec() };
    let end = line[mark..].iter().position(|&byte| byte == b' ').map_or(line.len(), |end| mark + end);
    [&line[..=mark], "…".as_bytes(), &line[end..]].concat()
}

fn without_secrets(http: &Http, bytes: &[u8]) -> String {
    shown(&http.without_secrets(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::{Origin, Secret};

    #[test]
    fn a_request_is_shown_without_its_keys_and_its_query() {
        let http = Http::get("https://a.example/".parse().unwrap());
        let head = b"GET /x?token=1 HTTP/1.1\r\nHost: a.example:8443\r\nX-Key: hunter2\r\nAuthorization: Basic eA==\r\n\r\nbody: 1\r\n";
        let expected = ["> GET /x?… HTTP/1.1", "> Host: a.example:8443", "> x-key: ***", "> authorization: ***"];
        assert_eq!(sent(&http, head), expected);
    }

    #[test]
    fn an_answer_is_shown_without_keys_and_without_what_repeats_a_secret() {
        let body = Secret::new("hunter2").from(Origin::File("secrets/body".into()));
        let http = Http { body, ..Http::get("https://a.example/".parse().unwrap()) };
        let mut headers = HeaderMap::new();
        let mut expected = vec!["< HTTP/1.1 302 Found".to_owned()];
        for (name, value, shown) in [
            ("location", "https://me:pw@a.example/y?code=1", "https://a.example/y?…"),
            ("content-location", "/hunter2", "/***"),
            ("set-cookie", "session=1", "***"),
            ("server", "nginx\thunter2", "nginx\\t***"),
            ("www-authenticate", "Negotiate dG9rZW4=", "Negotiate ***"),
            ("proxy-authenticate", "Basic", "Basic"),
            ("x-auth-token", "a-new-one", "***"),
        ] {
            headers.insert(name, value.parse().unwrap());
            expected.push(format!("< {name}: {shown}"));
        }
        let head = Head { status: ureq::http::StatusCode::FOUND, version: Version::HTTP_11, headers };
        assert_eq!(came(&http, &head), expected);
    }
}
