//! How long a thread was ready to run and got no CPU: the second figure of `/proc/thread-self/schedstat` (the kernel's
//! Documentation/scheduler/sched-stats.rst). Reading it takes a microsecond where the file stays open, and six where it does not.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

const PATH: &str = "/proc/thread-self/schedstat";

/// So many threads keep the file open; further ones open it each time, so that what a process may have open is left to checks.
const KEPT_OPEN_MAX: usize = 256;

/// Three numbers of 64 bits.
const FIGURES_BYTES_MAX: usize = 3 * 21;

/// Of the thread that made it, and of no other.
#[derive(Debug)]
pub(super) struct Starvation(Option<File>);

impl Starvation {
    /// Of this thread, the `nth` of those that ask.
    pub(super) fn of_this_thread(nth: usize) -> Self {
        Starvation(if nth < KEPT_OPEN_MAX { File::open(PATH).ok() } else { None })
    }

    /// What `work` came to, and for how many microseconds it had no CPU; `None`: the kernel does not tell.
    pub(super) fn during<T>(&self, work: impl FnOnce() -> T) -> (T, Option<u64>) {
        let before = self.so_far();
        let done = work();
        let starved = self.so_far().zip(before).map(|(after, before)| after.saturating_sub(before));
        (done, starved.map(|starved| u64::try_from(starved.as_micros()).unwrap_or(u64::MAX)))
    }

    fn so_far(&self) -> Option<Duration> {
        let mut figures = [0; FIGURES_BYTES_MAX];
        let read = match &self.0 {
            Some(file) => file.read_at(&mut figures, 0),
            None => File::open(PATH).and_then(|file| file.read_at(&mut figures, 0)),
        };
        waited(figures.get(..read.ok()?)?)
    }
}

/// Nanoseconds on a CPU, nanoseconds ready without one, and times that it got one. A kernel that does not count says `0 0 0`.
fn waited(figures: &[u8]) -> Option<Duration> {
    let mut figures = std::str::from_utf8(figures).ok()?.split_ascii_whitespace().map(str::parse::<u64>);
    let (_, waited, times) = (figures.next()?.ok()?, figures.next()?.ok()?, figures.next()?.ok()?);
    (times > 0).then(|| Duration::from_nanos(waited))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::time::Instant;

    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn what_the_kernel_does_not_count_is_not_known() {
        for (figures, nanos) in [
            ("69534 55442 2\n", Some(55_442)),
            ("69534 0 2\n", Some(0)),
            ("0 0 0\n", None),
            ("", None),
            ("69534", None),
            ("69534 x 2", None),
            ("69534 99999999999999999999 2", None),
        ] {
            assert_eq!(waited(figures.as_bytes()), nanos.map(Duration::from_nanos), "{figures}");
        }
    }

    /// Lets this thread run on one CPU alone, the first that it may have.
    fn on_one_cpu() {
        let may = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let first = (0..CpuSet::count()).find(|cpu| may.is_set(*cpu) == Ok(true)).unwrap();
        let mut one = CpuSet::new();
        one.set(first).unwrap();
        sched_setaffinity(Pid::from_raw(0), &one).unwrap();
    }

    #[test]
    fn a_thread_that_shares_its_cpu_is_starved() {
        on_one_cpu();
        let over = Arc::new(AtomicBool::new(false));
        let heard = over.clone();
        let rival = std::thread::spawn(move || {
            on_one_cpu();
            while !heard.load(Relaxed) {
                std::hint::spin_loop();
            }
        });
        let by = Instant::now() + Duration::from_secs(30);
        for nth in [0, KEPT_OPEN_MAX] {
            let starvation = Starvation::of_this_thread(nth);
            assert_eq!(starvation.0.is_some(), nth == 0);
            let Some(before) = starvation.so_far() else { continue };
            let wait = Duration::from_millis(2);
            let enough = || starvation.so_far().unwrap() > before + wait;
            let ((), starved_us) = starvation.during(|| while Instant::now() < by && !enough() {});
            assert!(starved_us >= Some(2_000), "{starved_us:?}");
        }
        over.store(true, Relaxed);
        rival.join().unwrap();
    }
}
