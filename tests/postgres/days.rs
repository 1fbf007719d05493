//! Days that are summed up: reports come to the same as from the hours, whatever comes late, and whoever sums or retains meanwhile.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pingeon::check::Verdict;
use pingeon::clock::{Clock as _, SystemClock, Timestamp};
use pingeon::flow::{Batch, Sink as _};
use pingeon::logs::{Cause, Log, Missed};
use pingeon::store::postgres::{Archive, Keeper, Postgres};
use pingeon::store::rollup::{self, Uptime};
use pingeon::store::{Archive as _, Keep as _};
use postgres::error::SqlState;
use postgres::{Client, IsolationLevel, Transaction};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::fleet::fields;
use crate::reports::{any_logs, at, log, summed_up};
use crate::running::wait_for;
use crate::server::{Database, shared};

const WRITER: &str = "pingeon_writer";
const DAY_SECONDS: i64 = 86_400;

/// A store, and all logs that it was given.
struct Place {
    database: Database,
    keeper: Keeper,
    archive: Archive,
    logs: Vec<Log>,
}

impl Place {
    /// As at a user's whose transactions see by default what was there when they began.
    fn new(about: &str) -> Self {
        let database = shared().database(about).migrated();
        let sql = format!("ALTER DATABASE {} SET default_transaction_isolation = 'repeatable read'", database.name());
        database.superuser().batch_execute(&sql).unwrap();
        let keeper = Keeper::new(&database.settings(WRITER));
        let archive = Archive::open(&database.settings("pingeon_reader")).unwrap();
        Place { database, keeper, archive, logs: Vec::new() }
    }

    fn write(&mut self, logs: Vec<Log>) {
        write(&self.database, &logs);
        self.logs.extend(logs);
    }

    /// Sums up all days that there are to sum up.
    fn sum(&mut self) {
        // What was summed before comes one day a round, and says of no more.
        let mut before = None;
        wait_for("all days to be summed up", || {
            let (more, now) = (self.round(), self.summed());
            (!more && before.replace(now.clone()) == Some(now)).then_some(())
        });
    }

    /// Whether there is more to do.
    fn round(&mut self) -> bool {
        let kept = self.keeper.keep(SystemClock.now().wall).unwrap();
        assert_eq!(kept.fault, None);
        kept.more
    }

    /// The days that count as summed, by their distance from the first one of the tests.
    fn summed(&self) -> Vec<i64> {
        let rows = self.database.superuser().query("SELECT extract(epoch FROM day)::bigint FROM pingeon.summed", &[]);
        let first = day(0).as_micros() / 1_000_000;
        let mut days: Vec<i64> = rows.unwrap().iter().map(|row| (row.get::<_, i64>(0) - first) / DAY_SECONDS).collect();
        days.sort_unstable();
        days
    }

    fn uptimes(&mut self, labels: &[&str], from: Timestamp, to: Timestamp) -> Vec<Uptime> {
        let labels: Vec<Arc<str>> = labels.iter().map(|label| Arc::from(*label)).collect();
        self.archive.uptimes(&labels, from, to).unwrap()
    }

    /// The answers are what the logs come to.
    fn answers(&mut self, from: Timestamp, to: Timestamp) {
        let mut expect = summed_up(&self.logs, (from, to));
        assert_eq!(self.uptimes(&[], from, to), expect, "{from:?} to {to:?}, {:?} summed", self.summed());
        expect.retain(|uptime| &*uptime.label == "shop");
        assert_eq!(self.uptimes(&["shop", "nobody"], from, to), expect, "one label, {from:?} to {to:?}");
    }

    fn answers_of_days(&mut self) {
        self.answers(day(-2), day(8));
    }
}

fn write(database: &Database, logs: &[Log]) {
    let batch = Batch { logs: logs.to_vec(), ..Batch::default() };
    let delivered = Postgres::new(&database.settings(WRITER), Arc::new(SystemClock)).deliver(&batch).unwrap();
    assert_eq!(delivered.new, logs.len());
}

/// A midnight some ten days ago, or one so many days after it.
fn day(nth: i64) -> Timestamp {
    let micros = at(0).as_micros();
    Timestamp::from_micros(micros - micros % (DAY_SECONDS * 1_000_000) + nth * DAY_SECONDS * 1_000_000)
}

/// What is said about half an hour of a day, the first of which is 0.
fn half(nth: i64, half: i64, label: &str, verdict: Verdict) -> Log {
    Log { interval_ms: 1_800_000, ..log(label, "a", second_of(nth) + half * 1_800, verdict) }
}

/// When a day begins, as [`log`] takes it.
fn second_of(nth: i64) -> i64 {
    (day(nth).as_micros() - at(0).as_micros()) / 1_000_000
}

