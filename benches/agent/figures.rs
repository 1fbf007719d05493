//! From what was seen to what people read.

use std::fs;
use std::time::Duration;

use crate::Scenario;
use crate::kept::Kept;
use crate::process::Usage;

const INTERVAL_ERROR_P99_MS_MAX: f64 = 3.0;
const MEMORY_MB_MAX: f64 = 40.0;
const CPU_SECONDS_MAX: f64 = 0.25;
const CHECKS_PER_SECOND_MIN: f64 = 8_000.0;
/// The same over TLS.
const TLS_CPU_SECONDS_MAX: f64 = 0.75;
const TLS_CHECKS_PER_SECOND_MIN: f64 = 1_600.0;

/// What came out.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Connections at the target, from the first to the last moment.
    pub seen: u64,
    /// Connections at the target within the window, a second.
    pub rate: f64,
    /// CPU seconds of the agent for 1,000 checks.
    pub agent_cpu: f64,
    /// CPU seconds for 1,000 checks of the least that can be, where that was measured.
    pub floor_cpu: Option<f64>,
    /// CPU seconds of the target for 1,000 checks.
    pub target_cpu: f64,
    /// The agent at the end of the window.
    pub agent: Usage,
    /// How far the gaps between a check's connections are from its interval, in milliseconds: p50, p99 and most.
    pub interval_error: [f64; 3],
    /// How many gaps that is.
    pub gaps: usize,
    /// What the store has.
    pub kept: Kept,
    /// How long the agent took to stop.
    pub stopped_in: Duration,
}

/// What the processes used at the begin and at the end of the window.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    pub agent: [Usage; 2],
    pub target: [Usage; 2],
    pub floor: Option<[Usage; 2]>,
}

/// How many checks a window holds at the pace that is asked for.
fn paced(scenario: &Scenario) -> f64 {
    scenario.checks as f64 * scenario.window.as_secs_f64() / scenario.interval.as_secs_f64()
}

