//! Kafka, with brokers of the oldest and the newest kind that this machine can run.

mod clients;
mod cluster;
#[path = "../service/daemon.rs"]
#[allow(dead_code, reason = "Postgres ends otherwise")]
mod daemon;
#[path = "../postgres/disk.rs"]
mod disk;
#[path = "../postgres/fleet.rs"]
#[allow(dead_code, reason = "the store's own tests ask for more")]
mod fleet;
#[path = "../postgres/load.rs"]
mod load;
mod node;
mod peer;
mod pki;
mod proxy;
#[path = "../service/running.rs"]
mod running;
#[path = "../postgres/servant.rs"]
mod servant;
#[path = "../postgres/server.rs"]
#[allow(dead_code, reason = "the store's own tests ask for more")]
mod server;

mod conformance;
mod failover;
mod faults;
mod flow;
mod group;
mod harness;
mod legacy;
mod postgres;
mod security;
