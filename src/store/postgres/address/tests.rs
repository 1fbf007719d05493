use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::secret::Secret;

/// Every file is there, but `missing`.
fn parse(url: &str) -> Result<Address, Unusable> {
    let pem = |name: &str| match name {
        "missing" => Err("the file `missing`: there is no such file".to_owned()),
        name => Ok(Pem { path: Path::new("/etc/pingeon").join(name), content: Secret::new("PEM") }),
    };
    Address::parse(url, &Files { certificates: &pem, key: &pem })
}

#[test]
fn urls_are_read_as_libpq_reads_them_and_shown_with_their_defaults() {
    for (url, shown) in [
        ("postgresql://me@db/logs", "postgresql://me@db/logs?sslmode=prefer"),
        ("postgres://me@db", "postgresql://me@db/me?sslmode=prefer"),
        ("postgresql://me@db:5432/logs?sslmode=", "postgresql://me@db/logs?sslmode=prefer"),
        ("postgresql://me@a,b:6432,[::1]:7/x", "postgresql://me@a,b:6432,[::1]:7/x?sslmode=prefer"),
        ("postgresql:///x?host=a,b&port=1,2&user=me", "postgresql://me@a:1,b:2/x?sslmode=prefer"),
        ("postgresql://me@/?host=a,b&port=6432&dbname=x", "postgresql://me@a:6432,b:6432/x?sslmode=prefer"),
        ("postgresql://me@%2Frun%2Fpostgresql:6/x", "postgresql://me@%2Frun%2Fpostgresql:6/x?sslmode=prefer"),
        ("postgresql://me@/x?host=/run/postgresql", "postgresql://me@%2Frun%2Fpostgresql/x?sslmode=prefer"),
        ("postgresql://m%40e@192.0.2.7/my%20logs", "postgresql://m%40e@192.0.2.7/my%20logs?sslmode=prefer"),
        ("postgresql://me@db/x?sslrootcert=system", "postgresql://me@db/x?sslmode=verify-full&sslrootcert=system"),
        (
            "postgresql://me@db/x?sslkey=me.key&sslcert=me.pem&sslmode=verify-ca&sslrootcert=ca.pem",
            "postgresql://me@db/x?sslmode=verify-ca&sslrootcert=/etc/pingeon/ca.pem\
             &sslcert=/etc/pingeon/me.pem&sslkey=/etc/pingeon/me.key",
        ),
        (
            "postgresql://me@db/x?channel_binding=require&target_session_attrs=read-write&connect_timeout=9\
             &application_name=edge&options=-c%20statement_timeout=30s",
            "postgresql://me@db/x?sslmode=prefer&channel_binding=require&target_session_attrs=read-write\
             &connect_timeout=9&application_name=edge&options=-c%20statement_timeout=30s",
        ),
    ] {
        let address = parse(url).unwrap();
        assert_eq!(address.to_string(), shown);
        assert_eq!(parse(shown).map(|again| again.to_string()).unwrap(), shown, "{url}");
    }
}

#[test]
fn what_must_be_right_of_a_certificate_is_what_libpq_looks_at() {
    for (parameters, sslmode, verify) in [
        ("", SslMode::Prefer, Verify::Nothing),
        ("sslmode=disable", SslMode::Disable, Verify::Nothing),
        ("sslmode=allow", SslMode::Allow, Verify::Nothing),
        ("sslmode=allow&sslrootcert=ca.pem", SslMode::Allow, Verify::Chain),
        ("sslmode=prefer&sslrootcert=ca.pem", SslMode::Prefer, Verify::Chain),
        ("sslmode=require", SslMode::Require, Verify::Nothing),
        ("sslmode=require&sslrootcert=ca.pem", SslMode::Require, Verify::Chain),
        ("sslmode=verify-ca", SslMode::VerifyCa, Verify::Chain),
        ("sslmode=verify-ca&sslrootcert=ca.pem", SslMode::VerifyCa, Verify::Chain),
        ("sslmode=verify-full&sslrootcert=ca.pem", SslMode::VerifyFull, Verify::ChainAndName),
        ("sslrootcert=system", SslMode::VerifyFull, Verify::ChainAndName),
    ] {
        let address = parse(&format!("postgresql://me@db/x?{parameters}")).unwrap();
        assert_eq!((address.sslmode, address.tls.verify), (sslmode, verify), "{parameters}");
        assert_eq!(address.tls.ca.is_some(), parameters.contains("ca.pem"), "{parameters}");
    }
}

#[test]
fn what_is_wrong_with_a_url_is_said_without_showing_a_secret() {
    let list: Vec<String> = [
        "",
        "db.example.com",
        "mysql://me@db/x",
        "postgresql://me@db /x",
        "postgresql://me:hunter2@db/x",
        "postgresql://me:hun/hunter2@db/x",
        "host=db password=hunter2",
        "postgresql://me@db/x?pass%77ord=hunter2",
        "postgresql://me@db/x?sslpassword=hunter2",
        "postgresql://db/x",
        "postgresql:///x",
        "postgresql://me@/x",
        "postgresql://me@a,,b/x",
        "postgresql://me@a b%20c/x",
        "postgresql://me@h%C3%B6st/x",
        "postgresql://me@db:x/x",
        "postgresql://me@db:0/x",
        "postgresql://me@[::1]6432/x",
        "postgresql://me@a/x?host=b",
        "postgresql://me@a,b/x?port=1,2,3",
        "postgresql://me@a:1/x?port=2",
        "postgresql://me@a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a/x",
        "postgresql://me@db/x?sslmode",
        "postgresql://me@db/x?sslmode=verify_full",
        "postgresql://me@db/x?sslmod=require",
        "postgresql://me@db/x?gssencmode=disable",
        "postgresql://me@db/x?user=a&user=b",
        "postgresql://me@db/x?sslmode=require&sslrootcert=system",
        "postgresql://me@db/x?sslrootcert=missing",
        "postgresql://me@db/x?sslcert=me.pem",
        "postgresql://me@db/x?sslmode=disable&channel_binding=require",
        "postgresql://me@db/x?channel_binding=yes",
        "postgresql://me@db/x?target_session_attrs=primary",
        "postgresql://me@db/x?connect_timeout=0",
        "postgresql://me@db/x?connect_timeout=5s",
        "postgresql://me@db/%zz",
        "postgresql://me@db/%00",
        "postgresql://me@db/%ff",
    ]
    .map(|url| {
        let Unusable { what, hint } = parse(url).expect_err(url);
        let hint = hint.map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
        format!("{}\n  {what}{hint}", url.replace("hunter2", "…"))
    })
    .into();
    let list = list.join("\n");
    assert!(!list.contains("hunter2"));
    insta::assert_snapshot!(list);
}

proptest! {
    #[test]
    fn no_url_is_too_much(url in "(postgres(ql)?://)?[a-z@:/?&=,%0-9\\[\\]-]{0,60}") {
        if let Ok(address) = parse(&url) {
            let shown = address.to_string();
            prop_assert_eq!(parse(&shown).map(|again| again.to_string()), Ok(shown));
        }
    }

    #[test]
    fn names_survive_being_shown(user in "\\PC{1,20}", database in "\\PC{1,20}", options in "\\PC{1,20}") {
        let url = format!(
            "postgresql://{}@db/{}?options={}", encoded(&user, ""), encoded(&database, ""), encoded(&options, "")
        );
        let address = parse(&parse(&url).unwrap().to_string()).unwrap();
        prop_assert_eq!((address.user, address.database, address.options), (user, database, Some(options)));
    }
}
