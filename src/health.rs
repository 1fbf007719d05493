//! Whether this process does its work: what /healthz answers, and what systemd's watchdog and status line go by.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::Now;
use crate::flow::Trouble;
use crate::flows::Flow;
use crate::jobs::Roster;
use crate::kafka;
use crate::spool;
use crate::store::Condition;
use crate::store::watch::Watch;

/// A fault that lasts longer than this is a problem: a store that is restarted is back by then.
const FAULT_MAX: Duration = Duration::from_secs(10);

/// For so long after logs were refused there is a warning.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// What there is to look at.
pub struct Health {
    /// Who we are.
    pub agent: Arc<str>,
    /// The threads.
    pub roster: Roster,
    /// How the spool stands now; `None`: there is none in this process.
    pub spool: Option<SpoolFigures>,
    /// The pumps.
    pub flows: Vec<Flow>,
    /// How the store stands; `None`: this process has nothing to do with one.
    pub store: Option<Arc<Watch>>,
}

/// Tells how the spool stands now.
pub type SpoolFigures = Box<dyn Fn() -> spool::Figures + Send + Sync>;

impl Health {
    /// Whether all is well, and the JSON that says so or why not.
    pub(crate) fn look(&self, now: Now) -> (bool, Value) {
        let spool = self.spool.as_ref().map(|figures| figures());
        let problems = self.problems(now, spool.as_ref());
        let last = spool.as_ref().and_then(|spool| {
            let log = spool.last_accepted.as_ref()?;
            Some(
                json!({"uid": log.uid, "label": log.label, "due_at": log.due_at, "committed_at": spool.last_commit_at}),
            )
        });
        let spool = spool.map(|spool| {
            json!({"depth": spool.depth, "bytes": spool.bytes, "dropped": spool.dropped, "refused": spool.refused})
        });
        let body = json!({
            "status": if problems.is_empty() { "ok" } else { "stuck" },
            "problems": problems,
            "warnings": self.warnings(now),
            "agent": self.agent,
            "version": env!("CARGO_PKG_VERSION"),
            "threads": self.roster.alive(),
            "spool": spool,
            "last_log": last,
            "flows": self.flows.iter().map(flow).collect::<Vec<_>>(),
            "store": self.store.as_ref().map(|store| condition(&store.condition())),
        });
        (problems.is_empty(), body)
    }

    /// Whether a thread is stuck, which a restart of the process may mend. What else is a problem stays one through a restart.
    pub(crate) fn is_stuck(&self, now: Now) -> bool {
        !self.roster.stuck(now).is_empty()
    }

    /// How many logs wait here, or in Kafka for us, and all that is wrong; in one line.
    pub(crate) fn line(&self, now: Now) -> String {
        let spool = self.spool.as_ref().map(|figures| figures());
        let behind = self.flows.iter().filter_map(|flow| flow.kafka.as_ref()).map(|kafka| lag_total(&kafka.lag()));
        let waiting = behind.fold(0, i64::saturating_add).max(0).unsigned_abs();
        let waiting = waiting.saturating_add(spool.as_ref().map_or(0, |spool| spool.depth));
        let problems = self.problems(now, spool.as_ref()).into_iter().map(|problem| format!("; {problem}"));
        format!("{} waiting{}", counted(waiting, "log"), problems.collect::<String>())
    }

    /// What loses logs, or soon will, and no restart would mend.
    fn warnings(&self, now: Now) -> Vec<String> {
        let fresh = |refusal: &Trouble| now.awake().since(refusal.since) < REFUSED_FOR;
        let refused = self.flows.iter().filter_map(|flow| Some((&flow.name, flow.figures.refusal().filter(fresh)?)));
        let refused = refused.map(|(name, refusal)| format!("{name}: logs are refused: {}", refusal.reason));
        refused.chain(self.store.iter().flat_map(|store| store.warnings(now.wall))).collect()
    }

