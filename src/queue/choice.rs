//! Which client is used: the `kafka` crate or the native one.
//!
//! `auto` asks a broker which versions it speaks. It produces by the `kafka` crate where the broker still speaks version 0 and the
//! config needs nothing that the crate lacks, and by the native client otherwise. It asks again after a connection was lost: the
//! broker may have been upgraded. Consuming leaves no choice to a broker (see [`crate::consume`]); one that the crate cannot read
//! from is told by [`CrateConsumer`].

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Kafka, KafkaClient};
use crate::kafka::client::Client;
use crate::kafka::connection::Access;
use crate::kafka::figures::Figures;
use crate::kafka::legacy::{LegacyConsumer, LegacyProducer};
use crate::kafka::producer::Producer as Native;
use crate::kafka::{Compression, Consume, Error, Message, Produce, Record, Refusal};

/// Which client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The `kafka` crate.
    KafkaCrate,
    /// Our own.
    Native,
}

/// A client and why it is that one.
type Choice = (Which, String);

type Choose = Box<dyn FnMut() -> Result<Choice, Error> + Send>;
type Make = Box<dyn FnMut(Which) -> Result<Box<dyn Produce + Send>, Error> + Send>;

/// A producer that is chosen when it is first needed, and perhaps anew after the connection was lost.
pub(crate) struct ChosenProducer {
    choose: Choose,
    make: Make,
    current: Option<(Which, Box<dyn Produce + Send>)>,
    doubted: bool,
}

impl ChosenProducer {
    pub(super) fn new(choose: Choose, make: Make) -> Self {
        ChosenProducer { choose, make, current: None, doubted: false }
    }

    fn client(&mut self) -> Result<&mut (dyn Produce + Send), Error> {
        let chosen = if self.doubted || self.current.is_none() { Some((self.choose)()?) } else { None };
        self.doubted = false;
        let current = match (self.current.take(), chosen) {
            // The same client goes on: it knows what of the records given before is there.
            (Some(current), None) => current,
            (Some(current), Some((which, _))) if current.0 == which => current,
            (_, Some((which, why))) => {
                let made = (self.make)(which)?;
                let name = match which {
                    Which::KafkaCrate => "`kafka` crate",
                    Which::Native => "native client",
                };
                log::info!("Kafka: producing by the {name}, since {why}");
                (which, made)
            }
            (None, None) => return Err(Error::Away("no Kafka client was chosen".to_owned())),
        };
        Ok(&mut *self.current.insert(current).1)
    }
}

impl Produce for ChosenProducer {
    fn send(&mut self, records: &[Record]) -> Result<Vec<Refusal>, Error> {
        let said = self.client().and_then(|client| client.send(records));
        self.doubted = another_may_answer(&said);
        said
    }
}

/// After a connection was lost, who answers next may speak other versions.
fn another_may_answer<T>(said: &Result<T, Error>) -> bool {
    matches!(said, Err(Error::Away(_) | Error::Garbage(_) | Error::Unusable(_)))
}

/// What takes logs to the topic of `kafka`. Asks nobody before there is something to send.
pub(crate) fn producer(kafka: &Kafka, access: &Access, figures: &Arc<Figures>) -> ChosenProducer {
    let (asked, lacking) = (kafka.client, lacking(kafka));
    let fetch = asks(access, &kafka.topic);
    let (access, topic, compression, figures) =
        (access.clone(), kafka.topic.clone(), kafka.compression, figures.clone());
    let make = move |which| -> Result<Box<dyn Produce + Send>, Error> {
        Ok(match which {
            Which::KafkaCrate => Box::new(LegacyProducer::new(&access, &topic, compression, figures.clone())?),
            Which::Native => {
                let client = Client::new(access.clone(), topic.clone());
                Box::new(Native::new(client, compression, figures.clone()))
            }
        })
    };
    ChosenProducer::new(Box::new(move || choose(asked, lacking, &fetch)), Box::new(make))
}

