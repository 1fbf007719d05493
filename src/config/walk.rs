//! A place in a config file: the value there, the path to it, and how to take a domain value out of it.
//!
//! A place that holds something wrong turns a [`Complaint`] into a [`ConfigError`] with file, line, column and path.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::error::{Complaint, ConfigError};
use super::expand::{Environment, Expanded, Variables, expand};
use super::references::Names;
use super::shared::Shared;
use super::source::Source;
use super::yaml::{self, Node, Step};
use crate::secret::Secret;

pub(super) type Read<T> = Result<T, ConfigError>;

/// What all places of one reading have in common.
pub(super) struct Reading<'a> {
    pub(super) environment: Environment<'a>,
    /// Relative paths of files to read are relative to this.
    pub(super) directory: PathBuf,
    /// Those of spool and store are to this.
    pub(super) data: PathBuf,
    /// What many checks have in common is kept once.
    pub(super) shared: Shared,
}

/// The way from a file's root to a value.
#[derive(Clone, Copy)]
enum Way<'a> {
    Root,
    Key(&'a Way<'a>, &'a str),
    Index(&'a Way<'a>, usize),
}

/// A place in a file.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) reading: &'a Reading<'a>,
    pub(super) node: &'a Node,
    source: &'a Source,
    variables: Option<&'a Variables<'a>>,
    /// In a step of a check: what the steps before take, and whether what is here may refer to it.
    names: Option<&'a Names>,
    refers: bool,
    /// A secret may stand here, or be typed here by mistake: no message repeats a value.
    quiet: bool,
    way: Way<'a>,
}

impl<'a> At<'a> {
    /// The root of a file.
    pub(super) fn root(reading: &'a Reading<'a>, source: &'a Source, node: &'a Node) -> Self {
        At { reading, node, source, variables: None, names: None, refers: false, quiet: false, way: Way::Root }
    }

    /// The same place, its texts filled in with the variables of a `for`.
    pub(super) fn with(self, variables: &'a Variables<'a>) -> Self {
        At { variables: Some(variables), ..self }
    }

    /// The same place and all within, in a step of a check, where the steps before take what `names` name.
    pub(super) fn after(self, names: &'a Names) -> Self {
        At { names: Some(names), ..self }
    }

    /// The same place and all within, which may refer to what steps before take.
    pub(super) fn referring(self) -> Self {
        At { refers: true, ..self }
    }

    /// Whether a `for` of this entry has a variable of this name.
    pub(super) fn has_variable(&self, name: &str) -> bool {
        self.variables.is_some_and(|variables| variables.has(name))
    }

    /// The same place and all within, where secrets stand: no message repeats a value, as it would when one stands in the
    /// wrong place.
    pub(super) fn quietly(self) -> Self {
        At { quiet: true, ..self }
    }

    /// The same place, as if `node` were there.
    pub(super) fn holding(self, node: &'a Node) -> Self {
        At { node, ..self }
    }

    /// A complaint about what is here.
    pub(super) fn fail(&self, complaint: impl Into<Complaint>) -> ConfigError {
        self.error(complaint.into(), self.steps(), false)
    }

    /// A complaint about what is here, which begins with what was typed: `is not a duration`.
    pub(super) fn refuse(&self, complaint: impl Into<Complaint>) -> ConfigError {
        let mut complaint = complaint.into();
        complaint.what = format!("{} {}", self.typed(), complaint.what);
        self.fail(complaint)
    }

    /// A complaint about one of the keys of the mapping here.
    pub(super) fn fail_key(&self, key: &str, complaint: impl Into<Complaint>) -> ConfigError {
        let mut steps = self.steps();
        steps.push(Step::Key(key));
        self.error(complaint.into(), steps, true)
    }

    fn error(&self, complaint: Complaint, steps: Vec<Step<'_>>, key: bool) -> ConfigError {
        let place = yaml::locate(self.source, &steps, key);
        let shown = &steps[..steps.len() - usize::from(key)];
        ConfigError::at(&self.source.path, place, path(shown, self.quiet), complaint)
    }

    /// Where this place is, for messages about another one: `pingeon.yaml:3:5`.
    pub(super) fn place(&self) -> String {
        let file = self.source.path.display();
        match yaml::locate(self.source, &self.steps(), false) {
            Some((line, column)) => format!("{file}:{line}:{column}"),
            None => file.to_string(),
        }
    }

