//! Something to check.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use crate::running::PATIENCE;

/// An HTTP server that tells what it was asked for. Its thread lives as long as the test's process.
pub struct Target {
    address: SocketAddr,
    asked: Receiver<String>,
}

/// What a target does with a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Answers,
    NeverAnswers,
}

impl Target {
    pub fn that(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, asked) = channel();
        std::thread::spawn(move || {
            let mut kept_open = Vec::new();
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let _ = tell.send(path(&mut connection));
                match manner {
                    Manner::Answers => {
                        let _ = connection
                            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n");
                    }
                    Manner::NeverAnswers => kept_open.push(connection),
                }
            }
        });
        Target { address, asked }
    }

    /// A check of this target, as an entry of a config. The label is the path, too.
    pub fn check(&self, label: &str, timing: &str) -> String {
        format!("  - {{label: {label}, http: \"http://{}/{label}\", {timing}}}\n", self.address)
    }

    /// Waits for a request for `label`.
    pub fn is_asked_for(&self, label: &str) {
        let end = Instant::now() + PATIENCE;
        while let Ok(path) = self.asked.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if path == format!("/{label}") {
                return;
            }
        }
        panic!("nobody asked for `/{label}` within {PATIENCE:?}");
    }

    /// Forgets the requests up to now.
    pub fn forget(&self) {
        while self.asked.try_recv().is_ok() {}
    }

    /// Whether there was a request since they were forgotten.
    pub fn was_asked(&self) -> bool {
        self.asked.try_recv().is_ok()
    }

    /// Waits for the next request for anything; its label.
    pub fn is_asked(&self) -> String {
        self.asked.recv_timeout(PATIENCE).unwrap().trim_start_matches('/').to_owned()
    }
}

/// The path of a request, read to the end of its head.
fn path(connection: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        match connection.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => head.extend_from_slice(&buffer[..read]),
        }
    }
    String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned()
}

/// A config with these checks, that keeps its logs at once.
pub fn config(checks: &[String]) -> String {
    format!("agent: test\nspool: {{flush: 10ms}}\nchecks:\n{}", checks.concat())
}
