//! pingeon.yaml(5) against what `config` reads: the keys that each mapping may have, what each takes, its bounds and its default
//! are asked of the reader by what it refuses, and must be what the page says.

use std::collections::BTreeSet;
use std::path::Path;

use super::pages::keys::{GROUPS, Key, Otherwise, Section, Takes};

/// Where the keys of each section stand: in the place of `KEYS`, and what has to be around them.
const PLACES: &[(&str, &str)] = &[
    ("Top level", "{KEYS}"),
    ("maintenance: window", "{maintenance: [{KEYS}]}"),
    ("defaults", "{defaults: {KEYS}, checks: [{label: a, tcp: 'a:1'}]}"),
    ("checks: entry", "{checks: [{tcp: 'a:1', KEYS}]}"),
    ("http", "{checks: [{label: a, KEYS}]}"),
    ("steps", "{checks: [{label: a, KEYS}]}"),
    ("steps: step", "{checks: [{label: a, steps: [{http: 'http://a', KEYS}]}]}"),
    ("steps: take", "{checks: [{label: a, steps: [{http: 'http://a', take: {a: {KEYS}}}]}]}"),
    ("steps: expect", "{checks: [{label: a, steps: [{http: 'http://a'}], expect: {KEYS}}]}"),
    ("auth", "{checks: [{label: a, http: 'http://a', auth: {KEYS}}]}"),
    ("basic", "{checks: [{label: a, http: 'http://a', auth: {basic: {KEYS}}}]}"),
    ("bearer", "{checks: [{label: a, http: 'http://a', auth: {bearer: {KEYS}}}]}"),
    ("oauth2", "{checks: [{label: a, http: 'http://a', auth: {oauth2: {KEYS}}}]}"),
    ("tls settings", "{checks: [{label: a, http: 'http://a', tls: {KEYS}}]}"),
    ("http: expect", "{checks: [{label: a, http: 'http://a', expect: {KEYS}}]}"),
    ("conditions", "{checks: [{label: a, http: 'http://a', expect: {body: {KEYS}}}]}"),
    ("tcp", "{checks: [{label: a, KEYS}]}"),
    ("tcp: step", "{checks: [{label: a, tcp: 'a:1', dialogue: [{KEYS}]}]}"),
    ("tcp: expect", "{checks: [{label: a, tcp: 'a:1', expect: {KEYS}}]}"),
    ("tls", "{checks: [{label: a, KEYS}]}"),
    ("tls: expect", "{checks: [{label: a, tls: 'a:1', expect: {KEYS}}]}"),
    ("icmp", "{checks: [{label: a, KEYS}]}"),
    ("icmp: expect", "{checks: [{label: a, icmp: a, expect: {KEYS}}]}"),
    ("dns", "{checks: [{label: a, KEYS}]}"),
    ("dns: question", "{checks: [{label: a, dns: {KEYS}}]}"),
    ("dns: expect", "{checks: [{label: a, dns: {name: a, type: A, server: 192.0.2.1}, expect: {KEYS}}]}"),
    ("dns: answers", "{checks: [{label: a, dns: {name: a, type: TXT, server: 192.0.2.1}, expect: {answers: {KEYS}}}]}"),
    ("exec", "{checks: [{label: a, KEYS}]}"),
    ("spool", "{spool: {KEYS}}"),
    ("queue", "{queue: {KEYS}}"),
    ("queue: kafka", "{queue: {kafka: {KEYS}}}"),
    ("queue: kafka: sasl", "{queue: {kafka: {brokers: ['a:1'], sasl: {KEYS}}}}"),
    ("store", "{store: {KEYS}}"),
    ("store: sqlite", "{store: {sqlite: {KEYS}}}"),
    ("store: postgres", "{store: {postgres: {KEYS}}}"),
    ("web", "{web: {KEYS}}"),
    ("log", "{log: {KEYS}}"),
];

/// The kinds of checks, each with a key that belongs to another one.
const KINDS: &[(&str, &str)] = &[
    ("http", "count"),
    ("steps", "count"),
    ("tcp", "count"),
    ("tls", "count"),
    ("icmp", "method"),
    ("dns", "count"),
    ("exec", "count"),
];

fn sections() -> impl Iterator<Item = &'static Section> {
    GROUPS.iter().flat_map(|(_, sections)| *sections)
}

fn section(title: &str) -> Option<&'static Section> {
    sections().find(|section| section.title == title)
}

/// Every section, key by key.
fn keys() -> impl Iterator<Item = (&'static Section, &'static Key)> {
    sections().flat_map(|section| section.keys.iter().map(move |key| (section, key)))
}

