//! `checks` and `defaults`: entries to checks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::error::Complaint;
use super::quantities::{duration, duration_text};
use super::variables::each_of;
use super::walk::{At, Read, quoted};
use super::yaml::Node;
use super::{connections, dns_checks, kinds, steps, web_checks};
use crate::check::{Check, Confirm, Kind};
use crate::logs::LABEL_BYTES_MAX;

/// Checks of one config, `for` written out.
pub(super) const CHECKS_MAX: usize = 100_000;
/// How often a check may run.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// How seldom a check may run.
const INTERVAL_MAX: Duration = Duration::from_secs(86_400);
/// How short a timeout may be.
const TIMEOUT_MIN: Duration = Duration::from_millis(10);

/// What each check gets unless it says otherwise.
pub(super) struct Defaults {
    interval: Duration,
    timeout: Duration,
    confirm: Confirm,
    pub(super) workers_max: usize,
}

impl Default for Defaults {
    fn default() -> Self {
        let (interval, timeout) = (Duration::from_secs(30), Duration::from_secs(5));
        Defaults { interval, timeout, confirm: Confirm::ONCE, workers_max: 256 }
    }
}

/// The `defaults` section.
pub(super) fn defaults(at: &At<'_>) -> Read<Defaults> {
    at.mapping(&["interval", "timeout", "confirm", "workers_max"])?;
    let built_in = Defaults::default();
    let interval = at.read("interval", interval)?.unwrap_or(built_in.interval);
    let timeout = at.read("timeout", |at| timeout(at, interval))?.unwrap_or(built_in.timeout);
    let confirm = at.read("confirm", confirm)?.unwrap_or(built_in.confirm);
    let workers_max = at.read("workers_max", |at| at.number(1..=10_000))?;
    let workers_max = workers_max.map_or(built_in.workers_max, |most| usize::try_from(most).unwrap_or(usize::MAX));
    Ok(Defaults { interval, timeout, confirm, workers_max })
}

/// The checks read so far, and where their labels are.
#[derive(Default)]
pub(super) struct Checks {
    pub(super) checks: Vec<Arc<Check>>,
    /// By label: which file, and which entry in it.
    seen: HashMap<Arc<str>, (usize, usize)>,
}

/// Reads a list of entries. `lists` are the lists of the files before, to say where a label was first.
pub(super) fn list<'a>(checks: &mut Checks, at: &'a At<'a>, lists: &[At<'_>], defaults: &Defaults) -> Read<()> {
    for (index, entry) in at.list("a list of checks", CHECKS_MAX)?.enumerate() {
        each_of(&entry, &mut |entry| {
            let check = check(entry, defaults)?;
            let here = (lists.len(), index);
            let Some(first) = checks.seen.get(&check.label) else {
                if checks.checks.len() == CHECKS_MAX {
                    return Err(entry.fail(format!("more than {CHECKS_MAX} checks")));
                }
                checks.seen.insert(check.label.clone(), here);
                checks.checks.push(Arc::new(check));
                return Ok(());
            };
            let complaint = Complaint::new(format!("the label {} is used twice", quoted(&check.label)));
            let complaint = if *first == here {
                complaint.hint("this entry's `for` gives it more than once: name every variable in the label")
            } else {
                let list = lists.get(first.0).unwrap_or(at);
                let place = list.list("", CHECKS_MAX)?.nth(first.1).map(|first| first.label_place());
                complaint.hint(format!("it is first used at {}", place.unwrap_or_default()))
            };
            Err(entry.get("label").unwrap_or(*entry).fail(complaint))
        })?;
    }
    Ok(())
}

impl At<'_> {
    fn label_place(&self) -> String {
        self.get("label").map_or_else(|| self.place(), |label| label.place())
    }
}

