//! What is served over HTTP on `web.listen`: for now /healthz.
//!
//! Plain HTTP, meant for loopback. `tiny_http` reads each connection in a thread of its own; one thread of ours answers.

mod health;

pub use health::Health;

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;

use tiny_http::{Header, Method, Request, Response, Server};

use crate::clock::{Clock, SystemClock};
use crate::jobs::Jobs;

const STACK: usize = 256 * 1024;

/// The listening server.
pub struct Web(Arc<Server>);

impl Debug for Web {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Web({})", self.0.server_addr())
    }
}

impl Web {
    /// Listens on `listen`.
    ///
    /// # Errors
    /// A sentence that names the address, when it cannot be had.
    pub fn listen(listen: SocketAddr) -> Result<Self, String> {
        let server = Server::http(listen).map_err(|e| format!("cannot listen on `web.listen` {listen}: {e}"))?;
        Ok(Web(Arc::new(server)))
    }

    /// Answers requests in a thread of its own, until [`close`](Web::close).
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn serve(&self, jobs: &Jobs, health: Health) -> Result<(), String> {
        let server = self.0.clone();
        jobs.start("web", STACK, move |_| {
            for request in server.incoming_requests() {
                answer(request, &health);
            }
            Ok(())
        })
    }

    /// Ends [`serve`](Web::serve).
    pub fn close(&self) {
        self.0.unblock();
    }
}

fn answer(request: Request, health: &Health) {
    let path = request.url().split('?').next().unwrap_or_default();
    let (status, kind, body) = match (request.method(), path) {
        (Method::Get | Method::Head, "/healthz") => {
            let (well, body) = health.look(SystemClock.now());
            (if well { 200 } else { 503 }, "application/json", format!("{body}\n"))
        }
        (_, "/healthz") => (405, "text/plain; charset=utf-8", "only GET and HEAD\n".to_owned()),
        _ => (404, "text/plain; charset=utf-8", "nothing here; /healthz says how Pingeon is\n".to_owned()),
    };
    let headers = [("Content-Type", kind), ("Cache-Control", "no-store")];
    let headers = headers.iter().filter_map(|(name, value)| Header::from_bytes(*name, *value).ok());
    let response = headers.fold(Response::from_string(body).with_status_code(status), Response::with_header);
    // A client that has gone away needs no answer.
    if let Err(error) = request.respond(response) {
        log::debug!("web: {error}");
    }
}
