//! What it takes to get logs from Kafka into Postgres: `cargo bench --bench postgres [-- LOGS]`.
//!
//! Starts a real broker (4.3.1) and a real Postgres (`tests/run brokers postgres` brings them), and measures in one run, in turns:
//! the program itself, as a user runs it (`pingeon consume`, two connections, default batches), reading a
//! topic that is there into an empty store; the same topic once more (nothing is new); the same without roll-ups; and binary
//! COPY of the same rows into the same table over two connections: in batches as large, as they came in and in the order of
//! uid, and five times as large. Medians of [`ROUNDS`] rounds. It also tells how much room a log takes in the topic and in the store.

// The tests' brokers and servers; not all of what they offer is needed here.
#[allow(dead_code)]
#[path = "../tests/kafka/cluster.rs"]
mod cluster;
#[path = "kafka/cost.rs"]
mod cost;
#[allow(dead_code)]
#[path = "../tests/service/daemon.rs"]
mod daemon;
#[allow(dead_code)]
#[path = "../tests/kafka/node.rs"]
mod node;
#[allow(dead_code)]
#[path = "../tests/kafka/peer.rs"]
mod peer;
#[allow(dead_code)]
#[path = "../tests/kafka/pki.rs"]
mod pki;
#[allow(dead_code)]
#[path = "agent/process.rs"]
mod process;
#[allow(dead_code)]
#[path = "../tests/kafka/proxy.rs"]
mod proxy;
#[allow(dead_code)]
#[path = "../tests/service/running.rs"]
mod running;
#[allow(dead_code)]
#[path = "../tests/postgres/servant.rs"]
mod servant;
#[allow(dead_code)]
#[path = "../tests/postgres/server.rs"]
mod server;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::{Broker, Listener, Version, shared, unique};
use cost::{measured, median};
use pingeon::clock::{Clock as _, SystemClock, Timestamp};
use pingeon::jobs::Stop;
use pingeon::kafka::client::Client;
use pingeon::kafka::connection::Access;
use pingeon::kafka::producer::Producer;
use pingeon::kafka::{Compression, Produce as _, Record};
use pingeon::net::Net;
use process::Agent;
use server::Database;

const ROUNDS: usize = 5;
const LABELS: u64 = 1_000;
const AGENTS: u64 = 10;
const PARTITIONS: usize = 6;
const INTERVAL_MS: u64 = 10_000;
const BATCH: usize = 2_000;
const CONNECTIONS: usize = 2;
/// How long one pass may take.
const PASS_MAX: Duration = Duration::from_secs(300);

fn main() {
    let given = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let count: u64 = given.unwrap_or(600_000);
    let broker = shared(Version::V4_3);
    let topic = broker.topic("bench", PARTITIONS);
    let bytes = fill(broker, &topic, count);
    println!("{count} logs of {} bytes of {LABELS} labels and {AGENTS} agents", bytes / count);
    println!("in the topic (lz4) a log takes {} bytes", in_topic(&topic) / count);
    let store = Store::new();
    let mut costs = [const { Vec::new() }; 6];
    for round in 0..ROUNDS {
        store.empty();
        costs[0].push(consume(&store, broker, &topic, count, "new"));
        if round == 0 {
            let [log, indexes, hour] = store.sizes();
            println!("in Postgres {}, and its indexes {}; a roll-up {hour}\n", log / count, indexes / count);
        }
        costs[1].push(consume(&store, broker, &topic, count, "duplicate"));
        let (as_stored, by_uid) = (store.copy_out(""), store.copy_out("ORDER BY uid"));
        for (nth, rows, batch) in [(2, &as_stored, BATCH), (3, &by_uid, BATCH), (4, &by_uid, 5 * BATCH)] {
            store.empty();
            costs[nth].push(store.copy_in(rows, batch));
        }
        drop((as_stored, by_uid));
        store.empty();
        store.without_roll_ups(|| costs[5].push(consume(&store, broker, &topic, count, "new")));
        eprintln!("round {} of {ROUNDS}", round + 1);
    }
    println!("\n{:<36} {:>10} {:>18} {:>20}", "", "rows/s", "client CPU µs/row", "Postgres CPU µs/row");
    let [first, again, copy, sorted_copy, large_copy, bare] = costs.map(median);
    for (what, [seconds, client, postgres]) in [
        ("Kafka to Postgres", first),
        ("the same again, nothing new", again),
        ("without roll-ups", bare),
        (&format!("binary COPY, batches of {BATCH}"), copy),
        ("likewise, in the order of uid", sorted_copy),
        (&format!("likewise, batches of {}", 5 * BATCH), large_copy),
    ] {
        let [rate, client, postgres] = [count as f64 / seconds, client / count as f64, postgres / count as f64];
        println!("{what:<36} {rate:>10.0} {:>18.2} {:>20.2}", client * 1e6, postgres * 1e6);
    }
    let [ratio, sorted_ratio, large_ratio] = [copy, sorted_copy, large_copy].map(|copy| copy[0] / first[0]);
    println!("\n{ratio:.2} × COPY, {sorted_ratio:.2} × in the order of uid, {large_ratio:.2} × in large batches");
    let of_cpu = (first[1] + first[2]) / (bare[1] + bare[2]) - 1.0;
    println!("roll-ups: {:.1} % of time, {:.1} % of CPU", (first[0] / bare[0] - 1.0) * 100.0, of_cpu * 100.0);
}

