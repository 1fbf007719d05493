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
use crate::flows::Flow;
use crate::jobs::{Ended, Jobs, Stop};
use crate::logs::Author;
use crate::net::Net;
use crate::produce::{Agent, Plan};
use crate::schedule::Schedule;
use crate::spool::Spool;
use crate::store::watch::Watch;
use crate::web::{Health, SpoolFigures, Web};
use crate::{consume, produce};

/// Which halves run in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halves {
    /// Checks → spool → queue.
    pub produce: bool,
    /// Queue, or else the spool → store.
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
    let web = config.web.as_ref().map(|web| Web::listen(web.listen)).transpose()?;
    let Started { agent, spool, flows, store } = start(&config, halves, &jobs, (&stop, &drained))?;
    if let Some(web) = &web {
        let roster = jobs.roster();
        web.serve(&jobs, Health { agent: config.agent.clone(), roster, spool, flows, store })?;
    }
    log::info!("agent {}; checks: {}, workers: up to {}", config.agent, config.checks.len(), config::workers(&config));

    warn_of_too_few_workers(&config);
    let mut process = Process { longest: longest_timeout(&config), config, agent, read };
    let failed = process.supervise(&jobs, &signals);
    stop.set();
    match &failed {
        Some(job) => log::error!("thread `{}` has ended; stopping", job.name()),
        None => log::info!("stopping"),
    }
    if !halves.produce {
        drained.set();
    }
    signals.handle.close();
    if let Some(web) = &web {
        web.close();
    }
    let (late, mut ended) = jobs.join(process.longest + DRAIN_MAX + STOP_SLACK);
    ended.splice(0..0, failed);
    verdict(&late, &ended)
}

/// What runs in this process.
#[derive(Default)]
struct Started {
    agent: Option<Agent>,
    spool: Option<SpoolFigures>,
    flows: Vec<Flow>,
    store: Option<Arc<Watch>>,
}

/// Starts the halves. A consumer behind a queue has no spool.
fn start(config: &Config, halves: Halves, jobs: &Jobs, (stop, drained): (&Stop, &Stop)) -> Result<Started, String> {
    let (net, mut started) = (Arc::new(Net::system()), Started::default());
    if halves.produce || config.queue.is_none() {
        let author = Author::new(config.agent.clone(), SystemClock.now().wall);
        let spool = Spool::open(&config.spool, &author)?;
        let (gauge, last_due) = (spool.gauge(), spool.last_due());
        let (writer, reader) = spool.split(drained.clone());
        started.spool = Some(Box::new(move || gauge.figures()));
        match (&config.queue, &config.store) {
            (Some(kafka), _) => started.flows.push(produce::publish(jobs, reader, kafka, &net, drained)?),
            (None, Some(store)) if halves.consume => {
                let (flow, watch) = consume::start(jobs, reader, store, drained)?;
                started.flows.push(flow);
                started.store = Some(watch);
            }
            (None, _) => {
                log::warn!(
                    "nothing takes logs out of the spool here: they stay until `pingeon consume` or `pingeon run` does"
                );
            }
        }
        if halves.produce {
            let schedule = Schedule::new(&config.agent, &config.checks, SystemClock.now(), &last_due);
            let plan = Plan { author, run: check::run, workers: config::workers(config), flush: config.spool.flush };
            started.agent = Some(produce::start(jobs, plan, schedule, writer, &net, (stop, drained))?);
        }
    }
    if let (true, Some(kafka), Some(store)) = (halves.consume, &config.queue, &config.store) {
        let (flows, watch) = consume::start_from_queue(jobs, kafka, store, &net, stop)?;
        started.flows.extend(flows);
        started.store = Some(watch);
    }
    Ok(started)
}

fn warn_of_too_few_workers(config: &Config) {
    if let Some(warning) = config::too_few_workers(config) {
        log::warn!("workers: {warning}");
    }
}

fn longest_timeout(config: &Config) -> Duration {
    config.checks.iter().map(|check| check.timeout).max().unwrap_or_default()
}

