//! Plain HTTP.

use std::time::Duration;

use pingeon::check::Phase::{Assert, Body, Connect, FirstByte, Resolve, Send};
use pingeon::check::Verdict::{Degraded, Down, Unknown, Up};
use pingeon::check::http::{Auth, Http, Text};
use pingeon::net::IpFamily;
use pingeon::secret::Secret;

use crate::servers::*;
use crate::table::*;

const TICK: Duration = Duration::from_millis(20);

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}/")
}

/// A GET from a server that does `steps`.
fn from(steps: Vec<Do>) -> Http {
    get(url(serve(steps)))
}

fn begins(text: &str) -> Vec<Do> {
    vec![Do::ReadHead, Do::Send(text.as_bytes().to_vec())]
}

fn then(mut steps: Vec<Do>, step: Do) -> Vec<Do> {
    steps.push(step);
    steps
}

const SHORT_BODY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";

#[test]
#[rustfmt::skip]
fn stalls_and_resets_at_every_phase() {
    let big = |http: Http| with(http, |http| http.body = Secret::new("x".repeat(16 * 1024 * 1024)));
    let post = |http: Http| with(http, |http| http.method = "POST".parse().unwrap());
    run(vec![
        case("answers", from(ok("ok")), Up, None, "").also(|outcome| {
            assert_eq!((&outcome.result["status_code"], &outcome.result["bytes"]), (&200.into(), &2.into()));
            assert_eq!((outcome.phases.resolve, outcome.phases.tls), (None, None));
            assert!(outcome.phases.connect.is_some() && outcome.phases.send.is_some() && outcome.phases.body.is_some());
            assert!(outcome.result["phases"]["tls"].is_null() && outcome.result.get("tls").is_none());
            assert!(outcome.result["address"].as_str().unwrap().starts_with("127.0.0.1:"));
            assert_eq!(outcome.result["http_version"], "1.1");
        }),
        case("refused", get(url(closed_port())), Down, Some(Connect), "connection refused by 127.0.0.1:").also(
            |outcome| {
                assert!(outcome.phases.connect.is_some() && outcome.phases.send.is_none());
                assert!(outcome.assertions.is_empty() && outcome.result.get("status_code").is_none());
            },
        ),
        case("backlog full", get(url(full_port())), Down, Some(Connect), "no answer from 127.0.0.1:").within(SHORT),
        case("does not read", big(post(from(vec![Do::Freeze]))), Down, Some(Send), "did not take all that was sent within 300 ms").within(SHORT),
        case("resets while it is sent to", big(post(from(vec![Do::ReadHead, Do::Reset]))), Down, Some(Send), "while sending"),
        case("hangs", from(vec![Do::Hang]), Down, Some(FirstByte), "no first byte from 127.0.0.1:").within(SHORT).also(
            |outcome| {
                assert!(outcome.phases.first_byte.unwrap() > 250_000 && outcome.phases.body.is_none());
            },
        ),
        case("resets at once", from(vec![Do::ReadHead, Do::Reset]), Down, Some(FirstByte), "while waiting for the first byte"),
        case("closes at once", from(vec![Do::ReadHead]), Down, Some(FirstByte), "before the first byte"),
        case("hangs in the head", from(then(begins("HTTP/1.1 200 OK\r\nx: "), Do::Hang)), Down, Some(Body), "not complete within 300 ms").within(SHORT),
        case("closes in the head", from(begins("HTTP/1.1 200 OK\r\nx: ")), Down, Some(Body), "in the middle of the answer's head"),
        case("resets in the head", from(then(begins("HTTP/1.1 2"), Do::Reset)), Down, Some(Body), "connection reset by 127.0.0.1:"),
        case("drips its head", from(vec![Do::Drip(vec![b'H'; 1], TICK), Do::Drip(b"TTP/1.1 200 OK\r\nx: yyyyyyyyyyyyyyyyyyyyy\r\n\r\n".to_vec(), TICK)]), Down, Some(Body), "not complete within 300 ms").within(SHORT),
        case("drips its head in time", from(vec![Do::ReadHead, Do::Drip(b"HTTP/1.1 204 No\r\nx: y\r\n\r\n".to_vec(), TICK / 20), Do::Hang]), Up, None, ""),
        case("hangs in the body", from(then(begins(SHORT_BODY), Do::Hang)), Down, Some(Body), "not complete within 300 ms").within(SHORT).also(|outcome| {
            assert_eq!((&outcome.result["status_code"], &outcome.result["bytes"]), (&200.into(), &4.into()));
            assert!(outcome.assertions.len() == 1 && outcome.assertions[0].held, "{:?}", outcome.assertions);
        }),
        case("drips its body", from(then(begins("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n"), Do::Drip(vec![b'x'; 99], TICK))), Down, Some(Body), "not complete within 300 ms").within(SHORT),
        case("resets in the body", from(then(begins(SHORT_BODY), Do::Reset)), Down, Some(Body), "connection reset by 127.0.0.1:"),
        case("resets in a body until close", from(then(begins("HTTP/1.1 200 OK\r\n\r\nhalf"), Do::Reset)), Down, Some(Body), "connection reset by 127.0.0.1:"),
        case("has a deadline that is past", from(ok("ok")), Down, Some(Connect), "no answer from")
            .within(Duration::ZERO),
    ]);
}

