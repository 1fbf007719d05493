//! What an agent costs and how well it keeps time: the release build, against a target server on this machine.
//!
//! `cargo bench --bench agent` runs the paced scenario, `cargo bench --bench agent -- --most` the one of an agent that has more
//! to do than it can, `-- --idle` the one that has next to nothing, and `--tls` has either over TLS, each time with a new and full
//! handshake and a certificate that is verified; `--help` names what can be set. Both ends run on the
//! same cores, so the figures are those of a machine that does nothing else.

mod figures;
mod floor;
mod idle;
mod kept;
mod process;
mod target;
mod tls;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use figures::Figures;
use process::{Agent, Target};

/// Measures the release build of `pingeon run` against a local target server.
#[derive(Clone, Debug, Parser)]
#[command(name = "agent")]
struct Arguments {
    /// Demand more than the agent can do, of a server that answers at once
    #[arg(long)]
    most: bool,
    /// Over TLS: a full handshake each time, the chain verified
    #[arg(long, conflicts_with = "idle")]
    tls: bool,
    /// Measure agents with twenty checks a minute, for so many seconds [default: 300]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "300", conflicts_with = "most")]
    idle: Option<u64>,
    /// With --idle: one that hands its logs to this Kafka broker, too, such as 127.0.0.1:9092
    #[arg(long, value_name = "ADDRESS", requires = "idle")]
    broker: Option<String>,
    /// How many HTTP checks [default: 10000; with --tls: 1000, and with both 5000]
    #[arg(long)]
    checks: Option<usize>,
    /// Seconds between two runs of a check [default: 10; with --most: 1]
    #[arg(long)]
    interval: Option<u64>,
    /// Milliseconds until the server answers [default: 50; with --most: 0]
    #[arg(long)]
    delay: Option<u64>,
    /// Seconds to measure [default: 60; with --most: 30]
    #[arg(long)]
    seconds: Option<u64>,
    /// Be the target server (the bench starts itself once more with this)
    #[arg(long, hide = true)]
    target: bool,
    /// Be the least that can be (likewise), against the target at this port
    #[arg(long, hide = true, value_name = "PORT")]
    floor: Option<u16>,
    /// Where the target's certificate and key are
    #[arg(long, hide = true, value_name = "FOLDER")]
    identity: Option<PathBuf>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    most: bool,
    tls: bool,
    /// Whether nobody changed it, so that the acceptance figures apply.
    unchanged: bool,
    checks: usize,
    interval: Duration,
    delay: Duration,
    window: Duration,
}

