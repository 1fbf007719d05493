//! Monitoring plugins: those of the package `monitoring-plugins-basic` (`apt-get install monitoring-plugins-basic`; without it
//! these tests fail), and scripts that misbehave.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::LazyLock;

use pingeon::check::Phase::{Assert, Body, FirstByte};
use pingeon::check::Verdict::{Degraded, Down, Unknown, Up};
use pingeon::check::exec::Exec;
use pingeon::secret::Secret;
use serde_json::json;
use tempfile::TempDir;

use crate::servers::*;
use crate::table::*;

fn exec(program: impl Into<PathBuf>, arguments: &[&str]) -> Exec {
    let arguments = arguments.iter().map(|argument| Secret::new(*argument)).collect();
    Exec { program: program.into(), arguments, env: Vec::new() }
}

/// A script of the shell's.
fn sh(script: &str) -> Exec {
    exec("/bin/sh", &["-c", script])
}

fn with_env(exec: Exec, env: &[(&str, &str)]) -> Exec {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect();
    Exec { env, ..exec }
}

/// A plugin of the package.
fn plugin(name: &str, arguments: &[&str]) -> Exec {
    let program = PathBuf::from("/usr/lib/nagios/plugins").join(name);
    assert!(program.exists(), "these tests need the real plugins: `apt-get install monitoring-plugins-basic`");
    exec(program, arguments)
}

#[test]
#[rustfmt::skip]
fn exit_codes_and_first_lines() {
    run(vec![
        case("0", sh("echo 'DISK OK - free space: / 3326 MB'"), Up, None, "").also(|outcome| {
            assert_eq!((&outcome.result["exit_code"], &outcome.result["output"]), (&0.into(), &"DISK OK - free space: / 3326 MB".into()));
            assert_eq!((outcome.phases.connect, outcome.phases.send), (None, None));
            assert!(outcome.phases.first_byte.is_some() && outcome.phases.body.is_some());
            assert_eq!(outcome.result.len(), 3, "{:?}", outcome.result);
        }),
        case("1", sh("echo 'DISK WARNING | /=1MB'; exit 1"), Degraded, None, "DISK WARNING").also(|outcome| {
            assert_eq!(outcome.reason.as_deref(), Some("DISK WARNING"));
            assert_eq!(outcome.result["perfdata"], json!([{"label": "/", "value": 1, "unit": "MB"}]));
        }),
        case("2", sh("echo 'DISK CRITICAL'; exit 2"), Down, Some(Assert), "DISK CRITICAL").also(|outcome| {
            assert!(outcome.assertions.len() == 1 && !outcome.assertions[0].held && outcome.assertions[0].got == "2");
        }),
        case("3", sh("echo 'DISK UNKNOWN'; exit 3"), Unknown, None, "DISK UNKNOWN"),
        case("4", sh("echo hm; exit 4"), Unknown, None, "exit code 4, which is none of 0 to 3: hm").also(|outcome| assert_eq!(outcome.result["exit_code"], 4)),
        case("126 or 127 of a shell", sh("/nowhere/plugin"), Unknown, None, "exit code 127, which is none of 0 to 3: on standard error: /bin/sh: 1: /nowhere/plugin: not found"),
        case("255", sh("exit 255"), Unknown, None, "exit code 255, which is none of 0 to 3: it printed nothing"),
        case("killed by SIGSEGV", sh("kill -SEGV $$"), Unknown, None, "killed by SIGSEGV: it printed nothing").also(|outcome| {
            assert!(outcome.result["signal"] == 11 && outcome.result.get("exit_code").is_none());
        }),
        case("killed by SIGTERM after a line", sh("echo almost; kill $$"), Unknown, None, "killed by SIGTERM: almost"),
        case("killed by a signal without a name", sh("kill -40 $$"), Unknown, None, "killed by signal 40"),
        case("silent and fine", sh("exit 0"), Up, None, "").also(|outcome| {
            assert!(outcome.phases.first_byte.is_some() && outcome.phases.body.is_none() && outcome.result["output"] == "");
        }),
        case("silent and down", sh("exit 2"), Down, Some(Assert), "it printed nothing"),
        case("only on standard error", sh("echo 'no such option' >&2; exit 2"), Down, Some(Assert), "on standard error: no such option").also(|outcome| {
            assert_eq!(outcome.result["stderr"], "no such option");
        }),
        case("on both", sh("echo noise >&2; echo signal; exit 2"), Down, Some(Assert), "signal").also(|outcome| {
            assert_eq!((outcome.reason.as_deref(), &outcome.result["stderr"]), (Some("signal"), &"noise".into()));
        }),
        case("begins with empty lines", sh("printf '\\n\\n  late\\n'; exit 2"), Down, Some(Assert), "late"),
        case("many lines", sh("printf 'bad | a=1\\nfirst\\nsecond | b=2;3;4\\nc=5%%;;;0;100\\n'; exit 2"), Down, Some(Assert), "bad").also(|outcome| {
            assert_eq!(outcome.result["output"], "bad\nfirst\nsecond");
            assert_eq!(outcome.result["perfdata"], json!([
                {"label": "a", "value": 1}, {"label": "b", "value": 2, "warn": "3", "crit": "4"},
                {"label": "c", "value": 5, "unit": "%", "min": 0, "max": 100},
            ]));
        }),
        case("broken performance data", sh("echo 'ok | a=1 b=fast'"), Up, None, "").also(|outcome| {
            assert_eq!((outcome.result["perfdata"].as_array().unwrap().len(), &outcome.result["perfdata_unread"]), (1, &1.into()));
        }),
        case("no UTF-8, and what steers a terminal", sh("printf '\\377\\033[31m\\000x'; exit 2"), Down, Some(Assert), "\u{fffd}\\u{1b}[31m\\u{0}x"),
    ]);
}

