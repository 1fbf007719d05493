//! DNS checks against servers of others: BIND, which speaks for a zone, and dnsmasq, which asks it. Needs the programs `named`
//! and `dnsmasq` (`apt-get install bind9 dnsmasq-base`); without them these tests fail.

#[allow(dead_code, reason = "shared with `checks`, which needs more of it")]
#[path = "checks/pki.rs"]
mod pki;
#[allow(dead_code, reason = "shared with `checks`, which needs more of it")]
#[path = "checks/table.rs"]
mod table;

use std::fmt::Write as _;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingeon::check::Phase::{Assert, FirstByte, Tls};
use pingeon::check::Verdict::{Degraded, Down, Up};
use pingeon::check::dns::{Dns, Expect, Name, Rcode, RecordType, Server, Servers, Transport};
use pingeon::check::{Kind, Verdict};
use pingeon::net::{Host, IpFamily, Pem, TlsSettings};
use pingeon::secret::Secret;
use pki::{Authority, FINE, Issued};
use rustix::process::{Pid, Signal, kill_process};
use table::{SHORT, case, contains, lacks, look, matches, net, run};
use tempfile::TempDir;

/// A name server with its files in a directory of its own; ends with the test.
struct Daemon {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Daemon {
    /// Starts `command`, and waits until it answers to a check of `name`.
    fn start(mut command: Command, folder: TempDir, port: u16, name: &str) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let deadline = Instant::now() + Duration::from_secs(20);
        // What another test starts at this moment has the copy of a program open for writing, until it runs its own.
        let busy = |child: &io::Result<Child>| {
            child.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ExecutableFileBusy)
        };
        let mut child = command.spawn();
        while busy(&child) && Instant::now() < deadline {
            std::thread::yield_now();
            child = command.spawn();
        }
        let child = child.expect("these tests need BIND and dnsmasq: `apt-get install bind9 dnsmasq-base`");
        let mut daemon = Daemon { child, port, _folder: folder };
        let ready = Kind::Dns(Box::new(ask(daemon.port, name, "A")));
        while look(ready.clone(), &net(), Duration::from_secs(1)).verdict != Verdict::Up {
            assert!(daemon.child.try_wait().unwrap().is_none(), "{command:?} ended");
            assert!(Instant::now() < deadline, "{command:?} does not answer");
            std::thread::yield_now();
        }
        daemon
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// BIND, speaking for a zone of this serial number; by TLS, too, with `issued`, on the port that is given back beside it.
fn bind(serial: u32, issued: &Issued) -> (Daemon, u16) {
    let folder = TempDir::new().unwrap();
    let (port, tls_port) = (free_port(), free_port());
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("zone", &zone(serial));
    write("chain.pem", &issued.pem);
    write("key.pem", &issued.key.serialize_pem());
    write("named.conf", &config(folder.path(), port, tls_port));
    // A copy: Debian's AppArmor profile keeps the program at its own path from reading anything here.
    let program = folder.path().join("named");
    std::fs::copy(path_of("named"), &program).expect("these tests need BIND: `apt-get install bind9`");
    let mut command = Command::new(program);
    command.args(["-f", "-n", "1", "-c"]).arg(folder.path().join("named.conf"));
    (Daemon::start(command, folder, port, "www.zone.example"), tls_port)
}

/// dnsmasq, which asks the server at `upstream` for the zone, and knows a name itself.
fn dnsmasq(upstream: u16) -> Daemon {
    let (folder, port) = (TempDir::new().unwrap(), free_port());
    let mut command = Command::new(path_of("dnsmasq"));
    command
        // Not as a daemon: nor does it fork for TCP, so that nothing of it outlives the test.
        .args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces"])
        .args(["--listen-address=127.0.0.1", "--address=/local.test/192.0.2.1", "--pid-file"])
        .arg(format!("--port={port}"))
        .arg(format!("--server=/zone.example/127.0.0.1#{upstream}"));
    Daemon::start(command, folder, port, "local.test")
}

/// Where a program is: in PATH, or where Debian has a server's.
fn path_of(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|path| path.exists()).unwrap_or_else(|| program.into())
}

