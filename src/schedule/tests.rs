//! The schedule in simulated time.

mod simulation;

use proptest::prelude::*;

use self::simulation::{Fate, MS, SECOND, World, check};
use super::*;

fn ran(world: &World, label: &str) -> u64 {
    world.fates.get(label).map_or(0, |fates| fates.iter().filter(|fate| fate.cause.is_none()).count() as u64)
}

/// A world of one check every 10 s, just after its first slot ran.
fn after_one_run() -> World {
    let mut world = World::new(&[check("shop", 10_000)], 4);
    let first = micros(world.schedule.next_due().unwrap().0);
    world.run(first + SECOND - world.at());
    assert_eq!(world.story("shop"), "ran 1");
    world
}

/// Lets a while pass and tells what became of the slots.
fn told(mut world: World) -> String {
    world.run(30 * SECOND);
    world.stop();
    world.assert_complete();
    world.story("shop")
}

#[test]
fn a_free_label_runs_every_slot() {
    assert_eq!(told(after_one_run()), "ran 4");
}

#[test]
fn a_restart_keeps_the_phase() {
    let checks = [check("shop", 10_000)];
    let mut world = World::new(&checks, 1);
    let first = world.schedule.take(world.now, Duration::from_secs(10)).unwrap().due_at;
    world.sleep(12_345_678_901);
    let again = Schedule::new("edge-01", &checks, world.now, &HashMap::new()).take(world.now, Duration::from_secs(10));
    assert_eq!(again.unwrap().due_at.since(first).as_micros() % 10_000_000, 0);
}

#[test]
fn a_wall_clock_that_is_set_neither_bunches_nor_skips() {
    for step in [3_600_000_000, -3_600_000_000, 60_000, -60_000, 4_000_000, 86_400_000_000 * 40] {
        let mut world = after_one_run();
        let before = world.schedule.wall.offset;
        world.set_wall(step);
        world.run(30 * SECOND);
        assert_eq!(world.story("shop"), "ran 4", "{step}");
        assert_eq!((world.schedule.wall_step(), world.schedule.wall_step()), (Some(step), None));
        assert_eq!(world.schedule.wall.offset, before + step);
        let dues: Vec<u64> = world.fates["shop"].iter().map(|fate| fate.first).collect();
        assert!(dues.windows(2).all(|pair| pair[1] - pair[0] == 10 * SECOND), "{dues:?}");
    }
}

#[test]
fn noise_between_the_clocks_does_not_make_slots_wander() {
    let mut world = after_one_run();
    for noise in [900, -40_000, 49_000, -49_000, 49_900] {
        world.set_wall(noise);
        world.run(10 * SECOND);
        world.set_wall(-noise);
        assert_eq!(world.schedule.wall_step(), None);
    }
    world.assert_complete();
}

fn wake_for_a_moment(world: &mut World) {
    world.schedule.hold(world.now, Cause::WorkersBusy);
    world.jump(world.at() + 200 * MS);
    world.schedule.hold(world.now, Cause::WorkersBusy);
}