/// Files that cannot be run, for each a reason.
static FILES: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = TempDir::new().unwrap();
    for (name, text, mode) in [
        ("not-executable", "#!/bin/sh\n", 0o644),
        ("text", "exit 0\n", 0o755),
        ("no-interpreter", "#!/nowhere/perl\n", 0o755),
        ("script", "#!/bin/sh\necho \"$0 $1\"\n", 0o755),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }
    folder
});

#[test]
#[rustfmt::skip]
fn what_cannot_be_started_is_unknown() {
    let file = |name: &str| exec(FILES.path().join(name), &[]);
    let in_path = |name: &str| with_env(exec(name, &["me"]), &[("PATH", &format!("relative:/nowhere:{}", FILES.path().display()))]);
    let nothing = |outcome: &pingeon::check::Outcome| assert_eq!((outcome.result.len(), outcome.phases.first_byte), (1, None));
    run(vec![
        case("not there", exec("/nowhere/plugin", &[]), Unknown, None, "there is no program `/nowhere/plugin`").also(nothing),
        case("below a file", exec("/etc/passwd/plugin", &[]), Unknown, None, "there is no program `/etc/passwd/plugin`").also(nothing),
        case("a directory", exec("/etc", &[]), Unknown, None, "`/etc` is a directory").also(nothing),
        case("not executable", file("not-executable"), Unknown, None, "this agent is not permitted to run").also(nothing),
        case("no program", file("text"), Unknown, None, "is neither a program nor a script that begins with `#!`").also(nothing),
        case("no interpreter", file("no-interpreter"), Unknown, None, "the interpreter that `").also(nothing),
        case("arguments too long", exec("/bin/echo", &[&"x".repeat(200_000)]), Unknown, None, "are too long").also(nothing),
        case("not in the default PATH", exec("no-such-plugin", &[]), Unknown, None, "there is no program `no-such-plugin` in `/usr/local/sbin:").also(nothing),
        case("not executable in its PATH", in_path("not-executable"), Unknown, None, "there is no program `not-executable` in `relative:").also(nothing),
        case("in the default PATH", exec("true", &[]), Up, None, ""),
        case("in its own PATH", in_path("script"), Up, None, "").also(|outcome| {
            assert_eq!(outcome.result["output"], format!("{} me", FILES.path().join("script").display()));
        }),
    ]);
}

