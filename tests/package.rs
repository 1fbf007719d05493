//! The packages: built, looked at, and installed, run, reloaded, upgraded and removed by the real dpkg and the real systemd in
//! a bare Debian, and by what there is where systemd is not. Needs root, and what `tests/run package` gets.

#[path = "package/contents.rs"]
mod contents;
#[path = "package/elsewhere.rs"]
mod elsewhere;
#[path = "package/machine.rs"]
mod machine;
#[path = "package/packages.rs"]
mod packages;
#[allow(dead_code, reason = "shared with `service`, which needs more of it")]
#[path = "service/running.rs"]
mod running;
#[path = "package/systemd.rs"]
mod systemd;
#[path = "package/upgrade.rs"]
mod upgrade;
