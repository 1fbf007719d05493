//! YAML written so that it is read back as the same values.

use std::time::Duration;

use super::quantities::duration_text;

/// A value to write.
pub(super) enum Doc {
    /// Written as it is.
    Scalar(String),
    List(Vec<Doc>),
    Map(Map),
}

/// Keys and values, in their order.
#[derive(Default)]
pub(super) struct Map(pub(super) Vec<(String, Doc)>);

impl Map {
    pub(super) fn plain(&mut self, key: &str, value: impl ToString) {
        self.0.push((key.to_owned(), Doc::Scalar(value.to_string())));
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.0.push((key.to_owned(), quote(value)));
    }

    pub(super) fn duration(&mut self, key: &str, value: Option<Duration>) {
        if let Some(value) = value {
            self.plain(key, duration_text(value));
        }
    }

    pub(super) fn list(&mut self, key: &str, value: Vec<Doc>) {
        self.0.push((key.to_owned(), Doc::List(value)));
    }

    pub(super) fn map(&mut self, key: &str, value: Map) {
        self.0.push((key.to_owned(), Doc::Map(value)));
    }
}

pub(super) fn write_map(text: &mut String, map: &Map, indent: usize) {
    for (index, (key, value)) in map.0.iter().enumerate() {
        // The first key of an entry of a list stands behind its dash.
        if index > 0 || indent == 0 || text.ends_with('\n') {
            *text += &" ".repeat(indent);
        }
        *text += &scalar(key);
        text.push(':');
        write_value(text, value, indent);
    }
}

fn write_value(text: &mut String, value: &Doc, indent: usize) {
    match value {
        Doc::Scalar(scalar) => *text += &format!(" {scalar}\n"),
        Doc::List(list) if list.iter().all(|value| matches!(value, Doc::Scalar(_))) => {
            let scalars =
                list.iter().filter_map(|value| if let Doc::Scalar(scalar) = value { Some(&**scalar) } else { None });
            *text += &format!(" [{}]\n", scalars.collect::<Vec<_>>().join(", "));
        }
        Doc::Map(map) if map.0.is_empty() => *text += " {}\n",
        Doc::Map(map) => {
            text.push('\n');
            write_map(text, map, indent + 2);
        }
        Doc::List(list) => {
            text.push('\n');
            for value in list {
                *text += &" ".repeat(indent + 2);
                text.push('-');
                match value {
                    Doc::Map(map) if !map.0.is_empty() => {
                        text.push(' ');
                        write_map(text, map, indent + 4);
                    }
                    value => write_value(text, value, indent + 2),
                }
            }
        }
    }
}

/// A text that is read back as itself: nothing in it is filled in from the environment.
pub(super) fn quote(text: &str) -> Doc {
    Doc::Scalar(scalar(&text.replace("${", "$${")))
}

/// A text in YAML: plain where that is read as the same text, else in double quotes.
pub(super) fn scalar(text: &str) -> String {
    let safe = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte));
    let same = || matches!(serde_yaml::from_str(text), Ok(serde_yaml::Value::String(read)) if read == text);
    if safe && text.bytes().next().is_some_and(|byte| byte != b'-' && byte != b'.') && same() {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\t' => quoted += "\\t",
            // Beside control characters, YAML folds some line breaks and refuses marks and unassigned code points.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') => {
                quoted += &format!("\\U{:08x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_is_read_back_as_itself(text in any::<String>()) {
            let written = format!("{}: [{}]\n", scalar(&text), scalar(&text));
            let read: serde_yaml::Value = serde_yaml::from_str(&written).unwrap();
            prop_assert_eq!(&read[text.as_str()][0], &serde_yaml::Value::String(text.clone()));
        }

        #[test]
        fn any_word_is_read_back_as_itself(text in "[-a-zA-Z0-9_.~/:!&*{}\\[\\],#|>@`\"'%<= ]{0,5}") {
            let written = format!("{}: {}\n", scalar(&text), scalar(&text));
            let read: serde_yaml::Value = serde_yaml::from_str(&written).unwrap();
            prop_assert_eq!(&read[text.as_str()], &serde_yaml::Value::String(text.clone()));
        }
    }
}
