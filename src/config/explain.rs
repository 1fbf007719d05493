//! The effective config as YAML that `load` reads back, secrets hidden.
//!
//! A secret from a file of its own stays as the file's path, one from the environment as `${NAME}`; any other shows as
//! `***`. Paths are as the config's reader resolved them, so the text holds wherever relative ones were none.

use super::auth::auth_keys;
use super::connections::{tcp_keys, tls_check_keys};
use super::dns_checks::server_text;
use super::quantities::size_text;
use super::steps::steps_keys;
use super::targets::host_port_text;
use super::write::{Doc, Map, quote, scalar, write_map};
use super::{Config, Kafka, Postgres, Prepared, Spool, Store, WhenFull};
use crate::check::dns::{self, Dns, Servers, Transport};
use crate::check::http::{self, Allow, Http, Text, percent_encoded};
use crate::check::{Check, Kind, Pattern};
use crate::kafka::{Compression, Mechanism};
use crate::maintenance::{Begins, Window};
use crate::net::{Host, IpFamily, Proxy, ProxyScheme, TlsSettings, Verify};
use crate::secret::{Origin, Secret};

/// The effective config, defaults filled in. Holds no secret.
pub fn explain(config: &Config) -> String {
    let mut root = Map::default();
    root.text("agent", &config.agent);
    let mut defaults = Map::default();
    defaults.plain("workers_max", config.workers_max);
    root.map("defaults", defaults);
    root.list("checks", config.checks.iter().map(|check| Doc::Map(check_map(check))).collect());
    if !config.network_gate.is_empty() {
        root.list("network_gate", config.network_gate.iter().map(|check| quote(&check.label)).collect());
    }
    if !config.maintenance.is_empty() {
        root.list("maintenance", config.maintenance.iter().map(|window| Doc::Map(maintenance(window))).collect());
    }
    root.map("spool", spool(&config.spool));
    if let Some(queue) = &config.queue {
        root.map("queue", Map(vec![("kafka".to_owned(), Doc::Map(kafka(queue)))]));
    }
    if let Some(store) = &config.store {
        root.map("store", store_map(store));
    }
    if let Some(web) = &config.web {
        root.map("web", Map(vec![("listen".to_owned(), quote(&web.listen.to_string()))]));
    }
    root.map("log", Map(vec![("level".to_owned(), quote(&config.log_level.to_string().to_lowercase()))]));
    let mut text = String::new();
    write_map(&mut text, &root, 0);
    text
}

impl Map {
    /// A secret that may stand here or in a file of its own.
    pub(super) fn secret(&mut self, key: &str, secret: &Secret) {
        match secret.origin() {
            Some(Origin::File(path)) => self.text(&format!("{key}_file"), &path.display().to_string()),
            _ => self.0.push((key.to_owned(), hidden(secret))),
        }
    }
}

fn hidden(secret: &Secret) -> Doc {
    Doc::Scalar(match secret.origin() {
        Some(Origin::Environment { typed, whole: true, .. }) => format!("\"{typed}\""),
        // Nothing is beside the one `{name}`.
        Some(Origin::Steps { typed, gaps, .. })
            if gaps.first().is_some_and(|gap| gap.at.len() == secret.expose().len()) =>
        {
            format!("\"{typed}\"")
        }
        _ => "\"***\"".to_owned(),
    })
}

