//! The records of one partition on their way, in order: which are cut into batches, which are in flight, which are there.
//!
//! Batches carry consecutive sequence numbers (KIP-98), so a broker takes them in order and each once. After a failure nothing
//! more is sent until all that is in flight has been answered; then the lane goes on from the first batch that is not there,
//! with the same batches and the same numbers.
//!
//! A broker that does not know the producer yet takes any number: until it has taken the first batch, that one is alone in
//! flight. A number under which a batch may be there is not given to another.

use std::collections::VecDeque;
use std::ops::Range;

use kafka_protocol::error::ResponseError;

/// One partition's records on their way.
#[derive(Debug)]
pub struct Lane {
    /// Which records, by their place in what was given.
    records: Vec<usize>,
    /// How many of them are cut into batches, or refused.
    cut: usize,
    /// What is cut and not there yet, in order; what is there behind one that is not is kept too.
    batches: VecDeque<Batch>,
    /// The number of the next record to be cut.
    sequence: i32,
    /// Whether the broker has taken a batch of this producer, and knows its numbers.
    known: bool,
    /// The broker that has batches in flight.
    node: Option<i32>,
    rejection: Option<Rejection>,
}

/// Records that go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Which, by their place in the lane.
    pub records: Range<usize>,
    /// The first one's number.
    pub sequence: i32,
    /// Whether it may be there although nobody has said so.
    in_doubt: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    InFlight,
    There,
}

/// What a broker said of the first batch that it did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// What the broker said.
    pub code: i16,
    /// In its words, where it has some.
    pub message: Option<String>,
    sequence: i32,
}

/// What is to be done about a rejection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing was wrong, or it has been mended.
    GoOn,
    /// The same again, after asking who leads.
    Again(Rejection),
    /// This record will never be taken.
    Refuse(usize, Rejection),
    /// The broker does not know this producer, or its numbers, any more.
    NewIdentity(Rejection),
    /// It will not go away by itself.
    GiveUp(Rejection),
}

/// The number after `by` more; after the largest comes 0.
fn after(sequence: i32, by: usize) -> i32 {
    ((i64::from(sequence) + by as i64) & i64::from(i32::MAX)) as i32
}

impl Lane {
    /// A lane that begins at `sequence`; `known`: under numbers that the broker knows.
    pub fn new(sequence: i32, known: bool) -> Self {
        let (records, batches) = (Vec::new(), VecDeque::new());
        Lane { records, cut: 0, batches, sequence, known, node: None, rejection: None }
    }

    /// Takes up a record.
    pub fn push(&mut self, record: usize) {
        self.records.push(record);
    }

    /// The records of a batch, by their place in what was given.
    pub fn of(&self, batch: &Batch) -> &[usize] {
        &self.records[batch.records.clone()]
    }

    /// Whether all its records are there, or refused.
    pub fn is_done(&self) -> bool {
        self.cut == self.records.len() && self.batches.is_empty()
    }

    /// The number after the last record that was cut.
    pub fn sequence(&self) -> i32 {
        self.sequence
    }

    /// Whether anything is in flight.
    pub fn is_flying(&self) -> bool {
        self.batches.iter().any(|batch| batch.state == State::InFlight)
    }

    /// The next batch to be sent to `node`, cut if there is none: as many records as fit into `room` bytes, one at least.
    /// `None` when nothing is left, or what is in flight has to be answered first.
    pub fn next(&mut self, node: i32, room: usize, size: impl Fn(usize) -> usize) -> Option<Batch> {
        let waits = self.is_flying() && (self.node != Some(node) || !self.known);
        if self.rejection.is_some() || waits {
            return None;
        }
        if !self.batches.iter().any(|batch| batch.state == State::Waiting) {
            self.cut(room, size)?;
        }
        self.batches.iter().find(|batch| batch.state == State::Waiting).cloned()
    }

    /// The batch that begins at `sequence` is on its way to `node`.
    pub fn sent(&mut self, sequence: i32, node: i32) {
        let waiting = |batch: &&mut Batch| batch.state == State::Waiting && batch.sequence == sequence;
        if let Some(batch) = self.batches.iter_mut().find(waiting) {
            batch.state = State::InFlight;
            self.node = Some(node);
        }
    }