/// A port that is free by TCP and UDP.
fn free_port() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn config(folder: &Path, port: u16, tls_port: u16) -> String {
    let folder = folder.display();
    format!(
        "tls own {{ cert-file \"{folder}/chain.pem\"; key-file \"{folder}/key.pem\"; }};
         options {{
             directory \"{folder}\"; pid-file none; session-keyfile none; recursion no; dnssec-validation no; notify no;
             listen-on port {port} {{ 127.0.0.1; }}; listen-on port {tls_port} tls own {{ 127.0.0.1; }};
             listen-on-v6 {{ none; }};
         }};
         controls {{ }};
         zone \"zone.example\" {{ type primary; file \"{folder}/zone\"; }};"
    )
}

fn zone(serial: u32) -> String {
    let mut zone = format!(
        "$ORIGIN zone.example.
$TTL 300
@ SOA ns1 hostmaster {serial} 7200 3600 1209600 300
@ NS ns1
@ NS ns2
@ MX 10 Mail
@ TXT \"v=spf1 a \" \"-all\"
@ CAA 0 issue \"ca.example\"
ns1 A 127.0.0.1
ns2 A 127.0.0.1
mail A 192.0.2.25
www 60 A 192.0.2.80
www 60 A 192.0.2.81
www AAAA 2001:db8::80
alias CNAME www
out CNAME www.elsewhere.example.
_sip._tcp SRV 1 2 5060 mail
_443._tcp.www TLSA 3 1 1 abcdef
back PTR www
*.any A 192.0.2.7
sub NS ns.sub
sub DS 1 13 2 {}
ns.sub A 192.0.2.99
",
        "ab".repeat(32)
    );
    // More than a datagram may hold.
    for nth in 0..12 {
        let _ = writeln!(zone, "large TXT \"{nth} {}\"", "x".repeat(200));
    }
    zone
}

/// The records of `name` by UDP, of the server at `port`.
fn ask(port: u16, name: &str, kind: &str) -> Dns {
    let host = Host::Address([127, 0, 0, 1].into());
    Dns {
        name: Name::parse(name).unwrap(),
        record: RecordType::KNOWN.iter().find(|(known, _)| *known == kind).unwrap().1,
        servers: Servers::Listed(vec![Server { host, port }]),
        transport: Transport::Udp,
        recursion: true,
        ip: IpFamily::Any,
        tls: Arc::default(),
        expect: Expect::default(),
    }
}

/// `dns`, expecting what `change` says.
fn expecting(mut dns: Dns, change: impl FnOnce(&mut Expect)) -> Dns {
    change(&mut dns.expect);
    dns
}

fn exactly(texts: &[&str]) -> Option<Vec<Secret>> {
    Some(texts.iter().map(|text| Secret::new(*text)).collect())
}

fn nxdomain() -> Rcode {
    Rcode::KNOWN.iter().find(|(name, _)| *name == "NXDOMAIN").unwrap().1
}