/// The `kafka` crate as the one consumer of its group. Before its first poll, and again after a connection was lost, a broker is
/// asked whether it speaks what the crate does.
pub(crate) struct CrateConsumer {
    consumer: Box<dyn Consume + Send>,
    fetch: Box<Fetch>,
    doubted: bool,
}

impl CrateConsumer {
    /// Of the topic of `kafka`. Asks nobody before the first poll.
    ///
    /// # Errors
    /// [`Error::Unusable`] for what the crate has not: TLS, SASL.
    pub(crate) fn new(kafka: &Kafka, access: &Access, figures: &Arc<Figures>) -> Result<Self, Error> {
        let consumer = LegacyConsumer::new(access, &kafka.topic, &kafka.group, figures.clone())?;
        Ok(Self::over(Box::new(consumer), asks(access, &kafka.topic)))
    }

    pub(super) fn over(consumer: Box<dyn Consume + Send>, fetch: Box<Fetch>) -> Self {
        CrateConsumer { consumer, fetch, doubted: true }
    }
}

impl Consume for CrateConsumer {
    fn poll(&mut self, wait: Duration, most: usize) -> Result<Vec<Message>, Error> {
        if self.doubted {
            crate_reads((self.fetch)()?)?;
        }
        let said = self.consumer.poll(wait, most);
        self.doubted = another_may_answer(&said);
        said
    }

    fn commit(&mut self, offsets: &[(i32, i64)]) -> Result<(), Error> {
        let said = self.consumer.commit(offsets);
        self.doubted |= another_may_answer(&said);
        said
    }
}

/// Whether the `kafka` crate speaks one of these versions of Fetch, the oldest and the newest.
fn crate_reads((oldest, newest): (i16, i16)) -> Result<(), Error> {
    if oldest == 0 {
        return Ok(());
    }
    let what = format!("broker speaks Fetch {oldest}–{newest}; the `kafka` crate speaks 0; use `client: native`");
    Err(Error::Unusable(what))
}

/// Which versions of Fetch a broker speaks: the honest sign of whether it still speaks version 0. Produce 0–2 are listed by brokers
/// that refuse them (KIP-896).
pub(super) type Fetch = dyn Fn() -> Result<(i16, i16), Error> + Send;

fn asks(access: &Access, topic: &str) -> Box<Fetch> {
    let (access, topic) = (access.clone(), topic.to_owned());
    Box::new(move || {
        let versions = Client::new(access.clone(), topic.clone()).versions()?;
        let none = || Error::Garbage("the broker does not know Fetch: is it a Kafka broker?".to_owned());
        versions.fetch().ok_or_else(none)
    })
}

/// What the config needs that the `kafka` crate has not; `config` refuses it where the crate is forced.
fn lacking(kafka: &Kafka) -> Option<&'static str> {
    let needs = [
        (kafka.cluster.tls.is_some(), "TLS"),
        (kafka.cluster.sasl.is_some(), "SASL"),
        (kafka.compression == Compression::Lz4, "lz4"),
    ];
    needs.into_iter().find(|(needed, _)| *needed).map(|(_, what)| what)
}

pub(super) fn choose(asked: KafkaClient, lacking: Option<&str>, fetch: &Fetch) -> Result<Choice, Error> {
    match (asked, lacking) {
        (KafkaClient::Native, _) => return Ok((Which::Native, "the config says so".to_owned())),
        (KafkaClient::Auto, Some(what)) => {
            return Ok((Which::Native, format!("the config asks for {what}, which the `kafka` crate has not")));
        }
        (KafkaClient::Auto, None) | (KafkaClient::KafkaCrate, _) => {}
    }
    let (oldest, newest) = fetch()?;
    if asked == KafkaClient::KafkaCrate {
        crate_reads((oldest, newest))?;
        return Ok((Which::KafkaCrate, "the config says so".to_owned()));
    }
    let speaks = format!("the broker speaks Fetch {oldest}–{newest}");
    Ok(match oldest {
        0 => (Which::KafkaCrate, format!("{speaks}, and the crate speaks 0")),
        _ => (Which::Native, format!("{speaks}, and the `kafka` crate speaks 0")),
    })
}
