//! What is served over HTTP on `web.listen`: for now /healthz.
//!
//! Plain HTTP, meant for loopback. One thread answers; `server` says what a client may do to it.

mod server;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::health::Health;
use crate::jobs::Jobs;
use server::{Answer, PLAIN, Server};

const STACK: usize = 256 * 1024;

/// The listening server.
#[derive(Debug)]
pub struct Web(Arc<Server>);

impl Web {
    /// Listens on `listen`.
    ///
    /// # Errors
    /// A sentence that names the address, when it cannot be had.
    pub fn listen(listen: SocketAddr) -> Result<Self, String> {
        let server = Server::bind(listen).map_err(|e| format!("cannot listen on `web.listen` {listen}: {e}"))?;
        Ok(Web(Arc::new(server)))
    }

    /// Answers requests in a thread of its own, until [`close`](Web::close).
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn serve(&self, jobs: &Jobs, health: Arc<Health>) -> Result<(), String> {
        let server = self.0.clone();
        jobs.start("web", STACK, move |pulse| server.serve(pulse, &|method, path| route(method, path, &health)))
    }

    /// Ends [`serve`](Web::serve).
    pub fn close(&self) {
        self.0.close();
    }
}

/// What is answered to `method` on `path`.
fn route(method: &str, path: &str, health: &Health) -> Answer {
    match (path, method) {
        ("/healthz", "GET" | "HEAD") => {
            let (well, body) = health.look(SystemClock.now());
            Answer { status: if well { 200 } else { 503 }, kind: "application/json", body: format!("{body}\n") }
        }
        ("/healthz", _) => Answer { status: 405, kind: PLAIN, body: "only GET and HEAD\n".to_owned() },
        _ => Answer { status: 404, kind: PLAIN, body: "nothing here; /healthz says how Pingeon is\n".to_owned() },
    }
}
