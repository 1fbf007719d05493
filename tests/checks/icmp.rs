//! Echoes through network namespaces: a remote host that drops, delays, duplicates, damages and vanishes, over IPv4 and IPv6,
//! by datagram and by raw sockets.

use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use pingeon::check::Phase::{self, Assert, Body, FirstByte, Resolve, Send};
use pingeon::check::Verdict::{self, Degraded, Down, Unknown, Up};
use pingeon::check::icmp::Icmp;
use pingeon::check::{Kind, Outcome};
use pingeon::net::{Host, IpFamily, Net};

use crate::namespaces::{Namespace, Ready};
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
        let [raw, datagram] = [(false, "raw"), (true, "datagram")].map(|(open, socket)| {
            permit(&agent, open);
            let net = net();
            let opened = net.clone();
            for outcome in agent.within(move || ["127.0.0.1", "::1"].map(|address| look_at(address, &opened))) {
                assert_eq!((outcome.verdict, &outcome.result["socket"]), (Up, &socket.into()), "{outcome:?}");
            }
            net
        });
        // A cable takes a moment until it carries anything, and so do neighbours to find each other.
        for address in ["10.77.0.2", "fd77::2"] {
            let begun = Instant::now();
            while look(Kind::Icmp(Box::new(at(address, 1))), &raw, SHORT).verdict != Up {
                assert!(begun.elapsed() < LONG, "{address} does not come up");
            }
        }
        remote.set("ipv4/icmp_echo_ignore_all", "1");
        remote.set("ipv6/icmp/echo_ignore_all", "1");
        World { agent, remote, datagram, raw }
    }
}

/// Lets this process's group have datagram sockets for pings; a namespace that is new lets nobody.
fn permit(agent: &Namespace, open: bool) {
    if open {
        agent.set("ipv4/ping_group_range", "0 0");
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

/// Both kinds of sockets.
fn nets(world: &World) -> [Arc<Net>; 2] {
    [world.datagram.clone(), world.raw.clone()]
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
            assert!(rtt("min") <= rtt("avg") && rtt("avg") <= rtt("p95") && rtt("p95") <= rtt("max"));
            assert!(rtt("jitter") <= rtt("max") - rtt("min"));
            // Five requests, spread over half of the time.
            assert!(outcome.phases.first_byte.unwrap() + outcome.phases.body.unwrap() > 350_000, "{outcome:?}");
        }),
        case("is silent", ask(2, 1), Down, Some(FirstByte), "within 300 ms").within(SHORT).also(|outcome| {
            assert!(outcome.result["rtt"].is_null() && outcome.result["hop_limit"].is_null());
            assert_eq!(outcome.result["loss_percent"], 100.0);
            assert!(outcome.phases.first_byte.unwrap() > 250_000 && outcome.assertions.is_empty());
        }),
        case("is silent to many", ask(2, 5), Down, Some(FirstByte), "no answer from").within(SHORT).also(|outcome| {
            assert_eq!(number(outcome, "sent"), 5);
        }),
        case("loses one of three", ask(3, 3), Down, Some(Assert), "1 of 3 lost (33.3%), expected at most 0%").within(SECOND),
        case("loses one of five, which may be", lossy(ask(3, 5), 20), Up, None, "").within(SECOND).also(|outcome| {
            assert_eq!((number(outcome, "received"), &outcome.result["loss_percent"]), (4, &20.0.into()));
            assert_eq!((outcome.assertions[0].what.as_str(), outcome.assertions[0].got.as_str()), ("loss", "20%"));
        }),
        case("loses one of four, which is too many", lossy(ask(3, 4), 24), Down, Some(Assert), "(25%), expected at most 24%").within(SECOND),
        case("loses all, where that may be", lossy(ask(2, 2), 100), Down, Some(FirstByte), "no answer").within(SHORT),
        case("vanishes after the first", lossy(ask(23, 5), 50), Down, Some(Assert), "4 of 5 lost (80%)").within(SECOND),
        case("duplicates", ask(4, 3), Up, None, "").within(SECOND).also(|outcome| {
            // That of the last may come when nobody waits any more.
            assert!((2..=3).contains(&number(outcome, "duplicates")) && number(outcome, "received") == 3, "{outcome:?}");
        }),
        case("delays", under(ask(17, 2), 1_000), Up, None, "").within(SECOND).also(|outcome| {
            assert!(outcome.result["rtt"]["min"].as_u64().unwrap() >= 60_000, "{outcome:?}");
        }),
        case("delays for too long to be good", under(ask(17, 2), 50), Degraded, None, "on average, expected at most 50 ms").within(SECOND).also(|outcome| {
            assert!(outcome.assertions.iter().any(|assertion| assertion.what == "under" && !assertion.held));
        }),
        case("delays for longer than is waited", ask(29, 1), Down, Some(FirstByte), "no answer").within(SHORT),
        case("answers in another order", ask(20, 2), Up, None, "").within(SECOND).also(|outcome| {
            assert!(outcome.result["rtt"]["max"].as_u64().unwrap() > 50_000 && number(outcome, "late") == 0, "{outcome:?}");
        }),
    ]);
}

