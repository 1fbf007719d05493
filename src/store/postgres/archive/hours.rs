//! Roll-ups, summed up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use postgres::types::Type;

use crate::clock::Timestamp;
use crate::store::postgres::columns::{Latency, Moment, Param, unsigned};
use crate::store::postgres::connection::Session;
use crate::store::rollup::{Hour, Slots, Uptime, Uptimes, add_hour};

/// The hours of each label and agent of `wanted` (none: of all labels) in `from..to`, summed up, in their order.
///
/// The server adds them up as they are. Labels with an hour in which more was said than there is room for are rare, and are added
/// up here, where each hour is cut to what it holds.
pub(super) fn uptimes(
    session: &mut Session,
    wanted: &[Arc<str>],
    range: (Timestamp, Timestamp),
) -> Result<Vec<Uptime>, postgres::Error> {
    let (mut sums, mut crowded) = (Uptimes::new(), BTreeSet::new());
    // Sums of `integer` are fast, those of `bigint` are not.
    let sql = "SELECT label, agent, sum(up_ms), sum(degraded_ms), sum(down_ms),
            sum(up) + sum(degraded) + sum(down) + sum(unknown), sum(missed), sum(latency),
            bool_or(up_ms::bigint + degraded_ms + down_ms > 3600000)
        FROM pingeon.hour WHERE hour >= $1 AND hour < $2 AND ($3 IS NULL OR label = ANY ($3)) GROUP BY label, agent";
    asked(session, sql, wanted, range, &mut |row| {
        let uptime = uptime(row)?;
        if row.try_get(8)? {
            crowded.insert(uptime.label);
        } else {
            sums.insert((Arc::clone(&uptime.label), Arc::clone(&uptime.agent)), uptime);
        }
        Ok(())
    })?;
    if !crowded.is_empty() {
        sums.retain(|(label, _), _| !crowded.contains(label));
        let crowded: Vec<Arc<str>> = crowded.into_iter().collect();
        read(session, &crowded, range, &mut |hour| add_hour(&mut sums, &hour))?;
    }
    Ok(sums.into_values().collect())
}

fn uptime(row: &postgres::Row) -> Result<Uptime, postgres::Error> {
    let number = |column| row.try_get(column).map(unsigned);
    let time = |column| number(column).map(Duration::from_millis);
    Ok(Uptime {
        label: row.try_get::<_, &str>(0)?.into(),
        agent: row.try_get::<_, &str>(1)?.into(),
        up: time(2)?,
        degraded: time(3)?,
        down: time(4)?,
        logs: number(5)?,
        missed: number(6)?,
        latency: row.try_get::<_, Latency>(7)?.0,
    })
}

/// Gives `each` the hours of `wanted` (none: of all labels) in `from..to`.
fn read(
    session: &mut Session,
    wanted: &[Arc<str>],
    range: (Timestamp, Timestamp),
    each: &mut dyn FnMut(Hour),
) -> Result<(), postgres::Error> {
    let sql = "SELECT label, agent, hour, up_ms, degraded_ms, down_ms, up, degraded, down, unknown, missed, latency
        FROM pingeon.hour WHERE hour >= $1 AND hour < $2 AND ($3 IS NULL OR label = ANY ($3))";
    asked(session, sql, wanted, range, &mut |row| {
        let number = |column| row.try_get::<_, i32>(column).map(|sum| u32::try_from(sum).unwrap_or(0));
        each(Hour {
            label: row.try_get::<_, &str>(0)?.into(),
            agent: row.try_get::<_, &str>(1)?.into(),
            hour: row.try_get::<_, Moment>(2)?.0,
            up_ms: number(3)?,
            degraded_ms: number(4)?,
            down_ms: number(5)?,
            slots: Slots {
                up: number(6)?,
                degraded: number(7)?,
                down: number(8)?,
                unknown: number(9)?,
                missed: number(10)?,
            },
            latency: row.try_get::<_, Latency>(11)?.0,
        });
        Ok(())
    })
}

/// Asks for rows of `wanted` ($3; none: of all labels) in `from..to` ($1, $2).
fn asked(
    session: &mut Session,
    sql: &str,
    wanted: &[Arc<str>],
    (from, to): (Timestamp, Timestamp),
    each: &mut dyn FnMut(&postgres::Row) -> Result<(), postgres::Error>,
) -> Result<(), postgres::Error> {
    let (from, to) = (Moment(from), Moment(to));
    let labels: Option<Vec<&str>> = (!wanted.is_empty()).then(|| wanted.iter().map(|label| &**label).collect());
    let params: [Param<'_>; 3] = [(&from, Type::TIMESTAMPTZ), (&to, Type::TIMESTAMPTZ), (&labels, Type::TEXT_ARRAY)];
    session.stream(sql, &params, each)
}
