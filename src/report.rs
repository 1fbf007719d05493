//! Uptime, latency and outages out of a store.
#![allow(missing_docs)]
use crate::clock::Timestamp;
pub struct Report;
pub fn parse_since(_: &str, now: Timestamp) -> Result<Timestamp, String> {
    Ok(now)
}
pub fn summed_up(
    _: &crate::store::sqlite::Archive,
    _: &[std::sync::Arc<str>],
    _: &[std::sync::Arc<str>],
    _: (Timestamp, Timestamp),
    _: &mut dyn FnMut(usize),
) -> Result<Report, String> {
    Ok(Report)
}
pub fn table(_: &Report, _: Option<u16>, _: bool) -> String {
    String::new()
}
pub fn json(_: &Report) -> String {
    String::new()
}
pub fn csv(_: &Report) -> String {
    String::new()
}
