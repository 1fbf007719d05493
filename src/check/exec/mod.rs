//! `exec` checks: a monitoring plugin, as the [Monitoring Plugins Development Guidelines] have it.
//!
//! Exit code 0 is up, 1 degraded, 2 down, and anything else unknown, a signal included. The first line that it prints is the
//! reason, what stands behind a `|` its performance data (`output`). Two phases are timed: `first_byte` until it prints
//! something, and `body` until it has ended.
//!
//! It runs in a process group of its own, which is killed whole when the plugin ends or the deadline comes; see `process`.
//!
//! [Monitoring Plugins Development Guidelines]: https://www.monitoring-plugins.org/doc/guidelines.html

mod output;
mod process;

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Map, json};

use super::assertions::Assertions;
use super::{Outcome, Phase, Verdict};
use crate::net::{Course, blanked};
use crate::secret::Secret;
use output::Output;
pub use output::lines;
use process::{End, Printed};

/// Which monitoring plugin to run.
#[derive(Clone, Debug)]
pub struct Exec {
    /// The program: an absolute path, or a name without `/`, which is looked up in `PATH`.
    pub program: PathBuf,
    /// Its arguments; what the environment gave to one may be a secret.
    pub arguments: Vec<Secret>,
    /// What its environment holds beside [`ENVIRONMENT`]; values may be secrets.
    pub env: Vec<(String, Secret)>,
}

/// What a plugin's environment holds unless `env` says otherwise. Of the agent's own it gets nothing.
pub const ENVIRONMENT: [(&str, &str); 2] =
    [("LANG", "C"), ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")];

impl Exec {
    /// Its environment.
    fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = self.env.iter().map(|(name, value)| (&**name, value.expose()));
        ENVIRONMENT.into_iter().chain(own)
    }

    /// What was given to it and must not be shown, though plugins repeat it.
    fn secrets(&self) -> Vec<&str> {
        let given = self.arguments.iter().chain(self.env.iter().map(|(_, value)| value));
        given.flat_map(Secret::kept_elsewhere).collect()
    }
}

/// Runs the plugin once.
pub fn run(exec: &Exec, deadline: Instant) -> Outcome {
    let mut course = Course::new(deadline);
    match process::run(exec, &mut course) {
        Ok((printed, end)) => judge(exec, &printed, end, &course),
        Err(reason) => {
            // Nothing of it ran, or nobody knows what: no phase has a time.
            let result = Map::from_iter([("phases".to_owned(), json!(super::Phases::default()))]);
            Outcome { result, ..Outcome::unknown(reason) }
        }
    }
}

fn judge(exec: &Exec, printed: &Printed, end: End, course: &Course) -> Outcome {
    let secrets = exec.secrets();
    let output = Output::parse(&blanked(&printed.stdout.bytes, &secrets));
    let stderr = output::printable(&blanked(&printed.stderr.bytes, &secrets));
    let said = match (output.first_line(), stderr.lines().next()) {
        ("", None) => "it printed nothing".to_owned(),
        ("", Some(line)) => format!("on standard error: {line}"),
        (line, _) => line.to_owned(),
    };
    let mut assertions = Assertions::default();
    let (verdict, phase, reason) = match end {
        End::Exited(code @ 0..=2) => {
            let reason = || said;
            let got = code.to_string();
            match code {
                1 => assertions.limit(false, "exit_code", "0", got, reason),
                _ => assertions.must(code == 0, "exit_code", "0", got, reason),
            }
            assertions.verdict()
        }
        End::Exited(3) => (Verdict::Unknown, None, Some(said)),
        End::Exited(code) => {
            (Verdict::Unknown, None, Some(format!("exit code {code}, which is none of 0 to 3: {said}")))
        }
        End::Killed(signal) => {
            (Verdict::Unknown, None, Some(format!("killed by {}: {said}", process::signal_name(signal))))
        }
        End::Late if printed.is_empty() => {
            let reason = format!("printed nothing within {} and was killed", course.budget());
            (Verdict::Down, Some(Phase::FirstByte), Some(reason))
        }
        End::Late => {
            let reason = format!("did not end within {} and was killed: {said}", course.budget());
            (Verdict::Down, Some(Phase::Body), Some(reason))
        }
    };
    let mut result = Map::new();
    result.insert("phases".to_owned(), json!(course.phases()));
    match end {
        End::Exited(code) => drop(result.insert("exit_code".to_owned(), code.into())),
        End::Killed(signal) => drop(result.insert("signal".to_owned(), signal.into())),
        End::Late => {}
    }
    output.write(&mut result, printed.stdout.cut);
    if !stderr.is_empty() {
        result.insert("stderr".to_owned(), stderr.into());
    }
    let phases = course.phases();
    Outcome { verdict, phase, reason, phases, assertions: assertions.listed, result, timeline: Vec::new() }
}
