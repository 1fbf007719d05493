//! A simulated agent around the schedule: an owner, workers, and clocks that jump. It notes what became of every slot and
//! holds that against plain arithmetic. Deterministic: the same steps give the same run.

use std::collections::{BTreeMap, VecDeque};

use super::super::*;
use crate::check::{Kind, tcp::Tcp};
use crate::net::Host;

/// A check that nobody runs.
pub(super) fn check(label: &str, interval_ms: u64) -> Arc<Check> {
    let host = Host::Address([192, 0, 2, 1].into());
    let tcp = Tcp::to(host, 1);
    let interval = Duration::from_millis(interval_ms);
    let (target, kind) = ("192.0.2.1:1".into(), Kind::Tcp(Box::new(tcp)));
    Arc::new(Check { label: label.into(), interval, timeout: interval, confirm: Default::default(), target, kind })
}

pub(super) const MS: u64 = 1_000;
pub(super) const SECOND: u64 = 1_000 * MS;

/// What became of slots: the first due, how many, how far apart, and why they did not run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fate {
    pub(super) first: u64,
    pub(super) slots: u64,
    pub(super) interval: u64,
    pub(super) cause: Option<Cause>,
}

/// A check that a label had, from when to when.
struct Era {
    from: u64,
    to: Option<u64>,
    check: Arc<Check>,
    /// Wall − steady when it began, which its slots keep.
    offset: i64,
}

pub(super) struct World {
    pub(super) now: Now,
    pub(super) schedule: Schedule,
    pub(super) fates: BTreeMap<Arc<str>, Vec<Fate>>,
    pub(super) ahead: Duration,
    pub(super) workers: usize,
    pub(super) queue_max: usize,
    /// The spool is full: nothing is handed out.
    pub(super) full: bool,
    /// How long the nth run takes.
    pub(super) takes: Box<dyn FnMut(&Check) -> u64>,
    /// Whether the owner finds out that the queue is full by trying.
    pub(super) tries: bool,
    /// Whether the owner looks when [`Schedule::rest`] says, and does not hear all that comes back at once.
    pub(super) rests: bool,
    /// How often the owner has looked.
    pub(super) looks: u64,
    /// How late a run has begun, at most.
    pub(super) late_most: u64,
    /// When the owner looks again, and whether it hears until then.
    look_at: u64,
    hears: bool,
    /// What came back and was not heard; with a run, its end.
    unheard: Vec<(Slot, Option<Steady>)>,
    queue: VecDeque<Slot>,
    /// Slots with a worker, by the end of their run; where it has not begun, by their due.
    busy: BTreeMap<(u64, usize), (Slot, bool)>,
    count: usize,
    eras: BTreeMap<Arc<str>, Vec<Era>>,
    last_end: BTreeMap<Arc<str>, u64>,
    stopped: Option<u64>,
}

impl World {
    pub(super) fn new(checks: &[Arc<Check>], workers: usize) -> Self {
        let wall = Timestamp::parse("2026-11-24T10:00:00.123456Z").unwrap();
        let now = Now { wall, steady: steady(77 * SECOND + 5), slept: Duration::ZERO };
        let schedule = Schedule::new("edge-01", checks, now, &HashMap::new());
        let mut world = World {
            now,
            schedule,
            fates: BTreeMap::new(),
            ahead: Duration::from_millis(150),
            workers,
            queue_max: 8,
            full: false,
            takes: Box::new(|_| 50 * MS),
            tries: false,
            rests: false,
            looks: 0,
            late_most: 0,
            look_at: 0,
            hears: true,
            unheard: Vec::new(),
            queue: VecDeque::new(),
            busy: BTreeMap::new(),
            count: 0,
            eras: BTreeMap::new(),
            last_end: BTreeMap::new(),
            stopped: None,
        };
        world.begin_eras(checks);
        world
    }

    pub(super) fn at(&self) -> u64 {
        micros(self.now.steady.0)
    }

    /// All clocks go on to `at`, and nothing else happens.
    pub(super) fn jump(&mut self, at: u64) {
        let by = Duration::from_micros(at - self.at());
        self.now.wall = self.now.wall.plus(by);
        self.now.steady = self.now.steady.plus(by);
    }

    pub(super) fn sleep(&mut self, by: u64) {
        self.jump(self.at() + by);
        self.now.slept += Duration::from_micros(by);
    }

    pub(super) fn set_wall(&mut self, by: i64) {
        self.now.wall = Timestamp::from_micros(self.now.wall.as_micros() + by);
    }

