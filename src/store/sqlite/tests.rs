use std::path::PathBuf;

use rusqlite::Connection;
use serde_json::{Map, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::check::{Phase, Verdict};
use crate::clock::SimulatedClock;
use crate::flow::Unreadable;
use crate::logs::{Cause, Missed, Object, VERSION};
use crate::store::rollup::Hour;
use crate::store::{Archive as _, Condition, Delivery, Keep, Kept, Row, rollup};

const DAY: u64 = 24 * 3_600;

/// Seconds after a moment that stands for now.
fn at(second: i64) -> Timestamp {
    let now = Timestamp::parse("2026-11-24T10:00:00Z").unwrap();
    Timestamp::from_micros(now.as_micros() + second * 1_000_000)
}

/// A uid of `at`'s millisecond that differs by `tail`.
fn uid(at: Timestamp, tail: u64) -> Uuid {
    Uuid::from_u64_pair((at.as_millis() << 16) | 0x7000, 0x8000_0000_0000_0000 | tail)
}

fn log(label: &str, agent: &str, second: i64, verdict: Verdict) -> Log {
    let tail = label.bytes().chain(agent.bytes()).fold(0, |sum, byte| sum * 256 + u64::from(byte));
    Log {
        v: VERSION,
        uid: uid(at(second), tail),
        agent: agent.into(),
        boot: uid(at(0), 0),
        seq: 1,
        label: label.into(),
        kind: "http".into(),
        target: "https://shop.example.com/health".into(),
        due_at: at(second),
        started_at: Some(at(second)),
        ended_at: Some(at(second)),
        duration_us: Some(7),
        interval_ms: 10_000,
        verdict,
        phase: None,
        reason: None,
        result: Object::default(),
        unknown_fields: Map::new(),
    }
}

fn missed(label: &str, first: i64, last: i64) -> Log {
    let missed = Missed { cause: Cause::AgentOff, slots: 2, last_due_at: at(last) };
    let result = serde_json::from_value(serde_json::to_value(missed).unwrap()).unwrap();
    Log { result, reason: Some("agent was off".into()), duration_us: None, ..log(label, "a", first, Verdict::Missed) }
}

fn batch(logs: impl IntoIterator<Item = Log>) -> Batch {
    Batch { logs: logs.into_iter().collect(), ..Batch::default() }
}

/// A store in a folder of its own that keeps 30 days.
fn store() -> (TempDir, PathBuf, Sqlite) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pingeon.db");
    let settings = config::Sqlite { path: path.clone(), retention: Duration::from_secs(30 * DAY) };
    let store = Sqlite::open(&settings, Arc::new(SimulatedClock::at(at(0)))).unwrap();
    (folder, path, store)
}

fn delivered(new: usize, duplicate: usize) -> Delivered {
    Delivered { new, duplicate, ..Delivered::default() }
}

fn count(path: &Path, table: &str) -> usize {
    let sql = format!("SELECT count(*) FROM {table}");
    Connection::open(path).unwrap().query_row(&sql, [], |row| row.get(0)).unwrap()
}

/// `label agent second verdict` of each row.
fn shown(rows: &[Row]) -> Vec<String> {
    let second = |row: &Row| (row.due_at.as_micros() - at(0).as_micros()) / 1_000_000;
    rows.iter().map(|row| format!("{} {} {} {}", row.label, row.agent, second(row), row.verdict)).collect()
}

fn rows(path: &Path, labels: &[&str], from: i64, to: i64) -> Vec<String> {
    let labels: Vec<Arc<str>> = labels.iter().map(|&label| label.into()).collect();
    let mut rows = Vec::new();
    Archive::open(path).unwrap().rows(&labels, (at(from), at(to)), &|_| 0, &mut |row| rows.push(row)).unwrap();
    shown(&rows)
}

