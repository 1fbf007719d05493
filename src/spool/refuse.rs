//! What nobody will take: set aside in the spool's own file, the newest of it, for a person to look at.

use rusqlite::{Connection, params};

use crate::clock::Timestamp;

/// How many are kept.
const REFUSED_ROWS_MAX: i64 = 1_000;
/// What one of them may take; the rest is cut off.
const REFUSED_BYTES_MAX: usize = 64 * 1024;

/// Sets `bytes` aside, and drops the oldest that are too many or, together, take more than `total_max`.
pub(super) fn set_aside(
    transaction: &Connection,
    at: Timestamp,
    (bytes, origin, reason): (&[u8], &str, &str),
    total_max: u64,
) -> rusqlite::Result<()> {
    let total_max = usize::try_from(total_max).unwrap_or(usize::MAX);
    let kept = &bytes[..bytes.len().min(REFUSED_BYTES_MAX).min(total_max)];
    transaction.execute(
        "INSERT INTO refused (at, origin, reason, bytes) VALUES (?, ?, ?, ?)",
        params![at.as_micros(), origin, reason, kept],
    )?;
    transaction.execute("DELETE FROM refused WHERE id <= (SELECT max(id) FROM refused) - ?", [REFUSED_ROWS_MAX])?;
    transaction.execute(
        "DELETE FROM refused WHERE id <= (SELECT max(id) FROM (
             SELECT id, sum(length(bytes)) OVER (ORDER BY id DESC) AS takes FROM refused) WHERE takes > ?)",
        [i64::try_from(total_max).unwrap_or(i64::MAX)],
    )?;
    Ok(())
}
