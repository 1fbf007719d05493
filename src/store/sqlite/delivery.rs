//! The delivery audit in SQLite: what of each run's numbers is there, what was set aside, and what is neither.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::store::{Delivery, MISSING_MAX, millis};

/// A run that began within this of what the retention deleted may have lost logs to it: an interval's, whose time reaches back
/// before the run's beginning.
const MARGIN: Duration = Duration::from_secs(24 * 3_600);

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
    let whole_from = Timestamp::from_micros(forgotten).plus(MARGIN);
    let (mut found, mut last) = (Vec::new(), (Arc::from(""), Vec::new()));
    while let Some((agent, boot)) = next_run(&transaction, &last)? {
        let run = delivery_of(&transaction, &agent, &boot, whole_from)?;
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

/// Goes through the numbers of one run in their order. Its logs are looked for from 1 on when it began at `whole_from` or later.
fn delivery_of(
    connection: &Connection,
    agent: &Arc<str>,
    boot: &[u8],
    whole_from: Timestamp,
) -> rusqlite::Result<Option<Delivery>> {
    let blob = |error| rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Blob, Box::new(error));
    let id = Uuid::from_slice(boot).map_err(blob)?;
    let whole = millis(&id) >= whole_from.as_millis();
    let mut numbers = Numbers { due: whole.then_some(1), ..Numbers::default() };
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

/// The numbers of one run, given in their order.
#[derive(Debug, Default)]
struct Numbers {
    /// The number that comes next when none is missing; `None`: whichever is the first.
    due: Option<u64>,
    /// Lowest and highest, and the first and last time, of what is stored.
    span: Option<(u64, u64, Timestamp, Timestamp)>,
    stored: u64,
    rejected: u64,
    /// What is missing before a number that is stored: the first ranges, and how many numbers in all.
    missing: Vec<(u64, u64)>,
    missing_total: u64,
    /// Likewise after it: nobody knows yet whether they have been given out.
    pending: Vec<(u64, u64)>,
    pending_total: u64,
}

impl Numbers {
    fn stored(&mut self, seq: u64, due_at: Timestamp) {
        self.pass(seq);
        let room = MISSING_MAX - self.missing.len();
        self.missing.extend(self.pending.drain(..).take(room));
        self.missing_total += std::mem::take(&mut self.pending_total);
        let (lowest, highest, first, last) = self.span.unwrap_or((seq, seq, due_at, due_at));
        self.span = Some((lowest.min(seq), highest.max(seq), first.min(due_at), last.max(due_at)));
        self.stored += 1;
    }

    fn rejected(&mut self, seq: u64) {
        // Where it is not known what came before the first that is stored, it does not matter.
        if self.due.is_some() {
            self.pass(seq);
        }
        self.rejected += 1;
    }

    fn pass(&mut self, seq: u64) {
        let due = self.due.unwrap_or(seq);
        if seq > due {
            if self.pending.len() < MISSING_MAX {
                self.pending.push((due, seq - 1));
            }
            self.pending_total += seq - due;
        }
        self.due = Some(due.max(seq.saturating_add(1)));
    }

    /// `None`: nothing of the run is stored.
    fn delivery(self, agent: Arc<str>, boot: Uuid, duplicates: u64) -> Option<Delivery> {
        let Numbers { stored, rejected, missing, missing_total, .. } = self;
        let (lowest, highest, first_due_at, last_due_at) = self.span?;
        Some(Delivery {
            agent,
            boot,
            lowest,
            highest,
            stored,
            rejected,
            duplicates,
            missing,
            missing_total,
            first_due_at,
            last_due_at,
        })
    }
}
