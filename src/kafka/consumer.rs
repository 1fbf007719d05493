//! Consuming: one member of a consumer group, which reads the partitions that it was given.
//!
//! Guarantees: every message comes at least once to some member; of each partition, in order. When the partitions are shared
//! out anew, what was handed out and committed does not come again: the others wait until this one has finished its batch and
//! commits it, for the `rebalance` of its settings at most. A poll in between brings nothing, once: who gathers from several
//! polls knows by it that it is time to commit. The next one gives up the partitions. What was fetched and not handed out is thrown away then, and
//! comes again from where it was committed, to whoever owns the partition.
//!
//! Sharing out is by ranges and eager: at each change of the group all members stop for a moment. A group is for one topic.
//!
//! The [`Heart`] has to run in a thread of its own beside it; without, the group takes the member for dead.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::client::Client;
use super::fetch::Fetcher;
use super::figures::Figures;
use super::group::Group;
pub use super::group::Settings;
use super::group::heart::Heart;
use super::{Consume, Error, Message};

/// A member of a consumer group.
#[derive(Debug)]
pub struct Consumer {
    client: Client,
    group: Group,
    fetcher: Fetcher,
    figures: Arc<Figures>,
    /// Whether messages were handed out that are not committed yet.
    in_hand: bool,
}

impl Consumer {
    /// Nothing is asked before the first poll.
    pub fn new(client: Client, settings: Settings, figures: Arc<Figures>) -> Self {
        let (group, fetcher) = (Group::new(settings), Fetcher::new(figures.clone()));
        Consumer { client, group, fetcher, figures, in_hand: false }
    }

    /// What tells the group that this member lives. There is one heart a member.
    pub fn heart(&self) -> Heart {
        let client = Client::new(self.client.access().clone(), self.client.topic().to_owned());
        Heart::new(client, self.group.settings().clone(), self.group.seat().clone())
    }

    /// Goes on towards the partitions that are to be owned.
    fn join(&mut self, until: Instant) -> Result<(), Error> {
        self.fetcher.give_up();
        if let Some(placed) = self.group.step(&mut self.client, until)? {
            self.figures.rebalances.fetch_add(1, Relaxed);
            self.fetcher.begin(placed);
        }
        Ok(())
    }

    /// What was in hand is not committed: the partitions have another owner by now, or are others.
    fn too_late(&mut self, why: &str) {
        self.figures.fenced.fetch_add(1, Relaxed);
        log::warn!("{why}: a commit came too late; whoever owns the partitions does it again");
    }
}

impl Consume for Consumer {
    fn poll(&mut self, wait: Duration, most: usize) -> Result<Vec<Message>, Error> {
        let until = Instant::now() + wait;
        loop {
            if self.client.access().stop.is_set() {
                return Err(Error::Stopped);
            }
            self.group.seat().note_poll();
            // Fetching learns of it. Not only when nothing comes: who has a backlog has to read new partitions, too.
            if let Some(partitions) = self.fetcher.partitions() {
                self.group.note_partitions(partitions);
            }
            if !self.group.is_settled() {
                // Were they given up now, whoever gets the partitions would do all of it again. Said once: who never commits
                // must not hold up the others, nor miss that it was fenced.
                if std::mem::take(&mut self.in_hand) {
                    return Ok(Vec::new());
                }
                self.join(until)?;
            } else {
                let messages = self.fetcher.fetch(&mut self.client, until, most)?;
                if !messages.is_empty() {
                    self.in_hand = true;
                    return Ok(messages);
                }
            }
            if Instant::now() >= until {
                return Ok(Vec::new());
            }
        }
    }

    fn commit(&mut self, offsets: &[(i32, i64)]) -> Result<(), Error> {
        let done = offsets.iter().filter_map(|(partition, offset)| {
            self.fetcher.done(*partition, *offset).map(|offset| (*partition, offset))
        });
        let done: Vec<(i32, i64)> = done.collect();
        let lost = match done.is_empty() {
            // The offsets of a topic that is gone mean nothing in another of its name.
            false if self.fetcher.partitions() == Some(0) => Some(self.group.topic_is_gone()),
            false => self.group.commit(&mut self.client, &done)?,
            true => None,
        };
        if let Some(why) = lost {
            self.too_late(&why);
        } else if done.len() < offsets.len() {
            self.too_late(&format!("consumer group `{}`", self.group.settings().group));
        }
        self.in_hand = false;
        Ok(())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.fetcher.give_up();
        self.group.leave(self.client.access());
    }
}

#[cfg(test)]
mod tests;
