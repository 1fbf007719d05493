//! What systemd is told, and how its journal wants lines; by hand, since it is one datagram and one prefix.
//!
//! A [`Manager`] is told what becomes of this process (sd_notify(3)), and hears a sign of life twice in the time after which it
//! would take the process for hung (sd_watchdog_enabled(3)). Where nobody asked for that, all of it does nothing.
//! A [`Journal`] gives each line the priority that the journal files it under (sd-daemon(3)).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::clock::{Clock, SystemClock};

/// systemd drops a message of more than 4,096 bytes (`PIPE_BUF`), and a character takes up to four.
const STATUS_CHARACTERS_MAX: usize = 1_000;
/// How long a manager that does not read may hold us up.
const SEND_MAX: Duration = Duration::from_secs(5);

/// Whoever started this process, and wants to hear how it is.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<Socket>,
    watchdog: Option<Duration>,
    /// What it was told last that this process is at.
    status: String,
}

impl Manager {
    /// The one that the environment names, read by `variable`; for a process with the number `pid`.
    pub fn named_by(variable: &dyn Fn(&str) -> Option<OsString>, pid: u32) -> Self {
        let Some(address) = variable("NOTIFY_SOCKET") else { return Manager::default() };
        let socket = Socket::open(&address).inspect_err(|error| {
            log::warn!("cannot tell the service manager anything: `NOTIFY_SOCKET`: {error}");
        });
        let number = |name: &str| variable(name).and_then(|value| value.to_str()?.parse::<u64>().ok());
        // Inherited from a parent, it is not for us.
        let ours = variable("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(pid.into());
        let watchdog = number("WATCHDOG_USEC").filter(|micros| ours && *micros > 0).map(Duration::from_micros);
        Manager { socket: socket.ok(), watchdog, status: String::new() }
    }

    /// How often it wants a sign of life, if it does: half of the time that it waits for one.
    pub fn beat(&self) -> Option<Duration> {
        self.socket.as_ref().and(self.watchdog).map(|watchdog| watchdog / 2)
    }

    /// All that was asked for runs, for the first time or after [`reloading`](Self::reloading); `status` says what that is.
    pub fn ready(&mut self, status: &str) {
        self.tell("READY=1\n", status);
    }

    /// The config is about to be read again. [`ready`](Self::ready) ends it, also where nothing changed.
    pub fn reloading(&mut self) {
        let micros = SystemClock.now().awake().0.as_micros();
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The process is on its way out.
    pub fn stopping(&mut self, status: &str) {
        self.tell("STOPPING=1\n", status);
    }

    /// A look at this process: where it is not `stuck`, that is a sign of life. It says how long until the next look; sooner
    /// after one that found it stuck, since if that has gone by then it is not too late yet.
    pub fn look(&mut self, stuck: bool, status: &str) -> Option<Duration> {
        let beat = self.beat()?;
        let alive = if stuck { "" } else { "WATCHDOG=1\n" };
        if status == self.status {
            self.send(alive.trim_end());
        } else {
            self.tell(alive, status);
        }
        Some(if stuck { beat / 4 } else { beat })
    }

    fn tell(&mut self, what: &str, status: &str) {
        status.clone_into(&mut self.status);
        // A line break would begin another assignment.
        let line = status.chars().map(|c| if c == '\n' { ' ' } else { c });
        self.send(&format!("{what}STATUS={}", line.take(STATUS_CHARACTERS_MAX).collect::<String>()));
    }

    fn send(&self, message: &str) {
        if let Some(socket) = self.socket.as_ref().filter(|_| !message.is_empty())
            && let Err(error) = socket.send(message)
        {
            log::warn!("cannot tell the service manager `{}`: {error}", message.lines().next().unwrap_or_default());
        }
    }
}

/// Where the manager listens.
#[derive(Debug)]
struct Socket {
    from: UnixDatagram,
    to: SocketAddr,
}

impl Socket {
    /// At a path, or with `@` at an abstract address (unix(7)).
    fn open(address: &OsStr) -> io::Result<Self> {
        let to = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => return Err(io::Error::other(format!("`{}` is no address of a Unix socket", address.display()))),
        };
        let from = UnixDatagram::unbound()?;
        from.set_write_timeout(Some(SEND_MAX))?;
        Ok(Socket { from, to })
    }

    fn send(&self, message: &str) -> io::Result<usize> {
        self.from.send_to_addr(message.as_bytes(), &self.to)
    }
}

/// Whether what is written to `stream` goes to the journal. `named`: the value of `JOURNAL_STREAM`, which says where the journal
/// listens; the stream may be another by now (systemd.exec(5)).
pub fn is_journal(stream: impl AsFd, named: Option<OsString>) -> bool {
    let file = stream.as_fd().try_clone_to_owned().and_then(|stream| File::from(stream).metadata());
    named.zip(file.ok()).is_some_and(|(named, file)| named == OsStr::new(&format!("{}:{}", file.dev(), file.ino())))
}

/// The prefix of a line of this level.
pub fn priority(level: Level) -> &'static str {
    match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}

/// A logger that writes what this crate has to say to the journal: without a time, since the journal has its own.
#[derive(Debug)]
pub struct Journal<W> {
    /// What is less urgent is left out.
    pub level: LevelFilter,
    /// The stream that goes to the journal.
    pub stream: Mutex<W>,
}

