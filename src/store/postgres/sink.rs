//! A batch on its way into Postgres: sorted by uid, in one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use postgres::types::Type;
use uuid::Uuid;

use super::columns::{ADD_HOURS, Hours, INSERT, Id, Logs, Param, signed};
use super::connection::{Connection, Session};
use super::keeper::{make_days, refused};
use super::trouble::{Refusal, Trouble};
use crate::clock::Clock;
use crate::config;
use crate::flow::{Batch, Delivered, Fault, Sink, Unreadable};
use crate::logs::Log;
use crate::store::rollup::roll_up;
use crate::store::{AHEAD_MAX, unfit};

/// How many bytes of what is set aside are kept; the rest is cut off.
const REJECTED_BYTES_MAX: usize = 64 * 1024;
/// How much of it goes in one statement: at most 4 MiB.
const REJECTS_AT_ONCE: usize = 64;
/// How often a batch is begun anew for what can be put right on the spot: statements unnamed, days made, refused logs left out.
const TRIES_MAX: usize = 5;

/// The store, for writing.
pub struct Postgres {
    connection: Connection,
    retention: Duration,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").finish_non_exhaustive()
    }
}

/// Something for `pingeon.rejected`. Its texts have no NUL, which Postgres cannot hold.
struct Reject {
    origin: String,
    reason: String,
    sqlstate: Option<String>,
    agent: Option<String>,
    /// Boot and seq.
    run: Option<(Uuid, u64)>,
    bytes: Vec<u8>,
}

impl Reject {
    fn log(log: &Log, reason: &str) -> Self {
        Reject {
            origin: without_nul(&format!("{} {}", log.agent, log.uid)),
            reason: without_nul(reason),
            sqlstate: None,
            agent: Some(without_nul(&log.agent)),
            run: Some((log.boot, log.seq)),
            bytes: cut(log.to_json()),
        }
    }

    fn refused(log: &Log, why: Refusal) -> Self {
        Reject { sqlstate: Some(why.sqlstate), ..Reject::log(log, &why.reason) }
    }

    fn unreadable(Unreadable { bytes, origin, reason }: &Unreadable) -> Self {
        let (origin, reason) = (without_nul(origin), without_nul(reason));
        Reject { origin, reason, sqlstate: None, agent: None, run: None, bytes: cut(bytes.clone()) }
    }
}

fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn cut(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(REJECTED_BYTES_MAX);
    bytes
}

impl Postgres {
    /// The store that `settings` name. Nothing is connected before the first batch. `clock` tells which logs are too old or too
    /// new.
    pub fn new(settings: &config::Postgres, clock: Arc<dyn Clock>) -> Self {
        Postgres { connection: Connection::new(settings), retention: settings.retention, clock }
    }

    /// Keeps it, and puts right what can be on the spot.
    fn take(&mut self, logs: &[&Log], rejects: &[Reject]) -> Result<Delivered, Fault> {
        let (mut bisect, mut days_made) = (false, false);
        for _ in 0..TRIES_MAX {
            let session = self.connection.session()?;
            let trouble = match keep(session, logs, rejects, bisect) {
                Ok(delivered) => return Ok(delivered),
                Err(error) => self.connection.trouble(&error),
            };
            match trouble {
                Trouble::Fault(fault) => return Err(fault),
                Trouble::Unprepared => {}
                // Of a batch with both, either may be seen first: the days are made before anything is refused for want of one.
                // One that the server does not make, since it lies too far from today, stays missing.
                Trouble::NoDay | Trouble::Refused(_) if !days_made => {
                    let session = self.connection.session()?;
                    let made = make_days(session, logs.iter().map(|log| log.due_at), self.retention);
                    made.map_err(|error| refused(self.connection.trouble(&error)))?;
                    days_made = true;
                }
                Trouble::NoDay | Trouble::Refused(_) => bisect = true,
            }
        }
        Err(Fault::Retry("Postgres: the batch was refused once more after all that could be put right was".to_owned()))
    }
}

