//! A server whose databases may lie on a small disk of their own, to be filled and emptied again.
//!
//! The disk is a tmpfs that only the server's process sees (mount_namespaces(7)): it is gone with it. Who is not root mounts it as
//! the root of a user namespace, in which the server then runs as who we are.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid};

use crate::server::{Database, Server, workplace};

/// `$1`: mebibytes; `$2`: where; then the command that sees the disk.
const MOUNT: &str = r#"
size=$1 place=$2; shift 2
owner=$(stat -c "uid=%u,gid=%g" "$place")
mount -t tmpfs -o "size=${size}m,mode=0700,$owner" pingeon "$place" && exec "$@"
"#;

pub struct SmallDisk {
    pub server: Server,
    place: PathBuf,
}

impl SmallDisk {
    /// Starts a server with a disk of so many mebibytes; an empty database takes about eight.
    pub fn start(mebibytes: u32) -> Self {
        let folder = workplace();
        let place = folder.join("disk");
        fs::create_dir(&place).unwrap();
        let server = Server::start_in(folder, &within(mebibytes, &place), &[]);
        server.superuser().batch_execute(&format!("CREATE TABLESPACE small LOCATION '{}'", place.display())).unwrap();
        SmallDisk { server, place }
    }

    /// An empty database on the small disk.
    pub fn database(&self, about: &str) -> Database {
        self.server.database_in("small", about)
    }

    /// Leaves no room on the disk.
    pub fn fill(&self) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).unwrap();
        let full = std::iter::repeat_with(|| ballast.write_all(&[0; 8192])).find_map(Result::err).unwrap();
        assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
    }

    /// Makes room again.
    pub fn empty(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    /// As we see it: through the server's eyes (proc_pid_root(5)).
    fn ballast(&self) -> PathBuf {
        let below = self.place.strip_prefix("/").unwrap();
        Path::new("/proc").join(self.server.pid().to_string()).join("root").join(below).join("ballast")
    }
}

fn within(mebibytes: u32, place: &Path) -> Vec<OsString> {
    let (size, place) = (mebibytes.to_string(), place.to_string_lossy());
    let mount = ["--mount", "sh", "-c", MOUNT, "mount", &size, &place].map(str::to_owned);
    let mut words = vec!["unshare".to_owned()];
    if geteuid().is_root() {
        words.extend(mount);
    } else {
        words.extend(["--user".to_owned(), "--map-root-user".to_owned()]);
        words.extend(mount);
        let (user, group) = (geteuid().as_raw(), getegid().as_raw());
        words.extend(["unshare".to_owned(), "--user".to_owned()]);
        words.extend([format!("--map-user={user}"), format!("--map-group={group}")]);
    }
    words.into_iter().map(OsString::from).collect()
}
