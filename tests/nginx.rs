//! Checks against a real nginx with TLS from a private CA: what our own servers cannot show is that others agree with us.
//! Needs the program `nginx` (`apt-get install nginx`); without it these tests fail.

#[allow(dead_code, reason = "shared with `checks`, which needs more of it")]
#[path = "checks/pki.rs"]
mod pki;

use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingeon::check::http::{Expect, Http};
use pingeon::check::tls::Tls;
use pingeon::check::{self, Check, Kind, Outcome, Phase, Verdict};
use pingeon::clock::SystemClock;
use pingeon::net::{Host, IpFamily, Net, Pem, Proxy, TlsSettings};
use pingeon::secret::Secret;
use pki::{Authority, FINE, Issued};
use tempfile::TempDir;

/// nginx with its files in a directory of its own; ends with the test.
struct Nginx {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Nginx {
    /// Serves a page and a file with the certificate `issued`.
    fn start(issued: &Issued, server: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        write("chain.pem", &issued.pem);
        write("key.pem", &issued.key.serialize_pem());
        write("file", &"x".repeat(FILE_BYTES));
        write("nginx.conf", &config(folder.path(), port, server));
        let child = Command::new("nginx")
            .args(["-e", "stderr", "-p"])
            .arg(folder.path())
            .arg("-c")
            .arg(folder.path().join("nginx.conf"))
            .spawn()
            .expect("these tests need nginx: `apt-get install nginx`");
        let mut nginx = Nginx { child, port, _folder: folder };
        nginx.wait_until_it_listens();
        nginx
    }

