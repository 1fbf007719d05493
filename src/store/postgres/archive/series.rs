//! The logs of one label and agent: where they end, and the last of them.

use std::sync::Arc;
use std::time::Duration;

use postgres::types::Type;

use crate::check::Verdict;
use crate::clock::Timestamp;
use crate::logs::Missed;
use crate::store::postgres::columns::{Id, Moment, Param, unsigned};
use crate::store::postgres::connection::Session;
use crate::store::rollup::HOUR;
use crate::store::{MILLISECOND, Row, first_uid};

/// A label and an agent that have logs.
pub(super) struct Series {
    label: Arc<str>,
    agent: Arc<str>,
    /// The first and the last of the hours that were asked for.
    hours: Option<(Timestamp, Timestamp)>,
}

/// The labels in order: jumps through the index from one to the next, instead of reading all of it.
pub(super) fn labels(session: &mut Session) -> Result<Vec<Arc<str>>, postgres::Error> {
    let sql = "WITH RECURSIVE each (label) AS (
            SELECT min(label) FROM pingeon.hour
            UNION ALL SELECT (SELECT min(h.label) FROM pingeon.hour h WHERE h.label > each.label) FROM each
            WHERE label IS NOT NULL
        ) SELECT label FROM each WHERE label IS NOT NULL";
    let mut labels = Vec::new();
    session.stream(sql, &[], &mut |row| {
        labels.push(row.try_get::<_, &str>(0)?.into());
        Ok(())
    })?;
    Ok(labels)
}

/// The agents that have logs of `labels`, in the order of label and agent, likewise; and of each the last `hours` that begin
/// before `before` and in which a log was due (a log with a long interval has a share in hours after it, too).
pub(super) fn series(
    session: &mut Session,
    labels: &[Arc<str>],
    before: Timestamp,
    hours: u32,
) -> Result<Vec<Series>, postgres::Error> {
    let sql = "WITH RECURSIVE each (label, agent) AS (
            SELECT l.label COLLATE \"C\", (SELECT min(h.agent) FROM pingeon.hour h WHERE h.label = l.label)
            FROM unnest($1) AS l (label)
            UNION ALL SELECT e.label, (SELECT min(h.agent) FROM pingeon.hour h WHERE h.label = e.label AND h.agent > e.agent)
            FROM each e WHERE e.agent IS NOT NULL
        )
        SELECT e.label, e.agent, due.first, due.last
        FROM each e CROSS JOIN LATERAL (SELECT min(hour) AS first, max(hour) AS last FROM (
            SELECT h.hour FROM pingeon.hour h WHERE h.label = e.label AND h.agent = e.agent AND h.hour < $2
                AND greatest(h.up, h.degraded, h.down, h.unknown, h.missed) > 0
            ORDER BY h.hour DESC LIMIT $3) latest) due
        WHERE e.agent IS NOT NULL ORDER BY e.label, e.agent";
    let labels: Vec<&str> = labels.iter().map(|label| &**label).collect();
    let (before, hours) = (Moment(before), i64::from(hours));
    gathered(session, sql, &[(&labels, Type::TEXT_ARRAY), (&before, Type::TIMESTAMPTZ), (&hours, Type::INT8)])
}

/// All labels and agents that have logs, in their order, with the last hour of each: one jump for each, from the last to the first.
pub(super) fn ends(session: &mut Session) -> Result<Vec<Series>, postgres::Error> {
    let sql = "WITH RECURSIVE each (label, agent, hour) AS (
            (SELECT h.label, h.agent, h.hour FROM pingeon.hour h
            WHERE greatest(h.up, h.degraded, h.down, h.unknown, h.missed) > 0
            ORDER BY h.label DESC, h.agent DESC, h.hour DESC LIMIT 1)
            UNION ALL SELECT next.* FROM each e CROSS JOIN LATERAL (SELECT h.label, h.agent, h.hour FROM pingeon.hour h
                WHERE (h.label, h.agent) < (e.label, e.agent)
                    AND greatest(h.up, h.degraded, h.down, h.unknown, h.missed) > 0
                ORDER BY h.label DESC, h.agent DESC, h.hour DESC LIMIT 1) next
        ) SELECT label, agent, hour, hour FROM each ORDER BY label, agent";
    gathered(session, sql, &[])
}

