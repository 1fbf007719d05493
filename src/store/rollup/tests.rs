use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::logs::{Cause, Missed};
use crate::report::{Report, Sums};

const SECOND: i64 = 1_000_000;

/// Seconds after a full hour.
fn at(second: i64) -> Timestamp {
    let hour = Timestamp::parse("2026-11-24T10:00:00Z").unwrap();
    Timestamp::from_micros(hour.as_micros() + second * SECOND)
}

fn row(due_at: Timestamp, interval: u64, verdict: Verdict, slots: u64) -> Row {
    let interval = Duration::from_secs(interval);
    let last_due_at = due_at.plus(interval * (slots.min(1_000) as u32 - 1));
    let missed = Missed { cause: Cause::AgentOff, slots, last_due_at };
    Row {
        agent: "a".into(),
        label: "shop".into(),
        due_at,
        interval,
        verdict,
        duration_us: Some(50_000),
        starved_us: None,
        reason: None,
        missed: (verdict == Verdict::Missed).then_some(missed),
    }
}

/// `+hour: up/degraded/down s, slots`, as far as they are not 0.
fn shown(hours: &[Hour]) -> String {
    let hour = |hour: &Hour| {
        let nth = (hour.hour.as_micros() - at(0).as_micros()) / SECOND / 3_600;
        let [up, degraded, down] = [hour.up_ms, hour.degraded_ms, hour.down_ms].map(|ms| f64::from(ms) / 1_000.0);
        let Slots { up: ups, degraded: slow, down: downs, unknown, missed } = hour.slots;
        format!("{nth:+}: {up}/{degraded}/{down} s, {ups}/{slow}/{downs}/{unknown}/{missed}")
    };
    hours.iter().map(hour).collect::<Vec<_>>().join("; ")
}

#[test]
fn each_log_adds_to_the_hours_that_it_speaks_for() {
    use Verdict::{Degraded, Down, Missed, Unknown, Up};
    let day = 86_400;
    for (name, rows, expected) in [
        ("none", vec![], "".to_owned()),
        ("within an hour", vec![row(at(10), 10, Up, 1)], "+0: 10/0/0 s, 1/0/0/0/0".to_owned()),
        ("up to its end", vec![row(at(3_590), 10, Down, 1)], "+0: 0/0/10 s, 0/0/1/0/0".to_owned()),
        (
            "over its end",
            vec![row(at(3_595), 10, Degraded, 1)],
            "+0: 0/5/0 s, 0/1/0/0/0; +1: 0/5/0 s, 0/0/0/0/0".to_owned(),
        ),
        (
            "over several",
            vec![row(at(-60), 7_260, Up, 1)],
            "-1: 60/0/0 s, 1/0/0/0/0; +0: 3600/0/0 s, 0/0/0/0/0; +1: 3600/0/0 s, 0/0/0/0/0".to_owned(),
        ),
        ("unknown has no time", vec![row(at(3_595), 10, Unknown, 1)], "+0: 0/0/0 s, 0/0/0/1/0".to_owned()),
        ("nor has missed", vec![row(at(3_500), 10, Missed, 20)], "+0: 0/0/0 s, 0/0/0/0/20".to_owned()),
        (
            "each verdict by itself",
            [Up, Up, Degraded, Down, Unknown].iter().zip(0..).map(|(of, nth)| row(at(nth * 10), 10, *of, 1)).collect(),
            "+0: 20/10/10 s, 2/1/1/1/0".to_owned(),
        ),
        (
            "a longer interval counts for its first day",
            vec![row(at(0), 3 * day, Up, 1)],
            (0..24)
                .map(|nth| format!("+{nth}: 3600/0/0 s, {}/0/0/0/0", i32::from(nth == 0)))
                .collect::<Vec<_>>()
                .join("; "),
        ),
        (
            "no more slots than fit",
            vec![row(at(0), 1, Missed, u64::MAX), row(at(9), 1, Missed, 9)],
            format!("+0: 0/0/0 s, 0/0/0/0/{}", u32::MAX),
        ),
        (
            "finer than a second",
            vec![row(Timestamp::from_micros(at(3_595).as_micros() + 123_456), 10, Up, 1)],
            "+0: 4.877/0/0 s, 1/0/0/0/0; +1: 5.123/0/0 s, 0/0/0/0/0".to_owned(),
        ),
    ] {
        assert_eq!(shown(&roll_up(&rows)), expected, "{name}");
    }
}

