//! Pingeon checks whether things are up, from many small machines, and never lies about it.
//!
//! # The flow
//!
//! ```text
//! regular job ─▶ check ─▶ Log ─▶ Spool ─▶ (pump) ─▶ Kafka ─▶ (pump) ─▶ Store
//!                                  └──────────(pump)────────────────────▲   embedded: no Kafka
//! ```
//!
//! # What holds everywhere
//!
//! * A target that is down is an [`check::Outcome`], never an error.
//! * Every slot of the schedule ends in exactly one [`logs::Log`], or lies in the range of one `missed` log.
//! * At-least-once at every hop: a hop commits only after the next one has the log; the store drops what it has already.
//! * Every queue, buffer, wait and file has a bound, and what happens at it is written beside it.
//! * Only [`config`] knows YAML, only [`store`] and [`spool`] know SQL, only `main` prints to the terminal and exits,
//!   and threads start in [`jobs`] alone.
//!
//! # The modules, in reading order

pub mod config;
pub mod secret;

pub mod check;
pub mod net;

pub mod clock;
pub mod logs;
pub mod maintenance;
pub mod schedule;

mod database;
pub mod flow;
pub mod kafka;
pub mod queue;
pub mod spool;
pub mod store;

pub mod consume;
pub mod flows;
pub mod jobs;
pub mod produce;

pub mod health;
pub mod systemd;
pub mod web;

pub mod run;

pub mod report;

pub mod cli;