    /// The agent lives for a while: the owner calls every tick, and when a worker comes back.
    pub(super) fn run(&mut self, by: u64) {
        let end = self.at() + by;
        loop {
            self.work();
            if !self.rests || self.look_at <= self.at() {
                self.look();
                self.work();
            }
            if self.at() == end {
                return self.assert_who_is_away();
            }
            let next_due = self.schedule.next_due().map(|due| micros(due.0).saturating_sub(micros(self.ahead)));
            let next_end = self.busy.first_key_value().map(|(&(end, _), _)| end);
            // What is due and was not handed out is tried again a tick later.
            let next_due = next_due.map(|due| if due <= self.at() { self.at() + 100 * MS } else { due });
            let next_look = if self.rests { Some(self.look_at) } else { next_due };
            let next = [next_look, next_end].into_iter().flatten().min().unwrap_or(end);
            self.jump(next.clamp(self.at(), end));
        }
    }

    fn assert_who_is_away(&self) {
        let out = self.schedule.labels.iter().flatten().filter_map(|label| label.out.as_ref());
        let (count, again) = (out.clone().count(), out.map(|out| out.again).min());
        assert_eq!((self.schedule.away.len(), self.schedule.next_again()), (count, again.map(steady)));
    }

    /// Workers end, begin and wait, as far as the clock has come.
    fn work(&mut self) {
        let now = self.at();
        while let Some(entry) = self.busy.first_entry().filter(|entry| entry.key().0 <= now) {
            let (_, (slot, begun)) = entry.remove_entry();
            match begun {
                true => self.ended(slot),
                false => self.begin(slot),
            }
        }
        while self.busy.len() < self.workers
            && let Some(slot) = self.queue.pop_front()
        {
            let due = micros(slot.due.0);
            if due > now { self.put_to_work(due, slot, false) } else { self.begin(slot) }
        }
    }

    fn begin(&mut self, slot: Slot) {
        let now = self.at();
        if !slot.begin(self.now.steady) {
            return self.give_back(slot, None);
        }
        let due = micros(slot.due.0);
        assert!(due <= now && now < due + interval_us(&slot.check), "out of its time: {slot:?} at {now}");
        self.late_most = self.late_most.max(now - due);
        let free_since = self.last_end.insert(slot.check.label.clone(), u64::MAX).unwrap_or(0);
        assert!(free_since <= now, "two runs at once: {slot:?}");
        let takes = (self.takes)(&slot.check);
        self.put_to_work(now + takes, slot, true);
    }

    fn put_to_work(&mut self, until: u64, slot: Slot, begun: bool) {
        self.count += 1;
        self.busy.insert((until, self.count), (slot, begun));
    }

    fn ended(&mut self, slot: Slot) {
        self.last_end.insert(slot.check.label.clone(), self.at());
        let interval = interval_us(&slot.check);
        let fate = Fate { first: micros(slot.due.0), slots: 1, interval, cause: None };
        self.fates.entry(slot.check.label.clone()).or_default().push(fate);
        self.give_back(slot, Some(self.now.steady));
    }

    fn give_back(&mut self, slot: Slot, ended: Option<Steady>) {
        self.unheard.push((slot, ended));
        if self.rests {
            self.look_at = if self.hears { self.at() } else { self.look_at };
        } else {
            self.hear();
        }
    }

    fn hear(&mut self) {
        for (slot, ended) in std::mem::take(&mut self.unheard) {
            match ended {
                Some(ended) => self.schedule.done(slot, ended),
                None => self.schedule.put_back(slot),
            }
            self.note();
        }
    }

    fn look(&mut self) {
        self.hear();
        let before = self.queue.len();
        self.own();
        if self.rests {
            let (wait, hears) = self.schedule.rest(self.now, self.queue.len() - before);
            let wait = if self.full { TICK } else { wait };
            (self.look_at, self.hears) = (self.at() + micros(wait), hears);
            self.looks += 1;
        }
    }

    fn own(&mut self) {
        loop {
            if self.full {
                self.schedule.hold(self.now, Cause::SpoolFull);
                return self.note();
            }
            let has_room = self.queue.len() < self.queue_max;
            if !has_room && !self.tries {
                self.schedule.hold(self.now, Cause::WorkersBusy);
                return self.note();
            }
            let taken = self.schedule.take(self.now, self.ahead);
            let Some(slot) = taken else { return self.note() };
            assert_eq!(slot.due_at, self.schedule.wall.at(micros(slot.due.0)));
            if !has_room {
                self.schedule.put_back(slot);
                return self.note();
            }
            self.note();
            self.queue.push_back(slot);
        }
    }

    /// Drains what was missed.
    pub(super) fn note(&mut self) {
        let missed = self.schedule.missed();
        self.keep(missed);
    }

