//! The delivery audit.
//!
//! One pass over the logs counts them by run. Where the count tells that nothing is missing, that is all; the numbers of the other
//! runs are gone through one by one. The times of the runs leave out the days before them: should a run have logs that are older
//! still (of the time when its agent was off, or before its clock was set back), the count lacks its first or last numbers, and they
//! are found with the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use postgres::types::Type;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::store::delivery::{Arrived, MARGIN, Runs, is_whole};
use crate::store::postgres::columns::{Id, Moment, Param, unsigned};
use crate::store::postgres::connection::Session;
use crate::store::{Delivery, began_at, first_uid};

/// A run of an agent.
type Run = (Arc<str>, Uuid);

/// What arrived of each run that has a log due at `since` or later, or one set aside since then, in the order of agent and boot.
pub(super) fn audit(session: &mut Session, since: Timestamp) -> Result<Vec<Delivery>, postgres::Error> {
    let set_aside = set_aside(session)?;
    let active = active(session, since)?;
    let forgotten = forgotten(session)?;
    let all_stored: Vec<&Run> = active.keys().filter(|run| !set_aside.contains_key(run)).collect();
    let mut found = counted(session, &all_stored)?;
    found.retain(|run, Delivery { lowest, highest, stored, .. }| {
        let has = active.get(run).is_some_and(|(first, last)| *lowest <= *first && *last <= *highest);
        has && (*lowest == 1 || !is_whole(&run.1, forgotten)) && *highest - *lowest + 1 == *stored
    });
    let only_set_aside = set_aside.iter().filter(|(run, at)| **at >= since && !active.contains_key(run));
    let rest = active.keys().filter(|run| !found.contains_key(run)).chain(only_set_aside.map(|(run, _)| run));
    let rest: Vec<&Run> = rest.collect();
    if !rest.is_empty() {
        let rest = gone_through(session, &rest, Runs::new(since, forgotten))?;
        found.extend(rest.into_iter().map(|delivery| ((Arc::clone(&delivery.agent), delivery.boot), delivery)));
    }
    let duplicates = duplicates(session)?;
    let with_duplicates = |(run, delivery)| {
        let duplicates = duplicates.get(&run).copied().unwrap_or(0);
        Delivery { duplicates, ..delivery }
    };
    Ok(found.into_iter().map(with_duplicates).collect())
}

