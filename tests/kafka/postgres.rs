//! Kafka → Postgres by `pingeon consume`, while the server dies again and again, and while its disk is full.

use std::net::TcpListener;
use std::sync::atomic::Ordering::Relaxed;

use pingeon::logs::Log;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::cluster::{Broker, Listener, Version, shared};
use crate::disk::SmallDisk;
use crate::fleet::{Fleet, Holdings};
use crate::flow::healthz;
use crate::load;
use crate::running::{Place, Service, wait_for};
use crate::server::{Database, Server, WITHOUT_STANDBY};

const PARTITIONS: usize = 6;
const WRITER: &str = "pingeon_writer";

/// The logs of a fleet, in a topic.
struct Topic {
    broker: &'static Broker,
    name: String,
}

impl Topic {
    fn new(about: &str) -> Self {
        let broker = shared(Version::V4_3);
        Topic { broker, name: broker.topic(about, PARTITIONS) }
    }

    fn takes(&self, logs: &[Log]) {
        let lines = logs.iter().map(|log| {
            let value = String::from_utf8(log.to_json()).unwrap();
            format!("{}\n", json!({"key": format!("{}/{}", log.agent, log.label), "value": value}))
        });
        self.broker.peer().produce_lines(&self.name, &lines.collect::<String>(), &[]);
    }

    /// Up to where the group has committed, over all partitions: how many logs that is.
    fn committed(&self) -> i64 {
        self.broker.peer().committed(&self.name, &self.name).values().sum()
    }

    /// Waits until so many logs are in the store, and then until the group has committed them. In this order, since to ask the
    /// broker takes a process.
    fn arrives(&self, store: &mut Holdings, logs: i64) {
        wait_for("the logs in the store", || (stored(store) == logs).then_some(()));
        wait_for("the logs to be committed", || (self.committed() == logs).then_some(()));
    }
}

/// A `pingeon consume` at work.
struct Centre {
    service: Service,
    port: u16,
    _place: Place,
}

/// What its flows have done.
#[derive(Debug)]
struct Figures {
    new: i64,
    duplicate: i64,
    retries: i64,
    faults: Vec<String>,
}

impl Centre {
    /// Waits until it has its partitions, so that none is shared out anew later.
    fn start(topic: &Topic, database: &Database, connections: usize, batch_max: usize) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (bootstrap, url) = (topic.broker.bootstrap(Listener::Plaintext), database.url(WRITER));
        let place = Place::with(&format!(
            "agent: centre\n\
             web: {{listen: \"127.0.0.1:{port}\"}}\n\
             queue: {{kafka: {{brokers: [\"{bootstrap}\"], topic: {name}, group: {name}}}}}\n\
             store: {{postgres: {{url: \"{url}\", connections: {connections}, batch_max: {batch_max}, batch_wait: 20ms}}}}\n",
            name = topic.name
        ));
        let centre = Centre { service: place.start("consume"), port, _place: place };
        let share = PARTITIONS / connections;
        let has_its_share = |flow: &Value| flow["kafka"]["lag"].as_object().is_some_and(|lag| lag.len() == share);
        wait_for("the partitions to be shared out", || centre.flows()?.iter().all(has_its_share).then_some(()));
        centre
    }

    fn flows(&self) -> Option<Vec<Value>> {
        healthz(self.port)?["flows"].as_array().cloned()
    }

    fn figures(&self) -> Figures {
        let flows = wait_for("/healthz to answer", || self.flows());
        let sum = |name: &str| flows.iter().map(|flow| flow[name].as_i64().unwrap()).sum();
        let faults = flows.iter().filter_map(|flow| flow["fault"].as_str().map(str::to_owned)).collect();
        Figures { new: sum("new"), duplicate: sum("duplicate"), retries: sum("retries"), faults }
    }

    /// Stops it as systemd does; what it said.
    fn stop(self) -> String {
        self.service.signal(Signal::TERM);
        let (status, took, said) = self.service.ends();
        assert!(status.success(), "{status} after {took:?}\n{said}");
        said
    }
}

fn stored(store: &mut Holdings) -> i64 {
    store.number("SELECT count(*) FROM pingeon.log")
}

/// A server that dies again and again.
struct Mortal {
    server: Server,
    database: Database,
}

