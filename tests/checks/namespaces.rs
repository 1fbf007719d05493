//! Network namespaces, each held by a thread: nothing of them is left when the process ends, however it ends.

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};

use nix::sched::{CloneFlags, unshare};

type Work = Box<dyn FnOnce() + Send>;

/// A network of its own.
pub struct Namespace {
    work: Sender<Work>,
    /// The thread that is in it.
    thread: String,
}

impl Namespace {
    /// One with nothing but `lo`.
    pub fn new() -> Self {
        let (work, todo) = channel::<Work>();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET)
                .expect("tests of ICMP need network namespaces of their own: run them as root");
            todo.into_iter().for_each(|work| work());
        });
        let mut namespace = Namespace { work, thread: String::new() };
        let own = fs::read_link("/proc/thread-self");
        let thread = namespace.within(|| fs::read_link("/proc/thread-self").unwrap());
        assert_ne!(own.unwrap(), thread);
        namespace.thread = thread.file_name().unwrap().to_str().unwrap().to_owned();
        namespace.ip("link set lo up");
        namespace
    }

    /// Does `work` in it.
    pub fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        self.work.send(Box::new(move || drop(done.send(work())))).expect("the namespace is there");
        result.recv().expect("what is done in a namespace does not panic")
    }

    /// ip(8).
    pub fn ip(&self, arguments: &str) {
        let words: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        let output =
            self.within(|| Command::new("ip").args(words).output().expect("ip(8) is there: apt install iproute2"));
        assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// ip(8), started and waiting for its word.
    pub fn ip_ready(&self, arguments: &'static str) -> Ready {
        let started = self.within(|| Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap());
        Ready(started, arguments)
    }

    /// A setting under `/proc/sys/net`.
    pub fn set(&self, name: &str, value: &'static str) {
        let path = format!("/proc/sys/net/{name}");
        self.within(move || fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}")));
    }

    /// A cable from `near` in this one to `far` in the other, both ends up.
    pub fn link(&self, near: &str, other: &Namespace, far: &str) {
        self.ip(&format!("link add {near} type veth peer name {far} netns {}", other.thread));
        self.ip(&format!("link set {near} up"));
        other.ip(&format!("link set {far} up"));
    }

    /// A cable between `here` in this one and `there` in the other: 10.77.0.1 and 10.77.0.2, fd77::1 and fd77::2. What begins
    /// with 10.77.1 or fd77:1 lies behind the other.
    pub fn connect(&self, other: &Namespace) {
        self.link("here", other, "there");
        for (end, name, number) in [(self, "here", 1), (other, "there", 2)] {
            end.ip(&format!("address add 10.77.0.{number}/24 dev {name}"));
            end.ip(&format!("address add fd77::{number}/64 dev {name} nodad"));
        }
        self.ip("route add 10.77.1.0/24 via 10.77.0.2");
        self.ip("route add fd77:1::/64 via fd77::2");
        // Or the kernel there says that it has no way to them.
        other.ip("route add blackhole 10.77.1.0/24");
        other.ip("route add blackhole fd77:1::/64");
    }
}

/// A change that takes no more than a moment once it is wanted.
pub struct Ready(Child, &'static str);

impl Ready {
    /// Does it.
    pub fn go(mut self) {
        writeln!(self.0.stdin.take().unwrap(), "{}", self.1).unwrap();
        assert!(self.0.wait().unwrap().success(), "ip {}", self.1);
    }
}
