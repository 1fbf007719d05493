//! The core: rows in, a report out. Knows no store.

use std::cmp::{Ordering, Reverse};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::durations::Durations;
use super::{Basis, Outage, Report, Summary, Time};
use crate::check::Verdict;
use crate::clock::Timestamp;
use crate::store::Row;

/// How many outages of one label and agent are kept, the newest; older ones are counted.
const OUTAGES_MAX: usize = 100;
/// The last log still tells the state when two intervals have passed since its slot (it may take one to run, the next one
/// too) and this long, for the way to the store.
const LATE_MAX: Duration = Duration::from_secs(10);

/// Sums up rows that come in the order of label, agent and `due_at`. Within a millisecond, which is as fine as the store
/// sorts, they may come in any order.
#[derive(Debug)]
pub struct Sums {
    from: Timestamp,
    to: Timestamp,
    checks: Vec<Summary>,
    series: Option<Series>,
}

impl Sums {
    /// Nothing is known yet of `from..to`.
    pub fn new(from: Timestamp, to: Timestamp) -> Self {
        Sums { from, to: to.max(from), checks: Vec::new(), series: None }
    }

    /// Adds a row. Those before the range count as far as they reach into it.
    pub fn push(&mut self, row: Row) {
        if let Some(series) = &mut self.series
            && (&series.label, &series.agent) == (&row.label, &row.agent)
        {
            return series.push(row);
        }
        self.checks.extend(self.series.take().map(Series::summary));
        let mut series = Series::new(&row, self.from, self.to);
        series.push(row);
        self.series = Some(series);
    }

    /// The report. A label in `listed` that no row had is unknown all the time.
    pub fn report<'a>(mut self, listed: impl Iterator<Item = &'a Arc<str>>) -> Report {
        self.checks.extend(self.series.take().map(Series::summary));
        let checks = with_unseen(self.checks, listed, self.to.since(self.from));
        Report { from: self.from, to: self.to, basis: Basis::Logs, checks }
    }
}

/// `checks`, and those of `listed` that are not among them and unknown for all of `range`, in order.
pub(super) fn with_unseen<'a>(
    mut checks: Vec<Summary>,
    listed: impl Iterator<Item = &'a Arc<str>>,
    range: Duration,
) -> Vec<Summary> {
    let mut unseen: Vec<_> = listed.filter(|label| !checks.iter().any(|check| check.label == **label)).collect();
    unseen.sort();
    unseen.dedup();
    checks.extend(unseen.into_iter().map(|label| nothing_known(Arc::clone(label), range)));
    checks.sort_by(|a, b| (&a.label, &a.agent).cmp(&(&b.label, &b.agent)));
    checks
}

