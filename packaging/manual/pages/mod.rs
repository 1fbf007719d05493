//! The man pages and completions, out of the command line's own definition and the table of the config's keys. The same source
//! makes the same bytes. `tests/manual` holds them against the program.

mod command;
mod config;
pub mod keys;
mod roff;

use std::path::Path;
use std::{fs, io};

use clap::CommandFactory;
use clap_complete::{Shell, generate};
use pingeon::cli::Cli;

/// Writes `pingeon.1`, `pingeon.yaml.5`, `pingeon.bash`, `_pingeon` (zsh) and `pingeon.fish` into a folder, made where there is none.
///
/// # Errors
/// What is wrong with the folder.
pub fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let date = newest(include_str!("../../../CHANGELOG.md")).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn the_date_is_that_of_the_newest_release() {
        for (changelog, date) in [
            ("# Changelog\n\n## [Unreleased]\n\n### Added\n", None),
            ("## [Unreleased]\n\n## [0.2.0] - 2026-12-01\n\n## [0.1.0] - 2026-11-27\n", Some("2026-12-01")),
        ] {
            assert_eq!(newest(changelog), date, "{changelog}");
        }
    }
}
