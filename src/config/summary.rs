//! What a config would run, in a few lines for people.

use std::fmt::Write as _;

use super::quantities::{duration_text, size_text};
use super::{Config, Store, WhenFull};
use crate::check::Check;
use crate::clock::Timestamp;

/// Checks that are listed by name.
const LISTED_MAX: usize = 30;
/// How wide the column of labels may be; longer ones stick out.
const LABEL_WIDTH_MAX: usize = 40;

const KINDS: [&str; 6] = ["http", "tcp", "tls", "icmp", "dns", "exec"];

/// What `validate` prints at `now`. Holds no secret.
pub fn summary(config: &Config, now: Timestamp) -> String {
    let mut text = String::new();
    let mut line = |name: &str, what: String| {
        let _ = writeln!(text, "{name:<8} {what}");
    };
    line("agent", config.agent.to_string());
    line("checks", checks(config));
    line("workers", workers_line(config));
    if !config.network_gate.is_empty() {
        let labels: Vec<&str> = config.network_gate.iter().map(|check| &*check.label).collect();
        line("gate", format!("{}: while none gets through, failures are `unknown`", labels.join(", ")));
    }
    line("spool", {
        let spool = &config.spool;
        let full = match spool.when_full {
            WhenFull::Thin => "then `up` logs between changes go first",
            WhenFull::DropOldest => "then the oldest logs go",
            WhenFull::Block => "then checks wait",
        };
        format!("{}, up to {}, {full}", spool.path.display(), size_text(spool.max_bytes))
    });
    line(
        "queue",
        match &config.queue {
            Some(kafka) => {
                let (brokers, client) = (kafka.cluster.brokers.join(", "), kafka.client.name());
                let secured = [(kafka.cluster.tls.is_some(), ", TLS"), (kafka.cluster.sasl.is_some(), ", SASL")];
                let secured: String = secured.iter().filter(|(is, _)| *is).map(|(_, what)| *what).collect();
                format!("kafka, topic {} at {brokers}{secured}; client {client}", kafka.topic)
            }
            None => "none: the spool feeds the store in this process".to_owned(),
        },
    );
    line(
        "store",
        match &config.store {
            Some(Store::Sqlite(store)) => {
                format!("sqlite, {}, kept for {}", store.path.display(), duration_text(store.retention))
            }
            Some(Store::Postgres(store)) => format!("postgres, kept for {}", duration_text(store.retention)),
            None => "none: this process consumes nothing".to_owned(),
        },
    );
    line("web", config.web.as_ref().map_or("none".to_owned(), |web| format!("http://{}/", web.listen)));
    list(&mut text, config);
    maintenance(&mut text, config, now);
    text
}

/// The windows, each with its next begin: enough to see whether zone and fields are what was meant.
fn maintenance(text: &mut String, config: &Config, now: Timestamp) {
    let labels = || config.checks.iter().map(|check| &*check.label);
    for (nth, window) in config.maintenance.iter().take(LISTED_MAX).enumerate() {
        let gap = if nth == 0 { "\n" } else { "" };
        let minute = |at: Timestamp| at.to_string()[..16].replace('T', " ");
        let when = match window.next(now) {
            Some((begin, end)) if begin <= now => format!("goes on until {} UTC", minute(end)),
            Some((begin, _)) => format!("next {} UTC, for {}", minute(begin), duration_text(window.lasts)),
            None => "is over".to_owned(),
        };
        // Where there are no checks, those of other agents are meant.
        let unknown: Vec<&str> = window.unknown(labels()).filter(|_| !config.checks.is_empty()).collect();
        let unknown =
            if unknown.is_empty() { String::new() } else { format!("; no check here: {}", unknown.join(", ")) };
        let _ = writeln!(text, "{gap}maintenance `{}`: {when}{unknown}", window.name);
    }
    if let Some(more) = config.maintenance.len().checked_sub(LISTED_MAX).filter(|more| *more > 0) {
        let _ = writeln!(text, "… and {more} more");
    }
}

/// The checks by name, `for` written out: enough to see whether they are what was meant. All of them are in `explain`.
fn list(text: &mut String, config: &Config) {
    let listed = &config.checks[..config.checks.len().min(LISTED_MAX)];
    let label_width = listed.iter().map(|check| check.label.chars().count()).max().unwrap_or(0).min(LABEL_WIDTH_MAX);
    let every = |check: &Check| format!("every {}", duration_text(check.interval));
    let every_width = listed.iter().map(|check| every(check).len()).max().unwrap_or(0);
    for (nth, check) in listed.iter().enumerate() {
        let (label, kind, every) = (&check.label, check.kind.name(), every(check));
        let gap = if nth == 0 { "\n" } else { "" };
        let _ = writeln!(text, "{gap}{label:label_width$}  {every:every_width$}  {kind:4}  {}", check.target);
    }
    if listed.len() < config.checks.len() {
        let _ = writeln!(text, "… and {} more; `pingeon explain` has all of them", config.checks.len() - listed.len());
    }
}

fn checks(config: &Config) -> String {
    let count = |kind: &str| config.checks.iter().filter(|check| check.kind.name() == kind).count();
    let kinds: Vec<String> = KINDS
        .iter()
        .map(|kind| (kind, count(kind)))
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    if kinds.is_empty() {
        return "none".to_owned();
    }
    let rate: f64 = config.checks.iter().map(|check| 1.0 / check.interval.as_secs_f64()).sum();
    format!("{} ({}), {rate:.1} a second", config.checks.len(), kinds.join(", "))
}

fn workers_line(config: &Config) -> String {
    let (checks, most, busy) = (config.checks.len(), config.workers_max, busy_at_timeout(config));
    match too_few_workers(config) {
        Some(warning) => warning,
        None if checks <= most => {
            format!(
                "up to {}, one for each check; on average {busy} busy when every check runs to its timeout",
                workers(config)
            )
        }
        None => format!(
            "up to {most}; when every check runs to its timeout, {busy} are busy on average, and some may start late"
        ),
    }
}

/// What happens when `workers_max` is too low for the case that every check runs to its timeout; `None`: it is not.
pub fn too_few_workers(config: &Config) -> Option<String> {
    let (most, busy) = (config.workers_max, busy_at_timeout(config));
    (busy > most).then(|| {
        format!(
            "{most} of the {busy} needed when every check runs to its timeout: checks would then start late or be missed; \
             raise `defaults.workers_max` or shorten timeouts"
        )
    })
}

/// How many threads may run checks at once: one for each check, since checks of one label never overlap and all of them may
/// hang at the same time, up to `workers_max`.
pub fn workers(config: &Config) -> usize {
    config.checks.len().clamp(1, config.workers_max)
}

/// How many workers are busy on average when every check runs to its timeout.
fn busy_at_timeout(config: &Config) -> usize {
    // Rounded down to 10⁻¹² of a worker each, so that six checks of a sixth make one worker and not a little more.
    const WORKER: u128 = 1_000_000_000_000;
    let share = |check: &std::sync::Arc<Check>| check.timeout.as_micros() * WORKER / check.interval.as_micros().max(1);
    let busy: u128 = config.checks.iter().map(share).sum();
    usize::try_from(busy.div_ceil(WORKER)).unwrap_or(usize::MAX).max(1)
}
