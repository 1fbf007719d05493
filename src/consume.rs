//! The consumer half: every thread and channel of it, on one screen.
//!
//! ```text
//! source ──▶ pump ──▶ store ◀── retention
//! ```
//!
//! No channels: the pump pulls a batch, delivers it and commits it, and holds one batch at a time.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::config::Store;
use crate::flow::{Backoff, Fault, Figures, Pump, Source, pump};
use crate::jobs::{Jobs, Stop};
use crate::store::sqlite::Sqlite;

const STACK: usize = 512 * 1024;

/// How a pump waits after a fault: a store that is restarted is met within a second, one that stays away is asked twice a
/// minute.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(30) };

/// How often old logs are looked for.
const RETENTION_EVERY: Duration = Duration::from_secs(600);

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
        let how = Pump { name: "spool to store", backoff: BACKOFF, figures: &counted, pulse, stop: &stop };
        pump(&mut source, &mut sink, &how).map_err(|error| error.0)
    })?;

    let stop = drained.clone();
    jobs.start("retention", STACK, move |_| retain(&mut keeper, &stop))?;
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

fn retain(store: &mut Sqlite, stop: &Stop) -> Result<(), String> {
    let mut said = None;
    loop {
        match store.retain(SystemClock.now().wall) {
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
        if stop.wait(RETENTION_EVERY) {
            return Ok(());
        }
    }
}
