//! The delivery audit: what arrived of each run of an agent, and whether anything is missing.

use serde::Serialize;
use uuid::Uuid;

use super::export::quoted;
use super::table::{Paint, clean, column, day_and_time, laid_out, painted};
use crate::clock::Timestamp;
use crate::store::{Delivery, began_at};

/// How many missing ranges of one run a table shows.
const RANGES_SHOWN: usize = 5;

/// How many logs are missing, of all runs.
pub fn missing(runs: &[Delivery]) -> u64 {
    runs.iter().map(|run| run.missing_total).fold(0, u64::saturating_add)
}

/// The audit in at most `width` columns where its figures fit into that, else (`None`: not a terminal) as wide as it is. The last
/// line says whether anything is missing.
pub fn table(runs: &[Delivery], since: Timestamp, width: Option<u16>, colour: bool) -> String {
    let mut text = format!("runs with logs that were due or rejected since {} UTC\n\n", day_and_time(since));
    let columns = [
        column("agent", |run: &Delivery| clean(&run.agent)).wrapped(),
        // Its first 12 digits are the time, to the millisecond.
        column("boot", |run: &Delivery| run.boot.to_string().chars().take(13).collect()),
        column("began", |run: &Delivery| day_and_time(began_at(&run.boot))),
        column("lowest", |run: &Delivery| run.lowest.to_string()).right(),
        column("highest", |run: &Delivery| run.highest.to_string()).right(),
        column("stored", |run: &Delivery| run.stored.to_string()).right(),
        column("rejected", |run: &Delivery| run.rejected.to_string()).right(),
        column("duplicates", |run: &Delivery| run.duplicates.to_string()).right(),
        column("missing", |run: &Delivery| count_missing(run)).right(),
        column("first due", |run: &Delivery| due(run.due_at.map(|(first, _)| first))),
        column("last due", |run: &Delivery| due(run.due_at.map(|(_, last)| last))),
        column("missing are", |run: &Delivery| ranges(run, RANGES_SHOWN)).wrapped(),
    ];
    text.push_str(&laid_out(&columns, runs, width));
    text.push_str(&format!("\n{}\n", verdict(runs)));
    painted(&text, colour)
}

fn verdict(runs: &[Delivery]) -> String {
    match (missing(runs), runs.len()) {
        (_, 0) => "no run has a log that was due or rejected since then: there is nothing to audit".to_owned(),
        (0, _) => "nothing is missing".to_owned(),
        (1, _) => Paint::Red.on("1 log is missing"),
        (count, _) => Paint::Red.on(format!("{count} logs are missing")),
    }
}

fn due(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), day_and_time)
}

fn count_missing(run: &Delivery) -> String {
    if run.missing_total == 0 { "0".to_owned() } else { Paint::Red.on(run.missing_total) }
}

/// `3, 7-9, …`: the first `shown` ranges.
fn ranges(run: &Delivery, shown: usize) -> String {
    let range = |(first, last): &(u64, u64)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let mut ranges: Vec<String> = run.missing.iter().take(shown).map(range).collect();
    if run.missing.len() > shown || lists_some(run) {
        ranges.push("…".to_owned());
    }
    ranges.join(", ")
}

/// Whether not all that is missing is listed.
fn lists_some(run: &Delivery) -> bool {
    run.missing.iter().map(|(first, last)| last - first + 1).sum::<u64>() < run.missing_total
}

/// One JSON document, with everything that the audit holds.
pub fn json(runs: &[Delivery], since: Timestamp) -> String {
    let form = AuditForm { since, missing_total: missing(runs), runs: runs.iter().map(RunForm::of).collect() };
    // Nothing in it can fail to be written: no map keys that are not strings.
    let mut text = serde_json::to_string_pretty(&form).unwrap_or_default();
    text.push('\n');
    text
}

#[derive(Serialize)]
struct AuditForm<'a> {
    since: Timestamp,
    missing_total: u64,
    runs: Vec<RunForm<'a>>,
}

#[derive(Serialize)]
struct RunForm<'a> {
    agent: &'a str,
    boot: Uuid,
    began_at: Timestamp,
    lowest: u64,
    highest: u64,
    stored: u64,
    rejected: u64,
    duplicates: u64,
    missing_total: u64,
    /// First and last of each range.
    missing: &'a [(u64, u64)],
    /// There are more ranges than are listed.
    missing_left_out: bool,
    /// Of those that are stored.
    first_due_at: Option<Timestamp>,
    last_due_at: Option<Timestamp>,
}

