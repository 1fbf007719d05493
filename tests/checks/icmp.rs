//! Echoes through network namespaces: a remote host that drops, delays, duplicates, damages and vanishes, over IPv4 and IPv6,
//! by datagram and by raw sockets.

use std::net::IpAddr;
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use pingeon::check::Phase::{Assert, FirstByte, Resolve, Send};
use pingeon::check::Verdict::{Degraded, Down, Unknown, Up};
use pingeon::check::icmp::Icmp;
use pingeon::check::{Kind, Outcome};
use pingeon::net::{Host, IpFamily, Net};

use crate::namespaces::Namespace;
use crate::responder::{Do, respond};
use crate::table::*;

fn to(host: Host, count: u32) -> Icmp {
    Icmp { host, ip: IpFamily::Any, count, loss: 0, under: None }
}

fn at(address: &str, count: u32) -> Icmp {
    to(Host::parse(address), count)
}

fn lossy(icmp: Icmp, loss: u8) -> Icmp {
    Icmp { loss, ..icmp }
}

fn under(icmp: Icmp, millis: u64) -> Icmp {
    Icmp { under: Some(Duration::from_millis(millis)), ..icmp }
}

/// An agent and a remote host, and the agent's network by datagram and by raw sockets.
struct World {
    agent: Namespace,
    remote: Namespace,
    datagram: Arc<Net>,
    raw: Arc<Net>,
}

impl World {
    fn new() -> Self {
        let (agent, remote) = (Namespace::new(), Namespace::new());
        agent.connect(&remote);
        remote.set("ipv4/icmp_echo_ignore_all", "1");
        remote.set("ipv6/icmp/echo_ignore_all", "1");
        let [datagram, raw] = [("0 0", "datagram"), ("1 0", "raw")].map(|(groups, socket)| {
            agent.set("ipv4/ping_group_range", groups);
            let net = net();
            let opened = net.clone();
            agent.within(move || ["127.0.0.1", "::1"].map(|address| look_at(address, &opened))).map(|outcome| {
                assert_eq!((outcome.verdict, &outcome.result["socket"]), (Up, &socket.into()), "{outcome:?}");
            });
            net
        });
        World { agent, remote, datagram, raw }
    }
}

/// What the sockets are opened by: from then on they are in that namespace, whoever uses them.
fn look_at(address: &str, net: &Net) -> Outcome {
    look(Kind::Icmp(Box::new(at(address, 1))), net, LONG)
}

const HOST: ((u8, u8), (u8, u8)) = ((3, 1), (1, 3));
const PROHIBITED: ((u8, u8), (u8, u8)) = ((3, 13), (1, 1));
const HOPS: ((u8, u8), (u8, u8)) = ((11, 0), (3, 0));
const TOO_BIG: ((u8, u8), (u8, u8)) = ((3, 4), (2, 0));

/// What the remote host does with the request at `index` of a run.
#[rustfmt::skip]
fn script(number: u8, index: usize) -> Do {
    match (number, index) {
        (1, _) | (3, 0 | 2..) | (13, 2..) | (23, 0) => Do::Reply,
        (4, _) => Do::Twice,
        (5, _) => Do::Changed(|icmp| *icmp.last_mut().unwrap() ^= 1),
        (6, _) => Do::Changed(|icmp| icmp[8] ^= 1),
        (7, _) => Do::Changed(|icmp| icmp.truncate(40)),
        (8, _) => Do::Changed(|icmp| icmp.extend([0; 1200])),
        (9, _) => Do::FromElsewhere,
        (10, _) | (13, 0) => Do::Refuse(HOST.0, HOST.1),
        (11, _) | (13, 1) => Do::Refuse(PROHIBITED.0, PROHIBITED.1),
        (12, _) => Do::Refuse(HOPS.0, HOPS.1),
        (14, _) => Do::RefuseShort(HOST.0, HOST.1),
        (15, _) => Do::RefuseFirst(TOO_BIG.0, TOO_BIG.1),
        (16, _) => Do::RefuseShort((3, 2), (4, 1)),
        (17, _) => Do::After(60),
        (18, _) => Do::RefuseOther(HOST.0, HOST.1),
        (19, 0) => Do::RefuseFirst(HOST.0, HOST.1),
        (19, _) => Do::After(60),
        (20, 0) => Do::AfterNext,
        (20, _) => Do::Reply,
        (21, _) => Do::Changed(|icmp| icmp[6] ^= 0x55),
        (22, _) => Do::Changed(|icmp| icmp[4] ^= 1),
        (24, _) => Do::Changed(|icmp| icmp[0] = if icmp[0] == 0 { 8 } else { 128 }),
        (25, _) => Do::Changed(|icmp| icmp[1] = 1),
        (26, _) => Do::Earlier,
        (27, _) => Do::ChangedFirst(|icmp| icmp[8..16].fill(7)),
        (28, _) => Do::ChangedFirst(|icmp| icmp[16..24].fill(7)),
        (29, _) => Do::After(400),
        _ => Do::Drop,
    }
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let world = World::new();
    // Nobody asks this one how far it is.
    drop(respond(&world.remote, script));
    world
});

