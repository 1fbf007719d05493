//! The delivery audit as it can be asked in SQL.

use pingeon::clock::Timestamp;
use pingeon::store::Archive as _;
use pingeon::store::postgres::Archive;
use postgres::Client;

use crate::server::{Database, shared};

/// A run that began today, and one that began ten days ago.
const TODAY: &str = "date_trunc('day', now())";
const LONG_AGO: &str = "(date_trunc('day', now()) - interval '10 days')";

/// A UUIDv7 of this moment, told from others by `n`.
fn uid(at: &str, n: u32) -> String {
    format!("overlay(pingeon.uid_floor({at})::text PLACING '7000-8000-{n:012x}' FROM 15)::uuid")
}

struct Store {
    database: Database,
    client: Client,
    logs: u32,
}

impl Store {
    fn new(about: &str) -> Self {
        let database = shared().database(about).migrated();
        let mut client = database.superuser();
        client.batch_execute("SELECT pingeon.make_days(ARRAY[(now() AT TIME ZONE 'UTC')::date], '1 day')").unwrap();
        Store { database, client, logs: 100 }
    }

    fn stored(&mut self, agent: &str, boot: &str, numbers: &[i64]) {
        for number in numbers {
            self.logs += 1;
            let sql = format!(
                "INSERT INTO pingeon.log (uid, agent, boot, seq, label, kind, target, due_at, interval_ms, verdict, result)
                 SELECT {}, '{agent}', {}, {number}, 'shop', 'tcp', 'db:5432', now(), 1000, 'up', '{{}}'",
                uid("now()", self.logs),
                uid(boot, 1)
            );
            self.client.batch_execute(&sql).unwrap();
        }
    }

    fn rejected(&mut self, agent: &str, boot: &str, numbers: &[i64]) {
        for number in numbers {
            self.logs += 1;
            let sql = format!(
                "INSERT INTO pingeon.rejected (origin, reason, agent, boot, seq, bytes)
                 SELECT 'logs/0@{}', 'refused', '{agent}', {}, {number}, 'x'",
                self.logs,
                uid(boot, 1)
            );
            self.client.batch_execute(&sql).unwrap();
        }
    }

    /// `agent lowest–highest stored rejected duplicates` of each run.
    fn delivery(&mut self) -> Vec<String> {
        let sql = "SELECT concat_ws(' ', agent, lowest || '–' || highest, stored, rejected, duplicates)
            FROM pingeon.delivery ORDER BY agent, boot";
        self.texts(sql)
    }

    /// `agent first–last` of each range.
    fn missing(&mut self) -> Vec<String> {
        let sql = "SELECT concat_ws(' ', agent, first || '–' || last) FROM pingeon.missing
            WHERE count = last - first + 1 ORDER BY agent, first";
        self.texts(sql)
    }

