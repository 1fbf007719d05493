use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::{Map, json};

use super::*;
use crate::check::Verdict;
use crate::clock::SimulatedClock;
use crate::config::WhenFull;
use crate::flow::{Batch, Fault, Refused, Source};
use crate::jobs::Pulse;
use crate::logs::{Cause, Log, Missed, Object, VERSION};

const NO_WAIT: Duration = Duration::ZERO;

fn settings(folder: &Path) -> config::Spool {
    config::Spool {
        path: folder.join("spool.db"),
        max_bytes: 256 * 1024 * 1024,
        when_full: WhenFull::Thin,
        flush: Duration::from_millis(1),
    }
}

fn at(second: u64) -> Timestamp {
    Timestamp::parse("2026-11-24T10:00:00Z").unwrap().plus(Duration::from_secs(second))
}

fn author() -> Author {
    Author::new("edge-01".into(), at(0))
}

/// A log of `label` that is due at `second`, which tells it from others.
fn log(label: &str, second: u64, verdict: Verdict) -> Log {
    Log {
        v: VERSION,
        uid: Author::new("x".into(), at(second)).boot,
        agent: "edge-01".into(),
        boot: Author::new("x".into(), at(0)).boot,
        seq: 0,
        label: label.into(),
        kind: "http".into(),
        target: "https://shop.example.com/health".into(),
        due_at: at(second),
        started_at: Some(at(second)),
        ended_at: Some(at(second)),
        duration_us: Some(7),
        interval_ms: 1_000,
        verdict,
        phase: None,
        reason: None,
        result: Object::default(),
        unknown_fields: Map::new(),
    }
}

fn up(second: u64) -> Log {
    log("shop", second, Verdict::Up)
}

/// An `up` that takes about 1,200 bytes in the file.
fn large(second: u64) -> Log {
    let mut log = up(second);
    log.result = serde_json::from_value(json!({"padding": "x".repeat(700)})).unwrap();
    log
}

fn keep(writer: &mut Writer, mut logs: &[Log]) {
    while !logs.is_empty() {
        logs = &logs[writer.append(logs).unwrap()..];
    }
}

fn seqs(batch: &Batch) -> Vec<u64> {
    batch.logs.iter().map(|log| log.seq).collect()
}

/// Everything that is in the spool, committed on the way.
fn drain(reader: &mut Reader) -> Vec<Log> {
    let mut all = Vec::new();
    loop {
        let batch = reader.pull(NO_WAIT).unwrap();
        if batch.is_empty() {
            return all;
        }
        reader.commit(&batch, &[]).unwrap();
        all.extend(batch.logs);
    }
}

fn open(settings: &config::Spool, author: &Author) -> (Writer, Reader, Gauge) {
    let spool = Spool::open(settings, author).unwrap();
    let gauge = spool.gauge();
    let (writer, reader) = spool.split(Stop::default());
    (writer, reader, gauge)
}

#[test]
fn logs_come_out_as_they_went_in_and_numbered() {
    let folder = tempfile::tempdir().unwrap();
    let (mut writer, mut reader, gauge) = open(&settings(folder.path()), &author());
    let logs = [up(1), up(2), up(3)];
    keep(&mut writer, &logs);
    assert_eq!((gauge.figures().depth, gauge.figures().last_accepted.unwrap().due_at), (3, at(3)));

    let batch = reader.pull(NO_WAIT).unwrap();
    let expect: Vec<Log> = logs.into_iter().zip(1..).map(|(log, seq)| Log { seq, ..log }).collect();
    assert_eq!(batch.logs, expect);
    // Without a commit they come again; with one they don't, and a commit that comes twice changes nothing.
    assert_eq!(reader.pull(NO_WAIT).unwrap().logs, expect);
    reader.commit(&batch, &[]).unwrap();
    reader.commit(&batch, &[]).unwrap();
    assert!(reader.pull(NO_WAIT).unwrap().is_empty());
    assert_eq!(gauge.figures().depth, 0);
}

