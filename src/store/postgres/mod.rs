//! The store that a fleet writes to: Postgres 14 to 18 (its schema is `sql/postgres/`).
//!
//! A batch is kept in one transaction: one prepared insert, `ON CONFLICT (uid) DO NOTHING`, sorted by uid so that consumers never
//! wait for each other in a circle; what was new of it goes into the roll-ups, what cannot be kept into `rejected` with its bytes,
//! origin, reason and SQLSTATE. The role that writes may insert, read uids and call a few functions, and nothing else.

mod address;
mod archive;
mod columns;
mod connection;
mod dial;
mod keeper;
mod migrate;
mod sink;
mod trouble;
mod unreached;

pub use address::{Address, Files, Unusable};
pub use archive::Archive;
pub use keeper::Keeper;
pub use migrate::{migrate, schema};
pub use sink::Postgres;
