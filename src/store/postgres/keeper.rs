//! Keeps the days of the store: those ahead are made, those that are over are added up, those past the retention are dropped.

use std::collections::BTreeSet;
use std::time::Duration;

use super::columns::Moment;
use super::connection::{Connection, Session};
use super::trouble::Trouble;
use crate::clock::Timestamp;
use crate::config;
use crate::flow::Fault;
use crate::store::{Condition, DAY, Keep, Kept, day_of};

/// How many days after today are made ahead.
const DAYS_AHEAD: u32 = 4;
/// What `pingeon.make_days` takes.
const DAYS_AT_ONCE_MAX: usize = 62;

/// The store, for keeping it in order.
pub struct Keeper {
    connection: Connection,
    retention: Duration,
}

impl Keeper {
    /// Of the store that `settings` name. Nothing is connected before the first round.
    pub fn new(settings: &config::Postgres) -> Self {
        Keeper { connection: Connection::new(settings), retention: settings.retention }
    }

    /// Does a part of a round. Why it failed goes into `fault`, unless another one has failed before.
    fn part<T>(
        &mut self,
        fault: &mut Option<Fault>,
        part: impl FnOnce(&mut Session) -> Result<T, postgres::Error>,
    ) -> Option<T> {
        // What has lost the connection may lose the next one, too: each would take the time that a round has.
        if fault.is_some() && !self.connection.is_open() {
            return None;
        }
        let done = match self.connection.session() {
            Ok(session) => part(session).map_err(|error| refused(self.connection.trouble(&error))),
            Err(fault) => Err(fault),
        };
        done.map_err(|why| fault.get_or_insert(why)).ok()
    }
}

impl Keep for Keeper {
    fn keep(&mut self, now: Timestamp) -> Result<Kept, Fault> {
        let (retention, mut fault) = (self.retention, None);
        let ahead = (0..=DAYS_AHEAD).map(|days| now.plus(DAY * days));
        self.part(&mut fault, |session| make_days(session, ahead, retention));
        let past_is_left = self.part(&mut fault, |session| delete_past(session, retention));
        let dropped = self.part(&mut fault, |session| drop_day(session, retention)).flatten();
        let sums_are_left = self.part(&mut fault, |session| sum_day(session, retention));
        let condition = self.part(&mut fault, condition);
        if let (None, Some(fault)) = (&condition, &fault) {
            return Err(fault.clone());
        }
        Ok(Kept {
            deleted: 0,
            more: past_is_left == Some(true) || dropped.is_some() || sums_are_left == Some(true),
            dropped: Vec::from_iter(dropped),
            condition: condition.unwrap_or_default(),
            fault,
        })
    }
}

/// What the pump does where the days cannot be made or dropped.
pub(super) fn refused(trouble: Trouble) -> Fault {
    match trouble {
        Trouble::Fault(fault) => fault,
        Trouble::Refused(refusal) => {
            Fault::Retry(format!("Postgres: {} (SQLSTATE {})", refusal.reason, refusal.sqlstate))
        }
        Trouble::NoDay => Fault::Retry("Postgres: a partition is missing".to_owned()),
        Trouble::Unprepared => Fault::Retry("Postgres: a pooler is in the way of named statements".to_owned()),
    }
}

/// Makes the days of `moments` that are missing.
pub(super) fn make_days(
    session: &mut Session,
    moments: impl Iterator<Item = Timestamp>,
    retention: Duration,
) -> Result<(), postgres::Error> {
    let days: BTreeSet<Timestamp> = moments.map(day_of).collect();
    let days: Vec<String> =
        days.iter().map(|day| day.to_string().chars().take_while(|c| *c != 'T').collect()).collect();
    for some in days.chunks(DAYS_AT_ONCE_MAX) {
        session.call(&format!("pingeon.make_days('{{{}}}', {})", some.join(","), kept(retention)))?;
    }
    Ok(())
}

/// Drops the oldest day that is past the retention, if there is one: `2026-08-28`.
fn drop_day(session: &mut Session, retention: Duration) -> Result<Option<String>, postgres::Error> {
    // Not by a cast, which would follow the server's `datestyle`.
    session.call(&format!("to_char(pingeon.drop_day({}), 'YYYY-MM-DD')", kept(retention)))
}

/// Deletes some of what else is past the retention; whether anything past it may be left.
fn delete_past(session: &mut Session, retention: Duration) -> Result<bool, postgres::Error> {
    Ok(session.call(&format!("pingeon.delete_past({})", kept(retention)))?.as_deref() == Some(TRUE))
}

/// Adds up the hours of a day that is over, if that is to be done; whether it may be of another one.
fn sum_day(session: &mut Session, retention: Duration) -> Result<bool, postgres::Error> {
    Ok(session.call(&format!("pingeon.sum_day({})", kept(retention)))?.as_deref() == Some(TRUE))
}

/// A `boolean` as text.
const TRUE: &str = "t";

fn kept(retention: Duration) -> String {
    format!("make_interval(secs => {})", retention.as_secs())
}

fn condition(session: &mut Session) -> Result<Condition, postgres::Error> {
    let sql = "SELECT days_ahead, to_char(oldest, 'YYYY-MM-DD'), to_char(newest, 'YYYY-MM-DD'), rejected, retained_at \
        FROM pingeon.condition()";
    let rows = session.query_once(sql, &[])?;
    let Some(row) = rows.first() else { return Ok(Condition::default()) };
    Ok(Condition {
        days_ahead: row.get::<_, Option<i32>>(0).and_then(|days| u32::try_from(days).ok()),
        oldest_day: row.get(1),
        newest_day: row.get(2),
        rejected: row.get::<_, Option<i64>>(3).and_then(|count| u64::try_from(count).ok()),
        retained_at: row.get::<_, Option<Moment>>(4).map(|moment| moment.0),
    })
}