impl Arguments {
    fn scenario(&self) -> Scenario {
        let (interval, delay, window) = if self.most { (1, 0, 30) } else { (10, 50, 60) };
        Scenario {
            most: self.most,
            tls: self.tls,
            unchanged: self.checks.is_none()
                && self.interval.is_none()
                && self.delay.is_none()
                && self.seconds.is_none(),
            checks: self.checks.unwrap_or(match (self.tls, self.most) {
                (false, _) => 10_000,
                (true, false) => 1_000,
                (true, true) => 5_000,
            }),
            interval: Duration::from_secs(self.interval.unwrap_or(interval)),
            delay: Duration::from_millis(self.delay.unwrap_or(delay)),
            window: Duration::from_secs(self.seconds.unwrap_or(window)),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let scenario = arguments.scenario();
    let outcome = if arguments.target {
        target::serve(scenario.checks, scenario.delay, arguments.identity.as_deref()).map(|()| true)
    } else if let Some(port) = arguments.floor {
        floor::run(port, scenario.checks, scenario.interval, arguments.identity.as_deref()).map(|()| true)
    } else if let Some(seconds) = arguments.idle {
        idle::measure(Duration::from_secs(seconds), arguments.broker.as_deref()).and_then(|(tables, kept)| {
            write!(io::stdout(), "{tables}")?;
            Ok(kept)
        })
    } else {
        measure(&scenario).and_then(|figures| {
            write!(io::stdout(), "{}", figures.table(&scenario))?;
            Ok(figures.accepted(&scenario))
        })
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(scenario: &Scenario) -> io::Result<Figures> {
    let folder = tempfile::tempdir()?;
    let mut identity = Vec::new();
    if scenario.tls {
        tls::issue(folder.path())?;
        identity = vec!["--identity".to_owned(), folder.path().display().to_string()];
    }
    // One path more, for the floor.
    let target = Target::start(&[target_arguments(scenario.checks + 1, scenario.delay), identity.clone()].concat())?;
    std::fs::write(folder.path().join("pingeon.yaml"), config(scenario, target.port))?;
    let mut agent = Agent::start(folder.path())?;

    let (window, agent_usage, target_usage) = match watch(&mut agent, &target, scenario) {
        Ok(seen) => seen,
        Err(error) => return Err(io::Error::other(format!("{error}\n{}", said(folder.path())))),
    };
    let (status, stopped_in) = agent.stop()?;
    if !status.success() {
        return Err(io::Error::other(format!("`pingeon run` stopped with {status}\n{}", said(folder.path()))));
    }
    let floor = if scenario.most { None } else { Some(floor(scenario, target.port, identity)?) };
    let mut arrivals = target.stop()?;
    arrivals.truncate(scenario.checks);
    let kept = kept::read(&folder.path().join("pingeon.db"))?;
    let usage = figures::Used { agent: agent_usage, target: target_usage, floor };
    Ok(Figures::of(scenario, &arrivals, window, usage, kept, stopped_in))
}

/// What the least that can be used for as long, at the same pace.
fn floor(scenario: &Scenario, port: u16, identity: Vec<String>) -> io::Result<[process::Usage; 2]> {
    let arguments =
        ["--floor", &port.to_string(), "--interval", &scenario.interval.as_secs().to_string()].map(str::to_owned);
    let paced = ["--checks".to_owned(), scenario.checks.to_string()];
    let mut floor = process::Floor::start(&[&arguments[..], &paced, &identity].concat())?;
    floor.let_run(Duration::from_secs(3))?;
    let before = floor.usage()?;
    floor.let_run(scenario.window)?;
    Ok([before, floor.usage()?])
}

type Seen = ((u64, u64), [process::Usage; 2], [process::Usage; 2]);

/// Lets the agent warm up, then watches both processes for the window: its begin and end, and their usage at both.
fn watch(agent: &mut Agent, target: &Target, scenario: &Scenario) -> io::Result<Seen> {
    // One interval until every check ran once, and a moment for the machine to come to rest.
    agent.let_run(scenario.interval + Duration::from_secs(3))?;
    let (begin, agent_before, target_before) = (target::now(), agent.usage()?, target.usage()?);
    agent.let_run(scenario.window)?;
    let (end, agent_after, target_after) = (target::now(), agent.usage()?, target.usage()?);
    Ok(((begin, end), [agent_before, agent_after], [target_before, target_after]))
}

fn target_arguments(checks: usize, delay: Duration) -> Vec<String> {
    let delay = delay.as_millis().to_string();
    ["--target", "--checks", &checks.to_string(), "--delay", &delay].map(str::to_owned).to_vec()
}

fn config(scenario: &Scenario, port: u16) -> String {
    let interval = scenario.interval.as_secs();
    let timeout = interval.min(5);
    let (scheme, trust) = if scenario.tls { ("https", ", tls: {ca_file: ca.pem}") } else { ("http", "") };
    let checks: String = (0..scenario.checks)
        .map(|check| {
            format!(
                "  - {{label: c{check:05}, http: \"{scheme}://{}:{port}/{check}\"{trust}}}\n",
                target::address(check)
            )
        })
        .collect();
    format!(
        "agent: bench\n\
         defaults: {{interval: {interval}s, timeout: {timeout}s}}\n\
         spool: {{path: spool.db}}\n\
         store: {{sqlite: {{path: pingeon.db}}}}\n\
         log: {{level: warn}}\n\
         checks:\n{checks}"
    )
}

/// The end of what the agent said.
fn said(folder: &Path) -> String {
    let said = std::fs::read_to_string(folder.join("agent.log")).unwrap_or_default();
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
