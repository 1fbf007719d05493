//! Upgrades and the end: what becomes of the process, of edits and of data.

use crate::machine::Machine;
use crate::running::wait_for;

const UPGRADE: &str = "dpkg --force-confdef --force-confold --install /packages/pingeon.deb";
const REFUSED: &str = "pingeon: the new version refuses the config, so the old one keeps running; \
    `journalctl -u pingeon -n 9` says why: mend it, then `systemctl restart pingeon`";

/// With the previous version, and a check of the operator's own that has results.
fn in_use() -> Machine {
    let machine = Machine::booted();
    machine.does("dpkg --install /packages/previous.deb");
    let mine = "agent: edge-01\\nchecks:\\n  - {label: mine, tcp: 127.0.0.1:8087, interval: 1s}";
    machine.does(&format!("sed -i 's/^checks:$/{mine}/' /etc/pingeon/pingeon.yaml; systemctl restart pingeon"));
    machine.comes_to("pingeon report", "mine     up ");
    machine
}

/// Which file the service's program is.
fn program(machine: &Machine) -> String {
    machine.does(&format!("readlink /proc/{}/exe", machine.main_pid()))
}

#[test]
fn an_upgrade_runs_the_new_program_and_keeps_edits_and_results() {
    let machine = in_use();
    let pid = machine.main_pid();
    machine.does(UPGRADE);
    assert_ne!(machine.main_pid(), pid);
    assert_eq!(program(&machine), "/usr/bin/pingeon\n");
    machine.does("grep -q 'label: mine' /etc/pingeon/pingeon.yaml; test -e /etc/pingeon/pingeon.yaml.dpkg-dist");
    wait_for("results of both programs, and no hole between them", || {
        let audit = machine.run("pingeon report --delivery");
        let said = String::from_utf8(audit.stdout).unwrap();
        let runs = said.lines().filter(|line| line.starts_with("edge-01 ")).count();
        (audit.status.success() && runs == 2).then_some(())
    });
}

#[test]
fn an_upgrade_to_a_program_that_refuses_the_config_leaves_the_old_one_running() {
    let machine = in_use();
    let pid = machine.main_pid();
    machine.does("echo 'chekcs: []' >>/etc/pingeon/pingeon.yaml");
    let said = machine.does(UPGRADE);
    assert!(said.lines().any(|line| line == REFUSED), "{said}");
    assert_eq!(said.lines().filter(|line| line.contains("pingeon:")).count(), 1, "{said}");
    assert_eq!((machine.main_pid(), program(&machine).as_str()), (pid.clone(), "/usr/bin/pingeon (deleted)\n"));
    assert_eq!(machine.does("systemctl is-active pingeon"), "active\n");
    let why = machine.does("journalctl --no-pager --unit pingeon --lines 9");
    assert!(why.contains("unknown key `chekcs`"), "{why}");

    machine.does("sed -i '/chekcs/d' /etc/pingeon/pingeon.yaml; systemctl restart pingeon");
    assert_eq!(program(&machine), "/usr/bin/pingeon\n");
}

#[test]
fn what_the_operator_stopped_or_disabled_an_upgrade_does_not_start() {
    let machine = in_use();
    machine.does("systemctl disable --now pingeon");
    machine.does(UPGRADE);
    assert_eq!(machine.fails("systemctl is-enabled pingeon"), "disabled\n");
    assert_eq!(machine.fails("systemctl is-active pingeon"), "inactive\n");
}

#[test]
fn removed_it_leaves_config_and_data_and_purged_nothing() {
    let machine = in_use();
    let said = machine.does("dpkg --remove pingeon");
    assert!(!said.contains("pingeon:"), "{said}");
    machine.fails("systemctl is-active pingeon");
    machine.fails("test -e /usr/bin/pingeon");
    machine.does("grep -q 'label: mine' /etc/pingeon/pingeon.yaml; test -s /var/lib/pingeon/pingeon.db");

    machine.does("dpkg --force-confold --install /packages/pingeon.deb");
    machine.comes_to("pingeon report", "mine     up ");

    machine.does("dpkg --purge pingeon");
    let left = machine.does("find / -xdev -path /proc -prune -o -name '*pingeon*' -print");
    assert_eq!(left, "", "purged");
    assert_eq!(machine.fails("systemctl list-unit-files --no-legend 'pingeon*'"), "");
    machine.does("getent passwd pingeon");
}
