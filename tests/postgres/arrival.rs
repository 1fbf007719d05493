//! What becomes of batches in the store: each log is kept once, however often it comes and whoever brings it, and what cannot be
//! kept is set aside alone.

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use pingeon::check::Verdict;
use pingeon::clock::{Clock as _, SimulatedClock, SystemClock, Timestamp};
use pingeon::config::{self, Prepared};
use pingeon::flow::{Batch, Delivered, Fault, Sink as _, Unreadable};
use pingeon::logs::{Cause, Log, Missed};
use pingeon::store::postgres::Postgres;
use serde_json::json;

use crate::fleet::{Agent, Fleet, Holdings, Rejected, fields};
use crate::pooler::Pooler;
use crate::running::wait_for;
use crate::server::{Database, Server, WITHOUT_STANDBY, ours, settings, shared};

const WRITER: &str = "pingeon_writer";
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

fn sink(database: &Database) -> Postgres {
    sink_at(database, SystemClock.now().wall)
}

/// On a machine whose clock stands at `wall`.
fn sink_at(database: &Database, wall: Timestamp) -> Postgres {
    Postgres::new(&database.settings(WRITER), Arc::new(SimulatedClock::at(wall)))
}

fn batch(logs: &[Log]) -> Batch {
    Batch { logs: logs.to_vec(), ..Batch::default() }
}

fn kept(new: usize, duplicate: usize) -> Delivered {
    Delivered { new, duplicate, ..Delivered::default() }
}

/// Makes the days that the fleet's logs were due in, as the keeper does.
fn make_days(database: &Database) {
    let sql = "SELECT pingeon.make_days(ARRAY(SELECT (now() AT TIME ZONE 'UTC')::date + n FROM generate_series(-1, 1) n), '1 day')";
    database.superuser().batch_execute(sql).unwrap();
}

#[test]
fn what_comes_again_adds_nothing_and_is_counted() {
    let database = shared().database("again").migrated();
    let (mut sink, mut store) = (sink(&database), Holdings::of(&database));
    let logs = Fleet::new().logs(1_000);
    let (first, later) = logs.split_at(900);
    for some in first.chunks(300) {
        assert_eq!(sink.deliver(&batch(some)), Ok(kept(300, 0)));
    }
    store.are(first);
    assert_eq!(store.duplicates(), 0);
    // All of it, cut otherwise.
    for some in first.chunks(225) {
        assert_eq!(sink.deliver(&batch(some)), Ok(kept(0, 225)));
    }
    store.are(first);
    assert_eq!(store.duplicates(), 900);
    // Old and new in turns.
    let mixed: Vec<Log> = first.iter().rev().zip(later).flat_map(|(old, new)| [old.clone(), new.clone()]).collect();
    assert_eq!(sink.deliver(&batch(&mixed)), Ok(kept(100, 100)));
    store.are(&logs);
    assert_eq!(store.duplicates(), 1_000);
}

#[test]
fn what_is_twice_in_one_batch_is_kept_once_and_counted() {
    let database = shared().database("twice").migrated();
    let (mut sink, mut store) = (sink(&database), Holdings::of(&database));
    let logs = Fleet::new().logs(200);
    assert_eq!(sink.deliver(&batch(&[&logs[..], &logs[..]].concat())), Ok(kept(200, 200)));
    store.are(&logs);
    assert_eq!(store.duplicates(), 200);
    assert_eq!(sink.deliver(&batch(&[&logs[..], &logs[..]].concat())), Ok(kept(0, 400)));
    store.are(&logs);
    assert_eq!(store.duplicates(), 600);
}

/// The server has committed and dies before it says so: it waits for a standby that does not exist.
#[test]
fn a_commit_whose_answer_was_lost_is_found_when_it_comes_again() {
    let mut server = Server::alone_with(&WITHOUT_STANDBY);
    let database = server.database("lost").migrated();
    let logs = Fleet::new().logs(300);
    make_days(&database);
    server.falls_silent();
    let mut sink = sink(&database);
    let fault = thread::scope(|scope| {
        let delivery = scope.spawn(|| sink.deliver(&batch(&logs)));
        server.owes_answers(1);
        server.restart_immediate();
        delivery.join().unwrap().unwrap_err()
    });
    assert!(matches!(fault, Fault::Retry(_)), "{fault:?}");
    assert_eq!(sink.deliver(&batch(&logs)), Ok(kept(0, 300)));
    let mut store = Holdings::of(&database);
    store.are(&logs);
    assert_eq!(store.duplicates(), 300);
}

