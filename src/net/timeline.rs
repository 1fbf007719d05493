//! What happened when in one check, for people who look for a fault (`pingeon check`).
//!
//! Kept only where somebody watches (see [`Net::watched`](super::Net::watched)): the agent's checks keep none of it, and a note costs
//! them nothing. Spans and notes are bounded, and whoever writes a note leaves out what is secret.

use std::time::{Duration, Instant};

use crate::check::Phase;

/// Spans of one check; what comes after them is left out.
const SPANS_MAX: usize = 500;
/// Notes of one span; likewise.
const NOTES_MAX: usize = 200;

/// A phase, each time that it is entered: redirects, addresses and servers go through phases again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which.
    pub phase: Phase,
    /// When it began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
    /// What is to be known of it, a line each: addresses, and what was said (`> `) and heard (`< `).
    pub notes: Vec<String>,
}

/// The spans of a check in their order; of one that nobody watches, none.
#[derive(Debug, Default)]
pub struct Timeline(Option<Vec<Span>>);

impl Timeline {
    /// One that is kept.
    pub fn watched() -> Self {
        Timeline(Some(Vec::new()))
    }

    /// Whether it is kept.
    pub fn is_watched(&self) -> bool {
        self.0.is_some()
    }

    /// A new one, which is kept if this one is.
    pub(super) fn alike(&self) -> Self {
        Timeline(self.0.as_ref().map(|_| Vec::new()))
    }

    pub(super) fn enter(&mut self, phase: Phase, began: Instant) {
        if let Some(spans) = &mut self.0
            && spans.len() < SPANS_MAX
        {
            spans.push(Span { phase, began, took: Duration::ZERO, notes: Vec::new() });
        }
    }

    pub(super) fn is_still(&mut self, current: Phase, since: Instant, phase: Phase) {
        let newest = self.0.as_mut().and_then(|spans| spans.last_mut());
        if let Some(span) = newest.filter(|span| span.phase == current && span.began == since) {
            span.phase = phase;
        }
    }

    pub(super) fn leave(&mut self, phase: Phase, since: Instant, took: Duration) {
        let newest = self.0.as_mut().and_then(|spans| spans.last_mut());
        if let Some(span) = newest.filter(|span| span.phase == phase && span.began == since) {
            span.took = took;
        }
    }

    /// Adds lines to the newest span.
    pub fn note<L: IntoIterator<Item = String>>(&mut self, lines: impl FnOnce() -> L) {
        self.note_on(|_| true, lines);
    }

    /// Adds lines to the newest span of `phase`.
    pub fn note_in<L: IntoIterator<Item = String>>(&mut self, phase: Phase, lines: impl FnOnce() -> L) {
        self.note_on(|span| span.phase == phase, lines);
    }

    fn note_on<L: IntoIterator<Item = String>>(&mut self, which: impl Fn(&Span) -> bool, lines: impl FnOnce() -> L) {
        if let Some(span) = self.0.as_mut().and_then(|spans| spans.iter_mut().rev().find(|span| which(span))) {
            let room = NOTES_MAX.saturating_sub(span.notes.len());
            span.notes.extend(lines().into_iter().take(room));
        }
    }

    /// Takes in the spans of another one, which come after those that there are.
    pub(super) fn add(&mut self, other: Timeline) {
        if let (Some(spans), Some(more)) = (&mut self.0, other.0) {
            let room = SPANS_MAX.saturating_sub(spans.len());
            spans.extend(more.into_iter().take(room));
        }
    }

    /// The spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.0.clone().unwrap_or_default()
    }
}
