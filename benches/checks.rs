//! What a check costs: `cargo bench --bench checks`.
//!
//! Checks run on as many threads as given against a server on this machine that answers at once, each over a new
//! connection. CPU is that of the checking process alone; the server is a child process. Arguments: seconds to run
//! (default 5), threads (default 8).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pingeon::check::http::Http;
use pingeon::check::{self, Check, Kind, Verdict};
use pingeon::net::{Net, Pem, TlsSettings};
use pingeon::secret::Secret;

/// As small as the workers of the agent.
const STACK_BYTES: usize = 256 * 1024;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("serve") => serve(),
        Some("serve-tls") => serve_tls(),
        _ => {
            let number = |at: usize| arguments.get(at).and_then(|text| text.parse().ok());
            let (seconds, threads) = (number(0).unwrap_or(5), number(1).unwrap_or(8));
            measure("http", "serve", seconds, threads, false);
            measure("https, full handshake", "serve-tls", seconds, threads, false);
            measure("https, resumed", "serve-tls", seconds, threads, true);
        }
    }
}

fn measure(name: &str, server: &str, seconds: u64, threads: u64, resume: bool) {
    let own = std::env::current_exe().unwrap();
    let mut child = Command::new(own).arg(server).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let port = said.next().unwrap().unwrap();
    let ca = said.next().unwrap().unwrap().replace('|', "\n");
    let scheme = if ca.is_empty() { "http" } else { "https" };
    let kind = Kind::Http(Box::new(http(&format!("{scheme}://127.0.0.1:{port}/"), &ca, resume)));
    let net =
        Arc::new(Net::new(Arc::new(pingeon::clock::SystemClock), |_| None, Arc::new(pingeon::net::lookup::system)));
    let until = Instant::now() + Duration::from_secs(seconds);
    let done = Arc::new(AtomicU64::new(0));
    let cpu_before = cpu_seconds();
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let (net, kind, done) = (net.clone(), kind.clone(), done.clone());
            let work = move || {
                let second = Duration::from_secs(1);
                let check = Check {
                    label: "x".into(),
                    interval: second,
                    timeout: second,
                    confirm: Default::default(),
                    target: "x".into(),
                    kind,
                };
                while Instant::now() < until {
                    let outcome = check::run(&check, &net, Instant::now() + Duration::from_secs(5));
                    assert_eq!(outcome.verdict, Verdict::Up, "{outcome:?}");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            };
            std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work).unwrap()
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    let done = done.load(Ordering::Relaxed);
    println!(
        "{name}: {} checks/s on {threads} threads, {:.3} CPU-seconds per 1,000 checks, peak memory {} KiB",
        done / seconds,
        (cpu_seconds() - cpu_before) * 1_000.0 / done as f64,
        peak_kib(),
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

fn http(url: &str, ca: &str, resume: bool) -> Http {
    let ca = (!ca.is_empty()).then(|| Pem { path: "ca.pem".into(), content: Secret::new(ca) });
    let tls = Arc::new(TlsSettings { ca, resume, ..TlsSettings::default() });
    Http { tls, ..Http::get(url.parse().unwrap()) }
}

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

fn serve() {
    accept("", |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(ANSWER);
    });
}

fn serve_tls() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    let config = Arc::new(config);
    accept(&certificate.pem().replace('\n', "|"), move |stream| {
        let connection = rustls::ServerConnection::new(config.clone()).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, stream);
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(ANSWER);
        let _ = stream.flush();
    });
}

fn accept(ca: &str, answer: impl Fn(TcpStream) + Clone + Send + 'static) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}\n{ca}", listener.local_addr().unwrap().port());
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (listener, answer) = (listener.try_clone().unwrap(), answer.clone());
            std::thread::spawn(move || listener.incoming().flatten().for_each(answer))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// User and system time of this process (proc_pid_stat(5), fields 14 and 15), in ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap()..].split(' ').collect();
    let ticks: u64 = fields[12..14].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
