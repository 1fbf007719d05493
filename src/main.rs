//! Arguments → config → command; the only file that prints to the terminal and picks an exit code.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;
use crossbeam_channel::RecvTimeoutError;
use log::{Level, LevelFilter};

use pingeon::check::show::show;
use pingeon::check::{Check, Verdict};
use pingeon::cli::{self, CheckFormat, Cli, Command, ReportFormat};
use pingeon::clock::{Clock, SystemClock};
use pingeon::config::{self, Config, ConfigError, Outline};
use pingeon::logs::{Author, Log};
use pingeon::net::Net;
use pingeon::produce;
use pingeon::produce::Checked;
use pingeon::report::{self, Planned, View, delivery};
use pingeon::run::{Halves, run};
use pingeon::store::{self, Archive};
use pingeon::systemd::{Journal, Manager, is_journal, priority};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match command(&cli) {
        Ok(code) => code,
        Err(Failure { code, message, hint }) => {
            // Where standard error is gone too, the exit code is all that is left.
            let prefix = if to_the_journal() { priority(Level::Error) } else { "" };
            let _ = writeln!(io::stderr(), "{prefix}error: {message}");
            if let Some(hint) = hint {
                let _ = writeln!(io::stderr(), "{prefix}hint: {hint}");
            }
            ExitCode::from(code)
        }
    }
}

/// Why a command did not do what it was asked to.
struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
}

/// The work failed.
const FAILED: u8 = 1;
/// The command line or the config is wrong.
const UNUSABLE: u8 = 2;

impl Failure {
    fn work(message: impl Into<String>) -> Self {
        Failure { code: FAILED, message: message.into(), hint: None }
    }

    fn usage(message: impl Into<String>, hint: Option<String>) -> Self {
        Failure { code: UNUSABLE, message: message.into(), hint }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.message(), error.hint().map(str::to_owned))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::work(format!("cannot write to standard output: {error}"))
    }
}

fn command(cli: &Cli) -> Result<ExitCode, Failure> {
    match &cli.command {
        // What need not be reached, or is by a URL, needs no config.
        Command::Migrate { print: true, .. } => return print(&schema(outline(cli)?)),
        Command::Migrate { url: Some(url), password_file, .. } => {
            let outline = outline(cli)?;
            return migrate(&reached_by(cli, outline, url, password_file.as_deref())?, retention(outline));
        }
        Command::Report(asked) if let Some(url) = &asked.url => {
            let outline = outline(cli)?;
            let store = reached_by(cli, outline, url, asked.password_file.as_deref())?;
            let config = outline.filter(|_| !asked.delivery).and_then(|_| if_usable(cli, read));
            return report(&store, config.as_ref(), asked);
        }
        _ => {}
    }
    let path = config::find(cli.config.as_deref())?;
    let config = read(&path)?;
    match &cli.command {
        Command::Run => serve(config, &path, Halves { produce: true, consume: true }),
        Command::Produce => serve(config, &path, Halves { produce: true, consume: false }),
        Command::Consume if config.store.is_none() => {
            let hint = "add `store: {sqlite: {}}`".to_owned();
            Err(Failure::usage("the config names a queue and no store: there is nowhere to consume to", Some(hint)))
        }
        Command::Consume => serve(config, &path, Halves { produce: false, consume: true }),
        Command::Check { labels, format } => check(&config, labels, *format),
        Command::Validate => print(&config::summary(&config, SystemClock.now().wall)),
        Command::Explain => print(&config::explain(&config)),
        Command::Migrate { .. } => match the_store(&config)? {
            store @ config::Store::Postgres(settings) => migrate(store, Some(settings.retention)),
            store @ config::Store::Sqlite(_) => migrate(store, None),
        },
        Command::Report(asked) => report(the_store(&config)?, Some(&config), asked),
    }
}

fn read(path: &Path) -> Result<Config, ConfigError> {
    config::load(path, &|name| std::env::var(name).ok())
}

