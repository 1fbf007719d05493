//! What reports and pages ask of the store. Works for every role that may read it, behind a pooler too: statements are not
//! prepared, and each answer comes out of one transaction that writes nothing.
//!
//! Which labels and agents there are, and when each had its last log, the roll-ups tell: a log always has the roll-up of the hour
//! that it was due in. So no question has to look through days that hold nothing for it.

mod delivery;
mod hours;
mod series;

use std::sync::Arc;

use postgres::error::SqlState;
use postgres::types::Type;

use self::series::{Series, ends, labels, latest, read, series};
use super::columns::{Id, Moment, Param};
use super::connection::{Connection, Session};
use super::trouble::Trouble;
use crate::clock::Timestamp;
use crate::config;
use crate::flow::Fault;
use crate::store::rollup::Uptime;
use crate::store::{self, Before, Delivery, MILLISECOND, Row, first_needed, first_uid};

/// Logs before the range that are looked at for one that reaches into it: the last, and those that a restart may have left
/// out of order with it.
const REACH_BACK: usize = 8;
/// How many rows before the range are held at once, for each agent that looks at the labels: 4 MB. Labels are asked for by so many
/// at once as come to no more, or one by one.
const ROWS_BEFORE_MAX: usize = 16_384;

/// All that is asked until the commit is answered as of one moment. Compiling these queries takes longer than running them.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL jit = off";

/// The store, for reading.
pub struct Archive {
    connection: Connection,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").finish_non_exhaustive()
    }
}

impl Archive {
    /// Connects to the store.
    ///
    /// # Errors
    /// A sentence for people: not reached, not a store of this build's schema, or the role may not read it.
    pub fn open(settings: &config::Postgres) -> Result<Self, String> {
        let mut archive = Archive { connection: Connection::new(settings) };
        archive.ask(|session| session.say("SELECT label FROM pingeon.hour LIMIT 0"))?;
        Ok(archive)
    }

    fn ask<T>(&mut self, question: impl FnOnce(&mut Session) -> Result<T, postgres::Error>) -> Result<T, String> {
        let session = self.connection.session().map_err(|(Fault::Retry(why) | Fault::Broken(why))| why)?;
        let answer = || {
            session.say(BEGIN)?;
            let answer = question(session)?;
            session.say("COMMIT")?;
            Ok(answer)
        };
        answer().map_err(|error| self.said(&error))
    }

    fn said(&mut self, error: &postgres::Error) -> String {
        let trouble = self.connection.trouble(error);
        if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
            let why = error.as_db_error().map_or("permission denied", |said| said.message());
            return format!("the role may not read the store ({why}): report as `pingeon_reader`, with `--url`");
        }
        match trouble {
            Trouble::Fault(Fault::Retry(why) | Fault::Broken(why)) => why,
            Trouble::Refused(refusal) => format!("Postgres: {} (SQLSTATE {})", refusal.reason, refusal.sqlstate),
            Trouble::NoDay | Trouble::Unprepared => format!("Postgres: {error}"),
        }
    }
}

impl store::Archive for Archive {
    fn labels(&mut self) -> Result<Vec<Arc<str>>, String> {
        self.ask(labels)
    }

    fn rows(
        &mut self,
        wanted: &[Arc<str>],
        (from, to): (Timestamp, Timestamp),
        before: Before<'_>,
        each: &mut dyn FnMut(Row),
    ) -> Result<(), String> {
        self.ask(|session| {
            let mut wanted = if wanted.is_empty() { labels(session)? } else { wanted.to_vec() };
            wanted.sort();
            wanted.dedup();
            for labels in chunks(&wanted, before) {
                rows_of_chunk(session, labels, (from, to), before, each)?;
            }
            Ok(())
        })
    }

    fn last(&mut self) -> Result<Vec<Row>, String> {
        self.ask(|session| {
            let series = ends(session)?;
            latest(session, &series, Timestamp::MAX, 1)
        })
    }

    fn uptimes(&mut self, wanted: &[Arc<str>], from: Timestamp, to: Timestamp) -> Result<Vec<Uptime>, String> {
        self.ask(|session| hours::uptimes(session, wanted, (from, to)))
    }

    fn delivery(&mut self, since: Timestamp) -> Result<Vec<Delivery>, String> {
        self.ask(|session| delivery::audit(session, since))
    }
}

/// How many rows before the range are looked at, of each label and agent, where `before` are needed.
fn back(before: usize) -> usize {
    before.max(REACH_BACK)
}

