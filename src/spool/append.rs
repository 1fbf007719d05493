//! One transaction of the writing end: forget what was handed on, make room, keep a group of logs.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Transaction, params};
use uuid::Uuid;

use super::thinner::{Thinner, Trace};
use super::{Accepted, BYTES_MIN, Shared};
use crate::check::Verdict;
use crate::clock::{Clock, Timestamp};
use crate::config::{self, WhenFull};
use crate::database::Database;
use crate::flow::Fault;
use crate::logs::{Author, Log};

/// What the write-ahead log may take of the spool's bound: a share of it, and at most this.
const WAL_BYTES_MAX: u64 = 8 * 1024 * 1024;
const WAL_SHARE: u64 = 8;
/// What one transaction may add, as a share of the bound, so that there is always something else to drop.
const GROUP_SHARE: u64 = 16;
/// Room is made for more than the group at hand, so that not every group has to: this share of the bound.
const ROOM_SHARE: u64 = 64;
/// Rows that are looked at before the room is measured again.
const SWEEP_ROWS: usize = 2_048;
/// Labels that are remembered, at most: those whose last slot is newest.
const LABELS_MAX: u32 = 100_000;
/// A slot that was kept before and lies this far ahead of the wall clock was due under another clock: slots are placed by the
/// steady clock, which may differ from the wall clock a little.
const CLOCK_NOISE: Duration = Duration::from_secs(1);

/// The database side of the writing end. Its memory of what the file holds moves on only when a transaction is on disk.
pub(super) struct Appender {
    pub database: Database,
    pub shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    when_full: WhenFull,
    bytes_max: u64,
    wal_max: u64,
    page_size: u64,
    boot: Uuid,
    next_seq: u64,
    next_id: i64,
    labels: HashMap<Arc<str>, Known>,
    thinner: Thinner,
    /// The JSON of the group on its way, and where each log of it ends.
    json: Vec<u8>,
    ends: Vec<usize>,
}

/// A label that was accepted before.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: i64,
    last_due: Timestamp,
}

/// What a transaction did beside appending.
#[derive(Default)]
struct Done {
    forgotten_to: i64,
    forgotten: usize,
    thinned: usize,
    oldest: usize,
}

/// Why a group is not kept.
enum Unkept {
    Sql(rusqlite::Error),
    Full,
}

impl From<rusqlite::Error> for Unkept {
    fn from(error: rusqlite::Error) -> Self {
        Unkept::Sql(error)
    }
}

impl fmt::Debug for Appender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appender").field("path", &self.database.path()).finish_non_exhaustive()
    }
}

impl Appender {
    pub fn new(
        database: Database,
        settings: &config::Spool,
        author: &Author,
        shared: Arc<Shared>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let bytes_max = settings.max_bytes.max(BYTES_MIN);
        let mut appender = Appender {
            database,
            shared,
            clock,
            when_full: settings.when_full,
            bytes_max,
            wal_max: (bytes_max / WAL_SHARE).min(WAL_BYTES_MAX),
            page_size: 4_096,
            boot: author.boot,
            next_seq: 1,
            next_id: 1,
            labels: HashMap::new(),
            thinner: Thinner::default(),
            json: Vec::new(),
            ends: Vec::new(),
        };
        match appender.load() {
            Ok(()) => Ok(appender),
            Err(error) => match appender.database.fault(&error) {
                Fault::Retry(reason) | Fault::Broken(reason) => Err(reason),
            },
        }
    }