/// As after a rebalance, when another consumer has what one still works on. Who takes the rows as they come is stopped half way
/// by a row that a third one holds, and then has what the other wants.
#[test]
fn two_with_the_same_rows_in_opposite_order_do_not_wait_in_a_circle() {
    let database = shared().database("opposite").migrated();
    make_days(&database);
    let forth = Fleet::new().logs(300);
    let (back, mut third) = (forth.iter().rev().cloned().collect::<Vec<_>>(), database.superuser());
    let mut held = third.transaction().unwrap();
    let hold =
        "INSERT INTO pingeon.log (uid, agent, boot, seq, label, kind, target, due_at, interval_ms, verdict, result)
        SELECT $1::text::uuid, 'x', $1::text::uuid, 1, 'x', 'x', '', pingeon.uid_time($1::text::uuid), 1, 'up', '{}'";
    held.execute(hold, &[&forth[150].uid.to_string()]).unwrap();
    let mut store = Holdings::of(&database);
    let both = thread::scope(|scope| {
        let both = [&forth, &back].map(|logs| scope.spawn(|| sink(&database).deliver(&batch(logs)).unwrap()));
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'transactionid'";
        wait_for("both to wait", || (store.number(waiting) == 2).then_some(()));
        held.rollback().unwrap();
        both.map(|one| one.join().unwrap())
    });
    assert!([[kept(300, 0), kept(0, 300)], [kept(0, 300), kept(300, 0)]].contains(&both), "{both:?}");
    store.are(&forth);
    assert_eq!(deadlocks(&mut store), 0);
}