/// `labels` in chunks, in their order: each has one label, or as many as [`ROWS_BEFORE_MAX`] allows where the same number is asked for
/// of all of them, which is the largest that one of them needs.
fn chunks<'a>(mut labels: &'a [Arc<str>], before: Before<'a>) -> impl Iterator<Item = &'a [Arc<str>]> {
    std::iter::from_fn(move || {
        let mut most = 0;
        let fits = labels.iter().zip(1..).take_while(|(label, count)| {
            most = back(before(label)).max(most);
            *count == 1 || most.saturating_mul(*count) <= ROWS_BEFORE_MAX
        });
        let (chunk, rest) = labels.split_at(fits.count());
        labels = rest;
        Some(chunk).filter(|chunk| !chunk.is_empty())
    })
}

/// Of some labels, in their order, those before the range and those in it, which come as a stream.
fn rows_of_chunk(
    session: &mut Session,
    labels: &[Arc<str>],
    (from, to): (Timestamp, Timestamp),
    before: Before<'_>,
    each: &mut dyn FnMut(Row),
) -> Result<(), postgres::Error> {
    let most = labels.iter().map(|label| back(before(label))).max().unwrap_or(REACH_BACK);
    let most = u32::try_from(most).unwrap_or(u32::MAX - 1);
    // Each of these hours has a log; only of the last one they may all be later.
    let series: Vec<Series> = series(session, labels, from, most + 1)?;
    let rows = latest(session, &series, from, most)?;
    // Both are in the order of label and agent: of each, first what comes before, then what lies within.
    let each_series = rows.chunk_by(|one, next| (&one.label, &one.agent) == (&next.label, &next.agent));
    let needed = each_series.flat_map(|rows| {
        let before = before(&rows[0].label);
        // What other labels of the chunk need alters nothing.
        let rows = &rows[rows.len().saturating_sub(back(before))..];
        &rows[first_needed(rows, from, before)..]
    });
    let mut earlier = needed.cloned().peekable();
    for label in labels {
        rows_of(session, label, (from, to), &mut |row| {
            while let Some(earlier) =
                earlier.next_if(|earlier| (&earlier.label, &earlier.agent) <= (&row.label, &row.agent))
            {
                each(earlier);
            }
            each(row);
        })?;
    }
    earlier.for_each(each);
    Ok(())
}

/// Of one label, those due in `from..to`, by agent. The bounds of the uid leave out days; they are whole milliseconds, and
/// `due_at` is finer.
fn rows_of(
    session: &mut Session,
    label: &Arc<str>,
    (from, to): (Timestamp, Timestamp),
    each: &mut dyn FnMut(Row),
) -> Result<(), postgres::Error> {
    let (first, end) = (Id(first_uid(from)), Id(first_uid(to.plus(MILLISECOND))));
    let (from, to) = (Moment(from), Moment(to));
    let params: [Param<'_>; 5] = [
        (&&**label, Type::TEXT),
        (&first, Type::UUID),
        (&end, Type::UUID),
        (&from, Type::TIMESTAMPTZ),
        (&to, Type::TIMESTAMPTZ),
    ];
    let sql = "SELECT label, agent, due_at, interval_ms, verdict, duration_us, reason, \
            CASE WHEN verdict = 'missed' THEN result::text ELSE result #>> '{run,starved_us}' END FROM pingeon.log \
        WHERE label = $1 AND uid >= $2 AND uid < $3 AND due_at >= $4 AND due_at < $5 ORDER BY agent, uid";
    let mut last = None;
    session.stream(sql, &params, &mut |columns| {
        let row = read(columns, last.as_ref())?;
        last = Some(row.clone());
        each(row);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_in_chunks_of_a_bounded_number_of_rows() {
        for (name, needs, expected) in [
            ("none", vec![], vec![]),
            ("what reaches in is looked at anyway", vec![0; 5_000], vec![2_048, 2_048, 904]),
            ("as a report asks", vec![42; 1_000], vec![390, 390, 220]),
            ("one needs more", [vec![42; 389], vec![200], vec![42; 100]].concat(), vec![389, 81, 20]),
            ("more than is held", vec![20_000, 20_000], vec![1, 1]),
        ] {
            let labels: Vec<Arc<str>> = (0..needs.len()).map(|nth| nth.to_string().into()).collect();
            let before = |label: &str| needs[label.parse::<usize>().unwrap()];
            let chunks: Vec<_> = chunks(&labels, &before).collect();
            assert_eq!(chunks.iter().map(|chunk| chunk.len()).collect::<Vec<_>>(), expected, "{name}");
            assert_eq!(chunks.concat(), labels, "{name}");
        }
    }
}
