//! pingeon(1): the command line from its own definition, so that the page says what `--help` does; around it, what a process
//! does beyond its command line.

use clap::builder::PossibleValue;
use clap::{Arg, Command};

use super::roff::Page;

/// The page, of a release of `date`.
pub fn page(mut cli: Command, date: &str) -> String {
    cli.build();
    let mut page = Page::new("PINGEON", 1, date, "User Commands");
    page.heading("NAME");
    page.text("pingeon - checks whether things are up, from many small machines, and never lies about it");
    page.heading("SYNOPSIS");
    page.text("`pingeon` [`-c` *FILE*] *COMMAND* [*OPTION* …] [*LABEL* …]");
    description(&mut page);
    page.heading("OPTIONS");
    cli.get_arguments().for_each(|argument| option(&mut page, argument));
    page.heading("COMMANDS");
    cli.get_subcommands().filter(|command| command.get_name() != "help").for_each(|it| command(&mut page, it));
    surroundings(&mut page);
    page.done()
}

fn description(page: &mut Page) {
    page.heading("DESCRIPTION");
    page.text(
        "Pingeon runs checks on time, keeps every result durably, and says afterwards what is known and what is not. \
         What to check, and where results go, is in one file; see `pingeon.yaml`(5).",
    );
    page.paragraph(
        "A *check* looks at one target once. What came of it is a *log*, with one of these verdicts: `up`; `degraded`, which \
         works, but past a limit that was set; `down`; `unknown`, where the check could not judge its target; and `missed`, \
         for checks that were due and did not run. A check that failed names the phase it failed in: `resolve`, `connect`, \
         `tls`, `send`, `first_byte`, `body` or `assert`.",
    );
    page.paragraph(
        "Logs are kept in the *spool*, a bounded queue on the disk of the agent, and go from there to the *store* (SQLite or \
         Postgres), by way of Kafka where the config has a `queue`. Each leaves one place only after the next one has it, and \
         the store keeps it once.",
    );
}

/// So many options of a command stand beside its name; of more, each is told below alone.
const OPTIONS_SHOWN: usize = 3;

/// A command: how it is typed, what it does, and its own options.
fn command(page: &mut Page, command: &Command) {
    let own = || command.get_arguments().filter(|argument| !argument.is_global_set() && !is_help(argument));
    let (positional, options): (Vec<_>, Vec<_>) = own().partition(|argument| argument.is_positional());
    let mut usage: Vec<String> = options.into_iter().map(typed).collect();
    if usage.len() > OPTIONS_SHOWN {
        usage = vec!["*OPTION* …".to_owned()];
    }
    usage.extend(positional.into_iter().map(typed));
    let usage: String = usage.iter().map(|typed| format!(" [{typed}]")).collect();
    page.subheading(&format!("`{}`{usage}", command.get_name()));
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    for (nth, text) in paragraphs(&about).enumerate() {
        if nth == 0 { page.text(&text) } else { page.paragraph(&text) }
    }
    own().for_each(|argument| option(page, argument));
    // The exit codes of all commands are told once, below.
    if let Some(after) = command.get_after_help() {
        page.paragraph(&sentence(&after.to_string()));
    }
}

/// An option or argument with its help.
fn option(page: &mut Page, argument: &Arg) {
    let mut tag = typed(argument);
    if let (Some(short), Some(_)) = (argument.get_short(), argument.get_long()) {
        tag = format!("`-{short}`, {tag}");
    }
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    // A default that is no single value stands in the help itself.
    let (help, prose) = match help.strip_suffix(']').and_then(|help| help.split_once(" [default: ")) {
        Some((help, default)) => (help.to_owned(), Some(default)),
        None => (help, None),
    };
    let mut text = paragraphs(&help).collect::<Vec<_>>().join(" ");
    let takes_value = argument.get_action().takes_values();
    let values: Vec<String> = argument.get_possible_values().iter().filter(|_| takes_value).map(value).collect();
    if !values.is_empty() {
        text += &format!(" {}.", values.join("; "));
    }
    let typed = argument.get_default_values().iter().filter(|_| takes_value).map(|value| value.to_string_lossy());
    let typed = typed.map(|value| format!("`{value}`")).next();
    if let Some(default) = typed.or(prose.map(str::to_owned)) {
        text += &format!(" Default: {default}.");
    }
    page.tagged(&tag, &text);
}

