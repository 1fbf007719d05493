//! Under systemd: what the unit, its sandbox and the first minutes are like.

use crate::machine::{Machine, here};

/// What the package says last.
const FIRST_RUN: &str =
    "pingeon: edit /etc/pingeon/pingeon.yaml, then `systemctl reload pingeon`; `pingeon report` shows the results";
/// What the service's journal says.
const JOURNAL: &str = "journalctl --no-pager --output cat --unit pingeon";

#[test]
fn installed_it_runs_and_root_sees_its_results() {
    let machine = Machine::booted();
    let said = machine.does("dpkg --install /packages/pingeon.deb");
    assert_eq!(said.lines().next_back(), Some(FIRST_RUN), "{said}");
    assert_eq!(said.lines().filter(|line| line.contains("pingeon:")).count(), 1, "{said}");
    assert_eq!(machine.does("systemctl is-active pingeon; systemctl is-enabled pingeon"), "active\nenabled\n");

    machine.comes_to("pingeon report", "pingeon  up ");
    machine.does("pingeon check");
    machine.comes_to("cd /etc/pingeon; pingeon report", "pingeon  up ");
    assert_eq!(machine.does("ls /etc/pingeon"), "conf.d\npingeon.yaml\nsecrets\n", "data beside the config");
    assert_eq!(machine.does("find /var/lib/pingeon ! -user pingeon"), "", "root's commands left files of their own");
    let modes =
        machine.does("stat --format '%A %U %G' /var/lib/pingeon /etc/pingeon/secrets /var/lib/pingeon/pingeon.db");
    assert_eq!(modes, "drwxr-x--- pingeon pingeon\ndrwxr-s--- root pingeon\n-rw-r----- pingeon pingeon\n");
}

#[test]
fn the_process_may_do_no_more_than_the_unit_says() {
    let machine = Machine::with_pingeon();
    let pid = machine.main_pid();
    let status = machine.does(&format!("cat /proc/{pid}/status"));
    for (key, value) in
        [("CapEff", "0000000000000000"), ("CapBnd", "0000000000000000"), ("NoNewPrivs", "1"), ("Seccomp", "2")]
    {
        assert!(status.contains(&format!("{key}:\t{value}\n")), "{key}\n{status}");
    }
    assert_eq!(machine.does(&format!("ps -o user= -p {pid} 2>/dev/null || stat --format %U /proc/{pid}")), "pingeon\n");
    // The 19th field (proc_pid_stat(5)), behind a name that may hold spaces.
    let nices = machine.does(&format!("cat /proc/{pid}/task/*/stat | sed 's/.*) //' | cut -d ' ' -f 17"));
    assert!(
        ["0", "10"].iter().all(|nice| nices.lines().any(|line| line == *nice)),
        "what moves logs does not step back: {nices}"
    );
    let inside = format!("nsenter --target {pid} --mount");
    machine.fails(&format!("{inside} touch /etc/pingeon/x"));
    machine.fails(&format!("{inside} touch /usr/bin/x"));
    machine.does(&format!("{inside} touch /var/lib/pingeon/x"));

    let judged = machine.does("systemd-analyze security --no-pager pingeon");
    let verdict = judged.lines().next_back().unwrap();
    let exposure: f64 = verdict.split_once(": ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    assert!(exposure <= 1.5, "{judged}");
}

#[test]
fn a_broken_edit_changes_nothing_and_a_reload_says_why() {
    let machine = Machine::with_pingeon();
    let pid = machine.main_pid();
    machine.does("sed -i 's/^    http:/    htp:/' /etc/pingeon/pingeon.yaml");
    machine.fails("systemctl reload pingeon");
    for place in ["systemctl status --no-pager --full pingeon", JOURNAL] {
        let said = machine.does(place);
        assert!(
            said.contains("error: /etc/pingeon/pingeon.yaml:13:5: checks[0]: unknown key `htp`"),
            "{place}\n{said}"
        );
        assert!(said.contains("hint: did you mean `http`?"), "{place}\n{said}");
    }
    assert_eq!(machine.does("systemctl is-active pingeon"), "active\n");

    machine.does("sed -i 's/^    htp:/    http:/' /etc/pingeon/pingeon.yaml");
    machine.does("echo '- {label: added, tcp: 127.0.0.1:8087, interval: 1s}' >/etc/pingeon/conf.d/added.yaml");
    machine.does("systemctl reload pingeon");
    machine.comes_to("pingeon report", "added    up ");
    assert_eq!(machine.main_pid(), pid);
}

#[test]
fn a_start_with_a_config_that_is_wrong_is_not_tried_again() {
    let machine = Machine::with_pingeon();
    machine.configure("checks: [{label: a, htp: 127.0.0.1}]");
    machine.fails("systemctl restart pingeon");
    let status = machine.run("systemctl status --no-pager --full pingeon");
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains("Active: failed") && status.contains("unknown key `htp`"), "{status}");
    assert_eq!(machine.does("systemctl show --value --property NRestarts pingeon"), "0\n");
}