#[test]
#[rustfmt::skip]
fn answers_of_all_sorts() {
    let head_of = |bytes: usize| format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "y".repeat(bytes));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(200));
    let chunked = |body: &str| begins(&format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}"));
    let holds = |part: &'static str, http: Http| with(http, |http| expect(http).body = contains(part));
    run(vec![
        case("short body", from(begins(SHORT_BODY)), Down, Some(Body), "in the middle of the body, after 4 of 10 bytes"),
        case("bad chunk", from(chunked("zz\r\nok\r\n0\r\n\r\n")), Down, Some(Body), "body cannot be read"),
        case("endless chunk size", from(chunked(&"1".repeat(100))), Down, Some(Body), "body cannot be read"),
        case("endless chunk extension", from(chunked(&format!("1;{}", "x".repeat(80_000)))), Down, Some(Body), "a chunk's head is larger than 64 KiB"),
        case("chunks that end early", from(chunked("5\r\nhello\r\n")), Down, Some(Body), "after 5 bytes"),
        case("chunks", holds("hello world", from(chunked("5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"))), Up, None, ""),
        case("trailers", from(chunked("2\r\nok\r\n0\r\nx-checksum: 1\r\n\r\n")), Up, None, ""),
        case("HTTP/1.0", holds("ok", from(begins("HTTP/1.0 200 OK\r\n\r\nok"))), Up, None, "").also(|outcome| {
            assert_eq!(outcome.result["http_version"], "1.0");
        }),
        case("body until close", holds("all of it", from(begins("HTTP/1.1 200 OK\r\n\r\nall of it"))), Up, None, ""),
        case("no reason phrase", from(begins("HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n")), Up, None, ""),
        case("garbage", from(begins("SSH-2.0-OpenSSH_9.2\r\n")), Down, Some(FirstByte), "does not answer in HTTP: `SSH-2.0-OpenSSH_9.2\\r\\n`").also(|it| assert_eq!(it.phases.body, None)),
        case("binary garbage", from(begins("\u{1b}[31m\0\0\n")), Down, Some(FirstByte), "does not answer in HTTP: `\\x1b[31m"),
        case("HTTP/2", from(begins("HTTP/2 200 OK\r\n\r\n")), Down, Some(FirstByte), "answer's head cannot be read"),
        case("a header that is none", from(begins("HTTP/1.1 200 OK\r\nno header\r\n\r\n")), Down, Some(FirstByte), "answer's head cannot be read"),
        case("long head", from(begins(&head_of(60_000))), Up, None, ""),
        case("endless head", from(begins(&head_of(70_000))), Down, Some(FirstByte), "answer's head is larger than 64 KiB"),
        case("too many headers", from(begins(&many)), Down, Some(FirstByte), "answer's head cannot be read"),
        case("204", from(begins("HTTP/1.1 204 No Content\r\n\r\n")), Up, None, "").also(|outcome| {
            assert!(outcome.phases.body.is_some() && outcome.result["bytes"] == 0);
        }),
        case("304", with(from(begins("HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n")), |http| { expect(http).status = vec![(304, 304)] }), Up, None, ""),
        case("HEAD", with(from(begins("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n")), |http| { http.method = "HEAD".parse().unwrap() }), Up, None, ""),
        case("100 continue unasked", from(begins("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")), Up, None, ""),
        case("103 early hints", from(begins("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")), Up, None, ""),
        case("100 continue asked for", with(from(vec![Do::ReadHead, Do::Send(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()), Do::ReadUntil(b"form"), Do::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec())]), |http| { http.method = "POST".parse().unwrap(); http.headers = vec![("expect".parse().unwrap(), Secret::new("100-continue"))]; http.body = Secret::new("a form"); }), Up, None, ""),
        case("a body longer than is read", with(from(ok("0123456789")), |http| expect(http).body_max = 4), Up, None, "")
            .also(|outcome| {
                assert_eq!((&outcome.result["bytes"], &outcome.result["body_cut"]), (&4.into(), &true.into()));
            }),
        case("a body as long as is read", with(from(ok("0123")), |http| expect(http).body_max = 4), Up, None, "").also(
            |outcome| {
                assert_eq!((&outcome.result["bytes"], outcome.result.get("body_cut")), (&4.into(), None));
            },
        ),
    ]);
}

