//! What a store answers: the same questions to SQLite, and to Postgres as the role that only reads.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use pingeon::check::Verdict;
use pingeon::clock::{Clock as _, SystemClock, Timestamp};
use pingeon::config;
use pingeon::flow::{Batch, Delivered};
use pingeon::logs::{Cause, Log, Missed, Object, VERSION};
use pingeon::report;
use pingeon::store::rollup::{self, Uptime};
use pingeon::store::{self, Archive, Before, Delivery, Row};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::pooler::Pooler;
use crate::server::{Database, ours, shared};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// A store, as those see it who write to it and who read it.
struct Place {
    writer: config::Store,
    reader: config::Store,
    _database: Option<Database>,
    _folder: TempDir,
}

fn settings(folder: &TempDir, store: &str) -> config::Store {
    let path = folder.path().join("pingeon.yaml");
    std::fs::write(
        &path,
        format!("agent: edge-01\nqueue: {{kafka: {{brokers: ['127.0.0.1:9']}}}}\nstore: {{{store}}}\n"),
    )
    .unwrap();
    config::load(&path, &|_| None).unwrap().store.unwrap()
}

impl Place {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = settings(&folder, "sqlite: {path: pingeon.db, retention: 30d}");
        Place { writer: store.clone(), reader: store, _database: None, _folder: folder }
    }

    fn postgres() -> Self {
        Self::within(shared().database("reports").migrated())
    }

    fn within(database: Database) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let of = |role| settings(&folder, &format!("postgres: {{url: \"{}\", retention: 30d}}", database.url(role)));
        let (writer, reader) = (of("pingeon_writer"), of("pingeon_reader"));
        Place { writer, reader, _database: Some(database), _folder: folder }
    }

    fn write(&self, logs: impl IntoIterator<Item = Log>) -> Delivered {
        let batch = Batch { logs: logs.into_iter().collect(), ..Batch::default() };
        store::sink(&self.writer).unwrap().deliver(&batch).unwrap()
    }

    fn archive(&self) -> Box<dyn Archive> {
        store::archive(&self.reader).unwrap()
    }
}

/// Asks both stores.
fn each_store(ask: impl Fn(&str, &Place)) {
    ask("SQLite", &Place::sqlite());
    ask("Postgres", &Place::postgres());
}

/// Seconds after a full hour some days ago, which stays the same while the tests run.
pub fn at(second: i64) -> Timestamp {
    static START: std::sync::OnceLock<i64> = std::sync::OnceLock::new();
    let start = START.get_or_init(|| SystemClock.now().wall.as_micros() / 3_600_000_000 * HOUR - 10 * DAY);
    Timestamp::from_micros((start + second) * 1_000_000)
}

pub fn log(label: &str, agent: &str, second: i64, verdict: Verdict) -> Log {
    let due_at = at(second);
    let tail = label.bytes().chain(agent.bytes()).fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
    Log {
        v: VERSION,
        uid: Uuid::from_u64_pair((due_at.as_millis() << 16) | 0x7000, (1 << 63) | (tail >> 2)),
        agent: agent.into(),
        boot: Uuid::from_u64_pair((at(0).as_millis() << 16) | 0x7000, 1 << 63),
        seq: 1,
        label: label.into(),
        kind: "http".into(),
        target: "https://shop.example.com/health".into(),
        due_at,
        started_at: Some(due_at),
        ended_at: Some(due_at),
        duration_us: Some(7),
        interval_ms: 10_000,
        verdict,
        phase: None,
        reason: None,
        result: Object::default(),
        unknown_fields: Map::new(),
    }
}

fn missed(label: &str, agent: &str, first: i64, last: i64) -> Log {
    let missed = Missed { cause: Cause::AgentOff, slots: ((last - first) / 10 + 1) as u64, last_due_at: at(last) };
    let result = serde_json::from_value(serde_json::to_value(missed).unwrap()).unwrap();
    let reason = Some("agent was off".into());
    Log { result, reason, duration_us: None, ..log(label, agent, first, Verdict::Missed) }
}

fn rows(archive: &mut dyn Archive, labels: &[&str], from: Timestamp, to: Timestamp) -> Vec<Row> {
    rows_with(archive, labels, (from, to), &|_| 0)
}