/// What `read` finds in the config, for what goes without it, too.
fn if_usable<T>(cli: &Cli, read: fn(&Path) -> Result<T, ConfigError>) -> Option<T> {
    let path = config::find(cli.config.as_deref()).ok()?;
    let found = read(&path).inspect_err(|error| {
        let _ = writeln!(io::stderr(), "warning: goes on without the config: {}", error.message());
    });
    found.ok()
}

fn serve(config: Config, path: &Path, halves: Halves) -> Result<ExitCode, Failure> {
    start_logging(config.log_level);
    let read_again = || read(path).map_err(|error| error.to_string().replace('\n', "; "));
    let manager = Manager::named_by(&|name| std::env::var_os(name), std::process::id());
    run(config, halves, &read_again, manager).map_err(Failure::work)?;
    Ok(ExitCode::SUCCESS)
}

/// Messages go to standard error, or to the journal.
fn start_logging(level: LevelFilter) {
    let mut form = simplelog::ConfigBuilder::new();
    form.set_time_format_rfc3339().set_target_level(LevelFilter::Off).set_location_level(LevelFilter::Off);
    // Ours alone: what libraries say of a request may hold what a user keeps secret.
    form.set_thread_level(LevelFilter::Off).add_filter_allow_str("pingeon");
    let logger: Box<dyn log::Log> = if to_the_journal() {
        Box::new(Journal { level, stream: Mutex::new(io::stderr()) })
    } else {
        simplelog::WriteLogger::new(level, form.build(), io::stderr())
    };
    log::set_max_level(level);
    // It fails only when a logger is set already, and none is.
    let _ = log::set_boxed_logger(logger);
    // A panic is reported by whoever catches it, with what it was about; here it only says where it was.
    std::panic::set_hook(Box::new(|panic| log::debug!("{panic}")));
}

fn to_the_journal() -> bool {
    is_journal(io::stderr(), std::env::var_os("JOURNAL_STREAM"))
}

