//! Logs as a fleet of agents writes them, and what a store has made of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pingeon::check::{Phase, Verdict};
use pingeon::clock::{Clock as _, SystemClock, Timestamp};
use pingeon::logs::{Author, Cause, Log, Missed, VERSION};
use pingeon::store::rollup::{Hour, Slots, roll_up};
use postgres::{Client, Row};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use uuid::{NoContext, Uuid};

use crate::server::Database;

const LABELS: [&str; 4] = ["shop", "api", "mail", "dns"];
const INTERVAL: Duration = Duration::from_secs(10);
/// How long ago the first slots were due: their logs go into more than one hour.
const BEGUN_BEFORE: Duration = Duration::from_secs(2 * 3_600);

/// Three agents.
pub struct Fleet([Agent; 3]);

impl Fleet {
    pub fn new() -> Self {
        Fleet(["edge-01", "edge-02", "edge-03"].map(Agent::new))
    }

    /// Their next logs, in turns.
    pub fn logs(&mut self, count: usize) -> Vec<Log> {
        (0..count).flat_map(|nth| self.0[nth % 3].logs(1)).collect()
    }
}

/// One run of an agent.
pub struct Agent {
    author: Author,
    begun: Timestamp,
    written: u64,
}

impl Agent {
    pub fn new(name: &str) -> Self {
        let begun = SystemClock.now().wall.minus(BEGUN_BEFORE);
        Agent { author: Author::new(name.into(), begun), begun, written: 0 }
    }

    /// Its next logs, as the spool numbers them: all labels in each slot, with every verdict.
    pub fn logs(&mut self, count: usize) -> Vec<Log> {
        (0..count).map(|_| self.log()).collect()
    }

    fn log(&mut self) -> Log {
        let nth = self.written;
        let labels = LABELS.len() as u64;
        let due_at = self.begun.plus(INTERVAL * u32::try_from(nth / labels).unwrap());
        self.written += 1;
        let log = self.log_at(due_at);
        Log { label: LABELS[usize::try_from(nth % labels).unwrap()].into(), ..log }
    }

    /// A log with its next number that was due then.
    pub fn due(&mut self, due_at: Timestamp) -> Log {
        self.written += 1;
        self.log_at(due_at)
    }

    fn log_at(&self, due_at: Timestamp) -> Log {
        let took = Duration::from_micros(self.written * 7_919 % 2_000_000);
        let log = Log {
            v: VERSION,
            uid: uid_at(due_at),
            agent: self.author.agent.clone(),
            boot: self.author.boot,
            seq: self.written,
            label: LABELS[0].into(),
            kind: "http".into(),
            target: "https://shop.example.com/health".into(),
            due_at,
            started_at: Some(due_at),
            ended_at: Some(due_at.plus(took)),
            duration_us: Some(u64::try_from(took.as_micros()).unwrap()),
            interval_ms: u64::try_from(INTERVAL.as_millis()).unwrap(),
            verdict: Verdict::Up,
            phase: None,
            reason: None,
            result: fields(json!({"status_code": 200, "phases": {"connect": 10_231}})),
            unknown_fields: Map::new(),
        };
        match self.written % 7 {
            0 => Log { verdict: Verdict::Degraded, ..log },
            1 => Log {
                verdict: Verdict::Down,
                phase: Some(Phase::Connect),
                reason: Some("connection refused".into()),
                ..log
            },
            2 => Log { verdict: Verdict::Unknown, ..log },
            3 => missed(log),
            _ => log,
        }
    }
}

fn missed(log: Log) -> Log {
    let missed = Missed { cause: Cause::StillRunning, slots: 3, last_due_at: log.due_at.plus(2 * INTERVAL) };
    Log {
        verdict: Verdict::Missed,
        started_at: None,
        ended_at: None,
        duration_us: None,
        reason: Some(missed.cause.reason().into()),
        result: fields(serde_json::to_value(missed).unwrap()),
        ..log
    }
}

pub fn fields<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn uid_at(at: Timestamp) -> Uuid {
    let millis = at.as_millis();
    let nanos = u32::try_from(millis % 1_000).unwrap() * 1_000_000;
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, millis / 1_000, nanos))
}

/// What is in a store.
pub struct Holdings(Client);

/// What was set aside. Its bytes are the log's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub seq: i64,
    pub sqlstate: Option<String>,
    pub reason: String,
    pub bytes: Vec<u8>,
}

impl Holdings {
    pub fn of(database: &Database) -> Self {
        Holdings(database.superuser())
    }

    pub fn number(&mut self, sql: &str) -> i64 {
        self.0.query_one(sql, &[]).unwrap().get(0)
    }

    pub fn texts(&mut self, sql: &str) -> Vec<String> {
        self.0.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// How often a log came again.
    pub fn duplicates(&mut self) -> i64 {
        self.number("SELECT coalesce(sum(count), 0)::bigint FROM pingeon.duplicate")
    }

    pub fn rejected(&mut self) -> Vec<Rejected> {
        let sql = "SELECT seq, sqlstate, reason, bytes FROM pingeon.rejected ORDER BY seq, id";
        let rejected =
            |row: &Row| Rejected { seq: row.get(0), sqlstate: row.get(1), reason: row.get(2), bytes: row.get(3) };
        self.0.query(sql, &[]).unwrap().iter().map(rejected).collect()
    }

    /// Holds just these logs, each once, and roll-ups that add up to them.
    pub fn are<'a>(&mut self, logs: impl IntoIterator<Item = &'a Log>) {
        let logs: Vec<&Log> = logs.into_iter().collect();
        let wanted: BTreeSet<String> = logs.iter().map(|log| log.uid.to_string()).collect();
        let stored = self.0.query("SELECT uid::text FROM pingeon.log", &[]).unwrap();
        let kept: BTreeSet<String> = stored.iter().map(|row| row.get(0)).collect();
        assert_eq!(stored.len(), kept.len(), "some are there twice");
        let (lost, foreign) = (wanted.difference(&kept).count(), kept.difference(&wanted).count());
        assert_eq!((lost, foreign), (0, 0), "of {} logs some are lost, or there are others", wanted.len());
        assert!(self.hours() == roll_up(logs), "the roll-ups do not add up to the logs: {:#?}", self.hours());
    }

    /// All roll-ups, in the order of label, agent and hour.
    pub fn hours(&mut self) -> Vec<Hour> {
        let sql = "SELECT label, agent, (extract(epoch FROM hour) * 1000000)::bigint, up_ms, degraded_ms, down_ms, up, degraded,
            down, unknown, missed, pingeon.latencies(latency) FROM pingeon.hour ORDER BY label, agent, hour";
        self.0.query(sql, &[]).unwrap().iter().map(hour).collect()
    }
}

fn hour(row: &Row) -> Hour {
    let number = |nth: usize| u32::try_from(row.get::<_, i32>(nth)).unwrap();
    let latency: Vec<u32> = row.get::<_, Vec<i64>>(11).into_iter().map(|count| count.try_into().unwrap()).collect();
    let slots = Slots { up: number(6), degraded: number(7), down: number(8), unknown: number(9), missed: number(10) };
    Hour {
        label: Arc::from(row.get::<_, &str>(0)),
        agent: Arc::from(row.get::<_, &str>(1)),
        hour: Timestamp::from_micros(row.get(2)),
        up_ms: number(3),
        degraded_ms: number(4),
        down_ms: number(5),
        slots,
        latency: latency.try_into().unwrap(),
    }
}
