//! The JSON of a log, written and read by hand: serde's `flatten` would copy every field once more on the hot path.

use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{AGENT_BYTES_MAX, KIND_BYTES_MAX, LABEL_BYTES_MAX, LOG_BYTES_MAX, Log, TARGET_BYTES_MAX, VERSION};

/// The largest `seq` and `duration_us`: SQL has signed numbers.
pub(super) const NUMBER_MAX: u64 = i64::MAX.unsigned_abs();
/// The longest interval: a leap year. A log weighs in a report by its interval.
pub(super) const INTERVAL_MS_MAX: u64 = 366 * 24 * 3_600 * 1_000;

impl Log {
    /// The log's wire form.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1_024);
        self.write_json(self.seq, &mut out);
        out
    }

    /// Adds the log's wire form to `out`, with `seq` in the place of its own.
    pub(crate) fn write_json(&self, seq: u64, out: &mut Vec<u8>) {
        // Writing to memory does not fail, and neither do the types in a log: every key is text, every time has its form.
        let written = serde_json::to_writer(out, &Numbered { log: self, seq });
        debug_assert!(written.is_ok(), "{written:?}");
    }

    /// Reads a log's wire form.
    ///
    /// # Errors
    /// A sentence that says why `bytes` are no log that this build may take.
    pub fn from_json(bytes: &[u8]) -> Result<Log, String> {
        if bytes.len() > LOG_BYTES_MAX {
            return Err(format!("{} bytes are too long for a log, which has at most {LOG_BYTES_MAX}", bytes.len()));
        }
        let log: Log = serde_json::from_slice(bytes).map_err(|error| match serde_json::from_slice(bytes) {
            // What a newer form changed shows as some other error first; its number says more.
            Ok(OnlyVersion { v }) if v != u64::from(VERSION) => newer(v),
            _ => error.to_string(),
        })?;
        within_bounds(&log)?;
        Ok(log)
    }
}

#[derive(Deserialize)]
struct OnlyVersion {
    v: u64,
}

fn newer(v: u64) -> String {
    format!("made by a newer Pingeon: v {v}")
}

fn within_bounds(log: &Log) -> Result<(), String> {
    for (name, text, most) in [
        ("agent", &log.agent, AGENT_BYTES_MAX),
        ("label", &log.label, LABEL_BYTES_MAX),
        ("kind", &log.kind, KIND_BYTES_MAX),
        ("target", &log.target, TARGET_BYTES_MAX),
    ] {
        if text.len() > most {
            return Err(format!("{name} of {} bytes, at most {most}", text.len()));
        }
        if text.is_empty() && name != "target" {
            return Err(format!("{name} is empty"));
        }
    }
    for (name, uuid) in [("uid", log.uid), ("boot", log.boot)] {
        if uuid.get_version_num() != 7 {
            return Err(format!("{name} `{uuid}` is not a UUIDv7"));
        }
    }
    for (name, number, most) in [
        ("seq", log.seq, NUMBER_MAX),
        ("duration_us", log.duration_us.unwrap_or(0), NUMBER_MAX),
        ("interval_ms", log.interval_ms, INTERVAL_MS_MAX),
    ] {
        if number > most {
            return Err(format!("{name} {number} is too large, at most {most}"));
        }
    }
    if log.interval_ms == 0 { Err("interval_ms is 0".to_owned()) } else { Ok(()) }
}

/// A log with the number that the spool gives it.
struct Numbered<'a> {
    log: &'a Log,
    seq: u64,
}

