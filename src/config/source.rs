//! The text of a file that the config is made of.

use std::path::{Path, PathBuf};

use super::error::{Complaint, ConfigError};

/// How large a file may be, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 16 << 20;

/// A file's text, kept until all of it was understood.
pub(super) struct Source {
    /// Where it was read from, as messages name it.
    pub(super) path: PathBuf,
    /// What it holds, without a byte order mark.
    pub(super) text: String,
}

impl Source {
    /// The text that a file holds.
    pub(super) fn new(path: &Path, bytes: Vec<u8>) -> Result<Self, ConfigError> {
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            let line = good.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
            let lines = good.iter().filter(|byte| **byte == b'\n').count();
            let place = (1 + lines, 1 + String::from_utf8_lossy(line).chars().count());
            let complaint = Complaint::new("this byte is not UTF-8").hint("save the file as UTF-8");
            ConfigError::at(path, Some(place), String::new(), complaint)
        })?;
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        Ok(Source { path: path.to_owned(), text })
    }
}
