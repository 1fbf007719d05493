//! Reports for people: a table of checks, and one of outages below it.

use std::cmp::Reverse;
use std::fmt::{self, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};

use super::shares::Share;
use super::{Basis, Outage, Report, Shares, Silence, Strained, Summary};
use crate::check::Verdict;
use crate::clock::Timestamp;

/// How many outages are shown, the newest of all checks.
const OUTAGES_SHOWN: usize = 20;
/// What is to be known of a report out of roll-ups.
const OF_HOURS: &str =
    "\nof whole hours, out of roll-ups: percentiles are estimates (within 19 %), outages are left out\n";
/// What is to be known of strained checks.
const STRAINED: &str = "\nstrained: the agent itself was short of CPU, and may have slowed so many of the checks\n";
/// Spaces between two columns.
const GAP: u16 = 2;

/// The report in at most `width` columns where its figures fit into that, else (`None`: not a terminal) as wide as it is.
/// Readable without colour.
pub fn table(report: &Report, width: Option<u16>, colour: bool) -> String {
    let mut text = format!("{} to {} UTC", day_and_time(report.from), day_and_time(report.to));
    if let Some(quorum) = report.quorum {
        let _ = write!(
            text,
            ", down while at least {quorum} {}",
            if quorum.get() == 1 { "agent says so" } else { "agents say so" }
        );
    }
    text.push_str("\n\n");
    text.push_str(&checks(report, width));
    text.push_str(&match report.basis {
        Basis::Logs => outages(report, width) + &silences(report, width),
        Basis::Hours => OF_HOURS.to_owned(),
    });
    painted(&text, colour)
}

/// How many columns `terminal` has; `None` where it is not one, or does not say.
pub fn terminal_width(terminal: impl AsFd) -> Option<u16> {
    rustix::termios::tcgetwinsize(terminal).ok().map(|size| size.ws_col).filter(|width| *width > 0)
}

fn checks(report: &Report, width: Option<u16>) -> String {
    // Columns that would say nothing leave their room to the others.
    let some_degraded = report.checks.iter().any(|check| !check.time.degraded.is_zero());
    let mut columns = vec![column("check", |check: &Summary| clean(&check.label)).wrapped()];
    if report.quorum.is_some() {
        columns.push(column("quorum", |check: &Summary| check.quorum.map(|of| of.to_string()).unwrap_or_default()));
    } else if has_many_agents(report) {
        columns.push(column("agent", |check: &Summary| agent(check)).wrapped());
    }
    columns.push(column("now", now));
    columns.push(column("uptime", |check: &Summary| share(check, |of| of.uptime())).right());
    if some_degraded {
        columns.push(column("degraded", |check: &Summary| share(check, |of| of.degraded)).right());
    }
    columns.push(column("down", down).right());
    columns.push(column("unknown", |check: &Summary| share(check, |of| of.unknown)).right());
    if report.checks.iter().any(|check| !check.time.planned.is_zero()) {
        columns.push(column("planned", |check: &Summary| length_or_none(check.time.planned)).right());
    }
    let some_strained = report.checks.iter().any(|check| check.strained.is_some_and(|of| of.logs > 0));
    if some_strained {
        columns.push(column("strained", |check: &Summary| strained(check.strained)).right());
    }
    columns.push(column("p50 ms", |check: &Summary| millis(check.durations.map(|of| of.p50))).right());
    columns.push(column("p95 ms", |check: &Summary| millis(check.durations.map(|of| of.p95))).right());
    columns.push(column("p99 ms", |check: &Summary| millis(check.durations.map(|of| of.p99))).right());
    laid_out(&columns, &report.checks, width) + if some_strained { STRAINED } else { "" }
}

/// An outage, and whose it is.
type Shown<'a> = (&'a Summary, &'a Outage);

