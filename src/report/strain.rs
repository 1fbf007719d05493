//! Which results the agent itself may have slowed: where the machine kept a check's thread waiting for a good part of what the check
//! took, that latency may be the agent's own and not the target's.

use std::ops::AddAssign;

use crate::store::Row;

/// A wait that is shorter is never blamed: a thread that wakes up takes as long on a machine at rest.
const HELD_US_MIN: u64 = 1_000;
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
        if let Some((held_us, duration_us)) = row.held_us.zip(row.duration_us) {
            self.known += 1;
            self.logs += u64::from(is_strained(held_us, duration_us));
        }
    }
}

impl Strained {
    /// `None` where nothing is known.
    pub(super) fn if_known(self) -> Option<Self> {
        (self.known > 0).then_some(self)
    }
}

/// The rule: `held_us` is what [`Strain::held_us`](crate::logs::Strain::held_us) says.
fn is_strained(held_us: u64, duration_us: u64) -> bool {
    held_us >= HELD_US_MIN.max(duration_us / 100 * SHARE_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_counts_from_a_millisecond_and_from_a_tenth_on() {
        for (name, held_us, duration_us, expected) in [
            ("a thread that wakes up", 90, 50_000, false),
            ("less than a millisecond of a quick check", 999, 200, false),
            ("longer than the check: it began late", 5_000, 200, true),
            ("a millisecond of a quick check", 1_000, 1_000, true),
            ("less than a tenth", 4_999, 50_000, false),
            ("a tenth", 5_000, 50_000, true),
            ("no overflow", u64::MAX, u64::MAX, true),
        ] {
            assert_eq!(is_strained(held_us, duration_us), expected, "{name}");
        }
    }
}
