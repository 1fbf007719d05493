//! The days of a store: made ahead, and dropped when they are past, while others write and read.

use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use pingeon::clock::{Clock as _, SystemClock};
use pingeon::config;
use pingeon::flow::Fault;
use pingeon::store::postgres::Keeper;
use pingeon::store::{Condition, Keep as _, Kept};
use postgres::Client;
use postgres::error::SqlState;

use crate::load;
use crate::running::wait_for;
use crate::server::{Database, shared};

const WRITER: &str = "pingeon_writer";
const DAY: Duration = Duration::from_secs(86_400);
/// An insert that waits for longer than this is held up: a drop may wait a tenth of a second for its lock. The rest is for a
/// machine that is busy with other tests.
const HELD_UP: Duration = Duration::from_millis(500);

/// A store that keeps logs for two days.
fn store(about: &str) -> (Database, Keeper) {
    let database = shared().database(about).migrated();
    database.superuser().batch_execute("UPDATE pingeon.setting SET value = '2 days' WHERE name = 'retention'").unwrap();
    let keeper = keeper(&database);
    (database, keeper)
}

fn keeper(database: &Database) -> Keeper {
    Keeper::new(&config::Postgres { retention: 2 * DAY, ..database.settings(WRITER) })
}

fn round(keeper: &mut Keeper) -> Result<Kept, Fault> {
    keeper.keep(SystemClock.now().wall)
}

/// One that nothing fails of.
fn whole_round(keeper: &mut Keeper) -> Kept {
    let kept = round(keeper).unwrap();
    assert_eq!(kept.fault, None);
    kept
}

/// Rounds until there is no more to do; what was dropped.
fn tidy(keeper: &mut Keeper) -> (Vec<String>, Condition) {
    let mut dropped = Vec::new();
    for _ in 0..100 {
        let kept = whole_round(keeper);
        dropped.extend(kept.dropped);
        if !kept.more {
            return (dropped, kept.condition);
        }
    }
    panic!("there is always more to do: {dropped:?}");
}

/// The day so many days from today, as `2026-08-28`.
fn day(client: &mut Client, offset: i32) -> String {
    let sql = "SELECT to_char((now() AT TIME ZONE 'UTC')::date + $1::int, 'YYYY-MM-DD')";
    client.query_one(sql, &[&offset]).unwrap().get(0)
}

/// Makes days from so many days ago on, as if the consumer had run then.
fn past_days(client: &mut Client, from: i32, to: i32) {
    let sql = "SELECT pingeon.make_days(ARRAY(SELECT (now() AT TIME ZONE 'UTC')::date + n FROM generate_series($1::int, $2) n), '60 days')";
    client.query(sql, &[&from, &to]).unwrap();
}

const INSERT: &str = "INSERT INTO pingeon.log (uid, agent, boot, seq, label, kind, target, due_at, interval_ms, verdict, result)
    SELECT (lpad(to_hex(floor(extract(epoch FROM now()) * 1000)::bigint), 12, '0') || '70008' || lpad(to_hex($1::bigint), 15, '0'))::uuid,
        'edge-01', '01930000-0000-7000-8000-000000000001', $1, 'shop', 'http', 'https://shop.example.com', now(), 10000, 'up', '{}'";

/// Inserts one log after another while `meanwhile` runs; how many that were, and how long the slowest took.
fn inserts_during(database: &Database, meanwhile: impl FnOnce()) -> (i64, Duration) {
    load::during(meanwhile, |over| {
        let mut client = database.connect(WRITER);
        let insert = client.prepare(INSERT).unwrap();
        let (mut count, mut slowest) = (0, Duration::ZERO);
        while !over.load(Relaxed) {
            let begin = Instant::now();
            client.execute(&insert, &[&count]).unwrap();
            slowest = slowest.max(begin.elapsed());
            count += 1;
        }
        (count, slowest)
    })
}

