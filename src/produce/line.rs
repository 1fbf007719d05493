//! The line: slots that wait for a worker, and workers that wait for a slot.
//!
//! A worker takes the earliest slot in hand before it is due, and sleeps until then. A few do so at a time, the others rest. As long
//! as the earliest slot in hand is due before the first of those that wait, nobody need be woken when one comes: who goes to run
//! its slot sees to the next one, and mostly another worker has come back from its check by then and has taken it.
//!
//! Where workers are too few, slots that are due go by how long their label waits. The earliest due would always be of the same
//! labels: those that are due just after a worker comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::clock::{Clock, Steady, SystemClock};
use crate::jobs::Stop;
use crate::schedule::Slot;

/// Slots that wait for a worker, at most, beside those in hand. With the schedule's tick of 100 ms it bounds how many checks a
/// second can be handed out: 20,000.
pub(super) const SLOTS_MAX: usize = 2_048;

/// Workers that have a slot in hand before it is due, unless earlier ones come late.
const IN_HAND_MAX: usize = 4;

/// The place of a slot: by its due, or since when its label waits, and then as they came.
type Place = (Steady, u64);

/// The line.
#[derive(Debug)]
pub(super) struct Line {
    standing: Mutex<Standing>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Standing {
    /// Those that are not due yet, but for those in hand.
    slots: BTreeMap<Place, Slot>,
    /// Those that are due, by how long their label waits.
    overdue: BTreeMap<Place, Slot>,
    came: u64,
    /// Workers that have nothing to run yet.
    free: usize,
    /// Workers with a slot that was due, until they are back.
    busy: usize,
    /// So many may be.
    most: usize,
    /// Where those stand that a worker has in hand.
    in_hand: BTreeSet<Place>,
    closed: bool,
}

/// A slot that is due.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) slot: Slot,
    /// Since when a worker has had it in hand.
    pub(super) in_hand: Steady,
    /// No worker is free for the next one.
    pub(super) last_worker: bool,
}

impl Line {
    /// An empty one, of which `most` checks may run at once.
    pub(super) fn new(most: usize) -> Self {
        Line { standing: Mutex::new(Standing { most, ..Standing::default() }), bell: Condvar::new() }
    }

    /// Checks that may run at once.
    pub(super) fn most(&self) -> usize {
        self.lock().most
    }

    /// Lets `most` checks run at once from now on; those that run go on. Whether a worker is free.
    pub(super) fn change_most(&self, most: usize) -> bool {
        let mut standing = self.lock();
        standing.most = most;
        self.bell.notify_all();
        standing.free > 0
    }

    /// Whether there is no room for one more.
    pub(super) fn is_full(&self) -> bool {
        self.lock().len() >= SLOTS_MAX
    }

    /// Adds a slot, or gives it back where there is no room.
    pub(super) fn put(&self, slot: Slot) -> Result<(), Slot> {
        let mut standing = self.lock();
        if standing.len() >= SLOTS_MAX {
            return Err(slot);
        }
        standing.came += 1;
        let place = (slot.due, standing.came);
        standing.slots.insert(place, slot);
        // For one that was first before it, a worker was called already.
        if standing.overdue.is_empty() && standing.first() == Some(place) {
            self.call(&standing);
        }
        Ok(())
    }

