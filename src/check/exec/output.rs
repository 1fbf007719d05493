//! What a plugin printed: text, and performance data behind a `|`.
//!
//! ```text
//! DISK WARNING - free space: / 3326 MB | /=2643MB;2600;2900;0;2968
//! more text, of which there may be many lines
//! and its last | /boot=68MB;88;93;0;98
//! /home=69357MB;253404;253409;0;253414
//! ```
//!
//! On the first line and on any other, what stands behind a `|` is performance data; and so is a whole line below that one,
//! where all of it can be read as such (the [Nagios plugin API] has nothing else there, others print text again).
//!
//! [Nagios plugin API]: https://assets.nagios.com/downloads/nagioscore/docs/nagioscore/4/en/pluginapi.html

use serde_json::{Map, Number, Value};

/// So much of the text is kept in the log.
const TEXT_BYTES_MAX: usize = 8 * 1024;
/// So many values of performance data are kept.
const PERFDATA_MAX: usize = 200;
/// A label or a threshold that is longer is no sensible one.
const WORD_BYTES_MAX: usize = 200;

/// What a plugin printed to standard output.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Output {
    /// All lines, without what stands behind a `|`.
    text: String,
    /// Objects with `label`, `value` and, where they are there, `unit`, `warn`, `crit`, `min` and `max`.
    perfdata: Vec<Value>,
    /// Pieces of performance data that cannot be read, or that are too many.
    unread: u64,
}

impl Output {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let (printed, mut output) = (printable(bytes), Output::default());
        let mut behind = false;
        for (nth, line) in printed.lines().enumerate() {
            match line.split_once('|') {
                Some((text, data)) => {
                    output.add_text(text);
                    output.add_perfdata(data);
                    behind |= nth > 0;
                }
                None if behind && all_perfdata(line) => output.add_perfdata(line),
                None => output.add_text(line),
            }
        }
        output.text.truncate(output.text.trim_end().len());
        output
    }

    /// The line that says in short what came of it.
    pub(super) fn first_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// Puts it into a log's result. `cut`: there was more that is not in here.
    pub(super) fn write(mut self, result: &mut Map<String, Value>, cut: bool) {
        let ends = (0..=TEXT_BYTES_MAX.min(self.text.len())).rev().find(|end| self.text.is_char_boundary(*end));
        let most = ends.unwrap_or(0);
        if cut || most < self.text.len() {
            result.insert("output_cut".to_owned(), true.into());
        }
        self.text.truncate(most);
        result.insert("output".to_owned(), self.text.into());
        if !self.perfdata.is_empty() {
            result.insert("perfdata".to_owned(), self.perfdata.into());
        }
        if self.unread > 0 {
            result.insert("perfdata_unread".to_owned(), self.unread.into());
        }
    }

    fn add_text(&mut self, line: &str) {
        // Above the first line nothing is kept, so that it is the first that says something.
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text += line.trim_end();
    }

    fn add_perfdata(&mut self, data: &str) {
        for piece in Pieces(data) {
            match piece {
                Some(datum) if self.perfdata.len() < PERFDATA_MAX => self.perfdata.push(datum),
                _ => self.unread += 1,
            }
        }
    }
}

/// For people: all that a plugin printed, as a log's result has it, a line each. The figures stand in columns.
pub fn lines(result: &Map<String, Value>) -> Vec<String> {
    let text = |key: &str| result.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut lines: Vec<String> = text("output").lines().map(str::to_owned).collect();
    lines.extend(text("stderr").lines().map(|line| format!("on standard error: {line}")));
    let perfdata = result.get("perfdata").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let label = |datum: &Value| datum["label"].as_str().unwrap_or_default().to_owned();
    let width = perfdata.iter().map(|datum| label(datum).chars().count()).max().unwrap_or(0);
    lines.extend(perfdata.iter().map(|datum| {
        let value = if datum["value"].is_null() { "not known".to_owned() } else { datum["value"].to_string() };
        let mut line = format!("{:width$}  {value}{}", label(datum), datum["unit"].as_str().unwrap_or_default());
        for name in ["warn", "crit", "min", "max"] {
            match &datum[name] {
                Value::Null => {}
                Value::String(range) => line += &format!(", {name} {range}"),
                limit => line += &format!(", {name} {limit}"),
            }
        }
        line
    }));
    lines
}

fn all_perfdata(line: &str) -> bool {
    let mut pieces = Pieces(line).peekable();
    pieces.peek().is_some() && pieces.all(|piece| piece.is_some())
}

/// Performance data, piece by piece; `None` for a piece that cannot be read.
struct Pieces<'a>(&'a str);

impl Iterator for Pieces<'_> {
    type Item = Option<Value>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.trim_start();
        if rest.is_empty() {
            return None;
        }
        let (label, after) = match rest.strip_prefix('\'') {
            Some(quoted) => match quoted_label(quoted) {
                Some((label, after)) => (label, after),
                None => (String::new(), rest),
            },
            None => {
                let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        let end = after.find(char::is_whitespace).unwrap_or(after.len());
        self.0 = &after[end..];
        Some(after[..end].strip_prefix('=').and_then(|figures| datum(label, figures)))
    }
}

