//! Roll-ups: what the logs of one label and agent come to in each hour, for pages and long reports.
//!
//! A store adds to them what is *new* of a batch, in the transaction that keeps it, so what comes twice never counts twice.
//! They are sums, so the order in which logs arrive does not matter. What that costs: a log counts for its whole interval, also
//! where the next one comes earlier (after a change of the interval, or of two agents with one name). A report over the logs
//! themselves tells these apart.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::check::Verdict;
use crate::clock::Timestamp;
use crate::logs::Log;
use crate::store::Row;

/// How long a roll-up is.
pub const HOUR: Duration = Duration::from_secs(3_600);
const HOUR_MICROS: i64 = 3_600_000_000;
const HOUR_MS: u32 = 3_600_000;
/// A log speaks for no longer than this: a longer interval counts for its first day.
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 3_600);
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

impl Hour {
    /// An hour of which nothing is known.
    pub fn unknown(label: Arc<str>, agent: Arc<str>, hour: Timestamp) -> Self {
        let (slots, latency) = (Slots::default(), [0; BUCKETS]);
        Hour { label, agent, hour, up_ms: 0, degraded_ms: 0, down_ms: 0, slots, latency }
    }

    /// Adds what other logs come to in the same hour. No sum overflows, whatever logs may say.
    pub fn add(&mut self, other: &Hour) {
        let Hour { up_ms, degraded_ms, down_ms, slots, latency, .. } = self;
        for (sum, more) in [
            (up_ms, other.up_ms),
            (degraded_ms, other.degraded_ms),
            (down_ms, other.down_ms),
            (&mut slots.up, other.slots.up),
            (&mut slots.degraded, other.slots.degraded),
            (&mut slots.down, other.slots.down),
            (&mut slots.unknown, other.slots.unknown),
            (&mut slots.missed, other.slots.missed),
        ] {
            *sum = sum.saturating_add(more);
        }
        add_latency(latency, &other.latency);
    }

    /// How long it was up, degraded and down; the rest of the hour is unknown. Where logs overlap, and speak for more than an
    /// hour together, each of the three gets its part of the hour.
    pub fn time(&self) -> [Duration; 3] {
        let parts = [self.up_ms, self.degraded_ms, self.down_ms].map(u64::from);
        let all = parts.iter().sum::<u64>().max(u64::from(HOUR_MS));
        parts.map(|part| Duration::from_millis(part * u64::from(HOUR_MS) / all))
    }
}

/// The hours of one label and agent in a range, summed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uptime {
    /// Which check.
    pub label: Arc<str>,
    /// Who looked.
    pub agent: Arc<str>,
    /// How long it was up, by [`Hour::time`] of each hour.
    pub up: Duration,
    /// How long it was degraded.
    pub degraded: Duration,
    /// How long it was down. The rest is unknown.
    pub down: Duration,
    /// Slots that were run.
    pub logs: u64,
    /// Slots that were not.
    pub missed: u64,
    /// As in [`Hour::latency`].
    pub latency: [u32; BUCKETS],
}

impl Uptime {
    /// Of no hours.
    pub fn none(label: Arc<str>, agent: Arc<str>) -> Self {
        let (up, degraded, down) = Default::default();
        Uptime { label, agent, up, degraded, down, logs: 0, missed: 0, latency: [0; BUCKETS] }
    }

    /// Adds an hour of its label and agent.
    pub fn add(&mut self, hour: &Hour) {
        let [up, degraded, down] = hour.time();
        self.up += up;
        self.degraded += degraded;
        self.down += down;
        let Slots { up, degraded, down, unknown, missed } = hour.slots;
        self.logs += [up, degraded, down, unknown].map(u64::from).iter().sum::<u64>();
        self.missed += u64::from(missed);
        add_latency(&mut self.latency, &hour.latency);
    }
}

/// Sums by label and agent.
pub type Uptimes = BTreeMap<(Arc<str>, Arc<str>), Uptime>;

/// Adds an hour to the sum that it belongs to.
pub fn add_hour(sums: &mut Uptimes, hour: &Hour) {
    let (label, agent) = (Arc::clone(&hour.label), Arc::clone(&hour.agent));
    let none = || Uptime::none(Arc::clone(&hour.label), Arc::clone(&hour.agent));
    sums.entry((label, agent)).or_insert_with(none).add(hour);
}

/// Adds up counts of durations by their class.
pub fn add_latency(sum: &mut [u32; BUCKETS], more: &[u32; BUCKETS]) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
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

