//! Which reply is whose: every echo that is under way on one socket, by its sequence number.
//!
//! A reply belongs to a request if sequence number, sender and content are right. Otherwise it is counted with the run that it
//! came to, or that asks the same address meanwhile, and answers nothing: so neither a guess from elsewhere nor a reply from
//! an earlier check makes a target look alive.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::packet::Payload;
use super::socket::{Message, Refusal, Reply};

/// The first bytes of each payload: they tell what this process sent from what it never did.
pub const KEY_BYTES: usize = 8;
/// And what tells one run from another.
const RUN_BYTES: usize = 8;
const TOLD_BYTES: usize = KEY_BYTES + RUN_BYTES;

/// Everything that is under way on one socket: no more than there are sequence numbers.
#[derive(Debug)]
pub struct Table {
    key: [u8; KEY_BYTES],
    requests: HashMap<u16, (Arc<Run>, usize)>,
    runs: HashMap<IpAddr, Vec<Arc<Run>>>,
    next_seq: u16,
    /// Messages that the kernel had no room for, since the socket is open.
    pub dropped: u32,
    /// Whether a thread listens.
    pub listened: bool,
    /// Whether the socket is of no more use.
    pub broken: bool,
}

/// Some requests to one address, and what became of them.
#[derive(Debug)]
pub struct Run {
    to: IpAddr,
    payload: Payload,
    deadline: Instant,
    seqs: Vec<u16>,
    tally: Mutex<Tally>,
    changed: Condvar,
}

/// What became of the requests of a run.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Each of them.
    pub requests: Vec<Request>,
    /// Replies that came once more.
    pub duplicates: u32,
    /// Replies to earlier requests, or after the deadline.
    pub late: u32,
    /// Replies to what nobody asked, or from another address than was asked.
    pub foreign: u32,
    /// Replies with something else in them than was sent.
    pub damaged: u32,
    /// Messages that the kernel had no room for meanwhile.
    pub dropped: u32,
    /// Why nobody listens any more.
    pub deaf: Option<String>,
}

/// An echo request.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// When it went out.
    pub sent: Option<Instant>,
    /// What came of it; nothing yet.
    pub end: Option<End>,
}

/// What came of an echo request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The reply came after this long, with so many hops left.
    Replied(Duration, Option<u8>),
    /// Somebody says that it does not arrive.
    Refused(Refusal),
}

impl Tally {
    /// How many requests have come to an end.
    pub fn ended(&self) -> usize {
        self.requests.iter().filter(|request| request.end.is_some()).count()
    }

    /// Whether something may still come of a request.
    pub fn is_open(&self) -> bool {
        self.ended() < self.requests.len()
    }

    /// How many requests went out.
    pub fn sent(&self) -> usize {
        self.requests.iter().filter(|request| request.sent.is_some()).count()
    }

    /// The hops that the first reply had left.
    pub fn hop_limit(&self) -> Option<u8> {
        self.requests.iter().find_map(|request| match request.end {
            Some(End::Replied(_, hop_limit)) => hop_limit,
            _ => None,
        })
    }

