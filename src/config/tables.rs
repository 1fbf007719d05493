//! Values for a `for` out of a file: one a line, a table with a header (CSV, RFC 4180), or a list in JSON (RFC 8259).
//!
//! Such a file may be what an inventory wrote: its values are taken as they are, nothing is filled in.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::{Complaint, ConfigError};
use super::shared::read_bytes;
use super::source::{FILE_BYTES_MAX, Source};
use super::variables::{COLUMNS_MAX, is_variable};
use super::walk::{At, Read, quoted};
use super::yaml::{self, Step};

/// Columns and rows of a file, and where in it each row is.
pub(super) struct Table {
    /// The variables; a file of values without names has one, without a name.
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Row>,
    path: PathBuf,
    /// Rows are items of a list, and not lines.
    items: bool,
}

pub(super) struct Row {
    /// One for each column.
    pub(super) values: Vec<String>,
    /// Line from 1, or item from 0.
    place: usize,
}

impl Table {
    /// Where a row is, for messages: `hosts.csv:3`, `hosts.json[2]`.
    pub(super) fn place(&self, row: &Row) -> String {
        let file = self.path.display();
        if self.items { format!("{file}[{}]", row.place) } else { format!("{file}:{}", row.place) }
    }
}

/// How a file is read goes by its extension.
fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

/// The file at a `for` itself: a table, whose columns are variables.
pub(super) fn table(at: &At<'_>) -> Read<Table> {
    let path = at.path_value()?;
    match &*extension(&path) {
        "csv" => csv(&source(at, path)?),
        "json" => json(&source(at, path)?, true),
        _ => {
            let complaint = Complaint::new("is neither a `.csv` with a header nor a `.json` with a list of objects");
            Err(at.refuse(
                complaint.hint("a file of one value a line is for one variable: `for: {host: {file: hosts.txt}}`"),
            ))
        }
    }
}

/// The file of one variable: one value a line, or a list of them.
pub(super) fn column(at: &At<'_>) -> Read<Table> {
    let path = at.path_value()?;
    match &*extension(&path) {
        "csv" => {
            let complaint = Complaint::new("is a table, and its columns are variables by themselves");
            Err(at.refuse(complaint.hint("put it beside them: `for: {file: hosts.csv}`")))
        }
        "json" => json(&source(at, path)?, false),
        _ => Ok(lines(&source(at, path)?)),
    }
}

fn source(at: &At<'_>, path: PathBuf) -> Read<Source> {
    let bytes = read_bytes(&path, FILE_BYTES_MAX).map_err(|complaint| at.fail(complaint))?;
    Source::new(&path, bytes)
}

/// One value a line. Empty lines and those that begin with `#` are none.
fn lines(source: &Source) -> Table {
    let lines = source.text.lines().enumerate().map(|(nth, line)| (nth + 1, line.trim()));
    let values = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let rows = values.map(|(place, value)| Row { values: vec![value.to_owned()], place }).collect();
    Table { columns: vec![String::new()], rows, path: source.path.clone(), items: false }
}

fn csv(source: &Source) -> Read<Table> {
    let mut table = Table { columns: Vec::new(), rows: Vec::new(), path: source.path.clone(), items: false };
    let mut reader = Reader { source, rest: &source.text, line: 1 };
    while let Some((place, values)) = reader.record()? {
        // An empty line is no row.
        if values.len() == 1 && values[0].is_empty() {
            continue;
        }
        if table.columns.is_empty() {
            can_be_columns(&values).map_err(|complaint| reader.fail_at(place, complaint))?;
            table.columns = values;
        } else if values.len() != table.columns.len() {
            let complaint = format!("has {} fields, and the header {}", values.len(), table.columns.len());
            return Err(reader.fail_at(place, Complaint::new(complaint)));
        } else {
            table.rows.push(Row { values, place });
        }
    }
    match table.columns.is_empty() {
        true => Err(ConfigError::at(&source.path, None, String::new(), "has no header".into())),
        false => Ok(table),
    }
}

/// Makes sure that these can be names of variables.
fn can_be_columns(names: &[String]) -> Result<(), Complaint> {
    if names.len() > COLUMNS_MAX {
        return Err(format!("{} columns, and there may be {COLUMNS_MAX} at most", names.len()).into());
    }
    for (nth, name) in names.iter().enumerate() {
        if !is_variable(name) {
            let complaint = Complaint::new(format!("{} cannot name a variable", quoted(name)));
            return Err(complaint.hint("a name is letters, digits and `_`"));
        }
        if names[..nth].contains(name) {
            return Err(format!("two columns are named `{name}`").into());
        }
    }
    Ok(())
}

