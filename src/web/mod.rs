//! Status page, /metrics, /healthz.
