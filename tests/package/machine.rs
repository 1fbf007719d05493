//! A bare Debian in a container (systemd-nspawn): real dpkg, real systemd, most often a network of its own that reaches nothing,
//! and nothing of it left when it ends. The folder of the packages under test is its `/packages`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::packages;
use crate::running::{PATIENCE, wait_for};

/// How many containers there were, for their names.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// A container that runs; it ends when dropped.
pub struct Machine {
    nspawn: Child,
    name: String,
    /// The first process in it, whose namespaces are the machine's.
    first: i32,
}

impl Machine {
    /// With systemd.
    pub fn booted() -> Self {
        Self::start(&["--private-network", "--boot"]).up()
    }

    /// Likewise, on the network of this host.
    pub fn online() -> Self {
        Self::start(&["--boot"]).up()
    }

    fn up(self) -> Self {
        let machine = self;
        wait_for("systemd to be up", || machine.run("systemctl is-system-running").status.success().then_some(()));
        machine
    }

    /// Without an init system, as in a chroot or in most containers.
    pub fn bare() -> Self {
        Self::start(&["--private-network", "--as-pid2", "sleep", "infinity"])
    }

    /// With Pingeon installed and running.
    pub fn with_pingeon() -> Self {
        let machine = Self::booted();
        machine.does("dpkg --install /packages/pingeon.deb");
        machine
    }

    fn start(how: &[&str]) -> Self {
        let base = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bare-debian");
        assert!(base.exists(), "no {}: `tests/run package` makes it", base.display());
        assert!(geteuid().is_root(), "containers take root: run the tests of packages as root");
        let name = format!("pingeon-{}-{}", process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        // With the thread that runs the test, the container ends. So it does not when nspawn is killed.
        let mut nspawn = Command::new("setpriv");
        nspawn.args(["--pdeathsig", "TERM", "systemd-nspawn", "--quiet", "--volatile=overlay"]);
        nspawn.args(["--register=no", "--keep-unit", "--console=pipe", "--machine", &name, "--directory"]).arg(base);
        nspawn.arg(format!("--bind-ro={}:/packages", packages::staged().display())).args(how);
        let nspawn = nspawn.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut machine = Machine { nspawn, name, first: 0 };
        machine.first = wait_for("the container's first process", || machine.first_process());
        machine
    }

    /// Of nspawn's children the one that is the first in its namespace and sees the container's files: before it is, there are
    /// others, and what runs in *their* namespaces may be done to this host.
    fn first_process(&self) -> Option<i32> {
        let nspawn = self.nspawn.id();
        let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
        let is_first = |child: &&str| {
            let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
            let in_both = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
            let packages = Path::new("/proc").join(child).join("root/packages/pingeon.deb");
            in_both.split_whitespace().eq([*child, "1"]) && packages.exists()
        };
        children.split_whitespace().find(is_first)?.parse().ok()
    }

    /// Runs a script as root, to its end. What it printed; it has to succeed.
    pub fn does(&self, script: &str) -> String {
        let Output { status, stdout, .. } = self.run(script);
        let said = String::from_utf8(stdout).unwrap();
        assert!(status.success(), "`{script}`: {status}\n{said}");
        said
    }

    /// The same of a script that has to fail.
    pub fn fails(&self, script: &str) -> String {
        let Output { status, stdout, .. } = self.run(script);
        let said = String::from_utf8(stdout).unwrap();
        assert!(!status.success(), "`{script}` succeeded\n{said}");
        said
    }

    /// Waits until what a script prints holds `words`.
    pub fn comes_to(&self, script: &str, words: &str) -> String {
        self.shows(script, |said| said.contains(words), words)
    }

    /// Waits until what a script prints is `right`, which `expected` tells people.
    pub fn shows(&self, script: &str, right: impl Fn(&str) -> bool, expected: &str) -> String {
        let by = Instant::now() + PATIENCE;
        loop {
            let said = String::from_utf8(self.run(script).stdout).unwrap();
            if right(&said) {
                return said;
            }
            assert!(Instant::now() < by, "`{script}` came to\n{said}\nand not to\n{expected}");
        }
    }

    /// Both of its outputs are in `stdout`.
    pub fn run(&self, script: &str) -> Output {
        let mut inside = Command::new("nsenter");
        inside.args(["--target", &self.first.to_string(), "--all", "--wd", "--", "sh", "-ec"]);
        inside.arg(format!("exec 2>&1\n{script}")).stdin(Stdio::null()).env_clear();
        for (name, value) in [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", "/root"),
            ("LANG", "C.UTF-8"),
            ("DEBIAN_FRONTEND", "noninteractive"),
        ] {
            inside.env(name, value);
        }
        inside.output().unwrap()
    }

    /// The process of the service.
    pub fn main_pid(&self) -> String {
        self.does("systemctl show --value --property MainPID pingeon").trim().to_owned()
    }

    /// Replaces the config.
    pub fn configure(&self, config: &str) {
        self.does(&format!("cat >/etc/pingeon/pingeon.yaml <<'END'\n{config}\nEND"));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // As the first of its namespace it takes all others with it.
        let _ = match Pid::from_raw(self.first) {
            Some(first) => kill_process(first, Signal::KILL),
            None => kill_process(Pid::from_child(&self.nspawn), Signal::TERM),
        };
        let _ = self.nspawn.wait();
        // Where the host runs no systemd, nobody else does.
        let _ = fs::remove_dir(Path::new("/run/systemd/nspawn/propagate").join(&self.name));
    }
}

/// Runs a program of this host to its end; it has to succeed.
pub fn host(program: &str, arguments: &[&Path]) -> String {
    let Output { status, stdout, stderr } = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8([stdout, stderr].concat()).unwrap();
    assert!(status.success(), "`{program}` {arguments:?}: {status}\n{said}");
    said
}

/// A path of this repository.
pub fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
