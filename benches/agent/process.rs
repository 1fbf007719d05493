//! The two processes of the bench: the agent that is measured and the target that it checks, and what proc(5) says of them.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long the agent may take to stop before it counts as stuck.
const STOP_MAX: Duration = Duration::from_secs(60);

/// A `pingeon run` that goes on in the background. Killed when dropped.
pub struct Agent(Child);

impl Agent {
    /// Starts it in `folder`, which holds its `pingeon.yaml`; what it says goes to `agent.log` there.
    ///
    /// # Errors
    /// What the system refused.
    pub fn start(folder: &Path) -> io::Result<Self> {
        Self::start_as("run", folder)
    }

    /// Likewise, by another command.
    ///
    /// # Errors
    /// What the system refused.
    pub fn start_as(command: &str, folder: &Path) -> io::Result<Self> {
        let said = File::create(folder.join("agent.log"))?;
        Command::new(env!("CARGO_BIN_EXE_pingeon"))
            .args([command, "--config", "pingeon.yaml"])
            .current_dir(folder)
            .env_clear() // no proxy
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()
            .map(Agent)
    }

    /// Lets it run for `time`.
    ///
    /// # Errors
    /// When it ends before.
    pub fn let_run(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if let Some(status) = self.0.try_wait()? {
                return Err(io::Error::other(format!("`pingeon run` ended too early: {status}")));
            }
            std::thread::sleep(end.saturating_duration_since(Instant::now()).min(Duration::from_millis(500)));
        }
        Ok(())
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// What proc(5) says of it.
    ///
    /// # Errors
    /// When it is gone.
    pub fn usage(&self) -> io::Result<Usage> {
        usage(self.0.id())
    }

    /// Asks it to stop, as a service manager does, and waits for that.
    ///
    /// # Errors
    /// When it does not within [`STOP_MAX`].
    pub fn stop(mut self) -> io::Result<(ExitStatus, Duration)> {
        let asked = Instant::now();
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        while asked.elapsed() < STOP_MAX {
            if let Some(status) = self.0.try_wait()? {
                return Ok((status, asked.elapsed()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(io::Error::other(format!("`pingeon run` did not stop within {STOP_MAX:?}")))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The least that can be: this same program once more. Killed when dropped.
pub struct Floor(Child);

impl Floor {
    /// Starts it with the arguments that make this program one.
    ///
    /// # Errors
    /// What the system refused.
    pub fn start(arguments: &[String]) -> io::Result<Self> {
        Command::new(std::env::current_exe()?).args(arguments).stdin(Stdio::piped()).spawn().map(Floor)
    }

    /// Lets it run for `time`.
    ///
    /// # Errors
    /// When it ends before.
    pub fn let_run(&mut self, time: Duration) -> io::Result<()> {
        std::thread::sleep(time);
        match self.0.try_wait()? {
            Some(status) => Err(io::Error::other(format!("the floor ended too early: {status}"))),
            None => Ok(()),
        }
    }

    /// What proc(5) says of it.
    ///
    /// # Errors
    /// When it is gone.
    pub fn usage(&self) -> io::Result<Usage> {
        usage(self.0.id())
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The target server: this same program once more. Killed when dropped.
pub struct Target {
    child: Child,
    said: BufReader<ChildStdout>,
    /// Where it listens, on each of its addresses.
    pub port: u16,
}

impl Target {
    /// Starts it with the arguments that make this program a target.
    ///
    /// # Errors
    /// What the system refused.
    pub fn start(arguments: &[String]) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = BufReader::new(child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
        let mut port = String::new();
        said.read_line(&mut port)?;
        let port = port.trim().parse().map_err(|_| io::Error::other("the target server did not start"))?;
        Ok(Target { child, said, port })
    }

    /// What proc(5) says of it.
    ///
    /// # Errors
    /// When it is gone.
    pub fn usage(&self) -> io::Result<Usage> {
        usage(self.child.id())
    }

    /// Stops it; for each check, when its connections came.
    ///
    /// # Errors
    /// When it ended before, by a fault of its own.
    pub fn stop(mut self) -> io::Result<Vec<Vec<u64>>> {
        drop(self.child.stdin.take());
        let mut lines = String::new();
        self.said.read_to_string(&mut lines)?;
        if !self.child.wait()?.success() {
            return Err(io::Error::other("the target server failed"));
        }
        Ok(lines.lines().map(|line| line.split(' ').filter_map(|at| at.parse().ok()).collect()).collect())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process used up to now.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// CPU seconds, user and system.
    pub cpu: f64,
    /// The most memory it ever had resident, in MB of 1,000,000 bytes.
    pub memory_peak: f64,
    /// What it has resident now, in MB.
    pub memory: f64,
    /// Threads.
    pub threads: u64,
    /// How often one of its threads that are there now has waited for something.
    pub wakeups: u64,
    /// Bytes that it caused to be written to a disk.
    pub written: u64,
}

fn usage(pid: u32) -> io::Result<Usage> {
    // The second field is the program's name in parentheses and may hold anything; utime and stime are fields 14 and 15.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |nth: usize| fields.get(nth - 3).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(f64::NAN);
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mut wakeups = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // One that has ended meanwhile counts no more.
        let status = fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
        wakeups += figure(&status, "voluntary_ctxt_switches:");
    }
    Ok(Usage {
        cpu: (ticks(14) + ticks(15)) / rustix::param::clock_ticks_per_second() as f64,
        memory_peak: figure(&status, "VmHWM:") as f64 * 1_024.0 / 1e6,
        memory: figure(&status, "VmRSS:") as f64 * 1_024.0 / 1e6,
        threads: figure(&status, "Threads:"),
        wakeups,
        written: figure(&fs::read_to_string(format!("/proc/{pid}/io"))?, "write_bytes:"),
    })
}

/// The number behind `name` in one of the files of proc(5); 0 when it is not there.
fn figure(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|figure| figure.parse().ok()).unwrap_or(0)
}
