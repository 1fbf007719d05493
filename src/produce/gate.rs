//! The network gate: whether a check that did not get through tells of its target, or of the agent's own network.
//!
//! When a check fails before there is an answer to judge, the checks of the gate are looked at, there and then. Where one of them
//! gets through, the network works and the failure stands. Where none does, nobody can tell from here: the result is `unknown`, and
//! holds what the gate said. So it is, too, where the gate is open again and was not yet when the check began: the check may have
//! failed before the network came back. That goes for the gate's own checks, too. Where none of the gate's checks can be asked (no permission to
//! send echoes), there is no gate: failures stand, and the log says so once. The gate is asked by one worker at a time; what it
//! said holds for all who waited.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Run, run_check};
use crate::check::http;
use crate::check::{Check, Kind, Outcome, Phase, Verdict};
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
    /// When it was seen to be open again, and what it had said while it was shut.
    back: Option<(Instant, Arc<Evidence>)>,
    /// Since when it is shut, once that was said.
    said: Option<Instant>,
    /// It was said that it cannot be asked.
    mute: bool,
}

/// What the gate says when it is asked.
enum Answer {
    /// One of its checks got through.
    Open,
    /// None did, and why.
    Shut(Evidence),
    /// None could be asked.
    Mute,
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
        let mut sight = lock(&self.sight);
        *sight = Sight { said: sight.said, back: sight.no_more_shut(), ..Sight::default() };
    }

    /// See [`judging_max`].
    pub(super) fn judging_max(&self) -> Duration {
        judging_max(self.checks().len())
    }

    fn checks(&self) -> Arc<[Arc<Check>]> {
        lock(&self.checks).clone()
    }

    /// The outcome of a check that has just ended and took so long, or, where that is the agent's own network's, that it is
    /// `unknown` and why.
    pub(super) fn judge(&self, check: &Check, (outcome, took): (Outcome, Duration), net: &Net) -> Outcome {
        let (checks, ended) = (self.checks(), Instant::now());
        if checks.is_empty() {
            return outcome;
        }
        if !failed_on_the_way(check, &outcome) {
            let of_gate = checks.iter().any(|of_gate| of_gate.label == check.label);
            if of_gate && got_through(check, &outcome) == Some(true) {
                lock(&self.sight).open(ended);
            }
            return outcome;
        }
        let mut sight = lock(&self.sight);
        if !sight.holds(ended) {
            if let Some(began) = sight.began {
                self.stop.wait((began + PAUSE).saturating_duration_since(Instant::now()));
            }
            let began = Instant::now();
            let answer = self.ask(&checks, net);
            sight.see(began, answer);
        }
        match sight.of_one_begun(ended.checked_sub(took)) {
            Some(evidence) => unknown(outcome, &evidence),
            None => outcome,
        }
    }

    /// Asks one after the other, until one gets through.
    fn ask(&self, checks: &[Arc<Check>], net: &Net) -> Answer {
        let mut evidence = Evidence::new();
        for check in checks {
            let hasty = Check { timeout: check.timeout.min(EACH_MAX), ..Check::clone(check) };
            let (outcome, _) = run_check(self.run, &hasty, net);
            match got_through(check, &outcome) {
                Some(true) => return Answer::Open,
                Some(false) => {
                    let why = outcome.reason.unwrap_or_else(|| outcome.verdict.to_string());
                    evidence.insert(check.label.clone(), why);
                }
                None => {}
            }
        }
        if evidence.is_empty() { Answer::Mute } else { Answer::Shut(evidence) }
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

    /// What the gate says of a check that began then.
    fn of_one_begun(&self, began: Option<Instant>) -> Option<Arc<Evidence>> {
        let back = self.back.as_ref().filter(|(back, _)| began.is_none_or(|began| began < *back));
        self.shut.clone().or_else(|| back.map(|(_, evidence)| evidence.clone()))
    }

    fn see(&mut self, began: Instant, answer: Answer) {
        let evidence = match answer {
            Answer::Open => return self.open(began),
            Answer::Mute => {
                if !std::mem::replace(&mut self.mute, true) {
                    log::warn!("no check of `network_gate` can be asked: failures are laid to their targets");
                }
                (self.began, self.back) = (Some(began), self.no_more_shut());
                return;
            }
            Answer::Shut(evidence) => evidence,
        };
        if self.said.is_none() {
            let why = listed(&evidence);
            log::warn!("the agent's own network is at fault: {why}; checks that do not get through are `unknown`");
        }
        let (ended, said) = (Some(Instant::now()), self.said.or(Some(began)));
        *self = Sight { began: Some(began), ended, shut: Some(evidence.into()), said, mute: self.mute, back: None };
    }

    /// Opens it; what holds of checks that began before that.
    fn no_more_shut(&mut self) -> Option<(Instant, Arc<Evidence>)> {
        self.shut.take().map(|evidence| (Instant::now(), evidence)).or(self.back.take())
    }

    /// One of its checks got through at `seen`; nothing new where it was looked at since then.
    fn open(&mut self, seen: Instant) {
        if self.began.is_some_and(|began| seen < began) {
            return;
        }
        if let Some(since) = self.said {
            log::info!("the agent's own network is back after {:.0} s", since.elapsed().as_secs_f64());
        }
        *self = Sight { began: Some(seen), back: self.no_more_shut(), mute: self.mute, ..Sight::default() };
    }
}

