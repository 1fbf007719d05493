//! The network gate: whether a check that did not get through tells of its target, or of the agent's own network.
//!
//! When a check fails before there is an answer to judge, the checks of the gate are looked at, there and then. Where one of them
//! gets through, the network works and the failure stands. Where none does, nobody can tell from here: the result is `unknown`, and
//! holds what the gate said. That goes for the gate's own checks, too. The gate is asked by one worker at a time; what it
//! said holds for all who waited.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Run, run_check};
use crate::check::{Check, Outcome, Phase, Verdict};
use crate::jobs::Stop;
use crate::net::Net;

/// How long each check of the gate may take: what stands there is near, and a worker waits for it.
const EACH_MAX: Duration = Duration::from_secs(2);

/// The gate is not asked more often than this, however many checks fail.
const PAUSE: Duration = Duration::from_millis(100);

/// What a shut gate said holds this much longer, so that workers do not all ask it again, one after the other.
const SHUT_HOLDS: Duration = Duration::from_secs(1);

/// The checks that tell whether the agent's own network works. None: nothing is ever laid to it.
#[derive(Debug)]
pub(super) struct Gate {
    run: Run,
    stop: Stop,
    checks: Mutex<Arc<[Arc<Check>]>>,
    sight: Mutex<Sight>,
}

/// What was last seen of the gate.
#[derive(Debug, Default)]
struct Sight {
    began: Option<Instant>,
    ended: Option<Instant>,
    /// Why each of its checks did not get through; `None`: one did.
    shut: Option<Arc<Evidence>>,
    /// Since when it is shut, once that was said.
    said: Option<Instant>,
}

/// Why each check of the gate did not get through, by label.
type Evidence = BTreeMap<Arc<str>, String>;

/// How long judging one outcome takes at most, with a gate of so many checks: another worker asks, and then this one.
pub fn judging_max(checks: usize) -> Duration {
    2 * (PAUSE + EACH_MAX) * u32::try_from(checks).unwrap_or(u32::MAX)
}

impl Gate {
    /// `stop` ends a pause early.
    pub(super) fn new(run: Run, checks: Vec<Arc<Check>>, stop: &Stop) -> Self {
        Gate { run, stop: stop.clone(), checks: Mutex::new(checks.into()), sight: Mutex::default() }
    }

    /// Made of others from now on.
    pub(super) fn change(&self, checks: Vec<Arc<Check>>) {
        *lock(&self.checks) = checks.into();
        *lock(&self.sight) = Sight::default();
    }

    /// See [`judging_max`].
    pub(super) fn judging_max(&self) -> Duration {
        judging_max(self.checks().len())
    }

    fn checks(&self) -> Arc<[Arc<Check>]> {
        lock(&self.checks).clone()
    }

    /// The outcome of a check that has just ended, or, where that is the agent's own network's, that it is `unknown` and why.
    pub(super) fn judge(&self, check: &Check, outcome: Outcome, net: &Net) -> Outcome {
        let (checks, ended) = (self.checks(), Instant::now());
        if checks.is_empty() {
            return outcome;
        }
        match got_through(&outcome) {
            Some(false) => {}
            Some(true) if checks.iter().any(|of_gate| of_gate.label == check.label) => {
                lock(&self.sight).open(ended);
                return outcome;
            }
            Some(true) | None => return outcome,
        }
        let mut sight = lock(&self.sight);
        if !sight.holds(ended) {
            if let Some(began) = sight.began {
                self.stop.wait((began + PAUSE).saturating_duration_since(Instant::now()));
            }
            let began = Instant::now();
            let shut = self.ask(&checks, net);
            sight.see(began, shut);
        }
        match sight.shut.clone() {
            Some(evidence) => unknown(outcome, &evidence),
            None => outcome,
        }
    }

    /// Why none of the gate's checks gets through; `None` as soon as one does.
    fn ask(&self, checks: &[Arc<Check>], net: &Net) -> Option<Evidence> {
        let mut evidence = Evidence::new();
        for check in checks {
            let hasty = Check { timeout: check.timeout.min(EACH_MAX), ..Check::clone(check) };
            let (outcome, _) = run_check(self.run, &hasty, net);
            match got_through(&outcome) {
                Some(true) => return None,
                Some(false) => {
                    let why = outcome.reason.unwrap_or_else(|| outcome.verdict.to_string());
                    evidence.insert(check.label.clone(), why);
                }
                None => {}
            }
        }
        (!evidence.is_empty()).then_some(evidence)
    }
}

impl Sight {
    /// Whether it says something of a check that ended at `ended`. That the network works has to be seen after that: it may have
    /// gone in the midst of the check.
    fn holds(&self, ended: Instant) -> bool {
        match self.shut {
            Some(_) => self.ended.is_some_and(|seen| ended <= seen + SHUT_HOLDS),
            None => self.began.is_some_and(|seen| ended <= seen),
        }
    }

    fn see(&mut self, began: Instant, shut: Option<Evidence>) {
        let Some(evidence) = shut else { return self.open(began) };
        let first = self.said.is_none();
        let since = *self.said.get_or_insert(began);
        if first {
            log::warn!(
                "the agent's own network is at fault: {}; checks that do not get through are `unknown`",
                listed(&evidence)
            );
        }
        *self =
            Sight { began: Some(began), ended: Some(Instant::now()), shut: Some(evidence.into()), said: Some(since) };
    }

    fn open(&mut self, seen: Instant) {
        if let Some(since) = self.said {
            log::info!("the agent's own network is back after {:.0} s", since.elapsed().as_secs_f64());
        }
        *self = Sight { began: Some(seen), ..Sight::default() };
    }
}

