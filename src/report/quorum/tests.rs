use proptest::prelude::*;

use super::*;
use crate::report::tests::{any_rows, any_windows, at, is_planned, planned, row, seconds, speaker};
use crate::report::{Sums, csv, json, table};

fn report_of(quorum: usize, rows: impl IntoIterator<Item = Row>, listed: &[&str], to: i64) -> Report {
    with(&Planned::default(), quorum, rows, listed, to)
}

fn with(planned: &Planned, quorum: usize, rows: impl IntoIterator<Item = Row>, listed: &[&str], to: i64) -> Report {
    let mut panels = Panels::new(NonZeroUsize::new(quorum).unwrap(), planned, at(0), at(to));
    rows.into_iter().for_each(|row| panels.push(row));
    let listed: Vec<Arc<str>> = listed.iter().map(|label| Arc::from(*label)).collect();
    panels.report(listed.iter())
}

/// The rows of each agent are those of `a`, `b`, …
fn rows(agents: &[&str]) -> Vec<Row> {
    let of = |(agent, rows): (&str, &&str)| -> Vec<Row> {
        rows.split(',').filter(|text| !text.is_empty()).map(|text| row("shop", agent, text)).collect()
    };
    ["a", "b", "c"].into_iter().zip(agents).flat_map(of).collect()
}

fn summary_of(quorum: usize, agents: &[&str]) -> Summary {
    let mut report = report_of(quorum, rows(agents), &["shop"], 100);
    assert_eq!(report.checks.len(), 1);
    report.checks.remove(0)
}

#[test]
fn a_quorum_judges() {
    for (name, quorum, agents, expected) in [
        ("nobody looks", 2, &[""][..], "0 0 0 100"),
        ("one of one", 1, &["0/100 down"], "0 0 100 0"),
        ("two of two", 2, &["0/100 down", "0/100 down"], "0 0 100 0"),
        ("one of two is not enough", 2, &["0/100 down", "0/100 up"], "100 0 0 0"),
        ("one of two is enough", 1, &["0/100 down", "0/100 up"], "0 0 100 0"),
        ("while both say so", 2, &["0/60 down", "40/60 down"], "0 0 20 80"),
        ("one that is down, with others unknown, is not known", 2, &["0/100 down"], "0 0 0 100"),
        ("nor are too few", 3, &["0/100 down", "0/100 down"], "0 0 0 100"),
        ("degraded and down are degraded", 2, &["0/100 down", "0/100 degraded", "0/100 up"], "0 100 0 0"),
        ("one that is degraded works", 2, &["0/100 degraded"], "100 0 0 0"),
        ("two that are degraded", 2, &["0/100 degraded", "0/100 degraded", "0/100 up"], "0 100 0 0"),
        ("missed is unknown", 1, &["0..90 missed", "0/50 up"], "50 0 0 50"),
        ("as is what nobody could tell", 1, &["0/100 unknown", "0/50 down"], "0 0 50 50"),
        ("one looks where the other does not", 1, &["0/30 up", "30/30 up", "60/30 down"], "60 0 30 10"),
        ("turn by turn", 2, &["0 down,10 up,20 down,30 up", "0 down,10 down,20 down,30 down"], "20 0 20 60"),
        ("what reaches in, and out", 2, &["-50/100 down", "-10/200 down", "50/60 up"], "50 0 50 0"),
    ] {
        let Summary { time, quorum: of, .. } = summary_of(quorum, agents);
        let found =
            [time.up, time.degraded, time.down, time.unknown].map(|share| share.as_secs().to_string()).join(" ");
        assert_eq!(found, expected, "{name}");
        let looked = agents.iter().filter(|rows| !rows.is_empty()).count();
        assert_eq!(of.map(|of| of.agents), Some(looked), "{name}");
    }
}

fn shown(outages: &[Outage]) -> String {
    let second = |moment: Timestamp| moment.since(at(0)).as_secs();
    let shown = |outage: &Outage| {
        let before = if outage.began_before { "before " } else { "" };
        let end = outage.end.map_or("open".to_owned(), |end| second(end).to_string());
        let (start, mut down, agents) =
            (second(outage.start), outage.down.as_secs().to_string(), outage.agents.join("+"));
        if !outage.planned.is_zero() {
            down += &format!(" ({} planned)", outage.planned.as_secs());
        }
        format!("{before}{start}..{end} for {down} by {agents}: {}", outage.reason.as_deref().unwrap_or("-"))
    };
    outages.iter().map(shown).collect::<Vec<_>>().join("; ")
}

