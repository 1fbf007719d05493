//! Consumer groups: who owns which partition, and that nothing is lost or done again when that changes.
//!
//! Members are polled in turns by one thread, each for a moment; their hearts beat on threads of their own, as they do in the
//! program.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pingeon::jobs::{Jobs, Stop};
use pingeon::kafka::client::Client;
use pingeon::kafka::connection::Access;
use pingeon::kafka::consumer::{Consumer, Settings};
use pingeon::kafka::figures::Figures;
use pingeon::kafka::producer::Producer;
use pingeon::kafka::{Cluster, Compression, Consume as _, Error, Message, Produce as _, Record};
use pingeon::net::Net;

use crate::cluster::{Listener, VERSIONS, Version, shared, unique};

const PARTITIONS: usize = 6;
const STACK: usize = 512 * 1024;

/// Until what is waited for has to be so.
const WITHIN: Duration = Duration::from_secs(60);

/// One turn.
const TURN: Duration = Duration::from_millis(20);

/// A heart that is quick to hear, and a session that outlives what a busy machine does to it.
fn settings(group: &str) -> Settings {
    Settings {
        session: Duration::from_secs(40),
        heartbeat: Duration::from_millis(100),
        rebalance: Duration::from_secs(40),
        ..Settings::new(group.to_owned())
    }
}

/// Of one that is to be missed soon.
fn short_session(group: &str) -> Settings {
    Settings { session: Duration::from_secs(2), ..settings(group) }
}

fn static_member(group: &str, name: &str) -> Settings {
    Settings { instance_id: Some(name.to_owned()), ..settings(group) }
}

fn client(cluster: Cluster, topic: &str) -> Client {
    let access = Access { cluster, net: Arc::new(Net::system()), stop: Stop::default() };
    Client::new(access, topic.to_owned())
}

/// A consumer and its heart.
struct Member {
    consumer: Option<Consumer>,
    figures: Arc<Figures>,
    jobs: Jobs,
    stop: Stop,
}

impl Member {
    /// Without a heart.
    fn still(cluster: &Cluster, topic: &str, settings: Settings) -> Self {
        let figures = Arc::new(Figures::default());
        let consumer = Consumer::new(client(cluster.clone(), topic), settings, figures.clone());
        Member { consumer: Some(consumer), figures, jobs: Jobs::default(), stop: Stop::default() }
    }

    fn new(cluster: &Cluster, topic: &str, settings: Settings) -> Self {
        let member = Member::still(cluster, topic, settings);
        let (heart, stop) = (member.consumer.as_ref().unwrap().heart(), member.stop.clone());
        member.jobs.start("heart", STACK, move |pulse| heart.run(&stop, pulse)).unwrap();
        member
    }

    /// A broker that has just started knows no coordinator yet (14 to 16): the pump would come again.
    fn poll(&mut self, most: usize) -> Result<Vec<Message>, Error> {
        match self.consumer.as_mut().unwrap().poll(TURN, most) {
            Err(Error::Code(14..=16, _)) => Ok(Vec::new()),
            polled => polled,
        }
    }

    fn commit(&mut self, messages: &[Message]) {
        let mut offsets = BTreeMap::new();
        for message in messages {
            offsets.insert(message.partition, message.offset + 1);
        }
        self.consumer.as_mut().unwrap().commit(&offsets.into_iter().collect::<Vec<_>>()).unwrap();
    }

    /// The partitions that it has had answers for.
    fn owns(&self) -> BTreeSet<i32> {
        self.figures.lag().into_keys().collect()
    }

    fn count(&self, figure: impl Fn(&Figures) -> &AtomicU64) -> u64 {
        figure(&self.figures).load(Relaxed)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.consumer.take());
        self.stop.set();
        let (late, failed) = self.jobs.join(WITHIN);
        assert!(late.is_empty() && failed.is_empty(), "{late:?} {failed:?}");
    }
}

/// What was handed out, and how often.
#[derive(Default)]
struct Seen(BTreeMap<(i32, i64), u32>);

impl Seen {
    fn note(&mut self, messages: &[Message]) {
        for message in messages {
            *self.0.entry((message.partition, message.offset)).or_default() += 1;
        }
    }

