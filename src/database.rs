//! An SQLite file of ours: opened, recognised, and its faults sorted by what the caller does about them.
//!
//! A file says what it is by its `application_id` and how new its schema is by its `user_version` (SQLite's file format,
//! section 1.3). A file that is something else, damaged, or newer than this build is refused and left as it is.

mod aside;

pub(crate) use aside::{Reject, Shelf, set_aside};

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use crate::flow::Fault;

/// How long a statement waits for another connection's write to end.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// What a file of ours is.
#[derive(Debug)]
pub(crate) struct Kind {
    /// For people.
    pub name: &'static str,
    /// The config's key that names the file, for hints.
    pub key: &'static str,
    /// What stands in its header.
    pub application_id: i32,
    /// What makes its schema, from nothing on; `user_version` counts how many have run.
    pub migrations: &'static [&'static str],
    /// Set before anything else on a new file.
    pub layout: &'static str,
}

/// What to do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Make it if need be, bring its schema up to date, write.
    Write,
    /// Only read, while others write.
    Read,
}

/// An open file of ours.
#[derive(Debug)]
pub(crate) struct Database {
    pub connection: Connection,
    kind: &'static Kind,
    path: PathBuf,
    /// Which file it is, so that one that was removed or replaced is not written on in the dark.
    identity: Option<(u64, u64)>,
}

impl Database {
    /// Opens the file at `path`, in write-ahead mode with every commit on disk before it returns. `cache_kib`: its page cache.
    pub fn open(path: &Path, kind: &'static Kind, access: Access, cache_kib: u32) -> Result<Self, String> {
        let flags = match access {
            Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
            Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
        };
        let (database, opened) = match Self::open_as(path, path, kind, access, flags, cache_kib) {
            Err(error) if access == Access::Read && needs_to_write(path, &error) => {
                let name = immutable(path);
                Self::open_as(path, &name, kind, access, flags | OpenFlags::SQLITE_OPEN_URI, cache_kib)
            }
            opened => opened,
        }
        .map_err(|error| explain(path, kind, &error))?;
        opened.map_err(|reason| format!("`{}` {reason}", path.display()))?;
        Ok(database)
    }

