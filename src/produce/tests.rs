use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::check::{Check, Kind, Outcome, Phase, Verdict, tcp};
use crate::clock::{Clock, Now, SystemClock, Timestamp};
use crate::config::{self, WhenFull};
use crate::flow::Source;
use crate::logs::{Cause, Log};
use crate::net::Host;
use crate::spool::Spool;

fn check(label: &str, every_ms: u64) -> Arc<Check> {
    let host = Host::Address([127, 0, 0, 1].into());
    let tcp = tcp::Tcp::to(host, 1);
    let interval = Duration::from_millis(every_ms);
    let (target, kind) = ("127.0.0.1:1".into(), Kind::Tcp(Box::new(tcp)));
    Arc::new(Check { label: label.into(), interval, timeout: interval, confirm: Default::default(), target, kind })
}

/// Runs the agent half in a new spool until `enough`, and gives what the spool then has.
fn logs_of(checks: &[Arc<Check>], workers: usize, run: Run, enough: impl Fn(&[Log]) -> bool) -> Vec<Log> {
    let folder = tempfile::tempdir().unwrap();
    let flush = Duration::from_millis(10);
    let path = folder.path().join("spool.db");
    let settings = config::Spool { path, max_bytes: 64 << 20, when_full: WhenFull::Thin, flush };
    let now = SystemClock.now();
    let author = Author::new("test".into(), now.wall);
    let (stop, drained, jobs) = (Stop::default(), Stop::default(), Jobs::default());
    let (writer, mut reader) = Spool::open(&settings, &author).unwrap().split(drained.clone());
    let plan = Plan { author, run, network_gate: Vec::new(), workers, flush };
    let schedule = Schedule::new("test", checks, now, &HashMap::new());
    let agent = start(&jobs, plan, schedule, writer, &Arc::new(Net::system()), (&stop, &drained)).unwrap();

    let (mut logs, by) = (Vec::new(), Instant::now() + Duration::from_secs(30));
    while !enough(&logs) && Instant::now() < by {
        let batch = reader.pull(Duration::from_secs(1)).unwrap();
        reader.commit(&batch, &[]).unwrap();
        logs.extend(batch.logs);
    }
    stop.set();
    drop(agent);
    let (late, failed) = jobs.join(Duration::from_secs(30));
    assert!(late.is_empty() && failed.is_empty(), "{late:?} {failed:?}");
    logs.extend(reader.pull(Duration::ZERO).unwrap().logs);
    logs
}

fn up() -> Outcome {
    Outcome { verdict: Verdict::Up, reason: None, ..Outcome::unknown("") }
}

#[test]
fn a_panic_in_a_check_is_an_unknown_log_and_the_worker_lives_on() {
    let run: Run = |check, _, _| if &*check.label == "bad" { panic!("no {}", "bananas") } else { up() };
    let checks = [check("bad", 100), check("good", 100)];
    let logs = logs_of(&checks, 2, run, |logs| logs.iter().filter(|log| log.verdict != Verdict::Missed).count() >= 6);
    // A debug build takes its time to print a backtrace, so that the next slot may be missed.
    for log in logs.iter().filter(|log| log.verdict != Verdict::Missed) {
        let expected = match &*log.label {
            "bad" => (Verdict::Unknown, Some("the check panicked: no bananas")),
            _ => (Verdict::Up, None),
        };
        assert_eq!((log.verdict, log.reason.as_deref()), expected, "{log:?}");
    }
}

#[test]
fn sequence_numbers_have_no_holes_and_slots_no_gaps() {
    let checks: Vec<_> = (0..20).map(|n| check(&format!("check-{n}"), 100)).collect();
    let logs = logs_of(&checks, 4, |_, _, _| up(), |logs| logs.len() >= 100);
    let seqs: Vec<u64> = logs.iter().map(|log| log.seq).collect();
    assert_eq!(seqs, (1..=logs.len() as u64).collect::<Vec<_>>());
    assert_no_gaps(&logs);
}

#[test]
fn what_too_few_workers_could_not_run_is_missed_with_its_reason() {
    let checks: Vec<_> = (0..4).map(|n| check(&format!("check-{n}"), 100)).collect();
    let slow: Run = |check, _, deadline| {
        // Takes its whole timeout, as a target that never answers would make it.
        Stop::default().wait(deadline.saturating_duration_since(Instant::now()));
        assert!(check.timeout > Duration::ZERO);
        up()
    };
    let missed = |logs: &[Log]| logs.iter().filter(|log| log.verdict == Verdict::Missed).count();
    let logs = logs_of(&checks, 1, slow, |logs| missed(logs) >= 4);
    assert!(missed(&logs) >= 4, "{logs:?}");
    for log in logs.iter().filter(|log| log.verdict == Verdict::Missed) {
        let cause = log.as_missed().map(|missed| missed.cause);
        assert!(matches!(cause, Some(Cause::WorkersBusy | Cause::StillRunning)), "{log:?}");
    }
    assert_no_gaps(&logs);
}

