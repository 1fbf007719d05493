//! Keeps the days of the store: those ahead are made, those past the retention are dropped.

use std::time::Duration;

use postgres::types::Type;

use super::columns::{Moment, Param};
use super::connection::{Connection, Session};
use super::trouble::Trouble;
use crate::clock::Timestamp;
use crate::config;
use crate::flow::Fault;
use crate::store::{Condition, Keep, Kept};

/// How many days after today are made ahead.
const DAYS_AHEAD: u64 = 4;
const DAY: Duration = Duration::from_secs(86_400);

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

    fn round(&mut self, now: Timestamp) -> Result<Kept, Error> {
        let session = self.connection.session().map_err(Error::Fault)?;
        make_days(session, now, now.plus(DAY * DAYS_AHEAD as u32), self.retention)?;
        let kept = seconds(self.retention);
        let params: [Param<'_>; 1] = [(&kept, Type::FLOAT8)];
        let dropped: Option<String> = session
            .query("SELECT pingeon.drop_day(make_interval(secs => $1))::text", &params)?
            .first()
            .and_then(|row| row.get(0));
        let condition = condition(session)?;
        Ok(Kept { deleted: 0, more: dropped.is_some(), dropped: Vec::from_iter(dropped), condition })
    }
}

enum Error {
    Fault(Fault),
    Postgres(postgres::Error),
}

impl From<postgres::Error> for Error {
    fn from(error: postgres::Error) -> Self {
        Error::Postgres(error)
    }
}

impl Keep for Keeper {
    fn keep(&mut self, now: Timestamp) -> Result<Kept, Fault> {
        self.round(now).map_err(|error| match error {
            Error::Fault(fault) => fault,
            Error::Postgres(error) => match self.connection.trouble(&error) {
                Trouble::Fault(fault) => fault,
                trouble => Fault::Retry(format!("{trouble:?}")),
            },
        })
    }
}

/// Makes the days from `first` to `last` that are missing; how many that were.
pub(super) fn make_days(
    session: &mut Session,
    first: Timestamp,
    last: Timestamp,
    retention: Duration,
) -> Result<i32, postgres::Error> {
    let kept = seconds(retention);
    let (first, last) = (Moment(first), Moment(last));
    let params: [Param<'_>; 3] = [(&first, Type::TIMESTAMPTZ), (&last, Type::TIMESTAMPTZ), (&kept, Type::FLOAT8)];
    let rows = session.query(
        "SELECT pingeon.make_days(($1 AT TIME ZONE 'UTC')::date, ($2 AT TIME ZONE 'UTC')::date, make_interval(secs => $3))",
        &params,
    )?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

fn condition(session: &mut Session) -> Result<Condition, postgres::Error> {
    let sql = "SELECT days_ahead, oldest::text, newest::text, rejected, retained_at FROM pingeon.condition()";
    let rows = session.query(sql, &[])?;
    let Some(row) = rows.first() else { return Ok(Condition::default()) };
    Ok(Condition {
        days_ahead: row.get::<_, Option<i32>>(0).and_then(|days| u32::try_from(days).ok()),
        oldest_day: row.get(1),
        newest_day: row.get(2),
        rejected: row.get::<_, Option<i64>>(3).and_then(|count| u64::try_from(count).ok()),
        retained_at: row.get::<_, Option<Moment>>(4).map(|moment| moment.0),
    })
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