    fn texts(&mut self, sql: &str) -> Vec<String> {
        self.client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// Makes a day that lies nine days back, and has it dropped.
    fn drop_an_old_day(&mut self) {
        let sql = "SELECT pingeon.make_days(ARRAY[(now() AT TIME ZONE 'UTC')::date - 9], '90 days');
            UPDATE pingeon.setting SET value = '5 days' WHERE name = 'retention';
            SELECT pingeon.drop_day('1 day')";
        self.client.batch_execute(sql).unwrap();
    }

    fn retention_ran(&mut self) {
        self.client.batch_execute("SELECT pingeon.delete_past('90 days')").unwrap();
    }
}

#[test]
fn nothing_is_missing_of_what_arrived_whole() {
    let mut store = Store::new("whole");
    store.stored("edge-01", TODAY, &[1, 2, 3, 4]);
    assert_eq!(store.delivery(), ["edge-01 1–4 4 0 0"]);
    assert_eq!(store.missing(), Vec::<String>::new());
}

#[test]
fn what_is_missing_is_told_in_ranges_and_what_was_set_aside_is_not_missing() {
    let mut store = Store::new("missing");
    store.stored("edge-01", TODAY, &[3, 4, 7, 12, 13]);
    store.rejected("edge-01", TODAY, &[5, 14, 5, 12]);
    store.stored("edge-02", TODAY, &[1, 2]);
    let again = format!("SELECT pingeon.add_duplicates(ARRAY['edge-02'], ARRAY[{}], '{{3}}')", uid(TODAY, 1));
    store.client.batch_execute(&again).unwrap();
    assert_eq!(store.missing(), ["edge-01 1–2", "edge-01 6–6", "edge-01 8–11"]);
    assert_eq!(store.delivery(), ["edge-01 3–14 5 4 0", "edge-02 1–2 2 0 3"]);
}

#[test]
fn what_the_retention_may_have_dropped_is_not_missing() {
    let mut store = Store::new("dropped");
    store.stored("edge-01", LONG_AGO, &[8, 10]);
    assert_eq!(store.missing(), ["edge-01 1–7", "edge-01 9–9"]);
    // A round that drops nothing says nothing of what was there before.
    store.retention_ran();
    assert_eq!(store.missing(), ["edge-01 1–7", "edge-01 9–9"]);
    store.drop_an_old_day();
    assert_eq!(store.missing(), ["edge-01 9–9"]);
}

/// Three hundred runs: begun long ago, today, or about where the retention may have dropped logs of them. Their first numbers are lost
/// but for some that were set aside; of the others each was stored, or set aside, or both, or stored twice, or is missing. Some logs
/// are of days before the run.
const RUNS: &str = "
    CREATE TABLE public.run AS SELECT n, 'edge-' || lpad(n::text, 3, '0') AS agent, (ARRAY[0, 0, 3])[1 + n / 18 % 3] AS lost, today,
        today + (ARRAY['-8 days', '0', '-7 days', '-6 days -1 ms', '-6 days', '-6 days 1 ms']::interval[])[1 + n % 6] AS began,
        (ARRAY[0.5, 0.9, 1.0])[1 + n / 6 % 3] AS arrives
        FROM generate_series(1, 300) AS n, (SELECT (now() AT TIME ZONE 'UTC')::date::timestamp AT TIME ZONE 'UTC' AS today) AS day;
    ALTER TABLE public.run ADD boot uuid;
    UPDATE public.run SET boot = overlay(pingeon.uid_floor(began)::text PLACING '7000-8000-' || lpad(n::text, 12, '0') FROM 15)::uuid;
    SELECT setseed(0.5);
    CREATE TABLE public.drawn AS SELECT run.*, seq, random() AS r, random() AS kind,
        today - interval '1 day' * CASE WHEN random() < 0.1 THEN 12 ELSE 0 END AS due_at
        FROM public.run, generate_series(1, 12) AS seq WHERE n % 10 > 0 OR seq < 4;
    INSERT INTO pingeon.log (uid, agent, boot, seq, label, kind, target, due_at, interval_ms, verdict, result)
        SELECT overlay(pingeon.uid_floor(due_at)::text PLACING '7000-8000-' || lpad(to_hex(n * 100 + seq * 2 + copy), 12, '0') FROM 15)::uuid,
            agent, boot, seq, 'shop', 'tcp', 'db:5432', due_at, 1000, 'up', '{}'
        FROM public.drawn, generate_series(0, 1) AS copy
        WHERE seq > lost AND r < arrives AND kind < 0.9 AND (copy = 0 OR kind < 0.02);
    INSERT INTO pingeon.rejected (origin, reason, agent, boot, seq, bytes)
        SELECT agent || seq, 'refused', agent, boot, seq, 'x' FROM public.drawn
        WHERE r < arrives AND CASE WHEN seq > lost THEN kind > 0.85 ELSE kind < 0.3 END AND n % 4 > 0;
    INSERT INTO pingeon.duplicate (agent, boot, lane, count) SELECT agent, boot, lane, n FROM public.run, generate_series(1, 2) AS lane
        WHERE n % 5 = 0";

/// Of each run all that the views say.
const SAID: &str = "SELECT format('%s %s–%s %s %s %s %s %s [%s] %s', agent, lowest, highest, stored, rejected, duplicates,
        extract(epoch FROM first_due_at)::bigint, extract(epoch FROM last_due_at)::bigint, string_agg(first || '–' || last, ' ' ORDER BY first),
        coalesce(sum(count), 0))
    FROM pingeon.delivery LEFT JOIN pingeon.missing USING (agent, boot)
    GROUP BY agent, boot, lowest, highest, stored, rejected, duplicates, first_due_at, last_due_at ORDER BY agent, boot";

#[test]
fn the_report_and_the_views_say_the_same() {
    let mut store = Store::new("same");
    let days = "SELECT pingeon.make_days(ARRAY(SELECT (now() AT TIME ZONE 'UTC')::date - n FROM generate_series(0, 12) AS n), '90 days')";
    store.client.batch_execute(days).unwrap();
    store.client.batch_execute(RUNS).unwrap();
    let mut archive = Archive::open(&store.database.settings("pingeon_reader")).unwrap();
    let mut told = Vec::new();
    for forgotten in ["", "INSERT INTO pingeon.setting SELECT 'forgotten', (now() AT TIME ZONE 'UTC')::date - 7"] {
        store.client.batch_execute(forgotten).unwrap();
        let said = store.texts(SAID);
        assert!(said.len() > 280, "{}", said.len());
        let seconds = |at: Timestamp| (at.as_micros() / 1_000_000).to_string();
        let found: Vec<String> = archive
            .delivery(Timestamp::from_micros(0))
            .unwrap()
            .iter()
            .map(|run| {
                let (first, last) = run.due_at.map(|(first, last)| (seconds(first), seconds(last))).unwrap_or_default();
                let ranges: Vec<String> = run.missing.iter().map(|(first, last)| format!("{first}–{last}")).collect();
                format!(
                    "{} {}–{} {} {} {} {first} {last} [{}] {}",
                    run.agent,
                    run.lowest,
                    run.highest,
                    run.stored,
                    run.rejected,
                    run.duplicates,
                    ranges.join(" "),
                    run.missing_total
                )
            })
            .collect();
        let differ: Vec<_> = said.iter().zip(&found).filter(|(said, found)| said != found).collect();
        assert!(
            differ.is_empty() && said.len() == found.len(),
            "{forgotten}: {} and {}: {differ:#?}",
            said.len(),
            found.len()
        );
        told.push(found);
    }
    let differ = told[0].iter().zip(&told[1]).filter(|(all, cut)| all != cut).count();
    assert!(differ > 50, "only {differ} runs have a beginning that the retention may have dropped");
}

#[test]
fn uids_and_times_are_turned_into_each_other() {
    let mut store = Store::new("uids");
    for at in ["2026-11-24 10:00:00.123+00", "1970-01-01 00:00:00.001+00", "2099-12-31 23:59:59.999+00"] {
        let sql = format!("SELECT (pingeon.uid_time(pingeon.uid_floor('{at}')) = '{at}'::timestamptz)::text");
        assert_eq!(store.texts(&sql), ["true"], "{at}");
    }
    let floor = "SELECT pingeon.uid_floor('2026-11-24 10:00:00.123999+00')::text";
    assert_eq!(store.texts(floor), ["01a20cff-7d7b-0000-0000-000000000000"]);
}