#[test]
fn the_last_rows_before_a_range_come_with_it_where_they_are_asked_for() {
    let (_folder, path, mut store) = store();
    let logs = (0..60).map(|second| Log { interval_ms: 1_000, ..log("shop", "a", second, Verdict::Up) });
    store.deliver(&batch(logs.chain([log("shop", "b", 30, Verdict::Down)]))).unwrap();
    for (before, expected) in [(0, 0), (1, 1), (2, 2), (42, 42), (100, 50)] {
        let mut rows = Vec::new();
        Archive::open(&path).unwrap().rows(&[], (at(50), at(55)), &|_| before, &mut |row| rows.push(row)).unwrap();
        let of_b = rows.iter().filter(|row| &*row.agent == "b").count();
        assert_eq!((rows.len() - of_b, of_b), (expected + 5, usize::from(before > 0)), "{before}");
        assert!(rows.is_sorted_by_key(|row| (row.agent.clone(), row.due_at)));
    }
}

#[test]
fn a_log_that_comes_twice_is_kept_once() {
    let (_folder, path, mut store) = store();
    let first = batch((0..10).map(|second| log("shop", "a", second, Verdict::Up)));
    let more = batch((5..15).map(|second| log("shop", "a", second, Verdict::Up)));
    assert_eq!(store.deliver(&first), Ok(delivered(10, 0)));
    assert_eq!(store.deliver(&first), Ok(delivered(0, 10)));
    assert_eq!(store.deliver(&more), Ok(delivered(5, 5)));
    assert_eq!((count(&path, "log"), count(&path, "rejected")), (15, 0));
}

#[test]
fn every_field_has_its_column() {
    let (_folder, path, mut store) = store();
    let mut full = log("shop", "a", 1, Verdict::Down);
    full.phase = Some(Phase::FirstByte);
    full.reason = Some("timed out".into());
    full.result = serde_json::from_value(json!({"bytes": 7})).unwrap();
    full.unknown_fields.insert("mood".to_owned(), json!({"cheerful": true}));
    store.deliver(&batch([full])).unwrap();
    let columns = Connection::open(&path)
        .unwrap()
        .query_row(
            "SELECT json_array(hex(uid), agent, hex(boot), seq, label, kind, target, due_at - started_at, started_at - ended_at,
                 due_at, duration_us, interval_ms, verdict, phase, reason, json(result), json(extra)) FROM log",
            [],
            |row| row.get::<_, String>(0),
        )
        .unwrap();
    insta::assert_snapshot!(columns);
}

#[test]
fn what_cannot_be_a_log_is_rejected_with_its_reason() {
    let (_folder, path, mut store) = store();
    let day = DAY as i64;
    let mut late = log("late", "a", 1, Verdict::Up);
    late.uid = uid(at(2), 0);
    let batch = Batch {
        logs: vec![
            log("old", "a", -31 * day, Verdict::Up),
            log("ahead", "a", day + 1, Verdict::Up),
            late,
            log("good", "a", 1, Verdict::Up),
            // The range ends within what is kept, and the log is found by its beginning.
            missed("reaches", -31 * day, -day),
            log("no\0name", "a", 2, Verdict::Up),
        ],
        unreadable: vec![Unreadable {
            bytes: vec![b'x'; 100_000],
            origin: "spool 42".to_owned(),
            reason: "expected value".to_owned(),
        }],
        ..Batch::default()
    };
    assert_eq!(store.deliver(&batch), Ok(Delivered { rejected: 6, ..delivered(1, 0) }));
    // Delivered again, nothing is new.
    assert_eq!(store.deliver(&batch), Ok(delivered(0, 7)));
    let rejected: Vec<String> = Connection::open(&path)
        .unwrap()
        .prepare("SELECT origin || ': ' || reason || ', ' || length(bytes) FROM rejected ORDER BY id")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let log = |nth: usize, reason: &str| {
        let log = &batch.logs[nth];
        format!("a {}: {reason}, {}", log.uid, log.to_json().len())
    };
    let expect = [
        log(0, "older than the retention"),
        log(1, "more than a day ahead of this machine's clock"),
        log(2, "the uid has another time than `due_at`"),
        log(4, "older than the retention"),
        log(5, "the label holds a NUL, which not every store can keep"),
        "spool 42: expected value, 65536".to_owned(),
    ];
    assert_eq!(rejected, expect);
    assert_eq!(count(&path, "rejected WHERE agent = 'a' AND length(boot) = 16 AND seq = 1"), 5);
    assert_eq!(count(&path, "rejected WHERE agent IS NULL AND boot IS NULL AND seq IS NULL"), 1);
}

