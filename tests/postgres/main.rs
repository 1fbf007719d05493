//! The Postgres store, with a real server.

#[path = "../service/daemon.rs"]
mod daemon;
mod disk;
mod fleet;
mod load;
#[path = "../kafka/pki.rs"]
#[allow(dead_code, reason = "a broker wants its certificate in another form")]
mod pki;
mod pooler;
#[path = "../service/running.rs"]
#[allow(dead_code, reason = "not every test target starts the program")]
mod running;
mod servant;
mod server;

mod arrival;
mod audit;
mod connect;
mod days;
mod harness;
mod keeper;
mod migrate;
mod reports;
mod rights;
mod starttls;