#[test]
fn killed_or_stuck_it_is_started_again() {
    let machine = Machine::with_pingeon();
    drop_in(&machine, "soon", "[Service]\nWatchdogSec=1\nRestartSec=100ms\n");
    let restarts = "systemctl is-active pingeon && systemctl show --value --property NRestarts pingeon";
    machine.does("systemctl restart pingeon");
    machine.does(&format!("kill -KILL {}", machine.main_pid()));
    machine.comes_to(restarts, "active\n1\n");
    machine.does(&format!("kill -STOP {}", machine.main_pid()));
    machine.comes_to(restarts, "active\n2\n");
    let journal = machine.does(JOURNAL);
    assert!(journal.contains("Watchdog timeout"), "{journal}");
}

#[test]
fn a_secret_that_only_root_can_read_is_handed_to_it() {
    let machine = Machine::with_pingeon();
    machine.configure(
        "checks:\n- {label: a, http: 'http://127.0.0.1/', auth: {bearer: {token_file: \
         '${CREDENTIALS_DIRECTORY:-/etc/pingeon/secrets}/kafka'}}}",
    );
    machine.does("cd /etc/pingeon/secrets; echo sesame >kafka; chmod 600 kafka; pingeon validate");
    let refused = machine.fails("systemctl restart pingeon");
    assert!(refused.contains("failed"), "{refused}");
    drop_in_example(&machine, "credentials");
    machine.does("systemctl restart pingeon; systemctl reload pingeon; pingeon validate");
}

#[test]
fn each_example_of_a_drop_in_is_one() {
    let machine = Machine::with_pingeon();
    for example in ["icmp-raw", "exec"] {
        drop_in_example(&machine, example);
        machine.does("systemctl restart pingeon");
        let journal = machine.does("journalctl --no-pager --output cat _PID=1");
        assert!(!journal.contains(".conf:"), "{example}: {journal}");
    }
    let status = machine.does("cat /proc/$(systemctl show --value --property MainPID pingeon)/status");
    assert!(status.contains("CapEff:\t0000000000002000\n"), "CAP_NET_RAW (capability.h) and no other\n{status}");
}

/// Opens a socket for pings, and nothing else.
const PING: &str = "/usr/bin/perl -e 'socket(my $socket, 2, $ARGV[0], 1) or die $!'";
const DATAGRAM: u8 = 2;
const RAW: u8 = 3;

#[test]
fn pings_need_no_capability_and_raw_ones_the_drop_in() {
    let machine = Machine::with_pingeon();
    let pings_by = |kind: u8| drop_in(&machine, "ping", &format!("[Service]\nExecStartPre={PING} {kind}\n"));
    pings_by(DATAGRAM);
    machine.does("systemctl restart pingeon");
    machine.does("echo 1 0 >/proc/sys/net/ipv4/ping_group_range");
    machine.fails("systemctl restart pingeon");
    pings_by(RAW);
    machine.fails("systemctl restart pingeon");
    drop_in_example(&machine, "icmp-raw");
    machine.does("systemctl restart pingeon");
}

#[test]
fn every_example_that_is_shipped_is_tested() {
    let mut examples: Vec<String> = std::fs::read_dir(here("packaging/examples"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    examples.sort();
    assert_eq!(examples, ["credentials.conf", "exec.conf", "icmp-raw.conf"]);
}

fn drop_in_example(machine: &Machine, name: &str) {
    let folder = "/etc/systemd/system/pingeon.service.d";
    machine.does(&format!(
        "mkdir -p {folder}; cp /usr/share/doc/pingeon/examples/{name}.conf {folder}; systemctl daemon-reload"
    ));
}

fn drop_in(machine: &Machine, name: &str, text: &str) {
    let folder = "/etc/systemd/system/pingeon.service.d";
    machine
        .does(&format!("mkdir -p {folder}; cat >{folder}/{name}.conf <<'END'\n{text}\nEND\nsystemctl daemon-reload"));
}
