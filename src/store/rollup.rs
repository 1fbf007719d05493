//! Roll-ups: what the logs of one label and agent come to in each hour, for pages and long reports.
//!
//! A store adds to them what is *new* of a batch, in the transaction that keeps it, so what comes twice never counts twice.
//! They are sums, so the order in which logs arrive does not matter. What that costs: a log counts for its whole interval, also
//! where the next one comes earlier (after a change of the interval, or of two agents with one name). A report over the logs
//! themselves tells these apart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::check::Verdict;
use crate::clock::Timestamp;
use crate::logs::Log;

/// How long a roll-up is.
pub const HOUR: Duration = Duration::from_secs(3_600);
const HOUR_MICROS: i64 = 3_600_000_000;
/// A log speaks for no longer than this, in milliseconds: a longer interval counts for its first day.
const INTERVAL_MS_MAX: u64 = 24 * 3_600_000;
/// How many classes of durations are told apart.
pub const BUCKETS: usize = 40;

/// One hour of one label, as one agent saw it. Each log adds to the hour that it was due in, so a label and agent have a roll-up
/// for every hour in which they have a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hour {
    /// Which check.
    pub label: Arc<str>,
    /// Who looked.
    pub agent: Arc<str>,
    /// When it begins.
    pub hour: Timestamp,
    /// How long it was up, in milliseconds.
    pub up_ms: u32,
    /// How long it was degraded, in milliseconds.
    pub degraded_ms: u32,
    /// How long it was down, in milliseconds. The rest of the hour is unknown.
    pub down_ms: u32,
    /// Slots that were due in the hour, by verdict.
    pub slots: Slots,
    /// How many of the checks that found the target up or degraded took how long, by [`bucket`].
    pub latency: [u32; BUCKETS],
}

/// Slots by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// It worked.
    pub up: u32,
    /// It worked, but past a limit.
    pub degraded: u32,
    /// It did not work.
    pub down: u32,
    /// A check ran and could not tell.
    pub unknown: u32,
    /// No check ran. A run of missed slots counts in the hour of its first one.
    pub missed: u32,
}

/// The class of a duration in microseconds: class 0 ends at 125 µs, and each goes up to √2 times the end of the one before; the
/// last has no end.
pub fn bucket(duration_us: u64) -> usize {
    BOUNDS_US.partition_point(|bound| *bound <= duration_us)
}

/// Where the classes end, in microseconds; the durations of a class lie below its end.
pub const BOUNDS_US: [u64; BUCKETS - 1] = bounds();

const fn bounds() -> [u64; BUCKETS - 1] {
    let (mut bounds, mut nth) = ([0; BUCKETS - 1], 0);
    while nth < BUCKETS - 1 {
        // 125 × √2^nth
        bounds[nth] = (15_625_u64 << nth).isqrt();
        nth += 1;
    }
    bounds
}

/// What `new` logs add, in the order of label, agent and hour: stores that take them in this order do not wait for each other
/// in a circle.
pub fn roll_up<'a>(new: impl Iterator<Item = &'a Log>) -> Vec<Hour> {
    let mut hours = BTreeMap::new();
    for log in new {
        add(&mut hours, log);
    }
    hours.into_values().collect()
}

type Hours<'a> = BTreeMap<(&'a str, &'a str, Timestamp), Hour>;

fn add<'a>(hours: &mut Hours<'a>, log: &'a Log) {
    let first = hour_of(log.due_at);
    let own = entry(hours, log, first);
    let (slot, by) = match log.verdict {
        Verdict::Up => (&mut own.slots.up, 1),
        Verdict::Degraded => (&mut own.slots.degraded, 1),
        Verdict::Down => (&mut own.slots.down, 1),
        Verdict::Unknown => (&mut own.slots.unknown, 1),
        Verdict::Missed => (&mut own.slots.missed, log.as_missed().map_or(1, |missed| missed.slots)),
    };
    *slot = slot.saturating_add(u32::try_from(by).unwrap_or(u32::MAX));
    if let (Verdict::Up | Verdict::Degraded, Some(duration_us)) = (log.verdict, log.duration_us) {
        own.latency[bucket(duration_us)] += 1;
    }
    let (mut hour, mut at) = (first, log.due_at.as_millis());
    let end = at + log.interval_ms.min(INTERVAL_MS_MAX);
    while at < end {
        let next = end.min(hour.plus(HOUR).as_millis());
        let of_hour = entry(hours, log, hour);
        let time_ms = match log.verdict {
            Verdict::Up => &mut of_hour.up_ms,
            Verdict::Degraded => &mut of_hour.degraded_ms,
            Verdict::Down => &mut of_hour.down_ms,
            Verdict::Unknown | Verdict::Missed => return,
        };
        *time_ms = time_ms.saturating_add(u32::try_from(next - at).unwrap_or(u32::MAX));
        (at, hour) = (next, hour.plus(HOUR));
    }
}

fn entry<'h, 'a>(hours: &'h mut Hours<'a>, log: &'a Log, hour: Timestamp) -> &'h mut Hour {
    hours.entry((&log.label, &log.agent, hour)).or_insert_with(|| Hour {
        label: log.label.clone(),
        agent: log.agent.clone(),
        hour,
        up_ms: 0,
        degraded_ms: 0,
        down_ms: 0,
        slots: Slots::default(),
        latency: [0; BUCKETS],
    })
}

/// The full hour that `at` lies in.
pub fn hour_of(at: Timestamp) -> Timestamp {
    let micros = at.as_micros();
    Timestamp::from_micros(micros - micros % HOUR_MICROS)
}