    fn cut(&mut self, room: usize, size: impl Fn(usize) -> usize) -> Option<()> {
        let (begin, mut bytes) = (self.cut, 0);
        while let Some(&record) = self.records.get(self.cut) {
            bytes += size(record);
            if bytes > room && self.cut > begin {
                break;
            }
            self.cut += 1;
        }
        let records = begin..self.cut;
        if records.is_empty() {
            return None;
        }
        let sequence = self.sequence;
        self.sequence = after(sequence, records.len());
        let batch = Batch { records, sequence, in_doubt: false, state: State::Waiting };
        self.batches.push_back(batch);
        Some(())
    }

    /// Whether more than one record is in the batch that begins at `sequence`.
    pub fn holds_several(&self, sequence: i32) -> bool {
        self.batches.iter().any(|batch| batch.sequence == sequence && batch.records.len() > 1)
    }

    /// What the broker says of the batch in flight that begins at `sequence`.
    pub fn answered(&mut self, sequence: i32, code: i16, message: Option<String>) {
        let flying = |batch: &&mut Batch| batch.state == State::InFlight && batch.sequence == sequence;
        let Some(batch) = self.batches.iter_mut().find(flying) else { return };
        use ResponseError as Code;
        let code_known = Code::try_from_code(code);
        // What the broker has had already is there.
        if matches!(code_known, None | Some(Code::DuplicateSequenceNumber)) {
            batch.state = State::There;
            self.known = true;
        } else {
            batch.state = State::Waiting;
            // Written by the leader, and perhaps by its replicas. What was in doubt before stays so.
            batch.in_doubt |= matches!(
                code_known,
                Some(Code::RequestTimedOut | Code::NotEnoughReplicasAfterAppend | Code::NotLeaderOrFollower)
            );
            // Another topic of that name would not know the producer.
            self.known &= code_known != Some(Code::UnknownTopicOrPartition);
            // What comes after a batch that failed is out of order and says nothing more.
            self.rejection.get_or_insert(Rejection { code, message, sequence });
        }
        while self.batches.front().is_some_and(|batch| batch.state == State::There) {
            self.batches.pop_front();
        }
    }

    /// The connection that it was sent on is gone: nobody knows what of it is there. It is sent again as it was.
    pub fn lost(&mut self, node: i32) {
        if self.node == Some(node) {
            for batch in self.batches.iter_mut().filter(|batch| batch.state == State::InFlight) {
                batch.state = State::Waiting;
                batch.in_doubt = true;
            }
        }
    }

    /// Looks at what is wrong, once nothing is in flight any more, and mends what can be mended here.
    pub fn settle(&mut self) -> Remedy {
        if self.is_flying() {
            return Remedy::GoOn;
        }
        let Some(rejection) = self.rejection.take() else { return Remedy::GoOn };
        use ResponseError as Code;
        match ResponseError::try_from_code(rejection.code) {
            Some(Code::MessageTooLarge | Code::RecordListTooLarge | Code::InvalidRecord | Code::InvalidTimestamp) => {
                self.split(rejection)
            }
            Some(Code::OutOfOrderSequenceNumber | Code::UnknownProducerId | Code::InvalidProducerEpoch) => {
                Remedy::NewIdentity(rejection)
            }
            Some(code) if code.is_retriable() => Remedy::Again(rejection),
            _ => Remedy::GiveUp(rejection),
        }
    }

    /// Halves a batch that the broker does not take as it is; a record that is alone in it is never taken.
    fn split(&mut self, rejection: Rejection) -> Remedy {
        let Some(at) = self.batches.iter().position(|batch| batch.sequence == rejection.sequence) else {
            return Remedy::GoOn;
        };
        // The numbers behind it are free again only while nothing is there under them, for sure.
        if self.batches.iter().skip(at).any(|batch| batch.in_doubt || batch.state == State::There) {
            return Remedy::NewIdentity(rejection);
        }
        let batch = self.batches[at].clone();
        let Batch { records, sequence, .. } = batch.clone();
        if records.len() == 1 {
            self.batches.remove(at);
            self.renumber(at, sequence);
            return Remedy::Refuse(self.records[records.start], rejection);
        }
        let middle = records.start + records.len() / 2;
        let second = after(sequence, middle - records.start);
        self.batches[at].records.end = middle;
        self.batches.insert(at + 1, Batch { records: middle..records.end, sequence: second, ..batch });
        Remedy::GoOn
    }

