//! The house rules that a program can check. A review remark that came twice becomes a line of [`RULES`].
//!
//! Works on the text of the sources: comments and literals are blanked first, so that only code is looked at, and what is
//! under `#[cfg(test)]` is told from what runs at a user's.

use std::fs;
use std::path::{Path, PathBuf};

/// Where a rule applies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// What runs at a user's: `src` without its tests.
    Product,
    /// `tests`, and what is under `#[cfg(test)]`.
    Tests,
    /// All of it.
    Everywhere,
}

use Scope::{Everywhere, Product, Tests};

/// None of `banned` stands in the code of `scope`, but in files whose path starts with one of `allowed`.
struct Rule {
    banned: &'static [&'static str],
    scope: Scope,
    allowed: &'static [&'static str],
    why: &'static str,
}

const fn rule(
    banned: &'static [&'static str],
    scope: Scope,
    allowed: &'static [&'static str],
    why: &'static str,
) -> Rule {
    Rule { banned, scope, allowed, why }
}

#[rustfmt::skip]
const RULES: &[Rule] = &[
    rule(&["todo!", "unimplemented!", "dbg!"], Everywhere, &[], "what is merged is done"),
    rule(&["#[ignore"], Everywhere, &[], "a test that does not run proves nothing"),
    rule(&[".unwrap()", ".expect(", "panic!("], Product, &[], "what input, network or disk can reach gives an error, not a panic"),
    rule(&["thread::sleep"], Tests, &["tests/service/running.rs"], "a test waits for a condition with a deadline"),
    rule(&["thread::sleep"], Product, &[], "a wait ends early when the word to stop comes: `Stop::wait`"),
    rule(&["thread::spawn", "thread::Builder", "thread::{", "thread::scope"], Product, &["src/jobs.rs"], "`jobs` names, supervises and joins every thread"),
    rule(&["serde_yaml"], Product, &["src/config/"], "only `config` knows YAML"),
    rule(&["rusqlite"], Product, &["src/spool/", "src/store/", "src/database"], "only `spool` and `store` know SQL, and the file that both open"),
    rule(&["kafka_protocol"], Product, &["src/kafka/"], "only `kafka` knows Kafka's protocol"),
    rule(&["use kafka::"], Product, &["src/kafka/legacy"], "only `kafka::legacy` knows the `kafka` crate"),
    rule(&["println!", "print!", "stdout()", "stderr()"], Product, &["src/main.rs"], "only `main` prints"),
    rule(&["process::exit", "process::abort"], Product, &[], "`main` returns its exit code, so that everything is dropped in order"),
    rule(&["async fn", ".await"], Everywhere, &[], "threads and channels, no async"),
    rule(&["SystemTime::now", "OffsetDateTime::now"], Product, &[], "time comes from a `Clock`, so that a test can turn it"),
];

/// `src/kafka/` stands alone: of the rest of the crate it uses these modules.
const KAFKA_USES: &[&str] = &["jobs", "kafka", "net", "secret"];
const STANDS_ALONE: &str = "`kafka` stands alone";

/// Without tests, comments included.
const FILE_LINES_MAX: usize = 420;
/// From `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

