//! As whom the servers run: where we are root as somebody else, since they refuse to be root.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use rustix::process::geteuid;

use crate::server::SET_UP;

const SERVANT: &str = "postgres";

/// What stands before a command that the servers' user is to run.
pub fn as_servant() -> Vec<OsString> {
    if !geteuid().is_root() {
        return Vec::new();
    }
    let words =
        ["setpriv".to_owned(), format!("--reuid={SERVANT}"), format!("--regid={SERVANT}"), "--init-groups".to_owned()];
    words.map(OsString::from).into()
}

/// Gives `path` to the servers' user.
pub fn give(path: &Path) {
    if geteuid().is_root() {
        let given = Command::new("chown").arg("-R").arg(format!("{SERVANT}:")).arg(path).status().unwrap();
        assert!(given.success(), "`{}` cannot be given to `{SERVANT}`: {SET_UP}", path.display());
    }
}
