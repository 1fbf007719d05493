//! Plain HTTP.

use std::time::Duration;

use pingeon::check::Phase::{Assert, Body, Connect, FirstByte, Resolve, Send};
use pingeon::check::Verdict::{Degraded, Down, Unknown, Up};

use crate::servers::*;
use crate::table::*;

const MS: Duration = Duration::from_millis(1);

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}/")
}

/// A GET from a server that does `steps`.
fn from(steps: Vec<Do>) -> pingeon::check::http::Http {
    get(url(serve(steps)))
}

#[test]
fn stalls_and_resets_at_every_phase() {
    run(vec![
        case("answers", from(ok("ok")), Up, None, "").also(|outcome| {
            assert_eq!(outcome.result["status_code"], 200);
            assert_eq!(outcome.result["bytes"], 2);
            assert_eq!((outcome.phases.resolve, outcome.phases.tls), (None, None));
            assert!(outcome.phases.connect.is_some() && outcome.phases.body.is_some());
        }),
        case("refused", get(url(closed_port())), Down, Some(Connect), "connection refused by 127.0.0.1:"),
        case("backlog full", get(url(full_port())), Down, Some(Connect), "no answer from 127.0.0.1:").within(SHORT),
        case("hangs", from(vec![Do::Hang]), Down, Some(FirstByte), "within 300 ms").within(SHORT),
        case(
            "resets at once",
            from(vec![Do::ReadHead, Do::Reset]),
            Down,
            Some(FirstByte),
            "while waiting for the first byte",
        ),
        case("closes at once", from(vec![Do::ReadHead]), Down, Some(FirstByte), "before the first byte"),
    ]);
}
