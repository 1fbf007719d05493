//! `auth: {oauth2: …}`: a server of our own gives tokens, and one takes them or not. The cases are configs, as users write them.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pingeon::check::Phase::{Assert, Connect, FirstByte, Resolve, Tls};
use pingeon::check::Verdict::*;
use pingeon::check::http::Auth;
use pingeon::check::{Kind, Outcome};
use pingeon::net::{Pem, TlsSettings};
use pingeon::secret::Secret;
use serde_json::json;

use crate::pki::Authority;
use crate::secure::{BOTH, serve_tls};
use crate::servers::*;
use crate::table::*;

/// A server that gives out tokens by what `answer` makes of the request; its port, and the requests that came.
fn issuer(answer: impl Fn(usize, &str) -> String + Send + Sync + 'static) -> (u16, Arc<Mutex<Vec<String>>>) {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let all = asked.clone();
    let port = serve_with(move |mut stream| {
        let head = String::from_utf8(read_until(&mut stream, b"\r\n\r\n")).unwrap();
        let length = head.split("content-length: ").nth(1).map(|rest| rest.lines().next().unwrap().parse().unwrap());
        let mut body = vec![0; length.unwrap_or(0)];
        let _ = stream.read_exact(&mut body);
        let request = head + &String::from_utf8(body).unwrap();
        let count = {
            let mut all = all.lock().unwrap();
            all.push(request.clone());
            all.len()
        };
        let _ = stream.write_all(answer(count, &request).as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read(&mut [0; 64]);
    });
    (port, asked)
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Token 1, token 2, and so on.
fn granted(more: &'static str) -> impl Fn(usize, &str) -> String + Send + Sync {
    move |count, _| {
        answer("200 OK", &format!("{{\"access_token\": \"t0ken-{count}\", \"token_type\": \"Bearer\"{more}}}"))
    }
}

/// A target that takes any token but those in `refused`.
fn target(refused: &'static [&'static str]) -> u16 {
    echo(move |head| {
        let Some(token) = head.split("authorization: Bearer ").nth(1).and_then(|rest| rest.lines().next()) else {
            return answer("403 Forbidden", "no token");
        };
        match refused.contains(&token) {
            true => answer("401 Unauthorized", &format!("not {token}")),
            false => answer("200 OK", &format!("hello {token}")),
        }
    })
}

/// The check that `yaml` holds, in which `TOKEN` and `TARGET` are ports.
fn check(yaml: &str, token: u16, target: u16) -> Kind {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "hunter2 & co\n").unwrap();
    let path = folder.path().join("pingeon.yaml");
    let oauth = "oauth2: {token_url: 'http://local.example:TOKEN/token', client_id: 'me:1', client_secret_file: secret";
    let yaml = yaml.replace("OAUTH", oauth).replace("TOKEN", &token.to_string()).replace("TARGET", &target.to_string());
    std::fs::write(&path, format!("checks:\n- {{label: a, {yaml}}}\n")).unwrap();
    pingeon::config::load(&path, &|name| (name == "SCOPE").then(|| "a b".to_owned())).unwrap().checks[0].kind.clone()
}

const PLAIN: &str = "http: 'http://local.example:TARGET/', auth: {OAUTH}}";

fn token_us(outcome: &Outcome) -> u64 {
    outcome.result["token_us"].as_u64().unwrap()
}

#[test]
fn a_token_is_asked_for_as_the_config_says() {
    for (yaml, head, body) in [
        (PLAIN, "authorization: Basic bWUlM0ExOmh1bnRlcjIlMjAlMjYlMjBjbw==\r\n", "grant_type=client_credentials"),
        (
            "http: 'http://local.example:TARGET/', auth: {OAUTH, scope: '${SCOPE} c', audience: 'https://x/'}}",
            "POST /token HTTP/1.1\r\n",
            "grant_type=client_credentials&scope=a%20b%20c&audience=https%3A%2F%2Fx%2F",
        ),
        (
            "http: 'http://local.example:TARGET/', auth: {OAUTH, credentials: body}}",
            "content-type: application/x-www-form-urlencoded\r\n",
            "grant_type=client_credentials&client_id=me%3A1&client_secret=hunter2%20%26%20co",
        ),
    ] {
        let (issuer, asked) = issuer(granted(""));
        let outcome = look(check(yaml, issuer, target(&[])), &net(), LONG);
        assert_eq!((outcome.verdict, outcome.reason), (Up, None), "{yaml}");
        let asked = asked.lock().unwrap();
        assert!(asked[0].contains(head) && asked[0].ends_with(&format!("\r\n\r\n{body}")), "{}", asked[0]);
        assert!(!asked[0].contains("credentials: body") || !asked[0].contains("authorization"));
    }
}

