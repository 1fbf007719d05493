//! Several agents on one label, as one: it is down only while enough of them say so.
//!
//! Each agent says at each moment what its own report would have: up, degraded, down, or nothing where that is unknown. With a
//! quorum of N the label is down while at least N agents say so; else degraded while at least N say degraded or down; else up
//! while somebody says up or degraded; else unknown. All of it comes out of the logs, so another quorum judges the past anew.
//!
//! Of one label at a time, what is held is when each agent changed its mind.

#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::outages::Outages;
use super::planned::{Planned, Spans};
use super::tally::Tally;
use super::turns::{Turn, Turns, state};
use super::{Basis, Outage, Quorum, Report, Summary, Time, read};
use crate::check::Verdict;
use crate::clock::Timestamp;
use crate::store::{Archive, Row};

/// As [`super::summed_up`]: one summary for each label, as `quorum` of its agents see it.
///
/// # Errors
/// A sentence for people, when the store can't be read.
pub fn agreed(
    archive: &mut dyn Archive,
    quorum: NonZeroUsize,
    asked: &[Arc<str>],
    listed: &[Arc<str>],
    (from, to): (Timestamp, Timestamp),
    planned: &Planned,
    progress: &mut dyn FnMut(usize),
) -> Result<Report, String> {
    let mut panels = Panels::new(quorum, planned, from, to);
    read(archive, asked, (from, to), &|_| 0, progress, &mut |row| panels.push(row))?;
    Ok(panels.report(asked.iter().chain(listed)))
}

/// What to tell people of checks that fewer agents looked at than the quorum needs; those that nobody looked at are unknown anyway.
pub fn too_few_agents(report: &Report) -> Option<String> {
    let of = |check: &&Summary| check.quorum.is_some_and(|of| (1..of.needed.get()).contains(&of.agents));
    let mut few = report.checks.iter().filter(of);
    let (first, needed) = (few.next()?, report.quorum?);
    let and_more = match few.count() {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    Some(format!("fewer than {needed} agents looked at `{}`{and_more}: that is never down", first.label))
}

/// Sums up rows that come in the order of label, agent and `due_at`.
struct Panels<'a> {
    quorum: NonZeroUsize,
    planned: &'a Planned,
    from: Timestamp,
    to: Timestamp,
    checks: Vec<Summary>,
    panel: Option<Panel>,
}

impl<'p> Panels<'p> {
    fn new(quorum: NonZeroUsize, planned: &'p Planned, from: Timestamp, to: Timestamp) -> Self {
        Panels { quorum, planned, from, to: to.max(from), checks: Vec::new(), panel: None }
    }

    fn push(&mut self, row: Row) {
        if let Some(panel) = &mut self.panel
            && panel.label == row.label
        {
            return panel.push(row);
        }
        self.end_panel();
        self.panel.insert(Panel::new(&row.label, self.from, self.to)).push(row);
    }

    fn end_panel(&mut self) {
        self.checks.extend(self.panel.take().map(|panel| panel.summary(self.quorum, self.planned)));
    }

    fn report<'a>(mut self, listed: impl Iterator<Item = &'a Arc<str>>) -> Report {
        self.end_panel();
        let (from, to, quorum) = (self.from, self.to, Some(self.quorum));
        Report { from, to, basis: Basis::Logs, quorum, checks: self.checks, silences: None }
            .listing(listed, self.planned)
    }
}

/// The agents of one label.
struct Panel {
    label: Arc<str>,
    from: Timestamp,
    to: Timestamp,
    agents: Vec<Arc<str>>,
    /// Of the last of them.
    turns: Turns,
    /// When and what the last of them said at last.
    said: Option<(Timestamp, Verdict)>,
    changes: Vec<Change>,
    tally: Tally,
    /// What the agents say now.
    now: Votes,
    last_due_at: Option<Timestamp>,
}

/// An agent says something else from now on.
struct Change {
    at: Timestamp,
    /// Its place among the agents.
    agent: usize,
    says: Verdict,
    /// It said so already when the range began.
    began_before: bool,
    /// Where it says that the label is down.
    reason: Option<Arc<str>>,
}

impl Panel {
    fn new(label: &Arc<str>, from: Timestamp, to: Timestamp) -> Self {
        Panel {
            label: Arc::clone(label),
            from,
            to,
            agents: Vec::new(),
            turns: Turns::new(from, to),
            said: None,
            changes: Vec::new(),
            tally: Tally::new(),
            now: Votes::default(),
            last_due_at: None,
        }
    }

    fn push(&mut self, row: Row) {
        if self.agents.last() != Some(&row.agent) {
            self.end_agent();
            self.agents.push(Arc::clone(&row.agent));
        }
        if let Some(turn) = self.turns.push(row) {
            self.hear(&turn);
        }
    }

    fn end_agent(&mut self) {
        if let Some(last) = self.turns.end() {
            self.hear(&last);
            self.now.count(state(&last.row, self.to));
            self.last_due_at = self.last_due_at.max(Some(last.row.last_slot().min(self.to)));
        }
        if let Some((until, _)) = self.said.take() {
            self.note(until, Verdict::Unknown, None);
        }
        self.turns = Turns::new(self.from, self.to);
    }

    fn hear(&mut self, turn: &Turn) {
        self.tally.count(turn, self.from, self.to);
        let Some((start, end)) = turn.span.filter(|(start, end)| start < end) else { return };
        let says = match turn.row.verdict {
            Verdict::Missed => Verdict::Unknown,
            verdict => verdict,
        };
        match self.said {
            Some((until, before)) if until == start && before == says => {}
            said => {
                // What nobody spoke for is unknown.
                if let Some((until, _)) = said.filter(|(until, _)| *until < start) {
                    self.note(until, Verdict::Unknown, None);
                }
                self.note(start, says, Some(&turn.row));
            }
        }
        self.said = Some((end, says));
    }

