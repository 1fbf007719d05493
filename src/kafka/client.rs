//! A cluster as the clients of one topic see it: its brokers, who leads which partition, and a connection to each leader.
//!
//! The first of the named brokers that answers tells of all others (Metadata); from then on any of them may answer. What is
//! known is asked anew after `METADATA_AGE_MAX`, and at once when a broker says that it leads no more or is gone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{FindCoordinatorRequest, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::api::Versions;
use super::connection::{Access, Connection};
use super::{Error, codes};

/// How long what is known of the topic is believed.
pub(super) const METADATA_AGE_MAX: Duration = Duration::from_secs(300);

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
    /// Who answered last without a connection being kept; asked first, so that the dead ones before it cost their time once.
    answered: Option<String>,
}

impl Client {
    /// Nothing is asked before it is needed.
    pub fn new(access: Access, topic: String) -> Self {
        let (brokers, connections) = (BTreeMap::new(), BTreeMap::new());
        Client { access, topic, brokers, connections, leaders: Vec::new(), learned: None, answered: None }
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
            let connection = self.open_advertised(node, peer)?;
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
        self.open_advertised(found.node_id.0, &address(&found.host, found.port))
    }

    /// Connects to a broker at the address that the cluster tells.
    fn open_advertised(&self, node: i32, peer: &str) -> Result<Connection, Error> {
        Connection::open(peer, &self.access).map_err(|error| match error {
            // The config does not name it, so who reads only `no such name` looks there in vain.
            Error::Away(what) if !self.access.cluster.brokers.iter().any(|named| named == peer) => Error::Away(format!(
                "{what}; the cluster advertises broker {node} as `{peer}`: set its `advertised.listeners` to what this \
                 host can reach"
            )),
            error => error,
        })
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
        let mut failures = Failures::default();
        // An idle connection first, so that no answer of another request is in its way.
        let idle = self.connections.iter().find(|(_, connection)| connection.waiting() == 0).map(|(node, _)| *node);
        if let Some(node) = idle {
            let answered = self.broker(node).and_then(&mut ask);
            if answered.is_err() {
                self.connections.remove(&node);
            }
            if let Some(answered) = failures.sort_out(answered) {
                return answered;
            }
        }
        for peer in self.peers() {
            let answered = Connection::open(&peer, &self.access).and_then(|mut connection| ask(&mut connection));
            if let Some(answered) = failures.sort_out(answered) {
                self.answered = Some(peer);
                return answered;
            }
        }
        Err(failures.verdict())
    }

    /// All addresses at which somebody may answer: who did last, who is known, who is named. At most one connection's time is
    /// lost at each.
    fn peers(&self) -> Vec<String> {
        let mut peers: Vec<String> = Vec::new();
        for peer in self.answered.iter().chain(self.brokers.values()).chain(&self.access.cluster.brokers) {
            if !peers.contains(peer) {
                peers.push(peer.clone());
            }
        }
        peers
    }

    fn learn(&mut self, answer: &MetadataResponse) -> Result<(), Error> {
        let named = |name: &Option<TopicName>| name.as_ref().is_some_and(|name| name.0.as_str() == self.topic);
        let Some(topic) = answer.topics.iter().find(|topic| named(&topic.name)) else {
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

/// What kept brokers from answering.
#[derive(Debug, Default)]
struct Failures {
    whats: Vec<String>,
    /// Whether another try may come to something else.
    may_pass: bool,
}

impl Failures {
    /// Keeps what another broker may do better; gives back the rest, which is the answer.
    fn sort_out<T>(&mut self, answered: Result<T, Error>) -> Option<Result<T, Error>> {
        match answered {
            Err(Error::Away(what) | Error::Garbage(what)) => {
                self.may_pass = true;
                self.whats.push(what);
                None
            }
            // A port of another kind, or a broker of another version than the others.
            Err(Error::Unusable(what)) => {
                self.whats.push(what);
                None
            }
            answered => Some(answered),
        }
    }

    fn verdict(mut self) -> Error {
        self.whats.dedup();
        let what = self.whats.join("; ");
        if self.may_pass { Error::Away(what) } else { Error::Unusable(what) }
    }
}

fn address(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests;
