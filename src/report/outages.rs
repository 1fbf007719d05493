//! Outages as they come, in bounded memory.

use std::collections::VecDeque;
use std::time::Duration;

use super::Outage;
use crate::clock::Timestamp;

/// How many outages of one label and agent are kept, the newest; older ones are counted.
const OUTAGES_MAX: usize = 100;

/// The outages of one label and agent so far.
#[derive(Debug, Default)]
pub(super) struct Outages {
    open: Option<Outage>,
    ended: VecDeque<Outage>,
    left_out: u64,
}

impl Outages {
    /// It is down for that long, of which so much was planned: the outage goes on, or begins.
    pub(super) fn go_on(&mut self, down: Duration, planned: Duration, begin: impl FnOnce() -> Outage) -> &mut Outage {
        let outage = self.open.get_or_insert_with(begin);
        outage.down += down;
        outage.planned += planned;
        outage
    }

    /// It works.
    pub(super) fn end(&mut self, at: Timestamp) {
        if let Some(outage) = self.open.take() {
            self.keep(Outage { end: Some(at), ..outage });
        }
    }

    fn keep(&mut self, outage: Outage) {
        // One of which nothing lies in the range.
        if outage.down.is_zero() {
            return;
        }
        if self.ended.len() == OUTAGES_MAX {
            self.ended.pop_front();
            self.left_out += 1;
        }
        self.ended.push_back(outage);
    }

    /// The newest, and how many are left out.
    pub(super) fn newest(mut self) -> (Vec<Outage>, u64) {
        if let Some(outage) = self.open.take() {
            self.keep(outage);
        }
        (self.ended.into(), self.left_out)
    }
}