fn check_map(check: &Check) -> Map {
    let mut map = Map::default();
    map.text("label", &check.label);
    map.duration("interval", Some(check.interval));
    map.duration("timeout", Some(check.timeout));
    map.plain("confirm", check.confirm);
    match &check.kind {
        Kind::Http(http) => http_keys(&mut map, http, &check.target),
        Kind::Steps(steps) => steps_keys(&mut map, steps, &check.target),
        Kind::Tcp(tcp) => tcp_keys(&mut map, tcp),
        Kind::Tls(tls) => tls_check_keys(&mut map, tls),
        Kind::Icmp(icmp) => {
            map.text(
                "icmp",
                &match &icmp.host {
                    Host::Name(name) => name.clone(),
                    Host::Address(address) => address.to_string(),
                },
            );
            map.plain("count", icmp.count);
            map.plain("ip", ip_name(icmp.ip));
            let mut expect = Map::default();
            expect.plain("loss", format!("{}%", icmp.loss));
            expect.duration("under", icmp.under);
            map.map("expect", expect);
        }
        Kind::Dns(dns) => dns_keys(&mut map, dns),
        Kind::Exec(exec) => {
            let mut words = vec![quote(&exec.program.display().to_string())];
            words.extend(exec.arguments.iter().map(as_typed));
            map.list("exec", words);
            if !exec.env.is_empty() {
                map.map("env", Map(exec.env.iter().map(|(name, value)| (name.clone(), hidden(value))).collect()));
            }
        }
    }
    map
}

pub(super) fn http_keys(map: &mut Map, http: &Http, target: &str) {
    // The target is the URL wherever all of it may be in a log.
    map.0.push(("http".to_owned(), http.typed.as_ref().map_or_else(|| quote(target), as_typed)));
    map.text("method", http.method.as_str());
    if !http.headers.is_empty() {
        let headers = http.headers.iter().map(|(name, value)| {
            let shown = http::is_harmless(name.as_str());
            (name.to_string(), if shown { as_typed(value) } else { hidden(value) })
        });
        map.map("headers", Map(headers.collect()));
    }
    match http.body.origin() {
        Some(Origin::File(_)) => map.secret("body", &http.body),
        _ => map.0.push(("body".to_owned(), as_typed(&http.body))),
    }
    http.auth.iter().for_each(|auth| auth_keys(map, auth));
    map.plain("redirects", http.redirects);
    let Allow { downgrade, link_local } = http.redirects_allow;
    let allowed = [("downgrade", downgrade), ("link_local", link_local)].into_iter().filter(|(_, allowed)| *allowed);
    map.list("redirects_allow", allowed.map(|(word, _)| quote(word)).collect());
    map.0.push(("proxy".to_owned(), proxy(&http.proxy)));
    if let Some(address) = http.connect_to {
        let bare = address.port() == 0;
        map.text("connect_to", &if bare { address.ip().to_string() } else { address.to_string() });
    }
    map.plain("ip", ip_name(http.ip));
    map.map("tls", tls_map(&http.tls));
    map.map("expect", http_expect(http));
}

/// A text that need not be a secret: shown as it was typed, so without what the environment or a file gave.
pub(super) fn as_typed(text: &Secret) -> Doc {
    match text.origin() {
        None => quote(text.expose()),
        // A `${NAME}` alone stands in quotes, as people write it.
        Some(Origin::Environment { typed, whole: false, .. } | Origin::Steps { typed, .. }) => {
            Doc::Scalar(scalar(typed))
        }
        Some(_) => hidden(text),
    }
}

pub(super) fn pattern(pattern: &Pattern) -> Doc {
    pattern.apart().map_or_else(|| quote(pattern.regex().as_str()), as_typed)
}

fn http_expect(http: &Http) -> Map {
    let mut expect = Map::default();
    let statuses = http
        .expect
        .status
        .iter()
        .map(|(low, high)| Doc::Scalar(if low == high { low.to_string() } else { format!("{low}-{high}") }));
    expect.list("status", statuses.collect());
    if !http.expect.headers.is_empty() {
        let headers = http.expect.headers.iter().map(|(name, text)| (name.clone(), Doc::Map(text_map(text))));
        expect.map("headers", Map(headers.collect()));
    }
    let mut body = text_map(&http.expect.body);
    if !http.expect.json.is_empty() {
        let json = http.expect.json.iter().map(|(pointer, value)| (pointer.clone(), json(value)));
        body.map("json", Map(json.collect()));
    }
    if !body.0.is_empty() {
        expect.map("body", body);
    }
    expect.plain("body_max", size_text(http.expect.body_max as u64));
    expect.duration("under", http.expect.under);
    http.expect.certificate_days.iter().for_each(|days| expect.plain("certificate_days", days));
    expect
}