#[test]
#[rustfmt::skip]
fn names_and_addresses() {
    let named = |name: &str, steps| get(format!("http://{name}:{}/", serve(steps)));
    let swallows = || {
        let port = serve(ok("ok"));
        full_port_at(&format!("127.0.0.2:{port}"));
        get(format!("http://first-refuses.example:{port}/"))
    };
    let refuses = || format!("http://first-refuses.example:{}/", serve(ok("ok")));
    run(vec![
        case("a name", named("local.example", ok("ok")), Up, None, "")
            .also(|outcome| assert!(outcome.phases.resolve.is_some())),
        case("no such name", get("http://nowhere.example/"), Down, Some(Resolve), "no such name: `nowhere.example`")
            .also(|outcome| {
                assert!(outcome.phases.resolve.is_some() && outcome.phases.connect.is_none());
            }),
        case("name service fails", get("http://servfail.example/"), Unknown, Some(Resolve), "the name service did not answer for `servfail.example`"),
        case("name service hangs", get("http://slow.example/"), Unknown, Some(Resolve), "within 300 ms").within(SHORT),
        case("no IPv6 address", with(get("http://v4-only.example/"), |http| http.ip = IpFamily::V6), Down, Some(Resolve), "`v4-only.example` has no IPv6 address"),
        case("an IPv4 literal for IPv6", with(get("http://127.0.0.1/"), |http| http.ip = IpFamily::V6), Down, Some(Resolve), "127.0.0.1 is no IPv6 address"),
        case("second address accepts", get(refuses()), Up, None, "").also(|outcome| {
            assert!(outcome.result["address"].as_str().unwrap().starts_with("127.0.0.1:"));
        }),
        case("first address swallows", swallows(), Up, None, "").within(4 * SHORT).also(|outcome| {
            // Half of the time went to the first one.
            let half = u64::try_from((2 * SHORT).as_micros()).unwrap();
            let connect = outcome.phases.connect.unwrap();
            assert!((half - 50_000..half + 300_000).contains(&connect), "{:?}", outcome.phases);
        }),
        case("all addresses refuse", get(format!("http://all-refuse.example:{}/", closed_port())), Down, Some(Connect), "connection refused by 127.0.0.3:"),
        case("connect_to", with(get("http://nowhere.example/"), |http| { http.connect_to = Some(([127, 0, 0, 1], serve(ok("ok"))).into()) }), Up, None, ""),
        case("connect_to without a port", with(named("nowhere.example", ok("ok")), |http| http.connect_to = Some(([127, 0, 0, 1], 0).into())), Up, None, ""),
        case("connect_to keeps the host", with(get("http://nowhere.example/x"), |http| { let port = echo(|head| match head.contains("host: nowhere.example\r\n") { true => "HTTP/1.1 200 OK\r\n\r\n".to_owned(), false => "HTTP/1.1 400 Bad Request\r\n\r\n".to_owned(), }); http.connect_to = Some(([127, 0, 0, 1], port).into()); }), Up, None, ""),
    ]);
}

