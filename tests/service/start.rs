//! What keeps it from starting.

use std::net::TcpListener;

use crate::running::Place;
use crate::target::{Manner, Target, config};

#[test]
fn a_port_that_is_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let target = Target::that(Manner::Answers);
    let check = target.check("a", "interval: 1s");
    let place = Place::with(&format!("{}web: {{listen: \"{address}\"}}\n", config(&[check])));
    let (status, _, said) = place.run().ends();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(&address.to_string()) && said.contains("in use"), "{said}");
}

#[test]
fn a_spool_that_another_one_uses_is_named() {
    let target = Target::that(Manner::Answers);
    let place = Place::with(&config(&[target.check("a", "interval: 100ms")]));
    let _first = place.run();
    target.is_asked_for("a");
    let (status, _, said) = place.run().ends();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("spool.db") && said.contains("in use"), "{said}");
}

#[test]
fn a_spool_that_is_something_else_is_named_and_left_alone() {
    let target = Target::that(Manner::Answers);
    let place = Place::with(&config(&[target.check("a", "interval: 100ms")]));
    let spool = place.path().join("spool.db");
    std::fs::write(&spool, "a letter to my aunt\n".repeat(100)).unwrap();
    let (status, _, said) = place.run().ends();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("spool.db"), "{said}");
    assert_eq!(std::fs::read_to_string(&spool).unwrap(), "a letter to my aunt\n".repeat(100));
}
