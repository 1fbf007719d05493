//! The sections beside the checks: `spool`, `queue`, `store`, `web`, `log`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::auth::missing;
use super::error::{Complaint, ConfigError};
use super::quantities::{duration, size};
use super::shared::{Section, Shared, secret, secret_in, tls};
use super::targets::{address, host_port, host_port_text};
use super::walk::{At, Read};

use super::{Kafka, KafkaClient, Outline, Postgres, Prepared, Spool, Sqlite, Store, Web, WhenFull};
use crate::kafka::{Cluster, Compression, Mechanism, Sasl};
use crate::secret::Secret;
use crate::spool::BYTES_MIN as SPOOL_BYTES_MIN;
use crate::store::postgres::{Address, Files, Unusable};

/// The most that a spool may hold, in bytes.
const SPOOL_BYTES_MAX: u64 = 1 << 40;
/// Brokers that may be named.
const BROKERS_MAX: usize = 100;
/// How long the name of a topic or group may be, in bytes (Kafka's own limit for topics).
const TOPIC_BYTES_MAX: usize = 249;
const DAY: Duration = Duration::from_secs(86_400);
/// How long a server keeps logs where nothing is said of it.
pub const POSTGRES_RETENTION: Duration = Duration::from_secs(90 * 86_400);

/// The `spool` section; `None`: all defaults.
pub(super) fn spool(at: Option<&At<'_>>, directory: &Path) -> Read<Spool> {
    let mut spool = Spool {
        path: directory.join("spool.db"),
        max_bytes: 256 << 20,
        when_full: WhenFull::Thin,
        flush: Duration::from_secs(1),
    };
    let Some(at) = at else { return Ok(spool) };
    at.mapping(&["path", "max_bytes", "when_full", "flush"])?;
    spool.path = at.read("path", |at| at.data_path_value())?.unwrap_or(spool.path);
    let max_bytes =
        at.read("max_bytes", |at| at.text("a size", |text| size(text, SPOOL_BYTES_MIN..=SPOOL_BYTES_MAX)))?;
    spool.max_bytes = max_bytes.unwrap_or(spool.max_bytes);
    let choices = [("thin", WhenFull::Thin), ("drop_oldest", WhenFull::DropOldest), ("block", WhenFull::Block)];
    spool.when_full = at.read("when_full", |at| at.choice(&choices))?.unwrap_or(spool.when_full);
    spool.flush = span(at, "flush", Duration::from_millis(10), Duration::from_secs(60))?.unwrap_or(spool.flush);
    Ok(spool)
}

fn span(at: &At<'_>, key: &str, low: Duration, high: Duration) -> Read<Option<Duration>> {
    at.read(key, |at| at.text("a duration", |text| duration(text, low..=high)))
}

/// The `queue` section.
pub(super) fn queue(at: &At<'_>) -> Read<Kafka> {
    at.mapping(&["kafka"])?;
    let at = &at.need("kafka", "{brokers: [\"kafka-1.example.com:9092\"]}")?;
    at.mapping(&["brokers", "topic", "client", "compression", "group", "instance_id", "tls", "sasl"])?;
    let brokers = &at.need("brokers", "[\"kafka-1.example.com:9092\"]")?;
    let list: Vec<String> = brokers
        .list("a list of brokers", BROKERS_MAX)?
        .map(|at| at.text("a host and a port", |text| host_port(text).map(|(host, port)| host_port_text(&host, port))))
        .collect::<Read<_>>()?;
    if list.is_empty() {
        return Err(brokers.fail("names no broker"));
    }
    let clients =
        [KafkaClient::Auto, KafkaClient::KafkaCrate, KafkaClient::Native].map(|client| (client.name(), client));
    let compressions = [
        ("none", Compression::None),
        ("gzip", Compression::Gzip),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
    ];
    let name = |key: &str, default: &str| {
        at.read(key, |at| at.text("text", topic)).map(|name| name.unwrap_or_else(|| default.to_owned()))
    };
    let client = at.read("client", |at| at.choice(&clients))?.unwrap_or(KafkaClient::Auto);
    let of_crate = client == KafkaClient::KafkaCrate;
    let compression = at.read("compression", |at| match at.choice(&compressions)? {
        Compression::Lz4 if of_crate => Err(at.fail(crate_lacks("lz4", "use `compression: snappy`"))),
        compression => Ok(compression),
    })?;
    for (key, what) in [("tls", "TLS"), ("sasl", "SASL")] {
        if of_crate && at.get(key).is_some() {
            return Err(at.fail_key(key, crate_lacks(what, "use `client: native`")));
        }
    }
    Ok(Kafka {
        cluster: Cluster { brokers: list, tls: at.read("tls", tls)?, sasl: at.read("sasl", sasl)? },
        topic: name("topic", "pingeon.logs")?,
        client,
        compression: compression.unwrap_or(if of_crate { Compression::Snappy } else { Compression::Lz4 }),
        group: name("group", "pingeon")?,
        instance_id: at.read("instance_id", |at| at.text("text", topic))?,
    })
}

