//! What people see of each command: the README's examples, and those in `tests/cli`.
//!
//! `TRYCMD=overwrite cargo test --test cli` writes what there is now; read the difference before it is committed.

use std::sync::Arc;
use std::time::Duration;

use pingeon::clock::{Clock, SystemClock, Timestamp};
use pingeon::config::Sqlite;
use pingeon::flow::{Batch, Sink};
use pingeon::logs::{Author, Log};
use pingeon::store::sqlite;

#[test]
fn commands_say_what_the_examples_show() {
    trycmd::TestCases::new()
        .env("http_proxy", "")
        .env("all_proxy", "")
        .env("EXAMPLE_PASSWORD", "open sesame")
        .case("README.md")
        .case("tests/cli/*.trycmd");
}

#[test]
fn the_config_in_the_readme_is_one() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let config = readme.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    std::fs::write(folder.path().join("secrets/shop"), "a-token").unwrap();
    std::fs::write(folder.path().join("pingeon.yaml"), config).unwrap();
    let mut validate = std::process::Command::new(env!("CARGO_BIN_EXE_pingeon"));
    let output = validate.arg("validate").current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The log number `seq` of a run that began a moment ago, due now.
fn log(boot: uuid::Uuid, seq: u64, now: Timestamp) -> Log {
    let author = Author::new("edge-01".into(), now);
    let text = serde_json::json!({"v": 1, "uid": author.boot, "agent": "edge-01", "boot": boot, "seq": seq, "label": "shop",
        "kind": "tcp", "target": "192.0.2.7:443", "due_at": now, "started_at": now, "ended_at": now, "duration_us": 7,
        "interval_ms": 10_000, "verdict": "up", "phase": null, "reason": null, "result": {}});
    Log::from_json(text.to_string().as_bytes()).unwrap()
}

#[test]
fn a_delivery_audit_ends_with_its_verdict_and_that_is_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let config = "agent: edge-01\nstore: {sqlite: {path: pingeon.db}}\nchecks: [{label: shop, tcp: 192.0.2.7:443}]\n";
    std::fs::write(folder.path().join("pingeon.yaml"), config).unwrap();
    let settings = Sqlite { path: folder.path().join("pingeon.db"), retention: Duration::from_secs(86_400) };
    let mut store = sqlite::Sqlite::open(&settings, Arc::new(SystemClock)).unwrap();
    let now = SystemClock.now().wall;
    let boot = Author::new("edge-01".into(), now).boot;
    for (seq, code, verdict) in
        [(1, 0, "nothing is missing"), (2, 0, "nothing is missing"), (5, 1, "2 logs are missing")]
    {
        let batch = Batch { logs: vec![log(boot, seq, now)], ..Batch::default() };
        store.deliver(&batch).unwrap();
        let mut report = std::process::Command::new(env!("CARGO_BIN_EXE_pingeon"));
        let output = report.args(["report", "--delivery"]).current_dir(folder.path()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!((output.status.code(), text.lines().next_back()), (Some(code), Some(verdict)), "{text}");
    }
}
