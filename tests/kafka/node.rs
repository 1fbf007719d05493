//! One broker process: its settings, its start, its end.
//!
//! It is a child of a shell that waits for us: when this process ends, in whatever way, the shell's standard input closes and
//! it kills the broker; when the shell is killed, the broker dies with it (`PR_SET_PDEATHSIG`, prctl(2)). The shell stands
//! between because that signal comes with the end of the *thread* that started the child, and every test is a thread.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Pid;

use crate::cluster::Version;

/// `$1`: what to remove when all is over, or nothing; `$2`: where its words go; then the broker's command.
const KEEPER: &str = r#"
trap '' INT HUP
remove=$1 log=$2; shift 2
setpriv --pdeathsig KILL "$@" >>"$log" 2>&1 </dev/null &
echo $!
read -r _
kill -KILL $! 2>/dev/null
wait
[ -z "$remove" ] || rm -rf -- "$remove"
"#;

/// Small and soon up, for brokers that live for minutes; a benchmark has them work as at a user's.
const JVM: &[&str] = if cfg!(debug_assertions) {
    &["-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
} else {
    &["-Xms512m", "-Xmx512m", "-XX:+UseG1GC"]
};
/// Of slf4j-simple: warnings, on standard error.
const LOGGING: &str = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn";
/// How much of a broker's own words a failing test shows.
const WORDS_SHOWN_MAX: usize = 4000;

/// A broker's folder: settings, data, log.
pub struct Node {
    version: Version,
    folder: PathBuf,
    /// What to remove when the process ends.
    remove: Option<PathBuf>,
    running: Option<Running>,
}

struct Running {
    keeper: Child,
    broker: Pid,
}

impl Node {
    /// Writes the settings and formats the data folder. `users` may show their password by SCRAM.
    pub fn format(version: Version, folder: &Path, settings: &[(String, String)], users: &[(&str, &str)]) -> Self {
        fs::create_dir_all(folder).unwrap();
        let mut properties: String = settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        properties.push_str(&format!("log.dirs={}\n", folder.join("data").display()));
        fs::write(folder.join("server.properties"), properties).unwrap();
        let node = Node { version, folder: folder.to_owned(), remove: None, running: None };
        let mut format = node.java("kafka.tools.StorageTool");
        format.args(["format", "--cluster-id", "cGluZ2VvbnBpbmdlb25waQ", "--config"]);
        format.arg(folder.join("server.properties"));
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            for (name, password) in users {
                format.args(["--add-scram", &format!("{mechanism}=[name={name},password={password}]")]);
            }
        }
        let output = format.output().unwrap_or_else(|error| panic!("java: {error}; {}", crate::cluster::SET_UP));
        assert!(output.status.success(), "formatting failed: {}{}", lossy(&output.stdout), lossy(&output.stderr));
        node
    }

    /// With its folder `remove`d when this process ends.
    pub fn removed_with(mut self, remove: &Path) -> Self {
        self.remove = Some(remove.to_owned());
        self
    }

    pub fn start(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        let broker = self.java("kafka.Kafka");
        let mut keeper = Command::new("/bin/sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(self.remove.as_deref().unwrap_or(Path::new("")));
        keeper.arg(self.log()).arg(broker.get_program()).args(broker.get_args());
        keeper.arg(self.folder.join("server.properties"));
        let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut pid = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        let broker = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        self.running = Some(Running { keeper, broker });
    }

    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.broker.as_raw_nonzero().get().unsigned_abs())
    }

    /// Ends it as a power failure does.
    pub fn kill(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        drop(running.keeper.stdin.take());
        running.keeper.wait().unwrap();
    }

    /// The last of what it said.
    pub fn words(&self) -> String {
        let said = fs::read(self.log()).unwrap_or_default();
        lossy(&said[said.len().saturating_sub(WORDS_SHOWN_MAX)..])
    }

    /// One of Kafka's programs.
    pub fn java(&self, class: &str) -> Command {
        let mut command = Command::new("java");
        let jars = format!("{}/*", self.version.jars().display());
        command.args(JVM).args(["-Djava.awt.headless=true", LOGGING, "-cp", &jars, class]);
        command
    }

    fn log(&self) -> PathBuf {
        self.folder.join("broker.log")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
