//! A JSON object as text, which most hands that it goes through pass on unread.

use std::fmt;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

/// How deep arrays and objects may lie in each other: as deep as what reads JSON into values follows them.
const NESTING_MAX: usize = 127;

/// A JSON object, kept and handed on byte for byte as it came.
#[derive(Clone)]
pub struct Object(Box<RawValue>);

impl Object {
    /// Its text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Its fields as a type has them; `None` where they are others.
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.as_str()).ok()
    }
}

impl From<&Map<String, Value>> for Object {
    fn from(fields: &Map<String, Value>) -> Self {
        let written = to_raw_value(fields);
        // Writing values to memory does not fail: every key is text.
        debug_assert!(written.is_ok(), "{written:?}");
        Object(written.unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }
}

impl Default for Object {
    fn default() -> Self {
        Object::from(&Map::new())
    }
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        if !text.get().starts_with('{') {
            return Err(D::Error::custom("expected a JSON object"));
        }
        if nesting(text.get()) > NESTING_MAX {
            return Err(D::Error::custom(format!("arrays and objects lie in each other more than {NESTING_MAX} deep")));
        }
        Ok(Object(text))
    }
}

/// How deep arrays and objects lie in each other in this JSON text.
fn nesting(json: &str) -> usize {
    let (mut depth, mut most, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => {
                depth += 1;
                most = most.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_as_it_came() {
        let text = r#"{ "b": [1.50, "\u00e9"], "a":1e400 }"#;
        let object: Object = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&object).unwrap(), text);
    }

    #[test]
    fn what_is_no_object_says_so() {
        for (text, reason) in [
            ("[1]", "expected a JSON object"),
            ("null", "expected a JSON object"),
            ("{", "EOF while parsing"),
            (r#"{"a" 1}"#, "expected `:`"),
        ] {
            let error = serde_json::from_str::<Object>(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn nothing_lies_deeper_than_readers_follow() {
        let nested = |depth: usize| format!(r#"{{"a]\"[":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1));
        let (most, more) = (nested(NESTING_MAX), nested(NESTING_MAX + 1));
        let object: Object = serde_json::from_str(&most).unwrap();
        assert!(object.read::<Value>().is_some());
        assert!(serde_json::from_str::<Object>(&more).unwrap_err().to_string().contains("127 deep"));
        assert!(serde_json::from_str::<Value>(&more).is_err());
    }
}
