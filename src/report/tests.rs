use proptest::prelude::*;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::*;
use crate::clock::SimulatedClock;
use crate::config;
use crate::flow::{Batch, Sink};
use crate::logs::{Cause, Log, Missed, Object, VERSION};
use crate::maintenance::{Begins, Window};
use crate::store::Row;
use crate::store::sqlite::{self, Sqlite};

/// Seconds after the range begins, which most tests take from 0 to 100.
pub(super) fn at(second: i64) -> Timestamp {
    let from = Timestamp::parse("2026-11-24T10:00:00Z").unwrap();
    Timestamp::from_micros(from.as_micros() + second * 1_000_000)
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn verdict(word: &str) -> Verdict {
    serde_json::from_value(Value::from(word)).unwrap()
}

/// `10 up`, `10/60 down refused`, `10..30 missed`: the slot (`missed`: first and last), the interval if it is not 10, the
/// verdict, the reason; all in seconds.
pub(super) fn row(label: &str, agent: &str, text: &str) -> Row {
    let mut words = text.trim().splitn(3, ' ');
    let (slots, verdict, reason) = (words.next().unwrap(), verdict(words.next().unwrap()), words.next());
    let (slots, interval) = slots.split_once('/').unwrap_or((slots, "10"));
    let interval: u64 = interval.parse().unwrap();
    let (first, last) = match slots.split_once("..") {
        Some((first, last)) => (first.parse().unwrap(), last.parse().unwrap()),
        _ => (slots.parse().unwrap(), slots.parse::<i64>().unwrap()),
    };
    let slots = (last - first) as u64 / interval + 1;
    let missed = Missed { cause: Cause::AgentOff, slots, last_due_at: at(last) };
    Row {
        agent: agent.into(),
        label: label.into(),
        due_at: at(first),
        interval: seconds(interval),
        verdict,
        duration_us: (verdict != Verdict::Missed).then_some(50_000),
        starved_us: None,
        reason: reason.map(Arc::from),
        missed: (verdict == Verdict::Missed).then_some(missed),
    }
}

/// Maintenance that begins at a second of the range.
pub(super) fn window(labels: &[&str], from: i64, lasts: u64) -> Arc<Window> {
    let labels = labels.iter().map(|label| glob::Pattern::new(label).unwrap()).collect();
    Arc::new(Window { name: "works".into(), labels, begins: Begins::Once(at(from)), lasts: seconds(lasts) })
}

fn rows(text: &str) -> Vec<Row> {
    text.split(',').filter(|text| !text.is_empty()).map(|text| row("shop", "a", text)).collect()
}

fn report_of(rows: impl IntoIterator<Item = Row>, listed: &[&str], to: i64) -> Report {
    seen_by(&View::default(), rows, listed, (0, to))
}

fn seen_by(view: &View, rows: impl IntoIterator<Item = Row>, listed: &[&str], (from, to): (i64, i64)) -> Report {
    let mut sums = Sums::new(at(from), at(to)).seen_by(view);
    rows.into_iter().for_each(|row| sums.push(row));
    let listed: Vec<Arc<str>> = listed.iter().map(|label| Arc::from(*label)).collect();
    sums.report(listed.iter())
}

fn summary_of(text: &str) -> Summary {
    let mut report = report_of(rows(text), &["shop"], 100);
    assert_eq!(report.checks.len(), 1);
    report.checks.remove(0)
}

#[test]
fn time_is_shared_out_once() {
    for (name, rows, expected) in [
        ("nothing is known without logs", "", "0 0 0 100"),
        ("a log speaks for its interval", "0 up", "10 0 0 90"),
        ("time before the first log is unknown", "60 up,70 up,80 up,90 up", "40 0 0 60"),
        ("each verdict has its share", "0 up,10 degraded,20 down,30 unknown", "10 10 10 70"),
        ("a log speaks no further than the next", "0/60 up,20/60 down", "20 0 60 20"),
        ("unknown ends what the log before says", "0/60 up,20 unknown,40 up", "30 0 0 70"),
        ("a gap is unknown", "0 up,50 up", "20 0 0 80"),
        ("a missed range is unknown", "0 up,10..40 missed,50 up", "20 0 0 80"),
        ("a log within a missed range counts", "0..90 missed,40 down", "0 0 10 90"),
        ("the range cuts off what reaches into it", "-5 up,5 down", "5 0 10 85"),
        ("what does not reach into it is left out", "-20 up,-10 down", "0 0 0 100"),
        ("a missed range reaches in from before", "-50..40 missed,50 up", "10 0 0 90"),
        ("the range ends what speaks on", "90/60 up", "10 0 0 90"),
        ("what comes after it is left out", "90 up,100 down,110 down", "10 0 0 90"),
        ("a log that comes twice counts once", "0 up,0 up,10 down,10 down", "10 0 10 80"),
        ("of two that contradict each other the worse counts", "0 up,0 down,10 down,10 up", "0 0 20 80"),
        ("up says more than unknown", "0 up,0 unknown,10 unknown,10 up", "20 0 0 80"),
        ("even out of order no time counts twice", "50 up,10/60 up,20/60 up", "50 0 0 50"),
        ("slots that overlap after the clock was set back", "0 up,7 up,10 up,17 up", "27 0 0 73"),
    ] {
        let time = summary_of(rows).time;
        let found =
            [time.up, time.degraded, time.down, time.unknown].map(|share| share.as_secs().to_string()).join(" ");
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn with_a_confirm_only_what_was_confirmed_is_shown_and_every_log_still_counts() {
    let confirms = Confirms::from_iter([(Arc::from("shop"), Confirm::new(2, 2).unwrap())]);
    let view = View { confirms, ..View::default() };
    for (rows, outages, state, time) in [
        ("-10 up,60 up,70 down,80 up,90 up", "", "up", "30 10"),
        ("60 up,70 down refused,80 down,90 up", "70..open for 20: refused", "down", "20 20"),
        ("50 down refused,60 unknown,70 down,80 up,90 up", "50..80 for 20: refused", "up", "20 20"),
        ("70 up,80 up,90 down", "", "up", "20 10"),
        ("-5 down refused,5 down reset,15 up,25 up", "0..15 for 15: refused", "unknown", "20 15"),
    ] {
        let mut sums = Sums::new(at(0), at(100)).seen_by(&view);
        super::tests::rows(rows).into_iter().for_each(|row| sums.push(row));
        let summary = sums.report([].iter()).checks.remove(0);
        let shown = |outage: &Outage| {
            let end = outage.end.map_or("open".to_owned(), |end| end.since(at(0)).as_secs().to_string());
            let (start, down) = (outage.start.since(at(0)).as_secs(), outage.down.as_secs());
            format!("{start}..{end} for {down}: {}", outage.reason.as_deref().unwrap_or("-"))
        };
        let found: Vec<String> = summary.outages.iter().map(shown).collect();
        assert_eq!((found.join("; "), summary.state), (outages.to_owned(), verdict(state)), "{rows}");
        assert_eq!(format!("{} {}", summary.time.up.as_secs(), summary.time.down.as_secs()), time, "{rows}");
    }
}

#[test]
fn what_flaps_is_shown_as_flapping() {
    let logs: Vec<String> = (2..10).map(|n| format!("{}0 {}", n, if n % 2 == 0 { "up" } else { "down" })).collect();
    let report = report_of(rows(&logs.join(",")), &[], 100);
    assert_eq!(report.checks[0].flapping, Some(true));
    assert!(table(&report, None, false).contains("down, flapping"), "{}", table(&report, None, false));
    assert!(json(&report).contains("\"flapping\": true") && csv(&report).contains(",true,0,,,\r\n"));
}

#[test]
fn outages_are_runs_of_down() {
    for (name, rows, expected) in [
        ("none", "0 up,10 degraded", ""),
        ("one", "0 up,10 down refused,20 down reset,30 up", "10..30 for 20: refused"),
        (
            "degraded ends it",
            "10 down refused,20 degraded,30 down reset,40 up",
            "10..20 for 10: refused; 30..40 for 10: reset",
        ),
        ("unknown neither ends it nor counts", "10 down refused,20 unknown,30 down,40 up", "10..40 for 20: refused"),
        ("nor does what was missed", "10 down refused,20..50 missed,60 down,70 up", "10..70 for 20: refused"),
        ("nor does a gap", "10 down refused,60 down,70 up", "10..70 for 20: refused"),
        ("still open", "80 down refused,90 down", "80..open for 20: refused"),
        ("still open as far as is known", "10 down refused,20..90 missed", "10..open for 10: refused"),
        ("up comes long after", "10 down refused,60 up", "10..60 for 10: refused"),
        ("began before the range", "-5 down refused,5 down reset,15 up", "before 0..15 for 15: refused"),
        ("ended before the range", "-15 down,-5 up,5 up", ""),
        ("the whole range", "-5/200 down refused", "before 0..open for 100: refused"),
        ("without a reason", "10 down,20 up", "10..20 for 10: -"),
    ] {
        let second = |at_: Timestamp| at_.since(at(0)).as_secs();
        let shown = |outage: &Outage| {
            let before = if outage.began_before { "before " } else { "" };
            let end = outage.end.map_or("open".to_owned(), |end| second(end).to_string());
            let (start, down) = (second(outage.start), outage.down.as_secs());
            format!("{before}{start}..{end} for {down}: {}", outage.reason.as_deref().unwrap_or("-"))
        };
        let found = summary_of(rows).outages.iter().map(shown).collect::<Vec<_>>().join("; ");
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn only_the_newest_outages_are_kept_and_all_are_counted() {
    let flapping = (0..250).map(|nth| row("shop", "a", &format!("{nth}/1 {}", ["down", "up"][nth % 2])));
    let report = report_of(flapping, &[], 250);
    let shop = &report.checks[0];
    assert_eq!((shop.outages.len(), shop.outages_left_out), (100, 25));
    assert_eq!((shop.outages[0].start, shop.outages[99].start), (at(50), at(248)));
    assert_eq!(shop.time.down, seconds(125));
    assert!(table(&report, None, false).ends_with("\nand 105 before these\n"));
}

#[test]
fn the_state_is_what_the_last_log_says_while_it_is_fresh() {
    for (rows, state, last) in [
        ("", Verdict::Unknown, None),
        ("80 up,90 up", Verdict::Up, Some(90)),
        ("80 up,90 degraded", Verdict::Degraded, Some(90)),
        ("80 up,90 down", Verdict::Down, Some(90)),
        ("80 up,90 unknown", Verdict::Unknown, Some(90)),
        ("80 down,90..95/5 missed", Verdict::Unknown, Some(95)),
        ("80 up,110 down", Verdict::Up, Some(80)),
        ("70 up", Verdict::Up, Some(70)),
        ("69 up", Verdict::Unknown, Some(69)),
        ("0/45 up", Verdict::Up, Some(0)),
    ] {
        let summary = summary_of(rows);
        assert_eq!((summary.state, summary.last_due_at), (state, last.map(at)), "{rows}");
    }
}

#[test]
fn slots_in_the_range_are_counted() {
    for (rows, logs, missed) in [
        ("", 0, 0),
        ("0 up,10 down,20 unknown,30 degraded", 4, 0),
        ("-5 up,5 up,100 up", 1, 0),
        ("0 up,0 up", 1, 0),
        ("0..40 missed", 0, 5),
        ("-25..35 missed", 0, 4),
        ("-20..0 missed", 0, 1),
        ("85..205 missed", 0, 2),
        ("-100..205 missed", 0, 10),
    ] {
        let summary = summary_of(rows);
        assert_eq!((summary.logs, summary.missed), (logs, missed), "{rows}");
    }
}

#[test]
fn durations_are_those_of_what_worked_in_the_range() {
    let took = |text: &str, duration_us| Row { duration_us: Some(duration_us), ..row("shop", "a", text) };
    let rows = [took("-5 up", 9), took("5 up", 1), took("15 down", 9), took("25 degraded", 2), took("35 unknown", 9)];
    assert_eq!(report_of(rows, &[], 100).checks[0].durations, Some(Percentiles { p50: 1, p95: 2, p99: 2 }));
    assert_eq!(summary_of("0 down,10..90 missed").durations, None);
}

#[test]
fn within_a_millisecond_any_order_will_do() {
    let later = |text: &str, micros| {
        let row = row("shop", "a", text);
        Row { due_at: row.due_at.plus(Duration::from_micros(micros)), ..row }
    };
    let ordered = [later("0 up", 0), later("10 up", 100), later("10 down", 700), later("20 up", 0)];
    let expected = report_of(ordered.clone(), &[], 100);
    for order in [vec![0, 2, 1, 3], vec![0, 2, 1, 1, 3], vec![0, 2, 1, 2, 1, 3]] {
        let swapped = order.iter().map(|&nth: &usize| ordered[nth].clone());
        assert_eq!(report_of(swapped, &[], 100), expected, "{order:?}");
    }
}

#[test]
fn every_label_and_agent_has_its_line_and_listed_ones_without_logs_too() {
    let rows =
        [row("mail", "a", "0 up"), row("shop", "a", "0 up"), row("shop", "b", "0 down"), row("web", "a", "0 up")];
    let report = report_of(rows, &["shop", "dns", "zone", "dns"], 100);
    let lines: Vec<_> = report.checks.iter().map(|check| (&*check.label, check.agent.as_deref())).collect();
    let expected = [
        ("dns", None),
        ("mail", Some("a")),
        ("shop", Some("a")),
        ("shop", Some("b")),
        ("web", Some("a")),
        ("zone", None),
    ];
    assert_eq!(lines, expected);
    assert_eq!(report.checks[0].time, Time { unknown: seconds(100), ..Time::default() });
}

#[test]
fn an_empty_range_is_unknown() {
    let report = report_of(rows("-5 up,0 up"), &["shop"], -7);
    assert_eq!(report.to, report.from);
    assert_eq!(Shares::of(&report.checks[0].time).unknown.percent(), 100.0);
}

/// Maintenance of `shop` or of all, from a second on for so many.
pub(super) type Windows = Vec<(bool, i64, u64)>;

pub(super) fn any_windows() -> impl Strategy<Value = Windows> {
    prop::collection::vec((any::<bool>(), -50..150_i64, 1..60_u64), 0..5)
}

pub(super) fn is_planned(windows: &Windows, label: &str, second: i64) -> bool {
    let mut of_label = windows.iter().filter(|(all, ..)| *all || label == "shop");
    of_label.any(|(_, from, lasts)| (*from..from + *lasts as i64).contains(&second))
}

pub(super) fn planned(windows: &Windows) -> View {
    let labels = |all: bool| if all { &[][..] } else { &["shop"][..] };
    let windows: Vec<_> = windows.iter().map(|(all, from, lasts)| window(labels(*all), *from, *lasts)).collect();
    View { planned: Planned::of(&windows, (at(0), at(100))).unwrap(), ..View::default() }
}

#[test]
fn what_was_planned_is_set_apart() {
    for (name, rows, windows, time, outages) in [
        ("none", "0/100 down", vec![], "0 0 100 0 0", "0..open 100 0"),
        ("half of it", "0/100 down", vec![(10, 50)], "0 0 50 0 50", "0..open 100 50"),
        ("all of an outage", "0/30 up,30/20 down,50/50 up", vec![(20, 40)], "60 0 0 0 40", "30..50 20 20"),
        ("an outage that goes on", "0/30 up,30/40 down,70/30 up", vec![(20, 40)], "50 0 10 0 40", "30..70 40 30"),
        ("what nobody knows", "0/10 up", vec![(5, 20)], "5 0 0 75 20", ""),
        ("what is degraded", "0/50 degraded,50/50 up", vec![(40, 20)], "40 40 0 0 20", ""),
        ("two at once", "0/100 up", vec![(10, 20), (20, 20)], "70 0 0 0 30", ""),
        ("all of it", "0/100 up", vec![(-10, 200)], "0 0 0 0 100", ""),
    ] {
        let view = planned(&windows.into_iter().map(|(from, lasts)| (true, from, lasts)).collect());
        let shop = seen_by(&view, super::tests::rows(rows), &[], (0, 100)).checks.remove(0);
        let Time { up, degraded, down, unknown, planned } = shop.time;
        let found = [up, degraded, down, unknown, planned].map(|share| share.as_secs().to_string()).join(" ");
        assert_eq!(found, time, "{name}");
        let shown = |outage: &Outage| {
            let end = outage.end.map_or("open".to_owned(), |end| end.since(at(0)).as_secs().to_string());
            format!(
                "{}..{end} {} {}",
                outage.start.since(at(0)).as_secs(),
                outage.down.as_secs(),
                outage.planned.as_secs()
            )
        };
        assert_eq!(shop.outages.iter().map(shown).collect::<Vec<_>>().join("; "), outages, "{name}");
    }
}

#[test]
fn what_was_planned_is_shown() {
    let rows = ["0/30 up", "30/20 down refused", "50/40 up", "90 down reset"].map(|text| row("shop", "a", text));
    let others = [row("mail", "a", "0/95 up"), row("zoo", "a", "0/100 up")];
    let windows = [window(&["shop"], 25, 20), window(&["shop"], 95, 20), window(&["mail", "n*"], -10, 150)];
    let view = View { planned: Planned::of(&windows, (at(0), at(100))).unwrap(), ..View::default() };
    let report = seen_by(&view, [rows.to_vec(), others.to_vec()].concat(), &["never"], (0, 100));
    insta::assert_snapshot!(table(&report, None, false));
    insta::assert_snapshot!(csv(&report).replace('\r', ""));
    let json: Value = serde_json::from_str(&json(&report)).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&json["checks"][2]).unwrap());
    assert_eq!((&json["checks"][0]["percent"], &json["checks"][0]["uptime_percent"]), (&Value::Null, &Value::Null));
}

#[test]
fn what_came_before_the_range_tells_how_it_begins() {
    let confirm =
        |needed, of| View { confirms: [("shop".into(), Confirm::new(needed, of).unwrap())].into(), ..View::default() };
    for (name, view, rows, state, outages) in [
        ("down goes on after a gap", confirm(1, 1), "-50 down refused,80 down,90 down", "down", "0..open 20: refused"),
        ("what is over is over", confirm(1, 1), "-50 down refused,-40 up,90 up", "up", ""),
        ("and so is what ends with the range", confirm(1, 1), "-50 down refused,20 up,90 up", "up", ""),
        (
            "the first of it confirms what came before",
            confirm(3, 3),
            "-20 down refused,-10 down,0 down,90 down",
            "down",
            "0..open 20: refused",
        ),
        ("it was confirmed before", confirm(3, 3), "-30 down refused,-20 down,-10 down,80 up,90 up", "down", ""),
        (
            "and goes on",
            confirm(3, 3),
            "-30 down refused,-20 down,-10 down,70 down,80 up,90 up",
            "down",
            "0..open 10: refused",
        ),
        ("and ends", confirm(2, 2), "-20 down refused,-10 down,70 down,80 up,90 up", "up", "0..80 10: refused"),
        ("it was working", confirm(2, 2), "-20 up,80 up,90 down", "up", ""),
        ("it ended, as the range tells", confirm(2, 2), "-30 down,-20 down,-10 up,90 up", "up", ""),
    ] {
        let shop = seen_by(&view, super::tests::rows(rows), &[], (0, 100)).checks.remove(0);
        let shown = |outage: &Outage| {
            assert!(outage.began_before, "{name}");
            let end = outage.end.map_or("open".to_owned(), |end| end.since(at(0)).as_secs().to_string());
            format!("0..{end} {}: {}", outage.down.as_secs(), outage.reason.as_deref().unwrap_or("-"))
        };
        let found = shop.outages.iter().map(shown).collect::<Vec<_>>().join("; ");
        assert_eq!((found.as_str(), shop.state), (outages, verdict(state)), "{name}");
    }
    let logs: Vec<String> = (-7..0).map(|n| format!("{n}0 {}", if n % 2 == 0 { "up" } else { "down" })).collect();
    assert_eq!(report_of(rows(&(logs.join(",") + ",0 up")), &[], 100).checks[0].flapping, Some(true));
}

#[test]
fn what_was_only_before_the_range_is_not_told_of() {
    let rows = [row("mail", "a", "-50 up"), row("shop", "a", "-50 down"), row("shop", "b", "0 up")];
    let report = report_of(rows, &["mail"], 100);
    let lines: Vec<_> = report.checks.iter().map(|check| (&*check.label, check.agent.as_deref())).collect();
    assert_eq!(lines, [("mail", None), ("shop", Some("b"))]);
}

#[test]
fn how_a_range_begins_does_not_hang_on_where_the_logs_before_it_are_cut() {
    let view = View { confirms: [("shop".into(), Confirm::new(5, 5).unwrap())].into(), ..View::default() };
    // Five are down, then every second one.
    let log = |nth: i64| match nth {
        -100..-95 => "down",
        nth if nth % 2 == 0 => "up",
        _ => "down",
    };
    let from = |first: i64, more: &str| {
        let logs: Vec<String> = (first..8).map(|nth| format!("{nth}0 {}", log(nth))).collect();
        seen_by(&view, rows(&format!("{},{more}", logs.join(","))), &[], (0, 100)).checks.remove(0)
    };
    let open = |check: &Summary| check.outages.last().is_some_and(|last| last.end.is_none());
    for (name, first, more, state, is_open) in [
        ("all logs tell", -100, "80 down,90 up", Verdict::Down, true),
        ("the first of all was up", -40, "80 down,90 up", Verdict::Up, false),
        ("where there may be others before, nobody knows", -42, "80 down,90 up", Verdict::Unknown, false),
        ("until it is confirmed", -42, "71 down,80 down,81 down,90 down", Verdict::Down, true),
    ] {
        let check = from(first, more);
        assert_eq!((check.state, open(&check)), (state, is_open), "{name}");
    }
}

/// What any agents may have written around a range of 100 s, in the store's order.
pub(super) fn any_rows(agents: &'static [&'static str]) -> impl Strategy<Value = Vec<Row>> {
    let verdicts = prop::sample::select(vec!["up", "degraded", "down", "unknown", "missed"]);
    let some =
        (prop::sample::select(vec!["mail", "shop"]), 0..agents.len(), -60..130_i64, 1..40_u64, 0..4_i64, verdicts);
    let row = some.prop_map(|(label, agent, first, interval, more, verdict)| {
        let last = first + if verdict == "missed" { more * interval as i64 } else { 0 };
        let agent = agents[agent];
        let text = format!("{first}..{last}/{interval} {verdict} {agent} at {first}");
        Row { duration_us: Some(interval), ..row(label, agent, &text) }
    });
    prop::collection::vec(row, 0..40).prop_map(|mut rows| {
        rows.sort_by_key(|row| (Arc::clone(&row.label), Arc::clone(&row.agent), row.due_at));
        rows
    })
}

/// Which of an agent's rows speaks at `second`: the newest slot that is due, as long as it does; of several logs of it, the
/// worst.
pub(super) fn speaker<'a>(rows: &[&'a Row], second: i64) -> Option<&'a Row> {
    let order = ["missed", "unknown", "up", "degraded", "down"].map(verdict);
    let due = rows.iter().copied().filter(|row| row.due_at <= at(second));
    let place = |row: &Row| order.iter().position(|verdict| *verdict == row.verdict);
    let newest = due.max_by_key(|row| (row.due_at, place(row), row.interval, row.missed.map(|of| of.last_due_at)));
    newest.filter(|row| {
        let last = row.missed.map_or(row.due_at, |missed| missed.last_due_at);
        at(second) < last.plus(row.interval)
    })
}

