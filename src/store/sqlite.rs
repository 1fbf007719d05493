//! The embedded store: one SQLite file (WAL, synchronous=FULL; its schema is `sql/sqlite/`).
//!
//! A batch is kept in one transaction, on disk before [`Sink::deliver`] returns; a log whose uid is known already is dropped.
//! What can't be kept as a log (not one, older than the retention, more than a day ahead) goes into `rejected` with its bytes,
//! origin and reason, in the same transaction, and what comes again is known by its origin: nothing disappears without a
//! trace. Reports read while `run` writes.
//!
//! The same transaction adds what is new to the roll-ups and counts what came again, so both are right after any crash.

mod archive;
mod delivery;
mod hours;
mod retention;
#[cfg(test)]
mod tests;

pub use archive::Archive;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::params;

use crate::clock::{Clock, Timestamp};
use crate::config;
use crate::database::{Access, Database, Kind, Reject, Shelf, set_aside};
use crate::flow::{Batch, Delivered, Fault, Sink};
use crate::logs::Log;
use crate::store::rollup::roll_up;
use crate::store::{AHEAD_MAX, unfit};

/// The table of what can't be kept as a log.
const REJECTED: Shelf = Shelf { table: "rejected", by_run: true };
/// What all of it may take, in bytes.
const REJECTED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The page cache, in KiB: the end of the table, and the part of the index that a thousand labels touch.
const CACHE_KIB: u32 = 2_048;

const STORE: Kind = Kind {
    name: "store",
    key: "store.sqlite.path",
    application_id: i32::from_be_bytes(*b"PngL"),
    migrations: &[
        include_str!("../../sql/sqlite/001_log.sql"),
        include_str!("../../sql/sqlite/002_hour.sql"),
        include_str!("../../sql/sqlite/003_starved.sql"),
    ],
    // So that the file can shrink; only a new file can be laid out for it.
    layout: "PRAGMA auto_vacuum = INCREMENTAL",
};

/// The SQL that makes the schema, from nothing on.
pub fn schema() -> String {
    STORE.migrations.concat()
}

/// The store, open for writing.
pub struct Sqlite {
    database: Database,
    retention: Duration,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.database.path()).finish_non_exhaustive()
    }
}

impl Sqlite {
    /// Opens the store, or makes it, and brings it up to date: its schema, and the roll-ups of logs from before there were any,
    /// which takes a while once. `clock` tells which logs are too old or too new.
    ///
    /// # Errors
    /// A sentence for people: not a store, damaged, made by a newer Pingeon.
    pub fn open(settings: &config::Sqlite, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let mut database = Database::open(&settings.path, &STORE, Access::Write, CACHE_KIB)?;
        let hours = hours::prepare(&database.connection).and_then(|()| hours::fill(&mut database));
        hours.map_err(|error| database.said(&error))?;
        Ok(Sqlite { database, retention: settings.retention, clock })
    }

    fn take(&mut self, batch: &Batch) -> rusqlite::Result<Delivered> {
        let now = self.clock.now().wall;
        let (oldest, newest) = (now.minus(self.retention), now.plus(AHEAD_MAX));
        let (mut new, mut known, mut rejects) = (Vec::new(), BTreeMap::<_, u64>::new(), Vec::new());
        let transaction = self.database.begin()?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            for log in &batch.logs {
                if let Some(reason) = unfit(log, oldest, newest) {
                    let (bytes, origin) = (log.to_json().into(), format!("{} {}", log.agent, log.uid).into());
                    rejects.push(Reject { bytes, origin, reason, run: Some((&log.agent, log.boot, log.seq)) });
                } else if put(&mut insert, log)? {
                    new.push(log);
                } else {
                    *known.entry((&*log.agent, log.boot)).or_default() += 1;
                }
            }
        }
        let mut delivered = Delivered { new: new.len(), ..Delivered::default() };
        hours::add(&transaction, &roll_up(new))?;
        delivery::count_duplicates(&transaction, &known, now)?;
        rejects.extend(batch.unreadable.iter().map(Reject::from));
        delivered.rejected = set_aside(&transaction, REJECTED, now, &rejects, REJECTED_BYTES_MAX)?;
        delivered.duplicate = batch.logs.len() + batch.unreadable.len() - delivered.new - delivered.rejected;
        transaction.commit()?;
        if let (Some(Reject { origin, reason, .. }), 1..) = (rejects.first(), delivered.rejected) {
            let table = REJECTED.table;
            log::warn!("set aside in `{table}`: {}; the first, {origin}: {reason}", delivered.rejected);
        }
        Ok(delivered)
    }
}

impl Sink for Sqlite {
    fn deliver(&mut self, batch: &Batch) -> Result<Delivered, Fault> {
        self.take(batch).map_err(|error| self.database.fault(&error))
    }
}

const INSERT: &str = "INSERT INTO log
    (uid, agent, boot, seq, label, kind, target, due_at, started_at, ended_at, duration_us, interval_ms, verdict, phase, reason,
     result, extra, starved_us)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (uid) DO NOTHING";

/// Whether the log is new.
fn put(insert: &mut rusqlite::CachedStatement<'_>, log: &Log) -> rusqlite::Result<bool> {
    let json = |error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
    let extra = match &log.unknown_fields {
        none if none.is_empty() => None,
        some => Some(serde_json::to_string(some).map_err(json)?),
    };
    let inserted = insert.execute(params![
        log.uid.as_bytes(),
        log.agent,
        log.boot.as_bytes(),
        log.seq,
        log.label,
        log.kind,
        log.target,
        log.due_at.as_micros(),
        log.started_at.map(Timestamp::as_micros),
        log.ended_at.map(Timestamp::as_micros),
        log.duration_us,
        log.interval_ms,
        log.verdict.name(),
        log.phase.map(crate::check::Phase::name),
        log.reason,
        log.result.as_str(),
        extra,
        log.strain().and_then(|strain| strain.starved_us).filter(|starved| i64::try_from(*starved).is_ok()),
    ])?;
    Ok(inserted > 0)
}

/// Opens the store at `path` for reading.
fn open_to_read(path: &Path, cache_kib: u32) -> Result<Database, String> {
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Err(format!("there is no store `{}` yet: `pingeon run` makes it", path.display())),
        Err(error) => {
            return Err(format!(
                "cannot look for the store `{}`: {error}; root and the group of its folder can",
                path.display()
            ));
        }
    }
    Database::open(path, &STORE, Access::Read, cache_kib)
}
