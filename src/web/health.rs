//! Whether this process does its work: what /healthz answers.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::Now;
use crate::flow::{Figures, Trouble};
use crate::jobs::Roster;
use crate::spool;

/// A fault that lasts longer than this is a problem: a store that is restarted is back by then.
const FAULT_MAX: Duration = Duration::from_secs(10);

/// What there is to look at.
pub struct Health {
    /// Who we are.
    pub agent: Arc<str>,
    /// The threads.
    pub roster: Roster,
    /// How the spool stands now.
    pub spool: Box<dyn Fn() -> spool::Figures + Send>,
    /// The pumps, by what they carry.
    pub flows: Vec<(&'static str, Arc<Figures>)>,
}

impl Health {
    /// Whether all is well, and the JSON that says so or why not.
    pub fn look(&self, now: Now) -> (bool, Value) {
        let spool = (self.spool)();
        let problems = self.problems(now, &spool);
        let last = spool.last_accepted.map(|log| {
            json!({"uid": log.uid, "label": log.label, "due_at": log.due_at, "committed_at": spool.last_commit_at})
        });
        let body = json!({
            "status": if problems.is_empty() { "ok" } else { "stuck" },
            "problems": problems,
            "agent": self.agent,
            "version": env!("CARGO_PKG_VERSION"),
            "threads": self.roster.alive(),
            "spool": {"depth": spool.depth, "bytes": spool.bytes, "dropped": spool.dropped, "refused": spool.refused},
            "last_log": last,
            "flows": self.flows.iter().map(|(name, figures)| flow(name, figures)).collect::<Vec<_>>(),
        });
        (problems.is_empty(), body)
    }

    /// What is wrong, the causes before what follows from them.
    fn problems(&self, now: Now, spool: &spool::Figures) -> Vec<String> {
        let mut problems: Vec<String> = spool.error.iter().map(|error| format!("spool: {error}")).collect();
        for (name, figures) in &self.flows {
            let lasts = |fault: &Trouble| now.awake().since(fault.since) > FAULT_MAX;
            problems.extend(figures.fault().filter(lasts).map(|fault| format!("{name}: {}", fault.reason)));
        }
        let (workers, others): (Vec<_>, Vec<_>) =
            self.roster.stuck(now).into_iter().partition(|(name, _)| name.starts_with("worker-"));
        problems.extend(others.iter().map(|(name, late)| format!("thread `{name}` is {} s overdue", late.as_secs())));
        if let Some(most) = workers.iter().map(|(_, late)| late.as_secs()).max() {
            problems.push(format!("{} workers are overdue, by up to {most} s", workers.len()));
        }
        problems
    }
}

fn flow(name: &str, figures: &Figures) -> Value {
    json!({
        "name": name,
        "new": figures.new.load(Relaxed),
        "duplicate": figures.duplicate.load(Relaxed),
        "refused": figures.refused.load(Relaxed),
        "retries": figures.retries.load(Relaxed),
        "fault": figures.fault().map(|fault| fault.reason),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::jobs::{Jobs, Stop};

    #[test]
    fn a_thread_that_is_overdue_makes_it_stuck() {
        let (jobs, stop) = (Jobs::default(), Stop::default());
        let health = Health {
            agent: "a".into(),
            roster: jobs.roster(),
            spool: Box::new(spool::Figures::default),
            flows: vec![("a to b", Arc::default())],
        };
        assert!(health.look(SystemClock.now()).0);

        let (heard, (begun, has_begun)) = (stop.clone(), crossbeam_channel::bounded(1));
        jobs.start("slow", 128 * 1024, move |pulse| {
            pulse.back_in(Duration::ZERO);
            begun.send(()).map_err(|e| e.to_string())?;
            heard.wait(Duration::from_secs(60));
            Ok(())
        })
        .unwrap();
        has_begun.recv().unwrap();
        let mut now = SystemClock.now();
        now.steady = now.steady.plus(Duration::from_secs(7));
        let (well, body) = health.look(now);
        assert!(!well && body["status"] == "stuck" && body["threads"] == 1, "{body}");
        assert_eq!(body["problems"][0], "thread `slow` is 7 s overdue");

        stop.set();
        assert_eq!(jobs.join(Duration::from_secs(30)).0, Vec::<String>::new());
        let (well, body) = health.look(now);
        assert!(well && body["status"] == "ok" && body["threads"] == 0, "{body}");
    }

    #[test]
    fn a_fault_that_lasts_and_a_spool_that_cannot_write_make_it_stuck_and_come_first() {
        let now = SystemClock.now();
        let flows = vec![("a to b", Arc::new(Figures::with_fault("disk full", now.awake())))];
        let spool = || spool::Figures { error: Some("is full".to_owned()), ..spool::Figures::default() };
        let (agent, roster) = ("a".into(), Jobs::default().roster());
        let mut health = Health { agent, roster, spool: Box::new(spool::Figures::default), flows };
        let mut later = now;
        later.steady = later.steady.plus(FAULT_MAX + Duration::from_millis(1));
        assert!(health.look(now).0, "a fault may go away");
        let (well, body) = health.look(later);
        assert!(!well && body["problems"] == json!(["a to b: disk full"]), "{body}");
        health.spool = Box::new(spool);
        assert_eq!(health.look(later).1["problems"], json!(["spool: is full", "a to b: disk full"]));
    }
}