/// The runs that have a log due at `since` or later, and the lowest and highest number of these.
fn active(session: &mut Session, since: Timestamp) -> Result<BTreeMap<Run, (u64, u64)>, postgres::Error> {
    let (first, since) = (Id(first_uid(since)), Moment(since));
    let params: [Param<'_>; 2] = [(&first, Type::UUID), (&since, Type::TIMESTAMPTZ)];
    let mut active = BTreeMap::new();
    let sql =
        "SELECT agent, boot, min(seq), max(seq) FROM pingeon.log WHERE uid >= $1 AND due_at >= $2 GROUP BY agent, boot";
    session.stream(sql, &params, &mut |row| {
        active.insert(run(row)?, (unsigned(row.try_get(2)?), unsigned(row.try_get(3)?)));
        Ok(())
    })?;
    Ok(active)
}

fn run(row: &postgres::Row) -> Result<Run, postgres::Error> {
    Ok((row.try_get::<_, &str>(0)?.into(), row.try_get::<_, Id>(1)?.0))
}

/// The runs that have logs which were set aside, and when the last of them was.
fn set_aside(session: &mut Session) -> Result<BTreeMap<Run, Timestamp>, postgres::Error> {
    let mut set_aside = BTreeMap::new();
    let sql = "SELECT agent, boot, max(at) FROM pingeon.rejected
        WHERE agent IS NOT NULL AND boot IS NOT NULL AND seq IS NOT NULL GROUP BY agent, boot";
    session.stream(sql, &[], &mut |row| {
        set_aside.insert(run(row)?, row.try_get::<_, Moment>(2)?.0);
        Ok(())
    })?;
    Ok(set_aside)
}

/// How many logs of each run came again.
fn duplicates(session: &mut Session) -> Result<BTreeMap<Run, u64>, postgres::Error> {
    let mut duplicates = BTreeMap::new();
    let sql = "SELECT agent, boot, sum(count)::bigint FROM pingeon.duplicate GROUP BY agent, boot";
    session.stream(sql, &[], &mut |row| {
        duplicates.insert(run(row)?, unsigned(row.try_get(2)?));
        Ok(())
    })?;
    Ok(duplicates)
}

/// Before when logs were due that the retention may have dropped; `None`: it has dropped none.
fn forgotten(session: &mut Session) -> Result<Option<Timestamp>, postgres::Error> {
    let sql = "SELECT forgotten::timestamp AT TIME ZONE 'UTC' FROM pingeon.condition()";
    let mut forgotten: Option<Moment> = None;
    session.stream(sql, &[], &mut |row| {
        forgotten = row.try_get(0)?;
        Ok(())
    })?;
    Ok(forgotten.map(|day| day.0))
}

/// What there is of each of `runs` since the first of them began.
fn counted(session: &mut Session, runs: &[&Run]) -> Result<BTreeMap<Run, Delivery>, postgres::Error> {
    let Some(began) = runs.iter().map(|(_, boot)| began_at(boot)).min() else { return Ok(BTreeMap::new()) };
    let first = Id(first_uid(began.minus(MARGIN)));
    let mut counted: BTreeMap<Run, Delivery> = BTreeMap::new();
    let sql = "SELECT agent, boot, min(seq), max(seq), count(*), min(due_at), max(due_at), count(DISTINCT seq) FROM pingeon.log
        WHERE uid >= $1 AND (agent, boot) IN (SELECT * FROM unnest($2, $3)) GROUP BY agent, boot";
    let (agents, boots): (Vec<&str>, Vec<Id>) = runs.iter().map(|(agent, boot)| (&**agent, Id(*boot))).unzip();
    let params: [Param<'_>; 3] = [(&first, Type::UUID), (&agents, Type::TEXT_ARRAY), (&boots, Type::UUID_ARRAY)];
    session.stream(sql, &params, &mut |row| {
        let (run, number) = (run(row)?, |column| row.try_get(column).map(unsigned));
        let delivery = Delivery {
            agent: Arc::clone(&run.0),
            boot: run.1,
            lowest: number(2)?,
            highest: number(3)?,
            stored: number(4)?,
            rejected: 0,
            duplicates: 0,
            missing: Vec::new(),
            missing_total: 0,
            due_at: Some((row.try_get::<_, Moment>(5)?.0, row.try_get::<_, Moment>(6)?.0)),
        };
        // Where a number is there twice, the count says nothing of the others.
        if number(7)? == delivery.stored {
            counted.insert(run, delivery);
        }
        Ok(())
    })?;
    Ok(counted)
}

/// Goes through the numbers of `runs` in their order.
fn gone_through(session: &mut Session, runs: &[&Run], mut numbers: Runs) -> Result<Vec<Delivery>, postgres::Error> {
    let sql = "SELECT agent, boot, seq, due_at, NULL::timestamptz FROM pingeon.log
            WHERE (agent, boot) IN (SELECT * FROM unnest($1, $2))
        UNION ALL SELECT agent, boot, seq, NULL, at FROM pingeon.rejected
            WHERE (agent, boot) IN (SELECT * FROM unnest($1, $2)) AND seq IS NOT NULL
        ORDER BY agent, boot, seq";
    let (agents, boots): (Vec<&str>, Vec<Id>) = runs.iter().map(|(agent, boot)| (&**agent, Id(*boot))).unzip();
    let params: [Param<'_>; 2] = [(&agents, Type::TEXT_ARRAY), (&boots, Type::UUID_ARRAY)];
    session.stream(sql, &params, &mut |row| {
        let arrived = match row.try_get::<_, Option<Moment>>(3)? {
            Some(due_at) => Arrived::Stored(due_at.0),
            None => Arrived::SetAside(row.try_get::<_, Moment>(4)?.0),
        };
        numbers.push(row.try_get(0)?, row.try_get::<_, Id>(1)?.0, unsigned(row.try_get(2)?), arrived);
        Ok(())
    })?;
    Ok(numbers.deliveries())
}
