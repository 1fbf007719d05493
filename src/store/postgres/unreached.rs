//! Why no connection was made, in words for people, and what may be done about it.

use std::error::Error as _;
use std::io;

use postgres::error::{DbError, SqlState};

use super::address::{Address, Server};
use crate::net::{shown, tls};

/// Why no connection was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreached {
    /// A sentence for people.
    pub(super) sentence: String,
    pub(super) kind: Kind,
}

/// What may be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The address does not answer: another one of the same server may.
    Silent,
    /// The server cannot serve now: another one may, or the same one later.
    Now,
    /// TLS did not work out, and will not before something is put right.
    Tls,
    /// The server does not want to be spoken to like this, with TLS or without; nor will it before something is put right.
    Way,
    /// The server does not want this user; nor will it before something is put right.
    Unwanted,
}

impl Unreached {
    pub(super) fn now(sentence: impl Into<String>) -> Self {
        Unreached { sentence: sentence.into(), kind: Kind::Now }
    }

    pub(super) fn silent(sentence: impl Into<String>) -> Self {
        Unreached { sentence: sentence.into(), kind: Kind::Silent }
    }

    /// TLS cannot be set up here.
    pub(super) fn unusable(server: &Server, reason: &str) -> Self {
        Unreached { sentence: format!("{server}: {reason}"), kind: Kind::Tls }
    }

    /// Both this and `other`, of different servers or ways: what one of them may be over with, all are.
    pub(super) fn and(self, other: &Unreached) -> Self {
        let kind = if self.lasts() { other.kind } else { self.kind };
        let sentence = match self.sentence.contains(&other.sentence) {
            true => self.sentence,
            false => format!("{}; {}", self.sentence, other.sentence),
        };
        Unreached { sentence, kind }
    }

    /// Whether it stays so until someone puts something right.
    pub(super) fn lasts(&self) -> bool {
        match self.kind {
            Kind::Silent | Kind::Now => false,
            Kind::Tls | Kind::Way | Kind::Unwanted => true,
        }
    }
}

/// What is told about an attempt.
pub(super) struct Attempt {
    server: Server,
    user: String,
    database: String,
    sslmode: &'static str,
    /// Whether a certificate of ours is shown.
    certificate: bool,
}

impl Attempt {
    pub(super) fn new(address: &Address, server: &Server) -> Self {
        Attempt {
            server: server.clone(),
            user: address.user.clone(),
            database: address.database.clone(),
            sslmode: address.sslmode.name(),
            certificate: address.tls.client.is_some(),
        }
    }

    /// Why it failed. To be asked on the thread that tried, which has seen the server's certificate.
    pub(super) fn unreached(&self, error: &postgres::Error) -> Unreached {
        let server = &self.server;
        if let Some(said) = error.as_db_error() {
            return self.refused(said);
        }
        let source = error.source();
        let io = source.and_then(|source| source.downcast_ref::<io::Error>());
        let of_tls = io.and_then(|io| io.get_ref()?.downcast_ref::<rustls::Error>());
        let (kind, what) = match (of_tls, io, error.to_string().as_str()) {
            (Some(rustls::Error::InvalidCertificate(why)), ..) => {
                (Kind::Tls, format!("the server's certificate is not trusted: {}", tls::distrust(why)))
            }
            (Some(rustls::Error::AlertReceived(alert)), ..) => {
                let about = if self.certificate { ": does it trust the certificate in `sslcert`?" } else { "" };
                let alert = tls::alert_name(*alert);
                (Kind::Tls, format!("the server refused the TLS handshake ({alert}){about}"))
            }
            (Some(error), ..) => (Kind::Tls, format!("TLS: {error}")),
            (None, Some(io), OF_TLS) => (Kind::Tls, format!("TLS: {}", reason(io))),
            (None, Some(io), OF_CONNECT) => (Kind::Silent, reason(io)),
            (None, Some(io), _) => (Kind::Now, format!("the connection was lost: {}", reason(io))),
            (None, None, OF_TLS) => {
                return Unreached {
                    sentence: format!("{server} does not offer TLS and sslmode is {}", self.sslmode),
                    kind: Kind::Tls,
                };
            }
            (None, None, OF_CONFIG) => {
                (Kind::Unwanted, format!("a password is needed for {}: give `password_file`", self.user))
            }
            (None, None, what) => match source.map(ToString::to_string).as_deref() {
                Some(NO_BINDING) => {
                    (Kind::Tls, "the server does not bind to TLS and channel_binding is require".to_owned())
                }
                Some(why) => (Kind::Unwanted, format!("{what}: {}", shown(why.as_bytes()))),
                None => (Kind::Now, what.to_owned()),
            },
        };
        Unreached { sentence: format!("{server}: {what}"), kind }
    }

    /// What the server said instead of welcome.
    fn refused(&self, said: &DbError) -> Unreached {
        let Attempt { server, user, database, .. } = self;
        let message = shown(said.message().as_bytes());
        let code = said.code();
        let (kind, what) = match code.code() {
            "28P01" => (
                Kind::Unwanted,
                format!("password authentication failed for {user}: is it the password in `password_file`?"),
            ),
            "3D000" => {
                (Kind::Unwanted, format!("there is no database `{database}`: create it, or name another in `url`"))
            }
            // A server's pg_hba.conf, and what pgbouncer says of TLS.
            "28000" | "08P01" => (Kind::Way, format!("{message} (SQLSTATE {})", code.code())),
            _ if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
                (Kind::Unwanted, format!("{message}: {user} needs what `pingeon migrate` grants"))
            }
            code => (Kind::Now, format!("{message} (SQLSTATE {code})")),
        };
        Unreached { sentence: format!("{server}: {what}"), kind }
    }
}

/// What the crate calls its kinds of errors; it shows them in no other way.
const OF_TLS: &str = "error performing TLS handshake";
const OF_CONNECT: &str = "error connecting to server";
const OF_CONFIG: &str = "invalid configuration";
/// What it says when `channel_binding` is `require` and cannot be had.
const NO_BINDING: &str = "server did not use channel binding";

/// What an I/O error says, without its number.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        io::ErrorKind::PermissionDenied => shown(error.to_string().as_bytes()),
        io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
        _ => shown(error.to_string().split(" (os error").next().unwrap_or_default().as_bytes()),
    }
}
