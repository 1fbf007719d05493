//! Finds the logs that say least: an `up` between two `up` of the same label.
//!
//! One sweep over the spool, oldest first, that goes on where it stopped: each log is looked at once, however often room is
//! needed. Of a run of `up` the first and the last stay, and every change stays.

use std::collections::HashMap;

/// Where the sweep stands.
#[derive(Debug, Default)]
pub(super) struct Thinner {
    /// All rows up to this id were looked at.
    swept: i64,
    last: HashMap<i64, Seen>,
}

/// The last log of a label that the sweep met.
#[derive(Clone, Copy, Debug)]
struct Seen {
    id: i64,
    up: bool,
    up_before: bool,
}

/// A row of the spool, as far as thinning goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trace {
    pub id: i64,
    pub label: i64,
    pub up: bool,
}

impl Thinner {
    /// Where to go on, when all rows up to `gone` may have left the spool. What they were is not known, so that
    /// neighbourhoods begin anew behind them.
    pub fn resume(&mut self, gone: i64) -> i64 {
        if gone > self.swept {
            *self = Thinner { swept: gone, last: HashMap::new() };
        }
        self.swept
    }

    /// Looks at the next row; the id of a row that can go.
    pub fn see(&mut self, row: Trace) -> Option<i64> {
        self.swept = row.id;
        let before = self.last.get(&row.label).copied();
        let between = before.filter(|seen| seen.up_before && seen.up && row.up);
        // A row that goes leaves its neighbour before it as the neighbour of this one, which is `up` as well.
        let up_before = before.is_some_and(|seen| seen.up);
        self.last.insert(row.label, Seen { id: row.id, up: row.up, up_before });
        between.map(|seen| seen.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of `logs`, each `label verdict`, written `a+ a- b+`.
    fn thin(logs: &str) -> String {
        let logs: Vec<&str> = logs.split_whitespace().collect();
        let mut thinner = Thinner::default();
        let mut left: Vec<Option<&str>> = logs.iter().copied().map(Some).collect();
        for (id, log) in logs.iter().enumerate() {
            let (label, up) = (i64::from(log.as_bytes()[0]), log.ends_with('+'));
            if let Some(gone) = thinner.see(Trace { id: id as i64, label, up }) {
                assert!(left[gone as usize].take().is_some(), "{log} is dropped twice");
            }
        }
        left.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn only_the_middle_of_a_run_goes() {
        for (logs, left) in [
            ("", ""),
            ("a+", "a+"),
            ("a+ a+", "a+ a+"),
            ("a+ a+ a+", "a+ a+"),
            ("a+ a+ a+ a+ a+", "a+ a+"),
            ("a- a- a-", "a- a- a-"),
            ("a+ a+ a+ a- a+ a+ a+", "a+ a+ a- a+ a+"),
            ("a+ a- a+ a- a+", "a+ a- a+ a- a+"),
            ("a+ b- a+ b- a+ b-", "a+ b- b- a+ b-"),
            ("a+ b+ a+ b+ a+ b+", "a+ b+ a+ b+"),
        ] {
            assert_eq!(thin(logs), left, "{logs}");
        }
    }

    #[test]
    fn logs_that_left_unseen_are_not_taken_for_up() {
        let mut thinner = Thinner::default();
        let up = |id| Trace { id, label: 1, up: true };
        assert_eq!((thinner.see(up(1)), thinner.see(up(2))), (None, None));
        // 3 to 9 were handed on before the sweep came to them; one of them may have been a change.
        assert_eq!(thinner.resume(9), 9);
        assert_eq!((thinner.see(up(10)), thinner.see(up(11)), thinner.see(up(12))), (None, None, Some(11)));
    }
}
