//! Roll-ups as the sink adds to them.

use std::sync::Arc;
use std::time::Duration;

use pingeon::clock::{Clock as _, SystemClock};
use pingeon::flow::{Batch, Sink as _};
use pingeon::logs::Log;
use pingeon::store::postgres::Postgres;
use pingeon::store::rollup::{Hour, hour_of, roll_up};

use crate::server::shared;

const INTERVAL: Duration = Duration::from_secs(10);

/// One slot each in the last hours, their uids told from others by `mark`, with all verdicts, and durations from nothing to minutes.
fn logs(label: &str, mark: u64, count: u32) -> Vec<Log> {
    let begin = hour_of(SystemClock.now().wall).minus(Duration::from_secs(2 * 3_600));
    let log = |n: u32| {
        let due_at = begin.plus(INTERVAL * n);
        let verdict = ["up", "degraded", "down", "unknown", "up", "up"][n as usize % 6];
        let uid = uuid::Uuid::from_u64_pair(due_at.as_millis() << 16 | 0x7000 | mark, 1 << 63 | u64::from(n));
        let duration_us = 3_u64.pow(n % 19);
        let text = format!(
            r#"{{"v":1,"uid":"{uid}","agent":"edge-01","boot":"0193a5c0-0000-7000-8000-000000000001","seq":{n},"label":"{label}","kind":"tcp","target":"db:5432","due_at":"{due_at}","duration_us":{duration_us},"interval_ms":10000,"verdict":"{verdict}","result":{{}}}}"#
        );
        Log::from_json(text.as_bytes()).unwrap()
    };
    (1..=count).map(log).collect()
}

fn batch(logs: &[Log]) -> Batch {
    Batch { logs: logs.to_vec(), ..Batch::default() }
}

#[test]
fn they_are_what_the_stored_logs_come_to() {
    let database = shared().database("rollup").migrated();
    let mut sink = Postgres::new(&database.settings("pingeon_writer"), Arc::new(SystemClock));
    let (shop, mail) = (logs("shop", 1, 600), logs("mail", 2, 30));
    // Some come again, in a later batch and in the same one.
    for some in [&shop[..200], &shop[100..450], &[&shop[440..], &shop[500..], &mail[..]].concat()] {
        sink.deliver(&batch(some)).unwrap();
    }
    let expected = roll_up(shop.iter().chain(&mail));
    let rows = database.superuser().query(
        "SELECT label, extract(epoch FROM hour)::bigint * 1000000, ARRAY[up_ms, degraded_ms, down_ms, up, degraded, down, unknown, missed],
            pingeon.latencies(latency) FROM pingeon.hour ORDER BY label, agent, hour",
        &[],
    );
    let told: Vec<(String, i64, Vec<i32>, Vec<i64>)> =
        rows.unwrap().iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    let expected: Vec<_> = expected.iter().map(told_of).collect();
    assert_eq!(told, expected);
    let again = "SELECT sum(count)::bigint FROM pingeon.duplicate";
    assert_eq!(database.superuser().query_one(again, &[]).unwrap().get::<_, i64>(0), 100 + 10 + 100);
}

fn told_of(hour: &Hour) -> (String, i64, Vec<i32>, Vec<i64>) {
    let slots = &hour.slots;
    let numbers =
        [hour.up_ms, hour.degraded_ms, hour.down_ms, slots.up, slots.degraded, slots.down, slots.unknown, slots.missed];
    (
        hour.label.to_string(),
        hour.hour.as_micros(),
        numbers.map(|number| i32::try_from(number).unwrap()).to_vec(),
        hour.latency.map(i64::from).to_vec(),
    )
}
