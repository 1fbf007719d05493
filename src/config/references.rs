//! `{name}` in a step of a check: what a step before takes under that name.
//!
//! Only what could be a name between braces is a reference, so that the braces of JSON stay as they are; `{{name}}` writes
//! `{name}`. In an entry with `for`, whose texts give braces a meaning already, its variables come first.

use super::error::Complaint;
use super::expand::is_name;
use super::walk::quoted;

/// References in one text.
pub(super) const REFERENCES_MAX: usize = 100;

/// What the steps before take, in their order. A later one of the same name stands for it from then on.
#[derive(Default)]
pub(super) struct Names(Vec<String>);

impl Names {
    /// One more.
    pub(super) fn add(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Which value a name stands for.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.0.iter().rposition(|known| known == name)
    }

    /// The first name that `text` refers to.
    pub(super) fn named_in(&self, text: &str) -> Option<&str> {
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            rest = match braces(&rest[at..]) {
                Braces::Reference(name, after) => match self.find(name) {
                    Some(known) => return self.0.get(known).map(String::as_str),
                    None => after,
                },
                Braces::Literal(_, after) => after,
            };
        }
        None
    }

    /// What is wrong with a reference to what no step before takes.
    pub(super) fn unknown(&self, name: &str) -> Complaint {
        let complaint = Complaint::new(format!("no step before takes {}", quoted(name)));
        let near = complaint.nearest(name, self.iter());
        match near.hint {
            Some(_) => near,
            None => near
                .hint("a step before says where it is: `take: {name: {json: /pointer}}`; `{{name}}` writes `{name}`"),
        }
    }
}

/// What `rest` begins with, where braces stand.
pub(super) enum Braces<'t> {
    /// A reference to this name, and what comes after.
    Reference(&'t str, &'t str),
    /// This, which stays as it is, and what comes after.
    Literal(&'t str, &'t str),
}

/// Looks at `rest`, which begins with a brace.
pub(super) fn braces(rest: &str) -> Braces<'_> {
    let doubled = rest.strip_prefix('{').and_then(reference);
    if let Some((name, after)) = doubled.and_then(|(name, after)| Some((name, after.strip_prefix('}')?))) {
        return Braces::Literal(&rest[1..name.len() + 3], after);
    }
    match reference(rest) {
        Some((name, after)) => Braces::Reference(name, after),
        None => Braces::Literal(&rest[..1], &rest[1..]),
    }
}

/// The name that `rest` begins with in braces, and what comes after.
pub(super) fn reference(rest: &str) -> Option<(&str, &str)> {
    let inner = rest.strip_prefix('{')?;
    let end = inner.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
    let (name, after) = inner.split_at(end);
    Some((name, after.strip_prefix('}')?)).filter(|(name, _)| is_name(name))
}

/// A text that is read as itself: what would be a reference stands in double braces. The `{` of a `${` is none of ours.
pub(super) fn kept(text: &str) -> String {
    let (mut kept, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('{') {
        let (before, brace) = rest.split_at(at);
        kept += before;
        match reference(brace) {
            Some((name, after)) if !before.ends_with('$') => {
                kept += &format!("{{{{{name}}}}}");
                rest = after;
            }
            _ => {
                kept.push('{');
                rest = &brace[1..];
            }
        }
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::expand::{Expanded, Variables, expand};

    fn environment(name: &str) -> Option<String> {
        (name == "ENV").then(|| "{token}".to_owned())
    }

    fn names() -> Names {
        Names(vec!["token".to_owned(), "id".to_owned(), "token".to_owned()])
    }

    #[test]
    fn only_what_could_be_a_name_is_a_reference() {
        for (text, with_for, filled, typed, gaps) in [
            ("/a/{token}", false, "/a/{token}", "/a/{token}", vec![2]),
            ("{id}{token}", false, "{id}{token}", "{id}{token}", vec![1, 2]),
            ("{{token}}", false, "{token}", "{{token}}", vec![]),
            ("{{{token}}}", false, "{{token}}", "{{{token}}}", vec![]),
            (r#"{"a":{"b":1}}"#, false, r#"{"a":{"b":1}}"#, r#"{"a":{"b":1}}"#, vec![]),
            (r#"{"a":{token}}"#, false, r#"{"a":{token}}"#, r#"{"a":{token}}"#, vec![2]),
            ("{} {2} { token} {a-b} } {", false, "{} {2} { token} {a-b} } {", "{} {2} { token} {a-b} } {", vec![]),
            ("{ü}{token}ü", false, "{ü}{token}ü", "{ü}{token}ü", vec![2]),
            // What the environment or a `for` gave is not looked at again.
            ("${ENV}{id}", false, "{token}{id}", "${ENV}{id}", vec![1]),
            ("$${id} {id}", false, "${id} {id}", "$${id} {id}", vec![1]),
            ("{odd}{id}", true, "{token}{id}", "{{token}}{id}", vec![1]),
            ("{{id}} {id}", true, "{id} {id}", "{{id}} {id}", vec![1]),
        ] {
            let odd = Expanded::plain("{token}");
            let variables = Variables::new(vec![("odd", &odd)]);
            let expanded = expand(text, &environment, with_for.then_some(&variables), Some(&names())).unwrap();
            let found: Vec<usize> = expanded.gaps.iter().map(|gap| gap.value).collect();
            assert_eq!((&*expanded.text, &*expanded.typed, &found), (filled, typed, &gaps), "{text}");
            for gap in &expanded.gaps {
                assert_eq!(reference(&expanded.text[gap.at.clone()]).map(|(_, after)| after), Some(""), "{text}");
            }
            // What is explained is read back as the same.
            let again = expand(&expanded.typed, &environment, None, Some(&names())).unwrap();
            assert_eq!((again.text, again.gaps), (expanded.text, expanded.gaps), "{text}");
        }
    }

    #[test]
    fn references_to_nothing_say_what_was_meant() {
        let many = "{id}".repeat(REFERENCES_MAX + 1);
        for (text, with_for, why) in [
            ("{tokn}", false, "no step before takes `tokn`; did you mean `token`?"),
            ("{session}", false, "no step before takes `session`; known: token, id, token"),
            (
                "{tokn}",
                true,
                "`{tokn}` is no variable of this entry's `for`, and no step before takes it; did you mean `token`?",
            ),
            (&many, false, "more than 100 references to what steps take"),
        ] {
            let odd = Expanded::plain("x");
            let variables = Variables::new(vec![("odd", &odd)]);
            let wrong = expand(text, &environment, with_for.then_some(&variables), Some(&names())).unwrap_err();
            assert_eq!([Some(wrong.what), wrong.hint].into_iter().flatten().collect::<Vec<_>>().join("; "), why);
        }
        let nobody = Names::default().unknown("a");
        assert!(nobody.hint.unwrap().contains("take:"));
    }

    #[test]
    fn a_storm_of_braces_takes_no_time() {
        let storm = "{".repeat(1 << 20);
        assert_eq!(expand(&storm, &environment, None, Some(&names())).unwrap().text, storm);
        assert_eq!(kept(&storm), storm);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_kept(text in "[{}$ab1]{0,12}") {
            let typed = kept(&text.replace("${", "$${"));
            let read = expand(&typed, &environment, None, Some(&Names::default())).unwrap();
            proptest::prop_assert_eq!(read.text, text);
        }
    }
}
