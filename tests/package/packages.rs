//! The packages under test, built once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

use crate::machine::{here, host};

/// Builds the packages of both architectures; with nothing to compile where that was done by hand.
pub fn build() {
    let mut build = Command::new(here("packaging/build-deb"));
    // What cargo tells of a crate to what it runs makes cargo, when it sees that, run build scripts again.
    for name in env::vars().map(|(name, _)| name).filter(|name| name.starts_with("CARGO_")) {
        if !["CARGO_HOME", "CARGO_TARGET_DIR"].contains(&&*name) {
            build.env_remove(name);
        }
    }
    let output = build.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Where `packaging/build-deb` puts them.
pub fn built(architecture: &str) -> PathBuf {
    here(&format!("target/debian/pingeon_{}_{architecture}.deb", env!("CARGO_PKG_VERSION")))
}

/// A folder with the packages of one build: `pingeon.deb`, `previous.deb` and `pingeon.tar.gz` for this machine, and
/// `arm64.deb`.
pub fn staged() -> &'static Path {
    static STAGED: OnceLock<PathBuf> = OnceLock::new();
    STAGED.get_or_init(|| {
        build();
        let folder = here("target/packaging/tested");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let tarball = here(&format!("target/debian/pingeon-{}-amd64.tar.gz", env!("CARGO_PKG_VERSION")));
        for (from, to) in [(built("amd64"), "pingeon.deb"), (built("arm64"), "arm64.deb"), (tarball, "pingeon.tar.gz")]
        {
            fs::copy(from, folder.join(to)).unwrap();
        }
        make_previous(&folder);
        folder
    })
}

/// What an upgrade comes from: the same with a lower version and with another config as shipped.
fn make_previous(folder: &Path) {
    let tree = tempfile::tempdir().unwrap();
    host("dpkg-deb", &[Path::new("--raw-extract"), &folder.join("pingeon.deb"), tree.path()]);
    let edit = |file: &str, edit: &dyn Fn(String) -> String| {
        let path = tree.path().join(file);
        fs::write(&path, edit(fs::read_to_string(&path).unwrap())).unwrap();
    };
    edit("DEBIAN/control", &|text| text.replace(concat!("Version: ", env!("CARGO_PKG_VERSION")), "Version: 0.0.1"));
    edit("etc/pingeon/pingeon.yaml", &|text| text + "# As it was shipped before.\n");
    let mut pack = Command::new("dpkg-deb");
    pack.args(["--build", "--root-owner-group", "-Znone"]).arg(tree.path()).arg(folder.join("previous.deb"));
    assert!(pack.status().unwrap().success());
}
