//! TCP, and dialogues over it.

use std::time::Duration;

use pingeon::check::Phase::{Assert, Body, Connect, FirstByte, Resolve, Send};
use pingeon::check::Verdict::{Degraded, Down, Up};
use pingeon::check::tcp::{Step, Tcp};
use pingeon::net::{Host, IpFamily};
use pingeon::secret::Secret;

use crate::servers::*;
use crate::table::*;

fn expect(regex: &str) -> Step {
    Step::Expect(regex.parse().unwrap())
}

fn send(text: &str) -> Step {
    Step::Send(Secret::new(text))
}

fn named(name: &str, port: u16) -> Tcp {
    Tcp { host: Host::Name(name.to_owned()), ..tcp(port, vec![]) }
}

#[test]
#[rustfmt::skip]
fn connections() {
    let full = full_port_at("127.0.0.2:0");
    full_port_at(&format!("127.0.0.3:{full}"));
    let slow = Tcp { under: Some(Duration::from_nanos(1)), ..tcp(serve(vec![Do::Hang]), vec![]) };
    run(vec![
        case("accepts", tcp(serve(vec![Do::Hang]), vec![]), Up, None, "").also(|outcome| {
            assert!(
                outcome.phases.connect.is_some() && outcome.phases.send.is_none() && outcome.phases.resolve.is_none()
            );
            assert_eq!(outcome.result.get("received"), None);
        }),
        case("accepts by name", named("local.example", serve(vec![])), Up, None, "").also(|outcome| {
            assert!(outcome.phases.resolve.is_some());
        }),
        case("no such name", named("nowhere.example", 1), Down, Some(Resolve), "no such name"),
        case("refused", tcp(closed_port(), vec![]), Down, Some(Connect), "connection refused by 127.0.0.1:"),
        case("backlog full", tcp(full_port(), vec![]), Down, Some(Connect), "no answer from").within(SHORT),
        case("two that swallow packets", named("all-refuse.example", full), Down, Some(Connect), "no answer from 127.0.0.2:").within(SHORT).also(|outcome| {
            let reason = outcome.reason.clone().unwrap();
            assert!(reason.contains("no answer from 127.0.0.3:") && !reason.contains("within 300 ms"), "{reason}");
        }),
        case("no IPv6 address", Tcp { ip: IpFamily::V6, ..named("v4-only.example", 1) }, Down, Some(Resolve), "`v4-only.example` has no IPv6 address"),
        case("over", slow, Degraded, None, "expected at most 0 µs"),
    ]);
}

#[test]
#[rustfmt::skip]
fn dialogues() {
    let smtp = || {
        serve(vec![
            Do::Send(b"220 mail ESMTP\r\n".to_vec()),
            Do::ReadUntil(b"\r\n"),
            Do::Send(b"250-mail\r\n250 STARTTLS\r\n".to_vec()),
            Do::Hang,
        ])
    };
    let hears = |steps, regex: &str| tcp(serve(steps), vec![expect(regex)]);
    let says = |text: &str| Do::Send(text.as_bytes().to_vec());
    let all = vec![expect("^220 "), send("EHLO x\r\n"), expect("250[ -]STARTTLS")];
    let flood = Do::Send(vec![b'x'; 200_000]);
    run(vec![
        case("smtp", tcp(smtp(), all), Up, None, "").also(|outcome| {
            assert!(outcome.phases.send.is_some() && outcome.phases.first_byte.is_some());
            assert_eq!(outcome.result["received"], 40);
        }),
        case("the second step fails", tcp(smtp(), vec![expect("^220 "), send("EHLO x\r\n"), expect("^250 never")]), Down, Some(Body), "expected `^250 never`, got `mail ESMTP").within(SHORT),
        case("two matches in one packet", tcp(serve(vec![says("a1b2"), Do::Hang]), vec![expect("1"), expect("2")]), Up, None, ""),
        case("what matched is gone", tcp(serve(vec![says("a1")]), vec![expect("1"), expect("a")]), Down, Some(FirstByte), "connection closed by"),
        case("drips", hears(vec![Do::Drip(b"220 mail".to_vec(), Duration::from_millis(5)), Do::Hang], "mail"), Up, None, ""),
        case("says nothing", hears(vec![Do::Hang], "^220 "), Down, Some(FirstByte), "no first byte from").within(SHORT),
        case("closes without a word", hears(vec![], "^220 "), Down, Some(FirstByte), "connection closed by 127.0.0.1:"),
        case("resets without a word", tcp(serve(vec![Do::ReadUntil(b"x"), Do::Reset]), vec![send("x"), expect("^220 ")]), Down, Some(FirstByte), "connection reset by 127.0.0.1:"),
        case("says something else", hears(vec![says("554 no\r\n"), Do::Hang], "^220 "), Down, Some(Body), "expected `^220 `, got `554 no\\r\\n`, nothing else within 300 ms").within(SHORT),
        case("says something else and closes", hears(vec![says("554 no")], "^220 "), Down, Some(Assert), "got `554 no`, then the connection was closed"),
        case("resets in between", hears(vec![Do::Drip(b"22".to_vec(), Duration::from_millis(50)), Do::Reset], "^220"), Down, Some(Body), "connection reset by 127.0.0.1:").within(SHORT),
        case("never stops", hears(vec![flood], "^220 "), Down, Some(Assert), "64 KiB came without it"),
        case("does not read", tcp(serve(vec![Do::Freeze]), vec![Step::Send(Secret::new("x".repeat(16 * 1024 * 1024)))]), Down, Some(Send), "did not take all that was sent within 300 ms").within(SHORT),
    ]);
}

/// The dialogues that blackbox_exporter's tests hold.
#[test]
#[rustfmt::skip]
fn dialogues_of_others() {
    let says = |text: &str| Do::Send(text.as_bytes().to_vec());
    let irc = |answer: &str| {
        let port = serve(vec![says(":ircd.localhost NOTICE AUTH :*** Looking up your hostname...\n"), Do::ReadUntil(b":prober\r\n"), says(answer)]);
        tcp(port, vec![send("NICK prober\r\n"), send("USER prober prober prober :prober\r\n"), expect("^:[^ ]+ 001")])
    };
    let hears = |text: &str, regex: &str| tcp(serve(vec![says(text)]), vec![expect(regex)]);
    run(vec![
        case("IRC", irc(":ircd.localhost 001 prober :Welcome to IRC!\n"), Up, None, ""),
        case("IRC, blacklisted", irc("ERROR: Your IP address has been blacklisted.\n"), Down, Some(Assert), "ERROR: Your IP address has been blacklisted."),
        case("SSH", hears("SSH-2.0-OpenSSH_6.9p1 Debian-2\n", "^SSH-2.0-([^ -]+)(?: (.*))?$"), Up, None, ""),
        case("what is no line", hears("not-a-line", "not-a-line"), Up, None, ""),
        case("another that is no line", hears("something-else", "not-a-line"), Down, Some(Assert), "got `something-else`, then the connection was closed"),
        case("closes where a banner is expected", tcp(serve(vec![]), vec![expect("SSH-2.0-(OpenSSH_6.9p1) Debian-2")]), Down, Some(FirstByte), "connection closed by"),
    ]);
}