/// Reads CSV record by record.
struct Reader<'a> {
    source: &'a Source,
    rest: &'a str,
    /// Where `rest` begins.
    line: usize,
}

impl<'a> Reader<'a> {
    /// The fields of the next record and the line that it begins in. Spaces around a field that is not quoted are not of it.
    fn record(&mut self) -> Read<Option<(usize, Vec<String>)>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (place, mut fields) = (self.line, Vec::new());
        loop {
            let indented = self.rest.trim_start_matches([' ', '\t']);
            let field = match indented.strip_prefix('"') {
                Some(quoted) => self.quoted(quoted)?,
                None => {
                    let (field, rest) = self.rest.split_at(self.rest.find([',', '\n']).unwrap_or(self.rest.len()));
                    if field.contains('"') {
                        return Err(self.fail_at(place, "a `\"` in a field that does not begin with one".into()));
                    }
                    self.go_on_at(rest);
                    field.trim().to_owned()
                }
            };
            fields.push(field);
            match self.rest.strip_prefix(',') {
                Some(rest) => self.go_on_at(rest),
                None => {
                    self.go_on_at(self.rest.strip_prefix('\n').unwrap_or(self.rest));
                    return Ok(Some((place, fields)));
                }
            }
        }
    }

    /// A field from behind its opening quote to what ends it; two quotes in a row are one in it.
    fn quoted(&mut self, mut rest: &'a str) -> Read<String> {
        let (place, mut field) = (self.line, String::new());
        loop {
            let Some((part, after)) = rest.split_once('"') else {
                return Err(self.fail_at(place, "a `\"` that is not closed".into()));
            };
            field += part;
            if let Some(after) = after.strip_prefix('"') {
                field.push('"');
                rest = after;
                continue;
            }
            let after = after.trim_start_matches([' ', '\t', '\r']);
            if !after.is_empty() && !after.starts_with([',', '\n']) {
                return Err(self.fail_at(place, "something behind the closing `\"` of a field".into()));
            }
            self.go_on_at(after);
            return Ok(field);
        }
    }

    /// What is between is done with.
    fn go_on_at(&mut self, rest: &'a str) {
        let done = &self.rest[..self.rest.len() - rest.len()];
        self.line += done.bytes().filter(|byte| *byte == b'\n').count();
        self.rest = rest;
    }

    fn fail_at(&self, line: usize, complaint: Complaint) -> ConfigError {
        ConfigError::at(&self.source.path, Some((line, 1)), String::new(), complaint)
    }
}

/// A list of objects with the same keys, if it is to be a `table`, else of values.
fn json(source: &Source, table: bool) -> Read<Table> {
    let items: Vec<Value> = serde_json::from_str(&source.text).map_err(|error| {
        let place = Some((error.line(), error.column())).filter(|(line, _)| *line > 0);
        let said = error.to_string();
        let said = said.split(" at line ").next().unwrap_or_default();
        ConfigError::at(&source.path, place, String::new(), Complaint::new(format!("not a list in JSON: {said}")))
    })?;
    let fail = |steps: &[Step<'_>], complaint: Complaint| {
        ConfigError::at(&source.path, yaml::locate(source, steps, false), String::new(), complaint)
    };
    let mut columns = if table { Vec::new() } else { vec![String::new()] };
    let mut rows = Vec::with_capacity(items.len());
    for (place, item) in items.into_iter().enumerate() {
        let step = Step::Index(place);
        let (names, values): (Vec<String>, Vec<Value>) = match item {
            Value::Object(item) if table => item.into_iter().unzip(),
            _ if table => return Err(fail(&[step], "expected an object, whose keys are variables".into())),
            value => (columns.clone(), vec![value]),
        };
        if columns.is_empty() {
            can_be_columns(&names).map_err(|complaint| fail(&[step], complaint))?;
            columns = names;
        } else if names != columns {
            let (keys, first) = (names.join(", "), columns.join(", "));
            return Err(fail(&[step], format!("an object with the keys {keys}, and the first has {first}").into()));
        }
        let within = |column: &usize| table.then(|| Step::Key(&columns[*column])).into_iter();
        let values = values.into_iter().enumerate().map(|(column, value)| {
            let steps = |column| std::iter::once(step).chain(within(column)).collect::<Vec<_>>();
            text(value).map_err(|complaint| fail(&steps(&column), complaint))
        });
        rows.push(Row { values: values.collect::<Read<_>>()?, place });
    }
    Ok(Table { columns, rows, path: source.path.clone(), items: true })
}

