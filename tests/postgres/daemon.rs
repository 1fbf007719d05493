//! A server's process: its start, its end, and as whom it runs.
//!
//! It is a child of a shell that waits for us: when this process ends, in whatever way, the shell's standard input closes and
//! it ends the server; when the shell is killed, the server ends by itself (`PR_SET_PDEATHSIG`, prctl(2)). The shell stands
//! between because that signal comes with the end of the *thread* that started the child, and every test is a thread.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::geteuid;

/// Whom the servers run as where we are root, since they refuse to be root.
const SERVANT: &str = "postgres";

/// `$1`: the signal that ends it; `$2`: what to remove when all is over, or nothing; `$3`: where its words go; then the server's
/// command. A signal by name on standard input ends the server, too, and leaves all there.
const KEEPER: &str = r#"
trap '' INT HUP
signal=$1 remove=$2 log=$3; shift 3
"$@" >>"$log" 2>&1 </dev/null &
echo $!
read -r word
kill -s "${word:-$signal}" $! 2>/dev/null
wait
[ -n "$word" ] || [ -z "$remove" ] || rm -rf -- "$remove"
"#;

/// How much of a server's own words a failing test shows.
const WORDS_SHOWN_MAX: usize = 4000;

/// What ends a server at once.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// Ends Postgres as a crash does, but with its children (its manual, "Shutting Down the Server").
    Quit,
    /// For what has no children.
    Kill,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            End::Quit => "QUIT",
            End::Kill => "KILL",
        }
    }
}

/// A server that runs.
pub struct Daemon {
    keeper: Child,
    server: u32,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command`; what it says goes to the end of `log`. `end` ends it with this process; then `remove` is removed.
    pub fn start(command: &[OsString], end: End, log: &Path, remove: Option<&Path>) -> Self {
        Daemon::start_within(&[], command, end, log, remove)
    }

    /// The same, with these words before the command.
    pub fn start_within(
        before: &[OsString],
        command: &[OsString],
        end: End,
        log: &Path,
        remove: Option<&Path>,
    ) -> Self {
        let mut keeper = Command::new("/bin/sh");
        keeper.args(["-c", KEEPER, "keeper", end.name()]).arg(remove.unwrap_or(Path::new(""))).arg(log);
        keeper.args(before).args(as_servant()).args(["--pdeathsig", end.name()]).args(command);
        let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut pid = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        Daemon { keeper, server: pid.trim().parse().unwrap(), log: log.to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.server
    }

    pub fn runs(&self) -> bool {
        // What has ended is a zombie until the shell looks (proc_pid_stat(5)).
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.server)).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
    }

    /// Sends it the signal of this name (`INT`), waits until it has ended, and removes nothing.
    pub fn end(mut self, signal: &str) {
        writeln!(self.keeper.stdin.as_mut().unwrap(), "{signal}").unwrap();
    }

    /// The last of what it said.
    pub fn words(&self) -> String {
        let said = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&said[said.len().saturating_sub(WORDS_SHOWN_MAX)..]).into_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// What stands before a command that the servers' user is to run.
pub fn as_servant() -> Vec<OsString> {
    let mut words = vec!["setpriv".to_owned()];
    if geteuid().is_root() {
        words.extend([format!("--reuid={SERVANT}"), format!("--regid={SERVANT}"), "--init-groups".to_owned()]);
    }
    words.into_iter().map(OsString::from).collect()
}

/// Gives `path` to the servers' user.
pub fn give(path: &Path) {
    if geteuid().is_root() {
        let given = Command::new("chown").arg("-R").arg(format!("{SERVANT}:")).arg(path).status().unwrap();
        assert!(given.success(), "`{}` cannot be given to `{SERVANT}`: {}", path.display(), crate::server::SET_UP);
    }
}