#[test]
fn days_are_made_ahead_and_the_figures_say_so() {
    let (database, mut keeper) = store("ahead");
    let (dropped, condition) = tidy(&mut keeper);
    let mut client = database.superuser();
    assert_eq!(dropped, Vec::<String>::new());
    let retained_at = condition.retained_at.expect("the retention has run");
    assert!(SystemClock.now().wall.since(retained_at) < Duration::from_secs(60), "{retained_at:?}");
    let expected = Condition {
        days_ahead: Some(4),
        oldest_day: Some(day(&mut client, 0)),
        newest_day: Some(day(&mut client, 4)),
        rejected: Some(0),
        retained_at: condition.retained_at,
    };
    assert_eq!(condition, expected);
    let reject = "INSERT INTO pingeon.rejected (origin, reason, bytes) VALUES ('logs/0@1', 'no log', 'x'), ('logs/0@2', 'no log', 'x')";
    client.batch_execute(reject).unwrap();
    assert_eq!(round(&mut keeper).unwrap().condition.rejected, Some(2));
}

/// The server's own time zone is half an hour off.
#[test]
fn a_day_is_from_midnight_to_midnight_utc() {
    let (database, mut keeper) = store("midnight");
    tidy(&mut keeper);
    let mut client = database.superuser();
    for (nth, offset) in ["0", "23:59:59.999", "24:00"].iter().enumerate() {
        let at = format!("date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + interval '{offset}'");
        let sql = INSERT.replace("now()", &at).replace("$1", &(nth + 1).to_string());
        client.batch_execute(&sql).unwrap_or_else(|error| panic!("{offset}: {error:?}"));
    }
    let parts = "SELECT tableoid::regclass::text FROM pingeon.log ORDER BY seq";
    let parts: Vec<String> = client.query(parts, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    let part = |offset| format!("pingeon.log_p{}", day(&mut database.superuser(), offset).replace('-', ""));
    assert_eq!(parts, [part(0), part(0), part(1)]);
}

#[test]
fn days_are_made_while_others_insert() {
    let (database, mut keeper) = store("concurrent");
    past_days(&mut database.superuser(), 0, 0);
    // Inserts under way that do not end: an exclusive lock would wait for them, and all others behind it.
    let mut under_way = database.connect(WRITER);
    let mut insert = under_way.transaction().unwrap();
    insert.execute(INSERT, &[&999_999_i64]).unwrap();
    let (count, slowest) = inserts_during(&database, || {
        let begin = Instant::now();
        let made = whole_round(&mut keeper);
        assert_eq!(made.condition.days_ahead, Some(4));
        assert!(begin.elapsed() < Duration::from_secs(5), "it waited for the inserts: {:?}", begin.elapsed());
    });
    assert!(count > 0 && slowest < HELD_UP, "{count} inserts, the slowest took {slowest:?}");
    insert.rollback().unwrap();
}

#[test]
fn what_is_past_goes_and_the_rest_stays() {
    let (database, mut keeper) = store("past");
    let mut client = database.superuser();
    past_days(&mut client, -5, 0);
    client.batch_execute(
        "INSERT INTO pingeon.hour SELECT 'label ' || n, 'edge-01', date_trunc('hour', now()) - interval '1 day' * (n % 8), 0, 0, 0, 0, 0, 0, 0, 0, 0
            FROM generate_series(1, 40000) n;
         INSERT INTO pingeon.rejected (at, origin, reason, bytes)
            SELECT now() - interval '1 day' * (8 - n / 5000), 'logs/0@' || n, 'no log', 'x' FROM generate_series(0, 39999) n;
         INSERT INTO pingeon.duplicate
            SELECT 'edge-' || n, '01930000-0000-7000-8000-000000000001', 1, 1, now() - interval '1 day' * (n % 8) FROM generate_series(1, 800) n",
    )
    .unwrap();
    let (dropped, condition) = tidy(&mut keeper);
    assert_eq!(dropped, [-5, -4, -3].map(|offset| day(&mut client, offset)));
    assert_eq!(condition.oldest_day, Some(day(&mut client, -2)));
    let left = "SELECT (SELECT count(*) FROM pingeon.hour), (SELECT count(*) FROM pingeon.hour WHERE hour < (now() - interval '3 days')),
        (SELECT count(*) FROM pingeon.rejected), (SELECT count(*) FROM pingeon.rejected WHERE at < now() - interval '3 days'),
        (SELECT count(*) FROM pingeon.duplicate), (SELECT count(*) FROM pingeon.duplicate WHERE at < now() - interval '3 days')";
    let row = client.query_one(left, &[]).unwrap();
    let numbers: Vec<i64> = (0..6).map(|nth| row.get(nth)).collect();
    // Of eight days, today and the two before it; what was two days ago is kept to the beginning of that day.
    assert_eq!(numbers, [15_000, 0, 10_000, 0, 300, 0]);
    assert_eq!(condition.rejected, Some(10_000));
}

#[test]
fn a_consumer_drops_nothing_that_the_owner_keeps() {
    let (database, mut keeper) = store("owner");
    past_days(&mut database.superuser(), -3, 0);
    let mut client = database.connect(WRITER);
    let mut drop_day = |kept: &str| -> Option<String> {
        let sql = "SELECT to_char(pingeon.drop_day($1::text::interval), 'YYYY-MM-DD')";
        client.query_one(sql, &[&kept]).unwrap().get(0)
    };
    // What a consumer wants kept for longer, it does not drop either.
    assert_eq!(drop_day("3 days"), None);
    let past = day(&mut database.superuser(), -3);
    assert_eq!(drop_day("2 days"), Some(past));
    for shorter in ["2 days", "1 hour", "0", "-1000 days"] {
        assert_eq!(drop_day(shorter), None, "{shorter}");
    }
    assert_eq!(tidy(&mut keeper).1.oldest_day, Some(day(&mut database.superuser(), -2)));
}

#[test]
fn a_reader_puts_the_drop_off_and_inserts_go_on() {
    let (database, mut keeper) = store("reader");
    let mut client = database.superuser();
    past_days(&mut client, -4, 0);
    let past = day(&mut client, -4);
    let mut reader = database.connect("pingeon_reader");
    let mut report = reader.transaction().unwrap();
    report.batch_execute("SELECT count(*) FROM pingeon.log").unwrap();
    let (count, slowest) = inserts_during(&database, || {
        let begin = Instant::now();
        let kept = round(&mut keeper).unwrap();
        let took = begin.elapsed();
        let Some(Fault::Retry(reason)) = kept.fault else { panic!("{kept:?}") };
        assert!(reason.contains("somebody has been reading for longer than two seconds"), "{reason}");
        assert_eq!(kept.condition.oldest_day, Some(past.clone()), "nobody asked how the store stands");
        assert!(Duration::from_millis(1_500) < took && took < Duration::from_secs(5), "gave up after {took:?}");
    });
    assert!(count > 20 && slowest < HELD_UP, "{count} inserts, the slowest took {slowest:?}");
    let begin = Instant::now();
    assert!(round(&mut keeper).unwrap().fault.is_some(), "the reader is still there");
    assert!(begin.elapsed() < Duration::from_secs(5));
    report.commit().unwrap();
    let (dropped, condition) = tidy(&mut keeper);
    assert_eq!(dropped, [past, day(&mut client, -3)]);
    assert!(condition.retained_at.is_some());
}

/// As on a full disk, which only a drop makes room on.
#[test]
fn a_round_that_can_make_no_days_does_all_else() {
    let (database, mut keeper) = store("no_days");
    let mut client = database.superuser();
    past_days(&mut client, -3, 0);
    let (past, today) = (day(&mut client, -3), day(&mut client, 0));
    client.batch_execute(
        "CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql
            AS $$BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END$$;
         CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.refuse();
         INSERT INTO pingeon.rejected (at, origin, reason, bytes) VALUES (now() - interval '5 days', 'logs/0@1', 'no log', 'x')",
    )
    .unwrap();
    let kept = round(&mut keeper).unwrap();
    let Some(Fault::Retry(reason)) = &kept.fault else { panic!("{kept:?}") };
    assert!(reason.contains("no room (SQLSTATE 53100)"), "{reason}");
    assert_eq!(kept.dropped, [past]);
    let condition = kept.condition;
    assert_eq!((condition.newest_day, condition.days_ahead, condition.rejected), (Some(today), Some(0), Some(0)));
}

/// Who may connect may hold advisory locks, for as long as it likes; those that a store needs, only its owner's functions take.
#[test]
fn no_lock_of_a_stranger_is_in_the_way() {
    let (database, mut keeper) = store("stranger");
    let mut client = database.superuser();
    past_days(&mut client, -3, -3);
    let mut reader = database.connect("pingeon_reader");
    let mut locks = reader.transaction().unwrap();
    locks.batch_execute("SELECT pg_advisory_lock(hashtext('pingeon'), hashtext('days'))").unwrap();
    for table in ["log", "hour", "rejected", "duplicate", "setting", "migration"] {
        for mode in ["SHARE ROW EXCLUSIVE", "EXCLUSIVE"] {
            let mut attempt = locks.transaction().unwrap();
            let refused = attempt.batch_execute(&format!("LOCK TABLE pingeon.{table} IN {mode} MODE")).unwrap_err();
            assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{table} {mode}");
        }
    }
    let kept = whole_round(&mut keeper);
    assert_eq!((kept.dropped, kept.condition.days_ahead), (vec![day(&mut client, -3)], Some(4)));
}

#[test]
fn while_one_makes_days_another_drops_none_and_does_not_wait() {
    let (database, mut keeper) = store("one_at_a_time");
    let mut client = database.superuser();
    past_days(&mut client, -3, 4);
    let mut other = database.connect(WRITER);
    let mut making = other.transaction().unwrap();
    let new = "SELECT pingeon.make_days(ARRAY[(now() AT TIME ZONE 'UTC')::date + 5], '2 days')";
    assert_eq!(making.query_one(new, &[]).unwrap().get::<_, i32>(0), 1);
    let begin = Instant::now();
    let drop_day = "SELECT pingeon.drop_day('2 days') IS NULL";
    assert!(database.connect(WRITER).query_one(drop_day, &[]).unwrap().get::<_, bool>(0));
    assert!(begin.elapsed() < Duration::from_secs(1), "it waited: {:?}", begin.elapsed());
    making.commit().unwrap();
    assert_eq!(tidy(&mut keeper).0, [day(&mut client, -3)]);
}

#[test]
fn two_keepers_at_once_share_the_work() {
    let (database, _) = store("two_keepers");
    let mut client = database.superuser();
    past_days(&mut client, -20, 0);
    let dropped = thread::scope(|scope| {
        let run = || tidy_patiently(&mut keeper(&database));
        let both = [scope.spawn(run), scope.spawn(run)];
        let mut dropped = both.map(|one| one.join().unwrap()).concat();
        dropped.sort();
        dropped
    });
    let expected: Vec<String> = (-20..-2).map(|offset| day(&mut client, offset)).collect();
    assert_eq!(dropped, expected);
}

/// As [`tidy`], for one that has to wait for another.
fn tidy_patiently(keeper: &mut Keeper) -> Vec<String> {
    let mut dropped = Vec::new();
    wait_for("nothing more to be left to do", || {
        let kept = whole_round(keeper);
        dropped.extend(kept.dropped);
        (!kept.more).then_some(())
    });
    dropped
}

#[test]
fn keepers_make_the_same_days_at_once() {
    let (database, _) = store("same_days");
    thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| whole_round(&mut keeper(&database)))).collect();
        for run in runs {
            assert_eq!(run.join().unwrap().condition.days_ahead, Some(4));
        }
    });
}
