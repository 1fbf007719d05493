//! One process a spool: a lock on a file beside it, which the system lets go of when the process ends, however it ends.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// Held until dropped. The file stays: to delete it would race with the next who locks it.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "it is held, never read")] File);

impl Lock {
    /// Takes the lock of the spool at `path`.
    pub fn take(path: &Path) -> Result<Self, String> {
        let mut beside = OsString::from(path);
        beside.push(".lock");
        let beside = PathBuf::from(beside);
        let cant = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => format!("the folder of the spool `{}` does not exist", path.display()),
            _ => format!("can't lock the spool `{}` by `{}`: {error}", path.display(), beside.display()),
        };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&beside).map_err(cant)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // Whoever has the lock wrote its number first; without one the message is still right.
                let _ = (&mut file).take(20).read_to_string(&mut owner);
                let owner = if owner.trim().is_empty() { String::new() } else { format!(" (pid {})", owner.trim()) };
                return Err(format!("`{}` is in use by another pingeon{owner}", path.display()));
            }
            Err(TryLockError::Error(error)) => return Err(cant(error)),
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(cant)?;
        Ok(Lock(file))
    }
}