#[test]
fn numbers_go_on_within_a_run_and_begin_anew_with_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (settings, first, second) = (settings(folder.path()), author(), author());
    for (author, second, expect) in [(&first, 1, vec![1]), (&first, 2, vec![2]), (&second, 3, vec![1])] {
        let (mut writer, mut reader, gauge) = open(&settings, author);
        assert_eq!(gauge.figures().depth, 0, "what was handed on is gone");
        keep(&mut writer, &[up(second)]);
        assert_eq!(drain(&mut reader).iter().map(|log| log.seq).collect::<Vec<_>>(), expect);
    }
}

#[test]
fn a_batch_is_bounded_by_count_and_by_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (mut writer, mut reader, _) =
        open(&config::Spool { max_bytes: 8 * BYTES_MIN, ..settings(folder.path()) }, &author());
    keep(&mut writer, &(0..2_001).map(up).collect::<Vec<_>>());
    let batch = reader.pull(NO_WAIT).unwrap();
    assert_eq!(batch.logs.len(), BATCH_LOGS_MAX);
    reader.commit(&batch, &[]).unwrap();
    assert_eq!(drain(&mut reader).len(), 1);

    let mut huge = up(0);
    huge.result = serde_json::from_value(json!({"padding": "x".repeat(700_000)})).unwrap();
    keep(&mut writer, &[huge.clone(), huge.clone(), huge]);
    // An eighth of the spool's bound is a batch's; a log that is alone may have more than its share.
    assert_eq!(reader.pull(NO_WAIT).unwrap().logs.len(), 1);
    assert_eq!(drain(&mut reader).len(), 3);
}

#[test]
fn the_last_slot_of_each_label_outlives_its_logs() {
    let folder = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(folder.path()), Arc::new(SimulatedClock::at(at(90_000_000))));
    let open = || Spool::open_under(clock.clone(), &settings, &author()).unwrap();
    let last = |second| Missed { cause: Cause::AgentOff, slots: 3, last_due_at: at(second) };
    let mut missed = log("db", 20, Verdict::Missed);
    missed.result = serde_json::from_value(serde_json::to_value(last(40)).unwrap()).unwrap();
    let (mut writer, mut reader) = open().split(Stop::default());
    keep(&mut writer, &[up(1), up(5), up(3), missed, log("odd", 90_000_000, Verdict::Up)]);
    keep(&mut writer, &[log("db", 30, Verdict::Up)]);
    // The clock was years ahead, and is set.
    clock.set_wall(at(101));
    keep(&mut writer, &[log("odd", 100, Verdict::Up)]);
    drain(&mut reader);
    drop((writer, reader));
    let expect = [("shop", 5), ("db", 40), ("odd", 100)];
    assert_eq!(open().last_due(), expect.into_iter().map(|(label, second)| (label.into(), at(second))).collect());
}

#[test]
fn after_the_clock_was_set_back_a_little_the_next_start_sees_what_it_missed() {
    let folder = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(folder.path()), Arc::new(SimulatedClock::at(at(10_000))));
    let open = || Spool::open_under(clock.clone(), &settings, &author()).unwrap();
    let (mut writer, reader) = open().split(Stop::default());
    keep(&mut writer, &[up(10_000)]);
    for (set_to, due, last) in [
        // Noise, and two logs out of order.
        (9_999, 9_998, 10_000),
        (10_001, 9_999, 10_000),
        // An hour back.
        (6_400, 6_399, 6_399),
        (6_410, 6_409, 6_409),
        (6_410, 6_401, 6_409),
    ] {
        clock.set_wall(at(set_to));
        keep(&mut writer, &[up(due)]);
        assert_eq!(writer.last_due()["shop"], at(last), "{due}");
    }
    drop((writer, reader));
    assert_eq!(open().last_due()["shop"], at(6_409));
}

