//! The settings of `http` checks.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderName, HeaderValue, Method};

use super::auth::auth;
use super::checks::under;
use super::error::Complaint;
use super::kinds::{certificate_days, ip, tls_settings};
use super::quantities::{size, statuses};
use super::shared::{regex, whole_file};
use super::targets::{address, has_user_info, path_begin, proxy, url, url_shown};
use super::walk::{At, Read, key_alone, quoted};
use super::yaml::Node;
use crate::check::http::{Allow, Expect, Http, REDIRECTS, Text, websocket};
use crate::net::Proxy;
use crate::secret::Secret;

/// Redirects that a check may follow.
const REDIRECTS_MAX: u64 = 20;
/// How long a request's body may be, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How much of an answer's body may be read, in bytes.
const BODY_READ_BYTES_MAX: u64 = 64 << 20;
/// The status that accepts a WebSocket.
const SWITCHING: (u16, u16) = (101, 101);
/// Status ranges of one check.
const STATUSES_MAX: usize = 100;

/// The settings of an `http` check and its target.
pub(super) fn http(at: &At<'_>, timeout: Duration) -> Read<(Http, String)> {
    let place = at.need("http", "https://shop.example.com/health")?.referring();
    let expanded = place.expanded("a URL")?;
    if let Some(gap) = expanded.gaps.first().filter(|gap| gap.at.start < path_begin(&expanded.text)) {
        let reference = &expanded.text[gap.at.clone()];
        let complaint = Complaint::new(format!("`{reference}` stands before the URL's path"));
        return Err(
            place.fail(complaint.hint("an answer must not say where the next request goes: path and query only"))
        );
    }
    if has_user_info(&expanded.text) {
        let complaint = Complaint::new("the URL names a user, and so would every log");
        return Err(place.fail(complaint.hint("use `auth: {basic: {user: …, password_file: …}}`")));
    }
    let over_http = websocket::over_http(&expanded.text);
    let uri =
        url(over_http.as_deref().unwrap_or(&expanded.text)).map_err(|complaint| match expanded.text.contains('@') {
            // Most likely a password with a `/` in it.
            true => place.fail(Complaint::new(format!("the URL {}", complaint.what))),
            // The hint would show what was filled in.
            false if expanded.from_environment => place.refuse(complaint.what),
            false => place.refuse(complaint),
        })?;
    let method = at.read("method", |at| at.text("a method", method))?.unwrap_or(Method::GET);
    let connect_to = at.read("connect_to", |at| at.text("an address", |text| address(text, Some(0))))?;
    let redirects = at.read("redirects", |at| at.number(0..=REDIRECTS_MAX))?.unwrap_or(REDIRECTS.into());
    let target = url_shown(&expanded);
    // The URL alone does not tell that it was one of a WebSocket.
    let apart =
        over_http.is_some() || target != expanded.text || expanded.typed != expanded.text || !expanded.gaps.is_empty();
    let mut http = Http {
        url: uri,
        websocket: over_http.is_some(),
        typed: apart.then(|| expanded.secret()),
        method,
        headers: at.read("headers", headers)?.unwrap_or_default(),
        body: body(at)?,
        auth: at.read("auth", auth)?,
        redirects: u32::try_from(redirects).unwrap_or(u32::MAX),
        redirects_allow: at.read("redirects_allow", redirects_allow)?.unwrap_or_default(),
        proxy: at.read("proxy", through)?.unwrap_or_default(),
        connect_to,
        ip: ip(at)?,
        tls: tls_settings(at)?,
        expect: at.read("expect", |at| expect(at, timeout))?.unwrap_or_else(|| at.reading.shared.expect.clone()),
        keep_body: false,
        known: Vec::new(),
    };
    if http.websocket {
        handshake(at, &mut http)?;
    }
    Ok((http, target))
}

