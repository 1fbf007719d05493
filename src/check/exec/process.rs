//! A plugin's process: started, listened to, and ended with all that it started.
//!
//! It gets nothing of the agent's: a process group of its own, `/` as its working directory, `/dev/null` to read, two pipes to
//! print to, a clean environment, and no other descriptor of ours (all of them close on exec). User, umask and limits are the
//! agent's, and so are signals that it was started to ignore and descriptors that whoever started it left open: no safe call
//! takes these away. systemd leaves none.
//!
//! Once it has ended or the deadline has come, its whole process group gets SIGKILL, which leaves nothing in there to outlive
//! the check or to keep a pipe open. The group's number cannot mean anybody else by then: it is that of the plugin's process,
//! which is not yet waited for. What it started in a session of its own lives on, and holds nothing up.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process_group, pidfd_open, waitpid};

use super::Exec;
use crate::check::Phase;
use crate::jobs;
use crate::net::Course;

/// So much of what it prints is kept; the rest is read and forgotten, so that it does not block.
const STDOUT_BYTES_MAX: usize = 64 * 1024;
/// The same of standard error.
const STDERR_BYTES_MAX: usize = 4 * 1024;
/// How much is read at once.
const READ_BYTES: usize = 16 * 1024;
/// Reads of one pipe after the plugin has ended: what the largest pipe holds (pipe(7)). Who still writes then is not its own.
const LAST_READS_MAX: usize = 1024 * 1024 / READ_BYTES;
/// How long a process that was killed may take to end before it is left to a thread.
const DYING: Duration = Duration::from_millis(30);
/// Processes that were killed and do not end, as one does that waits in the kernel for a dead file server: with so many, no
/// other plugin is started.
const UNENDED_MAX: usize = 64;
/// The stack of the thread that waits for one of those.
const STACK: usize = 64 * 1024;

/// How many there are of those.
static UNENDED: AtomicUsize = AtomicUsize::new(0);

/// How a plugin ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By itself, with this exit code.
    Exited(i32),
    /// By this signal, which was not ours.
    Killed(i32),
    /// Not before the deadline: it was killed.
    Late,
}

/// What a plugin printed.
#[derive(Debug)]
pub(super) struct Printed {
    pub(super) stdout: Pipe,
    pub(super) stderr: Pipe,
}

impl Printed {
    pub(super) fn is_empty(&self) -> bool {
        self.stdout.bytes.is_empty() && self.stderr.bytes.is_empty()
    }
}

/// One end of a pipe, and what has come out of it.
#[derive(Debug)]
pub(super) struct Pipe {
    /// `None` once the other end is closed.
    file: Option<File>,
    bytes_max: usize,
    pub(super) bytes: Vec<u8>,
    /// More than `bytes_max` came.
    pub(super) cut: bool,
}

impl Pipe {
    fn new(end: Option<impl Into<OwnedFd>>, bytes_max: usize) -> Self {
        Pipe { file: end.map(|end| File::from(end.into())), bytes_max, bytes: Vec::new(), cut: false }
    }

    fn watched(&self) -> Option<PollFd<'_>> {
        self.file.as_ref().map(|file| PollFd::new(file, PollFlags::IN))
    }

    /// Reads once; to be called when there is something to read, so that it does not wait.
    fn take_in(&mut self) {
        let Some(file) = &mut self.file else { return };
        let mut chunk = [0; READ_BYTES];
        match file.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => self.file = None,
            Ok(read) => {
                let room = self.bytes_max - self.bytes.len();
                self.bytes.extend_from_slice(&chunk[..read.min(room)]);
                self.cut |= read > room;
            }
        }
    }

    /// Takes in what is there by now.
    fn take_in_rest(&mut self) {
        for _ in 0..LAST_READS_MAX {
            if !matches!(ready([self.watched()], Duration::ZERO), Ok([true])) {
                return;
            }
            self.take_in();
        }
    }
}

