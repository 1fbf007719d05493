//! Wall and monotonic time, real and simulated.
//!
//! Two clocks answer two questions. The *wall* clock ([`Timestamp`], `CLOCK_REALTIME`) says when something happened, for
//! people and for the wire; it may jump. The *steady* clock ([`Steady`], `CLOCK_BOOTTIME`) says how long something took and
//! what is due; it never jumps and goes on while the machine sleeps (clock_gettime(2)). Nothing is scheduled by the wall clock.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// A moment of the wall clock: microseconds since 1970-01-01T00:00:00Z. On the wire: RFC 3339, UTC, six decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The last moment that RFC 3339 can write: 9999-12-31T23:59:59.999999Z.
    pub const MAX: Timestamp = Timestamp(253_402_300_799_999_999);

    /// From microseconds since the epoch, held within years 1970 to 9999, so that every `Timestamp` has a wire form.
    pub fn from_micros(micros: i64) -> Self {
        Timestamp(micros.clamp(0, Self::MAX.0))
    }

    /// Microseconds since the epoch.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the epoch, rounded down: what a UUIDv7 carries (RFC 9562, section 5.7).
    pub fn as_millis(self) -> u64 {
        (self.0 / 1_000).unsigned_abs()
    }

    /// This moment moved later by `by`, at most to [`Timestamp::MAX`].
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self::from_micros(self.0.saturating_add(micros(by)))
    }

    /// This moment moved earlier by `by`, at most to the epoch.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self::from_micros(self.0.saturating_sub(micros(by)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }

    /// Reads RFC 3339 with any offset and any number of decimals; what is finer than a microsecond is cut off.
    ///
    /// # Errors
    /// A sentence that says what was expected, when `text` is not RFC 3339 or lies outside the years 1970 to 9999.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a time like 2026-11-24T10:00:00Z");
        let nanos = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong())?.unix_timestamp_nanos();
        let micros = i64::try_from(nanos.div_euclid(1_000)).map_err(|_| wrong())?;
        if !(0..=Self::MAX.0).contains(&micros) { Err(wrong()) } else { Ok(Timestamp(micros)) }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000).map_err(|_| fmt::Error)?;
        f.write_str(&time.format(&form).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Timestamp;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                Timestamp::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A moment of the steady clock: time since the machine booted, sleep included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Steady(pub Duration);

impl Steady {
    /// This moment moved later.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Steady(self.0.saturating_add(by))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Steady) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The least by which [`Now::slept`] must have grown for it to count as a sleep: awake and boot time are not read at one
/// instant.
pub const SLEPT_MIN: Duration = Duration::from_millis(500);

/// One reading of all clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The wall clock.
    pub wall: Timestamp,
    /// The steady clock.
    pub steady: Steady,
    /// How long the machine has slept since it booted; it grows by what a sleep took.
    pub slept: Duration,
}

impl Now {
    /// The steady clock without the machine's sleep: for how long things may take, since nothing gets done in a sleep.
    pub fn awake(&self) -> Steady {
        Steady(self.steady.0.saturating_sub(self.slept))
    }
}

/// Where time comes from. One method, so that a simulation can stand in for the machine.
pub trait Clock: Send + Sync {
    /// Reads all clocks.
    fn now(&self) -> Now;
}

/// The machine's own clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Now {
        use rustix::time::{ClockId, clock_gettime};
        let read = |id| {
            let time = clock_gettime(id);
            Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
        };
        // Awake time is read first, so that the difference to boot time is never negative.
        let awake = read(ClockId::Monotonic);
        let steady = read(ClockId::Boottime);
        let wall = Timestamp::from_micros(micros(read(ClockId::Realtime)));
        Now { wall, steady: Steady(steady), slept: steady.saturating_sub(awake) }
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug, Default)]
pub struct SimulatedClock(Mutex<Now>);

impl SimulatedClock {
    /// A clock whose wall shows `wall`, on a machine that has just booted.
    pub fn at(wall: Timestamp) -> Self {
        SimulatedClock(Mutex::new(Now { wall, ..Now::default() }))
    }

    /// Time passes: every clock moves on.
    pub fn advance(&self, by: Duration) {
        self.change(|now| {
            now.wall = now.wall.plus(by);
            now.steady = now.steady.plus(by);
        });
    }

    /// The machine sleeps: time passes while nothing runs.
    pub fn sleep(&self, by: Duration) {
        self.advance(by);
        self.change(|now| now.slept += by);
    }

    /// Somebody sets the wall clock; no time passes.
    pub fn set_wall(&self, wall: Timestamp) {
        self.change(|now| now.wall = wall);
    }

    fn change(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Now {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_read_what_they_write() {
        for (text, written) in [
            ("2026-11-24T10:00:00Z", "2026-11-24T10:00:00.000000Z"),
            ("2026-11-24T10:00:00.000090Z", "2026-11-24T10:00:00.000090Z"),
            ("2026-11-24T12:00:00.1234567+02:00", "2026-11-24T10:00:00.123456Z"),
        ] {
            assert_eq!(Timestamp::parse(text).map(|t| t.to_string()), Ok(written.to_owned()));
        }
    }

    #[test]
    fn timestamps_outside_the_wire_form_are_refused() {
        for text in ["", "yesterday", "2026-11-24", "1969-12-31T23:59:59Z", "2026-13-01T00:00:00Z"] {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
        assert_eq!(Timestamp::from_micros(i64::MAX).to_string(), "9999-12-31T23:59:59.999999Z");
        assert_eq!(Timestamp::MAX.plus(Duration::from_secs(1)), Timestamp::MAX);
    }

    #[test]
    fn the_system_clock_goes_forward() {
        let (first, second) = (SystemClock.now(), SystemClock.now());
        assert!(second.steady >= first.steady);
        assert!(first.wall > Timestamp::parse("2026-01-01T00:00:00Z").unwrap());
    }
}
