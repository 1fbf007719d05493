//! Clients that mean harm, or nothing well: the service lives on, and ends when it is told to.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::health::{free_port, healthz};
use crate::running::{PATIENCE, Place, Service, wait_for};

/// One check, seldom run, and the server.
fn start() -> (Place, Service, u16) {
    let port = free_port();
    let check = "  - {label: a, tcp: \"127.0.0.1:9\", interval: 1h}\n";
    let place = Place::with(&format!("agent: test\nchecks:\n{check}web: {{listen: \"127.0.0.1:{port}\"}}\n"));
    let service = place.run();
    is_well(port);
    (place, service, port)
}

fn is_well(port: u16) {
    wait_for("/healthz to answer 200", || healthz(port)?.starts_with("HTTP/1.1 200 ").then_some(()));
}

fn that_sent(port: u16, head: &str) -> TcpStream {
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.write_all(head.as_bytes()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    client
}

fn open_files(service: &Service) -> u64 {
    fs::read_dir(format!("/proc/{}/fd", service.pid())).unwrap().count() as u64
}

fn threads(service: &Service) -> usize {
    fs::read_dir(format!("/proc/{}/task", service.pid())).unwrap().count()
}

fn ends_well(service: Service) -> String {
    service.signal(Signal::TERM);
    let (status, took, said) = service.ends();
    assert!(status.success(), "{status}\n{said}");
    assert!(took < Duration::from_secs(2), "{took:?}\n{said}");
    said
}

#[test]
fn the_length_of_a_body_that_never_comes_means_nothing() {
    let (_place, service, port) = start();
    for length in [100_000, 1 << 46, u64::MAX] {
        let mut client = that_sent(port, &format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 "), "{length}: {answer}");
        drop(client);
        is_well(port);
    }
    ends_well(service);
}

#[test]
fn it_stops_while_a_client_asks_and_never_reads() {
    let (_place, service, port) = start();
    let mut client = that_sent(port, "");
    let many = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1_000);
    for _ in 0..200 {
        if client.write_all(many.as_bytes()).is_err() {
            break;
        }
    }
    ends_well(service);
}

#[test]
fn a_thousand_connections_cost_no_threads_and_few_files() {
    let (_place, service, port) = start();
    let (threads_before, files_before) = (threads(&service), open_files(&service));
    let clients: Vec<TcpStream> = (0..1_000).map(|_| that_sent(port, "GET /healthz HT")).collect();
    let began = Instant::now();
    is_well(port);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let (threads_now, files_now) = (threads(&service), open_files(&service));
    // Others than the server may have come meanwhile: a worker, a lookup.
    assert!(threads_now < threads_before + 10, "{threads_before}, then {threads_now}");
    assert!(files_now < files_before + 80, "{files_before}, then {files_now}");
    ends_well(service);
    drop(clients);
}

#[test]
fn a_client_that_resets_its_connection_is_gone_at_once() {
    let (_place, service, port) = start();
    let files_before = open_files(&service);
    for _ in 0..50 {
        let client = that_sent(port, "GET /healthz HTTP/1.1\r\n\r\n");
        // Closed with the answer unread.
        client.peek(&mut [0]).unwrap();
    }
    let began = Instant::now();
    wait_for("the connections to be closed", || (open_files(&service) <= files_before + 5).then_some(()));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    ends_well(service);
}

#[test]
fn without_file_descriptors_it_waits_for_some() {
    let (_place, mut service, port) = start();
    // The service has inherited ours.
    let plenty = getrlimit(Resource::Nofile);
    let none_left = Rlimit { current: Some(open_files(&service)), ..plenty };
    prlimit(Some(service.pid()), Resource::Nofile, none_left).unwrap();
    // More than there can be holes among those that are open.
    let clients: Vec<TcpStream> = (0..20).map(|_| that_sent(port, "GET /healthz HT")).collect();
    service.says("web: cannot accept connections: Too many open files");
    prlimit(Some(service.pid()), Resource::Nofile, plenty).unwrap();
    is_well(port);
    assert!(!ends_well(service).contains("failed"));
    drop(clients);
}
