//! One broker process: its settings, its start, its end.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cluster::Version;
use crate::daemon::{Daemon, End};

/// Small and soon up, for brokers that live for minutes; a benchmark has them work as at a user's.
const JVM: &[&str] = if cfg!(debug_assertions) {
    &["-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
} else {
    &["-Xms512m", "-Xmx512m", "-XX:+UseG1GC"]
};
/// Of slf4j-simple: warnings, on standard error.
const LOGGING: &str = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn";

/// A broker's folder: settings, data, log.
pub struct Node {
    version: Version,
    folder: PathBuf,
    /// What to remove when the process ends.
    remove: Option<PathBuf>,
    running: Option<Daemon>,
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
        let mut words: Vec<OsString> = vec![broker.get_program().to_owned()];
        words.extend(broker.get_args().map(OsString::from));
        words.push(self.folder.join("server.properties").into());
        let log = self.folder.join("broker.log");
        self.running = Some(Daemon::start(&[], &words, End::Kill, &log, self.remove.as_deref()));
    }

    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Daemon::pid)
    }

    /// Ends it as a power failure does.
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.end("KILL");
        }
    }

    /// The last of what it said.
    pub fn words(&self) -> String {
        self.running.as_ref().map(Daemon::words).unwrap_or_default()
    }

    /// One of Kafka's programs.
    pub fn java(&self, class: &str) -> Command {
        let mut command = Command::new("java");
        let jars = format!("{}/*", self.version.jars().display());
        command.args(JVM).args(["-Djava.awt.headless=true", LOGGING, "-cp", &jars, class]);
        command
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