/// A server whose body is the head of the request that it got.
fn mirror() -> u16 {
    echo(|head| format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n{head}"))
}

fn secret(name: &str, value: &str) -> (ureq::http::HeaderName, Secret) {
    (name.parse().unwrap(), Secret::new(value))
}

fn logs_in(http: &mut Http) {
    http.auth = Some(Auth::Basic { user: Secret::new("probe"), password: Secret::new("hunter2") });
    http.headers = vec![secret("cookie", "a=b"), secret("x-api-key", "k"), secret("accept", "text/x")];
}

#[test]
#[rustfmt::skip]
fn requests() {
    let sees = |regex: &'static str, change: fn(&mut Http)| {
        with(with(get(format!("{}a?b=c", url(mirror()))), change), |http| expect(http).body = matches(regex))
    };
    run(vec![
        case("request line", sees("^GET /a\\?b=c HTTP/1.1\r\n", |_| {}), Up, None, ""),
        case("user agent", sees("user-agent: pingeon/", |_| {}), Up, None, ""),
        case("no compression", sees("accept-encoding: identity\r\n", |_| {}), Up, None, ""),
        case("closes", sees("connection: close\r\n", |_| {}), Up, None, ""),
        case("basic", sees("authorization: Basic cHJvYmU6aHVudGVyMg==\r\n", logs_in), Up, None, ""),
        case("bearer", sees("authorization: Bearer t0ken\r\n", |http| http.auth = Some(Auth::Bearer(Secret::new("t0ken")))), Up, None, ""),
        case("own header", sees("accept: text/x\r\n", logs_in), Up, None, ""),
        case("own host", sees("host: other.example\r\n", |http| http.headers = vec![secret("host", "other.example")]), Up, None, ""),
        case("own user agent", sees("user-agent: me\r\n", |http| http.headers = vec![secret("user-agent", "me")]), Up, None, ""),
        case("post without a body", sees("^POST (?s:.*)content-length: 0\r\n", |http| http.method = "POST".parse().unwrap()), Up, None, ""),
        case("get with a body", sees("^GET (?s:.*)content-length: 3\r\n", |http| http.body = Secret::new("abc")), Up, None, ""),
        case("unusual method", sees("^PROPFIND ", |http| http.method = "PROPFIND".parse().unwrap()), Up, None, ""),
        case("long header", sees("x-long: yyyyy", |http| http.headers = vec![secret("x-long", &"y".repeat(20_000))]), Up, None, ""),
        case("header that cannot be sent", sees("", |http| http.headers = vec![secret("x", "a\nb")]), Unknown, Some(Send), "the value of header `x` cannot be sent"),
    ]);
}