#[test]
fn at_the_end_of_time_it_ends() {
    let hours = roll_up(&[row(Timestamp::MAX, 86_400, Verdict::Up, 1)]);
    assert_eq!(hours.iter().map(|hour| hour.hour.to_string()).collect::<Vec<_>>(), ["9999-12-31T23:00:00.000000Z"]);
    let hours = roll_up(&[row(Timestamp::MAX.minus(Duration::from_secs(1)), 86_400, Verdict::Up, 1)]);
    assert_eq!((hours.len(), hours[0].up_ms), (1, 1_000));
}

#[test]
fn durations_are_those_of_what_worked() {
    use Verdict::{Degraded, Down, Unknown, Up};
    let took = |verdict, duration_us| Row { duration_us, ..row(at(0), 10, verdict, 1) };
    let rows = [took(Up, Some(0)), took(Degraded, Some(124)), took(Up, None), took(Down, Some(9)), took(Unknown, None)];
    let hours = roll_up(&rows);
    assert_eq!((hours[0].latency[0], hours[0].latency.iter().sum::<u32>()), (2, 2));
}

#[test]
fn classes_begin_where_the_one_before_ends() {
    for (duration_us, class) in
        [(0, 0), (124, 0), (125, 1), (175, 1), (176, 2), (249, 2), (250, 3), (65_535_999, 38), (65_536_000, 39)]
    {
        assert_eq!(bucket(duration_us), class, "{duration_us}");
    }
    assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    assert!(BOUNDS_US.windows(2).all(|pair| pair[1] * pair[1] <= 2 * pair[0] * pair[0] + 4 * pair[0]));
}

#[test]
fn time_past_the_hour_is_shared_out_within_it() {
    let hour = |up_ms, degraded_ms, down_ms| {
        let hour = Hour { up_ms, degraded_ms, down_ms, ..Hour::unknown("shop".into(), "a".into(), at(0)) };
        hour.time().map(|time| time.as_millis())
    };
    assert_eq!(hour(0, 0, 0), [0, 0, 0]);
    assert_eq!(hour(3_500_000, 70_000, 30_000), [3_500_000, 70_000, 30_000]);
    assert_eq!(hour(3_600_000, 0, 3_600_000), [1_800_000, 0, 1_800_000]);
    assert_eq!(hour(u32::MAX, u32::MAX, u32::MAX), [1_200_000; 3]);
}

#[test]
fn sums_stay_at_what_they_can_hold() {
    let most = Hour {
        up_ms: u32::MAX - 1,
        latency: [u32::MAX - 1; BUCKETS],
        ..Hour::unknown("shop".into(), "a".into(), at(0))
    };
    let mut sum = most.clone();
    sum.add(&most);
    assert_eq!((sum.up_ms, sum.down_ms, sum.latency), (u32::MAX, 0, [u32::MAX; BUCKETS]));
}

#[test]
fn percentiles_are_of_the_nearest_rank() {
    let of = |counts: &[(usize, u32)], percent| {
        let mut latency = [0; BUCKETS];
        counts.iter().for_each(|(class, count)| latency[*class] = *count);
        percentile(&latency, percent)
    };
    for (name, counts, percent, expected) in [
        ("of none there is none", &[][..], 50, None),
        ("one is all of them", &[(3, 1)], 50, Some(297)),
        ("one is all of them, even the least", &[(3, 1)], 0, Some(297)),
        ("half", &[(3, 50), (5, 50)], 50, Some(297)),
        ("past the half", &[(3, 49), (5, 51)], 50, Some(594)),
        ("the last", &[(3, 98), (5, 2)], 99, Some(594)),
        ("less than any", &[(0, 1)], 99, Some(62)),
        ("more than any", &[(39, 1)], 99, Some(65_536_000)),
        ("many", &[(3, u32::MAX), (5, u32::MAX)], 95, Some(594)),
    ] {
        assert_eq!(of(counts, percent), expected, "{name}");
    }
}

/// What any agents may have written around a few hours.
fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    let verdicts = prop::sample::select(Verdict::ALL.to_vec());
    let some = (0..2_usize, 0..2_usize, -3_600_000..9_000_000_i64, 1..20_000_u64, 1..9_u64, verdicts);
    let row = some.prop_map(|(label, agent, ms, interval, slots, verdict)| Row {
        label: ["mail", "shop"][label].into(),
        agent: ["a", "b"][agent].into(),
        duration_us: Some(interval * 50),
        ..row(Timestamp::from_micros(at(0).as_micros() + ms * 1_000), interval, verdict, slots)
    });
    prop::collection::vec(row, 0..40)
}

