//! What questions to Postgres cost, on 5,040,000 logs of 1,000 labels: 30 days with a log every ten minutes, and one with a log
//! every two. Each is asked nine times after a first one that is not counted; printed is the median, beside what it may take.
//!
//! `cargo bench --bench reports`. Starts a Postgres (`tests/run postgres` brings it), with its default settings, or takes the one
//! that `PINGEON_TEST_POSTGRES` names. Makes a database of 4 GB, in some minutes, and drops it.

// The tests' servers; not all of what they offer is needed here.
#[allow(dead_code)]
#[path = "../tests/service/daemon.rs"]
mod daemon;
#[allow(dead_code)]
#[path = "../tests/kafka/pki.rs"]
mod pki;
#[allow(dead_code)]
#[path = "../tests/service/running.rs"]
mod running;
#[allow(dead_code)]
#[path = "../tests/postgres/servant.rs"]
mod servant;
#[allow(dead_code)]
#[path = "../tests/postgres/server.rs"]
mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pingeon::clock::{Clock as _, SystemClock, Timestamp};
use pingeon::config;
use pingeon::report::View;
use pingeon::store::{self, Archive, Before};
use server::Database;

const ASKED: usize = 9;
const DAY: Duration = Duration::from_secs(86_400);

fn main() {
    let database = server::shared().database("bench_reports").migrated();
    let begun = Instant::now();
    let logs = fill(&database);
    println!("{logs} logs and their roll-ups made in {:.0?}", begun.elapsed());
    sum_days(&database);
    let store = config::Store::Postgres(database.settings("pingeon_reader"));
    ask(store::archive(&store).unwrap().as_mut());
}

fn fill(database: &Database) -> i64 {
    let mut client = database.superuser();
    client.batch_execute(FILL).unwrap();
    // Two minutes after a bulk load autovacuum would do this.
    client.batch_execute("VACUUM (ANALYZE) pingeon.log").unwrap();
    client.batch_execute("VACUUM (ANALYZE) pingeon.hour").unwrap();
    client.query_one("SELECT count(*) FROM pingeon.log", &[]).unwrap().get(0)
}

/// As the keeper does while they pass, one at a time.
fn sum_days(database: &Database) {
    let mut client = database.connect("pingeon_writer");
    let mut took: Vec<Duration> = Vec::new();
    loop {
        let begun = Instant::now();
        if !client.query_one("SELECT pingeon.sum_day('90 days')", &[]).unwrap().get::<_, bool>(0) {
            break;
        }
        took.push(begun.elapsed());
    }
    took.sort();
    let (days, longest) = (took.len(), millis(took[took.len() - 1]));
    println!("{days} days summed up, each in {:.0} ms, at most {longest:.0}", millis(took[days / 2]));
    database.superuser().batch_execute("VACUUM (ANALYZE) pingeon.day").unwrap();
}

fn ask(archive: &mut dyn Archive) {
    let now = SystemClock.now().wall;
    let hour = Timestamp::from_micros(now.as_micros() / 3_600_000_000 * 3_600_000_000);
    let label: [Arc<str>; 1] = ["label-0421".into()];
    // As a report does that nobody told more.
    let view = View::default();
    let before: Before<'_> = &|label| view.rows_before(label);
    measure("last state of every label", 50, || archive.last().unwrap().len());
    measure("one label's day", 20, || {
        let mut rows = 0;
        archive.rows(&label, (hour.minus(DAY), hour), before, &mut |_| rows += 1).unwrap();
        rows
    });
    measure("uptime of all labels over 30 days", 200, || {
        archive.uptimes(&[], hour.minus(DAY * 30), hour).unwrap().len()
    });
    measure("uptime of one label over 30 days", 20, || {
        archive.uptimes(&label, hour.minus(DAY * 30), hour).unwrap().len()
    });
    measure("logs of all labels over a day", 20_000, || {
        let mut rows = 0;
        archive.rows(&[], (hour.minus(DAY), hour), before, &mut |_| rows += 1).unwrap();
        rows
    });
    measure("delivery audit, nothing missing", 10_000, || archive.delivery(hour.minus(DAY)).unwrap().len());
}

fn measure(what: &str, ms_max: u64, mut ask: impl FnMut() -> usize) {
    let answers = ask();
    let mut took: Vec<Duration> = (0..ASKED)
        .map(|_| {
            let begun = Instant::now();
            assert_eq!(ask(), answers, "{what}");
            begun.elapsed()
        })
        .collect();
    took.sort();
    let verdict = if took[ASKED / 2] <= Duration::from_millis(ms_max) { "" } else { ": TOO SLOW" };
    println!(
        "{what:36} {answers:8} answers  {:8.1} ms ({:.1} to {:.1}) of {ms_max}{verdict}",
        millis(took[ASKED / 2]),
        millis(took[0]),
        millis(took[ASKED - 1])
    );
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// In the order of time, as they would have come. Each label is looked at by one of three agents.
const FILL: &str = "
SELECT pingeon.make_days(ARRAY(SELECT now()::date + day FROM generate_series(-32, 2) day), '90 days');
INSERT INTO pingeon.log
SELECT (overlay(overlay(pingeon.uid_floor(due)::text PLACING '7' || lpad(to_hex(nth % 4096), 3, '0') FROM 15)
        PLACING '8' || lpad(to_hex(nth), 3, '0') FROM 20))::uuid,
    'edge-' || nth % 3, pingeon.uid_floor(date_trunc('hour', now()) - interval '31 days'),
    row_number() OVER (PARTITION BY nth % 3 ORDER BY due), 'label-' || lpad(nth::text, 4, '0'), 'http',
    'https://shop-' || nth || '.example.com/health', due, due + interval '90 us', due + interval '51324 us',
    20000 + (nth * 7919 + slot * 104729) % 200000, every * 1000,
    CASE WHEN (nth + slot) % 97 = 0 THEN 'down' WHEN (nth + slot) % 89 = 0 THEN 'degraded' ELSE 'up' END, NULL,
    CASE WHEN (nth + slot) % 97 = 0 THEN 'connection refused' END,
    jsonb_build_object('status_code', 200, 'bytes', 5123, 'phases', jsonb_build_object('resolve', 812, 'connect', 10231,
        'tls', 21233, 'send', 40, 'first_byte', 15111, 'body', 2101)), NULL
FROM (SELECT slot, date_trunc('hour', now()) - interval '31 days' + slot * interval '600 s' AS begins, 600 AS every
    FROM generate_series(0, 30 * 144 - 1) slot
    UNION ALL SELECT slot, date_trunc('hour', now()) - interval '1 day' + slot * interval '120 s', 120
    FROM generate_series(0, 719) slot) slots
CROSS JOIN LATERAL (SELECT nth, begins + nth * interval '57 ms' AS due FROM generate_series(0, 999) nth) labels;
INSERT INTO pingeon.hour
SELECT label, agent, hour, least(up * every, 3600) * 1000, degraded * every * 1000, down * every * 1000, up, degraded, down, 0, 0,
    (up / 2) * 1e168 + (up - up / 2) * 1e180 + degraded * 1e192
FROM (SELECT label, agent, date_trunc('hour', due_at) AS hour, (max(interval_ms) / 1000)::integer AS every,
        (count(*) FILTER (WHERE verdict = 'up'))::integer AS up,
        (count(*) FILTER (WHERE verdict = 'degraded'))::integer AS degraded,
        (count(*) FILTER (WHERE verdict = 'down'))::integer AS down
    FROM pingeon.log GROUP BY label, agent, hour) counted
ORDER BY hour, label, agent;
";
