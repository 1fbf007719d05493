//! Signals to stop.

use std::time::Duration;

use rustix::process::Signal;

use crate::running::Place;
use crate::target::{Manner, Target, config};

#[test]
fn each_stop_signal_ends_it_with_success() {
    for signal in [Signal::TERM, Signal::INT] {
        let target = Target::that(Manner::Answers);
        let place = Place::with(&config(&[target.check("a", "interval: 100ms")]));
        let service = place.run();
        target.is_asked_for("a");
        service.signal(signal);
        let (status, took, said) = service.ends();
        assert!(status.success(), "{signal:?}: {status}\n{said}");
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}

#[test]
fn what_runs_at_the_stop_is_waited_for_and_kept() {
    let target = Target::that(Manner::NeverAnswers);
    let place = Place::with(&config(&[target.check("slow", "interval: 2s, timeout: 2s")]));
    let service = place.run();
    target.is_asked_for("slow");
    service.signal(Signal::TERM);
    let (status, took, said) = service.ends();
    assert!(status.success(), "{status}\n{said}");
    assert!(took < Duration::from_millis(3_500), "longer than the longest timeout and a moment: {took:?}");
    let waits = "waiting for 1 check to end, for 2.0 s at most; a second signal stops at once";
    assert!(said.contains(waits), "{said}");
    assert_eq!(place.stored::<String>("SELECT verdict FROM log WHERE verdict <> 'missed'"), ["down"]);
    assert_eq!(place.stored::<String>("SELECT phase FROM log WHERE verdict <> 'missed'"), ["first_byte"]);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let target = Target::that(Manner::NeverAnswers);
    // Many, so that one of them is due soon.
    let checks: Vec<String> =
        (0..50).map(|nth| target.check(&format!("c{nth}"), "interval: 15s, timeout: 15s")).collect();
    let place = Place::with(&config(&checks));
    let mut service = place.run();
    target.is_asked();
    service.signal(Signal::TERM);
    service.says("stopping");
    service.signal(Signal::TERM);
    let (status, took, said) = service.ends();
    assert!(!status.success(), "{status}\n{said}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}
