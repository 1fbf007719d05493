//! Whether a check flaps, as Icinga 2 has it: a view over the logs of one label and agent.
//!
//! Of the last 20 logs that could judge, those count that say otherwise than the one before: the oldest 0.8, each newer one
//! 0.02 more. It flaps once they come to more than 30 % of 20, and until they come to no more than 25 %.

use std::collections::VecDeque;

use crate::check::Verdict;

/// So many logs are looked at.
pub(super) const LOGS: usize = 20;
/// What the oldest change counts, and how much more each newer one does, in hundredths.
const OLDEST: usize = 80;
const NEWER: usize = 2;
/// In per cent of [`LOGS`].
const HIGH: usize = 30;
const LOW: usize = 25;

/// The changes so far.
#[derive(Debug, Default)]
pub(super) struct Flapping {
    last: Option<Verdict>,
    /// Whether each of the last logs said otherwise than the one before, the newest last.
    changes: VecDeque<bool>,
    flaps: bool,
}

impl Flapping {
    /// Takes the next verdict; one that could not judge counts for nothing.
    pub(super) fn push(&mut self, verdict: Verdict) {
        if !matches!(verdict, Verdict::Up | Verdict::Degraded | Verdict::Down) {
            return;
        }
        let before = self.last.replace(verdict);
        if self.changes.len() == LOGS {
            self.changes.pop_front();
        }
        self.changes.push_back(before.is_some_and(|before| before != verdict));
        let limit = if self.flaps { LOW } else { HIGH };
        self.flaps = self.weight() > limit * LOGS;
    }

    /// Whether it flaps now.
    pub(super) fn flaps(&self) -> bool {
        self.flaps
    }

    /// Of all changes, in hundredths.
    fn weight(&self) -> usize {
        let newest_first = (0..LOGS).rev().map(|age| OLDEST + NEWER * age);
        newest_first.zip(self.changes.iter().rev()).filter(|(_, change)| **change).map(|(weight, _)| weight).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `u`, `g`, `d` for up, degraded and down, `?` for unknown.
    fn of(logs: &str) -> Flapping {
        let mut flapping = Flapping::default();
        for log in logs.bytes() {
            flapping.push(match log {
                b'u' => Verdict::Up,
                b'g' => Verdict::Degraded,
                b'd' => Verdict::Down,
                _ => Verdict::Unknown,
            });
        }
        flapping
    }

    #[test]
    fn it_flaps_from_the_high_limit_to_the_low_one() {
        for (logs, weight, flaps) in [
            ("", 0, false),
            ("d", 0, false),
            ("ud", 118, false),
            ("uud", 118, false),
            ("udu", 118 + 116, false),
            ("ududu", 118 + 116 + 114 + 112, false),
            ("ududud", 118 + 116 + 114 + 112 + 110, false),
            ("udududu", 118 + 116 + 114 + 112 + 110 + 108, true),
            ("ugugugu", 118 + 116 + 114 + 112 + 110 + 108, true),
            ("u?d?u?d?u?d?u", 118 + 116 + 114 + 112 + 110 + 108, true),
            // Older and older, between the limits: it goes on until they are no more than 25 %.
            ("udududuuuu", 112 + 110 + 108 + 106 + 104 + 102, true),
            ("ududuuuuuudu", 118 + 116 + 104 + 102 + 100 + 98, true),
            ("udududuuuuuuuuuuuuuuu", 90 + 88 + 86 + 84 + 82 + 80, true),
            ("udududuuuuuuuuuuuuuuuu", 88 + 86 + 84 + 82 + 80, false),
            ("udududuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu", 0, false),
        ] {
            assert_eq!((of(logs).weight(), of(logs).flaps()), (weight, flaps), "{logs}");
        }
    }

    proptest! {
        #[test]
        fn what_does_not_change_does_not_flap(before in "[ugd?]{0,60}", same in "[ugd]") {
            let logs = before + &same.repeat(LOGS + 1);
            prop_assert_eq!((of(&logs).weight(), of(&logs).flaps()), (0, false));
        }

        #[test]
        fn what_always_changes_flaps_and_no_more_than_the_last_logs_count(before in "[ugd?]{0,60}") {
            let logs = before.clone() + &"ud".repeat(LOGS);
            prop_assert!(of(&logs).flaps());
            prop_assert_eq!(of(&logs).weight(), (0..LOGS).map(|age| OLDEST + NEWER * age).sum::<usize>());
            prop_assert!(of(&before).changes.len() <= LOGS);
        }
    }
}
