use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;

const CONTRACT: &str = "tests/config/contract.yaml";
const SECRETS: [&str; 4] = ["hunter2", "hunter2-kafka", "hunter2-postgres", "PRIVATE KEY"];

fn environment(name: &str) -> Option<String> {
    match name {
        "TOKEN" => Some("hunter2".to_owned()),
        "HOST" => Some("a.example.com".to_owned()),
        "PROXY" => Some("http://me:hunter2@proxy.example.com:3128".to_owned()),
        "SECONDS" => Some("7s".to_owned()),
        "NUMBER" => Some("3".to_owned()),
        "YES" => Some("true".to_owned()),
        _ => None,
    }
}

fn now() -> Timestamp {
    Timestamp::parse("2026-11-24T10:00:00Z").unwrap()
}

/// Writes `yaml` into a directory of its own and reads it.
fn read_text(yaml: &str) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pingeon.yaml");
    std::fs::write(&path, yaml).unwrap();
    load(&path, &environment)
}

#[test]
fn the_contract_is_read() {
    let config = load(Path::new(CONTRACT), &environment).unwrap();
    let labels: Vec<&str> = config.checks.iter().map(|check| &*check.label).collect();
    assert_eq!(
        labels,
        [
            "shop",
            "chat",
            "stock",
            "order",
            "shop-login",
            "db",
            "smtp",
            "imap-cert",
            "gateway",
            "zone",
            "disk",
            "web-a.example.com",
            "web-b.example.com",
            "included",
            "included-too",
        ]
    );
}

#[test]
fn the_sample_is_read() {
    let config = load(Path::new("pingeon.yaml"), &environment).unwrap();
    insta::assert_snapshot!(summary(&config, now()).replace(&*config.agent, "HOST"));
}

#[test]
fn what_is_explained_is_read_back() {
    for path in [CONTRACT, "pingeon.yaml"] {
        let config = load(Path::new(path), &environment).unwrap();
        let again = read_text(&explain(&config)).unwrap();
        let file = |config: &Config| {
            format!("{config:#?}").replace(&std::env::current_dir().unwrap().display().to_string(), "")
        };
        if path == CONTRACT {
            assert_eq!(file(&again), file(&config));
        }
        // Secrets hide in `Debug`; their text is held together too.
        for (check, again) in config.checks.iter().zip(&again.checks) {
            if let (crate::check::Kind::Http(http), crate::check::Kind::Http(again)) = (&check.kind, &again.kind) {
                assert_eq!(http.headers, again.headers);
            }
        }
        assert_eq!(config.checks.len(), again.checks.len());
    }
}

#[test]
fn all_that_a_dns_check_may_say_is_explained_and_read_back() {
    let config = read_text(
        "checks:\n\
         - {label: a, dns: {name: example.com, type: SOA, server: [192.0.2.1, 'ns.example:5353', '2001:db8::1'], transport: tls, \
         recursion: false}, ip: v4, tls: {verify: false}, expect: {rcode: NOERROR, answers: {exactly: [a, '${TOKEN}'], \
         matches: x, contains: b}, answers_min: 2, authority: {not_contains: c}, authoritative: false, same_serial: true, \
         under: 1s, certificate_days: 7}}\n\
         - {label: b, dns: {name: 192.0.2.7, type: PTR}, expect: {rcode: NXDOMAIN}}\n\
         - {label: c, dns: {name: ., type: NS, transport: tcp}, expect: {answers: {exactly: []}}}\n",
    )
    .unwrap();
    let targets: Vec<&str> = config.checks.iter().map(|check| &*check.target).collect();
    let listed = "example.com SOA @192.0.2.1:853, ns.example:5353, [2001:db8::1]:853";
    assert_eq!(targets, [listed, "7.2.0.192.in-addr.arpa PTR", ". NS"]);
    let explained = explain(&config);
    assert!(explained.contains("${TOKEN}") && !explained.contains("hunter2"), "{explained}");
    assert_eq!(format!("{:#?}", read_text(&explained).unwrap().checks), format!("{:#?}", config.checks));
    let least: Vec<u32> = config
        .checks
        .iter()
        .map(|check| match &check.kind {
            crate::check::Kind::Dns(dns) => dns.expect.answers_min,
            kind => panic!("{kind:?}"),
        })
        .collect();
    assert_eq!(least, [2, 0, 0]);
}

