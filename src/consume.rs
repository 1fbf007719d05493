//! The consumer half: every thread and channel of it, on one screen.
//!
//! ```text
//! source ──▶ pump ──▶ store ◀── retention
//! ```
//!
//! No channels: the pump pulls a batch, delivers it and commits it, and holds one batch at a time.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::Store;
use crate::flow::{Backoff, Fault, Figures, Pump, Source, pump};
use crate::jobs::{Jobs, Pulse, Stop, step_back};
use crate::store::sqlite::Sqlite;

const STACK: usize = 512 * 1024;

/// How a pump waits after a fault: a store that is restarted is met within a second, one that stays away is asked twice a
/// minute.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(30) };

/// How often old logs are looked for.
const RETENTION_EVERY: Duration = Duration::from_secs(600);

/// While there are more of them, the pump gets this long to write between two rounds of deleting.
const RETENTION_PAUSE: Duration = Duration::from_millis(100);

/// A round that takes longer than this is stuck: it is some twenty transactions, each of which may wait for 5 s to begin.
const PULSE_LIMIT: Duration = Duration::from_secs(120);

/// Starts every thread of the consumer half. `drained` is set when nothing more comes into the source: the pump empties it
/// and ends. What the pump has done is in the figures.
///
/// # Errors
/// When the store cannot be opened or a thread cannot be started.
pub fn start<S>(jobs: &Jobs, mut source: S, store: &Store, drained: &Stop) -> Result<Arc<Figures>, String>
where
    S: Source + Send + 'static,
{
    let (mut sink, mut keeper) = (open(store)?, open(store)?);
    let figures = Arc::new(Figures::default());

    let (counted, stop) = (figures.clone(), drained.clone());
    jobs.start("pump", STACK, move |pulse| {
        step_back();
        let how = Pump { name: "spool to store", backoff: BACKOFF, figures: &counted, pulse, stop: &stop };
        pump(&mut source, &mut sink, &how).map_err(|error| error.0)
    })?;

    let stop = drained.clone();
    jobs.start("retention", STACK, move |pulse| {
        step_back();
        retain(&mut keeper, pulse, &stop)
    })?;
    Ok(figures)
}

/// Opens the store for writing, its schema up to date.
///
/// # Errors
/// A sentence for people.
pub fn open(store: &Store) -> Result<Sqlite, String> {
    match store {
        Store::Sqlite(settings) => Sqlite::open(settings, Arc::new(SystemClock)),
        // `config` refuses it with the same words.
        Store::Postgres(_) => Err("`store.postgres` is not available in this build yet".to_owned()),
    }
}

/// Looks for old logs every [`RETENTION_EVERY`] until told to stop.
fn retain(store: &mut Sqlite, pulse: &Pulse, stop: &Stop) -> Result<(), String> {
    let mut said = None;
    loop {
        match sweep(store, SystemClock.now().wall, pulse, stop) {
            Ok(0) => said = None,
            Ok(logs) => {
                log::info!("retention: {logs} logs deleted");
                said = None;
            }
            Err(Fault::Broken(reason)) => return Err(format!("retention: {reason}")),
            Err(Fault::Retry(reason)) if said.as_ref() == Some(&reason) => {}
            Err(Fault::Retry(reason)) => {
                log::warn!("retention: {reason}; trying again");
                said = Some(reason);
            }
        }
        pulse.rest();
        if stop.wait(RETENTION_EVERY) {
            return Ok(());
        }
    }
}

/// Deletes all that is older than the retention at `now`, however much came since the last time; how many logs that were.
/// Leaves the rest to the next start when told to stop.
fn sweep(store: &mut Sqlite, now: Timestamp, pulse: &Pulse, stop: &Stop) -> Result<u64, Fault> {
    let mut deleted = 0;
    loop {
        pulse.back_in(PULSE_LIMIT);
        let retained = store.retain(now)?;
        deleted += retained.deleted;
        if !retained.more || stop.wait(RETENTION_PAUSE) {
            return Ok(deleted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use rusqlite::Connection;

    #[test]
    fn retention_goes_on_until_all_that_is_old_is_gone_or_it_is_told_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pingeon.db");
        let settings = config::Sqlite { path: path.clone(), retention: Duration::from_secs(86_400) };
        let mut store = Sqlite::open(&settings, Arc::new(SystemClock)).unwrap();
        let other = Connection::open(&path).unwrap();
        // Uids of the year 1970.
        other
            .execute_batch(
                "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 60000)
                 INSERT INTO log (uid, agent, boot, seq, label, kind, target, due_at, interval_ms, verdict, result)
                 SELECT unhex(printf('%032x', n)), 'a', x'', n, 'shop', 'http', '', 0, 1000, 'up', '{}' FROM n",
            )
            .unwrap();
        let left = || other.query_row("SELECT count(*) FROM log", [], |row| row.get::<_, u64>(0)).unwrap();
        let (now, pulse, stop, stopped) = (SystemClock.now().wall, Pulse::default(), Stop::default(), Stop::default());
        stopped.set();
        assert_eq!(sweep(&mut store, now, &pulse, &stopped), Ok(60_000 - left()));
        assert!(left() > 0, "it went on after the word to stop");
        assert_eq!((sweep(&mut store, now, &pulse, &stop), left()), (Ok(40_000), 0));
        let mut later = SystemClock.now();
        later.steady = later.steady.plus(PULSE_LIMIT);
        assert!(pulse.overdue(later).is_some());
    }
}
