//! A `pingeon run` under test, and how to wait for what it does.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long anything may take, on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `look` finds something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A folder for one service: its config, its spool and its store.
pub struct Place(TempDir);

impl Place {
    pub fn with(config: &str) -> Self {
        let place = Place(tempfile::tempdir().unwrap());
        place.configure(config);
        place
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn configure(&self, config: &str) {
        fs::write(self.path().join("pingeon.yaml"), config).unwrap();
    }

    /// Runs a command to its end.
    pub fn pingeon(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub fn run(&self) -> Service {
        self.start("run")
    }

    /// Starts a command that goes on.
    pub fn start(&self, command: &str) -> Service {
        Service::start(&mut self.command(&[command]))
    }

    /// What the store answers to `query`; nothing as long as there is no store.
    pub fn stored<T: rusqlite::types::FromSql>(&self, query: &str) -> Vec<T> {
        let ask = || -> rusqlite::Result<Vec<T>> {
            let path = self.path().join("pingeon.db");
            let store = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            store.busy_timeout(PATIENCE)?;
            store.prepare(query)?.query_map([], |row| row.get(0))?.collect()
        };
        ask().unwrap_or_default()
    }

    /// Without the environment's proxies, which checks would go through.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pingeon"));
        command.args(arguments).current_dir(self.path()).env_clear();
        command
    }
}

/// A `pingeon run` that goes on. Killed when dropped.
pub struct Service {
    child: Child,
    said: Receiver<String>,
    heard: Vec<String>,
}

impl Service {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (say, said) = channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
        Service { child, said, heard: Vec::new() }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for a line on standard error that holds `words`, and gives it.
    pub fn says(&mut self, words: &str) -> String {
        let end = Instant::now() + PATIENCE;
        while let Ok(line) = self.said.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.heard.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
        panic!("it never said `{words}`, but:\n{}", self.heard.join("\n"));
    }

    /// Waits until it ends; how it ended, after how long, and all that it said on standard error.
    pub fn ends(mut self) -> (ExitStatus, Duration, String) {
        let begin = Instant::now();
        let status = wait_for("`pingeon run` to end", || self.child.try_wait().unwrap());
        let took = begin.elapsed();
        self.heard.extend(self.said.iter());
        (status, took, self.heard.join("\n"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