/// How often two waited in a circle, once all who wrote are gone: their figures come with their end.
fn deadlocks(store: &mut Holdings) -> i64 {
    let writers =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'pingeon_writer'";
    wait_for("the writers to be gone", || (store.number(writers) == 0).then_some(()));
    store.number("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
}

#[test]
fn what_two_have_at_once_is_new_for_one_and_a_duplicate_for_the_other() {
    const ROUNDS: usize = 20;
    const OF_A_ROUND: usize = 240;
    let database = shared().database("at_once").migrated();
    let logs = Fleet::new().logs(ROUNDS * OF_A_ROUND);
    let start = Barrier::new(2);
    let carry = |backwards: bool| {
        let (mut sink, mut sum, mut faults) = (sink(&database), kept(0, 0), Vec::new());
        for (nth, round) in logs.chunks(OF_A_ROUND).enumerate() {
            let mut round = round.to_vec();
            if backwards {
                round.reverse();
            }
            start.wait();
            for some in round.chunks(OF_A_ROUND / [1, 2, 3, 4][nth % 4]) {
                match sink.deliver(&batch(some)) {
                    Ok(delivered) => sum = kept(sum.new + delivered.new, sum.duplicate + delivered.duplicate),
                    // Not at once the end: the other one waits for the next round.
                    Err(fault) => faults.push(fault),
                }
            }
        }
        assert_eq!(faults, []);
        sum
    };
    let both = thread::scope(|scope| {
        let both = [false, true].map(|backwards| scope.spawn(move || carry(backwards)));
        both.map(|one| one.join().unwrap())
    });
    let sum = |of: fn(&Delivered) -> usize| both.iter().map(of).sum::<usize>();
    assert_eq!((sum(|one| one.new), sum(|one| one.duplicate)), (logs.len(), logs.len()), "{both:?}");
    let mut store = Holdings::of(&database);
    store.are(&logs);
    assert_eq!(store.duplicates(), i64::try_from(logs.len()).unwrap());
    assert_eq!(deadlocks(&mut store), 0);
}

/// Rows that the server refuses, by the name of their kind: of our own schema only jsonb and text do.
const REFUSALS: &str = "
    ALTER TABLE pingeon.log
        ADD CONSTRAINT number CHECK (kind <> 'number' OR target::integer > 0),
        ADD CONSTRAINT day CHECK (kind <> 'day' OR target::date IS NOT NULL),
        ADD CONSTRAINT json CHECK (kind <> 'json' OR reason::json IS NOT NULL);
    CREATE INDEX ON pingeon.log (reason);
    CREATE FUNCTION public.no_target() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.target := NULL; RETURN NEW; END';
    CREATE TRIGGER no_target BEFORE INSERT ON pingeon.log FOR EACH ROW WHEN (NEW.kind = 'no target')
        EXECUTE FUNCTION public.no_target()";

/// SQLSTATE, what its reason has, and what makes a log such a one.
type Poison = (&'static str, &'static str, fn(Log) -> Log);

const POISONS: [Poison; 12] = [
    ("22P05", "unsupported Unicode escape sequence", |log| Log { result: fields(json!({"body": "\0"})), ..log }),
    ("22P05", "unsupported Unicode escape sequence", |log| Log { unknown_fields: fields(json!({"\0": 1})), ..log }),
    ("22021", "invalid byte sequence for encoding \"UTF8\": 0x00", |log| Log { target: "a\0b".into(), ..log }),
    ("22021", "invalid byte sequence for encoding \"UTF8\": 0x00", |log| Log { agent: "edge\0".into(), ..log }),
    ("22P02", "invalid input syntax for type integer: \"one\"", |log| of_kind("number", "one", log)),
    ("22003", "value \"9999999999\" is out of range for type integer", |log| of_kind("number", "9999999999", log)),
    ("22008", "date/time field value out of range: \"2026-13-01\"", |log| of_kind("day", "2026-13-01", log)),
    ("23502", "null value in column \"target\"", |log| of_kind("no target", "", log)),
    ("23514", "violates check constraint \"number\"", |log| of_kind("number", "-1", log)),
    ("23514", "violates check constraint \"log_label_check\"", |log| Log { label: "x".repeat(201).into(), ..log }),
    ("54001", "stack depth limit exceeded", |log| Log {
        reason: Some("[".repeat(50_000).into()),
        ..of_kind("json", "", log)
    }),
    ("54000", "index row requires", |log| Log { reason: Some(noise(20_000).into()), ..log }),
];

fn of_kind(kind: &str, target: &str, log: Log) -> Log {
    Log { kind: kind.into(), target: target.into(), ..log }
}

/// Text that cannot be made shorter.
fn noise(characters: usize) -> String {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + u8::try_from((state >> 33) % 95).unwrap())
    };
    (0..characters).map(|_| next()).collect()
}

/// A store with those refusals.
fn refusing(about: &str) -> (Database, Holdings) {
    let database = shared().database(about).migrated();
    database.superuser().batch_execute(REFUSALS).unwrap();
    make_days(&database);
    let store = Holdings::of(&database);
    (database, store)
}

/// What was set aside is this log, for this reason.
fn set_aside(rejected: &Rejected, log: &Log, (sqlstate, reason, _): &Poison) {
    assert_eq!(rejected.sqlstate.as_deref(), Some(*sqlstate), "{rejected:?}");
    assert!(rejected.reason.contains(reason), "{sqlstate}: {}", rejected.reason);
    assert_eq!((rejected.seq, &rejected.bytes), (i64::try_from(log.seq).unwrap(), &log.to_json()), "{sqlstate}");
}

#[test]
fn what_the_server_refuses_is_set_aside_and_all_else_is_kept() {
    let (database, mut store) = refusing("poison");
    let (mut sink, mut agent) = (sink(&database), Agent::new("edge-01"));
    let mut stored = Vec::new();
    for (nth, poison) in POISONS.iter().enumerate() {
        let mut logs = agent.logs(1_000);
        // The first, the last, and between.
        let at = nth * 999 / (POISONS.len() - 1);
        logs[at] = (poison.2)(logs[at].clone());
        assert_eq!(sink.deliver(&batch(&logs)), Ok(Delivered { rejected: 1, ..kept(999, 0) }), "{}", poison.0);
        set_aside(store.rejected().last().unwrap(), &logs[at], poison);
        assert_eq!(store.rejected().len(), nth + 1);
        logs.remove(at);
        stored.append(&mut logs);
    }
    store.are(&stored);
    assert_eq!(store.duplicates(), 0);
}

