//! What came back.

use ureq::http::{HeaderMap, StatusCode, Version};

/// An answer, as far as it came.
#[derive(Debug, Default)]
pub struct Answer {
    /// Its head; `None` when none came, or no whole one.
    pub head: Option<Head>,
    /// Whether it accepts a WebSocket, or why not; `None` unless one was asked for and the status says so.
    pub websocket: Option<Result<(), String>>,
    /// Its body, up to `body_max`; empty when no expectation looks at it.
    pub body: Vec<u8>,
    /// How many bytes of the body were read.
    pub bytes: u64,
    /// There was more than `body_max`, which was not read.
    pub cut: bool,
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// Its version.
    pub version: Version,
    /// Its headers.
    pub headers: HeaderMap,
}

impl Head {
    /// The value of a header, for people; a header that comes more than once is a list (RFC 9110, section 5.3).
    pub fn header(&self, name: &str) -> Option<Vec<u8>> {
        let values: Vec<_> = self.headers.get_all(name).iter().map(|value| value.as_bytes()).collect();
        (!values.is_empty()).then(|| values.join(&b", "[..]))
    }
}
