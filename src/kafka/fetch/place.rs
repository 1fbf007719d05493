//! Where a consumer stands in one partition, and what was fetched from there and not handed out.
//!
//! Of what a broker sends, the batches are taken that lie between here and the end of what is committed. Those of aborted
//! transactions and those that hold no messages are passed over (KIP-98); a batch that cannot be read is kept for the second
//! look that it gets.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use kafka_protocol::messages::fetch_response::{AbortedTransaction, PartitionData};

use crate::kafka::Error;
use crate::kafka::records::{self, Batch, Marker};

/// How long a partition rests after its first failure; twice as long after each that follows, up to the most.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// One partition that is owned.
#[derive(Debug)]
pub struct Place {
    /// Where the next fetch begins. `None`: at the earliest offset there is, which has to be asked for.
    pub next: Option<i64>,
    /// The offset that was wanted and is not there any more.
    pub lost: Option<i64>,
    /// Fetched and not handed out, in order.
    pub batches: VecDeque<Batch>,
    /// The next offset to be handed out.
    pub position: i64,
    /// Behind the last message that was handed out: what the caller is going to commit.
    pub handed: i64,
    /// The base offset of a batch that could not be read, and is fetched once again.
    pub suspect: Option<i64>,
    /// Behind the last message that may be read.
    end: Option<i64>,
    failures: u32,
    rests_until: Option<Instant>,
}

/// What came of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Whole batches that bring something new.
    pub batches: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Place {
    /// Begins at the committed offset, if there is one.
    pub fn new(committed: Option<i64>) -> Self {
        let at = committed.unwrap_or(0);
        Place {
            next: committed,
            lost: None,
            batches: VecDeque::new(),
            position: at,
            handed: at,
            suspect: None,
            end: None,
            failures: 0,
            rests_until: None,
        }
    }

    /// Goes on at `offset`, wherever it was before.
    pub fn go_to(&mut self, offset: i64) {
        self.batches.clear();
        (self.next, self.lost, self.position, self.handed) = (Some(offset), None, offset, offset);
    }

    /// Takes what a broker has sent for the offset that was asked for, which is [`next`](Self::next).
    ///
    /// A broker reads its marks before the batches, so that these may go on behind them while somebody writes. They are
    /// believed as long as each follows the one before; a gap is left only by what was compacted, which is never that new.
    ///
    /// # Errors
    /// When it is not what a partition can hold; what came before that is taken.
    pub fn take(&mut self, next: i64, answer: PartitionData) -> Result<Taken, Error> {
        let (stable, high) = (answer.last_stable_offset, answer.high_watermark);
        // The stable one may be unknown, and is −1 then.
        if high < 0 || stable < -1 {
            return Err(Error::Garbage(format!("it ends at {high}, and is stable up to {stable}")));
        }
        self.end = Some(if stable >= 0 { stable } else { high });
        let mut aborted = Aborted::new(answer.aborted_transactions.unwrap_or_default());
        let (mut next, mut taken) = (next, Taken::default());
        let mut batches = records::batches(answer.records.unwrap_or_default());
        let end = loop {
            let mut batch = match batches.next() {
                None => break Ok(()),
                Some(Err(error)) => break Err(error),
                Some(Ok(batch)) => batch,
            };
            let damaged = batch.damage.is_some();
            // Nothing that a damaged one says of its end is believed beyond what there was when it was asked for.
            let last =
                if damaged { batch.last_offset.min(high.saturating_sub(1)).max(next) } else { batch.last_offset };
            let behind = last.saturating_add(1);
            if behind <= next {
                continue;
            }
            if !damaged && batch.base_offset > next.max(high) {
                // No checksum covers the base offset.
                break Err(Error::Garbage(format!("a batch at offset {}, where it ends at {high}", batch.base_offset)));
            }
            if damaged {
                (batch.base_offset, batch.last_offset) = (batch.base_offset.clamp(next, last), last);
            }
            next = behind;
            taken.batches += 1;
            taken.bytes += batch.bytes().len() as u64;
            if damaged {
                // Nothing behind it is looked at: it may have been the end of a transaction.
                self.batches.push_back(batch);
                break Ok(());
            }
            if !aborted.skips(&batch) {
                self.batches.push_back(batch);
            }
        };
        self.next = Some(next);
        if self.batches.is_empty() {
            self.position = next;
        }
        end.map(|()| taken)
    }

    /// How many messages are waiting in it.
    pub fn lag(&self) -> Option<i64> {
        self.end.map(|end| end.saturating_sub(self.position).max(0))
    }

    /// Something went wrong: rests for a while.
    pub fn fail(&mut self, now: Instant) {
        let pause = PAUSE.saturating_mul(1 << self.failures.min(20)).min(PAUSE_MAX);
        self.failures += 1;
        self.rests_until = Some(now + pause);
    }

    /// Nothing is wrong with it, but it is not asked for before then.
    pub fn rest(&mut self, until: Instant) {
        self.rests_until = Some(until);
    }

    /// Something went well.
    pub fn recover(&mut self) {
        (self.failures, self.rests_until) = (0, None);
    }

    /// Whether the last try failed.
    pub fn is_troubled(&self) -> bool {
        self.failures > 0
    }

    /// Until when it rests.
    pub fn rests_until(&self) -> Option<Instant> {
        self.rests_until
    }
}

/// The aborted transactions in a partition's part of an answer.
#[derive(Debug)]
struct Aborted {
    /// Producer and first offset; the next one last.
    coming: Vec<(i64, i64)>,
    /// Whose transactional batches do not count here.
    producers: BTreeSet<i64>,
}

impl Aborted {
    fn new(transactions: Vec<AbortedTransaction>) -> Self {
        let mut coming: Vec<(i64, i64)> = transactions.iter().map(|t| (t.producer_id.0, t.first_offset)).collect();
        coming.sort_unstable_by_key(|(_, first)| std::cmp::Reverse(*first));
        Aborted { coming, producers: BTreeSet::new() }
    }

    /// Whether the batch, which is the next one, holds nothing that counts.
    fn skips(&mut self, batch: &Batch) -> bool {
        while let Some((producer, _)) = self.coming.pop_if(|(_, first)| *first <= batch.last_offset) {
            self.producers.insert(producer);
        }
        if batch.control {
            if batch.marker() == Some(Marker::Abort) {
                self.producers.remove(&batch.producer_id);
            }
            return true;
        }
        batch.transactional && self.producers.contains(&batch.producer_id)
    }
}