fn rows_with(
    archive: &mut dyn Archive,
    labels: &[&str],
    range: (Timestamp, Timestamp),
    before: Before<'_>,
) -> Vec<Row> {
    let labels: Vec<Arc<str>> = labels.iter().map(|&label| label.into()).collect();
    let mut rows = Vec::new();
    archive.rows(&labels, range, before, &mut |row| rows.push(row)).unwrap();
    rows
}

/// `label agent second verdict` of each row.
fn shown(rows: &[Row]) -> Vec<String> {
    let second = |row: &Row| (row.due_at.as_micros() - at(0).as_micros()) / 1_000_000;
    rows.iter().map(|row| format!("{} {} {} {}", row.label, row.agent, second(row), row.verdict)).collect()
}

#[test]
fn rows_come_by_label_agent_and_time_within_a_range_that_others_may_reach_into() {
    let up = |label, agent, second| log(label, agent, second, Verdict::Up);
    let logs = [
        up("web", "a", 20),
        up("shop", "b", 10),
        up("shop", "a", 30),
        up("shop", "a", 0),
        up("shop", "a", 10),
        missed("shop", "a", 40, 90),
        log("shop", "a", 100, Verdict::Down),
        log("shop", "a", 110, Verdict::Degraded),
        // Bytewise, Z comes before a, and é after both.
        up("Zoo", "é", DAY),
        up("Zoo", "a", DAY),
        // Off for three days, in which others are there.
        missed("off", "a", 2 * DAY, 5 * DAY),
        up("off", "b", 5 * DAY),
        up("off", "a", 5 * DAY + 10),
        // Counts in many hours, and is due in one.
        Log { interval_ms: 12 * 3_600_000, ..up("slow", "a", 6 * DAY + 10) },
    ];
    let cases = [
        ("all", &[][..], 0, 25, &["shop a 0 up", "shop a 10 up", "shop b 10 up", "web a 20 up"][..]),
        ("one", &["web"], 0, 200, &["web a 20 up"]),
        ("some, twice", &["web", "shop", "web"], 30, 40, &["shop a 30 up"]),
        ("none of that name", &["sho"], 0, 200, &[]),
        ("an end is outside", &["shop"], 100, 110, &["shop a 100 down"]),
        ("the last before reaches in", &["shop"], 105, 120, &["shop a 100 down", "shop a 110 degraded"]),
        ("the last before does not", &["shop"], 25, 30, &[]),
        ("a missed range reaches in", &["shop"], 95, 105, &["shop a 40 missed", "shop a 100 down"]),
        ("a missed range is around", &["shop"], 50, 60, &["shop a 40 missed"]),
        ("a missed range is over", &["shop"], 100, 105, &["shop a 100 down"]),
        ("later than all", &["shop"], 8 * DAY, 9 * DAY, &[]),
        ("empty", &["shop"], 10, 10, &["shop a 0 up"; 0]),
        ("two agents, two days", &["Zoo"], 0, 2 * DAY, &["Zoo a 86400 up", "Zoo é 86400 up"]),
        (
            "over days",
            &["off"],
            5 * DAY - HOUR,
            6 * DAY,
            &["off a 172800 missed", "off b 432000 up", "off a 432010 up"],
        ),
        ("from hours before", &[], 6 * DAY + 12 * HOUR, 7 * DAY, &["slow a 518410 up"]),
        ("and not from those", &[], 6 * DAY + 12 * HOUR + 10, 7 * DAY, &[]),
    ];
    each_store(|store, place| {
        place.write(logs.clone());
        let mut archive = place.archive();
        for (name, labels, from, to, expect) in cases {
            // In the order of agents, whatever the table says.
            let mut expect: Vec<String> = expect.iter().map(|row| row.to_string()).collect();
            expect.sort_by_key(|row| row.split(' ').take(2).map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(shown(&rows(archive.as_mut(), labels, at(from), at(to))), expect, "{store}: {name}");
        }
        let labels = ["Zoo", "off", "shop", "slow", "web"].map(Arc::from);
        assert_eq!(archive.labels(), Ok(labels.to_vec()), "{store}");
        let last = [
            "Zoo a 86400 up",
            "Zoo é 86400 up",
            "off a 432010 up",
            "off b 432000 up",
            "shop a 110 degraded",
            "shop b 10 up",
            "slow a 518410 up",
            "web a 20 up",
        ];
        assert_eq!(shown(&archive.last().unwrap()), last, "{store}");
    });
}

#[test]
fn an_empty_store_answers_with_nothing() {
    each_store(|store, place| {
        place.write([]);
        let mut archive = place.archive();
        assert_eq!(archive.labels(), Ok(Vec::new()), "{store}");
        assert_eq!(archive.last(), Ok(Vec::new()), "{store}");
        assert_eq!(rows(archive.as_mut(), &[], at(0), at(DAY)), [], "{store}");
        assert_eq!(rows(archive.as_mut(), &["shop"], at(0), at(DAY)), [], "{store}");
    });
}

#[test]
fn a_row_has_what_a_report_needs() {
    let run = json!({"run": {"late_us": 100, "queued_us": 0, "running": 1, "starved_us": 12}});
    let result = serde_json::from_value(run).unwrap();
    let down = Log { reason: Some("connection refused".into()), result, ..log("shop", "a", 1, Verdict::Down) };
    let row = |second, verdict, duration_us, reason: &str, missed| Row {
        agent: "a".into(),
        label: "shop".into(),
        due_at: at(second),
        interval: Duration::from_secs(10),
        verdict,
        duration_us,
        starved_us: duration_us.map(|_| 12),
        reason: Some(reason.into()),
        missed,
    };
    let missed_of = Missed { cause: Cause::AgentOff, slots: 2, last_due_at: at(21) };
    let expect = [
        row(1, Verdict::Down, Some(7), "connection refused", None),
        row(11, Verdict::Missed, None, "agent was off", Some(missed_of)),
    ];
    each_store(|store, place| {
        place.write([down.clone(), missed("shop", "a", 11, 21)]);
        let mut archive = place.archive();
        assert_eq!(rows(archive.as_mut(), &[], at(0), at(60)), expect, "{store}");
        assert_eq!(archive.last(), Ok(vec![expect[1].clone()]), "{store}");
    });
}

#[test]
fn a_reader_sees_what_was_committed_while_the_writer_goes_on() {
    each_store(|store, place| {
        for label in ["a", "b", "c"] {
            place.write([log(label, "x", 1, Verdict::Up)]);
        }
        let mut archive = place.archive();
        for second in 2..5 {
            let mut seen = 0;
            // In the midst of a report: labels that are still to come get one more.
            let mut each = |_| {
                seen += 1;
                if seen == 1 {
                    place.write(["a", "b", "c"].map(|label| log(label, "x", second, Verdict::Up)));
                }
            };
            archive.rows(&[], (at(0), at(60)), &|_| 0, &mut each).unwrap();
            assert_eq!(seen, 3 * (second - 1), "{store}");
        }
    });
}

#[test]
fn each_label_has_the_rows_before_a_range_that_it_needs() {
    each_store(|store, place| {
        let labels = ["a", "b", "c"];
        for label in labels {
            // The first of them would reach into the range, but for those that came after it.
            let interval_ms = |second| if second == 0 { 10_000_000 } else { 1 };
            place.write(
                (0..30).map(|second| Log { interval_ms: interval_ms(second), ..log(label, "x", second, Verdict::Up) }),
            );
        }
        for (needs, expected) in [
            ([0, 0, 0], [0, 0, 0]),
            ([1, 20, 3], [1, 20, 3]),
            ([0, 40, 12], [0, 30, 12]),
            ([9_000, 1, 9_000], [30, 1, 30]),
            ([1, 20_000, 2], [1, 30, 2]),
        ] {
            let before = |wanted: &str| labels.iter().zip(needs).find(|(label, _)| **label == wanted).unwrap().1;
            let rows = rows_with(place.archive().as_mut(), &[], (at(100), at(200)), &before);
            let found = labels.map(|label| rows.iter().filter(|row| &*row.label == label).count());
            assert_eq!(found, expected, "{store}: {needs:?}");
            assert!(rows.is_sorted_by_key(|row| (row.label.clone(), row.due_at)), "{store}: {needs:?}");
        }
    });
}

/// Logs of a label and agent: in any order, twice, with long intervals, in the same millisecond, over days.
pub fn any_logs() -> impl Strategy<Value = Vec<Log>> {
    let verdict = prop::sample::select(Verdict::ALL.to_vec());
    let second = prop_oneof![0..3 * DAY, (0..3 * 24_i64).prop_map(|hour| hour * HOUR)];
    let interval_ms = prop_oneof![1..90_000_000_u64, 1..60_000_u64];
    let times = (second, 0..2_000_u64, 1..100_000_u64);
    let some = (0..3_usize, 0..3_usize, times, interval_ms, 0..DAY, verdict);
    let log = some.prop_map(|(label, agent, (second, micros, took), interval_ms, more, verdict)| {
        let (label, agent) = (["mail", "shop", "Übung"][label], ["a", "b", "c"][agent]);
        let log = if verdict == Verdict::Missed {
            missed(label, agent, second, second + more)
        } else {
            log(label, agent, second, verdict)
        };
        let due_at = log.due_at.plus(Duration::from_micros(micros));
        let uid = Uuid::from_u64_pair((due_at.as_millis() << 16) | 0x7000, log.uid.as_u64_pair().1 | micros);
        Log { due_at, uid, interval_ms, duration_us: log.duration_us.map(|_| took), ..log }
    });
    prop::collection::vec(log, 0..60)
}

/// What the roll-ups of `logs` come to within a range, by their order.
pub fn summed_up(logs: &[Log], (from, to): (Timestamp, Timestamp)) -> Vec<Uptime> {
    let mut sums = rollup::Uptimes::new();
    let inside = |hour: &rollup::Hour| hour.hour >= from && hour.hour < to;
    rollup::roll_up(logs).iter().filter(|hour| inside(hour)).for_each(|hour| rollup::add_hour(&mut sums, hour));
    sums.into_values().collect()
}

#[test]
fn both_stores_answer_the_same() {
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let (sqlite, postgres, nth) = (Place::sqlite(), Place::postgres(), std::cell::Cell::new(0));
    let range = (-DAY..4 * DAY, 0..2 * DAY);
    runner
        .run(&(any_logs(), range, 0..20_usize), |(mut logs, (from, length), before)| {
            // Each case has labels of its own.
            nth.set(nth.get() + 1);
            for (place, log) in (1..).zip(&mut logs) {
                log.label = format!("{} {}", log.label, nth.get()).into();
                log.agent = format!("{} {}", log.agent, nth.get()).into();
                log.seq = place;
                let (high, low) = log.uid.as_u64_pair();
                log.uid = Uuid::from_u64_pair(high, low | nth.get() << 40);
            }
            let mut seen = HashSet::new();
            logs.retain(|log| seen.insert(log.uid));
            let labels = ["mail", "shop", "Übung"].map(|label| format!("{label} {}", nth.get()));
            let labels = labels.each_ref().map(String::as_str);
            let answers = [&sqlite, &postgres].map(|place| {
                place.write(logs.clone());
                let mut archive = place.archive();
                // One label may need so many that it is asked for alone.
                let before: Before<'_> = &|label| if label.starts_with("shop") { before * 1_000 } else { before };
                let rows = rows_with(archive.as_mut(), &labels, (at(from), at(from + length)), before);
                let (labels, range) = (labels.map(Arc::from), (at(from), at(from + length)));
                let report = report::summed_up(archive.as_mut(), &labels, &[], range, &Default::default(), &mut |_| {});
                let two = NonZeroUsize::new(2).unwrap();
                let agreed =
                    report::agreed(archive.as_mut(), two, &labels, &[], range, &Default::default(), &mut |_| {});
                let range = (rollup::hour_of(range.0), rollup::hour_of(range.1));
                assert_eq!(archive.uptimes(&labels, range.0, range.1).unwrap(), summed_up(&logs, range));
                let rolled_up = report::rolled_up(archive.as_mut(), &labels, &[], range, range.1, &Default::default());
                let delivery = archive.delivery(at(from));
                (rows, report, agreed, rolled_up, archive.labels(), archive.last(), delivery)
            });
            prop_assert_eq!(&answers[0], &answers[1]);
            let (_, report, agreed, rolled_up, ..) = &answers[0];
            prop_assert!(report.is_ok() && agreed.is_ok() && rolled_up.is_ok());
            Ok(())
        })
        .unwrap();
}

#[test]
fn uptimes_are_the_hours_of_a_range_summed_up() {
    let hours = |hours: i64| Duration::from_secs((hours * HOUR) as u64);
    let interval_ms = 1_800_000;
    let half = |second, verdict| {
        // In the first half of an hour it is faster.
        let duration_us = Some(if second % HOUR == 0 { 100 } else { 1_000 });
        Log { interval_ms, duration_us, ..log("shop", "a", second, verdict) }
    };
    let mut logs: Vec<Log> = (0..48).map(|nth| half(nth * 1_800, Verdict::Up)).collect();
    logs.extend([half(DAY, Verdict::Down), half(DAY + 1_800, Verdict::Degraded), half(DAY + 3_600, Verdict::Unknown)]);
    logs.push(missed("shop", "a", DAY + 5_400, DAY + 5_490));
    logs.push(Log { interval_ms, ..log("shop", "b", 2 * HOUR, Verdict::Down) });
    // Two hours are said about one.
    logs.extend((0..4).map(|nth| Log { interval_ms, ..log("web", "a", nth * 900, Verdict::Up) }));
    let cases = [
        (
            "all",
            &[][..],
            0,
            2 * DAY,
            &["shop a 86400 1800 1800 51 10 24 25", "shop b 0 0 1800 1 0", "web a 4500 0 0 4 0 4"][..],
        ),
        ("some hours", &["shop"], 2 * HOUR, 4 * HOUR, &["shop a 7200 0 0 4 0 2 2", "shop b 0 0 1800 1 0"]),
        ("no more than there are", &["web"], 0, HOUR, &["web a 3600 0 0 4 0 4"]),
        ("before", &[], -DAY, 0, &[]),
        ("of nobody", &["dns"], 0, DAY, &[]),
    ];
    each_store(|store, place| {
        place.write(logs.clone());
        let mut archive = place.archive();
        for (name, labels, from, to, expect) in cases {
            let labels: Vec<Arc<str>> = labels.iter().map(|&label| label.into()).collect();
            let uptimes = archive.uptimes(&labels, at(from), at(to)).unwrap();
            let shown = |of: &Uptime| {
                let [up, degraded, down] = [of.up, of.degraded, of.down].map(|time| time.as_secs());
                let numbers = [up, degraded, down, of.logs, of.missed].into_iter();
                let durations = of.latency.into_iter().filter(|count| *count > 0).map(u64::from);
                let shown: Vec<String> = numbers.chain(durations).map(|number| number.to_string()).collect();
                format!("{} {} {}", of.label, of.agent, shown.join(" "))
            };
            assert_eq!(uptimes.iter().map(shown).collect::<Vec<_>>(), expect, "{store}: {name}");
        }
        assert_eq!(archive.uptimes(&[], at(0), at(DAY)).unwrap()[0].up, hours(24), "{store}");
    });
}

#[test]
fn what_of_each_run_arrived_is_told_by_its_numbers() {
    let boot = |second: i64| Uuid::from_u64_pair((at(second).as_millis() << 16) | 0x7000, 1 << 63);
    let run = |agent: &str, began: i64, numbers: &[i64]| -> Vec<Log> {
        let log = |seq: i64| Log { boot: boot(began), seq: seq as u64, ..log("shop", agent, began + seq, Verdict::Up) };
        numbers.iter().map(|seq| log(*seq)).collect()
    };
    // Its agent was off for longer than any interval.
    let off = Log { boot: boot(5 * DAY), seq: 1, ..missed("shop", "off", DAY, 5 * DAY) };
    let old =
        |seq: u64, agent: &str| Log { boot: boot(0), seq, ..log("shop", agent, -30 * DAY - seq as i64, Verdict::Up) };
    let logs = [
        run("all there", 0, &[1, 2, 3, 4]),
        run("holes", 0, &[1, 2, 5, 6, 9]),
        run("no beginning", 0, &[3, 4]),
        run("some aside", 0, &[1, 2, 4, 6]),
        vec![old(3, "some aside"), old(9, "some aside"), old(2, "all aside"), old(3, "all aside"), old(5, "all aside")],
        run("twice", 0, &[1, 2]),
        run("over", -2 * DAY, &[1, 2, 4]),
        run("off", 5 * DAY, &[2, 3]),
        vec![off],
        run("began anew", 0, &[1, 2]),
        run("began anew", HOUR, &[1, 3]),
    ]
    .concat();
    let expect = [
        "all aside: 2 to 5, 0 stored, 3 aside, 0 again; missing 2: [(1, 1), (4, 4)]",
        "all there: 1 to 4, 4 stored, 0 aside, 0 again, 1 to 4 s; missing 0: []",
        "began anew: 1 to 2, 2 stored, 0 aside, 0 again, 1 to 2 s; missing 0: []",
        "began anew: 1 to 3, 2 stored, 0 aside, 0 again, 3601 to 3603 s; missing 1: [(2, 2)]",
        "holes: 1 to 9, 5 stored, 0 aside, 0 again, 1 to 9 s; missing 4: [(3, 4), (7, 8)]",
        "no beginning: 3 to 4, 2 stored, 0 aside, 0 again, 3 to 4 s; missing 2: [(1, 2)]",
        "off: 1 to 3, 3 stored, 0 aside, 0 again, 86400 to 432003 s; missing 0: []",
        "some aside: 1 to 9, 4 stored, 2 aside, 0 again, 1 to 6 s; missing 3: [(5, 5), (7, 8)]",
        "twice: 1 to 2, 2 stored, 0 aside, 2 again, 1 to 2 s; missing 0: []",
    ];
    each_store(|store, place| {
        assert_eq!(place.write(logs.clone()).rejected, 5, "{store}");
        assert_eq!(place.write(run("twice", 0, &[1, 2])).duplicate, 2, "{store}");
        let shown = |of: &Delivery| {
            let second = |moment: Timestamp| (moment.as_micros() - at(0).as_micros()) / 1_000_000;
            let due = of.due_at.map(|(first, last)| format!(", {} to {} s", second(first), second(last)));
            format!(
                "{}: {} to {}, {} stored, {} aside, {} again{}; missing {}: {:?}",
                of.agent,
                of.lowest,
                of.highest,
                of.stored,
                of.rejected,
                of.duplicates,
                due.unwrap_or_default(),
                of.missing_total,
                of.missing
            )
        };
        let delivery = place.archive().delivery(at(0)).unwrap();
        assert_eq!(delivery.iter().map(shown).collect::<Vec<_>>(), expect, "{store}");
        // They were set aside just now.
        let later = place.archive().delivery(at(6 * DAY)).unwrap();
        assert_eq!(later.iter().map(shown).collect::<Vec<_>>(), [expect[0], expect[7]], "{store}");
        assert_eq!(place.archive().delivery(at(12 * DAY)), Ok(Vec::new()), "{store}");
    });
}

#[test]
fn a_pooler_may_give_each_answer_another_connection() {
    let database = ours().database("reports_pooled").migrated();
    let pooler = Pooler::start(ours(), &["pingeon_reader"]);
    let url = pooler.url(&database, "pingeon_reader");
    let place = Place::within(database);
    place.write((0..100).map(|second| log("shop", "a", second, Verdict::Up)));
    let folder = tempfile::tempdir().unwrap();
    let pooled = settings(&folder, &format!("postgres: {{url: \"{url}\"}}"));
    // More than there are connections behind it, taking turns.
    let mut archives: Vec<_> = (0..5).map(|_| store::archive(&pooled).unwrap()).collect();
    for _ in 0..3 {
        for archive in &mut archives {
            assert_eq!(rows(archive.as_mut(), &[], at(0), at(100)).len(), 100);
            assert_eq!(archive.last().map(|last| shown(&last)), Ok(vec!["shop a 99 up".to_owned()]));
        }
    }
}

#[test]
fn who_may_only_write_is_told_whom_to_read_as() {
    let place = Place::postgres();
    let refused = store::archive(&place.writer).map(drop).unwrap_err();
    let hint = "report as `pingeon_reader`, with `--url`";
    assert_eq!(refused, format!("the role may not read the store (permission denied for table hour): {hint}"));
}