#[test]
fn causes() {
    type Change = fn(&mut World);
    let cases: [(&str, Change, &str); 10] = [
        ("slept through slots", |world| world.sleep(100 * SECOND), "ran 1, machine slept 9, ran 4"),
        ("slept between slots", |world| world.sleep(5 * SECOND), "ran 4"),
        ("a late run is no missed one", |world| world.sleep(12 * SECOND), "ran 5"),
        ("stood still", |world| world.jump(world.at() + 100 * SECOND), "ran 1, agent stalled 9, ran 4"),
        (
            "slept twice, awake for a moment",
            |world| {
                world.sleep(55 * SECOND);
                wake_for_a_moment(world);
                world.sleep(45 * SECOND);
            },
            "ran 1, machine slept 9, ran 4",
        ),
        (
            "the spool was full",
            |world| {
                world.full = true;
                world.run(50 * SECOND);
                world.full = false;
            },
            "ran 1, spool full 4, ran 4",
        ),
        (
            "still running",
            |world| {
                let mut long = Some(25 * SECOND);
                world.takes = Box::new(move |_| long.take().unwrap_or(MS));
                world.run(10 * SECOND);
            },
            "ran 2, still running 2, ran 1",
        ),
        (
            "no worker",
            |world| {
                world.workers = 0;
                world.run(35 * SECOND);
                world.workers = 1;
            },
            "ran 1, workers busy 2, ran 4",
        ),
        (
            "no worker, and a queue of none",
            |world| {
                (world.queue_max, world.tries) = (0, true);
                world.run(35 * SECOND);
                world.queue_max = 1;
            },
            "ran 1, workers busy 2, ran 4",
        ),
        (
            "no worker, then a sleep",
            |world| {
                (world.queue_max, world.tries) = (0, true);
                world.run(25 * SECOND);
                world.queue_max = 1;
                world.sleep(40 * SECOND);
            },
            "ran 1, workers busy 2, machine slept 3, ran 4",
        ),
    ];
    for (name, change, story) in cases {
        let mut world = after_one_run();
        change(&mut world);
        assert_eq!(told(world), story, "{name}");
    }
}

#[test]
fn an_owner_that_had_nothing_to_hand_out_did_not_stand_still() {
    let mut world = World::new(&[check("daily", 86_400_000)], 1);
    world.run(5 * 86_400 * SECOND);
    assert_eq!(world.story("daily"), "ran 5");
}

#[test]
fn an_owner_that_slept_while_every_label_was_out_did_not_stand_still() {
    let checks = [check("hangs", 10_000), check("shop", 10_000)];
    let mut world = World::new(&checks, 1);
    // The worker is with `hangs`, and the slot of `shop` waits for it, until long after its successor was due.
    let mut long = Some(95 * SECOND);
    world.takes =
        Box::new(move |check| if &*check.label == "hangs" { long.take().unwrap_or(50 * MS) } else { 50 * MS });
    world.run(150 * SECOND);
    world.stop();
    world.assert_complete();
    let causes = |label: &str| -> Vec<Cause> { world.fates[label].iter().filter_map(|fate| fate.cause).collect() };
    assert_eq!(causes("hangs"), [Cause::StillRunning]);
    assert!(!causes("shop").is_empty(), "{}", world.story("shop"));
    assert!(causes("shop").iter().all(|cause| *cause == Cause::WorkersBusy), "{}", world.story("shop"));
}

#[test]
fn an_owner_that_rests_is_in_time_and_looks_seldom() {
    for (intervals, share, looks_most) in [
        // Every 10 s: before each slot once.
        (&[10_000][..], 0.1, 11),
        (&[10_000], 0.98, 11),
        // What comes back shortly before it is due again is heard.
        (&[200], 0.95, 1_600),
        (&[100, 150, 10_000], 0.5, 3_000),
        (&[300, 700, 1_000, 1_100, 5_000], 0.8, 1_000),
        // A crowd: each tick.
        (&[1_000; 200], 0.1, 1_001),
    ] {
        let checks: Vec<_> =
            intervals.iter().enumerate().map(|(n, &interval)| check(&format!("label-{n}"), interval)).collect();
        let mut world = World::new(&checks, 200);
        (world.rests, world.queue_max) = (true, 200);
        world.takes = Box::new(move |check| (interval_us(check) as f64 * share) as u64);
        world.run(100 * SECOND);
        assert!(world.fates.values().flatten().all(|fate| fate.cause.is_none()), "{intervals:?}");
        assert_eq!(world.late_most, 0, "{intervals:?}");
        assert!(world.looks <= looks_most, "{intervals:?}: {}", world.looks);
    }
}