    fn load(&mut self) -> rusqlite::Result<()> {
        let connection = &self.database.connection;
        self.page_size = pragma(connection, "page_size")?;
        // Half of what the log may take: a checkpoint waits for the reader to look away, and the log grows on meanwhile.
        let pages = self.wal_max / self.page_size / 2;
        connection.execute_batch(&format!(
            "PRAGMA wal_autocheckpoint = {pages}; PRAGMA journal_size_limit = {};
             DELETE FROM label WHERE id NOT IN (SELECT id FROM label ORDER BY last_due DESC LIMIT {LABELS_MAX})",
            self.wal_max
        ))?;
        let (boot, seq, depth) = connection.query_row("SELECT boot, seq, logs FROM tally", [], |row| {
            Ok((row.get_ref(0)?.as_blob()? == self.boot.as_bytes(), row.get::<_, u64>(1)?, row.get::<_, usize>(2)?))
        })?;
        self.next_seq = if boot { seq + 1 } else { 1 };
        self.next_id = connection.query_row("SELECT ifnull(max(id), 0) + 1 FROM log", [], |row| row.get(0))?;
        let mut statement = connection.prepare("SELECT name, id, last_due FROM label")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let known = Known { id: row.get(1)?, last_due: Timestamp::from_micros(row.get(2)?) };
            self.labels.insert(row.get::<_, String>(0)?.into(), known);
        }
        self.shared.count(depth, 0);
        self.shared.figures().bytes = used(connection, self.page_size)?;
        Ok(())
    }

    /// How large the spool may become.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// The last slot that was kept of each label.
    pub fn last_due(&self) -> HashMap<Arc<str>, Timestamp> {
        self.labels.iter().map(|(label, known)| (Arc::clone(label), known.last_due)).collect()
    }

    /// Keeps the first of `logs`, as many as one transaction may, and says how many: at least one. On an error none is kept.
    pub fn append(&mut self, logs: &[Log]) -> Result<usize, Fault> {
        let count = self.write_json(logs);
        let logs = &logs[..count];
        match self.transact(logs) {
            Ok(done) => {
                self.note(logs, &done);
                Ok(count)
            }
            Err(unkept) => {
                // What the sweep found may stand in rows that are back again.
                self.thinner = Thinner::default();
                match unkept {
                    Unkept::Sql(error) => Err(self.database.fault(&error)),
                    Unkept::Full => Err(Fault::Retry(format!(
                        "the spool `{}` is full: {} bytes",
                        self.database.path().display(),
                        self.bytes_max
                    ))),
                }
            }
        }
    }

    fn write_json(&mut self, logs: &[Log]) -> usize {
        self.json.clear();
        self.ends.clear();
        for (log, seq) in logs.iter().zip(self.next_seq..) {
            log.write_json(seq, &mut self.json);
            if self.json.len() as u64 > self.bytes_max / GROUP_SHARE && !self.ends.is_empty() {
                break;
            }
            self.ends.push(self.json.len());
        }
        self.ends.len()
    }

    fn transact(&mut self, logs: &[Log]) -> Result<Done, Unkept> {
        let transaction = self.database.begin()?;
        let mut done = Done { forgotten_to: self.shared.handover().committed, ..Done::default() };
        done.forgotten = transaction.prepare_cached("DELETE FROM log WHERE id <= ?")?.execute([done.forgotten_to])?;
        // A row takes its JSON, a few numbers, and its part of a page that is not quite full.
        let json_bytes = self.ends.last().copied().unwrap_or(0) as u64;
        let need = json_bytes + json_bytes / 8 + 64 * logs.len() as u64 + 16 * self.page_size;
        let most = (self.bytes_max - self.wal_max).saturating_sub(need);
        // While rows are dropped the reader stands still, until the disk has it.
        let mut _reader_waits = None;
        if used(&transaction, self.page_size)? > most {
            if self.when_full == WhenFull::Block {
                // What was handed on leaves all the same, or there would never be room.
                if done.forgotten > 0 {
                    count_and_commit(transaction, &self.boot, self.next_seq - 1, -signed(done.forgotten))?;
                    self.shared.handover().deleted = done.forgotten_to;
                }
                return Err(Unkept::Full);
            }
            let handover = self.shared.handover();
            let in_hand = handover.pulled.max(handover.committed);
            _reader_waits = Some(handover);
            let room =
                Room { page_size: self.page_size, most: most.saturating_sub(self.bytes_max / ROOM_SHARE), in_hand };
            if self.when_full == WhenFull::Thin {
                done.thinned = room.thin(&transaction, &mut self.thinner, done.forgotten_to)?;
            }
            done.oldest = room.drop_oldest(&transaction)?;
            if used(&transaction, self.page_size)? > most {
                return Err(Unkept::Full);
            }
        }
        let group = Group { logs, json: &self.json, ends: &self.ends, first_id: self.next_id };
        let wall = self.clock.now().wall;
        let labels = group.insert(&transaction, &self.labels, wall)?;
        let more = signed(logs.len()) - signed(done.forgotten + done.thinned + done.oldest);
        count_and_commit(transaction, &self.boot, self.next_seq - 1 + logs.len() as u64, more)?;
        drop(_reader_waits);
        self.labels.extend(labels);
        Ok(done)
    }

    /// What is on disk now is also remembered and shown.
    fn note(&mut self, logs: &[Log], done: &Done) {
        self.next_id += signed(logs.len());
        self.next_seq += logs.len() as u64;
        self.shared.handover().deleted = done.forgotten_to;
        let bytes = self.bytes_on_disk();
        let mut figures = self.shared.figures();
        let dropped = done.thinned + done.oldest;
        self.shared.count(logs.len(), dropped);
        if dropped > 0 && figures.dropped.is_empty() {
            log::warn!(
                "the spool `{}` is full ({} bytes): logs are dropped from now on, and counted",
                self.database.path().display(),
                self.bytes_max
            );
        }
        for (reason, count) in [("thinned", done.thinned), ("dropped_oldest", done.oldest)] {
            if count > 0 {
                *figures.dropped.entry(reason).or_default() += count as u64;
            }
        }
        figures.bytes = bytes;
        figures.last_commit_at = Some(self.clock.now().wall);
        if let Some(log) = logs.last() {
            figures.last_accepted = Some(Accepted { uid: log.uid, label: Arc::clone(&log.label), due_at: log.due_at });
        }
        drop(figures);
        // A word that is there already says the same.
        let _ = self.shared.fresh.0.try_send(());
    }

    /// Pages in use and the write-ahead log. A log that outgrew its share, behind a reader, is brought back.
    fn bytes_on_disk(&self) -> u64 {
        let wal = || {
            let mut path = self.database.path().as_os_str().to_owned();
            path.push("-wal");
            std::fs::metadata(path).map_or(0, |file| file.len())
        };
        let connection = &self.database.connection;
        if wal() > self.wal_max {
            // When the reader is just looking, the next group tries again.
            let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
        used(connection, self.page_size).unwrap_or(0) + wal()
    }
}

