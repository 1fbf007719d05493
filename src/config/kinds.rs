//! Which kind a check is, and the settings of all kinds but `http` and `dns`.

use std::path::PathBuf;
use std::time::Duration;

use super::checks::under;
use super::error::Complaint;
use super::quantities::percent;
use super::shared::{self, regex};
use super::targets::{host, host_port, host_port_text};
use super::walk::{At, Read, key_alone, quoted};
use crate::check::exec::Exec;
use crate::check::icmp::Icmp;
use crate::check::tcp::{Step, Tcp};
use crate::check::tls::Tls;
use crate::net::{Host, IpFamily, TlsSettings};
use crate::secret::Secret;

/// Steps of one dialogue.
const STEPS_MAX: usize = 100;
/// Arguments of one plugin.
const ARGUMENTS_MAX: usize = 1_000;

/// Keys that every check may have.
const COMMON: &[&str] = &["label", "for", "interval", "timeout", "confirm"];

/// Each kind with its own keys, the first of which makes a check of that kind. `tls` comes last: for other kinds it is a setting.
const KINDS: &[&[&str]] = &[
    &["http", "method", "headers", "body", "auth", "redirects", "proxy", "connect_to", "ip", "tls", "expect"],
    &["tcp", "dialogue", "ip", "expect"],
    &["icmp", "count", "ip", "expect"],
    &["dns", "ip", "tls", "expect"],
    &["exec", "env"],
    &["tls", "ip", "expect"],
];

/// The kind of the check here, and the keys that belong to it. All of its keys are known and belong to it.
pub(super) fn kind(at: &At<'_>) -> Read<(&'static str, &'static [&'static str])> {
    let mut all = COMMON.to_vec();
    all.extend(KINDS.iter().copied().flatten());
    all.dedup();
    at.mapping(&all)?;
    let Some(keys) = KINDS.iter().find(|keys| at.get(keys[0]).is_some()) else {
        let complaint = Complaint::new("a check needs one of http, tcp, tls, icmp, dns, exec");
        return Err(at.fail(complaint.hint("for example `http: https://shop.example.com/health`")));
    };
    for (key, _) in at.entries("a check")? {
        if COMMON.contains(&key) || keys.contains(&key) {
            continue;
        }
        let kind = keys[0];
        let complaint = match KINDS.iter().find(|keys| keys.contains(&key)) {
            Some(others) if others[0] == key => {
                Complaint::new(format!("a check is of one kind, and this one is `{kind}` already"))
            }
            _ => Complaint::new(format!("`{key}` is not for `{kind}` checks")),
        };
        let known: Vec<&str> = COMMON.iter().chain(&keys[1..]).copied().collect();
        return Err(at.fail_key(key, complaint.hint(format!("known here: {}", known.join(", ")))));
    }
    Ok((keys[0], keys))
}

/// Which addresses to take.
pub(super) fn ip(at: &At<'_>) -> Read<IpFamily> {
    let choices = [("any", IpFamily::Any), ("v4", IpFamily::V4), ("v6", IpFamily::V6), ("each", IpFamily::Each)];
    let ip = at.read("ip", |at| {
        let ip = at.choice(&choices)?;
        if ip == IpFamily::Each {
            at.uses("ip: each");
        }
        Ok(ip)
    })?;
    Ok(ip.unwrap_or_default())
}

/// The limit of `expect: {certificate_days: …}`.
pub(super) fn certificate_days(expect: &At<'_>) -> Read<Option<u32>> {
    let days = expect.read("certificate_days", |at| at.number(1..=3_650))?;
    Ok(days.map(|days| u32::try_from(days).unwrap_or(u32::MAX)))
}

fn host_and_port(at: &At<'_>, key: &str) -> Read<(Host, u16, String)> {
    let (host, port) = at.need(key, "\"host:port\"")?.text("a host and a port", host_port)?;
    let target = host_port_text(&host, port);
    Ok((host, port, target))
}

fn only_under(at: &At<'_>, timeout: Duration) -> Read<Option<Duration>> {
    let limit = at.read("expect", |at| {
        at.mapping(&["under"])?;
        under(at, timeout)
    })?;
    Ok(limit.flatten())
}

/// The settings of a `tcp` check and its target.
pub(super) fn tcp(at: &At<'_>, timeout: Duration) -> Read<(Tcp, String)> {
    let (host, port, target) = host_and_port(at, "tcp")?;
    let dialogue = at.read("dialogue", |at| {
        let steps = at.list("a list of steps: `{expect: regex}`, `{send: text}`, `starttls`", STEPS_MAX)?;
        steps.map(|at| step(&at)).collect::<Read<Vec<_>>>()
    })?;
    let dialogue = dialogue.unwrap_or_default();
    Ok((Tcp { host, port, ip: ip(at)?, dialogue, under: only_under(at, timeout)? }, target))
}

