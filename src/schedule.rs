//! Which check is due when. Pure: no threads, no clock of its own.