    fn keep(&mut self, ranges: Vec<MissedRange>) {
        for MissedRange { check, first_due_at, missed } in ranges {
            let interval = interval_us(&check);
            let between = micros(missed.last_due_at.since(first_due_at));
            assert_eq!(between, (missed.slots - 1) * interval, "{missed:?}");
            let first = (first_due_at.as_micros() - self.schedule.wall.offset) as u64;
            let fate = Fate { first, slots: missed.slots, interval, cause: Some(missed.cause) };
            self.fates.entry(check.label.clone()).or_default().push(fate);
        }
    }

    pub(super) fn reload(&mut self, checks: &[Arc<Check>]) {
        self.schedule.reload(checks, self.now);
        self.note();
        let now = self.at();
        self.look_at = now;
        for eras in self.eras.values_mut() {
            let Some(last) = eras.last_mut().filter(|era| era.to.is_none()) else { continue };
            let stays = |check: &&Arc<Check>| check.label == last.check.label && check.interval == last.check.interval;
            if !checks.iter().any(|check| stays(&check)) {
                last.to = Some(now);
            }
        }
        self.begin_eras(checks);
    }

    fn begin_eras(&mut self, checks: &[Arc<Check>]) {
        let from = self.at();
        for check in checks {
            let eras = self.eras.entry(check.label.clone()).or_default();
            if eras.last().is_none_or(|era| era.to.is_some()) {
                eras.push(Era { from, to: None, check: check.clone(), offset: self.schedule.wall.offset });
            }
        }
    }

    /// The agent stops: what has not begun comes back, and workers end what they run.
    pub(super) fn stop(&mut self) {
        let (begun, waits) = std::mem::take(&mut self.busy).into_iter().partition(|(_, (_, begun))| *begun);
        self.busy = begun;
        let waits: BTreeMap<_, (Slot, bool)> = waits;
        let waits = waits.into_values().map(|(slot, _)| slot);
        waits.chain(std::mem::take(&mut self.queue)).for_each(|slot| self.schedule.put_back(slot));
        self.hear();
        self.rests = false;
        self.note();
        let missed = self.schedule.finish(self.now);
        self.keep(missed);
        self.stopped = Some(self.at());
        while let Some(((until, _), (slot, _))) = self.busy.pop_first() {
            self.jump(until.max(self.at()));
            self.ended(slot);
        }
    }

    /// Every slot that arithmetic finds has exactly one fate, and there are no others. Slots at the very end, that could
    /// still run, may have none.
    pub(super) fn assert_complete(&self) {
        for (label, eras) in &self.eras {
            let mut fates = self.fates.get(label).cloned().unwrap_or_default();
            fates.sort_by_key(|fate| fate.first);
            let mut fates = fates.into_iter().peekable();
            let mut after = 0;
            for era in eras {
                let interval = interval_us(&era.check);
                let mut due = first_slot(era, era.from.max(after));
                // A slot that was handed out ahead counts, also when a reload came before its due.
                let belongs = |fate: &Fate, due: u64| {
                    fate.first < era.to.unwrap_or(u64::MAX) || (fate.first, fate.interval) == (due, interval)
                };
                while let Some(fate) = fates.next_if(|fate| belongs(fate, due)) {
                    assert_eq!((fate.first, fate.interval), (due, interval), "{label}: not the next slot: {fate:?}");
                    due += fate.slots * interval;
                    after = due - interval + 1;
                }
                let open = due + interval > self.stopped.unwrap_or(self.at());
                assert!(open || era.to.is_some_and(|to| due >= to), "{label}: no word of {due} of {}", era.from);
            }
            assert_eq!(fates.next(), None, "{label}: no such slot");
        }
    }

    /// What became of a label's slots, in their order, in words: `ran 3`, `machine slept 12`.
    pub(super) fn story(&self, label: &str) -> String {
        let mut fates = self.fates.get(label).cloned().unwrap_or_default();
        fates.sort_by_key(|fate| fate.first);
        let mut told: Vec<(&str, u64)> = Vec::new();
        for fate in fates {
            let what = fate.cause.map_or("ran", Cause::reason);
            match told.last_mut() {
                Some((same, slots)) if *same == what && what == "ran" => *slots += 1,
                _ => told.push((what, fate.slots)),
            }
        }
        told.iter().map(|(what, slots)| format!("{what} {slots}")).collect::<Vec<_>>().join(", ")
    }
}

fn first_slot(era: &Era, from: u64) -> u64 {
    let interval = interval_us(&era.check);
    let phase = phase::phase_ms("edge-01", &era.check.label, interval / 1_000) * 1_000;
    let wall = from.wrapping_add_signed(era.offset);
    from + (interval + phase - wall % interval) % interval
}
