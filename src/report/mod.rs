//! Uptime, latency and outages out of a store.
//!
//! Uptime is a share of *time*. Each log speaks for the time from its slot to the next one: from `due_at` for `interval`, but
//! no further than the next log of the same label and agent, so that nothing counts twice. Whatever no log speaks for is
//! unknown: before the first log, between logs, after the last, what was missed, what could not be judged. Unknown never
//! counts as up. What was planned (maintenance) is set apart, whatever logs say of it. Up, degraded, down, unknown and planned
//! together are the range; percentages are of all that was not planned, and sum to 100 (see `shares`).
//!
//! Reading is a stream: what is held at once is a summary for each label and agent, the durations of one of them, and a bounded
//! number of rows from before the range.

mod confirm;
pub mod delivery;
mod durations;
mod export;
mod flapping;
mod outages;
mod planned;
mod quorum;
mod rollup;
mod shares;
mod silences;
mod since;
mod strain;
mod sums;
mod table;
mod tally;
#[cfg(test)]
mod tests;
mod turns;

pub use durations::Percentiles;
pub use export::{csv, json};
pub use planned::Planned;
pub use quorum::{agreed, too_few_agents};
pub use rollup::{rolled_up, whole_hours};
pub use shares::Shares;
pub use silences::Silence;
pub use since::parse_since;
pub use strain::Strained;
pub use sums::Sums;
pub use table::{table, terminal_width};

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::check::{Confirm, Verdict};
use crate::clock::Timestamp;
use crate::store::{Archive, Before, Row};

/// How many rows are read from one word on the progress to the next.
const PROGRESS_ROWS: usize = 4_096;

/// What a store knows of a range of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The beginning of the range.
    pub from: Timestamp,
    /// Its end, which is not in it any more.
    pub to: Timestamp,
    /// What it was made of.
    pub basis: Basis,
    /// How many agents have to say so until a label counts as down; `None`: each agent speaks for itself.
    pub quorum: Option<NonZeroUsize>,
    /// One for each label and agent, or with a quorum for each label, in their order.
    pub checks: Vec<Summary>,
    /// Why agents could not tell; `None` where that is not known: out of roll-ups, or of several agents together.
    pub silences: Option<Vec<Silence>>,
}

/// What a report was made of, and so how exact it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The logs themselves.
    Logs,
    /// Roll-ups: percentiles are estimates (see [`percentile`](crate::store::rollup::percentile)), and outages are not known.
    Hours,
}

/// What is known of one label, as one agent saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Which check.
    pub label: Arc<str>,
    /// Who looked; `None` where nobody did, or several together.
    pub agent: Option<Arc<str>>,
    /// Where several looked together: how many, and how many of them it takes.
    pub quorum: Option<Quorum>,
    /// How it is at the end of the range: what the last log says, while that is not too old to say anything. Never
    /// `missed`: that is `unknown`.
    pub state: Verdict,
    /// What people call the maintenance that it is in at the end of the range.
    pub maintenance: Option<Arc<str>>,
    /// It changes all the time; `None` where that is not known: out of roll-ups, or of several agents together.
    pub flapping: Option<bool>,
    /// The last slot that there is a log of.
    pub last_due_at: Option<Timestamp>,
    /// How the range is shared out.
    pub time: Time,
    /// Slots in the range that were run.
    pub logs: u64,
    /// Slots in the range that were not.
    pub missed: u64,
    /// Of those that were run, how many the agent itself may have slowed; `None` where that is not known: out of roll-ups, or of
    /// older agents.
    pub strained: Option<Strained>,
    /// How long the checks took that found the target up or degraded; `None` where none did.
    pub durations: Option<Percentiles>,
    /// The newest outages, in their order.
    pub outages: Vec<Outage>,
    /// How many older ones there were besides.
    pub outages_left_out: u64,
}

/// How many agents have to say so, of how many that looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// At least this many.
    pub needed: NonZeroUsize,
    /// Those that have logs in the range.
    pub agents: usize,
}

/// `2 of 3`.
impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.needed, self.agents)
    }
}

