//! What is in the packages, before they are installed.

use std::path::Path;
use std::{env, fs};

use crate::machine::{here, host};
use crate::packages::{self, staged};

const BINARY_BYTES_MAX: usize = 8_000_000;
const PACKAGE_BYTES_MAX: u64 = 4_000_000;

const FILES: &str = "\
-rw-r--r-- 0/0 ./etc/pingeon/conf.d/README
-rw-r--r-- 0/0 ./etc/pingeon/pingeon.yaml
-rwxr-xr-x 0/0 ./usr/bin/pingeon
-rw-r--r-- 0/0 ./usr/lib/sysctl.d/50-pingeon.conf
-rw-r--r-- 0/0 ./usr/lib/systemd/system/pingeon.service
-rw-r--r-- 0/0 ./usr/lib/sysusers.d/pingeon.conf
-rw-r--r-- 0/0 ./usr/share/bash-completion/completions/pingeon
-rw-r--r-- 0/0 ./usr/share/doc/pingeon/CHANGELOG.md
-rw-r--r-- 0/0 ./usr/share/doc/pingeon/README.md
-rw-r--r-- 0/0 ./usr/share/doc/pingeon/changelog.gz
-rw-r--r-- 0/0 ./usr/share/doc/pingeon/copyright
-rw-r--r-- 0/0 ./usr/share/doc/pingeon/examples/credentials.conf
-rw-r--r-- 0/0 ./usr/share/doc/pingeon/examples/exec.conf
-rw-r--r-- 0/0 ./usr/share/doc/pingeon/examples/icmp-raw.conf
-rw-r--r-- 0/0 ./usr/share/doc/pingeon/operators.md
-rw-r--r-- 0/0 ./usr/share/fish/vendor_completions.d/pingeon.fish
-rw-r--r-- 0/0 ./usr/share/lintian/overrides/pingeon
-rw-r--r-- 0/0 ./usr/share/man/man1/pingeon.1.gz
-rw-r--r-- 0/0 ./usr/share/man/man5/pingeon.yaml.5.gz
-rw-r--r-- 0/0 ./usr/share/zsh/vendor-completions/_pingeon";

#[test]
fn both_packages_hold_what_belongs_to_them_and_are_small() {
    for (name, architecture) in [("pingeon.deb", "amd64"), ("arm64.deb", "arm64")] {
        let package = staged().join(name);
        let list = host("dpkg-deb", &[Path::new("--contents"), &package]);
        let mut files: Vec<String> =
            list.lines().filter(|line| !line.ends_with('/')).map(mode_owner_and_path).collect();
        files.sort_by(|a, b| a.split(' ').next_back().cmp(&b.split(' ').next_back()));
        assert_eq!(files.join("\n"), FILES);

        let control = host("dpkg-deb", &[Path::new("--info"), &package, Path::new("control")]);
        for line in [&format!("Architecture: {architecture}"), "Depends: adduser"] {
            assert!(control.lines().any(|found| found == line), "{control}");
        }
        let conffiles = host("dpkg-deb", &[Path::new("--info"), &package, Path::new("conffiles")]);
        let mut conffiles: Vec<&str> = conffiles.lines().collect();
        conffiles.sort_unstable();
        assert_eq!(conffiles, ["/etc/pingeon/conf.d/README", "/etc/pingeon/pingeon.yaml"]);

        let size = fs::metadata(&package).unwrap().len();
        assert!(size <= PACKAGE_BYTES_MAX, "{name} has {size} bytes, of at most {PACKAGE_BYTES_MAX}");
    }
}

/// Of a line of `tar --list --verbose`.
fn mode_owner_and_path(line: &str) -> String {
    let mut words = line.split_whitespace();
    let (mode, owner, path) = (words.next().unwrap(), words.next().unwrap(), words.next_back().unwrap());
    format!("{mode} {owner} {path}")
}

#[test]
fn the_binaries_are_small_depend_on_nothing_and_tell_nothing_of_the_builder() {
    for name in ["pingeon.deb", "arm64.deb"] {
        let folder = tempfile::tempdir().unwrap();
        host("dpkg-deb", &[Path::new("--extract"), &staged().join(name), folder.path()]);
        let binary = folder.path().join("usr/bin/pingeon");
        let bytes = fs::read(&binary).unwrap();
        assert!(bytes.len() <= BINARY_BYTES_MAX, "{name}: {} bytes, of at most {BINARY_BYTES_MAX}", bytes.len());
        let headers = host("readelf", &[Path::new("--program-headers"), &binary]);
        assert!(headers.contains("LOAD") && !headers.contains("INTERP") && !headers.contains("DYNAMIC"), "{headers}");
        for path in [env!("CARGO_MANIFEST_DIR").to_owned(), env::var("HOME").unwrap() + "/.cargo"] {
            let told = bytes.windows(path.len()).any(|window| window == path.as_bytes());
            assert!(!told, "{name} holds {path}");
        }
    }
}

#[test]
fn lintian_has_nothing_against_them() {
    for name in ["pingeon.deb", "arm64.deb"] {
        let fail_on = ["--allow-root", "--fail-on", "error,warning"].map(Path::new);
        let said = host("lintian", &[&fail_on[..], &[&staged().join(name)]].concat());
        assert_eq!(said, "", "{name}");
    }
}

#[test]
fn each_override_of_lintian_has_its_reason() {
    let overrides = fs::read_to_string(here("packaging/debian/lintian-overrides")).unwrap();
    let mut before = "";
    for line in overrides.lines() {
        assert!(line.starts_with('#') || before.starts_with('#') || before.contains("bogus-mail-host"), "{line}");
        before = line;
    }
}

#[test]
fn built_again_they_are_the_same_to_the_byte() {
    staged();
    packages::build();
    for (name, architecture) in [("pingeon.deb", "amd64"), ("arm64.deb", "arm64")] {
        let same = fs::read(staged().join(name)).unwrap() == fs::read(packages::built(architecture)).unwrap();
        assert!(same, "{name} differs");
    }
}