#[test]
fn outages_are_runs_of_what_the_quorum_says() {
    for (name, agents, expected) in [
        ("none", &["0/100 down", "0/100 up"][..], ""),
        ("the second completes it", &["10/50 down x,60 up", "20/20 down y,40/60 up"], "20..40 for 20 by a+b: y"),
        ("whoever that is", &["20/20 down x,40/60 up", "10/50 down y,60 up"], "20..40 for 20 by a+b: x"),
        ("of several at once, the last", &["10 down x,20 up", "10 down y,20 up"], "10..20 for 10 by a+b: y"),
        (
            "one takes over from another",
            &["10/20 down x,30/70 up", "10/50 down y,60 up", "20/60 down z,80 up"],
            "10..60 for 50 by a+b+c: y",
        ),
        (
            "who said so only before is not named",
            &["0 down x,10/90 up", "20 down,30 up", "20 down z,30 up"],
            "20..30 for 10 by b+c: z",
        ),
        (
            "unknown neither ends it nor counts",
            &["0 down x,50 down,60 up", "0 down y,50 down,60 up"],
            "0..60 for 20 by a+b: y",
        ),
        (
            "up ends it, also of a third",
            &["0 down,20 down", "0 down y,20 down w", "10 up"],
            "0..10 for 10 by a+b: y; 20..open for 10 by a+b: w",
        ),
        ("degraded ends it", &["0/100 down x", "0 down y,10/90 degraded"], "0..10 for 10 by a+b: y"),
        ("began before", &["-5/20 down x,15 up", "-15/25 down y,10 up"], "before 0..10 for 10 by a+b: y"),
        ("began as the range does", &["-5/20 down x,15 up", "0/10 down y,10 up"], "0..10 for 10 by a+b: y"),
    ] {
        assert_eq!(shown(&summary_of(2, agents).outages), expected, "{name}");
    }
}

#[test]
fn the_state_is_what_the_quorum_says_at_the_end() {
    for (quorum, agents, state, last) in [
        (2, &[""][..], Verdict::Unknown, None),
        (2, &["90 down", "80 down"], Verdict::Down, Some(90)),
        (2, &["90 down", "60 down", "70 up"], Verdict::Up, Some(90)),
        (2, &["90 down", "85 degraded"], Verdict::Degraded, Some(90)),
        (3, &["90 down", "85 down"], Verdict::Unknown, Some(90)),
        (1, &["80..95/5 missed", "70 down"], Verdict::Down, Some(95)),
    ] {
        let summary = summary_of(quorum, agents);
        assert_eq!((summary.state, summary.last_due_at), (state, last.map(at)), "{agents:?}");
    }
}

#[test]
fn slots_and_durations_are_those_of_all_agents() {
    let took = |agent, text: &str, duration_us| Row { duration_us: Some(duration_us), ..row("shop", agent, text) };
    let rows =
        [took("a", "5 up", 1), took("a", "15 down", 9), took("b", "5 degraded", 2), row("b", "b", "15..35 missed")];
    let rows = rows.map(|row| Row { label: "shop".into(), ..row });
    let report = report_of(2, rows, &[], 100);
    let [shop] = &report.checks[..] else { panic!("{report:?}") };
    assert_eq!((shop.logs, shop.missed), (3, 3));
    assert_eq!(shop.durations.map(|of| (of.p50, of.p99)), Some((1, 2)));
}

#[test]
fn a_quorum_that_there_cannot_be_is_told() {
    let mut rows = rows(&["0 down", "0 down"]);
    rows.extend([row("web", "a", "0 down"), row("zoo", "a", "0 up")]);
    for (quorum, expected) in [
        (1, None),
        (2, Some("fewer than 2 agents looked at `web`, and 1 more: that is never down")),
        (3, Some("fewer than 3 agents looked at `shop`, and 2 more: that is never down")),
    ] {
        let report = report_of(quorum, rows.clone(), &["dns"], 100);
        assert_eq!(too_few_agents(&report).as_deref(), expected, "{quorum}");
    }
    let one = report_of(3, rows.split_off(3), &[], 100);
    assert_eq!(too_few_agents(&one).as_deref(), Some("fewer than 3 agents looked at `zoo`: that is never down"));
}

const AGENTS: &[&str] = &["a", "b", "c", "d"];