/// Runs it until it ends, or until the deadline. An error says why nothing can be known of it.
pub(super) fn run(exec: &Exec, course: &mut Course) -> Result<(Printed, End), String> {
    course.enter(Phase::FirstByte);
    let (mut plugin, mut printed) = Plugin::start(exec, UNENDED.load(Relaxed))?;
    let ended = plugin.listen(&mut printed, course).map_err(|errno| format!("cannot wait for the plugin: {errno}"))?;
    course.leave();
    let status = plugin.close();
    printed.stdout.take_in_rest();
    printed.stderr.take_in_rest();
    let end = match status? {
        _ if !ended => End::Late,
        None => End::Late,
        Some(status) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => End::Exited(code),
            (None, signal) => End::Killed(signal.unwrap_or_default()),
        },
    };
    Ok((printed, end))
}

/// A plugin's process, which is ended when this is dropped.
struct Plugin {
    pid: Pid,
    /// Readable once the process has ended (pidfd_open(2)).
    pidfd: OwnedFd,
    closed: bool,
}

impl Plugin {
    fn start(exec: &Exec, unended: usize) -> Result<(Self, Printed), String> {
        if unended >= UNENDED_MAX {
            return Err(format!("{UNENDED_MAX} plugins that were killed are stuck in the kernel; no more are started"));
        }
        let program = find(exec)?;
        let child = Command::new(&program)
            .args(exec.arguments.iter().map(|argument| argument.expose()))
            .env_clear()
            .envs(exec.environment())
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| why_not(&program, &error))?;
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| {
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = reap(pid);
            format!("cannot watch the plugin (pidfd_open, Linux 5.3): {errno}")
        })?;
        let stdout = Pipe::new(child.stdout, STDOUT_BYTES_MAX);
        let stderr = Pipe::new(child.stderr, STDERR_BYTES_MAX);
        Ok((Plugin { pid, pidfd, closed: false }, Printed { stdout, stderr }))
    }

    fn watched(&self) -> Option<PollFd<'_>> {
        Some(PollFd::new(&self.pidfd, PollFlags::IN))
    }

    /// Takes in what it prints until it ends; whether it did, before the deadline.
    fn listen(&self, printed: &mut Printed, course: &mut Course) -> rustix::io::Result<bool> {
        let Printed { stdout, stderr } = printed;
        loop {
            let left = course.deadline().saturating_duration_since(Instant::now());
            let [ended, out, err] = ready([self.watched(), stdout.watched(), stderr.watched()], left)?;
            for (pipe, _) in [(&mut *stdout, out), (stderr, err)].into_iter().filter(|(_, ready)| *ready) {
                pipe.take_in();
                if !pipe.bytes.is_empty() {
                    course.enter(Phase::Body);
                }
            }
            if ended || left.is_zero() {
                return Ok(ended);
            }
        }
    }

    /// Kills all of its group, and lets the process go; how it ended. `None`: it has not, though it was killed, and a thread
    /// waits for it from now on.
    fn close(&mut self) -> Result<Option<WaitStatus>, String> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(None);
        }
        // Should that not be permitted (it has become another user), it is one more that does not end.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let by = Instant::now() + DYING;
        loop {
            let left = by.saturating_duration_since(Instant::now());
            match ready([self.watched()], left) {
                Ok([false]) if !left.is_zero() => {}
                Ok([false]) => {
                    leave(self.pid);
                    return Ok(None);
                }
                Ok([true]) | Err(_) => {
                    let lost = |errno| format!("cannot tell how the plugin ended: {errno}");
                    return reap(self.pid).map(Some).map_err(lost);
                }
            }
        }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

/// Leaves a process that does not end to a thread, so that it is no zombie once it has.
fn leave(pid: Pid) {
    log::warn!("a plugin was killed and does not end: process {pid} is stuck in the kernel", pid = pid.as_raw_pid());
    UNENDED.fetch_add(1, Relaxed);
    let wait = move || {
        let _ = reap(pid);
        UNENDED.fetch_sub(1, Relaxed);
    };
    if jobs::start_detached("reaper", STACK, wait).is_err() {
        // Without a thread it is waited for here: late is better than never.
        wait();
    }
}

