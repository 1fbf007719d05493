//! What work costs a client: its time, and the CPU of this process.

use std::time::Instant;

/// Seconds and CPU-seconds.
pub type Cost = [f64; 2];

pub fn measured(work: impl FnOnce()) -> Cost {
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    work();
    [begun.elapsed().as_secs_f64(), cpu_seconds() - cpu]
}

fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The median of each figure.
pub fn median<const FIGURES: usize>(passes: Vec<[f64; FIGURES]>) -> [f64; FIGURES] {
    std::array::from_fn(|nth| {
        let mut figures: Vec<f64> = passes.iter().map(|pass| pass[nth]).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    })
}
