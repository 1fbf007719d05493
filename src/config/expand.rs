//! `${NAME}` from the environment and `{name}` from a check's `for`, filled into a text in one pass.
//!
//! What was filled in is not looked at again, so a value that holds `${` or `{` stays as it is. `$${` writes `${`; in an
//! entry with `for`, `{{` and `}}` write braces. Without `for`, braces mean nothing.

use std::borrow::Cow;
use std::cell::Cell;

use super::error::Complaint;

/// The environment: a name's value, if it is set.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variables of a check's `for`, each with its value.
pub(super) struct Variables<'a> {
    values: Vec<(&'a str, &'a str)>,
    used: Cell<u64>,
}

impl<'a> Variables<'a> {
    /// At most 64 of them.
    pub(super) fn new(values: Vec<(&'a str, &'a str)>) -> Self {
        Variables { values, used: Cell::new(0) }
    }

    /// The first that no text has named so far.
    pub(super) fn unused(&self) -> Option<&'a str> {
        let index = (0..self.values.len()).find(|index| self.used.get() & (1 << index) == 0)?;
        Some(self.values[index].0)
    }

    fn value(&self, name: &str) -> Result<&'a str, Complaint> {
        match self.values.iter().position(|(known, _)| *known == name) {
            Some(index) => {
                self.used.set(self.used.get() | (1 << index));
                Ok(self.values[index].1)
            }
            None => {
                let complaint = Complaint::new(format!("`{{{name}}}` is no variable of this entry's `for`"));
                let near = complaint.nearest(name, self.values.iter().map(|(known, _)| *known));
                Err(match near.hint.as_deref().is_some_and(|hint| hint.starts_with("did you")) {
                    true => near,
                    false => near.hint(BRACES),
                })
            }
        }
    }
}

const BRACES: &str = "in an entry with `for`, write `{{` and `}}` for braces that stay";

/// A text with everything filled in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expanded<'t> {
    /// The text.
    pub(super) text: Cow<'t, str>,
    /// The same, with `***` for what the environment gave after the first `?`: a token in a URL stays out of the logs.
    pub(super) shown: Cow<'t, str>,
    /// Whether any of it came from the environment.
    pub(super) from_environment: bool,
    /// The one variable that all of the text came from, if it was `${NAME}`.
    pub(super) name: Option<&'t str>,
}

/// Fills in what `text` refers to.
pub(super) fn expand<'t>(
    text: &'t str,
    environment: Environment<'_>,
    variables: Option<&Variables<'_>>,
) -> Result<Expanded<'t>, Complaint> {
    let braces = variables.is_some() && text.contains(['{', '}']);
    if !text.contains("${") && !braces {
        return Ok(Expanded { text: text.into(), shown: text.into(), from_environment: false, name: None });
    }
    let (mut filled, mut shown) = (String::with_capacity(text.len()), String::with_capacity(text.len()));
    let mut from_environment = false;
    let mut name = None;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let piece: Cow<'_, str>;
        let mut hidden = false;
        if let Some(after) = rest.strip_prefix("$${") {
            (piece, rest) = ("${".into(), after);
        } else if let Some(after) = rest.strip_prefix("${") {
            let (reference, after) = after.split_once('}').ok_or_else(|| {
                Complaint::new("`${` has no `}`").hint("`${NAME}` takes an environment variable, `$${` writes `${`")
            })?;
            name = (after.is_empty() && rest.len() == text.len() && is_name(reference)).then_some(reference);
            (piece, rest) = (look_up(reference, environment)?.into(), after);
            hidden = filled.contains('?');
            from_environment = true;
        } else if let (Some(variables), '{' | '}') = (variables, first) {
            (piece, rest) = template(rest, variables)?;
        } else {
            let length = first.len_utf8();
            (piece, rest) = (rest[..length].into(), &rest[length..]);
        }
        filled += &piece;
        shown += if hidden { "***" } else { &piece };
    }
    Ok(Expanded { text: filled.into(), shown: shown.into(), from_environment, name })
}

/// What `rest`, which begins with a brace, begins with, and what comes after.
fn template<'t>(rest: &'t str, variables: &Variables<'_>) -> Result<(Cow<'t, str>, &'t str), Complaint> {
    for brace in ["{{", "}}"] {
        if let Some(after) = rest.strip_prefix(brace) {
            return Ok((brace[..1].into(), after));
        }
    }
    let named = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).filter(|(name, _)| !name.contains('{'));
    let (name, after) = named
        .ok_or_else(|| Complaint::new(format!("`{}` stands alone", rest.get(..1).unwrap_or_default())).hint(BRACES))?;
    Ok((variables.value(name)?.to_owned().into(), after))
}

fn look_up(reference: &str, environment: Environment<'_>) -> Result<String, Complaint> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    if !is_name(name) {
        let complaint = Complaint::new(format!("`${{{name}}}` names no environment variable"));
        return Err(complaint.hint("a name is letters, digits and `_`; `$${` writes `${`"));
    }
    match (environment(name), default) {
        // As in a shell, a default also stands in for an empty value.
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Complaint::new(format!("the environment variable `{name}` is not set"))
            .hint(format!("set it, or give a default: `${{{name}:-default}}`"))),
    }
}

fn is_name(name: &str) -> bool {
    let word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    word && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("a.example.com".to_owned()),
            "TOKEN" => Some("hunter2".to_owned()),
            "ODD" => Some("${HOST} {host}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn texts_are_filled_in() {
        for (text, templated, filled) in [
            ("plain", false, "plain"),
            ("https://${HOST}/", false, "https://a.example.com/"),
            ("${NOBODY:-x y}", false, "x y"),
            ("${EMPTY:-x}", false, "x"),
            ("${EMPTY}", false, ""),
            ("$${HOST}", false, "${HOST}"),
            ("$HOST {host} }{", false, "$HOST {host} }{"),
            ("web-{host}", true, "web-b"),
            ("{{{host}}} ${HOST}", true, "{b} a.example.com"),
            ("${ODD}", true, "${HOST} {host}"),
            ("ü${HOST}ü", false, "üa.example.comü"),
        ] {
            let variables = Variables::new(vec![("host", "b")]);
            let expanded = expand(text, &environment, templated.then_some(&variables));
            assert_eq!(expanded.map(|expanded| expanded.text.into_owned()), Ok(filled.to_owned()), "{text}");
        }
    }

    #[test]
    fn texts_that_cannot_be_filled_in_say_why() {
        for (text, why) in [
            ("${NOBODY}", "the environment variable `NOBODY` is not set"),
            ("${HOST", "`${` has no `}`"),
            ("${}", "`${}` names no environment variable"),
            ("${1A}", "`${1A}` names no environment variable"),
            ("{hots}", "`{hots}` is no variable of this entry's `for`"),
            ("a { b", "`{` stands alone"),
            ("a } b", "`}` stands alone"),
        ] {
            let variables = Variables::new(vec![("host", "b")]);
            let expanded = expand(text, &environment, Some(&variables));
            assert_eq!(expanded.map_err(|complaint| complaint.what), Err(why.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_the_environment_gives_to_a_query_is_not_shown() {
        let expanded = expand("https://${HOST}/?a=1&token=${TOKEN}", &environment, None).unwrap();
        assert_eq!(expanded.shown, "https://a.example.com/?a=1&token=***");
        assert_eq!(expand("${TOKEN}", &environment, None).unwrap().name, Some("TOKEN"));
        assert_eq!(expand("x${TOKEN}", &environment, None).unwrap().name, None);
    }
}
