//! `SIGHUP`.

use rustix::process::Signal;

use crate::running::Place;
use crate::target::{Manner, Target, config};

const OFTEN: &str = "interval: 100ms";

#[test]
fn checks_come_and_go_with_the_config() {
    let target = Target::that(Manner::Answers);
    let place = Place::with(&config(&[target.check("stays", OFTEN), target.check("goes", OFTEN)]));
    let mut service = place.run();
    target.is_asked_for("goes");

    place.configure(&config(&[target.check("stays", OFTEN), target.check("comes", OFTEN)]));
    service.signal(Signal::HUP);
    target.is_asked_for("comes");
    target.is_asked_for("stays");

    service.says("reloaded");
    // What was under way at that moment has come by the time that the others came twice.
    target.forget();
    let asked: Vec<String> = (0..8).map(|_| target.is_asked()).collect();
    assert!(!asked[2..].contains(&"goes".to_owned()), "{asked:?}");
    service.signal(Signal::TERM);
    assert!(service.ends().0.success());
}

#[test]
fn a_bad_config_is_reported_and_the_old_one_stays() {
    let target = Target::that(Manner::Answers);
    let place = Place::with(&config(&[target.check("a", OFTEN)]));
    let mut service = place.run();
    target.is_asked_for("a");

    place.configure("checks:\n  - {label: a, htp: \"http://127.0.0.1/\"}\n");
    service.signal(Signal::HUP);
    let said = service.says("pingeon.yaml:2:");
    assert!(said.contains("htp"), "{said}");
    target.forget();
    target.is_asked_for("a");
    target.is_asked_for("a");

    service.signal(Signal::TERM);
    assert!(service.ends().0.success());
}
