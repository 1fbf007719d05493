//! Keeps a store in order, round after round, and tells how it stands: for the log, /healthz and metrics.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::flow::Fault;
use crate::jobs::{Pulse, Stop};
use crate::store::{Condition, DAY, DAY_MICROS, Keep, Kept};

/// How often the store is put in order.
const EVERY: Duration = Duration::from_secs(600);
/// After a round that failed; whoever holds a lock may be gone by then.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// While there is more to do, those who write get this long between two rounds.
const PAUSE: Duration = Duration::from_millis(100);
/// A round that takes longer than this is stuck: it is some twenty transactions, each of which may wait for 5 s to begin.
const PULSE_LIMIT: Duration = Duration::from_secs(120);
/// With fewer days than this that logs can go into, there is a warning.
const DAYS_AHEAD_MIN: i64 = 2;

/// What is known of a store.
#[derive(Debug)]
pub struct Watch {
    seen: Mutex<Seen>,
    begun: Timestamp,
}

#[derive(Debug, Default)]
struct Seen {
    condition: Condition,
    fault: Option<String>,
    /// What was warned of last.
    warned: Vec<String>,
}

impl Watch {
    /// Nothing is known yet at `now`.
    pub fn new(now: Timestamp) -> Self {
        Watch { seen: Mutex::default(), begun: now }
    }

    /// How the store stood when it was last asked.
    pub fn condition(&self) -> Condition {
        self.lock().condition.clone()
    }

    /// What will go wrong if nobody looks after it.
    pub fn warnings(&self, now: Timestamp) -> Vec<String> {
        let seen = self.lock();
        let (condition, mut warnings) = (&seen.condition, Vec::new());
        let because = seen.fault.as_ref().map(|fault| format!(" ({fault})")).unwrap_or_default();
        // By the newest day, not by the count: that is as old as the last round that worked.
        let today = now.as_micros().div_euclid(DAY_MICROS);
        let newest = condition.newest_day.as_ref().and_then(|day| Timestamp::parse(&format!("{day}T00:00:00Z")).ok());
        let ahead =
            newest.map(|newest| newest.as_micros() / DAY_MICROS - today).filter(|_| condition.days_ahead.is_some());
        if let Some(ahead) = ahead.filter(|ahead| *ahead < DAYS_AHEAD_MIN) {
            warnings.push(format!("the store has partitions for {} days after today{because}", ahead.max(0)));
        }
        if now.since(condition.retained_at.unwrap_or(self.begun)) > DAY {
            warnings.push(format!("the store's retention has not run for a day{because}"));
        }
        warnings
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, round: &Result<Kept, Fault>) {
        let mut seen = self.lock();
        if let Ok(kept) = round {
            seen.condition = kept.condition.clone();
        }
        let fault = round.as_ref().map_or_else(Some, |kept| kept.fault.as_ref());
        seen.fault = fault.map(|(Fault::Retry(reason) | Fault::Broken(reason))| reason.clone());
    }

    /// Says each warning once, for as long as it lasts.
    fn warn(&self, now: Timestamp) {
        let warnings = self.warnings(now);
        let before = std::mem::replace(&mut self.lock().warned, warnings.clone());
        warnings.iter().filter(|warning| !before.contains(warning)).for_each(|warning| log::warn!("{warning}"));
    }
}

/// Keeps the store in order until told to stop.
///
/// # Errors
/// What is broken and will not mend by itself.
pub(crate) fn tend(store: &mut dyn Keep, watch: &Watch, pulse: &Pulse, stop: &Stop) -> Result<(), String> {
    let mut said = None;
    loop {
        let swept = sweep(store, watch, SystemClock.now().wall, pulse, stop);
        watch.warn(SystemClock.now().wall);
        let wait = match swept {
            Ok(()) => {
                said = None;
                EVERY
            }
            Err(Fault::Broken(reason)) => return Err(format!("retention: {reason}")),
            Err(Fault::Retry(reason)) => {
                if said.as_ref() != Some(&reason) {
                    log::warn!("retention: {reason}; trying again");
                    said = Some(reason);
                }
                AGAIN_AFTER
            }
        };
        pulse.rest();
        if stop.wait(wait) {
            return Ok(());
        }
    }
}

