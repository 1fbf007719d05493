//! Sinks that know SQL, and the queries that reports and pages ask.

pub mod sqlite;