#[test]
fn all_that_the_server_refuses_may_be_in_one_batch() {
    let (database, mut store) = refusing("poisons");
    let (mut sink, mut agent) = (sink(&database), Agent::new("edge-01"));
    let (mut logs, mut poisons) = (agent.logs(1_000), Vec::new());
    for (nth, poison) in POISONS.iter().enumerate() {
        // Two side by side, too.
        let at = nth / 2 * 150 + nth % 2;
        logs[at] = (poison.2)(logs[at].clone());
        poisons.push(logs[at].clone());
    }
    let delivered = Delivered { rejected: POISONS.len(), ..kept(1_000 - POISONS.len(), 0) };
    assert_eq!(sink.deliver(&batch(&logs)), Ok(delivered));
    // Nor is any set aside twice.
    assert_eq!(sink.deliver(&batch(&logs)), Ok(kept(0, 1_000)));
    logs.retain(|log| !poisons.contains(log));
    store.are(&logs);
    assert_eq!(store.duplicates(), i64::try_from(logs.len()).unwrap());
    for ((rejected, log), poison) in store.rejected().iter().zip(&poisons).zip(&POISONS) {
        set_aside(rejected, log, poison);
    }
    assert_eq!(store.rejected().len(), POISONS.len());
}

/// What is refused for itself is found before it is seen that the day of all others is missing.
#[test]
fn one_that_is_refused_on_a_new_day_takes_no_other_with_it() {
    let database = shared().database("new_day").migrated();
    let mut logs = Agent::new("edge-01").logs(100);
    logs[50] = POISONS[0].2(logs[50].clone());
    assert_eq!(sink(&database).deliver(&batch(&logs)), Ok(Delivered { rejected: 1, ..kept(99, 0) }));
    let mut store = Holdings::of(&database);
    set_aside(&store.rejected()[0], &logs.remove(50), &POISONS[0]);
    store.are(&logs);
}

#[test]
fn days_that_are_missing_are_made() {
    let database = shared().database("days").migrated();
    let (mut sink, mut agent) = (sink(&database), Agent::new("edge-01"));
    let now = SystemClock.now().wall;
    // From the first of the retention to the last that a log may be ahead.
    let dues = [now.minus(90 * DAY - HOUR), now.minus(40 * DAY), now.minus(DAY), now, now.plus(DAY - HOUR)];
    let logs = dues.map(|due_at| agent.due(due_at));
    let mut store = Holdings::of(&database);
    assert_eq!(store.number("SELECT count(*) FROM pingeon.days()"), 0);
    assert_eq!(sink.deliver(&batch(&logs)), Ok(kept(5, 0)));
    store.are(&logs);
    // An hour before the same time tomorrow may still be today.
    let days = dues.map(|due_at| due_at.as_micros() / 86_400_000_000).into_iter().collect::<BTreeSet<_>>().len();
    assert_eq!(store.number("SELECT count(*) FROM pingeon.days()"), i64::try_from(days).unwrap());
}

#[test]
fn what_is_too_old_or_too_new_is_set_aside_and_makes_no_days() {
    let database = shared().database("outside").migrated();
    let (mut sink, mut agent) = (sink(&database), Agent::new("edge-01"));
    let now = SystemClock.now().wall;
    let mut logs = agent.logs(10);
    let [old, new, other] = [now.minus(90 * DAY + HOUR), now.plus(DAY + HOUR), now].map(|due_at| agent.due(due_at));
    // Whoever looks for it by its time would not find it.
    let other = Log { due_at: now.minus(HOUR), ..other };
    // It ends within what is kept; no store has a place for its beginning.
    let missed = Missed { cause: Cause::AgentOff, slots: 2, last_due_at: now };
    let result = fields(serde_json::to_value(missed).unwrap());
    let reaches = Log { verdict: Verdict::Missed, result, ..agent.due(now.minus(91 * DAY)) };
    let no_label = Log { label: "a\0b".into(), ..agent.due(now) };
    let outside = [old, new, other, reaches, no_label];
    logs.splice(5..5, outside.clone());
    assert_eq!(sink.deliver(&batch(&logs)), Ok(Delivered { rejected: 5, ..kept(10, 0) }));
    let mut store = Holdings::of(&database);
    let reasons = [
        "older than the retention",
        "more than a day ahead of this machine's clock",
        "the uid has another time than `due_at`",
        "older than the retention",
        "the label holds a NUL, which not every store can keep",
    ];
    let expected = reasons.iter().zip(&outside).map(|(reason, log)| Rejected {
        seq: i64::try_from(log.seq).unwrap(),
        sqlstate: None,
        reason: (*reason).to_owned(),
        bytes: log.to_json(),
    });
    assert_eq!(store.rejected(), expected.collect::<Vec<_>>());
    store.are(logs.iter().filter(|log| !outside.contains(log)));
    let foreign = "SELECT count(*) FROM pingeon.days() WHERE abs(days - (now() AT TIME ZONE 'UTC')::date) > 1";
    assert_eq!(store.number(foreign), 0);
}

