//! The core: rows in, a report out. Knows no store.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::confirm::{Brings, Shown, Told};
use super::flapping::Flapping;
use super::outages::Outages;
use super::planned::{Planned, Spans};
use super::silences::Silences;
use super::tally::Tally;
use super::turns::{Turn, Turns, state};
use super::{Basis, Outage, Quorum, Report, Summary, Time, View};
use crate::check::Verdict;
use crate::clock::Timestamp;
use crate::store::Row;

/// Sums up rows that come in the order of label, agent and `due_at`. Within a millisecond, which is as fine as the store
/// sorts, they may come in any order.
#[derive(Debug)]
pub struct Sums<'a> {
    view: Option<&'a View>,
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
        Sums { view: None, from, to, checks: Vec::new(), silences, series: None }
    }

    /// Looks at them like this.
    #[must_use]
    pub fn seen_by(self, view: &'c View) -> Self {
        Sums { view: Some(view), ..self }
    }

    /// Adds a row. Those before the range count as far as they reach into it; what is shown when it begins, all of them tell.
    pub fn push(&mut self, row: Row) {
        if let Some(series) = &mut self.series
            && (&series.label, &series.agent) == (&row.label, &row.agent)
        {
            return series.push(row, &mut self.silences);
        }
        self.end_series();
        let mut series = Series::new(&row, self.view.unwrap_or(&View::default()), (self.from, self.to));
        series.push(row, &mut self.silences);
        self.series = Some(series);
    }

    /// The report. A label in `listed` that no row had is unknown all the time.
    pub fn report<'a>(mut self, listed: impl Iterator<Item = &'a Arc<str>>) -> Report {
        self.end_series();
        let (checks, silences) = (self.checks, Some(self.silences.told()));
        let report = Report { from: self.from, to: self.to, basis: Basis::Logs, quorum: None, checks, silences };
        report.listing(listed, self.view.map_or(&Planned::default(), |view| &view.planned))
    }

    fn end_series(&mut self) {
        if let Some(series) = self.series.take() {
            self.checks.extend(series.summary(&mut self.silences));
        }
    }
}

impl Report {
    /// With those of `listed` that it has nothing of; in order, and with the maintenance that each is in.
    pub(super) fn listing<'a>(mut self, listed: impl Iterator<Item = &'a Arc<str>>, planned: &Planned) -> Self {
        let mut unseen: Vec<_> =
            listed.filter(|label| !self.checks.iter().any(|check| check.label == **label)).collect();
        unseen.sort();
        unseen.dedup();
        self.checks.extend(unseen.into_iter().map(|label| {
            let (range, planned) = match self.basis {
                Basis::Logs => (self.to.since(self.from), planned.spans(label).within(self.from, self.to)),
                Basis::Hours => (self.to.since(self.from), Duration::ZERO),
            };
            Summary {
                time: Time::default().and_the_rest_of(range, planned),
                ..nothing_known(Arc::clone(label), self.quorum)
            }
        }));
        self.checks.sort_by(|a, b| (&a.label, &a.agent).cmp(&(&b.label, &b.agent)));
        self.checks.iter_mut().for_each(|check| check.maintenance = planned.at_end(&check.label));
        self
    }
}

/// What is known of a label that no row had, but for how the time is shared out.
pub(super) fn nothing_known(label: Arc<str>, quorum: Option<NonZeroUsize>) -> Summary {
    Summary {
        label,
        agent: None,
        quorum: quorum.map(|needed| Quorum { needed, agents: 0 }),
        state: Verdict::Unknown,
        maintenance: None,
        flapping: None,
        last_due_at: None,
        time: Time::default(),
        logs: 0,
        missed: 0,
        strained: None,
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
    planned: Spans,
    /// There is something of it in the range.
    in_range: bool,
    turns: Turns,
    time: Time,
    tally: Tally,
    shown: Shown,
    /// How many more rows before the range are looked at; when all of them came, there may be others before.
    before_left: usize,
    flapping: Flapping,
    outages: Outages,
}

impl Series {
    fn new(row: &Row, view: &View, (from, to): (Timestamp, Timestamp)) -> Self {
        Series {
            label: Arc::clone(&row.label),
            agent: Arc::clone(&row.agent),
            from,
            to,
            planned: view.planned.spans(&row.label),
            in_range: false,
            turns: Turns::new(from, to),
            time: Time::default(),
            tally: Tally::new(),
            shown: Shown::new(view.confirm(&row.label)),
            before_left: view.rows_before(&row.label),
            flapping: Flapping::default(),
            outages: Outages::default(),
        }
    }

    fn push(&mut self, row: Row, silences: &mut Silences) {
        if row.due_at < self.from {
            self.before_left = self.before_left.saturating_sub(1);
            if self.before_left == 0 {
                self.shown.cut();
            }
        }
        if let Some(turn) = self.turns.push(row) {
            self.count(&turn, silences);
        }
    }

    fn count(&mut self, turn: &Turn, silences: &mut Silences) {
        let Turn { row, span } = turn;
        let planned = span.map_or(Duration::ZERO, |(start, end)| self.planned.within(start, end));
        if let Verdict::Up | Verdict::Degraded | Verdict::Down = row.verdict {
            let down = row.verdict == Verdict::Down;
            let reason = row.reason.clone().filter(|_| down);
            self.show(Told { down, due_at: row.due_at, length: turn.length(), planned, reason });
        }
        self.flapping.push(row.verdict);
        let Some(span) = span else { return };
        self.in_range = true;
        silences.note(row, *span);
        self.time.add(row.verdict, turn.length().saturating_sub(planned));
        self.tally.count(turn, self.from, self.to);
    }

    fn show(&mut self, told: Told) {
        match self.shown.push(told) {
            Brings::Nothing => {}
            Brings::End(at) => self.outages.end(at),
            Brings::Outage(told) => told.into_iter().for_each(|told| {
                self.outages.go_on(told.length, told.planned, || Outage {
                    start: told.due_at.max(self.from),
                    began_before: told.due_at < self.from,
                    end: None,
                    down: Duration::ZERO,
                    planned: Duration::ZERO,
                    reason: told.reason,
                    agents: Vec::new(),
                });
            }),
        }
    }

    /// `None`: all of it lies before the range.
    fn summary(mut self, silences: &mut Silences) -> Option<Summary> {
        let last = self.turns.end();
        if let Some(turn) = &last {
            self.count(turn, silences);
        }
        if !self.in_range {
            return None;
        }
        let planned = self.planned.within(self.from, self.to);
        let (outages, outages_left_out) = self.outages.newest();
        Some(Summary {
            state: last.as_ref().map_or(Verdict::Unknown, |last| self.shown.state(state(&last.row, self.to))),
            maintenance: None,
            flapping: Some(self.flapping.flaps()),
            last_due_at: last.as_ref().map(|last| last.row.last_slot().min(self.to)),
            label: self.label,
            agent: Some(self.agent),
            quorum: None,
            time: self.time.and_the_rest_of(self.to.since(self.from), planned),
            logs: self.tally.logs,
            missed: self.tally.missed,
            strained: self.tally.strained.if_known(),
            durations: self.tally.durations.percentiles(),
            outages,
            outages_left_out,
        })
    }
}