/// What the reader makes of a config: all of it, for comparing, or what is wrong with it.
fn read(yaml: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pingeon.yaml");
    std::fs::write(&path, yaml).unwrap();
    let read = pingeon::config::load(&path, &|_| None);
    let here = folder.path().display().to_string();
    read.map(|config| format!("{config:#?}").replace(&here, "")).map_err(|error| error.to_string().replace(&here, ""))
}

/// A config in which `section` has the keys that it needs, and `key` with `value`.
fn with(section: &Section, key: &str, value: &str) -> String {
    let needed = section.keys.iter().filter(|other| other.name != key);
    let mut keys: Vec<String> = needed
        .filter_map(|other| match other.otherwise {
            Otherwise::Needed(example) => Some(format!("{}: {example}", other.name)),
            Otherwise::Default(_) | Otherwise::Nothing => None,
        })
        .collect();
    if !key.is_empty() {
        keys.push(format!("{key}: {value}"));
    }
    place(section).replace("KEYS", &keys.join(", "))
}

fn place(section: &Section) -> &'static str {
    let place = PLACES.iter().find(|(title, _)| *title == section.title);
    place.unwrap_or_else(|| panic!("`{}` has no place: name it in PLACES", section.title)).1
}

/// The message by which a config is refused.
fn refusal(yaml: &str) -> String {
    read(yaml).err().unwrap_or_else(|| panic!("{yaml} was read"))
}

/// The keys of which a refusal says that they are known; none where it names none.
fn known(refusal: &str) -> BTreeSet<&str> {
    let list = ["\nhint: known: ", "\nhint: known here: "].iter().find_map(|hint| refusal.split_once(hint));
    list.map(|(_, list)| list.split(", ").collect()).unwrap_or_default()
}

fn on_page(section: &Section) -> BTreeSet<&'static str> {
    // A step has all that a request has, which the page does not tell twice.
    let beside = (section.title == "steps: step").then(|| self::section("http")).flatten();
    beside.into_iter().chain([section]).flat_map(|section| section.keys).map(|key| key.name).collect()
}

#[test]
fn each_section_has_the_keys_that_are_read() {
    for section in sections().filter(|section| KINDS.iter().all(|(kind, _)| *kind != section.title)) {
        // A check has too many for a message.
        if section.title != "checks: entry" {
            let refusal = refusal(&place(section).replace("KEYS", "zzzzzz: 1"));
            assert_eq!(known(&refusal), on_page(section), "{}: {refusal}", section.title);
        }
    }
}

#[test]
fn each_kind_of_check_has_the_keys_that_are_read() {
    let refusal_of_none = refusal("checks: [{label: a}]");
    let (_, kinds) = refusal_of_none.lines().next().unwrap().split_once("needs one of ").unwrap();
    assert_eq!(kinds.split(", ").collect::<Vec<_>>(), KINDS.iter().map(|(kind, _)| *kind).collect::<Vec<_>>());
    for (kind, foreign) in KINDS {
        let (all, own) = (section("checks: entry").unwrap(), section(kind).unwrap());
        let refusal = refusal(&with(own, foreign, "1"));
        let mut listed = known(&refusal);
        assert!(listed.insert(kind), "{kind}: {refusal}");
        assert_eq!(listed, on_page(all).union(&on_page(own)).copied().collect(), "{kind}: {refusal}");
    }
}

/// A mapping that the reader knows the keys of has a section of its own, so none of the sections is missing.
#[test]
fn each_mapping_that_is_read_has_its_section() {
    for (section, key) in keys() {
        for probe in ["{zzzzzz: 1}", "[{zzzzzz: 1}]"] {
            let refusal = read(&with(section, key.name, probe)).err().unwrap_or_default();
            if !refusal.contains("unknown key `zzzzzz`") {
                continue;
            }
            let (Takes::Part(title) | Takes::List(title, _)) = key.takes else {
                panic!("{}: `{}` takes a mapping: {refusal}", section.title, key.name)
            };
            let told = self::section(title).unwrap_or_else(|| panic!("`{title}` has no section: {refusal}"));
            // `json` is for bodies alone.
            let more = on_page(told).difference(&known(&refusal)).copied().collect::<Vec<_>>();
            let all = known(&refusal).is_subset(&on_page(told));
            assert!(title == "checks: entry" || (all && (more.is_empty() || more == ["json"])), "{title}: {refusal}");
        }
    }
}