/// Runs checks once, now.
fn check(config: &Config, labels: &[String], format: CheckFormat) -> Result<ExitCode, Failure> {
    let checks = named(config, labels)?;
    if checks.is_empty() {
        return Err(Failure::usage("there are no checks in the config", Some("add one under `checks:`".to_owned())));
    }
    std::panic::set_hook(Box::new(|_| {}));
    let author = Author::new(config.agent.clone(), SystemClock.now().wall);
    let net = match format {
        CheckFormat::Human => Net::system().watched(),
        CheckFormat::Json => Net::system(),
    };
    let results = produce::once(&checks, config.network_gate.clone(), &Arc::new(net)).map_err(Failure::work)?;
    let progress = Progress::new("checks done", Some(checks.len()));
    // Shown in the config's order: what is ready early waits for those before it.
    let (mut ready, mut shown, mut all_up) = (BTreeMap::new(), 0, true);
    while shown < checks.len() {
        match results.recv_timeout(Progress::EVERY) {
            Ok(checked) => drop(ready.insert(checked.place, checked)),
            Err(RecvTimeoutError::Timeout) => progress.show(shown + ready.len()),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::work("a thread that runs checks has ended early"));
            }
        }
        while let Some(checked) = ready.remove(&shown) {
            progress.clear();
            all_up &= matches!(checked.outcome.verdict, Verdict::Up | Verdict::Degraded);
            print(&checked_text(&author, &checks[shown], shown, checked, format))?;
            shown += 1;
        }
    }
    Ok(if all_up { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn checked_text(author: &Author, check: &Check, place: usize, checked: Checked, format: CheckFormat) -> String {
    let Checked { due_at, ran, outcome, .. } = checked;
    match format {
        CheckFormat::Human => show(check, &outcome, ran.took, colour()),
        CheckFormat::Json => {
            let mut log = Log::ran(author, check, due_at, ran, outcome);
            log.seq = place as u64 + 1;
            format!("{}\n", String::from_utf8_lossy(&log.to_json()))
        }
    }
}

/// The checks that were named, in the config's order; all of them when none was.
fn named(config: &Config, labels: &[String]) -> Result<Vec<Arc<Check>>, Failure> {
    for label in labels {
        if !config.checks.iter().any(|check| *check.label == **label) {
            let known: Vec<&str> = config.checks.iter().map(|check| &*check.label).collect();
            return Err(unknown_label(label, &known));
        }
    }
    let wanted = |check: &&Arc<Check>| labels.is_empty() || labels.iter().any(|label| **label == *check.label);
    Ok(config.checks.iter().filter(wanted).cloned().collect())
}

fn unknown_label(label: &str, known: &[&str]) -> Failure {
    let hint = config::nearest(label, known).map(|near| format!("did you mean `{near}`?"));
    Failure::usage(format!("no check has the label `{label}`"), hint)
}

fn the_store(config: &Config) -> Result<&config::Store, Failure> {
    config.store.as_ref().ok_or_else(|| Failure::usage("the config names no store", None))
}

/// What the config says of the store. Unless it was named, it may be missing, or another's.
fn outline(cli: &Cli) -> Result<Option<Outline>, Failure> {
    let read = |path: &Path| config::outline(path, &|name| std::env::var(name).ok());
    Ok(match &cli.config {
        Some(named) => Some(read(named)?),
        None => if_usable(cli, read),
    })
}

/// How long a config has Postgres keep logs, where it says so.
fn retention(outline: Option<Outline>) -> Option<Duration> {
    outline.and_then(|outline| if let Outline::Postgres(retention) = outline { retention } else { None })
}

fn schema(outline: Option<Outline>) -> String {
    match outline {
        Some(Outline::Sqlite) => store::sqlite::schema(),
        Some(Outline::Postgres(_)) | None => store::postgres::schema(retention(outline)),
    }
}

/// Brings the store's schema up to date. In Postgres the owner keeps logs for `retention` from then on (`None`: as before).
fn migrate(store: &config::Store, retention: Option<Duration>) -> Result<ExitCode, Failure> {
    let made = match store {
        config::Store::Postgres(settings) => {
            match store::postgres::migrate(settings, retention).map_err(Failure::work)? {
                0 => ", and was before".to_owned(),
                files => format!(" by {files} migration{} that it lacked", if files == 1 { "" } else { "s" }),
            }
        }
        config::Store::Sqlite(_) => {
            store::sink(store).map_err(Failure::work)?;
            String::new()
        }
    };
    print(&format!("the store's schema is up to date{made}\n"))
}

/// The store in Postgres that `url` reaches. Both this and a config with another store cannot be meant, if both were named.
fn reached_by(
    cli: &Cli,
    outline: Option<Outline>,
    url: &str,
    password_file: Option<&Path>,
) -> Result<config::Store, Failure> {
    if outline == Some(Outline::Sqlite) && cli.config.is_some() {
        return Err(Failure::usage("`--url` is for Postgres, and the config's store is a file", None));
    }
    Ok(config::Store::Postgres(config::postgres_at(url, password_file)?))
}

fn report(store: &config::Store, config: Option<&Config>, asked: &cli::Report) -> Result<ExitCode, Failure> {
    if asked.delivery { audit(store, asked) } else { tell(store, config, asked) }
}

/// Prints what the store knows of the named checks; of those in the config and in the store when none is named.
fn tell(store: &config::Store, config: Option<&Config>, asked: &cli::Report) -> Result<ExitCode, Failure> {
    let (checks, windows) = config.map_or((&[][..], &[][..]), |config| (&config.checks, &config.maintenance));
    let now = SystemClock.now().wall;
    let from = report::parse_since(&asked.since, now).map_err(|wrong| Failure::usage(wrong, None))?;
    let range = if asked.rollup { report::whole_hours(from, now) } else { Ok((from, now)) };
    let range = range.map_err(|wrong| Failure::usage(wrong, None))?;
    let mut archive = store::archive(store).map_err(Failure::work)?;
    let archive = archive.as_mut();
    let known = known_to(archive, checks)?;
    if let Some(label) = asked.labels.iter().find(|label| !known.iter().any(|known| **known == ***label)) {
        let known: Vec<&str> = known.iter().map(|label| &**label).collect();
        return Err(unknown_label(label, &known));
    }
    let planned = Planned::of(windows, (range.0, now)).map_err(|wrong| Failure::usage(wrong, None))?;
    let of_nobody = planned.of_nobody(&known);
    let is_wanted = |known: &Arc<str>| asked.labels.is_empty() || asked.labels.iter().any(|label| **label == **known);
    let wanted: Vec<Arc<str>> = known.into_iter().filter(is_wanted).collect();

    let confirms = checks.iter().map(|check| (check.label.clone(), check.confirm)).collect();
    let view = View { confirms, planned };
    let named = if asked.labels.is_empty() { &[] } else { &wanted[..] };
    let progress = Progress::new("logs read", None);
    let mut show = |read| progress.show(read);
    let report = match asked.quorum {
        Some(quorum) => report::agreed(archive, quorum, named, &wanted, range, &view.planned, &mut show),
        None if asked.rollup => report::rolled_up(archive, named, &wanted, range, now, &view.planned),
        None => report::summed_up(archive, named, &wanted, range, &view, &mut show),
    };
    let report = report.map_err(Failure::work)?;
    progress.clear();
    let left_in = view.planned.left_in(&wanted, range.1).filter(|_| asked.rollup);
    for warning in report::too_few_agents(&report).into_iter().chain(of_nobody).chain(left_in) {
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
    print(&match asked.format {
        ReportFormat::Table => report::table(&report, report::terminal_width(io::stdout()), colour()),
        ReportFormat::Json => report::json(&report),
        ReportFormat::Csv => report::csv(&report),
    })
}

/// The labels in the store and in the config, in order.
fn known_to(archive: &mut dyn Archive, checks: &[Arc<Check>]) -> Result<Vec<Arc<str>>, Failure> {
    let mut known = archive.labels().map_err(Failure::work)?;
    known.extend(checks.iter().map(|check| check.label.clone()));
    known.sort();
    known.dedup();
    Ok(known)
}

/// Prints what of the agents' logs the store has.
fn audit(store: &config::Store, asked: &cli::Report) -> Result<ExitCode, Failure> {
    let since =
        report::parse_since(&asked.since, SystemClock.now().wall).map_err(|wrong| Failure::usage(wrong, None))?;
    let runs = store::archive(store).and_then(|mut archive| archive.delivery(since)).map_err(Failure::work)?;
    print(&match asked.format {
        ReportFormat::Table => delivery::table(&runs, since, report::terminal_width(io::stdout()), colour()),
        ReportFormat::Json => delivery::json(&runs, since),
        ReportFormat::Csv => delivery::csv(&runs),
    })?;
    Ok(if delivery::missing(&runs) == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn print(text: &str) -> Result<ExitCode, Failure> {
    quiet_when_nobody_reads(io::stdout().write_all(text.as_bytes()))?;
    Ok(ExitCode::SUCCESS)
}

/// A reader that has seen enough (`| head`) is no failure.
fn quiet_when_nobody_reads(written: io::Result<()>) -> io::Result<()> {
    written.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

/// Colour is for terminals whose user has not declined it (no-color.org).
fn colour() -> bool {
    let declined = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !declined
}

/// How far something long has come: one line on a terminal's standard error, after a second.
struct Progress {
    what: &'static str,
    of: Option<usize>,
    since: Instant,
    shown: bool,
}

impl Progress {
    const AFTER: Duration = Duration::from_secs(1);
    const EVERY: Duration = Duration::from_millis(250);

    fn new(what: &'static str, of: Option<usize>) -> Self {
        Progress { what, of, since: Instant::now(), shown: io::stderr().is_terminal() }
    }

    fn show(&self, done: usize) {
        if self.shown && self.since.elapsed() > Self::AFTER {
            let of = self.of.map(|of| format!(" of {of}")).unwrap_or_default();
            let _ = write!(io::stderr(), "\r\x1b[K{done}{of} {}", self.what);
        }
    }

    fn clear(&self) {
        if self.shown && self.since.elapsed() > Self::AFTER {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
