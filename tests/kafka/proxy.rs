//! A proxy on loopback that does to a broker's answers what networks do, and switches while connections are open.
//!
//! The broker has a listener for each whose advertised port is the proxy's, so that clients stay behind it. Its threads end
//! with their connections.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::Deref;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most that is read at once.
const PIECE_BYTES_MAX: usize = 64 * 1024;
/// Length and correlation id, before an answer's content.
const HEADER_BYTES: usize = 8;

/// What happens to what the broker answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Each piece of an answer comes so much later.
    Delay(Duration),
    /// A connection is cut after so many bytes of answers, then another, so many times. A few bytes are less than any answer:
    /// what was asked for is done, and nobody hears of it.
    Cut {
        after: usize,
        times: u32,
    },
    /// Nothing comes through either way, and nobody is told. What was sent meanwhile comes when this ends.
    BlackHole,
    /// So many times, an answer and all that would follow it on its connection does not come, as long as this is set.
    Mute {
        times: u32,
    },
    /// One byte at a time.
    Dribble,
    /// So many times, an answer is noise from its first byte.
    Noise {
        times: u32,
    },
    /// The same, but its length and correlation id are right.
    NoiseInside {
        times: u32,
    },
    /// Connections are closed as soon as they are made; those that are open, too.
    Closed,
}

/// One of them. It does no harm until it is told to.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    fn listen() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || listener.incoming().flatten().for_each(|client| accepting.accept(client)));
        Proxy { port, shared }
    }

    pub fn bootstrap(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// From now on, for open connections too.
    pub fn set(&self, fault: Fault) {
        let mut state = self.shared.lock();
        (state.fault, state.passed, state.struck) = (fault, 0, 0);
        if fault == Fault::Closed {
            state.struck = state.cut();
        }
        self.shared.changed.notify_all();
    }

    /// How often the fault that was set last did something.
    pub fn struck(&self) -> u32 {
        self.shared.lock().struck
    }

    /// Cuts all connections, and does no harm to those to come.
    fn reset(&self) {
        self.set(Fault::None);
        self.shared.lock().cut();
    }
}

#[derive(Default)]
struct Shared {
    target: AtomicU16,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    fault: Fault,
    /// Bytes of answers since the fault was set or cut a connection.
    passed: usize,
    struck: u32,
    open: Vec<Arc<Connection>>,
}

impl Default for State {
    fn default() -> Self {
        State { fault: Fault::None, passed: 0, struck: 0, open: Vec::new() }
    }
}

impl State {
    /// Cuts all connections; how many those were.
    fn cut(&mut self) -> u32 {
        let open = std::mem::take(&mut self.open);
        open.iter().for_each(|connection| connection.cut());
        u32::try_from(open.len()).unwrap()
    }

    /// What to do with a piece of an answer. Noise is in it by then.
    fn judge(&mut self, piece: &mut [u8]) -> Verdict {
        let before = self.passed;
        self.passed += piece.len();
        let verdict = match &mut self.fault {
            Fault::None | Fault::Closed => return Verdict::Pass,
            Fault::Delay(delay) => Verdict::Later(*delay),
            Fault::BlackHole => Verdict::Never,
            Fault::Dribble => Verdict::ByteByByte,
            Fault::Cut { times: 0, .. }
            | Fault::Mute { times: 0 }
            | Fault::Noise { times: 0 }
            | Fault::NoiseInside { times: 0 } => return Verdict::Pass,
            Fault::Cut { after, .. } if self.passed < *after => return Verdict::Pass,
            Fault::Cut { after, times } => {
                *times -= 1;
                self.passed = 0;
                Verdict::CutAt(*after - before)
            }
            Fault::Mute { times } => {
                *times -= 1;
                Verdict::Never
            }
            Fault::Noise { times } => {
                *times -= 1;
                noise(piece);
                Verdict::Pass
            }
            Fault::NoiseInside { times } => {
                *times -= 1;
                noise(piece.get_mut(HEADER_BYTES..).unwrap_or_default());
                Verdict::Pass
            }
        };
        self.struck += 1;
        verdict
    }
}

/// What becomes of a piece of an answer.
enum Verdict {
    Pass,
    Later(Duration),
    /// Not before the fault ends.
    Never,
    ByteByByte,
    CutAt(usize),
}

