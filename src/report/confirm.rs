//! What is shown of a check that has to be confirmed: a view over the logs of one label and agent, which are never altered.
//!
//! What is shown turns when so many of the last so many logs say otherwise. Only those count that could judge, and that came
//! since it turned last. Before anything was confirmed, the first log that works is taken to be how it was all along; but not where
//! logs before those that are looked at may say otherwise: there it is not known until it is confirmed. An outage that was confirmed began with the first of the logs that confirmed it, and ended with the
//! first of those that work after the last that was down. What is down for a moment and not confirmed is no outage; in the shares
//! of time it is down all the same.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::check::{Confirm, Verdict};
use crate::clock::Timestamp;

/// A log that says that it works, or that it is down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) down: bool,
    pub(super) due_at: Timestamp,
    /// The time that it speaks for.
    pub(super) length: Duration,
    /// How much of that was planned.
    pub(super) planned: Duration,
    pub(super) reason: Option<Arc<str>>,
}

/// What a log brings about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Brings {
    /// It is shown as before.
    Nothing,
    /// It is shown as down, as these say, in their order.
    Outage(Vec<Told>),
    /// It is shown as working since then.
    End(Timestamp),
}

/// How it is shown.
#[derive(Debug)]
pub(super) struct Shown {
    confirm: Confirm,
    /// `None`: nothing is confirmed yet.
    down: Option<bool>,
    /// Nothing was confirmed so far; where it is shown as working all the same, that is taken from the first log that worked.
    unconfirmed: bool,
    /// There may be logs before the first one.
    cut: bool,
    /// Those since it turned last, as many as are looked at.
    recent: VecDeque<Told>,
}

impl Shown {
    pub(super) fn new(confirm: Confirm) -> Self {
        Shown { confirm, down: None, unconfirmed: true, cut: false, recent: VecDeque::new() }
    }

    /// There may have been logs before the first one: what is not confirmed is not known.
    pub(super) fn cut(&mut self) {
        self.cut = true;
        if self.unconfirmed {
            self.down = None;
        }
    }

    /// Takes the next log.
    pub(super) fn push(&mut self, told: Told) -> Brings {
        let says = told.down;
        // Where nothing was known, there is nothing to turn away from.
        if self.down.is_none() && !says && !self.cut {
            self.down = Some(false);
        }
        if self.recent.len() == self.confirm.of() {
            self.recent.pop_front();
        }
        let due_at = told.due_at;
        self.recent.push_back(told);
        let confirmed = self.recent.iter().filter(|told| told.down == says).count() >= self.confirm.needed();
        self.unconfirmed &= !confirmed;
        if self.down == Some(says) {
            return match says {
                true => self.recent.back().map_or(Brings::Nothing, |told| Brings::Outage(vec![told.clone()])),
                false => Brings::Nothing,
            };
        }
        if !confirmed {
            return Brings::Nothing;
        }
        self.down = Some(says);
        let recent = std::mem::take(&mut self.recent);
        match says {
            true => Brings::Outage(recent.into_iter().filter(|told| told.down).collect()),
            false => {
                let works = recent.iter().rev().take_while(|told| !told.down).last();
                Brings::End(works.map_or(due_at, |told| told.due_at))
            }
        }
    }