fn outages(report: &Report, width: Option<u16>) -> String {
    let all = report.checks.iter().flat_map(|check| check.outages.iter().map(move |outage| (check, outage)));
    let mut newest: Vec<Shown<'_>> = all.collect();
    // Those that are still open first: of them, none may be left out for an older one that is over.
    newest.sort_by_key(|(_, outage)| (outage.end.is_some(), Reverse(outage.start)));
    let in_all = newest.len() as u64 + report.checks.iter().map(|check| check.outages_left_out).sum::<u64>();
    newest.truncate(OUTAGES_SHOWN);
    if newest.is_empty() {
        return "\nno outages seen\n".to_owned();
    }
    let mut columns = vec![column("outage of", |(check, _): &Shown<'_>| clean(&check.label)).wrapped()];
    if report.quorum.is_some() {
        columns.push(column("agents", |(_, outage): &Shown<'_>| clean(&outage.agents.join(", "))).wrapped());
    } else if has_many_agents(report) {
        columns.push(column("agent", |(check, _): &Shown<'_>| agent(check)).wrapped());
    }
    columns.push(column("since", |(_, outage): &Shown<'_>| start(outage)));
    columns.push(column("until", |(_, outage): &Shown<'_>| {
        outage.end.map_or_else(|| Paint::Red.on("still open"), day_and_time)
    }));
    columns.push(column("down for", |(_, outage): &Shown<'_>| length(outage.down)).right());
    if newest.iter().any(|(_, outage)| !outage.planned.is_zero()) {
        columns.push(column("planned", |(_, outage): &Shown<'_>| planned(outage)).right());
    }
    columns.push(column("reason", |(_, outage): &Shown<'_>| clean(outage.reason.as_deref().unwrap_or("-"))).wrapped());
    let mut text = format!("\n{}", laid_out(&columns, &newest, width));
    let more = in_all - newest.len() as u64;
    if more > 0 {
        let _ = writeln!(text, "and {more} before these");
    }
    text
}

fn silences(report: &Report, width: Option<u16>) -> String {
    let silences = report.silences.as_deref().unwrap_or_default();
    if silences.is_empty() {
        return String::new();
    }
    let columns = [
        column("could not tell", |silence: &Silence| clean(&silence.agent)).wrapped(),
        column("times", |silence: &Silence| silence.times.to_string()).right(),
        column("in all", |silence: &Silence| {
            if silence.more { "more than " } else { "" }.to_owned() + &length(silence.lasted)
        })
        .right(),
        column("last", |silence: &Silence| day_and_time(silence.last)),
        column("why", |silence: &Silence| clean(&silence.why)).wrapped(),
    ];
    format!("\n{}", laid_out(&columns, silences, width))
}

fn has_many_agents(report: &Report) -> bool {
    let mut agents = report.checks.iter().filter_map(|check| check.agent.as_ref());
    agents.next().is_some_and(|first| agents.any(|other| other != first))
}

fn agent(check: &Summary) -> String {
    clean(check.agent.as_deref().unwrap_or("-"))
}

fn now(check: &Summary) -> String {
    let state = Paint::of(check.state).on(check.state);
    let flapping = if check.flapping == Some(true) { ", flapping" } else { "" };
    let planned = if check.maintenance.is_some() { ", planned" } else { "" };
    format!("{state}{flapping}{planned}")
}

/// Of no time there is none.
fn share(check: &Summary, of: fn(Shares) -> Share) -> String {
    if check.time.is_all_planned() { "-".to_owned() } else { of(Shares::of(&check.time)).to_string() }
}

/// How much of an outage was planned.
fn planned(outage: &Outage) -> String {
    if outage.planned == outage.down { "all of it".to_owned() } else { length_or_none(outage.planned) }
}

fn length_or_none(of: Duration) -> String {
    if of.is_zero() { "-".to_owned() } else { length(of) }
}

fn down(check: &Summary) -> String {
    let share = share(check, |of| of.down);
    if check.time.down.is_zero() { share } else { Paint::Red.on(share) }
}

fn start(outage: &Outage) -> String {
    let before = if outage.began_before { "before " } else { "" };
    format!("{before}{}", day_and_time(outage.start))
}

/// `2026-11-24 10:00:00`, in UTC.
pub(super) fn day_and_time(at: Timestamp) -> String {
    at.to_string().replace('T', " ").chars().take_while(|c| *c != '.').collect()
}

/// `-` where it is not known.
fn strained(of: Option<Strained>) -> String {
    of.map_or_else(|| "-".to_owned(), |of| of.logs.to_string())
}

fn millis(micros: Option<u64>) -> String {
    micros.map_or_else(
        || "-".to_owned(),
        |micros| format!("{:.1}", Duration::from_micros(micros).as_secs_f64() * 1_000.0),
    )
}

/// The two largest units, the smaller one rounded down.
fn length(length: Duration) -> String {
    let seconds = length.as_secs();
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, 0) => format!("{}ms", length.as_millis()),
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (0, hours, minutes, _) => format!("{hours}h {minutes}m"),
        (days, hours, ..) => format!("{days}d {hours}h"),
    }
}

/// What a column shows of a row, and how.
pub(super) struct Column<R> {
    name: &'static str,
    cell: fn(&R) -> String,
    alignment: CellAlignment,
    /// Its text goes on in a further line where there is no room for it.
    wraps: bool,
}

pub(super) fn column<R>(name: &'static str, cell: fn(&R) -> String) -> Column<R> {
    Column { name, cell, alignment: CellAlignment::Left, wraps: false }
}

impl<R> Column<R> {
    pub(super) fn right(self) -> Self {
        Column { alignment: CellAlignment::Right, ..self }
    }

    pub(super) fn wrapped(self) -> Self {
        Column { wraps: true, ..self }
    }
}

pub(super) fn laid_out<R>(columns: &[Column<R>], rows: &[R], width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|column| Paint::Bold.on(column.name)));
    for row in rows {
        table.add_row(columns.iter().map(|column| (column.cell)(row)));
    }
    for (set, column) in table.column_iter_mut().zip(columns) {
        set.set_padding((0, GAP)).set_cell_alignment(column.alignment);
        if !column.wraps {
            set.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    if let Some(width) = width {
        // The gap behind the last column is cut off, and takes no room.
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.saturating_add(GAP));
    }
    table.trim_fmt() + "\n"
}

/// Colours, as marks that take no room, so that the layout comes out the same with them and without. [`clean`] keeps them
/// out of what others wrote.
#[derive(Clone, Copy)]
pub(super) enum Paint {
    Bold,
    Green,
    Yellow,
    Red,
    Magenta,
}

impl Paint {
    const ALL: [Paint; 5] = [Paint::Bold, Paint::Green, Paint::Yellow, Paint::Red, Paint::Magenta];
    const END: char = '\u{206f}';

    fn of(state: Verdict) -> Self {
        match state {
            Verdict::Up => Paint::Green,
            Verdict::Degraded => Paint::Yellow,
            Verdict::Down => Paint::Red,
            Verdict::Unknown | Verdict::Missed => Paint::Magenta,
        }
    }

    pub(super) fn on(self, text: impl fmt::Display) -> String {
        format!("{}{text}{}", self.mark(), Self::END)
    }

    fn mark(self) -> char {
        match self {
            Paint::Bold => '\u{206a}',
            Paint::Green => '\u{206b}',
            Paint::Yellow => '\u{206c}',
            Paint::Red => '\u{206d}',
            Paint::Magenta => '\u{206e}',
        }
    }

    /// The sequence that a terminal knows (ECMA-48, section 8.3.117).
    fn sequence(self) -> &'static str {
        match self {
            Paint::Bold => "\x1b[1m",
            Paint::Green => "\x1b[32m",
            Paint::Yellow => "\x1b[33m",
            Paint::Red => "\x1b[31m",
            Paint::Magenta => "\x1b[35m",
        }
    }
}

/// `text` with its marks made into colours, or left out.
pub(super) fn painted(text: &str, colour: bool) -> String {
    let paint = |text: String, mark: char, sequence: &str| text.replace(mark, if colour { sequence } else { "" });
    let text = Paint::ALL.iter().fold(text.to_owned(), |text, of| paint(text, of.mark(), of.sequence()));
    paint(text, Paint::END, "\x1b[0m")
}

/// What others wrote, in one line and without what could drive the terminal: control characters, and those that turn the
/// direction of text or can't be seen.
pub(super) fn clean(text: &str) -> String {
    let visible = |c: &char| {
        !matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
            && !matches!(c, '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    text.chars().filter(visible).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
