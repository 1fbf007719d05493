//! SASL: shows a broker who we are (KIP-43, KIP-152), by PLAIN (RFC 4616) or SCRAM ([`scram`]).
//!
//! SaslHandshake version 1 names the mechanism, then SaslAuthenticate carries its messages. A broker that refuses answers with
//! an error code, and that is an [`Error::Code`]. A password is never shown, also not where a broker repeats it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;

use super::connection::Connection;
use super::{Error, Mechanism, Sasl, codes, scram};
use crate::net::{blanked, shown};

/// A warning that is said once says enough: the config is the same for every connection.
static PLAIN_WARNED: AtomicBool = AtomicBool::new(false);

/// Shows the credentials to the broker. How long it believes them, if not for ever (KIP-368).
///
/// # Errors
/// When it refuses them, or does not know the password itself.
pub fn authenticate(connection: &mut Connection, sasl: &Sasl, by: Instant) -> Result<Option<Duration>, Error> {
    choose_mechanism(connection, sasl.mechanism, by)?;
    let answer = match sasl.mechanism {
        Mechanism::Plain => {
            if !connection.is_secure() && !PLAIN_WARNED.swap(true, Ordering::Relaxed) {
                log::warn!(
                    "kafka: the password of `{}` goes to broker {} readable by all in between: set `queue.kafka.tls`, or \
                     take SCRAM-SHA-512 as `mechanism`",
                    sasl.username,
                    connection.peer()
                );
            }
            step(connection, sasl, plain(sasl)?, by)?
        }
        Mechanism::ScramSha256 => prove(connection, sasl, scram::Hash::sha256(), by)?,
        Mechanism::ScramSha512 => prove(connection, sasl, scram::Hash::sha512(), by)?,
    };
    let lifetime = u64::try_from(answer.session_lifetime_ms).ok().filter(|lifetime| *lifetime > 0);
    Ok(lifetime.map(Duration::from_millis))
}

fn choose_mechanism(connection: &mut Connection, mechanism: Mechanism, by: Instant) -> Result<(), Error> {
    let name = name(mechanism);
    let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(name));
    let answer = connection.call(&request, by)?;
    let peer = connection.peer();
    let what = match ResponseError::try_from_code(answer.error_code) {
        None => return Ok(()),
        Some(ResponseError::UnsupportedSaslMechanism) => {
            let enabled: Vec<String> = answer.mechanisms.iter().map(|name| shown(name.as_bytes())).collect();
            let enabled = if enabled.is_empty() { "none".to_owned() } else { enabled.join(", ") };
            format!("broker {peer} does not take {name} on this port, but {enabled}; set `queue.kafka.sasl.mechanism`")
        }
        Some(ResponseError::IllegalSaslState) => format!(
            "broker {peer} asks for no SASL on this port; take its SASL port, or leave out `queue.kafka.sasl` if anybody may \
             come in"
        ),
        Some(_) => format!("broker {peer} does not begin {name}: {}", codes::name(answer.error_code)),
    };
    Err(Error::Code(answer.error_code, what))
}

/// `NUL username NUL password`: no other identity (RFC 4616, section 2).
fn plain(sasl: &Sasl) -> Result<Vec<u8>, Error> {
    let (username, password) = (&sasl.username, sasl.password.expose());
    if username.contains('\0') || password.contains('\0') {
        return Err(Error::Unusable("SASL PLAIN has no room for a NUL character in a username or password".to_owned()));
    }
    Ok(format!("\0{username}\0{password}").into_bytes())
}

/// The messages of SCRAM, there and back twice.
fn prove(
    connection: &mut Connection,
    sasl: &Sasl,
    hash: scram::Hash,
    by: Instant,
) -> Result<SaslAuthenticateResponse, Error> {
    let nonce = scram::nonce().map_err(Error::Away)?;
    let exchange = scram::Exchange::new(hash, &sasl.username, &sasl.password, nonce);
    let challenge = step(connection, sasl, exchange.first().into_bytes(), by)?;
    let no_scram = |connection: &Connection, what: String| {
        let (peer, name) = (connection.peer(), name(sasl.mechanism));
        Error::Garbage(format!("broker {peer} cannot be trusted with {name}: {}", shown(what.as_bytes())))
    };
    let proof = exchange.prove(&challenge.auth_bytes).map_err(|what| no_scram(connection, what))?;
    let answer = step(connection, sasl, proof.message.clone().into_bytes(), by)?;
    proof.verify(&answer.auth_bytes).map_err(|what| no_scram(connection, what))?;
    Ok(answer)
}

/// One message of the mechanism, and the broker's answer to it.
fn step(
    connection: &mut Connection,
    sasl: &Sasl,
    message: Vec<u8>,
    by: Instant,
) -> Result<SaslAuthenticateResponse, Error> {
    let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(message));
    let answer = connection.call(&request, by)?;
    let code = answer.error_code;
    if code == 0 {
        return Ok(answer);
    }
    let (peer, username, name) = (connection.peer(), &sasl.username, name(sasl.mechanism));
    let says = answer.error_message.as_deref().unwrap_or_default();
    let says = shown(&blanked(says.as_bytes(), &[sasl.password.expose()]));
    let says = if says.is_empty() { codes::name(code) } else { says };
    Err(Error::Code(
        code,
        match ResponseError::try_from_code(code) {
            Some(ResponseError::SaslAuthenticationFailed) => {
                format!("broker {peer} refused `{username}`: username or password is not right for {name} ({says})")
            }
            _ => format!("broker {peer} refused `{username}` by {name}: {says}"),
        },
    ))
}

/// The mechanism's name in the IANA registry.
fn name(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::Plain => "PLAIN",
        Mechanism::ScramSha256 => "SCRAM-SHA-256",
        Mechanism::ScramSha512 => "SCRAM-SHA-512",
    }
}
