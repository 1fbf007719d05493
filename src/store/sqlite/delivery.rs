//! The delivery audit in SQLite: what of each run's numbers is there, what was set aside, and what is neither.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::store::Delivery;
use crate::store::delivery::{Numbers, is_whole};

pub(super) const NEXT_RUN: &str =
    "SELECT agent, boot FROM log WHERE (agent, boot) > (?1, ?2) ORDER BY agent, boot LIMIT 1";
/// The numbers of a run in order, with the time of those that are stored.
pub(super) const NUMBERS: &str = "SELECT seq, due_at FROM log WHERE agent = ?1 AND boot = ?2
    UNION ALL SELECT seq, NULL FROM rejected WHERE agent = ?1 AND boot = ?2 ORDER BY seq";

/// Takes note of logs that came again, by agent and boot.
pub(super) fn count_duplicates(transaction: &Connection, known: &BTreeMap<(&str, Uuid), u64>) -> rusqlite::Result<()> {
    let mut add = transaction.prepare_cached(
        "INSERT INTO duplicate (agent, boot, count) VALUES (?, ?, ?)
         ON CONFLICT DO UPDATE SET count = count + excluded.count",
    )?;
    for ((agent, boot), count) in known {
        add.execute(params![agent, boot.as_bytes(), count])?;
    }
    Ok(())
}

/// What arrived of each run whose last log was due at `since` or later, in the order of agent and boot.
pub(super) fn audit(connection: &Connection, since: Timestamp) -> rusqlite::Result<Vec<Delivery>> {
    // One transaction, so that all runs are seen at one moment.
    let transaction = connection.unchecked_transaction()?;
    let forgotten: i64 = transaction.query_row("SELECT forgotten FROM retention", [], |row| row.get(0))?;
    let forgotten = Timestamp::from_micros(forgotten);
    let (mut found, mut last) = (Vec::new(), (Arc::from(""), Vec::new()));
    while let Some((agent, boot)) = next_run(&transaction, &last)? {
        let run = delivery_of(&transaction, &agent, &boot, forgotten)?;
        found.extend(run.filter(|run| run.last_due_at >= since));
        last = (agent, boot);
    }
    Ok(found)
}

/// The run after `last` in the index.
fn next_run(
    connection: &Connection,
    (agent, boot): &(Arc<str>, Vec<u8>),
) -> rusqlite::Result<Option<(Arc<str>, Vec<u8>)>> {
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    connection.prepare_cached(NEXT_RUN)?.query_row(params![agent, boot], read).optional()
}

/// Goes through the numbers of one run in their order; `forgotten` as for [`is_whole`].
fn delivery_of(
    connection: &Connection,
    agent: &Arc<str>,
    boot: &[u8],
    forgotten: Timestamp,
) -> rusqlite::Result<Option<Delivery>> {
    let blob = |error| rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Blob, Box::new(error));
    let id = Uuid::from_slice(boot).map_err(blob)?;
    let mut numbers = Numbers::new(is_whole(&id, forgotten));
    let mut statement = connection.prepare_cached(NUMBERS)?;
    let mut rows = statement.query(params![agent, boot])?;
    while let Some(row) = rows.next()? {
        match row.get::<_, Option<i64>>(1)? {
            Some(due_at) => numbers.stored(row.get(0)?, Timestamp::from_micros(due_at)),
            None => numbers.rejected(row.get(0)?),
        }
    }
    let sql = "SELECT count FROM duplicate WHERE agent = ? AND boot = ?";
    let duplicates = connection.prepare_cached(sql)?.query_row(params![agent, boot], |row| row.get(0)).optional()?;
    Ok(numbers.delivery(Arc::clone(agent), id, duplicates.unwrap_or(0)))
}
