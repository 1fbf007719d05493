//! Whether this process does its work: what /healthz answers.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};

use crate::clock::Now;
use crate::flow::Figures;
use crate::jobs::Roster;
use crate::spool;

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
        let overdue =
            |(name, late): (String, std::time::Duration)| format!("thread `{name}` is {} s overdue", late.as_secs());
        let mut problems: Vec<String> = self.roster.stuck(now).into_iter().map(overdue).collect();
        problems.extend(spool.error.as_ref().map(|error| format!("spool: {error}")));

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
}

fn flow(name: &str, figures: &Figures) -> Value {
    json!({
        "name": name,
        "new": figures.new.load(Relaxed),
        "duplicate": figures.duplicate.load(Relaxed),
        "refused": figures.refused.load(Relaxed),
        "retries": figures.retries.load(Relaxed),
        "fault": *figures.fault.lock().unwrap_or_else(PoisonError::into_inner),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::jobs::{Jobs, Stop};
    use std::time::Duration;

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
}