/// A label up to its closing quote, and what comes behind; two quotes in a row are one in the label.
fn quoted_label(quoted: &str) -> Option<(String, &str)> {
    let (mut label, mut rest) = (String::new(), quoted);
    loop {
        let (part, after) = rest.split_once('\'')?;
        label += part;
        match after.strip_prefix('\'') {
            Some(after) => {
                label.push('\'');
                rest = after;
            }
            None => return Some((label, after)),
        }
    }
}

/// `value[unit];[warn];[crit];[min];[max]`.
fn datum(label: String, figures: &str) -> Option<Value> {
    let mut figures = figures.split(';');
    let value = figures.next()?;
    let (value, unit) = match value {
        // The plugin could not determine it.
        "U" => (Value::Null, ""),
        value => number(value).map(|(number, unit)| (number.into(), unit))?,
    };
    let no_unit = |c: char| c.is_ascii_digit() || matches!(c, ',' | '.' | '\'' | '"' | '=');
    if label.is_empty() || label.len() > WORD_BYTES_MAX || unit.len() > WORD_BYTES_MAX || unit.contains(no_unit) {
        return None;
    }
    let mut datum = Map::from_iter([("label".to_owned(), label.into()), ("value".to_owned(), value)]);
    if !unit.is_empty() {
        datum.insert("unit".to_owned(), unit.into());
    }
    for name in ["warn", "crit"] {
        // Ranges, such as `10:20`: they stay as they are.
        let range = figures.next().unwrap_or_default();
        if !range.is_empty() && range.len() <= WORD_BYTES_MAX {
            datum.insert(name.to_owned(), range.into());
        }
    }
    for name in ["min", "max"] {
        if let Some((limit, _)) = number(figures.next().unwrap_or_default()) {
            datum.insert(name.to_owned(), limit.into());
        }
    }
    Some(datum.into())
}

/// The number that a text begins with, and what comes behind it.
fn number(text: &str) -> Option<(Number, &str)> {
    let digits = |from: usize| text[from..].bytes().take_while(u8::is_ascii_digit).count();
    let sign = usize::from(text.starts_with(['-', '+']));
    let whole = digits(sign);
    let mut end = sign + whole;
    let mut decimals = 0;
    if text[end..].starts_with('.') {
        decimals = digits(end + 1);
        end += 1 + decimals;
    }
    if whole + decimals == 0 {
        return None;
    }
    let exponent = text[end..].strip_prefix(['e', 'E']).map(|rest| 1 + usize::from(rest.starts_with(['-', '+'])));
    if let Some(before) = exponent
        && digits(end + before) > 0
    {
        end += before + digits(end + before);
    }
    let (number, rest) = text.split_at(end);
    let number = number.strip_prefix('+').unwrap_or(number);
    let integer = number.parse::<i64>().map(Number::from).or_else(|_| number.parse::<u64>().map(Number::from)).ok();
    Some((integer.or_else(|| Number::from_f64(number.parse().ok()?))?, rest))
}