    /// How long each reply took, in the order of their requests.
    pub fn round_trips(&self) -> impl Iterator<Item = Duration> + '_ {
        self.requests.iter().filter_map(|request| match request.end {
            Some(End::Replied(took, _)) => Some(took),
            _ => None,
        })
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    /// An empty one. `random` makes the payloads unguessable, and the sequence numbers begin anywhere.
    pub fn new(random: [u8; KEY_BYTES + 2]) -> Self {
        let [key @ .., high, low] = random;
        let next_seq = u16::from_ne_bytes([high, low]);
        Table {
            key,
            requests: HashMap::new(),
            runs: HashMap::new(),
            next_seq,
            dropped: 0,
            listened: false,
            broken: false,
        }
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Takes up a run of `count` requests; `None` when there are not as many sequence numbers left.
    pub fn enter(&mut self, to: IpAddr, count: usize, deadline: Instant, random: [u8; RUN_BYTES]) -> Option<Arc<Run>> {
        if self.requests.len() + count > usize::from(u16::MAX) {
            return None;
        }
        let mut seqs = Vec::with_capacity(count);
        while seqs.len() < count {
            if !self.requests.contains_key(&self.next_seq) {
                seqs.push(self.next_seq);
            }
            self.next_seq = self.next_seq.wrapping_add(1);
        }
        let tally = Tally { requests: vec![Request::default(); count], ..Tally::default() };
        let run = Arc::new(Run {
            to,
            payload: payload(self.key, random),
            deadline,
            seqs,
            tally: Mutex::new(tally),
            changed: Condvar::new(),
        });
        for (place, seq) in run.seqs.iter().enumerate() {
            self.requests.insert(*seq, (run.clone(), place));
        }
        self.runs.entry(to).or_default().push(run.clone());
        Some(run)
    }

    /// Lets go of a run: what comes for it from here on is late.
    pub fn leave(&mut self, run: &Arc<Run>) {
        for seq in &run.seqs {
            self.requests.remove(seq);
        }
        if let Some(runs) = self.runs.get_mut(&run.to) {
            runs.retain(|other| !Arc::ptr_eq(other, run));
            if runs.is_empty() {
                self.runs.remove(&run.to);
            }
        }
    }

    /// Gives a message to whom it belongs.
    pub fn take(&mut self, message: &Message<'_>) {
        match message {
            Message::Reply(reply) => self.reply(reply),
            Message::Refusal(refusal) => {
                if let Some((run, place)) = self.requests.get(&refusal.seq).filter(|(run, _)| run.to == refusal.to) {
                    run.refused(*place, *refusal);
                }
            }
            Message::Other => {}
        }
    }

    fn reply(&mut self, reply: &Reply<'_>) {
        self.dropped = self.dropped.max(reply.dropped);
        let ours = reply.payload.starts_with(&self.key);
        if let Some((run, place)) = self.requests.get(&reply.seq) {
            if run.to != reply.from {
                run.note(|tally| tally.foreign += 1);
            } else if run.payload == *reply.payload {
                run.replied(*place, reply);
            } else if ours && reply.payload.get(TOLD_BYTES..) == Some(&run.payload[TOLD_BYTES..]) {
                // The same number was another request's before.
                run.note(|tally| tally.late += 1);
            } else {
                run.note(|tally| tally.damaged += 1);
            }
        } else if let Some(run) = self.runs.get(&reply.from).and_then(|runs| runs.first()) {
            run.note(|tally| if ours { tally.late += 1 } else { tally.foreign += 1 });
        }
    }

    /// Tells all who wait that nobody listens.
    pub fn deaf(&mut self, why: &str) {
        for run in self.runs.values().flatten() {
            run.note(|tally| tally.deaf = Some(why.to_owned()));
        }
    }
}

impl Run {
    /// What is sent along with each request.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The sequence number of a request.
    pub fn seq(&self, place: usize) -> Option<u16> {
        self.seqs.get(place).copied()
    }

    /// What became of the requests so far.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        lock(&self.tally)
    }

    /// Waits until more than `ended` requests have come to an end, or `until`; how many have.
    pub fn wait(&self, ended: usize, until: Instant) -> usize {
        let left = until.saturating_duration_since(Instant::now());
        let waits = |tally: &mut Tally| tally.ended() <= ended && tally.deaf.is_none();
        let (tally, _) =
            self.changed.wait_timeout_while(self.tally(), left, waits).unwrap_or_else(PoisonError::into_inner);
        tally.ended()
    }

    fn note(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.tally());
        self.changed.notify_all();
    }

    fn replied(&self, place: usize, reply: &Reply<'_>) {
        self.note(|tally| {
            if reply.at > self.deadline {
                tally.late += 1;
                return;
            }
            let Some(request) = tally.requests.get_mut(place) else { return };
            match (request.sent, &request.end) {
                (_, Some(End::Replied(..))) => tally.duplicates += 1,
                // Whoever said that it would not arrive was wrong.
                (Some(sent), _) => {
                    let took = reply.at.saturating_duration_since(sent);
                    request.end = Some(End::Replied(took, reply.hop_limit));
                }
                (None, _) => tally.foreign += 1,
            }
        });
    }

    fn refused(&self, place: usize, refusal: Refusal) {
        self.note(|tally| {
            if let Some(request) = tally.requests.get_mut(place) {
                request.end.get_or_insert(End::Refused(refusal));
            }
        });
    }
}

