//! `steps`: several requests, one after the other, where a later one may send what the answer to an earlier one held.
//!
//! Each step is a request with all that one may say, over a connection of its own, and is held against what it expects. The
//! first that is down or cannot be judged ends the check: those after it are not reached. One deadline bounds all of them, and
//! the figures of the check are the sums over all. There is no store of cookies: a cookie is taken out of `set-cookie` and sent
//! in `cookie`, as any other value.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::take::{self, Take};
use super::{Http, Visit, template, token};
use crate::check::assertions::Assertions;
use crate::check::each::{badness, judged};
use crate::check::{Assertion, Outcome, Phase, Verdict, certificates};
use crate::net::{Course, Net};
use crate::secret::Secret;

/// Several requests, and what must hold of all of them together.
#[derive(Clone, Debug)]
pub struct Steps {
    /// One after the other; never empty.
    pub steps: Vec<Step>,
    /// Steps that take longer together are degraded.
    pub under: Option<Duration>,
    /// Fewer days left on any certificate of any step: degraded.
    pub certificate_days: Option<u32>,
}

/// Requests that a check may make, one after the other.
pub const STEPS_MAX: usize = 20;

/// One request.
#[derive(Clone, Debug)]
pub struct Step {
    /// What reasons call it, beside its number.
    pub name: Option<String>,
    /// What to ask; texts of it may have gaps for what steps before took.
    pub http: Http,
    /// What to take out of its answer.
    pub take: Vec<Take>,
}

/// A step that was reached.
struct Done {
    outcome: Outcome,
    took: Duration,
}

/// What the steps before took.
#[derive(Default)]
struct Values {
    /// In the order of the config.
    taken: Vec<Secret>,
    /// As peers may repeat it.
    spellings: Vec<Secret>,
}

/// Asks one after the other.
pub fn run(steps: &Steps, net: &Net, deadline: Instant) -> Outcome {
    let mut course = Course::new(deadline);
    let mut values = Values::default();
    let mut done: Vec<Done> = Vec::new();
    for step in &steps.steps {
        let begun = Instant::now();
        let mut outcome = ask(step, &mut values, net, &mut course);
        if let Some(first) = outcome.timeline.first_mut() {
            first.notes.insert(0, step.called(done.len()));
        }
        let ends = matches!(outcome.verdict, Verdict::Down | Verdict::Unknown);
        done.push(Done { outcome, took: begun.elapsed() });
        if ends {
            break;
        }
    }
    all(steps, &done, course, net)
}

/// Asks once, and takes what is to be taken.
fn ask(step: &Step, values: &mut Values, net: &Net, course: &mut Course) -> Outcome {
    let mut http = match template::filled(&step.http, &values.taken) {
        Ok(http) => http,
        // An answer held what cannot be sent on: nobody was asked.
        Err(reason) => {
            let (phase, reason) = (Some(Phase::Assert), Some(reason));
            return Outcome { verdict: Verdict::Down, phase, reason, ..Outcome::unknown("") };
        }
    };
    http.known.clone_from(&values.spellings);
    token::with(&http, net, course.deadline(), |http, token_took| {
        course.leave_out(token_took);
        let (visit, failure) = Visit::made(http, None, net, course.deadline());
        let taken = take::all(&step.take, &visit.answer, visit.hops);
        let outcome = visit.judged(http, net, failure, &taken);
        course.add(visit.course);
        for one in taken {
            values.taken.extend(one.value);
            values.spellings.extend(one.spellings);
        }
        outcome
    })
}

/// One outcome out of those of all steps.
fn all(steps: &Steps, done: &[Done], course: Course, net: &Net) -> Outcome {
    let mut whole = Assertions::default();
    let worst = done.iter().enumerate().rev().max_by_key(|(_, one)| badness(one.outcome.verdict));
    let passed = worst.is_none_or(|(_, one)| matches!(one.outcome.verdict, Verdict::Up | Verdict::Degraded));
    if passed {
        if let Some(limit) = steps.under {
            whole.under(limit, course.took());
        }
        if let Some(days) = steps.certificate_days {
            certificates::days(days, net, &course, &mut whole);
        }
    }
    let (verdict, phase, reason) = match worst {
        Some((at, Done { outcome, .. })) if outcome.verdict != Verdict::Up => {
            let why = outcome.reason.as_deref().unwrap_or_default();
            (outcome.verdict, outcome.phase, Some(format!("{}: {why}", steps.steps[at].called(at))))
        }
        _ => whole.verdict(),
    };
    let of_steps = done.iter().enumerate().flat_map(|(at, one)| {
        let what = move |one: &Assertion| Assertion { what: format!("step {}: {}", at + 1, one.what), ..one.clone() };
        one.outcome.assertions.iter().map(what)
    });
    let assertions = of_steps.chain(whole.listed).collect();
    let figures = steps.steps.iter().enumerate().map(|(at, step)| match done.get(at) {
        Some(one) => figures(step, one),
        None => Value::Null,
    });
    let phases = course.phases();
    let result =
        Map::from_iter([("phases".to_owned(), json!(phases)), ("steps".to_owned(), Value::Array(figures.collect()))]);
    let timeline = done.iter().flat_map(|one| one.outcome.timeline.iter().cloned()).collect();
    Outcome { verdict, phase, reason, phases, assertions, result, timeline }
}

impl Step {
    /// `step 2`, or `step 2 (login)`.
    fn called(&self, at: usize) -> String {
        match &self.name {
            Some(name) => format!("step {} ({name})", at + 1),
            None => format!("step {}", at + 1),
        }
    }
}

/// What belongs to one step: its verdict, and the result that a check of it alone would have.
fn figures(step: &Step, Done { outcome, took }: &Done) -> Value {
    let name = step.name.iter().map(|name| ("name".to_owned(), Value::from(name.as_str())));
    let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let own = outcome.result.iter().map(|(key, value)| (key.clone(), value.clone()));
    let figures = name.chain(judged(outcome)).chain([("duration_us".to_owned(), took.into())]).chain(own);
    Value::Object(figures.collect())
}

/// Whether one of the steps got an answer that passed, so that the network worked for it.
pub fn got_an_answer(outcome: &Outcome) -> bool {
    let steps = outcome.result.get("steps").and_then(Value::as_array);
    steps.into_iter().flatten().any(|step| matches!(step["verdict"].as_str(), Some("up" | "degraded")))
}
