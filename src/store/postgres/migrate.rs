//! The schema: numbered files in `sql/postgres/`, each applied once, all that are missing in one transaction, under an advisory
//! lock: two migrations at once follow each other, and one that fails changes nothing. The table `pingeon.migration` says which
//! files were applied, with a checksum each, so that one that was edited afterwards is noticed.

use std::time::Duration;

use postgres::{Client, Transaction};
use ring::digest::{SHA256, digest};

use super::dial::Dialer;
use super::trouble::sentence;
use crate::config;

/// The files, from nothing on.
const MIGRATIONS: &[(&str, &str)] = &[("001_log.sql", include_str!("../../../sql/postgres/001_log.sql"))];

/// What has to be there before the first of them: where they are noted.
const BOOKS: (&str, &str) = ("000_migration.sql", include_str!("../../../sql/postgres/000_migration.sql"));

/// The SQL that makes the schema, from nothing on, for a store that keeps logs for `retention` (`None`: as the schema has it): for
/// `psql`.
pub fn schema(retention: Option<Duration>) -> String {
    let scripts: String = (0..MIGRATIONS.len()).map(script).collect();
    format!("BEGIN;\n{}\n{scripts}\n{}COMMIT;\n", BOOKS.1, retention.map(keep_for).unwrap_or_default())
}

/// Brings the schema up to date, as whom `settings` name; how many files that took. Logs are kept for `retention`
/// from now on (`None`: as before).
///
/// # Errors
/// What is wrong and what to do about it, for people. The store is as it was.
pub fn migrate(settings: &config::Postgres, retention: Option<Duration>) -> Result<usize, String> {
    let dialer = Dialer::new(&settings.url, settings.password.as_ref());
    let mut client = dialer.dial().map_err(|unreached| format!("Postgres at {}", unreached.sentence))?;
    let mut transaction = client.transaction().map_err(|error| sentence(&error))?;
    run(&mut transaction, BOOKS.0, BOOKS.1)?;
    let before = applied(&mut transaction)?;
    check(&before)?;
    for (nth, (name, _)) in MIGRATIONS.iter().enumerate().skip(before.len()) {
        run(&mut transaction, name, &script(nth))?;
    }
    if let Some(retention) = retention {
        run(&mut transaction, "retention", &keep_for(retention))?;
    }
    transaction.commit().map_err(|error| sentence(&error))?;
    Ok(MIGRATIONS.len() - before.len())
}

/// One file, and its line in the books.
fn script(nth: usize) -> String {
    let (name, sql) = MIGRATIONS[nth];
    let (version, sum) = (nth + 1, checksum(sql));
    let note =
        format!("INSERT INTO pingeon.migration (version, name, checksum) VALUES ({version}, '{name}', '{sum}');");
    format!("{sql}\n{}", as_owner(&note))
}

/// How long the owner keeps logs, whatever a consumer asks for.
fn keep_for(retention: Duration) -> String {
    as_owner(&format!("UPDATE pingeon.setting SET value = '{} seconds' WHERE name = 'retention';", retention.as_secs()))
}

fn as_owner(sql: &str) -> String {
    format!("SET LOCAL ROLE pingeon_owner;\n{sql}\nRESET ROLE;\n")
}

fn checksum(sql: &str) -> String {
    digest(&SHA256, sql.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn run(transaction: &mut Transaction<'_>, name: &str, sql: &str) -> Result<(), String> {
    transaction.batch_execute(sql).map_err(|error| {
        let Some(said) = error.as_db_error() else { return sentence(&error) };
        let advice = match (said.hint(), said.code().code()) {
            (Some(hint), _) => format!(": {hint}"),
            (None, "42501") => format!(": {AS_WHOM}"),
            (None, "25006") => ": name the primary with `--url`".to_owned(),
            (None, _) => String::new(),
        };
        format!("{name}: {} (SQLSTATE {}){advice}", said.message(), said.code().code())
    })
}

const AS_WHOM: &str = "name a superuser, or an owner of the database who may create roles, with `--url`";

/// What the books say: for each file its number and its checksum.
fn applied(transaction: &mut Transaction<'_>) -> Result<Vec<(i32, String)>, String> {
    run(transaction, BOOKS.0, "SET LOCAL ROLE pingeon_owner")?;
    // Not prepared: a pooler may be in the way of that.
    let rows = transaction
        .query_typed("SELECT version, checksum FROM pingeon.migration ORDER BY version", &[])
        .map_err(|error| sentence(&error))?;
    run(transaction, BOOKS.0, "RESET ROLE")?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Whether what was applied is what this build would have applied.
fn check(applied: &[(i32, String)]) -> Result<(), String> {
    if let Some((version, _)) = applied.last() {
        newer(*version)?;
    }
    for ((version, sum), (name, sql)) in applied.iter().zip(MIGRATIONS) {
        if *sum != checksum(sql) {
            return Err(format!(
                "`sql/postgres/{name}` was edited after it was applied to this store as migration {version}: use a build that \
                 has it as it was, and put the change into a new file"
            ));
        }
    }
    Ok(())
}

/// The version of the store's schema; 0 where no migration was applied.
pub(super) fn version(client: &mut Client) -> Result<i32, postgres::Error> {
    client.query_typed_one("SELECT coalesce(pingeon.schema_version(), 0)", &[]).map(|row| row.get(0))
}

/// Whether this build works with a schema of `version`.
///
/// # Errors
/// Why not, and what to do.
pub(super) fn usable(version: i32) -> Result<(), String> {
    newer(version)?;
    let known = known();
    if version < known {
        return Err(format!(
            "the store's schema is version {version} and this build needs {known}: run `pingeon migrate`"
        ));
    }
    Ok(())
}

fn newer(version: i32) -> Result<(), String> {
    let known = known();
    if version > known {
        return Err(format!(
            "the store's schema is version {version}, made by a newer Pingeon, and this build knows up to {known}: upgrade \
             Pingeon here, too"
        ));
    }
    Ok(())
}

fn known() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}
