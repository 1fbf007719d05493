//! Maintenance: time that was planned to be out of order. Checks go on in it, and logs stay as they are; what reports say of the
//! rest of the time leaves it out.
//!
//! Pure: which spans of time a window is, by its recurrence and a zone's rules. What reports make of them is in
//! [`crate::report`].

mod cron;
mod zone;

pub use cron::Cron;
pub use zone::Zone;

use std::sync::Arc;
use std::time::Duration;

use glob::Pattern;

use crate::clock::Timestamp;

/// In seconds.
const DAY: i64 = 86_400;
const MINUTE: i64 = 60;
/// How far ahead the next time is looked for: the 29th of February may be eight years away, on a Sunday 40.
const AHEAD_DAYS: i64 = 41 * 366;

/// From when until when.
pub type Span = (Timestamp, Timestamp);

/// Planned time of some checks, once or again and again.
#[derive(Clone, Debug)]
pub struct Window {
    /// What people call it.
    pub name: Arc<str>,
    /// Whose it is; none: that of all checks.
    pub labels: Vec<Pattern>,
    /// When it begins.
    pub begins: Begins,
    /// How long it lasts.
    pub lasts: Duration,
}

/// When a window begins.
#[derive(Clone, Debug)]
pub enum Begins {
    /// Once.
    Once(Timestamp),
    /// Whenever the clocks of a zone show so.
    Again {
        /// As it was written, under `weekly` or `cron`.
        typed: Arc<str>,
        /// Whether that was `weekly`.
        weekly: bool,
        /// What it means.
        cron: Cron,
        /// Whose clocks.
        zone: Zone,
    },
}

impl Window {
    /// Whether it is planned time of this check.
    pub fn is_of(&self, label: &str) -> bool {
        self.labels.is_empty() || self.labels.iter().any(|pattern| fits(pattern, label))
    }

    /// Those of its patterns that none of `labels` fits.
    pub fn unknown<'a>(&self, labels: impl Iterator<Item = &'a str> + Clone) -> impl Iterator<Item = &str> {
        let unknown = self.labels.iter().filter(move |pattern| !labels.clone().any(|label| fits(pattern, label)));
        unknown.map(Pattern::as_str)
    }

    /// Whole, those that lie in `from..=to` or reach into it.
    pub fn spans(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Span> + '_ {
        let lasts = i64::try_from(self.lasts.as_micros()).unwrap_or(i64::MAX);
        let begins: Box<dyn Iterator<Item = i64> + '_> = match &self.begins {
            Begins::Once(at) => Box::new(std::iter::once(at.as_micros())),
            Begins::Again { cron, zone, .. } => {
                // A day of local time begins less than a day before or after the one of UTC.
                let days = day_of(from.as_micros().saturating_sub(lasts)) - 1..=day_of(to.as_micros()) + 1;
                Box::new(cron.moments(zone, days).map(|seconds| seconds.saturating_mul(1_000_000)))
            }
        };
        // A `Timestamp` is never before 1970, as one that begins there may be: it ends when it ends all the same.
        let moment = Timestamp::from_micros;
        let spans = begins.map(move |begin| (moment(begin), moment(begin.saturating_add(lasts))));
        spans.filter(move |(begin, end)| *begin <= to && *end > from)
    }

    /// The one that goes on at `now`, or else the next; `None`: there is none any more.
    pub fn next(&self, now: Timestamp) -> Option<Span> {
        let until = match self.begins {
            Begins::Once(at) => at.max(now),
            Begins::Again { .. } => now.plus(Duration::from_secs(AHEAD_DAYS.unsigned_abs() * DAY.unsigned_abs())),
        };
        self.spans(now, until).next()
    }
}

/// As it stands, or as a pattern.
fn fits(pattern: &Pattern, label: &str) -> bool {
    pattern.as_str() == label || pattern.matches(label)
}

/// The day of UTC, counted from 1970-01-01.
fn day_of(micros: i64) -> i64 {
    micros.div_euclid(DAY * 1_000_000)
}

#[cfg(test)]
mod tests;
