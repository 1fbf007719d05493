//! One process: the halves that a command names, started in the order of the flow and stopped from its beginning.
//!
//! `SIGTERM` and `SIGINT` stop gracefully: checks that run end within their timeouts, their logs are committed, a last bounded
//! try hands them on, and the rest stays in the spool. A second one ends the process at once. `SIGHUP` reads the config again.
//! What becomes of all that is told to systemd, too.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, at, bounded, never, select};
use log::Level;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::check;
use crate::clock::{Clock, Now, SystemClock};
use crate::config::{self, Config};
use crate::flow::DRAIN_MAX;
use crate::flows::Flow;
use crate::health::{Health, SpoolFigures, counted};
use crate::jobs::{Ended, Jobs, Stop};
use crate::logs::Author;
use crate::net::Net;
use crate::produce::{Agent, Plan};
use crate::schedule::Schedule;
use crate::spool::Spool;
use crate::store::watch::Watch;
use crate::systemd::Manager;
use crate::web::Web;
use crate::{consume, produce};

/// Which halves run in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halves {
    /// Checks → spool → queue.
    pub produce: bool,
    /// Queue, or else the spool → store.
    pub consume: bool,
}

/// Beyond the longest check and the draining: for commits that were under way.
const STOP_SLACK: Duration = Duration::from_secs(5);

const SIGNALS_STACK: usize = 128 * 1024;

