//! `icmp` checks: echo requests, as ping(8) sends them.
//!
//! Requests go out one after another, `SPACING` apart or closer, so that all are out within half of the time; each may be
//! answered until the deadline, and the check ends as soon as all are. The phase `send` is until the first one is out,
//! `first_byte` until the first reply, and `body` the rest. A name's first address that anything can be sent to is asked, and
//! no other: several addresses would hide what one of them loses.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::assertions::Assertions;
use super::show::millis;
use super::{Outcome, Phase, Verdict};
use crate::net::echo::{Asking, End, Refusal, Tally, Unasked};
use crate::net::{Blame, Course, Failure, Host, IpFamily, Net, Spoken, Trouble};

/// Whom to ask for an echo, and what to expect.
#[derive(Clone, Debug)]
pub struct Icmp {
    /// The name or address to send to.
    pub host: Host,
    /// Which addresses of the name to take.
    pub ip: IpFamily,
    /// How many echo requests; at least 1.
    pub count: u32,
    /// More loss than this many percent: down.
    pub loss: u8,
    /// A slower average: degraded.
    pub under: Option<Duration>,
}

/// How far apart requests are, where there is time enough: what ping(8) calls an interval, and long permitted to everybody.
const SPACING: Duration = Duration::from_millis(200);

/// What a person can do about it; either is enough.
const NOT_PERMITTED: &str = "this agent may not send ICMP: let its group do so \
    (`sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"`), or give it CAP_NET_RAW \
    (/usr/share/doc/pingeon/examples/icmp-raw.conf)";

/// What came of all requests to one address.
struct Asked {
    address: IpAddr,
    raw: bool,
    tally: Tally,
    /// Why some did not go out.
    unsent: Option<Unjudged>,
}

/// Why a check could not be judged by what came back.
#[derive(Debug)]
enum Unjudged {
    /// It failed on the way.
    Failed(Failure),
    /// The agent was not up to asking, which says nothing of any network: it failed in no phase.
    Unable(String),
}

impl From<Failure> for Unjudged {
    fn from(failure: Failure) -> Self {
        Unjudged::Failed(failure)
    }
}

/// Asks, and judges what comes back.
pub fn run(icmp: &Icmp, net: &Net, deadline: Instant) -> Outcome {
    let mut course = net.course(deadline);
    let asked = ask(icmp, net, &mut course);
    course.leave();
    let mut assertions = Assertions::default();
    let mut result = Map::new();
    result.insert("phases".to_owned(), json!(course.phases()));
    let (verdict, phase, reason) = match asked.and_then(|asked| {
        figures(&asked, &mut result);
        judge(icmp, asked, &mut assertions, &mut course)
    }) {
        Ok(()) => assertions.verdict(),
        Err(Unjudged::Unable(reason)) => (Verdict::Unknown, None, Some(reason)),
        Err(Unjudged::Failed(Failure { blame, phase, reason })) => {
            let verdict = if blame == Blame::Target { Verdict::Down } else { Verdict::Unknown };
            (verdict, Some(phase), Some(reason))
        }
    };
    let (phases, timeline) = (course.phases(), course.timeline.spans());
    Outcome { verdict, phase, reason, phases, assertions: assertions.listed, result, timeline }
}

/// Sends to the first address that takes the first request.
fn ask(icmp: &Icmp, net: &Net, course: &mut Course) -> Result<Asked, Unjudged> {
    let addresses = net.resolve(&icmp.host, 0, icmp.ip, course)?;
    let mut failures = Vec::new();
    for address in addresses.iter().map(|address| address.ip().to_canonical()) {
        course.enter(Phase::Send);
        match begin(address, icmp, net, course) {
            Ok(asking) => return Ok(converse(address, icmp, asking, course)),
            Err(Unjudged::Failed(failure)) => failures.push(failure),
            Err(unable) => return Err(unable),
        }
    }
    // An agent without IPv6 says nothing of a target that has both.
    let at = failures.iter().position(|failure| failure.blame == Blame::Target).unwrap_or(0);
    let failure = (at < failures.len()).then(|| failures.swap_remove(at));
    Err(failure.unwrap_or_else(|| course.failed(Phase::Resolve, format!("{} has no address", icmp.host))).into())
}

fn begin(address: IpAddr, icmp: &Icmp, net: &Net, course: &mut Course) -> Result<Asking, Unjudged> {
    let count = usize::try_from(icmp.count).unwrap_or(usize::MAX);
    let asking = net.echoes().ask(address, count, course.deadline()).map_err(|unasked| match unasked {
        Unasked::NotPermitted => Unjudged::Unable(NOT_PERMITTED.to_owned()),
        Unasked::Full => Unjudged::Unable("this agent has too many ICMP echoes under way".to_owned()),
        Unasked::NoThread(error) => Unjudged::Unable(format!("cannot start a thread for ICMP: {error}")),
        // No target has been asked anything.
        Unasked::Io(error) => Failure { blame: Blame::Agent, ..unsent(error, address, course) }.into(),
    })?;
    asking.send(0).map_err(|error| unsent(error, address, course))?;
    Ok(asking)
}

/// A request that did not go out in the phase that is under way.
fn unsent(error: io::Error, address: IpAddr, course: &mut Course) -> Failure {
    let phase = course.phase().unwrap_or(Phase::Send);
    Trouble::from(error).failure(course, phase, &address)
}

/// The first request is out: sends the others in their time, until each is answered or the deadline comes.
fn converse(address: IpAddr, icmp: &Icmp, asking: Asking, course: &mut Course) -> Asked {
    let (begun, deadline) = (Instant::now(), course.deadline());
    let spacing = SPACING.min(deadline.saturating_duration_since(begun) / (2 * icmp.count).max(1));
    let (mut tried, mut out, mut ended, mut failure) = (1, 1, 0, None);
    course.enter(Phase::FirstByte);
    while (tried < icmp.count || ended < out) && !asking.is_deaf() {
        let (now, next) = (Instant::now(), begun + spacing * tried);
        if now >= deadline {
            break;
        }
        if tried < icmp.count && now >= next {
            match asking.send(usize::try_from(tried).unwrap_or(usize::MAX)) {
                Ok(()) => out += 1,
                Err(error) => failure = failure.or(Some(unsent(error, address, course).into())),
            }
            tried += 1;
        } else {
            let until = if tried < icmp.count { next.min(deadline) } else { deadline };
            ended = asking.wait(ended, until);
        }
        if tried < icmp.count || ended < out {
            course.enter(if asking.is_answered() { Phase::Body } else { Phase::FirstByte });
        }
    }
    if tried < icmp.count && !asking.is_deaf() {
        let reason = format!("this agent was too slow: {tried} of {} requests went out in time", icmp.count);
        failure = Some(Unjudged::Unable(reason));
    }
    Asked { address, raw: asking.is_raw(), tally: asking.end(), unsent: failure }
}

/// What goes into the log.
fn figures(asked: &Asked, result: &mut Map<String, Value>) {
    let tally = &asked.tally;
    let (sent, received) = (tally.sent(), tally.round_trips().count());
    let mut insert = |name: &str, value: Value| result.insert(name.to_owned(), value);
    insert("address", asked.address.to_string().into());
    insert("socket", if asked.raw { "raw" } else { "datagram" }.into());
    insert("sent", sent.into());
    insert("received", received.into());
    insert("loss_percent", json!(percent(sent - received, sent)));
    insert("rtt", RoundTrips::of(tally).map_or(Value::Null, |rtt| rtt.figures()));
    insert("hop_limit", json!(tally.hop_limit()));
    for (name, count) in
        [("duplicates", tally.duplicates), ("late", tally.late), ("foreign", tally.foreign), ("damaged", tally.damaged)]
    {
        insert(name, count.into());
    }
    let refusals: Vec<Value> = refusals(tally)
        .iter()
        .map(|(refusal, count)| json!({"by": refusal.by, "what": refusal.what, "count": count}))
        .collect();
    if !refusals.is_empty() {
        insert("refusals", refusals.into());
    }
}

/// The figures of a log on one line, for people; none where nothing was asked.
pub fn told_of(result: &Map<String, Value>) -> Option<String> {
    let count = |name: &str| result.get(name).and_then(Value::as_u64);
    let mut line = format!("{} sent, {} received", count("sent")?, count("received")?);
    let rtt = result.get("rtt").and_then(Value::as_object);
    for (name, micros) in rtt.into_iter().flatten() {
        if let Some(micros) = micros.as_u64() {
            line += &format!(" | {name} {}", millis(Duration::from_micros(micros)));
        }
    }
    for name in ["duplicates", "late", "foreign", "damaged"] {
        if let Some(count @ 1..) = count(name) {
            line += &format!(" | {name} {count}");
        }
    }
    let hop_limit = count("hop_limit").map(|hops| format!(" | TTL {hops}"));
    Some(line + &hop_limit.unwrap_or_default())
}

/// How long replies took: the least, the average, what 95 of 100 stay within (nearest rank), the most, and the jitter.
struct RoundTrips {
    min: Duration,
    average: Duration,
    p95: Duration,
    max: Duration,
    /// The mean of RFC 3550's `|D|`: how far one reply's time is from that of the one before. Its filter is left out, which
    /// needs more packets than a check has. Needs two replies.
    jitter: Option<Duration>,
}

impl RoundTrips {
    fn of(tally: &Tally) -> Option<Self> {
        let in_turn: Vec<Duration> = tally.round_trips().collect();
        let steps: Vec<Duration> = in_turn.windows(2).map(|pair| pair[0].abs_diff(pair[1])).collect();
        let mut sorted = in_turn;
        sorted.sort_unstable();
        let rank = (sorted.len() * 95).div_ceil(100).max(1);
        Some(RoundTrips {
            min: *sorted.first()?,
            average: mean(&sorted)?,
            p95: *sorted.get(rank - 1)?,
            max: *sorted.last()?,
            jitter: mean(&steps),
        })
    }

    fn figures(&self) -> Value {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        json!({
            "min": micros(self.min), "avg": micros(self.average), "p95": micros(self.p95), "max": micros(self.max),
            "jitter": self.jitter.map(micros),
        })
    }
}

fn mean(times: &[Duration]) -> Option<Duration> {
    let sum: Duration = times.iter().sum();
    u32::try_from(times.len()).ok().filter(|count| *count > 0).map(|count| sum / count)
}

/// Lists what is expected, or says why it cannot be looked at.
///
/// What the agent did not send, or had no room to receive, could have been answered or not: where that makes a difference,
/// nothing is known.
fn judge(icmp: &Icmp, asked: Asked, assertions: &mut Assertions<'_>, course: &mut Course) -> Result<(), Unjudged> {
    let Asked { address, tally, unsent, .. } = asked;
    if let Some(why) = tally.deaf {
        return Err(Unjudged::Unable(why));
    }
    let (all, sent, received) = (tally.requests.len(), tally.sent(), tally.round_trips().count());
    let too_many = |lost: usize| lost * 100 > usize::from(icmp.loss) * all;
    if let Some(failure) = unsent {
        // Where the agent was too slow, those that went out had too little time.
        let down_whatever = too_many(sent - received) && matches!(failure, Unjudged::Failed(_));
        let up_whatever = !too_many(all - received) && received > 0;
        if !down_whatever && !up_whatever {
            return Err(failure);
        }
    }
    let lost = sent - received;
    let too_many = lost * 100 > usize::from(icmp.loss) * sent;
    if tally.dropped > 0 && (too_many || received == 0) {
        let dropped = tally.dropped;
        let reason = format!("this agent's receive buffer overflowed: {dropped} messages were dropped meanwhile");
        return Err(Unjudged::Unable(reason));
    }
    if received == 0 {
        let reason = silence(address, sent, &tally, course.budget());
        return Err(course.failed(Phase::FirstByte, reason).into());
    }
    let loss = percent(lost, sent);
    let expected = format!("at most {}%", icmp.loss);
    let why = || format!("{lost} of {sent} lost ({loss}%), expected {expected}{}", remarks(&tally));
    assertions.must(!too_many, "loss", expected.clone(), format!("{loss}%"), why);
    if let (Some(limit), Some(rtt)) = (icmp.under, RoundTrips::of(&tally)) {
        let (limit_spoken, average) = (Spoken(limit), Spoken(rtt.average));
        let why = || format!("took {average} on average, expected at most {limit_spoken}");
        let expected = format!("at most {limit_spoken}");
        assertions.limit(rtt.average <= limit, "under", expected, average.to_string(), why);
    }
    Ok(())
}

/// Why nothing was answered.
fn silence(address: IpAddr, sent: usize, tally: &Tally, budget: Spoken) -> String {
    let refusals = refusals(tally);
    if refusals.iter().map(|(_, count)| count).sum::<usize>() == sent {
        let said: Vec<String> = refusals.iter().map(|(refusal, _)| told(refusal)).collect();
        return format!("{address}: {}", said.join("; "));
    }
    format!("no answer from {address} within {budget}{}", remarks(tally))
}

/// What else came, each part after a semicolon.
fn remarks(tally: &Tally) -> String {
    let mut remarks = String::new();
    for (refusal, count) in refusals(tally) {
        remarks += &format!("; {} ({count})", told(&refusal));
    }
    for (count, what) in [
        (tally.damaged, "with other content than was sent"),
        (tally.foreign, "to what was not asked, or from another address"),
        (tally.late, "too late, or to earlier requests"),
    ] {
        if count > 0 {
            remarks += &format!("; {count} {} {what}", if count == 1 { "reply" } else { "replies" });
        }
    }
    remarks
}

fn told(refusal: &Refusal) -> String {
    match refusal.by {
        Some(by) => format!("{}, says {by}", refusal.what),
        None => refusal.what.to_owned(),
    }
}

/// Each different refusal and how often it came, in the order of the requests.
fn refusals(tally: &Tally) -> Vec<(Refusal, usize)> {
    let mut refusals: Vec<(Refusal, usize)> = Vec::new();
    for request in &tally.requests {
        let Some(End::Refused(refusal)) = request.end else { continue };
        match refusals.iter_mut().find(|(other, _)| (other.by, other.what) == (refusal.by, refusal.what)) {
            Some((_, count)) => *count += 1,
            None => refusals.push((refusal, 1)),
        }
    }
    refusals
}

/// To one decimal.
fn percent(part: usize, whole: usize) -> f64 {
    (part as f64 * 1_000.0 / whole.max(1) as f64).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::echo::Request;

    /// Of each request: how long its reply took in milliseconds, or that none came, or that it was not sent.
    const LOST: i64 = -1;
    const UNSENT: i64 = -2;

    fn tally(requests: &[i64]) -> Tally {
        let requests = requests.iter().map(|millis| {
            let reply = u64::try_from(*millis).ok().map(|millis| End::Replied(Duration::from_millis(millis), Some(64)));
            Request { sent: (*millis != UNSENT).then(Instant::now), end: reply }
        });
        Tally { requests: requests.collect(), ..Tally::default() }
    }

    /// What comes of it with a loss of up to 50 %.
    fn verdict(tally: Tally, unsent: Option<Unjudged>) -> (Verdict, String) {
        let mut course = Course::new(Instant::now() + Duration::from_secs(5));
        let address = IpAddr::from([192, 0, 2, 1]);
        let host = Host::Address(address);
        let icmp = Icmp { host, ip: IpFamily::Any, count: 1, loss: 50, under: Some(Duration::from_millis(20)) };
        let mut assertions = Assertions::default();
        match judge(&icmp, Asked { address, raw: false, tally, unsent }, &mut assertions, &mut course) {
            Ok(()) => {
                let (verdict, _, reason) = assertions.verdict();
                (verdict, reason.unwrap_or_default())
            }
            Err(Unjudged::Failed(Failure { blame: Blame::Target, reason, .. })) => (Verdict::Down, reason),
            Err(Unjudged::Failed(Failure { reason, .. }) | Unjudged::Unable(reason)) => (Verdict::Unknown, reason),
        }
    }

    #[test]
    fn what_was_not_sent_decides_nothing() {
        use Verdict::{Degraded, Down, Unknown, Up};
        let failed = |blame| move || Unjudged::from(Failure { phase: Phase::Send, blame, reason: "unsent".to_owned() });
        let (agents, targets) = (failed(Blame::Agent), failed(Blame::Target));
        let slow = || Unjudged::Unable("too slow".to_owned());
        for (name, requests, unsent, wanted, reason) in [
            ("all", &[10, 10][..], None, Up, ""),
            ("half", &[10, LOST], None, Up, ""),
            ("less than half", &[10, LOST, LOST], None, Down, "2 of 3 lost (66.7%), expected at most 50%"),
            ("none", &[LOST, LOST], None, Down, "no answer from 192.0.2.1 within 5 s"),
            ("slow", &[10, 40], None, Degraded, "took 25 ms on average, expected at most 20 ms"),
            ("one unsent, and half were enough", &[10, UNSENT], Some(agents()), Up, ""),
            ("two unsent, and half were enough", &[10, UNSENT, UNSENT], Some(agents()), Unknown, "unsent"),
            ("none came, and the unsent one might", &[LOST, UNSENT], Some(agents()), Unknown, "unsent"),
            ("none came, and the unsent one would not help", &[LOST, LOST, UNSENT], Some(agents()), Down, "no answer"),
            ("the same, and there was no time to answer", &[LOST, LOST, UNSENT], Some(slow()), Unknown, "too slow"),
            ("unreachable amidst", &[10, UNSENT, UNSENT], Some(targets()), Down, "unsent"),
        ] {
            let (verdict, said) = verdict(tally(requests), unsent);
            assert_eq!(verdict, wanted, "{name}: {said}");
            assert!(if reason.is_empty() { said.is_empty() } else { said.starts_with(reason) }, "{name}: {said}");
        }
    }

    #[test]
    fn what_the_agent_could_not_hear_is_not_the_targets_fault() {
        let dropped = |requests: &[i64]| Tally { dropped: 3, ..tally(requests) };
        assert_eq!(verdict(dropped(&[10, LOST]), None).0, Verdict::Up);
        let (unknown, reason) = verdict(dropped(&[10, LOST, LOST]), None);
        assert_eq!(unknown, Verdict::Unknown);
        assert_eq!(reason, "this agent's receive buffer overflowed: 3 messages were dropped meanwhile");
        let deaf = Tally { deaf: Some("nobody listens".to_owned()), ..tally(&[10]) };
        assert_eq!(verdict(deaf, None), (Verdict::Unknown, "nobody listens".to_owned()));
    }

    #[test]
    fn round_trips_are_summed_up() {
        let figures = |requests: &[i64]| RoundTrips::of(&tally(requests)).map(|rtt| rtt.figures());
        assert_eq!(figures(&[LOST, UNSENT]), None);
        let wanted = json!({"min": 7_000, "avg": 7_000, "p95": 7_000, "max": 7_000, "jitter": null});
        assert_eq!(figures(&[7]), Some(wanted));
        // In turn: 30, 10, 40. From one to the next: 20, 30.
        let wanted = json!({"min": 10_000, "avg": 26_666, "p95": 40_000, "max": 40_000, "jitter": 25_000});
        assert_eq!(figures(&[30, LOST, 10, 40]), Some(wanted));
        let hundred: Vec<i64> = (1..=100).collect();
        assert_eq!(figures(&hundred).unwrap()["p95"], 95_000);
    }
}
