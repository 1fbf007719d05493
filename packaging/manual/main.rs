//! Writes what comes with the program and is made from its own source: the man pages `pingeon.1` and `pingeon.yaml.5`, and the
//! completions `pingeon.bash`, `_pingeon` (zsh) and `pingeon.fish`.
//!
//! `cargo run --example manual -- FOLDER`. The same source gives the same bytes.

mod command;
mod config;
mod keys;
mod roff;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

use clap::CommandFactory;
use clap_complete::{Shell, generate};
use pingeon::cli::Cli;

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: manual FOLDER");
        return ExitCode::from(2);
    };
    match write(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: cannot write to `{}`: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let date = newest(include_str!("../../CHANGELOG.md")).unwrap_or_default();
    fs::write(folder.join("pingeon.1"), command::page(Cli::command(), date))?;
    fs::write(folder.join("pingeon.yaml.5"), config::page(date))?;
    for (name, shell) in [("pingeon.bash", Shell::Bash), ("_pingeon", Shell::Zsh), ("pingeon.fish", Shell::Fish)] {
        let mut script = Vec::new();
        generate(shell, &mut Cli::command(), "pingeon", &mut script);
        fs::write(folder.join(name), script)?;
    }
    Ok(())
}

/// The date of the newest release: `2026-11-24` of `## [0.1.0] - 2026-11-24`.
fn newest(changelog: &str) -> Option<&str> {
    changelog.lines().find_map(|line| line.strip_prefix("## [")?.split_once("] - ")).map(|(_, date)| date.trim())
}