#[test]
fn how_long_an_owner_rests() {
    let (ahead, secs) = (AHEAD / 2, Duration::from_secs);
    for (interval, out, handed_out, rest) in [
        // Until shortly before the first is due, or is due again, whether it is back or not.
        (10_000, false, 0, (secs(10) - ahead, false)),
        (10_000, true, 1, (secs(10) - ahead, false)),
        (3_600_000, false, 0, (rest::IDLE_MAX, false)),
        // It may come back at any moment, and is due again soon: nothing else needs to be done.
        (150, true, 1, (rest::IDLE_MAX, true)),
        (150, true, rest::FEW + 1, (rest::IDLE_MAX, true)),
    ] {
        let mut world = World::new(&[check("shop", interval)], 1);
        let due = micros(world.schedule.next_due().unwrap().0);
        world.jump(if out { due } else { due.saturating_sub(interval * MS).max(world.at()) });
        let until_due = Duration::from_micros(due - world.at());
        if out {
            world.schedule.take(world.now, AHEAD).unwrap();
        }
        let rest = if out { rest } else { (rest.0.min(until_due.saturating_sub(ahead)), rest.1) };
        assert_eq!(world.schedule.rest(world.now, handed_out), rest, "{interval} ms, out: {out}");
    }
}

#[test]
fn one_that_hangs_holds_up_no_other_while_its_owner_rests() {
    let mut world = World::new(&[check("hangs", 1_000), check("shop", 10_000)], 2);
    world.rests = true;
    world.takes = Box::new(|check| if &*check.label == "hangs" { 35 * SECOND } else { 50 * MS });
    world.run(600 * SECOND);
    assert_eq!((world.story("shop"), world.late_most), ("ran 60".to_owned(), 0));
    assert!(world.looks < 600, "{}", world.looks);
}

#[test]
fn a_check_that_runs_to_its_interval_misses_hardly_a_slot() {
    let mut world = World::new(&[check("hangs", 1_000)], 1);
    world.rests = true;
    world.takes = Box::new(|_| 1_002 * MS);
    world.run(100 * SECOND);
    let missed: u64 = world.fates["hangs"].iter().filter(|fate| fate.cause.is_some()).map(|fate| fate.slots).sum();
    assert!(missed <= 2 && world.late_most <= 100 * MS, "{}: {} late", world.story("hangs"), world.late_most);
}

#[test]
fn a_slot_is_not_begun_once_its_successor_is_due() {
    let mut world = World::new(&[check("shop", 10_000)], 1);
    let slot = world.schedule.take(world.now, Duration::from_secs(10)).unwrap();
    let due = micros(slot.due.0);
    assert!(!slot.begin(steady(due + 10 * SECOND)));
    assert!(slot.begin(steady(due + 10 * SECOND - 1)));
}

#[test]
fn a_label_that_never_gets_free_is_seen_all_the_same() {
    let mut world = World::new(&[check("stuck", 5_000), check("shop", 5_000)], 2);
    world.takes = Box::new(|check| if &*check.label == "stuck" { u64::MAX / 2 } else { MS });
    world.run(20 * 60 * SECOND);
    let missed: u64 = world.fates["stuck"].iter().map(|fate| fate.slots).sum();
    assert!(missed >= 20 * 12 - 16, "{}", world.story("stuck"));
    assert!(world.fates["stuck"].len() <= 20, "{}", world.story("stuck"));
    assert!(world.fates["stuck"].iter().all(|fate| fate.cause == Some(Cause::StillRunning)));
}

#[test]
fn with_too_few_workers_no_label_starves() {
    // Two workers, a second a run: 2,000 runs in 1,000 s. With 400 labels each waits for longer than ranges may grow.
    for (labels, tries, fair) in [(40, false, 40..=60), (40, true, 40..=60), (400, false, 4..=6), (400, true, 4..=6)] {
        let checks: Vec<_> = (0..labels).map(|n| check(&format!("shop-{n}"), 10_000)).collect();
        let mut world = World::new(&checks, 2);
        (world.queue_max, world.tries) = (1, tries);
        world.takes = Box::new(|_| SECOND);
        world.run(1_000 * SECOND);
        world.stop();
        world.assert_complete();
        let runs: Vec<u64> = checks.iter().map(|check| ran(&world, &check.label)).collect();
        assert!(runs.iter().all(|runs| fair.contains(runs)), "{labels} {tries}: {runs:?}");
    }
}