/// How many bytes a topic takes on the broker's disk, but for its indexes.
fn in_topic(topic: &str) -> u64 {
    let files = format!("{}/kafka/*/node/data/{topic}-*/*.log", env!("CARGO_TARGET_TMPDIR"));
    glob::glob(&files).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

/// What a pass took, in seconds: by the clock, of the client's CPU, of the server's.
type Cost = [f64; 3];

/// The CPU-seconds of a process and its children, also of those that ended (proc_pid_stat(5)).
fn cpu_of_all(pid: u32) -> f64 {
    let stat = |pid: &str| -> Option<[f64; 4]> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        // utime, stime, and those of children that ended
        Some(
            [11, 12, 13, 14]
                .map(|nth| fields[nth].parse::<f64>().unwrap() / rustix::param::clock_ticks_per_second() as f64),
        )
    };
    let own: f64 = stat(&pid.to_string()).unwrap().iter().sum();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let of_children: f64 = children.split_whitespace().filter_map(stat).map(|[user, system, ..]| user + system).sum();
    own + of_children
}

/// Writes logs into the topic, as agents that see each label every ten seconds would have until now; how many bytes.
fn fill(broker: &Broker, topic: &str, count: u64) -> u64 {
    let access =
        Access { cluster: broker.cluster(Listener::Plaintext), net: Arc::new(Net::system()), stop: Stop::default() };
    let mut producer = Producer::new(Client::new(access, topic.to_owned()), Compression::Lz4, Arc::default());
    let begin = SystemClock.now().wall.minus(Duration::from_millis(count / LABELS * INTERVAL_MS));
    let (mut bytes, mut batch) = (0, Vec::new());
    for n in 0..count {
        let (label, agent) = (n % LABELS, n % AGENTS);
        let value = log(begin, n);
        bytes += value.len() as u64;
        batch.push(Record { key: format!("edge-{agent:02}/label-{label:04}").into_bytes(), value, timestamp: -1 });
        if batch.len() == 10_000 || n + 1 == count {
            let by = Instant::now() + Duration::from_secs(30);
            while let Err(error) = producer.send(&batch) {
                assert!(Instant::now() < by, "{error}");
            }
            batch.clear();
        }
    }
    bytes
}

fn log(begin: Timestamp, n: u64) -> Vec<u8> {
    let (label, agent, round) = (n % LABELS, n % AGENTS, n / LABELS);
    let due_at = begin.plus(Duration::from_millis(round * INTERVAL_MS + label * INTERVAL_MS / LABELS));
    let (started_at, took) = (due_at.plus(Duration::from_micros(90)), 20_000 + n * 7_919 % 60_000);
    let ended_at = started_at.plus(Duration::from_micros(took));
    let (high, low) =
        ((due_at.as_millis() << 16) | 0x7000 | (n & 0xfff), (1 << 63) | n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2);
    let uid = uuid::Uuid::from_u64_pair(high, low);
    let seq = n / AGENTS + 1;
    let head = format!(
        r#"{{"v":1,"uid":"{uid}","agent":"edge-{agent:02}","boot":"0193a5c0-0000-7000-8000-0000000000{agent:02}","seq":{seq},"#
    );
    let tail = format!(
        r#""label":"label-{label:04}","kind":"http","target":"https://shop-{label:04}.example.com/health","due_at":"{due_at}","started_at":"{started_at}","ended_at":"{ended_at}","duration_us":{took},"interval_ms":{INTERVAL_MS},"verdict":"up","phase":null,"reason":null,"result":{{"status_code":200,"phases":{{"resolve":812,"connect":10231,"tls":21233,"send":40,"first_byte":15111,"body":2101}},"bytes":5123}}}}"#
    );
    (head + &tail).into_bytes()
}

/// The database, empty but for the schema.
struct Store {
    database: Database,
}

impl Store {
    fn new() -> Self {
        Store { database: server::ours().database("bench").migrated() }
    }

    fn client(&self) -> postgres::Client {
        self.database.superuser()
    }

    /// What the server has used so far.
    fn cpu(&self) -> f64 {
        cpu_of_all(server::ours().pid())
    }

    fn empty(&self) {
        let sql = "TRUNCATE pingeon.log, pingeon.hour, pingeon.rejected, pingeon.duplicate";
        self.client().batch_execute(sql).unwrap();
        self.client().batch_execute("CHECKPOINT").unwrap();
    }

    /// In bytes: all logs, their indexes, and what one roll-up takes with its indexes.
    fn sizes(&self) -> [u64; 3] {
        let sql = "SELECT sum(pg_table_size(inhrelid))::bigint, sum(pg_indexes_size(inhrelid))::bigint, \
            pg_total_relation_size('pingeon.hour') / (SELECT count(*) FROM pingeon.hour) \
            FROM pg_inherits WHERE inhparent = 'pingeon.log'::regclass";
        let row = self.client().query_one(sql, &[]).unwrap();
        [0, 1, 2].map(|column| row.get::<_, i64>(column).unsigned_abs())
    }

