//! What a step takes out of its answer, for the steps after it. A value that was taken is a secret: it is shown nowhere.

use std::cell::OnceCell;

use serde_json::Value;

use super::answer::{Answer, Head};
use super::template::percent_encoded;
use crate::check::Pattern;
use crate::check::assertions::Assertions;
use crate::secret::Secret;

/// How long a value may be, in bytes: the largest that servers take in a header.
const VALUE_BYTES_MAX: usize = 8 << 10;

/// How many values all steps of a check take together.
pub const TAKES_MAX: usize = 20;

/// So many parts of a value are looked for where a peer may repeat it in another spelling, the longest ones: each costs time
/// for every byte that is shown.
const PARTS_MAX: usize = 16;

/// A value to take.
#[derive(Clone, Debug)]
pub struct Take {
    /// What later steps call it.
    pub name: String,
    /// Where it is.
    pub from: Source,
}

/// Where in an answer a value is.
#[derive(Clone, Debug)]
pub enum Source {
    /// In a JSON body, at an RFC 6901 pointer: a text, a whole number, `true` or `false`.
    Json(String),
    /// In the body: what the first group matches, or all of it where there is none.
    Body(Pattern),
    /// In a header: all of it, or what is matched in the first one of this name that matches.
    Header(String, Option<Pattern>),
}

impl Source {
    /// Whether it is in the body.
    pub fn is_in_body(&self) -> bool {
        !matches!(self, Source::Header(..))
    }
}

/// What came of taking.
#[derive(Debug)]
pub struct Taken<'t> {
    take: &'t Take,
    /// The value, or why there is none.
    pub value: Result<Secret, String>,
    /// The value as a peer may repeat it.
    pub spellings: Vec<Secret>,
}

impl Taken<'_> {
    /// Lists that there was something to take.
    pub fn hold(&self, to: &mut Assertions<'_>) {
        let expected = match &self.take.from {
            Source::Json(pointer) => format!("a value at `{pointer}`"),
            Source::Body(regex) => format!("`{regex}` in the body"),
            Source::Header(name, None) => format!("a value in header `{name}`"),
            Source::Header(name, Some(regex)) => format!("`{regex}` in header `{name}`"),
        };
        let (what, why) = (format!("take.{}", self.take.name), self.value.as_ref().err());
        let got = if why.is_some() { "nothing" } else { "taken" };
        let reason = || format!("nothing to take as `{}`: {}", self.take.name, why.cloned().unwrap_or_default());
        to.must(why.is_none(), &what, expected, got, reason);
    }
}

/// Takes all of `takes`, as far as the answer came, which was the last after `hops` redirects.
pub fn all<'t>(takes: &'t [Take], answer: &Answer, hops: u32) -> Vec<Taken<'t>> {
    let body = OnceCell::new();
    let taken = takes.iter().map(|take| {
        let value = value(&take.from, answer, &body).and_then(bounded);
        let value = value.map_err(|why| why + &of_which(&take.from, hops));
        let spellings = value.as_ref().map(|value| spellings(value.expose())).unwrap_or_default();
        Taken { take, value, spellings }
    });
    taken.collect()
}

/// A value that is missed may have been in an answer before, which led on: that of a login, for one.
fn of_which(from: &Source, hops: u32) -> String {
    match (from, hops) {
        (Source::Header(..), 1) => " after 1 redirect (`redirects: 0` looks at the first answer)".to_owned(),
        (Source::Header(..), 2..) => format!(" after {hops} redirects (`redirects: 0` looks at the first answer)"),
        _ => String::new(),
    }
}

