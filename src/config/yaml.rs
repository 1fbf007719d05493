//! YAML text to a tree that holds only what a config can hold, and a place in the tree back to line and column.
//!
//! Refused here, at their line: syntax errors, keys given twice or that are not text, tags, more than one document, nesting
//! and aliases without measure. Anchors, aliases and merge keys (`<<`) are taken in; the tree does not show them.
//! Numbers and the words `true`, `false` and `null` are YAML 1.2's (<https://yaml.org/spec/1.2.2/#103-core-schema>).

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{self, DeserializeSeed, EnumAccess, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::{Complaint, ConfigError};
use super::source::Source;

/// Values in one file, aliases written out: twenty for each of the checks that a config may have.
const NODES_MAX: usize = 2_000_000;
/// Keys in one mapping.
const KEYS_MAX: usize = 1_000;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    Float(f64),
    Text(Box<str>),
    List(Vec<Node>),
    Map(Vec<(Box<str>, Node)>),
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Null => f.write_str("null"),
            Node::Bool(value) => write!(f, "{value}"),
            Node::Unsigned(value) => write!(f, "{value}"),
            Node::Negative(value) => write!(f, "{value}"),
            Node::Float(value) => write!(f, "{value}"),
            Node::Text(text) => f.write_str(text),
            Node::List(_) => f.write_str("[…]"),
            Node::Map(_) => f.write_str("{…}"),
        }
    }
}

/// A step from a value to one inside it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// Reads `source` into a tree.
pub(super) fn parse(source: &Source) -> Result<Node, ConfigError> {
    let state = State { nodes: Cell::new(0), complaint: RefCell::new(None) };
    let document = serde_yaml::Deserializer::from_str(&source.text);
    Build(&state).deserialize(document).map_err(|error| explain(source, state.complaint.into_inner(), &error))
}

/// Line and column (from 1) of the value that `steps` lead to, or of its key. Where they lead nowhere (a missing key, one
/// that was merged in), the place of the mapping that should hold it.
pub(super) fn locate(source: &Source, steps: &[Step<'_>], key: bool) -> Option<(usize, usize)> {
    let document = serde_yaml::Deserializer::from_str(&source.text);
    let error = Locate { steps, key }.deserialize(document).err()?;
    error.location().map(|at| (at.line(), at.column()))
}

fn explain(source: &Source, complaint: Option<Complaint>, error: &serde_yaml::Error) -> ConfigError {
    let place = error.location().map(|at| (at.line(), at.column()));
    let mut text = error.to_string();
    if let Some((line, column)) = place {
        text = text.replacen(&format!(" at line {line} column {column}"), "", 1);
    }
    if let Some(complaint) = complaint {
        // `serde_yaml` puts the path before our own message.
        let path = text.trim_end_matches(MARK).trim_end_matches([' ', ':']).to_owned();
        return ConfigError::at(&source.path, place, path, complaint);
    }
    if text.contains("more than one document") {
        let complaint = Complaint::new("a second document begins here, and a config is one").hint("take the `---` out");
        return ConfigError::at(&source.path, second_document(&source.text), String::new(), complaint);
    }
    let complaint = if text.contains("repetition limit") {
        Complaint::new("aliases repeat too much").hint("write out what they stand for")
    } else if text.contains("recursion limit") {
        Complaint::new("nested deeper than 128 levels")
    } else if text.contains("unknown anchor") {
        Complaint::new("an alias (`*name`) has no anchor (`&name`) before it")
            .hint("put text that begins with `*` in quotes")
    } else {
        let complaint = Complaint::new(format!("not YAML: {text}"));
        match syntax_hint(&source.text, place) {
            Some(hint) => complaint.hint(hint),
            None => complaint,
        }
    };
    ConfigError::at(&source.path, place.or(Some((1, 1))), String::new(), complaint)
}

/// What our own errors say to `serde_yaml`, which adds path and place.
const MARK: &str = "\u{1}";

fn syntax_hint(text: &str, place: Option<(usize, usize)>) -> Option<&'static str> {
    let (line, column) = place?;
    let line = text.lines().nth(line - 1)?;
    let rest: String = line.chars().skip(column - 1).collect();
    if line.trim_start_matches(' ').starts_with('\t') {
        return Some("YAML is indented with spaces, not with tabs");
    }
    match rest.chars().next()? {
        '@' | '`' | '%' => Some("put text that begins with this character in quotes"),
        ':' => Some("put text that holds `: ` in quotes"),
        _ => None,
    }
}

/// Where the second document begins: at the first `---` after some content.
fn second_document(text: &str) -> Option<(usize, usize)> {
    let mut content = false;
    for (index, line) in text.lines().enumerate() {
        if content && line.starts_with("---") {
            return Some((index + 1, 1));
        }
        let line = line.trim_start_matches("---").trim();
        content |= !line.is_empty() && !line.starts_with(['#', '%']);
    }
    Some((1, 1))
}

struct State {
    nodes: Cell<usize>,
    complaint: RefCell<Option<Complaint>>,
}

impl State {
    /// Ends the reading; `serde_yaml` finds out where.
    fn refuse<E: de::Error>(&self, complaint: Complaint) -> E {
        self.complaint.borrow_mut().get_or_insert(complaint);
        E::custom(MARK)
    }