#[test]
#[rustfmt::skip]
fn verdicts() {
    let target = target(&[]);
    let of = |name, answer: String, verdict, phase, reason| {
        case(name, check(PLAIN, issuer(move |_, _| answer.clone()).0, target), verdict, phase, reason)
            .also(|outcome| assert!(outcome.verdict == Up || outcome.phases == Default::default()))
    };
    let body = |body: &str| answer("200 OK", body);
    let plain = "{\"access_token\": \"t0ken\"}";
    run(vec![
        of("no type", body(plain), Up, None, ""),
        of("a type in small letters", body("{\"access_token\": \"t0ken\", \"token_type\": \"bearer\"}"), Up, None, ""),
        of("seconds in a text", body("{\"access_token\": \"t0ken\", \"expires_in\": \"3600\"}"), Up, None, ""),
        of("another type", body("{\"access_token\": \"t0ken\", \"token_type\": \"mac\"}"), Unknown, Some(Assert), "/token: its type is `mac`, and not `bearer`"),
        of("wrong secret", answer("401 Unauthorized", "{\"error\": \"invalid_client\", \"error_description\": \"hunter2 & co or hunter2%20%26%20co is wrong\"}"), Unknown, Some(Assert), "/token: status 401, `invalid_client`: *** or *** is wrong"),
        of("wrong scope", answer("400 Bad Request", "{\"error\": \"invalid_scope\"}"), Unknown, Some(Assert), "/token: status 400, `invalid_scope`"),
        of("a page", answer("503 No", "<html>"), Unknown, Some(Assert), "/token: status 503"),
        of("leads on", "HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n".to_owned(), Unknown, Some(Assert), "/token: status 302"),
        of("not JSON", body("access_token=t0ken"), Unknown, Some(Assert), "/token: the answer is not JSON"),
        of("no token", body("{\"token\": \"t0ken\"}"), Unknown, Some(Assert), "/token: the answer has no `access_token`"),
        of("a list", body("[]"), Unknown, Some(Assert), "/token: the answer has no `access_token`"),
        of("a line break", body("{\"access_token\": \"t0\\nken\"}"), Unknown, Some(Assert), "or holds what a header cannot"),
        of("empty", body("{\"access_token\": \"\"}"), Unknown, Some(Assert), "its `access_token` is empty"),
        of("a long token", body(&format!("{{\"access_token\": \"{}\"}}", "x".repeat(9000))), Unknown, Some(Assert), "longer than 8 KiB"),
        of("a long answer", body(&format!("{{\"a\": \"{}\"}}", "x".repeat(70_000))), Unknown, Some(Assert), "/token: the answer is longer than 64 KiB"),
        of("no HTTP", "nonsense\r\n\r\n".to_owned(), Unknown, Some(FirstByte), "does not answer in HTTP"),
        case("hangs", check(PLAIN, serve(vec![Do::ReadHead, Do::Hang]), target), Unknown, Some(FirstByte), "/token: no first byte from").within(SHORT),
        case("refuses", check(PLAIN, closed_port(), target), Unknown, Some(Connect), "/token: connection refused by"),
        case("no name", check("http: 'http://local.example:TARGET/', auth: {oauth2: {token_url: 'http://nowhere.example/', client_id: a, client_secret: b}}", 1, target), Unknown, Some(Resolve), "token from http://nowhere.example/: "),
        case("target is down", check(PLAIN, issuer(granted("")).0, closed_port()), Down, Some(Connect), "connection refused by").also(|outcome| assert!(token_us(outcome) > 0)),
        case("each address", check("http: 'http://both.example:TARGET/', ip: each, auth: {OAUTH}}", issuer(granted("")).0, serve_at(&["127.0.0.1", "127.0.0.2"], |_, stream| act(&ok("x"), stream))), Up, None, ""),
    ]);
}