#[test]
fn all_that_steps_may_say_is_explained_and_read_back() {
    let config = read_text(
        "checks:\n\
         - label: a-{host}\n  for: {host: [a, b], odd: ['{t}']}\n  steps:\n\
         \u{20} - {name: first, http: 'http://a/{{t}}?{host}=${TOKEN}', take: {t: {json: /a~1b}, t2: {regex: '(x)'}, t3: {header: ETag, regex: y}}}\n\
         \u{20} - {http: 'http://a/{t}/{{t}}/{odd}', method: POST, body: '{{\"a\": {t2}, \"${TOKEN}\": \"{{t}}{odd}\"}}', headers: {X-A: '{t3}', Accept: 'a/{t}'}, \
         auth: {basic: {user: '{t}', password: '{t2}'}}}\n  expect: {under: 1s, certificate_days: 7}\n",
    )
    .unwrap();
    let explained = explain(&config);
    assert!(explained.contains("x-a: \"{t3}\"") && explained.contains("password: \"{t2}\""), "{explained}");
    assert!(explained.contains("${TOKEN}") && !explained.contains("hunter2"), "{explained}");
    let again = read_text(&explained).unwrap();
    assert_eq!(format!("{:#?}", again.checks), format!("{:#?}", config.checks));
    for (check, again) in config.checks.iter().zip(&again.checks) {
        let (crate::check::Kind::Steps(steps), crate::check::Kind::Steps(again)) = (&check.kind, &again.kind) else {
            panic!("{check:?}")
        };
        let (http, again) = (&steps.steps[1].http, &again.steps[1].http);
        for (text, again) in [(&http.typed, &again.typed), (&Some(http.body.clone()), &Some(again.body.clone()))] {
            let (text, again) = (text.as_ref().unwrap(), again.as_ref().unwrap());
            assert_eq!((text.expose(), text.gaps()), (again.expose(), again.gaps()));
        }
        assert_eq!((&http.headers, http.headers[0].1.gaps()), (&again.headers, again.headers[0].1.gaps()));
    }
}

#[test]
fn no_secret_is_shown() {
    let config = load(Path::new(CONTRACT), &environment).unwrap();
    let more = read_text(
        "checks:\n- {label: a, http: 'https://a/?token=${TOKEN}', headers: {X-Key: '${TOKEN}', Cookie: hunter2}, \
         auth: {bearer: {token: '${TOKEN}'}}, proxy: 'http://me:${TOKEN}@p:1'}\n\
         - {label: b, exec: [x], env: {PASSWORD: hunter2}}\n\
         - {label: c, http: 'https://a/', expect: {body: {matches: '^${TOKEN}$'}}}\n\
         - {label: d, tcp: 'a:1', dialogue: [{expect: 'a ${TOKEN}'}]}\n\
         - {label: e, steps: [{http: 'https://a/', take: {x: {header: a, regex: '${TOKEN}'}}}]}\n",
    )
    .unwrap();
    for config in [config, more] {
        let debug =
            format!("{:?}", config.checks.iter().map(|check| (&check.target, hidden_debug(check))).collect::<Vec<_>>());
        for text in [explain(&config), summary(&config, now()), debug] {
            for secret in SECRETS {
                assert!(!text.contains(secret), "{secret} in {text}");
            }
        }
    }
}

/// `Debug` of a check but for its URL, which `http` keeps whole.
fn hidden_debug(check: &crate::check::Check) -> String {
    match &check.kind {
        crate::check::Kind::Http(http) => format!("{:?} {:?} {:?}", http.headers, http.auth, http.proxy),
        kind => format!("{kind:?}"),
    }
}

