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
