//! What is past the retention goes: logs, their roll-ups, and what was counted before it.

use rusqlite::{Connection, ToSql, params};

use super::Sqlite;
use crate::clock::Timestamp;
use crate::flow::Fault;
use crate::store::rollup::HOUR;
use crate::store::{Condition, Keep, Kept, first_uid};

/// Rows that one transaction deletes, and how many of these one call does.
const CHUNK: usize = 1_000;
const CHUNKS_MAX: usize = 20;
/// Free pages that are given back to the disk after each chunk.
const SHRINK_PAGES: usize = 500;

/// A missed range stays until its end is past the retention: reports of what is kept ask for it.
pub(super) const DELETE_LOGS: &str = "DELETE FROM log WHERE uid IN (SELECT uid FROM log WHERE uid < ?
    AND iif(verdict = 'missed', coalesce(result ->> 'last_due_at', '') < ?, TRUE) ORDER BY uid LIMIT ?)";
pub(super) const DELETE_HOURS: &str = "DELETE FROM hour WHERE (hour, label, agent) IN
    (SELECT hour, label, agent FROM hour WHERE hour < ? ORDER BY hour LIMIT ?)";

impl Keep for Sqlite {
    fn keep(&mut self, now: Timestamp) -> Result<Kept, Fault> {
        self.round(now).map_err(|error| self.database.fault(&error))
    }
}

impl Sqlite {
    fn round(&mut self, now: Timestamp) -> rusqlite::Result<Kept> {
        let oldest = now.minus(self.retention);
        let (uid, text, hour) = (first_uid(oldest), oldest.to_string(), oldest.minus(HOUR).as_micros());
        let mut chunks_left = CHUNKS_MAX;
        let deleted = self.delete(DELETE_LOGS, params![uid.as_bytes(), text, CHUNK], oldest, &mut chunks_left)?;
        self.delete(DELETE_HOURS, params![hour, CHUNK], oldest, &mut chunks_left)?;
        let more = chunks_left == 0;
        if !more {
            self.round_off(oldest, now)?;
        }
        let condition = condition(&self.database.connection)?;
        Ok(Kept { deleted, dropped: Vec::new(), more, condition, fault: None })
    }

    /// Deletes by `sql` until there is no full chunk left to delete or no transaction left to do it in; how many rows.
    fn delete(
        &mut self,
        sql: &str,
        params: &[&dyn ToSql],
        oldest: Timestamp,
        chunks_left: &mut usize,
    ) -> rusqlite::Result<u64> {
        let mut deleted = 0;
        while *chunks_left > 0 {
            let transaction = self.database.begin()?;
            let count = transaction.prepare_cached(sql)?.execute(params)?;
            if count > 0 {
                let note = "UPDATE retention SET forgotten = max(forgotten, ?)";
                transaction.prepare_cached(note)?.execute([oldest.as_micros()])?;
                // Each step of this pragma frees one page.
                let mut shrink = transaction.prepare(&format!("PRAGMA incremental_vacuum({SHRINK_PAGES})"))?;
                let mut freed = shrink.query([])?;
                while freed.next()?.is_some() {}
            }
            transaction.commit()?;
            deleted += count as u64;
            if count < CHUNK {
                break;
            }
            *chunks_left -= 1;
        }
        Ok(deleted)
    }

    fn round_off(&mut self, oldest: Timestamp, now: Timestamp) -> rusqlite::Result<()> {
        let transaction = self.database.begin()?;
        transaction.execute("DELETE FROM duplicate WHERE at < ?", [oldest.as_micros()])?;
        transaction.execute("UPDATE retention SET ran_at = ?", [now.as_micros()])?;
        transaction.commit()
    }
}

fn condition(connection: &Connection) -> rusqlite::Result<Condition> {
    let sql =
        "SELECT (SELECT due_at FROM log ORDER BY uid LIMIT 1), (SELECT due_at FROM log ORDER BY uid DESC LIMIT 1),
        (SELECT count(*) FROM rejected), ran_at FROM retention";
    let day = |micros: Option<i64>| {
        micros.map(|micros| Timestamp::from_micros(micros).to_string().chars().take_while(|c| *c != 'T').collect())
    };
    connection.query_row(sql, [], |row| {
        Ok(Condition {
            days_ahead: None,
            oldest_day: day(row.get(0)?),
            newest_day: day(row.get(1)?),
            rejected: row.get(2)?,
            retained_at: row.get::<_, Option<i64>>(3)?.map(Timestamp::from_micros),
        })
    })
}