impl Figures {
    /// From the arrivals of each check, and what both processes used at the `window`'s begin and end.
    pub fn of(
        scenario: &Scenario,
        arrivals: &[Vec<u64>],
        window: (u64, u64),
        Used { agent, target, floor }: Used,
        kept: Kept,
        stopped_in: Duration,
    ) -> Self {
        let within = |at: &&u64| (window.0..window.1).contains(*at);
        let checks = arrivals.iter().flatten().filter(within).count() as f64;
        let mut errors: Vec<f64> = Vec::new();
        for arrivals in arrivals {
            let inside: Vec<u64> = arrivals.iter().filter(within).copied().collect();
            let gaps = inside.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e3);
            errors.extend(gaps.map(|gap| (gap - scenario.interval.as_secs_f64() * 1e3).abs()));
        }
        errors.sort_by(f64::total_cmp);
        Figures {
            seen: arrivals.iter().map(|arrivals| arrivals.len() as u64).sum(),
            rate: checks / ((window.1 - window.0) as f64 / 1e6),
            agent_cpu: (agent[1].cpu - agent[0].cpu) / checks * 1e3,
            floor_cpu: floor.map(|[before, after]| (after.cpu - before.cpu) / (paced(scenario) / 1e3)),
            target_cpu: (target[1].cpu - target[0].cpu) / checks * 1e3,
            agent: agent[1],
            interval_error: [0.5, 0.99, 1.0].map(|share| quantile(&errors, share)),
            gaps: errors.len(),
            kept,
            stopped_in,
        }
    }

    /// Whether every figure that is held against a bound keeps it.
    pub fn accepted(&self, scenario: &Scenario) -> bool {
        self.lines(scenario).iter().all(Line::is_kept)
    }

    /// The table for people.
    pub fn table(&self, scenario: &Scenario) -> String {
        let mut table = format!(
            "{} {} checks every {:?}, answered after {:?}, for {:?}; load average at the end {}\n\n",
            scenario.checks,
            if scenario.tls { "HTTPS" } else { "HTTP" },
            scenario.interval,
            scenario.delay,
            scenario.window,
            fs::read_to_string("/proc/loadavg").unwrap_or_default().trim()
        );
        for line in self.lines(scenario) {
            table.push_str(&line.text());
        }
        table
    }

    fn lines(&self, scenario: &Scenario) -> Vec<Line> {
        let [p50, p99, most] = self.interval_error;
        let floor = self.floor_cpu.map(|floor| format!("{floor:.3}")).unwrap_or_default();
        let ratio = self.floor_cpu.map(|floor| format!("{:.2}", self.agent_cpu / floor)).unwrap_or_default();
        let (rate_min, cpu_max) = match scenario.tls {
            false => (CHECKS_PER_SECOND_MIN, CPU_SECONDS_MAX),
            true => (TLS_CHECKS_PER_SECOND_MIN, TLS_CPU_SECONDS_MAX),
        };
        let [paced, full] = [!scenario.most, scenario.most].map(|this| this && scenario.unchanged);
        vec![
            line("checks a second at the target", format!("{:.1}", self.rate)).least(full, self.rate, rate_min),
            line("agent: CPU seconds for 1,000 checks", format!("{:.3}", self.agent_cpu)).most(
                paced,
                self.agent_cpu,
                cpu_max,
            ),
            line("the least that can be: CPU seconds likewise", floor),
            line("agent: CPU seconds, in those", ratio),
            line("agent: peak memory, MB", format!("{:.1}", self.agent.memory_peak)).most(
                paced,
                self.agent.memory_peak,
                MEMORY_MB_MAX,
            ),
            line("agent: memory in the end, MB", format!("{:.1}", self.agent.memory)),
            line("agent: threads", self.agent.threads.to_string()),
            line("interval error p50, ms", format!("{p50:.3}")),
            line("interval error p99, ms", format!("{p99:.3}")).most(paced, p99, INTERVAL_ERROR_P99_MS_MAX),
            line("interval error, most, ms", format!("{most:.3}")),
            line("gaps measured", self.gaps.to_string()),
            line("slots missed", self.kept.missed.to_string()).most(paced, self.kept.missed as f64, 0.0),
            line("connections the target saw, in all", self.seen.to_string()),
            line("logs in the store, of checks that ran", self.kept.logs.to_string()).least(
                scenario.unchanged,
                self.kept.logs as f64,
                self.seen as f64,
            ),
            line("logs in the store, down or unknown", self.kept.failed.to_string()),
            line("logs accepted and not in the store", self.kept.lost.to_string()).most(
                scenario.unchanged,
                self.kept.lost as f64,
                0.0,
            ),
            line("agent: stopped within, ms", self.stopped_in.as_millis().to_string()),
            line("target: CPU seconds for 1,000 checks", format!("{:.3}", self.target_cpu)),
        ]
    }
}

/// A figure with its name, and how it stands to its bound.
pub struct Line {
    what: &'static str,
    figure: String,
    bound: String,
    holds: Option<bool>,
}

/// A figure that is held against no bound yet.
pub fn line(what: &'static str, figure: String) -> Line {
    Line { what, figure, bound: String::new(), holds: None }
}

impl Line {
    /// Held against the most that it may be, where that `applies`.
    pub fn most(self, applies: bool, figure: f64, bound: f64) -> Self {
        self.held_against(applies, "≤", bound, figure <= bound)
    }

    fn least(self, applies: bool, figure: f64, bound: f64) -> Self {
        self.held_against(applies, "≥", bound, figure >= bound)
    }

    fn held_against(mut self, applies: bool, sign: &str, bound: f64, holds: bool) -> Self {
        if applies {
            (self.bound, self.holds) = (format!("{sign} {bound}"), Some(holds));
        }
        self
    }

    /// Whether it keeps its bound, if it has one.
    pub fn is_kept(&self) -> bool {
        self.holds != Some(false)
    }

    /// For people.
    pub fn text(&self) -> String {
        let held = self.holds.map_or("", |holds| if holds { "ok" } else { "NOT KEPT" });
        format!("{:<44} {:>14}   {:<12} {held}\n", self.what, self.figure, self.bound)
    }
}

/// Of figures in their order; NaN, which keeps no bound, when there are none.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let nth = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(nth.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