    /// What is wrong, the causes before what follows from them.
    fn problems(&self, now: Now, spool: Option<&spool::Figures>) -> Vec<String> {
        let mut problems: Vec<String> =
            spool.and_then(|spool| spool.error.as_ref()).map(|error| format!("spool: {error}")).into_iter().collect();
        for Flow { name, figures, .. } in &self.flows {
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

/// `1 log`, `2 logs`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn lag_total(lag: &BTreeMap<i32, i64>) -> i64 {
    lag.values().fold(0, |all, messages| all.saturating_add(*messages))
}

fn flow(flow: &Flow) -> Value {
    let Flow { name, figures, kafka } = flow;
    json!({
        "name": name,
        "new": figures.new.load(Relaxed),
        "duplicate": figures.duplicate.load(Relaxed),
        "refused": figures.refused.load(Relaxed),
        "retries": figures.retries.load(Relaxed),
        "fault": figures.fault().map(|fault| fault.reason),
        "kafka": kafka.as_deref().map(kafka_client),
    })
}

fn condition(store: &Condition) -> Value {
    json!({
        "days_ahead": store.days_ahead,
        "oldest_day": store.oldest_day,
        "newest_day": store.newest_day,
        "rejected": store.rejected,
        "retained_at": store.retained_at,
    })
}

/// What a Kafka client has done. `lag`: messages that wait, by partition; `in_flight_ms`: the mean time of a request.
fn kafka_client(figures: &kafka::figures::Figures) -> Value {
    let lag = figures.lag();
    let requests = figures.requests.load(Relaxed);
    // Of no interest beyond the microsecond, and exact up to 285 years.
    #[expect(clippy::cast_precision_loss)]
    let in_flight_ms = (requests > 0).then(|| figures.in_flight_us.load(Relaxed) as f64 / requests as f64 / 1_000.0);
    json!({
        "lag": lag.iter().map(|(partition, messages)| (partition.to_string(), json!(messages))).collect::<serde_json::Map<_, _>>(),
        "lag_total": lag_total(&lag),
        "batches": figures.batches.load(Relaxed),
        "bytes": figures.bytes.load(Relaxed),
        "requests": requests,
        "in_flight_ms": in_flight_ms.map(|ms| (ms * 1_000.0).round() / 1_000.0),
        "retries": figures.retries.load(Relaxed),
        "refusals": figures.refusals.load(Relaxed),
        "rebalances": figures.rebalances.load(Relaxed),
        "fenced": figures.fenced.load(Relaxed),
        "resets": figures.resets.load(Relaxed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::flow::Figures;
    use crate::jobs::{Jobs, Stop};

    #[test]
    fn a_thread_that_is_overdue_makes_it_stuck() {
        let (jobs, stop) = (Jobs::default(), Stop::default());
        let health = Health {
            agent: "a".into(),
            roster: jobs.roster(),
            spool: Some(Box::new(spool::Figures::default)),
            flows: vec![Flow::embedded("a to b")],
            store: None,
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
        assert!(health.is_stuck(now), "a restart may mend it");
        assert_eq!(health.line(now), "0 logs waiting; thread `slow` is 7 s overdue");

        stop.set();
        assert_eq!(jobs.join(Duration::from_secs(30)).0, Vec::<String>::new());
        let (well, body) = health.look(now);
        assert!(well && body["status"] == "ok" && body["threads"] == 0 && !health.is_stuck(now), "{body}");
    }

    #[test]
    fn what_waits_is_counted_wherever_it_waits() {
        let (here, there) = (Flow::embedded("a to b"), Flow::with_kafka("b to c".to_owned()));
        for (depth, lag, line) in [
            (0, &[][..], "0 logs waiting"),
            (1, &[0], "1 log waiting"),
            (1, &[2, 3], "6 logs waiting"),
            (0, &[i64::MAX, 1], "9223372036854775807 logs waiting"),
        ] {
            for (partition, messages) in (0..).zip(lag) {
                there.kafka.as_ref().unwrap().note_lag(partition, *messages);
            }
            let spool = move || spool::Figures { depth, ..spool::Figures::default() };
            let (agent, roster, flows) = ("a".into(), Jobs::default().roster(), vec![here.clone(), there.clone()]);
            let health = Health { agent, roster, spool: Some(Box::new(spool)), flows, store: None };
            assert_eq!(health.line(SystemClock.now()), line);
        }
    }

    #[test]
    fn a_lag_that_a_broker_made_up_is_shown_as_it_is() {
        let figures = kafka::figures::Figures::default();
        figures.note_lag(0, i64::MAX);
        figures.note_lag(1, 1);
        assert_eq!(kafka_client(&figures)["lag_total"], json!(i64::MAX));
    }

    #[test]
    fn a_fault_that_lasts_and_a_spool_that_cannot_write_make_it_stuck_and_come_first() {
        let now = SystemClock.now();
        let figures = Arc::new(Figures::with_fault("disk full", now.awake()));
        let flows = vec![Flow { figures, ..Flow::embedded("a to b") }];
        let spool = || spool::Figures { error: Some("is full".to_owned()), ..spool::Figures::default() };
        let (agent, roster) = ("a".into(), Jobs::default().roster());
        let mut health = Health { agent, roster, spool: None, flows, store: None };
        let mut later = now;
        later.steady = later.steady.plus(FAULT_MAX + Duration::from_millis(1));
        assert!(health.look(now).0, "a fault may go away");
        let (well, body) = health.look(later);
        assert!(!well && body["problems"] == json!(["a to b: disk full"]), "{body}");
        assert!(!health.is_stuck(later), "a restart would not bring back what is away");
        health.spool = Some(Box::new(spool));
        assert_eq!(health.look(later).1["problems"], json!(["spool: is full", "a to b: disk full"]));
    }

    #[test]
    fn logs_that_are_refused_are_a_warning_for_a_while() {
        let flow = Flow::embedded("a to b");
        let (agent, roster, watch) = ("a".into(), Jobs::default().roster(), Watch::new(SystemClock.now().wall));
        let store = Some(Arc::new(watch));
        let health = Health { agent, roster, spool: None, flows: vec![flow.clone()], store };
        assert!(flow.figures.note_refusal("too large") && !flow.figures.note_refusal("too large"));
        let mut now = SystemClock.now();
        let (well, body) = health.look(now);
        assert!(well && body["warnings"] == json!(["a to b: logs are refused: too large"]), "{body}");
        now.steady = now.steady.plus(REFUSED_FOR);
        assert_eq!(health.look(now).1["warnings"], json!([]), "none was since");
        now.wall = now.wall.plus(Duration::from_secs(86_401));
        assert_eq!(health.look(now).1["warnings"], json!(["the store's retention has not run for a day"]));
    }
}
