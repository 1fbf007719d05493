//! Hundreds of plugins, and nothing is left of them: no zombie, no descriptor, no process. A test of its own, for it counts
//! what belongs to the whole process.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pingeon::check::exec::{Exec, run};
use pingeon::secret::Secret;

/// How long processes sleep which this test has to do with; no other sleeps as long.
fn mark() -> String {
    format!("1017.0{}", std::process::id())
}

fn descriptors() -> BTreeSet<String> {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    open.filter_map(|entry| Some(std::fs::read_link(entry.ok()?.path()).ok()?.display().to_string())).collect()
}

/// The command lines of the processes that carry the mark.
fn marked() -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).filter(|line| line.contains(&mark())).collect()
}

#[test]
fn nothing_is_left_of_a_plugin() {
    let (before, mark) = (descriptors(), mark());
    let scripts = [
        "echo ok | cat".to_owned(),
        "echo bad >&2; exit 2".to_owned(),
        "kill -KILL $$".to_owned(),
        "yes | head -c 200000".to_owned(),
        format!("sleep {mark}"),
        format!("sleep {mark} | sleep {mark} & sleep {mark}"),
        format!("sleep {mark} & sleep {mark} & echo ok"),
        format!("trap '' TERM; sleep {mark}; sleep {mark}"),
    ];
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let scripts = scripts.clone();
            std::thread::spawn(move || {
                for script in scripts.iter().cycle().take(10 * scripts.len()) {
                    let arguments = vec![Secret::new("-c"), Secret::new(script.as_str())];
                    let shell = Exec { program: "/bin/sh".into(), arguments, env: Vec::new() };
                    run(&shell, Instant::now() + Duration::from_millis(40));
                    run(&Exec { program: "/nowhere/plugin".into(), ..shell }, Instant::now());
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(descriptors(), before);
    // There is nobody to be waited for, neither dead nor alive.
    let children = rustix::process::waitpid(None, rustix::process::WaitOptions::NOHANG);
    assert_eq!(children.unwrap_err(), rustix::io::Errno::CHILD);
    // Whom init has inherited is killed as well, and gone once init has waited for it.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !marked().is_empty() {
        assert!(Instant::now() < deadline, "{:?} live on", marked());
        std::thread::yield_now();
    }
}
