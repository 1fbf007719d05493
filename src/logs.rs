//! Log: what flows, and its wire form.
//!
//! One JSON object. Times are UTC, RFC 3339 with microseconds; durations and phases are microseconds of the monotonic clock.
//! `seq` starts at 1 with each `boot` and has no holes, so a reader can prove that nothing was lost. A reader ignores fields
//! that it does not know and hands them on unchanged; `v` changes only when a reader must not guess.

mod object;
mod strain;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::check::{Check, Outcome, Phase, Verdict};
use crate::clock::Timestamp;
pub use object::Object;
pub use strain::Strain;
use strain::WithRun;

/// The version of the wire form that is written and read.
pub const VERSION: u8 = 1;

/// The longest log that is read, in bytes of its wire form.
pub const LOG_BYTES_MAX: usize = 1024 * 1024;
/// The longest agent's name, in bytes: that of a host (RFC 1035, section 2.3.4).
pub const AGENT_BYTES_MAX: usize = 255;
/// The longest label, in bytes, in configs as in logs: it is part of an index row.
pub const LABEL_BYTES_MAX: usize = 200;
/// The longest name of a kind, in bytes.
pub const KIND_BYTES_MAX: usize = 64;
/// The longest target, in bytes; a longer one is cut when the log is made.
pub const TARGET_BYTES_MAX: usize = 2_048;
/// The longest reason, in bytes; a longer one is cut when the log is made.
pub const REASON_BYTES_MAX: usize = 1_024;
/// The largest `result`, in bytes; what goes past it is left out when the log is made.
pub const RESULT_BYTES_MAX: usize = 64 * 1024;

/// One outcome with its identity.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// The version of the wire form.
    pub v: u8,
    /// Its name: a UUIDv7 whose milliseconds are those of `due_at`.
    pub uid: Uuid,
    /// Who wrote it.
    pub agent: Arc<str>,
    /// Which run of the agent wrote it: a UUIDv7 of its start.
    pub boot: Uuid,
    /// Its place among the logs of that run, from 1 without holes. 0 until the spool has given it.
    pub seq: u64,
    /// Which check.
    pub label: Arc<str>,
    /// Which kind of check.
    pub kind: Arc<str>,
    /// What was looked at.
    pub target: Arc<str>,
    /// When the slot was due; for `missed`, the first of the slots that it covers.
    pub due_at: Timestamp,
    /// When the check began; null for `missed`.
    pub started_at: Option<Timestamp>,
    /// When the check ended; null for `missed`.
    pub ended_at: Option<Timestamp>,
    /// How long it took, in microseconds of the monotonic clock; null for `missed`.
    pub duration_us: Option<u64>,
    /// How far apart the slots are, in milliseconds: the weight of this log in time.
    pub interval_ms: u64,
    /// What it came to.
    pub verdict: Verdict,
    /// Where it failed.
    pub phase: Option<Phase>,
    /// Why, for people.
    pub reason: Option<Arc<str>>,
    /// What belongs to the kind, and as `run` the [`Strain`] that it ran under; for `missed`, see [`Missed`].
    pub result: Object,
    /// Fields that a newer agent wrote and this build does not know.
    pub unknown_fields: Map<String, Value>,
}

/// Why slots did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The label's check before was still running.
    StillRunning,
    /// No worker was free before the next slot.
    WorkersBusy,
    /// The spool was full, and is told to block.
    SpoolFull,
    /// The machine slept.
    MachineSlept,
    /// The agent stood still: stopped by a signal, starved, or its virtual machine paused.
    AgentStalled,
    /// The agent did not run.
    AgentOff,
}

impl Cause {
    /// The sentence that people see as the reason.
    pub fn reason(self) -> &'static str {
        match self {
            Cause::StillRunning => "still running",
            Cause::WorkersBusy => "workers busy",
            Cause::SpoolFull => "spool full",
            Cause::MachineSlept => "machine slept",
            Cause::AgentStalled => "agent stalled",
            Cause::AgentOff => "agent was off",
        }
    }
}

/// A run of slots of one label that did not run: the `result` of a `missed` log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// Why.
    pub cause: Cause,
    /// How many slots; at least 1.
    pub slots: u64,
    /// When the last of them was due.
    pub last_due_at: Timestamp,
}

/// Who writes logs: the agent and this run of it.
#[derive(Clone, Debug)]
pub struct Author {
    /// The agent's name.
    pub agent: Arc<str>,
    /// This run.
    pub boot: Uuid,
}

impl Author {
    /// The agent `agent`, in a run that begins at `now`.
    pub fn new(agent: Arc<str>, now: Timestamp) -> Self {
        Author { agent, boot: uid_at(now) }
    }
}

/// When a check began, how long it took by the monotonic clock, and what of that may be the agent's own.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// How it fared with the agent.
    pub strain: Strain,
}

