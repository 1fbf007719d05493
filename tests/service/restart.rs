//! Killed, and started again.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::running::{Place, wait_for};
use crate::target::{Manner, Target, config};

const INTERVAL: Duration = Duration::from_millis(500);
const LABELS: [&str; 2] = ["a", "b"];

#[test]
fn the_time_that_the_agent_was_off_is_one_missed_log_for_each_label() {
    let target = Target::that(Manner::Answers);
    let place = Place::with(&config(&LABELS.map(|label| target.check(label, "interval: 500ms"))));
    let up = "SELECT DISTINCT label FROM log WHERE verdict = 'up' ORDER BY label";
    let off = "SELECT label FROM log WHERE verdict = 'missed' AND reason = 'agent was off' ORDER BY label";

    let service = place.run();
    wait_for("logs of every label", || (place.stored::<String>(up) == LABELS).then_some(()));
    service.signal(Signal::KILL);
    service.ends();
    let killed = Instant::now();
    wait_for("slots to pass", || (killed.elapsed() > 3 * INTERVAL).then_some(()));

    let service = place.run();
    wait_for("the missed logs", || (place.stored::<String>(off).len() >= LABELS.len()).then_some(()));
    target.forget();
    LABELS.iter().for_each(|label| target.is_asked_for(label));
    service.signal(Signal::TERM);
    let (status, _, said) = service.ends();
    assert!(status.success(), "{status}\n{said}");

    assert_eq!(place.stored::<String>(off), LABELS);
    for label in LABELS {
        assert_eq!(slots_without_a_log(&place, label), 0, "{label}");
    }
}

/// From a label's first slot to its last: how many more there were than its logs account for.
fn slots_without_a_log(place: &Place, label: &str) -> i64 {
    let last = "CASE verdict WHEN 'missed' THEN unixepoch(result ->> 'last_due_at', 'subsec') ELSE due_at / 1e6 END";
    let query = format!(
        "SELECT cast(round((max({last}) - min(due_at / 1e6)) / {}) AS INTEGER) + 1
                - sum(CASE verdict WHEN 'missed' THEN result ->> 'slots' ELSE 1 END)
         FROM log WHERE label = '{label}'",
        INTERVAL.as_secs_f64()
    );
    place.stored(&query)[0]
}
