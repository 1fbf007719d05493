//! `peer.py`, the client that is not ours.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// Debian's, whose packages hold the binding to librdkafka; another Python first on the path does not see them.
const PYTHON: &str = "/usr/bin/python3";

/// A client that is not ours, and how it reaches the brokers.
#[derive(Clone, Debug)]
pub struct Peer {
    bootstrap: String,
    settings: Vec<(String, String)>,
}

/// What lies in a topic, or is to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub timestamp: i64,
}

impl Peer {
    pub fn new(bootstrap: String, settings: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Peer { bootstrap, settings: settings.iter().map(owned).collect() }
    }

    /// With one setting of librdkafka more.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Creates a topic, and waits until it can be used.
    pub fn create_topic(&self, name: &str, partitions: usize, replicas: usize, configs: &[(&str, &str)]) {
        let (partitions, replicas) = (partitions.to_string(), replicas.to_string());
        let mut arguments = vec!["create-topic", name, "--partitions", &partitions, "--replicas", &replicas];
        let configs: Vec<String> = configs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        arguments.extend(configs.iter().flat_map(|pair| ["--config", pair]));
        self.ask(&arguments, "");
    }

    /// Waits until each partition has a leader and so many replicas in sync.
    pub fn whole(&self, topic: &str, replicas: usize) {
        self.ask(&["whole", topic, "--replicas", &replicas.to_string()], "");
    }

    /// Deletes a topic, and waits until it is gone.
    pub fn delete_topic(&self, name: &str) {
        self.ask(&["delete-topic", name], "");
    }

    /// Writes `records` (key and value), each to the partition that Java's partitioner has for its key; partition and offset
    /// of each. `options` are those of the command.
    pub fn produce(&self, topic: &str, records: &[(&[u8], &[u8])], options: &[&str]) -> Vec<(i32, i64)> {
        let line = |(key, value): &(&[u8], &[u8])| format!("{}\n", json!({"key": text(key), "value": text(value)}));
        self.produce_lines(topic, &records.iter().map(line).collect::<String>(), options)
    }

    /// The same, each record as JSON (see the command's help).
    pub fn produce_lines(&self, topic: &str, lines: &str, options: &[&str]) -> Vec<(i32, i64)> {
        let place = |line: &Value| (number(line, "partition"), number(line, "offset"));
        self.lines(&[&["produce", topic], options].concat(), lines).iter().map(place).collect()
    }

    /// All that the topic holds, sorted by partition and offset.
    pub fn consume(&self, topic: &str, options: &[&str]) -> Vec<Entry> {
        let entry = |line: &Value| Entry {
            partition: number(line, "partition"),
            offset: number(line, "offset"),
            key: bytes(&line["key"]),
            value: bytes(&line["value"]),
            timestamp: number(line, "timestamp"),
        };
        let mut found: Vec<Entry> =
            self.lines(&[&["consume", topic], options].concat(), "").iter().map(entry).collect();
        found.sort();
        found
    }

    /// What a group has committed, by partition.
    pub fn committed(&self, group: &str, topic: &str) -> BTreeMap<i32, i64> {
        let lines = self.lines(&["committed", group, topic], "");
        let found = lines.iter().map(|line| (number(line, "partition"), number(line, "offset")));
        found.filter(|(_, offset)| *offset >= 0).collect()
    }

    /// Which broker leads a partition, once that is not `other_than`.
    pub fn leader(&self, topic: &str, partition: i32, other_than: Option<i32>) -> i32 {
        let (partition, other) = (partition.to_string(), other_than.map(|node| node.to_string()));
        let mut arguments = vec!["leader", topic, &partition];
        arguments.extend(other.iter().flat_map(|node| ["--other-than", node]));
        self.ask(&arguments, "").trim().parse().unwrap()
    }

    /// Waits until `brokers` of them serve; an error as soon as one of `pids` has ended.
    pub fn ready(&self, brokers: usize, pids: &[u32]) -> Result<(), String> {
        let (brokers, pids) = (brokers.to_string(), pids.iter().map(u32::to_string).collect::<Vec<_>>());
        let mut arguments = vec!["ready", "--brokers", &brokers];
        arguments.extend(pids.iter().flat_map(|pid| ["--pid", pid]));
        self.run(&arguments, "").map(drop)
    }

    fn lines(&self, arguments: &[&str], input: &str) -> Vec<Value> {
        self.ask(arguments, input).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn ask(&self, arguments: &[&str], input: &str) -> String {
        self.run(arguments, input).unwrap_or_else(|error| panic!("{error}"))
    }

    /// What the command says, or what it complains of.
    pub fn run(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = Command::new(PYTHON);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/peer.py")).args(["--bootstrap", &self.bootstrap]);
        command.args(self.settings.iter().flat_map(|(name, value)| ["--set".to_owned(), format!("{name}={value}")]));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{PYTHON}: {error}; {}", crate::cluster::SET_UP))?;
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        // On a thread of its own: it may answer before it has heard all, and a full pipe would hold both.
        let said = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().unwrap();
        // It may have failed before it heard all; its own words say more.
        let _ = said.join().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout).unwrap());
        }
        let hint = if complaint.contains("ModuleNotFoundError") { crate::cluster::SET_UP } else { "" };
        Err(format!("{}: {complaint} {hint}", output.status))
    }
}

/// Each byte as the character of its number.
fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn bytes(text: &Value) -> Option<Vec<u8>> {
    text.as_str().map(|text| text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect())
}

fn number<T: TryFrom<i64, Error: std::fmt::Debug>>(line: &Value, name: &str) -> T {
    T::try_from(line[name].as_i64().unwrap()).unwrap()
}
