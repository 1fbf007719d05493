//! A regular expression that is shown as it was typed, so without what the environment gave to it.

use std::fmt;
use std::str::FromStr;

use regex::bytes::Regex;

use crate::secret::{Origin, Secret};

/// A regular expression, of the dialect of the `regex` crate.
#[derive(Clone)]
pub struct Pattern {
    regex: Regex,
    /// What it was made of, where that is not all that was typed.
    apart: Option<Secret>,
}

impl Pattern {
    /// `regex`, which was made of `given`.
    pub(crate) fn new(regex: Regex, given: Secret) -> Self {
        Pattern { regex, apart: given.origin().is_some().then_some(given) }
    }

    /// What matches. Its text is not to be shown.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }

    /// What it was made of, where that is not all that was typed.
    pub(crate) fn apart(&self) -> Option<&Secret> {
        self.apart.as_ref()
    }
}

impl FromStr for Pattern {
    type Err = regex::Error;

    fn from_str(text: &str) -> Result<Self, regex::Error> {
        Ok(Pattern { regex: text.parse()?, apart: None })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.apart.as_ref().map(Secret::origin) {
            None => self.regex.as_str(),
            Some(Some(Origin::Environment { typed, .. })) => typed,
            Some(_) => "***",
        })
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}
