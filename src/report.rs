//! Uptime, latency and outages out of a store.
