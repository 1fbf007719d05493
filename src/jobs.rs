//! Named threads: start, supervise, stop, join.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

/// The word to stop, given once and seen by all: a channel that closes, so that it can be selected on beside others.
#[derive(Clone, Debug)]
pub struct Stop {
    open: Arc<Mutex<Option<Sender<Infallible>>>>,
    closed: Receiver<Infallible>,
}

impl Default for Stop {
    fn default() -> Self {
        let (open, closed) = bounded(0);
        Stop { open: Arc::new(Mutex::new(Some(open))), closed }
    }
}

impl Stop {
    /// Gives the word. Everyone who waits wakes.
    pub fn set(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Whether the word was given.
    pub fn is_set(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Waits for the word, up to `most`; whether it was given.
    pub fn wait(&self, most: Duration) -> bool {
        matches!(self.closed.recv_timeout(most), Err(RecvTimeoutError::Disconnected))
    }

    /// A channel that carries nothing and closes when the word is given, for `select!`.
    pub fn channel(&self) -> &Receiver<Infallible> {
        &self.closed
    }
}
