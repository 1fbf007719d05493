//! What people see of each command: the README's examples, and those in `tests/cli`.
//!
//! `TRYCMD=overwrite cargo test --test cli` writes what there is now; read the difference before it is committed.

#[test]
fn commands_say_what_the_examples_show() {
    trycmd::TestCases::new()
        .env("http_proxy", "")
        .env("all_proxy", "")
        .env("EXAMPLE_PASSWORD", "open sesame")
        .case("README.md")
        .case("tests/cli/*.trycmd");
}

#[test]
fn the_config_in_the_readme_is_one() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let config = readme.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    std::fs::write(folder.path().join("secrets/shop"), "a-token").unwrap();
    std::fs::write(folder.path().join("pingeon.yaml"), config).unwrap();
    let mut validate = std::process::Command::new(env!("CARGO_BIN_EXE_pingeon"));
    let output = validate.arg("validate").current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