#[test]
fn what_the_environment_gives_is_explained_as_it_was_typed() {
    let typed = [
        "https://hooks.example.com/services/${TOKEN}",
        "https://${HOST}/?a=literal&token=${TOKEN:-none}",
        "https://a.example.com/?token=literal",
        "{\"token\": \"${TOKEN}\"}",
        "text/x-${TOKEN}",
        "PASS ${TOKEN}\\r\\n",
        "--password=${TOKEN}",
        "https://a.example.com/for/${TOKEN}",
        "https://id.example.com/${TOKEN}/token?a=b",
        "client-${TOKEN}",
    ];
    let [hook, query, literal, body, accept, send, argument, multiplied, issuer, client] = typed;
    let yaml = format!(
        "checks:\n- {{label: a, http: '{hook}', body: '{body}', headers: {{Accept: '{accept}', X-Key: 'a${{TOKEN}}'}}}}\n\
         - {{label: b, http: '{query}', auth: {{basic: {{user: '${{TOKEN}}', password: '${{TOKEN}}'}}}}, \
         expect: {{body: {{contains: 'of ${{TOKEN}}', equals: '${{TOKEN}}', matches: '${{TOKEN}}'}}}}, proxy: '${{PROXY}}'}}\n- {{label: c, http: '{literal}', proxy: 'socks5://${{TOKEN}}@p:1'}}\n\
         - {{label: d, tcp: 'a:1', dialogue: [send: \"{send}\"]}}\n- {{label: e, exec: [x, '{argument}', plain]}}\n\
         - {{label: f, for: {{key: ['${{TOKEN}}']}}, http: 'https://a.example.com/for/{{key}}'}}\n\
         - {{label: g, http: 'https://a.example.com/', auth: {{oauth2: {{token_url: '{issuer}', client_id: '{client}', \
         client_secret: '${{TOKEN}}', scope: 'a ${{TOKEN}}', audience: plain}}}}}}\n"
    );
    let config = read_text(&yaml).unwrap();
    let explained = explain(&config);
    assert!(!explained.contains("hunter2"), "{explained}");
    for typed in [
        hook,
        query,
        literal,
        accept,
        argument,
        multiplied,
        issuer,
        client,
        "client_secret: \"${TOKEN}\"",
        "scope: \"a ${TOKEN}\"",
        "PASS ${TOKEN}",
        "plain",
        "x-key: \"***\"",
        "socks5://***:***@p:1",
        "user: \"${TOKEN}\"",
        "contains: \"of ${TOKEN}\"",
        "proxy: \"${PROXY}\"",
        "matches: \"${TOKEN}\"",
    ] {
        assert!(explained.contains(typed), "{typed} in {explained}");
    }
    let targets: Vec<&str> = config.checks.iter().map(|check| &*check.target).collect();
    assert_eq!(
        targets[..3],
        ["https://hooks.example.com/services/***", "https://a.example.com/?…", "https://a.example.com/?…"]
    );
    assert_eq!(targets[5], "https://a.example.com/for/***");
    // But for the header, of which a part is literal and hidden.
    let again = read_text(&explained).unwrap();
    let told = |config: &Config| explain(config).replace("%2A%2A%2A:", "***:");
    assert_eq!(told(&again), told(&config));
    let url = |config: &Config, at: usize| match &config.checks[at].kind {
        crate::check::Kind::Http(http) => http.url.to_string(),
        kind => panic!("{kind:?}"),
    };
    for at in [0, 1, 2, 5] {
        assert_eq!(url(&again, at), url(&config, at));
    }
}

#[test]
fn values_come_from_the_environment() {
    let config = read_text(
        "checks:\n- {label: a, http: 'https://${HOST}/', timeout: '${SECONDS}', redirects: '${NUMBER}', tls: {verify: '${YES}'}}\n",
    )
    .unwrap();
    assert_eq!(&*config.checks[0].target, "https://a.example.com/");
    assert_eq!(config.checks[0].timeout, Duration::from_secs(7));
}

#[test]
fn templates_multiply() {
    let config =
        read_text("checks:\n- {label: '{host}-{port}', for: {host: [a, b], port: ['1', '2']}, tcp: '{host}:{port}'}\n")
            .unwrap();
    let targets: Vec<&str> = config.checks.iter().map(|check| &*check.target).collect();
    assert_eq!(targets, ["a:1", "a:2", "b:1", "b:2"]);
}

