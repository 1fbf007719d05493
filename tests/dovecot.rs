//! Mail protocols that turn to TLS, against a real Dovecot: it speaks IMAP, POP3 and SMTP (submission).
//! Needs the program `dovecot` with these protocols (`tests/run` installs it); without it these tests fail.

#[allow(dead_code, reason = "shared with `checks`, which needs more of it")]
#[path = "checks/pki.rs"]
mod pki;

use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingeon::check::tcp::{Step, Tcp};
use pingeon::check::tls::Tls;
use pingeon::check::{self, Check, Kind, Outcome, Phase, Verdict};
use pingeon::clock::SystemClock;
use pingeon::net::tls::Version;
use pingeon::net::{Host, IpFamily, Net, Pem, TlsSettings};
use pingeon::secret::Secret;
use pki::{Authority, FINE, Issued};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

const NAME: &str = "mail.example";

/// Dovecot with its files in a directory of its own; ends with the test.
struct Dovecot {
    child: Child,
    ports: Ports,
    _folder: TempDir,
}

struct Ports {
    imap: u16,
    imaps: u16,
    pop3: u16,
    submission: u16,
}

impl Dovecot {
    fn start(issued: &Issued) -> Self {
        let folder = TempDir::new().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let free: Vec<TcpListener> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let port = |at: usize| free[at].local_addr().unwrap().port();
        let ports = Ports { imap: port(0), imaps: port(1), pop3: port(2), submission: port(3) };
        drop(free);
        write("chain.pem", &issued.pem);
        write("key.pem", &issued.key.serialize_pem());
        write("dovecot.conf", &config(folder.path(), &ports));
        let child = Command::new("dovecot").arg("-F").arg("-c").arg(folder.path().join("dovecot.conf")).spawn();
        let child = child.expect("these tests need dovecot: `tests/run` installs it");
        let mut dovecot = Dovecot { child, ports, _folder: folder };
        dovecot.wait_until_it_listens();
        dovecot
    }

