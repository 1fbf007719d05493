//! What `packaging/manual` makes: pages without a complaint, completions that complete, and nothing in them that the
//! program does not know. groff, mandoc and the shells come by `tests/run`.

mod config;
#[path = "../../packaging/manual/pages/mod.rs"]
mod pages;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use clap::{CommandFactory, Parser};
use pingeon::cli::Cli;

const PAGES: [&str; 2] = ["pingeon.1", "pingeon.yaml.5"];

/// The folder with all that was made, once for all tests.
fn made() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| make("manual"))
}

fn make(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    pages::write(&folder).unwrap();
    folder
}

/// What `command` prints; it must end well and complain of nothing.
fn run(command: &mut Command) -> String {
    let shown = format!("{command:?}");
    let output = command.output().unwrap_or_else(|error| panic!("{shown}: {error}; `tests/run` installs it"));
    assert!(output.status.success(), "{shown}: {}", all_of(&output));
    assert!(output.stderr.is_empty(), "{shown}: {}", all_of(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn all_of(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A page's source, with its escapes taken back: what is on it, line by line.
fn page(name: &str) -> String {
    let mut text = std::fs::read_to_string(made().join(name)).unwrap();
    for (escape, stands_for) in [
        ("\\fB", ""),
        ("\\fI", ""),
        ("\\fR", ""),
        ("\\&", ""),
        ("\\-", "-"),
        ("\\(ti", "~"),
        ("\\(ha", "^"),
        ("\\(aq", "'"),
        ("\\(ga", "`"),
        ("\\(dq", "\""),
        ("\\(->", "→"),
        ("\\e", "\\"),
    ] {
        text = text.replace(escape, stands_for);
    }
    text
}

/// The examples on a page.
fn examples(name: &str) -> Vec<String> {
    page(name).split("\n.EX\n").skip(1).map(|rest| rest.split("\n.EE\n").next().unwrap().to_owned()).collect()
}

#[test]
fn no_page_is_complained_of() {
    let released = include_str!("../../CHANGELOG.md").lines().any(|line| line.contains("] - "));
    for name in PAGES {
        let path = made().join(name);
        run(Command::new("groff").args(["-ww", "-z", "-k", "-Tutf8", "-man"]).arg(&path));
        // mandoc says what it thinks on standard output, and misses a date as long as nothing was released.
        let complaints =
            Command::new("mandoc").arg("-Tlint").arg(&path).output().expect("mandoc; `tests/run` installs it");
        let complaints = all_of(&complaints);
        let complaints: Vec<&str> = complaints
            .lines()
            .filter(|line| !line.is_empty() && (released || !line.contains("missing date, using \"\": TH")))
            .collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
        let shown = run(Command::new("groff").args(["-k", "-Tutf8", "-man"]).arg(&path));
        assert!(!shown.contains(['`', '*']) || name == "pingeon.yaml.5", "a mark is left in {name}");
    }
}

#[test]
fn the_same_source_makes_the_same_bytes() {
    let again = make("manual-again");
    for name in PAGES.iter().chain(&["pingeon.bash", "_pingeon", "pingeon.fish"]) {
        let bytes = |folder: &Path| std::fs::read(folder.join(name)).unwrap();
        assert!(bytes(made()) == bytes(&again), "{name}");
    }
}

#[test]
fn the_page_has_every_command_and_option() {
    let page = page("pingeon.1");
    for command in Cli::command().get_subcommands() {
        let begin = format!("\n.SS \"{}", command.get_name());
        assert!(page.contains(&begin), "{begin}");
        let own = page.split(&begin).nth(1).unwrap().split("\n.S").next().unwrap();
        for argument in command.get_arguments() {
            let typed = argument
                .get_long()
                .map_or_else(|| argument.get_id().as_str().to_uppercase(), |long| format!("--{long}"));
            let tag = format!("\n.TP\n{}", typed.trim_end_matches('S'));
            assert!(own.contains(&tag), "{} is not on the page of {}", tag.trim(), command.get_name());
        }
    }
}

#[test]
fn the_page_has_every_variable_that_is_read() {
    let page = page("pingeon.1");
    let names = variables_read();
    assert!(names.contains(&"NO_COLOR".to_owned()), "the sources are not read as they are written: {names:?}");
    for name in names {
        assert!(page.contains(&name), "`{name}` is read from the environment and not on the page");
    }
}

/// The names in the calls by which the sources read the environment.
fn variables_read() -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let product = text.split("#[cfg(test)]").next().unwrap_or_default();
            for call in ["env::var(\"", "env::var_os(\"", "variable(\"", "proxy(\"", "either(\""] {
                names.extend(product.split(call).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()));
            }
        }
    }
    names
}

#[test]
fn the_commands_on_the_page_are_understood() {
    let examples = examples("pingeon.1");
    assert!(examples.len() > 3, "the page is not read as it is written: {examples:?}");
    for line in examples.iter().flat_map(|example| example.lines()) {
        if let Err(error) = Cli::try_parse_from(line.split_whitespace()) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn completions_are_scripts() {
    for (shell, name) in [("bash", "pingeon.bash"), ("zsh", "_pingeon"), ("fish", "pingeon.fish")] {
        run(Command::new(shell).arg("-n").arg(made().join(name)));
    }
    // By this line zsh finds it in its `fpath`.
    let zsh = std::fs::read_to_string(made().join("_pingeon")).unwrap();
    assert_eq!(zsh.lines().next(), Some("#compdef pingeon"));
}

#[test]
fn bash_completes() {
    // What Tab does: it calls the function that the script names for `pingeon`.
    let tab = r#"
        source "$0"
        [[ $(complete -p pingeon) =~ -F\ ([^ ]+) ]]
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
        "${BASH_REMATCH[1]}" pingeon "${@: -1}" "${@: -2:1}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    for (typed, completed) in [
        (["pingeon", "rep"].as_slice(), "report"),
        (&["pingeon", "report", "--qu"], "--quorum"),
        (&["pingeon", "report", "--format", "c"], "csv"),
        (&["pingeon", "--conf"], "--config"),
    ] {
        let script = made().join("pingeon.bash");
        let offered = run(Command::new("bash").args(["--norc", "-c", tab]).arg(script).args(typed));
        assert_eq!(offered.trim(), completed, "{typed:?}");
    }
}

#[test]
fn fish_completes() {
    for (typed, completed) in
        [("pingeon rep", "report"), ("pingeon report --quo", "--quorum"), ("pingeon report --format c", "csv")]
    {
        let mut fish = Command::new("fish");
        fish.args(["--no-config", "-c", "source $argv[1]; complete -C $argv[2]"])
            .arg(made().join("pingeon.fish"))
            .arg(typed);
        let offered = run(fish.env("HOME", made()));
        assert_eq!(offered.split_whitespace().next(), Some(completed), "{typed}: {offered}");
    }
}