    fn steps(&self) -> Vec<Step<'a>> {
        let mut steps = Vec::new();
        let mut way = &self.way;
        loop {
            match *way {
                Way::Root => break,
                Way::Key(before, key) => {
                    steps.push(Step::Key(key));
                    way = before;
                }
                Way::Index(before, index) => {
                    steps.push(Step::Index(index));
                    way = before;
                }
            }
        }
        steps.reverse();
        steps
    }

    /// What was typed here, in backticks.
    fn typed(&self) -> String {
        match self.node {
            _ if self.quiet => "what was typed".to_owned(),
            Node::Text(text) => match self.filled_in(text) {
                Ok(Expanded { from_environment: true, .. }) => format!("{}, filled in,", quoted(text)),
                Ok(expanded) => quoted(&expanded.text),
                Err(_) => quoted(text),
            },
            node => format!("`{node}`"),
        }
    }

    /// Something else is here than `expected`.
    pub(super) fn expected(&self, expected: &str) -> ConfigError {
        let found = match self.node {
            Node::Null => "nothing".to_owned(),
            Node::Bool(value) => format!("the word `{value}`"),
            Node::Unsigned(_) | Node::Negative(_) | Node::Float(_) if self.quiet => "a number".to_owned(),
            Node::Unsigned(_) | Node::Negative(_) | Node::Float(_) => format!("the number `{}`", self.node),
            Node::Text(text) if text.is_empty() => "an empty text".to_owned(),
            Node::Text(_) if self.quiet => "a text".to_owned(),
            Node::Text(_) => format!("the text {}", self.typed()),
            Node::List(_) => "a list".to_owned(),
            Node::Map(_) => "a mapping".to_owned(),
        };
        let complaint = Complaint::new(format!("expected {expected}, found {found}"));
        self.fail(match self.node {
            Node::Null => complaint.hint("give it a value or take the key out"),
            Node::Bool(_) | Node::Unsigned(_) | Node::Negative(_) | Node::Float(_) if expected.starts_with("text") => {
                match self.quiet {
                    true => complaint.hint("put it in quotes"),
                    false => complaint.hint(format!("put it in quotes: \"{}\"", self.node)),
                }
            }
            Node::Unsigned(number) if expected == "a duration" => {
                complaint.hint(format!("a unit is missing: `{number}s`?"))
            }
            Node::Unsigned(number) if expected == "a size" => {
                complaint.hint(format!("a unit is missing: `{number}MiB`?"))
            }
            Node::Unsigned(number) if expected.starts_with("a share") => complaint.hint(format!("write `{number}%`")),
            Node::Bool(_) | Node::Unsigned(_) | Node::Text(_) if expected.starts_with("a list") => {
                complaint.hint("a list stands in brackets: `[a, b]`")
            }
            _ => complaint,
        })
    }

    /// The text here, everything filled in.
    pub(super) fn expanded(&self, expected: &str) -> Read<Expanded<'a>> {
        match self.node {
            Node::Text(text) => self.filled_in(text).map_err(|complaint| self.fail(complaint)),
            _ => Err(self.expected(expected)),
        }
    }

    fn filled_in<'t>(&self, text: &'t str) -> Result<Expanded<'t>, Complaint> {
        let names = self.names.filter(|_| self.refers);
        let out_of_place = self.names.filter(|_| !self.refers).and_then(|names| names.named_in(text));
        if let Some(name) = out_of_place {
            let complaint = Complaint::new(format!("`{{{name}}}` is filled in only where something is sent"));
            return Err(
                complaint.hint("in the URL's path and query, in headers, the body, and `auth` (but for `oauth2`)")
            );
        }
        expand(text, self.reading.environment, self.variables, names)
    }

    /// The text here, made into what `make` makes of it. `expected` says what that is: `a duration`.
    pub(super) fn text<T>(&self, expected: &str, make: impl FnOnce(&str) -> Result<T, Complaint>) -> Read<T> {
        make(&self.expanded(expected)?.text).map_err(|complaint| self.refuse(complaint))
    }

    /// The secret here. No message about it shows what was typed.
    pub(super) fn secret(&self) -> Read<Secret> {
        if !matches!(self.node, Node::Text(_)) {
            let hint = "put it in quotes, or better in a file or an environment variable";
            return Err(self.fail(Complaint::new("expected text, found something else").hint(hint)));
        }
        Ok(self.expanded("text")?.secret())
    }

    /// The path here, relative to the config.
    pub(super) fn path_value(&self) -> Read<PathBuf> {
        self.path_in(&self.reading.directory)
    }

    /// The path here, of a file that this process writes.
    pub(super) fn data_path_value(&self) -> Read<PathBuf> {
        self.path_in(&self.reading.data)
    }

    fn path_in(&self, directory: &Path) -> Read<PathBuf> {
        self.text("a path", |text| match text {
            "" => Err("is empty, and a path is not".into()),
            text if text.contains('\0') => Err("holds a NUL byte, and a path does not".into()),
            text => Ok(directory.join(text)),
        })
    }

    /// The number here.
    pub(super) fn number(&self, range: RangeInclusive<u64>) -> Read<u64> {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        let number = match self.node {
            Node::Unsigned(number) => Some(*number),
            Node::Text(text) => {
                let filled = self.expanded(&expected)?.text;
                // Digits in quotes are text; those that were filled in are what was meant.
                filled.parse().ok().filter(|_| *filled != **text)
            }
            _ => None,
        };
        match number {
            Some(number) if range.contains(&number) => Ok(number),
            Some(_) => Err(self.refuse(format!("is not {expected}"))),
            None => Err(self.expected(&expected)),
        }
    }

    /// The word `true` or `false` here.
    pub(super) fn boolean(&self) -> Read<bool> {
        match self.node {
            Node::Bool(value) => Ok(*value),
            Node::Text(text) => match &*self.expanded("true or false")?.text {
                "true" if &**text != "true" => Ok(true),
                "false" if &**text != "false" => Ok(false),
                _ => Err(self.expected("true or false")),
            },
            _ => Err(self.expected("true or false")),
        }
    }

    /// One of several words here.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Read<T> {
        let words = || choices.iter().map(|(word, _)| *word);
        let all = words().collect::<Vec<_>>().join(", ");
        let text = self.expanded(&format!("one of {all}"))?.text;
        let known = choices.iter().find(|(word, _)| *word == text);
        known.map(|(_, choice)| *choice).ok_or_else(|| {
            self.refuse(Complaint::new(format!("is none of {all}")).nearest(&text, words()).unless_known())
        })
    }

    /// The places of the list here, at most `most` of them.
    pub(super) fn list(&'a self, expected: &str, most: usize) -> Read<impl ExactSizeIterator<Item = At<'a>>> {
        match self.node {
            Node::List(nodes) if nodes.len() <= most => Ok(nodes.iter().enumerate().map(|(index, node)| At {
                node,
                way: Way::Index(&self.way, index),
                ..*self
            })),
            Node::List(nodes) => {
                Err(self.fail(format!("a list of {} entries, and there may be {most} at most", nodes.len())))
            }
            _ => Err(self.expected(expected)),
        }
    }

    /// The entries of a mapping with keys of the user's choice.
    pub(super) fn entries(&'a self, expected: &str) -> Read<impl Iterator<Item = (&'a str, At<'a>)>> {
        match self.node {
            Node::Map(entries) => {
                Ok(entries.iter().map(|(key, node)| (&**key, At { node, way: Way::Key(&self.way, key), ..*self })))
            }
            _ => Err(self.expected(expected)),
        }
    }

    /// Makes sure that a mapping is here, and that it has no other keys than `known`.
    pub(super) fn mapping(&self, known: &[&str]) -> Read<()> {
        let Node::Map(entries) = self.node else {
            return Err(self.expected(&format!("a mapping with {}", some_of(known))));
        };
        match entries.iter().find(|(key, _)| !known.contains(&&**key)) {
            None => Ok(()),
            Some((key, _)) => {
                let complaint = Complaint::new(format!("unknown key {}", quoted(&key_alone(key))));
                Err(self.fail_key(
                    key,
                    match key.split_once(':') {
                        Some((name, _)) if known.contains(&name) => complaint.hint("a space is missing after the `:`"),
                        _ => complaint.nearest(key, known.iter().copied()),
                    },
                ))
            }
        }
    }

    /// The place that `key` of the mapping here leads to.
    pub(super) fn get(&'a self, key: &'a str) -> Option<At<'a>> {
        let Node::Map(entries) = self.node else { return None };
        let (_, node) = entries.iter().find(|(known, _)| &**known == key)?;
        Some(At { node, way: Way::Key(&self.way, key), ..*self })
    }

    /// The same, where it must be there; `example` says what it could be.
    pub(super) fn need(&'a self, key: &'a str, example: &str) -> Read<At<'a>> {
        self.get(key).ok_or_else(|| {
            self.fail(Complaint::new(format!("`{key}` is missing")).hint(format!("for example `{key}: {example}`")))
        })
    }

    /// What `read` makes of the value of `key`, if there is one.
    pub(super) fn read<T>(&self, key: &str, read: impl FnOnce(&At<'_>) -> Read<T>) -> Read<Option<T>> {
        match self.get(key) {
            Some(at) => read(&at).map(Some),
            None => Ok(None),
        }
    }
}

