//! Sinks that know SQL, and the queries that reports and pages ask. What a store is to the rest: three functions that open it,
//! and what each of them gives back.

mod delivery;
pub mod postgres;
pub mod rollup;
pub mod sqlite;
pub mod watch;

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::check::Verdict;
use crate::clock::{SystemClock, Timestamp};
use crate::config;
use crate::flow::{Fault, Sink};
use crate::logs::{Log, Missed};
use rollup::Uptime;

/// How far ahead of this machine's clock a log may be.
pub(crate) const AHEAD_MAX: Duration = DAY;

/// Opens the store for writing, its schema up to date.
///
/// # Errors
/// A sentence for people.
pub fn sink(store: &config::Store) -> Result<Box<dyn Sink + Send>, String> {
    Ok(match store {
        config::Store::Sqlite(settings) => Box::new(sqlite::Sqlite::open(settings, Arc::new(SystemClock))?),
        config::Store::Postgres(settings) => Box::new(postgres::Postgres::new(settings, Arc::new(SystemClock))),
    })
}

/// Opens the store to keep it in order, beside those who write to it.
///
/// # Errors
/// A sentence for people.
pub fn keeper(store: &config::Store) -> Result<Box<dyn Keep>, String> {
    Ok(match store {
        config::Store::Sqlite(settings) => Box::new(sqlite::Sqlite::open(settings, Arc::new(SystemClock))?),
        config::Store::Postgres(settings) => Box::new(postgres::Keeper::new(settings)),
    })
}

/// Opens the store for reading.
///
/// # Errors
/// A sentence for people.
pub fn archive(store: &config::Store) -> Result<Box<dyn Archive>, String> {
    Ok(match store {
        config::Store::Sqlite(settings) => Box::new(sqlite::Archive::open(&settings.path)?),
        config::Store::Postgres(settings) => Box::new(postgres::Archive::open(settings)?),
    })
}

/// Keeps a store in order: what is older than the retention goes, the days ahead are made.
pub trait Keep: Send {
    /// One round of bounded work, so that others get to write in between: while there is more, call again after a moment.
    ///
    /// # Errors
    /// See [`Fault`]; how the store stands is not known.
    fn keep(&mut self, now: Timestamp) -> Result<Kept, Fault>;
}

/// What one round of keeping did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Logs that went one by one.
    pub deleted: u64,
    /// Days that went whole, as `2026-08-28`.
    pub dropped: Vec<String>,
    /// Whether there may be more to do.
    pub more: bool,
    /// How the store stands now.
    pub condition: Condition,
    /// Why the first part failed of those that did. All others were done.
    pub fault: Option<Fault>,
}

/// How a store stands. What it cannot say is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Days after today that logs can go into; where the store needs none made, `None`.
    pub days_ahead: Option<u32>,
    /// The first day that it has logs of (RFC 3339, `2026-08-28`).
    pub oldest_day: Option<String>,
    /// The last one.
    pub newest_day: Option<String>,
    /// What it set aside and still has.
    pub rejected: Option<u64>,
    /// When the retention last ran to its end.
    pub retained_at: Option<Timestamp>,
}

/// How many rows before a range a report needs, by label.
pub type Before<'a> = &'a dyn Fn(&str) -> usize;

/// What reports and pages ask of a store. Each answer is of one moment.
pub trait Archive {
    /// The labels that the store knows, in order.
    ///
    /// # Errors
    /// A sentence for people.
    fn labels(&mut self) -> Result<Vec<Arc<str>>, String>;

    /// Gives `each` the rows of `wanted` (none: of all labels) that lie in the range or reach into it from before, in the order of
    /// label, agent and `due_at`; and of each label and agent at least as many of the last rows before it as `before` says of the label.
    ///
    /// # Errors
    /// A sentence for people.
    fn rows(
        &mut self,
        wanted: &[Arc<str>],
        range: (Timestamp, Timestamp),
        before: Before<'_>,
        each: &mut dyn FnMut(Row),
    ) -> Result<(), String>;

    /// The last row of each label and agent, in their order.
    ///
    /// # Errors
    /// A sentence for people.
    fn last(&mut self) -> Result<Vec<Row>, String>;

    /// What the roll-ups of `wanted` (none: of all labels) in `from..to`, both at full hours, come to: one for each label and
    /// agent, in their order.
    ///
    /// # Errors
    /// A sentence for people.
    fn uptimes(&mut self, wanted: &[Arc<str>], from: Timestamp, to: Timestamp) -> Result<Vec<Uptime>, String>;

    /// What arrived of each agent's runs that have a log due at `since` or later, or one set aside since then, in the order of agent
    /// and boot.
    ///
    /// # Errors
    /// A sentence for people.
    fn delivery(&mut self, since: Timestamp) -> Result<Vec<Delivery>, String>;
}

