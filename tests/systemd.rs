//! `pingeon run` as systemd has it: what it is told, and what the journal gets.

#[path = "service/running.rs"]
#[allow(dead_code, reason = "the service's own tests ask for more")]
mod running;

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use running::{PATIENCE, Place, Service};

/// What systemd listens on, and the address that it tells.
struct Manager {
    socket: UnixDatagram,
    address: OsString,
}

impl Manager {
    fn at_a_path(place: &Place) -> Self {
        let path = place.path().join("notify");
        Manager { socket: UnixDatagram::bind(&path).unwrap(), address: path.into() }
    }

    fn at_an_abstract_address(place: &Place) -> Self {
        // As unique as the folder.
        let name = format!("pingeon-test{}", place.path().display());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        Manager { socket: UnixDatagram::bind_addr(&address).unwrap(), address: format!("@{name}").into() }
    }

    /// The lines of the next message within `time`; none when there is none.
    fn hears_within(&self, time: Duration) -> Option<Vec<String>> {
        self.socket.set_read_timeout(Some(time)).unwrap();
        let mut buffer = [0; 4_096];
        let bytes = self.socket.recv(&mut buffer).ok()?;
        Some(std::str::from_utf8(&buffer[..bytes]).unwrap().split('\n').map(str::to_owned).collect())
    }

    /// The lines of the next message that is more than a sign of life.
    fn hears(&self) -> Vec<String> {
        loop {
            let message = self.hears_within(PATIENCE).expect("systemd was told nothing more");
            if message != ["WATCHDOG=1"] {
                return message;
            }
        }
    }

    /// All that was said and not heard yet.
    fn has_heard(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| self.hears_within(PATIENCE)).flatten().collect()
    }
}

fn start(place: &Place, manager: &Manager, variables: &[(&str, &str)]) -> Service {
    Service::start(place.command(&["run"]).env("NOTIFY_SOCKET", &manager.address).envs(variables.iter().copied()))
}

/// So many checks that never come to anything, and a page.
fn config(checks: usize, listen: &str) -> String {
    let check = |nth| format!("  - {{label: c{nth}, tcp: \"127.0.0.1:1\", interval: 1h}}\n");
    let checks: String = (0..checks).map(check).collect();
    format!("agent: test\nspool: {{flush: 10ms}}\nweb: {{listen: \"{listen}\"}}\nchecks:\n{checks}")
}

const ANY_PORT: &str = "127.0.0.1:0";

#[test]
fn systemd_is_told_of_start_reload_and_stop() {
    for listens in [Manager::at_a_path, Manager::at_an_abstract_address] {
        let place = Place::with(&config(1, ANY_PORT));
        let manager = listens(&place);
        let service = start(&place, &manager, &[]);
        let good = config(2, ANY_PORT);
        let none = "checks: [{label: a, htp: \"http://127.0.0.1/\"}]\n".to_owned();
        let status = |status: &str| vec!["READY=1".to_owned(), format!("STATUS={status}")];
        let refused = "reload refused, the old config stays: pingeon.yaml:1:21: ";
        assert_eq!(manager.hears(), status("1 check, 0 logs waiting"));
        for (config, said) in [
            (&good, "2 checks, 0 logs waiting"),
            (&none, refused),
            (&none, refused),
            (&good, "2 checks, 0 logs waiting"),
        ] {
            place.configure(config);
            service.signal(Signal::HUP);
            let [reloading, since] = &manager.hears()[..] else { panic!("more than two lines") };
            let since: u128 = since.strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
            assert!(
                reloading == "RELOADING=1" && (since_boot() - 60_000_000..=since_boot()).contains(&since),
                "{since}"
            );
            let heard = manager.hears();
            if said == refused {
                assert!(heard[1].starts_with(&format!("STATUS={refused}")), "{heard:?}");
                assert!(heard[1].ends_with("; 2 checks, 0 logs waiting") && heard[1].contains("`htp`"), "{heard:?}");
            } else {
                assert_eq!(heard, status(said));
            }
        }
        service.signal(Signal::TERM);
        assert_eq!(manager.hears(), ["STOPPING=1", "STATUS=stopping"]);
        let (status, _, said) = service.ends();
        assert!(status.success(), "{status}\n{said}");
        assert_eq!(manager.has_heard(), Vec::<String>::new());
    }
}

/// In microseconds, as MONOTONIC_USEC.
fn since_boot() -> u128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap()).as_micros()
}

#[test]
fn ready_means_that_requests_are_answered_and_what_cannot_start_is_never_ready() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap().to_string();
    let place = Place::with(&config(1, &address));
    let manager = Manager::at_a_path(&place);
    let (status, _, said) = start(&place, &manager, &[]).ends();
    assert_eq!((status.code(), manager.has_heard()), (Some(1), vec![]), "{said}");

    drop(port);
    let place = Place::with(&config(1, &address));
    let manager = Manager::at_a_path(&place);
    let _service = start(&place, &manager, &[]);
    assert_eq!(manager.hears()[0], "READY=1");
    // No second try: it listens.
    std::net::TcpStream::connect(address).unwrap();
}

