//! The front page and the operator's guide: their commands, from top to bottom, each on a machine as it has them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::cluster::{Broker, Listener, Version, shared, unique};
use crate::machine::{Machine, here};

/// What a page has between fences, for a machine that it names behind the language.
struct Block {
    language: String,
    place: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let (mut blocks, mut open) = (Vec::new(), None::<Block>);
    for line in fs::read_to_string(here(page)).unwrap().lines() {
        match (line.strip_prefix("```"), open.as_mut()) {
            (Some(""), Some(_)) => blocks.extend(open.take()),
            (Some(info), None) => {
                let (language, place) = info.split_once(' ').unwrap_or((info, ""));
                open = Some(Block { language: language.into(), place: place.into(), text: String::new() });
            }
            (None, Some(block)) => block.text += &format!("{line}\n"),
            _ => {}
        }
    }
    blocks.retain(|block| !block.place.is_empty());
    blocks
}

/// A text without what differs from run to run: numbers and their units, and how far apart columns are.
fn shape(text: &str) -> String {
    let bars = regex::Regex::new(r"\|[ =]*\|").unwrap();
    let numbers = regex::Regex::new(r"[0-9][0-9.:-]*( ?[µm]?s\b)?").unwrap();
    numbers
        .replace_all(&bars.replace_all(text, "|"), "#")
        .split_inclusive('\n')
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n")
        .collect()
}

/// A report's shape without what it says of a machine that is short of CPU, as one under test may be.
fn at_rest(shape: &str) -> String {
    let mut strained = None;
    let lines = shape.split_inclusive('\n').filter(|line| !line.starts_with("strained: "));
    let lines = lines.map(|line| {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        strained = words.iter().position(|word| *word == "strained").or(strained.filter(|_| !words.is_empty()));
        if let Some(column) = strained {
            words.remove(column);
        }
        words.join(" ") + "\n"
    });
    lines.collect::<String>().replace("\n\n\n", "\n\n")
}

fn machine() -> Machine {
    let machine = Machine::online();
    let package = concat!("/root/pingeon_", env!("CARGO_PKG_VERSION"), "_amd64.deb");
    // As Debian's installer leaves it, and debootstrap does not.
    let hosts = "echo 127.0.0.1 localhost >/etc/hosts";
    machine.does(&format!("cp /packages/pingeon.deb {package}; {hosts}; apt-get update"));
    machine
}

#[test]
fn the_front_page_shows_what_happens() {
    let machine = machine();
    let mut pictures = 0;
    for Block { language, place, text } in blocks("README.md") {
        match (language.as_str(), place.as_str()) {
            ("sh", "alone") => drop(machine.does(&at_home(&text))),
            ("text", "alone") => {
                let (command, picture) = text.strip_prefix("$ ").unwrap().split_once('\n').unwrap();
                machine.shows(command, |said| at_rest(&shape(said)) == shape(picture), picture);
                pictures += 1;
            }
            other => panic!("nobody knows what {other:?} is"),
        }
    }
    assert_eq!(pictures, 2);
}

/// Where the package lies.
fn at_home(script: &str) -> String {
    format!("cd /root\n{script}")
}

/// `kafka-topics.sh` as a broker brings it, but for how it finds its jars.
fn with_kafkas_tools(script: &str) {
    let folder = tempfile::tempdir().unwrap();
    let tool = folder.path().join("kafka-topics.sh");
    let class = "org.apache.kafka.tools.TopicCommand";
    let start = format!("#!/bin/sh\nexec java -cp '{}/*' {class} \"$@\"\n", Version::V4_3.jars().display());
    fs::write(&tool, start).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let done = Command::new("sh").args(["-ec", script]).env("PATH", path).output().unwrap();
    assert!(done.status.success(), "`{script}`: {done:?}");
}

/// The example's names, as they are here.
fn here_and_now(script: &str, broker: &Broker, topic: &str) -> String {
    script
        .replace("kafka-1.example.com:9092", &broker.bootstrap(Listener::Plaintext))
        .replace("--topic pingeon.logs", &format!("--topic {topic}"))
        .replace("queue: {kafka: {", &format!("queue: {{kafka: {{topic: {topic}, "))
}

#[test]
fn the_guide_works_from_top_to_bottom() {
    let (broker, topic) = (shared(Version::V4_3), unique("guide"));
    let (centre, edge) = (machine(), machine());
    let mut reports = 0;
    for Block { place, text, .. } in blocks("packaging/README.md") {
        let script = here_and_now(&text, broker, &topic);
        match place.as_str() {
            "kafka" => with_kafkas_tools(&script),
            // Both agents are there as soon as their first logs are.
            "centre" if script.contains("pingeon report") => {
                let all = ["centre-1", "edge-1", "kafka"];
                centre.shows(&at_home(&script), |said| all.iter().all(|part| said.contains(part)), "both agents");
                reports += 1;
            }
            "centre" => drop(centre.does(&at_home(&script))),
            "edge" => drop(edge.does(&at_home(&script))),
            other => panic!("nobody knows where `{other}` is:\n{script}"),
        }
    }
    assert_eq!(reports, 1);
    let rows = "su postgres -c \"psql -At pingeon -c 'SELECT DISTINCT agent FROM pingeon.log ORDER BY 1'\"";
    assert_eq!(centre.does(rows), "centre-1\nedge-1\n");
}
