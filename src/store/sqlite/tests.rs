use std::path::PathBuf;

use rusqlite::Connection;
use serde_json::{Map, json};
use tempfile::TempDir;

use super::*;
use crate::check::{Phase, Verdict};
use crate::clock::SimulatedClock;
use crate::flow::Unreadable;
use crate::logs::{Cause, Missed, VERSION};
use crate::store::{Archive as _, Row};

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
        result: Map::new(),
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
    Archive::open(path).unwrap().rows(&labels, at(from), at(to), &mut |row| rows.push(row)).unwrap();
    shown(&rows)
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
    full.result.insert("bytes".to_owned(), 7.into());
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
            // The range ends within what is kept.
            missed("reaches", -31 * day, -day),
        ],
        unreadable: vec![Unreadable {
            bytes: vec![b'x'; 100_000],
            origin: "spool 42".to_owned(),
            reason: "expected value".to_owned(),
        }],
        ..Batch::default()
    };
    assert_eq!(store.deliver(&batch), Ok(Delivered { rejected: 4, ..delivered(2, 0) }));
    // Delivered again, nothing is new.
    assert_eq!(store.deliver(&batch), Ok(delivered(0, 6)));
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
        "spool 42: expected value, 65536".to_owned(),
    ];
    assert_eq!(rejected, expect);
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
    let down = Log { reason: Some("connection refused".into()), ..log("shop", "a", 1, Verdict::Down) };
    store.deliver(&batch([down, missed("shop", 11, 21)])).unwrap();
    let last_due_at = at(21);
    let row = |second, verdict, duration_us, reason: &str, missed| Row {
        agent: "a".into(),
        label: "shop".into(),
        due_at: at(second),
        interval: Duration::from_secs(10),
        verdict,
        duration_us,
        reason: Some(reason.into()),
        missed,
    };
    let mut rows = Vec::new();
    Archive::open(&path).unwrap().rows(&[], at(0), at(60), &mut |row| rows.push(row)).unwrap();
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
            .rows(&[], at(0), at(60), &mut |_| {
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
    let newer = "`pingeon.db` was made by a newer Pingeon: schema 2, and this build knows up to 1";
    for (sql, reason) in [
        ("CREATE TABLE cat (name TEXT)", other),
        ("DROP TABLE cat; CREATE TABLE log (id); PRAGMA application_id = 1349412689", other),
        ("PRAGMA application_id = 1349412684; PRAGMA user_version = 2", newer),
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
