//! What the other tests stand on: the brokers serve, the other client works at every listener, the proxy does what it says.

use std::time::{Duration, Instant};

use crate::cluster::{LISTENERS, Listener, VERSIONS, Version, shared, unique};
use crate::peer::Peer;
use crate::proxy::Fault;

const RECORDS: [(&[u8], &[u8]); 3] =
    [(b"edge-01/shop", b"up"), (b"edge-01/api", b"\x00down\xff"), (b"edge-02/shop", b"")];

/// Values in the order of the topic, sorted.
fn values(peer: &Peer, topic: &str) -> Vec<Vec<u8>> {
    let mut values: Vec<_> = peer.consume(topic, &[]).into_iter().map(|entry| entry.value.unwrap()).collect();
    values.sort();
    values
}

#[test]
fn the_other_client_comes_in_at_every_listener() {
    for version in VERSIONS {
        let broker = shared(version);
        for listener in LISTENERS {
            let topic = broker.topic("listener", 2);
            let peer = broker.peer_at(listener);
            assert_eq!(peer.produce(&topic, &RECORDS, &[]).len(), 3, "{version:?} {listener:?}");
            assert_eq!(values(&peer, &topic), [&b""[..], b"\x00down\xff", b"up"]);
        }
    }
}

#[test]
fn a_stranger_is_refused() {
    let broker = shared(Version::V4_3);
    let topic = broker.topic("private", 1);
    let stranger = broker.peer_at(Listener::SaslPlaintext).set("sasl.username", crate::cluster::STRANGER);
    let refused = stranger.run(&["consume", &topic], "").unwrap_err();
    assert!(refused.contains("TOPIC_AUTHORIZATION_FAILED"), "{refused}");
}

#[test]
fn an_aborted_transaction_is_in_the_topic_and_not_read() {
    let broker = shared(Version::V4_3);
    let (topic, peer) = (broker.topic("transactions", 1), broker.peer());
    peer.produce(&topic, &[(b"a", b"kept")], &["--transaction", &unique("kept")]);
    peer.produce(&topic, &[(b"a", b"dropped")], &["--transaction", &unique("dropped"), "--abort"]);
    assert_eq!(values(&peer, &topic), [b"kept"]);
    assert_eq!(peer.consume(&topic, &["--uncommitted"]).len(), 2);
}

#[test]
fn records_are_deleted_up_to_an_offset() {
    for version in VERSIONS {
        let broker = shared(version);
        let (topic, peer) = (broker.topic("deleted", 1), broker.peer());
        peer.produce(&topic, &RECORDS, &[]);
        broker.delete_records(&topic, 0, 2);
        assert_eq!(peer.consume(&topic, &[]).iter().map(|entry| entry.offset).collect::<Vec<_>>(), [2]);
    }
}

#[test]
fn behind_a_proxy_clients_stay_there_and_survive_what_it_does() {
    for version in VERSIONS {
        let broker = shared(version);
        let topic = broker.topic("proxied", 1);
        for fault in [
            Fault::None,
            Fault::Delay(Duration::from_millis(20)),
            Fault::Cut { after: 5, times: 2 },
            Fault::Dribble,
            Fault::Noise { times: 1 },
            Fault::NoiseInside { times: 1 },
        ] {
            let proxy = broker.proxy();
            proxy.set(fault);
            let peer = broker.peer_behind(&proxy);
            peer.produce(&topic, &RECORDS, &[]);
            assert_eq!(proxy.struck() > 0, fault != Fault::None, "{version:?} {fault:?}");
        }
        assert!(broker.peer().consume(&topic, &[]).len() >= 18);
    }
}

#[test]
fn through_a_black_hole_nothing_comes_until_it_ends() {
    let broker = shared(Version::V4_3);
    let topic = broker.topic("hole", 1);
    let proxy = broker.proxy();
    for fault in [Fault::BlackHole, Fault::Closed] {
        proxy.set(fault);
        let begin = Instant::now();
        let peer = broker.peer_behind(&proxy).set("message.timeout.ms", "1500");
        assert!(peer.run(&["produce", &topic], "{\"value\":\"lost\"}").is_err());
        assert!(begin.elapsed() > Duration::from_secs(1), "it was to try for 1.5 s");
        assert!(fault == Fault::BlackHole || proxy.struck() > 0);
    }
    proxy.set(Fault::None);
    assert_eq!(broker.peer_behind(&proxy).produce(&topic, &[(b"k", b"kept")], &[]).len(), 1);
}