#[test]
fn a_reader_that_waits_wakes_when_logs_come_and_when_it_is_told_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let stop = Stop::default();
    let (writer, mut reader) = Spool::open(&settings(folder.path()), &author()).unwrap().split(stop.clone());
    let (sender, receiver) = bounded(8);
    let (tell, told) = bounded(0);
    let long = Duration::from_secs(60);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| write(writer, &receiver, Duration::from_millis(1), &stop, &Pulse::default()));
        let pulls = scope.spawn(move || {
            let batch = reader.pull(long).unwrap();
            reader.commit(&batch, &[]).unwrap();
            tell.send(batch.logs.len()).unwrap();
            reader.pull(long).unwrap().logs.len()
        });
        sender.send(up(1)).unwrap();
        assert_eq!(told.recv(), Ok(1));
        // The second pull is under way, or soon will be: it may not begin to wait either.
        stop.set();
        drop(sender);
        assert_eq!(pulls.join().unwrap(), 0);
    });
    assert!(begun.elapsed() < long, "somebody waited");
}

#[test]
fn the_loop_keeps_everything_before_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, mut reader, gauge) = open(&settings(folder.path()), &author());
    let (sender, receiver) = bounded(10);
    let writes = std::thread::spawn(move || {
        write(writer, &receiver, Duration::from_secs(60), &Stop::default(), &Pulse::default())
    });
    for second in 0..10_000 {
        sender.send(up(second)).unwrap();
    }
    drop(sender);
    assert_eq!(writes.join().unwrap(), Ok(()));
    assert_eq!(gauge.figures().depth, 10_000);
    assert!(drain(&mut reader).iter().map(|log| log.seq).eq(1..=10_000));
}

#[test]
fn each_policy_gives_up_what_it_should() {
    // A `down` among many `up`, twice as much as fits.
    let logs: Vec<Log> = (0..4_000)
        .map(
            |second| {
                if second % 1_000 == 500 { Log { verdict: Verdict::Down, ..large(second) } } else { large(second) }
            },
        )
        .collect();
    for (policy, thinned, oldest, first) in
        [(WhenFull::Thin, true, false, 1), (WhenFull::DropOldest, false, true, 1_500)]
    {
        let folder = tempfile::tempdir().unwrap();
        let settings = config::Spool { max_bytes: 2 * BYTES_MIN, when_full: policy, ..settings(folder.path()) };
        let (mut writer, mut reader, gauge) = open(&settings, &author());
        for group in logs.chunks(100) {
            keep(&mut writer, group);
            let size = |name: &str| std::fs::metadata(folder.path().join(name)).map_or(0, |file| file.len());
            let takes = size("spool.db") + size("spool.db-wal");
            assert!(takes <= settings.max_bytes, "{policy:?}: {takes} bytes");
        }
        let figures = gauge.figures();
        let left = drain(&mut reader);
        let dropped: u64 = figures.dropped.values().sum();
        assert_eq!((figures.depth, left.len() as u64 + dropped), (left.len() as u64, 4_000), "{policy:?}");
        assert_eq!(figures.dropped.contains_key("thinned"), thinned, "{policy:?}");
        assert_eq!(figures.dropped.contains_key("dropped_oldest"), oldest, "{policy:?}");
        assert!(left.windows(2).all(|pair| pair[0].seq < pair[1].seq), "{policy:?}");
        assert!(left[0].seq >= first && left.last().unwrap().seq == 4_000, "{policy:?}: {}", left[0].seq);
        let downs = left.iter().filter(|log| log.verdict == Verdict::Down).count();
        assert_eq!(downs == 4, policy == WhenFull::Thin, "{policy:?}: {downs}");
    }
}

#[test]
fn thinning_falls_back_to_the_oldest_when_every_log_is_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let settings = config::Spool { max_bytes: BYTES_MIN, ..settings(folder.path()) };
    let (mut writer, mut reader, gauge) = open(&settings, &author());
    let flapping: Vec<Log> = (0..2_000)
        .map(|second| Log { verdict: if second % 2 == 0 { Verdict::Up } else { Verdict::Down }, ..large(second) })
        .collect();
    keep(&mut writer, &flapping);
    let left = drain(&mut reader);
    let oldest = gauge.figures().dropped["dropped_oldest"];
    assert_eq!(gauge.figures().dropped.len(), 1);
    assert!(left.iter().map(|log| log.seq).eq(oldest + 1..=2_000));
}

