//! The delivery audit in SQLite: what of each run's numbers is there, what was set aside, and what is neither.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::store::{Delivery, MISSING_MAX, began_at, first_uid};

/// A run that began within this of what the retention deleted may have lost logs to it: an interval's, whose time reaches back
/// before the run's beginning.
const MARGIN: Duration = Duration::from_secs(24 * 3_600);

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

/// The numbers of the runs that have a log from ?1 on, with the time of those that are stored. Goes through all logs and sorts
/// these, on disk where they are many: an index for it would cost each log more than an audit now and then is worth.
const NUMBERS: &str = "WITH run (boot) AS MATERIALIZED (SELECT DISTINCT boot FROM log WHERE uid >= ?1)
    SELECT agent, boot, seq, due_at FROM log WHERE boot IN run
    UNION ALL SELECT agent, boot, seq, NULL FROM rejected WHERE boot IN run
    ORDER BY agent, boot, seq";

/// What arrived of each run whose last log was due at `since` or later, in the order of agent and boot.
pub(super) fn audit(connection: &Connection, since: Timestamp) -> rusqlite::Result<Vec<Delivery>> {
    // One transaction, so that all is seen at one moment.
    let transaction = connection.unchecked_transaction()?;
    let forgotten: i64 = transaction.query_row("SELECT forgotten FROM retention", [], |row| row.get(0))?;
    let whole_from = Timestamp::from_micros(forgotten).plus(MARGIN);
    let mut statement = transaction.prepare(NUMBERS)?;
    let mut rows = statement.query([first_uid(since).as_bytes()])?;
    let (mut found, mut numbers) = (Vec::new(), None::<Numbers>);
    while let Some(row) = rows.next()? {
        let (agent, boot) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_blob()?);
        if numbers.as_ref().is_none_or(|of| (&*of.agent, &of.boot.as_bytes()[..]) != (agent, boot)) {
            found.extend(numbers.take().and_then(Numbers::delivery));
        }
        let of = match &mut numbers {
            Some(of) => of,
            None => numbers.insert(Numbers::of(agent, boot, whole_from)?),
        };
        match row.get::<_, Option<i64>>(3)? {
            Some(due_at) => of.stored(row.get(2)?, Timestamp::from_micros(due_at)),
            None => of.rejected(row.get(2)?),
        }
    }
    found.extend(numbers.take().and_then(Numbers::delivery));
    found.retain(|run| run.last_due_at >= since);
    for run in &mut found {
        run.duplicates = duplicates(&transaction, run)?;
    }
    Ok(found)
}

fn duplicates(connection: &Connection, Delivery { agent, boot, .. }: &Delivery) -> rusqlite::Result<u64> {
    let sql = "SELECT count FROM duplicate WHERE agent = ? AND boot = ?";
    let found = connection.prepare_cached(sql)?.query_row(params![agent, boot.as_bytes()], |row| row.get(0));
    Ok(found.optional()?.unwrap_or(0))
}

/// The numbers of one run, given in their order.
#[derive(Debug)]
struct Numbers {
    agent: Arc<str>,
    boot: Uuid,
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
    /// Of the run `boot` of `agent`, which has all of its logs from 1 on when it began at `whole_from` or later.
    fn of(agent: &str, boot: &[u8], whole_from: Timestamp) -> rusqlite::Result<Self> {
        let wrong = |error| rusqlite::Error::FromSqlConversionFailure(1, Type::Blob, Box::new(error));
        let boot = Uuid::from_slice(boot).map_err(wrong)?;
        Ok(Numbers {
            agent: agent.into(),
            boot,
            due: (began_at(&boot) >= whole_from).then_some(1),
            span: None,
            stored: 0,
            rejected: 0,
            missing: Vec::new(),
            missing_total: 0,
            pending: Vec::new(),
            pending_total: 0,
        })
    }

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
    fn delivery(self) -> Option<Delivery> {
        let Numbers { agent, boot, stored, rejected, missing, missing_total, .. } = self;
        let (lowest, highest, first_due_at, last_due_at) = self.span?;
        Some(Delivery {
            agent,
            boot,
            lowest,
            highest,
            stored,
            rejected,
            duplicates: 0,
            missing,
            missing_total,
            first_due_at,
            last_due_at,
        })
    }
}