/// Whether a check failed before there was an answer to judge. Echoes that are lost are, too: there is nothing else to judge them by.
fn failed_on_the_way(check: &Check, outcome: &Outcome) -> bool {
    match (outcome.verdict, outcome.phase) {
        (Verdict::Down, Some(Phase::Assert)) => matches!(check.kind, Kind::Icmp(_)),
        // Whoever was asked for a token answered.
        (Verdict::Unknown, Some(Phase::Assert)) if is_http(check) => false,
        (Verdict::Down | Verdict::Unknown, phase) => phase.is_some(),
        _ => false,
    }
}

/// Whether a check of the gate got an answer from beyond this machine; `None` for one that could not even ask. Of a resolver, which
/// may be here, only the answer that was expected is one; in a dialogue, whatever was heard, and of HTTP, a head.
fn got_through(check: &Check, outcome: &Outcome) -> Option<bool> {
    match (outcome.verdict, outcome.phase) {
        (Verdict::Unknown, None) => None,
        (Verdict::Down, Some(Phase::Assert)) => Some(!matches!(check.kind, Kind::Dns(_))),
        (Verdict::Down, Some(Phase::Body)) if matches!(check.kind, Kind::Tcp(_)) => Some(true),
        (Verdict::Down, Some(Phase::Body)) if outcome.result.contains_key("status_code") => Some(true),
        (Verdict::Unknown, Some(Phase::Assert)) if is_http(check) => Some(true),
        // One that fails in a step got through in the step before.
        (Verdict::Down | Verdict::Unknown, Some(_)) => Some(http::steps::got_an_answer(outcome)),
        _ => Some(true),
    }
}

