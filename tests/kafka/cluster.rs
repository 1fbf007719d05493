//! Real brokers: one of each version that all tests share, and clusters of three that a test has for itself.
//!
//! Tests share brokers, so each makes its own topic and its own group.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use std::{env, fs, process};

use pingeon::kafka::{self, Mechanism, Sasl};
use pingeon::net::{Pem, TlsSettings};
use pingeon::secret::Secret;
use tempfile::TempDir;

use crate::node::Node;
use crate::peer::Peer;
use crate::pki::Pki;
use crate::proxy::{Lease, Proxies, Proxy};

/// What to do where something is missing.
pub const SET_UP: &str = "`tests/run brokers` installs what the Kafka tests need";

/// Who may do anything.
pub const USER: &str = "pingeon";
pub const PASSWORD: &str = "Tauben-fliegen-heim";
/// Who may do nothing.
pub const STRANGER: &str = "stranger";

/// How many tests can have a proxy at the same time.
const PROXIES: usize = 4;
/// A port that was free may be somebody else's a moment later.
const STARTS_MAX: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The last that speaks version 0 of the APIs.
    V3_9,
    V4_3,
}

pub const VERSIONS: [Version; 2] = [Version::V3_9, Version::V4_3];

impl Version {
    fn number(self) -> &'static str {
        match self {
            Version::V3_9 => "3.9.1",
            Version::V4_3 => "4.3.1",
        }
    }

    /// Names a broker that runs already (`host:port`, plaintext), to be used instead of one of ours.
    fn variable(self) -> &'static str {
        match self {
            Version::V3_9 => "PINGEON_TEST_KAFKA_OLD",
            Version::V4_3 => "PINGEON_TEST_KAFKA",
        }
    }

    /// Where its jars are: in `target/brokers`.
    pub fn jars(self) -> PathBuf {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("brokers").join(self.number());
        assert!(folder.is_dir(), "no Kafka {} in `{}`: {SET_UP}", self.number(), folder.display());
        folder
    }
}

/// How a client comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listener {
    Plaintext,
    Tls,
    SaslPlaintext,
    SaslTls,
}

pub const LISTENERS: [Listener; 4] = [Listener::Plaintext, Listener::Tls, Listener::SaslPlaintext, Listener::SaslTls];

impl Listener {
    /// Its name, and the protocol that is spoken there.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Listener::Plaintext => ("PLAINTEXT", "PLAINTEXT"),
            Listener::Tls => ("TLS", "SSL"),
            Listener::SaslPlaintext => ("SASL", "SASL_PLAINTEXT"),
            Listener::SaslTls => ("SASL_TLS", "SASL_SSL"),
        }
    }

    fn is_tls(self) -> bool {
        matches!(self, Listener::Tls | Listener::SaslTls)
    }

    fn is_sasl(self) -> bool {
        matches!(self, Listener::SaslPlaintext | Listener::SaslTls)
    }
}

/// The broker of this version that all tests share; the first who asks starts it.
pub fn shared(version: Version) -> &'static Broker {
    static OLD: OnceLock<Broker> = OnceLock::new();
    static NEW: OnceLock<Broker> = OnceLock::new();
    let place = match version {
        Version::V3_9 => &OLD,
        Version::V4_3 => &NEW,
    };
    place.get_or_init(|| match env::var(version.variable()) {
        Ok(bootstrap) => Broker::running(version, bootstrap),
        Err(_) => Broker::start(version),
    })
}

/// A broker by itself.
pub struct Broker {
    version: Version,
    bootstrap: BTreeMap<Listener, String>,
    ours: Option<Ours>,
}

/// What there is of a broker that we started.
struct Ours {
    pki: Pki,
    proxies: Arc<Proxies>,
    /// Lives as long as this process.
    node: Node,
}

impl Broker {
    fn running(version: Version, bootstrap: String) -> Self {
        Broker { version, bootstrap: BTreeMap::from([(Listener::Plaintext, bootstrap)]), ours: None }
    }

    fn start(version: Version) -> Self {
        let begin = Instant::now();
        let mut complaints = Vec::new();
        for _ in 0..STARTS_MAX {
            match Broker::try_start(version) {
                Ok(broker) => {
                    eprintln!("Kafka {} is up after {:.1?}", version.number(), begin.elapsed());
                    return broker;
                }
                Err(complaint) => complaints.push(complaint),
            }
        }
        panic!("Kafka {} does not start:\n{}", version.number(), complaints.join("\n"));
    }

