//! The section `maintenance`: time that reports count as planned.

use std::sync::Arc;
use std::time::Duration;

use super::checks;
use super::error::Complaint;
use super::quantities::{duration, duration_text};
use super::walk::{At, Read};
use crate::clock::Timestamp;
use crate::maintenance::{Begins, Cron, Window, Zone};

/// Windows in one config.
const WINDOWS_MAX: usize = 1_000;
/// Labels and patterns of one window.
const LABELS_MAX: usize = 1_000;
const LASTS_MIN: Duration = Duration::from_secs(1);
const LASTS_MAX: Duration = Duration::from_secs(31 * 86_400);

/// The section.
pub(super) fn maintenance(at: &At<'_>) -> Read<Vec<Arc<Window>>> {
    at.list("a list of windows", WINDOWS_MAX)?.map(|at| window(&at).map(Arc::new)).collect()
}

fn window(at: &At<'_>) -> Read<Window> {
    at.mapping(&["name", "labels", "from", "weekly", "cron", "for", "zone"])?;
    let name = at.need("name", "database upgrade")?.text("text", checks::label)?;
    let how_long = &at.need("for", "2h")?;
    let lasts = how_long.text("a duration", |text| duration(text, LASTS_MIN..=LASTS_MAX))?;
    let labels = at.read("labels", labels)?.unwrap_or_default();
    let begins = begins(at)?;
    if let Begins::Again { cron, .. } = &begins
        && let Some(soonest) = cron.soonest().filter(|soonest| lasts > *soonest)
    {
        let complaint = format!("is longer than until it comes again, at the soonest after {}", duration_text(soonest));
        return Err(
            how_long.refuse(Complaint::new(complaint).hint("shorten it, or write one window for all of that time"))
        );
    }
    Ok(Window { name: name.into(), labels, begins, lasts })
}

fn begins(at: &At<'_>) -> Read<Begins> {
    let zone = at.read("zone", |at| at.text("a time zone", zone))?;
    let read = |text: &str, weekly: bool| {
        let cron = if weekly { Cron::weekly(text) } else { Cron::parse(text) };
        let cron = cron.map_err(|wrong| {
            Complaint::new(wrong).hint(match weekly {
                true => "days of the week and a time: `sun 03:00`, `mon-fri 22:30`, `sat,sun 00:00`",
                false => "five fields as in crontab(5): \"30 2 * * 1-5\" is 02:30 from Monday to Friday",
            })
        })?;
        if cron.soonest().is_none() {
            return Err("never comes".into());
        }
        Ok(Begins::Again { typed: text.into(), weekly, cron, zone: zone.clone().unwrap_or_else(Zone::utc) })
    };
    match (at.get("from"), at.get("weekly"), at.get("cron")) {
        (Some(_), None, None) if zone.is_some() => {
            Err(at.fail_key("zone", "a `from` says by itself how far its clock is from UTC, and takes no `zone`"))
        }
        (Some(at), None, None) => at.text("a time", from).map(Begins::Once),
        (None, Some(at), None) => at.text("days and a time", |text| read(text, true)),
        (None, None, Some(at)) => at.text("five fields", |text| read(text, false)),
        _ => {
            let complaint = Complaint::new("expected one of `from`, `weekly` and `cron`");
            Err(at.fail(complaint.hint("for example `from: 2026-11-30T22:00:00Z`, or `weekly: sun 03:00`")))
        }
    }
}

fn from(text: &str) -> Result<Timestamp, Complaint> {
    let hint = "a day, a time and how far its clock is from UTC: `2026-11-30T22:00:00Z`, `2026-11-30T23:00:00+01:00`";
    Timestamp::parse(text).map_err(|_| Complaint::new("is not a time").hint(hint))
}

fn zone(text: &str) -> Result<Zone, Complaint> {
    Zone::named(text).ok_or_else(|| {
        let hint = "a name such as `Europe/Berlin`, and the files of the package `tzdata`; `UTC` takes none";
        Complaint::new("is no time zone of this system").hint(hint)
    })
}

fn labels(at: &At<'_>) -> Read<Vec<glob::Pattern>> {
    let pattern = |text: &str| {
        checks::label(text)?;
        glob::Pattern::new(text).map_err(|error| format!("is not a pattern: {}", error.msg).into())
    };
    let labels = at.list("a list of labels", LABELS_MAX)?.map(|at| at.text("a label, or a pattern of labels", pattern));
    let labels: Vec<_> = labels.collect::<Read<_>>()?;
    if labels.is_empty() {
        return Err(at.fail(Complaint::new("names no check").hint("without `labels`, it is the maintenance of all")));
    }
    Ok(labels)
}