/// What a person with a table of seconds would say: the verdict of each, and what the outages are.
fn by_the_second(quorum: usize, rows: &[Row], is_planned: &dyn Fn(i64) -> bool) -> (Time, String) {
    let of = |agent: &&str| rows.iter().filter(|row| *row.agent == **agent).collect::<Vec<_>>();
    let agents: Vec<Vec<&Row>> = AGENTS.iter().map(of).collect();
    let (mut time, mut outages, mut open) = (Time::default(), Vec::<Outage>::new(), false);
    for second in 0..100 {
        let speakers: Vec<Option<&Row>> = agents.iter().map(|rows| speaker(rows, second)).collect();
        let say = |word| speakers.iter().flatten().filter(|row| row.verdict == word).count();
        let (up, degraded, down) = (say(Verdict::Up), say(Verdict::Degraded), say(Verdict::Down));
        let planned = is_planned(second);
        if down >= quorum {
            *(if planned { &mut time.planned } else { &mut time.down }) += seconds(1);
            let is_down = |row: &&Row| row.verdict == Verdict::Down;
            if !open {
                let new =
                    |nth: &usize| second == 0 || speaker(&agents[*nth], second - 1).is_none_or(|row| !is_down(&row));
                let completed =
                    (0..AGENTS.len()).filter(|nth| speakers[*nth].is_some_and(|row| is_down(&row))).rfind(new);
                let before = speakers.iter().flatten().filter(|row| is_down(row) && row.due_at < at(0)).count();
                outages.push(Outage {
                    start: at(second),
                    began_before: second == 0 && before >= quorum,
                    end: None,
                    down: Duration::ZERO,
                    planned: Duration::ZERO,
                    reason: completed.and_then(|nth| speakers[nth]).and_then(|row| row.reason.clone()),
                    agents: Vec::new(),
                });
            }
            open = true;
            let outage = outages.last_mut().unwrap();
            outage.down += seconds(1);
            outage.planned += seconds(planned.into());
            outage.agents.extend(speakers.iter().flatten().filter(|row| is_down(row)).map(|row| row.agent.clone()));
            outage.agents.sort();
            outage.agents.dedup();
        } else if degraded + down >= quorum || up + degraded > 0 {
            let works = if degraded + down >= quorum { &mut time.degraded } else { &mut time.up };
            *works += seconds((!planned).into());
            time.planned += seconds(planned.into());
            if open {
                outages.last_mut().unwrap().end = Some(at(second));
            }
            open = false;
        } else {
            *(if planned { &mut time.planned } else { &mut time.unknown }) += seconds(1);
        }
    }
    (time, shown(&outages))
}

proptest! {
    #[test]
    fn time_and_outages_are_as_second_by_second(rows in any_rows(AGENTS), quorum in 1..6_usize, windows in any_windows()) {
        for check in with(&planned(&windows).planned, quorum, rows.clone(), &[], 100).checks {
            let is_planned = |second| is_planned(&windows, &check.label, second);
            let rows: Vec<Row> = rows.iter().filter(|row| row.label == check.label).cloned().collect();
            prop_assert_eq!((check.time, shown(&check.outages)), by_the_second(quorum, &rows, &is_planned));
        }
    }

    #[test]
    fn a_quorum_of_one_agent_is_that_agent(mut rows in any_rows(&["a"]), windows in any_windows()) {
        // How it begins, agents alone are asked.
        rows.retain(|row| row.speaks_until() > at(0) && row.due_at < at(100));
        let view = planned(&windows);
        let mut sums = Sums::new(at(0), at(100)).seen_by(&view);
        rows.clone().into_iter().for_each(|row| sums.push(row));
        let alone = sums.report([].iter());
        let together = with(&view.planned, 1, rows, &[], 100);
        prop_assert_eq!(alone.checks.len(), together.checks.len());
        for (alone, mut together) in alone.checks.into_iter().zip(together.checks) {
            prop_assert_eq!(together.quorum.take().map(|of| of.agents), Some(1));
            together.agent.clone_from(&alone.agent);
            // Of a quorum it is not said whether it flaps.
            together.flapping = alone.flapping;
            together.outages.iter_mut().for_each(|outage| outage.agents.clear());
            // Nor what of the logs that do not reach into the range an outage began with.
            for (alone, together) in alone.outages.iter().zip(&mut together.outages).filter(|(alone, _)| alone.began_before) {
                (together.began_before, together.start, together.reason) = (true, alone.start, alone.reason.clone());
            }
            prop_assert_eq!(alone, together);
        }
    }

    #[test]
    fn a_larger_quorum_is_never_down_for_longer(rows in any_rows(AGENTS)) {
        let down = |quorum| -> Duration { report_of(quorum, rows.clone(), &[], 100).checks.iter().map(|of| of.time.down).sum() };
        let all: Vec<Duration> = (1..6).map(down).collect();
        prop_assert!(all.is_sorted_by(|one, next| one >= next), "{all:?}");
        prop_assert_eq!(all[4], Duration::ZERO);
    }
}

fn of_all_sorts() -> Report {
    let mut all = rows(&[
        "0/1000 up,1000/500 down the body has no `ok`,1500/500 up",
        "0/1200 up,1200/800 down connection refused",
        "0/2000 up",
    ]);
    all.push(row("mail", "edge-01", "1500/500 up"));
    report_of(2, all, &["dns"], 2_000)
}

#[test]
fn it_says_which_quorum() {
    insta::assert_snapshot!(table(&of_all_sorts(), None, false));
    insta::assert_snapshot!(json(&of_all_sorts()));
    insta::assert_snapshot!(csv(&of_all_sorts()).replace('\r', ""));
}