#[test]
fn a_long_sleep_costs_no_more_than_a_short_one() {
    // One by one, the slots of these thousand years would take this test hours.
    let mut world = World::new(&[check("shop", 1)], 1);
    world.schedule.take(world.now, Duration::ZERO);
    world.sleep(1_000 * 365 * 86_400 * SECOND);
    world.run(MS);
    let slept = world.fates["shop"].iter().find(|fate| fate.cause == Some(Cause::MachineSlept)).unwrap();
    assert!(slept.slots >= 1_000 * 365 * 86_400 * 1_000 - 2, "{slept:?}");
}

#[test]
fn what_is_out_when_the_agent_stops_is_left_to_the_next_start() {
    let mut world = World::new(&[check("shop", 10_000), check("free", 10_000)], 1);
    let mut taken = Vec::new();
    while let Some(slot) = world.schedule.take(world.now, Duration::from_secs(10)) {
        taken.push(slot);
    }
    let free = taken.iter().position(|slot| &*slot.check.label == "free").unwrap();
    world.schedule.put_back(taken.swap_remove(free));
    world.sleep(60 * SECOND);
    let labels: Vec<_> = world.schedule.finish(world.now).into_iter().map(|range| range.check.label.clone()).collect();
    assert_eq!(labels, ["free".into()]);
}

#[test]
fn what_an_agent_missed_while_it_was_off() {
    let shop = check("shop", 10_000);
    let base = World::new(std::slice::from_ref(&shop), 1);
    let first = base.schedule.wall.at(micros(base.schedule.next_due().unwrap().0));
    let (secs, millis) = (Duration::from_secs, Duration::from_millis);
    let cases = [
        ("the slot before was kept", first.minus(secs(10)), None),
        ("one was not", first.minus(secs(20)), Some((first.minus(secs(10)), 1, first.minus(secs(10))))),
        ("a day", first.minus(secs(86_400)), Some((first.minus(secs(86_390)), 8_639, first.minus(secs(10))))),
        ("kept a little early", first.minus(millis(30_900)), Some((first.minus(secs(20)), 2, first.minus(secs(10))))),
        ("kept a little late", first.minus(millis(29_100)), Some((first.minus(secs(20)), 2, first.minus(secs(10))))),
        (
            "kept when its slots were others",
            first.minus(secs(33)),
            Some((first.minus(secs(30)), 3, first.minus(secs(10)))),
        ),
        (
            "kept at a slot of another interval",
            first.minus(secs(27)),
            Some((first.minus(secs(20)), 2, first.minus(secs(10)))),
        ),
        ("the wall clock was set back", base.now.wall.plus(secs(50)), None),
        ("kept in this very moment", base.now.wall, None),
    ];
    for (name, kept, expected) in cases {
        let last_kept = HashMap::from([(shop.label.clone(), kept)]);
        let mut schedule = Schedule::new("edge-01", std::slice::from_ref(&shop), base.now, &last_kept);
        let ranges: Vec<_> = schedule.missed().into_iter().map(|range| (range.first_due_at, range.missed)).collect();
        let expected: Vec<_> = expected
            .map(|(first, slots, last_due_at)| (first, Missed { cause: Cause::AgentOff, slots, last_due_at }))
            .into_iter()
            .collect();
        assert_eq!(ranges, expected, "{name}");
        assert!(schedule.missed().is_empty(), "{name}");
    }
}

