use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::choice::{ChosenProducer, Which, choose};
use super::*;
use crate::config::KafkaClient;
use crate::flow::{Batch, Delivered, Position, Refused, Sink, Source, Unreadable};
use crate::jobs::Stop;
use crate::kafka::{Consume, Message, Produce, Record, Refusal};
use crate::logs::Log;

fn away() -> Error {
    Error::Away("broker a:9092: connection refused".to_owned())
}

fn unusable() -> Error {
    Error::Unusable("broker a:9092 speaks Fetch 4–18".to_owned())
}

fn log(label: &str) -> Log {
    let json = format!(
        r#"{{"v":1,"uid":"0193a5c0-1b2c-7d3e-8f40-5a6b7c8d9e0f","agent":"edge-01","boot":"0193a5c0-0000-7000-8000-000000000001",
            "seq":42,"label":"{label}","kind":"tcp","target":"a:1","due_at":"2026-11-24T10:00:00.250000Z","started_at":null,
            "ended_at":null,"duration_us":null,"interval_ms":10000,"verdict":"missed","phase":null,"reason":null,"result":{{}}}}"#
    );
    Log::from_json(json.as_bytes()).unwrap()
}

/// Answers as it is told, and keeps what it was given.
#[derive(Default)]
struct Producer {
    script: VecDeque<Result<Vec<Refusal>, Error>>,
    sent: Arc<Mutex<Vec<Vec<Record>>>>,
}

impl Produce for Producer {
    fn send(&mut self, records: &[Record]) -> Result<Vec<Refusal>, Error> {
        self.sent.lock().unwrap().push(records.to_vec());
        self.script.pop_front().unwrap_or(Ok(Vec::new()))
    }
}

#[test]
fn logs_and_what_is_none_go_to_the_topic_and_what_it_refuses_is_named() {
    let refusals = [1, 2].map(|index| Refusal { index, reason: "too large".to_owned() });
    let producer = Producer { script: vec![Ok(refusals.to_vec())].into(), ..Producer::default() };
    let sent = producer.sent.clone();
    let unreadable =
        Unreadable { bytes: b"not a log".to_vec(), origin: "spool 7".to_owned(), reason: "no JSON".to_owned() };
    let (logs, unreadable) = (vec![log("shop"), log("db")], vec![unreadable.clone(), unreadable]);
    let batch = Batch { logs: logs.clone(), unreadable, position: Position::default() };
    let delivered = QueueSink::new(Box::new(producer)).deliver(&batch);
    let refused = vec![Refused { index: 1, reason: "too large".to_owned() }];
    assert_eq!(delivered, Ok(Delivered { new: 1, duplicate: 0, refused, rejected: 1 }));

    // Without a time, so that the topic keeps them from when they were written.
    let record = |key: &str, value: Vec<u8>| Record { key: key.into(), value, timestamp: -1 };
    let none = record("spool 7", b"not a log".to_vec());
    let expected =
        [record("edge-01/shop", logs[0].to_json()), record("edge-01/db", logs[1].to_json()), none.clone(), none];
    assert_eq!(*sent.lock().unwrap(), [expected]);
}

#[test]
fn what_cannot_work_ends_the_flow_at_the_first_contact_only() {
    for (script, faults) in [
        (vec![Err(unusable())], vec![true]),
        (vec![Err(away()), Err(Error::Stopped), Err(unusable())], vec![false, false, true]),
        (vec![Ok(vec![]), Err(unusable()), Err(Error::Code(5, "no leader".to_owned()))], vec![false, false, false]),
    ] {
        let batch = Batch { logs: vec![log("shop")], ..Batch::default() };
        let mut sink = QueueSink::new(Box::new(Producer { script: script.clone().into(), ..Producer::default() }));
        let broken: Vec<_> = faults.iter().map(|_| matches!(sink.deliver(&batch), Err(Fault::Broken(_)))).collect();
        assert_eq!(broken, faults, "sink: {script:?}");

        let polls = script.iter().map(|said| said.clone().map(|_| Vec::new())).collect();
        let consumer = Consumer { polls, ..Consumer::default() };
        let mut source = QueueSource::new(Box::new(consumer), "t".to_owned(), GATHER, Stop::default());
        let broken: Vec<_> =
            faults.iter().map(|_| matches!(source.pull(Duration::ZERO), Err(Fault::Broken(_)))).collect();
        assert_eq!(broken, faults, "source: {script:?}");
    }
}

