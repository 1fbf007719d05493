//! What nobody will take, set aside in a table of the file at hand for a person to look at: the newest of it.

use std::borrow::Cow;

use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::flow::Unreadable;

/// How many rows such a table keeps.
const ROWS_MAX: i64 = 1_000;
/// What one of them may take; the rest is cut off.
const BYTES_MAX: usize = 64 * 1024;

/// A table for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shelf {
    /// Its name.
    pub table: &'static str,
    /// Whether it tells whose a log was, in `agent`, `boot` and `seq`.
    pub by_run: bool,
}

/// Something that is set aside.
#[derive(Debug)]
pub(crate) struct Reject<'a> {
    /// As it came.
    pub bytes: Cow<'a, [u8]>,
    /// Where it came from. Where the table holds each origin once, what comes again is known by it.
    pub origin: Cow<'a, str>,
    /// Why.
    pub reason: &'a str,
    /// Whose log it is, where it could be read as one: agent, boot and seq.
    pub run: Option<(&'a str, Uuid, u64)>,
}

impl<'a> From<&'a Unreadable> for Reject<'a> {
    fn from(Unreadable { bytes, origin, reason }: &'a Unreadable) -> Self {
        Reject { bytes: bytes.into(), origin: origin.into(), reason, run: None }
    }
}

/// Sets `rejects` aside on `shelf`, but for those that it has; how many that were. Then drops the oldest rows that are too
/// many or, together, take more than `total_max` bytes.
pub(crate) fn set_aside(
    transaction: &Connection,
    Shelf { table, by_run }: Shelf,
    at: Timestamp,
    rejects: &[Reject<'_>],
    total_max: u64,
) -> rusqlite::Result<usize> {
    if rejects.is_empty() {
        return Ok(0);
    }
    let most = BYTES_MAX.min(usize::try_from(total_max).unwrap_or(usize::MAX));
    let (columns, values) = if by_run { (", agent, boot, seq", ", ?, ?, ?") } else { ("", "") };
    let mut insert = transaction.prepare_cached(&format!(
        "INSERT INTO {table} (at, origin, reason, bytes{columns}) VALUES (?, ?, ?, ?{values}) ON CONFLICT DO NOTHING"
    ))?;
    let mut new = 0;
    for Reject { bytes, origin, reason, run } in rejects {
        let (at, bytes) = (at.as_micros(), &bytes[..bytes.len().min(most)]);
        let (agent, boot, seq) = (run.map(|run| run.0), run.map(|run| run.1.into_bytes()), run.map(|run| run.2));
        new += if by_run {
            insert.execute(params![at, origin, reason, bytes, agent, boot, seq])?
        } else {
            insert.execute(params![at, origin, reason, bytes])?
        };
    }
    transaction
        .prepare_cached(&format!(
            "DELETE FROM {table} WHERE id <= (SELECT max(id) FROM (
                 SELECT id, count(*) OVER newer AS nth, sum(length(bytes)) OVER newer AS takes FROM {table}
                 WINDOW newer AS (ORDER BY id DESC)) WHERE nth > ? OR takes > ?)"
        ))?
        .execute(params![ROWS_MAX, i64::try_from(total_max).unwrap_or(i64::MAX)])?;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reject(origin: usize, bytes: &[u8]) -> Reject<'_> {
        Reject { bytes: bytes.into(), origin: origin.to_string().into(), reason: "odd", run: None }
    }

    #[test]
    fn the_newest_is_kept_within_both_bounds_and_what_comes_again_is_known() {
        let connection = Connection::open_in_memory().unwrap();
        let table =
            "CREATE TABLE shelf (id INTEGER PRIMARY KEY, at INTEGER, origin TEXT UNIQUE, reason TEXT, bytes BLOB)";
        connection.execute_batch(table).unwrap();
        let put = |rejects: &[Reject<'_>]| {
            let new = set_aside(
                &connection,
                Shelf { table: "shelf", by_run: false },
                Timestamp::default(),
                rejects,
                1_000_000,
            )
            .unwrap();
            let sql = "SELECT count(*), min(origin + 0), max(origin + 0), max(length(bytes)) FROM shelf";
            connection.query_row(sql, [], |row| Ok((new, row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap()
        };
        let small: Vec<_> = (1..=1_010).map(|n| reject(n, b"x")).collect();
        assert_eq!(put(&small[..5]), (5, 5, 1, 5, 1));
        assert_eq!(put(&small), (1_005, 1_000, 11, 1_010, 1));
        // Fifteen of 64 KiB are less than a million bytes.
        let large = [b'x'; 200_000];
        assert_eq!(
            put(&(2_001..=2_030).map(|n| reject(n, &large)).collect::<Vec<_>>()),
            (30, 15, 2_016, 2_030, 65_536)
        );
        assert_eq!(put(&[]), (0, 15, 2_016, 2_030, 65_536));
    }
}
