//! Handing out what was fetched: one batch of each partition in turn, and none decoded before its turn.

use std::sync::atomic::Ordering::Relaxed;

use super::Fetcher;
use crate::kafka::Message;
use crate::kafka::client::Client;
use crate::kafka::records::Batch;

/// A batch that is being handed out.
#[derive(Debug)]
pub(super) struct Open {
    pub partition: i32,
    last_offset: i64,
    rest: std::vec::IntoIter<Message>,
}

impl Fetcher {
    /// Hands out what was fetched, one batch of each partition in turn.
    pub(super) fn hand_out(&mut self, client: &mut Client, messages: &mut Vec<Message>, most: usize) {
        while messages.len() < most {
            if self.open.is_none() && !self.open_next(client) {
                return;
            }
            self.hand_out_open(messages, most);
        }
    }

    /// Decodes the next batch, if there is one.
    fn open_next(&mut self, client: &mut Client) -> bool {
        while let Some(partition) = self.ready.pop_front() {
            let Some(place) = self.places.get_mut(&partition) else { continue };
            let Some(batch) = place.batches.pop_front() else { continue };
            let mut decoded = Vec::new();
            let last_offset = batch.last_offset;
            match batch.messages(partition, place.position, &mut decoded) {
                Ok(()) => place.suspect = None,
                Err(_) if place.suspect != Some(batch.base_offset) => {
                    self.look_again(client, partition, &batch);
                    continue;
                }
                Err(reason) => decoded.push(damaged(client.topic(), partition, &batch, reason)),
            }
            if !place.batches.is_empty() {
                self.ready.push_back(partition);
            }
            self.open = Some(Open { partition, last_offset, rest: decoded.into_iter() });
            return true;
        }
        false
    }

    /// Hands out of the batch that is open.
    fn hand_out_open(&mut self, messages: &mut Vec<Message>, most: usize) {
        let Some(mut open) = self.open.take() else { return };
        messages.extend(open.rest.by_ref().take(most - messages.len()));
        let Some(place) = self.places.get_mut(&open.partition) else { return };
        if let Some(last) = messages.last().filter(|last| last.partition == open.partition) {
            place.handed = last.offset.saturating_add(1);
            place.position = place.handed;
        }
        if open.rest.len() == 0 {
            place.position = place.position.max(open.last_offset.saturating_add(1));
            if let (true, Some(next)) = (place.batches.is_empty(), place.next) {
                place.position = next;
            }
        }
        if let Some(lag) = place.lag() {
            self.figures.note_lag(open.partition, lag);
        }
        self.open = Some(open).filter(|open| open.rest.len() > 0);
    }

    /// Fetches once again what cannot be read, over a new connection: it may be right where it comes from.
    fn look_again(&mut self, client: &mut Client, partition: i32, batch: &Batch) {
        let Some(place) = self.places.get_mut(&partition) else { return };
        place.go_to(place.position);
        place.suspect = Some(batch.base_offset);
        self.figures.retries.fetch_add(1, Relaxed);
        if let Some(node) = client.leader(partition) {
            client.drop_broker(node);
        }
    }
}

/// A batch that nobody can read, as a message.
fn damaged(topic: &str, partition: i32, batch: &Batch, reason: String) -> Message {
    let (first, last) = (batch.base_offset, batch.last_offset);
    log::warn!(
        "partition {partition} of topic `{topic}`: the batch of offsets {first} to {last} cannot be read: it {reason}"
    );
    Message { partition, offset: first, key: None, value: batch.bytes().clone(), damage: Some(reason) }
}