#[test]
fn values_come_from_files() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("hosts.txt", "a.example.com\n# not yet\nb.example.com\n");
    write("ports.JSON", "[80, \"443\"]");
    write(
        "shops.csv",
        "shop,url,note\r\nnorth,https://n.example.com/${HOST}/{shop},\"a, b\"\r\nsouth,https://s.example.com/,\r\n",
    );
    write("shops.json", r#"[{"shop": "east", "port": 8080}, {"port": 8081, "shop": "west"}]"#);
    for (entry, targets) in [
        (
            "label: '{h}-{p}', for: {h: {file: hosts.txt}, p: {file: ports.JSON}}, tcp: '{h}:{p}'",
            vec!["a.example.com:80", "a.example.com:443", "b.example.com:80", "b.example.com:443"],
        ),
        // What a file holds is not filled in again, and a column may be for people alone.
        (
            "label: '{shop}', for: {file: shops.csv}, http: '{url}'",
            vec!["https://n.example.com/${HOST}/{shop}", "https://s.example.com/"],
        ),
        (
            "label: '{shop}-{p}', for: {p: ['1', '2'], file: shops.csv}, tcp: '{shop}:{p}'",
            vec!["north:1", "south:1", "north:2", "south:2"],
        ),
        (
            "label: '{shop}', for: {file: '${DIRECTORY:-.}/shops.json'}, tcp: '{shop}:{port}'",
            vec!["east:8080", "west:8081"],
        ),
        ("label: '{file}', for: {file: [x, y]}, tcp: '{file}:1'", vec!["x:1", "y:1"]),
    ] {
        let path = directory.path().join("pingeon.yaml");
        std::fs::write(&path, format!("checks:\n- {{{entry}}}\n")).unwrap();
        let read = load(&path, &environment)
            .map(|config| config.checks.iter().map(|check| check.target.to_string()).collect::<Vec<_>>());
        assert_eq!(
            read.map_err(|error| error.to_string()),
            Ok(targets.into_iter().map(str::to_owned).collect()),
            "{entry}"
        );
    }
}

