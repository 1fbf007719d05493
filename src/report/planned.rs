//! Planned time: what of a range is maintenance, of each label.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::maintenance::{Span, Window};

/// How many times all windows together may come in a range: 16 MB of them.
const TIMES_MAX: usize = 1_000_000;

/// The windows of maintenance of a range, and when each comes in it.
#[derive(Clone, Debug, Default)]
pub struct Planned {
    windows: Vec<(Arc<Window>, Vec<Span>)>,
    end: Timestamp,
}

/// The planned time of one label: spans in order that do not touch.
#[derive(Clone, Debug, Default)]
pub(super) struct Spans(Arc<[Span]>);

impl Planned {
    /// What of `from..to` is planned.
    ///
    /// # Errors
    /// A sentence for people: the windows come too often.
    pub fn of(windows: &[Arc<Window>], (from, to): (Timestamp, Timestamp)) -> Result<Self, String> {
        let mut left = TIMES_MAX;
        let windows = windows.iter().map(|window| {
            let spans: Vec<Span> = window.spans(from, to).take(left + 1).collect();
            left = left.checked_sub(spans.len()).ok_or_else(|| {
                format!("maintenance comes more than {TIMES_MAX} times in that range: name a later `--since`")
            })?;
            Ok((Arc::clone(window), spans))
        });
        Ok(Planned { windows: windows.collect::<Result<_, String>>()?, end: to })
    }

    /// That of `label`; what several windows have is planned once.
    pub(super) fn spans(&self, label: &str) -> Spans {
        let mut all: Vec<Span> = self.of_label(label).flat_map(|(_, spans)| spans.iter().copied()).collect();
        all.sort_unstable();
        let mut merged: Vec<Span> = Vec::new();
        for (start, end) in all {
            match merged.last_mut().filter(|(_, until)| *until >= start) {
                Some((_, until)) => *until = end.max(*until),
                None => merged.push((start, end)),
            }
        }
        Spans(merged.into())
    }

    /// What people call the maintenance that `label` is in at the end of the range.
    pub(super) fn at_end(&self, label: &str) -> Option<Arc<str>> {
        let goes_on = |(start, end): &Span| (*start..*end).contains(&self.end);
        let mut on = self.of_label(label).filter(|(_, spans)| spans.iter().any(goes_on));
        on.next().map(|(window, _)| Arc::clone(&window.name))
    }

    fn of_label(&self, label: &str) -> impl Iterator<Item = &(Arc<Window>, Vec<Span>)> {
        self.windows.iter().filter(move |(window, _)| window.is_of(label))
    }

    /// What to tell people of windows that name labels which are none of `known`; such windows may still be meant for later.
    pub fn of_nobody(&self, known: &[Arc<str>]) -> Option<String> {
        let names = |(window, _): &(Arc<Window>, Vec<Span>)| {
            let unknown = window.unknown(known.iter().map(|label| &**label)).next()?;
            Some(format!("maintenance `{}` is of `{unknown}`, and no check has such a label", window.name))
        };
        self.windows.iter().find_map(names)
    }

    /// What to tell people who have asked for roll-ups until `to`, where time of theirs was planned.
    pub fn left_in(&self, labels: &[Arc<str>], to: Timestamp) -> Option<String> {
        let (window, _) = self.windows.iter().find(|(window, spans)| {
            spans.iter().any(|(begin, _)| *begin < to) && labels.iter().any(|label| window.is_of(label))
        })?;
        Some(format!(
            "whole hours cannot leave out maintenance such as `{}`: it counts like any other time",
            window.name
        ))
    }
}

impl Spans {
    /// How much of a time is planned.
    pub(super) fn within(&self, start: Timestamp, end: Timestamp) -> Duration {
        let first = self.0.partition_point(|(_, until)| *until <= start);
        let touching = self.0[first..].iter().take_while(|(from, _)| *from < end);
        touching.map(|(from, until)| (*until).min(end).since((*from).max(start))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, seconds, window};
    use super::*;
    use proptest::prelude::*;

    fn planned(windows: &[(i64, u64)]) -> Planned {
        let windows: Vec<_> = windows.iter().map(|(from, lasts)| window(&["shop"], *from, *lasts)).collect();
        Planned::of(&windows, (at(0), at(100))).unwrap()
    }

    #[test]
    fn what_several_windows_have_is_planned_once() {
        for (windows, (start, end), expected) in [
            (&[][..], (0, 100), 0),
            (&[(10, 20)], (0, 100), 20),
            (&[(10, 20)], (0, 10), 0),
            (&[(10, 20)], (30, 40), 0),
            (&[(10, 20)], (5, 15), 5),
            (&[(10, 20)], (15, 20), 5),
            (&[(10, 20), (20, 20)], (0, 100), 30),
            (&[(20, 20), (10, 10)], (0, 100), 30),
            (&[(10, 40), (20, 5)], (0, 100), 40),
            (&[(-50, 60), (90, 60)], (0, 100), 20),
        ] {
            assert_eq!(planned(windows).spans("shop").within(at(start), at(end)), seconds(expected), "{windows:?}");
            assert_eq!(planned(windows).spans("mail").within(at(start), at(end)), seconds(0), "{windows:?}");
        }
    }

    #[test]
    fn what_goes_on_at_the_end_has_its_name() {
        for (windows, expected) in
            [(&[(90, 20)][..], true), (&[(100, 20)], true), (&[(101, 20)], false), (&[(90, 10)], false)]
        {
            let name = planned(windows).at_end("shop");
            assert_eq!(name.as_deref(), expected.then_some("works"), "{windows:?}");
            assert_eq!(planned(windows).at_end("mail"), None);
        }
    }

    #[test]
    fn what_a_window_does_not_do_is_told() {
        let planned = planned(&[(10, 20), (200, 10)]);
        let labels = |text: &str| text.split(' ').map(Arc::from).collect::<Vec<Arc<str>>>();
        assert_eq!(planned.of_nobody(&labels("mail shop")), None);
        assert_eq!(
            planned.of_nobody(&labels("mail")).as_deref(),
            Some("maintenance `works` is of `shop`, and no check has such a label")
        );
        assert_eq!(planned.left_in(&labels("mail"), at(100)), None);
        assert_eq!(
            planned.left_in(&labels("mail shop"), at(100)).as_deref(),
            Some("whole hours cannot leave out maintenance such as `works`: it counts like any other time")
        );
        let far = [window(&["shop"], 200, 10)];
        let later = Planned::of(&far, (at(0), at(300))).unwrap();
        assert_eq!(later.left_in(&labels("shop"), at(100)), None, "it is beyond the last whole hour");
    }

    proptest! {
        #[test]
        fn it_is_as_second_by_second(windows in prop::collection::vec((-50..150_i64, 1..60_u64), 0..8), start in 0..100_i64, length in 0..100_i64) {
            let is_planned = |second: &i64| windows.iter().any(|(from, lasts)| (*from..from + *lasts as i64).contains(second));
            let end = (start + length).min(100);
            let expected = (start..end).filter(is_planned).count() as u64;
            prop_assert_eq!(planned(&windows).spans("shop").within(at(start), at(end)), seconds(expected));
        }
    }
}