fn value(from: &Source, answer: &Answer, body: &OnceCell<Option<Value>>) -> Result<Vec<u8>, String> {
    match from {
        Source::Json(pointer) => {
            let body = body.get_or_init(|| serde_json::from_slice(&answer.body).ok());
            let body = body.as_ref().ok_or_else(|| format!("body is not JSON{}", cut(answer)))?;
            json_value(pointer, body)
        }
        Source::Body(regex) => {
            let body = &answer.body;
            let (found, end) =
                matched(regex, body).ok_or_else(|| format!("body does not match `{regex}`{}", cut(answer)))?;
            // It could have matched more, had more of it come.
            if answer.cut && end == body.len() {
                return Err(format!("what matches `{regex}` reaches the end of the body{}", cut(answer)));
            }
            if found.is_empty() { Err(empty(regex)) } else { Ok(found.to_vec()) }
        }
        Source::Header(name, regex) => header(name, regex.as_ref(), answer.head.as_ref()),
    }
}

fn cut(answer: &Answer) -> &'static str {
    if answer.cut { ", cut at `body_max`" } else { "" }
}

fn empty(regex: &Pattern) -> String {
    format!("`{regex}` matches, but what is to be taken of it is empty")
}

fn json_value(pointer: &str, body: &Value) -> Result<Vec<u8>, String> {
    let what = match body.pointer(pointer) {
        Some(Value::String(text)) => return Ok(text.clone().into_bytes()),
        Some(Value::Bool(word)) => return Ok(word.to_string().into_bytes()),
        Some(Value::Number(number)) if !number.is_f64() => return Ok(number.to_string().into_bytes()),
        // The digits that came are lost: 1e5 would be sent as 100000.0.
        Some(Value::Number(_)) => "a number that is not whole, or too large",
        Some(Value::Null) => "null",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "an object",
        None => return Err(format!("`{pointer}` is absent")),
    };
    Err(format!("`{pointer}` is {what}"))
}

fn header(name: &str, regex: Option<&Pattern>, head: Option<&Head>) -> Result<Vec<u8>, String> {
    let absent = || format!("header `{name}` is absent");
    let head = head.ok_or_else(absent)?;
    let all = head.header(name).ok_or_else(absent)?;
    let Some(regex) = regex else { return Ok(all) };
    let mut each = head.headers.get_all(name).iter();
    let (found, _) = each
        .find_map(|value| matched(regex, value.as_bytes()))
        .ok_or_else(|| format!("header `{name}` does not match `{regex}`"))?;
    if found.is_empty() { Err(empty(regex)) } else { Ok(found.to_vec()) }
}

/// What the first group matches, or all of it where there is no group; and where the match ends. A group that takes no part
/// matches nothing.
fn matched<'b>(regex: &Pattern, bytes: &'b [u8]) -> Option<(&'b [u8], usize)> {
    let groups = regex.regex().captures(bytes)?;
    let found = groups.get(usize::from(regex.regex().captures_len() > 1)).map_or(&[][..], |found| found.as_bytes());
    Some((found, groups.get(0)?.end()))
}

fn bounded(value: Vec<u8>) -> Result<Secret, String> {
    if value.is_empty() {
        return Err("it is empty".to_owned());
    }
    if value.len() > VALUE_BYTES_MAX {
        return Err(format!("it is longer than {} KiB", VALUE_BYTES_MAX / 1024));
    }
    String::from_utf8(value).map(Secret::new).map_err(|_| "it is not UTF-8".to_owned())
}

/// A value as it is, percent-encoded, and what stands between the characters that JSON and HTML may write in several ways.
pub fn spellings(value: &str) -> Vec<Secret> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~');
    if value.chars().all(is_plain) {
        return vec![Secret::new(value)];
    }
    let mut parts: Vec<&str> = value.split(|c| !is_plain(c)).filter(|part| !part.is_empty()).collect();
    parts.sort_by(|one, other| other.len().cmp(&one.len()).then(one.cmp(other)));
    parts.dedup();
    let whole = [Secret::new(value), Secret::new(percent_encoded(value))];
    whole.into_iter().chain(parts.into_iter().take(PARTS_MAX).map(Secret::new)).collect()
}
