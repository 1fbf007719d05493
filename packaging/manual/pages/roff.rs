//! A man page in the making: the man(7) macros, and text that is filled into short lines, a sentence beginning each time anew.
//!
//! In text, `` `code` `` is bold and `*word*` italic, as man pages have what is typed and what stands for something else.

use std::fmt::Write as _;

/// How long a line of the source may be; mandoc(1) complains beyond.
const LINE_MAX: usize = 78;

/// A man page.
pub struct Page(String);

impl Page {
    /// The head of a page: `PINGEON(1)`. An empty date is left out.
    pub fn new(name: &str, section: u8, date: &str, title: &str) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        // Words of a command line are neither hyphenated nor spread.
        Page(format!(".TH {name} {section} \"{date}\" \"pingeon {version}\" \"{title}\"\n.nh\n.ad l\n"))
    }

    /// A heading.
    pub fn heading(&mut self, text: &str) {
        let _ = writeln!(self.0, ".SH {}", quoted(text));
    }

    /// A heading within a section.
    pub fn subheading(&mut self, text: &str) {
        let _ = writeln!(self.0, ".SS {}", quoted(text));
    }

    /// The first paragraph after a heading or a tag.
    pub fn text(&mut self, text: &str) {
        self.0 += &filled(text);
    }

    /// A further paragraph.
    pub fn paragraph(&mut self, text: &str) {
        self.0 += ".PP\n";
        self.text(text);
    }

    /// A paragraph that hangs from what it explains.
    pub fn tagged(&mut self, tag: &str, text: &str) {
        let _ = writeln!(self.0, ".TP\n{}", line(tag));
        self.text(text);
    }

    /// Lines that stay as they are.
    pub fn example(&mut self, lines: &str) {
        self.0 += ".PP\n.RS 4\n.EX\n";
        for line in lines.lines() {
            let _ = writeln!(self.0, "{}", escaped(line, ""));
        }
        // Its end brings hyphens back.
        self.0 += ".EE\n.RE\n.nh\n";
    }

    /// The whole page.
    pub fn done(self) -> String {
        self.0
    }
}

/// One line that is not broken.
fn line(text: &str) -> String {
    escaped(text, "`*")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text, "`*").replace('"', "\\(dq"))
}

/// Text in lines of at most [`LINE_MAX`], unless a word is longer; a new sentence begins a new line.
fn filled(text: &str) -> String {
    let (mut lines, mut line) = (String::new(), String::new());
    let mut spans = Spans::default();
    for word in text.split_whitespace() {
        let source = spans.escaped(word);
        if !line.is_empty() && line.len() + 1 + source.len() > LINE_MAX {
            flush(&mut lines, &mut line, false);
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += &source;
        if word.ends_with(['.', '?', '!']) && word != "e.g." {
            flush(&mut lines, &mut line, true);
        }
    }
    flush(&mut lines, &mut line, true);
    lines
}

/// A line to the others: no request even where it begins as one, and no end of a sentence unless it is one.
fn flush(lines: &mut String, line: &mut String, ends_sentence: bool) {
    if line.is_empty() {
        return;
    }
    if line.starts_with('.') {
        lines.push_str("\\&");
    }
    let _ = writeln!(lines, "{line}{}", if ends_sentence { "" } else { "\\&" });
    line.clear();
}

fn escaped(text: &str, marks: &str) -> String {
    let mut spans = if marks.is_empty() { Spans::verbatim() } else { Spans::default() };
    let text = spans.escaped(text);
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

/// Where marked spans begin and end, from word to word.
#[derive(Default)]
struct Spans {
    verbatim: bool,
    code: bool,
    italic: bool,
}

impl Spans {
    fn verbatim() -> Self {
        Spans { verbatim: true, ..Spans::default() }
    }

    fn escaped(&mut self, text: &str) -> String {
        let mut escaped = String::with_capacity(text.len() + 8);
        for c in text.chars() {
            match c {
                '`' if !self.verbatim => {
                    self.code = !self.code;
                    escaped += if self.code { "\\fB" } else { "\\fR" };
                }
                '*' if !self.verbatim && !self.code => {
                    self.italic = !self.italic;
                    escaped += if self.italic { "\\fI" } else { "\\fR" };
                }
                '\\' => escaped += "\\e",
                '-' => escaped += "\\-",
                '~' => escaped += "\\(ti",
                '^' => escaped += "\\(ha",
                '\'' => escaped += "\\(aq",
                '`' => escaped += "\\(ga",
                '→' => escaped += "\\(->",
                '…' => escaped += "...\\&",
                '–' => escaped += "\\(en",
                c => escaped.push(c),
            }
        }
        escaped
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE_MAX, filled};

    #[test]
    fn text_is_filled_and_escaped() {
        for (text, source) in [
            ("One. Two", "One.\nTwo\n"),
            ("`a b` and *c*-d", "\\fBa b\\fR and \\fIc\\fR\\-d\n"),
            (".begins as a request", "\\&.begins as a request\n"),
            ("'so does this", "\\(aqso does this\n"),
            ("`^\\r~` → 'x' …", "\\fB\\(ha\\er\\(ti\\fR \\(-> \\(aqx\\(aq ...\\&\n"),
            ("e.g. this, `?` and `.`", "e.g. this, \\fB?\\fR and \\fB.\\fR\n"),
            ("", ""),
        ] {
            assert_eq!(filled(text), source, "{text}");
        }
    }

    #[test]
    fn lines_are_short_and_no_sentence_ends_where_a_line_does() {
        let source = filled(&"e.g. four words more ".repeat(20));
        assert!(source.lines().all(|line| line.len() <= LINE_MAX + "\\&".len()), "{source}");
        assert!(source.lines().rev().skip(1).all(|line| line.ends_with("\\&")), "{source}");
    }
}