#[test]
fn reloads() {
    type Change = fn(&mut World);
    let cases: [(&str, Change, &str); 6] = [
        ("nothing new", |world| world.reload(&[check("shop", 10_000)]), "ran 4"),
        ("gone", |world| world.reload(&[]), "ran 1"),
        ("twice as often", |world| world.reload(&[check("shop", 5_000)]), "ran 7"),
        (
            "gone while it ran",
            |world| {
                let mut long = Some(25 * SECOND);
                world.takes = Box::new(move |_| long.take().unwrap_or(MS));
                world.run(20 * SECOND);
                world.reload(&[]);
            },
            "ran 2, still running 1",
        ),
        (
            "gone while it ran, and back",
            |world| {
                let mut long = Some(25 * SECOND);
                world.takes = Box::new(move |_| long.take().unwrap_or(MS));
                world.run(20 * SECOND);
                world.reload(&[check("other", 10_000)]);
                world.run(SECOND);
                world.reload(&[check("shop", 10_000)]);
                world.run(10 * SECOND);
            },
            "ran 2, still running 1, still running 1, ran 3",
        ),
        (
            "gone while it waited for a worker",
            |world| {
                (world.queue_max, world.tries) = (0, true);
                world.run(22 * SECOND);
                world.reload(&[check("other", 10_000)]);
            },
            "ran 1, workers busy 2",
        ),
    ];
    for (name, change, story) in cases {
        let mut world = after_one_run();
        change(&mut world);
        assert_eq!(told(world), story, "{name}");
    }
}

#[test]
fn a_changed_check_takes_effect_with_its_next_slot() {
    let mut world = after_one_run();
    let out = world.schedule.take(world.now, Duration::from_secs(10)).unwrap();
    let changed = Arc::new(Check { target: "new".into(), ..Check::clone(&out.check) });
    world.schedule.reload(&[changed], world.now);
    assert_eq!(&*out.check.target, "192.0.2.1:1");
    world.jump(micros(out.due.0));
    assert!(out.begin(world.now.steady));
    let (due, ended) = (out.due, world.now.steady);
    world.schedule.done(out, ended);
    let next = world.schedule.take(world.now, Duration::from_secs(10)).unwrap();
    assert_eq!((&*next.check.target, next.due), ("new", due.plus(Duration::from_secs(10))));
}

#[test]
fn a_label_costs_little_memory() {
    // The set of waiting labels holds each in at most two words and their share of half-full nodes.
    let each = size_of::<Option<Label>>() + 2 * size_of::<(u64, u32)>();
    assert!(each <= 150, "{each}");
}

#[test]
fn ten_thousand_checks_for_two_days() {
    let checks: Vec<_> = (0..10_000).map(|n| check(&format!("shop-{n}"), 1_800_000 + n % 7 * 300_000)).collect();
    let mut world = World::new(&checks, 40);
    world.queue_max = 2_048;
    let mut runs = 0_u64;
    world.takes = Box::new(move |_| {
        runs += 1;
        // One in a thousand hangs for an hour.
        if runs.is_multiple_of(1_000) { 3_600 * SECOND } else { 50 * MS }
    });
    world.run(86_400 * SECOND / 2);
    world.sleep(28_800 * SECOND);
    world.run(3_600 * SECOND);
    world.jump(world.at() + 900 * SECOND);
    world.run(86_400 * SECOND);
    world.stop();
    world.assert_complete();
    let count: usize = world.fates.values().map(Vec::len).sum();
    assert!(count > 400_000, "{count}");
}

/// What happens to a simulated agent.
#[derive(Clone, Debug)]
enum Event {
    Run(u64),
    Stall(u64),
    Sleep(u64),
    SetWall(i64),
    Full(u64),
    Workers(usize),
    /// For each label: 0 drops it, else its interval.
    Reload(Vec<u64>),
}

const INTERVALS_MS: [u64; 5] = [250, 1_000, 3_000, 10_000, 70_000];