impl<'a> RunForm<'a> {
    fn of(run: &'a Delivery) -> Self {
        RunForm {
            agent: &run.agent,
            boot: run.boot,
            began_at: began_at(&run.boot),
            lowest: run.lowest,
            highest: run.highest,
            stored: run.stored,
            rejected: run.rejected,
            duplicates: run.duplicates,
            missing_total: run.missing_total,
            missing: &run.missing,
            missing_left_out: lists_some(run),
            first_due_at: run.due_at.map(|(first, _)| first),
            last_due_at: run.due_at.map(|(_, last)| last),
        }
    }
}

const COLUMNS: [&str; 12] = [
    "agent",
    "boot",
    "began_at",
    "lowest",
    "highest",
    "stored",
    "rejected",
    "duplicates",
    "missing_total",
    "missing",
    "first_due_at",
    "last_due_at",
];

/// A header, then a line for each run (RFC 4180). Missing ranges stand in one field, as `3, 7-9`; `…` at its end: there are more.
pub fn csv(runs: &[Delivery]) -> String {
    let mut text = COLUMNS.join(",") + "\r\n";
    for run in runs {
        let fields: [String; COLUMNS.len()] = [
            quoted(&run.agent),
            run.boot.to_string(),
            began_at(&run.boot).to_string(),
            run.lowest.to_string(),
            run.highest.to_string(),
            run.stored.to_string(),
            run.rejected.to_string(),
            run.duplicates.to_string(),
            run.missing_total.to_string(),
            quoted(&ranges(run, usize::MAX)),
            run.due_at.map(|(first, _)| first.to_string()).unwrap_or_default(),
            run.due_at.map(|(_, last)| last.to_string()).unwrap_or_default(),
        ];
        text.push_str(&fields.join(","));
        text.push_str("\r\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn run(agent: &str, missing: &[(u64, u64)], missing_total: u64) -> Delivery {
        let boot = Uuid::from_u64_pair((at("2026-11-24T09:59:59.5Z").as_millis() << 16) | 0x7000, 1 << 63);
        Delivery {
            agent: agent.into(),
            boot,
            lowest: 1,
            highest: 86_400,
            stored: 86_400 - missing_total,
            rejected: 0,
            duplicates: 7,
            missing: missing.to_vec(),
            missing_total,
            due_at: Some((at("2026-11-24T10:00:00Z"), at("2026-11-25T09:59:59Z"))),
        }
    }

    /// Nothing of it is stored.
    fn set_aside() -> Delivery {
        Delivery { lowest: 2, highest: 3, stored: 0, rejected: 2, due_at: None, ..run("edge-05", &[(1, 1)], 1) }
    }

    fn of_all_sorts() -> Vec<Delivery> {
        let many: Vec<(u64, u64)> = (1..=100).map(|nth| (nth * 9, nth * 9 + 1)).collect();
        vec![
            run("edge-01", &[], 0),
            run("edge-02", &[(3, 3), (7, 9)], 4),
            run("edge \x1b[31m, \"03\"", &many, 1_000),
            run("edge-04", &many[..6], 12),
            set_aside(),
        ]
    }

    #[test]
    fn as_a_table() {
        let since = at("2026-11-24T10:00:00Z");
        insta::assert_snapshot!(table(&of_all_sorts(), since, None, false));
        insta::assert_snapshot!(table(&of_all_sorts(), since, Some(150), true).replace('\x1b', "ESC"));
    }

    #[test]
    fn the_last_line_says_whether_anything_is_missing() {
        for (runs, expected) in [
            (vec![], "no run has a log that was due or rejected since then: there is nothing to audit"),
            (vec![run("a", &[], 0)], "nothing is missing"),
            (vec![run("a", &[(3, 3)], 1), run("b", &[], 0)], "1 log is missing"),
            (vec![run("a", &[(3, 3)], 1), run("b", &[(3, 4)], 2)], "3 logs are missing"),
        ] {
            let table = table(&runs, Timestamp::default(), None, false);
            assert_eq!(table.lines().next_back(), Some(expected));
        }
    }

    #[test]
    fn for_programs() {
        insta::assert_snapshot!(json(&[run("edge-02", &[(3, 3), (7, 9)], 4), set_aside()], at("2026-11-24T10:00:00Z")));
        let text = csv(&[&of_all_sorts()[..2], &[run("edge \"03\"", &[(1, 2)], 1_000), set_aside()]].concat());
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
        insta::assert_snapshot!(text.replace('\r', ""));
    }
}
