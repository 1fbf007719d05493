//! The core: rows in, a report out. Knows no store.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::confirm::{Brings, Shown, Told};
use super::flapping::Flapping;
use super::outages::Outages;
use super::silences::Silences;
use super::tally::Tally;
use super::turns::{Turn, Turns, state};
use super::{Basis, Confirms, Outage, Quorum, Report, Summary, Time};
use crate::check::{Confirm, Verdict};
use crate::clock::Timestamp;
use crate::store::Row;

/// Sums up rows that come in the order of label, agent and `due_at`. Within a millisecond, which is as fine as the store
/// sorts, they may come in any order.
#[derive(Debug)]
pub struct Sums<'a> {
    confirms: Option<&'a Confirms>,
    from: Timestamp,
    to: Timestamp,
    checks: Vec<Summary>,
    silences: Silences,
    series: Option<Series>,
}

impl<'c> Sums<'c> {
    /// Nothing is known yet of `from..to`.
    pub fn new(from: Timestamp, to: Timestamp) -> Self {
        let (to, silences) = (to.max(from), Silences::default());
        Sums { confirms: None, from, to, checks: Vec::new(), silences, series: None }
    }

    /// What is shown of these labels has to be confirmed.
    #[must_use]
    pub fn confirmed(self, confirms: &'c Confirms) -> Self {
        Sums { confirms: Some(confirms), ..self }
    }

    /// Adds a row. Those before the range count as far as they reach into it.
    pub fn push(&mut self, row: Row) {
        if let Some(series) = &mut self.series
            && (&series.label, &series.agent) == (&row.label, &row.agent)
        {
            return series.push(row, &mut self.silences);
        }
        self.end_series();
        let confirm = self.confirms.and_then(|confirms| confirms.get(&row.label)).copied().unwrap_or_default();
        let mut series = Series::new(&row, confirm, (self.from, self.to));
        series.push(row, &mut self.silences);
        self.series = Some(series);
    }

    /// The report. A label in `listed` that no row had is unknown all the time.
    pub fn report<'a>(mut self, listed: impl Iterator<Item = &'a Arc<str>>) -> Report {
        self.end_series();
        let (checks, silences) = (self.checks, Some(self.silences.told()));
        Report { from: self.from, to: self.to, basis: Basis::Logs, quorum: None, checks, silences }.listing(listed)
    }

    fn end_series(&mut self) {
        if let Some(series) = self.series.take() {
            self.checks.push(series.summary(&mut self.silences));
        }
    }
}

impl Report {
    /// With those of `listed` that it has nothing of; in order.
    pub(super) fn listing<'a>(mut self, listed: impl Iterator<Item = &'a Arc<str>>) -> Self {
        let mut unseen: Vec<_> =
            listed.filter(|label| !self.checks.iter().any(|check| check.label == **label)).collect();
        unseen.sort();
        unseen.dedup();
        let range = self.to.since(self.from);
        self.checks.extend(unseen.into_iter().map(|label| nothing_known(Arc::clone(label), self.quorum, range)));
        self.checks.sort_by(|a, b| (&a.label, &a.agent).cmp(&(&b.label, &b.agent)));
        self
    }
}

/// What is known of a label that no row had.
pub(super) fn nothing_known(label: Arc<str>, quorum: Option<NonZeroUsize>, range: Duration) -> Summary {
    Summary {
        label,
        agent: None,
        quorum: quorum.map(|needed| Quorum { needed, agents: 0 }),
        state: Verdict::Unknown,
        flapping: None,
        last_due_at: None,
        time: Time { unknown: range, ..Time::default() },
        logs: 0,
        missed: 0,
        durations: None,
        outages: Vec::new(),
        outages_left_out: 0,
    }
}

/// The rows of one label and agent.
#[derive(Debug)]
struct Series {
    label: Arc<str>,
    agent: Arc<str>,
    from: Timestamp,
    to: Timestamp,
    turns: Turns,
    time: Time,
    tally: Tally,
    shown: Shown,
    flapping: Flapping,
    outages: Outages,
}

impl Series {
    fn new(row: &Row, confirm: Confirm, (from, to): (Timestamp, Timestamp)) -> Self {
        Series {
            label: Arc::clone(&row.label),
            agent: Arc::clone(&row.agent),
            from,
            to,
            turns: Turns::new(from, to),
            time: Time::default(),
            tally: Tally::new(),
            shown: Shown::new(confirm),
            flapping: Flapping::default(),
            outages: Outages::default(),
        }
    }

    fn push(&mut self, row: Row, silences: &mut Silences) {
        if let Some(turn) = self.turns.push(row) {
            self.count(&turn, silences);
        }
    }

    fn count(&mut self, turn: &Turn, silences: &mut Silences) {
        let Turn { row, span: Some(span) } = turn else { return };
        silences.note(row, *span);
        self.time.add(row.verdict, turn.length());
        if let Verdict::Up | Verdict::Degraded | Verdict::Down = row.verdict {
            let down = row.verdict == Verdict::Down;
            let reason = row.reason.clone().filter(|_| down);
            self.show(Told { down, due_at: row.due_at, length: turn.length(), reason });
        }
        self.flapping.push(row.verdict);
        self.tally.count(turn, self.from, self.to);
    }

    fn show(&mut self, told: Told) {
        match self.shown.push(told) {
            Brings::Nothing => {}
            Brings::End(at) => self.outages.end(at),
            Brings::Outage(told) => told.into_iter().for_each(|told| {
                self.outages.go_on(told.length, || Outage {
                    start: told.due_at.max(self.from),
                    began_before: told.due_at < self.from,
                    end: None,
                    down: Duration::ZERO,
                    reason: told.reason,
                    agents: Vec::new(),
                });
            }),
        }
    }

    fn summary(mut self, silences: &mut Silences) -> Summary {
        let last = self.turns.end();
        if let Some(turn) = &last {
            self.count(turn, silences);
        }
        let (outages, outages_left_out) = self.outages.newest();
        Summary {
            state: last.as_ref().map_or(Verdict::Unknown, |last| self.shown.state(state(&last.row, self.to))),
            flapping: Some(self.flapping.flaps()),
            last_due_at: last.as_ref().map(|last| last.row.last_slot().min(self.to)),
            label: self.label,
            agent: Some(self.agent),
            quorum: None,
            time: self.time.and_the_rest_of(self.to.since(self.from)),
            logs: self.tally.logs,
            missed: self.tally.missed,
            durations: self.tally.durations.percentiles(),
            outages,
            outages_left_out,
        }
    }
}