impl Sink for Postgres {
    fn deliver(&mut self, batch: &Batch) -> Result<Delivered, Fault> {
        let now = self.clock.now().wall;
        let (oldest, newest) = (now.minus(self.retention), now.plus(AHEAD_MAX));
        let (mut logs, mut rejects) = (Vec::with_capacity(batch.logs.len()), Vec::new());
        for log in &batch.logs {
            match unfit(log, oldest, newest) {
                Some(reason) => rejects.push(Reject::log(log, reason)),
                None => logs.push(log),
            }
        }
        rejects.extend(batch.unreadable.iter().map(Reject::unreadable));
        logs.sort_by_key(|log| log.uid);
        self.take(&logs, &rejects)
    }
}

/// Once the server says that it has committed, the source forgets: then all has to be on the server's disk, also where it is set for
/// the database or the role that nobody waits for that. What waits for more or less of the standbys stays as it is set. And
/// `pingeon.add_hours` has to see the days that were summed up until then, whatever the database's default is.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
    SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'";

/// Keeps all in one transaction. With `bisect`, logs that the server refuses are looked for and set aside, too.
fn keep(session: &mut Session, logs: &[&Log], rejects: &[Reject], bisect: bool) -> Result<Delivered, postgres::Error> {
    let (mut new, mut refused) = (Vec::with_capacity(logs.len()), Vec::new());
    session.say(BEGIN)?;
    if bisect {
        insert_but_refused(session, logs, &mut new, &mut refused)?;
    } else {
        insert(session, logs, &mut new)?;
    }
    new.sort_unstable();
    let (new, known) = told_apart(logs, &new, &refused);
    add_hours(session, &new)?;
    count_duplicates(session, &known)?;
    let refused: Vec<Reject> = refused.into_iter().map(|(log, why)| Reject::refused(log, why)).collect();
    let mut aside: Vec<&Reject> = rejects.iter().chain(&refused).collect();
    // As the logs are: two consumers with the same ones do not wait for each other in a circle.
    aside.sort_by_key(|reject| (&reject.origin, &reject.bytes));
    let rejected = set_aside(session, &aside)?;
    session.say("COMMIT")?;
    if let (Some(Reject { origin, reason, .. }), 1..) = (rejects.iter().chain(&refused).next(), rejected) {
        log::warn!("set aside in `pingeon.rejected`: {rejected}; the first, {origin}: {reason}");
    }
    let duplicate = known.len() + rejects.len() + refused.len() - rejected;
    Ok(Delivered { new: new.len(), duplicate, rejected, refused: Vec::new() })
}

/// Which of `logs` are new and which were known, by the uids of the new ones; what was refused is neither. All are in the order of
/// their uids.
fn told_apart<'a>(logs: &[&'a Log], new: &[Uuid], refused: &[(&Log, Refusal)]) -> (Vec<&'a Log>, Vec<&'a Log>) {
    let (mut fresh, mut known) = (Vec::with_capacity(new.len()), Vec::with_capacity(logs.len() - new.len()));
    let (mut new, mut refused) = (new.iter().peekable(), refused.iter().peekable());
    for log in logs {
        if refused.next_if(|(refused, _)| std::ptr::eq(*refused, *log)).is_some() {
            continue;
        }
        // A log that comes twice in the batch is new once.
        match new.next_if(|uid| **uid == log.uid) {
            Some(_) => fresh.push(*log),
            None => known.push(*log),
        }
    }
    (fresh, known)
}

/// Inserts `logs`; adds the uids of those that were not there to `new`.
fn insert(session: &mut Session, logs: &[&Log], new: &mut Vec<Uuid>) -> Result<(), postgres::Error> {
    if !logs.is_empty() {
        let rows = session.query(INSERT, &Logs::of(logs).params())?;
        let uids = rows.iter().filter_map(|row| row.get::<_, Option<Vec<Id>>>(0)).flatten();
        new.extend(uids.map(|uid| uid.0));
    }
    Ok(())
}

