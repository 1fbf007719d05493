use std::collections::BTreeSet;

use proptest::prelude::*;

use super::zone::tests::{berlin, zone};
use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn again(cron: &str, zone: Zone, lasts: u64) -> Window {
    let begins = Begins::Again { typed: cron.into(), weekly: false, cron: Cron::parse(cron).unwrap(), zone };
    Window { name: "patches".into(), labels: Vec::new(), begins, lasts: Duration::from_secs(lasts) }
}

/// When it begins within a time, as `11-24T10:00`.
fn begins(window: &Window, from: &str, to: &str) -> String {
    let (from, to) = (at(&format!("2026-{from}:00Z")), at(&format!("2026-{to}:00Z")));
    let spans = window.spans(from, to).filter(|(begin, _)| *begin >= from);
    spans.map(|(begin, _)| begin.to_string()[5..16].to_owned()).collect::<Vec<_>>().join(" ")
}

#[test]
fn five_fields_say_when() {
    // The 24th of November 2026 is a Tuesday.
    for (cron, expected) in [
        ("30 2 * * 1-5", "11-24T02:30 11-25T02:30 11-26T02:30 11-27T02:30 11-30T02:30"),
        ("0 12 * * sun", "11-29T12:00"),
        ("0 12 * * 7", "11-29T12:00"),
        ("0 12 * * 0", "11-29T12:00"),
        ("0 12 * * sat-sun", "11-28T12:00 11-29T12:00"),
        ("0 12 * * 5-7", "11-27T12:00 11-28T12:00 11-29T12:00"),
        ("0 12 * * Tue,THU", "11-24T12:00 11-26T12:00"),
        ("0 12 25 * *", "11-25T12:00"),
        ("0 12 1,25,29-30 * *", "11-25T12:00 11-29T12:00 11-30T12:00"),
        ("0 12 25 * fri", "11-25T12:00 11-27T12:00"),
        ("0 12 */25 * thu", "11-26T12:00"),
        ("0 12 25 dec *", ""),
        ("0 12 25 nov-DEC *", "11-25T12:00"),
        ("*/20 4-5 28 * *", "11-28T04:00 11-28T04:20 11-28T04:40 11-28T05:00 11-28T05:20 11-28T05:40"),
        ("10-50/20,59 4 28 11 *", "11-28T04:10 11-28T04:30 11-28T04:50 11-28T04:59"),
        ("0 */12 28 * *", "11-28T00:00 11-28T12:00"),
        ("0 0 31 * *", ""),
    ] {
        assert_eq!(begins(&again(cron, Zone::utc(), 60), "11-24T00:00", "11-30T23:00"), expected, "{cron}");
    }
}

#[test]
fn what_are_no_five_fields_says_why() {
    for (cron, expected) in [
        ("", "is not five fields: minute, hour, day of the month, month, weekday"),
        ("@daily", "is not five fields: minute, hour, day of the month, month, weekday"),
        ("60 0 * * *", "has `60` as minute, which is neither `*` nor from 0 to 59"),
        ("0 24 * * *", "has `24` as hour, which is neither `*` nor from 0 to 23"),
        ("0 0 0 * *", "has `0` as day of the month, which is neither `*` nor from 1 to 31"),
        ("0 0 * 13 *", "has `13` as month, which is neither `*` nor from 1 to 12"),
        ("0 0 * mon *", "has `mon` as month, which is neither `*` nor from 1 to 12"),
        ("0 0 * * 8", "has `8` as weekday, which is neither `*` nor from 0 to 7"),
        ("0 0 * * monday", "has `monday` as weekday, which is neither `*` nor from 0 to 7"),
        ("1,,2 0 * * *", "has `` as minute, which is neither `*` nor from 0 to 59"),
        ("-1 0 * * *", "has `-1` as minute, which is neither `*` nor from 0 to 59"),
        ("+1 0 * * *", "has `+1` as minute, which is neither `*` nor from 0 to 59"),
        ("30-10 0 * * *", "has `30-10` as minute, which ends before it begins"),
        ("5/10 0 * * *", "has `5/10` as minute, which has a step and no range: write `*/2` or `10-30/2`"),
        ("*/0 0 * * *", "has `*/0` as minute, which has a step that is no number from 1 on"),
        ("*/x 0 * * *", "has `*/x` as minute, which has a step that is no number from 1 on"),
    ] {
        assert_eq!(Cron::parse(cron).unwrap_err(), expected, "{cron}");
    }
    for text in [
        "",
        "sun",
        "03:00",
        "sun 3",
        "sun 3:0",
        "sun 24:00",
        "sun 03:60",
        "sun 3:00:00",
        "sun * 03:00",
        "sun 3 : 00",
        "sun,xyz 03:00",
    ] {
        assert!(Cron::weekly(text).is_err(), "{text}");
    }
    assert_eq!(Cron::weekly("mon-fri 22:05"), Cron::parse("5 22 * * 1-5"));
}

