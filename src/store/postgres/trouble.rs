//! The errors of a session, sorted by what is done about them: by SQLSTATE (PostgreSQL manual, appendix A).

use std::error::Error as _;

use postgres::error::{DbError, Severity};

use super::unreached::{Unreached, reason};
use crate::flow::Fault;
use crate::net::shown;

/// What to do about an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// What the pump does about it.
    Fault(Fault),
    /// A named statement is gone, or is another one: a pooler is in the way. Goes on without names.
    Unprepared,
    /// There is no partition for a row.
    NoDay,
    /// A value that the server will never take.
    Refused(Refusal),
}

/// Why the server does not take a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Its code for that.
    pub(super) sqlstate: String,
    /// Its sentence.
    pub(super) reason: String,
}

impl Refusal {
    /// There is no partition for a row, and none can be made.
    pub(super) fn no_day() -> Self {
        let reason = "there is no partition for its day, and none can be made that far from today";
        Refusal { sqlstate: "23514".to_owned(), reason: reason.to_owned() }
    }
}

/// What an error is, whatever the state of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// May be over when the same is tried again on the same session.
    Again,
    /// Likewise, on a new session: this one is lost, is with a server that can only be read, or has prepared what has changed.
    Anew,
    /// Stays until someone puts something right: a right is missing, or the schema.
    Lasting,
    /// Where statements have names, one is gone or is another client's, which a pooler has left behind; else as `Lasting`.
    Unprepared,
    NoDay,
    Refused,
}

impl Sort {
    /// What the server said. A violated check has the constraint's name, and a missing partition has none.
    fn of(said: &DbError) -> Self {
        match said.parsed_severity() {
            // It has closed the connection.
            Some(Severity::Fatal | Severity::Panic) => Sort::Anew,
            _ => Sort::of_code(said.code().code(), said.constraint()),
        }
    }

    fn of_code(sqlstate: &str, constraint: Option<&str>) -> Self {
        match sqlstate {
            // Gone, or taken. Or another client's statement was run instead, which wants other parameters (pgbouncer says all
            // else with 08P01, too).
            "26000" | "42P05" | "08P01" | "22P03" | "42804" => Sort::Unprepared,
            "23514" if constraint.is_none() => Sort::NoDay,
            // Only to be read; or the answer of a statement has another type than when it was prepared.
            "25006" | "0A000" => Sort::Anew,
            "57014" => Sort::Again,
            code => match code.get(..2) {
                Some("22" | "23" | "54") => Sort::Refused,
                Some("28" | "3D" | "3F" | "42") => Sort::Lasting,
                // Deadlock and serialization, resources, locks.
                Some("40" | "53" | "55") => Sort::Again,
                // 08 connection, 57P operator, 58 system, XX internal, and what is not known here.
                _ => Sort::Anew,
            },
        }
    }
}

impl Trouble {
    /// Of an error within a session.
    pub(super) fn of(error: &postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else { return Trouble::Fault(Fault::Retry(sentence(error))) };
        match Sort::of(said) {
            Sort::Unprepared => Trouble::Unprepared,
            Sort::NoDay => Trouble::NoDay,
            Sort::Refused => {
                Trouble::Refused(Refusal { sqlstate: said.code().code().to_owned(), reason: said.message().to_owned() })
            }
            Sort::Again | Sort::Anew | Sort::Lasting => Trouble::Fault(Fault::Retry(sentence(error))),
        }
    }
}

/// How an error of a session is sorted; one that the server did not send has lost the session.
pub(super) fn sort(error: &postgres::Error) -> Sort {
    error.as_db_error().map_or(Sort::Anew, Sort::of)
}

/// What is wrong, and what to do about it.
pub(super) fn sentence(error: &postgres::Error) -> String {
    let Some(said) = error.as_db_error() else {
        let source = error.source();
        return match source.and_then(|source| source.downcast_ref()) {
            Some(io) => format!("Postgres: the connection was lost: {}", reason(io)),
            None if error.is_closed() => "Postgres: the server closed the connection".to_owned(),
            None => {
                let source = source.map(|source| format!(": {}", shown(source.to_string().as_bytes())));
                format!("Postgres: {error}{}", source.unwrap_or_default())
            }
        };
    };
    let code = said.code().code();
    let message = shown(said.message().as_bytes());
    match advice(code) {
        Some(advice) => format!("Postgres: {message} (SQLSTATE {code}): {advice}"),
        None => format!("Postgres: {message} (SQLSTATE {code})"),
    }
}

fn advice(sqlstate: &str) -> Option<&'static str> {
    Some(match sqlstate {
        "3F000" | "42883" | "42P01" | "42703" => "the schema is not there, or not this build's: run `pingeon migrate`",
        "42501" => {
            "the role needs what `pingeon migrate` grants to `pingeon_writer`, or to `pingeon_reader` for reports"
        }
        "25006" => {
            "this server can only be read: name its primary in `url`, or all with `target_session_attrs=read-write`"
        }
        "26000" | "42P05" => "a pooler is in the way of named statements: set `prepared: auto` or `prepared: unnamed`",
        "53100" => "make room on the server's disk",
        "53300" => "too many clients: raise the server's `max_connections`, or lower `connections`",
        _ => return None,
    })
}

impl Unreached {
    /// As the pump takes it. Before the server was ever reached as it is set, what lasts is an error in what is set.
    pub(super) fn fault(self, contacted: bool) -> Fault {
        let sentence = format!("Postgres at {}", self.sentence);
        if self.lasts() && !contacted { Fault::Broken(sentence) } else { Fault::Retry(sentence) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sorted_by_what_is_done_about_them() {
        for (sort, codes) in [
            (Sort::Again, "40001 40P01 53000 53100 53200 53300 53400 55P03 55006 57014"),
            (
                Sort::Anew,
                "08000 08003 08006 25006 57P01 57P02 57P03 57P05 58000 58030 58P01 XX000 XX001 F0000 25P02 0A000",
            ),
            (Sort::Lasting, "28000 28P01 3D000 3F000 42501 42883 42P01 42703 42601"),
            (Sort::Unprepared, "26000 42P05 08P01 22P03 42804"),
            (Sort::Refused, "22001 22003 22008 22021 22P02 22P05 23502 23503 23505 54000 54001"),
            (Sort::NoDay, "23514"),
        ] {
            for code in codes.split(' ') {
                assert_eq!(Sort::of_code(code, None), sort, "{code}");
            }
        }
        assert_eq!(Sort::of_code("23514", Some("log_verdict_check")), Sort::Refused);
    }
}
