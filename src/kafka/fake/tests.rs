//! A broker that says what a test wants it to say, on a real socket.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::Encodable;

use super::api::{Api, spoken};
use super::connection::Access;
use super::{Cluster, Sasl};
use crate::jobs::Stop;
use crate::net::Net;

/// Listens until it is dropped.
pub struct Fake {
    /// Where: `127.0.0.1:port`.
    pub address: String,
    ended: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<i16>>>,
}

impl Fake {
    /// Answers each request by what `script` makes of its API key, its version and its body; `None` closes the connection.
    /// ApiVersions it answers by itself: all that is spoken here, unless `script` is asked for API 18 and has an answer.
    pub fn start(script: impl FnMut(i16, i16, Bytes) -> Option<Vec<u8>> + Send + 'static) -> Self {
        let (script, asked) = (Arc::new(Mutex::new(script)), Arc::new(Mutex::new(Vec::new())));
        let noted = asked.clone();
        Self::raw(asked, move |mut socket| {
            while let Some((key, version, correlation, body)) = request(&mut socket) {
                noted.lock().unwrap().push(key);
                let answer = (*script.lock().unwrap())(key, version, body);
                let answer = if key == ApiVersionsRequest::KEY { answer.or_else(versions) } else { answer };
                let Some(answer) = answer else { return };
                if socket.write_all(&frame(correlation, &answer)).is_err() {
                    return;
                }
            }
        })
    }

    /// Hands every connection to `serve`, which speaks as it likes.
    pub fn speaking(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::raw(Arc::default(), serve)
    }

    fn raw(asked: Arc<Mutex<Vec<i16>>>, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (ended, serve) = (Arc::new(AtomicBool::new(false)), Arc::new(serve));
        let over = ended.clone();
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let serve = serve.clone();
                thread::spawn(move || serve(socket));
            }
        });
        Fake { address, ended, asked }
    }

    /// The API keys of all that was asked, in order.
    pub fn asked(&self) -> Vec<i16> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes it up, so that it sees that.
        let _ = TcpStream::connect(&self.address);
    }
}

/// What every connection to these needs.
pub fn access(brokers: Vec<String>, sasl: Option<Sasl>) -> Access {
    Access { cluster: Cluster { brokers, tls: None, sasl }, net: Arc::new(Net::system()), stop: Stop::default() }
}

/// An answer, as a script gives it.
pub fn answer(answer: &impl Encodable, version: i16) -> Option<Vec<u8>> {
    let mut bytes = BytesMut::new();
    answer.encode(&mut bytes, version).unwrap();
    Some(bytes.to_vec())
}

/// One frame: its length, the correlation id, the answer.
pub fn frame(correlation: i32, answer: &[u8]) -> Vec<u8> {
    let length = i32::try_from(answer.len() + 4).unwrap();
    [&length.to_be_bytes(), &correlation.to_be_bytes(), answer].concat()
}

/// That all is spoken that is spoken here.
pub fn versions() -> Option<Vec<u8>> {
    let keys = spoken().into_iter().map(|api| {
        ApiVersion::default().with_api_key(api.key).with_min_version(api.versions.0).with_max_version(api.versions.1)
    });
    answer(&ApiVersionsResponse::default().with_api_keys(keys.collect()), 0)
}

/// The next request: its API key, version, correlation id and body.
pub fn request(socket: &mut TcpStream) -> Option<(i16, i16, i32, Bytes)> {
    let mut length = [0; 4];
    socket.read_exact(&mut length).ok()?;
    let mut bytes = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
    socket.read_exact(&mut bytes).ok()?;
    let mut bytes = Bytes::from(bytes);
    let (key, version, correlation) = (bytes.get_i16(), bytes.get_i16(), bytes.get_i32());
    let client_id = bytes.get_i16();
    bytes.advance(usize::try_from(client_id).unwrap_or(0));
    Some((key, version, correlation, bytes))
}
