//! Logs and roll-ups as columns, in Postgres' binary form (its manual, "Binary Format" of each type's send function): a batch
//! goes in as one array for each column.

use std::error::Error;
use std::fmt;

use bytes::{BufMut, BytesMut};
use postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::check::Phase;
use crate::clock::Timestamp;
use crate::logs::{Log, Object};
use crate::store::rollup::{BUCKETS, Hour};

/// A parameter and its type, so that nothing has to be asked of the server.
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

type Encoded = Result<IsNull, Box<dyn Error + Sync + Send>>;

/// A `uuid`: its 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(pub(super) Uuid);

impl ToSql for Id {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Encoded {
        out.put_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
    accepts!(UUID);
    to_sql_checked!();
}

impl FromSql<'_> for Id {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Id(Uuid::from_slice(raw)?))
    }
    accepts!(UUID);
}

/// A `timestamptz`: microseconds since 2000-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(pub(super) Timestamp);

/// 2000-01-01T00:00:00Z in microseconds since 1970.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

impl ToSql for Moment {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Encoded {
        out.put_i64(self.0.as_micros() - EPOCH_MICROS);
        Ok(IsNull::No)
    }
    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl FromSql<'_> for Moment {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Moment(Timestamp::from_micros(i64::from_be_bytes(raw.try_into()?).saturating_add(EPOCH_MICROS))))
    }
    accepts!(TIMESTAMPTZ);
}

/// A `jsonb`: its version, 1, and the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Json<'a, T>(pub(super) &'a T);

impl<T: Serialize + fmt::Debug> ToSql for Json<'_, T> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Encoded {
        out.put_u8(1);
        serde_json::to_writer(out.writer(), self.0)?;
        Ok(IsNull::No)
    }
    accepts!(JSONB);
    to_sql_checked!();
}

/// Counts of durations as one `numeric`, twelve digits each, the first class in the lowest. A `numeric` has digits of base 10,000:
/// their number, the power of the first, sign and scale, and the digits, each in two bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Latency(pub(super) [u32; BUCKETS]);

impl ToSql for Latency {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Encoded {
        let used = self.0.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        let digits = i16::try_from(used * 3)?;
        out.put_i16(digits);
        out.put_i16(digits - 1);
        out.put_u32(0);
        for count in self.0[..used].iter().rev() {
            for base in [100_000_000, 10_000, 1] {
                out.put_u16(u16::try_from(count / base % 10_000)?);
            }
        }
        Ok(IsNull::No)
    }
    accepts!(NUMERIC);
    to_sql_checked!();
}

impl FromSql<'_> for Latency {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let (head, digits) = raw.split_first_chunk::<8>().ok_or("no number")?;
        let mut power = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let mut counts = [0_u64; BUCKETS];
        for digit in digits.as_chunks::<2>().0 {
            let count = counts.get_mut(power / 3).ok_or("no counts of durations")?;
            *count += u64::from(u16::from_be_bytes(*digit)) * [1, 10_000, 100_000_000][power % 3];
            power = power.wrapping_sub(1);
        }
        Ok(Latency(counts.map(|count| u32::try_from(count).unwrap_or(u32::MAX))))
    }
    accepts!(NUMERIC);
}

/// Logs as the columns of `pingeon.log`, in the order of [`INSERT`].
#[derive(Debug, Default)]
pub(super) struct Logs<'a> {
    uid: Vec<Id>,
    agent: Vec<&'a str>,
    boot: Vec<Id>,
    seq: Vec<i64>,
    label: Vec<&'a str>,
    kind: Vec<&'a str>,
    target: Vec<&'a str>,
    due_at: Vec<Moment>,
    started_at: Vec<Option<Moment>>,
    ended_at: Vec<Option<Moment>>,
    duration_us: Vec<Option<i64>>,
    interval_ms: Vec<i64>,
    verdict: Vec<&'a str>,
    phase: Vec<Option<&'a str>>,
    reason: Vec<Option<&'a str>>,
    result: Vec<Json<'a, Object>>,
    extra: Vec<Option<Json<'a, Map<String, Value>>>>,
}

/// Keeps logs; answers with the uids of those that are new, as one array (null: none). The arrays are unnested side by side in the
/// list of what is selected, where they go row by row: `FROM unnest(…)` would first store them all as rows, which takes half as
/// long again.
pub(super) const INSERT: &str = "WITH new AS (INSERT INTO pingeon.log (uid, agent, boot, seq, label, kind, target, due_at, \
    started_at, ended_at, duration_us, interval_ms, verdict, phase, reason, result, extra) SELECT unnest($1::uuid[]), \
    unnest($2::text[]), unnest($3::uuid[]), unnest($4::int8[]), unnest($5::text[]), unnest($6::text[]), unnest($7::text[]), \
    unnest($8::timestamptz[]), unnest($9::timestamptz[]), unnest($10::timestamptz[]), unnest($11::int8[]), \
    unnest($12::int8[]), unnest($13::text[]), unnest($14::text[]), unnest($15::text[]), unnest($16::jsonb[]), \
    unnest($17::jsonb[]) ON CONFLICT (uid) DO NOTHING RETURNING uid) SELECT array_agg(uid) FROM new";