    fn twice(&self) -> usize {
        self.0.values().filter(|times| **times > 1).count()
    }
}

/// Gives each of `members` its turns until `done` says so; each commits its batch before its next poll.
fn turns(members: &mut [&mut Member], seen: &mut Seen, done: impl Fn(&[&mut Member], &Seen) -> bool) {
    let by = Instant::now() + WITHIN;
    while !done(members, seen) {
        assert!(Instant::now() < by, "{:?}, {} seen", owned(members), seen.0.len());
        for member in members.iter_mut() {
            let messages = member.poll(7).unwrap();
            seen.note(&messages);
            member.commit(&messages);
        }
    }
}

fn owned(members: &[&mut Member]) -> Vec<BTreeSet<i32>> {
    members.iter().map(|member| member.owns()).collect()
}

/// Whether the partitions are shared out among all of them, each to one.
fn shared_out(members: &[&mut Member]) -> bool {
    let owned = owned(members);
    let all: BTreeSet<i32> = owned.iter().flatten().copied().collect();
    all.len() == PARTITIONS
        && owned.iter().map(BTreeSet::len).sum::<usize>() == PARTITIONS
        && owned.iter().all(|partitions| !partitions.is_empty())
}

fn settled(members: &[&mut Member], _: &Seen) -> bool {
    shared_out(members)
}

/// Writes so many messages, evenly to all partitions or nearly so.
fn write(cluster: &Cluster, topic: &str, count: usize) {
    let mut producer = Producer::new(client(cluster.clone(), topic), Compression::Lz4, Arc::new(Figures::default()));
    let record = |n: usize| Record {
        key: format!("key-{n}").into_bytes(),
        value: format!("value-{n}").into_bytes(),
        timestamp: 1_700_000_000_000,
    };
    for from in (0..count).step_by(100) {
        let records: Vec<Record> = (from..count.min(from + 100)).map(record).collect();
        assert_eq!(producer.send(&records), Ok(vec![]));
    }
}

#[test]
fn members_come_and_go_and_each_message_is_done_once() {
    for version in VERSIONS {
        let broker = shared(version);
        let (topic, group) = (broker.topic("group", PARTITIONS), unique("group"));
        let cluster = broker.cluster(Listener::Plaintext);
        write(&cluster, &topic, 6000);
        let mut seen = Seen::default();
        let new = || Member::new(&cluster, &topic, settings(&group));
        let mut first = new();
        turns(&mut [&mut first], &mut seen, settled);
        let mut second = new();
        turns(&mut [&mut first, &mut second], &mut seen, settled);
        let mut third = new();
        turns(&mut [&mut first, &mut second, &mut third], &mut seen, settled);
        assert!(owned(&[&mut first, &mut second, &mut third]).iter().all(|owns| owns.len() == 2));
        assert!(seen.0.len() < 6000, "all was done before the last one came: {version:?}");
        drop(first);
        drop(third);
        turns(&mut [&mut second], &mut seen, |members, seen| shared_out(members) && seen.0.len() == 6000);
        assert_eq!((seen.twice(), second.count(|figures| &figures.fenced)), (0, 0), "{version:?}");
        assert!(second.count(|figures| &figures.rebalances) >= 3);
        drop(second);
        let committed = broker.peer().committed(&group, &topic);
        assert_eq!((committed.len(), committed.values().sum::<i64>()), (PARTITIONS, 6000), "{version:?}");
    }
}