/// The offset is committed as soon as the server says that it has the logs: then they are on its disk, whatever is set for others.
/// What is safe enough stays as its owner has set it.
#[test]
fn logs_are_on_disk_before_they_are_said_to_be_kept() {
    for (set, expected) in [("off", "on"), ("local", "local"), ("remote_write", "remote_write"), ("on", "on")] {
        let database = ours().database("disk").migrated();
        let record = format!(
            "ALTER DATABASE {} SET synchronous_commit = {set};
             CREATE TABLE public.seen (how text);
             CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
                AS $$BEGIN INSERT INTO public.seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END$$;
             CREATE TRIGGER see AFTER INSERT ON pingeon.log EXECUTE FUNCTION public.see()",
            database.name()
        );
        database.superuser().batch_execute(&record).unwrap();
        make_days(&database);
        let pooler = Pooler::start(ours(), &[WRITER]);
        for url in [database.url(WRITER), pooler.url(&database, WRITER)] {
            let mut sink = Postgres::new(&settings(&url), Arc::new(SystemClock));
            for _ in 0..2 {
                assert_eq!(sink.deliver(&batch(&Agent::new("edge-01").logs(10))), Ok(kept(10, 0)), "{set} {url}");
            }
        }
        let seen: Vec<String> = database
            .superuser()
            .query("SELECT how FROM public.seen", &[])
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert_eq!(seen, [expected; 4], "{set}");
        // What the transaction has set ends with it.
        let after = "SELECT current_setting('synchronous_commit')";
        let row = postgres::Client::connect(&pooler.url(&database, WRITER), postgres::NoTls)
            .unwrap()
            .query_typed_one(after, &[]);
        assert_eq!(row.unwrap().get::<_, String>(0), set);
    }
}

/// A statement that was prepared before gives another type of answer now. That is no pooler's doing: with names, it happens again.
#[test]
fn statements_are_prepared_anew_where_their_answer_has_changed() {
    let database = shared().database("answer").migrated();
    make_days(&database);
    let (mut sink, mut agent) = (sink(&database), Agent::new("edge-01"));
    assert_eq!(sink.deliver(&batch(&agent.logs(10))), Ok(kept(10, 0)));
    for answer in ["boolean", "integer"] {
        // A new schema makes the server look again at what was prepared.
        let other = format!(
            "DROP FUNCTION pingeon.add_hours; CREATE SCHEMA for_{answer};
             CREATE FUNCTION pingeon.add_hours(text[], text[], timestamptz[], integer[], integer[], integer[], integer[], integer[],
                integer[], integer[], integer[], numeric[]) RETURNS {answer} LANGUAGE sql AS 'SELECT NULL::{answer}'"
        );
        database.superuser().batch_execute(&other).unwrap();
        let logs = agent.logs(10);
        let fault = sink.deliver(&batch(&logs)).unwrap_err();
        let Fault::Retry(reason) = &fault else { panic!("{fault:?}") };
        assert!(reason.contains("cached plan must not change result type"), "{answer}: {reason}");
        assert_eq!(sink.deliver(&batch(&logs)), Ok(kept(10, 0)), "{answer}");
    }
}

