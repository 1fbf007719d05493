//! The delivery audit in SQLite: what of each run's numbers is there, what was set aside, and what is neither.

use std::collections::BTreeMap;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::store::delivery::{Arrived, Runs};
use crate::store::{Delivery, first_uid};

/// Takes note of logs that came again at `at`, by agent and boot.
pub(super) fn count_duplicates(
    transaction: &Connection,
    known: &BTreeMap<(&str, Uuid), u64>,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let mut add = transaction.prepare_cached(
        "INSERT INTO duplicate (agent, boot, count, at) VALUES (?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET count = count + excluded.count, at = excluded.at",
    )?;
    for ((agent, boot), count) in known {
        add.execute(params![agent, boot.as_bytes(), count, at.as_micros()])?;
    }
    Ok(())
}

/// The numbers of the runs that have a log from ?1 on or one set aside from ?2 on, and when each log was due or was set aside. Goes
/// through all logs and sorts these, on disk where they are many: an index for it would cost each log more than an audit now and
/// then is worth.
const NUMBERS: &str = "WITH run (boot) AS MATERIALIZED (
        SELECT boot FROM log WHERE uid >= ?1 UNION SELECT boot FROM rejected WHERE at >= ?2 AND boot IS NOT NULL)
    SELECT agent, boot, seq, due_at, NULL FROM log WHERE boot IN run
    UNION ALL SELECT agent, boot, seq, NULL, at FROM rejected WHERE boot IN run
    ORDER BY agent, boot, seq";

/// What arrived of each run that has a log due at `since` or later, or one set aside since then, in the order of agent and boot.
pub(super) fn audit(connection: &Connection, since: Timestamp) -> rusqlite::Result<Vec<Delivery>> {
    // One transaction, so that all is seen at one moment.
    let transaction = connection.unchecked_transaction()?;
    let forgotten: i64 = transaction.query_row("SELECT forgotten FROM retention", [], |row| row.get(0))?;
    let mut runs = Runs::new(since, (forgotten > 0).then(|| Timestamp::from_micros(forgotten)));
    let mut statement = transaction.prepare(NUMBERS)?;
    let mut rows = statement.query(params![first_uid(since).as_bytes(), since.as_micros()])?;
    while let Some(row) = rows.next()? {
        let arrived = match row.get::<_, Option<i64>>(3)? {
            Some(due_at) => Arrived::Stored(Timestamp::from_micros(due_at)),
            None => Arrived::SetAside(Timestamp::from_micros(row.get(4)?)),
        };
        runs.push(row.get_ref(0)?.as_str()?, boot(row.get_ref(1)?.as_blob()?)?, row.get(2)?, arrived);
    }
    let mut found = runs.deliveries();
    for run in &mut found {
        run.duplicates = duplicates(&transaction, run)?;
    }
    Ok(found)
}

fn boot(bytes: &[u8]) -> rusqlite::Result<Uuid> {
    Uuid::from_slice(bytes).map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, Type::Blob, Box::new(error)))
}

fn duplicates(connection: &Connection, Delivery { agent, boot, .. }: &Delivery) -> rusqlite::Result<u64> {
    let sql = "SELECT count FROM duplicate WHERE agent = ? AND boot = ?";
    let found = connection.prepare_cached(sql)?.query_row(params![agent, boot.as_bytes()], |row| row.get(0));
    Ok(found.optional()?.unwrap_or(0))
}