    fn open_as(
        path: &Path,
        name: &Path,
        kind: &'static Kind,
        access: Access,
        flags: OpenFlags,
        cache_kib: u32,
    ) -> rusqlite::Result<(Self, Result<(), String>)> {
        // No mutex: a connection belongs to one thread at a time, the borrow checker sees to it.
        let connection = Connection::open_with_flags(name, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        let mut database = Database { connection, kind, path: path.to_owned(), identity: None };
        let opened = database.set_up(access, cache_kib)?;
        // A new file is there only now.
        database.identity = identity(path).ok().flatten();
        Ok((database, opened))
    }

    fn set_up(&mut self, access: Access, cache_kib: u32) -> rusqlite::Result<Result<(), String>> {
        self.connection.busy_timeout(BUSY_WAIT)?;
        if let Err(reason) = self.recognise(access)? {
            return Ok(Err(reason));
        }
        // A negative size is in KiB. A mapped file would count as memory of this process, and end it on an I/O error.
        self.connection.execute_batch(&format!(
            "PRAGMA cache_size = -{cache_kib}; PRAGMA mmap_size = 0; PRAGMA temp_store = FILE"
        ))?;
        if access == Access::Write {
            self.connection.execute_batch(self.kind.layout)?;
            // Where SQLite can't, it keeps the mode that there was, and says so only here.
            let mode: String = self.connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
            if mode != "wal" {
                return Ok(Err(format!(
                    "can't have a write-ahead log where it is (SQLite's journal mode stays `{mode}`): let `{}` name a file on \
                     a local disk",
                    self.kind.key
                )));
            }
            self.connection.execute_batch("PRAGMA synchronous = FULL")?;
            self.migrate()?;
        }
        Ok(Ok(()))
    }

    /// Whether this is a file of the kind, or a new one.
    fn recognise(&self, access: Access) -> rusqlite::Result<Result<(), String>> {
        let number = |sql: &str| self.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let (id, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
        let Kind { name, key, application_id, migrations, .. } = self.kind;
        let known = migrations.len();
        if id != i64::from(*application_id) {
            let empty = id == 0 && version == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0;
            let reason = format!("is an SQLite file, but not a Pingeon {name}; name another file in `{key}`");
            return Ok(match access {
                Access::Write if empty => Ok(()),
                Access::Read if empty => Err("is empty: `pingeon run` fills it".to_owned()),
                _ => Err(reason),
            });
        }
        let newer = format!("was made by a newer Pingeon: schema {version}, and this build knows up to {known}");
        Ok(if usize::try_from(version).is_ok_and(|version| version <= known) { Ok(()) } else { Err(newer) })
    }

    fn migrate(&mut self) -> rusqlite::Result<()> {
        let Kind { application_id, migrations, .. } = self.kind;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: usize = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version == migrations.len() {
            return Ok(());
        }
        for migration in migrations.iter().skip(version) {
            transaction.execute_batch(migration)?;
        }
        let to = migrations.len();
        transaction.execute_batch(&format!("PRAGMA application_id = {application_id}; PRAGMA user_version = {to}"))?;
        transaction.commit()
    }

    /// Begins a transaction that may write from its start on, so that it never fails half-way for want of the lock. Fails
    /// when the file is not the one that was opened any more.
    pub fn begin(&mut self) -> rusqlite::Result<Transaction<'_>> {
        match identity(&self.path) {
            Ok(identity) if identity == self.identity => {}
            Ok(_) => return Err(rusqlite::Error::InvalidPath(self.path.clone())),
            // It may be back in a moment, as a disk that is mounted anew.
            Err(error) => {
                let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
                return Err(rusqlite::Error::SqliteFailure(code, Some(error.to_string())));
            }
        }
        self.connection.transaction_with_behavior(TransactionBehavior::Immediate)
    }

    /// Whether its schema is the newest that this build knows; one that is only read may be older.
    pub fn is_up_to_date(&self) -> rusqlite::Result<bool> {
        let version: usize = self.connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        Ok(version == self.kind.migrations.len())
    }

    /// `error` as a sentence.
    pub fn said(&self, error: &rusqlite::Error) -> String {
        explain(&self.path, self.kind, error)
    }

    /// What a caller does about `error`.
    pub fn fault(&self, error: &rusqlite::Error) -> Fault {
        sort(&self.path, self.kind, error)
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Device and inode; `None` where there is no file.
fn identity(path: &Path) -> std::io::Result<Option<(u64, u64)>> {
    match std::fs::metadata(path) {
        Ok(file) => Ok(Some((file.dev(), file.ino()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether reading failed only because the reader may not make the files beside it that reading needs while others write
/// (SQLite, "Write-Ahead Logging", section 5), and nobody does: there is no log.
fn needs_to_write(path: &Path, error: &rusqlite::Error) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    matches!(error.sqlite_error_code(), Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen))
        && path.is_file()
        && !Path::new(&log).exists()
}

/// The file as one that nobody changes (SQLite, "Uniform Resource Identifiers", section 3.3).
fn immutable(path: &Path) -> PathBuf {
    let mut name = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => name.push(char::from(*byte)),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    PathBuf::from(name + "?immutable=1")
}

/// Splits errors by whether the same may work later.
fn sort(path: &Path, kind: &Kind, error: &rusqlite::Error) -> Fault {
    let sentence = explain(path, kind, error);
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::CannotOpen
            | ErrorCode::OutOfMemory
            | ErrorCode::PermissionDenied
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::OperationInterrupted
            | ErrorCode::ReadOnly,
        ) => Fault::Retry(sentence),
        _ => Fault::Broken(sentence),
    }
}

/// The error as a sentence: which file, what, and what to do.
fn explain(path: &Path, kind: &Kind, error: &rusqlite::Error) -> String {
    let (name, shown) = (kind.name, path.display());
    if let rusqlite::Error::InvalidPath(_) = error {
        return format!(
            "the {name} `{shown}` was removed or replaced while it was open; a restart makes or takes a new one"
        );
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            format!("`{shown}` is not a Pingeon {name}; name another file in `{}`, or move this one away", kind.key)
        }
        Some(ErrorCode::DatabaseCorrupt) => format!(
            "the {name} `{shown}` is damaged ({}); move it away to go on with a new one, and try \
             `sqlite3 {shown} .recover` on it for what it still holds",
            Bare(error)
        ),
        Some(ErrorCode::DiskFull) => format!("no room left on the disk for the {name} `{shown}`"),
        Some(ErrorCode::CannotOpen) => match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
                format!("can't open the {name} `{shown}`: there is no directory `{}`", folder.display())
            }
            _ => format!("can't open the {name} `{shown}`: {}", Bare(error)),
        },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("the {name} `{shown}` is locked by another program")
        }
        _ => format!("the {name} `{shown}`: {}", Bare(error)),
    }
}

/// An error without the path that rusqlite adds to some of them.
struct Bare<'a>(&'a rusqlite::Error);

impl fmt::Display for Bare<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            rusqlite::Error::SqliteFailure(code, Some(message)) if code.code != ErrorCode::CannotOpen => {
                write!(f, "{message}")
            }
            rusqlite::Error::SqliteFailure(code, _) => write!(f, "{code}"),
            other => write!(f, "{other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAT: Kind =
        Kind { name: "cat", key: "cat.path", application_id: 7, migrations: &["CREATE TABLE cat (id)"], layout: "" };

    #[test]
    fn a_file_that_cannot_have_a_write_ahead_log_is_refused() {
        // Memory is the one place where SQLite never has one; some network file systems are others.
        let error = Database::open(Path::new(":memory:"), &CAT, Access::Write, 64).unwrap_err();
        let expect = "`:memory:` can't have a write-ahead log where it is (SQLite's journal mode stays `memory`): let \
                      `cat.path` name a file on a local disk";
        assert_eq!(error, expect);
    }

    #[test]
    fn a_file_that_nobody_writes_is_read_without_the_files_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a ?#%b.db");
        let written = Database::open(&path, &CAT, Access::Write, 64).unwrap();
        written.connection.execute_batch("INSERT INTO cat VALUES (9)").unwrap();
        drop(written);
        let denied = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        assert!(needs_to_write(&path, &denied(rusqlite::ffi::SQLITE_READONLY)));
        assert!(!needs_to_write(&path, &denied(rusqlite::ffi::SQLITE_FULL)));

        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let (read, known) = Database::open_as(&path, &immutable(&path), &CAT, Access::Read, flags, 64).unwrap();
        let id: i64 = read.connection.query_row("SELECT id FROM cat", [], |row| row.get(0)).unwrap();
        assert_eq!((known, id), (Ok(()), 9));

        std::fs::write(folder.path().join("a ?#%b.db-wal"), "x").unwrap();
        assert!(!needs_to_write(&path, &denied(rusqlite::ffi::SQLITE_READONLY)), "somebody writes");
    }
}
