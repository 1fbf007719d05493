//! `for`: one entry, many checks.
//!
//! ```yaml
//! for: {host: [a, b], port: ["80", "443"]}    # every combination
//! for: {host: {file: hosts.txt}}              # one value a line, or a list in JSON
//! for: {file: hosts.csv, path: [/, /health]}  # a table: each row gives all of its columns
//! ```

use std::borrow::Cow;

use super::checks::CHECKS_MAX;
use super::error::{Complaint, ConfigError};
use super::expand::{Expanded, Variables};
use super::tables::{self, Table};
use super::walk::{At, Read, quoted};
use super::yaml::Node;

/// Variables, or tables, of one `for`.
const VARIABLES_MAX: usize = 16;
/// Columns of one table.
pub(super) const COLUMNS_MAX: usize = 32;
/// Variables and columns of one `for` together.
const NAMES_MAX: usize = 64;

/// Whether this may be the name of a variable.
pub(super) fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Values that go together, one row of them at a time.
struct Dimension<'a> {
    names: Vec<Cow<'a, str>>,
    rows: Vec<Vec<Expanded<'a>>>,
    /// Where they came from, if not from the config itself.
    table: Option<Table>,
    /// Each of its variables has to be named in the entry: what was typed has a purpose, a table may have more columns.
    all_used: bool,
}

/// Calls `read` once for an entry without `for`, else once for every combination of its variables' values.
pub(super) fn each_of<'a>(entry: &'a At<'a>, read: &mut dyn FnMut(&At<'_>) -> Read<()>) -> Read<()> {
    let Some(at) = entry.get("for") else {
        return match entry.get("label").and_then(|label| forgotten_variable(&label)) {
            Some(error) => Err(error),
            None => read(entry),
        };
    };
    let entries: Vec<_> = at.entries("a mapping from variables to lists, such as `{host: [a, b]}`")?.collect();
    let dimensions = dimensions(&at, &entries)?;
    let combinations = dimensions.iter().fold(1, |all: usize, dimension| all.saturating_mul(dimension.rows.len()));
    if combinations > CHECKS_MAX {
        return Err(at.fail(format!("makes {combinations} checks, and there may be {CHECKS_MAX} at most")));
    }
    for combination in 0..combinations {
        // The last variable turns fastest.
        let mut rest = combination;
        let mut rows: Vec<usize> = vec![0; dimensions.len()];
        for (row, dimension) in rows.iter_mut().zip(&dimensions).rev() {
            *row = rest % dimension.rows.len();
            rest /= dimension.rows.len();
        }
        let chosen = || dimensions.iter().zip(&rows);
        let values =
            chosen().flat_map(|(dimension, row)| dimension.names.iter().map(|name| &**name).zip(&dimension.rows[*row]));
        let variables = Variables::new(values.collect());
        read(&entry.with(&variables)).map_err(|error| {
            let places = chosen()
                .filter_map(|(dimension, row)| dimension.table.as_ref().map(|table| table.place(&table.rows[*row])));
            error.with_values_of(&places.collect::<Vec<_>>())
        })?;
        let typed = |name: &str| {
            dimensions.iter().any(|dimension| dimension.all_used && dimension.names.iter().any(|known| known == name))
        };
        if let Some(unused) = variables.unused().find(|name| typed(name)) {
            let complaint = Complaint::new(format!("the variable `{unused}` is named nowhere in this entry"));
            return Err(at.fail_key(unused, complaint.hint(format!("write `{{{unused}}}` where its values go"))));
        }
    }
    Ok(())
}

fn dimensions<'a>(at: &At<'_>, entries: &'a [(&'a str, At<'a>)]) -> Read<Vec<Dimension<'a>>> {
    let mut dimensions: Vec<Dimension<'a>> = Vec::new();
    for (key, values) in entries {
        let dimension = dimension(at, key, values)?;
        if dimension.rows.is_empty() {
            let complaint = Complaint::new(match dimension.table {
                Some(_) => "a file without values makes no checks",
                None => "an empty list makes no checks",
            });
            return Err(values.fail(complaint.hint("give it a value")));
        }
        let mut known = dimensions.iter().flat_map(|dimension| &dimension.names);
        if let Some(twice) = known.find(|name| dimension.names.contains(name)) {
            return Err(at.fail_key(key, format!("the variable `{twice}` is given twice")));
        }
        dimensions.push(dimension);
    }
    let names: usize = dimensions.iter().map(|dimension| dimension.names.len()).sum();
    if !(1..=VARIABLES_MAX).contains(&dimensions.len()) {
        return Err(at.fail(format!("expected 1 to {VARIABLES_MAX} variables, found {}", dimensions.len())));
    }
    if names > NAMES_MAX {
        return Err(at.fail(format!("{names} variables and columns, and there may be {NAMES_MAX} at most")));
    }
    Ok(dimensions)
}

fn dimension<'a>(at: &At<'_>, key: &'a str, values: &'a At<'a>) -> Read<Dimension<'a>> {
    if !is_variable(key) {
        return Err(at.fail_key(key, "the name of a variable is letters, digits and `_`"));
    }
    match values.node {
        Node::Text(_) if key == "file" => Ok(Dimension::of(tables::table(values)?, None)),
        Node::Map(_) => {
            values.mapping(&["file"])?;
            Ok(Dimension::of(tables::column(&values.need("file", "hosts.txt")?)?, Some(key)))
        }
        Node::List(_) => {
            let list = values.list("", CHECKS_MAX)?;
            let rows = list.map(|value| Ok(vec![value.expanded("text")?])).collect::<Read<_>>()?;
            Ok(Dimension { names: vec![key.into()], rows, table: None, all_used: true })
        }
        _ => Err(values.expected("a list of values, or a file of them: `{file: hosts.txt}`")),
    }
}

impl<'a> Dimension<'a> {
    /// What a file holds; `name` names the variable of one that names none.
    fn of(mut table: Table, name: Option<&'a str>) -> Self {
        let names = match name {
            Some(name) => vec![name.into()],
            None => table.columns.drain(..).map(Cow::from).collect(),
        };
        let rows = table.rows.iter_mut().map(|row| row.values.drain(..).map(Expanded::owned).collect()).collect();
        Dimension { names, rows, table: Some(table), all_used: name.is_some() }
    }
}

/// A label such as `web-{host}` in an entry without `for`, where the braces would stay as they are.
fn forgotten_variable(label: &At<'_>) -> Option<ConfigError> {
    let Node::Text(text) = label.node else { return None };
    let (before, rest) = text.split_once('{')?;
    let (name, _) = rest.split_once('}')?;
    let complaint = || {
        Complaint::new(format!("{} is filled in by a `for`, and this check has none", quoted(&format!("{{{name}}}"))))
    };
    (is_variable(name) && !before.ends_with('$'))
        .then(|| label.fail(complaint().hint(format!("add `for: {{{name}: […]}}`"))))
}