/// Text for people: control characters, which could steer a terminal, are written out, but for the ends of lines and tabs.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut printable = String::with_capacity(text.len());
    for c in text.trim().replace("\r\n", "\n").chars() {
        if c.is_control() && c != '\n' && c != '\t' { printable.extend(c.escape_default()) } else { printable.push(c) }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn performance_data_is_read() {
        for (data, read) in [
            ("", json!([])),
            ("time=0.002s", json!([{"label": "time", "value": 0.002, "unit": "s"}])),
            (
                "/=2643MB;5948;5958;0;5968",
                json!([{"label": "/", "value": 2643, "unit": "MB", "warn": "5948", "crit": "5958", "min": 0, "max": 5968}]),
            ),
            (
                "load1=0.010;5.000;10.000;0;",
                json!([{"label": "load1", "value": 0.01, "warn": "5.000", "crit": "10.000", "min": 0}]),
            ),
            (
                "a=1 b=2\tc=3",
                json!([{"label": "a", "value": 1}, {"label": "b", "value": 2}, {"label": "c", "value": 3}]),
            ),
            ("'a b'=1%;;;0;100", json!([{"label": "a b", "value": 1, "unit": "%", "min": 0, "max": 100}])),
            ("'it''s'=1", json!([{"label": "it's", "value": 1}])),
            ("'a=b'=1", json!([{"label": "a=b", "value": 1}])),
            ("'x'=1c;;;;9 y=2", json!([{"label": "x", "value": 1, "unit": "c", "max": 9}, {"label": "y", "value": 2}])),
            ("a=U", json!([{"label": "a", "value": null}])),
            ("a=U;1;2", json!([{"label": "a", "value": null, "warn": "1", "crit": "2"}])),
            ("a=-1.5;@10:20;~:5", json!([{"label": "a", "value": -1.5, "warn": "@10:20", "crit": "~:5"}])),
            (
                "a=.5 b=5. c=+3",
                json!([{"label": "a", "value": 0.5}, {"label": "b", "value": 5.0}, {"label": "c", "value": 3}]),
            ),
            (
                "a=1e3s b=1EB c=2E-1",
                json!([{"label": "a", "value": 1e3, "unit": "s"}, {"label": "b", "value": 1, "unit": "EB"}, {"label": "c", "value": 0.2}]),
            ),
            ("a=18446744073709551615", json!([{"label": "a", "value": u64::MAX}])),
            ("a=99999999999999999999", json!([{"label": "a", "value": 1e20}])),
            ("größe=1µs", json!([{"label": "größe", "value": 1, "unit": "µs"}])),
            ("a=1;2;3;4;5;6;7", json!([{"label": "a", "value": 1, "warn": "2", "crit": "3", "min": 4, "max": 5}])),
        ] {
            let output = Output::parse(format!("ok|{data}").as_bytes());
            assert_eq!((Value::from(output.perfdata), output.unread), (read, 0), "{data}");
        }
    }

    #[test]
    fn a_piece_that_cannot_be_read_is_counted_and_harms_no_other() {
        for data in [
            "x", "=1", "x=", "x=;1", "x=fast", "x=0,5s", "x=1.2.3", "x=--1", "x= ", "x=1e999", "''=1", "'x=1", "x=1m2",
            "x=-", "x=.", "x=U%",
        ] {
            let output = Output::parse(format!("ok|a=1 {data}").as_bytes());
            assert_eq!((output.perfdata.len(), output.unread), (1, 1), "{data}");
            let output = Output::parse(format!("ok|{data} a=1").as_bytes());
            assert!(output.unread > 0, "{data}");
        }
    }

    #[test]
    fn lines_are_text_or_performance_data() {
        for (printed, text, labels) in [
            ("", "", ""),
            ("OK", "OK", ""),
            ("OK - fine | a=1\n", "OK - fine", "a"),
            ("OK | a=1\nlong one\nlong two | b=2\nc=3 d=4\n", "OK\nlong one\nlong two", "a b c d"),
            ("OK\nx=1\n", "OK\nx=1", ""),
            ("OK\none | a=1\ntwo | b=2\nand no data\n", "OK\none\ntwo\nand no data", "a b"),
            ("OK\none | a=1\nb=2 or so\nc=3", "OK\none\nb=2 or so", "a c"),
            ("| a=1\n", "", "a"),
            ("\n\n  OK  \r\nmore\r\n", "OK\nmore", ""),
            ("OK\n\nafter a gap", "OK\n\nafter a gap", ""),
            ("\x1b[31mOK\0\x07", "\\u{1b}[31mOK\\u{0}\\u{7}", ""),
        ] {
            let output = Output::parse(printed.as_bytes());
            let read: Vec<_> = output.perfdata.iter().map(|datum| datum["label"].as_str().unwrap()).collect();
            assert_eq!((&*output.text, read.join(" "), output.unread), (text, labels.to_owned(), 0), "{printed:?}");
        }
    }

    #[test]
    fn all_that_was_printed_is_shown_to_people() {
        let mut result = Map::from_iter([("stderr".to_owned(), "so slow".into())]);
        Output::parse(b"DISK OK | /=2643MB;@5:10;5958;0;5968 'a home'=U\nmore").write(&mut result, false);
        insta::assert_snapshot!(lines(&result).join("\n"), @r"
        DISK OK
        more
        on standard error: so slow
        /       2643MB, warn @5:10, crit 5958, min 0, max 5968
        a home  not known
        ");
        assert!(lines(&Map::new()).is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let many = (0..PERFDATA_MAX + 5).map(|n| format!("l{n}=1 ")).collect::<String>();
        let printed = format!("{}|{many}\n{}", "ü".repeat(TEXT_BYTES_MAX), "y".repeat(9));
        let mut result = Map::new();
        Output::parse(printed.as_bytes()).write(&mut result, false);
        assert_eq!(result["perfdata"].as_array().unwrap().len(), PERFDATA_MAX);
        assert_eq!((&result["perfdata_unread"], &result["output_cut"]), (&5.into(), &true.into()));
        assert!(result["output"].as_str().unwrap().len() <= TEXT_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn whatever_is_printed_is_taken(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            Output::parse(&bytes);
        }

        #[test]
        fn what_looks_like_performance_data_is_taken(data in "[a1='; \\|\n.eU-]{0,60}") {
            Output::parse(data.as_bytes());
        }

        #[test]
        fn what_is_written_as_the_guidelines_have_it_is_read(label in "[ -&(-~]{1,40}", value in -1e9..1e9, min in any::<i32>()) {
            let label = label.replace('|', "/").replace('=', "-");
            let output = Output::parse(format!("ok|'{label}'={value}s;1:;2;{min};").as_bytes());
            let expected = json!({"label": label, "value": value, "unit": "s", "warn": "1:", "crit": "2", "min": min});
            prop_assert_eq!(output.perfdata, vec![expected]);
        }
    }
}