    fn wait_until_it_listens(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let Ports { imap, imaps, pop3, submission } = self.ports;
        while [imap, imaps, pop3, submission].iter().any(|port| TcpStream::connect(("127.0.0.1", *port)).is_err()) {
            assert!(self.child.try_wait().unwrap().is_none(), "dovecot ended");
            assert!(Instant::now() < deadline, "dovecot does not listen");
            std::thread::yield_now();
        }
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // Its children end with it when it is told to, and not when it is killed.
        let _ = rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// As root, Dovecot wants its own users; otherwise it can have none but ours.
fn users() -> String {
    if rustix::process::geteuid().is_root() {
        return String::new();
    }
    let told = |flag: &str| {
        let output = Command::new("id").arg(flag).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (user, group) = (told("-un"), told("-gn"));
    format!("default_internal_user = {user}\ndefault_login_user = {user}\ndefault_internal_group = {group}\n")
}

fn config(folder: &Path, ports: &Ports) -> String {
    let (folder, users) = (folder.display(), users());
    let Ports { imap, imaps, pop3, submission } = ports;
    format!(
        "{users}base_dir = {folder}/run
         state_dir = {folder}/state
         log_path = {folder}/log
         protocols = imap pop3 submission
         listen = 127.0.0.1
         ssl = yes
         ssl_cert = <{folder}/chain.pem
         ssl_key = <{folder}/key.pem
         ssl_min_protocol = TLSv1.2
         hostname = {NAME}
         submission_relay_host = 127.0.0.1
         mail_location = maildir:{folder}/mail
         passdb {{\n driver = static\n args = nopassword=y\n }}
         userdb {{\n driver = static\n args = uid=nobody gid=nogroup home={folder}\n }}
         service imap-login {{
           chroot =
           inet_listener imap {{\n port = {imap}\n }}
           inet_listener imaps {{\n port = {imaps}\n ssl = yes\n }}
         }}
         service pop3-login {{
           chroot =
           inet_listener pop3 {{\n port = {pop3}\n }}
           inet_listener pop3s {{\n port = 0\n }}
         }}
         service submission-login {{
           chroot =
           inet_listener submission {{\n port = {submission}\n }}
         }}
         service anvil {{\n chroot =\n }}
         service stats {{\n chroot =\n }}
        "
    )
}

fn look(kind: Kind, timeout: Duration) -> Outcome {
    let (label, target) = ("dovecot".into(), "dovecot".into());
    let check = Check { label, interval: timeout, timeout, confirm: Default::default(), target, kind };
    let here = Arc::new(|_: &str, _: IpFamily| Ok(vec![IpAddr::from([127, 0, 0, 1])]));
    let net = Net::new(Arc::new(SystemClock), |_| None, here);
    check::run(&check, &net, Instant::now() + timeout)
}

fn trusting(root: &Authority) -> Arc<TlsSettings> {
    let ca = Some(Pem { path: "ca.pem".into(), content: Secret::new(root.pem()) });
    Arc::new(TlsSettings { ca, ..TlsSettings::default() })
}

const LONG: Duration = Duration::from_secs(20);

/// A dialogue in which what begins with `^` is expected, and all else is sent as a line.
fn dialogue(root: &Authority, port: u16, steps: &[&str], timeout: Duration) -> Outcome {
    let step = |step: &&str| match *step {
        "starttls" => Step::StartTls,
        step if step.starts_with('^') => Step::Expect(step.parse().unwrap()),
        line => Step::Send(Secret::new(format!("{line}\r\n"))),
    };
    let dialogue = steps.iter().map(step).collect();
    let tcp = Tcp { dialogue, tls: trusting(root), ..Tcp::to(Host::Name(NAME.to_owned()), port) };
    look(Kind::Tcp(Box::new(tcp)), timeout)
}

#[test]
fn mail_protocols_turn_to_tls_and_go_on() {
    let root = Authority::root("Test Root");
    let intermediate = root.under("Test Intermediate", FINE);
    let dovecot = Dovecot::start(&intermediate.issue(NAME, FINE).with(&intermediate));
    let Ports { imap, imaps, pop3, submission } = dovecot.ports;
    for (name, port, steps) in [
        ("IMAP", imap, &["^[*] OK", "a STARTTLS", "^a OK", "starttls", "b CAPABILITY", "^b OK"][..]),
        ("IMAP, no more", imap, &["^[*] OK", "a STARTTLS", "^a OK", "starttls"]),
        ("IMAP over TLS", imaps, &["starttls", "^[*] OK", "a LOGOUT", "^a OK"]),
        ("POP3", pop3, &["^[+]OK", "STLS", "^[+]OK", "starttls", "CAPA", "^[.]$", "QUIT", "^[+]OK"]),
        (
            "SMTP",
            submission,
            &["^220 ", "EHLO pingeon", "^250[ -]STARTTLS", "STARTTLS", "^220 ", "starttls", "EHLO pingeon", "^250 "],
        ),
    ] {
        let outcome = dialogue(&root, port, steps, LONG);
        assert_eq!((outcome.verdict, &outcome.reason), (Verdict::Up, &None), "{name}: {outcome:?}");
        let tls = &outcome.result["tls"];
        assert_eq!((&tls["version"], &tls["certificate_days"]), (&"1.3".into(), &90.into()), "{name}");
        assert_eq!(tls["certificates"].as_array().unwrap().len(), 2, "{name}");
        assert!(outcome.phases.tls.is_some(), "{name}");
    }
    let outcome = dialogue(&root, imap, &["^[*] OK", "starttls"], LONG);
    assert_eq!((outcome.verdict, outcome.phase), (Verdict::Down, Some(Phase::Tls)), "{outcome:?}");
    let outcome = dialogue(&root, imaps, &["^[*] OK"], Duration::from_millis(300));
    assert_eq!((outcome.verdict, outcome.phase), (Verdict::Down, Some(Phase::FirstByte)), "{outcome:?}");
}

#[test]
fn what_is_wrong_with_a_certificate_is_told_of_each_port() {
    let root = Authority::root("Test Root");
    let dovecot = Dovecot::start(&root.issue("other.example", (-90, -3)));
    let starttls = dialogue(&root, dovecot.ports.imap, &["^[*] OK", "a STARTTLS", "^a OK", "starttls"], LONG);
    let place = Host::Name(NAME.to_owned());
    let alone = Tls { tls: trusting(&root), ..Tls::to(place.clone(), dovecot.ports.imaps) };
    let mut new = Tls { tls: trusting(&root), ..Tls::to(place, dovecot.ports.imap) };
    new.expect.version_min = Some(Version::Tls13);
    for outcome in [starttls, look(Kind::Tls(Box::new(alone)), LONG)] {
        assert_eq!((outcome.verdict, outcome.phase), (Verdict::Down, Some(Phase::Tls)), "{outcome:?}");
        let reason = outcome.reason.unwrap();
        assert!(reason.starts_with("certificate expired 20"), "{reason}");
        assert!(reason.ends_with("; certificate is for other.example, not mail.example"), "{reason}");
        assert_eq!(outcome.result["tls"]["certificates"][0]["names"][0], "other.example");
        assert_eq!(outcome.result["tls"]["certificate_days"], -3);
    }
    // A port that waits for STARTTLS speaks no TLS.
    let outcome = look(Kind::Tls(Box::new(new)), LONG);
    assert_eq!((outcome.verdict, outcome.phase), (Verdict::Down, Some(Phase::Tls)));
    assert!(outcome.reason.as_ref().unwrap().contains("answered in plain text"), "{outcome:?}");
}
