//! Roll-ups, one by one and summed up.

use std::sync::Arc;
use std::time::Duration;

use postgres::types::Type;

use super::series::{shared, unsigned};
use crate::clock::Timestamp;
use crate::store::Uptime;
use crate::store::postgres::columns::{Latency, Moment, Param};
use crate::store::postgres::connection::Session;
use crate::store::rollup::{Hour, Slots};

/// Gives `each` the hours of `wanted` (none: of all labels) in `from..to`, in the order of label, agent and hour.
pub(super) fn read(
    session: &mut Session,
    wanted: &[Arc<str>],
    range: (Timestamp, Timestamp),
    each: &mut dyn FnMut(Hour),
) -> Result<(), postgres::Error> {
    let sql = "SELECT label, agent, hour, up_ms, degraded_ms, down_ms, up, degraded, down, unknown, missed, latency
        FROM pingeon.hour WHERE hour >= $1 AND hour < $2 AND ($3 IS NULL OR label = ANY ($3))
        ORDER BY label, agent, hour";
    let (mut label, mut agent) = (Arc::from(""), Arc::from(""));
    asked(session, sql, wanted, range, &mut |row| {
        label = shared(row.try_get(0)?, Some(&label));
        agent = shared(row.try_get(1)?, Some(&agent));
        let number = |column| row.try_get::<_, i32>(column).map(small);
        each(Hour {
            label: Arc::clone(&label),
            agent: Arc::clone(&agent),
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

/// The hours of each label and agent of `wanted` (none: of all labels) in `from..to`, summed up, in their order.
pub(super) fn uptimes(
    session: &mut Session,
    wanted: &[Arc<str>],
    range: (Timestamp, Timestamp),
) -> Result<Vec<Uptime>, postgres::Error> {
    // Sums of `integer` are fast, those of `bigint` are not; three times 3600000 is no overflow.
    let sql = "SELECT label, agent, sum(up_ms), sum(degraded_ms), sum(down_ms),
            sum(up) + sum(degraded) + sum(down) + sum(unknown), sum(missed),
            bool_or(CASE WHEN greatest(up_ms, degraded_ms, down_ms) > 3600000 THEN true
                ELSE up_ms + degraded_ms + down_ms > 3600000 END)
        FROM pingeon.hour WHERE hour >= $1 AND hour < $2 AND ($3 IS NULL OR label = ANY ($3))
        GROUP BY label, agent ORDER BY label, agent";
    let (mut all, mut crowded): (Vec<Uptime>, Vec<Arc<str>>) = Default::default();
    asked(session, sql, wanted, range, &mut |row| {
        let last = all.last();
        let label = shared(row.try_get(0)?, last.map(|last| &last.label));
        if row.try_get(7)? {
            crowded.push(Arc::clone(&label));
        }
        let number = |column| row.try_get(column).map(unsigned);
        let uptime = Uptime {
            label,
            agent: shared(row.try_get(1)?, last.map(|last| &last.agent)),
            up: Duration::from_millis(number(2)?),
            degraded: Duration::from_millis(number(3)?),
            down: Duration::from_millis(number(4)?),
            logs: number(5)?,
            missed: number(6)?,
        };
        all.push(uptime);
        Ok(())
    })?;
    if !crowded.is_empty() {
        add_up(session, &crowded, range, &mut all)?;
    }
    Ok(all)
}

/// Adds up anew the time of labels that have hours in which more was said than there is room for: it has to be cut hour by hour.
fn add_up(
    session: &mut Session,
    crowded: &[Arc<str>],
    range: (Timestamp, Timestamp),
    all: &mut [Uptime],
) -> Result<(), postgres::Error> {
    let mut fresh = Vec::new();
    for uptime in all.iter_mut().filter(|uptime| crowded.contains(&uptime.label)) {
        (uptime.up, uptime.degraded, uptime.down) = Default::default();
        fresh.push(uptime);
    }
    read(session, crowded, range, &mut |hour| {
        // Both are in the order of label and agent.
        let own = fresh.binary_search_by(|uptime| (&uptime.label, &uptime.agent).cmp(&(&hour.label, &hour.agent)));
        if let Ok(uptime) = own.map(|place| &mut fresh[place]) {
            let [up, degraded, down] = hour.time();
            uptime.up += up;
            uptime.degraded += degraded;
            uptime.down += down;
        }
    })
}

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

fn small(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}
