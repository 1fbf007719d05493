//! What is shipped beside our own code stays little, and each crate that we chose says what for.

use std::collections::BTreeSet;
use std::process::Command;

/// Crates that a build takes, ours and what runs in the compiler alone (derives, build scripts) included.
const CRATES_MAX: usize = 199;

/// What is shipped.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"];

#[test]
fn the_tree_stays_small() {
    for target in TARGETS {
        let crates = tree(target);
        let known = crates.iter().any(|name| name.starts_with("rusqlite v"));
        assert!(known, "{target}: the tree is not read as it is printed: {crates:?}");
        assert!(crates.len() <= CRATES_MAX, "{target}: {} crates: {crates:?}", crates.len());
    }
}

/// The crates that a build for `target` takes, each with its version: `rusqlite v0.43.0`.
fn tree(target: &str) -> BTreeSet<String> {
    let mut tree = Command::new(env!("CARGO"));
    tree.args([
        "tree",
        "--locked",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
        "--target",
        target,
    ]);
    let output = tree.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    printed.lines().map(|line| line.split(" (").next().unwrap().to_owned()).collect()
}

#[test]
fn each_crate_says_what_it_is_for() {
    let manifest = include_str!("../Cargo.toml");
    let said = dependencies(manifest);
    assert!(said.len() > 40, "the manifest is not read as it is written: {said:?}");
    let silent: Vec<&str> = said.iter().filter(|(_, why)| why.is_empty()).map(|(name, _)| *name).collect();
    assert!(silent.is_empty(), "no comment in Cargo.toml says what these are for: {silent:?}");
}

#[test]
fn a_crate_that_says_nothing_is_seen() {
    let manifest = "[dependencies]\n# Two.\na = \"1\" # why\nb = { version = \"1\" }\n\n[dev-dependencies]\nc = \"1\" #\n[lints]\nd = 1\n";
    assert_eq!(dependencies(manifest), [("a", "why"), ("b", ""), ("c", "")]);
}

/// Each line of the sections of dependencies: the crate, and the comment behind it.
fn dependencies(manifest: &str) -> Vec<(&str, &str)> {
    let mut dependencies = Vec::new();
    let mut within = false;
    for line in manifest.lines() {
        match line.split_once(" = ") {
            _ if line.starts_with('[') => within = line.ends_with("dependencies]"),
            Some((name, value)) if within && !name.starts_with('#') => {
                dependencies.push((name, value.split_once('#').map_or("", |(_, why)| why.trim())));
            }
            _ => {}
        }
    }
    dependencies
}
