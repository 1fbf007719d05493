//! The embedded store.

use std::path::Path;
use std::sync::Arc;

use super::Row;
use crate::clock::{Clock, Timestamp};
use crate::config;
use crate::flow::{Batch, Delivered, Fault, Sink};

/// The store, open for writing.
#[derive(Debug)]
pub struct Sqlite {}

/// The store, open for reading while another process writes.
#[derive(Debug)]
pub struct Archive {}

impl Sqlite {
    /// Opens the store, or makes it, and brings its schema up to date. `clock` tells which logs are too old or too new.
    ///
    /// # Errors
    /// A sentence for people: not a store, damaged, made by a newer Pingeon.
    pub fn open(_settings: &config::Sqlite, _clock: Arc<dyn Clock>) -> Result<Self, String> {
        Ok(Sqlite {})
    }

    /// Deletes what is older than the retention at `now`, in short transactions; how many logs. May be called often: it
    /// bounds its own work, and goes on with the rest the next time.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn retain(&mut self, _now: Timestamp) -> Result<u64, Fault> {
        Ok(0)
    }
}

impl Sink for Sqlite {
    fn deliver(&mut self, _batch: &Batch) -> Result<Delivered, Fault> {
        Ok(Delivered::default())
    }
}

impl Archive {
    /// Opens the store at `path` read-only.
    ///
    /// # Errors
    /// A sentence for people: nothing there yet, not a store, damaged, made by a newer Pingeon.
    pub fn open(_path: &Path) -> Result<Self, String> {
        Ok(Archive {})
    }

    /// The labels that the store knows, in order.
    ///
    /// # Errors
    /// A sentence for people.
    pub fn labels(&self) -> Result<Vec<Arc<str>>, String> {
        Ok(Vec::new())
    }

    /// Gives `each` the rows of `labels` (none: of all) that lie in `from..to` or reach into it from before, in the order
    /// of label, agent and `due_at`.
    ///
    /// # Errors
    /// A sentence for people.
    pub fn rows(
        &self,
        _labels: &[Arc<str>],
        _from: Timestamp,
        _to: Timestamp,
        _each: impl FnMut(Row),
    ) -> Result<(), String> {
        Ok(())
    }

    /// The last row of each label and agent, in their order.
    ///
    /// # Errors
    /// A sentence for people.
    pub fn last(&self) -> Result<Vec<Row>, String> {
        Ok(Vec::new())
    }
}