#[test]
fn a_log_tells_what_the_agent_did_to_its_check() {
    let slow: Run = |_, _, _| {
        Stop::default().wait(Duration::from_millis(20));
        up()
    };
    let checks: Vec<_> = (0..8).map(|n| check(&format!("check-{n}"), 200)).collect();
    for (workers, running_most) in [(1, 1), (8, 8)] {
        // Eight checks that take 20 ms each, within 200 ms: some have to wait for the one worker that there is.
        let mut crowd = 0;
        let logs = logs_of(&checks, workers, slow, |logs| logs.len() >= 100);
        let mut queued = 0;
        for log in logs.iter().filter(|log| log.verdict != Verdict::Missed) {
            let strain = log.strain().unwrap();
            assert!(strain.queued_us <= strain.late_us && strain.late_us < Some(1_000_000), "{log:?}");
            assert_eq!(strain.starved_us.is_some(), Path::new("/proc/self/schedstat").exists(), "{log:?}");
            crowd = crowd.max(strain.running.unwrap());
            queued = queued.max(strain.queued_us.unwrap());
        }
        assert!((1..=running_most).contains(&crowd), "{crowd}");
        assert!(workers > 1 || queued > 1_000, "{queued}");
    }
}

/// Each label's slots follow each other: every one has a log or lies in a missed range.
fn assert_no_gaps(logs: &[Log]) {
    let mut next: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for log in logs {
        let last = log.as_missed().map_or(log.due_at, |missed| missed.last_due_at);
        let after = last.plus(Duration::from_millis(log.interval_ms));
        if let Some(expected) = next.insert(&log.label, after) {
            assert_eq!(log.due_at, expected, "{log:?}");
        }
    }
}

#[test]
fn a_check_during_which_the_agent_stood_still_does_not_judge() {
    let late: Run = |check, _, _| {
        Stop::default().wait(check.timeout + 2 * OVERRUN_MAX);
        Outcome { verdict: Verdict::Down, phase: Some(Phase::Body), reason: Some("too slow".to_owned()), ..up() }
    };
    let (outcome, took) = run_check(late, &check("a", 100), &Net::system());
    assert_eq!((outcome.verdict, outcome.phase), (Verdict::Unknown, Some(Phase::Body)), "{outcome:?} {took:?}");
    assert!(outcome.reason.unwrap().starts_with("the agent stood still: the check ended after 1.1 s"));
}

#[test]
fn targets_that_hang_hold_up_no_other() {
    let mut checks = vec![check("well", 100)];
    checks.extend((0..3).map(|n| check(&format!("hangs-{n}"), 1_000)));
    let run: Run = |check, _, deadline| {
        if check.label.starts_with("hangs") {
            Stop::default().wait(deadline.saturating_duration_since(Instant::now()));
        }
        up()
    };
    let well = |logs: &[Log]| logs.iter().filter(|log| &*log.label == "well").count();
    let logs = logs_of(&checks, checks.len(), run, |logs| well(logs) >= 15);
    let missed: Vec<_> = logs.iter().filter(|log| &*log.label == "well" && log.verdict == Verdict::Missed).collect();
    assert!(well(&logs) >= 15 && missed.is_empty(), "{missed:?}");
}

#[test]
fn what_a_full_spool_held_up_is_no_fault_of_the_targets() {
    let checks: Vec<_> = (0..4).map(|n| check(&format!("check-{n}"), 200)).collect();
    let (now, stop, jobs) = (SystemClock.now(), Stop::default(), Jobs::default());
    let schedule = Schedule::new("test", &checks, now, &HashMap::new());
    let (line, (logs, logs_out)) = (Arc::new(Line::new(4)), bounded(2));
    let ((returns, returned), (_reloads, reloaded)) = (bounded(100), bounded(1));
    let author = Author::new("test".into(), now.wall);
    let (network_gate, flush) = (Vec::new(), Duration::ZERO);
    let plan = Plan { author: author.clone(), run: |_, _, _| up(), network_gate, workers: 4, flush };
    let gate = Arc::new(Gate::new(plan.run, Vec::new(), &stop));
    let crew = Crew::new(&plan, &gate, (&Arc::new(Net::system()), &jobs, &stop), line.clone(), returns, logs.clone());
    Arc::new(crew).hire().unwrap();
    let (mut foreman, heard) = (Foreman::new(schedule, author, line, logs), stop.clone());
    jobs.start("schedule", STACK, move |pulse| {
        foreman.run(&returned, &reloaded, &heard, pulse);
        Ok(())
    })
    .unwrap();

    // Nobody takes logs for two seconds, then all that come until each label has one that was missed.
    stop.wait(Duration::from_secs(2));
    let now = SystemClock.now();
    let later = Now { steady: now.steady.plus(Duration::from_secs(3_600)), ..now };
    let stuck = jobs.roster().stuck(later);
    assert!(
        stuck.iter().all(|(thread, _)| thread == "schedule"),
        "a worker that waits for the spool is not: {stuck:?}"
    );
    let (mut causes, by) = (BTreeMap::new(), Instant::now() + Duration::from_secs(30));
    while causes.len() < checks.len() {
        let log = logs_out.recv_deadline(by).unwrap();
        if let Some(missed) = log.as_missed() {
            causes.entry(log.label.clone()).or_insert(missed.cause);
        }
    }
    stop.set();
    while logs_out.recv().is_ok() {}
    assert!(causes.values().all(|cause| *cause == Cause::SpoolFull), "{causes:?}");
}

#[test]
fn who_stood_still_is_told() {
    let second = Duration::from_secs(1);
    let told = |took, slept| stood_still(took, second, slept);
    assert_eq!((told(second, Duration::ZERO), told(second + OVERRUN_MAX, Duration::ZERO)), (None, None));
    assert_eq!(told(second, 60 * second).as_deref(), Some("the machine slept for 60.0 s during the check"));
    let still = "the agent stood still: the check ended after 3.0 s, and its timeout is 1 s";
    assert_eq!(told(3 * second, Duration::ZERO).as_deref(), Some(still));
}