/// Runs a table over both families and both kinds of sockets.
fn everywhere(cases: impl Fn(&dyn Fn(u8, u32) -> Icmp) -> Vec<Case>) {
    let mut all = Vec::new();
    for net in [&WORLD.datagram, &WORLD.raw] {
        for prefix in ["10.77.1.", "fd77:1::"] {
            let ask = |number: u8, count| at(&format!("{prefix}{number}"), count);
            all.extend(cases(&ask).into_iter().map(|case| case.on(net.clone())));
        }
    }
    run(all);
}

fn number(outcome: &Outcome, name: &str) -> u64 {
    outcome.result[name].as_u64().unwrap_or_else(|| panic!("no number `{name}`: {:?}", outcome.result))
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
#[rustfmt::skip]
fn replies_of_all_sorts() {
    everywhere(|ask| vec![
        case("answers", ask(1, 1), Up, None, "").also(|outcome| {
            let result = &outcome.result;
            assert_eq!((&result["sent"], &result["received"], &result["loss_percent"]), (&1.into(), &1.into(), &0.0.into()));
            assert_eq!((&result["hop_limit"], result["rtt"]["jitter"].is_null()), (&64.into(), true));
            assert!(outcome.phases.send.is_some() && outcome.phases.first_byte.is_some() && outcome.phases.body.is_none());
            assert!(outcome.phases.resolve.is_none() && outcome.phases.connect.is_none());
            assert!(result["address"] == "10.77.1.1" || result["address"] == "fd77:1::1", "{result:?}");
            for count in ["duplicates", "late", "foreign", "damaged"] {
                assert_eq!(number(outcome, count), 0, "{count}");
            }
        }),
        case("answers all", ask(1, 5), Up, None, "").within(SECOND).also(|outcome| {
            let rtt = |name: &str| outcome.result["rtt"][name].as_u64().unwrap();
            assert!(rtt("min") <= rtt("avg") && rtt("avg") <= rtt("p95") && rtt("p95") <= rtt("max") && rtt("max") < 100_000);
            assert!(rtt("jitter") <= rtt("max") - rtt("min"));
            // Five requests, spread over half of the time.
            assert!(outcome.phases.body.unwrap() > 350_000, "{outcome:?}");
        }),
        case("is silent", ask(2, 1), Down, Some(FirstByte), "within 300 ms").within(SHORT).also(|outcome| {
            assert!(outcome.result["rtt"].is_null() && outcome.result["hop_limit"].is_null());
            assert_eq!(outcome.result["loss_percent"], 100.0);
            assert!(outcome.phases.first_byte.unwrap() > 250_000 && outcome.assertions.is_empty());
        }),
        case("is silent to many", ask(2, 5), Down, Some(FirstByte), "no answer from").within(SHORT).also(|outcome| {
            assert_eq!(number(outcome, "sent"), 5);
        }),
        case("loses one of three", ask(3, 3), Down, Some(Assert), "1 of 3 lost (33.3%), expected at most 0%").within(SHORT),
        case("loses one of five, which may be", lossy(ask(3, 5), 20), Up, None, "").within(SHORT).also(|outcome| {
            assert_eq!((number(outcome, "received"), &outcome.result["loss_percent"]), (4, &20.0.into()));
            assert_eq!((outcome.assertions[0].what.as_str(), outcome.assertions[0].got.as_str()), ("loss", "20%"));
        }),
        case("loses one of four, which is too many", lossy(ask(3, 4), 24), Down, Some(Assert), "(25%), expected at most 24%").within(SHORT),
        case("loses all, where that may be", lossy(ask(2, 2), 100), Down, Some(FirstByte), "no answer").within(SHORT),
        case("vanishes after the first", lossy(ask(23, 5), 50), Down, Some(Assert), "4 of 5 lost (80%)").within(SHORT),
        case("duplicates", ask(4, 3), Up, None, "").within(SHORT).also(|outcome| {
            // That of the last may come when nobody waits any more.
            assert!((2..=3).contains(&number(outcome, "duplicates")) && number(outcome, "received") == 3, "{outcome:?}");
        }),
        case("delays", under(ask(17, 2), 1_000), Up, None, "").within(SECOND).also(|outcome| {
            assert!((60_000..160_000).contains(&outcome.result["rtt"]["min"].as_u64().unwrap()), "{outcome:?}");
        }),
        case("delays for too long to be good", under(ask(17, 2), 50), Degraded, None, "on average, expected at most 50 ms").within(SECOND).also(|outcome| {
            assert!(outcome.assertions.iter().any(|assertion| assertion.what == "under" && !assertion.held));
        }),
        case("delays for longer than is waited", ask(29, 1), Down, Some(FirstByte), "no answer").within(SHORT),
        case("answers in another order", ask(20, 2), Up, None, "").within(SHORT).also(|outcome| {
            assert!(outcome.result["rtt"]["max"].as_u64().unwrap() > 50_000 && number(outcome, "late") == 0, "{outcome:?}");
        }),
    ]);
}

#[test]
#[rustfmt::skip]
fn what_is_no_reply() {
    everywhere(|ask| vec![
        case("changes the last byte", ask(5, 2), Down, Some(FirstByte), "2 replies with other content than was sent").within(SHORT).also(|outcome| {
            assert_eq!((number(outcome, "damaged"), number(outcome, "received")), (2, 0));
        }),
        case("changes the first byte", ask(6, 1), Down, Some(FirstByte), "1 reply with other content than was sent").within(SHORT),
        case("cuts the content", ask(7, 1), Down, Some(FirstByte), "1 reply with other content").within(SHORT),
        case("adds to the content", ask(8, 1), Down, Some(FirstByte), "1 reply with other content").within(SHORT),
        case("answers from elsewhere", ask(9, 2), Down, Some(FirstByte), "2 replies to what was not asked, or from another address").within(SHORT).also(|outcome| {
            assert_eq!((number(outcome, "foreign"), number(outcome, "damaged")), (2, 0));
        }),
        case("answers what was not asked", ask(21, 1), Down, Some(FirstByte), "no answer").within(SHORT).also(|outcome| {
            // It has our key, so it may be an answer to something earlier.
            assert_eq!((number(outcome, "late"), number(outcome, "received")), (1, 0));
        }),
        case("answers with another identifier", ask(22, 1), Down, Some(FirstByte), "within 300 ms").within(SHORT).also(|outcome| {
            assert_eq!((number(outcome, "late"), number(outcome, "foreign"), number(outcome, "damaged")), (0, 0, 0));
        }),
        case("sends the request back", ask(24, 1), Down, Some(FirstByte), "no answer").within(SHORT),
        case("answers with a code", ask(25, 1), Down, Some(FirstByte), "no answer").within(SHORT),
        case("is forged before it answers", ask(27, 1), Up, None, "").within(SECOND),
        case("is damaged before it is right", ask(28, 1), Up, None, "").within(SECOND),
    ]);
}

#[test]
#[rustfmt::skip]
fn icmp_errors() {
    everywhere(|ask| vec![
        case("host unreachable", ask(10, 1), Down, Some(FirstByte), ": host unreachable, says ").also(|outcome| {
            let [refusal] = &outcome.result["refusals"].as_array().unwrap()[..] else { panic!("{outcome:?}") };
            assert_eq!((&refusal["what"], &refusal["count"]), (&"host unreachable".into(), &1.into()));
            assert!(crate::responder::ROUTERS.contains(&refusal["by"].as_str().unwrap()), "{outcome:?}");
        }),
        case("all hosts unreachable", ask(10, 4), Down, Some(FirstByte), ": host unreachable, says ").within(SECOND).also(|outcome| {
            assert!(outcome.result["refusals"][0]["count"] == 4 && outcome.phases.first_byte.unwrap() < 900_000, "{outcome:?}");
        }),
        case("prohibited", ask(11, 1), Down, Some(FirstByte), ": administratively prohibited, says "),
        case("loops", ask(12, 1), Down, Some(FirstByte), ": TTL exceeded, as in a routing loop, says "),
        case("quotes no more than has to be", ask(14, 1), Down, Some(FirstByte), ": host unreachable, says "),
        case("has no ICMP", ask(16, 1), Down, Some(FirstByte), " says "),
        case("refuses some", ask(13, 4), Down, Some(Assert), "2 of 4 lost (50%), expected at most 0%; host unreachable, says ").within(SECOND),
        case("refuses some, which may be", lossy(ask(13, 4), 50), Up, None, "").within(SECOND).also(|outcome| {
            assert_eq!(outcome.result["refusals"].as_array().unwrap().len(), 2);
        }),
        case("says that it is too big, which ends nothing", ask(15, 2), Up, None, "").within(SHORT).also(|outcome| {
            assert!(outcome.result.get("refusals").is_none());
        }),
        case("refuses what others asked", ask(18, 1), Down, Some(FirstByte), "no answer").within(SHORT).also(|outcome| {
            assert!(outcome.result.get("refusals").is_none());
        }),
        case("refuses, and answers then", ask(19, 2), Up, None, "").within(SHORT),
    ]);
}
