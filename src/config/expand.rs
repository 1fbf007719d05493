//! `${NAME}` from the environment and `{name}` from a check's `for`, filled into a text in one pass.
//!
//! What was filled in is not looked at again, so a value that holds `${` or `{` stays as it is. `$${` writes `${`; in an
//! entry with `for`, `{{` and `}}` write braces. Without `for`, braces mean nothing, but in a step of a check: see
//! [`references`](super::references).

use std::borrow::Cow;
use std::cell::Cell;
use std::ops::Range;

use super::error::Complaint;
use super::references::{self, Braces, Names, REFERENCES_MAX};
use crate::secret::{Gap, Origin, Secret};

/// The environment: a name's value, if it is set.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variables of a check's `for`, each with its value.
pub(super) struct Variables<'a> {
    values: Vec<(&'a str, &'a Expanded<'a>)>,
    used: Cell<u64>,
}

impl<'a> Variables<'a> {
    /// At most 64 of them.
    pub(super) fn new(values: Vec<(&'a str, &'a Expanded<'a>)>) -> Self {
        Variables { values, used: Cell::new(0) }
    }

    /// Those that no text has named so far.
    pub(super) fn unused(&self) -> impl Iterator<Item = &'a str> {
        self.values
            .iter()
            .enumerate()
            .filter(|(index, _)| self.used.get() & (1 << index) == 0)
            .map(|(_, (name, _))| *name)
    }

    /// Whether this is one of them.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.iter().any(|(known, _)| *known == name)
    }

    fn value(&self, name: &str, names: Option<&Names>) -> Result<&'a Expanded<'a>, Complaint> {
        match self.values.iter().position(|(known, _)| *known == name) {
            Some(index) => {
                self.used.set(self.used.get() | (1 << index));
                Ok(self.values[index].1)
            }
            None => {
                let nor = if names.is_some() { ", and no step before takes it" } else { "" };
                let complaint = Complaint::new(format!("`{{{name}}}` is no variable of this entry's `for`{nor}"));
                let taken = names.into_iter().flat_map(Names::iter);
                let near = complaint.nearest(name, self.values.iter().map(|(known, _)| *known).chain(taken));
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
    /// The same as an entry without `for` would have it: what the environment gave is still the `${NAME}` that was typed.
    pub(super) typed: Cow<'t, str>,
    /// Where in `text` the environment gave something, in order: none of this may be shown unless it is known to be no secret.
    pub(super) given: Vec<Range<usize>>,
    /// Where in `text` values go that steps before take, in order.
    pub(super) gaps: Vec<Gap>,
    /// Whether any of it refers to the environment, which may have left it to a default.
    pub(super) from_environment: bool,
    /// The one variable that all of the text came from, if it was `${NAME}`.
    pub(super) name: Option<&'t str>,
}

impl<'t> Expanded<'t> {
    /// A text that refers to nothing.
    pub(super) fn plain(text: &'t str) -> Self {
        Expanded {
            text: text.into(),
            typed: text.into(),
            given: Vec::new(),
            gaps: Vec::new(),
            from_environment: false,
            name: None,
        }
    }

    /// A text that comes from elsewhere and is taken as it is.
    pub(super) fn owned(text: String) -> Self {
        let typed = text.replace("${", "$${");
        Expanded {
            text: text.into(),
            typed: typed.into(),
            given: Vec::new(),
            gaps: Vec::new(),
            from_environment: false,
            name: None,
        }
    }
}

impl Expanded<'_> {
    /// The text as a secret that knows what of it the environment gave.
    pub(super) fn secret(&self) -> Secret {
        let secret = Secret::new(&*self.text);
        match self.origin() {
            Some(origin) => secret.from(origin),
            None => secret,
        }
    }

    /// What of the text the environment gave, if any.
    pub(super) fn origin(&self) -> Option<Origin> {
        let parts: Vec<_> = self.given.iter().map(|range| Secret::new(&self.text[range.clone()])).collect();
        let (typed, whole) = (self.typed.to_string(), self.name.is_some());
        if !self.gaps.is_empty() {
            return Some(Origin::Steps { typed, parts, gaps: self.gaps.clone() });
        }
        // Braces of a step that stay were typed in another way.
        let apart = !parts.is_empty() || self.typed.contains("{{");
        apart.then_some(Origin::Environment { typed, whole, parts })
    }
}

/// Fills in what `text` refers to; what `names` name, where it stands in a step of a check, gets a gap.
pub(super) fn expand<'t>(
    text: &'t str,
    environment: Environment<'_>,
    variables: Option<&Variables<'_>>,
    names: Option<&Names>,
) -> Result<Expanded<'t>, Complaint> {
    let braces = (variables.is_some() || names.is_some()) && text.contains(['{', '}']);
    if !text.contains("${") && !braces {
        return Ok(Expanded::plain(text));
    }
    let mut filled = Filled { in_step: names.is_some(), ..Filled::default() };
    let mut name = None;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("$${") {
            filled.literal("${");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            let (reference, after) = after.split_once('}').ok_or_else(|| {
                Complaint::new("`${` has no `}`").hint("`${NAME}` takes an environment variable, `$${` writes `${`")
            })?;
            name = (after.is_empty() && rest.len() == text.len() && is_name(reference)).then_some(reference);
            filled.from_environment = true;
            match look_up(reference, environment)? {
                Found::Given(value) => filled.given(&value, &format!("${{{reference}}}")),
                Found::Default(default) => filled.literal(default),
            }
            rest = after;
        } else if let (Some(variables), '{' | '}') = (variables, first) {
            rest = template(rest, variables, names, &mut filled)?;
        } else if let (Some(names), '{') = (names, first) {
            rest = in_step(rest, names, &mut filled)?;
        } else {
            let (piece, after) = rest.split_at(first.len_utf8());
            filled.literal(piece);
            rest = after;
        }
    }
    let Filled { text, typed, given, gaps, from_environment, .. } = filled.done();
    if gaps.len() > REFERENCES_MAX {
        return Err(format!("more than {REFERENCES_MAX} references to what steps take").into());
    }
    Ok(Expanded { text: text.into(), typed: typed.into(), given, gaps, from_environment, name })
}

