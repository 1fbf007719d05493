//! The same report out of roll-ups: in milliseconds where the logs take minutes, for what it leaves out. See
//! [`crate::store::rollup`] for how they are made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::sums::nothing_known;
use super::turns::state;
use super::{Basis, Percentiles, Planned, Report, Summary, Time};
use crate::clock::Timestamp;
use crate::store::Archive;
use crate::store::rollup::{Uptime, hour_of, percentile};

/// The hours from the one that `from` lies in to the last full one before `now`: first beginning and last end.
///
/// # Errors
/// A sentence for people: there is none.
pub fn whole_hours(from: Timestamp, now: Timestamp) -> Result<(Timestamp, Timestamp), String> {
    let (first, end) = (hour_of(from), hour_of(now));
    if first < end {
        return Ok((first, end));
    }
    Err("no full hour has gone by since then, and roll-ups are of full hours: name an earlier time, or leave out `--rollup`"
        .to_owned())
}

/// Sums up what `archive` has of the labels in `asked` (none: of all) in `from..to`, both at full hours; the state is that at
/// `now`, and so is the maintenance, `planned` until then: of whole hours, none can be left out. Those of `asked` and `listed` that
/// it has nothing of are unknown all the time.
///
/// # Errors
/// A sentence for people, when the store can't be read.
pub fn rolled_up(
    archive: &mut dyn Archive,
    asked: &[Arc<str>],
    listed: &[Arc<str>],
    (from, to): (Timestamp, Timestamp),
    now: Timestamp,
    planned: &Planned,
) -> Result<Report, String> {
    let range = to.since(from);
    let by_name = |check: Summary| ((Arc::clone(&check.label), check.agent.clone()), check);
    let uptimes = archive.uptimes(asked, from, to)?;
    let mut checks: BTreeMap<_, _> = uptimes.into_iter().map(|of| by_name(summary(of, range))).collect();
    for row in archive.last()? {
        let wanted = asked.is_empty() || asked.contains(&row.label);
        if wanted && row.last_slot() >= from {
            // One that has only begun has no full hour yet.
            let begun = || summary(Uptime::none(Arc::clone(&row.label), Arc::clone(&row.agent)), range);
            let check = checks.entry((Arc::clone(&row.label), Some(Arc::clone(&row.agent)))).or_insert_with(begun);
            check.state = state(&row, now);
            check.last_due_at = Some(row.last_slot().min(now));
        }
    }
    let report =
        Report { from, to, basis: Basis::Hours, quorum: None, checks: checks.into_values().collect(), silences: None };
    Ok(report.listing(asked.iter().chain(listed), planned))
}

