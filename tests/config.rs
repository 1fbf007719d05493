//! Every broken config of `config/broken`, with the whole message that a user sees.

use std::fmt::Write as _;
use std::path::Path;

fn environment(name: &str) -> Option<String> {
    (name == "BAD").then(|| "hunter2".to_owned())
}

#[test]
fn every_broken_config_says_what_is_wrong_and_where() {
    let mut names: Vec<_> =
        std::fs::read_dir("tests/config/broken").unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(names.len() >= 40, "{} broken configs", names.len());
    let here = std::env::current_dir().unwrap().display().to_string();
    let mut messages = String::new();
    for path in names {
        match pingeon::config::load(&path, &environment) {
            Ok(_) => panic!("{} was read", path.display()),
            Err(error) => {
                let _ = writeln!(messages, "{}\n", error.to_string().replace(&format!("{here}/"), ""));
            }
        }
    }
    assert!(!messages.contains("hunter2"), "a secret is shown");
    insta::with_settings!({snapshot_path => "config", prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("broken", messages.replace("tests/config/broken/", ""));
    });
}

#[test]
fn a_named_config_is_taken_as_it_is() {
    let named = Path::new("nowhere/at-all.yaml");
    assert_eq!(pingeon::config::find(Some(named)).unwrap(), named);
    let error = pingeon::config::load(named, &environment).unwrap_err();
    assert_eq!(error.to_string(), "cannot read `nowhere/at-all.yaml`: there is no such file");
}
