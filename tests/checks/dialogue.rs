//! TCP, and dialogues over it.

use pingeon::check::Phase::{Assert, Connect, FirstByte};
use pingeon::check::Verdict::{Down, Up};
use pingeon::check::tcp::Step;

use crate::servers::*;
use crate::table::*;

fn expect(regex: &str) -> Step {
    Step::Expect(regex.parse().unwrap())
}

fn send(text: &str) -> Step {
    Step::Send(text.as_bytes().to_vec())
}

#[test]
fn dialogues() {
    let smtp = || {
        serve(vec![
            Do::Send(b"220 mail ESMTP\r\n".to_vec()),
            Do::ReadUntil(b"\r\n"),
            Do::Send(b"250-mail\r\n250 STARTTLS\r\n".to_vec()),
            Do::Hang,
        ])
    };
    run(vec![
        case("accepts", tcp(serve(vec![Do::Hang]), vec![]), Up, None, ""),
        case("refused", tcp(closed_port(), vec![]), Down, Some(Connect), "connection refused by 127.0.0.1:"),
        case("backlog full", tcp(full_port(), vec![]), Down, Some(Connect), "no answer from").within(SHORT),
        case("smtp", tcp(smtp(), vec![expect("^220 "), send("EHLO x\r\n"), expect("250[ -]STARTTLS")]), Up, None, ""),
        case(
            "says nothing",
            tcp(serve(vec![Do::Hang]), vec![expect("^220 ")]),
            Down,
            Some(FirstByte),
            "no first byte from",
        )
        .within(SHORT),
        case(
            "says something else",
            tcp(smtp(), vec![expect("^554 ")]),
            Down,
            Some(Assert),
            "got `220 mail ESMTP\\r\\n`, nothing else within 300 ms",
        )
        .within(SHORT),
    ]);
}
