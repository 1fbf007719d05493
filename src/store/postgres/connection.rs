//! A connection that is made when it is needed, and made anew after it was lost; its errors sorted by what the caller does about
//! them.

use std::collections::HashMap;
use std::time::Duration;

use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::{ToSql, Type};
use postgres::{Client, Config, NoTls, Row, Statement};

use super::columns::Param;
use super::migrate;
use crate::config::{self, Prepared};
use crate::flow::Fault;

/// How long a connect may take, to each address of a host.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// What it takes to make a connection, and the one there is.
pub(super) struct Connection {
    config: Config,
    prepared: Prepared,
    open: Option<Session>,
    /// Whether the server was ever reached as it is set: from then on, whatever is wrong may be put right again.
    contacted: bool,
}

/// What to do about an error.
#[derive(Debug)]
pub(super) enum Trouble {
    /// What the pump does about it.
    Fault(Fault),
    /// A named statement is gone or taken: a pooler is in the way. Goes on without names.
    Unprepared,
    /// There is no partition for a row.
    NoDay,
    /// A value that the server will never take.
    Refused(Refusal),
}

/// Why the server does not take a value.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Its code for that (its manual, appendix A).
    pub(super) sqlstate: String,
    /// Its sentence.
    pub(super) reason: String,
}

impl Connection {
    /// Not connected yet.
    pub(super) fn new(settings: &config::Postgres) -> Self {
        let mut config: Config = settings.url.parse().unwrap_or_default();
        if let Some(password) = &settings.password {
            config.password(password.expose());
        }
        config.connect_timeout(CONNECT_MAX).application_name("pingeon");
        Connection { config, prepared: settings.prepared, open: None, contacted: false }
    }

    /// The session, begun if there is none, with a store of this build's schema.
    ///
    /// # Errors
    /// See [`Fault`].
    pub(super) fn session(&mut self) -> Result<&mut Session, Fault> {
        if self.open.is_none() {
            let begun = self.config.connect(NoTls).and_then(|mut client| {
                let version = migrate::version(&mut client)?;
                Ok((client, version))
            });
            let (client, version) = match begun {
                Ok(begun) => begun,
                Err(error) => return Err(self.fault(&error)),
            };
            migrate::usable(version)
                .map_err(|why| if self.contacted { Fault::Retry(why) } else { Fault::Broken(why) })?;
            self.contacted = true;
            let named = self.prepared != Prepared::Unnamed;
            self.open = Some(Session { client, named, statements: HashMap::new() });
        }
        self.open.as_mut().ok_or_else(|| Fault::Retry("not connected".to_owned()))
    }

    /// What to do about `error`. A transaction that was open is rolled back.
    pub(super) fn trouble(&mut self, error: &postgres::Error) -> Trouble {
        let trouble = match Trouble::of(error) {
            Trouble::Unprepared if self.prepared == Prepared::Auto => {
                log::info!("Postgres: a pooler is in the way of prepared statements; goes on with unnamed ones");
                self.prepared = Prepared::Unnamed;
                Trouble::Unprepared
            }
            Trouble::Fault(_) | Trouble::Unprepared => Trouble::Fault(self.fault(error)),
            trouble => trouble,
        };
        // What could not be rolled back is no session any more.
        let rolled_back = self.open.as_mut().is_some_and(|session| session.say("ROLLBACK").is_ok());
        if !rolled_back || matches!(trouble, Trouble::Unprepared) {
            self.open = None;
        }
        trouble
    }

    fn fault(&self, error: &postgres::Error) -> Fault {
        let lasting = [
            SqlState::INVALID_PASSWORD,
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            SqlState::INVALID_CATALOG_NAME,
            SqlState::INSUFFICIENT_PRIVILEGE,
            SqlState::UNDEFINED_FUNCTION,
            SqlState::INVALID_SCHEMA_NAME,
        ];
        match error.code() {
            Some(code) if !self.contacted && lasting.contains(code) => Fault::Broken(said(error)),
            _ => Fault::Retry(said(error)),
        }
    }
}

fn said(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("Postgres: {} (SQLSTATE {})", said.message(), said.code().code()),
        None => format!("Postgres: {error}"),
    }
}

impl Trouble {
    /// By the error's SQLSTATE.
    pub(super) fn of(error: &postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else { return Trouble::Fault(Fault::Retry(error.to_string())) };
        match said.code() {
            code if [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT].contains(code) => {
                Trouble::Unprepared
            }
            // Of a constraint it would have the name.
            code if *code == SqlState::CHECK_VIOLATION && said.constraint().is_none() => Trouble::NoDay,
            code if ["22", "23", "54"].iter().any(|class| code.code().starts_with(class)) => {
                Trouble::Refused(Refusal { sqlstate: code.code().to_owned(), reason: said.message().to_owned() })
            }
            _ => Trouble::Fault(Fault::Retry(self::said(error))),
        }
    }
}

/// An open connection and its prepared statements.
pub(super) struct Session {
    client: Client,
    /// Whether statements are prepared once, by name, or with each call.
    named: bool,
    statements: HashMap<&'static str, Statement>,
}

impl Session {
    /// Statements without parameters or answers.
    pub(super) fn say(&mut self, sql: &str) -> Result<(), postgres::Error> {
        self.client.batch_execute(sql)
    }

    /// The rows that a statement gives.
    pub(super) fn query(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, postgres::Error> {
        if !self.named {
            return self.client.query_typed(sql, params);
        }
        let statement = self.statement(sql, params)?;
        self.client.query(&statement, &values(params))
    }

    /// Gives `each` the rows of an answer as they come; none are kept. The statement is not prepared.
    pub(super) fn stream(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        each: &mut dyn FnMut(&Row) -> Result<(), postgres::Error>,
    ) -> Result<(), postgres::Error> {
        let mut rows = self.client.query_typed_raw(sql, params.iter().map(|(value, of)| (*value, of.clone())))?;
        while let Some(row) = rows.next()? {
            each(&row)?;
        }
        Ok(())
    }

    /// How many rows a statement changed.
    pub(super) fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<u64, postgres::Error> {
        if !self.named {
            return self.client.execute_typed(sql, params);
        }
        let statement = self.statement(sql, params)?;
        self.client.execute(&statement, &values(params))
    }

    fn statement(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Statement, postgres::Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let types: Vec<Type> = params.iter().map(|(_, of)| of.clone()).collect();
        let statement = self.client.prepare_typed(sql, &types)?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }
}

fn values<'a>(params: &[Param<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|(value, _)| *value).collect()
}