#[test]
#[rustfmt::skip]
fn nothing_outlives_its_deadline_or_is_held_up() {
    run(vec![
        case("hangs", sh("exec sleep 1000"), Down, Some(FirstByte), "printed nothing within 300 ms and was killed").within(SHORT).also(|outcome| {
            assert!(outcome.phases.first_byte.unwrap() > 250_000 && outcome.phases.body.is_none());
            assert!(outcome.result.get("exit_code").is_none() && outcome.assertions.is_empty());
        }),
        case("hangs after a line", sh("echo 'half done | a=1'; sleep 1000"), Down, Some(Body), "did not end within 300 ms and was killed: half done").within(SHORT).also(|outcome| {
            assert_eq!(outcome.result["perfdata"][0]["label"], "a");
        }),
        case("hangs after a word on standard error", sh("echo 'connecting' >&2; sleep 1000"), Down, Some(Body), "was killed: on standard error: connecting").within(SHORT),
        case("closes its output and hangs", sh("echo hi; exec >&- 2>&- sleep 1000"), Down, Some(Body), "did not end within 300 ms").within(SHORT),
        case("ignores SIGTERM", sh("trap '' TERM INT HUP; while :; do sleep 1000; done"), Down, Some(FirstByte), "was killed").within(SHORT),
        case("is stopped", sh("kill -STOP $$"), Down, Some(FirstByte), "was killed").within(SHORT),
        case("prints for ever", exec("/usr/bin/yes", &[]), Down, Some(Body), "did not end within 300 ms and was killed: y").within(SHORT).also(|outcome| {
            assert_eq!(outcome.result["output_cut"], true);
        }),
        case("prints to standard error for ever", sh("exec yes >&2"), Down, Some(Body), "on standard error: y").within(SHORT),
        case("has a deadline that is past", sh("exec sleep 1000"), Down, Some(FirstByte), "printed nothing within").within(std::time::Duration::ZERO),
        case("hangs in a child", sh("sleep 1000; true"), Down, Some(FirstByte), "was killed").within(SHORT),
        case("leaves a child with its output", sh("sleep 1000 & echo ok"), Up, None, ""),
        case("leaves a child that prints for ever", sh("echo ok; yes & exit 2"), Down, Some(Assert), "ok"),
        case("leaves a child of another session with its output", sh("setsid sleep 3 & echo ok"), Up, None, ""),
        case("prints more than a pipe holds", sh("yes 'a line' | head -c 3000000; echo; exit 1"), Degraded, None, "a line").also(|outcome| {
            assert_eq!(outcome.result["output_cut"], true);
            assert!(outcome.result["output"].as_str().unwrap().len() <= 8 * 1024);
        }),
        case("reads", sh("cat; echo done"), Up, None, "").also(|outcome| assert_eq!(outcome.result["output"], "done")),
    ]);
}