#[test]
fn the_first_checks_are_listed_as_for_makes_them() {
    let config = read_text(
        "checks:\n- {label: '{a}', for: {a: [x, longer]}, tcp: '{a}:1'}\n- {label: p, exec: [/p, -x], interval: 1h}\n",
    )
    .unwrap();
    let listed = |config: &Config| summary(config, now()).split_once("\n\n").unwrap().1.to_owned();
    insta::assert_snapshot!(listed(&config), @r"
    x       every 30s  tcp   x:1
    longer  every 30s  tcp   longer:1
    p       every 1h   exec  /p
    ");
    let many: String = (0..31).map(|n| format!("- {{label: '{n}', tcp: 'a:1'}}\n")).collect();
    let listed = listed(&read_text(&format!("checks:\n{many}")).unwrap());
    assert_eq!(listed.lines().count(), 31);
    assert!(listed.ends_with("\n… and 1 more; `pingeon explain` has all of them\n"), "{listed}");
    assert!(!summary(&read_text("checks: []").unwrap(), now()).contains("\n\n"));
}

#[test]
fn maintenance_is_listed_with_its_next_begin() {
    let windows = "maintenance:
- {name: gone, from: 2026-11-23T22:00:00Z, for: 2h}
- {name: on, from: 2026-11-24T10:30:00+01:00, for: 2h, labels: [a]}
- {name: patches, weekly: sun 03:00, for: 1h, zone: UTC, labels: ['a*', 'b?', c]}
- {name: backup, cron: '30 2 * * 1-5', for: 20m}\n";
    let listed = |text: &str| summary(&read_text(text).unwrap(), now()).rsplit_once("\n\n").unwrap().1.to_owned();
    insta::assert_snapshot!(listed(&format!("checks: [{{label: a, tcp: 'a:1'}}]\n{windows}")), @r"
    maintenance `gone`: is over
    maintenance `on`: goes on until 2026-11-24 11:30 UTC
    maintenance `patches`: next 2026-11-29 03:00 UTC, for 1h; no check here: b?, c
    maintenance `backup`: next 2026-11-25 02:30 UTC, for 20m
    ");
    assert!(!listed(windows).contains("no check here"), "where there are no checks, others are meant");
    let many = "- {name: more, from: 2026-11-23T22:00:00Z, for: 2h}\n".repeat(27);
    assert!(listed(&format!("{windows}{many}")).ends_with("`more`: is over\n… and 1 more\n"));
}

#[test]
fn yaml_is_taken_as_people_write_it() {
    for (name, yaml) in [
        ("byte order mark", "\u{feff}checks: []\n"),
        ("carriage returns", "checks:\r\n- label: a\r\n  tcp: a:1\r\n"),
        ("merge key", "checks:\n- &a {label: a, tcp: 'a:1'}\n- {<<: *a, label: b}\n"),
        ("core tag", "checks:\n- {label: !!str 12, tcp: 'a:1'}\n"),
        ("one document with its mark", "---\nchecks: []\n"),
    ] {
        assert!(read_text(yaml).is_ok(), "{name}: {:?}", read_text(yaml).err());
    }
}

#[test]
fn what_turns_a_check_is_so_many_results_in_a_row_or_of_the_last() {
    let check = "checks: [{label: a, tcp: 'a:1'}, {label: b, tcp: 'b:1', confirm: 2}]";
    let config = read_text(&format!("defaults: {{confirm: 3 of 5}}\n{check}\n")).unwrap();
    let of = |config: &Config| config.checks.iter().map(|check| check.confirm.to_string()).collect::<Vec<_>>();
    assert_eq!(of(&config), ["3 of 5", "2"]);
    assert_eq!(of(&read_text(&explain(&config)).unwrap()), ["3 of 5", "2"]);
    for wrong in ["0 of 3", "4 of 3", "2 of 4", "1 of", "a of b", "60 of 101", "0", "101", "''"] {
        assert!(read_text(&format!("defaults: {{confirm: {wrong}}}\nchecks: []\n")).is_err(), "{wrong}");
    }
}

#[test]
fn timeouts_shrink_to_short_intervals() {
    let config = read_text("checks:\n- {label: a, tcp: 'a:1', interval: 1s}\n- {label: b, tcp: 'a:1'}\n").unwrap();
    let timeouts: Vec<u64> = config.checks.iter().map(|check| check.timeout.as_secs()).collect();
    assert_eq!(timeouts, [1, 5]);
}

#[test]
fn the_pool_is_as_large_as_the_worst_case_needs() {
    let mut yaml = String::from("defaults: {workers_max: 5}\nchecks:");
    assert_eq!(workers(&read_text(&format!("{yaml} []")).unwrap()), 1);
    for (count, expected, said) in [
        (4, 4, "up to 4, one for each check; on average 1 busy when every check runs to its timeout"),
        (30, 5, "up to 5; when every check runs to its timeout, 5 are busy on average"),
        (60, 5, "5 of the 10 needed"),
    ] {
        yaml = "defaults: {workers_max: 5}\nchecks:\n".to_owned();
        (0..count).for_each(|n| yaml += &format!("- {{label: '{n}', tcp: 'a:1'}}\n"));
        let config = read_text(&yaml).unwrap();
        assert_eq!(workers(&config), expected, "{count}");
        assert!(summary(&config, now()).contains(said), "{}", summary(&config, now()));
    }
}

#[test]
fn bombs_end_in_an_error() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..12 {
        let last = format!("*a{}", n - 1);
        laughs += &format!("a{n}: &a{n} [{}]\n", vec![last; 9].join(", "));
    }
    let wide = format!("a: &a [{}]\nb: [{}]\n", vec!["x"; 5_000].join(","), vec!["*a"; 5_000].join(","));
    for (name, yaml, what) in [
        ("laughs", laughs, "aliases repeat too much"),
        ("wide", wide, "aliases written out"),
        ("deep", "[".repeat(5_000), "nested deeper than 128"),
        ("deep and whole", "[".repeat(200) + &"]".repeat(200), "nested deeper than 128"),
    ] {
        let error = read_text(&yaml).unwrap_err().to_string();
        assert!(error.contains(what), "{name}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_text(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_broken_contract_is_read_or_refused(at in 0usize..5_000, cut in 0usize..40, put in "[-:{}\\[\\]*&!|>'\"$%@`#,? \t\n0-9a-z]{0,6}") {
        let contract = std::fs::read_to_string(CONTRACT).unwrap();
        let mut chars: Vec<char> = contract.chars().collect();
        let at = at.min(chars.len());
        let end = (at + cut).min(chars.len());
        chars.splice(at..end, put.chars());
        let _ = read_text(&chars.into_iter().collect::<String>());
    }
}

#[test]
fn ten_thousand_checks_stay_small() {
    use crate::check::{Check, http::Http};
    // What a plain check takes beside its label, target and URL.
    assert!(size_of::<Check>() + size_of::<Http>() <= 700, "{} + {}", size_of::<Check>(), size_of::<Http>());
    let mut yaml = String::from("checks:\n");
    (0..10_000).for_each(|n| yaml += &format!("- {{label: 'c{n}', http: 'http://127.0.0.1:8087/{n}'}}\n"));
    assert_eq!(read_text(&yaml).unwrap().checks.len(), 10_000);
}