#[test]
#[rustfmt::skip]
fn redirects() {
    let hop = |port: u16, steps: fn(String) -> Vec<Do>| get(url(serve(steps(url(port)))));
    let to = |location: &str, redirects: u32| with(from(leads_to(location)), |http| http.redirects = redirects);
    // 127.0.0.1 leads to another host, which mirrors.
    let elsewhere = |expected: Text| {
        let http = get(url(serve(leads_to(&format!("http://other.example:{}/", mirror())))));
        with(with(http, logs_in), |http| expect(http).body = expected)
    };
    let pinned = with(get("http://nowhere.example/"), |http| {
        let next = format!("http://other.example:{}/", serve(ok("ok")));
        http.connect_to = Some(([127, 0, 0, 1], serve(leads_to(&next))).into());
    });
    // The same server leads from / to /next, which mirrors.
    let same_origin = |status: &'static str, regex: &'static str, method: &'static str| {
        let port = echo(move |head| match head.contains(" / HTTP") {
            true => format!("HTTP/1.1 {status} Go\r\nlocation: next\r\n\r\n"),
            false => format!("HTTP/1.1 200 OK\r\n\r\n{head}"),
        });
        with(with(get(url(port)), logs_in), |http| {
            http.method = method.parse().unwrap();
            expect(http).body = matches(regex);
        })
    };
    run(vec![
        case("followed", hop(serve(ok("ok")), |next| leads_to(&next)), Up, None, "")
            .also(|outcome| assert_eq!(outcome.result["hops"], 1)),
        case("not followed", with(to("/x", 0), |http| expect(http).status = vec![(302, 302)]), Up, None, ""),
        case("not followed, not expected", to("/x", 0), Down, Some(Assert), "status 302, expected 200-299"),
        case("without a location", from(begins("HTTP/1.1 302 Found\r\n\r\n")), Down, Some(Assert), "status 302, expected 200-299"),
        case("loop", to("/", 5), Down, Some(Assert), "redirect loop: followed 5, the last one leads to http://127.0.0.1:"),
        case("too many", { let counter = std::sync::atomic::AtomicU32::new(0); let port = echo(move |_| { let next = counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed); format!("HTTP/1.1 302 Found\r\nlocation: /{next}?token=s3cret\r\n\r\n") }); with(get(url(port)), |http| http.redirects = 3) }, Down, Some(Assert), "too many redirects: followed 3, the last one leads to http://127.0.0.1:").also(|outcome| {
            assert!(outcome.reason.as_ref().unwrap().ends_with("/3?…"), "{:?}", outcome.reason);
            assert_eq!((&outcome.result["status_code"], &outcome.result["hops"]), (&302.into(), &3.into()));
        }),
        case("to a place that refuses", hop(closed_port(), |next| leads_to(&next)), Down, Some(Connect), "connection refused by"),
        case("to no URL of ours", to("ftp://a.example/", 5), Down, Some(Assert), "redirected to `ftp://a.example/`, which is no"),
        case("other host gets no password", elsewhere(lacks("authorization")), Up, None, ""),
        case("other host gets no cookie", elsewhere(lacks("cookie")), Up, None, ""),
        case("other host gets no key", elsewhere(lacks("x-api-key")), Up, None, ""),
        case("other host gets harmless headers", elsewhere(contains("accept: text/x\r\n")), Up, None, ""),
        case("other host is not where connect_to leads", pinned, Up, None, ""),
        case("another port of the host gets no password", with(with(from(leads_to(&url(mirror()))), logs_in), |http| expect(http).body = lacks("authorization")), Up, None, ""),
        case("same origin gets the password", same_origin("302", "authorization: Basic", "GET"), Up, None, ""),
        case("same origin gets the cookie", same_origin("302", "cookie: a=b", "GET"), Up, None, ""),
        case("302 makes POST a GET", same_origin("302", "^GET /next", "POST"), Up, None, ""),
        case("303 makes PUT a GET", same_origin("303", "^GET /next", "PUT"), Up, None, ""),
        case("303 leaves HEAD", same_origin("303", "", "HEAD"), Up, None, ""),
        case("307 leaves POST", same_origin("307", "^POST /next", "POST"), Up, None, ""),
        case("308 leaves POST", same_origin("308", "^POST /next", "POST"), Up, None, ""),
    ]);
}