/// Run by itself once more, as the member that is killed.
#[test]
fn what_a_killed_member_had_goes_to_the_others() {
    const VARIABLE: &str = "PINGEON_TEST_MEMBER";
    if let Ok(words) = env::var(VARIABLE) {
        let words: Vec<&str> = words.split(' ').collect();
        let cluster = Cluster { brokers: vec![words[0].to_owned()], tls: None, sasl: None };
        let mut member = Member::new(&cluster, words[1], short_session(words[2]));
        // Does batches and commits none of them, until it is killed.
        loop {
            member.poll(10).unwrap();
        }
    }
    for version in VERSIONS {
        let broker = shared(version);
        let (topic, group) = (broker.topic("killed", PARTITIONS), unique("killed"));
        let cluster = broker.cluster(Listener::Plaintext);
        write(&cluster, &topic, 600);
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "group::what_a_killed_member_had_goes_to_the_others", "--nocapture"]);
        command.env(VARIABLE, format!("{} {topic} {group}", broker.bootstrap(Listener::Plaintext)));
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let mut ours = Member::new(&cluster, &topic, settings(&group));
        let mut seen = Seen::default();
        let half = |members: &[&mut Member], _: &Seen| members[0].owns().len() == PARTITIONS / 2;
        turns(&mut [&mut ours], &mut seen, half);
        write(&cluster, &topic, 600);
        // By the time that our half is done, the child is at its own.
        turns(&mut [&mut ours], &mut seen, |members, _| members[0].figures.lag().values().all(|lag| *lag == 0));
        child.kill().unwrap();
        child.wait().unwrap();
        turns(&mut [&mut ours], &mut seen, |members, seen| shared_out(members) && seen.0.len() == 1200);
        assert_eq!(seen.twice(), 0, "{version:?}");
    }
}

/// The offsets of the old one mean nothing in the new one.
#[test]
fn a_topic_that_is_made_anew_is_read_from_its_beginning() {
    for version in VERSIONS {
        let broker = shared(version);
        let (topic, group) = (broker.topic("anew", PARTITIONS), unique("anew"));
        let cluster = broker.cluster(Listener::Plaintext);
        write(&cluster, &topic, 60);
        let (mut member, mut old) = (Member::new(&cluster, &topic, settings(&group)), Seen::default());
        turns(&mut [&mut member], &mut old, |_, seen| seen.0.len() == 60);
        broker.peer().delete_topic(&topic);
        // It has noticed when it says so.
        let by = Instant::now() + WITHIN;
        while !matches!(member.poll(7), Err(Error::Code(3, _))) {
            assert!(Instant::now() < by);
        }
        broker.create_topic(&topic, PARTITIONS, &[]);
        // More than before, so that the old offsets lie within it.
        write(&cluster, &topic, 300);
        let mut new = Seen::default();
        while new.0.len() < 300 {
            assert!(Instant::now() < by, "{version:?}: {} of 300", new.0.len());
            let messages = member.poll(7).unwrap_or_default();
            new.note(&messages);
            member.commit(&messages);
        }
    }
}

#[test]
fn a_stalled_member_is_fenced_and_its_late_commit_undoes_nothing() {
    for version in VERSIONS {
        let broker = shared(version);
        let (topic, group) = (broker.topic("stalled", PARTITIONS), unique("stalled"));
        let cluster = broker.cluster(Listener::Plaintext);
        write(&cluster, &topic, 60);
        let mut stalled = Member::still(&cluster, &topic, short_session(&group));
        let by = Instant::now() + WITHIN;
        let mut batch = Vec::new();
        while batch.is_empty() {
            assert!(Instant::now() < by);
            batch = stalled.poll(5).unwrap();
        }
        let (mut other, mut seen) = (Member::new(&cluster, &topic, settings(&group)), Seen::default());
        turns(&mut [&mut other], &mut seen, |members, seen| shared_out(members) && seen.0.len() == 60);
        let committed = broker.peer().committed(&group, &topic);
        stalled.commit(&batch);
        assert_eq!(stalled.count(|figures| &figures.fenced), 1, "{version:?}");
        assert_eq!(broker.peer().committed(&group, &topic), committed, "{version:?}");
        // It finds back in by itself, and is given nothing that was done.
        turns(&mut [&mut stalled, &mut other], &mut seen, settled);
        assert_eq!(seen.twice(), 0, "{version:?}");
    }
}

