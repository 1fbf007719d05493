//! A cluster as the clients of one topic see it: its brokers, who leads which partition, and a connection to each leader.
//!
//! The first of the named brokers that answers tells of all others (Metadata); from then on any of them may answer. What is
//! known is asked anew after [`METADATA_AGE_MAX`], and at once when a broker says that it leads no more or is gone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{FindCoordinatorRequest, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::api::Versions;
use super::connection::{Access, Connection};
use super::{Error, codes};

/// How long what is known of the topic is believed.
const METADATA_AGE_MAX: Duration = Duration::from_secs(300);

/// Until a broker has to answer what it can answer at once.
pub const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The most partitions of a topic that are believed.
pub const PARTITIONS_MAX: usize = 100_000;

/// The cluster, for one topic.
#[derive(Debug)]
pub struct Client {
    access: Access,
    topic: String,
    /// Where each broker is, by its node id.
    brokers: BTreeMap<i32, String>,
    connections: BTreeMap<i32, Connection>,
    /// The leader of each partition, by its number; `None` where there is none now.
    leaders: Vec<Option<i32>>,
    learned: Option<Instant>,
}

impl Client {
    /// Nothing is asked before it is needed.
    pub fn new(access: Access, topic: String) -> Self {
        let (brokers, connections) = (BTreeMap::new(), BTreeMap::new());
        Client { access, topic, brokers, connections, leaders: Vec::new(), learned: None }
    }

    /// What every connection needs.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The topic, as messages name it.
    pub fn topic_name(&self) -> TopicName {
        TopicName(StrBytes::from_string(self.topic.clone()))
    }

    /// How many partitions the topic has; asked anew when what is known is old.
    ///
    /// # Errors
    /// When no broker answers, or the topic is not there.
    pub fn partitions(&mut self) -> Result<i32, Error> {
        if self.learned.is_none_or(|at| at.elapsed() > METADATA_AGE_MAX) {
            self.refresh()?;
        }
        Ok(self.leaders.len() as i32)
    }

    /// The node id of a partition's leader, if it has one.
    pub fn leader(&self, partition: i32) -> Option<i32> {
        *self.leaders.get(usize::try_from(partition).ok()?)?
    }

    /// Asks for the topic's partitions and their leaders: first whoever is connected, then whoever is known, then those that
    /// the config names.
    ///
    /// # Errors
    /// When nobody answers, or the topic is not there.
    pub fn refresh(&mut self) -> Result<(), Error> {
        let request = MetadataRequest::default()
            .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(self.topic_name()))]))
            .with_allow_auto_topic_creation(false);
        let answer = self.ask_anyone(|connection| connection.call(&request, Instant::now() + ANSWER_MAX))?;
        self.learn(&answer)
    }

    /// The connection to a broker, opened when there is none.
    ///
    /// # Errors
    /// When it is not known or cannot be reached.
    pub fn broker(&mut self, node: i32) -> Result<&mut Connection, Error> {
        if !self.connections.contains_key(&node) {
            let Some(peer) = self.brokers.get(&node) else {
                return Err(Error::Away(format!("broker {node} is not known to the cluster any more")));
            };
            let connection = Connection::open(peer, &self.access)?;
            self.connections.insert(node, connection);
        }
        self.connections.get_mut(&node).ok_or_else(|| Error::Away(format!("broker {node} is not connected")))
    }

    /// The connections that are open, by node id.
    pub fn connections(&self) -> &BTreeMap<i32, Connection> {
        &self.connections
    }

    /// The connection to a broker, if it is open.
    pub fn connection(&mut self, node: i32) -> Option<&mut Connection> {
        self.connections.get_mut(&node)
    }

    /// Closes the connection to a broker, and asks anew who leads before the next use.
    pub fn drop_broker(&mut self, node: i32) {
        self.connections.remove(&node);
        self.learned = None;
    }

    /// What is known is not true any more: it is asked for anew before the next use.
    pub fn doubt(&mut self) {
        self.learned = None;
    }

    /// A connection of its own to the coordinator of a consumer group.
    ///
    /// # Errors
    /// When nobody knows it, or it cannot be reached.
    pub fn coordinator(&mut self, group: &str) -> Result<Connection, Error> {
        let request = FindCoordinatorRequest::default().with_key(StrBytes::from_string(group.to_owned()));
        let found = self.ask_anyone(|connection| connection.call(&request, Instant::now() + ANSWER_MAX))?;
        if found.error_code != 0 {
            return Err(codes::group(found.error_code, group));
        }
        Connection::open(&address(&found.host, found.port), &self.access)
    }

    /// What the cluster speaks, from the first broker that answers.
    ///
    /// # Errors
    /// When none does.
    pub fn versions(&mut self) -> Result<Versions, Error> {
        self.ask_anyone(|connection| Ok(connection.versions().clone()))
    }

    /// Asks one broker after the other until one answers. One that does not is disconnected.
    ///
    /// # Errors
    /// What the last asked said, or what kept each from answering.
    pub fn ask_anyone<T>(&mut self, mut ask: impl FnMut(&mut Connection) -> Result<T, Error>) -> Result<T, Error> {
        let mut failures: Vec<String> = Vec::new();
        // An idle connection first, so that no answer of another request is in its way.
        let idle = self.connections.iter().find(|(_, connection)| connection.waiting() == 0).map(|(node, _)| *node);
        if let Some(node) = idle {
            match self.broker(node).and_then(&mut ask) {
                Err(Error::Away(what) | Error::Garbage(what)) => {
                    self.connections.remove(&node);
                    failures.push(what);
                }
                answered => return answered,
            }
        }
        let mut peers: Vec<String> = self.brokers.values().cloned().collect();
        peers.extend(
            self.access.cluster.brokers.iter().filter(|named| !self.brokers.values().any(|b| b == *named)).cloned(),
        );
        for peer in peers {
            match Connection::open(&peer, &self.access).and_then(|mut connection| ask(&mut connection)) {
                Err(Error::Away(what) | Error::Garbage(what)) => failures.push(what),
                answered => return answered,
            }
        }
        failures.dedup();
        Err(Error::Away(failures.join("; ")))
    }

    fn learn(&mut self, answer: &MetadataResponse) -> Result<(), Error> {
        let Some(topic) = answer.topics.first() else {
            return Err(Error::Garbage(format!("no broker tells of topic `{}`", self.topic)));
        };
        if topic.error_code != 0 {
            return Err(codes::topic(topic.error_code, &self.topic, &self.access.cluster.brokers[0]));
        }
        if topic.partitions.is_empty() || topic.partitions.len() > PARTITIONS_MAX {
            return Err(Error::Garbage(format!("topic `{}` with {} partitions", self.topic, topic.partitions.len())));
        }
        let mut leaders = vec![None; topic.partitions.len()];
        for partition in &topic.partitions {
            let place = usize::try_from(partition.partition_index).ok().and_then(|index| leaders.get_mut(index));
            // A partition beyond the others' count would be one whose siblings are missing from the answer.
            let Some(place) = place else {
                let (index, count) = (partition.partition_index, leaders.len());
                return Err(Error::Garbage(format!("topic `{}` has partition {index} of {count}", self.topic)));
            };
            *place = (partition.leader_id.0 >= 0).then_some(partition.leader_id.0);
        }
        self.brokers = answer.brokers.iter().map(|b| (b.node_id.0, address(&b.host, b.port))).collect();
        let brokers = &self.brokers;
        self.connections.retain(|node, connection| brokers.get(node).is_some_and(|peer| peer == connection.peer()));
        self.leaders = leaders;
        self.learned = Some(Instant::now());
        Ok(())
    }
}

fn address(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