#[test]
#[rustfmt::skip]
fn expectations() {
    let page = || {
        from(answers(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nx: 1\r\nx: 2\r\n\r\n{\"status\": \"up\", \"n\": 1.0, \"a/b\": [true]}",
        ))
    };
    let status = |code: &str, ranges: &[(u16, u16)]| {
        with(from(begins(&format!("HTTP/1.1 {code} X\r\ncontent-length: 0\r\n\r\n"))), |http| {
            expect(http).status = ranges.to_vec()
        })
    };
    let body = |text: Text| with(page(), |http| expect(http).body = text);
    let header = |name: &str, text: Text| with(page(), |http| expect(http).headers = vec![(name.to_owned(), text)]);
    let json = |pointer: &str, value: serde_json::Value| {
        with(page(), |http| expect(http).json = vec![(pointer.to_owned(), value)])
    };
    let equals = |text: &str| Text { equals: Some(Secret::new(text)), ..Text::default() };
    let fails = |name, http, reason| case(name, http, Down, Some(Assert), reason);
    let holds = |name, http| case(name, http, Up, None, "");
    run(vec![
        fails("status", status("503", &[(200, 299)]), "status 503, expected 200-299"),
        fails("status of several", status("404", &[(200, 299), (401, 401)]), "status 404, expected 200-299, 401"),
        holds("status that is odd", status("401", &[(200, 299), (401, 401)])),
        holds("body contains", body(contains("status"))),
        fails("body contains not", body(contains("ok")), "body does not contain `ok`"),
        holds("body without", body(lacks("error"))),
        fails("body with", body(lacks("up")), "body contains `up`"),
        holds("body matches", body(matches("\"n\": [0-9.]+"))),
        fails("body matches not", body(matches("v[0-9]+")), "body does not match `v[0-9]+`"),
        fails("body equals not", body(equals("ok")), "body is `{\"status\": "),
        holds("header equals", header("content-type", equals("text/html"))),
        fails("header equals not", header("content-type", equals("text/plain")), "header `content-type` is `text/html`, expected `text/plain`"),
        holds("header contains", header("content-type", contains("html"))),
        holds("header twice", header("x", equals("1, 2"))),
        fails("header matches not", header("content-type", matches("^application/json")), "header `content-type` does not match `^application/json`"),
        fails("header absent", header("x-nothing", lacks("y")), "header `x-nothing` is absent"),
        holds("json", json("/status", "up".into())),
        holds("json number", json("/n", 1.into())),
        holds("json escaped pointer", json("/a~1b/0", true.into())),
        fails("json differs", json("/status", "down".into()), "`/status` is \"up\", expected \"down\""),
        fails("json absent", json("/nothing", 1.into()), "`/nothing` is absent, expected 1"),
        fails("not json", with(from(ok("<html>")), |http| expect(http).json = vec![("/a".to_owned(), 1.into())]), "body is not JSON"),
        fails("json cut", with(page(), |http| { expect(http).json = vec![("/status".to_owned(), "up".into())]; expect(http).body_max = 5; }), "body is not JSON, cut at `body_max`"),
        holds("under", with(page(), |http| expect(http).under = Some(LONG))),
        case("over", with(page(), |http| expect(http).under = Some(Duration::from_nanos(1))), Degraded, None, "expected at most 0 µs"),
        case("no certificate to count the days of", with(page(), |http| expect(http).certificate_days = Some(14)), Degraded, None, "no certificate was shown"),
        fails("a down beats a degraded", with(body(contains("nope")), |http| expect(http).under = Some(Duration::from_nanos(1))), "body does not contain"),
        fails("all are listed", with(status("500", &[(200, 299)]), |http| { expect(http).headers = vec![("x".to_owned(), contains("y"))]; expect(http).body = Text { contains: Some(Secret::new("a")), not_contains: Some(Secret::new("b")), ..Text::default() }; expect(http).json = vec![("/a".to_owned(), 1.into())]; expect(http).under = Some(LONG); }), "status 500").also(|outcome| {
            let listed: Vec<_> = outcome.assertions.iter().map(|one| (one.what.as_str(), one.held)).collect();
            assert_eq!(
                listed,
                [
                    ("status", false),
                    ("headers.x", false),
                    ("body.contains", false),
                    ("body.not_contains", true),
                    ("body.json./a", false),
                    ("under", true),
                ]
            );
        }),
    ]);
}

#[test]
#[rustfmt::skip]
fn redirects_to_where_they_must_not_lead() {
    let to = |location: &str| from(leads_to(location));
    let refused = |name, http, reason| case(name, http, Down, Some(Assert), reason).also(|outcome| {
        assert!(outcome.result["hops"] == 1 && outcome.result["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{:?}", outcome.result);
    });
    let rebinds = get(format!("http://rebinds.example:{}/", serve(leads_to("/next"))));
    let port = serve(ok("ok"));
    // 127.0.0.1 leads to another port, with a body or without.
    let sends = |status: &str, method: &str, body: &str, to: u16| {
        let head = format!("HTTP/1.1 {status} Go\r\nlocation: {}?x\r\n\r\n", url(to));
        with(from(begins(&head)), |http| { http.method = method.parse().unwrap(); http.body = Secret::new(body); })
    };
    let nobody = || serve_with(|_| panic!("nobody is to be asked"));
    let proxied = |location: &str| with(get("http://a.example/"), |http| {
        let host = pingeon::net::Host::Address([127, 0, 0, 1].into());
        let (scheme, port) = (pingeon::net::ProxyScheme::Http, serve(leads_to(location)));
        http.proxy = pingeon::net::Proxy::Through { scheme, host, port, credentials: None };
    });
    run(vec![
        refused("an address", to("http://169.254.1.1/next/?x"), "redirected to http://169.254.1.1/next/?…, which is at 169.254.1.1, a link-local address"),
        refused("an address by IPv6", to("http://[fe80::1]/"), "which is at fe80::1, a link-local"),
        refused("an address mapped to IPv6", to("http://[::ffff:a9fe:101]/"), "which is at ::ffff:169.254.1.1, a link-local"),
        refused("a name", to("http://link-local.example/x"), "redirected to http://link-local.example/x, which is at 169.254.1.1"),
        refused("a name mapped to IPv6", to("http://mapped.example/x"), "which is at ::ffff:169.254.1.1"),
        refused("the own name, which is elsewhere by now", rebinds, "which is at 169.254.1.1, a link-local"),
        refused("the second hop", to(&url(serve(leads_to("http://169.254.1.1/")))), "which is at 169.254.1.1").also(|outcome| assert_eq!(outcome.result["hops"], 2)),
        refused("through a proxy, by address", proxied("http://169.254.1.1/"), "which is at 169.254.1.1"),
        refused("through a proxy, by a number", proxied("http://2852039166/"), "redirected to http://2852039166/, whose host the proxy may take for a link-local address"),
        case("the own host through a proxy", with(proxied("http://169.254.1.1/x"), |http| { http.url = "http://169.254.1.1/".parse().unwrap(); http.redirects = 1; }), Down, Some(Assert), "followed 1, the last one leads to http://169.254.1.1/x"),
        case("a name with another address as well", to(&format!("http://half-local.example:{port}/")), Up, None, ""),
        case("allowed, through a proxy", with(proxied("http://169.254.1.1/"), |http| { http.redirects_allow.link_local = true; http.redirects = 1; }), Down, Some(Assert), "followed 1, the last one leads to http://169.254.1.1/"),
        case("a body to another origin", sends("307", "POST", "password=hunter2", nobody()), Down, Some(Assert), "/?…, with the body: that goes to the origin of the check's own URL alone"),
        case("a body to another origin, by 308", sends("308", "DELETE", "x", nobody()), Down, Some(Assert), "/?…, with the body: "),
        case("a body to another origin, with PUT", sends("302", "PUT", "x", nobody()), Down, Some(Assert), "/?…, with the body: "),
        case("no body to another origin", sends("307", "POST", "", serve(ok("ok"))), Up, None, ""),
        case("a form becomes a GET at another origin", sends("302", "POST", "x", serve(ok("ok"))), Up, None, ""),
        case("the own address of this machine", to(&format!("http://local.example:{port}/")), Up, None, ""),
    ]);
}

/// Pieces of answers, well-formed or not.
fn piece() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    use proptest::prelude::*;
    let known = vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 404 No\r\n",
        "HTTP/1.1 100 Continue\r\n",
        "HTTP/1.1 302 Found\r\n",
        "HTTP/1.1 204 No\r\n",
        "content-length: 5\r\n",
        "content-length: 18446744073709551615\r\n",
        "content-length: -1\r\n",
        "transfer-encoding: chunked\r\n",
        "location: /\r\n",
        "location: \r\n",
        "connection: keep-alive\r\n",
        "\r\n",
        "\n",
        "hello",
        "5\r\nhello\r\n",
        "ffffffffffffffff\r\n",
        "0\r\n\r\n",
        "0\r\nx: y\r\n\r\n",
        ":\r\n",
    ];
    prop_oneof![
        6 => proptest::sample::select(known).prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn whatever_a_server_says_there_is_a_verdict_with_its_reason(pieces in proptest::collection::vec(piece(), 0..12)) {
        let port = serve(vec![Do::ReadHead, Do::Send(pieces.concat())]);
        let http = with(get(url(port)), |http| http.redirects = 2);
        let outcome = look(pingeon::check::Kind::Http(Box::new(http)), &net(), LONG);
        let fails = outcome.verdict == Down;
        proptest::prop_assert!(fails || outcome.verdict == Up, "{:?}", outcome);
        proptest::prop_assert_eq!((outcome.phase.is_some(), outcome.reason.is_some()), (fails, fails));
        proptest::prop_assert!(outcome.phases.connect.is_some() && outcome.phases.first_byte.is_some(), "{:?}", outcome);
    }
}