#[test]
fn the_sources_keep_the_rules() {
    let files = ["src", "tests", "benches", "packaging"].map(sources).concat();
    assert!(files.len() > 20, "the sources are not where this test looks for them");
    let mut broken: Vec<String> = files.iter().flat_map(|(path, text)| look_at(path, text)).collect();
    for (rule, allowed) in RULES.iter().flat_map(|rule| rule.allowed.iter().map(move |allowed| (rule, allowed))) {
        let mut covered = files.iter().filter(|(path, _)| path.starts_with(allowed));
        if !covered.any(|(_, text)| rule.banned.iter().any(|banned| text.contains(banned))) {
            broken.push(format!("tests/style.rs: `{allowed}` is allowed {:?} and has none of it", rule.banned));
        }
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn each_rule_is_seen_to_be_broken() {
    for rule in RULES {
        for banned in rule.banned {
            let line = format!("fn broken() {{ {banned} }}\n");
            let (path, text) = match rule.scope {
                Product | Everywhere => ("src/x.rs", line),
                Tests => ("src/x.rs", format!("#[cfg(test)]\nmod tests {{\n{line}}}\n")),
            };
            assert!(look_at(path, &text).iter().any(|broken| broken.ends_with(rule.why)), "`{banned}`");
        }
    }
    for (line, broken) in [("use crate::net::Net;\n", None), ("fn f() { crate::logs::f() }\n", Some("logs"))] {
        let broken = broken.map(|module| format!("src/kafka/x.rs:1: `{module}`: {STANDS_ALONE}"));
        assert_eq!(look_at("src/kafka/x.rs", line), Vec::from_iter(broken));
        assert_eq!(look_at("src/x.rs", line), Vec::<String>::new());
    }
    let long = format!("fn long() {{\n{}}}\n", "    step();\n".repeat(FUNCTION_LINES_MAX));
    assert_eq!(look_at("src/x.rs", &long), ["src/x.rs:1: `long` has 72 lines, of at most 70"]);
    let large = "struct Large;\n".repeat(FILE_LINES_MAX + 1);
    assert_eq!(look_at("src/x.rs", &large), ["src/x.rs: 421 lines without tests, of at most 420"]);
    assert_eq!(look_at("src/x.rs", &format!("// {}\n", UNFINISHED[0])).len(), 1);
}

#[test]
fn literals_comments_and_tests_break_no_rule() {
    for (name, text) in [
        ("comment", "// todo!() and dbg!\n/* todo!() /* nested */ dbg! */\n"),
        ("string", "const A: &str = \"todo!() \\\" dbg!\";\n"),
        ("raw string", "const A: &str = r#\"todo!() \" dbg!\"#;\n"),
        ("character and lifetime", "fn a<'a>(b: &'a str) { c('\"', '\\'', '{'); }\n"),
        ("unit test", "#[cfg(test)]\nmod tests {\n    fn a() { b.unwrap(); }\n}\n"),
    ] {
        assert_eq!(look_at("src/x.rs", text), Vec::<String>::new(), "{name}");
    }
    assert_eq!(look_at("src/x/tests.rs", "fn a() { b.unwrap(); }\n"), Vec::<String>::new());
}

/// In two parts, so that this file does not hold them.
const UNFINISHED: [&str; 2] = [concat!("FIX", "ME"), concat!("XX", "X")];

/// Every rule that the file breaks, a line each.
fn look_at(path: &str, text: &str) -> Vec<String> {
    let code = blank_literals(text);
    let under_test = lines_under_test(path, &code);
    let mut broken = Vec::new();
    for (nth, (line, raw)) in code.lines().zip(text.lines()).enumerate() {
        let scope = if path.starts_with("benches") || path.starts_with("packaging") {
            Everywhere
        } else if under_test[nth] {
            Tests
        } else {
            Product
        };
        let mut say = |what: &str, why: &str| broken.push(format!("{path}:{}: `{what}`: {why}", nth + 1));
        for word in UNFINISHED.iter().filter(|word| raw.contains(**word)) {
            say(word, "what is merged is done");
        }
        if path.starts_with("src/kafka/") && !under_test[nth] {
            uses(line).filter(|module| !KAFKA_USES.contains(module)).for_each(|module| say(module, STANDS_ALONE));
        }
        for rule in RULES.iter().filter(|rule| rule.scope == Everywhere || rule.scope == scope) {
            let allowed = rule.allowed.iter().any(|allowed| path.starts_with(allowed));
            for banned in rule.banned.iter().filter(|banned| !allowed && line.contains(**banned)) {
                say(banned, rule.why);
            }
        }
    }
    let lines = under_test.iter().filter(|under_test| !**under_test).count();
    if lines > FILE_LINES_MAX {
        broken.push(format!("{path}: {lines} lines without tests, of at most {FILE_LINES_MAX}"));
    }
    for (name, begin, lines) in functions(&code).into_iter().filter(|(_, _, lines)| *lines > FUNCTION_LINES_MAX) {
        broken.push(format!("{path}:{begin}: `{name}` has {lines} lines, of at most {FUNCTION_LINES_MAX}"));
    }
    broken
}

/// The modules of this crate that a line names by `crate::`; empty for a group of them.
fn uses(line: &str) -> impl Iterator<Item = &str> {
    let module = |rest: &'_ str| rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    line.split("crate::").skip(1).map(move |rest| &rest[..module(rest)])
}

/// Every Rust file below `folder`, with its path from the top and its text.
fn sources(folder: &str) -> Vec<(String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = vec![top.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(top).unwrap().display().to_string(), text));
            }
        }
    }
    files.sort();
    files
}

