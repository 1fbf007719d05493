//! Roll-ups in SQLite: added to, read, and filled once from the logs of a store that an older build made.

use std::sync::Arc;

use rusqlite::functions::FunctionFlags;
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, Row, params};

use super::archive;
use crate::clock::Timestamp;
use crate::database::Database;
use crate::store::rollup::{BUCKETS, Hour, Slots, Uptime, Uptimes, add_hour, add_latency, roll_up};

/// How many logs are held at once while roll-ups are filled from them.
const FILL_LOGS: usize = 10_000;

/// Makes what [`add`] needs of the connection.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("add_latency", 2, flags, |of| {
        let read = |nth| unpacked(of.get_raw(nth).as_blob()?).ok_or(FromSqlError::InvalidType);
        let wrong = |error| rusqlite::Error::UserFunctionError(Box::new(error));
        let (mut sum, more) = (read(0).map_err(wrong)?, read(1).map_err(wrong)?);
        add_latency(&mut sum, &more);
        Ok(packed(&sum))
    })
}

/// Adds `hours` to those that are there, each in one statement: a batch has one for nearly each label. The sums have 64 bits here,
/// which no number of batches fills, and are cut to what an [`Hour`] holds when they are read.
pub(super) fn add(transaction: &Connection, hours: &[Hour]) -> rusqlite::Result<()> {
    let mut add = transaction.prepare_cached(
        "INSERT INTO hour (label, agent, hour, up_ms, degraded_ms, down_ms, up, degraded, down, unknown, missed, latency)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO UPDATE SET
             up_ms = up_ms + excluded.up_ms,
             degraded_ms = degraded_ms + excluded.degraded_ms,
             down_ms = down_ms + excluded.down_ms,
             up = up + excluded.up,
             degraded = degraded + excluded.degraded,
             down = down + excluded.down,
             unknown = unknown + excluded.unknown,
             missed = missed + excluded.missed,
             latency = add_latency(latency, excluded.latency)",
    )?;
    for Hour { label, agent, hour, up_ms, degraded_ms, down_ms, slots, latency } in hours {
        let Slots { up, degraded, down, unknown, missed } = slots;
        let (hour, latency) = (hour.as_micros(), packed(latency));
        add.execute(params![
            label,
            agent,
            hour,
            up_ms,
            degraded_ms,
            down_ms,
            up,
            degraded,
            down,
            unknown,
            missed,
            latency
        ])?;
    }
    Ok(())
}

/// The hours of each label and agent of `wanted` (none: of all labels) in `from..to`, summed up, in their order.
pub(super) fn uptimes(
    connection: &Connection,
    wanted: &[Arc<str>],
    range: (Timestamp, Timestamp),
) -> rusqlite::Result<Vec<Uptime>> {
    let mut sums = Uptimes::new();
    read(connection, wanted, range, &mut |hour| add_hour(&mut sums, &hour))?;
    Ok(sums.into_values().collect())
}

/// Gives `each` the hours of `wanted` (none: of all labels) in `from..to`, in the order of hour, label and agent, which is that of
/// the table.
pub(super) fn read(
    connection: &Connection,
    wanted: &[Arc<str>],
    (from, to): (Timestamp, Timestamp),
    each: &mut dyn FnMut(Hour),
) -> rusqlite::Result<()> {
    let json = |error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
    let names = (!wanted.is_empty()).then(|| serde_json::to_string(wanted)).transpose().map_err(json)?;
    let mut statement = connection.prepare_cached(
        "SELECT label, agent, hour, up_ms, degraded_ms, down_ms, up, degraded, down, unknown, missed, latency FROM hour
         WHERE hour >= ?1 AND hour < ?2 AND (?3 IS NULL OR label IN (SELECT value FROM json_each(?3)))
         ORDER BY hour, label, agent",
    )?;
    let mut rows = statement.query(params![from.as_micros(), to.as_micros(), names])?;
    while let Some(row) = rows.next()? {
        each(read_hour(row)?);
    }
    Ok(())
}

fn read_hour(row: &Row<'_>) -> rusqlite::Result<Hour> {
    let sum = |column| Ok::<_, rusqlite::Error>(u32::try_from(row.get::<_, u64>(column)?).unwrap_or(u32::MAX));
    let damaged = || rusqlite::Error::FromSqlConversionFailure(11, Type::Blob, "no counts of durations".into());
    Ok(Hour {
        label: row.get(0)?,
        agent: row.get(1)?,
        hour: Timestamp::from_micros(row.get(2)?),
        up_ms: sum(3)?,
        degraded_ms: sum(4)?,
        down_ms: sum(5)?,
        slots: Slots { up: sum(6)?, degraded: sum(7)?, down: sum(8)?, unknown: sum(9)?, missed: sum(10)? },
        latency: unpacked(row.get_ref(11)?.as_blob()?).ok_or_else(damaged)?,
    })
}

/// For each class that has some, its number and their count: a byte, and LEB128 (DWARF 5, section 7.6).
fn packed(latency: &[u32; BUCKETS]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    for (class, count) in (0_u8..).zip(latency).filter(|(_, count)| **count > 0) {
        bytes.push(class);
        let mut rest = *count;
        while rest >= 0x80 {
            bytes.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
    bytes
}

/// `None`: not what [`packed`] makes.
fn unpacked(bytes: &[u8]) -> Option<[u32; BUCKETS]> {
    let (mut latency, mut bytes) = ([0_u32; BUCKETS], bytes.iter());
    while let Some(class) = bytes.next() {
        let count = latency.get_mut(usize::from(*class))?;
        let mut shift = 0;
        loop {
            let byte = *bytes.next()?;
            *count |= u32::from(byte & 0x7f).checked_shl(shift)?;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
    }
    Some(latency)
}

/// Fills the roll-ups from the logs where there are none: what an older build kept. All at once or not at all.
pub(super) fn fill(database: &mut Database) -> rusqlite::Result<()> {
    if !lacks_hours(&database.connection)? {
        return Ok(());
    }
    let transaction = database.begin()?;
    // Another process may have done it while this one waited for its turn.
    if lacks_hours(&transaction)? {
        log::info!("the store has logs and no roll-ups: they are made now, which may take minutes");
        let mut statement = transaction.prepare(
            "SELECT due_at, interval_ms, verdict, duration_us, NULL, iif(verdict = 'missed', result, NULL), label, agent
             FROM log ORDER BY uid",
        )?;
        let (mut rows, mut held) = (statement.query([])?, Vec::with_capacity(FILL_LOGS));
        while let Some(row) = rows.next()? {
            held.push(archive::read(row, &row.get(6)?, &row.get(7)?, None)?);
            if held.len() == FILL_LOGS {
                add(&transaction, &roll_up(&held))?;
                held.clear();
            }
        }
        add(&transaction, &roll_up(&held))?;
    }
    transaction.commit()
}

/// Each log has its hour, so a store with logs has hours, but for one of an older build.
fn lacks_hours(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM log) AND NOT EXISTS (SELECT 1 FROM hour)";
    connection.query_row(sql, [], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_count_of_durations_is_told() {
        for bytes in [&[0][..], &[0, 0x80], &[40, 1], &[0, 0x80, 0x80, 0x80, 0x80, 0x80, 1]] {
            assert_eq!(unpacked(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn counts_come_back(counts in prop::collection::vec((0..BUCKETS, any::<u32>()), 0..50)) {
            let mut latency = [0; BUCKETS];
            counts.into_iter().for_each(|(class, count)| latency[class] = count);
            prop_assert_eq!(unpacked(&packed(&latency)), Some(latency));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            let _ = unpacked(&bytes);
        }
    }
}
