//! What an agent costs that has next to nothing to do: twenty checks a minute, as on a small machine at the edge.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, io};

use rustix::process::{Pid, Signal, kill_process};

use crate::figures::{Line, line};
use crate::process::{Agent, Target, Usage};
use crate::{said, target, target_arguments};

const MEMORY_MB_MAX: f64 = 12.0;
const CPU_PERCENT_MAX: f64 = 0.1;
/// `spool.flush` is a second.
const SYNCS_PER_MINUTE_MAX: f64 = 60.0;

/// Every check has run by then, and the machine has come to rest.
const WARM_UP: Duration = Duration::from_secs(70);
/// How long syncs are counted: apart, since strace(1) wakes threads, too.
const COUNTED_FOR: Duration = Duration::from_secs(120);

/// What an idle agent does, its command, and how many checks of which interval in seconds make its twenty a minute.
type Idle = (&'static str, &'static str, &'static [(usize, u64)]);

const AGENTS: [Idle; 3] = [
    ("20 every 60 s, into SQLite", "run", &[(20, 60)]),
    ("2 every 10 s and 8 every 60 s, into SQLite", "run", &[(2, 10), (8, 60)]),
    ("20 every 60 s, to Kafka", "produce", &[(20, 60)]),
];

/// What one of them used in the `window`.
struct Used {
    what: &'static str,
    window: Duration,
    before: Usage,
    after: Usage,
    /// A minute; `None` where there is no strace(1) to count them.
    syncs: Option<f64>,
}

/// Measures all of them at once for `window`; the one to Kafka where there are `brokers`. The tables, and whether every bound is
/// kept.
///
/// # Errors
/// When something cannot be started, or does not end well.
pub fn measure(window: Duration, brokers: Option<&str>) -> io::Result<(String, bool)> {
    let target = Target::start(&target_arguments(20, Duration::from_millis(50)))?;
    let top = tempfile::tempdir()?;
    let mut agents = Vec::new();
    for (what, command, checks) in AGENTS.into_iter().filter(|idle| brokers.is_some() || idle.1 == "run") {
        let folder = top.path().join(agents.len().to_string());
        fs::create_dir(&folder)?;
        let queue = brokers.filter(|_| command == "produce");
        fs::write(folder.join("pingeon.yaml"), config(checks, target.port, queue))?;
        agents.push((what, Agent::start_as(command, &folder)?, folder));
    }
    let used = watch(&mut agents, window)?;
    for (_, agent, folder) in agents {
        let (status, _) = agent.stop()?;
        if !status.success() {
            return Err(io::Error::other(format!("`pingeon` stopped with {status}\n{}", said(&folder))));
        }
    }
    let (mut tables, mut kept) = (String::new(), true);
    for used in &used {
        let _ = writeln!(tables, "20 HTTP checks a minute, {}, for {:?}\n", used.what, used.window);
        for line in used.lines() {
            kept &= line.is_kept();
            tables.push_str(&line.text());
        }
        tables.push('\n');
    }
    Ok((tables, kept))
}

type Running = (&'static str, Agent, PathBuf);

fn watch(agents: &mut [Running], window: Duration) -> io::Result<Vec<Used>> {
    let usages = |agents: &[Running]| agents.iter().map(|(_, agent, _)| agent.usage()).collect::<io::Result<Vec<_>>>();
    // They run side by side: while one is waited for, all go on.
    let go_on = |agents: &mut [Running], time| agents.first_mut().map_or(Ok(()), |(_, agent, _)| agent.let_run(time));
    go_on(agents, WARM_UP)?;
    let before = usages(agents)?;
    go_on(agents, window)?;
    let after = usages(agents)?;
    let counters: Vec<Option<Counter>> =
        agents.iter().map(|(_, agent, folder)| Counter::start(agent, folder)).collect();
    if counters.iter().any(Option::is_some) {
        go_on(agents, COUNTED_FOR)?;
    }
    let syncs = counters.into_iter().map(|counter| counter.map(Counter::stop).transpose());
    let used = agents.iter().zip(before).zip(after).zip(syncs);
    used.map(|((((what, ..), before), after), syncs)| Ok(Used { what, window, before, after, syncs: syncs? })).collect()
}

/// Counts the calls by which a process waits for its disk.
struct Counter {
    strace: Child,
    calls: PathBuf,
}

impl Counter {
    /// `None` where there is no strace(1), or it may not look.
    fn start(agent: &Agent, folder: &Path) -> Option<Self> {
        let calls = folder.join("calls");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", "trace=fsync,fdatasync", "-o"]).arg(&calls);
        let strace = strace.args(["-p", &agent.pid().to_string()]).stderr(Stdio::null()).spawn().ok()?;
        Some(Counter { strace, calls })
    }

    /// How many there were a minute.
    fn stop(mut self) -> io::Result<f64> {
        kill_process(Pid::from_child(&self.strace), Signal::TERM)?;
        self.strace.wait()?;
        let calls = fs::read_to_string(&self.calls)?;
        let calls = calls.lines().filter(|line| line.contains("sync(")).count();
        Ok(calls as f64 / COUNTED_FOR.as_secs_f64() * 60.0)
    }
}

impl Used {
    fn lines(&self) -> Vec<Line> {
        let (before, after, seconds) = (&self.before, &self.after, self.window.as_secs_f64());
        let cpu = (after.cpu - before.cpu) / seconds * 100.0;
        let wakeups = after.wakeups.saturating_sub(before.wakeups) as f64 / seconds;
        let bytes = after.written.saturating_sub(before.written) as f64 / seconds * 86_400.0 / 1e6;
        let syncs = self.syncs.map_or("no strace(1)".to_owned(), |syncs| format!("{syncs:.1}"));
        let memory = after.memory_peak;
        vec![
            line("peak memory, MB", format!("{memory:.1}")).most(true, memory, MEMORY_MB_MAX),
            line("CPU, % of a core", format!("{cpu:.3}")).most(true, cpu, CPU_PERCENT_MAX),
            line("wake-ups a second, by the disk, too", format!("{wakeups:.2}")),
            line("fsync and fdatasync, a minute", syncs).most(
                self.syncs.is_some(),
                self.syncs.unwrap_or(0.0),
                SYNCS_PER_MINUTE_MAX,
            ),
            line("written, MB a day", format!("{bytes:.0}")),
            line("threads", after.threads.to_string()),
        ]
    }
}

fn config(checks: &[(usize, u64)], port: u16, brokers: Option<&str>) -> String {
    let intervals = checks.iter().flat_map(|(count, interval)| std::iter::repeat_n(interval, *count));
    let check = |(nth, interval)| {
        let address = target::address(nth);
        format!("  - {{label: c{nth:02}, http: \"http://{address}:{port}/{nth}\", interval: {interval}s}}\n")
    };
    let checks: String = intervals.enumerate().map(check).collect();
    let to = match brokers {
        Some(brokers) => format!("queue: {{kafka: {{brokers: [\"{brokers}\"]}}}}"),
        None => "store: {sqlite: {path: pingeon.db}}".to_owned(),
    };
    format!(
        "agent: bench\ndefaults: {{timeout: 5s}}\nspool: {{path: spool.db}}\n{to}\nlog: {{level: warn}}\nchecks:\n{checks}"
    )
}