#[test]
fn what_each_key_takes_is_what_is_read() {
    for (section, key) in keys() {
        let (wrong, said) = match key.takes {
            Takes::Duration(low, high) => ("99999999d".to_owned(), format!("is not between {low} and {high}")),
            Takes::Size(low, high) => ("99999999GiB".to_owned(), format!("is not between {low} and {high}")),
            Takes::Number(low, high) => (u64::MAX.to_string(), format!("is not a number from {low} to {high}")),
            Takes::Percent => ("101%".to_owned(), "is not a share from 0% to 100%".to_owned()),
            Takes::Truth => ("zzzzzz".to_owned(), "expected true or false".to_owned()),
            Takes::Choice(words) => ("zzzzzz".to_owned(), format!("is none of {}", words.join(", "))),
            Takes::List(_, most) => {
                (format!("[{}]", vec!["~"; most + 1].join(",")), format!("there may be {most} at most"))
            }
            Takes::Part(_) => ("1".to_owned(), "expected a mapping".to_owned()),
            Takes::Text(_) => ("{}".to_owned(), "expected".to_owned()),
        };
        let refusal = refusal(&with(section, key.name, &wrong));
        assert!(refusal.contains(&said), "{}: `{}` {said}, but: {refusal}", section.title, key.name);
    }
}

#[test]
fn a_default_that_is_typed_changes_nothing() {
    let mut compared = 0;
    for (section, key) in keys() {
        if let Otherwise::Default(value) = key.otherwise {
            let (without, typed) = (read(&with(section, "", "")), read(&with(section, key.name, value)));
            assert!(without.is_ok(), "{}: {without:?}", section.title);
            assert_eq!(without, typed, "{}: `{}: {value}`", section.title, key.name);
            compared += 1;
        }
    }
    assert!(compared > 20, "{compared} defaults were compared");
}

#[test]
fn what_is_needed_is_missed() {
    for (section, key) in keys().filter(|(_, key)| matches!(key.otherwise, Otherwise::Needed(_))) {
        let others = section.keys.iter().filter(|other| other.name != key.name);
        let others = others.filter_map(|other| match other.otherwise {
            Otherwise::Needed(example) => Some(format!("{}: {example}", other.name)),
            Otherwise::Default(_) | Otherwise::Nothing => None,
        });
        let refusal = refusal(&place(section).replace("KEYS", &others.collect::<Vec<_>>().join(", ")));
        let missed = refusal.contains(&format!("`{}` is missing", key.name)) || refusal.contains("needs one of");
        assert!(missed, "{}: {}: {refusal}", section.title, key.name);
    }
}

#[test]
fn the_parameters_of_a_postgres_url_are_those_that_are_read() {
    let refusal = refusal("store: {postgres: {url: 'postgresql://a@b/c?zzzzzz=1'}}");
    let url = section("store: postgres").unwrap().keys.iter().find(|key| key.name == "url").unwrap();
    let told = url.does.split("the parameters ").nth(1).unwrap().split('.').next().unwrap();
    let told: BTreeSet<&str> = told.split('`').skip(1).step_by(2).collect();
    assert_eq!(known(&refusal), told, "{refusal}");
}

#[test]
fn all_of_it_is_on_the_page_in_sentences() {
    let page = super::page("pingeon.yaml.5");
    for section in sections() {
        let begin = format!("\n.SS \"{}\"", section.title);
        let own = page.split(&begin).nth(1).unwrap_or_else(|| panic!("{begin}")).split("\n.S").next().unwrap();
        for key in section.keys {
            let tag = format!("\n.TP\n{}: ", key.name);
            let text = own.split(&tag).nth(1).unwrap_or_else(|| panic!("{}{tag}", section.title));
            let text = text.split("\n.TP\n").next().unwrap().trim_end();
            assert!(key.does.ends_with('.') && text.ends_with('.'), "{}: `{}`: {text}", section.title, key.name);
        }
    }
}

#[test]
fn the_examples_on_the_page_are_read() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    for name in ["shop", "kafka", "postgres"] {
        std::fs::write(folder.path().join("secrets").join(name), "open-sesame").unwrap();
    }
    let examples = super::examples("pingeon.yaml.5");
    assert!(examples.len() > 3, "the page is not read as it is written: {examples:?}");
    for example in examples {
        let path: &Path = &folder.path().join("pingeon.yaml");
        std::fs::write(path, &example).unwrap();
        if let Err(error) = pingeon::config::load(path, &|_| None) {
            panic!("{error}\n{example}");
        }
    }
}