    fn try_start(version: Version) -> Result<Self, String> {
        let folder = workplace(version);
        let pki = Pki::make(&folder.join("pki"), &[USER, STRANGER]);
        let proxies = Proxies::listen(PROXIES);
        let mut ports = free_ports(LISTENERS.len() + PROXIES + 1).into_iter();
        let controller = ports.next().unwrap();
        let mut listeners = Listeners::default();
        let mut bootstrap = BTreeMap::new();
        for listener in LISTENERS {
            let port = ports.next().unwrap();
            let (name, protocol) = listener.names();
            listeners.add(name, protocol, port, port);
            bootstrap.insert(listener, format!("localhost:{port}"));
        }
        for (nth, advertised) in proxies.ports().into_iter().enumerate() {
            let port = ports.next().unwrap();
            listeners.add(&format!("PROXIED_{nth}"), "PLAINTEXT", port, advertised);
            proxies.lead_to(nth, port);
        }
        let mut settings = settings(1, &[controller], &listeners);
        settings.extend(security(&pki));
        let mut node =
            Node::format(version, &folder.join("node"), &settings, &[(USER, PASSWORD), (STRANGER, PASSWORD)])
                .removed_with(&folder);
        node.start();
        let up = Peer::new(bootstrap[&Listener::Plaintext].clone(), &[]).ready(1, &[node.pid().unwrap()]);
        up.map_err(|error| format!("{error}; it said: {}", node.words()))?;
        Ok(Broker { version, bootstrap, ours: Some(Ours { pki, proxies, node }) })
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// `host:port` of this listener.
    pub fn bootstrap(&self, listener: Listener) -> String {
        let found = self.bootstrap.get(&listener).cloned();
        found.unwrap_or_else(|| panic!("{} names a plaintext listener, not {listener:?}", self.version.variable()))
    }

    fn ours(&self) -> &Ours {
        self.ours.as_ref().unwrap_or_else(|| panic!("needs a broker of ours: unset {}", self.version.variable()))
    }

    /// The way in for our clients. On the SASL listeners it is [`USER`], by SCRAM-SHA-256; see [`as_user`].
    pub fn cluster(&self, listener: Listener) -> kafka::Cluster {
        let tls = listener.is_tls().then(|| {
            let ca = pem(&self.ours().pki.ca());
            Arc::new(TlsSettings { ca: Some(ca), ..TlsSettings::default() })
        });
        let cluster = kafka::Cluster { brokers: vec![self.bootstrap(listener)], tls, sasl: None };
        if listener.is_sasl() { as_user(cluster, Mechanism::ScramSha256, USER, PASSWORD) } else { cluster }
    }

    /// The way in by TLS with a certificate ([`USER`]'s or [`STRANGER`]'s) instead of a password.
    pub fn cluster_by_certificate(&self, name: &str) -> kafka::Cluster {
        let pki = &self.ours().pki;
        let client = Some((pem(&pki.certificate(name)), pem(&pki.key(name))));
        let tls = TlsSettings { ca: Some(pem(&pki.ca())), client, ..TlsSettings::default() };
        kafka::Cluster { tls: Some(Arc::new(tls)), ..self.cluster(Listener::Tls) }
    }

    /// The way in for the client that is not ours; on the SASL listeners by PLAIN: the SCRAM of Debian 12's librdkafka (before
    /// 2.6.1) repeats its own nonce, which brokers have refused since CVE-2024-56128.
    pub fn peer_at(&self, listener: Listener) -> Peer {
        let mut peer = Peer::new(self.bootstrap(listener), &[("security.protocol", listener.names().1)]);
        if listener.is_tls() {
            peer = peer.set("ssl.ca.location", &self.ours().pki.ca().display().to_string());
        }
        if listener.is_sasl() {
            peer = peer.set("sasl.mechanism", "PLAIN").set("sasl.username", USER).set("sasl.password", PASSWORD);
        }
        peer
    }

    /// The same on the plaintext listener.
    pub fn peer(&self) -> Peer {
        self.peer_at(Listener::Plaintext)
    }

    /// A topic of the caller's own, by a name that nobody else has.
    pub fn topic(&self, about: &str, partitions: usize) -> String {
        let name = unique(about);
        self.create_topic(&name, partitions, &[]);
        name
    }

    pub fn create_topic(&self, name: &str, partitions: usize, configs: &[(&str, &str)]) {
        self.peer().create_topic(name, partitions, 1, configs);
    }

    /// All before this offset is gone, as after its retention.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let (node, what) = (&self.ours().node, tempfile::NamedTempFile::new().unwrap());
        let place = serde_json::json!({"topic": topic, "partition": partition, "offset": before});
        fs::write(what.path(), serde_json::json!({"version": 1, "partitions": [place]}).to_string()).unwrap();
        let mut command = node.java("org.apache.kafka.tools.DeleteRecordsCommand");
        command.args(["--bootstrap-server", &self.bootstrap(Listener::Plaintext), "--offset-json-file"]);
        let output = command.arg(what.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A proxy in front of this broker that nobody else has until it is dropped. Clients that begin at its address stay
    /// behind it: the broker tells them no other.
    pub fn proxy(&self) -> Lease {
        self.ours().proxies.lease()
    }

    /// The way in for our clients, through a proxy.
    pub fn cluster_behind(&self, proxy: &Proxy) -> kafka::Cluster {
        kafka::Cluster { brokers: vec![proxy.bootstrap()], tls: None, sasl: None }
    }

    /// The way in for the client that is not ours, through a proxy.
    pub fn peer_behind(&self, proxy: &Proxy) -> Peer {
        Peer::new(proxy.bootstrap(), &[])
    }
}

/// The same cluster, for this user.
pub fn as_user(cluster: kafka::Cluster, mechanism: Mechanism, name: &str, password: &str) -> kafka::Cluster {
    let sasl = Sasl { mechanism, username: name.to_owned(), password: Secret::new(password) };
    kafka::Cluster { sasl: Some(sasl), ..cluster }
}

/// Three brokers on plaintext, for one test alone; every topic has three replicas and needs two.
pub struct Three {
    nodes: Vec<Node>,
    ports: Vec<u16>,
    _folder: TempDir,
}

/// Starts three brokers. They end with the value.
pub fn cluster_of_three(version: Version) -> Three {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let ports = free_ports(6);
    let (controllers, ports) = ports.split_at(3);
    let nodes = std::thread::scope(|scope| {
        let format = |nth: usize| {
            let mut listeners = Listeners::default();
            listeners.add("PLAINTEXT", "PLAINTEXT", ports[nth], ports[nth]);
            let settings = settings(nth + 1, controllers, &listeners);
            Node::format(version, &folder.path().join(nth.to_string()), &settings, &[])
        };
        let nodes: Vec<_> = (0..3).map(|nth| scope.spawn(move || format(nth))).collect();
        nodes.into_iter().map(|node| node.join().unwrap()).collect()
    });
    let mut three = Three { nodes, ports: ports.to_vec(), _folder: folder };
    three.nodes.iter_mut().for_each(Node::start);
    three.wait_for(3);
    three
}

impl Three {
    /// `host:port` of all three.
    pub fn bootstrap(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("localhost:{port}")).collect()
    }

    /// The way in for our clients.
    pub fn cluster(&self) -> kafka::Cluster {
        kafka::Cluster { brokers: self.bootstrap(), tls: None, sasl: None }
    }

    /// The way in for the client that is not ours.
    pub fn peer(&self) -> Peer {
        Peer::new(self.bootstrap().join(","), &[])
    }

    pub fn topic(&self, about: &str, partitions: usize) -> String {
        let name = unique(about);
        self.peer().create_topic(&name, partitions, 3, &[("min.insync.replicas", "2")]);
        name
    }

    /// The number (1 to 3) of the broker that leads this partition.
    pub fn leader_of(&self, topic: &str, partition: i32) -> i32 {
        self.peer().leader(topic, partition, None)
    }

    /// Kill -9 of the broker of this number.
    pub fn kill(&mut self, number: i32) {
        self.node(number).kill();
    }

    /// Starts the broker of this number again, and waits until it serves.
    pub fn restart(&mut self, number: i32) {
        self.node(number).start();
        let running = self.nodes.iter().filter(|node| node.pid().is_some()).count();
        self.wait_for(running);
    }

    /// Waits until every replica of this topic is in sync, so that one more broker may be missing.
    pub fn whole(&self, topic: &str) {
        self.peer().whole(topic, 3);
    }

    fn wait_for(&self, brokers: usize) {
        let pids: Vec<u32> = self.nodes.iter().filter_map(Node::pid).collect();
        let words = || self.nodes.iter().map(Node::words).collect::<String>();
        self.peer().ready(brokers, &pids).unwrap_or_else(|error| panic!("{error}; they said: {}", words()));
    }

    fn node(&mut self, number: i32) -> &mut Node {
        &mut self.nodes[usize::try_from(number - 1).unwrap()]
    }
}

/// A name that nobody else has, for a topic or a group.
pub fn unique(about: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{about}-{}-{}", process::id(), NEXT.fetch_add(1, Relaxed))
}

/// What a broker listens on.
#[derive(Default)]
struct Listeners {
    binds: Vec<String>,
    advertised: Vec<String>,
    protocols: Vec<String>,
}

impl Listeners {
    /// Clients are told the `advertised` port.
    fn add(&mut self, name: &str, protocol: &str, port: u16, advertised: u16) {
        self.binds.push(format!("{name}://127.0.0.1:{port}"));
        self.advertised.push(format!("{name}://localhost:{advertised}"));
        self.protocols.push(format!("{name}:{protocol}"));
    }
}

/// The settings of broker `id` of a cluster with these controllers, one in each broker.
fn settings(id: usize, controllers: &[u16], listeners: &Listeners) -> Vec<(String, String)> {
    let voters = controllers.iter().enumerate().map(|(nth, port)| format!("{}@localhost:{port}", nth + 1));
    let (all, replicas) = (controllers.len().to_string(), controllers.len().min(3).to_string());
    let needed = if controllers.len() >= 3 { "2" } else { "1" };
    let controller = format!("CONTROLLER://127.0.0.1:{}", controllers[id - 1]);
    let given = [
        ("process.roles", "broker,controller".to_owned()),
        ("node.id", id.to_string()),
        ("controller.quorum.voters", voters.collect::<Vec<_>>().join(",")),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("inter.broker.listener.name", "PLAINTEXT".to_owned()),
        ("listeners", format!("{},{controller}", listeners.binds.join(","))),
        ("advertised.listeners", listeners.advertised.join(",")),
        ("listener.security.protocol.map", format!("{},CONTROLLER:PLAINTEXT", listeners.protocols.join(","))),
        ("default.replication.factor", all),
        ("offsets.topic.replication.factor", replicas.clone()),
        ("transaction.state.log.replication.factor", replicas.clone()),
        ("transaction.state.log.min.isr", needed.to_owned()),
        ("share.coordinator.state.topic.replication.factor", replicas),
        ("share.coordinator.state.topic.min.isr", needed.to_owned()),
    ];
    let given = given.into_iter().chain(ALIKE.iter().map(|(name, value)| (*name, (*value).to_owned())));
    given.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Quick to notice and to begin, and nothing that a test did not ask for.
const ALIKE: [(&str, &str); 14] = [
    ("auto.create.topics.enable", "false"),
    ("group.min.session.timeout.ms", "1000"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("offsets.topic.num.partitions", "4"),
    ("transaction.state.log.num.partitions", "2"),
    ("share.coordinator.state.topic.num.partitions", "1"),
    ("broker.heartbeat.interval.ms", "300"),
    ("broker.session.timeout.ms", "2000"),
    ("num.network.threads", "2"),
    ("num.io.threads", "4"),
    ("log.cleaner.enable", "false"),
    ("controlled.shutdown.enable", "false"),
    ("log.segment.delete.delay.ms", "1000"),
    // The times of the tests' records are long ago.
    ("log.retention.ms", "-1"),
];

/// [`USER`] may do anything, by password and by certificate, and whoever has shown nothing, too; [`STRANGER`] nothing.
fn security(pki: &Pki) -> Vec<(String, String)> {
    let plain = format!(
        "org.apache.kafka.common.security.plain.PlainLoginModule required \
         user_{USER}=\"{PASSWORD}\" user_{STRANGER}=\"{PASSWORD}\";"
    );
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let mut settings = vec![
        ("ssl.keystore.type".to_owned(), "PEM".to_owned()),
        ("ssl.keystore.location".to_owned(), pki.broker().display().to_string()),
        ("ssl.truststore.type".to_owned(), "PEM".to_owned()),
        ("ssl.truststore.location".to_owned(), pki.ca().display().to_string()),
        ("ssl.client.auth".to_owned(), "requested".to_owned()),
        ("sasl.enabled.mechanisms".to_owned(), "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512".to_owned()),
        ("authorizer.class.name".to_owned(), "org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned()),
        ("super.users".to_owned(), format!("User:ANONYMOUS;User:{USER};User:CN={USER}")),
    ];
    for listener in LISTENERS.into_iter().filter(|listener| listener.is_sasl()) {
        let name = listener.names().0.to_lowercase();
        let jaas = |mechanism: &str, words: &str| {
            (format!("listener.name.{name}.{mechanism}.sasl.jaas.config"), words.to_owned())
        };
        settings.extend([jaas("plain", &plain), jaas("scram-sha-256", scram), jaas("scram-sha-512", scram)]);
    }
    settings
}

/// A folder for a broker that lives as long as this process. What a process left that was killed is removed.
fn workplace(version: Version) -> PathBuf {
    let top = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka");
    for left in fs::read_dir(&top).into_iter().flatten().flatten() {
        let name = left.file_name().to_string_lossy().into_owned();
        let owner = name.split('-').nth(1).unwrap_or_default().to_owned();
        if !Path::new("/proc").join(owner).exists() {
            let _ = fs::remove_dir_all(left.path());
        }
    }
    let folder = top.join(unique(version.number()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// So many ports that nobody listens on.
fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

fn pem(path: &Path) -> Pem {
    Pem { path: path.to_owned(), content: Secret::new(fs::read_to_string(path).unwrap()) }
}