#[test]
fn clocks_that_change_leave_one_of_each() {
    let fixed = again("30 2 * * *", berlin(), 60);
    assert_eq!(begins(&fixed, "03-28T00:00", "03-30T12:00"), "03-28T01:30 03-29T01:30 03-30T00:30");
    assert_eq!(begins(&fixed, "10-24T00:00", "10-26T12:00"), "10-24T00:30 10-25T00:30 10-26T01:30");
    let hourly = again("30 * * * *", berlin(), 60);
    assert_eq!(begins(&hourly, "03-28T23:00", "03-29T02:00"), "03-28T23:30 03-29T00:30 03-29T01:30");
    assert_eq!(begins(&hourly, "10-24T23:00", "10-25T03:00"), "10-24T23:30 10-25T00:30 10-25T01:30 10-25T02:30");
    // Half way around the world from UTC the day is another one.
    let far = again("0 6 24 11 *", zone("<+14>-14"), 60);
    assert_eq!(begins(&far, "11-20T00:00", "11-30T00:00"), "11-23T16:00");
}

#[test]
fn spans_reach_in_and_out() {
    let window = again("0 3 * * sun", Zone::utc(), 7_200);
    let spans = |from: &str, to: &str| window.spans(at(from), at(to)).count();
    for (from, to, expected) in [
        ("2026-11-29T03:00:00Z", "2026-11-29T04:00:00Z", 1),
        ("2026-11-29T04:59:59Z", "2026-11-29T09:00:00Z", 1),
        ("2026-11-29T05:00:00Z", "2026-11-29T09:00:00Z", 0),
        ("2026-11-29T01:00:00Z", "2026-11-29T02:59:59Z", 0),
        ("2026-11-29T01:00:00Z", "2026-11-29T03:00:00Z", 1),
        ("1970-01-01T00:00:00Z", "1970-01-08T00:00:00Z", 1),
        ("2026-11-01T00:00:00Z", "2026-11-30T00:00:00Z", 5),
    ] {
        assert_eq!(spans(from, to), expected, "{from} {to}");
    }
    let new_year = |lasts| {
        again("30 23 * * *", Zone::utc(), lasts)
            .spans(at("1970-01-01T00:00:00Z"), at("1970-01-01T12:00:00Z"))
            .collect::<Vec<_>>()
    };
    assert_eq!(new_year(600), [], "what ended before 1970 is none of it");
    assert_eq!(new_year(3_600), [(at("1970-01-01T00:00:00Z"), at("1970-01-01T00:30:00Z"))]);
    assert_eq!(new_year(3 * 86_400).len(), 3);
    let next = |window: &Window, now: &str| window.next(at(now)).map(|(begin, _)| begin);
    assert_eq!(next(&window, "2026-11-29T04:59:59Z"), Some(at("2026-11-29T03:00:00Z")));
    assert_eq!(next(&window, "2026-11-29T05:00:00Z"), Some(at("2026-12-06T03:00:00Z")));
    assert_eq!(next(&again("0 0 29 2 *", Zone::utc(), 60), "2096-03-01T00:00:00Z"), Some(at("2104-02-29T00:00:00Z")));
    let once = Window { begins: Begins::Once(at("2026-11-30T22:00:00Z")), ..window };
    assert_eq!(next(&once, "2026-11-01T00:00:00Z"), Some(at("2026-11-30T22:00:00Z")));
    assert_eq!(next(&once, "2026-12-01T00:00:00Z"), None);
    assert_eq!(next(&once, "1975-12-01T00:00:00Z"), Some(at("2026-11-30T22:00:00Z")), "51 years ahead");
    assert_eq!(next(&again("* * * * *", Zone::utc(), 60), "9999-12-31T23:59:59.999999Z"), None);
}

#[test]
fn how_soon_it_comes_again_is_known() {
    for (cron, minutes) in [
        ("* * * * *", Some(1)),
        ("*/7 * * * *", Some(4)),
        ("0 * * * *", Some(60)),
        ("0 3 * * *", Some(24 * 60)),
        ("0 3 * * sun", Some(7 * 24 * 60)),
        ("0 3,5 * * sun", Some(120)),
        ("0 1,23 * * *", Some(120)),
        ("0 3 1 * *", Some(28 * 24 * 60)),
        ("0 3 1 * mon", Some(24 * 60)),
        ("0 3 29 2 *", Some(1_461 * 24 * 60)),
        ("0 3 1 1 *", Some(365 * 24 * 60)),
        ("0 3 30 2 *", None),
        ("0 3 31 4,6,9,11 *", None),
    ] {
        let soonest = Cron::parse(cron).unwrap().soonest();
        assert_eq!(soonest, minutes.map(|minutes: u64| Duration::from_secs(60 * minutes)), "{cron}");
    }
}

