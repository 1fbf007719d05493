//! Every way in, for whom it is open and for whom not, and what people are told.

use pingeon::kafka::{Cluster, Error, Mechanism};

use crate::clients::client;
use crate::cluster::{Broker, LISTENERS, Listener, PASSWORD, STRANGER, USER, VERSIONS, Version, as_user, shared};

const MECHANISMS: [Mechanism; 3] = [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512];
const SASL: [Listener; 2] = [Listener::SaslPlaintext, Listener::SaslTls];

/// How many partitions the topic has for whoever comes in this way.
fn look(cluster: Cluster, topic: &str) -> Result<i32, Error> {
    client(cluster, topic).partitions()
}

#[test]
fn we_come_in_at_every_listener_by_every_mechanism() {
    for broker in VERSIONS.map(shared) {
        let topic = broker.topic("ways-in", 3);
        for listener in LISTENERS {
            assert_eq!(look(broker.cluster(listener), &topic), Ok(3), "{:?} {listener:?}", broker.version());
        }
        for (listener, mechanism) in SASL.into_iter().flat_map(|listener| MECHANISMS.map(|one| (listener, one))) {
            let cluster = as_user(broker.cluster(listener), mechanism, USER, PASSWORD);
            assert_eq!(look(cluster, &topic), Ok(3), "{:?} {listener:?} {mechanism:?}", broker.version());
        }
        assert_eq!(look(broker.cluster_by_certificate(USER), &topic), Ok(3));
    }
}

#[test]
fn who_may_not_is_told_so() {
    for broker in VERSIONS.map(shared) {
        let topic = broker.topic("private", 1);
        let mut ways = vec![broker.cluster_by_certificate(STRANGER)];
        ways.extend(MECHANISMS.map(|one| as_user(broker.cluster(Listener::SaslTls), one, STRANGER, PASSWORD)));
        for way in ways {
            let refused = look(way, &topic).unwrap_err().to_string();
            assert!(refused.contains(&format!("not authorised for topic `{topic}`")), "{refused}");
        }
        for mechanism in MECHANISMS {
            let way = as_user(broker.cluster(Listener::SaslPlaintext), mechanism, USER, "wrong");
            let refused = look(way, &topic).unwrap_err();
            assert!(says(&refused, &["refused", USER]), "{mechanism:?}: {refused}");
            assert!(!refused.to_string().contains("wrong"), "it tells the password: {refused}");
        }
    }
}

#[test]
fn a_wrong_port_and_a_missing_topic_are_told() {
    for broker in VERSIONS.map(shared) {
        let at = |port: Listener, spoken: Listener| Cluster {
            brokers: broker.cluster(port).brokers,
            ..broker.cluster(spoken)
        };
        for (port, spoken, hint) in [
            (Listener::Tls, Listener::Plaintext, "it expects TLS on this port; set `queue.kafka.tls`"),
            (Listener::Plaintext, Listener::Tls, "if it expects plaintext on this port, leave out `queue.kafka.tls`"),
            (Listener::SaslPlaintext, Listener::Plaintext, "it may ask for SASL on this port: set `queue.kafka.sasl`"),
            (Listener::SaslTls, Listener::Tls, "it may ask for SASL on this port: set `queue.kafka.sasl`"),
            (Listener::Plaintext, Listener::SaslPlaintext, "asks for no SASL on this port"),
            (Listener::Tls, Listener::SaslTls, "asks for no SASL on this port"),
        ] {
            let error = look(at(port, spoken), "any").unwrap_err();
            assert!(says(&error, &[hint]), "{spoken:?} at {port:?}: {error}");
        }
        let error = look(broker.cluster(Listener::Plaintext), "nowhere").unwrap_err();
        assert!(says(&error, &["`nowhere` does not exist", "--create --topic nowhere"]), "{error}");
    }
}

#[test]
fn a_certificate_of_another_authority_is_not_believed() {
    let (mine, other) = (shared(Version::V4_3), shared(Version::V3_9));
    let strange = |broker: &Broker| Cluster { tls: broker.cluster(Listener::Tls).tls, ..mine.cluster(Listener::Tls) };
    let error = look(strange(other), "any").unwrap_err();
    assert!(says(&error, &["certificate"]), "{error}");
}

fn says(error: &Error, words: &[&str]) -> bool {
    let text = error.to_string();
    words.iter().all(|word| text.contains(word))
}