#[test]
#[rustfmt::skip]
fn a_server_that_speaks_for_its_zone() {
    let root = Authority::root("Test Root");
    let (bind, tls_port) = bind(2_026_112_701, &root.issue("local.example", FINE));
    let of = |name: &str, kind: &str| ask(bind.port, name, kind);
    let holds = |name: &str, kind: &str, texts: &[&str]| expecting(of(name, kind), |expect| (expect.exactly, expect.authoritative) = (exactly(texts), Some(true)));
    let by_tls = |host: &str, change: fn(&mut Expect)| {
        let ca = Some(Pem { path: "ca.pem".into(), content: Secret::new(root.pem()) });
        let servers = Servers::Listed(vec![Server { host: Host::parse(host), port: tls_port }]);
        let tls = Arc::new(TlsSettings { ca, ..TlsSettings::default() });
        expecting(Dns { servers, tls, transport: Transport::Tls, ..of("www.zone.example", "A") }, change)
    };
    let des = format!("1 13 2 {}", "AB".repeat(32));
    run(vec![
        case("A", holds("www.zone.example", "A", &["192.0.2.81", "192.0.2.80"]), Up, None, "").also(|outcome| {
            assert_eq!((&outcome.result["ttl"], &outcome.result["transport"]), (&60.into(), &"udp".into()));
        }),
        case("AAAA", holds("WWW.zone.example", "AAAA", &["2001:DB8::80"]), Up, None, ""),
        case("CAA", holds("zone.example", "CAA", &["0 issue \"ca.example\""]), Up, None, ""),
        case("CNAME", holds("alias.zone.example", "CNAME", &["www.zone.example"]), Up, None, ""),
        case("DS", holds("sub.zone.example", "DS", &[&des]), Up, None, ""),
        case("MX", holds("zone.example", "MX", &["10 mail.zone.example"]), Up, None, ""),
        case("NS", holds("zone.example", "NS", &["ns2.zone.example", "ns1.zone.example"]), Up, None, ""),
        case("PTR", holds("back.zone.example", "PTR", &["www.zone.example"]), Up, None, ""),
        case("SOA", holds("zone.example", "SOA", &["ns1.zone.example. hostmaster.zone.example. 2026112701 7200 3600 1209600 300"]), Up, None, "").also(|outcome| assert_eq!(outcome.result["serial"], 2_026_112_701)),
        case("SRV", holds("_sip._tcp.zone.example", "SRV", &["1 2 5060 mail.zone.example"]), Up, None, ""),
        case("TLSA", holds("_443._tcp.www.zone.example", "TLSA", &["3 1 1 ABCDEF"]), Up, None, ""),
        case("TXT", holds("zone.example", "TXT", &["v=spf1 a -all"]), Up, None, ""),
        case("a wildcard", holds("what.any.zone.example", "A", &["192.0.2.7"]), Up, None, ""),
        case("an alias", holds("alias.zone.example", "A", &["192.0.2.80", "192.0.2.81"]), Up, None, "").also(|outcome| {
            assert_eq!(outcome.result["aliases"], serde_json::json!(["www.zone.example."]));
        }),
        case("an alias to elsewhere", of("out.zone.example", "A"), Down, Some(Assert), "it is an alias of `www.elsewhere.example.`, of which the server says nothing"),
        case("another address", holds("www.zone.example", "A", &["192.0.2.80"]), Down, Some(Assert), "expected exactly `192.0.2.80`"),
        case("no such name", of("nowhere.zone.example", "A"), Down, Some(Assert), "NXDOMAIN (no such name), expected NOERROR"),
        case("no such name, as expected", expecting(of("nowhere.zone.example", "A"), |expect| (expect.rcode, expect.answers_min) = (nxdomain(), 0)), Up, None, ""),
        case("no such record", of("mail.zone.example", "AAAA"), Down, Some(Assert), "no AAAA record of `mail.zone.example`, expected at least 1"),
        case("authority of no such record", expecting(of("mail.zone.example", "AAAA"), |expect| (expect.authority, expect.answers_min) = (matches("^zone[.]example[.] SOA ns1[.]zone[.]example[.] "), 0)), Up, None, ""),
        case("a zone below", of("www.sub.zone.example", "A"), Down, Some(Assert), "refers to `ns.sub.zone.example.`"),
        case("another zone", of("www.elsewhere.example", "A"), Down, Some(Assert), "REFUSED"),
        case("more than a datagram holds", expecting(of("large.zone.example", "TXT"), |expect| expect.answers_min = 12), Up, None, "").also(|outcome| {
            assert_eq!((&outcome.result["transport"], &outcome.result["cut_by_udp"]), (&"tcp".into(), &true.into()));
        }),
        case("TCP", Dns { transport: Transport::Tcp, ..of("www.zone.example", "A") }, Up, None, ""),
        case("without recursion", Dns { recursion: false, ..of("www.zone.example", "A") }, Up, None, ""),
        case("TLS", by_tls("local.example", |_| {}), Up, None, "").also(|outcome| {
            assert_eq!((&outcome.result["tls"]["version"], &outcome.result["tls"]["certificate_days"]), (&"1.3".into(), &90.into()));
        }),
        case("TLS, and few days left", by_tls("local.example", |expect| expect.certificate_days = Some(100)), Degraded, None, "(in 90 days)"),
        case("TLS, and another name", by_tls("other.example", |_| {}), Down, Some(Tls), "certificate is for local.example, not other.example"),
    ]);
}

