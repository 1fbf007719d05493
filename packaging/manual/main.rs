//! Writes what comes with the program and is made from its own source, for whoever packs it:
//! `cargo run --example manual -- FOLDER`.

mod pages;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("error: no folder to write into");
        return ExitCode::from(2);
    };
    match pages::write(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: cannot write to `{}`: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}
