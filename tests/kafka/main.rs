//! Kafka, with brokers of the oldest and the newest kind that this machine can run.

mod clients;
mod cluster;
mod group;
mod node;
mod peer;
mod pki;
mod proxy;

mod conformance;
mod failover;
mod harness;
mod security;