/// Does all that there is to do at `now`, however much came since the last time. Leaves the rest to the next start when told to
/// stop.
fn sweep(store: &mut dyn Keep, watch: &Watch, now: Timestamp, pulse: &Pulse, stop: &Stop) -> Result<(), Fault> {
    let mut deleted = 0;
    loop {
        pulse.back_in(PULSE_LIMIT);
        let round = store.keep(now);
        watch.note(&round);
        let kept = round?;
        deleted += kept.deleted;
        kept.dropped.iter().for_each(|day| log::info!("retention: the day {day} dropped"));
        if let Some(fault) = kept.fault {
            return Err(fault);
        }
        let stopping = kept.more && stop.wait(PAUSE);
        if !kept.more || stopping {
            if deleted > 0 {
                log::info!("retention: {deleted} logs deleted");
            }
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use rusqlite::Connection;

    use crate::config;
    use crate::store::sqlite::Sqlite;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn a_store_that_is_running_out_of_days_or_is_not_cleaned_up_is_warned_of() {
        let begun = at("2026-11-24T10:00:00Z");
        let few = "the store has partitions for 1 days after today";
        let none = "the store has partitions for 0 days after today";
        let late = "the store's retention has not run for a day";
        let day = |day: &str| Some(day.to_owned());
        for (name, newest_day, days_ahead, retained_at, now, expected) in [
            ("nothing known yet", None, None, None, "2026-11-25T09:00:00Z", vec![]),
            ("nothing known for a day", None, None, None, "2026-11-25T10:00:01Z", vec![late]),
            ("enough", day("2026-11-26"), Some(2), Some("2026-11-24T10:00:00Z"), "2026-11-24T23:59:59Z", vec![]),
            ("one", day("2026-11-25"), Some(1), Some("2026-11-24T10:00:00Z"), "2026-11-24T23:59:59Z", vec![few]),
            (
                "the count is old",
                day("2026-11-26"),
                Some(2),
                Some("2026-11-24T20:00:00Z"),
                "2026-11-25T01:00:00Z",
                vec![few],
            ),
            (
                "both",
                day("2026-11-20"),
                Some(0),
                Some("2026-11-22T10:00:00Z"),
                "2026-11-24T10:00:00Z",
                vec![none, late],
            ),
            (
                "a store without partitions",
                day("2026-11-24"),
                None,
                Some("2026-11-24T10:00:00Z"),
                "2026-11-24T10:00:00Z",
                vec![],
            ),
        ] {
            let watch = Watch::new(begun);
            let retained_at = retained_at.map(at);
            let condition = Condition { newest_day, days_ahead, retained_at, ..Condition::default() };
            watch.note(&Ok(Kept { condition, ..Kept::default() }));
            assert_eq!(watch.warnings(at(now)), expected, "{name}");
        }
        let watch = Watch::new(begun);
        watch.note(&Err(Fault::Retry("no lock".to_owned())));
        assert_eq!(watch.warnings(at("2026-11-26T10:00:00Z")), [format!("{late} (no lock)")]);
        // What a round found out counts, too, where a part of it failed.
        let condition =
            Condition { newest_day: day("2026-11-27"), days_ahead: Some(1), rejected: Some(7), ..Condition::default() };
        let fault = Some(Fault::Retry("no room".to_owned()));
        watch.note(&Ok(Kept { condition, fault, ..Kept::default() }));
        assert_eq!(watch.condition().rejected, Some(7));
        let both = [few, late].map(|warning| format!("{warning} (no room)"));
        assert_eq!(watch.warnings(at("2026-11-26T10:00:00Z")), both);
    }

    #[test]
    fn it_goes_on_until_all_that_is_old_is_gone_or_it_is_told_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pingeon.db");
        let settings = config::Sqlite { path: path.clone(), retention: Duration::from_secs(86_400) };
        let mut store = Sqlite::open(&settings, Arc::new(SystemClock)).unwrap();
        let other = Connection::open(&path).unwrap();
        // Uids of the year 1970.
        other
            .execute_batch(
                "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 60000)
                 INSERT INTO log (uid, agent, boot, seq, label, kind, target, due_at, interval_ms, verdict, result)
                 SELECT unhex(printf('%032x', n)), 'a', x'', n, 'shop', 'http', '', 0, 1000, 'up', '{}' FROM n",
            )
            .unwrap();
        let left = || other.query_row("SELECT count(*) FROM log", [], |row| row.get::<_, u64>(0)).unwrap();
        let (now, pulse, stop, stopped) = (SystemClock.now().wall, Pulse::default(), Stop::default(), Stop::default());
        let watch = Watch::new(now);
        stopped.set();
        assert_eq!((sweep(&mut store, &watch, now, &pulse, &stopped), left()), (Ok(()), 40_000));
        assert_eq!((sweep(&mut store, &watch, now, &pulse, &stop), left()), (Ok(()), 0));
        let mut later = SystemClock.now();
        later.steady = later.steady.plus(PULSE_LIMIT);
        assert!(pulse.overdue(later).is_some());
    }
}
