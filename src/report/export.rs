//! Reports for programs: JSON and CSV. Times are RFC 3339 in UTC, durations whole microseconds (`_us`).

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{Basis, Outage, Percentiles, Report, Shares, Silence, Strained, Summary};
use crate::check::Verdict;
use crate::clock::Timestamp;

/// One JSON document, with everything that the report holds.
pub fn json(report: &Report) -> String {
    let checks = report.checks.iter().map(|check| CheckForm::of(check, report.basis)).collect();
    let silences = report.silences.as_ref().map(|silences| silences.iter().map(SilenceForm::of).collect());
    let Report { from, to, basis, quorum, .. } = *report;
    let form = ReportForm { from, to, rollup: basis == Basis::Hours, quorum, checks, silences };
    // Nothing in it can fail to be written: no map keys that are not strings.
    let mut text = serde_json::to_string_pretty(&form).unwrap_or_default();
    text.push('\n');
    text
}

#[derive(Serialize)]
struct ReportForm<'a> {
    from: Timestamp,
    to: Timestamp,
    /// Percentiles are estimates, and outages are not known.
    rollup: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    quorum: Option<NonZeroUsize>,
    checks: Vec<CheckForm<'a>>,
    silences: Option<Vec<SilenceForm<'a>>>,
}

#[derive(Serialize)]
struct SilenceForm<'a> {
    agent: &'a str,
    why: &'a str,
    times: usize,
    lasted_us: u64,
    last: Timestamp,
    /// It was longer than that.
    more: bool,
}

impl<'a> SilenceForm<'a> {
    fn of(Silence { agent, why, times, lasted, last, more }: &'a Silence) -> Self {
        SilenceForm { agent, why, times: *times, lasted_us: micros(*lasted), last: *last, more: *more }
    }
}

#[derive(Serialize)]
struct CheckForm<'a> {
    label: &'a str,
    agent: Option<&'a str>,
    /// With a quorum, how many there were.
    #[serde(skip_serializing_if = "Option::is_none")]
    agents: Option<usize>,
    state: Verdict,
    /// That it is in when the range ends.
    maintenance: Option<&'a str>,
    flapping: Option<bool>,
    last_due_at: Option<Timestamp>,
    /// Of what was not planned; `None`: all was.
    uptime_percent: Option<f64>,
    percent: Option<Parts<f64>>,
    time_us: Parts<u64>,
    /// Out of roll-ups it is not known.
    planned_us: Option<u64>,
    logs: u64,
    missed: u64,
    strained: Option<StrainForm>,
    duration_us: DurationForm,
    outages: Option<Vec<OutageForm<'a>>>,
    outages_left_out: Option<u64>,
}

#[derive(Serialize)]
struct Parts<T> {
    up: T,
    degraded: T,
    down: T,
    unknown: T,
}

#[derive(Serialize)]
struct DurationForm {
    p50: Option<u64>,
    p95: Option<u64>,
    p99: Option<u64>,
}

/// Logs that the agent itself may have slowed, of how many it is known.
#[derive(Serialize)]
struct StrainForm {
    logs: u64,
    known: u64,
}

impl From<Strained> for StrainForm {
    fn from(Strained { logs, known }: Strained) -> Self {
        StrainForm { logs, known }
    }
}

#[derive(Serialize)]
struct OutageForm<'a> {
    start: Timestamp,
    began_before: bool,
    end: Option<Timestamp>,
    open: bool,
    down_us: u64,
    /// How much of that was planned.
    planned_us: u64,
    reason: Option<&'a str>,
    /// With a quorum, who said so.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    agents: &'a [Arc<str>],
}

impl<'a> CheckForm<'a> {
    fn of(check: &'a Summary, basis: Basis) -> Self {
        let exact = basis == Basis::Logs;
        let time = check.time;
        let shares = (!time.is_all_planned()).then(|| Shares::of(&time));
        CheckForm {
            label: &check.label,
            agent: check.agent.as_deref(),
            agents: check.quorum.map(|quorum| quorum.agents),
            state: check.state,
            maintenance: check.maintenance.as_deref(),
            flapping: check.flapping,
            last_due_at: check.last_due_at,
            uptime_percent: shares.map(|of| of.uptime().percent()),
            percent: shares.map(|of| Parts {
                up: of.up.percent(),
                degraded: of.degraded.percent(),
                down: of.down.percent(),
                unknown: of.unknown.percent(),
            }),
            time_us: Parts {
                up: micros(time.up),
                degraded: micros(time.degraded),
                down: micros(time.down),
                unknown: micros(time.unknown),
            },
            planned_us: exact.then(|| micros(time.planned)),
            logs: check.logs,
            missed: check.missed,
            strained: check.strained.map(StrainForm::from),
            duration_us: DurationForm::of(check.durations),
            outages: exact.then(|| check.outages.iter().map(OutageForm::of).collect()),
            outages_left_out: exact.then_some(check.outages_left_out),
        }
    }
}

