//! How the wall clock stands to the steady one.

use std::time::Duration;

use crate::clock::{Now, Steady, Timestamp};

/// Turns microseconds of the steady clock into wall time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wall {
    /// Wall − steady.
    pub(super) offset: i64,
    /// How far it was set, not told yet.
    pub(super) step: i64,
}

impl Wall {
    pub(super) fn micros(self, at: u64) -> u64 {
        at.saturating_add_signed(self.offset)
    }

    pub(super) fn at(self, at: u64) -> Timestamp {
        timestamp(self.micros(at))
    }
}

pub(super) fn offset(now: Now) -> i64 {
    now.wall.as_micros() - i64::try_from(micros(now.steady.0)).unwrap_or(i64::MAX)
}

pub(super) fn timestamp(micros: u64) -> Timestamp {
    Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

pub(super) fn steady(micros: u64) -> Steady {
    Steady(Duration::from_micros(micros))
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
