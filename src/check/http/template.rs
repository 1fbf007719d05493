//! What steps took, put into the request of a later one.
//!
//! Each place has a spelling of its own, so that a value stays a value, whatever the answer held: percent-encoded in the path
//! and query (RFC 3986, section 2.1), escaped as within a JSON string (RFC 8259, section 7) in a body whose `content-type` is
//! that of JSON or that begins as JSON, and percent-encoded in one whose `content-type` is that of a form. In a header, and in any
//! other body, it goes as it is; a header with a character that none may hold is not sent. What was put in is not looked at again.

use std::borrow::Cow;

use ureq::http::HeaderValue;

use super::{Auth, Http, websocket};
use crate::secret::{Gap, Origin, Secret};

/// How long a URL may become, in bytes: what most servers take.
const URL_BYTES_MAX: usize = 8_000;
/// How long a header may become, in bytes.
const HEADER_BYTES_MAX: usize = 32 << 10;
/// How long a body may become, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// How a value is written where it goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    AsItIs,
    Percent,
    Json,
}

/// The request with `values` in its gaps.
///
/// # Errors
/// Which part of it cannot be sent, and why. Holds no value.
pub fn filled(http: &Http, values: &[Secret]) -> Result<Http, String> {
    let mut filled = http.clone();
    if let Some(typed) = http.typed.as_ref().filter(|typed| !typed.gaps().is_empty()) {
        let wrong = |why| format!("the URL cannot be asked for: {why}");
        // It is taken for the folder itself or the one above, and so leads elsewhere.
        let dots = |gap: &Gap| values.get(gap.value).is_some_and(|value| matches!(value.expose(), "." | ".."));
        if typed.gaps().iter().any(dots) {
            return Err(wrong("what was taken for it is `.` or `..`".to_owned()));
        }
        let url = text(typed, values, Spelling::Percent, URL_BYTES_MAX).map_err(wrong)?;
        let over_http = http.websocket.then(|| websocket::over_http(url.expose())).flatten();
        filled.url = over_http
            .as_deref()
            .unwrap_or(url.expose())
            .parse()
            .map_err(|_| wrong("it is no URL with what was taken".to_owned()))?;
        filled.typed = Some(url);
    }
    for (name, value) in &mut filled.headers {
        *value = header(value, values).map_err(|why| format!("header `{name}` cannot be sent: {why}"))?;
    }
    if let Some(auth) = &mut filled.auth {
        *auth = credentials(auth, values).map_err(|why| format!("the credentials cannot be sent: {why}"))?;
    }
    let spelling = of_body(http);
    filled.body =
        text(&http.body, values, spelling, BODY_BYTES_MAX).map_err(|why| format!("the body cannot be sent: {why}"))?;
    Ok(filled)
}

fn header(value: &Secret, values: &[Secret]) -> Result<Secret, String> {
    let filled = text(value, values, Spelling::AsItIs, HEADER_BYTES_MAX)?;
    // The one that is as it was typed has been looked at by the config.
    if !value.gaps().is_empty() && HeaderValue::from_str(filled.expose()).is_err() {
        return Err("what was taken for it holds a line break or another character that a header cannot".to_owned());
    }
    Ok(filled)
}

fn credentials(auth: &Auth, values: &[Secret]) -> Result<Auth, String> {
    let (user, password) = match auth {
        Auth::Basic { user, password } => (user, password),
        // Nothing of it can be filled in.
        Auth::OAuth2 { .. } => return Ok(auth.clone()),
        Auth::Bearer(token) => return Ok(Auth::Bearer(header(token, values)?)),
    };
    // They go as base64, so only what RFC 7617 forbids is in the way: the first colon ends the user.
    let part = |part: &Secret, forbidden: fn(char) -> bool| {
        let filled = text(part, values, Spelling::AsItIs, HEADER_BYTES_MAX)?;
        match !part.gaps().is_empty() && filled.expose().contains(forbidden) {
            true => Err("what was taken for them holds a control character, or a colon for the user".to_owned()),
            false => Ok(filled),
        }
    };
    let user = part(user, |c| c == ':' || c.is_control())?;
    Ok(Auth::Basic { user, password: part(password, char::is_control)? })
}

/// How values are written in the body.
fn of_body(http: &Http) -> Spelling {
    let headers = http.headers.iter().filter(|(name, _)| name == "content-type");
    for (_, value) in headers {
        // Types have no case (RFC 9110, section 8.3.1); a suffix tells the syntax (RFC 6839).
        let given = value.expose().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match &*given {
            "application/x-www-form-urlencoded" => return Spelling::Percent,
            json if json == "application/json" || json.ends_with("+json") => return Spelling::Json,
            _ => {}
        }
    }
    let body = http.body.expose();
    let begin = body.len() - body.trim_start().len();
    let is_gap = http.body.gaps().first().is_some_and(|gap| gap.at.start == begin);
    let is_json = body[begin..].starts_with(['{', '[']) && !is_gap;
    if is_json { Spelling::Json } else { Spelling::AsItIs }
}

/// `text` with `values` in its gaps.
fn text(text: &Secret, values: &[Secret], spelling: Spelling, bytes_max: usize) -> Result<Secret, String> {
    let Some(Origin::Steps { parts, gaps, .. }) = text.origin() else { return Ok(text.clone()) };
    let typed = text.expose();
    let (mut filled, mut done) = (String::with_capacity(typed.len()), 0);
    for gap in gaps {
        let value = values.get(gap.value).map(Secret::expose).unwrap_or_default();
        filled += &typed[done..gap.at.start];
        filled += &spelled(value, spelling);
        done = gap.at.end;
    }
    filled += &typed[done..];
    if filled.len() > bytes_max {
        return Err(format!("with what was taken it is longer than {bytes_max} bytes"));
    }
    let origin = Origin::Steps { typed: String::new(), parts: parts.clone(), gaps: Vec::new() };
    Ok(Secret::new(filled).from(origin))
}

fn spelled(value: &str, spelling: Spelling) -> Cow<'_, str> {
    match spelling {
        Spelling::AsItIs => value.into(),
        Spelling::Percent => percent_encoded(value).into(),
        Spelling::Json => {
            let quoted = serde_json::Value::from(value).to_string();
            quoted[1..quoted.len() - 1].to_owned().into()
        }
    }
}

/// Every byte but the unreserved ones as `%` and its number.
pub fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