/// One slot after the other, from before an hour to after the next ones; some are missed in a row.
fn regular() -> impl Strategy<Value = Vec<Row>> {
    let slots = prop::collection::vec((prop::sample::select(Verdict::ALL.to_vec()), 1..5_u64), 1..300);
    (1..20_000_u64, 0..7_200_000_i64, slots).prop_map(|(interval, before_ms, slots)| {
        let mut due_at = Timestamp::from_micros(at(0).as_micros() - before_ms * 1_000);
        let each = slots.into_iter().map(|(verdict, slots)| {
            let slots = if verdict == Verdict::Missed { slots } else { 1 };
            let row = row(due_at, interval, verdict, slots);
            due_at = due_at.plus(Duration::from_secs(interval * slots));
            row
        });
        each.collect()
    })
}

fn report_of(rows: &[Row], from: Timestamp, to: Timestamp) -> Report {
    let mut sums = Sums::new(from, to);
    rows.iter().for_each(|row| sums.push(row.clone()));
    sums.report([].iter())
}

proptest! {
    #[test]
    fn the_order_of_logs_does_not_matter(
        (rows, shuffled) in any_rows().prop_flat_map(|rows| (Just(rows.clone()), Just(rows).prop_shuffle()))
    ) {
        prop_assert_eq!(roll_up(&rows), roll_up(&shuffled));
    }

    #[test]
    fn batches_add_up_to_one(rows in any_rows(), cut in 0..40_usize) {
        let (one, other) = rows.split_at(cut.min(rows.len()));
        let mut sum = BTreeMap::new();
        for hour in roll_up(one).into_iter().chain(roll_up(other)) {
            let key = (hour.label.clone(), hour.agent.clone(), hour.hour);
            sum.entry(key).and_modify(|sum: &mut Hour| sum.add(&hour)).or_insert(hour);
        }
        prop_assert_eq!(sum.into_values().collect::<Vec<_>>(), roll_up(&rows));
    }

    #[test]
    fn hours_come_in_order_and_each_log_has_one(rows in any_rows()) {
        let hours = roll_up(&rows);
        let key = |hour: &Hour| (hour.label.clone(), hour.agent.clone(), hour.hour);
        prop_assert!(hours.is_sorted_by(|a, b| key(a) < key(b)));
        for row in &rows {
            prop_assert!(hours.iter().any(|hour| key(hour) == (row.label.clone(), row.agent.clone(), hour_of(row.due_at))));
        }
    }

    #[test]
    fn of_a_regular_schedule_hours_say_what_the_logs_say(rows in regular(), length in 1..5_i64) {
        let (from, to) = (at(0), at(length * 3_600));
        let hours: Vec<Hour> =
            roll_up(&rows).into_iter().filter(|hour| (from..to).contains(&hour.hour)).collect();
        let time = |nth: usize| hours.iter().map(|hour| hour.time()[nth]).sum::<Duration>();
        let report = report_of(&rows, from, to);
        // Of rows that all lie before the range, there is nothing to tell.
        let (exact, logs) = report.checks.first().map(|check| (check.time, check.logs)).unwrap_or_default();
        prop_assert_eq!([time(0), time(1), time(2)], [exact.up, exact.degraded, exact.down]);
        let ran = |hour: &Hour| hour.slots.up + hour.slots.degraded + hour.slots.down + hour.slots.unknown;
        prop_assert_eq!(hours.iter().map(|hour| u64::from(ran(hour))).sum::<u64>(), logs);
    }

    #[test]
    fn an_estimate_is_within_a_fifth(durations in prop::collection::vec(125..65_536_000_u64, 1..300), percent in 1..=100_u8) {
        let rows: Vec<Row> = durations.iter()
            .map(|took| Row { duration_us: Some(*took), ..row(at(0), 10, Verdict::Up, 1) }).collect();
        let estimate = percentile(&roll_up(&rows)[0].latency, percent).unwrap() as f64;
        let mut sorted = durations;
        sorted.sort_unstable();
        let exact = sorted[(sorted.len() * usize::from(percent)).div_ceil(100) - 1] as f64;
        prop_assert!(estimate <= exact * 1.2 && exact <= estimate * 1.2, "{estimate} for {exact}");
    }
}