/// A group of logs on its way into the table.
struct Group<'a> {
    logs: &'a [Log],
    json: &'a [u8],
    /// Where the JSON of each log ends.
    ends: &'a [usize],
    first_id: i64,
}

impl Group<'_> {
    /// Adds the rows and moves the last slots on; what is known of the group's labels afterwards, when the clock shows `wall`.
    fn insert(
        &self,
        transaction: &Connection,
        labels: &HashMap<Arc<str>, Known>,
        wall: Timestamp,
    ) -> rusqlite::Result<HashMap<Arc<str>, Known>> {
        let mut insert = transaction.prepare_cached("INSERT INTO log (id, label, up, json) VALUES (?, ?, ?, ?)")?;
        let mut group: HashMap<Arc<str>, Known> = HashMap::new();
        let mut start = 0;
        for ((log, &end), id) in self.logs.iter().zip(self.ends).zip(self.first_id..) {
            let known = match group.get_mut(&log.label) {
                Some(known) => known,
                None => {
                    let known =
                        labels.get(&log.label).copied().map_or_else(|| remember(transaction, &log.label), Ok)?;
                    group.entry(Arc::clone(&log.label)).or_insert(known)
                }
            };
            known.last_due = later(known.last_due, last_slot(log), wall);
            insert.execute(params![id, known.id, log.verdict == Verdict::Up, &self.json[start..end]])?;
            start = end;
        }
        let mut update = transaction.prepare_cached("UPDATE label SET last_due = ? WHERE id = ?")?;
        for known in group.values() {
            update.execute(params![known.last_due.as_micros(), known.id])?;
        }
        Ok(group)
    }
}

