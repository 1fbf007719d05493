//! What reports and pages ask of the store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};

use super::{delivery, hours, open_to_read};
use crate::check::Verdict;
use crate::clock::Timestamp;
use crate::database::Database;
use crate::logs::Missed;
use crate::store::rollup::Uptime;
use crate::store::{self, Before, Delivery, Row, first_needed, first_uid};

/// The page cache of a reader, in KiB.
const CACHE_KIB: u32 = 2_048;
/// Logs before the range that are looked at for one that reaches into it: the last, and those that a restart may have left
/// out of order with it.
const REACH_BACK: usize = 8;

/// The store, open for reading, also while another process writes.
#[derive(Debug)]
pub struct Archive {
    database: Database,
}

impl Archive {
    /// Opens the store at `path` read-only.
    ///
    /// # Errors
    /// A sentence for people: nothing there yet, not a store, damaged, made by a newer Pingeon.
    pub fn open(path: &Path) -> Result<Self, String> {
        Ok(Archive { database: open_to_read(path, CACHE_KIB)? })
    }

    fn said<T>(&self, result: rusqlite::Result<T>) -> Result<T, String> {
        result.map_err(|error| self.database.said(&error))
    }

    /// A store is read as it is; one of an older build has no `what` yet.
    fn of_this_build(&self, what: &str) -> Result<(), String> {
        if self.said(self.database.is_up_to_date())? {
            return Ok(());
        }
        let path = self.database.path().display();
        Err(format!(
            "the store `{path}` is one of an older Pingeon, without {what}: `pingeon migrate` brings it up to date"
        ))
    }
}

impl store::Archive for Archive {
    fn labels(&mut self) -> Result<Vec<Arc<str>>, String> {
        self.said(labels(&self.database.connection))
    }

    fn rows(
        &mut self,
        wanted: &[Arc<str>],
        range: (Timestamp, Timestamp),
        before: Before<'_>,
        each: &mut dyn FnMut(Row),
    ) -> Result<(), String> {
        // One transaction, so that all labels are seen at one moment.
        let mut read = || {
            let transaction = self.database.connection.unchecked_transaction()?;
            let starved = starved(&self.database)?;
            let mut wanted = if wanted.is_empty() { labels(&transaction)? } else { wanted.to_vec() };
            wanted.sort();
            wanted.dedup();
            for label in &wanted {
                for agent in agents(&transaction, label)? {
                    rows_of((&transaction, starved), label, &agent, range, before(label), each)?;
                }
            }
            Ok(())
        };
        self.said(read())
    }

    fn last(&mut self) -> Result<Vec<Row>, String> {
        let read = || {
            let transaction = self.database.connection.unchecked_transaction()?;
            let starved = starved(&self.database)?;
            let mut last = Vec::new();
            for label in labels(&transaction)? {
                for agent in agents(&transaction, &label)? {
                    last.extend(rows_before((&transaction, starved), &label, &agent, Timestamp::MAX, 1)?);
                }
            }
            Ok(last)
        };
        self.said(read())
    }

    fn uptimes(&mut self, wanted: &[Arc<str>], from: Timestamp, to: Timestamp) -> Result<Vec<Uptime>, String> {
        self.of_this_build("roll-ups")?;
        self.said(hours::uptimes(&self.database.connection, wanted, (from, to)))
    }

    fn delivery(&mut self, since: Timestamp) -> Result<Vec<Delivery>, String> {
        self.of_this_build("delivery audit")?;
        self.said(delivery::audit(&self.database.connection, since))
    }
}

/// The labels in order: jumps through the index from one to the next, instead of reading all of it.
fn labels(connection: &Connection) -> rusqlite::Result<Vec<Arc<str>>> {
    let sql = "WITH RECURSIVE each (label) AS (
            SELECT min(label) FROM log
            UNION ALL SELECT (SELECT min(label) FROM log WHERE label > each.label) FROM each WHERE label IS NOT NULL
        ) SELECT label FROM each WHERE label IS NOT NULL";
    connection.prepare_cached(sql)?.query_map([], |row| row.get(0))?.collect()
}

