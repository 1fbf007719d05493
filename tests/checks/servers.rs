//! Servers that do as they are told, once per connection. They live as long as the test process.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// What a server does with a connection, step by step.
#[derive(Clone)]
pub enum Do {
    /// Read until an empty line, the end of a request's head.
    ReadHead,
    /// Read until these bytes have come.
    ReadUntil(&'static [u8]),
    /// Wait until the next byte has come, and leave it there.
    AwaitByte,
    /// Send this.
    Send(Vec<u8>),
    /// Send this one byte at a time, with a pause after each.
    Drip(Vec<u8>, Duration),
    /// Say nothing, until the other side goes.
    Hang,
    /// Read nothing and say nothing, until the test ends.
    Freeze,
    /// Close with a reset.
    Reset,
}

/// The whole of a well-behaved exchange.
pub fn answers(answer: impl AsRef<[u8]>) -> Vec<Do> {
    vec![Do::ReadHead, Do::Send(answer.as_ref().to_vec())]
}

/// An answer with a length.
pub fn ok(body: &str) -> Vec<Do> {
    answers(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}

/// A redirect.
pub fn leads_to(location: &str) -> Vec<Do> {
    answers(format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"))
}

/// Starts a server that does `steps` with every connection; its port.
pub fn serve(steps: Vec<Do>) -> u16 {
    serve_with(move |stream| act(&steps, stream))
}

/// Starts a server that answers by what the request was; its port.
pub fn echo(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> u16 {
    serve_with(move |mut stream| {
        let head = read_until(&mut stream, b"\r\n\r\n");
        let body = answer(&String::from_utf8_lossy(&head));
        let _ = stream.write_all(body.as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read(&mut [0; 64]);
    })
}

/// Starts servers at all of `addresses`, on one port; what each does with a connection is said by `serve`, which gets the place
/// of its address.
pub fn serve_at(addresses: &[&str], serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> u16 {
    let serve = Arc::new(serve);
    let listeners = listeners(addresses);
    let port = listeners[0].local_addr().unwrap().port();
    for (place, listener) in listeners.into_iter().enumerate() {
        let serve = serve.clone();
        accept(listener, move |stream| serve(place, stream));
    }
    port
}

/// Listeners at all of `addresses`, on one port that is free at each.
fn listeners(addresses: &[&str]) -> Vec<TcpListener> {
    for _ in 0..100 {
        let first = TcpListener::bind((addresses[0], 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        let others = addresses[1..].iter().map(|address| TcpListener::bind((*address, port)));
        if let Ok(all) = std::iter::once(Ok(first)).chain(others).collect() {
            return all;
        }
    }
    panic!("no port is free at all of {addresses:?}");
}

/// Starts a server with a thread for each connection; its port.
pub fn serve_with(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    accept(listener, serve);
    port
}

fn accept(listener: TcpListener, serve: impl Fn(TcpStream) + Send + Sync + 'static) {
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
}

/// Does `steps`, then closes gracefully.
pub fn act(steps: &[Do], mut stream: TcpStream) {
    if !perform(steps, &mut stream) {
        return;
    }
    // Closing with bytes unread would be a reset.
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {}
}

/// Does `steps`; whether the connection still stands.
pub fn perform(steps: &[Do], stream: &mut TcpStream) -> bool {
    stream.set_nodelay(true).unwrap();
    for step in steps {
        match step {
            Do::ReadHead => drop(read_until(stream, b"\r\n\r\n")),
            Do::ReadUntil(end) => drop(read_until(stream, end)),
            Do::AwaitByte => drop(stream.peek(&mut [0])),
            Do::Send(bytes) => drop(stream.write_all(bytes)),
            Do::Drip(bytes, pause) => drip(stream, bytes, *pause),
            Do::Hang => while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {},
            Do::Freeze => std::thread::park_timeout(Duration::from_secs(60)),
            Do::Reset => {
                reset(stream);
                return false;
            }
        }
    }
    true
}

fn drip(stream: &mut TcpStream, bytes: &[u8], pause: Duration) {
    for byte in bytes {
        if stream.write_all(&[*byte]).is_err() {
            return;
        }
        std::thread::park_timeout(pause);
    }
}

/// Reads up to and with `end`, byte by byte.
pub fn read_until(stream: &mut impl Read, end: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(end) && matches!(stream.read(&mut byte), Ok(1)) {
        read.push(byte[0]);
    }
    read
}

/// Closes with a reset: no lingering.
pub fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// A port that nobody listens on. It is bound, so that nobody else gets it, for as long as the process lives.
pub fn closed_port() -> u16 {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    std::mem::forget(socket);
    port
}

/// A port whose backlog is full, so that a SYN gets no answer.
pub fn full_port() -> u16 {
    full_port_at("127.0.0.1:0")
}

/// The same at an address.
pub fn full_port_at(address: &str) -> u16 {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&address.parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap();
    std::mem::forget(socket);
    for _ in 0..4 {
        let filler = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        let _ = filler.connect(&address);
        std::mem::forget(filler);
    }
    address.as_socket().unwrap().port()
}