fn missed_slots(log: Log, slots: u64) -> Log {
    let missed = Missed { cause: Cause::AgentOff, slots, last_due_at: log.due_at };
    Log { result: fields(serde_json::to_value(missed).unwrap()), duration_us: None, ..log }
}

/// A transaction as a consumer's.
fn begin(client: &mut Client) -> Transaction<'_> {
    client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().unwrap()
}

/// Waits until someone waits for the table of the days that are summed.
fn someone_waits(database: &Database) {
    let mut client = database.superuser();
    let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'pingeon.summed'::regclass";
    wait_for("someone to wait", || (client.query_one(sql, &[]).unwrap().get::<_, i64>(0) > 0).then_some(()));
}

#[test]
fn any_range_comes_to_the_same_whichever_days_are_summed() {
    let place = std::cell::RefCell::new(Place::new("any_days"));
    let mut runner = TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
    let ranges = prop::collection::vec((-DAY_SECONDS..5 * DAY_SECONDS, 0..6 * DAY_SECONDS), 4);
    runner
        .run(&(any_logs(), ranges, any::<u8>()), |(mut logs, mut ranges, forgotten)| {
            let mut place = place.borrow_mut();
            let mut known: HashSet<_> = place.logs.iter().map(|log| log.uid).collect();
            logs.retain(|log| known.insert(log.uid));
            // Where more is said than hours hold, sums of days are not read: of all labels but one it is less.
            for log in logs.iter_mut().filter(|log| &*log.label != "mail") {
                log.interval_ms = log.interval_ms % 600_000 + 1;
            }
            // Some to whole days.
            let whole = |second: i64| second - (at(second).as_micros() / 1_000_000) % DAY_SECONDS;
            ranges.extend([(whole(0), 2 * DAY_SECONDS), (whole(DAY_SECONDS), 5 * DAY_SECONDS)]);
            let answers = |place: &mut Place| {
                for (from, length) in &ranges {
                    place.answers(rollup::hour_of(at(*from)), rollup::hour_of(at(from + length)));
                }
            };
            // Most of them are late: days were summed before.
            place.write(logs);
            answers(&mut place);
            place.sum();
            answers(&mut place);
            let some = "DELETE FROM pingeon.summed WHERE (1 << extract(day FROM day)::integer % 8) & $1 > 0";
            place.database.superuser().execute(some, &[&i32::from(forgotten)]).unwrap();
            answers(&mut place);
            Ok(())
        })
        .unwrap();
}

/// The sums are changed, so that it shows where they are read.
#[test]
fn whole_days_are_read_as_sums_and_the_rest_as_hours() {
    let mut place = Place::new("whole_days");
    place.write((0..3 * 48).map(|nth| half(0, nth, "shop", Verdict::Up)).collect());
    place.sum();
    assert_eq!(place.summed(), [0, 1, 2]);
    place.database.superuser().batch_execute("UPDATE pingeon.day SET up = up + 1000").unwrap();
    let hours = |count: u32| Duration::from_secs(3_600) * count;
    for (name, from, to, days, logs) in [
        ("all", day(-1), day(4), 3, 144),
        ("two days", day(0), day(2), 2, 96),
        ("an hour less", day(0).plus(hours(1)), day(3), 2, 142),
        ("and at the end", day(0).plus(hours(1)), day(3).minus(hours(1)), 1, 140),
        ("parts of days", day(0).plus(hours(1)), day(1).plus(hours(23)), 0, 92),
        ("within a day", day(1).plus(hours(1)), day(1).plus(hours(2)), 0, 2),
        ("nothing", day(1), day(1), 0, 0),
    ] {
        let found: u64 = place.uptimes(&[], from, to).iter().map(|uptime| uptime.logs).sum();
        assert_eq!(found, logs + days * 1_000, "{name}");
    }
}

#[test]
fn a_log_that_comes_late_counts_at_once_and_its_day_is_summed_anew() {
    let mut place = Place::new("late");
    place.write((0..3).map(|nth| half(nth, 0, "shop", Verdict::Up)).collect());
    place.sum();
    // Within a day, and over its end.
    place.write(vec![half(1, 5, "web", Verdict::Down)]);
    assert_eq!(place.summed(), [0, 2]);
    place.answers_of_days();
    place.sum();
    place.write(vec![Log { interval_ms: 7_200_000, ..half(0, 47, "shop", Verdict::Degraded) }]);
    assert_eq!(place.summed(), [2]);
    place.answers_of_days();
    place.sum();
    assert_eq!(place.summed(), [0, 1, 2]);
    place.answers_of_days();
}