#[test]
fn a_window_is_of_labels_and_patterns() {
    let window = Window {
        labels: ["db", "shop-*", "[x]"].map(|text| Pattern::new(text).unwrap()).into(),
        ..again("* * * * *", Zone::utc(), 60)
    };
    for (label, expected) in [
        ("db", true),
        ("db2", false),
        ("shop-", true),
        ("shop-a/b", true),
        ("my shop-a", false),
        ("x", true),
        ("[x]", true),
        ("", false),
    ] {
        assert_eq!(window.is_of(label), expected, "{label}");
    }
    assert!(again("* * * * *", Zone::utc(), 60).is_of("any"));
}

/// A field as it is typed, and the numbers that it means: `None` for `*`.
fn field(low: u8, high: u8) -> impl Strategy<Value = (String, BTreeSet<u8>)> {
    let part = (low..=high, low..=high, 1..9_u8, 0..4).prop_map(move |(a, b, step, form)| {
        let (a, b) = (a.min(b), a.max(b));
        match form {
            0 => (a.to_string(), BTreeSet::from([a])),
            1 => (format!("{a}-{b}"), (a..=b).collect()),
            2 => (format!("{a}-{b}/{step}"), (a..=b).step_by(step.into()).collect()),
            _ => (format!("*/{step}"), (low..=high).step_by(step.into()).collect()),
        }
    });
    let list = prop::collection::vec(part, 1..3).prop_map(|parts| {
        let (texts, sets): (Vec<_>, Vec<BTreeSet<u8>>) = parts.into_iter().unzip();
        (texts.join(","), sets.into_iter().flatten().collect())
    });
    prop_oneof![Just(("*".to_owned(), (low..=high).collect())), list]
}

proptest! {
    /// What a person would find who looks at the clock of the zone each minute.
    #[test]
    fn it_comes_as_minute_by_minute(
        (minute, minutes) in field(0, 59), (hour, hours) in field(0, 23), (day, days) in field(1, 31),
        (month, months) in field(1, 12), (weekday, weekdays) in field(0, 7), month_from in 0..24_i64, in_zone: bool,
    ) {
        let zone = if in_zone { berlin() } else { Zone::utc() };
        let from = 1_767_225_600 + month_from * 30 * DAY;
        let to = from + 10 * DAY;
        let window = again(&format!("{minute} {hour} {day} {month} {weekday}"), zone.clone(), 60);
        let found: BTreeSet<i64> = window
            .spans(Timestamp::from_micros(from * 1_000_000), Timestamp::from_micros(to * 1_000_000))
            .map(|(begin, _)| begin.as_micros() / 1_000_000).filter(|begin| (from..=to).contains(begin)).collect();
        let mut expected = BTreeSet::new();
        for unix in (from..=to).step_by(60) {
            let local = time::OffsetDateTime::from_unix_timestamp(unix + zone.offset(unix)).unwrap();
            let by_day = days.contains(&local.day());
            let number = local.weekday().number_days_from_sunday();
            let by_weekday = weekdays.contains(&number) || number == 0 && weekdays.contains(&7);
            let on = if day.starts_with('*') || weekday.starts_with('*') { by_day && by_weekday } else { by_day || by_weekday };
            let fits = on && minutes.contains(&local.minute()) && hours.contains(&local.hour()) && months.contains(&u8::from(local.month()));
            // The second of two hours that are one is of no fixed hour.
            let second = zone.offset(unix) == 3_600 && zone.offset(unix - 3_600) == 7_200;
            if fits && (!second || hour.starts_with('*')) {
                expected.insert(unix);
            }
        }
        // A fixed hour that clocks skip is the one after it.
        let skipped = |unix: &i64| zone.offset(*unix) == 7_200 && zone.offset(*unix - 3_600) == 3_600;
        let both = |set: &BTreeSet<i64>| set.iter().copied().filter(|unix| !skipped(unix)).collect::<Vec<_>>();
        prop_assert_eq!(both(&found), both(&expected));
        prop_assert!(expected.is_subset(&found));
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>(), fields in "[-0-9*/,a-z ]{0,20}") {
        for text in [text, fields] {
            let _ = (Cron::parse(&text).map(|cron| cron.soonest()), Cron::weekly(&text), Zone::named(&text));
        }
    }

    #[test]
    fn any_file_is_read_or_refused(mut file in prop::collection::vec(any::<u8>(), 0..200), magic: bool) {
        if magic {
            file.splice(0..0, *b"TZif2");
        }
        let _ = Zone::read("a", &file);
    }
}