#[test]
fn the_batch_in_hand_is_committed_while_the_group_shares_out_anew() {
    for version in VERSIONS {
        let broker = shared(version);
        let (topic, group) = (broker.topic("in-hand", PARTITIONS), unique("in-hand"));
        let cluster = broker.cluster(Listener::Plaintext);
        write(&cluster, &topic, 6000);
        let (mut first, mut seen) = (Member::new(&cluster, &topic, settings(&group)), Seen::default());
        turns(&mut [&mut first], &mut seen, |_, seen| !seen.0.is_empty());
        let mut batch = first.poll(5).unwrap();
        // The other one asks to join, and waits for as long as the first has its batch; who gathers it from several polls is
        // told by nothing that it is time.
        let mut second = Member::new(&cluster, &topic, settings(&group));
        let by = Instant::now() + WITHIN;
        loop {
            assert!(Instant::now() < by);
            assert_eq!(second.poll(5), Ok(vec![]));
            let more = first.poll(1).unwrap();
            if more.is_empty() {
                break;
            }
            batch.extend(more);
        }
        assert!(batch.len() < 6000, "nothing was left when the other one came");
        seen.note(&batch);
        first.commit(&batch);
        assert_eq!(first.count(|figures| &figures.fenced), 0, "{version:?}");
        let all = |members: &[&mut Member], seen: &Seen| shared_out(members) && seen.0.len() == 6000;
        turns(&mut [&mut first, &mut second], &mut seen, all);
        assert_eq!(seen.twice(), 0, "{version:?}");
    }
}

#[test]
fn a_static_member_keeps_its_partitions_over_a_restart() {
    for version in VERSIONS {
        let broker = shared(version);
        let (topic, group) = (broker.topic("static", PARTITIONS), unique("static"));
        let cluster = broker.cluster(Listener::Plaintext);
        write(&cluster, &topic, 60);
        let mut seen = Seen::default();
        let new = |name: &str| Member::new(&cluster, &topic, static_member(&group, name));
        let (mut one, mut two) = (new("one"), new("two"));
        turns(&mut [&mut one, &mut two], &mut seen, |members, seen| shared_out(members) && seen.0.len() == 60);
        for restarted in ["two", "one"] {
            let (before, rebalances) = (one.owns(), one.count(|figures| &figures.rebalances));
            drop(two);
            two = new(restarted);
            turns(&mut [&mut one, &mut two], &mut seen, settled);
            assert_eq!((one.owns(), one.count(|figures| &figures.rebalances)), (before, rebalances), "{version:?}");
            std::mem::swap(&mut one, &mut two);
        }
        assert_eq!(seen.twice(), 0, "{version:?}");
    }
}

#[test]
fn of_two_with_one_instance_id_the_older_is_told_and_takes_over_when_the_younger_has_ended() {
    for version in VERSIONS {
        let broker = shared(version);
        let (topic, group) = (broker.topic("twins", PARTITIONS), unique("twins"));
        let cluster = broker.cluster(Listener::Plaintext);
        write(&cluster, &topic, 60);
        // Longer than a busy machine stalls a heartbeat.
        let session = Duration::from_secs(4);
        let new = || Member::new(&cluster, &topic, Settings { session, ..static_member(&group, "twin") });
        let (mut older, mut seen) = (new(), Seen::default());
        turns(&mut [&mut older], &mut seen, settled);
        let mut younger = new();
        turns(&mut [&mut younger], &mut seen, settled);
        let by = Instant::now() + WITHIN;
        let told = loop {
            assert!(Instant::now() < by);
            if let Err(error) = older.poll(5) {
                break error;
            }
        };
        let wanted =
            Error::Unusable("another consumer has taken over `instance_id: twin`; give each its own".to_owned());
        assert_eq!(told, wanted);
        // It asks again after each session, and takes nothing from the one that lives.
        turns(&mut [&mut younger], &mut seen, |members, seen| shared_out(members) && seen.0.len() == 60);
        let (rebalances, until) = (younger.count(|figures| &figures.rebalances), Instant::now() + session * 5 / 2);
        while Instant::now() < until {
            assert_eq!((older.poll(5), younger.poll(5)), (Err(wanted.clone()), Ok(vec![])), "{version:?}");
        }
        let figures = [&younger.figures.rebalances, &younger.figures.fenced].map(|figure| figure.load(Relaxed));
        assert_eq!(figures, [rebalances, 0], "{version:?}");
        drop(younger);
        write(&cluster, &topic, 60);
        let by = Instant::now() + WITHIN;
        while older.owns().len() < PARTITIONS || seen.0.len() < 120 {
            assert!(Instant::now() < by, "{:?}, {} seen", older.owns(), seen.0.len());
            match older.poll(5) {
                Ok(messages) => {
                    seen.note(&messages);
                    older.commit(&messages);
                }
                Err(error) => assert_eq!(error, wanted, "{version:?}"),
            }
        }
        assert_eq!(seen.twice(), 0, "{version:?}");
    }
}