fn step(at: &At<'_>) -> Read<Step> {
    if at.entries("a step").is_err() {
        // It may be a line that was to be sent.
        at.quietly()
            .choice(&[("starttls", ())])
            .map_err(|_| at.fail("a step is `{expect: regex}`, `{send: text}` or `starttls`"))?;
        at.uses("starttls");
        return Ok(Step::StartTls);
    }
    at.mapping(&["expect", "send"])?;
    match (at.get("expect"), at.get("send")) {
        (Some(at), None) => regex(&at).map(Step::Expect),
        (None, Some(at)) => Ok(Step::Send(at.secret()?)),
        _ => Err(at.fail("a step is either `expect` or `send`")),
    }
}

/// The settings of a `tls` check and its target.
pub(super) fn tls(at: &At<'_>, timeout: Duration) -> Read<(Tls, String)> {
    let (host, port, target) = host_and_port(at, "tls")?;
    let limits = at.read("expect", |at| {
        at.mapping(&["under", "certificate_days"])?;
        Ok((under(at, timeout)?, certificate_days(at)?))
    })?;
    let (under, certificate_days) = limits.unwrap_or_default();
    let tls = at.reading.shared.tls_once(TlsSettings::default());
    Ok((Tls { host, port, ip: ip(at)?, tls, under, certificate_days }, target))
}

/// The settings of an `icmp` check and its target.
pub(super) fn icmp(at: &At<'_>, timeout: Duration) -> Read<(Icmp, String)> {
    let (host, target) = at
        .need("icmp", "192.0.2.1")?
        .text("a name or an address", |text| host(text).map(|host| (host, text.to_owned())))?;
    let count = at.read("count", |at| at.number(1..=100))?.unwrap_or(1);
    let limits = at.read("expect", |at| {
        at.mapping(&["loss", "under"])?;
        Ok((at.read("loss", |at| at.text("a share, such as `20%`", percent))?.unwrap_or(0), under(at, timeout)?))
    })?;
    let (loss, under) = limits.unwrap_or_default();
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    Ok((Icmp { host, ip: ip(at)?, count, loss, under }, target))
}

/// The settings of an `exec` check and its target: the program without its arguments, which may hold secrets.
pub(super) fn exec(check: &At<'_>) -> Read<(Exec, String)> {
    let at = &check.need("exec", "[/usr/lib/nagios/plugins/check_disk, -w, 10%]")?.quietly();
    let words: Vec<Secret> = at
        .list("a list: the program and its arguments", ARGUMENTS_MAX)?
        .map(|at| at.text("text", no_nul).and_then(|()| Ok(at.expanded("text")?.secret())))
        .collect::<Read<_>>()?;
    let Some((program, arguments)) = words.split_first().filter(|(program, _)| !program.expose().is_empty()) else {
        return Err(at.fail("names no program"));
    };
    let program = program.expose();
    // As in a shell: a name without a slash is looked up in PATH. It runs in `/`, so any other path has to be absolute.
    let program = match program.contains('/') {
        true => std::path::absolute(at.reading.directory.join(program))
            .map_err(|error| at.fail(format!("cannot make out where the program is: {error}")))?,
        false => PathBuf::from(program),
    };
    let env = check.read("env", |at| {
        let at = &at.quietly();
        at.entries("a mapping from names to values")?
            .map(|(name, value)| {
                if name.is_empty() || name.contains(['=', '\0']) {
                    return Err(
                        at.fail_key(name, format!("{} is not the name of a variable", quoted(&key_alone(name))))
                    );
                }
                let value_text = value.secret()?;
                no_nul(value_text.expose()).map_err(|complaint| value.fail(format!("the value {}", complaint.what)))?;
                Ok((name.to_owned(), value_text))
            })
            .collect::<Read<Vec<_>>>()
    })?;
    let target = program.display().to_string();
    Ok((Exec { program, arguments: arguments.to_vec(), env: env.unwrap_or_default() }, target))
}

fn no_nul(text: &str) -> Result<(), Complaint> {
    if text.contains('\0') { Err("holds a NUL byte".into()) } else { Ok(()) }
}

/// TLS settings, or the default ones.
pub(super) fn tls_settings(at: &At<'_>) -> Read<std::sync::Arc<TlsSettings>> {
    match at.get("tls") {
        Some(at) => shared::tls(&at),
        None => Ok(at.reading.shared.tls_once(TlsSettings::default())),
    }
}