/// One of the words that an option takes: `json`: one log a line.
fn value(value: &PossibleValue) -> String {
    let help = value.get_help().map(ToString::to_string).unwrap_or_default();
    let mut letters = help.chars();
    let first = letters.next().map(|first| first.to_lowercase().to_string()).unwrap_or_default();
    format!("`{}`: {first}{}", value.get_name(), letters.as_str())
}

/// As it is typed: `--since` WHEN, LABEL ….
fn typed(argument: &Arg) -> String {
    let name = || argument.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    match argument.get_long() {
        Some(long) if argument.get_action().takes_values() => format!("`--{long}` *{}*", name()),
        Some(long) => format!("`--{long}`"),
        None => format!("*{}* …", name()),
    }
}

fn is_help(argument: &Arg) -> bool {
    argument.get_id() == "help"
}

/// The paragraphs of a help text, each as sentences.
fn paragraphs(help: &str) -> impl Iterator<Item = String> {
    help.split("\n\n").map(sentence)
}

/// Help texts have no final period.
fn sentence(text: &str) -> String {
    let text = text.trim();
    if text.ends_with(['.', ':', ']']) { text.to_owned() } else { format!("{text}.") }
}

fn surroundings(page: &mut Page) {
    page.heading("EXIT STATUS");
    page.tagged("`0`", "Done. `check`: all are up or degraded. `report --delivery`: no log is missing.");
    page.tagged("`1`", "The work failed. `check`: some are down or unknown. `report --delivery`: logs are missing.");
    page.tagged(
        "`2`",
        "The command line or the config is wrong. Standard error says where, and mostly what was meant.",
    );
    page.heading("SIGNALS");
    page.text("To `run`, `produce` and `consume`:");
    page.tagged(
        "`SIGTERM`, `SIGINT`",
        "Stop. Checks that run end within their timeouts, and what they found is kept; what the store or Kafka does not take \
         within a few seconds stays in the spool. A second signal stops at once.",
    );
    page.tagged(
        "`SIGHUP`",
        "Read the config again and take up `checks` and `defaults`. Checks that did not change go on; what else has changed waits \
         for a restart. A config that is wrong is reported, and the old one stays.",
    );
    page.heading("ENVIRONMENT");
    page.text("The config takes any variable as `${NAME}`. Besides:");
    for (name, text) in ENVIRONMENT {
        page.tagged(name, text);
    }
    page.heading("FILES");
    for (name, text) in FILES {
        page.tagged(name, text);
    }
    page.heading("EXAMPLES");
    for (nth, (what, typed)) in EXAMPLES.iter().enumerate() {
        if nth == 0 {
            page.text(what)
        } else {
            page.paragraph(what)
        }
        page.example(typed);
    }
    page.heading("SEE ALSO");
    page.text("`pingeon.yaml`(5), `systemctl`(1), `journalctl`(1)");
}

const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "`http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`",
        "Through what `http` checks go that do not set `proxy`, and where to they go straight. In capitals, too.",
    ),
    (
        "`SSL_CERT_FILE`, `SSL_CERT_DIR`",
        "Authorities to trust instead of the system's, where the config names none: a PEM file, and folders of them.",
    ),
    ("`NO_COLOR`", "Set to anything, it keeps `check` and `report` from using colour. They use it on terminals only."),
    ("`JOURNAL_STREAM`", "Set by systemd: messages go to its journal, so they carry no time of their own."),
    (
        "`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`",
        "Set by systemd, which is told there that the process is ready and alive.",
    ),
];

const FILES: &[(&str, &str)] = &[
    ("`pingeon.yaml`", "The config, where the working directory has one."),
    ("`/etc/pingeon/pingeon.yaml`", "The config otherwise."),
    (
        "`spool.db`",
        "Logs on their way, beside the config unless `spool.path` says otherwise. One process may use it at a time.",
    ),
    ("`pingeon.db`", "Logs that arrived, beside the spool unless `store.sqlite.path` says otherwise."),
];

const EXAMPLES: &[(&str, &str)] = &[
    ("Is the config right, and what would run?", "pingeon validate"),
    ("Run two checks now, and see every phase:", "pingeon check shop db"),
    ("What was down in the last week?", "pingeon report --since 7d"),
    ("What of each agent's logs has arrived?", "pingeon report --delivery --since 24h"),
    (
        "Make the schema in Postgres, as its owner, and read it as somebody who may only read:",
        "pingeon migrate --url postgresql://postgres@db.example.com/pingeon\n\
         pingeon report --url postgresql://pingeon_reader@db.example.com/pingeon",
    ),
];