/// For each line, whether it is test code.
fn lines_under_test(path: &str, code: &str) -> Vec<bool> {
    let whole = path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/tests/");
    let mut under_test = vec![whole; code.lines().count()];
    for (at, attribute) in code.match_indices("#[cfg(test)]") {
        let end = block_end(code, at + attribute.len());
        under_test[line_of(code, at)..=line_of(code, end)].fill(true);
    }
    under_test
}

/// Name, first line and number of lines of every function that has a body.
fn functions(code: &str) -> Vec<(&str, usize, usize)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices("fn ")
        .filter(|(at, _)| !code[..*at].ends_with(is_word))
        .map(|(at, keyword)| {
            let name = code[at + keyword.len()..].split(|c| !is_word(c)).next().unwrap();
            let (begin, end) = (line_of(code, at), line_of(code, block_end(code, at)));
            (name, begin + 1, end - begin + 1)
        })
        .filter(|(name, ..)| !name.is_empty())
        .collect()
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count()
}

/// Where the item at `from` ends: at its closing brace, or at a semicolon when no brace opened before it.
fn block_end(code: &str, from: usize) -> usize {
    let mut braces = 0;
    let mut brackets = 0;
    for (at, c) in code[from..].char_indices() {
        match c {
            '{' => braces += 1,
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            '}' if braces <= 1 => return from + at,
            '}' => braces -= 1,
            ';' if braces == 0 && brackets == 0 => return from + at,
            _ => {}
        }
    }
    code.len()
}

/// The text with its comments, strings and characters blanked; every line keeps its place.
fn blank_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let before = code.chars().next_back();
        let literal = literal_length(rest, before.is_some_and(|c| c.is_alphanumeric() || c == '_'));
        let taken = literal.unwrap_or(first.len_utf8());
        match literal {
            Some(_) => code.extend(rest[..taken].chars().map(|c| if c == '\n' { '\n' } else { ' ' })),
            None => code.push(first),
        }
        rest = &rest[taken..];
    }
    code
}

/// How long the comment or literal is that `rest` starts with.
fn literal_length(rest: &str, within_word: bool) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(comment_length(rest));
    }
    if rest.starts_with('"') {
        return Some(quoted_length(rest, '"'));
    }
    let raw = rest.strip_prefix('r').filter(|raw| !within_word && raw.trim_start_matches('#').starts_with('"'));
    if let Some(raw) = raw {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let open = 1 + hashes + 1;
        return Some(rest[open..].find(&end).map_or(rest.len(), |close| open + close + end.len()));
    }
    // A lifetime is a quote without a second one behind the next character.
    let character = rest.strip_prefix('\'')?;
    let mut next = character.chars();
    (character.starts_with('\\') || (next.next().is_some() && next.next() == Some('\'')))
        .then(|| quoted_length(rest, '\''))
}

/// From `/*` to its `*/`; they nest.
fn comment_length(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// From the opening `quote` to the closing one; a backslash takes the next character with it.
fn quoted_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}