    /// How it is shown, where the last log says `verdict`.
    pub(super) fn state(&self, verdict: Verdict) -> Verdict {
        match (verdict, self.down) {
            (Verdict::Up | Verdict::Degraded, Some(true)) => Verdict::Down,
            (Verdict::Down, Some(false)) => Verdict::Up,
            (Verdict::Up | Verdict::Degraded | Verdict::Down, None) => Verdict::Unknown,
            _ => verdict,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, seconds};
    use super::*;
    use proptest::prelude::*;

    /// Logs 10 seconds apart: `d` is down, `w` works.
    fn told(logs: &str) -> impl Iterator<Item = Told> {
        logs.bytes().zip(0..).map(|(log, nth)| Told {
            down: log == b'd',
            due_at: at(nth * 10),
            length: seconds(10),
            planned: Duration::ZERO,
            reason: None,
        })
    }

    /// First down, first that works again, and number of downs of an outage.
    type Known = (u64, Option<u64>, usize);

    /// The outages, in tens of seconds, and how it is shown at the end.
    fn outages(confirm: Confirm, logs: &str) -> (Vec<Known>, Option<bool>) {
        let mut shown = Shown::new(confirm);
        let (mut outages, mut open) = (Vec::new(), false);
        let tens = |moment: Timestamp| moment.since(at(0)).as_secs() / 10;
        for told in told(logs) {
            match shown.push(told) {
                Brings::Nothing => {}
                Brings::Outage(told) if open => outages.last_mut().map_or((), |(_, _, downs)| *downs += told.len()),
                Brings::Outage(told) => {
                    open = true;
                    outages.push((tens(told[0].due_at), None, told.len()));
                }
                Brings::End(end) => {
                    open = false;
                    outages.last_mut().unwrap().1 = Some(tens(end));
                }
            }
        }
        (outages, shown.down)
    }

    #[test]
    fn an_outage_is_what_was_confirmed() {
        let (once, thrice, most) = (Confirm::ONCE, Confirm::new(3, 3).unwrap(), Confirm::new(3, 5).unwrap());
        for (confirm, logs, expected, down) in [
            (once, "", vec![], None),
            (once, "wdw", vec![(1, Some(2), 1)], Some(false)),
            (once, "ddw", vec![(0, Some(2), 2)], Some(false)),
            (once, "wwd", vec![(2, None, 1)], Some(true)),
            (thrice, "wddw", vec![], Some(false)),
            (thrice, "wdddw", vec![(1, None, 3)], Some(true)),
            (thrice, "wdddwww", vec![(1, Some(4), 3)], Some(false)),
            (thrice, "wdddwwdwww", vec![(1, Some(7), 4)], Some(false)),
            (thrice, "wdddwwdwwwdd", vec![(1, Some(7), 4)], Some(false)),
            (thrice, "dd", vec![], None),
            (thrice, "ddw", vec![], Some(false)),
            (thrice, "dddd", vec![(0, None, 4)], Some(true)),
            (most, "wdwdwd", vec![(1, None, 3)], Some(true)),
            (most, "wdwwwdwwwd", vec![], Some(false)),
            (most, "wddwdwww", vec![(1, Some(5), 3)], Some(false)),
            (most, "wdddwdwdww", vec![(1, Some(8), 5)], Some(false)),
        ] {
            assert_eq!(outages(confirm, logs), (expected, down), "{confirm}: {logs}");
        }
    }

    #[test]
    fn what_the_last_log_says_is_shown_once_it_is_confirmed() {
        use Verdict::{Degraded, Down, Missed, Unknown, Up};
        for (logs, [up, degraded, down]) in [("w", [Up, Degraded, Up]), ("ddd", [Down; 3]), ("d", [Unknown; 3])] {
            let mut shown = Shown::new(Confirm::new(3, 3).unwrap());
            told(logs).for_each(|told| drop(shown.push(told)));
            assert_eq!([Up, Degraded, Down].map(|verdict| shown.state(verdict)), [up, degraded, down], "{logs}");
            assert_eq!([Unknown, Missed].map(|verdict| shown.state(verdict)), [Unknown, Missed], "{logs}");
        }
    }

    #[test]
    fn where_logs_before_may_say_otherwise_it_is_known_once_it_is_confirmed() {
        let (once, thrice, most) = (Confirm::ONCE, Confirm::new(3, 3).unwrap(), Confirm::new(3, 5).unwrap());
        for (confirm, before, then, down) in [
            (once, "", "", None),
            (once, "w", "", Some(false)),
            (once, "d", "", Some(true)),
            (thrice, "w", "", None),
            (thrice, "w", "w", None),
            (thrice, "w", "ww", Some(false)),
            (thrice, "wdwd", "wdwdw", None),
            (thrice, "wdwd", "dd", Some(true)),
            (thrice, "www", "dd", Some(false)),
            (thrice, "wddd", "ww", Some(true)),
            (thrice, "", "www", Some(false)),
            (most, "wd", "w", None),
            (most, "wd", "wdw", Some(false)),
            (most, "wd", "wdd", Some(true)),
        ] {
            let mut shown = Shown::new(confirm);
            told(before).for_each(|told| drop(shown.push(told)));
            shown.cut();
            told(then).for_each(|told| drop(shown.push(told)));
            assert_eq!(shown.down, down, "{confirm}: {before} {then}");
        }
    }

    proptest! {
        /// Of so many in a row.
        #[test]
        fn what_is_known_all_logs_before_say_too(logs in "[dw]{0,60}", needed in 1_u8..6, from in 0_usize..60, range in 0_usize..60) {
            let confirm = Confirm::new(needed, needed).unwrap();
            let (mut all, mut some) = (Shown::new(confirm), Shown::new(confirm));
            for (nth, told) in told(&logs).enumerate() {
                all.push(told.clone());
                if nth >= from {
                    some.push(told);
                }
                if nth == from.saturating_add(range) {
                    some.cut();
                }
            }
            if some.cut && some.down.is_some() {
                prop_assert_eq!(some.down, all.down);
            }
        }

        #[test]
        fn outages_are_in_order_apart_and_confirmed(logs in "[dw]{0,60}", needed in 1_u8..6, more in 0_u8..5) {
            let confirm = Confirm::new(needed, needed + more.min(needed - 1)).unwrap();
            let (outages, down) = outages(confirm, &logs);
            for (nth, (start, end, downs)) in outages.iter().enumerate() {
                prop_assert!(*downs >= confirm.needed());
                prop_assert_eq!(logs.as_bytes()[*start as usize], b'd');
                prop_assert_eq!(end.is_none(), down == Some(true) && nth + 1 == outages.len());
                let until = end.map_or(logs.len(), |end| end as usize);
                prop_assert_eq!(logs[*start as usize..until].matches('d').count(), *downs);
                prop_assert!(outages.get(nth + 1).is_none_or(|next| end.is_some_and(|end| end <= next.0)));
            }
        }

        #[test]
        fn with_one_of_one_each_run_of_down_is_an_outage(logs in "[dw]{0,60}") {
            let runs = logs.split('w').filter(|run| !run.is_empty()).count();
            prop_assert_eq!(outages(Confirm::ONCE, &logs).0.len(), runs);
        }
    }
}