/// What a WebSocket is asked for with, and how it is accepted: by a GET without a body, and with status 101 (RFC 6455, section 4).
fn handshake(at: &At<'_>, http: &mut Http) -> Read<()> {
    let instead = "ask for the `http` or `https` URL instead";
    if http.method != Method::GET {
        return Err(at.fail_key("method", Complaint::new("a WebSocket is asked for by GET").hint(instead)));
    }
    if !http.body.expose().is_empty() {
        let key = if at.get("body").is_some() { "body" } else { "body_file" };
        return Err(at.fail_key(key, Complaint::new("a WebSocket is asked for without a body").hint(instead)));
    }
    let is_own = |name: &str| websocket::OWN_HEADERS.iter().any(|own| own.eq_ignore_ascii_case(name));
    if let Some(at) = at.get("headers")
        && let Some((name, _)) = at.entries("a mapping")?.find(|(name, _)| is_own(name))
    {
        return Err(at.fail_key(name, format!("the header `{name}` belongs to the handshake and cannot be set")));
    }
    if let Some(at) = at.get("expect") {
        if at.get("body").is_some() {
            return Err(at.fail_key("body", Complaint::new("a WebSocket is accepted without a body").hint(instead)));
        }
        if at.get("status").is_some() && http.expect.status != [SWITCHING] {
            return Err(at.fail_key("status", Complaint::new("a WebSocket is accepted with status 101").hint(instead)));
        }
    }
    Arc::make_mut(&mut http.expect).status = vec![SWITCHING];
    Ok(())
}

fn method(text: &str) -> Result<Method, Complaint> {
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
    let complaint = || Complaint::new("is not a method").nearest(text, known);
    match Method::from_bytes(text.as_bytes()) {
        // Methods are case-sensitive, and lower-case ones are always a slip.
        Ok(method) if !text.bytes().any(|byte| byte.is_ascii_lowercase()) && method != Method::CONNECT => Ok(method),
        _ => Err(complaint()),
    }
}

/// What is sent; a file goes out byte for byte, with the newline at its end.
fn body(at: &At<'_>) -> Read<Secret> {
    let typed = at.read("body", |at| at.referring().secret())?;
    let file = at.read("body_file", |at| {
        let path = at.path_value()?;
        whole_file(path, BODY_BYTES_MAX as u64).map_err(|complaint| at.fail(complaint))
    })?;
    match (typed, file) {
        (Some(_), Some(_)) => Err(at.fail_key("body_file", "`body` and `body_file` are both given")),
        (Some(body), None) if body.expose().len() > BODY_BYTES_MAX => {
            Err(at.fail_key("body", format!("the body is longer than {BODY_BYTES_MAX} bytes")))
        }
        (Some(body), None) if body.expose().is_empty() => Ok(Secret::default()),
        (typed, file) => Ok(typed.or(file).unwrap_or_default()),
    }
}

fn redirects_allow(at: &At<'_>) -> Read<Allow> {
    let mut allow = Allow::default();
    for at in at.list("a list, such as [downgrade]", 2)? {
        match at.choice(&[("downgrade", true), ("link_local", false)])? {
            true => allow.downgrade = true,
            false => allow.link_local = true,
        }
    }
    Ok(allow)
}

fn through(at: &At<'_>) -> Read<Proxy> {
    // No message shows the URL of a proxy, since it may hold a password.
    let expanded = at.quietly().expanded("a proxy")?;
    let mut proxy = proxy(&expanded.text).map_err(|complaint| at.fail(complaint))?;
    if let (Proxy::Through { credentials: Some((_, password)), .. }, Some(origin)) = (&mut proxy, expanded.origin()) {
        *password = password.clone().from(origin);
    }
    Ok(proxy)
}

fn headers(at: &At<'_>) -> Read<Vec<(HeaderName, Secret)>> {
    let at = &at.quietly().referring();
    let mut headers: Vec<(HeaderName, Secret)> = Vec::new();
    for (name, value) in at.entries("a mapping from headers to values")? {
        let header = header_name(at, name)?;
        if headers.iter().any(|(known, _)| *known == header) {
            return Err(at.fail_key(name, format!("the header `{name}` is given twice")));
        }
        if ["content-length", "transfer-encoding"].contains(&header.as_str()) {
            return Err(at.fail_key(name, format!("the header `{name}` follows from `body` and cannot be set")));
        }
        let text = value.secret()?;
        if HeaderValue::from_str(text.expose()).is_err() {
            let complaint = Complaint::new("the value holds a character that a header cannot");
            return Err(value.fail(complaint.hint("printable ASCII, without line breaks")));
        }
        headers.push((header, text));
    }
    Ok(headers)
}

pub(super) fn header_name(at: &At<'_>, name: &str) -> Read<HeaderName> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| at.fail_key(name, format!("{} is not the name of a header", quoted(&key_alone(name)))))
}