/// As far as the hours tell: not how it is now.
fn summary(of: Uptime, range: Duration) -> Summary {
    let estimate = |percent| percentile(&of.latency, percent);
    let durations = estimate(50).zip(estimate(95)).zip(estimate(99));
    let Uptime { up, degraded, down, .. } = of;
    Summary {
        agent: Some(of.agent),
        time: Time { up, degraded, down, ..Time::default() }.and_the_rest_of(range, Duration::ZERO),
        logs: of.logs,
        missed: of.missed,
        durations: durations.map(|((p50, p95), p99)| Percentiles { p50, p95, p99 }),
        ..nothing_known(of.label, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict;
    use crate::clock::SimulatedClock;
    use crate::flow::{Batch, Sink};
    use crate::report::tests::{at, log};
    use crate::report::{csv, json, summed_up, table};
    use crate::store::sqlite::{self, Sqlite};
    use crate::{config, logs::Log};

    #[test]
    fn hours_are_whole_ones() {
        let time = |text: &str| Timestamp::parse(text).unwrap();
        for (from, now, expected) in [
            ("2026-11-24T10:20:00Z", "2026-11-25T10:20:00Z", Some(("2026-11-24T10:00:00Z", "2026-11-25T10:00:00Z"))),
            ("2026-11-24T10:00:00Z", "2026-11-24T11:00:00Z", Some(("2026-11-24T10:00:00Z", "2026-11-24T11:00:00Z"))),
            ("2026-11-24T10:59:59Z", "2026-11-24T11:00:00Z", Some(("2026-11-24T10:00:00Z", "2026-11-24T11:00:00Z"))),
            ("2026-11-24T10:00:00Z", "2026-11-24T10:59:59Z", None),
        ] {
            let expected = expected.map(|(first, end)| (time(first), time(end)));
            assert_eq!(whole_hours(time(from), time(now)).ok(), expected, "{from} {now}");
        }
    }

    /// A store with two full hours and a bit of `shop`, and of `mail` what its third hour has.
    fn store() -> (tempfile::TempDir, sqlite::Archive) {
        let folder = tempfile::tempdir().unwrap();
        let settings =
            config::Sqlite { path: folder.path().join("pingeon.db"), retention: Duration::from_secs(86_400) };
        let mut store = Sqlite::open(&settings, Arc::new(SimulatedClock::at(at(7_300)))).unwrap();
        let shop = (0..7_300).map(log);
        let mail = (7_200..7_300).map(|nth| Log { label: "mail".into(), uid: uuid(nth), ..log(nth) });
        store.deliver(&Batch { logs: shop.chain(mail).collect(), ..Batch::default() }).unwrap();
        let archive = sqlite::Archive::open(&settings.path).unwrap();
        (folder, archive)
    }

    fn uuid(nth: u64) -> uuid::Uuid {
        let (high, low) = log(nth).uid.as_u64_pair();
        uuid::Uuid::from_u64_pair(high, low | 1 << 40)
    }

    fn rolled(archive: &mut sqlite::Archive, asked: &[Arc<str>], listed: &[Arc<str>]) -> Report {
        rolled_up(archive, asked, listed, (at(0), at(7_200)), at(7_300), &Planned::default()).unwrap()
    }

    #[test]
    fn hours_come_to_what_the_logs_come_to() {
        let (_folder, mut archive) = store();
        let report = rolled(&mut archive, &["shop".into()], &[]);
        let exact =
            summed_up(&mut archive, &["shop".into()], &[], (at(0), at(7_200)), &Default::default(), &mut |_| {})
                .unwrap();
        let ([of_hours], [of_logs]) = (&report.checks[..], &exact.checks[..]) else { panic!("{report:?} {exact:?}") };
        assert_eq!((of_hours.time, of_hours.logs, of_hours.missed), (of_logs.time, of_logs.logs, of_logs.missed));
        let (estimate, exact) = (of_hours.durations.unwrap(), of_logs.durations.unwrap());
        for (estimate, exact) in [(estimate.p50, exact.p50), (estimate.p95, exact.p95), (estimate.p99, exact.p99)] {
            assert!(estimate * 100 <= exact * 119 && exact * 100 <= estimate * 119, "{estimate} for {exact}");
        }
        // As it is now, not at the last full hour.
        assert_eq!((of_hours.state, of_hours.last_due_at), (Verdict::Down, Some(at(7_299))));
    }

    #[test]
    fn a_check_without_a_full_hour_is_unknown_and_has_its_state() {
        let (_folder, mut archive) = store();
        let report = rolled(&mut archive, &[], &["dns".into(), "shop".into()]);
        let lines: Vec<_> =
            report.checks.iter().map(|check| (&*check.label, check.agent.as_deref(), check.state)).collect();
        let expected = [
            ("dns", None, Verdict::Unknown),
            ("mail", Some("edge-01"), Verdict::Down),
            ("shop", Some("edge-01"), Verdict::Down),
        ];
        assert_eq!(lines, expected);
        for check in &report.checks[..2] {
            assert_eq!(check.time, Time { unknown: Duration::from_secs(7_200), ..Time::default() });
        }
    }

    #[test]
    fn what_is_not_known_from_roll_ups_is_not_shown_as_none() {
        let (_folder, mut archive) = store();
        let report = rolled(&mut archive, &[], &["dns".into()]);
        insta::assert_snapshot!(table(&report, None, false));
        insta::assert_snapshot!(csv(&report).replace('\r', ""));
        let json: serde_json::Value = serde_json::from_str(&json(&report)).unwrap();
        assert_eq!((&json["rollup"], &json["checks"][0]["outages"]), (&true.into(), &serde_json::Value::Null));
    }
}
