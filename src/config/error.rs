//! What is wrong with a config, in one message: where, the key's path, what was expected, and a hint.

use std::fmt;
use std::path::{Path, PathBuf};

/// Why a config cannot be used. Its `Display` is the whole message: `file:line:column: path: what is wrong`, and on a
/// second line `hint: …` where there is one. It never holds a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigError(Box<Parts>);

#[derive(Clone, PartialEq, Eq)]
struct Parts {
    file: Option<PathBuf>,
    place: Option<(usize, usize)>,
    path: String,
    complaint: Complaint,
}

/// What is wrong and what to do about it, before it is known where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    /// A clause without a period.
    pub(super) what: String,
    /// What to do about it.
    pub(super) hint: Option<String>,
}

impl ConfigError {
    /// A complaint about no file in particular.
    pub(super) fn nowhere(complaint: Complaint) -> Self {
        ConfigError(Box::new(Parts { file: None, place: None, path: String::new(), complaint }))
    }

    /// A complaint about a file, with the line and column (both from 1) where it is known, and the key's path.
    pub(super) fn at(file: &Path, place: Option<(usize, usize)>, path: String, complaint: Complaint) -> Self {
        ConfigError(Box::new(Parts { file: Some(file.to_owned()), place, path, complaint }))
    }

    /// The same, of an entry that was filled in with values of other files.
    #[must_use]
    pub(super) fn with_values_of(mut self, places: &[String]) -> Self {
        if !places.is_empty() {
            self.0.complaint.what += &format!(", with the values of {}", places.join(" and "));
        }
        self
    }

    /// All of the message but the hint, on one line.
    pub fn message(&self) -> String {
        let Parts { file, place, path, complaint } = &*self.0;
        let mut message = String::new();
        if let Some(file) = file {
            message += &file.display().to_string();
            if let Some((line, column)) = place {
                message += &format!(":{line}:{column}");
            }
            message += ": ";
        }
        if !path.is_empty() {
            message += &format!("{path}: ");
        }
        // What was typed may hold line breaks; the message is one line all the same.
        message + &complaint.what.replace('\n', "\\n").replace('\r', "\\r")
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.0.complaint.hint.as_deref()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())?;
        self.hint().map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ConfigError {}

impl Complaint {
    /// A complaint without a hint.
    pub(super) fn new(what: impl Into<String>) -> Self {
        Complaint { what: what.into(), hint: None }
    }

    /// With what to do about it.
    #[must_use]
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Complaint { hint: Some(hint.into()), ..self }
    }

    /// With what was probably meant, where one of `known` is near to `typed`, else with all of them where they are few.
    #[must_use]
    pub(super) fn nearest<'a>(self, typed: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        match nearest(typed, &known) {
            Some(near) => self.hint(format!("did you mean `{near}`?")),
            None if known.is_empty() || known.len() > 20 => self,
            None => self.hint(format!("known: {}", known.join(", "))),
        }
    }
}

impl From<&str> for Complaint {
    fn from(what: &str) -> Self {
        Complaint::new(what)
    }
}

impl From<String> for Complaint {
    fn from(what: String) -> Self {
        Complaint::new(what)
    }
}

/// For hints: the one of `known` that takes the fewest edits from `typed`, if these are at most a third of its length.
pub fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    let typed: Vec<char> = typed.chars().take(64).flat_map(char::to_lowercase).collect();
    let most = (typed.len() / 3).max(1);
    let near = known.iter().map(|known| (edits(&typed, &known.to_lowercase().chars().collect::<Vec<_>>()), *known));
    near.filter(|(edits, known)| *edits <= most && *edits < known.chars().count())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, known)| known)
}

/// How many characters to insert, delete, replace or swap with their neighbour (optimal string alignment).
fn edits(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_name_is_the_one_that_was_meant() {
        let known = ["interval", "timeout", "ip", "tls", "redirects"];
        for (typed, meant) in [
            ("intervall", Some("interval")),
            ("Timeout", Some("timeout")),
            ("tiemout", Some("timeout")),
            ("redirect", Some("redirects")),
            ("tsl", Some("tls")),
            ("frequency", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, &known), meant, "{typed}");
        }
    }
}