/// What has to go.
struct Room {
    page_size: u64,
    /// Until the file is down to this.
    most: u64,
    /// Rows up to this id stay: the reader has them in its hand.
    in_hand: i64,
}

impl Room {
    /// Drops what says least, oldest first, until there is room or no more of it; how many.
    fn thin(&self, transaction: &Connection, thinner: &mut Thinner, gone: i64) -> rusqlite::Result<usize> {
        let mut next = transaction.prepare_cached("SELECT id, label, up FROM log WHERE id > ? ORDER BY id LIMIT ?")?;
        let mut delete = transaction.prepare_cached("DELETE FROM log WHERE id = ?")?;
        let (mut dropped, mut swept) = (0, thinner.resume(gone));
        loop {
            let rows = next
                .query_map(params![swept, SWEEP_ROWS], |row| {
                    Ok(Trace { id: row.get(0)?, label: row.get(1)?, up: row.get(2)? })
                })?
                .collect::<Result<Vec<_>, _>>()?;
            let Some(last) = rows.last() else { return Ok(dropped) };
            swept = last.id;
            for id in rows.into_iter().filter_map(|row| thinner.see(row)).filter(|&id| id > self.in_hand) {
                dropped += delete.execute([id])?;
            }
            if used(transaction, self.page_size)? <= self.most {
                return Ok(dropped);
            }
        }
    }

    /// Drops the oldest until there is room; how many.
    fn drop_oldest(&self, transaction: &Connection) -> rusqlite::Result<usize> {
        let mut delete = transaction.prepare_cached(
            "DELETE FROM log WHERE id > ?1 AND id <=
                 (SELECT max(id) FROM (SELECT id FROM log WHERE id > ?1 ORDER BY id LIMIT ?2))",
        )?;
        let mut dropped = 0;
        while used(transaction, self.page_size)? > self.most {
            match delete.execute(params![self.in_hand, SWEEP_ROWS / 8])? {
                0 => break,
                count => dropped += count,
            }
        }
        Ok(dropped)
    }
}

fn count_and_commit(transaction: Transaction<'_>, boot: &Uuid, seq: u64, more: i64) -> rusqlite::Result<()> {
    transaction.prepare_cached("UPDATE tally SET boot = ?, seq = ?, logs = logs + ?")?.execute(params![
        boot.as_bytes(),
        signed(usize::try_from(seq).unwrap_or(usize::MAX)),
        more
    ])?;
    transaction.commit()
}

fn remember(transaction: &Connection, label: &str) -> rusqlite::Result<Known> {
    let mut insert = transaction.prepare_cached("INSERT INTO label (name, last_due) VALUES (?, 0) RETURNING id")?;
    Ok(Known { id: insert.query_row([label], |row| row.get(0))?, last_due: Timestamp::default() })
}

/// The last slot that a log stands for.
fn last_slot(log: &Log) -> Timestamp {
    log.as_missed().map_or(log.due_at, |missed| missed.last_due_at.max(log.due_at))
}

/// The later of two slots, the second of which is kept now, when the clock shows `wall`. It may be the earlier one: a check's
/// own log comes after that of the slots that were missed while it ran.
fn later(before: Timestamp, now: Timestamp, wall: Timestamp) -> Timestamp {
    // Nothing that was kept is due yet, unless the clock was set back since. Without this, the next start would not see the
    // slots that it missed, until the clock has passed what it once showed.
    if before.since(wall) > CLOCK_NOISE { now } else { before.max(now) }
}

fn used(connection: &Connection, page_size: u64) -> rusqlite::Result<u64> {
    let pages = pragma(connection, "page_count")?;
    Ok(pages.saturating_sub(pragma(connection, "freelist_count")?) * page_size)
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    connection.prepare_cached(&format!("PRAGMA {name}"))?.query_row([], |row| row.get(0))
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
