//! The network gate, as a whole: a real `pingeon run` in a network of its own, with a gateway beside it and targets behind that one.
//! When the agent's uplink is cut, nothing is `down`, and the report says for how long nobody could tell; when it is the targets'
//! cable that is cut, they are `down`. Makes network namespaces: needs root, or `unshare --user --map-root-user`.
//!
//! `GATE_CUT=60 cargo test --test gate -- --nocapture` cuts for a minute and prints what the report says of it.

#[path = "checks/namespaces.rs"]
#[allow(dead_code, reason = "shared with `checks`, which needs more of it")]
mod namespaces;
#[path = "checks/pki.rs"]
#[allow(dead_code, reason = "shared with `checks`, which needs more of it")]
mod pki;
#[path = "service/running.rs"]
#[allow(dead_code, reason = "shared with `service`, which needs more of it")]
mod running;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use namespaces::Namespace;
use pki::Issued;
use running::{PATIENCE, Place, Service, wait_for};
use rustix::process::Signal;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// Where the targets are; the gateway is 10.77.0.2.
const TARGETS: &str = "10.77.2.2";

/// How long a cut lasts in the suite.
const CUT: Duration = Duration::from_secs(3);

/// Fifteen slots in a cut; a check and the looks at the gate after it take less than one, where they are not as close as here.
fn interval() -> Duration {
    cut() / 15
}

/// What a report may be out by: slots at the edges, the look at the gate, what the machine is busy with.
fn slack() -> Duration {
    Duration::from_secs(2) + 2 * interval()
}

const LABELS: [&str; 8] = ["echo", "gateway", "mail", "name", "port", "secret", "shop", "zone"];

/// An agent, its gateway, and targets behind that one: 10.77.0.1 – 10.77.0.2, 10.77.2.1 – 10.77.2.2.
struct World {
    agent: Namespace,
    gateway: Namespace,
    _targets: Namespace,
    place: Arc<Place>,
    /// How many times half of a line was said.
    halves: Arc<AtomicUsize>,
}

impl World {
    /// With `more` checks than those that everybody has.
    fn new(more: &str) -> Self {
        let [agent, gateway, targets] = [(); 3].map(|()| Namespace::new());
        agent.connect(&gateway);
        gateway.link("far", &targets, "near");
        gateway.ip("address add 10.77.2.1/24 dev far");
        targets.ip("address add 10.77.2.2/24 dev near");
        agent.ip("route add default via 10.77.0.2");
        targets.ip("route add default via 10.77.2.1");
        gateway.set("ipv4/ip_forward", "1");
        gateway.within(|| serve("10.77.0.2:9", |_| {}));
        let halves = Arc::<AtomicUsize>::default();
        let said = halves.clone();
        targets.within(move || open_targets(&said));
        let place = Arc::new(Place::with(&(config() + more)));
        World { agent, gateway, _targets: targets, place, halves }
    }

    /// Starts the agent, and waits until it has seen everything work.
    fn run(&self) -> Service {
        std::fs::write(
            self.place.path().join("resolv.conf"),
            format!("nameserver {TARGETS}\noptions timeout:1 attempts:1\n"),
        )
        .unwrap();
        let place = self.place.clone();
        // With a resolver of its own, which nobody else sees.
        let own = "mount --bind resolv.conf /etc/resolv.conf && exec \"$0\" run";
        let service = self.agent.within(move || {
            let pingeon = place.command(&["run"]);
            let mut command = std::process::Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-c", own]).arg(pingeon.get_program());
            command.current_dir(place.path()).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            Service::start(&mut command)
        });
        self.all_up_after("0");
        service
    }

    fn now(&self) -> String {
        use pingeon::clock::{Clock as _, SystemClock};
        SystemClock.now().wall.as_micros().to_string()
    }

