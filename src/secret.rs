//! A value that cannot be printed.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// A secret: its `Debug` shows `***`, it has no `Display` and no serialisation, and it is seen by [`Secret::expose`] alone.
/// The default is the empty text. Two are equal when their values are, wherever they came from.
#[derive(Clone, Default)]
pub struct Secret {
    value: Arc<str>,
    origin: Option<Arc<Origin>>,
}

/// Where a secret came from, where this can be told without telling the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A file of its own.
    File(PathBuf),
    /// The environment, for a part of it or for all.
    Environment {
        /// What was typed, with a `${NAME}` for each part. What is literal in it may be a secret too.
        typed: String,
        /// Nothing is beside the one `${NAME}`, so that what was typed is no secret.
        whole: bool,
        /// What the environment gave.
        parts: Vec<Secret>,
    },
    /// The answers to steps of a check, for a part of it, and maybe the environment for another.
    Steps {
        /// What was typed, with a `{name}` for each gap and a `${NAME}` for each part.
        typed: String,
        /// What the environment gave.
        parts: Vec<Secret>,
        /// Where values go that steps before take, in order.
        gaps: Vec<Gap>,
    },
}

/// Where a value goes that a step takes out of its answer. Until then a `{name}` is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The bytes of the `{name}`.
    pub at: Range<usize>,
    /// Which value, of all that the steps take in their order.
    pub value: usize,
}

impl Secret {
    /// Hides `value`.
    pub fn new(value: impl Into<Arc<str>>) -> Self {
        Secret { value: value.into(), origin: None }
    }

    /// The value itself. To be called only where it is sent to whom it is for.
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// The same, with where it came from.
    pub(crate) fn from(self, origin: Origin) -> Self {
        Secret { origin: Some(Arc::new(origin)), ..self }
    }

    /// What of it the user has put elsewhere than into the config: in a file of its own or in the environment. Wherever it
    /// comes back from a peer, it must not be shown.
    pub(crate) fn kept_elsewhere(&self) -> Vec<&str> {
        match self.origin() {
            None => Vec::new(),
            Some(Origin::File(_)) => vec![self.expose()],
            Some(Origin::Environment { parts, .. } | Origin::Steps { parts, .. }) => {
                parts.iter().map(Secret::expose).collect()
            }
        }
    }

    /// Where in it values go that steps before take.
    pub(crate) fn gaps(&self) -> &[Gap] {
        match self.origin() {
            Some(Origin::Steps { gaps, .. }) => gaps,
            _ => &[],
        }
    }

    /// Where it came from.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.origin.as_deref()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let parts = vec![Secret::new("hunter2")];
        let origin = Origin::Environment { typed: "${PASSWORD}".to_owned(), whole: true, parts };
        assert!(!format!("{origin:?}").contains("hunter2"));
        let secret = Secret::new("hunter2").from(origin);
        assert_eq!(format!("{:?}", Some(&secret)), "Some(***)");
        assert_eq!(secret.kept_elsewhere(), ["hunter2"]);
        assert!(Secret::new("hunter2").kept_elsewhere().is_empty());
    }
}