    /// Begins at number 0 again, for a new identity. To be called when nothing is in flight.
    pub fn begin_anew(&mut self) {
        self.rejection = None;
        self.known = false;
        self.batches.retain(|batch| batch.state != State::There);
        self.batches.iter_mut().for_each(|batch| batch.in_doubt = false);
        self.renumber(0, 0);
    }

    fn renumber(&mut self, from: usize, mut sequence: i32) {
        for batch in self.batches.iter_mut().skip(from) {
            batch.sequence = sequence;
            sequence = after(sequence, batch.records.len());
        }
        self.sequence = sequence;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUT_OF_ORDER: i16 = 45;

    /// A lane of `count` records, cut into batches of three, with `flying` of them sent to node 1.
    fn lane(count: usize, flying: usize) -> Lane {
        let mut lane = Lane::new(10, true);
        (0..count).for_each(|record| lane.push(record));
        assert_eq!((0..flying).filter_map(|_| next(&mut lane)).count(), flying);
        lane
    }

    fn next(lane: &mut Lane) -> Option<(i32, usize)> {
        next_to(lane, 1)
    }

    fn next_to(lane: &mut Lane, node: i32) -> Option<(i32, usize)> {
        let batch = lane.next(node, 3, |_| 1)?;
        lane.sent(batch.sequence, node);
        Some((batch.sequence, batch.records.len()))
    }

    #[test]
    fn batches_are_cut_in_order_and_numbered_by_their_records() {
        let mut lane = lane(7, 0);
        let sent: Vec<_> = std::iter::from_fn(|| next(&mut lane)).collect();
        assert_eq!((sent, lane.sequence()), (vec![(10, 3), (13, 3), (16, 1)], 17));
        [10, 13, 16].iter().for_each(|sequence| lane.answered(*sequence, 0, None));
        assert!(lane.is_done() && lane.settle() == Remedy::GoOn);
        let mut wraps = Lane::new(i32::MAX - 1, true);
        (0..4).for_each(|record| wraps.push(record));
        assert_eq!((next(&mut wraps), next(&mut wraps)), (Some((i32::MAX - 1, 3)), Some((1, 1))));
        let large = lane_of_large();
        assert_eq!(large, Some((0, 1)), "one that is larger than the room goes alone");
    }

    fn lane_of_large() -> Option<(i32, usize)> {
        let mut lane = Lane::new(0, false);
        (0..2).for_each(|record| lane.push(record));
        lane.next(1, 3, |_| 100).map(|batch| (batch.sequence, batch.records.len()))
    }

    #[test]
    fn after_a_failure_the_same_batches_go_again_once_all_are_answered() {
        let mut lane = lane(9, 3);
        lane.answered(10, 6, None);
        assert_eq!((next(&mut lane), lane.settle()), (None, Remedy::GoOn), "two are in flight");
        lane.answered(13, OUT_OF_ORDER, None);
        lane.answered(16, OUT_OF_ORDER, None);
        assert!(matches!(lane.settle(), Remedy::Again(Rejection { code: 6, .. })));
        let sent: Vec<_> = std::iter::from_fn(|| next(&mut lane)).collect();
        assert_eq!(sent, [(10, 3), (13, 3), (16, 3)]);
        // The second was there already: its number is known to the broker.
        [(10, 0), (13, 46), (16, 0)].iter().for_each(|(sequence, code)| lane.answered(*sequence, *code, None));
        assert!(lane.is_done());
    }

    #[test]
    fn a_later_batch_that_is_there_is_not_sent_again() {
        let mut lane = lane(6, 2);
        lane.answered(10, 7, None);
        lane.answered(13, 0, None);
        assert!(matches!(lane.settle(), Remedy::Again(_)));
        assert_eq!((next(&mut lane), next(&mut lane)), (Some((10, 3)), None));
        lane.answered(10, 0, None);
        assert!(lane.is_done());
    }

    #[test]
    fn what_was_in_flight_on_a_lost_connection_goes_again_as_it_was() {
        let mut lane = lane(6, 2);
        lane.lost(2);
        assert!(lane.is_flying(), "another connection was lost");
        assert_eq!(next_to(&mut lane, 2), None, "another leader waits for the answers of the one before");
        lane.lost(1);
        assert!(!lane.is_flying());
        assert_eq!(next_to(&mut lane, 2), Some((10, 3)));
    }

    #[test]
    fn one_record_that_may_be_there_is_not_refused_under_its_number() {
        let mut lane = lane(1, 1);
        lane.lost(1);
        assert_eq!(next(&mut lane), Some((10, 1)));
        lane.answered(10, 10, None);
        assert!(matches!(lane.settle(), Remedy::NewIdentity(_)));
        lane.begin_anew();
        assert_eq!(next(&mut lane), Some((0, 1)));
        lane.answered(0, 10, None);
        assert!(matches!(lane.settle(), Remedy::Refuse(0, _)), "under another id it is sure");
    }

    #[test]
    fn the_first_batch_that_a_broker_gets_is_alone_in_flight() {
        let mut lane = Lane::new(0, false);
        (0..9).for_each(|record| lane.push(record));
        assert_eq!((next(&mut lane), next(&mut lane)), (Some((0, 3)), None));
        lane.answered(0, 19, None);
        assert!(matches!(lane.settle(), Remedy::Again(_)));
        assert_eq!((next(&mut lane), next(&mut lane)), (Some((0, 3)), None), "it took none");
        lane.answered(0, 0, None);
        assert_eq!((next(&mut lane), next(&mut lane)), (Some((3, 3)), Some((6, 3))));
        [3, 6].iter().for_each(|sequence| lane.answered(*sequence, 0, None));
        lane.begin_anew();
        (9..15).for_each(|record| lane.push(record));
        assert_eq!((next(&mut lane), next(&mut lane)), (Some((0, 3)), None), "under another id it is not known");
    }

    #[test]
    fn a_number_under_which_something_may_be_there_is_not_given_to_another() {
        for lost in [true, false] {
            let mut lane = lane(6, 2);
            if lost {
                lane.lost(1);
                assert_eq!(next(&mut lane), Some((10, 3)));
            }
            lane.answered(10, 10, None);
            if !lost {
                lane.answered(13, 7, None);
            }
            assert!(matches!(lane.settle(), Remedy::NewIdentity(_)), "lost: {lost}");
        }
    }

    #[test]
    fn a_batch_that_is_too_large_is_halved_until_one_record_is_refused() {
        let mut lane = lane(4, 2);
        lane.answered(10, 10, None);
        lane.answered(13, OUT_OF_ORDER, None);
        assert_eq!(lane.settle(), Remedy::GoOn);
        assert_eq!(next(&mut lane), Some((10, 1)));
        lane.answered(10, 10, Some("too large".to_owned()));
        assert!(matches!(lane.settle(), Remedy::Refuse(0, Rejection { code: 10, .. })));
        let sent: Vec<_> = std::iter::from_fn(|| next(&mut lane)).collect();
        assert_eq!((sent, lane.sequence()), (vec![(10, 2), (12, 1)], 13), "the numbers close up");
    }

    #[test]
    fn numbers_that_are_taken_are_not_given_again() {
        let mut lane = lane(6, 2);
        lane.answered(10, 10, None);
        lane.answered(13, 0, None);
        assert!(matches!(lane.settle(), Remedy::NewIdentity(_)));
        lane.begin_anew();
        assert_eq!((next(&mut lane), next(&mut lane)), (Some((0, 3)), None));
    }

    #[test]
    fn what_is_to_be_done_follows_from_the_code() {
        for (code, remedy) in [
            (6, "Again"),
            (7, "Again"),
            (19, "Again"),
            (20, "Again"),
            (29, "GiveUp"),
            (59, "NewIdentity"),
            (45, "NewIdentity"),
            (-1, "GiveUp"),
        ] {
            let mut lane = lane(3, 1);
            lane.answered(10, code, None);
            assert!(format!("{:?}", lane.settle()).starts_with(remedy), "{code}");
        }
    }
}