#[test]
#[rustfmt::skip]
fn servers_of_one_zone() {
    let root = Authority::root("Test Root");
    let issued = root.issue("local.example", FINE);
    let (new, old) = (bind(2, &issued).0, bind(1, &issued).0);
    let serials = |ports: [u16; 2]| {
        let host = Host::Address([127, 0, 0, 1].into());
        let servers = ports.map(|port| Server { host: host.clone(), port }).to_vec();
        expecting(Dns { servers: Servers::Listed(servers), ..ask(1, "zone.example", "SOA") }, |expect| expect.same_serial = true)
    };
    run(vec![
        case("the same", serials([new.port, new.port]), Up, None, ""),
        case("one behind", serials([new.port, old.port]), Down, Some(Assert), "serial numbers differ: 2 at 127.0.0.1:"),
        case("one gone", serials([new.port, free_port()]), Down, Some(FirstByte), "connection refused by 127.0.0.1:"),
    ]);
}

#[test]
#[rustfmt::skip]
fn a_server_that_asks_another() {
    let root = Authority::root("Test Root");
    let bind = bind(1, &root.issue("local.example", FINE)).0;
    let dnsmasq = dnsmasq(bind.port);
    let of = |name: &str, kind: &str| ask(dnsmasq.port, name, kind);
    run(vec![
        case("its own", expecting(of("local.test", "A"), |expect| expect.answers = contains("192.0.2.1")), Up, None, ""),
        case("another's", expecting(of("www.zone.example", "A"), |expect| expect.exactly = exactly(&["192.0.2.80", "192.0.2.81"])), Up, None, ""),
        case("what it should not say", expecting(of("www.zone.example", "A"), |expect| expect.answers = lacks(".81")), Down, Some(Assert), "answer contains `.81`"),
        case("an alias", of("alias.zone.example", "AAAA"), Up, None, ""),
        case("no such name", of("nowhere.zone.example", "A"), Down, Some(Assert), "NXDOMAIN"),
        case("nobody to ask", of("www.elsewhere.example", "A"), Down, Some(Assert), "REFUSED"),
        case("more than a datagram holds", expecting(of("large.zone.example", "TXT"), |expect| expect.answers_min = 12), Up, None, ""),
        case("TCP", Dns { transport: Transport::Tcp, ..of("www.zone.example", "A") }, Up, None, ""),
    ]);
    dnsmasq.signal(Signal::STOP);
    run(vec![
        case("frozen", of("local.test", "A"), Down, Some(FirstByte), "no answer from 127.0.0.1:").within(SHORT),
        case("frozen, by TCP", Dns { transport: Transport::Tcp, ..of("local.test", "A") }, Down, Some(FirstByte), "no answer from 127.0.0.1:").within(SHORT),
    ]);
    let port = dnsmasq.port;
    drop(dnsmasq);
    run(vec![case("gone", ask(port, "local.test", "A"), Down, Some(FirstByte), "connection refused by 127.0.0.1:")]);
}
