//! Which results the agent itself may have slowed: where a check's thread got no CPU for a good part of what the check took, that
//! latency may be the agent's own and not the target's. That it began late is no part of what it took.

use std::ops::AddAssign;

use crate::store::Row;

/// A wait that is shorter is never blamed: a thread that wakes up takes as long on a machine at rest.
const STARVED_US_MIN: u64 = 1_000;
/// A wait from this share of a check's duration on, in percent, makes its latency doubtful.
const SHARE_PERCENT: u64 = 10;

/// How many of a check's results are strained, of how many it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strained {
    /// Results that the agent itself may have slowed.
    pub logs: u64,
    /// Results that tell, strained or not; those of older agents do not.
    pub known: u64,
}

impl AddAssign<&Row> for Strained {
    fn add_assign(&mut self, row: &Row) {
        if let Some((starved_us, duration_us)) = row.starved_us.zip(row.duration_us) {
            self.known += 1;
            self.logs += u64::from(is_strained(starved_us, duration_us));
        }
    }
}

impl Strained {
    /// `None` where nothing is known.
    pub(super) fn if_known(self) -> Option<Self> {
        (self.known > 0).then_some(self)
    }
}

/// The rule.
fn is_strained(starved_us: u64, duration_us: u64) -> bool {
    starved_us >= STARVED_US_MIN.max(duration_us / 100 * SHARE_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_counts_from_a_millisecond_and_from_a_tenth_on() {
        for (name, starved_us, duration_us, expected) in [
            ("a thread that wakes up", 90, 50_000, false),
            ("less than a millisecond of a quick check", 999, 200, false),
            ("more than the check took, as the kernel counts", 5_000, 200, true),
            ("a millisecond of a quick check", 1_000, 1_000, true),
            ("less than a tenth", 4_999, 50_000, false),
            ("a tenth", 5_000, 50_000, true),
            ("no overflow", u64::MAX, u64::MAX, true),
        ] {
            assert_eq!(is_strained(starved_us, duration_us), expected, "{name}");
        }
    }
}