/// The agents that have logs of `label`, in order; likewise.
fn agents(connection: &Connection, label: &str) -> rusqlite::Result<Vec<Arc<str>>> {
    let sql = "WITH RECURSIVE each (agent) AS (
            SELECT min(agent) FROM log WHERE label = ?1
            UNION ALL SELECT (SELECT min(agent) FROM log WHERE label = ?1 AND agent > each.agent) FROM each
            WHERE agent IS NOT NULL
        ) SELECT agent FROM each WHERE agent IS NOT NULL";
    connection.prepare_cached(sql)?.query_map([label], |row| row.get(0))?.collect()
}

/// The column that tells how long a check was starved, for `SELECT`; a store of an older build has none.
fn starved(database: &Database) -> rusqlite::Result<&'static str> {
    Ok(if database.is_up_to_date()? { "starved_us" } else { "NULL" })
}

fn rows_of(
    (connection, starved): (&Connection, &str),
    label: &Arc<str>,
    agent: &Arc<str>,
    (from, to): (Timestamp, Timestamp),
    before: usize,
    each: &mut dyn FnMut(Row),
) -> rusqlite::Result<()> {
    let mut earlier = rows_before((connection, starved), label, agent, from, before.max(REACH_BACK))?;
    earlier.reverse();
    let needed = first_needed(&earlier, from, before);
    earlier.into_iter().skip(needed).for_each(&mut *each);
    let mut statement = connection.prepare_cached(&format!(
        "SELECT due_at, interval_ms, verdict, duration_us, reason, iif(verdict = 'missed', result, {starved}) FROM log
        WHERE label = ? AND agent = ? AND uid >= ? AND uid < ? AND due_at >= ? AND due_at < ? ORDER BY uid"
    ))?;
    // The bounds of the uid are whole milliseconds; `due_at` is finer.
    let (first, end) = (first_uid(from), first_uid(to.plus(Duration::from_millis(1))));
    let mut rows =
        statement.query(params![label, agent, first.as_bytes(), end.as_bytes(), from.as_micros(), to.as_micros()])?;
    // Reasons repeat from log to log, and are shared while they do.
    let mut last_reason = None;
    while let Some(row) = rows.next()? {
        let row = read(row, label, agent, last_reason.as_ref())?;
        last_reason.clone_from(&row.reason);
        each(row);
    }
    Ok(())
}

/// The last rows before `before`, newest first.
fn rows_before(
    (connection, starved): (&Connection, &str),
    label: &Arc<str>,
    agent: &Arc<str>,
    before: Timestamp,
    most: usize,
) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT due_at, interval_ms, verdict, duration_us, reason, iif(verdict = 'missed', result, {starved}) FROM log
        WHERE label = ? AND agent = ? AND uid < ? AND due_at < ? ORDER BY uid DESC LIMIT ?"
    ))?;
    let end = first_uid(before.plus(Duration::from_millis(1)));
    statement
        .query_map(params![label, agent, end.as_bytes(), before.as_micros(), most], |row| {
            read(row, label, agent, None)
        })?
        .collect()
}

/// From the first six columns of `row`, in the order in which [`rows_of`] selects them.
pub(super) fn read(
    row: &rusqlite::Row<'_>,
    label: &Arc<str>,
    agent: &Arc<str>,
    last_reason: Option<&Arc<str>>,
) -> rusqlite::Result<Row> {
    let word = row.get_ref(2)?.as_str()?;
    let verdict = Verdict::ALL.into_iter().find(|verdict| verdict.name() == word);
    let reason = row.get_ref(4)?.as_str_or_null()?;
    let (missed, starved_us) = match row.get_ref(5)? {
        ValueRef::Integer(starved_us) => (None, u64::try_from(starved_us).ok()),
        other => (other.as_str_or_null()?, None),
    };
    Ok(Row {
        agent: Arc::clone(agent),
        label: Arc::clone(label),
        due_at: Timestamp::from_micros(row.get(0)?),
        interval: Duration::from_millis(row.get(1)?),
        // A word that is not ours is not taken for up or down.
        verdict: verdict.unwrap_or(Verdict::Unknown),
        duration_us: row.get(3)?,
        starved_us,
        reason: reason.map(|reason| match last_reason {
            Some(last) if **last == *reason => Arc::clone(last),
            _ => Arc::from(reason),
        }),
        missed: missed.and_then(|result| serde_json::from_str::<Missed>(result).ok()),
    })
}