#[test]
fn what_the_reader_has_in_its_hand_is_not_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let settings = config::Spool { max_bytes: BYTES_MIN, when_full: WhenFull::DropOldest, ..settings(folder.path()) };
    let (mut writer, mut reader, gauge) = open(&settings, &author());
    keep(&mut writer, &(0..50).map(large).collect::<Vec<_>>());
    let in_hand = reader.pull(NO_WAIT).unwrap();
    keep(&mut writer, &(50..3_000).map(large).collect::<Vec<_>>());
    reader.commit(&in_hand, &[]).unwrap();
    let (rest, dropped) = (drain(&mut reader), gauge.figures().dropped["dropped_oldest"]);
    assert_eq!(in_hand.logs.len() as u64 + rest.len() as u64 + dropped, 3_000);
    assert_eq!(rest[0].seq, 50 + dropped + 1);
}

#[test]
fn a_full_spool_that_blocks_takes_logs_again_once_some_were_handed_on() {
    let folder = tempfile::tempdir().unwrap();
    let settings = config::Spool { max_bytes: BYTES_MIN, when_full: WhenFull::Block, ..settings(folder.path()) };
    let (mut writer, mut reader, gauge) = open(&settings, &author());
    let mut kept = 0;
    let reason = loop {
        match writer.append(&[large(kept)]) {
            Ok(_) => kept += 1,
            Err(Fault::Retry(reason)) => break reason,
            Err(broken) => panic!("{broken:?}"),
        }
    };
    assert!(reason.ends_with("spool.db` is full: 1048576 bytes"), "{reason}");
    // The loop waits, and the word of the reader wakes it long before its next try.
    let (sender, receiver) = bounded(1);
    let writes = std::thread::spawn(move || {
        write(writer, &receiver, Duration::from_millis(1), &Stop::default(), &Pulse::default())
    });
    sender.send(large(kept)).unwrap();
    drop(sender);
    let mut all = Vec::new();
    while !writes.is_finished() || gauge.figures().depth > 0 {
        all.extend(drain(&mut reader));
    }
    assert_eq!(writes.join().unwrap(), Ok(()));
    all.extend(drain(&mut reader));
    assert!(all.iter().map(|log| log.seq).eq(1..=kept + 1));
    assert_eq!((gauge.figures().error, gauge.figures().dropped.len()), (None, 0));
}

#[test]
fn what_a_full_spool_could_not_keep_at_the_stop_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let settings = config::Spool { max_bytes: BYTES_MIN, when_full: WhenFull::Block, ..settings(folder.path()) };
    let (mut writer, _reader, gauge) = open(&settings, &author());
    let mut kept = 0;
    while writer.append(&[large(kept)]).is_ok() {
        kept += 1;
    }
    // Its patience is over already, as it is `STOP_WAIT_MAX` after the first wait that saw the word to stop.
    writer.give_up_at = Some(Instant::now());
    let (sender, receiver) = bounded(3);
    (0..3).for_each(|more| sender.send(large(kept + more)).unwrap());
    drop(sender);
    let stop = Stop::default();
    stop.set();
    let end = write(writer, &receiver, Duration::from_millis(1), &stop, &Pulse::default());
    assert_eq!(end, Err("logs that could not be kept before stopping: 3".to_owned()));
    assert_eq!(gauge.figures().dropped["not_kept_at_stop"], 3);
    assert!(gauge.figures().error.unwrap().contains("is full"));
}