impl<'a> Logs<'a> {
    pub(super) fn of(logs: &[&'a Log]) -> Self {
        let mut columns = Logs::default();
        for log in logs {
            columns.uid.push(Id(log.uid));
            columns.agent.push(&log.agent);
            columns.boot.push(Id(log.boot));
            columns.seq.push(signed(log.seq));
            columns.label.push(&log.label);
            columns.kind.push(&log.kind);
            columns.target.push(&log.target);
            columns.due_at.push(Moment(log.due_at));
            columns.started_at.push(log.started_at.map(Moment));
            columns.ended_at.push(log.ended_at.map(Moment));
            columns.duration_us.push(log.duration_us.map(signed));
            columns.interval_ms.push(signed(log.interval_ms));
            columns.verdict.push(log.verdict.name());
            columns.phase.push(log.phase.map(Phase::name));
            columns.reason.push(log.reason.as_deref());
            columns.result.push(Json(&log.result));
            columns.extra.push((!log.unknown_fields.is_empty()).then_some(Json(&log.unknown_fields)));
        }
        columns
    }

    pub(super) fn params(&self) -> [Param<'_>; 17] {
        [
            (&self.uid, Type::UUID_ARRAY),
            (&self.agent, Type::TEXT_ARRAY),
            (&self.boot, Type::UUID_ARRAY),
            (&self.seq, Type::INT8_ARRAY),
            (&self.label, Type::TEXT_ARRAY),
            (&self.kind, Type::TEXT_ARRAY),
            (&self.target, Type::TEXT_ARRAY),
            (&self.due_at, Type::TIMESTAMPTZ_ARRAY),
            (&self.started_at, Type::TIMESTAMPTZ_ARRAY),
            (&self.ended_at, Type::TIMESTAMPTZ_ARRAY),
            (&self.duration_us, Type::INT8_ARRAY),
            (&self.interval_ms, Type::INT8_ARRAY),
            (&self.verdict, Type::TEXT_ARRAY),
            (&self.phase, Type::TEXT_ARRAY),
            (&self.reason, Type::TEXT_ARRAY),
            (&self.result, Type::JSONB_ARRAY),
            (&self.extra, Type::JSONB_ARRAY),
        ]
    }
}

/// Roll-ups as the arguments of `pingeon.add_hours`.
#[derive(Debug, Default)]
pub(super) struct Hours<'a> {
    label: Vec<&'a str>,
    agent: Vec<&'a str>,
    hour: Vec<Moment>,
    numbers: [Vec<i32>; 8],
    latency: Vec<Latency>,
}

/// Adds to roll-ups.
pub(super) const ADD_HOURS: &str = "SELECT pingeon.add_hours($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

impl<'a> Hours<'a> {
    pub(super) fn of(hours: &'a [Hour]) -> Self {
        let mut columns = Hours::default();
        for Hour { label, agent, hour, up_ms, degraded_ms, down_ms, slots, latency } in hours {
            columns.label.push(label);
            columns.agent.push(agent);
            columns.hour.push(Moment(*hour));
            let of_slots = [slots.up, slots.degraded, slots.down, slots.unknown, slots.missed];
            let numbers = [*up_ms, *degraded_ms, *down_ms].into_iter().chain(of_slots);
            columns.numbers.iter_mut().zip(numbers).for_each(|(column, number)| column.push(small(number)));
            columns.latency.push(Latency(*latency));
        }
        columns
    }

    pub(super) fn params(&self) -> Vec<Param<'_>> {
        let mut params: Vec<Param<'_>> = vec![
            (&self.label, Type::TEXT_ARRAY),
            (&self.agent, Type::TEXT_ARRAY),
            (&self.hour, Type::TIMESTAMPTZ_ARRAY),
        ];
        params.extend(self.numbers.iter().map(|column| -> Param<'_> { (column, Type::INT4_ARRAY) }));
        params.push((&self.latency, Type::NUMERIC_ARRAY));
        params
    }
}

/// SQL has signed numbers; what a log may hold is bounded by theirs when it is read.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// There are no negative numbers in the store.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counts_of_durations_come_back(counts in prop::collection::vec((0..BUCKETS, any::<u32>()), 0..50)) {
            let mut latency = [0; BUCKETS];
            counts.into_iter().for_each(|(class, count)| latency[class] = count);
            let mut out = BytesMut::new();
            Latency(latency).to_sql(&Type::NUMERIC, &mut out).unwrap();
            prop_assert_eq!(Latency::from_sql(&Type::NUMERIC, &out).unwrap(), Latency(latency));
        }

        #[test]
        fn any_number_is_read_or_refused(raw in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Latency::from_sql(&Type::NUMERIC, &raw);
        }
    }
}
