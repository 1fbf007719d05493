//! What work costs a client: its time, and the CPU of this process.

use std::time::Instant;

/// Seconds and CPU-seconds.
#[derive(Clone, Copy, Debug)]
pub struct Cost(pub f64, pub f64);

pub fn measured(work: impl FnOnce()) -> Cost {
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    work();
    Cost(begun.elapsed().as_secs_f64(), cpu_seconds() - cpu)
}

fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

pub fn median(mut costs: Vec<Cost>) -> Cost {
    let mut middle = |of: fn(&Cost) -> f64| {
        costs.sort_by(|a, b| of(a).total_cmp(&of(b)));
        of(&costs[costs.len() / 2])
    };
    Cost(middle(|cost| cost.0), middle(|cost| cost.1))
}
