//! Where systemd is not: a chroot or a container, OpenRC, and the other architecture.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::machine::{Machine, here, host};
use crate::packages::staged;
use crate::running::wait_for;

/// The unit's command.
fn exec_start() -> String {
    let unit = fs::read_to_string(here("packaging/systemd/pingeon.service")).unwrap();
    unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap().to_owned()
}

#[test]
fn without_systemd_it_installs_runs_as_its_user_and_goes() {
    let machine = Machine::bare();
    machine.does("rm /usr/bin/systemd-sysusers /usr/bin/systemctl");
    let said = machine.does("dpkg --install /packages/previous.deb");
    assert!(said.contains("pingeon: edit /etc/pingeon/pingeon.yaml, then `runuser -u pingeon pingeon run`;"), "{said}");
    let said = machine.does("dpkg --force-confnew --install /packages/pingeon.deb");
    assert!(!said.contains("pingeon:"), "{said}");
    assert!(machine.does("getent passwd pingeon").contains(":/var/lib/pingeon:/usr/sbin/nologin"));

    let as_pingeon = "setpriv --reuid pingeon --regid pingeon --init-groups --no-new-privs --bounding-set=-all";
    machine.does(&format!("{as_pingeon} setsid {} >/tmp/log 2>&1 & echo $! >/tmp/pid", exec_start()));
    machine.comes_to("pingeon report", "pingeon  up ");
    machine.does("echo '- {label: added, tcp: 127.0.0.1:8087, interval: 1s}' >/etc/pingeon/conf.d/added.yaml");
    machine.does("kill -HUP $(cat /tmp/pid)");
    machine.comes_to("pingeon report", "added    up ");
    machine.does("kill $(cat /tmp/pid)");
    machine.comes_to("cat /tmp/log", "stopping");

    machine.does("dpkg --remove pingeon; test -s /var/lib/pingeon/pingeon.db; dpkg --purge pingeon");
    machine.fails("ls -d /etc/pingeon || ls -d /var/lib/pingeon");
}

#[test]
fn openrc_starts_reloads_respawns_and_stops_it() {
    let machine = Machine::bare();
    machine.does("cd /tmp; tar -xzf /packages/pingeon.tar.gz; mv pingeon-* new");
    // What OpenRC makes when it boots, and what tells openrc-run(8) that it did.
    machine.does("mkdir -p /run/openrc/exclusive; touch /run/openrc/softlevel");
    let said = machine.does("/tmp/new/install; rc-update add pingeon default; rc-service pingeon start");
    assert!(said.contains("pingeon: edit /etc/pingeon/pingeon.yaml"), "{said}");
    machine.comes_to("pingeon report", "pingeon  up ");
    assert_eq!(machine.does("stat --format %U /var/lib/pingeon/pingeon.db"), "pingeon\n");

    machine.does("cp /etc/pingeon/pingeon.yaml /tmp; echo 'chekcs: []' >>/etc/pingeon/pingeon.yaml");
    let said = machine.fails("rc-service pingeon reload");
    assert!(said.contains("unknown key `chekcs`"), "{said}");
    machine.does("cp /tmp/pingeon.yaml /etc/pingeon; echo '# mine' >>/etc/pingeon/pingeon.yaml");
    machine.does("echo '- {label: added, tcp: 127.0.0.1:8087, interval: 1s}' >/etc/pingeon/conf.d/added.yaml");
    machine.does("rc-service pingeon reload");
    machine.comes_to("pingeon report", "added    up ");

    machine.does("/tmp/new/install; grep -q '^# mine' /etc/pingeon/pingeon.yaml; rc-service pingeon restart");
    machine.comes_to("pingeon report", "added    up ");

    let child = || machine.does("cat /run/openrc/options/pingeon/child_pid");
    let killed = child();
    machine.does(&format!("kill -KILL {killed}"));
    wait_for("another process", || (child() != killed).then_some(()));
    machine.does("rc-service pingeon stop");
    machine.comes_to("cat /var/log/pingeon.log", "stopping");
}

/// On this host, by an emulator.
#[test]
fn the_arm64_binary_checks_spools_and_stores() {
    let folder = tempfile::tempdir().unwrap();
    host("dpkg-deb", &[Path::new("--extract"), &staged().join("arm64.deb"), folder.path()]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!(
        "agent: arm\nspool: {{flush: 10ms}}\nchecks: [{{label: a, tcp: '{}', interval: 100ms}}]\n",
        listener.local_addr().unwrap()
    );
    fs::write(folder.path().join("pingeon.yaml"), config).unwrap();
    let command = |arguments: &[&str]| {
        let mut command = Command::new("qemu-aarch64-static");
        command.arg(folder.path().join("usr/bin/pingeon")).args(arguments).current_dir(folder.path());
        command
    };
    for (arguments, expected) in [
        (vec!["--version"], concat!("pingeon ", env!("CARGO_PKG_VERSION"), "\n")),
        (vec!["validate"], "checks   1 (1 tcp)"),
        (vec!["check"], "up"),
    ] {
        let output = command(&arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains(expected), "{arguments:?}: {output:?}");
    }

    let mut agent = command(&["run"]).stderr(Stdio::null()).spawn().unwrap();
    let report = wait_for("a report that says up", || {
        let said = String::from_utf8(command(&["report"]).output().unwrap().stdout).unwrap();
        said.contains("a      up ").then_some(said)
    });
    let pid = rustix::process::Pid::from_child(&agent);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(agent.wait().unwrap().success(), "{report}");
    assert!(folder.path().join("spool.db").exists());
}