#[test]
fn checks_with_equal_settings_share_a_token_until_it_ends() {
    for (name, more, second, fetches) in [
        ("it lasts", ", \"expires_in\": 3600", PLAIN, 1),
        ("it lasts for ever", ", \"expires_in\": 1e300", PLAIN, 1),
        ("nobody says how long", "", PLAIN, 1),
        ("it has ended already", ", \"expires_in\": 0", PLAIN, 2),
        ("it has ended long ago", ", \"expires_in\": -5", PLAIN, 2),
        ("another scope", "", "http: 'http://local.example:TARGET/', auth: {OAUTH, scope: x}}", 2),
        ("another request", "", "http: 'http://local.example:TARGET/x', method: POST, auth: {OAUTH}}", 1),
        ("in a step", "", "steps: [{http: 'http://local.example:TARGET/x', auth: {OAUTH}}}]", 1),
    ] {
        let (net, (issuer, asked), target) = (net(), issuer(granted(more)), target(&[]));
        for yaml in [PLAIN, second] {
            let outcome = look(check(yaml, issuer, target), &net, LONG);
            assert_eq!((outcome.verdict, outcome.reason), (Up, None), "{name}");
        }
        assert_eq!(asked.lock().unwrap().len(), fetches, "{name}");
    }
}

#[test]
fn the_check_after_one_whose_token_was_refused_gets_a_new_one() {
    let expects = "http: 'http://local.example:TARGET/', auth: {OAUTH}}, expect: {status: [401]}";
    let steps = "steps: [{http: 'http://local.example:TARGET/', auth: {OAUTH}}}]";
    for (yaml, verdicts, fetches) in
        [(PLAIN, [Down, Up, Up], 2), (expects, [Up, Up, Up], 1), (steps, [Down, Up, Up], 2)]
    {
        let (net, (issuer, asked), target) = (net(), issuer(granted("")), target(&["t0ken-1"]));
        let outcomes = [(); 3].map(|()| look(check(yaml, issuer, target), &net, LONG));
        assert_eq!(outcomes.each_ref().map(|outcome| outcome.verdict), verdicts, "{yaml}");
        let told = outcomes[0].reason.as_deref().unwrap_or_default().contains("the next check gets a new one");
        assert_eq!((told, asked.lock().unwrap().len()), (fetches == 2, fetches), "{yaml}");
    }
}

/// What another origin answers says nothing of a token that it did not get.
#[test]
fn a_401_of_another_origin_drops_nothing() {
    let elsewhere = serve(answers("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"));
    let here = serve(leads_to(&format!("http://other.example:{elsewhere}/")));
    let (net, (issuer, asked)) = (net(), issuer(granted("")));
    for _ in 0..2 {
        let outcome = look(check(PLAIN, issuer, here), &net, LONG);
        assert_eq!(outcome.reason.as_deref(), Some("status 401, expected 200-299"));
    }
    assert_eq!(asked.lock().unwrap().len(), 1);
}

/// Checks at once: one asks and the others wait, for a token as for what went wrong.
#[test]
fn one_fetch_at_a_time() {
    for (status, verdict) in [("200 OK", Up), ("403 No", Unknown)] {
        let (waiting, gate) = channel::<()>();
        let gate = Mutex::new(gate);
        let (issuer, asked) = issuer(move |_, _| {
            // Until all that are to wait had time to come: the test lets go.
            let _ = gate.lock().unwrap().recv_timeout(Duration::from_secs(10));
            answer(status, "{\"access_token\": \"t0ken\"}")
        });
        let (net, target) = (net(), target(&[]));
        let started = Arc::new(AtomicUsize::new(0));
        let checks: Vec<_> = (0..4)
            .map(|_| {
                let (net, started, kind) = (net.clone(), started.clone(), check(PLAIN, issuer, target));
                std::thread::spawn(move || {
                    started.fetch_add(1, Ordering::SeqCst);
                    look(kind, &net, LONG)
                })
            })
            .collect();
        wait_until(|| started.load(Ordering::SeqCst) == 4 && asked.lock().unwrap().len() == 1);
        // One whose time is up says that it waited, and others have theirs.
        let hasty = look(check(PLAIN, issuer, target), &net, SHORT);
        assert_eq!((hasty.verdict, hasty.phase), (Unknown, None));
        assert!(hasty.reason.unwrap().contains("another check is getting it, and has not got it within"));
        drop(waiting);
        for check in checks {
            assert_eq!(check.join().unwrap().verdict, verdict);
        }
        assert_eq!(asked.lock().unwrap().len(), 1, "{status}");
    }
}