/// What the end of all jobs comes to.
fn verdict(late: &[String], failed: &[Ended]) -> Result<(), String> {
    let mut faults: Vec<String> = Vec::new();
    // Where one fails, others may end for want of it before they are told to.
    let causes = |ended: &&Ended| ended.end.is_err() || failed.iter().all(|ended| ended.end.is_ok());
    for ended in failed.iter().filter(causes) {
        let reason = ended.end.as_ref().err().map_or("ended early", String::as_str);
        faults.push(format!("thread `{}`: {reason}", ended.name()));
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
    /// The longest timeout of all checks since the start: so long may one of them still run.
    longest: Duration,
}

impl Process<'_> {
    /// Watches over the jobs and takes signals until one of them ends it; the job that ended, if that was why: none may before
    /// it is told to.
    fn supervise(&mut self, jobs: &Jobs, signals: &Listening) -> Option<Ended> {
        loop {
            select! {
                recv(jobs.ended()) -> job => if let Ok(job) = job {
                    jobs.reap(&job);
                    return Some(job);
                },
                recv(signals.stop) -> _ => return None,
                recv(signals.reload) -> _ => self.reload(),
            }
        }
    }

    /// Takes up the checks of a config read anew. A bad one is reported and changes nothing.
    fn reload(&mut self) {
        let config = match (self.read)() {
            Ok(config) => config,
            Err(reason) => return log::error!("reload refused, the old config stays: {reason}"),
        };
        if let Some(agent) = &self.agent
            && let Err(reason) = agent.reload(config.checks.clone(), config::workers(&config))
        {
            return log::error!("reload failed: {reason}");
        }
        let waits = config.differs_in(&self.config);
        if !waits.is_empty() {
            log::warn!("reload: `{}` has changed and waits for a restart", waits.join("`, `"));
        }
        log::info!("reloaded; checks: {}", config.checks.len());
        warn_of_too_few_workers(&config);
        self.longest = self.longest.max(longest_timeout(&config));
        self.config.checks = config.checks;
    }
}

/// What signals ask for. Asked twice before it is done is asked once.
struct Listening {
    stop: Receiver<()>,
    reload: Receiver<()>,
    handle: Handle,
}

fn listen_to_signals(jobs: &Jobs) -> Result<Listening, String> {
    let wrong = |error: std::io::Error| format!("cannot listen to signals: {error}");
    // Before the flags below, so that a first signal is never taken for half of one.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(wrong)?;
    let handle = signals.handle();
    let stopping = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // In this order: the first signal finds the flag unset and sets it, the second one ends the process.
        signal_hook::flag::register_conditional_shutdown(signal, 1, stopping.clone()).map_err(wrong)?;
        signal_hook::flag::register(signal, stopping.clone()).map_err(wrong)?;
    }
    let ((ask_stop, stop), (ask_reload, reload)) = (bounded(1), bounded(1));
    jobs.start("signals", SIGNALS_STACK, move |_| {
        for signal in signals.forever() {
            let _asked_already = if signal == SIGHUP { ask_reload.try_send(()) } else { ask_stop.try_send(()) };
        }
        Ok(())
    })?;
    Ok(Listening { stop, reload, handle })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_failed_ended_early_or_did_not_stop_is_named() {
        let jobs = Jobs::default();
        let ends = |name: &str, end: Result<(), String>| {
            jobs.start(name, SIGNALS_STACK, move |_| end).unwrap();
            jobs.ended().recv().unwrap()
        };
        let (failed, early) = (ends("pump", Err("no disk".to_owned())), ends("web", Ok(())));
        let late = "did not stop in time: spool";
        let said = |failed: &[Ended]| verdict(&["spool".to_owned()], failed);
        assert_eq!(verdict(&[], &[]), Ok(()));
        assert_eq!(said(&[]), Err(late.to_owned()));
        assert_eq!(said(std::slice::from_ref(&early)), Err(format!("thread `web`: ended early; {late}")));
        assert_eq!(said(&[early, failed]), Err(format!("thread `pump`: no disk; {late}")));
    }
}