    /// All rows in some order (none: as they came in), as COPY's binary form has them.
    fn copy_out(&self, order: &str) -> Vec<u8> {
        let (mut client, mut rows) = (self.client(), Vec::new());
        client.batch_execute("SET synchronize_seqscans = off; SET max_parallel_workers_per_gather = 0").unwrap();
        let sql = format!("COPY (SELECT * FROM pingeon.log {order}) TO STDOUT (FORMAT binary)");
        client.copy_out(&sql).unwrap().read_to_end(&mut rows).unwrap();
        rows
    }

    /// The same rows in again, each batch in a transaction of its own, the connections taking turns.
    fn copy_in(&self, rows: &[u8], batch: usize) -> Cost {
        let batches = batches(rows, batch);
        let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| self.client()).collect();
        let copy = || {
            std::thread::scope(|threads| {
                for (nth, client) in clients.iter_mut().enumerate() {
                    let batches = &batches;
                    threads.spawn(move || {
                        for rows in batches.iter().skip(nth).step_by(CONNECTIONS) {
                            let mut copy = client.copy_in("COPY pingeon.log FROM STDIN (FORMAT binary)").unwrap();
                            copy.write_all(HEADER).unwrap();
                            copy.write_all(rows).unwrap();
                            copy.write_all(&TRAILER).unwrap();
                            copy.finish().unwrap();
                        }
                    });
                }
            })
        };
        let before = self.cpu();
        let [seconds, client] = measured(copy);
        [seconds, client, self.cpu() - before]
    }

    /// Does `work` while roll-ups are thrown away.
    fn without_roll_ups(&self, work: impl FnOnce()) {
        let mut client = self.client();
        let definition = "SELECT pg_get_functiondef('pingeon.add_hours'::regproc)";
        let real: String = client.query_one(definition, &[]).unwrap().get(0);
        let (head, _) = real.split_once("AS $function$").unwrap();
        client.batch_execute(&format!("{head} AS $function$ BEGIN END $function$")).unwrap();
        work();
        client.batch_execute(&real).unwrap();
    }
}

/// Of COPY's binary form (PostgreSQL manual, COPY, "Binary Format"): what stands before the rows and after them.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = [0xff, 0xff];

/// The rows in so many pieces, without what stands before and after them.
fn batches(rows: &[u8], batch: usize) -> Vec<&[u8]> {
    let number = |at: usize, length: usize| {
        rows[at..at + length].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let (mut batches, mut begin, mut at, mut count) = (Vec::new(), HEADER.len(), HEADER.len(), 0);
    while number(at, 2) != 0xffff {
        let fields = number(at, 2);
        at += 2;
        for _ in 0..fields {
            let length = number(at, 4) as u32 as i32;
            at += 4 + usize::try_from(length).unwrap_or(0);
        }
        count += 1;
        if count % batch == 0 {
            batches.push(&rows[begin..at]);
            begin = at;
        }
    }
    batches.extend((begin < at).then(|| &rows[begin..at]));
    batches
}

/// Runs the program until as many logs as there are have come in as `what`.
fn consume(store: &Store, broker: &Broker, topic: &str, count: u64, what: &str) -> Cost {
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "agent: bench\nchecks: []\nqueue: {{kafka: {{brokers: [\"{}\"], topic: {topic}, group: {}}}}}\nstore: {{postgres: {{url: \"{}\", connections: {CONNECTIONS}}}}}\nweb: {{listen: \"127.0.0.1:{port}\"}}\n",
        broker.bootstrap(Listener::Plaintext),
        unique("bench"),
        store.database.url("pingeon_writer") + "?sslmode=disable",
    );
    fs::write(folder.path().join("pingeon.yaml"), config).unwrap();
    let program = Agent::start_as("consume", folder.path()).unwrap();
    let by = Instant::now() + PASS_MAX;
    let mut begun = (Instant::now(), 0.0, 0.0);
    loop {
        let (done, used) = (so_far(port, what), program.usage().unwrap());
        if done == 0 {
            begun = (Instant::now(), used.cpu, store.cpu());
        }
        if done >= count {
            let (seconds, client, postgres) =
                (begun.0.elapsed().as_secs_f64(), used.cpu - begun.1, store.cpu() - begun.2);
            eprintln!("{what}: {seconds:.2} s, {:.1} MB", used.memory_peak);
            program.stop().unwrap();
            return [seconds, client, postgres];
        }
        assert!(Instant::now() < by, "{done} of {count}: {}", said(folder.path()));
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn said(folder: &Path) -> String {
    fs::read_to_string(folder.join("agent.log")).unwrap_or_default()
}

/// The sum of a figure over all flows, as /healthz tells it; 0 while there is no answer.
fn so_far(port: u16, what: &str) -> u64 {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let flows = body["flows"].as_array().cloned().unwrap_or_default();
    flows.iter().filter_map(|flow| flow[what].as_u64()).sum()
}
