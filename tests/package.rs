//! The packages: built, looked at, and installed, run, reloaded, upgraded and removed by the real dpkg and the real systemd in
//! a bare Debian, and by what there is where systemd is not. Needs root, and what `tests/run package` gets.

// The tests' broker; not all of what it offers is needed here.
#[allow(dead_code)]
#[path = "kafka/cluster.rs"]
mod cluster;
#[path = "package/contents.rs"]
mod contents;
#[allow(dead_code)]
#[path = "service/daemon.rs"]
mod daemon;
#[path = "package/elsewhere.rs"]
mod elsewhere;
#[path = "package/guide.rs"]
mod guide;
#[path = "package/machine.rs"]
mod machine;
#[allow(dead_code)]
#[path = "kafka/node.rs"]
mod node;
#[path = "package/packages.rs"]
mod packages;
#[allow(dead_code)]
#[path = "kafka/peer.rs"]
mod peer;
#[allow(dead_code)]
#[path = "kafka/pki.rs"]
mod pki;
#[allow(dead_code)]
#[path = "kafka/proxy.rs"]
mod proxy;
#[allow(dead_code, reason = "shared with `service`, which needs more of it")]
#[path = "service/running.rs"]
mod running;
#[path = "package/systemd.rs"]
mod systemd;
#[path = "package/upgrade.rs"]
mod upgrade;