/// Runs until told to stop. `read` reads the config again, for a reload; its error is the message for people. `manager` hears
/// what becomes of it.
///
/// # Errors
/// A sentence for people: what could not be opened or started, or which thread failed and why.
pub fn run(
    config: Config,
    halves: Halves,
    read: &dyn Fn() -> Result<Config, String>,
    manager: Manager,
) -> Result<(), String> {
    let (jobs, stop, drained) = (Jobs::default(), Stop::default(), Stop::default());
    let signals = listen_to_signals(&jobs)?;
    let web = config.web.as_ref().map(|web| Web::listen(web.listen)).transpose()?;
    let Started { agent, spool, flows, store } = start(&config, halves, &jobs, (&stop, &drained))?;
    let (name, roster, workers) = (config.agent.clone(), jobs.roster(), config::workers(&config));
    let health = Arc::new(Health { agent: name.clone(), roster, spool, flows, store });
    if let Some(web) = &web {
        web.serve(&jobs, health.clone())?;
    }
    log::info!("agent {name}; checks: {}, workers: up to {workers}", config.checks.len());

    warn_of_too_few_workers(&config);
    let (longest, refused, next_look) = (longest_check(&config), None, None);
    let mut process = Process { config, agent, read, longest, health, manager, next_look, refused };
    let failed = process.supervise(&jobs, &signals);
    stop.set();
    match &failed {
        Some(job) => process.stopping(Level::Error, &format!("thread `{}` has ended; stopping", job.name())),
        None => process.stopping(Level::Info, "stopping"),
    }
    process.say_what_is_waited_for();
    if !halves.produce {
        drained.set();
    }
    signals.handle.close();
    if let Some(web) = &web {
        web.close();
    }
    let (late, mut ended) = jobs.join(process.longest + DRAIN_MAX + STOP_SLACK);
    ended.splice(0..0, failed);
    verdict(&late, &ended).inspect_err(|reason| process.manager.stopping(reason))
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
            let (network_gate, flush) = (config.network_gate.clone(), config.spool.flush);
            let plan = Plan { author, run: check::run, network_gate, workers: config.workers_max, flush };
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

/// How long a check may take until its log is there.
fn longest_check(config: &Config) -> Duration {
    let longest = config.checks.iter().map(|check| check.timeout).max().unwrap_or_default();
    longest + produce::judging_max(config.network_gate.len())
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

/// What a running process needs to take up another config, and to tell how it is.
struct Process<'a> {
    config: Config,
    agent: Option<Agent>,
    read: &'a dyn Fn() -> Result<Config, String>,
    /// The longest that a check may take, of all since the start: so long may one of them still run.
    longest: Duration,
    health: Arc<Health>,
    manager: Manager,
    /// When the manager wants a sign of life.
    next_look: Option<Instant>,
    /// Why the last reload changed nothing, if it did not.
    refused: Option<String>,
}

impl Process<'_> {
    /// Watches over the jobs and takes signals until one of them ends it; the job that ended, if that was why: none may before
    /// it is told to.
    fn supervise(&mut self, jobs: &Jobs, signals: &Listening) -> Option<Ended> {
        self.manager.ready(&self.status(SystemClock.now()));
        self.look();
        loop {
            select! {
                recv(jobs.ended()) -> job => if let Ok(job) = job {
                    jobs.reap(&job);
                    return Some(job);
                },
                recv(signals.stop) -> _ => return None,
                recv(signals.reload) -> _ => {
                    self.manager.reloading();
                    self.refused = self.reload().inspect_err(|reason| log::error!("{reason}")).err();
                    self.manager.ready(&self.status(SystemClock.now()));
                },
                recv(self.next_look.map_or_else(never, at)) -> _ => self.look(),
            }
        }
    }

    /// Tells the manager that the process lives, unless a thread is stuck.
    fn look(&mut self) {
        let now = SystemClock.now();
        let wait = self.manager.look(self.health.is_stuck(now), &self.status(now));
        self.next_look = wait.map(|wait| Instant::now() + wait);
    }

    /// What runs, in a line; first why the config on disk is not what runs.
    fn status(&self, now: Now) -> String {
        let refused = self.refused.iter().map(|reason| format!("{reason}; "));
        let checks = self.agent.iter().map(|_| format!("{}, ", counted(self.config.checks.len() as u64, "check")));
        refused.chain(checks).chain([self.health.line(now)]).collect()
    }

    fn stopping(&mut self, level: Level, why: &str) {
        log::log!(level, "{why}");
        self.manager.stopping(why);
    }

    fn say_what_is_waited_for(&self) {
        let running = u64::from(self.agent.as_ref().map_or(0, Agent::running));
        if running > 0 {
            let (running, longest) = (counted(running, "check"), self.longest.as_secs_f64());
            log::info!("waiting for {running} to end, for {longest:.1} s at most; a second signal stops at once");
        }
    }

    /// Takes up the checks of a config read anew. A bad one changes nothing; the error says so.
    fn reload(&mut self) -> Result<(), String> {
        let config = (self.read)().map_err(|reason| format!("reload refused, the old config stays: {reason}"))?;
        if let Some(agent) = &self.agent {
            let taken_up = agent.reload(config.checks.clone(), config.network_gate.clone(), config.workers_max);
            taken_up.map_err(|reason| format!("reload failed: {reason}"))?;
        }
        let waits = config.differs_in(&self.config);
        if !waits.is_empty() {
            log::warn!("reload: `{}` has changed and waits for a restart", waits.join("`, `"));
        }
        log::info!("reloaded; checks: {}", config.checks.len());
        warn_of_too_few_workers(&config);
        self.longest = self.longest.max(longest_check(&config));
        self.config.checks = config.checks;
        Ok(())
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
    use std::os::unix::net::UnixDatagram;

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
    #[test]
    fn a_thread_that_is_stuck_takes_the_signs_of_life_away() {
        let folder = tempfile::tempdir().unwrap();
        let (path, address) = (folder.path().join("pingeon.yaml"), folder.path().join("notify"));
        std::fs::write(&path, "checks: [{label: a, tcp: \"localhost:1\"}]").unwrap();
        let systemd = UnixDatagram::bind(&address).unwrap();
        systemd.set_nonblocking(true).unwrap();
        let variables = [("NOTIFY_SOCKET", address.into_os_string()), ("WATCHDOG_USEC", "9000000".into())];
        let manager = Manager::named_by(&|name| Some(variables.iter().find(|v| v.0 == name)?.1.clone()), 1);
        let (jobs, (wake, woken)) = (Jobs::default(), bounded::<()>(0));
        let health = Health { agent: "a".into(), roster: jobs.roster(), spool: None, flows: vec![], store: None };
        let health = Arc::new(health);
        let mut process = Process {
            config: config::load(&path, &|_| None).unwrap(),
            agent: None,
            read: &|| Err("unread".to_owned()),
            longest: Duration::ZERO,
            health: health.clone(),
            manager,
            next_look: None,
            refused: Some("reload refused".to_owned()),
        };
        let mut hears = || {
            process.look();
            let mut buffer = [0; 4_096];
            systemd.recv(&mut buffer).map(|bytes| String::from_utf8_lossy(&buffer[..bytes]).into_owned()).ok()
        };
        let well = "WATCHDOG=1\nSTATUS=reload refused; 0 logs waiting";
        assert_eq!((hears().as_deref(), hears().as_deref()), (Some(well), Some("WATCHDOG=1")));
        jobs.start("slow", SIGNALS_STACK, move |pulse| {
            pulse.back_in(Duration::ZERO);
            let _ = (woken.recv(), pulse.rest(), woken.recv());
            Ok(())
        })
        .unwrap();
        let until = |stuck| while health.is_stuck(SystemClock.now()) != stuck {};
        until(true);
        let said = hears().unwrap_or_default();
        assert!(said.starts_with("STATUS=reload refused; 0 logs waiting; thread `slow` is "), "{said}");
        assert!(hears().is_none_or(|said| said.starts_with("STATUS=")));
        wake.send(()).unwrap();
        until(false);
        assert_eq!((hears().as_deref(), hears().as_deref()), (Some(well), Some("WATCHDOG=1")));
        drop(wake);
        assert_eq!(jobs.join(Duration::from_secs(30)).0, Vec::<String>::new());
    }
}