/// A text under way.
#[derive(Default)]
struct Filled {
    text: String,
    typed: String,
    given: Vec<Range<usize>>,
    gaps: Vec<Gap>,
    from_environment: bool,
    in_step: bool,
    /// How much of `text` is in `typed` already; the rest is literal.
    written: usize,
}

impl Filled {
    fn literal(&mut self, text: &str) {
        self.text += text;
    }

    fn given(&mut self, value: &str, typed: &str) {
        self.write_literal();
        self.given.push(self.text.len()..self.text.len() + value.len());
        self.text += value;
        self.typed += typed;
        self.written = self.text.len();
    }

    /// A gap for a value that a step before takes.
    fn gap(&mut self, name: &str, value: usize) {
        self.write_literal();
        let reference = format!("{{{name}}}");
        self.gaps.push(Gap { at: self.text.len()..self.text.len() + reference.len(), value });
        self.text += &reference;
        self.typed += &reference;
        self.written = self.text.len();
    }

    /// Takes in a text that was filled in before.
    fn insert(&mut self, value: &Expanded<'_>) {
        self.from_environment |= value.from_environment;
        if value.given.is_empty() {
            return self.literal(&value.text);
        }
        self.write_literal();
        let begin = self.text.len();
        self.given.extend(value.given.iter().map(|range| begin + range.start..begin + range.end));
        self.text += &value.text;
        self.typed += &self.kept(&value.typed);
        self.written = self.text.len();
    }

    /// Writes what is literal so that nothing in it is filled in again.
    fn write_literal(&mut self) {
        let literal = self.text[self.written..].replace("${", "$${");
        self.typed += &self.kept(&literal);
        self.written = self.text.len();
    }

    /// Without a reference to what a step takes, where that would be one.
    fn kept<'l>(&self, literal: &'l str) -> Cow<'l, str> {
        if self.in_step { references::kept(literal).into() } else { literal.into() }
    }

    fn done(mut self) -> Self {
        self.write_literal();
        self
    }
}

