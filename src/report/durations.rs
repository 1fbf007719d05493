//! Percentiles of how long checks took, in bounded memory.

/// How many durations of one label and agent are held: 8 MB, a check each second for eleven days.
const HELD_MAX: usize = 1_000_000;

/// Percentiles by nearest rank: the least duration that at least 50, 95, 99 of 100 did not exceed. Each is one that was
/// measured, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// The median.
    pub p50: u64,
    /// Of 100 checks, 95 took no longer.
    pub p95: u64,
    /// Of 100 checks, 99 took no longer.
    pub p99: u64,
}

/// The durations of one label and agent: every one up to the bound; past it every second one, then every fourth, …, so that
/// what is held stays evenly spread over the range.
#[derive(Debug)]
pub(super) struct Durations {
    held: Vec<u64>,
    held_max: usize,
    /// One of how many is taken: a power of two.
    stride: u64,
    seen: u64,
}

impl Durations {
    pub(super) fn new() -> Self {
        Self::holding(HELD_MAX)
    }

    fn holding(held_max: usize) -> Self {
        Durations { held: Vec::new(), held_max, stride: 1, seen: 0 }
    }

    /// Adds one, in microseconds.
    pub(super) fn push(&mut self, duration_us: u64) {
        if self.seen.is_multiple_of(self.stride) {
            if self.held.len() == self.held_max {
                let mut nth = 0_usize;
                self.held.retain(|_| {
                    nth += 1;
                    nth % 2 == 1
                });
                self.stride *= 2;
            }
            // Where the bound is odd, this one may be off the new stride.
            if self.seen.is_multiple_of(self.stride) {
                self.held.push(duration_us);
            }
        }
        self.seen += 1;
    }

    /// `None` where there are none.
    pub(super) fn percentiles(mut self) -> Option<Percentiles> {
        self.held.sort_unstable();
        let nearest_rank = |percent: usize| {
            let rank = (self.held.len() * percent).div_ceil(100);
            self.held.get(rank.checked_sub(1)?).copied()
        };
        Some(Percentiles { p50: nearest_rank(50)?, p95: nearest_rank(95)?, p99: nearest_rank(99)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn percentiles(held_max: usize, durations: impl IntoIterator<Item = u64>) -> Option<Percentiles> {
        let mut held = Durations::holding(held_max);
        durations.into_iter().for_each(|duration| held.push(duration));
        held.percentiles()
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        for (name, durations, expected) in [
            ("none", vec![], None),
            ("one", vec![7], Some((7, 7, 7))),
            ("two", vec![9, 1], Some((1, 9, 9))),
            ("three", vec![3, 1, 2], Some((2, 3, 3))),
            ("twenty: the 19th is p95, the last p99", (1..=20).rev().collect(), Some((10, 19, 20))),
            ("a hundred", (1..=100).collect(), Some((50, 95, 99))),
            ("a hundred and one", (1..=101).collect(), Some((51, 96, 100))),
        ] {
            let expected = expected.map(|(p50, p95, p99)| Percentiles { p50, p95, p99 });
            assert_eq!(percentiles(HELD_MAX, durations), expected, "{name}");
        }
    }

    #[test]
    fn past_the_bound_an_even_sample_is_held() {
        for held_max in [1, 2, 999, 1_000] {
            let mut held = Durations::holding(held_max);
            (0..100_000).for_each(|duration| held.push(duration));
            assert!(held.held.len() <= held_max && held.held.len() * 2 >= held_max, "{}", held.held.len());
            let stride = held.stride;
            assert!(held.held.iter().zip(0..).all(|(held, nth)| *held == nth * stride), "{held_max}: {held:?}");
        }
        let p = percentiles(1_000, 0..100_000).unwrap();
        assert!(p.p50.abs_diff(50_000) < 200 && p.p95.abs_diff(95_000) < 200 && p.p99.abs_diff(99_000) < 200, "{p:?}");
    }

    proptest! {
        #[test]
        fn at_least_its_share_is_not_above_a_percentile(durations in prop::collection::vec(0..50_u64, 1..300)) {
            let p = percentiles(HELD_MAX, durations.clone()).unwrap();
            for (percent, value) in [(50, p.p50), (95, p.p95), (99, p.p99)] {
                let of_100 = |count: usize| count * 100 / durations.len();
                prop_assert!(durations.contains(&value));
                prop_assert!(of_100(durations.iter().filter(|d| **d <= value).count()) >= percent);
                prop_assert!(durations.iter().filter(|d| **d < value).count() * 100 < percent * durations.len());
            }
        }
    }
}