/// The check whose time is up while it asks fails; the one that waited has more time, and asks anew.
#[test]
fn who_waited_asks_anew_where_the_first_had_no_time() {
    let (issuer, asked) = issuer(|count, request| {
        if count == 1 {
            std::thread::park_timeout(2 * SHORT);
        }
        granted("")(count, request)
    });
    let (net, target) = (net(), target(&[]));
    let (first, kind) = (net.clone(), check(PLAIN, issuer, target));
    let first = std::thread::spawn(move || look(kind, &first, SHORT));
    wait_until(|| asked.lock().unwrap().len() == 1);
    assert_eq!(look(check(PLAIN, issuer, target), &net, LONG).verdict, Up);
    assert_eq!(first.join().unwrap().verdict, Unknown);
    assert_eq!(asked.lock().unwrap().len(), 2);
}

/// The token's server is trusted by settings of its own, and its certificate is not the target's.
#[test]
fn the_tokens_server_has_its_own_tls() {
    let root = Authority::root("issuers");
    let soon = root.issue("local.example", (-30, 2));
    let issuer = serve_tls(soon, BOTH, None, "HTTP/1.1 200 OK\r\n\r\n{\"access_token\": \"t0ken\"}");
    let kind = |trusted: bool| {
        let Kind::Http(mut http) = check(PLAIN, issuer, target(&[])) else { unreachable!() };
        let Some(Auth::OAuth2 { grant, .. }) = &mut http.auth else { unreachable!() };
        let grant = Arc::make_mut(grant);
        grant.url = format!("https://local.example:{issuer}/token").parse().unwrap();
        let ca = Pem { path: "ca.pem".into(), content: Secret::new(root.pem()) };
        grant.tls = Arc::new(TlsSettings { ca: trusted.then_some(ca), ..TlsSettings::default() });
        expect(&mut http).certificate_days = Some(14);
        *http
    };
    run(vec![
        case("trusted", kind(true), Degraded, None, "no certificate was shown"),
        case("not trusted", kind(false), Unknown, Some(Tls), "token from https://local.example:"),
    ]);
}

fn wait_until(holds: impl Fn() -> bool) {
    let until = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < until, "waited in vain");
        std::thread::yield_now();
    }
}

/// A slow token makes no target slow.
#[test]
fn the_time_of_the_token_is_not_the_targets() {
    for yaml in [
        "http: 'http://local.example:TARGET/', auth: {OAUTH}}, expect: {under: 250ms}",
        "steps: [{http: 'http://local.example:TARGET/', auth: {OAUTH}}}], expect: {under: 250ms}",
    ] {
        let (issuer, _) = issuer(|count, request| {
            std::thread::park_timeout(SHORT);
            granted("")(count, request)
        });
        let outcome = look(check(yaml, issuer, target(&[])), &net(), LONG);
        assert_eq!((outcome.verdict, outcome.reason.as_deref()), (Up, None), "{yaml}");
        let result = outcome.result.get("steps").map_or(json!(outcome.result), |steps| steps[0].clone());
        assert!(result["token_us"].as_u64().unwrap() >= 300_000, "{result}");
    }
}

/// The target repeats what it got, the issuer what it was sent.
#[test]
fn neither_token_nor_secret_is_shown() {
    let repeats = || {
        echo(|head| {
            let line = head.split("authorization: ").nth(1).unwrap().replace("\r\n", " ");
            format!("HTTP/1.1 500 No\r\nx-head: {line}\r\ncontent-length: {}\r\n\r\n{line}", line.len())
        })
    };
    let again = |part: &'static str| {
        issuer(move |_, request| {
            let sent = request.split(part).nth(1).unwrap();
            answer("400 No", &json!({"error": sent, "error_description": sent}).to_string())
        })
        .0
    };
    let same = "expect: {status: [500], headers: {x-head: {equals: no}}, body: {equals: no}}";
    for (yaml, issuer) in [
        (format!("{PLAIN}, {same}"), issuer(granted("")).0),
        (format!("steps: [{{{PLAIN}, {same}}}]"), issuer(granted("")).0),
        (PLAIN.to_owned(), again("authorization: ")),
        ("http: 'http://local.example:TARGET/', auth: {OAUTH, credentials: body}}".to_owned(), again("client_id=")),
    ] {
        let outcome = look(check(&yaml, issuer, repeats()), &net(), LONG);
        let all = format!("{outcome:?}");
        assert!(all.contains("***"), "{all}");
        for secret in ["t0ken", "hunter2", "%20co", "bWUlM0Ex"] {
            assert!(!all.contains(secret), "{secret}: {all}");
        }
    }
}
