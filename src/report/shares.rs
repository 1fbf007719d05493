//! Percentages that people can trust: they sum to 100, and none is rounded away.

use std::fmt;
use std::time::Duration;

use super::Time;

/// Shares of a range of time, in thousandths of a percent. They sum to 100 %. What was down or unknown for a moment is never
/// rounded to 0 %, nor the rest up to 100 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// It worked.
    pub up: Share,
    /// It worked, but past a limit.
    pub degraded: Share,
    /// It did not work.
    pub down: Share,
    /// Nobody knows.
    pub unknown: Share,
}

/// Thousandths of a percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

/// 100 %.
const WHOLE: u32 = 100_000;

impl Shares {
    /// The shares of `time`; all of it unknown where it has no length.
    pub fn of(time: &Time) -> Self {
        let [up, degraded, down, unknown] = apportioned([time.up, time.degraded, time.down, time.unknown]);
        Shares { up: Share(up), degraded: Share(degraded), down: Share(down), unknown: Share(unknown) }
    }

    /// How much of the time it is known to have worked: up and degraded.
    pub fn uptime(&self) -> Share {
        Share(self.up.0 + self.degraded.0)
    }
}

impl Share {
    /// As a number of percent.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 1_000.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}%", self.0 / 1_000, self.0 % 1_000)
    }
}

/// Whole units for each part, [`WHOLE`] in all: the largest remainders are rounded up, and a part that is not nothing gets at
/// least one, at the cost of the largest.
fn apportioned(parts: [Duration; 4]) -> [u32; 4] {
    let total: u128 = parts.iter().map(Duration::as_nanos).sum();
    if total == 0 {
        return [0, 0, 0, WHOLE];
    }
    let scaled = parts.map(|part| part.as_nanos() * u128::from(WHOLE));
    let mut units = scaled.map(|part| u32::try_from(part / total).unwrap_or(WHOLE).max(u32::from(part > 0)));
    let mut by_remainder = [0, 1, 2, 3];
    by_remainder.sort_by_key(|&nth| std::cmp::Reverse(scaled[nth] % total));
    for nth in by_remainder {
        // A part below one unit has been rounded up already.
        if units.iter().sum::<u32>() < WHOLE && scaled[nth] >= total {
            units[nth] += 1;
        }
    }
    let largest = (0..4).max_by_key(|&nth| units[nth]).unwrap_or(0);
    let others: u32 = (0..4).filter(|&nth| nth != largest).map(|nth| units[nth]).sum();
    units[largest] = WHOLE.saturating_sub(others);
    units
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares_sum_to_100_and_none_is_rounded_away() {
        for (name, micros, expected) in [
            ("no time at all", [0, 0, 0, 0], "0.000% 0.000% 0.000% 100.000%"),
            ("all up", [7, 0, 0, 0], "100.000% 0.000% 0.000% 0.000%"),
            ("thirds", [1, 1, 1, 0], "33.334% 33.333% 33.333% 0.000%"),
            ("a moment down", [86_400_000_000, 0, 1, 0], "99.999% 0.000% 0.001% 0.000%"),
            ("a moment up", [1, 0, 86_400_000_000, 0], "0.001% 0.000% 99.999% 0.000%"),
            ("moments of all", [1, 1, 1, 86_400_000_000], "0.001% 0.001% 0.001% 99.997%"),
            ("nearly one unit is one", [4_999_955, 4_999_955, 90, 0], "50.000% 49.999% 0.001% 0.000%"),
            ("ten seconds of a day", [86_390, 0, 10, 0], "99.988% 0.000% 0.012% 0.000%"),
        ] {
            let [up, degraded, down, unknown] = micros.map(Duration::from_micros);
            let Shares { up, degraded, down, unknown } =
                Shares::of(&Time { up, degraded, down, unknown, planned: Duration::from_secs(7) });
            assert_eq!(format!("{up} {degraded} {down} {unknown}"), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_shares_sum_to_100(parts in prop::array::uniform4(prop_oneof![Just(0), 0..10_u64, any::<u64>()])) {
            let units = apportioned(parts.map(Duration::from_micros));
            prop_assert_eq!(units.iter().sum::<u32>(), WHOLE);
            let total: u128 = parts.iter().map(|part| u128::from(*part)).sum();
            for (part, units) in parts.into_iter().zip(units).filter(|_| total > 0) {
                prop_assert_eq!(part == 0, units == 0);
                prop_assert_eq!(u128::from(part) == total, units == WHOLE);
                let exact = part as f64 / total as f64 * f64::from(WHOLE);
                prop_assert!((f64::from(units) - exact).abs() <= 3.0, "{} for {}", units, exact);
            }
        }
    }
}