fn check(at: &At<'_>, defaults: &Defaults) -> Read<Check> {
    let (kind_key, keys) = kinds::kind(at)?;
    let label = at.need("label", "shop")?.text("text", label)?;
    let interval = at.read("interval", interval)?.unwrap_or(defaults.interval);
    let timeout = at.read("timeout", |at| timeout(at, interval))?.unwrap_or(defaults.timeout.min(interval));
    let confirm = at.read("confirm", confirm)?.unwrap_or(defaults.confirm);
    debug_assert!(keys.contains(&kind_key));
    let (kind, target) = match kind_key {
        "http" => web_checks::http(at, timeout).map(|(http, target)| (Kind::Http(Box::new(http)), target))?,
        "steps" => steps::steps(at, timeout).map(|(steps, target)| (Kind::Steps(Box::new(steps)), target))?,
        "tcp" => connections::tcp(at, timeout).map(|(tcp, target)| (Kind::Tcp(Box::new(tcp)), target))?,
        "tls" => connections::tls(at, timeout).map(|(tls, target)| (Kind::Tls(Box::new(tls)), target))?,
        "icmp" => kinds::icmp(at, timeout).map(|(icmp, target)| (Kind::Icmp(Box::new(icmp)), target))?,
        "dns" => dns_checks::dns(at, timeout).map(|(dns, target)| (Kind::Dns(Box::new(dns)), target))?,
        _ => kinds::exec(at).map(|(exec, target)| (Kind::Exec(Box::new(exec)), target))?,
    };
    Ok(Check { label: label.into(), interval, timeout, confirm, target: target.into(), kind })
}

/// A label, or an agent's name: 1 to 200 bytes without control characters.
pub(super) fn label(text: &str) -> Result<String, Complaint> {
    if text.is_empty() || text.len() > LABEL_BYTES_MAX {
        return Err(format!("is {} bytes long, and must be 1 to {LABEL_BYTES_MAX}", text.len()).into());
    }
    match text.chars().find(|c| c.is_control()) {
        Some(odd) => Err(format!("holds `{}`, a control character", odd.escape_default()).into()),
        None => Ok(text.to_owned()),
    }
}

fn interval(at: &At<'_>) -> Read<Duration> {
    at.text("a duration", |text| duration(text, INTERVAL_MIN..=INTERVAL_MAX))
}

fn timeout(at: &At<'_>, interval: Duration) -> Read<Duration> {
    let timeout = at.text("a duration", |text| duration(text, TIMEOUT_MIN..=INTERVAL_MAX))?;
    if timeout > interval {
        let complaint = Complaint::new(format!("is longer than the interval, {}", duration_text(interval)));
        return Err(at.refuse(complaint.hint("checks of one label never overlap: make the interval longer")));
    }
    Ok(timeout)
}

fn confirm(at: &At<'_>) -> Read<Confirm> {
    let words = match at.node {
        Node::Text(text) => text.split_once(" of "),
        _ => None,
    };
    let (needed, of) = match words {
        Some((needed, of)) => (needed.parse().ok(), of.parse().ok()),
        None => {
            let needed = at.number(1..=Confirm::OF_MAX.into())?;
            (u8::try_from(needed).ok(), u8::try_from(needed).ok())
        }
    };
    needed.zip(of).and_then(|(needed, of)| Confirm::new(needed, of)).ok_or_else(|| {
        let complaint = Complaint::new(format!("is not so many of the last so many, {} at most", Confirm::OF_MAX));
        at.refuse(complaint.hint("more than half of them have to say so: `3 of 5`"))
    })
}

/// `under` of an `expect`: a limit that the timeout does not hide.
pub(super) fn under(expect: &At<'_>, timeout: Duration) -> Read<Option<Duration>> {
    expect.read("under", |at| {
        let under = at.text("a duration", |text| duration(text, Duration::from_millis(1)..=INTERVAL_MAX))?;
        if under > timeout {
            let complaint = Complaint::new(format!("is longer than the timeout, {}", duration_text(timeout)));
            return Err(at.refuse(complaint.hint("a check is down at its timeout, so this limit would never be seen")));
        }
        Ok(under)
    })
}