#[test]
fn a_member_that_is_not_polled_gives_its_partitions_to_others() {
    let broker = shared(Version::V4_3);
    let (topic, group) = (broker.topic("unpolled", PARTITIONS), unique("unpolled"));
    let cluster = broker.cluster(Listener::Plaintext);
    write(&cluster, &topic, 60);
    let busy = Settings { poll_max: Duration::from_millis(500), ..settings(&group) };
    let (mut busy, mut seen) = (Member::new(&cluster, &topic, busy), Seen::default());
    turns(&mut [&mut busy], &mut seen, |_, seen| !seen.0.is_empty());
    let batch = busy.poll(5).unwrap();
    let mut other = Member::new(&cluster, &topic, settings(&group));
    turns(&mut [&mut other], &mut seen, |members, seen| shared_out(members) && seen.0.len() == 60);
    busy.commit(&batch);
    assert_eq!((busy.count(|figures| &figures.fenced), seen.twice()), (1, 0));
}

#[test]
fn of_transactions_that_others_wrote_only_committed_ones_are_seen() {
    for version in VERSIONS {
        let broker = shared(version);
        let (topic, group, peer) = (broker.topic("transactions", 1), unique("transactions"), broker.peer());
        let cluster = broker.cluster(Listener::Plaintext);
        let mut wanted = Vec::new();
        for turn in 0..3 {
            let [kept, dropped, plain] = ["kept", "dropped", "plain"].map(|what| format!("{what}-{turn}"));
            peer.produce(
                &topic,
                &[(b"a", kept.as_bytes()), (b"b", kept.as_bytes())],
                &["--transaction", &unique("kept")],
            );
            peer.produce(&topic, &[(b"a", dropped.as_bytes())], &["--transaction", &unique("dropped"), "--abort"]);
            peer.produce(&topic, &[(b"a", plain.as_bytes())], &[]);
            wanted.extend([kept.clone(), kept, plain]);
        }
        // The topic ends with what nobody sees.
        peer.produce(&topic, &[(b"a", b"dropped")], &["--transaction", &unique("last"), "--abort"]);
        let mut member = Member::new(&cluster, &topic, settings(&group));
        let by = Instant::now() + WITHIN;
        let mut got = Vec::new();
        while got.len() < wanted.len() || member.figures.lag().get(&0) != Some(&0) {
            assert!(Instant::now() < by, "{got:?}");
            let messages = member.poll(2).unwrap();
            member.commit(&messages);
            got.extend(messages.iter().map(|message| String::from_utf8(message.value.to_vec()).unwrap()));
        }
        assert_eq!(got, wanted, "{version:?}");
    }
}

#[test]
fn a_group_whose_offsets_are_gone_goes_on_at_the_earliest() {
    let broker = shared(Version::V4_3);
    let (topic, group) = (broker.topic("deleted", 1), unique("deleted"));
    let cluster = broker.cluster(Listener::Plaintext);
    write(&cluster, &topic, 10);
    let (mut member, mut seen) = (Member::new(&cluster, &topic, settings(&group)), Seen::default());
    turns(&mut [&mut member], &mut seen, |_, seen| !seen.0.is_empty());
    drop(member);
    let done = seen.0.len() as i64;
    write(&cluster, &topic, 10);
    broker.delete_records(&topic, 0, 15);
    let mut member = Member::new(&cluster, &topic, settings(&group));
    turns(&mut [&mut member], &mut seen, |_, seen| seen.0.contains_key(&(0, 19)));
    let offsets: Vec<i64> = seen.0.keys().map(|(_, offset)| *offset).collect();
    assert_eq!(offsets, (0..done).chain(15..20).collect::<Vec<_>>());
    assert_eq!((member.count(|figures| &figures.resets), seen.twice()), (1, 0));
}
