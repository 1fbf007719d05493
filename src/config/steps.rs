//! The settings of checks with `steps`, read and written.

use std::time::Duration;

use super::checks::{label, under};
use super::error::Complaint;
use super::expand::is_name;
use super::explain::{http_keys, pattern};
use super::kinds::{HTTP, certificate_days};
use super::references::Names;
use super::shared::regex;
use super::walk::{At, Read, quoted};
use super::web_checks::{self, header_name, is_pointer};
use super::write::{Doc, Map};
use crate::check::http::steps::STEPS_MAX;
use crate::check::http::{Source, Step, Steps, TAKES_MAX, Take};
use crate::net::IpFamily;

/// The settings of a check with `steps`, and its target: where the first step goes.
pub(super) fn steps(at: &At<'_>, timeout: Duration) -> Read<(Steps, String)> {
    let list = at.need("steps", "[{http: https://shop.example.com/login}]")?;
    let (mut names, mut steps, mut target) = (Names::default(), Vec::new(), String::new());
    for at in list.list("a list of requests: `[{http: …}, {http: …}]`", STEPS_MAX)? {
        let (step, place) = step(&at.after(&names), timeout)?;
        let whole = names.len() + step.take.len();
        if whole > TAKES_MAX {
            return Err(at.fail_key("take", format!("all steps take {whole} values, and may take {TAKES_MAX} at most")));
        }
        step.take.iter().for_each(|take| names.add(&take.name));
        if steps.is_empty() {
            target = place;
        }
        steps.push(step);
    }
    if steps.is_empty() {
        return Err(list.fail("an empty list asks for nothing"));
    }
    let limits = at.read("expect", |at| {
        // What else there is to expect is of one answer, and stands with its step.
        if let Some(key) = ["status", "headers", "body", "body_max"].into_iter().find(|key| at.get(key).is_some()) {
            let complaint =
                Complaint::new(format!("`{key}` is expected of one answer, and this is for all steps together"));
            return Err(at.fail_key(key, complaint.hint("put it into the `expect` of a step")));
        }
        at.mapping(&["under", "certificate_days"])?;
        Ok((under(at, timeout)?, certificate_days(at)?))
    })?;
    let (under, certificate_days) = limits.unwrap_or_default();
    Ok((Steps { steps, under, certificate_days }, target))
}

fn step(at: &At<'_>, timeout: Duration) -> Read<(Step, String)> {
    at.mapping(&[&["name", "take"], HTTP].concat())?;
    let name = at.read("name", |at| at.text("text", label))?;
    let (mut http, target) = web_checks::http(at, timeout)?;
    if http.ip == IpFamily::Each {
        let complaint = Complaint::new("a step goes to one address, and not to each");
        return Err(at.fail_key("ip", complaint.hint("one of any, v4, v6")));
    }
    let take = at.read("take", takes)?.unwrap_or_default();
    http.keep_body = take.iter().any(|take| take.from.is_in_body());
    if http.keep_body && http.websocket {
        return Err(at.fail_key("take", "a WebSocket is accepted without a body to take something out of"));
    }
    Ok((Step { name, http, take }, target))
}

fn takes(at: &At<'_>) -> Read<Vec<Take>> {
    let entries = at.entries("a mapping from names to where the value is, such as `{token: {json: /token}}`")?;
    let takes = entries.map(|(name, from)| {
        if !is_name(name) {
            let complaint = Complaint::new(format!("{} cannot be named in braces", quoted(name)));
            return Err(
                at.fail_key(name, complaint.hint("a name is letters, digits and `_`, and begins with no digit"))
            );
        }
        if at.has_variable(name) {
            return Err(at.fail_key(name, format!("`{name}` is a variable of this entry's `for` already")));
        }
        Ok(Take { name: name.to_owned(), from: source(&from)? })
    });
    takes.collect()
}

fn source(at: &At<'_>) -> Read<Source> {
    at.mapping(&["json", "regex", "header"])?;
    let json = at.read("json", |at| {
        let pointer = at.expanded("text")?.text.into_owned();
        is_pointer(&pointer).map_err(|complaint| at.fail(complaint))?;
        Ok(pointer)
    })?;
    let header = at.read("header", |at| {
        let name = at.expanded("text")?.text.into_owned();
        header_name(at, &name).map_err(|_| at.refuse("is not the name of a header"))
    })?;
    match (json, header, at.read("regex", regex)?) {
        (Some(pointer), None, None) => Ok(Source::Json(pointer)),
        (None, None, Some(regex)) => Ok(Source::Body(regex)),
        (None, Some(name), regex) => Ok(Source::Header(name.as_str().to_owned(), regex)),
        (None, None, None) => {
            let complaint = Complaint::new("says not where the value is");
            Err(at.fail(complaint.hint("one of `{json: /pointer}`, `{regex: …}`, `{header: name}`")))
        }
        _ => {
            let complaint = Complaint::new("a value is taken from one place");
            Err(at.fail(complaint.hint("`json` or `regex` of the body, or a `header`, which may have a `regex`")))
        }
    }
}

/// Writes a check with `steps`.
pub(super) fn steps_keys(map: &mut Map, steps: &Steps, target: &str) {
    map.list("steps", steps.steps.iter().enumerate().map(|(at, step)| Doc::Map(step_map(step, at, target))).collect());
    let mut expect = Map::default();
    expect.duration("under", steps.under);
    steps.certificate_days.iter().for_each(|days| expect.plain("certificate_days", days));
    map.map("expect", expect);
}

fn step_map(step: &Step, at: usize, target: &str) -> Map {
    let mut map = Map::default();
    step.name.iter().for_each(|name| map.text("name", name));
    // All of a URL that holds no secret was typed as it is.
    let url = step.http.url.to_string();
    http_keys(&mut map, &step.http, if at == 0 { target } else { &url });
    if !step.take.is_empty() {
        let takes = step.take.iter().map(|take| (take.name.clone(), Doc::Map(source_map(&take.from))));
        map.map("take", Map(takes.collect()));
    }
    map
}

fn source_map(from: &Source) -> Map {
    let mut map = Map::default();
    match from {
        Source::Json(pointer) => map.text("json", pointer),
        Source::Body(regex) => map.0.push(("regex".to_owned(), pattern(regex))),
        Source::Header(name, regex) => {
            map.text("header", name);
            regex.iter().for_each(|regex| map.0.push(("regex".to_owned(), pattern(regex))));
        }
    }
    map
}