fn text(value: Value) -> Result<String, Complaint> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        Value::Null => Err("expected text or a number, found null".into()),
        Value::Array(_) => Err("expected text or a number, found a list".into()),
        Value::Object(_) => Err("expected text or a number, found an object".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source_of(text: &str) -> Source {
        Source { path: "hosts".into(), text: text.to_owned() }
    }

    fn shown(table: Read<Table>) -> String {
        table.map_or_else(
            |error| error.to_string(),
            |table| {
                let rows = table.rows.iter().map(|row| format!("{} {:?}", table.place(row), row.values));
                std::iter::once(table.columns.join("|")).chain(rows).collect::<Vec<_>>().join("; ")
            },
        )
    }

    #[test]
    fn lines_are_values() {
        for (text, read) in [
            ("", ""),
            ("a\nb", r#"; hosts:1 ["a"]; hosts:2 ["b"]"#),
            ("# hosts\r\n\r\n  a # b \r\n", r#"; hosts:3 ["a # b"]"#),
        ] {
            assert_eq!(shown(Ok(lines(&source_of(text)))), read, "{text:?}");
        }
    }

    #[test]
    fn tables_are_read_or_say_where_they_are_wrong() {
        for (text, read) in [
            ("a,b\n1,2\n3,4", r#"a|b; hosts:2 ["1", "2"]; hosts:3 ["3", "4"]"#),
            ("a , b\r\n 1,\t2 \r\n\r\n3,\r\n", r#"a|b; hosts:2 ["1", "2"]; hosts:4 ["3", ""]"#),
            ("a,b\n\"1,\"\"2\"\"\n\", \"3\" \nx,\"\"\n", r#"a|b; hosts:2 ["1,\"2\"\n", "3"]; hosts:4 ["x", ""]"#),
            ("a\nü\n", r#"a; hosts:2 ["ü"]"#),
            ("a", "a"),
            ("", "hosts: has no header"),
            ("\n\n", "hosts: has no header"),
            ("a,b\n1\n", "hosts:2:1: has 1 fields, and the header 2"),
            ("a,b\n1,2\n1,2,3\n", "hosts:3:1: has 3 fields, and the header 2"),
            ("a,a\n", "hosts:1:1: two columns are named `a`"),
            ("a,\n", "hosts:1:1: `` cannot name a variable\nhint: a name is letters, digits and `_`"),
            ("my host\n", "hosts:1:1: `my host` cannot name a variable\nhint: a name is letters, digits and `_`"),
            ("a\n1\n\"2", "hosts:3:1: a `\"` that is not closed"),
            ("a\n1\"2\"\n", "hosts:2:1: a `\"` in a field that does not begin with one"),
            ("a,b\n\"1\"x,2\n", "hosts:2:1: something behind the closing `\"` of a field"),
        ] {
            assert_eq!(shown(csv(&source_of(text))), read, "{text:?}");
        }
        let many = (0..=COLUMNS_MAX).map(|n| format!("c{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(shown(csv(&source_of(&many))), "hosts:1:1: 33 columns, and there may be 32 at most");
    }

    #[test]
    fn lists_in_json_are_read_or_say_where_they_are_wrong() {
        for (text, table, read) in [
            (r#"["a", 1, true]"#, false, r#"; hosts[0] ["a"]; hosts[1] ["1"]; hosts[2] ["true"]"#),
            (
                r#"[{"b": "x", "a": 80}, {"a": 81, "b": "y"}]"#,
                true,
                r#"a|b; hosts[0] ["80", "x"]; hosts[1] ["81", "y"]"#,
            ),
            ("[]", false, ""),
            ("[\n1,\n]", false, "hosts:3:1: not a list in JSON: trailing comma"),
            ("{}", false, "hosts:1:0: not a list in JSON: invalid type: map, expected a sequence"),
            ("", false, "hosts:1:0: not a list in JSON: EOF while parsing a value"),
            ("[1,\n null]", false, "hosts:2:2: expected text or a number, found null"),
            ("[[1]]", false, "hosts:1:2: expected text or a number, found a list"),
            ("[{}]", false, "hosts:1:2: expected text or a number, found an object"),
            ("[\n {\"a\": {}}]", true, "hosts:2:8: expected text or a number, found an object"),
            ("[1]", true, "hosts:1:2: expected an object, whose keys are variables"),
            ("[{\"a\": 1},\n{\"b\": 1}]", true, "hosts:2:1: an object with the keys b, and the first has a"),
            (
                "[{\"a b\": 1}]",
                true,
                "hosts:1:2: `a b` cannot name a variable\nhint: a name is letters, digits and `_`",
            ),
        ] {
            assert_eq!(shown(json(&source_of(text), table)), read, "{text:?}");
        }
    }
}
