//! `exec` checks: their settings. Not available in this build yet; `config` refuses them.

use std::path::PathBuf;

use crate::secret::Secret;

/// Which monitoring plugin to run.
#[derive(Clone, Debug)]
pub struct Exec {
    /// The program.
    pub program: PathBuf,
    /// Its arguments; what the environment gave to one may be a secret.
    pub arguments: Vec<Secret>,
    /// All of its environment; values may be secrets.
    pub env: Vec<(String, Secret)>,
}