/// What is said where `client: kafka-crate` is asked for what that crate has not.
fn crate_lacks(what: &str, hint: &str) -> Complaint {
    Complaint::new(format!("the `kafka` crate has no {what}, and `client: kafka-crate` asks for it")).hint(hint)
}

fn topic(text: &str) -> Result<String, Complaint> {
    let allowed = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !allowed || text.is_empty() || text.len() > TOPIC_BYTES_MAX || text == "." || text == ".." {
        return Err(format!("is not 1 to {TOPIC_BYTES_MAX} letters, digits, `.`, `_` and `-`").into());
    }
    Ok(text.to_owned())
}

fn sasl(at: &At<'_>) -> Read<Sasl> {
    let at = &at.quietly();
    at.mapping(&["mechanism", "username", "password", "password_file"])?;
    let mechanisms = [
        ("PLAIN", Mechanism::Plain),
        ("SCRAM-SHA-256", Mechanism::ScramSha256),
        ("SCRAM-SHA-512", Mechanism::ScramSha512),
    ];
    let username = at.need("username", "pingeon")?.text("text", |text| match text {
        "" => Err("is empty".into()),
        text => Ok(text.to_owned()),
    })?;
    Ok(Sasl {
        mechanism: at.need("mechanism", "SCRAM-SHA-512")?.choice(&mechanisms)?,
        username,
        password: secret(at, "password")?.ok_or_else(|| missing(at, "password"))?,
    })
}

/// The `store` section. `beside`: the directory where an embedded store goes that names no path.
pub(super) fn store(at: &At<'_>, beside: &Path) -> Read<Store> {
    at.mapping(&["sqlite", "postgres"])?;
    match (at.get("sqlite"), at.get("postgres")) {
        (Some(at), None) => {
            at.mapping(&["path", "retention"])?;
            let path = at.read("path", |at| at.data_path_value())?.unwrap_or_else(|| beside.join("pingeon.db"));
            Ok(Store::Sqlite(Sqlite { path, retention: retention(&at)?.unwrap_or(30 * DAY) }))
        }
        (None, Some(at)) => postgres(&at).map(Store::Postgres),
        _ => Err(either(at)),
    }
}

fn either(at: &At<'_>) -> ConfigError {
    at.fail("expected either `sqlite` or `postgres`")
}

/// The `store` section without what it takes to reach the store.
pub(super) fn outline(at: &At<'_>) -> Read<Outline> {
    match (at.get("sqlite"), at.get("postgres")) {
        (Some(_), None) => Ok(Outline::Sqlite),
        (None, Some(at)) => {
            at.mapping(&POSTGRES_KEYS)?;
            retention(&at).map(Outline::Postgres)
        }
        _ => Err(either(at)),
    }
}

/// An embedded store that no section names.
pub(super) fn store_default(spool: &Spool) -> Store {
    Store::Sqlite(Sqlite { path: beside(&spool.path).join("pingeon.db"), retention: 30 * DAY })
}