/// The same bytes each time, of every value, and no pattern that a reader could take for something.
fn noise(piece: &mut [u8]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for byte in piece {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state.to_le_bytes()[0];
    }
}

struct Connection {
    client: TcpStream,
    broker: TcpStream,
}

impl Connection {
    fn cut(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.broker.shutdown(Shutdown::Both);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Self>, client: TcpStream) {
        let mut state = self.lock();
        if state.fault == Fault::Closed {
            state.struck += 1;
            return;
        }
        let Ok(broker) = TcpStream::connect(("127.0.0.1", self.target.load(Relaxed))) else { return };
        client.set_nodelay(true).unwrap();
        broker.set_nodelay(true).unwrap();
        let connection = Arc::new(Connection { client, broker });
        state.open.push(Arc::clone(&connection));
        drop(state);
        for work in [Shared::ask, Shared::answer] {
            let (shared, connection) = (Arc::clone(self), Arc::clone(&connection));
            std::thread::spawn(move || {
                // A connection that breaks is what a proxy is for.
                let _ = work(&shared, &connection);
                connection.cut();
                shared.lock().open.retain(|other| !Arc::ptr_eq(other, &connection));
            });
        }
    }

    fn ask(&self, way: &Connection) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES_MAX];
        loop {
            let read = (&way.client).read(&mut piece)?;
            if read == 0 {
                return Ok(());
            }
            self.hold(|fault| fault == Fault::BlackHole, None);
            (&way.broker).write_all(&piece[..read])?;
        }
    }

    fn answer(&self, way: &Connection) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES_MAX];
        loop {
            let read = (&way.broker).read(&mut piece)?;
            if read == 0 {
                return Ok(());
            }
            let piece = &mut piece[..read];
            let verdict = self.lock().judge(piece);
            match verdict {
                Verdict::Pass => {}
                Verdict::Later(delay) => self.hold(|fault| fault == Fault::Delay(delay), Some(delay)),
                Verdict::Never => {
                    self.hold(|fault| matches!(fault, Fault::BlackHole | Fault::Mute { .. }), None);
                }
                Verdict::ByteByByte => {
                    piece.iter().try_for_each(|byte| (&way.client).write_all(&[*byte]))?;
                    continue;
                }
                Verdict::CutAt(length) => return (&way.client).write_all(&piece[..length]),
            }
            (&way.client).write_all(piece)?;
        }
    }

    /// Waits as long as such a fault is set, or so long.
    fn hold(&self, set: impl Fn(Fault) -> bool, most: Option<Duration>) {
        let state = self.lock();
        match most {
            Some(most) => drop(self.changed.wait_timeout_while(state, most, |state| set(state.fault))),
            None => drop(self.changed.wait_while(state, |state| set(state.fault))),
        }
    }
}

/// The proxies in front of one broker, each before a listener of its own.
pub struct Proxies {
    all: Vec<Proxy>,
    free: Mutex<Vec<usize>>,
    returned: Condvar,
}

impl Proxies {
    pub fn listen(count: usize) -> Arc<Self> {
        let all = (0..count).map(|_| Proxy::listen()).collect();
        Arc::new(Proxies { all, free: Mutex::new((0..count).collect()), returned: Condvar::new() })
    }

    /// Where each listens.
    pub fn ports(&self) -> Vec<u16> {
        self.all.iter().map(|proxy| proxy.port).collect()
    }

    pub fn lead_to(&self, nth: usize, port: u16) {
        self.all[nth].shared.target.store(port, Relaxed);
    }

    /// One that nobody has; waits for one.
    pub fn lease(self: &Arc<Self>) -> Lease {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.returned.wait_while(free, |free| free.is_empty());
        let nth = waited.unwrap_or_else(PoisonError::into_inner).pop().unwrap();
        Lease { proxies: Arc::clone(self), nth }
    }
}

/// A [`Proxy`] that nobody else has, until this is dropped.
pub struct Lease {
    proxies: Arc<Proxies>,
    nth: usize,
}

impl Deref for Lease {
    type Target = Proxy;

    fn deref(&self) -> &Proxy {
        &self.proxies.all[self.nth]
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.reset();
        self.proxies.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.nth);
        self.proxies.returned.notify_one();
    }
}
