//! The schema: numbered files in `sql/postgres/`, each applied once, in one transaction, under an advisory lock. The table
//! `pingeon.migration` says which were, with a checksum each, so that a file that was edited afterwards is noticed.

use postgres::{Client, Config, NoTls};
use ring::digest::{SHA256, digest};

/// The files, from nothing on.
const MIGRATIONS: &[(&str, &str)] = &[("001_log.sql", include_str!("../../../sql/postgres/001_log.sql"))];

/// What has to be there before the first of them: where they are noted.
const BOOKS: &str = include_str!("../../../sql/postgres/000_migration.sql");

/// The SQL that makes the schema, from nothing on.
pub fn schema() -> String {
    let scripts: Vec<String> = (0..MIGRATIONS.len()).map(script).collect();
    format!("BEGIN;\n{BOOKS}\n{}\nCOMMIT;\n", scripts.join("\n"))
}

/// One file, and its line in the books.
fn script(nth: usize) -> String {
    let (name, sql) = MIGRATIONS[nth];
    let (version, sum) = (nth + 1, checksum(sql));
    format!("{sql}\nINSERT INTO pingeon.migration (version, name, checksum) VALUES ({version}, '{name}', '{sum}');\n")
}

fn checksum(sql: &str) -> String {
    digest(&SHA256, sql.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Brings the schema up to date; how many files that took.
///
/// # Errors
/// A sentence for people.
pub fn migrate(config: &Config) -> Result<usize, String> {
    let mut client = config.connect(NoTls).map_err(|error| error.to_string())?;
    apply(&mut client).map_err(|error| error.to_string())
}

fn apply(client: &mut Client) -> Result<usize, postgres::Error> {
    let mut transaction = client.transaction()?;
    transaction.batch_execute(BOOKS)?;
    let done = transaction.query("SELECT version, name, checksum FROM pingeon.migration ORDER BY version", &[])?;
    for nth in done.len()..MIGRATIONS.len() {
        transaction.batch_execute(&script(nth))?;
    }
    transaction.commit()?;
    Ok(MIGRATIONS.len() - done.len())
}

/// The version of the store's schema.
pub(super) fn version(client: &mut Client) -> Result<i32, postgres::Error> {
    client.query_typed_one("SELECT pingeon.schema_version()", &[]).map(|row| row.get(0))
}

/// Whether this build works with a schema of `version`.
///
/// # Errors
/// Why not, and what to do.
pub(super) fn usable(version: i32) -> Result<(), String> {
    let known = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    match version {
        version if version < known => {
            Err(format!("the store's schema is version {version} and this build needs {known}: run `pingeon migrate`"))
        }
        version if version > known => Err(format!(
            "the store's schema was made by a newer Pingeon: version {version}, and this build knows up to {known}"
        )),
        _ => Ok(()),
    }
}
