//! The settings of `tcp` and `tls` checks, read and written.

use std::time::Duration;

use super::checks::under;
use super::error::Complaint;
use super::explain::{as_typed, ip_name, pattern, text_map, tls_keys};
use super::kinds::{certificate_days, ip, tls_settings};
use super::shared::{self, regex};
use super::targets::{host_port, host_port_text};
use super::walk::{At, Read};
use super::web_checks::text;
use super::write::{Doc, Map, quote};
use super::yaml::Node;
use crate::check::certificates::ExpectTls;
use crate::check::tcp::{Hex, Step, Tcp};
use crate::check::tls::Tls;
use crate::net::Host;
use crate::net::tls::{Pin, Version};
use crate::secret::Secret;

/// Steps of one dialogue.
const STEPS_MAX: usize = 100;
/// Pins of one check.
const PINS_MAX: usize = 10;

/// The keys of what is expected of TLS.
const EXPECT_TLS: &[&str] = &["tls_version_min", "certificate_pins", "certificate_issuer", "certificate_days"];

const VERSIONS: &[(&str, Version)] =
    &[(Version::Tls12.name(), Version::Tls12), (Version::Tls13.name(), Version::Tls13)];

fn host_and_port(at: &At<'_>, key: &str) -> Read<(Host, u16, String)> {
    let (host, port) = at.need(key, "\"host:port\"")?.text("a host and a port", host_port)?;
    let target = host_port_text(&host, port);
    Ok((host, port, target))
}

/// The settings of a `tcp` check and its target.
pub(super) fn tcp(at: &At<'_>, timeout: Duration) -> Read<(Tcp, String)> {
    let (host, port, target) = host_and_port(at, "tcp")?;
    let dialogue = at.read("dialogue", dialogue)?.unwrap_or_default();
    let tls = tls_settings(at)?;
    let (under, expect) = expect(at, timeout)?;
    if !dialogue.iter().any(|step| matches!(step, Step::StartTls)) {
        let needs_tls = |at: &At<'_>, key: &str| {
            let complaint = Complaint::new(format!("`{key}` is about TLS, and no step of the dialogue is `starttls`"));
            at.fail_key(key, complaint.hint("as the first step it speaks TLS from the start: `dialogue: [starttls]`"))
        };
        if at.get("tls").is_some() {
            return Err(needs_tls(at, "tls"));
        }
        if let Some(at) = at.get("expect")
            && let Some(key) = EXPECT_TLS.iter().find(|key| at.get(key).is_some())
        {
            return Err(needs_tls(&at, key));
        }
    }
    Ok((Tcp { host, port, ip: ip(at)?, dialogue, tls, under, expect }, target))
}

fn dialogue(at: &At<'_>) -> Read<Vec<Step>> {
    let steps = at.list("a list of steps: `{expect: regex}`, `{send: text}`, `starttls`", STEPS_MAX)?;
    let mut dialogue = Vec::new();
    for at in steps {
        let step = step(&at)?;
        if matches!(step, Step::StartTls) && dialogue.iter().any(|before| matches!(before, Step::StartTls)) {
            return Err(at.fail("TLS is spoken already: `starttls` is a step before"));
        }
        dialogue.push(step);
    }
    Ok(dialogue)
}

fn step(at: &At<'_>) -> Read<Step> {
    if at.entries("a step").is_err() {
        // It may be a line that was to be sent.
        at.quietly()
            .choice(&[("starttls", ())])
            .map_err(|_| at.fail("a step is `{expect: regex}`, `{send: text}` or `starttls`"))?;
        return Ok(Step::StartTls);
    }
    at.mapping(&["expect", "send", "send_hex"])?;
    match (at.get("expect"), at.get("send"), at.get("send_hex")) {
        (Some(at), None, None) => regex(&at).map(Step::Expect),
        (None, Some(at), None) => Ok(Step::Send(at.secret()?)),
        (None, None, Some(at)) => {
            let typed = at.secret()?;
            let complaint = || Complaint::new("expected pairs of hexadecimal digits").hint("such as \"00 0d 0a\"");
            Hex::parse(typed).map(Step::SendHex).ok_or_else(|| at.fail(complaint()))
        }
        _ => Err(at.fail("a step is one of `expect`, `send` and `send_hex`")),
    }
}