    fn count<E: de::Error>(&self) -> Result<(), E> {
        self.nodes.set(self.nodes.get() + 1);
        if self.nodes.get() <= NODES_MAX {
            return Ok(());
        }
        let complaint = Complaint::new(format!("the file holds more than {NODES_MAX} values, aliases written out"));
        Err(self.refuse(complaint.hint("use aliases (`*name`) for less")))
    }
}

/// Builds the tree.
#[derive(Clone, Copy)]
struct Build<'s>(&'s State);

impl<'de> DeserializeSeed<'de> for Build<'_> {
    type Value = Node;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.0.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Build<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(u64::try_from(value).map_or(Node::Negative(value), Node::Unsigned))
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Node, E> {
        Err(self.0.refuse(Complaint::new("a number that is too large")))
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Node, E> {
        Err(self.0.refuse(Complaint::new("a number that is too large")))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element_seed(self)? {
            nodes.push(node);
        }
        nodes.shrink_to_fit();
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        let mut merged = None;
        while let Some(key) = map.next_key_seed(Key { state: self.0, entries: &entries })? {
            let node = map.next_value_seed(self)?;
            if &*key == "<<" {
                merged = Some(node);
            } else {
                entries.push((key, node));
            }
        }
        if let Some(merged) = merged {
            merge(&mut entries, merged).map_err(|complaint| self.0.refuse(complaint))?;
        }
        entries.shrink_to_fit();
        Ok(Node::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Node, A::Error> {
        tagged.variant::<IgnoredAny>()?;
        // Which one is not said: it may be a password that begins with `!`.
        let complaint = Complaint::new("a tag (`!…`) means nothing in a config");
        Err(self.0.refuse(complaint.hint("put text that begins with `!` in quotes")))
    }
}

/// Takes in what `<<` names: a mapping or a list of them. A key that is there already wins, as does an earlier mapping.
fn merge(entries: &mut Vec<(Box<str>, Node)>, merged: Node) -> Result<(), Complaint> {
    match merged {
        Node::Map(more) => {
            for (key, node) in more {
                if !entries.iter().any(|(known, _)| *known == key) {
                    entries.push((key, node));
                }
            }
            Ok(())
        }
        Node::List(list) if list.iter().all(|node| matches!(node, Node::Map(_))) => {
            list.into_iter().try_for_each(|node| merge(entries, node))
        }
        _ => Err(Complaint::new("`<<` takes in a mapping or a list of mappings, and this is neither")),
    }
}

/// A key: text, and not there yet.
struct Key<'s> {
    state: &'s State,
    entries: &'s [(Box<str>, Node)],
}

impl Key<'_> {
    fn not_text<E: de::Error>(self, what: &str) -> E {
        let complaint = Complaint::new(format!("a key must be text, and this one is {what}"));
        self.state.refuse(complaint.hint("put it in quotes"))
    }
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Box<str>;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Box<str>, D::Error> {
        self.state.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = Box<str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Box<str>, E> {
        if self.entries.iter().any(|(known, _)| &**known == key) {
            let complaint = Complaint::new(format!("`{key}` is given twice"));
            return Err(self.state.refuse(complaint.hint("keep one of them")));
        }
        if self.entries.len() == KEYS_MAX {
            return Err(self.state.refuse(Complaint::new(format!("a mapping of more than {KEYS_MAX} keys"))));
        }
        Ok(key.into())
    }

    fn visit_unit<E: de::Error>(self) -> Result<Box<str>, E> {
        Err(self.not_text("empty"))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Box<str>, E> {
        Err(self.not_text(&format!("the word `{value}`")))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Box<str>, E> {
        Err(self.not_text(&format!("the number `{value}`")))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Box<str>, E> {
        Err(self.not_text(&format!("the number `{value}`")))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Box<str>, E> {
        Err(self.not_text(&format!("the number `{value}`")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Box<str>, A::Error> {
        Err(self.not_text("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Box<str>, A::Error> {
        Err(self.not_text("a mapping"))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Box<str>, A::Error> {
        Err(self.not_text("tagged"))
    }
}

/// Walks along the steps and fails at their end, so that `serde_yaml` says where that is.
struct Locate<'s> {
    steps: &'s [Step<'s>],
    key: bool,
}

impl<'de> DeserializeSeed<'de> for Locate<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Locate<'_> {
    type Value = ();

    /// Whatever is not visited by a method below is the end, and its error has the place too.
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MARK)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if let [Step::Index(index), rest @ ..] = self.steps {
            for _ in 0..*index {
                if list.next_element::<IgnoredAny>()?.is_none() {
                    break;
                }
            }
            list.next_element_seed(Locate { steps: rest, key: self.key })?;
        }
        Err(de::Error::custom(MARK))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let [Step::Key(wanted), rest @ ..] = self.steps {
            let fail = self.key && rest.is_empty();
            while let Some(found) = map.next_key_seed(FindKey { wanted, fail })? {
                if found {
                    map.next_value_seed(Locate { steps: rest, key: self.key })?;
                }
                map.next_value::<IgnoredAny>()?;
            }
        }
        Err(de::Error::custom(MARK))
    }
}

/// Whether a key is the wanted one; fails there if told to.
struct FindKey<'s> {
    wanted: &'s str,
    fail: bool,
}

impl<'de> DeserializeSeed<'de> for FindKey<'_> {
    type Value = bool;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FindKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        match key == self.wanted {
            true if self.fail => Err(E::custom(MARK)),
            found => Ok(found),
        }
    }
}