/// How a range of time is shared out; all five together are the range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// It worked.
    pub up: Duration,
    /// It worked, but past a limit.
    pub degraded: Duration,
    /// It did not work.
    pub down: Duration,
    /// Nobody knows.
    pub unknown: Duration,
    /// Nobody asks: it was maintenance. None of it is in the others.
    pub planned: Duration,
}

impl Time {
    /// There is no other time: of nothing, there are no shares.
    pub fn is_all_planned(&self) -> bool {
        !self.planned.is_zero() && (self.up + self.degraded + self.down + self.unknown).is_zero()
    }

    /// `verdict` lasted for so long, what was planned not counted; what is unknown is left over at the end.
    fn add(&mut self, verdict: Verdict, length: Duration) {
        match verdict {
            Verdict::Up => self.up += length,
            Verdict::Degraded => self.degraded += length,
            Verdict::Down => self.down += length,
            Verdict::Unknown | Verdict::Missed => {}
        }
    }

    /// What is left of `range` is unknown, where it was not `planned`.
    fn and_the_rest_of(self, range: Duration, planned: Duration) -> Self {
        Time { unknown: range.saturating_sub(self.up + self.degraded + self.down + planned), planned, ..self }
    }
}

/// A run of `down` logs, where the check has a [`Confirm`] one that was confirmed. Only `up` or `degraded` ends it: what is unknown
/// in between neither ends it nor counts to its length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When its first log was due; the beginning of the range when that lies before.
    pub start: Timestamp,
    /// It was down already when the range began.
    pub began_before: bool,
    /// When the log was due that ended it; `None`: no log of the range did, it is still open.
    pub end: Option<Timestamp>,
    /// How long it is known to have been down.
    pub down: Duration,
    /// How much of that was planned.
    pub planned: Duration,
    /// Why, by its first log; with a quorum by the log that completed it.
    pub reason: Option<Arc<str>>,
    /// With a quorum, who said so while it was complete, in order.
    pub agents: Vec<Arc<str>>,
}

/// By label, how many results turn what is shown; of any other label the first one does.
pub type Confirms = HashMap<Arc<str>, Confirm>;

/// How logs are looked at; none of it alters them.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// What it takes until what is shown of a check turns.
    pub confirms: Confirms,
    /// The maintenance in the range.
    pub planned: Planned,
}

impl View {
    /// How many rows before a range are looked at, of each agent that looks at `label`, to know how it is shown when the range begins:
    /// twice those that turn it, since it may have turned before the last of them.
    pub fn rows_before(&self, label: &str) -> usize {
        2 * self.confirm(label).of().max(flapping::LOGS + 1)
    }

    fn confirm(&self, label: &str) -> Confirm {
        self.confirms.get(label).copied().unwrap_or_default()
    }
}

/// Sums up what `archive` has of the labels in `asked` (none: of all) in `from..to`; `to` is not after now. Those of `asked`
/// and `listed` that it has nothing of are unknown all the time. `progress` is told now and then how many rows were read.
///
/// # Errors
/// A sentence for people, when the store can't be read.
pub fn summed_up(
    archive: &mut dyn Archive,
    asked: &[Arc<str>],
    listed: &[Arc<str>],
    (from, to): (Timestamp, Timestamp),
    view: &View,
    progress: &mut dyn FnMut(usize),
) -> Result<Report, String> {
    let mut sums = Sums::new(from, to).seen_by(view);
    read(archive, asked, (from, to), &|label| view.rows_before(label), progress, &mut |row| sums.push(row))?;
    Ok(sums.report(asked.iter().chain(listed)))
}

fn read(
    archive: &mut dyn Archive,
    asked: &[Arc<str>],
    range: (Timestamp, Timestamp),
    before: Before<'_>,
    progress: &mut dyn FnMut(usize),
    each: &mut dyn FnMut(Row),
) -> Result<(), String> {
    let mut rows = 0_usize;
    archive.rows(asked, range, before, &mut |row| {
        each(row);
        rows += 1;
        if rows.is_multiple_of(PROGRESS_ROWS) {
            progress(rows);
        }
    })
}
