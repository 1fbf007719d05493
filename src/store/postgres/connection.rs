//! A connection that is made when it is needed, and made anew after it was lost.
//!
//! Statements are prepared once, by name, unless the config says otherwise or a pooler turns out to be in the way. A pooler that
//! lends out its connections by the transaction (pgbouncer before 1.21) knows nothing of names: one is gone in the next
//! transaction, or is the statement of another client that has the same name for it. Each of those gives an error of
//! [`Sort::Unprepared`], since no two of our statements have parameters alike; from the first of them on, statements go without
//! names.

use std::collections::HashMap;
use std::sync::Once;

use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::{ToSql, Type};
use postgres::{Client, Row, SimpleQueryMessage, Statement};

use super::columns::Param;
use super::dial::Dialer;
use super::migrate;
use super::trouble::{Sort, Trouble, sentence, sort};
use crate::config::{self, Prepared};
use crate::flow::Fault;

/// What it takes to make a connection, and the one there is.
pub(super) struct Connection {
    dialer: Dialer,
    prepared: Prepared,
    open: Option<Session>,
    /// Whether the server was ever reached as it is set: from then on, whatever is wrong may be put right again.
    contacted: bool,
}

impl Connection {
    /// Not connected yet.
    pub(super) fn new(settings: &config::Postgres) -> Self {
        Connection {
            dialer: Dialer::new(&settings.url, settings.password.as_ref()),
            prepared: settings.prepared,
            open: None,
            contacted: false,
        }
    }

    /// The session, begun if there is none, with a store of this build's schema.
    ///
    /// # Errors
    /// See [`Fault`].
    pub(super) fn session(&mut self) -> Result<&mut Session, Fault> {
        let session = match self.open.take() {
            Some(session) => session,
            None => self.begin()?,
        };
        Ok(self.open.insert(session))
    }

    /// Whether there is a session that nothing is known to have ended.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    fn begin(&mut self) -> Result<Session, Fault> {
        let mut client = self.dialer.dial().map_err(|unreached| unreached.fault(self.contacted))?;
        let version = migrate::version(&mut client).map_err(|error| self.fault(&error))?;
        migrate::usable(version).map_err(|why| self.lasting(why))?;
        self.contacted = true;
        Ok(Session { client, named: self.prepared != Prepared::Unnamed, statements: HashMap::new() })
    }

    /// What to do about `error`. A transaction that was open is rolled back.
    pub(super) fn trouble(&mut self, error: &postgres::Error) -> Trouble {
        let sort = sort(error);
        let named = self.open.as_ref().is_some_and(|session| session.named);
        let trouble = match Trouble::of(error) {
            Trouble::Unprepared if named && self.prepared == Prepared::Auto => {
                static SAID: Once = Once::new();
                SAID.call_once(|| {
                    let code = error.code().map(SqlState::code).unwrap_or_default();
                    log::info!(
                        "Postgres: a pooler is in the way of named statements (SQLSTATE {code}); goes on without names"
                    );
                });
                self.prepared = Prepared::Unnamed;
                Trouble::Unprepared
            }
            Trouble::Unprepared if named && is_of_names(error) => Trouble::Fault(Fault::Broken(sentence(error))),
            Trouble::Fault(_) | Trouble::Unprepared => Trouble::Fault(self.fault(error)),
            trouble => trouble,
        };
        // What could not be rolled back is no session any more.
        let lost = matches!(sort, Sort::Anew | Sort::Unprepared);
        if lost || self.open.as_mut().is_none_or(|session| session.say("ROLLBACK").is_err()) {
            self.open = None;
        }
        trouble
    }

    fn fault(&self, error: &postgres::Error) -> Fault {
        match sort(error) {
            Sort::Lasting => self.lasting(sentence(error)),
            _ => Fault::Retry(sentence(error)),
        }
    }

    /// What is wrong at the first contact is an error in what is set; later on it may be put right as it was put wrong.
    fn lasting(&self, why: String) -> Fault {
        if self.contacted { Fault::Retry(why) } else { Fault::Broken(why) }
    }
}

/// Whether a name was gone or taken, which without a pooler does not happen.
fn is_of_names(error: &postgres::Error) -> bool {
    error.code().is_some_and(|code| ["26000", "42P05"].contains(&code.code()))
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

    /// The first value of what `call` gives, as text, in a transaction that the server begins and commits without waiting for this
    /// side, so that no lock outlasts it. It sees what was committed while it waited for a lock, whatever the database's default is.
    pub(super) fn call(&mut self, call: &str) -> Result<Option<String>, postgres::Error> {
        let sql = format!("BEGIN ISOLATION LEVEL READ COMMITTED; SELECT {call}; COMMIT");
        let rows = self.client.simple_query(&sql)?;
        Ok(rows.iter().find_map(|said| match said {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }))
    }

    /// The rows that a statement gives.
    pub(super) fn query(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, postgres::Error> {
        if !self.named {
            return self.query_once(sql, params);
        }
        let statement = self.statement(sql, params)?;
        self.client.query(&statement, &values(params))
    }

    /// Likewise, of a statement that is asked seldom: it is not prepared, and no pooler is in its way.
    pub(super) fn query_once(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, postgres::Error> {
        self.client.query_typed(sql, params)
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