impl Mortal {
    /// Kills it and brings it back; how many logs it has that the centre was not told of. Who may not come in cannot bring them
    /// again before they are counted.
    fn dies(&mut self, centre: &Centre) -> i64 {
        let let_in = |whether: &str| {
            let sql = format!("SET synchronous_commit = local; ALTER ROLE {WRITER} {whether}");
            self.database.superuser().batch_execute(&sql).unwrap();
        };
        let_in("NOLOGIN");
        self.server.restart_immediate();
        let figures = centre.figures();
        let in_doubt = stored(&mut Holdings::of(&self.database)) - figures.new - figures.duplicate;
        let_in("LOGIN");
        in_doubt
    }
}

/// Brings logs to the topic while `meanwhile` goes on, also to its panic; all of them.
fn under_load(topic: &Topic, meanwhile: impl FnOnce()) -> Vec<Log> {
    load::during(meanwhile, |over| {
        let (mut fleet, mut logs) = (Fleet::new(), Vec::new());
        while !over.load(Relaxed) {
            let portion = fleet.logs(600);
            topic.takes(&portion);
            logs.extend(portion);
        }
        logs
    })
}

#[test]
fn a_server_that_dies_ten_times_loses_nothing_and_doubles_nothing() {
    let server = Server::alone_with(&WITHOUT_STANDBY);
    let database = server.database("mortal").migrated();
    let topic = Topic::new("mortal");
    let centre = Centre::start(&topic, &database, 2, 50);
    let mut mortal = Mortal { server, database };
    let mut in_doubt = 0;
    let logs = under_load(&topic, || {
        for silent in [false, true].repeat(5) {
            let mut store = Holdings::of(&mortal.database);
            let kept = stored(&mut store);
            // Who has no fault has brought again what was in doubt.
            let mut goes_on = || centre.figures().faults.is_empty() && stored(&mut store) >= kept + 200;
            wait_for("the centre to go on", || goes_on().then_some(()));
            if silent {
                mortal.server.falls_silent();
                mortal.server.owes_answers(1);
            }
            let not_told = mortal.dies(&centre);
            assert!(!silent || not_told > 0, "each commit had its answer");
            in_doubt += not_told;
        }
    });
    let (mut store, all) = (Holdings::of(&mortal.database), i64::try_from(logs.len()).unwrap());
    topic.arrives(&mut store, all);
    store.are(&logs);
    assert_eq!(store.rejected(), []);
    let figures = centre.figures();
    assert_eq!((figures.new + figures.duplicate, &figures.faults), (all, &Vec::new()), "{figures:?}");
    assert_eq!((store.duplicates(), figures.duplicate), (in_doubt, in_doubt), "what was in doubt came once again");
    assert!(centre.stop().contains("goes on after"));
}

#[test]
fn a_full_disk_is_waited_for_and_said_once() {
    let disk = SmallDisk::start(64);
    let database = disk.database("full").migrated();
    let (topic, logs) = (Topic::new("full"), Fleet::new().logs(4_000));
    let all = i64::try_from(logs.len()).unwrap();
    let (before, during) = logs.split_at(500);
    let mut centre = Centre::start(&topic, &database, 1, 100);
    topic.takes(before);
    let mut store = Holdings::of(&database);
    topic.arrives(&mut store, 500);
    disk.fill();
    topic.takes(during);
    centre.service.says("No space left on device (SQLSTATE 53100): make room on the server's disk; trying again");
    let full = wait_for("some tries", || Some(centre.figures()).filter(|figures| figures.retries >= 4));
    assert!(full.faults.iter().all(|fault| fault.ends_with("make room on the server's disk")), "{full:?}");
    let kept = stored(&mut store);
    assert!(kept < all, "there was room for all");
    assert_eq!((full.new, topic.committed()), (kept, kept), "not what is kept is committed");
    disk.empty();
    topic.arrives(&mut store, all);
    store.are(&logs);
    assert_eq!((store.duplicates(), store.rejected(), centre.figures().faults), (0, Vec::new(), Vec::new()));
    let said = centre.stop();
    assert!(said.contains("Kafka to store: goes on after"), "{said}");
    let reasons = said.lines().filter(|line| line.contains("No space left"));
    let reasons: Vec<_> = reasons.map(|line| line.split_once("Kafka to store: ").unwrap().1).collect();
    // A later try may have failed at another file.
    assert!((1..=3).contains(&reasons.len()) && !reasons.windows(2).any(|two| two[0] == two[1]), "{said}");
}