fn by_the_second(rows: &[&Row], is_planned: &dyn Fn(i64) -> bool) -> Time {
    let mut time = Time::default();
    for second in 0..100 {
        if is_planned(second) {
            time.planned += seconds(1);
            continue;
        }
        *match speaker(rows, second).map(|row| row.verdict) {
            Some(Verdict::Up) => &mut time.up,
            Some(Verdict::Degraded) => &mut time.degraded,
            Some(Verdict::Down) => &mut time.down,
            Some(Verdict::Unknown | Verdict::Missed) | None => &mut time.unknown,
        } += seconds(1);
    }
    time
}

proptest! {
    /// A store gives more rows than reach into the range.
    #[test]
    fn what_came_before_the_range_changes_no_time(rows in any_rows(&["a"]), before in 0..60_usize) {
        let by_series = rows.chunk_by(|one, next| one.label == next.label);
        let given = by_series.flat_map(|rows| {
            let begin = rows.partition_point(|row| row.due_at < at(0));
            rows[crate::store::first_needed(&rows[..begin], at(0), before)..].to_vec()
        });
        let times = |report: Report| -> Vec<_> {
            report.checks.into_iter().map(|of| (of.label, of.time, of.logs, of.missed, of.durations)).collect()
        };
        prop_assert_eq!(times(report_of(given, &[], 100)), times(report_of(rows.clone(), &[], 100)));
    }

    /// Wherever the range begins.
    #[test]
    fn how_it_is_at_the_end_all_logs_tell(rows in any_rows(&["a"]), needed in 1_u8..4, more in 0_u8..3) {
        let confirm = Confirm::new(needed, needed + more.min(needed - 1)).unwrap();
        let view = View { confirms: [("shop".into(), confirm), ("mail".into(), confirm)].into(), ..View::default() };
        let whole = seen_by(&view, rows.clone(), &[], (-60, 100));
        for check in seen_by(&view, rows, &[], (0, 100)).checks {
            let whole = whole.checks.iter().find(|whole| whole.label == check.label).unwrap();
            prop_assert_eq!((check.state, check.flapping), (whole.state, whole.flapping));
            let open = |outages: &[Outage]| outages.last().is_some_and(|last| last.end.is_none() && last.down > Duration::ZERO);
            prop_assert!(!open(&check.outages) || open(&whole.outages));
        }
    }

    #[test]
    fn time_is_shared_out_as_second_by_second(rows in any_rows(&["a", "b"]), windows in any_windows()) {
        let report = seen_by(&planned(&windows), rows.clone(), &["never"], (0, 100));
        for check in &report.checks {
            let is_of = |row: &&Row| (&row.label, Some(&row.agent)) == (&check.label, check.agent.as_ref());
            let is_planned = |second| is_planned(&windows, &check.label, second);
            prop_assert_eq!(check.time, by_the_second(&rows.iter().filter(is_of).collect::<Vec<_>>(), &is_planned));
            let Time { up, degraded, down, unknown, planned } = check.time;
            prop_assert_eq!(up + degraded + down + unknown + planned, seconds(100));
        }
    }

    #[test]
    fn whatever_the_order_no_time_counts_twice(rows in any_rows(&["a", "b"]).prop_flat_map(|rows| Just(rows).prop_shuffle())) {
        for check in report_of(rows, &[], 100).checks {
            let Time { up, degraded, down, unknown, .. } = check.time;
            prop_assert_eq!(up + degraded + down + unknown, seconds(100));
        }
    }

    #[test]
    fn duplicates_in_any_order_change_nothing(
        (rows, twice) in any_rows(&["a", "b"]).prop_flat_map(|rows| {
            let twice = if rows.is_empty() { Just(Vec::new()).boxed() } else { prop::sample::subsequence(rows.clone(), 0..=rows.len()).boxed() };
            let shuffled = twice.prop_flat_map({ let rows = rows.clone(); move |twice| Just([rows.clone(), twice].concat()).prop_shuffle() });
            (Just(rows), shuffled)
        })
    ) {
        let mut twice = twice;
        twice.sort_by_key(|row| (Arc::clone(&row.label), Arc::clone(&row.agent), row.due_at));
        prop_assert_eq!(report_of(twice, &[], 100), report_of(rows, &[], 100));
    }

    #[test]
    fn outages_hold_all_the_time_that_was_down(rows in any_rows(&["a", "b"]), windows in any_windows()) {
        let without = report_of(rows.clone(), &[], 100).checks;
        for (check, without) in seen_by(&planned(&windows), rows, &[], (0, 100)).checks.into_iter().zip(without) {
            // Nothing is hidden.
            let unplanned = |outage: &Outage| Outage { planned: Duration::ZERO, ..outage.clone() };
            prop_assert_eq!(check.outages.iter().map(unplanned).collect::<Vec<_>>(), without.outages);
            let down = check.outages.iter().map(|outage| outage.down - outage.planned).sum::<Duration>();
            prop_assert_eq!(down, check.time.down);
            let mut free_from = at(0);
            for outage in &check.outages {
                let end = outage.end.unwrap_or(at(100));
                prop_assert!(free_from <= outage.start && outage.start <= end && end <= at(100), "{:?}", check.outages);
                prop_assert!(outage.down <= end.since(outage.start));
                free_from = end;
            }
            prop_assert!(check.outages.iter().rev().skip(1).all(|outage| outage.end.is_some()));
        }
    }

    #[test]
    fn a_csv_has_as_many_fields_in_each_line_and_a_table_no_wide_line(rows in any_rows(&["a", "b"]), width in 60..120_u16) {
        let report = report_of(rows, &["never"], 100);
        prop_assert!(csv(&report).lines().all(|line| line.split(',').count() == 26));
        prop_assert!(table(&report, Some(width), false).lines().all(|line| line.chars().count() <= usize::from(width.max(90))));
    }
}

