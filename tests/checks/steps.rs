//! Checks with `steps`. The cases are configs, as users write them: `http://local.example:PORT` is this process's server.

use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use pingeon::check::Phase::*;
use pingeon::check::Verdict::*;
use pingeon::check::{Kind, Outcome};
use pingeon::clock::SystemClock;
use pingeon::net::Net;
use serde_json::Value;

use crate::servers::{Do, closed_port, read_until, serve, serve_with};
use crate::table::{LONG, Probe, SHORT, case, look, net, run};

/// The check of a config, in which `PORT` is `port`.
pub fn steps(yaml: &str, port: u16) -> Kind {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pingeon.yaml");
    let yaml = yaml.replace("PORT", &port.to_string()).replace("CLOSED", &closed_port().to_string());
    std::fs::write(&path, format!("checks:\n- {{label: a, {yaml}}}\n")).unwrap();
    let config = pingeon::config::load(&path, &|name| (name == "KEY").then(|| "hunter2".to_owned())).unwrap();
    config.checks[0].kind.clone()
}

/// A request as it came: the head, a blank line, the body.
type Requests = Receiver<String>;

/// A server that gives the answers that belong to paths, and hands on what it was asked.
fn site(pages: &'static [(&'static str, &'static str)]) -> (u16, Requests) {
    let (sender, requests) = channel();
    let sender: Arc<Mutex<Sender<String>>> = Arc::new(Mutex::new(sender));
    let port = serve_with(move |mut stream| {
        let head = String::from_utf8_lossy(&read_until(&mut stream, b"\r\n\r\n")).into_owned();
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        let _ = stream.read_exact(&mut body);
        let path = head.split(' ').nth(1).unwrap_or_default();
        let page = pages.iter().find(|(known, _)| *known == path).map_or("404 Not Found\n\n", |(_, page)| *page);
        let _ = sender.lock().unwrap().send(head + &String::from_utf8_lossy(&body));
        let (head, body) = page.split_once("\n\n").unwrap();
        let length = body.len();
        let head = head.replace('\n', "\r\n");
        let _ = stream.write_all(format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\n\r\n{body}").as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read(&mut [0; 64]);
    });
    (port, requests)
}

const PAGES: &[(&str, &str)] = &[
    (
        "/login",
        "200 OK\nset-cookie: theme=dark\nset-cookie: session=s3ss10n; HttpOnly\n\n{\"token\": \"t0ken/+ü\\\"x\", \"id\": 17, \"ok\": true, \"none\": null, \"list\": [], \"half\": 1.5, \"empty\": \"\"}",
    ),
    ("/form", "200 OK\n\n<input name=\"csrf\" value=\"c5rf-value\"> <input name=\"csrf\" value=\"other-one\">"),
    (
        "/odd",
        "200 OK\n\n{\"line\": \"a\\r\\nX-Injected: yes\", \"nul\": \"a\\u0000b\", \"up\": \"..\", \"reference\": \"{id}{{id}}${KEY}\", \"path\": \"/../admin?x=1#y\"}",
    ),
    ("/account/17", "200 OK\n\nwelcome"),
    (
        "/echo",
        "403 No\nx-seen: s3ss10n\n\nyou are s3ss10n with t0ken/+\u{fc}\"x and t0ken%2F%2B%C3%BC%22x or t0ken\\/+",
    ),
    ("/token", "200 OK\nx-token: t0ken-of-a-header\n\nt0ken-of-a-header"),
    ("/leads", "302 Found\nlocation: /account/17\n\n"),
    ("/", "200 OK\n\nok"),
];

#[test]
fn values_go_where_they_are_named() {
    let take = "take: {token: {json: /token}, id: {json: /id}, ok: {json: /ok}, session: {header: Set-Cookie, regex: 'session=([^;]+)'}}";
    let first = format!("{{http: 'http://local.example:PORT/login', {take}}}");
    for (second, sent) in [
        ("http: 'http://local.example:PORT/account/{id}'", "GET /account/17 HTTP/1.1\r\n"),
        (
            "http: 'http://local.example:PORT/{token}?a={ok}&b={token}'",
            "GET /t0ken%2F%2B%C3%BC%22x?a=true&b=t0ken%2F%2B%C3%BC%22x HTTP/1.1\r\n",
        ),
        ("http: 'http://local.example:PORT/{{id}}'", "GET /{id} HTTP/1.1\r\n"),
        ("http: 'http://local.example:PORT?{id}'", "GET /?17 HTTP/1.1\r\n"),
        (
            "http: 'http://local.example:PORT/', headers: {Cookie: 'session={session}; id={id}'}",
            "\r\ncookie: session=s3ss10n; id=17\r\n",
        ),
        ("http: 'http://local.example:PORT/', headers: {X-A: '${KEY}{id}{{id}}{2}'}", "\r\nx-a: hunter217{id}{2}\r\n"),
        (
            "http: 'http://local.example:PORT/', auth: {bearer: {token: '{session}'}}",
            "\r\nauthorization: Bearer s3ss10n\r\n",
        ),
        (
            "http: 'http://local.example:PORT/', auth: {basic: {user: '{id}', password: '{session}'}}",
            "\r\nauthorization: Basic MTc6czNzczEwbg==\r\n",
        ),
        (
            r#"http: 'http://local.example:PORT/', method: POST, body: '{"a": {"id": {id}}, "t": "{token}"}'"#,
            "\r\n\r\n{\"a\": {\"id\": 17}, \"t\": \"t0ken/+ü\\\"x\"}",
        ),
        ("http: 'http://local.example:PORT/', method: POST, body: '{token}'", "\r\n\r\nt0ken/+ü\"x"),
        (
            "http: 'http://local.example:PORT/', method: POST, body: 't={token}', headers: {Content-Type: application/x-www-form-urlencoded}",
            "\r\n\r\nt=t0ken%2F%2B%C3%BC%22x",
        ),
        (
            "http: 'http://local.example:PORT/', method: POST, body: 't={token}', headers: {Content-Type: 'Application/X-WWW-Form-URLencoded; charset=utf-8'}",
            "\r\n\r\nt=t0ken%2F%2B%C3%BC%22x",
        ),
        (
            "http: 'http://local.example:PORT/', method: POST, body: '\"{token}\"', headers: {Content-Type: Application/JSON}",
            "\r\n\r\n\"t0ken/+ü\\\"x\"",
        ),
        (
            "http: 'http://local.example:PORT/', method: POST, body: '\"{token}\"', headers: {Content-Type: application/problem+json;v=1}",
            "\r\n\r\n\"t0ken/+ü\\\"x\"",
        ),
        ("http: 'http://local.example:PORT/', method: POST, body: '<{id}> {} { id}'", "\r\n\r\n<17> {} { id}"),
        ("http: 'http://local.example:PORT/leads', headers: {Cookie: '{session}'}", "GET /account/17 HTTP/1.1\r\n"),
    ] {
        let (port, requests) = site(PAGES);
        let outcome =
            look(steps(&format!("steps: [{first}, {{{second}, expect: {{status: [100-599]}}}}]"), port), &net(), LONG);
        assert_eq!((outcome.verdict, outcome.reason), (Up, None), "{second}");
        let asked: Vec<String> = requests.try_iter().collect();
        let last = asked.last().unwrap();
        assert!(last.contains(sent), "{second}\n{last}");
    }
}

#[test]
#[rustfmt::skip]
fn verdicts() {
    let login = |take: &str| format!("{{http: 'http://local.example:PORT/login', name: login, take: {{{take}}}}}");
    let home = "{http: 'http://local.example:PORT/'}";
    let after = |take: &str, next: &str| format!("steps: [{}, {next}]", login(take));
    let odd = |take: &str, next: &str| format!("steps: [{{http: 'http://local.example:PORT/odd', take: {{{take}}}}}, {{http: 'http://local.example:PORT/', {next}}}]");
    let port = site(PAGES).0;
    let hangs = serve(vec![Do::ReadHead, Do::Hang]);
    let one = |name, yaml: String, verdict, phase, reason| case(name, Probe::from(steps(&yaml, port)), verdict, phase, reason);
    run(vec![
        one("all pass", format!("steps: [{home}, {home}, {home}], expect: {{under: 4s}}"), Up, None, "").also(|outcome| {
            let each: u64 = (0..3).map(|at| step(outcome, at)["phases"]["first_byte"].as_u64().unwrap()).sum();
            assert_eq!(outcome.phases.first_byte, Some(each));
            let whats: Vec<&str> = outcome.assertions.iter().map(|one| one.what.as_str()).collect();
            assert_eq!(whats, ["step 1: status", "step 2: status", "step 3: status", "under"]);
            assert_eq!((&step(outcome, 2)["status_code"], &step(outcome, 2)["bytes"]), (&200.into(), &2.into()));
            assert!(step(outcome, 0)["duration_us"].as_u64().unwrap() > 0);
        }),
        one("one alone", format!("steps: [{home}]"), Up, None, ""),
        one("an old session", after("a: {json: /id}", "{http: 'http://local.example:PORT/echo', name: account}, {http: 'http://local.example:PORT/'}"), Down, Some(Assert), "step 2 (account): status 403, expected 200-299").also(|outcome| {
            assert_eq!((verdict_of(outcome, 0), verdict_of(outcome, 1), step(outcome, 2)), (Some("up"), Some("down"), &Value::Null));
            assert_eq!((&step(outcome, 0)["name"], &step(outcome, 1)["phase"]), (&"login".into(), &"assert".into()));
        }),
        one("first is down", "steps: [{http: 'http://local.example:PORT/none', take: {a: {json: /a}}}, {http: 'http://local.example:PORT/{a}'}]".to_owned(), Down, Some(Assert), "step 1: status 404, expected 200-299").also(|outcome| {
            assert!(step(outcome, 1).is_null());
        }),
        one("second refuses", format!("steps: [{home}, {{http: 'http://local.example:CLOSED/'}}]"), Down, Some(Connect), "step 2: connection refused by 127.0.0.1:").also(|outcome| {
            assert_eq!((&step(outcome, 1)["status_code"], &step(outcome, 1)["phases"]["send"]), (&Value::Null, &Value::Null));
        }),
        one("second has no name", format!("steps: [{home}, {{http: 'http://nowhere.example/'}}]"), Down, Some(Resolve), "step 2: "),
        one("second cannot be judged", format!("steps: [{home}, {{http: 'http://servfail.example/'}}, {home}]"), Unknown, Some(Resolve), "step 2: ").also(|outcome| assert!(step(outcome, 2).is_null())),
        one("second hangs", format!("steps: [{home}, {{http: 'http://local.example:{hangs}/'}}]"), Down, Some(FirstByte), "step 2: no first byte from").within(SHORT),
        one("one is slow", format!("steps: [{home}, {{http: 'http://local.example:PORT/', expect: {{certificate_days: 1}}}}, {home}]"), Degraded, None, "step 2: no certificate was shown").also(|outcome| {
            assert_eq!([0, 1, 2].map(|at| verdict_of(outcome, at).unwrap()), ["up", "degraded", "up"]);
        }),
        one("all are without certificates", format!("steps: [{home}], expect: {{certificate_days: 3}}"), Degraded, None, "no certificate was shown"),
        one("nothing at a pointer", after("token: {json: /access_token}", home), Down, Some(Assert), "step 1 (login): nothing to take as `token`: `/access_token` is absent"),
        one("null", after("a: {json: /none}", home), Down, Some(Assert), "`/none` is null"),
        one("a list", after("a: {json: /list}", home), Down, Some(Assert), "`/list` is a list"),
        one("half a number", after("a: {json: /half}", home), Down, Some(Assert), "`/half` is a number that is not whole"),
        one("an empty text", after("a: {json: /empty}", home), Down, Some(Assert), "nothing to take as `a`: it is empty"),
        one("no JSON", "steps: [{http: 'http://local.example:PORT/', take: {a: {json: /a}}}]".to_owned(), Down, Some(Assert), "body is not JSON"),
        one("JSON that was cut", "steps: [{http: 'http://local.example:PORT/login', take: {a: {json: /id}}, expect: {body_max: 9B}}]".to_owned(), Down, Some(Assert), "body is not JSON, cut at `body_max`"),
        one("no match", after("a: {regex: 'csrf=(.)'}", home), Down, Some(Assert), "body does not match `csrf=(.)`"),
        one("no header", after("a: {header: x-token}", home), Down, Some(Assert), "header `x-token` is absent"),
        one("no match in a header", after("a: {header: set-cookie, regex: 'sid=(.+)'}", home), Down, Some(Assert), "header `set-cookie` does not match `sid=(.+)`"),
        one("a group that took no part", "steps: [{http: 'http://local.example:PORT/', take: {a: {regex: '(x)?ok'}}}]".to_owned(), Down, Some(Assert), "`(x)?ok` matches, but what is to be taken of it is empty"),
        one("an empty group of a header", after("a: {header: set-cookie, regex: 'theme=(x*)'}", home), Down, Some(Assert), "`theme=(x*)` matches, but"),
        one("a match that was cut", "steps: [{http: 'http://local.example:PORT/token', take: {a: {regex: '^t0ken.*'}}, expect: {body_max: 9B}}]".to_owned(), Down, Some(Assert), "what matches `^t0ken.*` reaches the end of the body, cut at `body_max`"),
        one("a match before the cut", "steps: [{http: 'http://local.example:PORT/token', take: {a: {regex: '^t0ken'}}, expect: {body_max: 9B}}]".to_owned(), Up, None, ""),
        one("a match at the end", "steps: [{http: 'http://local.example:PORT/token', take: {a: {regex: '^t0ken.*'}}, expect: {body_max: 17B}}]".to_owned(), Up, None, ""),
        one("no match before the cut", "steps: [{http: 'http://local.example:PORT/token', take: {a: {regex: header}}, expect: {body_max: 9B}}]".to_owned(), Down, Some(Assert), "body does not match `header`, cut at `body_max`"),
        one("no header where a redirect leads", "steps: [{http: 'http://local.example:PORT/leads', take: {a: {header: set-cookie}}}]".to_owned(), Down, Some(Assert), "header `set-cookie` is absent after 1 redirect (`redirects: 0` looks at the first answer)"),
        one("the status comes before what is taken", "steps: [{http: 'http://local.example:PORT/echo', take: {a: {json: /a}}}]".to_owned(), Down, Some(Assert), "step 1: status 403"),
        one("a line break for a header", odd("a: {json: /line}", "headers: {X-A: 'a{a}'}"), Down, Some(Assert), "step 2: header `x-a` cannot be sent: what was taken for it holds a line break").also(|outcome| {
            assert!(outcome.result["steps"][1]["phases"].is_null() && !outcome.reason.as_ref().unwrap().contains("Injected"));
        }),
        one("a NUL for a header", odd("a: {json: /nul}", "headers: {X-A: '{a}'}"), Down, Some(Assert), "header `x-a` cannot be sent"),
        one("a line break for a bearer", odd("a: {json: /line}", "auth: {bearer: {token: '{a}'}}"), Down, Some(Assert), "the credentials cannot be sent"),
        one("a colon for a user", "steps: [{http: 'http://local.example:PORT/odd', take: {a: {regex: '^..line.:'}}}, {http: 'http://local.example:PORT/', auth: {basic: {user: '{a}', password: x}}}]".to_owned(), Down, Some(Assert), "the credentials cannot be sent: what was taken for them holds a control character, or a colon"),
        one("a NUL for a password", odd("a: {json: /nul}", "auth: {basic: {user: me, password: '{a}'}}"), Down, Some(Assert), "holds a control character"),
        one("a line break for a body", odd("a: {json: /line}", "method: POST, body: '{a}'"), Up, None, ""),
        one("the folder above", "steps: [{http: 'http://local.example:PORT/odd', take: {up: {json: /up}}}, {http: 'http://local.example:PORT/a/{up}/b'}]".to_owned(), Down, Some(Assert), "step 2: the URL cannot be asked for: what was taken for it is `.` or `..`"),
    ]);
}

#[test]
fn hostile_values_stay_values() {
    let (port, requests) = site(PAGES);
    let yaml = "steps: [{http: 'http://local.example:PORT/odd', take: {line: {json: /line}, nul: {json: /nul}, reference: {json: /reference}, path: {json: /path}, id: {regex: '^.'}}}, \
        {http: 'http://local.example:PORT/x/{line}{nul}?{path}', method: POST, headers: {X-A: '{reference}'}, body: '{\"r\": \"{reference}\", \"l\": \"{line}{nul}\"}', expect: {status: [404]}}]";
    let outcome = look(steps(yaml, port), &net(), LONG);
    assert_eq!((outcome.verdict, outcome.reason), (Up, None));
    let asked = requests.try_iter().last().unwrap();
    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("POST /x/a%0D%0AX-Injected%3A%20yesa%00b?%2F..%2Fadmin%3Fx%3D1%23y HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains("x-a: {id}{{id}}${KEY}\r\n"), "nothing is filled in twice: {head}");
    assert_eq!(body, r#"{"r": "{id}{{id}}${KEY}", "l": "a\r\nX-Injected: yesa\u0000b"}"#);
}

/// What was taken comes back in a body, in headers and in a redirect, and is shown nowhere.
#[test]
fn what_was_taken_is_shown_nowhere() {
    let secrets = ["s3ss10n", "t0ken", "c5rf-value"];
    let take = "take: {token: {json: /token}, session: {header: set-cookie, regex: 'session=([^;]+)'}}";
    let same = "expect: {headers: {set-cookie: {contains: nothing}}, body: {contains: nothing}}";
    let first = format!("{{http: 'http://local.example:PORT/login', {take}}}");
    let watched =
        Net::new(Arc::new(SystemClock), |_| None, Arc::new(|_: &str, _| Ok(vec![[127, 0, 0, 1].into()]))).watched();
    for yaml in [
        format!("steps: [{{http: 'http://local.example:PORT/login', {take}, {same}}}]"),
        "steps: [{http: 'http://local.example:PORT/form', take: {a: {regex: 'value=\"(.*?)\"'}}, expect: {body: {equals: nothing}}}]".to_owned(),
        format!("steps: [{first}, {{http: 'http://local.example:PORT/echo', expect: {{status: [403], headers: {{x-seen: {{equals: no}}}}, body: {{equals: no}}}}}}]"),
        format!("steps: [{first}, {{http: 'http://local.example:PORT/login', redirects: 0, headers: {{X: '{{session}}'}}, expect: {{body: {{json: {{/token: no}}}}}}}}]"),
        format!("steps: [{first}, {{http: 'http://local.example:PORT/{{token}}/{{session}}'}}]"),
        "steps: [{http: 'http://local.example:PORT/token', take: {a: {header: x-token}}, expect: {body: {equals: no}}}]".to_owned(),
        "steps: [{http: 'http://local.example:PORT/token', take: {a: {regex: '.*'}}, expect: {headers: {x-token: {equals: no}}}}]".to_owned(),
    ] {
        let kind = steps(&yaml, site(PAGES).0);
        let outcome = look(kind, &watched, LONG);
        assert_eq!((outcome.verdict, outcome.phase), (Down, Some(Assert)), "{yaml}");
        assert!(!outcome.timeline.is_empty());
        let shown = format!("{outcome:?}");
        assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{yaml}\n{shown}");
    }
    let leads = crate::servers::echo(|head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        match path {
            "/login" => "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\ns3ss10n".to_owned(),
            path => format!("HTTP/1.1 302 Found\r\nlocation: ftp://x{path}\r\ncontent-length: 0\r\n\r\n"),
        }
    });
    let yaml = "steps: [{http: 'http://local.example:PORT/login', take: {a: {regex: '.+'}}}, {http: 'http://local.example:PORT/{a}'}]";
    let outcome = look(steps(yaml, leads), &net(), LONG);
    assert_eq!(outcome.reason.unwrap(), "step 2: redirected to `ftp://x/***`, which is no `http` or `https` URL");
    // The same where the very answer that is taken from leads there, and where what is shown of it is cut.
    for (path, told) in [("c0de-1234".to_owned(), "`ftp://x/***`"), ("c".repeat(200), "`ftp://x/***…`")] {
        let yaml = format!(
            "steps: [{{http: 'http://local.example:PORT/{path}', take: {{code: {{header: location, regex: 'x/(.*)'}}}}}}]"
        );
        let outcome = look(steps(&yaml, leads), &net(), LONG);
        assert_eq!(outcome.reason.unwrap(), format!("step 1: redirected to {told}, which is no `http` or `https` URL"));
    }
}

#[test]
fn values_are_bounded() {
    let long = |length: usize| {
        let port = crate::servers::echo(move |_| {
            format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}", "/".repeat(length))
        });
        move |next: &str| {
            let first = "{http: 'http://local.example:PORT/', take: {a: {regex: '^/+$'}}}";
            let next = format!("{{http: 'http://local.example:PORT/', {next}}}");
            let outcome = look(steps(&format!("steps: [{first}, {next}]"), port), &net(), LONG);
            outcome.reason.unwrap_or_default()
        }
    };
    assert_eq!(long(8_192)(""), "");
    assert_eq!(long(8_193)(""), "step 1: nothing to take as `a`: it is longer than 8 KiB");
    let many = |times: usize| "{a}".repeat(times);
    let reason = long(8_192)(&format!("headers: {{X: '{}'}}", many(5)));
    assert_eq!(reason, "step 2: header `x` cannot be sent: with what was taken it is longer than 32768 bytes");
    assert_eq!(long(8_192)(&format!("headers: {{X: '{}'}}", many(4))), "");
    let form = "method: POST, headers: {Content-Type: application/x-www-form-urlencoded}";
    let reason = long(8_192)(&format!("{form}, body: '{}'", many(43)));
    assert_eq!(reason, "step 2: the body cannot be sent: with what was taken it is longer than 1048576 bytes");
    let reason = long(3_000)("redirects: 0 }, {http: 'http://local.example:PORT/{a}'");
    assert_eq!(reason, "step 3: the URL cannot be asked for: with what was taken it is longer than 8000 bytes");
}

fn step(outcome: &Outcome, at: usize) -> &Value {
    &outcome.result["steps"][at]
}

fn verdict_of(outcome: &Outcome, at: usize) -> Option<&str> {
    step(outcome, at)["verdict"].as_str()
}
