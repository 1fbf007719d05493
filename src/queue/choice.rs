//! Which client is used: the `kafka` crate or the native one.
//!
//! `auto` asks a broker which versions it speaks. It produces by the `kafka` crate where the broker still speaks version 0 and the
//! config needs nothing that the crate lacks, and by the native client otherwise; it consumes by the native client, since only
//! that shares partitions among consumers. It asks again after a connection was lost: the broker may have been upgraded.

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
pub enum Which {
    /// The `kafka` crate.
    KafkaCrate,
    /// Our own.
    Native,
}

/// A client and why it is that one.
type Choice = (Which, String);

type Choose = Box<dyn FnMut() -> Result<Choice, Error> + Send>;
type Make<C> = Box<dyn FnMut(Which) -> Result<Box<C>, Error> + Send>;

/// A client that is chosen when it is first needed, and perhaps anew after the connection was lost.
pub struct Chosen<C: ?Sized> {
    /// What it does, for messages.
    doing: &'static str,
    choose: Choose,
    make: Make<C>,
    current: Option<(Which, Box<C>)>,
    doubted: bool,
}

/// What produces.
pub type Producer = Chosen<dyn Produce + Send>;
/// What consumes.
pub type Consumer = Chosen<dyn Consume + Send>;

impl<C: ?Sized> Chosen<C> {
    pub(super) fn new(doing: &'static str, choose: Choose, make: Make<C>) -> Self {
        Chosen { doing, choose, make, current: None, doubted: false }
    }

    fn client(&mut self) -> Result<&mut C, Error> {
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
                log::info!("Kafka: {} by the {name}, since {why}", self.doing);
                (which, made)
            }
            (None, None) => return Err(Error::Away("no Kafka client was chosen".to_owned())),
        };
        Ok(&mut *self.current.insert(current).1)
    }

    /// After a connection was lost, who answers next may speak other versions.
    fn heed<T>(&mut self, said: Result<T, Error>) -> Result<T, Error> {
        self.doubted = matches!(said, Err(Error::Away(_) | Error::Garbage(_) | Error::Unusable(_)));
        said
    }
}

impl Produce for Producer {
    fn send(&mut self, records: &[Record]) -> Result<Vec<Refusal>, Error> {
        let said = self.client().and_then(|client| client.send(records));
        self.heed(said)
    }
}

impl Consume for Consumer {
    fn poll(&mut self, wait: Duration, most: usize) -> Result<Vec<Message>, Error> {
        let said = self.client().and_then(|client| client.poll(wait, most));
        self.heed(said)
    }

    fn commit(&mut self, offsets: &[(i32, i64)]) -> Result<(), Error> {
        let said = self.client().and_then(|client| client.commit(offsets));
        self.heed(said)
    }
}

/// What takes logs to the topic of `kafka`. Asks nobody before there is something to send.
pub fn producer(kafka: &Kafka, access: &Access, figures: &Arc<Figures>) -> Producer {
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
    Chosen::new("producing", Box::new(move || choose(asked, lacking, &fetch)), Box::new(make))
}

/// The `kafka` crate as the one consumer of its group, if the brokers still speak its versions.
pub fn consumer(kafka: &Kafka, access: &Access, figures: &Arc<Figures>) -> Consumer {
    let fetch = asks(access, &kafka.topic);
    let (access, topic, group, figures) = (access.clone(), kafka.topic.clone(), kafka.group.clone(), figures.clone());
    let make = move |_| -> Result<Box<dyn Consume + Send>, Error> {
        Ok(Box::new(LegacyConsumer::new(&access, &topic, &group, figures.clone())?))
    };
    Chosen::new("consuming", Box::new(move || choose(KafkaClient::KafkaCrate, None, &fetch)), Box::new(make))
}

/// Which versions of Fetch a broker speaks: the honest sign of whether it still speaks version 0. Produce 0–2 are listed by brokers
/// that refuse them (KIP-896).
type Fetch = dyn Fn() -> Result<(i16, i16), Error> + Send;

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
    let speaks = format!("broker speaks Fetch {oldest}–{newest}");
    match (asked, oldest) {
        (KafkaClient::KafkaCrate, 0) => Ok((Which::KafkaCrate, "the config says so".to_owned())),
        (KafkaClient::KafkaCrate, _) => {
            Err(Error::Unusable(format!("{speaks}; the `kafka` crate speaks 0; use `client: native`")))
        }
        (_, 0) => Ok((Which::KafkaCrate, format!("the {speaks}, and the crate speaks 0"))),
        (..) => Ok((Which::Native, format!("the {speaks}, and the `kafka` crate speaks 0"))),
    }
}
