//! The command line: what may be typed, and nothing of what is done about it.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Checks whether things are up, from many small machines, and never lies about it.
#[derive(Debug, Parser)]
#[command(
    name = "pingeon",
    version,
    after_help = "Exit codes: 0 done, 1 the work failed, 2 the command line or config is wrong."
)]
pub struct Cli {
    /// The config [default: pingeon.yaml in the working directory, else /etc/pingeon/pingeon.yaml]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run all that the config names, in one process
    ///
    /// Checks run on time, and their logs go by way of the spool to the store, or to Kafka where the config has a `queue`; where it
    /// has a `store` beside that, logs go on from Kafka into it. Runs until it is told to stop; messages go to standard error.
    Run,
    /// Run the agent half only: checks → spool → queue
    ///
    /// What there is on each of many small machines. Where the config has no `queue`, logs stay in the spool.
    Produce,
    /// Run the consumer half only: queue → store
    ///
    /// What there is at the centre. Several of them share the work, where their topic has several partitions. Where the config has no
    /// `queue`, it empties the spool.
    Consume,
    /// Run checks once, now, and print every phase and assertion; exit 0 when all are up or degraded, else 1
    Check {
        /// Which checks; all of them when none is named
        #[arg(value_name = "LABEL")]
        labels: Vec<String>,
        /// How to print the results
        #[arg(long, value_enum, default_value_t = CheckFormat::Human)]
        format: CheckFormat,
    },
    /// Read the config and print what it would run, or the problem with line and column; exit 0 or 2
    ///
    /// Nothing is asked of any target, broker or store. Files that the config names are read: what it includes, secrets and
    /// certificates.
    Validate,
    /// Print the effective config, defaults filled in, secrets hidden
    ///
    /// What it prints is a config again, with each check of a `for` on its own.
    Explain,
    /// Bring the store's schema up to date
    ///
    /// With SQLite, `run` does it by itself. In Postgres it makes the tables and two roles without passwords: `pingeon_writer`, for
    /// whoever consumes, and `pingeon_reader`, for whoever reports. Logs are kept for as long as the config's `retention` says; where
    /// it says nothing, that stays as it was. It may be run again at any time.
    ///
    /// With --print or --url the config need not be whole or there.
    Migrate {
        /// Only print the SQL
        #[arg(long)]
        print: bool,
        /// As whom to reach a Postgres store: an owner of the database who may create roles, or a superuser
        /// (postgresql://postgres@db.example.com/pingeon) [default: as the config says]
        #[arg(long, value_name = "URL")]
        url: Option<String>,
        /// What holds the password for --url
        #[arg(long, value_name = "FILE", requires = "url")]
        password_file: Option<PathBuf>,
    },
    /// Print uptime with its unknown share, latency percentiles and outages; or what of the logs was delivered
    ///
    /// `strained` counts the results that the agent itself may have slowed: its thread had no CPU for at least 1 ms and a tenth of
    /// what the check took.
    #[command(after_help = "Exit codes: 0 done, 1 the work failed or, with --delivery, logs are missing, \
        2 the command line or config is wrong.")]
    Report(Report),
}

/// What to report, of what and how.
#[derive(Debug, Args)]
pub struct Report {
    /// Which checks; all of them when none is named
    #[arg(value_name = "LABEL")]
    pub labels: Vec<String>,
    /// From when: how long ago (90m, 24h, 7d) or a time (2026-11-24T10:00:00Z)
    #[arg(long, value_name = "WHEN", default_value = "24h")]
    pub since: String,
    /// One line for each check, over all agents: down only while at least so many of them say so
    #[arg(long, value_name = "AGENTS", value_parser = quorum)]
    pub quorum: Option<NonZeroUsize>,
    /// Sum up whole hours out of roll-ups, from the one that WHEN lies in on: fast for long ranges; percentiles are
    /// estimates, outages are left out, and a log counts for its whole interval even where the next one came earlier
    #[arg(long, conflicts_with = "quorum")]
    pub rollup: bool,
    /// Instead, audit the delivery: of each run of an agent that has logs due or rejected since WHEN, which ones are stored,
    /// rejected, duplicate or missing; exit 0 when none is missing, else 1
    #[arg(long, conflicts_with_all = ["labels", "rollup", "quorum"])]
    pub delivery: bool,
    /// How to reach a store in Postgres, and as whom, e.g. postgresql://pingeon_reader@db.example.com/pingeon [default: as the
    /// config says]
    #[arg(long)]
    pub url: Option<String>,
    /// The file with the password for the URL
    #[arg(long, value_name = "FILE", requires = "url")]
    pub password_file: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,
}

fn quorum(typed: &str) -> Result<NonZeroUsize, &'static str> {
    typed.parse().map_err(|_| "expected a number of agents, from 1 on")
}

/// How `check` prints its results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// For people.
    Human,
    /// One log a line.
    Json,
}

/// How `report` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// Comma-separated values with a header (RFC 4180).
    Csv,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
