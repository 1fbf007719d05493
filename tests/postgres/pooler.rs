//! A pgbouncer that pools by transaction: what a session leaves behind is another's at the next statement.

use std::ffi::OsString;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::daemon::{Daemon, End};
use crate::running::wait_for;
use crate::servant::{as_servant, give};
use crate::server::{Database, SET_UP, Server, free_port, unique};

/// How many connections to the server all clients of one role share.
const POOL: usize = 2;

/// Ends with the value.
pub struct Pooler {
    port: u16,
    _daemon: Daemon,
}

impl Pooler {
    /// In front of all databases of a server, for these roles, which need no password.
    pub fn start(server: &Server, roles: &[&str]) -> Self {
        let folder = server.folder().join(unique("pooler"));
        fs::create_dir(&folder).unwrap();
        let (port, behind) = (free_port(), server.port());
        let (users, settings) = (folder.join("users"), folder.join("pgbouncer.ini"));
        fs::write(&users, roles.iter().map(|role| format!("\"{role}\" \"\"\n")).collect::<String>()).unwrap();
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={behind}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = {POOL}\n\
             max_client_conn = 100\n",
            users.display()
        );
        fs::write(&settings, text).unwrap();
        give(&folder);
        let daemon = Daemon::start(
            &as_servant(),
            &[program().into(), OsString::from(&settings)],
            End::Kill,
            &folder.join("log"),
            Some(&folder),
        );
        wait_for("pgbouncer to listen", || {
            assert!(daemon.runs(), "pgbouncer does not start: {}", daemon.words());
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Pooler { port, _daemon: daemon }
    }

    /// The way to a database through it.
    pub fn url(&self, database: &Database, role: &str) -> String {
        format!("postgresql://{role}@127.0.0.1:{}/{}", self.port, database.name())
    }
}

fn program() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian has it where only root's `PATH` leads.
    let mut folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.find_map(|folder| Some(folder.join("pgbouncer")).filter(|path| Path::is_file(path)));
    found.unwrap_or_else(|| panic!("no program `pgbouncer`: {SET_UP}"))
}