#[test]
fn today_is_not_summed_and_its_logs_leave_the_sums_alone() {
    let mut place = Place::new("today");
    let now = |label| {
        let second = (SystemClock.now().wall.as_micros() - at(0).as_micros()) / 1_000_000;
        log(label, "a", second, Verdict::Up)
    };
    place.write(vec![half(0, 0, "shop", Verdict::Up), now("shop")]);
    place.sum();
    assert_eq!(place.summed(), [0]);
    place.write(vec![now("web")]);
    assert_eq!(place.summed(), [0]);
    place.answers(day(0), day(12));
}

/// Two hours as a consumer adds them, of a day and of the one after it.
fn add_hours(batch: &mut Transaction<'_>, label: &str, nth: i64) {
    let hours = [nth + 1, nth].map(|nth| format!("to_timestamp({})", day(nth).as_micros() / 1_000_000)).join(", ");
    let numbers = "'{1,1}', ".repeat(9);
    let sql = format!(
        "SELECT pingeon.add_hours(ARRAY['{label}', '{label}'], '{{a,a}}', ARRAY[{hours}], {})",
        numbers.trim_end_matches(", ")
    );
    batch.batch_execute(&sql).unwrap();
}

/// How many slots the reports have of a label.
fn slots(place: &mut Place, label: &str) -> u64 {
    place.uptimes(&[label], day(-2), day(12)).iter().map(|uptime| uptime.logs).sum()
}

#[test]
fn a_batch_that_is_not_committed_yet_puts_the_sums_off() {
    let mut place = Place::new("batch_first");
    place.write(vec![half(0, 0, "shop", Verdict::Up)]);
    let mut writer = place.database.connect(WRITER);
    // Also one of the days that last: until it is committed, they may be over.
    for (label, nth) in [("late", 0), ("now", 10)] {
        let mut batch = begin(&mut writer);
        add_hours(&mut batch, label, nth);
        let begun = Instant::now();
        assert!(!place.round(), "{label}: there is nothing that can be done at once");
        assert!(begun.elapsed() < Duration::from_secs(5), "{label}: it waited for {:?}", begun.elapsed());
        assert_eq!(place.summed(), [0; 0], "{label}");
        batch.rollback().unwrap();
    }
    place.sum();
    assert_eq!(place.summed(), [0]);
}

#[test]
fn a_batch_that_is_committed_while_the_sums_wait_is_in_them() {
    let mut place = Place::new("batch_seen");
    place.write(vec![half(0, 0, "shop", Verdict::Up)]);
    // Long enough for the test to see it wait.
    place.database.superuser().batch_execute("ALTER FUNCTION pingeon.sum_day SET lock_timeout = '20s'").unwrap();
    let mut writer = place.database.connect(WRITER);
    let mut batch = begin(&mut writer);
    add_hours(&mut batch, "late", 0);
    let Place { database, keeper, .. } = &mut place;
    thread::scope(|scope| {
        let round = scope.spawn(|| keeper.keep(SystemClock.now().wall).unwrap());
        someone_waits(database);
        batch.commit().unwrap();
        assert!(round.join().unwrap().more);
    });
    place.sum();
    assert_eq!(place.summed(), [0, 1]);
    assert_eq!(slots(&mut place, "late"), 8);
}

#[test]
fn a_batch_that_comes_while_a_day_is_summed_waits_and_takes_the_day_out() {
    let mut place = Place::new("sum_first");
    place.write(vec![half(0, 0, "shop", Verdict::Up), half(1, 0, "shop", Verdict::Up)]);
    let late = vec![half(1, 1, "shop", Verdict::Down), half(3, 1, "shop", Verdict::Down)];
    let mut summing = place.database.connect(WRITER);
    let mut sum = begin(&mut summing);
    assert!(sum.query_one("SELECT pingeon.sum_day('90 days')", &[]).unwrap().get::<_, bool>(0));
    let database = &place.database;
    thread::scope(|scope| {
        let written = scope.spawn(|| write(database, &late));
        someone_waits(database);
        sum.commit().unwrap();
        written.join().unwrap();
    });
    place.logs.extend(late);
    assert_eq!(place.summed(), [0; 0], "the last one, of two, was summed and then taken out");
    place.answers_of_days();
    place.sum();
    assert_eq!(place.summed(), [0, 1, 3]);
    place.answers_of_days();
}

#[test]
fn another_that_is_at_it_is_left_alone() {
    let mut place = Place::new("at_it");
    place.write(vec![half(0, 0, "shop", Verdict::Up), half(1, 0, "shop", Verdict::Up)]);
    let mut summing = place.database.connect(WRITER);
    let mut sum = begin(&mut summing);
    sum.batch_execute("SELECT pingeon.sum_day('90 days')").unwrap();
    let sums = "SELECT pingeon.sum_day('90 days')";
    let mut other = place.database.connect(WRITER);
    let mut second = begin(&mut other);
    assert!(!second.query_one(sums, &[]).unwrap().get::<_, bool>(0));
    second.commit().unwrap();
    sum.rollback().unwrap();
    place.sum();
    assert_eq!(place.summed(), [0, 1]);
}