impl DurationForm {
    fn of(durations: Option<Percentiles>) -> Self {
        let of = |percentile: fn(Percentiles) -> u64| durations.map(percentile);
        DurationForm { p50: of(|p| p.p50), p95: of(|p| p.p95), p99: of(|p| p.p99) }
    }
}

impl<'a> OutageForm<'a> {
    fn of(outage: &'a Outage) -> Self {
        OutageForm {
            start: outage.start,
            began_before: outage.began_before,
            end: outage.end,
            open: outage.end.is_none(),
            down_us: micros(outage.down),
            planned_us: micros(outage.planned),
            reason: outage.reason.as_deref(),
            agents: &outage.agents,
        }
    }
}

const COLUMNS: [&str; 26] = [
    "label",
    "agent",
    "from",
    "to",
    "state",
    "last_due_at",
    "uptime_percent",
    "up_percent",
    "degraded_percent",
    "down_percent",
    "unknown_percent",
    "up_us",
    "degraded_us",
    "down_us",
    "unknown_us",
    "logs",
    "missed",
    "p50_us",
    "p95_us",
    "p99_us",
    "outages",
    "flapping",
    "planned_us",
    "maintenance",
    "strained",
    "strain_known",
];

/// A header, then a line for each label and agent (RFC 4180: commas, CR LF, quotes where they are needed); with a quorum, the
/// agent is how many of how many: `2 of 3`. Outages have no place in it, other than their number; where they are not known, out
/// of roll-ups, that is empty.
pub fn csv(report: &Report) -> String {
    let mut text = COLUMNS.join(",") + "\r\n";
    for check in &report.checks {
        let form = CheckForm::of(check, report.basis);
        let time = |moment: Option<Timestamp>| moment.map(|moment| moment.to_string()).unwrap_or_default();
        let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        let percent = |percent: Option<f64>| percent.map(|percent| format!("{percent:.3}")).unwrap_or_default();
        let part = |part: fn(&Parts<f64>) -> f64| percent(form.percent.as_ref().map(part));
        let fields: [String; COLUMNS.len()] = [
            quoted(form.label),
            quoted(&check.quorum.map_or_else(|| form.agent.unwrap_or_default().to_owned(), |of| of.to_string())),
            report.from.to_string(),
            report.to.to_string(),
            form.state.to_string(),
            time(form.last_due_at),
            percent(form.uptime_percent),
            part(|of| of.up),
            part(|of| of.degraded),
            part(|of| of.down),
            part(|of| of.unknown),
            form.time_us.up.to_string(),
            form.time_us.degraded.to_string(),
            form.time_us.down.to_string(),
            form.time_us.unknown.to_string(),
            form.logs.to_string(),
            form.missed.to_string(),
            number(form.duration_us.p50),
            number(form.duration_us.p95),
            number(form.duration_us.p99),
            number(form.outages.zip(form.outages_left_out).map(|(listed, left_out)| listed.len() as u64 + left_out)),
            form.flapping.map(|flaps| flaps.to_string()).unwrap_or_default(),
            number(form.planned_us),
            quoted(form.maintenance.unwrap_or_default()),
            number(check.strained.map(|of| of.logs)),
            number(check.strained.map(|of| of.known)),
        ];
        text.push_str(&fields.join(","));
        text.push_str("\r\n");
    }
    text
}

/// A field as RFC 4180 wants it, section 2, rules 5 to 7.
pub(super) fn quoted(field: &str) -> String {
    if field.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        for (field, expected) in [
            ("", ""),
            ("shop", "shop"),
            ("a shop; its 'door'", "a shop; its 'door'"),
            ("a,b", "\"a,b\""),
            ("\"", "\"\"\"\""),
            ("a\nb", "\"a\nb\""),
            ("a\rb", "\"a\rb\""),
        ] {
            assert_eq!(quoted(field), expected, "{field:?}");
        }
    }
}