/// A log as an agent would have written it, every second one down.
pub(super) fn log(nth: u64) -> Log {
    let due_at = at(nth as i64);
    Log {
        v: VERSION,
        uid: Uuid::from_u64_pair((due_at.as_millis() << 16) | 0x7000, (1 << 63) | nth),
        agent: "edge-01".into(),
        boot: Uuid::nil(),
        seq: nth + 1,
        label: "shop".into(),
        kind: "http".into(),
        target: "https://shop.example.com/health".into(),
        due_at,
        started_at: Some(due_at),
        ended_at: Some(due_at),
        duration_us: Some(nth),
        interval_ms: 1_000,
        verdict: if nth.is_multiple_of(2) { Verdict::Up } else { Verdict::Down },
        phase: None,
        reason: Some("refused".into()),
        result: Object::default(),
        unknown_fields: Map::new(),
    }
}

#[test]
fn a_store_is_summed_up() {
    let folder = tempfile::tempdir().unwrap();
    let settings = config::Sqlite { path: folder.path().join("pingeon.db"), retention: seconds(86_400) };
    let mut store = Sqlite::open(&settings, Arc::new(SimulatedClock::at(at(5_000)))).unwrap();
    store.deliver(&Batch { logs: (0..5_000).map(log).collect(), ..Batch::default() }).unwrap();
    let mut archive = sqlite::Archive::open(&settings.path).unwrap();
    let (shop, dns, range) = ([Arc::from("shop")], [Arc::from("dns")], (at(0), at(5_000)));
    let mut told = Vec::new();
    let report = summed_up(&mut archive, &[], &shop, range, &Default::default(), &mut |rows| told.push(rows)).unwrap();
    assert_eq!(told, [4_096]);
    let [shop_seen] = &report.checks[..] else { panic!("{report:?}") };
    assert_eq!(shop_seen.time, Time { up: seconds(2_500), down: seconds(2_500), ..Time::default() });
    assert_eq!((shop_seen.logs, shop_seen.state), (5_000, Verdict::Down));
    assert_eq!(shop_seen.durations, Some(Percentiles { p50: 2_498, p95: 4_748, p99: 4_948 }));
    assert_eq!(shop_seen.outages[99].reason.as_deref(), Some("refused"));
    assert_eq!(summed_up(&mut archive, &shop, &shop, range, &Default::default(), &mut |_| {}), Ok(report));
    let report = summed_up(&mut archive, &dns, &[], range, &Default::default(), &mut |_| {}).unwrap();
    assert_eq!(report.checks.iter().map(|check| &*check.label).collect::<Vec<_>>(), ["dns"]);
}