#[test]
#[rustfmt::skip]
fn what_is_no_reply() {
    everywhere(|ask| vec![
        case("changes the last byte", ask(5, 2), Down, Some(FirstByte), "2 replies with other content than was sent").within(SECOND).also(|outcome| {
            assert_eq!((number(outcome, "damaged"), number(outcome, "received")), (2, 0));
        }),
        case("changes the first byte", ask(6, 1), Down, Some(FirstByte), "1 reply with other content than was sent").within(SECOND),
        case("cuts the content", ask(7, 1), Down, Some(FirstByte), "1 reply with other content").within(SECOND),
        case("adds to the content", ask(8, 1), Down, Some(FirstByte), "1 reply with other content").within(SECOND),
        case("answers from elsewhere", ask(9, 2), Down, Some(FirstByte), "2 replies to what was not asked, or from another address").within(SECOND).also(|outcome| {
            assert_eq!((number(outcome, "foreign"), number(outcome, "damaged")), (2, 0));
        }),
        case("answers what was not asked", ask(21, 1), Down, Some(FirstByte), "no answer").within(SECOND).also(|outcome| {
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
        case("says that it is too big, which ends nothing", ask(15, 2), Up, None, "").within(SECOND).also(|outcome| {
            assert!(outcome.result.get("refusals").is_none());
        }),
        case("refuses what others asked", ask(18, 1), Down, Some(FirstByte), "no answer").within(SHORT).also(|outcome| {
            assert!(outcome.result.get("refusals").is_none());
        }),
        case("refuses, and answers then", ask(19, 2), Up, None, "").within(SECOND),
    ]);
}

/// The kernel tells an ICMP error to whoever sends next over the socket, whatever it is about.
#[test]
fn what_is_refused_to_some_keeps_nobody_from_sending() {
    everywhere(|ask| {
        let all_sent = |outcome: &Outcome| assert_eq!(number(outcome, "sent"), 100, "{outcome:?}");
        let refused = || case("refused", ask(10, 100), Down, Some(FirstByte), "10").also(all_sent);
        let answered = || case("answered", lossy(ask(1, 100), 90), Up, None, "").also(all_sent);
        [refused(), refused(), refused(), answered(), answered()].map(|case| case.within(SECOND)).into()
    });
}

#[test]
fn what_answers_too_late_is_counted_with_the_next_check_and_answers_nothing() {
    for net in nets(&WORLD) {
        for address in ["10.77.1.26", "fd77:1::26"] {
            let ask = || look(Kind::Icmp(Box::new(at(address, 2))), &net, SHORT);
            let first = ask();
            assert_eq!((first.verdict, number(&first, "late")), (Down, 0), "{first:?}");
            let second = ask();
            assert_eq!(
                (second.verdict, number(&second, "late"), number(&second, "received")),
                (Down, 2, 0),
                "{second:?}"
            );
            assert!(second.reason.unwrap().ends_with("; 2 replies too late, or to earlier requests"));
        }
    }
}

#[test]
#[rustfmt::skip]
fn names_and_what_is_in_the_way_of_sending() {
    // A network of its own: no way leads out of it but those that are said.
    let agent = Namespace::new();
    for (family, way) in [("-4", "192.0.2"), ("-6", "2001:db8:")] {
        for (number, kind) in [(1, "unreachable"), (2, "prohibit"), (3, "blackhole")] {
            agent.ip(&format!("{family} route add {kind} {way}{}{number}", if family == "-4" { "." } else { ":" }));
        }
    }
    let mut cases = Vec::new();
    for open in [false, true] {
        permit(&agent, open);
        let net = net();
        let opened = net.clone();
        agent.within(move || ["127.0.0.1", "::1"].map(|address| drop(look_at(address, &opened))));
        let name = |name: &str, ip| Icmp { ip, ..to(Host::Name(name.to_owned()), 1) };
        cases.extend([
            case("here", at("127.0.0.1", 3), Up, None, "").within(SHORT),
            case("here over IPv6", at("::1", 3), Up, None, "").within(SHORT),
            case("here, mapped", at("::ffff:127.0.0.1", 1), Up, None, ""),
            case("a name", name("local.example", IpFamily::Any), Up, None, "").also(|outcome| {
                assert!(outcome.phases.resolve.is_some() && outcome.result["address"] == "127.0.0.1");
            }),
            case("a name of both families, one of which has no way", name("no-way-first.example", IpFamily::Any), Up, None, "").also(|outcome| {
                assert_eq!(outcome.result["address"], "127.0.0.1");
            }),
            case("a name without the family", name("v4-only.example", IpFamily::V6), Down, Some(Resolve), "`v4-only.example` has no IPv6 address"),
            case("no such name", name("nowhere.example", IpFamily::Any), Down, Some(Resolve), "no such name: `nowhere.example`"),
            case("no name service", name("servfail.example", IpFamily::Any), Unknown, Some(Resolve), "the name service did not answer"),
            case("slow names", name("slow.example", IpFamily::Any), Unknown, Some(Resolve), "within 300 ms").within(SHORT),
            case("not of the family", Icmp { ip: IpFamily::V6, ..at("127.0.0.1", 1) }, Down, Some(Resolve), "127.0.0.1 is no IPv6 address"),
            case("no way", at("198.51.100.1", 3), Unknown, Some(Send), "network unreachable from this agent").also(|outcome| {
                assert!(outcome.phases.send.is_some() && outcome.result.get("sent").is_none());
            }),
            case("no way over IPv6", at("2001:db8:9::1", 1), Unknown, Some(Send), "network unreachable from this agent"),
            case("unreachable", at("192.0.2.1", 1), Down, Some(Send), "192.0.2.1 is unreachable"),
            case("unreachable over IPv6", at("2001:db8::1", 1), Down, Some(Send), "2001:db8::1 is unreachable"),
            case("prohibited", at("192.0.2.2", 1), Unknown, Some(Send), "not permitted"),
            case("prohibited over IPv6", at("2001:db8::2", 1), Unknown, Some(Send), "not permitted"),
            case("a black hole", at("192.0.2.3", 1), Unknown, Some(Send), "this agent"),
            case("a black hole over IPv6", at("2001:db8::3", 1), Unknown, Some(Send), "this agent"),
            case("a deadline that is past", at("127.0.0.1", 3), Unknown, None, "too slow: 1 of 3 requests went out in time").within(Duration::ZERO),
        ].map(|case| case.on(net.clone())));
    }
    run(cases);
}

#[test]
fn a_neighbour_that_is_not_there_is_unreachable() {
    let World { agent, remote: _remote, datagram, raw } = World::new();
    for family in ["ipv4", "ipv6"] {
        agent.set(&format!("{family}/neigh/here/mcast_solicit"), "1");
        agent.set(&format!("{family}/neigh/here/retrans_time_ms"), "100");
    }
    let mut cases = Vec::new();
    for net in [datagram, raw] {
        for address in ["10.77.0.9", "fd77::9"] {
            let nobody = case("nobody", at(address, 1), Down, Some(FirstByte), ": host unreachable, says ");
            cases.push(nobody.on(net.clone()));
        }
    }
    run(cases);
}

/// Asks ten times; after the second, `change` happens.
fn amidst(change: fn(&World) -> Ready, verdict: Verdict, phase: Phase, reason: &'static str) {
    let by = move |place: usize| {
        let world = World::new();
        let requests = respond(&world.remote, |_, _| Do::Drop);
        // The host answers by itself; what is seen of the requests is their number.
        world.remote.set("ipv4/icmp_echo_ignore_all", "0");
        let change = change(&world);
        let net = nets(&world)[place].clone();
        let asking = std::thread::spawn(move || {
            let case = case("amidst", at("10.77.0.2", 10), verdict, Some(phase), reason).on(net).within(3 * SECOND);
            run(vec![case.also(|outcome| {
                assert!((2..10).contains(&number(outcome, "received")), "{outcome:?}");
            })]);
        });
        for _ in 0..2 {
            requests.recv_timeout(LONG).unwrap();
        }
        change.go();
        asking.join().unwrap();
    };
    let datagram = std::thread::spawn(move || by(0));
    by(1);
    datagram.join().unwrap();
}

#[test]
fn a_host_that_vanishes_amidst_is_down() {
    amidst(|world| world.remote.ip_ready("address flush dev there"), Down, Assert, " of 10 lost");
}

#[test]
fn an_uplink_that_is_cut_amidst_is_the_agents_own() {
    amidst(|world| world.agent.ip_ready("link set here down"), Unknown, Body, "network unreachable from this agent");
}

#[test]
fn without_permission_nothing_is_known_and_either_permission_is_enough() {
    let agent = Namespace::new();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("pingeon.yaml");
    std::fs::write(&config, "checks: [{label: four, icmp: 127.0.0.1}, {label: six, icmp: '::1'}]\n").unwrap();
    for (open, capable, verdict, socket) in [
        (false, false, "unknown", "null"),
        (false, true, "up", "\"raw\""),
        (true, false, "up", "\"datagram\""),
        (true, true, "up", "\"datagram\""),
    ] {
        permit(&agent, open);
        let config = config.clone();
        let output = agent.within(move || {
            let mut command = Command::new("setpriv");
            command.arg(if capable { "--bounding-set=-all,+net_raw" } else { "--bounding-set=-all" });
            command.arg(env!("CARGO_BIN_EXE_pingeon")).args(["check", "--format", "json", "--config"]).arg(config);
            command.output().expect("setpriv(1) is there: apt install util-linux")
        });
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed.lines().count(), 2, "{open} {capable}: {}", String::from_utf8_lossy(&output.stderr));
        for line in printed.lines() {
            let log: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(
                (log["verdict"].as_str(), log["result"]["socket"].to_string()),
                (Some(verdict), socket.to_owned()),
                "{line}"
            );
            let reason = log["reason"].as_str().unwrap_or_default();
            let told = ["net.ipv4.ping_group_range", "CAP_NET_RAW", "icmp-raw.conf"].map(|way| reason.contains(way));
            assert_eq!(told, [verdict == "unknown"; 3], "{line}");
            // Or a gate of such checks would be taken for a network that is down.
            assert!(log["phase"].is_null(), "{line}");
        }
    }
}

#[test]
fn many_at_once_share_the_sockets() {
    for net in nets(&WORLD) {
        let threads: Vec<_> = (0..64)
            .map(|n| {
                let net = net.clone();
                std::thread::spawn(move || {
                    for m in 1..=20 {
                        let outcome = look_at(&format!("127.0.{n}.{m}"), &net);
                        assert_eq!(outcome.verdict, Up, "{outcome:?}");
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
