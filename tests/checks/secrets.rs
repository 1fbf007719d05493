//! Servers that send back what was sent to them: nothing that the environment or a file gave may get into an outcome.

use std::io::{Read, Write};
use std::time::Instant;

use pingeon::check::Phase::{Assert, FirstByte};
use pingeon::check::{self, Phase};

use crate::servers::*;
use crate::table::*;

/// The outcome of the one check that `yaml` holds, where `TOKEN` is `hunter2`.
fn outcome(yaml: &str) -> (String, Option<Phase>, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pingeon.yaml");
    std::fs::write(directory.path().join("token"), "hunter2\n").unwrap();
    std::fs::write(directory.path().join("order.json"), "{\"key\": \"hunter2\"}\n").unwrap();
    std::fs::write(&path, format!("checks:\n- {{label: a, timeout: 1s, {yaml}}}\n")).unwrap();
    let config = pingeon::config::load(&path, &|name| (name == "TOKEN").then(|| "hunter2".to_owned())).unwrap();
    let check = &config.checks[0];
    let outcome = check::run(check, &net(), Instant::now() + check.timeout);
    (format!("{} {outcome:?}", check.target), outcome.phase, outcome.reason.unwrap_or_default())
}

/// A server that answers a line with it.
fn repeats_line() -> u16 {
    serve_with(|mut stream| {
        let line = read_until(&mut stream, b"\n");
        let _ = stream.write_all(&[b"500 ", &line[..]].concat());
    })
}

/// A server that answers a request with its body, and how long it was said to be.
fn repeats_body() -> u16 {
    serve_with(|mut stream| {
        let head = String::from_utf8(read_until(&mut stream, b"\r\n\r\n")).unwrap();
        let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap().to_owned();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).unwrap();
        let body = String::from_utf8(body).unwrap();
        let _ = write!(stream, "HTTP/1.1 200 OK\r\n\r\ngot {} ({length} bytes)", body.strip_suffix('\n').unwrap());
    })
}

/// A server that answers a request with its head.
fn repeats() -> u16 {
    echo(|head| format!("HTTP/1.1 200 OK\r\nx-head: {}\r\n\r\n{head}", head.replace("\r\n", " ")))
}

#[test]
fn what_comes_back_is_not_shown() {
    let repeats_raw = || echo(|head| head.replace("GET ", ""));
    let leads_here =
        || echo(|head| format!("HTTP/1.1 302 Found\r\nlocation: {}\r\n\r\n", &head[4..head.find(" HTTP").unwrap()]));
    let leads_nowhere = || echo(|_| "HTTP/1.1 302 Found\r\nlocation: ftp://me:hunter2@x/\r\n\r\n".to_owned());
    for (name, yaml, phase, reason) in [
        ("no HTTP", format!("http: 'http://127.0.0.1:{}/${{TOKEN}}'", repeats_raw()), FirstByte, "HTTP: `/*** "),
        (
            "a header of ours in the body",
            format!(
                "http: 'http://127.0.0.1:{}/', headers: {{X-Key: '${{TOKEN}}'}}, expect: {{body: {{contains: no}}}}",
                repeats()
            ),
            Assert,
            "body does not contain `no`",
        ),
        (
            "the path in a header",
            format!(
                "http: 'http://127.0.0.1:{}/${{TOKEN}}', expect: {{headers: {{x-head: {{equals: no}}}}}}",
                repeats()
            ),
            Assert,
            "header `x-head` is `GET /*** HTTP/1.1",
        ),
        (
            "a token out of a file",
            format!(
                "http: 'http://127.0.0.1:{}/', auth: {{bearer: {{token_file: token}}}}, expect: {{body: {{equals: no}}}}",
                repeats()
            ),
            Assert,
            "body is `",
        ),
        (
            "what is expected",
            format!("http: 'http://127.0.0.1:{}/', expect: {{body: {{contains: 'key ${{TOKEN}}'}}}}", repeats()),
            Assert,
            "body does not contain `key ***`",
        ),
        (
            "a redirect loop",
            format!("http: 'http://127.0.0.1:{}/x/${{TOKEN}}?${{TOKEN}}'", leads_here()),
            Assert,
            "/x/***?…",
        ),
        ("a redirect to nowhere", format!("http: 'http://127.0.0.1:{}/'", leads_nowhere()), Assert, "`ftp://x/`"),
        (
            "a dialogue",
            format!(
                "tcp: '127.0.0.1:{}', dialogue: [{{send: \"PASS ${{TOKEN}}\\n\"}}, {{expect: ^250}}]",
                repeats_line()
            ),
            Assert,
            "got `500 PASS ***\\n`",
        ),
    ] {
        let (all, failed_in, why) = outcome(&yaml);
        assert_eq!(failed_in, Some(phase), "{name}: {all}");
        assert!(why.contains(reason), "{name}: {why}");
        assert!(!all.contains("hunter2"), "{name}: {all}");
    }
}

