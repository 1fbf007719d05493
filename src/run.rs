//! One process: the halves that a command names, started in the order of the flow and stopped from its beginning.
//!
//! `SIGTERM` and `SIGINT` stop gracefully: checks that run end within their timeouts, their logs are committed, a last bounded
//! try hands them on, and the rest stays in the spool. A second one ends the process at once. `SIGHUP` reads the config again.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::check;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config};
use crate::flow::DRAIN_MAX;
use crate::jobs::{Ended, Jobs, Stop};
use crate::logs::Author;
use crate::net::Net;
use crate::produce::{Agent, Plan};
use crate::schedule::Schedule;
use crate::spool::Spool;
use crate::web::{Health, Web};
use crate::{consume, produce};

/// Which halves run in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halves {
    /// Checks → spool.
    pub produce: bool,
    /// Spool → store.
    pub consume: bool,
}

/// Beyond the longest timeout and the draining: for commits that were under way.
const STOP_SLACK: Duration = Duration::from_secs(5);

const SIGNALS_STACK: usize = 128 * 1024;

/// Runs until told to stop. `read` reads the config again, for a reload; its error is the message for people.
///
/// # Errors
/// A sentence for people: what could not be opened or started, or which thread failed and why.
pub fn run(config: Config, halves: Halves, read: &dyn Fn() -> Result<Config, String>) -> Result<(), String> {
    let (jobs, stop, drained) = (Jobs::default(), Stop::default(), Stop::default());
    let signals = listen_to_signals(&jobs)?;
    let author = Author::new(config.agent.clone(), SystemClock.now().wall);
    let spool = Spool::open(&config.spool, &author)?;
    let (gauge, last_due) = (spool.gauge(), spool.last_due());
    let (writer, reader) = spool.split(drained.clone());

    let web = config.web.as_ref().map(|web| Web::listen(web.listen)).transpose()?;
    let mut flows = Vec::new();
    if let (true, Some(store)) = (halves.consume, &config.store) {
        flows.push(("spool to store", consume::start(&jobs, reader, store, &drained)?));
    }
    let mut agent = None;
    if halves.produce {
        let schedule = Schedule::new(&config.agent, &config.checks, SystemClock.now(), &last_due);
        let plan = Plan { author, run: check::run, workers: config::workers(&config), flush: config.spool.flush };
        let net = Arc::new(Net::system());
        agent = Some(produce::start(&jobs, plan, schedule, writer, &net, (&stop, &drained))?);
    }
    if let Some(web) = &web {
        let health = Health {
            agent: config.agent.clone(),
            roster: jobs.roster(),
            spool: Box::new(move || gauge.figures()),
            flows,
        };
        web.serve(&jobs, health)?;
    }
    log::info!("agent {}; checks: {}, workers: up to {}", config.agent, config.checks.len(), config::workers(&config));

    let longest = config.checks.iter().map(|check| check.timeout).max().unwrap_or_default();
    let failed = Process { config, agent, read }.supervise(&jobs, &signals.received);
    stop.set();
    if !halves.produce {
        drained.set();
    }
    signals.handle.close();
    if let Some(web) = &web {
        web.close();
    }
    let (late, mut ended) = jobs.join(longest + DRAIN_MAX + STOP_SLACK);
    ended.splice(0..0, failed);
    verdict(&late, &ended)
}

/// What the end of all jobs comes to.
fn verdict(late: &[String], failed: &[Ended]) -> Result<(), String> {
    let mut faults: Vec<String> = Vec::new();
    for ended in failed {
        faults.extend(ended.end.as_ref().err().map(|reason| format!("thread `{}`: {reason}", ended.name)));
    }
    if !late.is_empty() {
        faults.push(format!("did not stop in time: {}", late.join(", ")));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

/// What a running process needs to take up another config.
struct Process<'a> {
    config: Config,
    agent: Option<Agent>,
    read: &'a dyn Fn() -> Result<Config, String>,
}

impl Process<'_> {
    /// Watches over the jobs and takes signals until one of them ends it; the job that failed, if that was why.
    fn supervise(mut self, jobs: &Jobs, signals: &Receiver<i32>) -> Option<Ended> {
        let ended = jobs.ended().clone();
        loop {
            select! {
                recv(ended) -> job => match job {
                    Ok(job) if job.end.is_err() => {
                        log::error!("thread `{}` failed; stopping", job.name);
                        return Some(job);
                    }
                    _ => {}
                },
                recv(signals) -> signal => match signal {
                    Ok(SIGHUP) => self.reload(),
                    _ => {
                        log::info!("stopping");
                        return None;
                    }
                },
            }
        }
    }

    /// Takes up the checks of a config read anew. A bad one is reported and changes nothing.
    fn reload(&mut self) {
        let config = match (self.read)() {
            Ok(config) => config,
            Err(reason) => return log::error!("reload refused, the old config stays: {reason}"),
        };
        if let Some(agent) = &self.agent {
            let taken = agent.reload(config.checks.clone(), config::workers(&config));
            if let Err(reason) = taken {
                return log::error!("reload failed: {reason}");
            }
        }
        if besides_checks(&config) != besides_checks(&self.config) {
            log::warn!("reload: only `checks` and `defaults` are taken up; the other changes wait for a restart");
        }
        log::info!("reloaded; checks: {}", config.checks.len());
        self.config.checks = config.checks;
    }
}

/// The config without what a reload takes up, in words that can be compared.
fn besides_checks(config: &Config) -> String {
    config::explain(&Config { checks: Vec::new(), workers_max: 0, ..config.clone() })
}

/// Signals, as they come.
struct Listening {
    received: Receiver<i32>,
    handle: Handle,
}

/// Signals wait here while a reload is under way; more of them say nothing new.
const SIGNALS_MAX: usize = 16;

fn listen_to_signals(jobs: &Jobs) -> Result<Listening, String> {
    let wrong = |error: std::io::Error| format!("cannot listen to signals: {error}");
    let stopping = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // In this order: the first signal finds the flag unset and sets it, the second one ends the process.
        signal_hook::flag::register_conditional_shutdown(signal, 1, stopping.clone()).map_err(wrong)?;
        signal_hook::flag::register(signal, stopping.clone()).map_err(wrong)?;
    }
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(wrong)?;
    let handle = signals.handle();
    let (sender, received) = bounded(SIGNALS_MAX);
    jobs.start("signals", SIGNALS_STACK, move |_| {
        for signal in signals.forever() {
            let _ = sender.try_send(signal);
        }
        Ok(())
    })?;
    Ok(Listening { received, handle })
}