/// Waits for the process, which is gone afterwards.
fn reap(pid: Pid) -> rustix::io::Result<WaitStatus> {
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(status),
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Which of `watched` have something for us, be it their end; none when `most` has passed.
fn ready<const N: usize>(watched: [Option<PollFd<'_>>; N], most: Duration) -> rustix::io::Result<[bool; N]> {
    let present = watched.each_ref().map(Option::is_some);
    let mut fds: Vec<PollFd<'_>> = watched.into_iter().flatten().collect();
    let most = Timespec { tv_sec: most.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: most.subsec_nanos().into() };
    match poll(&mut fds, Some(&most)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno),
    }
    let mut answers = fds.iter().map(|fd| !fd.revents().is_empty());
    Ok(present.map(|present| present && answers.next().unwrap_or(false)))
}

/// The program: where it is not a path, the first executable of that name in its `PATH`.
fn find(exec: &Exec) -> Result<PathBuf, String> {
    if exec.program.is_absolute() {
        return Ok(exec.program.clone());
    }
    let path = exec.environment().filter(|(name, _)| *name == "PATH").last().map_or("", |(_, path)| path);
    let mut places = std::env::split_paths(path).filter(|place| place.is_absolute());
    let executable =
        |file: &PathBuf| file.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    let found = places.find_map(|place| Some(place.join(&exec.program)).filter(executable));
    found.ok_or_else(|| format!("there is no program `{}` in `{path}`", exec.program.display()))
}

/// Why it did not start, in words for people.
fn why_not(program: &Path, error: &io::Error) -> String {
    let shown = program.display();
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) if program.exists() => format!("the interpreter that `{shown}` names is not there"),
        Some(Errno::NOENT | Errno::NOTDIR) => format!("there is no program `{shown}`"),
        Some(Errno::ACCESS | Errno::PERM) if program.is_dir() => format!("`{shown}` is a directory"),
        Some(Errno::ACCESS | Errno::PERM) => format!("this agent is not permitted to run `{shown}`"),
        Some(Errno::NOEXEC) => format!("`{shown}` is neither a program nor a script that begins with `#!`"),
        Some(Errno::TXTBSY) => format!("`{shown}` is being written to"),
        Some(Errno::TOOBIG) => format!("the arguments and the environment of `{shown}` are too long"),
        Some(Errno::AGAIN | Errno::NOMEM) => "this agent has no process left to start".to_owned(),
        Some(Errno::MFILE | Errno::NFILE) => {
            "this agent has no file descriptors left; raise its limit (`ulimit -n`)".to_owned()
        }
        _ => format!("cannot start `{shown}`: {error}"),
    }
}

/// A signal's name, where it has one that people know.
pub(super) fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        31 => "SIGSYS",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_does_not_end_is_counted_until_it_does_and_leaves_no_zombie() {
        // It ends when its input does.
        let mut stuck = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap();
        leave(Pid::from_child(&stuck));
        assert_eq!(UNENDED.load(Relaxed), 1);
        drop(stuck.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(20);
        while UNENDED.load(Relaxed) > 0 {
            assert!(Instant::now() < deadline, "nobody waits for it");
            std::thread::yield_now();
        }
        assert!(stuck.try_wait().is_err(), "nobody has waited for it");
    }

    #[test]
    fn with_too_many_of_them_no_more_are_started() {
        let exec = Exec { program: "true".into(), arguments: Vec::new(), env: Vec::new() };
        assert!(Plugin::start(&exec, UNENDED_MAX - 1).is_ok());
        let refused = Plugin::start(&exec, UNENDED_MAX).err().unwrap();
        assert_eq!(refused, "64 plugins that were killed are stuck in the kernel; no more are started");
    }
}