#[test]
fn only_the_newest_rejects_are_kept() {
    let (_folder, path, mut store) = store();
    let unreadable = |n: usize| Unreadable { bytes: Vec::new(), origin: n.to_string(), reason: "odd".to_owned() };
    let delivered = store.deliver(&Batch { unreadable: (0..1_010).map(unreadable).collect(), ..Batch::default() });
    assert_eq!(delivered, Ok(Delivered { rejected: 1_010, ..Delivered::default() }));
    assert_eq!(count(&path, "rejected"), 1_000);
    assert_eq!(count(&path, "rejected WHERE origin = '9'"), 0);
}

#[test]
fn a_batch_is_kept_whole_or_not_at_all() {
    let (_folder, path, mut store) = store();
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch(
            "CREATE TRIGGER full BEFORE INSERT ON log WHEN NEW.label = 'straw' BEGIN SELECT RAISE(ABORT, 'broken back'); END",
        )
        .unwrap();
    let logs = batch([log("shop", "a", 1, Verdict::Up), log("straw", "a", 1, Verdict::Up)]);
    assert!(matches!(store.deliver(&logs), Err(Fault::Broken(reason)) if reason.ends_with("pingeon.db`: broken back")));
    assert_eq!(count(&path, "log"), 0);
    other.execute_batch("DROP TRIGGER full").unwrap();
    assert_eq!(store.deliver(&logs), Ok(delivered(2, 0)));
}

#[test]
fn a_store_that_another_program_locks_is_tried_again() {
    let (_folder, path, mut store) = store();
    store.database.connection.busy_timeout(Duration::ZERO).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let logs = batch([log("shop", "a", 1, Verdict::Up)]);
    assert!(
        matches!(store.deliver(&logs), Err(Fault::Retry(reason)) if reason.ends_with("is locked by another program"))
    );
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(store.deliver(&logs), Ok(delivered(1, 0)));
}

#[test]
fn retention_deletes_what_is_older_and_shrinks_the_file() {
    let (_folder, path, mut store) = store();
    let logs = (0..25_000).map(|n| Log { uid: uid(at(n / 100), n as u64), ..log("shop", "a", n / 100, Verdict::Up) });
    store.deliver(&batch(logs)).unwrap();
    let pages = |store: &Sqlite| -> u64 {
        store.database.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap()
    };
    let before = pages(&store);
    let retention = Duration::from_secs(30 * DAY);
    let mut retain = |second| {
        let Kept { deleted, more, .. } = store.keep(at(second).plus(retention)).unwrap();
        (deleted, more)
    };
    assert_eq!(retain(0), (0, false));
    // What is exactly as old as the retention stays.
    assert_eq!(retain(10), (1_000, false));
    // One call bounds its work, the next ones go on.
    assert_eq!([retain(300), retain(300), retain(300)], [(20_000, true), (4_000, false), (0, false)]);
    assert_eq!(count(&path, "log"), 0);
    assert!(pages(&store) < before / 10, "{} pages of {before}", pages(&store));
}