fn is_http(check: &Check) -> bool {
    matches!(check.kind, Kind::Http(_) | Kind::Steps(_))
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
    use crate::check::tcp;
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
        gate.judge(&check("shop"), (outcome, Duration::ZERO), &Net::system())
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
    fn a_resolver_may_be_here_and_an_echo_that_is_lost_is_on_the_way() {
        let down = outcome(Verdict::Down, Some(Phase::Assert));
        let of = |config: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("pingeon.yaml");
            std::fs::write(&path, format!("checks: [{{label: a, {config}}}]")).unwrap();
            crate::config::load(&path, &|_| None).unwrap().checks.remove(0)
        };
        for (config, on_the_way, through) in [
            ("tcp: 'a:1'", false, true),
            ("icmp: 192.0.2.1", true, true),
            ("dns: {name: a.example, type: A, server: 127.0.0.53}", false, false),
        ] {
            let check = of(config);
            assert_eq!(failed_on_the_way(&check, &down), on_the_way, "{config}");
            assert_eq!(got_through(&check, &down), Some(through), "{config}");
        }
        // A dialogue that falls silent: the rest may be lost on the way, and somebody has spoken.
        let (silent, tcp) = (outcome(Verdict::Down, Some(Phase::Body)), of("tcp: 'a:1'"));
        assert_eq!((failed_on_the_way(&tcp, &silent), got_through(&tcp, &silent)), (true, Some(true)));
    }

    #[test]
    fn what_fails_in_a_later_step_is_judged_and_has_got_through_in_an_earlier_one() {
        let failed = |steps| Outcome {
            result: serde_json::Map::from_iter([("steps".to_owned(), steps)]),
            ..outcome(Verdict::Down, Some(Phase::Connect))
        };
        for (steps, through) in [
            (json!([{"verdict": "up"}, {"verdict": "down"}, null]), true),
            (json!([{"verdict": "degraded"}, {"verdict": "unknown"}]), true),
            (json!([{"verdict": "down"}, null]), false),
        ] {
            assert!(failed_on_the_way(&check("a"), &failed(steps.clone())));
            assert_eq!(got_through(&check("a"), &failed(steps.clone())), Some(through), "{steps}");
        }
    }

    #[test]
    fn who_was_asked_for_a_token_and_gave_none_has_answered() {
        let answered = outcome(Verdict::Unknown, Some(Phase::Assert));
        let kind = Kind::Http(Box::new(http::Http::get("http://192.0.2.1/".parse().unwrap())));
        let check = Check { kind, ..Check::clone(&check("a")) };
        assert_eq!((failed_on_the_way(&check, &answered), got_through(&check, &answered)), (false, Some(true)));
        let head = serde_json::Map::from_iter([("status_code".to_owned(), 200.into())]);
        let endless = Outcome { result: head, ..outcome(Verdict::Down, Some(Phase::Body)) };
        assert_eq!((failed_on_the_way(&check, &endless), got_through(&check, &endless)), (true, Some(true)));
        let silent = outcome(Verdict::Unknown, Some(Phase::FirstByte));
        assert_eq!((failed_on_the_way(&check, &silent), got_through(&check, &silent)), (true, Some(false)));
    }

    #[test]
    fn what_was_seen_before_the_last_look_opens_nothing() {
        let (before, mut sight) = (Instant::now(), Sight::default());
        sight.see(before + PAUSE, Answer::Shut(Evidence::new()));
        sight.open(before);
        assert!(sight.said.is_some());
        sight.see(before + PAUSE, Answer::Mute);
        assert!(sight.said.is_some() && sight.mute, "nobody knows whether it is back");
        assert!(sight.of_one_begun(Some(before)).is_some(), "it began while the network was away");
        assert!(sight.of_one_begun(Some(Instant::now() + PAUSE)).is_none());
        sight.open(before + PAUSE);
        assert!(sight.said.is_none());
    }

    #[test]
    fn the_gate_is_open_again_when_one_of_its_checks_got_through() {
        let gate = Gate::new(run, vec![check("no answer")], &Stop::default());
        let net = Net::system();
        let failed = || (outcome(Verdict::Down, Some(Phase::Connect)), Duration::ZERO);
        let up = || (outcome(Verdict::Up, None), Duration::ZERO);
        assert_eq!(gate.judge(&check("shop"), failed(), &net).verdict, Verdict::Unknown);
        assert!(lock(&gate.sight).said.is_some());
        gate.judge(&check("shop"), up(), &net);
        assert!(lock(&gate.sight).said.is_some(), "another check's target may be this machine");
        gate.judge(&check("no answer"), up(), &net);
        assert!(lock(&gate.sight).said.is_none());
        gate.change(vec![check("through")]);
        assert_eq!(gate.judge(&check("shop"), failed(), &net).verdict, Verdict::Down);
    }

    #[test]
    fn a_check_that_began_before_the_network_was_back_may_have_failed_for_that() {
        let gate = Gate::new(run, vec![check("through")], &Stop::default());
        let (net, evidence) = (Net::system(), Evidence::from([("through".into(), "no answer".to_owned())]));
        lock(&gate.sight).see(Instant::now(), Answer::Shut(evidence));
        lock(&gate.sight).open(Instant::now());
        for (took, expected) in [(Duration::from_secs(10), Verdict::Unknown), (Duration::ZERO, Verdict::Down)] {
            // Twice: that the gate is looked at again changes nothing.
            for _ in 0..2 {
                let failed = outcome(Verdict::Down, Some(Phase::Connect));
                let judged = gate.judge(&check("shop"), (failed, took), &net);
                assert_eq!(judged.verdict, expected, "{took:?}");
                assert_eq!(judged.result.contains_key("network_gate"), expected == Verdict::Unknown);
            }
        }
    }

    #[test]
    fn a_sight_holds_for_what_ended_before_it_and_a_shut_one_a_moment_longer() {
        let at = Instant::now();
        let (open, shut) = (
            Sight { began: Some(at), ..Sight::default() },
            Sight {
                began: Some(at),
                ended: Some(at + EACH_MAX),
                shut: Some(Arc::default()),
                said: Some(at),
                mute: false,
                back: None,
            },
        );
        let moment = Duration::from_millis(1);
        assert!(!Sight::default().holds(at));
        assert!(open.holds(at) && !open.holds(at + moment));
        assert!(shut.holds(at + EACH_MAX + SHUT_HOLDS) && !shut.holds(at + EACH_MAX + SHUT_HOLDS + moment));
    }
}
