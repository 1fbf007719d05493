//! What the store has after the agent stopped.

use std::io;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

/// What the store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Logs of checks that ran.
    pub logs: i64,
    /// Those of them that are neither up nor degraded.
    pub failed: i64,
    /// Slots that `missed` logs cover.
    pub missed: i64,
    /// Sequence numbers that no log has: what was accepted and is not in the store.
    pub lost: i64,
}

/// Reads it out of the database at `path`.
///
/// # Errors
/// When it is not a store.
pub fn read(path: &Path) -> io::Result<Kept> {
    let query = "
        SELECT count(*) FILTER (WHERE verdict <> 'missed'),
               count(*) FILTER (WHERE verdict IN ('down', 'unknown')),
               coalesce(sum(result ->> 'slots') FILTER (WHERE verdict = 'missed'), 0),
               max(seq) - count(DISTINCT seq)
        FROM log";
    let read = || {
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?.query_row(query, [], |row| {
            Ok(Kept { logs: row.get(0)?, failed: row.get(1)?, missed: row.get(2)?, lost: row.get(3)? })
        })
    };
    read().map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}
