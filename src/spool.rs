//! The durable queue on disk: a Sink and a Source.