    fn wait_until_it_listens(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(self.child.try_wait().unwrap().is_none(), "nginx ended");
            assert!(Instant::now() < deadline, "nginx does not listen");
            std::thread::yield_now();
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const FILE_BYTES: usize = 200_000;

fn config(folder: &Path, port: u16, server: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; pid {folder}/pid; error_log stderr warn;
         events {{ worker_connections 64; }}
         http {{
             access_log off;
             client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
             uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
             server {{
                 listen 127.0.0.1:{port} ssl;
                 ssl_certificate {folder}/chain.pem; ssl_certificate_key {folder}/key.pem;
                 root {folder};
                 location = / {{ default_type text/plain; return 200 \"ok\\n\"; }}
                 location = /old {{ return 301 /; }}
                 location = /gone {{ return 503; }}
                 {server}
             }}
         }}"
    )
}

/// Settings that trust `root`.
fn trusting(root: &Authority) -> TlsSettings {
    let ca = Some(Pem { path: "ca.pem".into(), content: Secret::new(root.pem()) });
    TlsSettings { ca, ..TlsSettings::default() }
}

/// A GET of `path` that trusts `root` and expects 14 days left.
fn look(nginx: &Nginx, root: &Authority, path: &str) -> Outcome {
    let url = format!("https://nginx.example:{}{path}", nginx.port);
    let http = Http {
        proxy: Proxy::None,
        tls: Arc::new(trusting(root)),
        expect: Arc::new(Expect { certificate_days: Some(14), ..Expect::default() }),
        ..Http::get(url.parse().unwrap())
    };
    run(Kind::Http(Box::new(http)))
}

/// A handshake that trusts as `settings` say.
fn shake_hands(nginx: &Nginx, settings: TlsSettings) -> Outcome {
    let place = Host::Name("nginx.example".to_owned());
    run(Kind::Tls(Box::new(Tls { tls: Arc::new(settings), ..Tls::to(place, nginx.port) })))
}

fn run(kind: Kind) -> Outcome {
    let timeout = Duration::from_secs(20);
    let (label, target) = ("nginx".into(), "nginx".into());
    let check = Check { label, interval: timeout, timeout, confirm: Default::default(), target, kind };
    let here = Arc::new(|_: &str, _: IpFamily| Ok(vec![IpAddr::from([127, 0, 0, 1])]));
    let net = Net::new(Arc::new(SystemClock), |_| None, here);
    check::run(&check, &net, Instant::now() + timeout)
}

fn days(outcome: &Outcome) -> Option<i64> {
    outcome.result["tls"]["certificate_days"].as_i64()
}

#[test]
fn every_phase_is_timed() {
    let root = Authority::root("Test Root");
    let nginx = Nginx::start(&root.issue("nginx.example", FINE), "ssl_protocols TLSv1.2 TLSv1.3;");
    let began = Instant::now();
    let outcome = look(&nginx, &root, "/");
    let took = u64::try_from(began.elapsed().as_micros()).unwrap();
    assert_eq!((outcome.verdict, &outcome.reason), (Verdict::Up, &None), "{outcome:?}");
    let times: Vec<u64> = Phase::TIMED.iter().map(|phase| outcome.phases.get(*phase).unwrap()).collect();
    assert!(times.iter().sum::<u64>() <= took, "{times:?} in {took} µs");
    assert_eq!((&outcome.result["status_code"], &outcome.result["bytes"]), (&200.into(), &3.into()));
    assert_eq!((days(&outcome), &outcome.result["tls"]["version"]), (Some(90), &"1.3".into()));

    let redirected = look(&nginx, &root, "/old");
    assert_eq!((redirected.verdict, &redirected.result["hops"]), (Verdict::Up, &1.into()));
    let gone = look(&nginx, &root, "/gone");
    assert_eq!((gone.verdict, gone.phase), (Verdict::Down, Some(Phase::Assert)));
    assert_eq!(gone.reason.as_deref(), Some("status 503, expected 200-299"));
    let file = look(&nginx, &root, "/file");
    assert_eq!((file.verdict, &file.result["bytes"]), (Verdict::Up, &FILE_BYTES.into()));
}

#[test]
fn an_intermediate_that_ends_first_is_what_counts() {
    let root = Authority::root("Test Root");
    let intermediate = root.under("Ends First", (-300, 10));
    let nginx = Nginx::start(&intermediate.issue("nginx.example", FINE).with(&intermediate), "");
    let outcome = look(&nginx, &root, "/");
    assert_eq!((outcome.verdict, outcome.phase, days(&outcome)), (Verdict::Degraded, None, Some(10)));
    let reason = outcome.reason.unwrap_or_default();
    assert!(reason.starts_with("certificate CN=Ends First ends 20"), "{reason}");
    assert!(reason.ends_with("(in 10 days), expected at least 14 days"), "{reason}");
}

#[test]
fn refused_certificates_are_told_apart() {
    let root = Authority::root("Test Root");
    let intermediate = root.under("Not Sent", FINE);
    let client_wanted = "ssl_client_certificate chain.pem; ssl_verify_client on; ssl_protocols TLSv1.2;";
    for (issued, server, verdict, part) in [
        (root.issue("nginx.example", (-90, -3)), "", Verdict::Down, "certificate expired 20"),
        (root.issue("other.example", FINE), "", Verdict::Down, "certificate is for other.example, not nginx.example"),
        (intermediate.issue("nginx.example", FINE), "", Verdict::Down, "unknown authority: CN=Not Sent"),
        // nginx shakes hands without one and says so in HTTP.
        (root.issue("nginx.example", FINE), client_wanted, Verdict::Down, "status 400, expected 200-299"),
    ] {
        let nginx = Nginx::start(&issued, server);
        let outcome = look(&nginx, &root, "/");
        assert_eq!(outcome.verdict, verdict, "{outcome:?}");
        assert!(outcome.reason.clone().unwrap_or_default().contains(part), "{:?}", outcome.reason);
    }
}

#[test]
fn a_handshake_alone_tells_the_chain_and_what_nginx_thinks_of_our_certificate() {
    let (root, clients) = (Authority::root("Test Root"), Authority::root("Clients"));
    let intermediate = root.under("Test Intermediate", FINE);
    let issued = || intermediate.issue("nginx.example", FINE).with(&intermediate);
    let nginx = Nginx::start(&issued(), "ssl_protocols TLSv1.2 TLSv1.3;");
    let outcome = shake_hands(&nginx, trusting(&root));
    assert_eq!((outcome.verdict, days(&outcome)), (Verdict::Up, Some(90)), "{outcome:?}");
    assert_eq!(outcome.result["tls"]["certificates"][1]["subject"], "CN=Test Intermediate");
    assert!(outcome.phases.tls.is_some() && outcome.phases.send.is_none());

    // The certificate is wanted, and nginx says so in HTTP: the handshake itself is fine with or without one.
    let nginx = Nginx::start(&issued(), "ssl_client_certificate chain.pem; ssl_verify_client on;");
    let me = clients.issue("probe", FINE);
    let pem = |text: &str| Pem { path: "me.pem".into(), content: Secret::new(text) };
    let mine = Some((pem(&me.pem), pem(&me.key.serialize_pem())));
    for client in [None, mine] {
        let outcome = shake_hands(&nginx, TlsSettings { client, ..trusting(&root) });
        assert_eq!((outcome.verdict, &outcome.reason), (Verdict::Up, &None), "{outcome:?}");
    }
    let refused = shake_hands(&nginx, trusting(&clients));
    assert_eq!((refused.verdict, refused.phase, days(&refused)), (Verdict::Down, Some(Phase::Tls), Some(90)));
    assert!(refused.reason.unwrap().contains("unknown authority: CN=Test Root"));
}