#[test]
fn a_pipe_has_no_width() {
    assert_eq!(terminal_width(std::fs::File::open("/dev/null").unwrap()), None);
}

/// A bit of everything that a person may have to read.
fn of_all_sorts() -> Report {
    let mut rows = Vec::new();
    rows.extend((0..100).map(|nth| {
        let verdict = if (40..43).contains(&nth) { "down connection refused by 192.0.2.7:443" } else { "up" };
        Row { duration_us: Some(50_000 + nth * 100), ..row("shop", "edge-01", &format!("{}/60 {verdict}", nth * 60)) }
    }));
    rows.extend(["0/600 up", "600/600 degraded slow", "1200..4800/600 missed", "5400/600 down the body has no `\"ok\"`, \x1b[31mbut\nsomething \u{202e}else that goes on and on and on until it is wider than any table should be"].map(|text| row("the shop, \"new\"", "edge-01", text)));
    rows.push(row("日本語", "edge-01", "5940/60 up"));
    report_of(rows, &["shop", "never seen"], 6_000)
}

#[test]
fn a_table_in_a_pipe() {
    insta::assert_snapshot!(table(&of_all_sorts(), None, false));
}

#[test]
fn a_table_on_a_terminal() {
    let text = table(&of_all_sorts(), Some(100), true);
    insta::assert_snapshot!(text.replace('\x1b', "ESC"));
    let plain = table(&of_all_sorts(), Some(100), false);
    let codes = ["\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[35m"];
    assert_eq!(codes.iter().fold(text, |text, code| text.replace(code, "")), plain, "colour moves nothing");
    assert!(plain.chars().all(|c| c == '\n' || !c.is_control()), "and nothing else drives the terminal");
}

