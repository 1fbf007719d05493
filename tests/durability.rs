//! What was accepted survives: a process that takes logs in and hands them on is killed in the middle, twenty times, and not
//! one log that its spool had accepted is missing from the store, or in it twice.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use pingeon::check::Verdict;
use pingeon::clock::{Clock, SystemClock};
use pingeon::config::{self, WhenFull};
use pingeon::flow::{Sink, Source};
use pingeon::jobs::Stop;
use pingeon::logs::{Author, Log, VERSION};
use pingeon::spool::{Reader, Spool};
use pingeon::store::sqlite::Sqlite;
use rusqlite::Connection;

const KILLS: usize = 20;
/// Where the process that gets killed works; set for that process alone.
const FOLDER: &str = "PINGEON_DURABILITY_FOLDER";
const NAME: &str = "no_accepted_log_is_missing_or_twice_after_twenty_kills";

#[test]
fn no_accepted_log_is_missing_or_twice_after_twenty_kills() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return work(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    // Of each run, the last number that it said was accepted.
    let mut accepted = BTreeMap::new();
    for kill in 0..KILLS {
        let (boot, seq) = run_and_kill(folder.path(), 1 + kill * 7 % 23);
        accepted.insert(boot, seq);
    }
    assert_eq!(accepted.len(), KILLS);
    let (spool, mut store) = open(folder.path(), &author());
    let (_, mut reader) = spool.split(Stop::default());
    while hand_on(&mut reader, &mut store, Duration::ZERO) > 0 {}

    let database = Connection::open(folder.path().join("pingeon.db")).unwrap();
    for (boot, seq) in accepted {
        let sql = "SELECT count(*), count(DISTINCT seq), min(seq), max(seq) FROM log WHERE lower(hex(boot)) = ?";
        let figures: [u64; 4] =
            database.query_row(sql, [&boot], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?])).unwrap();
        let [_, _, _, last] = figures;
        assert_eq!(figures, [last, last, 1, last], "logs, numbers, first and last of {boot}");
        assert!(last >= seq, "{boot}: {seq} were accepted, {last} are there");
    }
    let rejected: u64 = database.query_row("SELECT count(*) FROM rejected", [], |row| row.get(0)).unwrap();
    assert_eq!(rejected, 0);
}

/// Starts the process, waits until it has said that it accepted logs `words` times, and kills it in the midst of the next.
fn run_and_kill(folder: &Path, words: usize) -> (String, u64) {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut words_left = words;
    let mut last = None;
    // What it said and we had not read yet when it died counts as well.
    for line in lines.map_while(Result::ok) {
        let mut parts = line.split(' ');
        if parts.next() == Some("accepted") {
            last = Some((parts.next().unwrap().to_owned(), parts.next().unwrap().parse().unwrap()));
            words_left = words_left.saturating_sub(1);
            if words_left == 0 {
                process.kill().unwrap();
            }
        }
    }
    assert!(!process.wait().unwrap().success(), "it ended by itself");
    last.expect("it accepted logs")
}

/// Takes logs in and hands them on until it is killed.
fn work(folder: &Path) {
    let author = author();
    let (spool, mut store) = open(folder, &author);
    let (mut writer, mut reader) = spool.split(Stop::default());
    std::thread::spawn(move || {
        loop {
            hand_on(&mut reader, &mut store, Duration::from_secs(10));
        }
    });
    let (mut accepted, out) = (0, std::io::stdout());
    loop {
        let logs: Vec<Log> = (0..1 + accepted % 499).map(|_| log(&author)).collect();
        let mut rest = &logs[..];
        while !rest.is_empty() {
            rest = &rest[writer.append(rest).unwrap()..];
        }
        accepted += logs.len() as u64;
        writeln!(&out, "accepted {} {accepted}", author.boot.simple()).unwrap();
    }
}

fn hand_on(reader: &mut Reader, store: &mut Sqlite, wait: Duration) -> usize {
    let batch = reader.pull(wait).unwrap();
    if !batch.is_empty() {
        store.deliver(&batch).unwrap();
        reader.commit(&batch, &[]).unwrap();
    }
    batch.logs.len()
}

fn author() -> Author {
    Author::new("edge-01".into(), SystemClock.now().wall)
}

fn open(folder: &Path, author: &Author) -> (Spool, Sqlite) {
    let spool = config::Spool {
        path: folder.join("spool.db"),
        max_bytes: 64 << 20,
        when_full: WhenFull::Block,
        flush: Duration::from_millis(1),
    };
    let store = config::Sqlite { path: folder.join("pingeon.db"), retention: Duration::from_secs(86_400) };
    (Spool::open(&spool, author).unwrap(), Sqlite::open(&store, Arc::new(SystemClock)).unwrap())
}

fn log(author: &Author) -> Log {
    let due_at = SystemClock.now().wall;
    Log {
        v: VERSION,
        // Made as a boot's: a UUIDv7 of its moment.
        uid: Author::new(Arc::clone(&author.agent), due_at).boot,
        agent: Arc::clone(&author.agent),
        boot: author.boot,
        seq: 0,
        label: "shop".into(),
        kind: "http".into(),
        target: "https://shop.example.com/health".into(),
        due_at,
        started_at: None,
        ended_at: None,
        duration_us: None,
        interval_ms: 1_000,
        verdict: Verdict::Up,
        phase: None,
        reason: None,
        result: pingeon::logs::Object::default(),
        unknown_fields: serde_json::Map::new(),
    }
}
