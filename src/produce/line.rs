//! The line: slots that wait for a worker, and workers that wait for a slot.
//!
//! A worker takes the earliest slot in hand before it is due, and sleeps until then. A few do so at a time, the others rest. As long
//! as the earliest slot in hand is due before the first of those that wait, nobody need be woken when one comes: who goes to run
//! its slot sees to the next one, and mostly another worker has come back from its check by then and has taken it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::clock::{Clock, Steady, SystemClock};
use crate::jobs::Stop;
use crate::schedule::Slot;

/// Slots that wait for a worker, at most. With the schedule's tick of 100 ms it bounds how many checks a second can be handed
/// out: 20,000.
pub(super) const SLOTS_MAX: usize = 2_048;

/// Workers that have a slot in hand before it is due, unless earlier ones come late.
const IN_HAND_MAX: usize = 4;

/// The place of a slot: by its due, then as they came.
type Place = (Steady, u64);

/// The line.
#[derive(Debug, Default)]
pub(super) struct Line {
    standing: Mutex<Standing>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Standing {
    /// With each slot, when it came.
    slots: BTreeMap<Place, (Slot, Steady)>,
    came: u64,
    /// Where those stand that a worker has in hand.
    in_hand: BTreeSet<Place>,
    /// Workers that have none.
    resting: usize,
    closed: bool,
}

/// A slot that is due.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) slot: Slot,
    /// Since when it stood in the line.
    pub(super) came: Steady,
    /// No worker is left for the next one.
    pub(super) last_worker: bool,
}

impl Line {
    /// Whether there is no room for one more.
    pub(super) fn is_full(&self) -> bool {
        self.lock().slots.len() >= SLOTS_MAX
    }

    /// Adds a slot, or gives it back where there is no room.
    pub(super) fn put(&self, slot: Slot) -> Result<(), Slot> {
        let mut standing = self.lock();
        if standing.slots.len() >= SLOTS_MAX {
            return Err(slot);
        }
        standing.came += 1;
        let place = (slot.due, standing.came);
        standing.slots.insert(place, (slot, SystemClock.now().steady));
        self.call(&standing);
        Ok(())
    }

    /// No more slots come, and those that are not due yet go to nobody.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.bell.notify_all();
    }

    /// The earliest slot, at the moment when it is due. `None` once the agent stops.
    pub(super) fn next(&self, stop: &Stop) -> Option<Due> {
        let mut standing = self.lock();
        loop {
            if standing.closed || stop.is_set() {
                return None;
            }
            let now = SystemClock.now().steady;
            let Some(place) = standing.first_to_take(now) else {
                standing.resting += 1;
                standing = self.bell.wait(standing).unwrap_or_else(PoisonError::into_inner);
                standing.resting -= 1;
                continue;
            };
            let early = place.0.since(now);
            let (slot, came) = standing.slots.remove(&place)?;
            if early.is_zero() {
                let last_worker = standing.in_hand.is_empty() && standing.resting == 0;
                self.call(&standing);
                return Some(Due { slot, came, last_worker });
            }
            standing.in_hand.insert(place);
            standing = self.bell.wait_timeout(standing, early).unwrap_or_else(PoisonError::into_inner).0;
            standing.in_hand.remove(&place);
            // Back in its place: an earlier one may have come meanwhile.
            standing.slots.insert(place, (slot, came));
        }
    }

    /// Calls for a worker where none looks after the first slot.
    fn call(&self, standing: &Standing) {
        let looked_after = |first: &Place| standing.in_hand.first().is_some_and(|in_hand| in_hand < first);
        if standing.slots.first_key_value().is_some_and(|(first, _)| !looked_after(first)) {
            self.bell.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    /// The first slot, if one more worker should take it: it is due, or not many have one in hand, or it is earlier than one of
    /// those.
    fn first_to_take(&self, now: Steady) -> Option<Place> {
        let (&first, _) = self.slots.first_key_value()?;
        let earlier = || self.in_hand.last().is_some_and(|last| first < *last);
        (first.0 <= now || self.in_hand.len() < IN_HAND_MAX || earlier()).then_some(first)
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
                while let Some(Due { slot, .. }) = line.next(&Stop::default()) {
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
        let line = Line::default();
        slots.into_iter().rev().for_each(|slot| line.put(slot).unwrap());
        let taken: Vec<Steady> = dues.iter().map(|_| line.next(&Stop::default()).unwrap().slot.due).collect();
        assert_eq!(taken, dues);
    }

    #[test]
    fn a_slot_that_comes_late_does_not_wait_for_those_in_hand() {
        let (line, mut late) = (Arc::<Line>::default(), slots(2, Duration::from_millis(1)));
        let (workers, heard) = workers(&line, 1);
        slots(1, 3_600 * Duration::from_secs(1)).into_iter().for_each(|slot| line.put(slot).unwrap());
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
        let line = Arc::<Line>::default();
        let (workers, heard) = workers(&line, 2 * IN_HAND_MAX);
        until(&line, |standing| standing.resting == workers.len());
        slots(50, 3_600 * Duration::from_secs(1)).into_iter().for_each(|slot| line.put(slot).unwrap());
        until(&line, |standing| !standing.in_hand.is_empty());
        assert!(line.lock().in_hand.len() <= IN_HAND_MAX);
        line.close();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert!(heard.is_empty() && line.next(&Stop::default()).is_none());
    }

    #[test]
    fn every_slot_is_run_however_they_come() {
        for (workers_there, round) in [(1, 0), (3, 1), (16, 2), (16, 3)] {
            let line = Arc::<Line>::default();
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
        let (line, mut slots) = (Line::default(), slots(SLOTS_MAX + 1, LONG));
        let one_more = slots.pop().unwrap();
        slots.into_iter().for_each(|slot| line.put(slot).unwrap());
        assert!(line.is_full() && line.put(one_more).is_err());
    }
}