    /// No more slots come, and those that stand here go to nobody.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.bell.notify_all();
    }

    /// The slot whose turn it is, at the moment when it is due. `None` once the agent stops. For a worker that comes `back` from a
    /// check, or that is new.
    pub(super) fn next(&self, stop: &Stop, back: bool) -> Option<Due> {
        let mut standing = self.lock();
        standing.busy -= usize::from(back);
        standing.free += 1;
        // What this worker has in hand: where, and since when.
        let mut held: Option<(Place, Steady)> = None;
        while !standing.closed && !stop.is_set() {
            let now = SystemClock.now().steady;
            if let Some((came, slot)) = standing.take_due(now) {
                standing.free -= 1;
                self.call(&standing);
                let in_hand = held.filter(|(place, _)| place.1 == came).map_or(now, |(_, since)| since);
                return Some(Due { slot, in_hand, last_worker: standing.free == 0 });
            }
            let Some((place, slot)) = standing.take_early() else {
                standing = self.bell.wait(standing).unwrap_or_else(PoisonError::into_inner);
                held = None;
                continue;
            };
            held = held.filter(|held| held.0 == place).or(Some((place, now)));
            standing.in_hand.insert(place);
            let early = place.0.since(now);
            standing = self.bell.wait_timeout(standing, early).unwrap_or_else(PoisonError::into_inner).0;
            standing.in_hand.remove(&place);
            // Back in its place: an earlier one may have come meanwhile.
            standing.slots.insert(place, slot);
        }
        standing.free -= 1;
        None
    }

    /// Calls for a worker where none looks after the next slot. Whoever is free will do: each looks at all of them then.
    fn call(&self, standing: &Standing) {
        if !standing.is_looked_after() {
            self.bell.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    fn len(&self) -> usize {
        self.slots.len() + self.overdue.len()
    }

    fn first(&self) -> Option<Place> {
        self.slots.first_key_value().map(|(&first, _)| first)
    }

    /// Whether a worker will be awake, or come back, when the next slot may run; or there is none.
    fn is_looked_after(&self) -> bool {
        let before = |first| self.in_hand.first().is_some_and(|in_hand| *in_hand < first);
        self.busy >= self.most || (self.overdue.is_empty() && self.first().is_none_or(before))
    }

    /// Takes the slot whose label waits longest, of those that are due, if one more check may run; with its number.
    fn take_due(&mut self, now: Steady) -> Option<(u64, Slot)> {
        while let Some(entry) = self.slots.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, came), slot) = entry.remove_entry();
            self.overdue.insert((slot.since, came), slot);
        }
        if self.busy >= self.most {
            return None;
        }
        let ((_, came), slot) = self.overdue.pop_first()?;
        self.busy += 1;
        Some((came, slot))
    }

    /// Takes the first slot before it is due, if one more worker should: not many have one in hand, or it is earlier than one of
    /// those.
    fn take_early(&mut self) -> Option<(Place, Slot)> {
        let first = self.first()?;
        let earlier = || self.in_hand.last().is_some_and(|last| first < *last);
        if self.busy >= self.most || (self.in_hand.len() >= IN_HAND_MAX && !earlier()) {
            return None;
        }
        self.slots.pop_first()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::thread::JoinHandle;
    use std::time::Duration;

    use crossbeam_channel::{Receiver, unbounded};

    use super::*;
    use crate::check::{Check, Kind, tcp};
    use crate::net::Host;
    use crate::schedule::Schedule;

    const LONG: Duration = Duration::from_secs(30);
    const HOUR: Duration = Duration::from_secs(3_600);

    /// A slot of each of so many checks, by their dues, the last of which is within `within`.
    fn slots(count: usize, within: Duration) -> Vec<Slot> {
        let check = |n: usize| {
            let kind = Kind::Tcp(Box::new(tcp::Tcp::to(Host::Address([127, 0, 0, 1].into()), 1)));
            let (label, target) = (format!("check-{n}").into(), "".into());
            let confirm = Default::default();
            Arc::new(Check { label, interval: within, timeout: within, confirm, target, kind })
        };
        let (now, checks) = (SystemClock.now(), (0..count).map(check).collect::<Vec<_>>());
        let mut schedule = Schedule::new("test", &checks, now, &HashMap::new());
        let slots: Vec<_> = std::iter::from_fn(|| schedule.take(now, within)).collect();
        assert_eq!(slots.len(), count);
        slots
    }

    /// Workers that tell the dues of what they get, and end with the line.
    fn workers(line: &Arc<Line>, count: usize) -> (Vec<JoinHandle<()>>, Receiver<Steady>) {
        let (told, heard) = unbounded();
        let worker = |_| {
            let (line, told) = (line.clone(), told.clone());
            std::thread::spawn(move || {
                let mut back = false;
                while let Some(Due { slot, .. }) = line.next(&Stop::default(), back) {
                    back = true;
                    assert!(SystemClock.now().steady >= slot.due, "none is handed out before its due");
                    told.send(slot.due).unwrap();
                }
            })
        };
        ((0..count).map(worker).collect(), heard)
    }

    /// Waits until the line stands as `wanted`.
    fn until(line: &Line, wanted: impl Fn(&Standing) -> bool) {
        let by = std::time::Instant::now() + LONG;
        while !wanted(&line.lock()) {
            assert!(std::time::Instant::now() < by, "{:?}", line.lock());
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_earliest_slot_goes_first_also_when_it_came_last() {
        let slots = slots(10, Duration::from_millis(100));
        let dues: Vec<Steady> = slots.iter().map(|slot| slot.due).collect();
        let line = Line::new(100);
        slots.into_iter().rev().for_each(|slot| line.put(slot).unwrap());
        let taken: Vec<Steady> = dues.iter().map(|_| line.next(&Stop::default(), false).unwrap().slot.due).collect();
        assert_eq!(taken, dues);
    }

    #[test]
    fn a_slot_that_comes_late_does_not_wait_for_those_in_hand() {
        let (line, mut late) = (Arc::new(Line::new(100)), slots(2, Duration::from_millis(1)));
        let (workers, heard) = workers(&line, 1);
        slots(1, 1_000 * HOUR).into_iter().for_each(|slot| line.put(slot).unwrap());
        until(&line, |standing| standing.in_hand.len() == 1);
        for slot in late.drain(..) {
            let due = slot.due;
            line.put(slot).unwrap();
            assert_eq!(heard.recv_timeout(LONG), Ok(due));
        }
        until(&line, |standing| standing.in_hand.len() == 1);
        line.close();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    }

    #[test]
    fn few_have_a_slot_in_hand_and_all_go_when_the_line_closes() {
        let line = Arc::new(Line::new(100));
        slots(50, 1_000 * HOUR).into_iter().for_each(|slot| line.put(slot).unwrap());
        let (workers, heard) = workers(&line, 2 * IN_HAND_MAX);
        for _ in 0..100 {
            until(&line, |standing| standing.in_hand.len() == IN_HAND_MAX);
            until(&line, |standing| standing.free == workers.len());
        }
        line.close();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert!(heard.is_empty() && line.next(&Stop::default(), false).is_none());
    }

    #[test]
    fn the_last_one_to_go_is_told() {
        let (line, stop) = (Line::new(100), Stop::default());
        slots(1, Duration::from_millis(1)).into_iter().for_each(|slot| line.put(slot).unwrap());
        assert!(line.next(&stop, false).unwrap().last_worker);
        // With another one that is free.
        line.lock().free += 1;
        slots(1, Duration::from_millis(1)).into_iter().for_each(|slot| line.put(slot).unwrap());
        assert!(!line.next(&stop, true).unwrap().last_worker);
    }

    #[test]
    fn no_more_run_at_once_than_may() {
        let (line, stop) = (Arc::new(Line::new(1)), Stop::default());
        slots(3, Duration::from_millis(1)).into_iter().for_each(|slot| line.put(slot).unwrap());
        assert!(line.next(&stop, false).is_some());
        let worker = std::thread::spawn({
            let line = line.clone();
            move || line.next(&Stop::default(), false).is_some()
        });
        until(&line, |standing| standing.overdue.len() == 2 && standing.free == 1);
        assert!(line.change_most(2));
        assert!(worker.join().unwrap());
        assert!(!line.change_most(1));
        // Two run where one may: the first that comes back gets nothing.
        let worker = std::thread::spawn({
            let line = line.clone();
            move || line.next(&Stop::default(), true).is_some()
        });
        until(&line, |standing| standing.busy == 1);
        assert!(line.next(&stop, true).is_some(), "the second one does");
        line.close();
        assert!(!worker.join().unwrap());
    }

    #[test]
    fn who_waits_longest_goes_first_where_workers_are_too_few() {
        let second = Duration::from_secs(1);
        let (line, mut slots) = (Line::new(1), slots(3, Duration::from_millis(1)));
        let due = slots.iter().map(|slot| slot.due).max().unwrap();
        // The later a slot is due, the longer its label waits.
        for (nth, slot) in slots.iter_mut().enumerate() {
            slot.since = Steady(due.0.saturating_sub(second * u32::try_from(nth).unwrap()));
        }
        let wanted: Vec<Arc<str>> = slots.iter().rev().map(|slot| slot.check.label.clone()).collect();
        until(&line, |_| SystemClock.now().steady >= due);
        slots.into_iter().for_each(|slot| line.put(slot).unwrap());
        let ran = (0..3).map(|nth| line.next(&Stop::default(), nth > 0).unwrap().slot.check.label.clone());
        assert_eq!(ran.collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn a_worker_is_called_only_for_a_slot_that_nobody_looks_after() {
        let mut slots = slots(3, 1_000 * HOUR).into_iter();
        let [early, middle, late] = std::array::from_fn(|_| slots.next().unwrap());
        let at = |slot: &Slot| (slot.due, 0);
        let (in_hand, mut standing) = (at(&middle), Standing { most: 1, ..Standing::default() });
        assert!(standing.is_looked_after());
        standing.slots.insert(at(&late), late);
        assert!(!standing.is_looked_after());
        standing.in_hand.insert(in_hand);
        assert!(standing.is_looked_after());
        standing.slots.insert(at(&early), early);
        assert!(!standing.is_looked_after());
    }

    #[test]
    fn every_slot_is_run_however_they_come() {
        for (workers_there, round) in [(1, 0), (3, 1), (16, 2), (16, 3)] {
            let line = Arc::new(Line::new(100));
            let mut slots = slots(200, Duration::from_millis(100));
            let mut dues: Vec<Steady> = slots.iter().map(|slot| slot.due).collect();
            let (workers, heard) = workers(&line, workers_there);
            // In an order of its own each time; some come after their due.
            slots.sort_by_key(|slot| slot.due.0.as_micros().wrapping_mul(2_654_435_761 + round) % 1_009);
            slots.into_iter().for_each(|slot| line.put(slot).unwrap());
            let mut ran: Vec<Steady> = dues.iter().map(|_| heard.recv_timeout(LONG).unwrap()).collect();
            line.close();
            workers.into_iter().for_each(|worker| worker.join().unwrap());
            ran.sort_unstable();
            dues.sort_unstable();
            assert_eq!(ran, dues);
        }
    }

    #[test]
    fn a_full_line_gives_the_slot_back() {
        let (line, mut slots) = (Line::new(100), slots(SLOTS_MAX + 1, LONG));
        let one_more = slots.pop().unwrap();
        slots.into_iter().for_each(|slot| line.put(slot).unwrap());
        assert!(line.is_full() && line.put(one_more).is_err());
    }
}