fn gathered(session: &mut Session, sql: &str, params: &[Param<'_>]) -> Result<Vec<Series>, postgres::Error> {
    let mut all: Vec<Series> = Vec::new();
    session.stream(sql, params, &mut |row| {
        let hour = |nth| row.try_get::<_, Option<Moment>>(nth);
        let hours = hour(2)?.zip(hour(3)?).map(|(first, last)| (first.0, last.0));
        let (label, agent) = (row.try_get(0)?, row.try_get(1)?);
        let last = all.last();
        let label = shared(label, last.map(|last| &last.label));
        let agent = shared(agent, last.map(|last| &last.agent));
        all.push(Series { label, agent, hours });
        Ok(())
    })?;
    Ok(all)
}

/// Of each of `series` the last rows, at most `most`, that were due in its hours and before `before`: in the order of label,
/// agent and `due_at`.
pub(super) fn latest(
    session: &mut Session,
    series: &[Series],
    before: Timestamp,
    most: u32,
) -> Result<Vec<Row>, postgres::Error> {
    let (mut labels, mut agents, mut firsts, mut ends) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for Series { label, agent, hours } in series {
        let Some((first, last)) = hours else { continue };
        labels.push(&**label);
        agents.push(&**agent);
        firsts.push(Id(first_uid(*first)));
        ends.push(Id(first_uid(last.plus(HOUR).min(before.plus(MILLISECOND)))));
    }
    let (Some(first), Some(end)) = (firsts.iter().min().copied(), ends.iter().max().copied()) else {
        return Ok(Vec::new());
    };
    // The bounds of all of them leave out days when the query is planned, those of each when it runs.
    let sql = "SELECT s.label, s.agent, l.due_at, l.interval_ms, l.verdict, l.duration_us, l.reason, l.told
        FROM unnest($1, $2, $3, $4) WITH ORDINALITY AS s (label, agent, first, beyond, nth)
        CROSS JOIN LATERAL (
            SELECT uid, due_at, interval_ms, verdict, duration_us, reason,
                CASE WHEN verdict = 'missed' THEN result::text ELSE result #>> '{run,starved_us}' END AS told
            FROM pingeon.log WHERE label = s.label AND agent = s.agent AND uid >= s.first AND uid < s.beyond
                AND uid >= $5 AND uid < $6 AND due_at < $7
            ORDER BY uid DESC LIMIT $8) l
        ORDER BY s.nth, l.uid";
    let (before, most) = (Moment(before), i64::from(most));
    let params: [Param<'_>; 8] = [
        (&labels, Type::TEXT_ARRAY),
        (&agents, Type::TEXT_ARRAY),
        (&firsts, Type::UUID_ARRAY),
        (&ends, Type::UUID_ARRAY),
        (&first, Type::UUID),
        (&end, Type::UUID),
        (&before, Type::TIMESTAMPTZ),
        (&most, Type::INT8),
    ];
    let mut rows: Vec<Row> = Vec::new();
    session.stream(sql, &params, &mut |columns| {
        rows.push(read(columns, rows.last())?);
        Ok(())
    })?;
    Ok(rows)
}

/// A row out of its columns, which are as those of [`latest`]. What repeats from one to the next is shared.
pub(super) fn read(columns: &postgres::Row, last: Option<&Row>) -> Result<Row, postgres::Error> {
    let word: &str = columns.try_get(4)?;
    let verdict = Verdict::ALL.into_iter().find(|verdict| verdict.name() == word);
    let reason: Option<&str> = columns.try_get(6)?;
    // Of one that was missed, its slots; of any other, how long it was starved.
    let told: Option<&str> = columns.try_get(7)?;
    let (missed, starved) = if verdict == Some(Verdict::Missed) { (told, None) } else { (None, told) };
    Ok(Row {
        label: shared(columns.try_get(0)?, last.map(|last| &last.label)),
        agent: shared(columns.try_get(1)?, last.map(|last| &last.agent)),
        due_at: columns.try_get::<_, Moment>(2)?.0,
        interval: Duration::from_millis(unsigned(columns.try_get(3)?)),
        // A word that is not ours is not taken for up or down.
        verdict: verdict.unwrap_or(Verdict::Unknown),
        duration_us: columns.try_get::<_, Option<i64>>(5)?.map(unsigned),
        starved_us: starved.and_then(|micros| micros.parse().ok()),
        reason: reason.map(|reason| shared(reason, last.and_then(|last| last.reason.as_ref()))),
        missed: missed.and_then(|result| serde_json::from_str::<Missed>(result).ok()),
    })
}

/// `text`, as the `last` one if it is the same.
pub(super) fn shared(text: &str, last: Option<&Arc<str>>) -> Arc<str> {
    match last {
        Some(last) if **last == *text => Arc::clone(last),
        _ => Arc::from(text),
    }
}