impl Serialize for Numbered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Numbered { log, seq } = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("v", &log.v)?;
        map.serialize_entry("uid", &log.uid)?;
        map.serialize_entry("agent", &log.agent)?;
        map.serialize_entry("boot", &log.boot)?;
        map.serialize_entry("seq", seq)?;
        map.serialize_entry("label", &log.label)?;
        map.serialize_entry("kind", &log.kind)?;
        map.serialize_entry("target", &log.target)?;
        map.serialize_entry("due_at", &log.due_at)?;
        map.serialize_entry("started_at", &log.started_at)?;
        map.serialize_entry("ended_at", &log.ended_at)?;
        map.serialize_entry("duration_us", &log.duration_us)?;
        map.serialize_entry("interval_ms", &log.interval_ms)?;
        map.serialize_entry("verdict", &log.verdict)?;
        map.serialize_entry("phase", &log.phase)?;
        map.serialize_entry("reason", &log.reason)?;
        map.serialize_entry("result", &log.result)?;
        for (name, value) in &log.unknown_fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Serialize for Log {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Numbered { log: self, seq: self.seq }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Log {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    V,
    Uid,
    Agent,
    Boot,
    Seq,
    Label,
    Kind,
    Target,
    DueAt,
    StartedAt,
    EndedAt,
    DurationUs,
    IntervalMs,
    Verdict,
    Phase,
    Reason,
    Result,
    Unknown(String),
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Log;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a log")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Log, A::Error> {
        let (mut v, mut uid, mut agent, mut boot, mut seq, mut label) = (None, None, None, None, None, None);
        let (mut kind, mut target, mut due_at, mut interval_ms, mut verdict) = (None, None, None, None, None);
        let (mut started_at, mut ended_at, mut duration_us, mut phase, mut reason) = (None, None, None, None, None);
        let (mut result, mut unknown_fields) = (None, Map::new());
        while let Some(field) = map.next_key()? {
            match field {
                Field::V => take(&mut v, "v", &mut map)?,
                Field::Uid => take(&mut uid, "uid", &mut map)?,
                Field::Agent => take(&mut agent, "agent", &mut map)?,
                Field::Boot => take(&mut boot, "boot", &mut map)?,
                Field::Seq => take(&mut seq, "seq", &mut map)?,
                Field::Label => take(&mut label, "label", &mut map)?,
                Field::Kind => take(&mut kind, "kind", &mut map)?,
                Field::Target => take(&mut target, "target", &mut map)?,
                Field::DueAt => take(&mut due_at, "due_at", &mut map)?,
                Field::StartedAt => take(&mut started_at, "started_at", &mut map)?,
                Field::EndedAt => take(&mut ended_at, "ended_at", &mut map)?,
                Field::DurationUs => take(&mut duration_us, "duration_us", &mut map)?,
                Field::IntervalMs => take(&mut interval_ms, "interval_ms", &mut map)?,
                Field::Verdict => take(&mut verdict, "verdict", &mut map)?,
                Field::Phase => take(&mut phase, "phase", &mut map)?,
                Field::Reason => take(&mut reason, "reason", &mut map)?,
                Field::Result => take(&mut result, "result", &mut map)?,
                Field::Unknown(name) => {
                    unknown_fields.insert(name, map.next_value::<Value>()?);
                }
            }
        }
        let v = present(v, "v")?;
        if v != u64::from(VERSION) {
            return Err(de::Error::custom(newer(v)));
        }
        Ok(Log {
            v: VERSION,
            uid: present(uid, "uid")?,
            agent: present(agent, "agent")?,
            boot: present(boot, "boot")?,
            seq: present(seq, "seq")?,
            label: present(label, "label")?,
            kind: present(kind, "kind")?,
            target: present(target, "target")?,
            due_at: present(due_at, "due_at")?,
            started_at: started_at.flatten(),
            ended_at: ended_at.flatten(),
            duration_us: duration_us.flatten(),
            interval_ms: present(interval_ms, "interval_ms")?,
            verdict: present(verdict, "verdict")?,
            phase: phase.flatten(),
            reason: reason.flatten(),
            result: present(result, "result")?,
            unknown_fields,
        })
    }
}

fn take<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    slot: &mut Option<T>,
    name: &'static str,
    map: &mut A,
) -> Result<(), A::Error> {
    // Two values for one field would be read one way here and another way elsewhere.
    if slot.replace(map.next_value()?).is_some() { Err(de::Error::duplicate_field(name)) } else { Ok(()) }
}

fn present<T, E: de::Error>(slot: Option<T>, name: &'static str) -> Result<T, E> {
    slot.ok_or_else(|| E::missing_field(name))
}