/// The days are given in one order by one and in the other by the other, while a keeper sums up again what they take out.
#[test]
fn consumers_take_days_out_without_waiting_in_a_circle() {
    let mut place = Place::new("circle");
    let days = || (0..6).map(|nth| half(nth, 0, "shop", Verdict::Up));
    place.write(days().collect());
    let of = |label: &'static str, nth: i64| (0..6).map(move |of| half(of, nth, label, Verdict::Down));
    for nth in 0..8 {
        place.sum();
        assert_eq!(place.summed().len(), 6);
        let (one, other): (Vec<_>, Vec<_>) = (of("a", nth).collect(), of("z", nth).rev().collect());
        let Place { database, keeper, .. } = &mut place;
        thread::scope(|scope| {
            let both = [&one, &other].map(|logs| scope.spawn(|| write(database, logs)));
            assert_eq!(keeper.keep(SystemClock.now().wall).unwrap().fault, None);
            both.into_iter().for_each(|written| written.join().unwrap());
        });
        place.logs.extend(one.into_iter().chain(other));
        place.answers_of_days();
    }
}

#[test]
fn hours_of_which_too_much_is_said_are_cut_in_days_too() {
    let mut place = Place::new("crowded");
    // Half hours that begin ten minutes apart; and more slots in a day than there is room for.
    let ten_later =
        |nth: i64| Log { interval_ms: 1_800_000, ..log("shop", "a", second_of(1) + nth * 600, Verdict::Up) };
    place.write((0..3).map(ten_later).collect());
    place.write((0..2).map(|nth| missed_slots(half(1, nth * 4, "many", Verdict::Missed), 2_000_000_000)).collect());
    place.write(vec![
        half(1, 7, "shop", Verdict::Down),
        half(2, 0, "shop", Verdict::Up),
        half(1, 7, "web", Verdict::Up),
    ]);
    place.sum();
    let crowded = "SELECT label FROM pingeon.day WHERE crowded ORDER BY label";
    let rows = place.database.superuser().query(crowded, &[]).unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>(), ["many", "shop"]);
    place.answers_of_days();
    place.answers(day(2), day(3));
}

#[test]
fn what_is_past_goes_and_no_day_counts_as_summed_that_has_lost_hours() {
    let mut place = Place::new("past");
    place.write((0..8).map(|nth| half(nth, 0, "shop", Verdict::Up)).collect());
    place.sum();
    let mut client = place.database.superuser();
    // So many that they do not go at once.
    let more = "INSERT INTO pingeon.hour SELECT 'label ' || n, 'a', to_timestamp($1::float8), 0, 0, 0, 0, 0, 0, 0, 0, 0
        FROM generate_series(1, 15000) n";
    let second = |nth| day(nth).as_micros() as f64 / 1e6;
    client.execute(more, &[&second(0)]).unwrap();
    let retention =
        "UPDATE pingeon.setting SET value = (now() - to_timestamp($1::float8))::text WHERE name = 'retention'";
    client.execute(retention, &[&(second(4) + 3_600.0)]).unwrap();
    let settings = place.database.settings(WRITER);
    place.keeper = Keeper::new(&pingeon::config::Postgres { retention: Duration::from_secs(60), ..settings });
    assert!(place.round(), "there are hours left to delete");
    assert_eq!(place.summed(), [4, 5, 6, 7]);
    place.sum();
    assert_eq!(place.summed(), [4, 5, 6, 7]);
    let left = "SELECT count(*), min(day) = to_timestamp($1::float8) FROM pingeon.day";
    let row = client.query_one(left, &[&second(4)]).unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1)), (4, true));
    place.logs.retain(|log| log.due_at >= day(4));
    place.answers_of_days();
}

#[test]
fn who_would_not_see_what_others_committed_is_refused() {
    let place = Place::new("isolation");
    let mut client = place.database.connect(WRITER);
    let now = "SELECT pingeon.add_hours('{shop}', '{a}', ARRAY[now()], '{1}', '{1}', '{1}', '{1}', '{1}', '{1}', '{1}', '{1}', '{1}')";
    for sql in [now, "SELECT pingeon.sum_day('90 days')"] {
        let refused = client.batch_execute(sql).unwrap_err();
        assert_eq!(refused.code(), Some(&SqlState::INVALID_TRANSACTION_STATE), "{sql}");
        let mut batch = begin(&mut client);
        batch.batch_execute(sql).unwrap();
        batch.commit().unwrap();
    }
}