fn dns_keys(map: &mut Map, dns: &Dns) {
    let mut question = Map::default();
    question.text("name", &dns.name.bare());
    question.text("type", &dns.record.to_string());
    match &dns.servers {
        Servers::System => {}
        Servers::Listed(servers) => {
            let mut servers = servers.iter().map(|server| quote(&server_text(server)));
            let one = (servers.len() == 1).then(|| servers.next()).flatten();
            question.0.push(("server".to_owned(), one.unwrap_or_else(|| Doc::List(servers.collect()))));
        }
    }
    question.plain("transport", dns.transport.name());
    question.plain("recursion", dns.recursion);
    map.map("dns", question);
    map.plain("ip", ip_name(dns.ip));
    if dns.transport == Transport::Tls {
        map.map("tls", tls_map(&dns.tls));
    }
    map.map("expect", dns_expect(&dns.expect));
}

fn dns_expect(expect: &dns::Expect) -> Map {
    let mut map = Map::default();
    map.text("rcode", &expect.rcode.to_string());
    let mut answers = text_map(&expect.answers);
    expect.exactly.iter().for_each(|exactly| answers.list("exactly", exactly.iter().map(as_typed).collect()));
    let authority = text_map(&expect.authority);
    for (key, conditions) in [("answers", answers), ("authority", authority)] {
        if !conditions.0.is_empty() {
            map.map(key, conditions);
        }
    }
    map.plain("answers_min", expect.answers_min);
    expect.authoritative.iter().for_each(|is| map.plain("authoritative", is));
    map.plain("same_serial", expect.same_serial);
    map.duration("under", expect.under);
    expect.certificate_days.iter().for_each(|days| map.plain("certificate_days", days));
    map
}

fn json(value: &serde_json::Value) -> Doc {
    match value {
        serde_json::Value::String(text) => quote(text),
        serde_json::Value::Array(list) => Doc::List(list.iter().map(json).collect()),
        serde_json::Value::Object(map) => {
            Doc::Map(Map(map.iter().map(|(key, value)| (key.clone(), json(value))).collect()))
        }
        scalar => Doc::Scalar(scalar.to_string()),
    }
}

pub(super) fn text_map(text: &Text) -> Map {
    let mut map = Map::default();
    let texts = [("equals", &text.equals), ("contains", &text.contains), ("not_contains", &text.not_contains)];
    for (key, text) in texts {
        text.iter().for_each(|text| map.0.push((key.to_owned(), as_typed(text))));
    }
    text.matches.iter().for_each(|regex| map.0.push(("matches".to_owned(), pattern(regex))));
    map
}

pub(super) fn tls_map(settings: &TlsSettings) -> Map {
    let mut map = Map::default();
    tls_keys(&mut map, settings);
    map
}

pub(super) fn tls_keys(map: &mut Map, settings: &TlsSettings) {
    settings.ca.iter().for_each(|ca| map.text("ca_file", &ca.path.display().to_string()));
    settings.server_name.iter().for_each(|name| map.text("server_name", name));
    if let Some((cert, key)) = &settings.client {
        map.text("cert_file", &cert.path.display().to_string());
        map.text("key_file", &key.path.display().to_string());
    }
    map.plain("verify", settings.verify != Verify::Nothing);
    map.plain("resume", settings.resume);
}

pub(super) fn ip_name(ip: IpFamily) -> &'static str {
    match ip {
        IpFamily::Any => "any",
        IpFamily::V4 => "v4",
        IpFamily::V6 => "v6",
        IpFamily::Each => "each",
    }
}

