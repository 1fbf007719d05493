//! A value that cannot be printed.

use std::fmt;
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
    /// An environment variable, and nothing beside it.
    Environment(String),
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
        let secret = Secret::new("hunter2").from(Origin::Environment("PASSWORD".to_owned()));
        assert_eq!(format!("{:?}", Some(secret)), "Some(***)");
    }
}
