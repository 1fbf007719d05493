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
use crate::store::{self, Delivery, MILLISECOND, Row, first_needed, first_uid};

/// Logs before the range that are looked at for one that reaches into it: the last, and those that a restart may have left
/// out of order with it.
const REACH_BACK: u32 = 8;

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
        before: usize,
        each: &mut dyn FnMut(Row),
    ) -> Result<(), String> {
        self.ask(|session| {
            let mut wanted = if wanted.is_empty() { labels(session)? } else { wanted.to_vec() };
            wanted.sort();
            wanted.dedup();
            // Each of these hours has a log; only of the last one they may all be later.
            let back = u32::try_from(before).unwrap_or(u32::MAX - 1).max(REACH_BACK);
            let series: Vec<Series> = series(session, &wanted, from, back + 1)?;
            let rows = latest(session, &series, from, back)?;
            // Both are in the order of label and agent: of each, first what comes before, then what lies within.
            let each_series = rows.chunk_by(|one, next| (&one.label, &one.agent) == (&next.label, &next.agent));
            let needed = each_series.flat_map(|rows| &rows[first_needed(rows, from, before)..]);
            let mut before = needed.cloned().peekable();
            for label in &wanted {
                rows_of(session, label, (from, to), &mut |row| {
                    while let Some(earlier) =
                        before.next_if(|earlier| (&earlier.label, &earlier.agent) <= (&row.label, &row.agent))
                    {
                        each(earlier);
                    }
                    each(row);
                })?;
            }
            before.for_each(each);
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