    /// Waits until every check was up after `moment`.
    fn all_up_after(&self, moment: &str) {
        let query = format!("SELECT DISTINCT label FROM log WHERE verdict = 'up' AND due_at > {moment} ORDER BY label");
        let last =
            "SELECT label || ' ' || verdict || ' ' || coalesce(reason, '') FROM log GROUP BY label HAVING max(uid)";
        let end = Instant::now() + PATIENCE;
        while self.place.stored::<String>(&query) != LABELS {
            assert!(Instant::now() < end, "not everything is up: {:#?}", self.place.stored::<String>(last));
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Waits until `so_many` logs of each label have come with `verdict` after `moment`.
    fn all_came(&self, verdict: &str, so_many: usize, moment: &str, labels: &[&str]) {
        let query = format!(
            "SELECT label FROM log WHERE verdict = '{verdict}' AND due_at > {moment}
             GROUP BY label HAVING count(*) >= {so_many} ORDER BY label"
        );
        wait_for(&format!("{so_many} logs of each that are {verdict}"), || {
            let came = self.place.stored::<String>(&query);
            labels.iter().all(|label| came.iter().any(|came| came == label)).then_some(())
        });
    }

    fn report(&self, since: &str) -> Value {
        let micros: i64 = since.parse().unwrap();
        let since = pingeon::clock::Timestamp::from_micros(micros).to_string();
        let output = self.place.pingeon(&["report", "--since", &since, "--format", "json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// Two checks make the gate; the others are of every kind, and one by a name that a resolver behind the gateway knows.
fn config() -> String {
    let (interval, timeout) = (interval().as_millis(), (interval() * 3 / 4).as_millis().min(1_000));
    format!(
        "agent: test
defaults: {{interval: {interval}ms, timeout: {timeout}ms}}
spool: {{flush: 10ms}}
network_gate: [gateway, port]
checks:
  - {{label: gateway, icmp: 10.77.0.2, count: 1}}
  - {{label: port, tcp: \"10.77.0.2:9\"}}
  - {{label: echo, icmp: {TARGETS}, count: 1}}
  - {{label: mail, tcp: \"{TARGETS}:25\", dialogue: [{{expect: \"^220 mail\"}}]}}
  - {{label: name, http: \"http://shop.test/\", proxy: none}}
  - {{label: secret, tls: \"{TARGETS}:443\", verify: false}}
  - {{label: shop, http: \"http://{TARGETS}/\", proxy: none}}
  - {{label: zone, dns: {{name: shop.test, type: A, server: {TARGETS}}}}}
"
    )
}

/// Listens at `address` of the network of the thread that calls this, until the test ends.
fn serve(address: &str, serve: impl Fn(TcpStream) + Send + Sync + 'static) {
    let (listener, serve) = (TcpListener::bind(address).unwrap(), Arc::new(serve));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
                serve(stream);
            });
        }
    });
}

fn open_targets(halves: &Arc<AtomicUsize>) {
    let halves = halves.clone();
    serve(&format!("{TARGETS}:80"), |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n");
        let _ = stream.read(&mut [0; 1]);
    });
    // In two parts, so that the cable may be cut in between.
    serve(&format!("{TARGETS}:25"), move |mut stream| {
        let _ = stream.set_nodelay(true);
        let _ = stream.write_all(b"220 ");
        halves.fetch_add(1, Relaxed);
        wait_until(Instant::now() + Duration::from_millis(60));
        let _ = stream.write_all(b"mail\r\n");
        let _ = stream.read(&mut [0; 1]);
    });
    let issued = Issued::self_signed("shop.test");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = issued.private_key();
    let tls = Arc::new(builder.with_no_client_auth().with_single_cert(issued.chain, key).unwrap());
    serve(&format!("{TARGETS}:443"), move |stream| {
        let mut stream = StreamOwned::new(ServerConnection::new(tls.clone()).unwrap(), stream);
        let _ = stream.read(&mut [0; 64]);
    });
    let socket = UdpSocket::bind(format!("{TARGETS}:53")).unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            let _ = socket.send_to(&answer(&query[..length]), from);
        }
    });
}

/// `shop.test` is at the targets' address; there is nothing else (RFC 1035, section 4.1). What comes after the question is left out.
fn answer(query: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"\x04shop\x04test\0";
    let question = NAME.len() + 4;
    let known = query[12..].starts_with(NAME);
    let address = known && query[12 + NAME.len()..][..2] == [0, 1];
    let end = if known { 12 + question } else { query.len() };
    let mut answer = query[..end].to_vec();
    let rcode = if known { 0 } else { 3 };
    answer[2..12].copy_from_slice(&[0x81, 0x80 | rcode, 0, 1, 0, u8::from(address), 0, 0, 0, 0]);
    if address {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 77, 2, 2]);
    }
    answer
}

fn cut() -> Duration {
    std::env::var("GATE_CUT").map_or(CUT, |seconds| Duration::from_secs(seconds.parse().unwrap()))
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros().try_into().unwrap()
}

/// The agent's own uplink is taken away by `take` and given back by `give`, both words to ip(8).
fn cut_off(world: &World, whose: &Namespace, take: &'static str, give: &[&str]) {
    let mut service = world.run();
    let since = world.now();
    let take_away = whose.ip_ready(take);
    // In the midst of a line.
    let halves = world.halves.load(Relaxed);
    wait_for("half a line", || (world.halves.load(Relaxed) > halves).then_some(()));
    let begun = Instant::now();
    take_away.go();
    service.says("the agent's own network is at fault");
    let moment = world.now();
    world.all_came("unknown", 1, &moment, &LABELS);
    wait_until(begun + cut());
    give.iter().for_each(|give| whose.ip(give));
    let back = world.now();
    let was_cut = begun.elapsed();
    service.says("the agent's own network is back after");
    world.all_up_after(&back);
    let report = world.report(&since);
    service.signal(Signal::TERM);
    let (_, _, said) = service.ends();

    let silent = |why: &str| {
        let silences = report["silences"].as_array().unwrap().iter();
        silences.filter(|of| of["why"] == why).map(|of| of["lasted_us"].as_u64().unwrap()).sum::<u64>()
    };
    let (own, waited) = (silent("own network"), silent("still running"));
    println!(
        "`{take}` for {was_cut:.1?}: own network {:.1} s, still running {:.1} s",
        own as f64 / 1e6,
        waited as f64 / 1e6
    );
    let (least, most) = (micros(was_cut.saturating_sub(slack())), micros(was_cut + slack()));
    // Where slots are this close, a check that waits for the gate may miss one.
    assert!(own >= micros(was_cut) / 2 && own <= most && own + waited >= least, "{own} for {was_cut:?}: {report:#}");
    for check in report["checks"].as_array().unwrap() {
        let time = &check["time_us"];
        println!("{} {}", check["label"], time);
        assert_eq!(time["down"], 0, "{take}: {check:#}");
        assert!((least..=most).contains(&time["unknown"].as_u64().unwrap()), "{take}, for {was_cut:?}: {check:#}");
        assert_eq!(check["outages"].as_array().map(Vec::len), Some(0), "{check:#}");
    }
    let downs = world.place.stored::<String>("SELECT label || ' ' || reason FROM log WHERE verdict = 'down'");
    assert_eq!(downs, [""; 0], "{take}");
    for once in ["the agent's own network is at fault", "the agent's own network is back"] {
        assert_eq!(said.matches(once).count(), 1, "{once}: {said}");
    }
}

fn wait_until(moment: Instant) {
    while Instant::now() < moment {
        std::thread::park_timeout(moment.saturating_duration_since(Instant::now()));
    }
}

#[test]
fn while_the_uplink_is_down_nothing_is() {
    let world = World::new("");
    let default = "route add default via 10.77.0.2";
    cut_off(&world, &world.agent, "link set here down", &["link set here up", default]);
}

#[test]
fn while_the_uplink_swallows_everything_nothing_is_down() {
    let world = World::new("");
    let swallow = "route add blackhole 10.77.0.1/32";
    cut_off(&world, &world.gateway, swallow, &["route del blackhole 10.77.0.1/32"]);
}

#[test]
fn while_the_targets_are_cut_off_they_are_down() {
    let world = World::new("  - {label: nowhere, http: \"http://nowhere.test/\", proxy: none}\n");
    let service = world.run();
    world.all_came("down", 2, "0", &["nowhere"]);
    let since = world.now();
    world.gateway.ip("route add blackhole 10.77.2.2/32");
    let cut = world.now();
    world.all_came("down", 2, &since, &["echo", "mail", "secret", "shop", "zone"]);
    // Whether there is such a name nobody can say now.
    world.all_came("unknown", 2, &cut, &["name", "nowhere"]);
    world.gateway.ip("route del blackhole 10.77.2.2/32");
    let back = world.now();
    world.all_up_after(&back);
    service.signal(Signal::TERM);
    let own = world.place.stored::<String>("SELECT label FROM log WHERE reason LIKE 'own network%'");
    assert_eq!((own.len(), service.ends().2.contains("own network")), (0, false));
    let said = |of: &str| {
        let what = "verdict || ', ' || substr(reason, 1, 12)";
        let query =
            format!("SELECT DISTINCT {what} FROM log WHERE {of} AND verdict NOT IN ('up', 'missed') ORDER BY 1");
        world.place.stored::<String>(&query)
    };
    assert_eq!(said("label = 'name'"), ["unknown, the name ser"]);
    assert_eq!(said("label = 'nowhere'"), ["down, no such name", "unknown, the name ser"]);
    assert_eq!(
        said(&format!("label = 'nowhere' AND due_at BETWEEN {cut} + 200000 AND {back} - 200000")),
        ["unknown, the name ser"]
    );
}
