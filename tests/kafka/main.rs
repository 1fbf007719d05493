//! Kafka, with brokers of the oldest and the newest kind that this machine can run.

mod clients;
mod cluster;
#[path = "../service/daemon.rs"]
#[allow(dead_code, reason = "Postgres ends otherwise")]
mod daemon;
mod node;
mod peer;
mod pki;
mod proxy;
#[path = "../service/running.rs"]
mod running;

mod conformance;
mod failover;
mod faults;
mod flow;
mod group;
mod harness;
mod legacy;
mod security;