fn expect(at: &At<'_>, timeout: Duration) -> Read<Arc<Expect>> {
    at.mapping(&["status", "headers", "body", "body_max", "under", "certificate_days"])?;
    let mut expect = Expect::default();
    if let Some(at) = at.get("status") {
        expect.status =
            at.list("a list, such as [200-299, 401]", STATUSES_MAX)?.map(|at| status(&at)).collect::<Read<_>>()?;
        if expect.status.is_empty() {
            return Err(at.fail("an empty list lets no answer pass"));
        }
    }
    if let Some(at) = at.get("headers") {
        for (name, value) in at.entries("a mapping from headers to what they must be")? {
            let header = header_name(&at, name)?.as_str().to_owned();
            if expect.headers.iter().any(|(known, _)| *known == header) {
                return Err(at.fail_key(name, format!("the header `{name}` is given twice")));
            }
            expect.headers.push((header, text(&value, &[])?));
        }
    }
    if let Some(at) = at.get("body") {
        expect.body = text(&at, &["json"])?;
        expect.json = at.read("json", json)?.unwrap_or_default();
    }
    let body_max = at.read("body_max", |at| at.text("a size", |text| size(text, 1..=BODY_READ_BYTES_MAX)))?;
    expect.body_max = body_max.map_or(expect.body_max, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    expect.under = under(at, timeout)?;
    expect.certificate_days = certificate_days(at)?;
    Ok(Arc::new(expect))
}

fn status(at: &At<'_>) -> Read<(u16, u16)> {
    match at.node {
        Node::Text(_) => at.text("a status", statuses),
        _ => at.number(100..=999).map(|code| u16::try_from(code).unwrap_or(u16::MAX)).map(|code| (code, code)),
    }
}

/// What a text must be; `beside` are other keys that the mapping may have.
pub(super) fn text(at: &At<'_>, beside: &[&str]) -> Read<Text> {
    let known: Vec<&str> = ["contains", "equals", "not_contains", "matches"].iter().chain(beside).copied().collect();
    at.mapping(&known)?;
    let word = |key: &str| {
        at.read(key, |at| {
            let expanded = at.expanded("text")?;
            match (&*expanded.text, key) {
                ("", "contains" | "not_contains") => Err(at.refuse("is empty, and in every text")),
                _ => Ok(expanded.secret()),
            }
        })
    };
    let text = Text {
        equals: word("equals")?,
        contains: word("contains")?,
        not_contains: word("not_contains")?,
        matches: at.read("matches", regex)?,
    };
    if known.iter().all(|key| at.get(key).is_none()) {
        return Err(at.fail(Complaint::new("says nothing").hint(format!("known: {}", known.join(", ")))));
    }
    Ok(text)
}

fn json(at: &At<'_>) -> Read<Vec<(String, Value)>> {
    at.entries("a mapping from JSON pointers to values, such as {/status: up}")?
        .map(|(pointer, value)| {
            is_pointer(pointer).map_err(|complaint| at.fail_key(pointer, complaint))?;
            Ok((pointer.to_owned(), json_value(&value)?))
        })
        .collect()
}

/// Whether this is an RFC 6901 pointer.
pub(super) fn is_pointer(pointer: &str) -> Result<(), Complaint> {
    let escapes = pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if (pointer.is_empty() || pointer.starts_with('/')) && escapes {
        return Ok(());
    }
    let complaint = Complaint::new(format!("{} is not a JSON pointer (RFC 6901)", quoted(pointer)));
    Err(complaint.hint(format!("did you mean `/{}`?", pointer.replace('.', "/"))))
}

fn json_value(at: &At<'_>) -> Read<Value> {
    Ok(match at.node {
        Node::Null => Value::Null,
        Node::Bool(value) => Value::Bool(*value),
        Node::Unsigned(value) => Value::from(*value),
        Node::Negative(value) => Value::from(*value),
        Node::Float(value) => serde_json::Number::from_f64(*value)
            .map(Value::Number)
            .ok_or_else(|| at.refuse("is a number that JSON does not have"))?,
        Node::Text(_) => Value::String(at.expanded("text")?.text.into_owned()),
        Node::List(_) => Value::Array(at.list("a list", usize::MAX)?.map(|at| json_value(&at)).collect::<Read<_>>()?),
        Node::Map(_) => {
            let entries = at.entries("a mapping")?.map(|(key, at)| Ok((key.to_owned(), json_value(&at)?)));
            Value::Object(entries.collect::<Read<_>>()?)
        }
    })
}
