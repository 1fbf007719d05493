//! The heads of request and answer, for whoever watches: without what is secret in them.

use ureq::http::{HeaderMap, Version};

use super::Http;
use super::answer::Head;
use crate::net::{blanked, shown};

/// Headers whose value tells nobody's secret: they are about the message, the connection or the program that speaks.
/// `Sec-WebSocket-Protocol` is none of them: Kubernetes, for one, takes a token in it. Of any other header that is sent, the
/// name alone is shown; of one that comes, what does not repeat a secret.
const SHOWN: [&str; 16] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "origin",
    "range",
    "sec-websocket-key",
    "sec-websocket-version",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
/// Headers of an answer that hold keys, or lead to where one is.
const HIDDEN: [&str; 5] =
    ["set-cookie", "authorization", "proxy-authenticate", "authentication-info", "proxy-authentication-info"];

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
        Some(name) if !name.contains(' ') => match SHOWN.contains(&&*name) {
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
            name if HIDDEN.contains(&name) => "***".to_owned(),
            "location" | "content-location" => without_secrets(http, &without_query(value.as_bytes())),
            _ => without_secrets(http, value.as_bytes()),
        };
        format!("< {name}: {value}")
    })
}

/// `…` in the place of a query, which often holds tokens; what follows the next space stays.
fn without_query(line: &[u8]) -> Vec<u8> {
    let Some(mark) = line.iter().position(|&byte| byte == b'?') else { return line.to_vec() };
    let end = line[mark..].iter().position(|&byte| byte == b' ').map_or(line.len(), |end| mark + end);
    [&line[..=mark], "…".as_bytes(), &line[end..]].concat()
}

fn without_secrets(http: &Http, bytes: &[u8]) -> String {
    shown(&blanked(bytes, &http.kept_elsewhere()))
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
    fn an_answer_is_shown_without_what_repeats_a_secret() {
        let body = Secret::new("hunter2").from(Origin::File("secrets/body".into()));
        let http = Http { body, ..Http::get("https://a.example/".parse().unwrap()) };
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("location", "/y?code=1"), ("set-cookie", "session=1"), ("x-echo", "got hunter2"), ("server", "nginx\tx")]
        {
            headers.insert(name, value.parse().unwrap());
        }
        let head = Head { status: ureq::http::StatusCode::FOUND, version: Version::HTTP_11, headers };
        let expected = [
            "< HTTP/1.1 302 Found",
            "< location: /y?…",
            "< set-cookie: ***",
            "< x-echo: got ***",
            "< server: nginx\\tx",
        ];
        assert_eq!(came(&http, &head), expected);
    }
}