const GATHER: Gather = Gather { logs_max: 4, wait: Duration::from_millis(20) };

/// Answers as it is told, with nothing after that.
#[derive(Default)]
struct Consumer {
    polls: VecDeque<Result<Vec<Message>, Error>>,
    asked: Arc<Mutex<Vec<usize>>>,
    committed: Arc<Mutex<Vec<Position>>>,
    commits: VecDeque<Result<(), Error>>,
}

impl Consume for Consumer {
    fn poll(&mut self, wait: Duration, most: usize) -> Result<Vec<Message>, Error> {
        self.asked.lock().unwrap().push(most);
        let said = self.polls.pop_front();
        if said.is_none() {
            Stop::default().wait(wait);
        }
        said.unwrap_or(Ok(Vec::new()))
    }

    fn commit(&mut self, offsets: &[(i32, i64)]) -> Result<(), Error> {
        self.committed.lock().unwrap().push(Position(offsets.to_vec()));
        self.commits.pop_front().unwrap_or(Ok(()))
    }
}

fn message(partition: i32, offset: i64, value: &[u8]) -> Message {
    Message { partition, offset, key: None, value: value.to_vec().into(), damage: None }
}

fn source(polls: Vec<Result<Vec<Message>, Error>>, stop: &Stop) -> (QueueSource, Arc<Mutex<Vec<usize>>>) {
    let consumer = Consumer { polls: polls.into(), ..Consumer::default() };
    let asked = consumer.asked.clone();
    (QueueSource::new(Box::new(consumer), "logs".to_owned(), GATHER, stop.clone()), asked)
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn messages_are_gathered_and_what_is_no_log_is_kept_with_its_origin() {
    let json = log("shop").to_json();
    let damaged = Message { damage: Some("wrong checksum".to_owned()), ..message(1, 7, b"batch") };
    let polls = vec![
        Ok(vec![]),
        Ok(vec![message(0, 5, &json), damaged]),
        Ok(vec![message(0, 9, b"{"), message(2, 0, b"")]),
        Ok(vec![message(0, 10, &json)]),
    ];
    let (mut source, asked) = source(polls, &Stop::default());
    let batch = source.pull(LONG).unwrap();
    assert_eq!((batch.logs.len(), &batch.position), (1, &Position(vec![(0, 10), (1, 8), (2, 1)])));
    let set_aside: Vec<_> =
        batch.unreadable.iter().map(|u| (&*u.origin, &u.bytes[..], u.reason.split(" at ").next().unwrap())).collect();
    let expected = [
        ("logs/1@7", &b"batch"[..], "wrong checksum"),
        ("logs/0@9", b"{", "EOF while parsing an object"),
        ("logs/2@0", b"", "has no value"),
    ];
    assert_eq!(set_aside, expected);
    // As many as a batch has, and no more than are missing.
    assert_eq!(*asked.lock().unwrap(), [4, 4, 2]);
    assert_eq!(source.pull(LONG).unwrap().position, Position(vec![(0, 11)]));
}

#[test]
fn a_batch_waits_for_more_only_so_long_and_an_error_waits_for_the_batch() {
    let json = log("shop").to_json();
    let begun = Instant::now();
    let (mut alone, _) = source(vec![Ok(vec![message(0, 0, &json)])], &Stop::default());
    assert_eq!(alone.pull(LONG).unwrap().logs.len(), 1);
    assert!(begun.elapsed() >= GATHER.wait && begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());

    let polls = vec![Ok(vec![message(0, 0, &json)]), Err(away()), Err(away())];
    let (mut failing, _) = source(polls, &Stop::default());
    assert_eq!(failing.pull(LONG).unwrap().logs.len(), 1);
    assert_eq!(failing.pull(LONG).unwrap_err(), Fault::Retry(away().to_string()));
}

#[test]
fn a_client_that_brings_nothing_more_gets_its_commit() {
    let json = log("shop").to_json();
    let polls = vec![Ok(vec![message(0, 0, &json)]), Ok(vec![]), Ok(vec![message(0, 1, &json)])];
    let (mut source, _) = source(polls, &Stop::default());
    assert_eq!(source.pull(LONG).unwrap().position, Position(vec![(0, 1)]));
    assert_eq!(source.pull(LONG).unwrap().position, Position(vec![(0, 2)]));
}

#[test]
fn many_bytes_are_a_batch() {
    let large = vec![b'x'; 3 << 20];
    let polls = (0..9).map(|offset| Ok(vec![message(0, offset, &large)])).collect();
    let (mut source, _) = source(polls, &Stop::default());
    assert_eq!(source.pull(LONG).unwrap().unreadable.len(), 3);
}

#[test]
fn told_to_stop_it_asks_for_no_more_and_commits_what_is_in_hand() {
    let (stop, json) = (Stop::default(), log("shop").to_json());
    let consumer = Consumer { polls: vec![Ok(vec![message(3, 4, &json)])].into(), ..Consumer::default() };
    let (asked, committed) = (consumer.asked.clone(), consumer.committed.clone());
    let mut source = QueueSource::new(Box::new(consumer), "logs".to_owned(), GATHER, stop.clone());
    let batch = source.pull(LONG).unwrap();
    stop.set();
    let so_far = asked.lock().unwrap().len();
    assert_eq!(source.commit(&batch, &[]), Ok(()));
    assert!(source.pull(LONG).unwrap().is_empty());
    assert_eq!((asked.lock().unwrap().len(), &committed.lock().unwrap()[..]), (so_far, &[Position(vec![(3, 5)])][..]));
}

#[test]
fn a_commit_that_fails_is_tried_again() {
    let commits = vec![Err(unusable()), Err(Error::Stopped), Ok(())].into();
    let consumer = Consumer { commits, ..Consumer::default() };
    let mut source = QueueSource::new(Box::new(consumer), "logs".to_owned(), GATHER, Stop::default());
    let said: Vec<_> = (0..3).map(|_| source.commit(&Batch::default(), &[])).collect();
    let retry = |what: &str| Err(Fault::Retry(what.to_owned()));
    let over = "the time to stop is over; what is not there stays where it was";
    assert_eq!(said, [retry(&unusable().to_string()), retry(over), Ok(())]);
}

#[test]
fn a_client_is_chosen_by_what_the_broker_speaks_and_what_the_config_needs() {
    use KafkaClient::{Auto, KafkaCrate, Native};
    const OLD: (i16, i16) = (0, 17);
    const NEW: (i16, i16) = (4, 18);
    for (asked, lacking, fetch, chosen) in [
        (Auto, None, Some(OLD), Ok((Which::KafkaCrate, "the broker speaks Fetch 0–17, and the crate speaks 0"))),
        (Auto, None, Some(NEW), Ok((Which::Native, "the broker speaks Fetch 4–18, and the `kafka` crate speaks 0"))),
        (Auto, Some("lz4"), None, Ok((Which::Native, "the config asks for lz4, which the `kafka` crate has not"))),
        (Auto, None, None, Err(away())),
        (Native, Some("TLS"), None, Ok((Which::Native, "the config says so"))),
        (Native, None, None, Ok((Which::Native, "the config says so"))),
        (KafkaCrate, None, Some(OLD), Ok((Which::KafkaCrate, "the config says so"))),
        (
            KafkaCrate,
            None,
            Some(NEW),
            Err(Error::Unusable(
                "broker speaks Fetch 4–18; the `kafka` crate speaks 0; use `client: native`".to_owned(),
            )),
        ),
    ] {
        let said = choose(asked, lacking, &move || fetch.ok_or_else(away));
        assert_eq!(said, chosen.map(|(which, why)| (which, why.to_owned())), "{asked:?} {lacking:?} {fetch:?}");
    }
}

#[test]
fn after_a_lost_connection_the_client_is_chosen_anew_and_kept_when_it_is_the_same() {
    use Which::{KafkaCrate, Native};
    let choices: Arc<Mutex<VecDeque<Result<Which, Error>>>> =
        Arc::new(Mutex::new(vec![Err(away()), Ok(KafkaCrate), Ok(KafkaCrate), Ok(Native)].into()));
    let (left, made) = (choices.clone(), Arc::new(Mutex::new(Vec::new())));
    let noted = made.clone();
    let mut producer = ChosenProducer::new(
        Box::new(move || {
            let which = choices.lock().unwrap().pop_front().unwrap()?;
            Ok((which, String::new()))
        }),
        Box::new(move |which| {
            noted.lock().unwrap().push(which);
            let script = match which {
                KafkaCrate => vec![Err(away()), Err(Error::Code(5, String::new())), Err(away())],
                Native => vec![],
            };
            Ok(Box::new(Producer { script: script.into(), ..Producer::default() }))
        }),
    );
    for (said, chosen_left, clients) in [
        (Err(away()), 3, vec![]),
        (Err(away()), 2, vec![KafkaCrate]),
        (Err(Error::Code(5, String::new())), 1, vec![KafkaCrate]),
        (Err(away()), 1, vec![KafkaCrate]),
        (Ok(vec![]), 0, vec![KafkaCrate, Native]),
        (Ok(vec![]), 0, vec![KafkaCrate, Native]),
    ] {
        assert_eq!(producer.send(&[]), said);
        assert_eq!((left.lock().unwrap().len(), &*made.lock().unwrap()), (chosen_left, &clients));
    }
}

#[test]
fn the_crate_is_polled_once_a_broker_speaks_its_versions_and_asked_again_after_a_lost_connection() {
    let answers =
        Arc::new(Mutex::new(VecDeque::from([Err(away()), Ok((4, 18)), Ok((0, 17)), Ok((0, 17)), Ok((4, 18))])));
    let left = answers.clone();
    let consumer = Consumer {
        polls: vec![Ok(vec![]), Err(Error::Code(5, String::new())), Err(away()), Ok(vec![])].into(),
        commits: vec![Err(Error::Code(16, String::new())), Err(away())].into(),
        ..Consumer::default()
    };
    let fetch = move || answers.lock().unwrap().pop_front().unwrap();
    let mut consumer = CrateConsumer::over(Box::new(consumer), Box::new(fetch));
    let unusable = || {
        let what = "broker speaks Fetch 4–18; the `kafka` crate speaks 0; use `client: native`";
        Err(Error::Unusable(what.to_owned()))
    };
    for (said, answers_left) in [
        (Err(away()), 4),
        (unusable(), 3),
        (Ok(vec![]), 2),
        (Err(Error::Code(5, String::new())), 2),
        (Err(away()), 2),
        (Ok(vec![]), 1),
    ] {
        assert_eq!((consumer.poll(Duration::ZERO, 1), left.lock().unwrap().len()), (said, answers_left));
    }
    assert_eq!(consumer.commit(&[(0, 1)]), Err(Error::Code(16, String::new())));
    assert_eq!(consumer.poll(Duration::ZERO, 1), Ok(vec![]));
    assert_eq!(consumer.commit(&[(0, 1)]), Err(away()));
    assert_eq!(consumer.poll(Duration::ZERO, 1), unusable());
}
