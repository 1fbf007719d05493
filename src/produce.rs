//! The agent half: every thread and channel of it, on one screen.