#[test]
fn what_a_broken_spool_loses_is_counted_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, _reader, gauge) = open(&settings(folder.path()), &author());
    writer.appender.database.connection.execute_batch("DROP TABLE log").unwrap();
    // More than a group: some are still in the channel.
    let count = writer::GROUP_LOGS_MAX as u64 + 10;
    let (sender, receiver) = bounded(writer::GROUP_LOGS_MAX + 10);
    (0..count).for_each(|second| sender.send(up(second)).unwrap());
    let error = write(writer, &receiver, NO_WAIT, &Stop::default(), &Pulse::default()).unwrap_err();
    assert!(error.ends_with(&format!("no such table: log; logs lost: {count}")), "{error}");
    assert_eq!(gauge.figures().dropped["not_kept_at_stop"], count);
}

#[test]
fn the_pulse_rests_while_no_logs_come_and_beats_while_a_full_spool_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let settings = config::Spool { max_bytes: BYTES_MIN, when_full: WhenFull::Block, ..settings(folder.path()) };
    let (mut writer, mut reader, gauge) = open(&settings, &author());
    // In large steps, and then to the brim.
    let mut kept = 0;
    for step in [50, 1] {
        while let Ok(count) = writer.append(&(0..step).map(large).collect::<Vec<_>>()) {
            kept += count as u64;
        }
    }
    let (pulse, stop) = (Pulse::default(), Stop::default());
    let until = |what: &str, is_so: &dyn Fn(Duration) -> bool| {
        let (begun, long) = (Instant::now(), Duration::from_secs(30));
        let in_a_minute = || {
            let mut now = SystemClock.now();
            now.steady = now.steady.plus(2 * long);
            pulse.overdue(now).unwrap_or_default()
        };
        while !is_so(in_a_minute()) {
            assert!(begun.elapsed() < long, "{what}");
            stop.wait(Duration::from_millis(1));
        }
        assert_eq!(pulse.overdue(SystemClock.now()), None, "{what}");
    };
    pulse.back_in(Duration::ZERO);
    let (sender, receiver) = bounded(1);
    let (beats, heard) = (pulse.clone(), stop.clone());
    let writes = std::thread::spawn(move || write(writer, &receiver, Duration::from_millis(1), &heard, &beats));
    until("rests", &|overdue| overdue.is_zero());
    sender.send(large(kept)).unwrap();
    // In a minute it would be half a minute late.
    until("beats", &|overdue| overdue > Duration::from_secs(25));
    assert_eq!(gauge.figures().depth, kept);
    assert!(!drain(&mut reader).is_empty());
    until("rests again", &|overdue| overdue.is_zero());
    drop(sender);
    assert_eq!(writes.join().unwrap(), Ok(()));
}

#[test]
fn a_full_disk_is_waited_for_and_leaves_no_hole() {
    let folder = tempfile::tempdir().unwrap();
    let (mut writer, mut reader, gauge) = open(&settings(folder.path()), &author());
    let pages = |most: u32| format!("PRAGMA max_page_count = {most}");
    let disk = |writer: &Writer, most| {
        writer.appender.database.connection.query_row(&pages(most), [], |_| Ok(())).unwrap();
    };
    disk(&writer, 40);
    let mut kept = 0;
    let reason = loop {
        match writer.append(&[large(kept), large(kept + 1)]) {
            Ok(count) => kept += count as u64,
            Err(Fault::Retry(reason)) => break reason,
            Err(broken) => panic!("{broken:?}"),
        }
    };
    assert!(reason.starts_with("no room left on the disk for the spool"), "{reason}");
    assert_eq!(gauge.figures().depth, kept);
    disk(&writer, 4_000);
    let (sender, receiver) = bounded(2);
    (0..2).for_each(|more| sender.send(large(kept + more)).unwrap());
    drop(sender);
    assert_eq!(write(writer, &receiver, Duration::from_millis(1), &Stop::default(), &Pulse::default()), Ok(()));
    assert!(drain(&mut reader).iter().map(|log| log.seq).eq(1..=kept + 2));
}