#[test]
fn rows_come_by_label_agent_and_time_within_a_range_that_others_may_reach_into() {
    let (_folder, path, mut store) = store();
    let up = |label, agent, second| log(label, agent, second, Verdict::Up);
    store
        .deliver(&batch([
            up("web", "a", 20),
            up("shop", "b", 10),
            up("shop", "a", 30),
            up("shop", "a", 0),
            up("shop", "a", 10),
            missed("shop", 40, 90),
            log("shop", "a", 100, Verdict::Down),
            log("shop", "a", 110, Verdict::Degraded),
        ]))
        .unwrap();
    for (name, labels, from, to, expect) in [
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
        ("later than all", &["shop"], 1_000, 2_000, &[]),
        ("empty", &["shop"], 10, 10, &["shop a 0 up"; 0]),
    ] {
        assert_eq!(rows(&path, labels, from, to), expect, "{name}");
    }
    let mut archive = Archive::open(&path).unwrap();
    assert_eq!(archive.labels(), Ok(vec!["shop".into(), "web".into()]));
    assert_eq!(shown(&archive.last().unwrap()), ["shop a 110 degraded", "shop b 10 up", "web a 20 up"]);
}

#[test]
fn a_row_has_what_a_report_needs() {
    let (_folder, path, mut store) = store();
    let run = json!({"run": {"late_us": 100, "queued_us": 0, "running": 1, "starved_us": 12}});
    let result = serde_json::from_value(run).unwrap();
    let down = Log { reason: Some("connection refused".into()), result, ..log("shop", "a", 1, Verdict::Down) };
    store.deliver(&batch([down, missed("shop", 11, 21)])).unwrap();
    let last_due_at = at(21);
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
    let mut rows = Vec::new();
    Archive::open(&path).unwrap().rows(&[], (at(0), at(60)), &|_| 0, &mut |row| rows.push(row)).unwrap();
    let missed = Missed { cause: Cause::AgentOff, slots: 2, last_due_at };
    assert_eq!(
        rows,
        [
            row(1, Verdict::Down, Some(7), "connection refused", None),
            row(11, Verdict::Missed, None, "agent was off", Some(missed))
        ]
    );
}

#[test]
fn a_reader_sees_what_was_committed_while_the_writer_goes_on() {
    let (_folder, path, mut store) = store();
    store.deliver(&batch([log("shop", "a", 1, Verdict::Up)])).unwrap();
    let mut archive = Archive::open(&path).unwrap();
    for second in 2..5 {
        let mut seen = 0;
        archive
            .rows(&[], (at(0), at(60)), &|_| 0, &mut |_| {
                seen += 1;
                // In the midst of a report.
                store.deliver(&batch([log("shop", "a", second, Verdict::Up)])).unwrap();
            })
            .unwrap();
        assert_eq!(seen, second - 1);
    }
}

#[test]
fn a_file_that_is_no_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pingeon.db");
    let settings = config::Sqlite { path: path.clone(), retention: Duration::from_secs(DAY) };
    let errors = || {
        let write = Sqlite::open(&settings, Arc::new(SimulatedClock::default())).unwrap_err();
        (
            Archive::open(&path).unwrap_err().replace(path.to_str().unwrap(), "pingeon.db"),
            write.replace(path.to_str().unwrap(), "pingeon.db"),
        )
    };
    let absent = Archive::open(&path).unwrap_err();
    assert!(absent.ends_with("pingeon.db` yet: `pingeon run` makes it"), "{absent}");
    assert!(!path.exists());

    let other = "`pingeon.db` is an SQLite file, but not a Pingeon store; name another file in `store.sqlite.path`";
    let newer = "`pingeon.db` was made by a newer Pingeon: schema 4, and this build knows up to 3";
    for (sql, reason) in [
        ("CREATE TABLE cat (name TEXT)", other),
        ("DROP TABLE cat; CREATE TABLE log (id); PRAGMA application_id = 1349412689", other),
        ("PRAGMA application_id = 1349412684; PRAGMA user_version = 4", newer),
    ] {
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        assert_eq!(errors(), (reason.to_owned(), reason.to_owned()));
    }
    std::fs::write(&path, "agent: edge-01\n".repeat(100)).unwrap();
    let text = "`pingeon.db` is not a Pingeon store; name another file in `store.sqlite.path`, or move this one away";
    assert_eq!(errors(), (text.to_owned(), text.to_owned()));
    // A file that is just being made has nothing to read yet.
    std::fs::write(&path, "").unwrap();
    let empty = Archive::open(&path).unwrap_err();
    assert!(empty.ends_with("pingeon.db` is empty: `pingeon run` fills it"), "{empty}");
}

