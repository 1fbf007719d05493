//! The opening handshake of WebSocket (RFC 6455, section 4): a GET that asks to go on in another protocol, and the proof that who
//! answers speaks it. Nothing is said in that protocol but goodbye.
//!
//! A cache, a load balancer or a plain web server may answer 101 or 200 to anything; only a server of WebSocket knows what to make
//! of the key. No extension is offered, so none may be used. Who offers subprotocols, in the header `Sec-WebSocket-Protocol`, needs
//! one of them: browsers, too, give up without.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ureq::http::header::{CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL};
use ureq::http::header::{SEC_WEBSOCKET_VERSION, UPGRADE};
use ureq::http::{Request, StatusCode};

use super::Http;
use super::answer::Head;
use crate::net::shown;

/// Headers that the handshake itself has, by their names; no config sets them.
pub const OWN_HEADERS: [&str; 6] = [
    "connection",
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-accept",
    "sec-websocket-extensions",
];

/// What a server adds to the key before it hashes it (RFC 6455, section 1.3).
const ADDED: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The URL that a handshake asks for in HTTP: `http` for `ws`, `https` for `wss`. `None` for any other URL.
pub fn over_http(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    match scheme.to_ascii_lowercase().as_str() {
        "ws" => Some(format!("http://{rest}")),
        "wss" => Some(format!("https://{rest}")),
        _ => None,
    }
}

/// A handshake that was begun.
pub struct Handshake {
    /// A new one for each.
    key: String,
    /// The subprotocols that went along, as the user wrote them.
    offered: Option<HeaderValue>,
}

impl Handshake {
    /// Makes a handshake of a request.
    ///
    /// # Errors
    /// That the system has no random bytes.
    pub fn begun(request: &mut Request<()>) -> Result<Self, String> {
        let key = BASE64.encode(random::<16>()?);
        let value = HeaderValue::from_str(&key).map_err(|_| "the key cannot be sent".to_owned())?;
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(SEC_WEBSOCKET_KEY, value);
        Ok(Handshake { key, offered: headers.get(SEC_WEBSOCKET_PROTOCOL).cloned() })
    }

    /// Whether an answer of status 101 accepts it, else what is wrong with it. `None` for another status, which says enough.
    pub fn accepted(&self, http: &Http, head: &Head) -> Option<Result<(), String>> {
        (head.status == StatusCode::SWITCHING_PROTOCOLS).then(|| self.proven(http, head))
    }

    fn proven(&self, http: &Http, head: &Head) -> Result<(), String> {
        let told = |value: &[u8]| shown(&http.without_secrets(value));
        let must = |held: fn(&[u8], &[u8]) -> bool, name: HeaderName, expected: &str| {
            let value = head.header(name.as_str());
            match value {
                Some(value) if held(&value, expected.as_bytes()) => Ok(()),
                Some(value) => Err(format!("header `{name}` is `{}`, expected `{expected}`", told(&value))),
                None => Err(format!("header `{name}` is absent, expected `{expected}`")),
            }
        };
        must(<[u8]>::eq_ignore_ascii_case, UPGRADE, "websocket")?;
        must(lists, CONNECTION, "upgrade")?;
        must(<[u8]>::eq, HeaderName::from_static("sec-websocket-accept"), &answer_to(&self.key))?;
        if let Some(extensions) = head.header("sec-websocket-extensions").filter(|value| !value.is_empty()) {
            return Err(format!("the server uses the extension `{}`, and none was offered", told(&extensions)));
        }
        let offered = self.offered.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
        match head.header(SEC_WEBSOCKET_PROTOCOL.as_str()) {
            None if offered.is_empty() => Ok(()),
            None => Err("the server takes none of the subprotocols offered".to_owned()),
            Some(taken) if words(offered).any(|word| word == taken) => Ok(()),
            Some(taken) => Err(format!("the server takes the subprotocol `{}`, which was not offered", told(&taken))),
        }
    }
}

/// What proves that a key was understood.
fn answer_to(key: &str) -> String {
    BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{ADDED}").as_bytes()))
}

/// The items of a header that is a list.
fn words(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

fn lists(list: &[u8], wanted: &[u8]) -> bool {
    words(list).any(|word| word.eq_ignore_ascii_case(wanted))
}

/// The frame that says goodbye: closed normally (RFC 6455, section 5.5.1). What a client sends is masked, with what nobody can
/// foresee (section 5.3).
///
/// # Errors
/// That the system has no random bytes.
pub fn goodbye() -> Result<[u8; 8], String> {
    const NORMAL: u16 = 1000;
    let mask = random::<4>()?;
    let [high, low] = NORMAL.to_be_bytes();
    Ok([0x88, 0x82, mask[0], mask[1], mask[2], mask[3], high ^ mask[0], low ^ mask[1]])
}

fn random<const BYTES: usize>() -> Result<[u8; BYTES], String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| format!("the system has no random bytes: {error}"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_answered_as_in_rfc_6455_section_1_3() {
        assert_eq!(answer_to("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn urls_of_websockets_are_asked_for_in_http() {
        for (url, asked) in [
            ("ws://a.example/x", Some("http://a.example/x")),
            ("WSS://a.example", Some("https://a.example")),
            ("https://a.example/ws://x", None),
            ("wsx://a.example", None),
            ("ws:/a.example", None),
        ] {
            assert_eq!(over_http(url).as_deref(), asked, "{url}");
        }
    }
}