#[test]
fn what_a_thread_failed_of_is_the_last_that_systemd_hears() {
    let place = Place::with(&config(1, ANY_PORT));
    let manager = Manager::at_a_path(&place);
    let service = start(&place, &manager, &[]);
    assert_eq!(manager.hears()[0], "READY=1");
    // A spool that was taken away is found when the next log comes: that of a check which the reload brings.
    std::fs::remove_file(place.path().join("spool.db")).unwrap();
    place.configure(&config(1, ANY_PORT).replace("1h", "100ms").replace("c0", "new"));
    service.signal(Signal::HUP);
    assert_eq!((&*manager.hears()[0], &*manager.hears()[0]), ("RELOADING=1", "READY=1"));
    // Others may end for want of it before it has said so; in the end it is named with its reason.
    let (heard, last) = (manager.hears(), manager.hears());
    assert!(heard[0] == "STOPPING=1" && heard[1].ends_with(" has ended; stopping"), "{heard:?}");
    assert!(last[1].starts_with("STATUS=thread `spool`: ") && last[1].contains("was removed"), "{last:?}");
    assert_eq!(service.ends().0.code(), Some(1));
}

const BEAT_USEC: &str = "100000";

#[test]
fn signs_of_life_go_on_while_it_is_well_and_only_where_they_are_wanted() {
    for (variables, pid, beats) in [
        (vec![("WATCHDOG_USEC", BEAT_USEC)], "", true),
        (vec![("WATCHDOG_USEC", BEAT_USEC)], "export WATCHDOG_PID=$$;", true),
        (vec![("WATCHDOG_USEC", BEAT_USEC)], "export WATCHDOG_PID=$((1 + $$));", false),
        (vec![], "", false),
    ] {
        let place = Place::with(&config(1, ANY_PORT));
        let manager = Manager::at_a_path(&place);
        let script = format!("{pid} exec {} run", env!("CARGO_BIN_EXE_pingeon"));
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &script]).current_dir(place.path()).env_clear().env("NOTIFY_SOCKET", &manager.address);
        let service = Service::start(shell.envs(variables.iter().copied()));
        assert_eq!(manager.hears()[0], "READY=1");
        let more = if beats { PATIENCE } else { Duration::from_millis(500) };
        let heard: Vec<_> = (0..3).map_while(|_| manager.hears_within(more)).collect();
        assert_eq!(heard, vec![["WATCHDOG=1"]; if beats { 3 } else { 0 }], "{variables:?} {pid}");
        service.signal(Signal::TERM);
        assert_eq!(manager.hears()[0], "STOPPING=1");
        assert!(service.ends().0.success());
    }
}

#[test]
fn the_journal_gets_priorities_and_no_time_and_any_other_stream_a_time() {
    for (is_journal, starts, fails) in [(true, "<6>agent test; ", "<3>error: "), (false, "20", "error: ")] {
        let place = Place::with(&config(1, ANY_PORT));
        let manager = Manager::at_a_path(&place);
        let (mut service, said) = start_on_a_stream(&place, &manager, is_journal);
        assert_eq!(manager.hears()[0], "READY=1");
        rustix::process::kill_process(rustix::process::Pid::from_child(&service), Signal::TERM).unwrap();
        let said: Vec<_> = BufReader::new(said).lines().map(Result::unwrap).collect();
        assert!(service.wait().unwrap().success(), "{said:?}");
        assert!(said.len() >= 2 && said.iter().all(|line| line[..2] == starts[..2]), "{said:?}");
        assert!(said[0].starts_with(starts) && said[0].contains("agent test; checks: 1"), "{said:?}");

        place.configure("checks: [");
        let (mut service, said) = start_on_a_stream(&place, &manager, is_journal);
        let said: Vec<_> = BufReader::new(said).lines().map(Result::unwrap).collect();
        assert_eq!(service.wait().unwrap().code(), Some(2));
        assert!(said[0].starts_with(fails), "{said:?}");
    }
}

/// Starts it with standard error on a stream that `JOURNAL_STREAM` names, or that stands where the journal was.
fn start_on_a_stream(place: &Place, manager: &Manager, is_journal: bool) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let theirs = OwnedFd::from(theirs);
    let file = File::from(theirs.try_clone().unwrap()).metadata().unwrap();
    let named = format!("{}:{}", file.dev(), file.ino() + u64::from(!is_journal));
    let mut command = place.command(&["run"]);
    command.env("JOURNAL_STREAM", named).env("NOTIFY_SOCKET", &manager.address);
    (command.stdin(Stdio::null()).stderr(theirs).spawn().unwrap(), ours)
}