#[test]
fn a_table_on_a_narrow_terminal() {
    insta::assert_snapshot!(table(&of_all_sorts(), Some(80), false));
}

#[test]
fn a_table_of_many_agents_and_without_outages() {
    let rows = [row("shop", "edge-01", "0 up"), row("shop", "edge-02", "90 up")];
    insta::assert_snapshot!(table(&report_of(rows, &["never"], 100), None, false));
    insta::assert_snapshot!(table(&report_of([], &[], 100), None, false));
}

#[test]
fn what_the_agent_itself_may_have_slowed_is_counted_and_shown() {
    let starved = |text, starved_us| Row { starved_us, ..row("shop", "a", text) };
    // 50 ms each.
    let old = || vec![starved("0 up", None), starved("10 up", None)];
    let calm = || vec![starved("0 up", Some(90)), starved("10 down", Some(4_999)), starved("20 up", None)];
    let busy = || {
        vec![
            starved("-5 up", Some(9_999)),
            starved("5 up", Some(5_000)),
            starved("15 down", Some(70_000)),
            starved("25 up", Some(0)),
        ]
    };
    let missed = || vec![Row { starved_us: Some(7_000), ..row("shop", "a", "0..30 missed") }];
    for (name, rows, expected) in [
        ("older agents do not tell", old(), None),
        ("some do", calm(), Some((0, 2))),
        ("within the range alone", busy(), Some((2, 3))),
        ("what did not run", missed(), None),
    ] {
        let report = report_of(rows, &[], 100);
        let strained = report.checks[0].strained;
        assert_eq!(strained.map(|of| (of.logs, of.known)), expected, "{name}");
        let (shown, some) = (table(&report, None, false), strained.is_some_and(|of| of.logs > 0));
        assert_eq!((shown.contains(" strained "), shown.contains("\nstrained: ")), (some, some), "{name}: {shown}");
        let told: Value = serde_json::from_str(&json(&report)).unwrap();
        let expected = expected.map(|(logs, known)| serde_json::json!({"logs": logs, "known": known}));
        assert_eq!(told["checks"][0]["strained"], expected.unwrap_or_default(), "{name}");
    }
    assert!(csv(&report_of(busy(), &[], 100)).ends_with(",2,3\r\n"));
    assert!(csv(&report_of(old(), &[], 100)).ends_with(",,\r\n"));
}

#[test]
fn as_json() {
    insta::assert_snapshot!(json(&of_all_sorts()));
}

#[test]
fn as_csv() {
    let text = csv(&of_all_sorts());
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
    insta::assert_snapshot!(text.replace('\r', ""));
}