#[test]
fn a_store_that_was_removed_while_it_was_open_is_broken() {
    let (_folder, path, mut store) = store();
    assert_eq!(store.deliver(&batch([log("a", "x", -1, Verdict::Up)])), Ok(delivered(1, 0)));
    std::fs::remove_file(&path).unwrap();
    let Err(Fault::Broken(reason)) = store.deliver(&batch([log("a", "x", 0, Verdict::Up)])) else {
        panic!("it was written to a file that nobody can read")
    };
    assert!(reason.contains("was removed or replaced while it was open"), "{reason}");
}

/// In the order of label, agent and hour.
fn hours(path: &Path, labels: &[&str], from: i64, to: i64) -> Vec<Hour> {
    let labels: Vec<Arc<str>> = labels.iter().map(|&label| label.into()).collect();
    let (connection, mut found) = (Connection::open(path).unwrap(), Vec::new());
    hours::read(&connection, &labels, (at(from), at(to)), &mut |hour| found.push(hour)).unwrap();
    found.sort_by_key(|hour| (hour.label.clone(), hour.agent.clone(), hour.hour));
    found
}

/// Logs of several labels and agents over some hours, that take more or less long.
fn mixed() -> Vec<Log> {
    let each = (0..2_000_u64).map(|nth| {
        let (label, agent) = (["mail", "shop", "web"][nth as usize % 3], ["a", "b"][nth as usize % 2]);
        let verdict = Verdict::ALL[nth as usize % 4];
        let due_at = at(nth as i64 * 7);
        Log {
            uid: uid(due_at, nth),
            duration_us: Some(nth * nth),
            seq: nth + 1,
            ..log(label, agent, nth as i64 * 7, verdict)
        }
    });
    each.chain([missed("shop", 3_000, 9_000)]).collect()
}