#[test]
#[rustfmt::skip]
fn it_gets_nothing_of_the_agents() {
    // Held open here, and not to be seen there.
    let _open = std::fs::File::open(FILES.path().join("text")).unwrap();
    run(vec![
        case("environment", exec("/usr/bin/env", &[]), Up, None, "").also(|outcome| {
            assert_eq!(outcome.result["output"], "LANG=C\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        }),
        case("own environment", with_env(exec("/usr/bin/env", &[]), &[("LANG", "C.UTF-8"), ("HOME", "/tmp")]), Up, None, "").also(|outcome| {
            assert_eq!(outcome.result["output"], "HOME=/tmp\nLANG=C.UTF-8\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        }),
        case("working directory", exec("/bin/pwd", &[]), Up, None, "").also(|outcome| assert_eq!(outcome.result["output"], "/")),
        case("descriptors", sh("readlink /proc/$$/fd/*; exit 0"), Up, None, "").also(|outcome| {
            let open = outcome.result["output"].as_str().unwrap();
            assert!(open.starts_with("/dev/null\npipe:["), "{open}");
            assert!(!open.contains(&*FILES.path().to_string_lossy()), "{open}");
        }),
        case("process group", sh("[ $(ps -o pgid= -p $$) = $$ ]"), Up, None, ""),
        case("signals that this process ignores", sh("kill -PIPE $$"), Unknown, None, "killed by SIGPIPE"),
        case("signals that this process blocks", exec("grep", &["^SigBlk:", "/proc/self/status"]), Up, None, "").also(|outcome| {
            assert_eq!(outcome.result["output"], "SigBlk:\t0000000000000000");
        }),
    ]);
}

#[test]
#[rustfmt::skip]
fn real_plugins() {
    let (fine, closed) = (serve(ok("ok")).to_string(), closed_port().to_string());
    let hangs = serve(vec![Do::Hang]).to_string();
    run(vec![
        case("check_dummy 0", plugin("check_dummy", &["0", "all is well"]), Up, None, "").also(|outcome| assert_eq!(outcome.result["output"], "OK: all is well")),
        case("check_dummy 1", plugin("check_dummy", &["1", "so so"]), Degraded, None, "WARNING: so so"),
        case("check_dummy 2", plugin("check_dummy", &["2"]), Down, Some(Assert), "CRITICAL"),
        case("check_dummy 3", plugin("check_dummy", &["3"]), Unknown, None, "UNKNOWN"),
        case("check_dummy 4", plugin("check_dummy", &["4"]), Unknown, None, "UNKNOWN: Status 4"),
        case("a wrong option", plugin("check_dummy", &["--no-such-option"]), Unknown, None, "Arguments to check_dummy must be an integer"),
        case("check_http", plugin("check_http", &["-H", "127.0.0.1", "-p", &fine]), Up, None, "").also(|outcome| {
            let labels: Vec<_> = outcome.result["perfdata"].as_array().unwrap().iter().map(|datum| datum["label"].as_str().unwrap()).collect();
            assert_eq!(labels, ["time", "size"]);
            assert!(outcome.result.get("perfdata_unread").is_none());
        }),
        case("check_http that warns", plugin("check_http", &["-H", "127.0.0.1", "-p", &fine, "-w", "0.000001"]), Degraded, None, "HTTP"),
        case("check_tcp to nobody", plugin("check_tcp", &["-H", "127.0.0.1", "-p", &closed]), Down, Some(Assert), "refused"),
        case("check_http that hangs longer than it may", plugin("check_http", &["-H", "127.0.0.1", "-p", &hangs, "-t", "30"]), Down, Some(FirstByte), "was killed").within(SHORT),
        case("check_disk", plugin("check_disk", &["-w", "0%", "-c", "0%", "-p", "/"]), Up, None, "").also(|outcome| {
            let disk = &outcome.result["perfdata"][0];
            assert!(disk["label"] == "/" && disk["unit"].as_str().unwrap().ends_with('B') && disk["max"].as_u64().unwrap() > 0, "{disk}");
        }),
        case("check_disk that is nearly full", plugin("check_disk", &["-w", "100%", "-p", "/"]), Degraded, None, "DISK WARNING"),
        case("check_disk of nothing", plugin("check_disk", &["-w", "1%", "-p", "/nowhere"]), Down, Some(Assert), "DISK CRITICAL"),
        case("check_load", plugin("check_load", &["-w", "9999,9999,9999", "-c", "9999,9999,9999"]), Up, None, "").also(|outcome| {
            assert_eq!(outcome.result["perfdata"].as_array().unwrap().len(), 3);
        }),
        case("check_file_age", plugin("check_file_age", &["-w", "1", "-c", "2", "-f", "/etc/passwd"]), Down, Some(Assert), "FILE_AGE CRITICAL"),
        case("check_procs", plugin("check_procs", &["-c", "1:1", "-p", "1", "-u", "nobody"]), Down, Some(Assert), "PROCS CRITICAL: 0 processes"),
        case("negate", plugin("negate", &["/usr/lib/nagios/plugins/check_dummy", "2"]), Up, None, ""),
    ]);
}