impl Complaint {
    /// Without the list of all that is known, where the message has it already.
    fn unless_known(mut self) -> Self {
        self.hint = self.hint.filter(|hint| !hint.starts_with("known: "));
        self
    }
}

/// `text` in backticks, cut to a readable length.
pub(super) fn quoted(text: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    let mut short: String = text.chars().take(CHARACTERS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    let printable: String =
        short.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect();
    format!("`{printable}`")
}

/// A key without what stuck to it where the space after its `:` is missing, which may be a secret: `token:…`.
pub(super) fn key_alone(key: &str) -> Cow<'_, str> {
    match key.find([':', '=']) {
        Some(at) => format!("{}…", &key[..=at]).into(),
        None => key.into(),
    }
}

fn some_of(known: &[&str]) -> String {
    match known {
        [] => "no keys".to_owned(),
        [key] => format!("the key `{key}`"),
        [first, second] => format!("the keys `{first}` and `{second}`"),
        [first, second, ..] => format!("keys such as `{first}` and `{second}`"),
    }
}

fn path(steps: &[Step<'_>], quiet: bool) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Key(key) if quiet && !path.is_empty() => path += &format!(".{}", key_alone(key)),
            Step::Key(key) if path.is_empty() => path += key,
            Step::Key(key) => path += &format!(".{key}"),
            Step::Index(index) => path += &format!("[{index}]"),
        }
    }
    path
}
