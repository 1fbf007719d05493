//! The sample config, as it is shipped.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use rustix::process::Signal;

use crate::running::{PATIENCE, Place, wait_for};

#[test]
fn the_shipped_config_is_healthy_and_reports_itself_up() {
    let port = free_port();
    let shipped = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/pingeon.yaml")).unwrap();
    let place = Place::with(&shipped.replace(":8087", &format!(":{port}")).replace("interval: 10s", "interval: 1s"));
    let service = place.run();

    wait_for("/healthz to answer 200", || {
        let answer = healthz(port)?;
        answer.starts_with("HTTP/1.1 200 ").then_some(())
    });
    let answer =
        wait_for("/healthz to know its last log", || healthz(port).filter(|answer| answer.contains("\"pingeon\"")));
    let body: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(body["status"], "ok", "{body}");

    let report = wait_for("a report that says up", || {
        let output = place.pingeon(&["report", "pingeon", "--format", "json"]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        (output.status.success() && report["checks"][0]["state"] == "up").then_some(report)
    });
    assert!(report["checks"][0]["time_us"]["up"].as_u64() > Some(0), "{report}");
    let table = String::from_utf8(place.pingeon(&["report"]).stdout).unwrap();
    assert!(table.contains("pingeon  up "), "{table}");

    service.signal(Signal::TERM);
    assert!(service.ends().0.success());
}

/// The whole answer, when there is one.
pub fn healthz(port: u16) -> Option<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).ok()?;
    connection.set_read_timeout(Some(PATIENCE)).ok()?;
    connection.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A port that nobody listens on just now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