/// The settings of a `tls` check and its target. How to do TLS stands beside, since `tls` says where.
pub(super) fn tls(at: &At<'_>, timeout: Duration) -> Read<(Tls, String)> {
    if at.get("tls").is_some_and(|at| matches!(at.node, Node::Map(_))) {
        let complaint = Complaint::new("expected a host and a port under `tls`; the settings of TLS stand beside it");
        return Err(
            at.fail_key("tls", complaint.hint("for example `{tls: \"mail.example.com:993\", ca_file: ca.pem}`"))
        );
    }
    let (host, port, target) = host_and_port(at, "tls")?;
    let tls = shared::tls_of(at)?;
    let (under, expect) = expect(at, timeout)?;
    Ok((Tls { host, port, ip: ip(at)?, tls, under, expect }, target))
}

/// `expect`, of both kinds.
fn expect(at: &At<'_>, timeout: Duration) -> Read<(Option<Duration>, ExpectTls)> {
    let read = at.read("expect", |at| {
        at.mapping(&[&["under"], EXPECT_TLS].concat())?;
        let pins = at.read("certificate_pins", |at| {
            let pins =
                at.list("a list of pins", PINS_MAX)?.map(|at| at.text("a pin", pin)).collect::<Read<Vec<_>>>()?;
            if pins.is_empty() { Err(at.fail("an empty list lets no certificate pass")) } else { Ok(pins) }
        })?;
        let expect = ExpectTls {
            version_min: at.read("tls_version_min", version)?,
            pins: pins.unwrap_or_default(),
            issuer: at.read("certificate_issuer", |at| text(at, &[]))?,
            certificate_days: certificate_days(at)?,
        };
        Ok((under(at, timeout)?, expect))
    })?;
    Ok(read.unwrap_or_default())
}

/// `1.2` is a number in YAML, and nobody means it to be one here.
fn version(at: &At<'_>) -> Read<Version> {
    let typed = if let Node::Float(number) = at.node { number.to_string() } else { String::new() };
    let known = VERSIONS.iter().find(|(name, _)| *name == typed);
    known.map_or_else(|| at.choice(VERSIONS), |(_, version)| Ok(*version))
}

/// A pin in base64. Other tools show it in hexadecimal digits.
fn pin(text: &str) -> Result<Pin, Complaint> {
    let in_hex = || {
        let hex = Hex::parse(Secret::new(text.replace(':', "")))?;
        <[u8; Pin::BYTES]>::try_from(hex.bytes()).ok().map(Pin::from)
    };
    Pin::parse(text).ok_or_else(|| {
        let complaint = Complaint::new("is not the SHA-256 of a public key in base64");
        complaint.hint(match in_hex() {
            Some(pin) => format!("where that is the key's and not the certificate's, it is `{pin}` in base64"),
            None => "`pingeon check` shows the pin of the certificate that is there now".to_owned(),
        })
    })
}

/// Writes a `tcp` check.
pub(super) fn tcp_keys(map: &mut Map, tcp: &Tcp) {
    map.text("tcp", &host_port_text(&tcp.host, tcp.port));
    map.plain("ip", ip_name(tcp.ip));
    let steps = tcp.dialogue.iter().map(|step| match step {
        Step::Expect(regex) => Doc::Map(Map(vec![("expect".to_owned(), pattern(regex))])),
        Step::Send(text) => Doc::Map(Map(vec![("send".to_owned(), as_typed(text))])),
        Step::SendHex(hex) => Doc::Map(Map(vec![("send_hex".to_owned(), as_typed(&hex.typed))])),
        Step::StartTls => Doc::Scalar("starttls".to_owned()),
    });
    map.list("dialogue", steps.collect());
    if tcp.dialogue.iter().any(|step| matches!(step, Step::StartTls)) {
        let mut settings = Map::default();
        tls_keys(&mut settings, &tcp.tls);
        map.map("tls", settings);
    }
    map.map("expect", expect_map(tcp.under, &tcp.expect));
}

/// Writes a `tls` check.
pub(super) fn tls_check_keys(map: &mut Map, tls: &Tls) {
    map.text("tls", &host_port_text(&tls.host, tls.port));
    map.plain("ip", ip_name(tls.ip));
    tls_keys(map, &tls.tls);
    map.map("expect", expect_map(tls.under, &tls.expect));
}

fn expect_map(under: Option<Duration>, tls: &ExpectTls) -> Map {
    let mut expect = Map::default();
    expect.duration("under", under);
    tls.version_min.iter().for_each(|version| expect.text("tls_version_min", version.name()));
    if !tls.pins.is_empty() {
        expect.list("certificate_pins", tls.pins.iter().map(|pin| quote(&pin.to_string())).collect());
    }
    tls.issuer.iter().for_each(|issuer| expect.map("certificate_issuer", text_map(issuer)));
    tls.certificate_days.iter().for_each(|days| expect.plain("certificate_days", days));
    expect
}