#[test]
fn refused_and_unreadable_logs_are_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let (mut writer, mut reader, gauge) = open(&settings, &author());
    keep(&mut writer, &[up(1), up(2), up(3)]);
    let other = Connection::open(&settings.path).unwrap();
    other.execute("UPDATE log SET json = '{\"v\":2}' WHERE id = 1", []).unwrap_err();
    other.execute("UPDATE log SET json = CAST('{\"v\":2}' AS BLOB) WHERE id = 1", []).unwrap();

    let batch = reader.pull(NO_WAIT).unwrap();
    assert_eq!(seqs(&batch), [2, 3]);
    reader.commit(&batch, &[Refused { index: 1, reason: "too heavy".to_owned() }]).unwrap();
    assert!(drain(&mut reader).is_empty());
    assert_eq!((gauge.figures().refused, gauge.figures().depth), (2, 0));
    let aside: Vec<(String, String)> = other
        .prepare("SELECT origin, reason FROM refused ORDER BY id")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let expect = [("spool 1", "made by a newer Pingeon: v 2"), ("sink", "too heavy")];
    assert_eq!(aside, expect.map(|(origin, reason)| (origin.to_owned(), reason.to_owned())));
}

#[test]
fn what_nobody_can_read_does_not_hold_up_what_comes_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let (mut writer, mut reader, gauge) = open(&settings, &author());
    let logs: Vec<Log> = (1..=BATCH_LOGS_MAX as u64 + 3).map(up).collect();
    keep(&mut writer, &logs);
    let other = Connection::open(&settings.path).unwrap();
    other.execute("UPDATE log SET json = CAST('{}' AS BLOB) WHERE id <= ?", [BATCH_LOGS_MAX]).unwrap();
    assert_eq!(reader.pull(NO_WAIT).unwrap().logs.len(), 3);
    assert_eq!(gauge.figures().refused, BATCH_LOGS_MAX as u64);
}

#[test]
fn a_second_process_is_told_who_has_the_spool() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let first = Spool::open(&settings, &author()).unwrap();
    let error = Spool::open(&settings, &author()).unwrap_err();
    assert!(
        error.ends_with(&format!("spool.db` is in use by another pingeon (pid {})", std::process::id())),
        "{error}"
    );
    drop(first);
    assert!(Spool::open(&settings, &author()).is_ok());
}

#[test]
fn a_file_that_is_no_spool_is_refused_and_left_alone() {
    let foreign = |sql: &'static str| move |path: &Path| Connection::open(path).unwrap().execute_batch(sql).unwrap();
    let damage = |path: &Path| {
        let spool = Spool::open(&settings(path.parent().unwrap()), &author()).unwrap();
        let (mut writer, _) = spool.split(Stop::default());
        keep(&mut writer, &(0..1_000).map(up).collect::<Vec<_>>());
        drop(writer);
        let mut bytes = std::fs::read(path).unwrap();
        bytes[4_096..].fill(0x55);
        std::fs::write(path, bytes).unwrap();
    };
    type Make = Box<dyn Fn(&Path)>;
    let cases: [(&str, Make, &str); 5] = [
        (
            "text",
            Box::new(|path| std::fs::write(path, "agent: edge-01\n".repeat(100)).unwrap()),
            "` is not a Pingeon spool; name another file in `spool.path`, or move this one away",
        ),
        (
            "foreign",
            Box::new(foreign("CREATE TABLE cat (name TEXT)")),
            "` is an SQLite file, but not a Pingeon spool; name another file in `spool.path`",
        ),
        (
            "a store",
            Box::new(foreign("PRAGMA application_id = 1349412684; CREATE TABLE log (uid BLOB)")),
            "` is an SQLite file, but not a Pingeon spool; name another file in `spool.path`",
        ),
        (
            "newer",
            Box::new(foreign(
                "PRAGMA application_id = 1349412689; PRAGMA user_version = 9; CREATE TABLE log (uid BLOB)",
            )),
            "` was made by a newer Pingeon: schema 9, and this build knows up to 1",
        ),
        ("damaged", Box::new(damage), ".recover` on it for what it still holds"),
    ];
    for (name, make, reason) in cases {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        make(&settings.path);
        let before = std::fs::read(&settings.path).unwrap();
        let error = Spool::open(&settings, &author()).expect_err(name);
        assert!(error.ends_with(reason), "{name}: {error}");
        assert!(std::fs::read(&settings.path).unwrap() == before, "{name}: the file was changed");
    }
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nowhere");
    let error = Spool::open(&settings(&path), &author()).unwrap_err();
    assert_eq!(error, format!("the folder of the spool `{}` does not exist", path.join("spool.db").display()));
}

