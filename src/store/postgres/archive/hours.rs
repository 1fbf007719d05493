//! Roll-ups, summed up: of whole days what the keeper has added up, and of the rest of the range the hours.

use std::collections::BTreeSet;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use postgres::types::Type;

use crate::clock::Timestamp;
use crate::store::DAY;
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
    let days = summed(session, range)?;
    let rest = rest(range, &days);
    let days: Vec<Moment> = days.into_iter().map(Moment).collect();
    let (firsts, ends): (Vec<_>, Vec<_>) = rest.into_iter().map(|(first, end)| (Moment(first), Moment(end))).unzip();
    let labels = (!wanted.is_empty()).then(|| wanted.iter().map(|label| &**label).collect::<Vec<_>>());
    let params: [Param<'_>; 4] = [
        (&days, Type::TIMESTAMPTZ_ARRAY),
        (&firsts, Type::TIMESTAMPTZ_ARRAY),
        (&ends, Type::TIMESTAMPTZ_ARRAY),
        (&labels, Type::TEXT_ARRAY),
    ];
    session.stream(SUMS, &params, &mut |row| {
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

/// Of the days $1 and the hours from each of $2 to each of $3; of the labels $4 (null: of all). Sums of `integer` are fast, those of
/// `bigint` are not.
const SUMS: &str = "SELECT label, agent, sum(up_ms), sum(degraded_ms), sum(down_ms),
        sum(up) + sum(degraded) + sum(down) + sum(unknown), sum(missed), sum(latency), bool_or(crowded)
    FROM (
        SELECT label, agent, up_ms, degraded_ms, down_ms, up, degraded, down, unknown, missed, latency, crowded
        FROM pingeon.day WHERE day = ANY ($1)
        UNION ALL
        SELECT label, agent, up_ms, degraded_ms, down_ms, up, degraded, down, unknown, missed, latency,
            up_ms::bigint + degraded_ms + down_ms > 3600000
        FROM unnest($2, $3) AS rest (first, beyond) JOIN pingeon.hour ON hour >= first AND hour < beyond
    ) AS parts
    WHERE $4 IS NULL OR label = ANY ($4) GROUP BY label, agent";

/// The days that lie wholly in `from..to` and are summed, in order.
fn summed(session: &mut Session, (from, to): (Timestamp, Timestamp)) -> Result<Vec<Timestamp>, postgres::Error> {
    let (from, to) = (Moment(from), Moment(to));
    let sql = "SELECT day FROM pingeon.summed WHERE day >= $1 AND day + interval '24 hours' <= $2 ORDER BY day";
    let mut days = Vec::new();
    session.stream(sql, &[(&from, Type::TIMESTAMPTZ), (&to, Type::TIMESTAMPTZ)], &mut |row| {
        days.push(row.try_get::<_, Moment>(0)?.0);
        Ok(())
    })?;
    Ok(days)
}

/// What `days`, which are in order, leave of `from..to`.
fn rest((from, to): (Timestamp, Timestamp), days: &[Timestamp]) -> Vec<(Timestamp, Timestamp)> {
    let firsts = iter::once(from).chain(days.iter().map(|day| day.plus(DAY)));
    let ends = days.iter().copied().chain(iter::once(to));
    firsts.zip(ends).filter(|(first, end)| first < end).collect()
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

/// Gives `each` the hours of `wanted` in `from..to`.
fn read(
    session: &mut Session,
    wanted: &[Arc<str>],
    (from, to): (Timestamp, Timestamp),
    each: &mut dyn FnMut(Hour),
) -> Result<(), postgres::Error> {
    let sql = "SELECT label, agent, hour, up_ms, degraded_ms, down_ms, up, degraded, down, unknown, missed, latency
        FROM pingeon.hour WHERE hour >= $1 AND hour < $2 AND label = ANY ($3)";
    let (from, to) = (Moment(from), Moment(to));
    let labels: Vec<&str> = wanted.iter().map(|label| &**label).collect();
    let params: [Param<'_>; 3] = [(&from, Type::TIMESTAMPTZ), (&to, Type::TIMESTAMPTZ), (&labels, Type::TEXT_ARRAY)];
    session.stream(sql, &params, &mut |row| {
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