impl Log {
    /// The log of a check that ran. The spool gives it its `seq`.
    pub fn ran(author: &Author, check: &Check, due_at: Timestamp, ran: Ran, outcome: Outcome) -> Self {
        Log {
            started_at: Some(ran.started_at),
            ended_at: Some(ran.started_at.plus(ran.took)),
            duration_us: Some(u64::try_from(ran.took.as_micros()).unwrap_or(wire::NUMBER_MAX).min(wire::NUMBER_MAX)),
            verdict: outcome.verdict,
            phase: outcome.phase,
            reason: outcome.reason.map(|reason| cut(&reason, REASON_BYTES_MAX).into()),
            result: Object::from(&with_run(bounded(outcome.result), &ran.strain)),
            ..Self::blank(author, check, due_at)
        }
    }

    /// The log of slots that did not run, the first of them due at `first_due_at`.
    pub fn missed(author: &Author, check: &Check, first_due_at: Timestamp, missed: Missed) -> Self {
        let result = [
            ("cause".to_owned(), serde_json::to_value(missed.cause).unwrap_or_default()),
            ("slots".to_owned(), missed.slots.into()),
            ("last_due_at".to_owned(), missed.last_due_at.to_string().into()),
        ];
        Log {
            verdict: Verdict::Missed,
            reason: Some(missed.cause.reason().into()),
            result: Object::from(&result.into_iter().collect()),
            ..Self::blank(author, check, first_due_at)
        }
    }

    fn blank(author: &Author, check: &Check, due_at: Timestamp) -> Self {
        Log {
            v: VERSION,
            uid: uid_at(due_at),
            agent: author.agent.clone(),
            boot: author.boot,
            seq: 0,
            label: check.label.clone(),
            kind: check.kind.name().into(),
            target: if check.target.len() > TARGET_BYTES_MAX {
                cut(&check.target, TARGET_BYTES_MAX).into()
            } else {
                check.target.clone()
            },
            due_at,
            started_at: None,
            ended_at: None,
            duration_us: None,
            interval_ms: u64::try_from(check.interval.as_millis()).unwrap_or(u64::MAX).clamp(1, wire::INTERVAL_MS_MAX),
            verdict: Verdict::Unknown,
            phase: None,
            reason: None,
            result: Object::default(),
            unknown_fields: Map::new(),
        }
    }

    /// How the check fared with the agent that ran it; `None` where its log does not tell: `missed`, or of an older agent.
    pub fn strain(&self) -> Option<Strain> {
        self.result.read::<WithRun>().map(|of| of.run)
    }

    /// What a `missed` log covers; `None` for any other.
    pub fn as_missed(&self) -> Option<Missed> {
        if self.verdict != Verdict::Missed {
            return None;
        }
        self.result.read()
    }
}

/// `result` with the strain, which no other field keeps out.
fn with_run(mut result: Map<String, Value>, strain: &Strain) -> Map<String, Value> {
    result.insert("run".to_owned(), serde_json::to_value(strain).unwrap_or_default());
    result
}

/// The longest start of `text` that ends on a character and has at most `most` bytes.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// `result` without the fields that lie past what it may take; they are named in a field of their own.
fn bounded(result: Map<String, Value>) -> Map<String, Value> {
    // Hardly any result comes near the bound: one pass over it, without writing it, tells.
    let most = RESULT_BYTES_MAX - RUN_BYTES;
    if weight(&result) <= most {
        return result;
    }
    let (mut kept, mut left_out, mut room) = (Map::new(), Vec::new(), most - LEFT_OUT_BYTES);
    for (key, value) in result {
        let takes = key.len() + weigh(&value);
        if takes <= room {
            room -= takes;
            kept.insert(key, value);
        } else if left_out.len() < LEFT_OUT_NAMED {
            left_out.push(Value::from(cut(&key, LEFT_OUT_BYTES / LEFT_OUT_NAMED / 8)));
        }
    }
    kept.insert("left_out".to_owned(), Value::Array(left_out));
    kept
}

/// What the strain takes at most, in bytes.
const RUN_BYTES: usize = 256;
/// How many fields that were left out are named.
const LEFT_OUT_NAMED: usize = 16;
/// What their names may take together, in bytes.
const LEFT_OUT_BYTES: usize = 8 * 1024;

fn weight(fields: &Map<String, Value>) -> usize {
    fields.iter().map(|(key, value)| key.len() + weigh(value)).sum()
}

/// At least what `value` takes on the wire, give or take its escapes.
fn weigh(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 6,
        Value::Array(items) => items.iter().map(weigh).sum::<usize>() + 2,
        Value::Object(fields) => weight(fields) + 6,
        Value::Null | Value::Bool(_) | Value::Number(_) => 24,
    }
}

/// A UUIDv7 with the milliseconds of `at` (RFC 9562, section 5.7), the rest random.
fn uid_at(at: Timestamp) -> Uuid {
    let seconds = at.as_millis() / 1_000;
    let nanos = u32::try_from(at.as_millis() % 1_000).unwrap_or(0) * 1_000_000;
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos))
}

#[cfg(test)]
mod tests;