/// Takes in what `rest`, which begins with a brace, begins with; what comes after.
fn template<'t>(
    rest: &'t str,
    variables: &Variables<'_>,
    names: Option<&Names>,
    filled: &mut Filled,
) -> Result<&'t str, Complaint> {
    for brace in ["{{", "}}"] {
        if let Some(after) = rest.strip_prefix(brace) {
            filled.literal(&brace[..1]);
            return Ok(after);
        }
    }
    let named = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).filter(|(name, _)| !name.contains('{'));
    let (name, after) = named
        .ok_or_else(|| Complaint::new(format!("`{}` stands alone", rest.get(..1).unwrap_or_default())).hint(BRACES))?;
    match names.and_then(|names| names.find(name)).filter(|_| !variables.has(name)) {
        Some(value) => filled.gap(name, value),
        None => filled.insert(variables.value(name, names)?),
    }
    Ok(after)
}

/// The same in an entry without `for`.
fn in_step<'t>(rest: &'t str, names: &Names, filled: &mut Filled) -> Result<&'t str, Complaint> {
    match references::braces(rest) {
        Braces::Literal(literal, after) => {
            filled.literal(literal);
            Ok(after)
        }
        Braces::Reference(name, after) => {
            filled.gap(name, names.find(name).ok_or_else(|| names.unknown(name))?);
            Ok(after)
        }
    }
}

/// What a reference stands for.
enum Found<'t> {
    /// The environment's own value.
    Given(String),
    /// The default that was typed.
    Default(&'t str),
}

fn look_up<'t>(reference: &'t str, environment: Environment<'_>) -> Result<Found<'t>, Complaint> {
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
        (Some(value), None) => Ok(Found::Given(value)),
        (Some(value), Some(_)) if !value.is_empty() => Ok(Found::Given(value)),
        (_, Some(default)) => Ok(Found::Default(default)),
        (None, None) => Err(Complaint::new(format!("the environment variable `{name}` is not set"))
            .hint(format!("set it, or give a default: `${{{name}:-default}}`"))),
    }
}

pub(super) fn is_name(name: &str) -> bool {
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
            let host = Expanded::plain("b");
            let variables = Variables::new(vec![("host", &host)]);
            let expanded = expand(text, &environment, templated.then_some(&variables), None);
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
            let host = Expanded::plain("b");
            let variables = Variables::new(vec![("host", &host)]);
            let expanded = expand(text, &environment, Some(&variables), None);
            assert_eq!(expanded.map_err(|complaint| complaint.what), Err(why.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_the_environment_gave_is_known_and_can_be_typed_again() {
        let token = expand("<${TOKEN}>", &environment, None, None).unwrap();
        let variables = Variables::new(vec![("token", &token)]);
        for (text, typed, given) in [
            ("https://${HOST}/?a=${TOKEN}", "https://${HOST}/?a=${TOKEN}", vec!["a.example.com", "hunter2"]),
            ("${TOKEN:-x}", "${TOKEN:-x}", vec!["hunter2"]),
            ("${NOBODY:-x}y", "xy", vec![]),
            ("$${TOKEN}}$", "$${TOKEN}$", vec![]),
            ("{token}{{", "<${TOKEN}>{", vec!["hunter2"]),
            ("ü{token}ü${ODD}", "ü<${TOKEN}>ü${ODD}", vec!["hunter2", "${HOST} {host}"]),
        ] {
            let expanded = expand(text, &environment, Some(&variables), None).unwrap();
            assert_eq!(expanded.typed, typed, "{text}");
            let parts: Vec<&str> = expanded.given.iter().map(|range| &expanded.text[range.clone()]).collect();
            assert_eq!(parts, given, "{text}");
            assert_eq!(expand(&expanded.typed, &environment, None, None).unwrap().text, expanded.text, "{text}");
        }
        assert_eq!(expand("${TOKEN}", &environment, None, None).unwrap().name, Some("TOKEN"));
        assert_eq!(expand("x${TOKEN}", &environment, None, None).unwrap().name, None);
    }
}