/// Likewise; those that the server refuses go into `refused`. Halves what fails until one log is left, each half in the order of
/// the uids.
fn insert_but_refused<'a>(
    session: &mut Session,
    logs: &[&'a Log],
    new: &mut Vec<Uuid>,
    refused: &mut Vec<(&'a Log, Refusal)>,
) -> Result<(), postgres::Error> {
    session.say("SAVEPOINT part")?;
    let Err(error) = insert(session, logs, new) else { return session.say("RELEASE part") };
    let why = match Trouble::of(&error) {
        Trouble::Refused(why) => why,
        Trouble::NoDay => Refusal::no_day(),
        Trouble::Fault(_) | Trouble::Unprepared => return Err(error),
    };
    session.say("ROLLBACK TO part; RELEASE part")?;
    if let [log] = logs {
        refused.push((log, why));
        return Ok(());
    }
    let (first, second) = logs.split_at(logs.len() / 2);
    insert_but_refused(session, first, new, refused)?;
    insert_but_refused(session, second, new, refused)
}

fn add_hours(session: &mut Session, new: &[&Log]) -> Result<(), postgres::Error> {
    let hours = roll_up(new.iter().copied());
    if !hours.is_empty() {
        session.query(ADD_HOURS, &Hours::of(&hours).params())?;
    }
    Ok(())
}

/// Takes note for the delivery audit of the logs that came again.
fn count_duplicates(session: &mut Session, known: &[&Log]) -> Result<(), postgres::Error> {
    let mut counts = BTreeMap::<(&str, Id), i64>::new();
    known.iter().for_each(|log| *counts.entry((&log.agent, Id(log.boot))).or_default() += 1);
    if counts.is_empty() {
        return Ok(());
    }
    let (of, count): (Vec<_>, Vec<i64>) = counts.into_iter().unzip();
    let (agent, boot): (Vec<&str>, Vec<Id>) = of.into_iter().unzip();
    let params: [Param<'_>; 3] = [(&agent, Type::TEXT_ARRAY), (&boot, Type::UUID_ARRAY), (&count, Type::INT8_ARRAY)];
    session.query("SELECT pingeon.add_duplicates($1, $2, $3)", &params)?;
    Ok(())
}

const SET_ASIDE: &str = "INSERT INTO pingeon.rejected (origin, reason, sqlstate, agent, boot, seq, bytes) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::int8[], $7::bytea[]) \
    ON CONFLICT DO NOTHING";

/// How many of `rejects` were not set aside already.
fn set_aside(session: &mut Session, rejects: &[&Reject]) -> Result<usize, postgres::Error> {
    let mut new = 0;
    for some in rejects.chunks(REJECTS_AT_ONCE) {
        let column = |of: fn(&Reject) -> Option<&str>| some.iter().map(|reject| of(reject)).collect::<Vec<_>>();
        let (origin, reason) = (column(|reject| Some(&reject.origin)), column(|reject| Some(&reject.reason)));
        let (sqlstate, agent) = (column(|reject| reject.sqlstate.as_deref()), column(|reject| reject.agent.as_deref()));
        let boot: Vec<_> = some.iter().map(|reject| reject.run.map(|(boot, _)| Id(boot))).collect();
        let seq: Vec<_> = some.iter().map(|reject| reject.run.map(|(_, seq)| signed(seq))).collect();
        let bytes: Vec<_> = some.iter().map(|reject| &reject.bytes[..]).collect();
        let params: [Param<'_>; 7] = [
            (&origin, Type::TEXT_ARRAY),
            (&reason, Type::TEXT_ARRAY),
            (&sqlstate, Type::TEXT_ARRAY),
            (&agent, Type::TEXT_ARRAY),
            (&boot, Type::UUID_ARRAY),
            (&seq, Type::INT8_ARRAY),
            (&bytes, Type::BYTEA_ARRAY),
        ];
        new += session.execute(SET_ASIDE, &params)?;
    }
    Ok(usize::try_from(new).unwrap_or(usize::MAX))
}