#[test]
fn patterns_are_shown_as_they_were_typed() {
    for (kind, reason) in [
        (
            format!(
                "http: 'http://127.0.0.1:{}/', headers: {{X: hunter2}}, expect: {{body: {{matches: '^k ${{TOKEN}}'}}}}",
                repeats()
            ),
            "body does not match `^k ${TOKEN}`",
        ),
        (
            format!("steps: [{{http: 'http://127.0.0.1:{}/', take: {{a: {{regex: '^k ${{TOKEN}}'}}}}}}]", repeats()),
            "body does not match `^k ${TOKEN}`",
        ),
        (
            format!(
                "tcp: '127.0.0.1:{}', dialogue: [{{send: \"hunter2\\n\"}}, {{expect: '^250 ${{TOKEN}}'}}]",
                repeats_line()
            ),
            "expected `^250 ${TOKEN}`, got `500 ***\\n`",
        ),
    ] {
        let (all, _, why) = outcome(&kind);
        assert!(why.contains(reason) && !all.contains("hunter2"), "{why}: {all}");
    }
}

#[test]
fn what_the_config_itself_has_is_not_shown_either_where_it_is_masked_on_its_way_out() {
    let repeats_authorization = || {
        let of = |head: &str| head.split_once("authorization: ").unwrap().1.lines().next().unwrap().to_owned();
        echo(move |head| format!("HTTP/1.1 200 OK\r\n\r\n{}", of(head)))
    };
    for (request, reason) in [
        (
            format!(
                "{}/', auth: {{basic: {{user: ann, password: hunter2}}}}, expect: {{body: {{equals: no}}}}",
                repeats_authorization()
            ),
            "body is `Basic ***`",
        ),
        (
            format!(
                "{}/?k=hunter2', headers: {{X-Key: hunter2}}, expect: {{headers: {{x-head: {{equals: no}}}}}}",
                repeats()
            ),
            "header `x-head` is `GET /?*** HTTP/1.1",
        ),
    ] {
        let (all, _, why) = outcome(&format!("http: 'http://127.0.0.1:{request}"));
        assert!(why.contains(reason), "{why}");
        assert!(!all.contains("hunter2") && !all.contains("YW5uOmh1bnRlcjI="), "{all}");
    }
}

#[test]
fn a_body_out_of_a_file_goes_out_byte_for_byte_and_is_not_shown() {
    let (all, failed_in, why) = outcome(&format!(
        "http: 'http://127.0.0.1:{}/', method: POST, body_file: order.json, expect: {{body: {{equals: no}}}}",
        repeats_body()
    ));
    assert_eq!((failed_in, why.as_str()), (Some(Assert), "body is `got *** (19 bytes)`, expected `no`"));
    assert!(!all.contains("hunter2"), "{all}");
}

#[test]
fn a_plugin_repeats_its_arguments_and_its_environment() {
    for (script, reason) in [
        (r#"echo "no $0 | $0=1"; exit 2"#, "no ***"),
        ("env >&2; exit 2", "on standard error: "),
        ("echo \"$KEY\"; exit 2", "x***x"),
    ] {
        let (all, _, why) = outcome(&format!("exec: [sh, -c, '{script}', '${{TOKEN}}'], env: {{KEY: 'x${{TOKEN}}x'}}"));
        assert!(why.contains(reason) && !all.contains("hunter2") && all.contains("***"), "{script}: {all}");
    }
}
