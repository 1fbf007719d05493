//! The commands that do a part of what `run` does.

use rustix::process::Signal;

use crate::running::{Place, wait_for};
use crate::target::{Manner, Target, config};

#[test]
fn what_the_agent_half_spooled_the_consumer_half_stores() {
    let target = Target::that(Manner::Answers);
    let place = Place::with(&config(&[target.check("a", "interval: 100ms")]));
    let logs = "SELECT seq FROM log WHERE verdict = 'up' ORDER BY seq";

    let producer = place.start("produce");
    target.is_asked_for("a");
    target.is_asked_for("a");
    producer.signal(Signal::TERM);
    let (status, _, said) = producer.ends();
    assert!(status.success(), "{status}\n{said}");
    assert_eq!(place.stored::<i64>(logs).len(), 0);

    let consumer = place.start("consume");
    wait_for("logs in the store", || (place.stored::<i64>(logs).len() >= 2).then_some(()));
    target.forget();
    consumer.signal(Signal::TERM);
    let (status, _, said) = consumer.ends();
    assert!(status.success(), "{status}\n{said}");
    assert!(!target.was_asked(), "the consumer half ran a check");
    let stored = place.stored::<i64>(logs);
    assert_eq!(stored, (1..=stored.len() as i64).collect::<Vec<_>>(), "the numbers have a hole");
}

#[test]
fn a_check_once_says_by_its_exit_code_whether_all_are_up() {
    let target = Target::that(Manner::Answers);
    let up = target.check("up", "interval: 1s");
    let down = "  - {label: down, tcp: \"127.0.0.1:1\"}\n".to_owned();
    for (checks, asked, code, verdicts) in [
        (vec![up.clone()], vec![], 0, vec!["up"]),
        (vec![up.clone(), down.clone()], vec![], 1, vec!["up", "down"]),
        (vec![down.clone(), up.clone()], vec!["up"], 0, vec!["up"]),
    ] {
        let place = Place::with(&config(&checks));
        let output = place.pingeon(&[&["check", "--format", "json"], &asked[..]].concat());
        assert_eq!(output.status.code(), Some(code), "{checks:?}, asked for {asked:?}");
        let lines = String::from_utf8(output.stdout).unwrap();
        let logs: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(logs.iter().map(|log| log["verdict"].as_str().unwrap()).collect::<Vec<_>>(), verdicts);
        assert!(!place.path().join("spool.db").exists(), "`check` keeps nothing");
    }
}