/// What arrived of one run of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Who wrote the logs.
    pub agent: Arc<str>,
    /// Which run of it.
    pub boot: Uuid,
    /// The lowest `seq` of what arrived: is there, or was set aside.
    pub lowest: u64,
    /// The highest.
    pub highest: u64,
    /// How many logs are there.
    pub stored: u64,
    /// How many were set aside, as far as it is known of them that they were this run's.
    pub rejected: u64,
    /// How many came again and were dropped.
    pub duplicates: u64,
    /// Up to the highest, what is neither there nor set aside: first and last `seq` of each range, in order, at most
    /// [`MISSING_MAX`] of them. From 1 on, or in a run that began before the oldest day that the store still has, from the first
    /// that is there.
    pub missing: Vec<(u64, u64)>,
    /// How many numbers are missing, also in ranges that are left out.
    pub missing_total: u64,
    /// When the first and the last of the logs that are there was due; `None`: all were set aside.
    pub due_at: Option<(Timestamp, Timestamp)>,
}

/// How many missing ranges of one run are listed.
pub const MISSING_MAX: usize = 100;

/// Why no store takes `log`; `None`: it does.
pub(crate) fn unfit(log: &Log, oldest: Timestamp, newest: Timestamp) -> Option<&'static str> {
    // A missed range, too, is found by its beginning, whatever is kept of the time that it reaches into.
    if log.due_at < oldest {
        return Some("older than the retention");
    }
    let last = log.as_missed().map_or(log.due_at, |missed| missed.last_due_at.max(log.due_at));
    if last > newest {
        return Some("more than a day ahead of this machine's clock");
    }
    if log.label.contains('\0') {
        return Some("the label holds a NUL, which not every store can keep");
    }
    // Queries and retention find a log by the time in its uid.
    (millis(&log.uid) != log.due_at.as_millis()).then_some("the uid has another time than `due_at`")
}

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3_600);
pub(crate) const DAY_MICROS: i64 = 24 * 3_600 * 1_000_000;

/// The beginning of the day of UTC that `at` lies in.
pub(crate) fn day_of(at: Timestamp) -> Timestamp {
    let micros = at.as_micros();
    Timestamp::from_micros(micros - micros % DAY_MICROS)
}

/// The milliseconds that a UUIDv7 carries (RFC 9562, section 5.7).
fn millis(uid: &Uuid) -> u64 {
    uid.as_u64_pair().0 >> 16
}

/// When a run began: its boot id is a UUIDv7 of that moment.
pub(crate) fn began_at(boot: &Uuid) -> Timestamp {
    Timestamp::from_micros(i64::try_from(millis(boot).saturating_mul(1_000)).unwrap_or(i64::MAX))
}

/// Not after any uid of `at`'s millisecond, and after all of those before it.
pub(crate) fn first_uid(at: Timestamp) -> Uuid {
    Uuid::from_u64_pair(at.as_millis() << 16, 0)
}

/// As fine as uids tell the time.
pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);

/// Of the last rows before `from`, in their order, the place of the first that a report needs: it reaches into the range, or it is one
/// of the last `before`. What comes after it ends what it says, and is needed too.
pub(crate) fn first_needed(rows: &[Row], from: Timestamp, before: usize) -> usize {
    let reaches = rows.iter().position(|row| row.speaks_until() > from);
    reaches.unwrap_or(rows.len()).min(rows.len().saturating_sub(before))
}

/// What a report reads of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Who wrote it.
    pub agent: Arc<str>,
    /// Which check.
    pub label: Arc<str>,
    /// When the slot was due; for `missed`, the first of the slots that it covers.
    pub due_at: Timestamp,
    /// How far apart the slots are: the weight of this log in time.
    pub interval: Duration,
    /// What it came to.
    pub verdict: Verdict,
    /// How long it took, in microseconds; `None` for `missed`.
    pub duration_us: Option<u64>,
    /// How long its thread got no CPU meanwhile, in microseconds; `None`: not known.
    pub starved_us: Option<u64>,
    /// Why, for people.
    pub reason: Option<Arc<str>>,
    /// Which slots, and why; for `missed` only.
    pub missed: Option<Missed>,
}

impl Row {
    /// When the last of the slots was due that it is about.
    pub fn last_slot(&self) -> Timestamp {
        self.missed.map_or(self.due_at, |missed| missed.last_due_at.max(self.due_at))
    }

    /// When the time ends that it speaks for, where no other row comes before.
    pub fn speaks_until(&self) -> Timestamp {
        self.last_slot().plus(self.interval)
    }
}