#[test]
fn roll_ups_are_those_of_what_was_new() {
    let (_folder, path, mut store) = store();
    let logs = mixed();
    let expect = rollup::roll_up(&logs);
    assert!(expect.len() > 20 && expect.iter().any(|hour| hour.slots.missed == 2));
    for (name, first, end) in
        [("some", 0, 700), ("some again", 300, 1_500), ("the rest", 1_000, 2_001), ("all", 0, 2_001)]
    {
        store.deliver(&batch(logs[first..end].iter().cloned())).unwrap();
        assert_eq!(hours(&path, &[], 0, 36_000), rollup::roll_up(&logs[..end]), "{name}");
    }
    let of = |labels: &[&str], from: i64, to: i64| {
        let inside = |hour: &&Hour| hour.hour >= at(from) && hour.hour < at(to);
        expect.iter().filter(inside).filter(|hour| labels.contains(&&*hour.label)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(hours(&path, &["web", "mail", "web"], 3_600, 7_200), of(&["web", "mail"], 3_600, 7_200));
    assert_eq!(hours(&path, &["we"], 0, 36_000), []);
}

#[test]
fn sums_past_what_an_hour_holds_are_cut_to_it() {
    let (_folder, path, mut store) = store();
    let slots = |nth: i64| {
        let missed = Missed { cause: Cause::AgentOff, slots: u64::MAX, last_due_at: at(nth + 100) };
        let result = serde_json::from_value(serde_json::to_value(missed).unwrap()).unwrap();
        Log { result, ..log("shop", "a", nth, Verdict::Missed) }
    };
    for nth in 0..3 {
        store.deliver(&batch([slots(nth)])).unwrap();
    }
    assert_eq!(hours(&path, &[], 0, 3_600)[0].slots.missed, u32::MAX);
}

#[test]
fn roll_ups_stay_as_they_were_where_a_batch_is_not_kept() {
    let (_folder, path, mut store) = store();
    let other = Connection::open(&path).unwrap();
    let broken = "CREATE TRIGGER full BEFORE INSERT ON rejected BEGIN SELECT RAISE(ABORT, 'broken back'); END";
    other.execute_batch(broken).unwrap();
    let unreadable = Unreadable { bytes: Vec::new(), origin: "x".to_owned(), reason: "odd".to_owned() };
    let logs = Batch { unreadable: vec![unreadable], ..batch(mixed()) };
    assert!(store.deliver(&logs).is_err());
    assert_eq!((count(&path, "log"), count(&path, "hour"), count(&path, "duplicate")), (0, 0, 0));
}

/// A store as the build before the roll-ups left it.
fn older(logs: &[Log]) -> (TempDir, config::Sqlite) {
    let (folder, path, mut store) = store();
    store.deliver(&batch(logs.iter().cloned())).unwrap();
    drop(store);
    let sql = "DROP TABLE hour; DROP TABLE duplicate; DROP TABLE retention;
        ALTER TABLE rejected DROP COLUMN agent; ALTER TABLE rejected DROP COLUMN boot; ALTER TABLE rejected DROP COLUMN seq;
        ALTER TABLE log DROP COLUMN starved_us;
        PRAGMA user_version = 1";
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    (folder, config::Sqlite { path, retention: Duration::from_secs(30 * DAY) })
}

#[test]
fn a_store_of_an_older_build_gets_its_roll_ups_when_it_is_opened() {
    let logs = (0..25_000_i64).map(|nth| Log { uid: uid(at(nth), nth as u64), ..log("shop", "a", nth, Verdict::Up) });
    let logs: Vec<Log> = logs.chain([missed("shop", 30_000, 80_000)]).collect();
    let (_folder, settings) = older(&logs);
    let without = Archive::open(&settings.path).unwrap().uptimes(&[], at(0), at(100_000)).unwrap_err();
    let expect = "pingeon.db` is one of an older Pingeon, without roll-ups: `pingeon migrate` brings it up to date";
    assert!(without.ends_with(expect), "{without}");
    let audit = Archive::open(&settings.path).unwrap().delivery(at(0)).unwrap_err();
    assert!(audit.contains("without delivery audit"), "{audit}");
    assert_eq!(rows(&settings.path, &[], 0, 1), ["shop a 0 up"], "the logs can be read as ever");
    for _ in 0..2 {
        drop(Sqlite::open(&settings, Arc::new(SimulatedClock::at(at(0)))).unwrap());
        assert_eq!(hours(&settings.path, &[], 0, 100_000), rollup::roll_up(&logs));
    }
}

#[test]
fn retention_deletes_roll_ups_and_counts_of_what_came_again() {
    let (_folder, path, mut store) = store();
    let logs = batch([0, 3_599, 7_200].map(|second| log("shop", "a", second, Verdict::Up)));
    store.deliver(&logs).unwrap();
    store.deliver(&logs).unwrap();
    assert_eq!((count(&path, "hour"), count(&path, "duplicate WHERE count = 3")), (3, 1));
    let retention = Duration::from_secs(30 * DAY);
    let mut left_at = |second| {
        store.keep(at(second).plus(retention)).unwrap();
        (count(&path, "log"), count(&path, "hour"), count(&path, "duplicate"))
    };
    assert_eq!(left_at(0), (3, 3, 1));
    // An hour goes when all of it is past.
    assert_eq!(left_at(3_600), (1, 3, 0));
    assert_eq!(left_at(3_601), (1, 2, 0));
    assert_eq!(left_at(90_000), (0, 0, 0));
}

#[test]
fn a_missed_range_is_kept_as_long_as_its_end() {
    let (_folder, path, mut store) = store();
    store.deliver(&batch([missed("shop", 0, 100), log("shop", "a", 50, Verdict::Up)])).unwrap();
    let retention = Duration::from_secs(30 * DAY);
    let mut left_at = |second| {
        store.keep(at(second).plus(retention)).unwrap();
        rows(&path, &[], 0, 200)
    };
    assert_eq!(left_at(100), ["shop a 0 missed"]);
    assert_eq!(left_at(101), [""; 0]);
}

#[test]
fn keeping_tells_how_the_store_stands() {
    let (_folder, _, mut store) = store();
    let mut condition = || store.keep(at(7)).unwrap().condition;
    let empty = Condition { rejected: Some(0), retained_at: Some(at(7)), ..Condition::default() };
    assert_eq!(condition(), empty);
    let ahead = log("shop", "a", 2 * DAY as i64, Verdict::Up);
    let day = DAY as i64;
    store.deliver(&batch([log("shop", "a", -day, Verdict::Up), log("shop", "a", day, Verdict::Up), ahead])).unwrap();
    let (oldest_day, newest_day) = (Some("2026-11-23".to_owned()), Some("2026-11-25".to_owned()));
    assert_eq!(
        store.keep(at(8)).unwrap().condition,
        Condition { oldest_day, newest_day, rejected: Some(1), retained_at: Some(at(8)), days_ahead: None }
    );
}

fn audited(path: &Path, since: i64) -> Vec<Delivery> {
    Archive::open(path).unwrap().delivery(at(since)).unwrap()
}

/// Of a run that began at second `boot`: a log for each number, one a second from then on.
fn run(agent: &str, boot: i64, numbers: impl IntoIterator<Item = u64>) -> Vec<Log> {
    let id = uid(at(boot), agent.len() as u64);
    let log = |seq: u64| {
        let second = boot + seq as i64;
        Log { boot: id, seq, uid: uid(at(second), seq), agent: agent.into(), ..log("shop", agent, second, Verdict::Up) }
    };
    numbers.into_iter().map(log).collect()
}

#[test]
fn what_is_neither_stored_nor_set_aside_is_missing() {
    let too_old = |log: Log| Log { due_at: at(-31 * DAY as i64), uid: uid(at(-31 * DAY as i64), log.seq), ..log };
    for (name, stored, rejected, expect) in [
        ("all", &[1, 2, 3][..], &[][..], "1..3 of 3+0, 0: "),
        ("one", &[1], &[], "1..1 of 1+0, 0: "),
        ("in any order", &[3, 1, 2], &[], "1..3 of 3+0, 0: "),
        ("the first", &[3, 4], &[], "3..4 of 2+0, 2: 1-2"),
        ("in the middle", &[1, 2, 5, 9], &[], "1..9 of 4+0, 5: 3-4 6-8"),
        ("set aside", &[1, 2, 5], &[3, 4], "1..5 of 3+2, 0: "),
        ("set aside at first", &[3], &[1, 2], "1..3 of 1+2, 0: "),
        ("set aside in part", &[1, 5], &[3], "1..5 of 2+1, 2: 2-2 4-4"),
        ("before one set aside", &[1, 2], &[5, 9], "1..9 of 2+2, 5: 3-4 6-8"),
        ("nothing but set aside", &[], &[2, 3], "2..3 of 0+2, 1: 1-1"),
    ] {
        let (_folder, path, mut store) = store();
        let rejected = run("a", 0, rejected.iter().copied()).into_iter().map(too_old);
        store.deliver(&batch(run("a", 0, stored.iter().copied()).into_iter().chain(rejected))).unwrap();
        let [of] = &audited(&path, 0)[..] else { panic!("{name}") };
        let Delivery { lowest, highest, stored, rejected, missing, missing_total, .. } = of;
        let ranges: Vec<String> = missing.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        let ranges = ranges.join(" ");
        assert_eq!(format!("{lowest}..{highest} of {stored}+{rejected}, {missing_total}: {ranges}"), expect, "{name}");
    }
}

#[test]
fn each_run_is_audited_by_itself() {
    let (_folder, path, mut store) = store();
    let logs = [run("b", 0, 1..5), run("a", 500, [2, 3]), run("a", 100, 1..4)].concat();
    store.deliver(&batch(logs.iter().cloned())).unwrap();
    store.deliver(&batch(logs[..3].iter().cloned().chain([log("shop", "c", 0, Verdict::Up)]))).unwrap();
    let of = |agent: &str, boot: i64, (lowest, highest): (u64, u64)| Delivery {
        agent: agent.into(),
        boot: uid(at(boot), 1),
        lowest,
        highest,
        stored: highest - lowest + 1,
        rejected: 0,
        duplicates: 0,
        missing: Vec::new(),
        missing_total: 0,
        due_at: Some((at(boot + lowest as i64), at(boot + highest as i64))),
    };
    let late = Delivery { missing: vec![(1, 1)], missing_total: 1, ..of("a", 500, (2, 3)) };
    let b = Delivery { duplicates: 3, ..of("b", 0, (1, 4)) };
    let c = Delivery { boot: uid(at(0), 0), due_at: Some((at(0), at(0))), ..of("c", 0, (1, 1)) };
    assert_eq!(audited(&path, 0), [of("a", 100, (1, 3)), late.clone(), b.clone(), c]);
    assert_eq!(audited(&path, 4), [of("a", 100, (1, 3)), late.clone(), b]);
    assert_eq!(audited(&path, 503), [late]);
    assert_eq!(audited(&path, 504), []);
}

#[test]
fn of_many_missing_ranges_the_first_are_listed_and_all_are_counted() {
    let (_folder, path, mut store) = store();
    store.deliver(&batch(run("a", 0, (1..=500).map(|nth| nth * 3)))).unwrap();
    let of = &audited(&path, 0)[0];
    assert_eq!((of.missing.len(), of.missing_total), (100, 1_000));
    assert_eq!((of.missing[0], of.missing[99]), ((1, 2), (298, 299)));
}

#[test]
fn what_the_retention_deleted_is_not_missing() {
    let (_folder, path, mut store) = store();
    let (day, retention) = (DAY as i64, Duration::from_secs(30 * DAY));
    let lost = || -> Vec<u64> { audited(&path, -9 * day).iter().map(|of| of.missing_total).collect() };
    store.deliver(&batch([run("a", -5 * day, 3..10), run("b", -2 * day, 3..10)].concat())).unwrap();
    assert_eq!(lost(), [2, 2]);
    store.keep(at(-5 * day + 5).plus(retention)).unwrap();
    assert_eq!(lost(), [0, 2], "the first run may have lost its first logs to the retention");
    assert_eq!(audited(&path, -9 * day)[0].lowest, 5);
}

#[test]
fn of_an_older_store_nobody_knows_what_its_retention_deleted() {
    let (_folder, settings) = older(&[run("a", -5 * DAY as i64, 3..10), run("b", -2 * DAY as i64, 3..10)].concat());
    drop(Sqlite::open(&settings, Arc::new(SimulatedClock::at(at(0)))).unwrap());
    let lost: Vec<u64> = audited(&settings.path, -9 * DAY as i64).iter().map(|of| of.missing_total).collect();
    assert_eq!(lost, [0, 2]);
}

#[test]
fn the_retention_looks_at_no_more_than_it_deletes() {
    let (_folder, _, store) = store();
    let plan = |sql: &str| {
        let mut explain = store.database.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let lines = explain.raw_query().mapped(|row| row.get::<_, String>(3)).collect::<Result<Vec<_>, _>>().unwrap();
        lines.join("\n")
    };
    let all = [retention::DELETE_LOGS, retention::DELETE_HOURS];
    insta::assert_snapshot!(all.map(plan).join("\n\n"));
}
