//! Which kind a check is, what several kinds have, and the settings of `icmp` and `exec`.

use std::path::PathBuf;
use std::time::Duration;

use super::checks::under;
use super::error::Complaint;
use super::quantities::percent;
use super::shared;
use super::targets::host;
use super::walk::{At, Read, key_alone, quoted};
use crate::check::exec::Exec;
use crate::check::icmp::Icmp;
use crate::net::{IpFamily, TlsSettings};
use crate::secret::Secret;

/// Arguments of one plugin.
const ARGUMENTS_MAX: usize = 1_000;

/// Keys that every check may have.
const COMMON: &[&str] = &["label", "for", "interval", "timeout", "confirm"];

/// The keys of one request.
pub(super) const HTTP: &[&str] = &[
    "http",
    "method",
    "headers",
    "body",
    "body_file",
    "auth",
    "redirects",
    "redirects_allow",
    "proxy",
    "connect_to",
    "ip",
    "tls",
    "expect",
];

/// Each kind with its own keys, the first of which makes a check of that kind. `tls` comes last: for other kinds it is a setting.
const KINDS: &[&[&str]] = &[
    HTTP,
    &["steps", "expect"],
    &["tcp", "dialogue", "ip", "tls", "expect"],
    &["icmp", "count", "ip", "expect"],
    &["dns", "ip", "tls", "expect"],
    &["exec", "env"],
    &["tls", "ca_file", "server_name", "cert_file", "key_file", "verify", "resume", "ip", "expect"],
];

/// The kind of the check here, and the keys that belong to it. All of its keys are known and belong to it.
pub(super) fn kind(at: &At<'_>) -> Read<(&'static str, &'static [&'static str])> {
    let mut all = COMMON.to_vec();
    all.extend(KINDS.iter().copied().flatten());
    all.dedup();
    at.mapping(&all)?;
    let Some(keys) = KINDS.iter().find(|keys| at.get(keys[0]).is_some()) else {
        let complaint = Complaint::new("a check needs one of http, steps, tcp, tls, icmp, dns, exec");
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
    Ok(at.read("ip", |at| at.choice(&choices))?.unwrap_or_default())
}

/// Of which family the addresses to take are, for kinds that do not look at each.
pub(super) fn ip_family(at: &At<'_>) -> Read<IpFamily> {
    let choices = [("any", IpFamily::Any), ("v4", IpFamily::V4), ("v6", IpFamily::V6)];
    Ok(at.read("ip", |at| at.choice(&choices))?.unwrap_or_default())
}

/// The limit of `expect: {certificate_days: …}`.
pub(super) fn certificate_days(expect: &At<'_>) -> Read<Option<u32>> {
    let days = expect.read("certificate_days", |at| at.number(1..=3_650))?;
    Ok(days.map(|days| u32::try_from(days).unwrap_or(u32::MAX)))
}

/// The settings of an `icmp` check and its target.
pub(super) fn icmp(at: &At<'_>, timeout: Duration) -> Read<(Icmp, String)> {
    let (host, target) = at.need("icmp", "192.0.2.1")?.text("a name or an address", |text| {
        Ok((host(text).map_err(|wrong| no_port(wrong, text))?, text.to_owned()))
    })?;
    let count = at.read("count", |at| at.number(1..=100))?.unwrap_or(1);
    let limits = at.read("expect", |at| {
        at.mapping(&["loss", "under"])?;
        Ok((at.read("loss", |at| at.text("a share, such as `20%`", percent))?.unwrap_or(0), under(at, timeout)?))
    })?;
    let (loss, under) = limits.unwrap_or_default();
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    Ok((Icmp { host, ip: ip_family(at)?, count, loss, under }, target))
}

fn no_port(wrong: Complaint, text: &str) -> Complaint {
    match text.rsplit_once(':') {
        Some((name, _)) if host(name).is_ok() => wrong.hint(format!("ICMP has no ports: write `{name}`")),
        _ => wrong,
    }
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
