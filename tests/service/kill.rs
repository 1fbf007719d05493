//! Killed in the middle, again and again.

use std::collections::BTreeMap;
use std::fs;

use rusqlite::Connection;
use rustix::process::Signal;

use crate::running::{Place, wait_for};
use crate::target::{Manner, Target, config};

const KILLS: i64 = 20;

#[test]
fn no_log_that_the_spool_accepted_is_missing_or_twice_after_twenty_kills() {
    let target = Target::that(Manner::Answers);
    let checks: Vec<String> = (0..20).map(|n| target.check(&format!("c{n}"), "interval: 100ms")).collect();
    let place = Place::with(&config(&checks));

    // Of each run, the last number that its spool accepted.
    let mut accepted = BTreeMap::new();
    for kill in 1..=KILLS {
        let service = place.run();
        // Some more logs each time, so that the kills do not all come at the same step.
        let enough = format!(
            "SELECT (SELECT count(DISTINCT boot) FROM log) = {kill}
                AND (SELECT count(*) FROM log WHERE boot = (SELECT max(boot) FROM log)) > {}",
            kill * 7 % 50
        );
        wait_for("a run's first logs in the store", || (place.stored::<bool>(&enough) == [true]).then_some(()));
        service.signal(Signal::KILL);
        service.ends();
        let (boot, seq) = last_accepted(&place);
        accepted.insert(boot, seq);
    }
    assert_eq!(accepted.len() as i64, KILLS);

    let service = place.run();
    wait_for("the last run's first logs", || {
        (place.stored::<i64>("SELECT count(DISTINCT boot) FROM log") == [KILLS + 1]).then_some(())
    });
    service.signal(Signal::TERM);
    let (status, _, said) = service.ends();
    assert!(status.success(), "{status}\n{said}");

    for (boot, seq) in accepted {
        let figure = |what: &str| place.stored::<i64>(&format!("SELECT {what} FROM log WHERE hex(boot) = '{boot}'"))[0];
        let figures = [figure("count(*)"), figure("count(DISTINCT seq)"), figure("min(seq)"), figure("max(seq)")];
        assert_eq!(figures, [seq, seq, 1, seq], "logs, numbers, first and last of {boot}");
    }
    assert_eq!(place.stored::<i64>("SELECT count(*) FROM rejected"), [0]);
}

/// The run that wrote last into the spool of a killed service, and its last number; read from a copy.
fn last_accepted(place: &Place) -> (String, i64) {
    let copy = tempfile::tempdir().unwrap();
    for file in ["spool.db", "spool.db-wal"] {
        fs::copy(place.path().join(file), copy.path().join(file)).unwrap();
    }
    let spool = Connection::open(copy.path().join("spool.db")).unwrap();
    spool.query_row("SELECT hex(boot), seq FROM tally", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}
