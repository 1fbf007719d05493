//! The end that hands logs on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::select;
use rusqlite::params;

use super::{BATCH_LOGS_MAX, Shared};
use crate::clock::{Clock, SystemClock};
use crate::database::{Database, Reject, Shelf, set_aside};
use crate::flow::{Batch, Fault, Position, Refused, Source, Unreadable};
use crate::jobs::Stop;
use crate::logs::Log;

/// The table of what was refused.
const REFUSED: Shelf = Shelf { table: "refused", by_run: false };

/// The end that hands logs on. Dropping it deletes what was handed on.
#[derive(Debug)]
pub struct Reader {
    database: Database,
    bytes_max: u64,
    shared: Arc<Shared>,
    stop: Stop,
}

impl Reader {
    pub(super) fn new(database: Database, bytes_max: u64, shared: Arc<Shared>, stop: Stop) -> Self {
        Reader { database, bytes_max, shared, stop }
    }

    /// The logs after those that were committed, as many as a batch may hold.
    fn next(&mut self) -> Result<Batch, Fault> {
        loop {
            let (batch, unreadable) = self.select().map_err(|error| self.database.fault(&error))?;
            if unreadable.is_empty() {
                return Ok(batch);
            }
            self.set_unreadable_aside(&unreadable).map_err(|error| self.database.fault(&error))?;
            // What nobody can read does not hold up what comes behind it.
            if !batch.is_empty() {
                return Ok(batch);
            }
        }
    }

    fn select(&self) -> rusqlite::Result<(Batch, Vec<(i64, Unreadable)>)> {
        let mut handover = self.shared.handover();
        let mut statement =
            self.database.connection.prepare_cached("SELECT id, json FROM log WHERE id > ? ORDER BY id LIMIT ?")?;
        let mut rows = statement.query(params![handover.committed, BATCH_LOGS_MAX])?;
        let (mut logs, mut unreadable, mut bytes, mut last) = (Vec::new(), Vec::new(), 0, handover.committed);
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            let json = row.get_ref(1)?.as_blob()?;
            bytes += json.len() as u64;
            if bytes > self.bytes_max && last > handover.committed {
                break;
            }
            last = id;
            match Log::from_json(json) {
                Ok(log) => logs.push(log),
                Err(reason) => {
                    unreadable.push((id, Unreadable { bytes: json.to_vec(), origin: format!("spool {id}"), reason }));
                }
            }
        }
        handover.pulled = last;
        Ok((Batch { logs, unreadable: Vec::new(), position: Position(vec![(0, last)]) }, unreadable))
    }

    /// Rows that are no logs leave the queue at once: nothing downstream could do more with them.
    fn set_unreadable_aside(&mut self, rows: &[(i64, Unreadable)]) -> rusqlite::Result<()> {
        let transaction = self.database.begin()?;
        let rejects: Vec<_> = rows.iter().map(|(_, row)| Reject::from(row)).collect();
        set_aside(&transaction, REFUSED, SystemClock.now().wall, &rejects, self.bytes_max)?;
        for (id, _) in rows {
            let gone = transaction.execute("DELETE FROM log WHERE id = ?", [id])?;
            transaction.execute("UPDATE tally SET logs = logs - ?", [gone])?;
        }
        transaction.commit()?;
        if let Some((_, Unreadable { origin, reason, .. })) = rows.first() {
            log::error!("can't be read as logs and were set aside: {}; the first, {origin}: {reason}", rows.len());
        }
        self.shared.figures().refused += rows.len() as u64;
        self.shared.count(0, rows.len());
        Ok(())
    }

    fn set_refused_aside(&mut self, batch: &Batch, refused: &[Refused]) -> rusqlite::Result<()> {
        let transaction = self.database.begin()?;
        let logs = refused.iter().filter_map(|refused| Some((batch.logs.get(refused.index)?, &refused.reason)));
        let rejects: Vec<_> = logs
            .map(|(log, reason)| Reject { bytes: log.to_json().into(), origin: "sink".into(), reason, run: None })
            .collect();
        set_aside(&transaction, REFUSED, SystemClock.now().wall, &rejects, self.bytes_max)?;
        transaction.commit()?;
        self.shared.figures().refused += rejects.len() as u64;
        Ok(())
    }

    /// Deletes what was handed on since the writer last did.
    fn forget(&mut self) -> rusqlite::Result<()> {
        let committed = self.shared.handover().committed;
        if committed > self.shared.handover().deleted {
            let transaction = self.database.begin()?;
            let gone = transaction.execute("DELETE FROM log WHERE id <= ?", [committed])?;
            transaction.execute("UPDATE tally SET logs = logs - ?", [gone])?;
            transaction.commit()?;
            self.shared.handover().deleted = committed;
        }
        Ok(())
    }
}

impl Source for Reader {
    fn pull(&mut self, wait: Duration) -> Result<Batch, Fault> {
        let until = Instant::now() + wait;
        loop {
            // Asked first: what is in the spool before the word to stop is seen is in this batch.
            let stopping = self.stop.is_set();
            let batch = self.next()?;
            let left = until.saturating_duration_since(Instant::now());
            if !batch.is_empty() || left.is_zero() || stopping {
                return Ok(batch);
            }
            select! {
                recv(self.shared.fresh.1) -> _ => {}
                recv(self.stop.channel()) -> _ => {}
                default(left) => {}
            }
        }
    }

    fn commit(&mut self, batch: &Batch, refused: &[Refused]) -> Result<(), Fault> {
        let Some(&(_, position)) = batch.position.0.first() else { return Ok(()) };
        if position <= self.shared.handover().committed {
            return Ok(());
        }
        if !refused.is_empty() {
            self.set_refused_aside(batch, refused).map_err(|error| self.database.fault(&error))?;
        }
        self.shared.handover().committed = position;
        self.shared.count(0, batch.logs.len());
        // A word that is there already says the same.
        let _ = self.shared.room.0.try_send(());
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Err(error) = self.forget() {
            log::warn!("logs that were handed on stay in the spool, and will be handed on again: {error}");
        }
    }
}