/// The directory of a file.
pub(super) fn beside(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}

fn retention(at: &At<'_>) -> Read<Option<Duration>> {
    span(at, "retention", Duration::from_secs(3_600), 3_650 * DAY)
}

const POSTGRES_KEYS: [&str; 8] =
    ["url", "password", "password_file", "batch_max", "batch_wait", "connections", "prepared", "retention"];

fn postgres(at: &At<'_>) -> Read<Postgres> {
    at.mapping(&POSTGRES_KEYS)?;
    let prepared = [("auto", Prepared::Auto), ("named", Prepared::Named), ("unnamed", Prepared::Unnamed)];
    let count = |key: &str, most: u64, default: usize| {
        let number = at.read(key, |at| at.number(1..=most))?;
        Ok(number.map_or(default, |number| usize::try_from(number).unwrap_or(usize::MAX)))
    };
    let wait = span(at, "batch_wait", Duration::from_millis(1), Duration::from_secs(10))?;
    let url = postgres_url(&at.need("url", "postgresql://pingeon_writer@db.example.com/pingeon")?)?;
    let default = postgres_default(url, secret(at, "password")?);
    Ok(Postgres {
        batch_max: count("batch_max", 10_000, default.batch_max)?,
        batch_wait: wait.unwrap_or(default.batch_wait),
        connections: count("connections", 64, default.connections)?,
        prepared: at.read("prepared", |at| at.choice(&prepared))?.unwrap_or(default.prepared),
        retention: retention(at)?.unwrap_or(default.retention),
        ..default
    })
}

/// A server of which no more is said.
fn postgres_default(url: Arc<Address>, password: Option<Secret>) -> Postgres {
    Postgres {
        url,
        password,
        batch_max: 2_000,
        batch_wait: Duration::from_millis(500),
        connections: 2,
        prepared: Prepared::Auto,
        retention: POSTGRES_RETENTION,
    }
}

fn postgres_url(at: &At<'_>) -> Read<Arc<Address>> {
    let read = postgres_address(&at.expanded("a URL")?.text, at.reading.directory.as_ref(), &at.reading.shared);
    read.map_err(|complaint| at.fail(complaint))
}

fn postgres_address(url: &str, directory: &Path, shared: &Shared) -> Result<Arc<Address>, Complaint> {
    let pem = |name: &str, section| shared.pem_once(directory.join(name), section).map_err(|complaint| complaint.what);
    let files = Files { certificates: &|name| pem(name, Section::Certificates), key: &|name| pem(name, Section::Key) };
    Address::parse(url, &files).map(Arc::new).map_err(|Unusable { what, hint }| Complaint { what, hint })
}

/// A server that no config names: by a URL as a config has them, and the password in a file, if any.
///
/// # Errors
/// What is wrong with either.
pub fn postgres_at(url: &str, password_file: Option<&Path>) -> Result<Postgres, ConfigError> {
    let password = password_file.map(|path| secret_in(path.to_owned())).transpose();
    let read = postgres_address(url, Path::new(""), &Shared::default()).and_then(|url| Ok((url, password?)));
    let (url, password) = read.map_err(ConfigError::nowhere)?;
    Ok(postgres_default(url, password))
}

/// The `web` section.
pub(super) fn web(at: &At<'_>) -> Read<Web> {
    at.mapping(&["listen"])?;
    Ok(Web {
        listen: at.need("listen", "\"127.0.0.1:8087\"")?.text("an address and a port", |text| address(text, None))?,
    })
}

/// The `log` section.
pub(super) fn log(at: &At<'_>) -> Read<log::LevelFilter> {
    use log::LevelFilter::{Debug, Error, Info, Trace, Warn};
    at.mapping(&["level"])?;
    let levels = [("error", Error), ("warn", Warn), ("info", Info), ("debug", Debug), ("trace", Trace)];
    Ok(at.read("level", |at| at.choice(&levels))?.unwrap_or(Info))
}