fn proxy(proxy: &Proxy) -> Doc {
    match proxy {
        Proxy::Environment => quote("environment"),
        Proxy::None => quote("none"),
        Proxy::Through { scheme, host, port, credentials } => {
            let scheme = match scheme {
                ProxyScheme::Http => "http",
                ProxyScheme::Socks5 => "socks5",
            };
            let user = match credentials {
                None => String::new(),
                Some((user, password)) => match password.origin() {
                    None => format!("{}:***@", percent_encoded(user)),
                    Some(Origin::Environment { whole: true, .. }) => return hidden(password),
                    // The environment may have given the user as well.
                    Some(_) => "***:***@".to_owned(),
                },
            };
            quote(&format!("{scheme}://{user}{}", host_port_text(host, *port)))
        }
    }
}

fn maintenance(window: &Window) -> Map {
    let mut map = Map::default();
    map.text("name", &window.name);
    if !window.labels.is_empty() {
        map.list("labels", window.labels.iter().map(|label| quote(label.as_str())).collect());
    }
    match &window.begins {
        Begins::Once(at) => map.text("from", &at.to_string()),
        Begins::Again { typed, weekly, zone, .. } => {
            map.text(if *weekly { "weekly" } else { "cron" }, typed);
            map.text("zone", zone.name());
        }
    }
    map.duration("for", Some(window.lasts));
    map
}

fn spool(spool: &Spool) -> Map {
    let mut map = Map::default();
    map.text("path", &spool.path.display().to_string());
    map.plain("max_bytes", size_text(spool.max_bytes));
    map.plain(
        "when_full",
        match spool.when_full {
            WhenFull::Thin => "thin",
            WhenFull::DropOldest => "drop_oldest",
            WhenFull::Block => "block",
        },
    );
    map.duration("flush", Some(spool.flush));
    map
}

fn kafka(kafka: &Kafka) -> Map {
    let mut map = Map::default();
    map.list("brokers", kafka.cluster.brokers.iter().map(|broker| quote(broker)).collect());
    map.text("topic", &kafka.topic);
    map.plain("client", kafka.client.name());
    map.plain(
        "compression",
        match kafka.compression {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
        },
    );
    map.text("group", &kafka.group);
    kafka.instance_id.iter().for_each(|id| map.text("instance_id", id));
    kafka.cluster.tls.iter().for_each(|settings| map.map("tls", tls_map(settings)));
    if let Some(sasl) = &kafka.cluster.sasl {
        let mut keys = Map::default();
        keys.plain(
            "mechanism",
            match sasl.mechanism {
                Mechanism::Plain => "PLAIN",
                Mechanism::ScramSha256 => "SCRAM-SHA-256",
                Mechanism::ScramSha512 => "SCRAM-SHA-512",
            },
        );
        keys.text("username", &sasl.username);
        keys.secret("password", &sasl.password);
        map.map("sasl", keys);
    }
    map
}

fn store_map(store: &Store) -> Map {
    let mut map = Map::default();
    let name = match store {
        Store::Sqlite(sqlite) => {
            map.text("path", &sqlite.path.display().to_string());
            map.duration("retention", Some(sqlite.retention));
            "sqlite"
        }
        Store::Postgres(store) => {
            postgres_keys(&mut map, store);
            "postgres"
        }
    };
    Map(vec![(name.to_owned(), Doc::Map(map))])
}

fn postgres_keys(map: &mut Map, store: &Postgres) {
    map.text("url", &store.url.to_string());
    store.password.iter().for_each(|password| map.secret("password", password));
    map.plain("batch_max", store.batch_max);
    map.duration("batch_wait", Some(store.batch_wait));
    map.plain("connections", store.connections);
    map.plain(
        "prepared",
        match store.prepared {
            Prepared::Auto => "auto",
            Prepared::Named => "named",
            Prepared::Unnamed => "unnamed",
        },
    );
    map.duration("retention", Some(store.retention));
}