/// Whether there was an answer to judge; `None` for a check that could not even ask for one.
fn got_through(outcome: &Outcome) -> Option<bool> {
    match (outcome.verdict, outcome.phase) {
        (Verdict::Unknown, None) => None,
        (Verdict::Down | Verdict::Unknown, Some(phase)) => Some(phase >= Phase::Assert),
        _ => Some(true),
    }
}

fn unknown(outcome: Outcome, evidence: &Evidence) -> Outcome {
    let mut result = outcome.result;
    result.insert("network_gate".to_owned(), json!(evidence));
    let reason = outcome.reason.unwrap_or_default();
    let reason = Some(format!("own network: {reason}; the gate likewise: {}", listed(evidence)));
    Outcome { verdict: Verdict::Unknown, reason, result, ..outcome }
}

fn listed(evidence: &Evidence) -> String {
    evidence.iter().map(|(label, why)| format!("`{label}`: {why}")).collect::<Vec<_>>().join(", ")
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Kind, tcp};
    use crate::net::Host;

    fn check(label: &str) -> Arc<Check> {
        let host = Host::Address([192, 0, 2, 1].into());
        let tcp = tcp::Tcp::to(host, 1);
        let (interval, kind) = (Duration::from_secs(10), Kind::Tcp(Box::new(tcp)));
        Arc::new(Check {
            label: label.into(),
            interval,
            timeout: interval,
            confirm: Default::default(),
            target: "".into(),
            kind,
        })
    }

    fn outcome(verdict: Verdict, phase: Option<Phase>) -> Outcome {
        Outcome { verdict, phase, ..Outcome::unknown("no answer") }
    }

    /// Checks do as they are called.
    fn run(check: &Check, _: &Net, deadline: Instant) -> Outcome {
        assert!(deadline <= Instant::now() + EACH_MAX, "a worker waits");
        match &*check.label {
            "through" => outcome(Verdict::Up, None),
            "wrong answer" => outcome(Verdict::Down, Some(Phase::Assert)),
            "no answer" => outcome(Verdict::Down, Some(Phase::Connect)),
            "no resolver" => outcome(Verdict::Unknown, Some(Phase::Resolve)),
            _ => outcome(Verdict::Unknown, None),
        }
    }

    fn judged(gate: &[&str], outcome: Outcome) -> Outcome {
        let gate = Gate::new(run, gate.iter().map(|label| check(label)).collect(), &Stop::default());
        gate.judge(&check("shop"), outcome, &Net::system())
    }

    #[test]
    fn a_failure_is_the_own_networks_while_no_check_of_the_gate_gets_through() {
        for (gate, expected) in [
            (&[][..], Verdict::Down),
            (&["no answer"], Verdict::Unknown),
            (&["no answer", "no resolver"], Verdict::Unknown),
            (&["no answer", "through"], Verdict::Down),
            (&["no answer", "wrong answer"], Verdict::Down),
            (&["no answer", "not permitted"], Verdict::Unknown),
            (&["not permitted"], Verdict::Down),
        ] {
            let judged = judged(gate, outcome(Verdict::Down, Some(Phase::Connect)));
            assert_eq!((judged.verdict, judged.phase), (expected, Some(Phase::Connect)), "{gate:?}");
        }
        let judged = judged(&["no answer"], outcome(Verdict::Down, Some(Phase::Resolve)));
        assert_eq!(judged.reason.unwrap(), "own network: no answer; the gate likewise: `no answer`: no answer");
        assert_eq!(judged.result["network_gate"], json!({"no answer": "no answer"}));
    }

    #[test]
    fn what_came_to_a_judgement_is_left_alone() {
        for (verdict, phase) in [
            (Verdict::Up, None),
            (Verdict::Degraded, None),
            (Verdict::Down, Some(Phase::Assert)),
            (Verdict::Down, None),
            (Verdict::Unknown, None),
        ] {
            let judged = judged(&["no answer"], outcome(verdict, phase));
            assert_eq!((judged.verdict, judged.reason.as_deref()), (verdict, Some("no answer")), "{verdict} {phase:?}");
        }
    }

    #[test]
    fn the_gate_is_open_again_when_one_of_its_checks_got_through() {
        let gate = Gate::new(run, vec![check("no answer")], &Stop::default());
        let net = Net::system();
        let failed = || outcome(Verdict::Down, Some(Phase::Connect));
        assert_eq!(gate.judge(&check("shop"), failed(), &net).verdict, Verdict::Unknown);
        assert!(lock(&gate.sight).said.is_some());
        gate.judge(&check("shop"), outcome(Verdict::Up, None), &net);
        assert!(lock(&gate.sight).said.is_some(), "another check's target may be this machine");
        gate.judge(&check("no answer"), outcome(Verdict::Up, None), &net);
        assert!(lock(&gate.sight).said.is_none());
        gate.change(vec![check("through")]);
        assert_eq!(gate.judge(&check("shop"), failed(), &net).verdict, Verdict::Down);
    }

    #[test]
    fn a_sight_holds_for_what_ended_before_it_and_a_shut_one_a_moment_longer() {
        let at = Instant::now();
        let (open, shut) = (
            Sight { began: Some(at), ..Sight::default() },
            Sight { began: Some(at), ended: Some(at + EACH_MAX), shut: Some(Arc::default()), said: Some(at) },
        );
        let moment = Duration::from_millis(1);
        assert!(!Sight::default().holds(at));
        assert!(open.holds(at) && !open.holds(at + moment));
        assert!(shut.holds(at + EACH_MAX + SHUT_HOLDS) && !shut.holds(at + EACH_MAX + SHUT_HOLDS + moment));
    }
}
