//! The delivery audit.
//!
//! One pass over the logs counts them by run. Where the count tells that nothing is missing, that is all; the numbers of the other
//! runs are gone through one by one. The times of the runs leave out the days before them: should a run have logs that are older
//! still (of the time when its agent was off), the count lacks them, and they are found with the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use postgres::types::Type;
use uuid::Uuid;

use super::series::unsigned;
use crate::clock::Timestamp;
use crate::store::delivery::{MARGIN, Runs, is_whole};
use crate::store::postgres::columns::{Id, Moment, Param};
use crate::store::postgres::connection::Session;
use crate::store::{Delivery, began_at, first_uid};

/// A run of an agent.
type Run = (Arc<str>, Uuid);

/// What arrived of each run whose last log was due at `since` or later, in the order of agent and boot.
pub(super) fn audit(session: &mut Session, since: Timestamp) -> Result<Vec<Delivery>, postgres::Error> {
    let active = active(session, since)?;
    let duplicates = counts(session, "SELECT agent, boot, sum(count)::bigint FROM pingeon.duplicate GROUP BY 1, 2")?;
    let rejected = counts(
        session,
        "SELECT agent, boot, count(*) FROM pingeon.rejected WHERE agent IS NOT NULL AND boot IS NOT NULL GROUP BY 1, 2",
    )?;
    let forgotten = forgotten(session)?;
    let mut found = counted(session, &active, &duplicates)?;
    found.retain(|run, delivery| {
        let Delivery { lowest, highest, stored, .. } = *delivery;
        let from_the_first = lowest == 1 || !is_whole(&run.1, forgotten);
        from_the_first && !rejected.contains_key(run) && highest - lowest + 1 == stored
    });
    let rest: Vec<&Run> = active.iter().filter(|run| !found.contains_key(run)).collect();
    if !rest.is_empty() {
        found.extend(gone_through(session, &rest, &duplicates, forgotten)?);
    }
    Ok(found.into_values().collect())
}

/// The runs whose last log was due at `since` or later.
fn active(session: &mut Session, since: Timestamp) -> Result<Vec<Run>, postgres::Error> {
    let (first, since) = (Id(first_uid(since)), Moment(since));
    let params: [Param<'_>; 2] = [(&first, Type::UUID), (&since, Type::TIMESTAMPTZ)];
    let mut active = Vec::new();
    let sql = "SELECT DISTINCT agent, boot FROM pingeon.log WHERE uid >= $1 AND due_at >= $2";
    session.stream(sql, &params, &mut |row| {
        active.push(run(row)?);
        Ok(())
    })?;
    Ok(active)
}

fn run(row: &postgres::Row) -> Result<Run, postgres::Error> {
    Ok((row.try_get::<_, &str>(0)?.into(), row.try_get::<_, Id>(1)?.0))
}

fn counts(session: &mut Session, sql: &str) -> Result<BTreeMap<Run, u64>, postgres::Error> {
    let mut counts = BTreeMap::new();
    session.stream(sql, &[], &mut |row| {
        counts.insert(run(row)?, unsigned(row.try_get(2)?));
        Ok(())
    })?;
    Ok(counts)
}

/// Before when logs were due that the retention may have dropped: the first day that is left, once the retention has run.
fn forgotten(session: &mut Session) -> Result<Timestamp, postgres::Error> {
    let sql = "SELECT oldest::timestamp AT TIME ZONE 'UTC' FROM pingeon.condition() WHERE retained_at IS NOT NULL";
    let mut forgotten = None;
    session.stream(sql, &[], &mut |row| {
        forgotten = row.try_get::<_, Option<Moment>>(0)?;
        Ok(())
    })?;
    Ok(forgotten.map_or(Timestamp::from_micros(0), |day| day.0))
}

/// The `active` runs with what there is of each since the first of them began.
fn counted(
    session: &mut Session,
    active: &[Run],
    duplicates: &BTreeMap<Run, u64>,
) -> Result<BTreeMap<Run, Delivery>, postgres::Error> {
    let Some(began) = active.iter().map(|(_, boot)| began_at(boot)).min() else { return Ok(BTreeMap::new()) };
    let first = Id(first_uid(began.minus(MARGIN)));
    let mut counted: BTreeMap<Run, Delivery> = BTreeMap::new();
    let sql = "SELECT agent, boot, min(seq), max(seq), count(*), min(due_at), max(due_at) FROM pingeon.log
        WHERE uid >= $1 AND (agent, boot) IN (SELECT * FROM unnest($2, $3)) GROUP BY agent, boot";
    let (agents, boots): (Vec<&str>, Vec<Id>) = active.iter().map(|(agent, boot)| (&**agent, Id(*boot))).unzip();
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
            duplicates: duplicates.get(&run).copied().unwrap_or(0),
            missing: Vec::new(),
            missing_total: 0,
            first_due_at: row.try_get::<_, Moment>(5)?.0,
            last_due_at: row.try_get::<_, Moment>(6)?.0,
        };
        counted.insert(run, delivery);
        Ok(())
    })?;
    Ok(counted)
}

/// Goes through the numbers of `runs` in their order.
fn gone_through(
    session: &mut Session,
    runs: &[&Run],
    duplicates: &BTreeMap<Run, u64>,
    forgotten: Timestamp,
) -> Result<BTreeMap<Run, Delivery>, postgres::Error> {
    let sql = "SELECT agent, boot, seq, due_at FROM pingeon.log WHERE (agent, boot) IN (SELECT * FROM unnest($1, $2))
        UNION ALL SELECT agent, boot, seq, NULL FROM pingeon.rejected
            WHERE (agent, boot) IN (SELECT * FROM unnest($1, $2)) AND seq IS NOT NULL
        ORDER BY agent, boot, seq";
    let (agents, boots): (Vec<&str>, Vec<Id>) = runs.iter().map(|(agent, boot)| (&**agent, Id(*boot))).unzip();
    let params: [Param<'_>; 2] = [(&agents, Type::TEXT_ARRAY), (&boots, Type::UUID_ARRAY)];
    let mut runs = Runs::new(forgotten);
    session.stream(sql, &params, &mut |row| {
        let due_at = row.try_get::<_, Option<Moment>>(3)?.map(|due_at| due_at.0);
        runs.push(row.try_get(0)?, row.try_get::<_, Id>(1)?.0, unsigned(row.try_get(2)?), due_at);
        Ok(())
    })?;
    let with_duplicates = |delivery: Delivery| {
        let run = (Arc::clone(&delivery.agent), delivery.boot);
        let duplicates = duplicates.get(&run).copied().unwrap_or(0);
        (run, Delivery { duplicates, ..delivery })
    };
    Ok(runs.deliveries().into_iter().map(with_duplicates).collect())
}