fn intervals() -> impl Strategy<Value = Vec<u64>> {
    let interval = prop_oneof![1 => Just(0), 6 => prop::sample::select(&INTERVALS_MS[..])];
    prop::collection::vec(interval, 6)
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..40_000 * MS).prop_map(Event::Run),
        1 => (0..300 * SECOND).prop_map(Event::Stall),
        1 => (0..300 * SECOND).prop_map(Event::Sleep),
        1 => (0..20 * SECOND).prop_map(Event::Full),
        1 => (0..4_usize).prop_map(Event::Workers),
        1 => (-7_200_000_000_i64..7_200_000_000).prop_map(Event::SetWall),
        2 => intervals().prop_map(Event::Reload),
    ]
}

fn checks_of(intervals: &[u64]) -> Vec<Arc<Check>> {
    let named = intervals.iter().enumerate().filter(|(_, interval)| **interval > 0);
    named.map(|(n, &interval)| check(&format!("label-{n}"), interval)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// The world itself asserts that no two runs of a label overlap and that none begins before its due or too late.
    #[test]
    fn every_slot_runs_or_lies_in_exactly_one_missed_range(
        first in intervals(),
        events in prop::collection::vec(event(), 1..30),
        takes_ms in prop::collection::vec(prop_oneof![4 => 1..300_u64, 1 => 300..30_000_u64], 1..20),
        (queue_max, ahead_ms, tries) in (0..4_usize, prop::sample::select(&[0, 150, 1_000][..]), any::<bool>()),
        rests in any::<bool>(),
    ) {
        let mut world = World::new(&checks_of(&first), 2);
        let mut nth = 0;
        world.takes = Box::new(move |_| { nth += 1; takes_ms[nth % takes_ms.len()] * MS });
        (world.queue_max, world.ahead, world.tries) = (queue_max, Duration::from_millis(ahead_ms), tries);
        world.rests = rests;
        for event in events {
            match event {
                Event::Run(by) => world.run(by),
                Event::Stall(by) => world.jump(world.at() + by),
                Event::Sleep(by) => world.sleep(by),
                Event::SetWall(by) => world.set_wall(by),
                Event::Workers(workers) => world.workers = workers,
                Event::Reload(intervals) => world.reload(&checks_of(&intervals)),
                Event::Full(by) => {
                    world.full = true;
                    world.run(by);
                    world.full = false;
                }
            }
        }
        world.stop();
        world.assert_complete();
    }

    #[test]
    fn over_a_restart_no_slot_is_lost_or_told_twice(
        intervals in intervals(),
        (run, off) in (0..200 * SECOND, 0..2_000 * SECOND),
        (workers, takes) in (0..3_usize, 1..5 * SECOND),
    ) {
        let checks = checks_of(&intervals);
        let mut world = World::new(&checks, workers);
        world.takes = Box::new(move |_| takes);
        world.run(run);
        world.stop();
        // The slot after the last that is kept, by label.
        let after = |fates: &Vec<Fate>| fates.iter().map(|fate| fate.first + fate.slots * fate.interval).max().unwrap();
        let mut next: HashMap<Arc<str>, Timestamp> =
            world.fates.iter().map(|(label, fates)| (label.clone(), world.schedule.wall.at(after(fates)))).collect();
        let last_kept = checks.iter().filter_map(|check| Some((check.label.clone(), next.get(&check.label)?.minus(check.interval))));
        let last_kept: HashMap<_, _> = last_kept.collect();
        world.jump(world.at() + off);
        let mut again = Schedule::new("edge-01", &checks, world.now, &last_kept);
        for range in again.missed() {
            let expected = next.insert(range.check.label.clone(), range.missed.last_due_at.plus(range.check.interval));
            prop_assert_eq!((expected, range.missed.cause), (Some(range.first_due_at), Cause::AgentOff));
        }
        while let Some(slot) = again.take(world.now, Duration::from_secs(70)) {
            prop_assert!(next.get(&slot.check.label).is_none_or(|&next| next == slot.due_at), "{slot:?} {next:?}");
        }
    }
}