impl<W: Write + Send> Log for Journal<W> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level && metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // In one piece, so that no other process writes into a line.
            let priority = priority(record.level());
            let text = record.args().to_string();
            let lines: String = text.lines().map(|line| format!("{priority}{line}\n")).collect();
            let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
            // A journal that is away hears nothing, and no work is left undone for that.
            let _ = stream.write_all(lines.as_bytes());
        }
    }

    fn flush(&self) {
        let _ = self.stream.lock().unwrap_or_else(PoisonError::into_inner).flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    use tempfile::TempDir;

    const PID: u32 = 7;

    /// Where a manager listens, and what a process of the number [`PID`] finds in its environment beside that.
    struct Listens {
        socket: UnixDatagram,
        folder: TempDir,
    }

    impl Listens {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
            socket.set_nonblocking(true).unwrap();
            Listens { socket, folder }
        }

        fn manager(&self, variables: &[(&str, &str)]) -> Manager {
            let variable = |name: &str| {
                let set = variables.iter().find(|(set, _)| *set == name).map(|(_, value)| OsString::from(value));
                set.or_else(|| (name == "NOTIFY_SOCKET").then(|| self.folder.path().join("notify").into()))
            };
            Manager::named_by(&variable, PID)
        }

        fn heard(&self) -> Vec<String> {
            let mut buffer = [0; 8_192];
            let mut next =
                || self.socket.recv(&mut buffer).ok().map(|n| String::from_utf8(buffer[..n].to_vec()).unwrap());
            std::iter::from_fn(&mut next).collect()
        }
    }

    #[test]
    fn a_sign_of_life_is_wanted_by_who_asks_this_process_for_it() {
        let second = Some(Duration::from_secs(1));
        for (variables, beat) in [
            (vec![("WATCHDOG_USEC", "2000000")], second),
            (vec![("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "7")], second),
            (vec![("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "8")], None),
            (vec![("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "")], None),
            (vec![("WATCHDOG_USEC", "0")], None),
            (vec![("WATCHDOG_USEC", "soon")], None),
            (vec![], None),
            (vec![("WATCHDOG_USEC", "2000000"), ("NOTIFY_SOCKET", "vsock:2:1")], None),
        ] {
            assert_eq!(Listens::new().manager(&variables).beat(), beat, "{variables:?}");
        }
    }

    #[test]
    fn who_is_stuck_gives_no_sign_of_life_and_is_looked_at_sooner() {
        let listens = Listens::new();
        let mut manager = listens.manager(&[("WATCHDOG_USEC", "8000000")]);
        manager.ready("idle");
        listens.heard();
        for (stuck, status, said, again_ms) in [
            (false, "idle", &["WATCHDOG=1"][..], 4_000),
            (false, "busy", &["WATCHDOG=1\nSTATUS=busy"], 4_000),
            (false, "busy", &["WATCHDOG=1"], 4_000),
            (true, "busy", &[], 1_000),
            (true, "thread `spool` is overdue", &["STATUS=thread `spool` is overdue"], 1_000),
            (true, "thread `spool` is overdue", &[], 1_000),
            (false, "busy", &["WATCHDOG=1\nSTATUS=busy"], 4_000),
        ] {
            assert_eq!(manager.look(stuck, status), Some(Duration::from_millis(again_ms)), "{stuck} {status}");
            assert_eq!(listens.heard(), said, "{stuck} {status}");
        }
    }

    #[test]
    fn a_status_is_one_line_that_fits_into_a_message() {
        let listens = Listens::new();
        let mut manager = listens.manager(&[]);
        manager.ready(&format!("a\nREADY=0{}", "🐦".repeat(5_000)));
        let [said] = &listens.heard()[..] else { panic!("no message, or several") };
        assert!(said.starts_with("READY=1\nSTATUS=a READY=0🐦") && said.len() < 4_096, "{}", said.len());
    }

    #[test]
    fn a_manager_that_is_not_there_holds_nothing_up() {
        let listens = Listens::new();
        let mut manager = listens.manager(&[("NOTIFY_SOCKET", "/nowhere/notify"), ("WATCHDOG_USEC", "2000000")]);
        manager.ready("idle");
        assert_eq!(manager.look(false, "idle"), Some(Duration::from_secs(1)));
    }

    #[test]
    fn each_line_has_its_priority_and_those_of_libraries_are_left_out() {
        let journal = Journal { level: LevelFilter::Debug, stream: Mutex::new(Vec::new()) };
        for (level, target, text) in [
            (Level::Error, "pingeon::run", "no disk"),
            (Level::Warn, "pingeon", "late\nagain"),
            (Level::Info, "pingeon", "ready"),
            (Level::Debug, "pingeon", "details"),
            (Level::Trace, "pingeon", "too much"),
            (Level::Error, "rustls", "secret"),
        ] {
            journal.log(&Record::builder().level(level).target(target).args(format_args!("{text}")).build());
        }
        let written = String::from_utf8(journal.stream.into_inner().unwrap()).unwrap();
        assert_eq!(written, "<3>no disk\n<4>late\n<4>again\n<6>ready\n<7>details\n");
    }

    #[test]
    fn a_stream_is_the_journal_by_its_device_and_inode() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let name = |stream: &UnixStream| {
            let file = File::from(stream.as_fd().try_clone_to_owned().unwrap()).metadata().unwrap();
            OsString::from(format!("{}:{}", file.dev(), file.ino()))
        };
        assert!(is_journal(&ours, Some(name(&ours))));
        assert!(!is_journal(&ours, Some(name(&theirs))) && !is_journal(&ours, Some("9:8x".into())));
        assert!(!is_journal(&ours, None));
    }
}
