//! The settings of `dns` checks.

use std::net::IpAddr;
use std::time::Duration;

use super::checks::under;
use super::error::Complaint;
use super::kinds::{certificate_days, ip_family, tls_settings};
use super::targets::{host, host_port, host_port_text};
use super::walk::{At, Read};
use super::web_checks::text;
use super::yaml::Node;
use crate::check::dns::{Dns, Expect, Name, Rcode, RecordType, SERVERS_MAX, Server, Servers, Transport};
use crate::secret::Secret;

/// Answers that one check may name.
const ANSWERS_MAX: usize = 1_000;

/// The settings of a `dns` check and its target.
pub(super) fn dns(check: &At<'_>, timeout: Duration) -> Read<(Dns, String)> {
    let at = &check.need("dns", "{name: example.com, type: A, server: \"192.0.2.53:53\"}")?;
    at.mapping(&["name", "type", "server", "transport", "recursion"])?;
    let record = at.need("type", "A")?.choice(&RecordType::KNOWN)?;
    let name = at.need("name", "example.com")?.text("a name", |text| name(text, record))?;
    let transport = at.read("transport", |at| at.choice(&Transport::ALL))?.unwrap_or(Transport::Udp);
    let servers = at.read("server", |at| servers(at, transport))?.map_or(Servers::System, Servers::Listed);
    if matches!((&servers, transport), (Servers::System, Transport::Tls)) {
        let complaint = Complaint::new("the system's resolver is not asked by TLS");
        return Err(at.fail(complaint.hint("name whom to ask: `server: dns.example.com`")));
    }
    let (ip, tls) = (ip_family(check)?, tls_settings(check)?);
    if transport != Transport::Tls && check.get("tls").is_some() {
        return Err(check.fail_key("tls", Complaint::new("`tls` is for `transport: tls`")));
    }
    let recursion = at.read("recursion", |at| at.boolean())?.unwrap_or(true);
    let expect = check.read("expect", |at| expect(at, record, &servers, transport, timeout))?.unwrap_or_default();
    let bare = name.bare();
    let target = match &servers {
        Servers::System => format!("{bare} {record}"),
        Servers::Listed(servers) => {
            let servers: Vec<String> = servers.iter().map(|one| host_port_text(&one.host, one.port)).collect();
            format!("{bare} {record} @{}", servers.join(", "))
        }
    };
    Ok((Dns { name, record, servers, transport, recursion, ip, tls, expect }, target))
}

/// A name; for `PTR` an address will do, whose name is asked for.
fn name(text: &str, record: RecordType) -> Result<Name, Complaint> {
    let wanted = record.to_string();
    match text.parse::<IpAddr>() {
        Ok(address) if wanted == "PTR" => Ok(Name::reverse(address)),
        Ok(_) => Err(Complaint::new(format!("is an address, which has no {wanted} record")).hint("write `type: PTR`")),
        Err(_) => Ok(Name::parse(text)?),
    }
}

/// One server or a list of them.
fn servers(at: &At<'_>, transport: Transport) -> Read<Vec<Server>> {
    let port = if transport == Transport::Tls { 853 } else { 53 };
    let one = |at: &At<'_>| at.text("a name or an address", |text| server(text, port));
    if !matches!(at.node, Node::List(_)) {
        return Ok(vec![one(at)?]);
    }
    let servers = at.list("a server, or a list of them", SERVERS_MAX)?.map(|at| one(&at)).collect::<Read<Vec<_>>>()?;
    if servers.is_empty() { Err(at.fail("an empty list asks nobody")) } else { Ok(servers) }
}

/// A name or an address, with a port or without.
fn server(text: &str, port: u16) -> Result<Server, Complaint> {
    let bare = text.parse::<IpAddr>().is_ok() || text.ends_with(']') || !text.contains(':');
    let (host, port) = if bare { (host(text)?, port) } else { host_port(text)? };
    Ok(Server { host, port })
}

fn expect(at: &At<'_>, record: RecordType, servers: &Servers, transport: Transport, timeout: Duration) -> Read<Expect> {
    at.mapping(&[
        "rcode",
        "answers",
        "answers_min",
        "authority",
        "authoritative",
        "same_serial",
        "under",
        "certificate_days",
    ])?;
    let rcode = at.read("rcode", |at| at.choice(&Rcode::KNOWN))?.unwrap_or(Rcode::NOERROR);
    let answers =
        at.read("answers", |at| Ok((text(at, &["exactly"])?, at.read("exactly", |at| exactly(at, record))?)))?;
    let (answers, exactly) = answers.unwrap_or_default();
    let least = at.read("answers_min", |at| at.number(0..=1_000))?;
    // An answer without records is none to whoever needs one; unless what is expected says otherwise.
    let least = least.unwrap_or(u64::from(rcode == Rcode::NOERROR && exactly.is_none()));
    let same_serial = at.read("same_serial", |at| at.boolean())?.unwrap_or(false);
    let several = matches!(servers, Servers::Listed(servers) if servers.len() > 1);
    if same_serial && (record.to_string() != "SOA" || !several) {
        let complaint = Complaint::new("serial numbers are compared of the SOA records of several servers");
        return Err(at.fail_key("same_serial", complaint.hint("write `type: SOA` and `server: [a, b]`")));
    }
    let certificate_days = certificate_days(at)?;
    if certificate_days.is_some() && transport != Transport::Tls {
        return Err(at.fail_key("certificate_days", "there are certificates with `transport: tls` only"));
    }
    Ok(Expect {
        rcode,
        answers,
        exactly,
        answers_min: u32::try_from(least).unwrap_or(u32::MAX),
        authority: at.read("authority", |at| text(at, &[]))?.unwrap_or_default(),
        authoritative: at.read("authoritative", |at| at.boolean())?,
        same_serial,
        under: under(at, timeout)?,
        certificate_days,
    })
}

/// All answers that there may be.
fn exactly(at: &At<'_>, record: RecordType) -> Read<Vec<Secret>> {
    let each = at.list("a list of answers", ANSWERS_MAX)?.map(|at| {
        let read = at.expanded("text")?;
        let fits = match (record.to_string().as_str(), read.text.parse::<IpAddr>()) {
            ("A", address) => matches!(address, Ok(IpAddr::V4(_))),
            ("AAAA", address) => matches!(address, Ok(IpAddr::V6(_))),
            _ => true,
        };
        let version = if record.to_string() == "A" { "IPv4" } else { "IPv6" };
        if fits { Ok(read.secret()) } else { Err(at.refuse(format!("is no {version} address"))) }
    });
    each.collect()
}

/// A server as it is read back.
pub(super) fn server_text(server: &Server) -> String {
    host_port_text(&server.host, server.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_or_refused() {
        for (text, read) in [
            ("192.0.2.53", Some("192.0.2.53:53")),
            ("192.0.2.53:5353", Some("192.0.2.53:5353")),
            ("2001:db8::53", Some("[2001:db8::53]:53")),
            ("[2001:db8::53]", Some("[2001:db8::53]:53")),
            ("[2001:db8::53]:5353", Some("[2001:db8::53]:5353")),
            ("ns1.example.com", Some("ns1.example.com:53")),
            ("ns1.example.com:5353", Some("ns1.example.com:5353")),
            ("ns1.example.com:", None),
            ("ns1.example.com:0", None),
            ("", None),
            ("a b", None),
        ] {
            assert_eq!(server(text, 53).ok().map(|server| server_text(&server)).as_deref(), read, "{text}");
        }
    }
}