    fn note(&mut self, at: Timestamp, says: Verdict, row: Option<&Row>) {
        let began_before = row.is_some_and(|row| row.due_at < self.from);
        let reason = row.filter(|_| says == Verdict::Down).and_then(|row| row.reason.clone());
        let agent = self.agents.len().saturating_sub(1);
        self.changes.push(Change { at, agent, says, began_before, reason });
    }

    fn summary(mut self, quorum: NonZeroUsize, planned: &Planned) -> Summary {
        self.end_agent();
        let planned = planned.spans(&self.label);
        self.changes.sort_by_key(|change| change.at);
        let mut sweep = Sweep::new(quorum.get(), self.from, &planned, &self.agents);
        let mut changes = self.changes.iter().peekable();
        while let Some(change) = changes.next() {
            sweep.go_to(change.at);
            sweep.apply(change);
            if changes.peek().is_none_or(|next| next.at > change.at) {
                sweep.judge();
            }
        }
        sweep.go_to(self.to);
        let (outages, outages_left_out) = sweep.outages.newest();
        Summary {
            label: self.label,
            agent: None,
            quorum: Some(Quorum { needed: quorum, agents: self.agents.len() }),
            state: self.now.verdict(quorum.get()),
            maintenance: None,
            flapping: None,
            last_due_at: self.last_due_at,
            time: sweep.time.and_the_rest_of(self.to.since(self.from), planned.within(self.from, self.to)),
            logs: self.tally.logs,
            missed: self.tally.missed,
            strained: self.tally.strained.if_known(),
            durations: self.tally.durations.percentiles(),
            outages,
            outages_left_out,
        }
    }
}

/// How many agents say what.
#[derive(Clone, Copy, Default)]
struct Votes {
    up: usize,
    degraded: usize,
    down: usize,
}

impl Votes {
    fn count(&mut self, says: Verdict) {
        self.of(says).into_iter().for_each(|votes| *votes += 1);
    }

    fn uncount(&mut self, says: Verdict) {
        self.of(says).into_iter().for_each(|votes| *votes -= 1);
    }

    fn of(&mut self, says: Verdict) -> Option<&mut usize> {
        match says {
            Verdict::Up => Some(&mut self.up),
            Verdict::Degraded => Some(&mut self.degraded),
            Verdict::Down => Some(&mut self.down),
            Verdict::Unknown | Verdict::Missed => None,
        }
    }

    fn verdict(self, quorum: usize) -> Verdict {
        match self {
            Votes { down, .. } if down >= quorum => Verdict::Down,
            Votes { degraded, down, .. } if degraded + down >= quorum => Verdict::Degraded,
            Votes { up, degraded, .. } if up + degraded > 0 => Verdict::Up,
            _ => Verdict::Unknown,
        }
    }
}

/// Goes through the range from change to change.
struct Sweep<'a> {
    quorum: usize,
    from: Timestamp,
    planned: &'a Spans,
    agents: &'a [Arc<str>],
    at: Timestamp,
    /// What each agent says; `None`: nothing yet.
    says: Vec<Option<&'a Change>>,
    votes: Votes,
    verdict: Verdict,
    /// The last change to `down`.
    completed_by: Option<&'a Change>,
    time: Time,
    outages: Outages,
}

impl<'a> Sweep<'a> {
    fn new(quorum: usize, from: Timestamp, planned: &'a Spans, agents: &'a [Arc<str>]) -> Self {
        Sweep {
            quorum,
            from,
            planned,
            agents,
            at: from,
            says: vec![None; agents.len()],
            votes: Votes::default(),
            verdict: Verdict::Unknown,
            completed_by: None,
            time: Time::default(),
            outages: Outages::default(),
        }
    }

    /// Until then nothing changes.
    fn go_to(&mut self, at: Timestamp) {
        let length = at.since(self.at);
        let planned = self.planned.within(self.at, at);
        self.time.add(self.verdict, length.saturating_sub(planned));
        if self.verdict == Verdict::Down && !length.is_zero() {
            self.go_on_with_outage(length, planned);
        }
        self.at = at;
    }

    fn go_on_with_outage(&mut self, length: Duration, planned: Duration) {
        let down = || self.says.iter().flatten().filter(|change| change.says == Verdict::Down);
        let outage = self.outages.go_on(length, planned, || Outage {
            start: self.at,
            began_before: self.at == self.from && down().filter(|change| change.began_before).count() >= self.quorum,
            end: None,
            down: Duration::ZERO,
            planned: Duration::ZERO,
            reason: self.completed_by.and_then(|change| change.reason.clone()),
            agents: Vec::new(),
        });
        for agent in down().map(|change| &self.agents[change.agent]) {
            if let Err(place) = outage.agents.binary_search(agent) {
                outage.agents.insert(place, Arc::clone(agent));
            }
        }
    }

    fn apply(&mut self, change: &'a Change) {
        if let Some(before) = self.says[change.agent].replace(change) {
            self.votes.uncount(before.says);
        }
        self.votes.count(change.says);
        if change.says == Verdict::Down {
            self.completed_by = Some(change);
        }
    }

    /// All that changes at this moment is known.
    fn judge(&mut self) {
        self.verdict = self.votes.verdict(self.quorum);
        if matches!(self.verdict, Verdict::Up | Verdict::Degraded) {
            self.outages.end(self.at);
        }
    }
}