/// About how long, in microseconds, `percent` of 100 checks took at most; `None` where there are none. The percentile by nearest
/// rank lies in the same class as this, its geometric middle: at most 19 % (2^¼) above or below. That holds from 125 µs up to
/// 65 s; below it is within 125 µs, and above it is at least as long as this says.
pub fn percentile(latency: &[u32; BUCKETS], percent: u8) -> Option<u64> {
    let all: u64 = latency.iter().map(|count| u64::from(*count)).sum();
    let rank = (all * u64::from(percent)).div_ceil(100).max(1);
    let mut up_to = 0;
    let class = latency.iter().position(|count| {
        up_to += u64::from(*count);
        up_to >= rank
    })?;
    Some(match (class.checked_sub(1).map(|before| BOUNDS_US[before]), BOUNDS_US.get(class)) {
        (Some(from), Some(end)) => (from * end).isqrt(),
        (Some(from), None) => from,
        (None, _) => BOUNDS_US[0] / 2,
    })
}

/// What a log says that goes into roll-ups.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    label: &'a Arc<str>,
    agent: &'a Arc<str>,
    due_at: Timestamp,
    interval: Duration,
    verdict: Verdict,
    duration_us: Option<u64>,
    /// How many slots it is about.
    slots: u64,
}

impl<'a> From<&'a Log> for Said<'a> {
    fn from(log: &'a Log) -> Self {
        let Log { label, agent, due_at, interval_ms, verdict, duration_us, .. } = log;
        let slots = log.as_missed().map_or(1, |missed| missed.slots);
        let interval = Duration::from_millis(*interval_ms);
        Said { label, agent, due_at: *due_at, interval, verdict: *verdict, duration_us: *duration_us, slots }
    }
}

impl<'a> From<&'a Row> for Said<'a> {
    fn from(row: &'a Row) -> Self {
        let Row { label, agent, due_at, interval, verdict, duration_us, missed, .. } = row;
        let slots = missed.map_or(1, |missed| missed.slots);
        Said { label, agent, due_at: *due_at, interval: *interval, verdict: *verdict, duration_us: *duration_us, slots }
    }
}

/// What `new` logs add, in the order of label, agent and hour: stores that take them in this order do not wait for each other
/// in a circle.
pub fn roll_up<'a, S: Into<Said<'a>>>(new: impl IntoIterator<Item = S>) -> Vec<Hour> {
    let mut hours = Hours::new();
    for said in new {
        add(&mut hours, &said.into());
    }
    hours.into_values().collect()
}

type Hours<'a> = BTreeMap<(&'a str, &'a str, Timestamp), Hour>;

fn add<'a>(hours: &mut Hours<'a>, said: &Said<'a>) {
    let mut hour = hour_of(said.due_at);
    // Not past the last moment that there is, so that every hour begins before what is left of the time.
    let end = said.due_at.plus(said.interval.min(INTERVAL_MAX)).as_millis();
    let until = |hour: Timestamp| end.min(hour.as_millis() + u64::from(HOUR_MS));
    let mut of_hour = entry(hours, said, hour);
    add_slots(of_hour, said);
    let mut from = said.due_at.as_millis();
    while add_time(of_hour, said.verdict, until(hour) - from) && until(hour) < end {
        from = until(hour);
        hour = hour.plus(HOUR);
        of_hour = entry(hours, said, hour);
    }
}

fn add_slots(hour: &mut Hour, said: &Said<'_>) {
    let slots = match said.verdict {
        Verdict::Up => &mut hour.slots.up,
        Verdict::Degraded => &mut hour.slots.degraded,
        Verdict::Down => &mut hour.slots.down,
        Verdict::Unknown => &mut hour.slots.unknown,
        Verdict::Missed => &mut hour.slots.missed,
    };
    *slots = slots.saturating_add(u32::try_from(said.slots).unwrap_or(u32::MAX));
    if let (Verdict::Up | Verdict::Degraded, Some(duration_us)) = (said.verdict, said.duration_us) {
        let class = &mut hour.latency[bucket(duration_us)];
        *class = class.saturating_add(1);
    }
}

/// Whether `verdict` has a share of the time.
fn add_time(hour: &mut Hour, verdict: Verdict, ms: u64) -> bool {
    let time_ms = match verdict {
        Verdict::Up => &mut hour.up_ms,
        Verdict::Degraded => &mut hour.degraded_ms,
        Verdict::Down => &mut hour.down_ms,
        Verdict::Unknown | Verdict::Missed => return false,
    };
    *time_ms = time_ms.saturating_add(u32::try_from(ms).unwrap_or(u32::MAX));
    true
}

fn entry<'h, 'a>(hours: &'h mut Hours<'a>, said: &Said<'a>, hour: Timestamp) -> &'h mut Hour {
    let unknown = || Hour::unknown(said.label.clone(), said.agent.clone(), hour);
    hours.entry((said.label, said.agent, hour)).or_insert_with(unknown)
}

/// The full hour that `at` lies in.
pub fn hour_of(at: Timestamp) -> Timestamp {
    let micros = at.as_micros();
    Timestamp::from_micros(micros - micros % HOUR_MICROS)
}