pub(super) fn nothing_known(label: Arc<str>, range: Duration) -> Summary {
    Summary {
        label,
        agent: None,
        state: Verdict::Unknown,
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
    /// The newest row: how long it speaks is only known when the next one comes.
    held: Option<Row>,
    /// The slot of the row before it.
    counted: Option<Timestamp>,
    /// Time before this is shared out; what of it no row spoke for is unknown.
    shared_until: Timestamp,
    time: Time,
    logs: u64,
    missed: u64,
    durations: Durations,
    open: Option<Outage>,
    ended: VecDeque<Outage>,
    left_out: u64,
}

impl Series {
    fn new(row: &Row, from: Timestamp, to: Timestamp) -> Self {
        Series {
            label: Arc::clone(&row.label),
            agent: Arc::clone(&row.agent),
            from,
            to,
            held: None,
            counted: None,
            shared_until: from,
            time: Time::default(),
            logs: 0,
            missed: 0,
            durations: Durations::new(),
            open: None,
            ended: VecDeque::new(),
            left_out: 0,
        }
    }

    fn push(&mut self, row: Row) {
        if row.due_at >= self.to || self.counted.is_some_and(|counted| row.due_at <= counted) {
            return;
        }
        let Some(held) = self.held.take() else {
            self.held = Some(row);
            return;
        };
        self.held = Some(match held.due_at.cmp(&row.due_at) {
            Ordering::Less => {
                self.count(&held, row.due_at);
                row
            }
            Ordering::Greater => {
                self.count(&row, held.due_at);
                held
            }
            // One slot, one log, whichever of them comes first: the worse of two that contradict each other.
            Ordering::Equal if weight(&held) < weight(&row) => row,
            Ordering::Equal => held,
        });
    }

    /// Counts `row`, after which the next one is due at `next`.
    fn count(&mut self, row: &Row, next: Timestamp) {
        self.counted = Some(row.due_at);
        let until = last_slot(row).plus(row.interval).min(next).min(self.to);
        if until <= self.from && row.due_at < self.from {
            return;
        }
        let speaks_for = until.since(row.due_at.max(self.shared_until));
        self.shared_until = self.shared_until.max(until);
        match row.verdict {
            Verdict::Up => self.time.up += speaks_for,
            Verdict::Degraded => self.time.degraded += speaks_for,
            Verdict::Down => self.time.down += speaks_for,
            Verdict::Unknown | Verdict::Missed => {}
        }
        match row.verdict {
            Verdict::Up | Verdict::Degraded => self.end_outage(row.due_at),
            Verdict::Down => self.go_on_with_outage(row, speaks_for),
            Verdict::Unknown | Verdict::Missed => {}
        }
        if row.verdict == Verdict::Missed {
            self.missed += slots_within(row, self.from, self.to);
        } else if row.due_at >= self.from {
            self.logs += 1;
            let works = matches!(row.verdict, Verdict::Up | Verdict::Degraded);
            row.duration_us.filter(|_| works).into_iter().for_each(|duration| self.durations.push(duration));
        }
    }

    fn go_on_with_outage(&mut self, row: &Row, down: Duration) {
        let outage = self.open.get_or_insert_with(|| Outage {
            start: row.due_at.max(self.from),
            began_before: row.due_at < self.from,
            end: None,
            down: Duration::ZERO,
            reason: row.reason.clone(),
        });
        outage.down += down;
    }

    fn end_outage(&mut self, end: Timestamp) {
        if let Some(outage) = self.open.take() {
            self.keep(Outage { end: Some(end), ..outage });
        }
    }

    fn keep(&mut self, outage: Outage) {
        if self.ended.len() == OUTAGES_MAX {
            self.ended.pop_front();
            self.left_out += 1;
        }
        self.ended.push_back(outage);
    }

    fn summary(mut self) -> Summary {
        let last = self.held.take();
        if let Some(row) = &last {
            self.count(row, Timestamp::MAX);
        }
        if let Some(outage) = self.open.take() {
            self.keep(outage);
        }
        let known = self.time.up + self.time.degraded + self.time.down;
        self.time.unknown = self.to.since(self.from).saturating_sub(known);
        Summary {
            state: last.as_ref().map_or(Verdict::Unknown, |row| state(row, self.to)),
            last_due_at: last.as_ref().map(|row| last_slot(row).min(self.to)),
            label: self.label,
            agent: Some(self.agent),
            time: self.time,
            logs: self.logs,
            missed: self.missed,
            durations: self.durations.percentiles(),
            outages: self.ended.into(),
            outages_left_out: self.left_out,
        }
    }
}

/// What the last row says of `now`.
pub(super) fn state(last: &Row, now: Timestamp) -> Verdict {
    let says_until = last_slot(last).plus(last.interval.saturating_mul(2)).plus(LATE_MAX);
    match last.verdict {
        verdict @ (Verdict::Up | Verdict::Degraded | Verdict::Down) if now <= says_until => verdict,
        _ => Verdict::Unknown,
    }
}

/// When the last of the slots was due that `row` is about.
pub(super) fn last_slot(row: &Row) -> Timestamp {
    row.missed.map_or(row.due_at, |missed| missed.last_due_at.max(row.due_at))
}

/// How many of the slots that `row` covers lie in `from..to`.
fn slots_within(row: &Row, from: Timestamp, to: Timestamp) -> u64 {
    let slots = row.missed.map_or(1, |missed| missed.slots);
    let interval = row.interval.as_micros().max(1);
    let before = |moment: Timestamp| {
        let before = moment.since(row.due_at).as_micros().div_ceil(interval);
        u64::try_from(before).unwrap_or(u64::MAX).min(slots)
    };
    before(to) - before(from)
}

/// The order among logs of one slot; the last of them counts. Every field decides, so that their own order does not.
fn weight(row: &Row) -> impl Ord {
    let verdict = match row.verdict {
        Verdict::Missed => 0,
        Verdict::Unknown => 1,
        Verdict::Up => 2,
        Verdict::Degraded => 3,
        Verdict::Down => 4,
    };
    let missed = row.missed.map(|missed| (missed.last_due_at, missed.slots));
    (verdict, row.interval, row.duration_us, Reverse(row.reason.clone()), missed)
}