/// The key, what tells this run from others, and bytes that count up, as those of ping(8).
fn payload(key: [u8; KEY_BYTES], random: [u8; RUN_BYTES]) -> Payload {
    let mut payload: Payload = std::array::from_fn(|at| u8::try_from(at).unwrap_or(0));
    payload[..KEY_BYTES].copy_from_slice(&key);
    payload[KEY_BYTES..TOLD_BYTES].copy_from_slice(&random);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn table() -> Table {
        Table::new([1, 2, 3, 4, 5, 6, 7, 8, 0xff, 0xff])
    }

    /// A run whose requests are all out.
    fn begin(table: &mut Table, to: IpAddr, count: usize, random: u8) -> Arc<Run> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let run = table.enter(to, count, deadline, [random; RUN_BYTES]).unwrap();
        run.tally().requests.iter_mut().for_each(|request| request.sent = Some(Instant::now()));
        run
    }

    fn reply(table: &mut Table, from: IpAddr, seq: u16, payload: &[u8], at: Instant) {
        table.take(&Message::Reply(Reply { from, seq, payload, hop_limit: Some(64), at, dropped: 0 }));
    }

    fn ended(run: &Run) -> usize {
        run.tally().ended()
    }

    /// Replies, then late, foreign, damaged and duplicate ones.
    type Counts = (usize, [u32; 4]);

    fn counts(run: &Run) -> Counts {
        let tally = run.tally();
        (tally.round_trips().count(), [tally.late, tally.foreign, tally.damaged, tally.duplicates])
    }

    #[test]
    fn a_reply_is_the_requests_if_number_sender_and_content_are_right() {
        let changed = |run: &Run, at: usize| {
            let mut payload = *run.payload();
            payload[at] ^= 1;
            payload.to_vec()
        };
        type Made = fn(&Run, &dyn Fn(&Run, usize) -> Vec<u8>) -> (IpAddr, u16, Vec<u8>);
        let cases: [(&str, Made, Counts); 9] = [
            ("right", |run, _| (TO, run.seqs[1], run.payload().to_vec()), (1, [0, 0, 0, 0])),
            ("from elsewhere", |run, _| (OTHER, run.seqs[1], run.payload().to_vec()), (0, [0, 1, 0, 0])),
            ("not asked", |run, _| (TO, run.seqs[1] ^ 0x100, vec![0; 56]), (0, [0, 1, 0, 0])),
            ("asked before", |run, _| (TO, run.seqs[1] ^ 0x100, run.payload().to_vec()), (0, [1, 0, 0, 0])),
            ("asked before with this number", |run, changed| (TO, run.seqs[1], changed(run, 8)), (0, [1, 0, 0, 0])),
            ("changed at its begin", |run, changed| (TO, run.seqs[1], changed(run, 0)), (0, [0, 0, 1, 0])),
            ("changed at its end", |run, changed| (TO, run.seqs[1], changed(run, 55)), (0, [0, 0, 1, 0])),
            ("cut", |run, _| (TO, run.seqs[1], run.payload()[..20].to_vec()), (0, [0, 0, 1, 0])),
            ("empty", |run, _| (TO, run.seqs[1], vec![]), (0, [0, 0, 1, 0])),
        ];
        for (name, make, wanted) in cases {
            let mut table = table();
            let run = begin(&mut table, TO, 2, 7);
            let (from, seq, payload) = make(&run, &changed);
            reply(&mut table, from, seq, &payload, Instant::now());
            assert_eq!(counts(&run), wanted, "{name}");
        }
    }

    #[test]
    fn a_second_reply_is_a_duplicate_one_after_the_deadline_is_late_and_a_refusal_gives_way() {
        let mut table = table();
        let run = begin(&mut table, TO, 2, 7);
        let refusal = |to, seq| Message::Refusal(Refusal { to, seq, by: None, what: "host unreachable" });
        table.take(&refusal(OTHER, run.seqs[0]));
        assert_eq!(ended(&run), 0);
        table.take(&refusal(TO, run.seqs[0]));
        assert_eq!((ended(&run), counts(&run).0), (1, 0));
        for _ in 0..2 {
            reply(&mut table, TO, run.seqs[0], run.payload(), Instant::now());
        }
        table.take(&refusal(TO, run.seqs[0]));
        reply(&mut table, TO, run.seqs[1], run.payload(), run.deadline + Duration::from_micros(1));
        assert_eq!((ended(&run), counts(&run)), (1, (1, [1, 0, 0, 1])));
        assert_eq!(run.tally().hop_limit(), Some(64));
    }

    #[test]
    fn numbers_go_round_and_are_not_given_twice_and_end() {
        let mut table = table();
        let first = begin(&mut table, TO, 2, 1);
        assert_eq!(first.seqs, [0xffff, 0]);
        let mut runs: Vec<_> = (0..655).map(|_| begin(&mut table, OTHER, 100, 2)).collect();
        let deadline = Instant::now();
        assert!(table.enter(TO, 34, deadline, [3; RUN_BYTES]).is_none(), "no more than there are");
        let last = table.enter(TO, 33, deadline, [3; RUN_BYTES]).unwrap();
        let mut all: Vec<u16> = runs.iter().chain([&first, &last]).flat_map(|run| run.seqs.clone()).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), usize::from(u16::MAX));
        table.leave(&runs.swap_remove(10));
        assert!(table.enter(TO, 100, deadline, [4; RUN_BYTES]).is_some());
    }

    #[test]
    fn who_has_left_is_told_nothing_and_nothing_of_it_stays() {
        let mut table = table();
        let (gone, stays) = (begin(&mut table, TO, 3, 1), begin(&mut table, TO, 1, 2));
        table.leave(&gone);
        reply(&mut table, TO, gone.seqs[2], gone.payload(), Instant::now());
        assert_eq!((counts(&gone), counts(&stays)), ((0, [0; 4]), (0, [1, 0, 0, 0])));
        table.leave(&stays);
        assert!(table.is_empty() && table.requests.is_empty());
        reply(&mut table, TO, gone.seqs[2], gone.payload(), Instant::now());
    }

    #[test]
    fn who_waits_wakes_when_nobody_listens_any_more() {
        let mut table = table();
        let run = begin(&mut table, TO, 1, 1);
        table.deaf("gone");
        let begun = Instant::now();
        assert_eq!(run.wait(0, begun + Duration::from_secs(60)), 0);
        assert!(begun.elapsed() < Duration::from_secs(30) && run.tally().deaf.as_deref() == Some("gone"));
    }
}