#[test]
fn a_spool_that_is_damaged_while_it_runs_says_so_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let (mut writer, reader, _) = open(&settings, &author());
    keep(&mut writer, &(0..3_000).map(up).collect::<Vec<_>>());
    drop((writer, reader));
    let mut bytes = std::fs::read(&settings.path).unwrap();
    let middle = bytes.len() / 2 / 4_096 * 4_096;
    bytes[middle..].fill(0x55);
    std::fs::write(&settings.path, bytes).unwrap();
    let Ok(spool) = Spool::open(&settings, &author()) else { return };
    let (_, mut reader) = spool.split(Stop::default());
    let error = loop {
        match reader.pull(NO_WAIT) {
            Ok(batch) if !batch.is_empty() => reader.commit(&batch, &[]).unwrap(),
            Ok(_) => panic!("the damage was not seen"),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Fault::Broken(reason) if reason.contains("is damaged")), "{error:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Pull,
    Commit,
    Reopen,
    /// The process and the machine stop here: what is on disk is what there is.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..400_u64).prop_map(Step::Append),
        3 => Just(Step::Pull),
        3 => Just(Step::Commit),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

/// A copy of the files as they are on disk, in a folder of its own.
fn copy(folder: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        // The index of the write-ahead log is made anew, as after a crash of the machine.
        if !entry.file_name().to_string_lossy().ends_with("-shm") {
            std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
        }
    }
    to
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Against a model that is a list: what was accepted comes out, in order, numbered without holes, until it was committed;
    /// and what was committed only comes again after a crash.
    #[test]
    fn nothing_accepted_is_lost(steps in prop::collection::vec(step(), 1..30)) {
        let author = author();
        let mut folder = tempfile::tempdir().unwrap();
        let mut ends = open(&settings(folder.path()), &author);
        let (mut accepted, mut committed, mut in_hand) = (0_u64, 0_u64, None::<Batch>);
        for step in steps {
            match step {
                Step::Append(count) => {
                    keep(&mut ends.0, &(accepted..accepted + count).map(up).collect::<Vec<_>>());
                    accepted += count;
                }
                Step::Pull => {
                    let batch = ends.1.pull(NO_WAIT).unwrap();
                    let most = accepted.min(committed + BATCH_LOGS_MAX as u64);
                    prop_assert!(batch.logs.iter().map(|log| log.seq).eq(committed + 1..=most));
                    prop_assert!(batch.logs.iter().map(|log| log.due_at).eq((committed..most).map(at)));
                    in_hand = Some(batch);
                }
                Step::Commit => if let Some(batch) = in_hand.take() {
                    ends.1.commit(&batch, &[]).unwrap();
                    committed = committed.max(batch.logs.last().map_or(0, |log| log.seq));
                },
                Step::Reopen => {
                    drop(ends);
                    (ends, in_hand) = (open(&settings(folder.path()), &author), None);
                }
                Step::Crash => {
                    let copied = copy(folder.path());
                    drop(ends);
                    (folder, in_hand) = (copied, None);
                    ends = open(&settings(folder.path()), &author);
                    // What comes again is the end of what was committed: nothing is missing between the two.
                    let first = ends.1.pull(NO_WAIT).unwrap().logs.first().map_or(accepted, |log| log.seq - 1);
                    prop_assert!(first <= committed, "{first} > {committed}");
                    committed = first;
                }
            }
            prop_assert_eq!(ends.2.figures().depth, accepted - committed);
        }
        prop_assert!(drain(&mut ends.1).iter().map(|log| log.seq).eq(committed + 1..=accepted));
    }
}