#[test]
fn what_is_no_log_is_set_aside_once_with_where_it_came_from() {
    let database = shared().database("no_log").migrated();
    let (mut sink, logs) = (sink(&database), Fleet::new().logs(10));
    let unreadable = |origin: &str, bytes: &[u8]| Unreadable {
        bytes: bytes.to_vec(),
        origin: origin.to_owned(),
        reason: "no log\0".to_owned(),
    };
    // One is longer than what is kept of it, and one came to two places.
    let long = vec![b'x'; 70_000];
    let unreadable = vec![
        unreadable("logs/0@1", b"\0\xff"),
        unreadable("logs/0@2", &long),
        unreadable("logs/1@1", b"same"),
        unreadable("logs/1@2", b"same"),
    ];
    let batch = Batch { logs, unreadable, ..Batch::default() };
    assert_eq!(sink.deliver(&batch), Ok(Delivered { rejected: 4, ..kept(10, 0) }));
    assert_eq!(sink.deliver(&batch), Ok(kept(0, 14)));
    let mut store = Holdings::of(&database);
    let rejected = "SELECT concat_ws(' ', origin, reason, octet_length(bytes), left(encode(bytes, 'hex'), 8)) FROM pingeon.rejected
        WHERE num_nulls(sqlstate, agent, boot, seq) = 4 ORDER BY origin";
    let expected = [
        "0@1 no log\u{fffd} 2 00ff",
        "0@2 no log\u{fffd} 65536 78787878",
        "1@1 no log\u{fffd} 4 73616d65",
        "1@2 no log\u{fffd} 4 73616d65",
    ];
    assert_eq!(store.texts(rejected), expected.map(|line| format!("logs/{line}")));
    store.are(&batch.logs);
}

/// The clock of the consumer's machine is wrong, and the server's is not.
#[test]
fn what_lies_in_a_day_that_the_server_does_not_make_is_set_aside() {
    let now = SystemClock.now().wall;
    for (about, wrong) in [("ahead", now.plus(30 * DAY)), ("behind", now.minus(4_000 * DAY))] {
        let database = shared().database(about).migrated();
        let (mut sink, mut agent) = (sink_at(&database, wrong), Agent::new("edge-01"));
        let lost = agent.due(wrong);
        // With a wrong clock some of today's are not fit either.
        let logs = if wrong < now { Vec::new() } else { agent.logs(10) };
        let mixed: Vec<Log> = logs.iter().chain([&lost]).cloned().collect();
        assert_eq!(sink.deliver(&batch(&mixed)), Ok(Delivered { rejected: 1, ..kept(logs.len(), 0) }), "{about}");
        let mut store = Holdings::of(&database);
        let expected = Rejected {
            seq: i64::try_from(lost.seq).unwrap(),
            sqlstate: Some("23514".to_owned()),
            reason: "there is no partition for its day, and none can be made that far from today".to_owned(),
            bytes: lost.to_json(),
        };
        assert_eq!(store.rejected(), [expected], "{about}");
        store.are(&logs);
    }
}

/// Four of them share two connections to the server, each with transactions of its own.
#[test]
fn behind_a_pooler_many_at_once_keep_each_log_once() {
    for prepared in [Prepared::Auto, Prepared::Unnamed] {
        let database = ours().database("pooled_many").migrated();
        let pooler = Pooler::start(ours(), &[WRITER]);
        let settings = config::Postgres { prepared, ..settings(&pooler.url(&database, WRITER)) };
        let logs = Fleet::new().logs(1_200);
        let start = Barrier::new(4);
        let carry = |nth: usize| {
            let mut sink = Postgres::new(&settings, Arc::new(SystemClock));
            start.wait();
            // Each has half of the logs of the next one, too.
            let from = nth * 300;
            let logs: Vec<Log> = logs.iter().cycle().skip(from).take(450).cloned().collect();
            logs.chunks(50).map(|some| sink.deliver(&batch(some)).unwrap().new).sum::<usize>()
        };
        let new: usize = thread::scope(|scope| {
            let all = [0, 1, 2, 3].map(|nth| scope.spawn(move || carry(nth)));
            all.map(|one| one.join().unwrap()).iter().sum()
        });
        assert_eq!(new, logs.len(), "{prepared:?}");
        let mut store = Holdings::of(&database);
        store.are(&logs);
        assert_eq!((store.duplicates(), store.rejected()), (600, Vec::new()), "{prepared:?}");
    }
}
