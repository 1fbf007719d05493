//! What spool and SQLite store cost together: logs at a steady rate, through the writer's loop, the reader and the store, with
//! every commit on disk. Prints CPU seconds per 1,000 logs and the memory at its peak.
//!
//! `cargo bench --bench spool -- [RATE [SECONDS [LABELS]]]`, by default 1,000 logs/s for 20 s of 10,000 labels. `RATE` 0: as
//! fast as it goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use pingeon::check::Verdict;
use pingeon::clock::{Clock, SystemClock, Timestamp};
use pingeon::config::{self, WhenFull};
use pingeon::flow::{Sink, Source};
use pingeon::jobs::{Pulse, Stop};
use pingeon::logs::{Author, Log, VERSION};
use pingeon::spool::{self, Spool};
use pingeon::store::sqlite::Sqlite;

/// How often logs come, as from workers whose results are taken in batches.
const TICK: Duration = Duration::from_millis(100);

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let [rate, seconds, labels] =
        [(0, 1_000), (1, 20), (2, 10_000)].map(|(n, or)| numbers.get(n).copied().unwrap_or(or));
    let labels: Vec<Arc<str>> = (0..labels).map(|n| format!("shop-{n:05}").into()).collect();
    json(&labels);
    for flush in [Duration::from_millis(100), Duration::from_secs(1)] {
        flow(&labels, rate, Duration::from_secs(seconds), flush);
    }
}

fn log(label: &Arc<str>, due_at: Timestamp) -> Log {
    let author = Author::new("edge-01".into(), due_at);
    let result = serde_json::json!({"status_code": 200, "bytes": 5123, "phases":
        {"resolve": 812, "connect": 10231, "tls": 21233, "send": 40, "first_byte": 15111, "body": 2101}});
    Log {
        v: VERSION,
        uid: author.boot,
        agent: author.agent,
        boot: author.boot,
        seq: 0,
        label: Arc::clone(label),
        kind: "http".into(),
        target: "https://shop.example.com/health".into(),
        due_at,
        started_at: Some(due_at),
        ended_at: Some(due_at),
        duration_us: Some(51_234),
        interval_ms: 10_000,
        verdict: Verdict::Up,
        phase: None,
        reason: None,
        result: serde_json::from_value(result).unwrap(),
        unknown_fields: serde_json::Map::new(),
    }
}

fn json(labels: &[Arc<str>]) {
    let logs: Vec<Log> = labels.iter().take(1_000).map(|label| log(label, SystemClock.now().wall)).collect();
    let begun = Instant::now();
    let written: Vec<Vec<u8>> = logs.iter().map(Log::to_json).collect();
    let write = begun.elapsed() / written.len() as u32;
    let begun = Instant::now();
    let read = written.iter().filter(|bytes| Log::from_json(bytes).is_ok()).count();
    println!("JSON of {} bytes: write {write:?}, read {:?}", written[0].len(), begun.elapsed() / read as u32);
}

fn flow(labels: &[Arc<str>], rate: u64, length: Duration, flush: Duration) {
    let folder = tempfile::tempdir().expect("a folder");
    let settings =
        config::Spool { path: folder.path().join("spool.db"), max_bytes: 256 << 20, when_full: WhenFull::Thin, flush };
    let (stop, clock) = (Stop::default(), Arc::new(SystemClock));
    let opened = Spool::open(&settings, &Author::new("edge-01".into(), clock.now().wall)).expect("a spool");
    let gauge = opened.gauge();
    let (writer, mut reader) = opened.split(stop.clone());
    let settings = config::Sqlite { path: folder.path().join("pingeon.db"), retention: Duration::from_secs(86_400) };
    let mut store = Sqlite::open(&settings, clock).expect("a store");
    let (sender, receiver) = bounded(4_096);
    let (before, begun) = (cpu(), Instant::now());
    let (mut made, mut kept) = (0, 0);
    std::thread::scope(|scope| {
        let writes =
            scope.spawn(|| spool::write(writer, &receiver, flush, &stop, &Pulse::default()).expect("it writes"));
        scope.spawn(|| {
            while !stop.is_set() || gauge.figures().depth > 0 {
                let batch = reader.pull(Duration::from_secs(10)).expect("a batch");
                kept += store.deliver(&batch).expect("it is kept").new as u64;
                reader.commit(&batch, &[]).expect("it is committed");
            }
        });
        while begun.elapsed() < length {
            let until = begun.elapsed().as_millis() as u64 * rate / 1_000;
            while made < until || (rate == 0 && begun.elapsed() < length) {
                sender.send(log(&labels[made as usize % labels.len()], SystemClock.now().wall)).expect("it is taken");
                made += 1;
            }
            std::thread::sleep(TICK);
        }
        drop(sender);
        writes.join().expect("it ends");
        stop.set();
    });
    let (cost, took) = (cpu() - before, begun.elapsed());
    println!(
        "flush {flush:?}: {kept} of {made} logs kept, {:.0}/s, {:.4} CPU-s per 1,000, peak memory {}",
        kept as f64 / took.as_secs_f64(),
        cost.as_secs_f64() * 1_000.0 / kept as f64,
        status("VmHWM")
    );
}

/// What this process used so far: proc_pid_stat(5), fields 14 and 15, in ticks of 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn status(name: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim().to_owned()
}
