//! What reports and pages ask of the store.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::config;
use crate::store::rollup::Hour;
use crate::store::{self, Delivery, Row};

/// The store, for reading.
#[derive(Debug)]
pub struct Archive {}

const NOT_YET: &str = "reports from Postgres are not available in this build yet";

impl Archive {
    /// Connects to the store.
    ///
    /// # Errors
    /// A sentence for people.
    pub fn open(_: &config::Postgres) -> Result<Self, String> {
        Err(NOT_YET.to_owned())
    }
}

impl store::Archive for Archive {
    fn labels(&mut self) -> Result<Vec<Arc<str>>, String> {
        Err(NOT_YET.to_owned())
    }
    fn rows(&mut self, _: &[Arc<str>], _: Timestamp, _: Timestamp, _: &mut dyn FnMut(Row)) -> Result<(), String> {
        Err(NOT_YET.to_owned())
    }
    fn last(&mut self) -> Result<Vec<Row>, String> {
        Err(NOT_YET.to_owned())
    }
    fn hours(&mut self, _: &[Arc<str>], _: Timestamp, _: Timestamp, _: &mut dyn FnMut(Hour)) -> Result<(), String> {
        Err(NOT_YET.to_owned())
    }
    fn delivery(&mut self, _: Timestamp) -> Result<Vec<Delivery>, String> {
        Err(NOT_YET.to_owned())
    }
}
