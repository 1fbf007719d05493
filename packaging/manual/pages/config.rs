//! pingeon.yaml(5): what a config may hold, from the table of its keys.

use super::keys::{GROUPS, Key, Otherwise, Section, Takes};
use super::roff::Page;

/// The page, of a release of `date`.
pub fn page(date: &str) -> String {
    let mut page = Page::new("PINGEON.YAML", 5, date, "File Formats");
    page.heading("NAME");
    page.text("pingeon.yaml - what pingeon(1) checks, and where the results go");
    page.heading("SYNOPSIS");
    page.text("`./pingeon.yaml`, else `/etc/pingeon/pingeon.yaml`; or any file, by `-c` *FILE*");
    description(&mut page);
    values(&mut page);
    for (heading, sections) in GROUPS {
        page.heading(&heading.to_uppercase());
        sections.iter().for_each(|part| section(&mut page, part));
    }
    page.heading("EXAMPLES");
    for (nth, (what, yaml)) in EXAMPLES.iter().enumerate() {
        if nth == 0 {
            page.text(what)
        } else {
            page.paragraph(what)
        }
        page.example(yaml);
    }
    page.heading("SEE ALSO");
    page.text("`pingeon`(1)");
    page.done()
}

fn description(page: &mut Page) {
    page.heading("DESCRIPTION");
    page.text("The config of `pingeon`(1) is one YAML file, in UTF-8. The shortest that is of use names one check:");
    page.example(SHORTEST);
    page.paragraph(
        "`pingeon validate` says what is wrong with it, with line and column, and what was probably meant: a key that is not in here, \
         a value out of its bounds, a label used twice. `pingeon explain` prints all that is in effect, defaults filled in and \
         secrets hidden.",
    );
    page.paragraph(
        "A running process reads it again when it gets `SIGHUP`, as `systemctl reload pingeon` sends it, and takes up `checks` and \
         `defaults`; what else has changed waits for a restart. A config that is wrong is reported, and the old one stays.",
    );
}

fn values(page: &mut Page) {
    page.heading("VALUES");
    for (name, text) in VALUES {
        page.tagged(name, text);
    }
}

const VALUES: &[(&str, &str)] = &[
    ("*duration*", "A whole number and right behind it `ms`, `s`, `m`, `h` or `d`: `250ms`, `5m`."),
    (
        "*size*",
        "A whole number and right behind it `B`, `kB`, `MB`, `GB` (powers of 1,000), `KiB`, `MiB` or `GiB` (of 1,024): `256MiB`.",
    ),
    ("*path*", "A file. Unless it begins with `/`, it is relative to the config."),
    (
        "*secret*",
        "A text that is never shown. It is better kept out of the config: by the key with `_file` behind its name, which names the \
         file that holds it (up to 64 KiB; a line end at its end does not count), or by `${NAME}`.",
    ),
    (
        "*regex*",
        "A regular expression of Rust's `regex` crate: as Perl has them, without back references and look-around. It matches \
         anywhere unless `^` and `$` say otherwise.",
    ),
    ("*list*", "In brackets, `[a, b]`, or each on a line of its own behind `-`."),
    (
        "`${NAME}`",
        "In any text, what the environment variable of this name holds; `${NAME:-default}` where there may be none, and `$${` for \
         `${` itself.",
    ),
    (
        "quotes",
        "YAML wants them around texts that begin with one of `*&!%@{[|>` or a quote, hold a `:` before a space or a space before `#`, \
         or that would be a number, `true`, `false` or `null`.",
    ),
];

fn section(page: &mut Page, section: &Section) {
    page.subheading(section.title);
    page.text(section.about);
    section.keys.iter().for_each(|it| key(page, it));
}

fn key(page: &mut Page, key: &Key) {
    let value = match key.takes {
        Takes::Duration(..) => "*duration*".to_owned(),
        Takes::Size(..) => "*size*".to_owned(),
        Takes::Number(..) => "*number*".to_owned(),
        Takes::Percent => "*percent*".to_owned(),
        Takes::Truth => "`true` | `false`".to_owned(),
        Takes::Choice(words) if words.len() > 6 => "*word*".to_owned(),
        Takes::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" | "),
        Takes::Text(kind) => format!("*{kind}*"),
        Takes::List(of, _) => format!("[*{}*, …]", of.rsplit(' ').next().unwrap_or(of)),
        Takes::Part(_) => "{…}".to_owned(),
    };
    page.tagged(&format!("`{}:` {value}", key.name), key.does);
    let facts = [bounds(&key.takes), otherwise(&key.otherwise), more(key)].concat();
    if !facts.is_empty() {
        page.text(&facts);
    }
}

/// What a value must be, in a sentence, where there is more to say than its kind.
fn bounds(takes: &Takes) -> String {
    match takes {
        Takes::Duration(low, high) | Takes::Size(low, high) => format!("From `{low}` to `{high}`. "),
        Takes::Number(low, high) => format!("From {low} to {high}. "),
        Takes::Percent => "From `0%` to `100%`. ".to_owned(),
        Takes::Choice(words) if words.len() > 6 => format!("One of `{}`. ", words.join("`, `")),
        Takes::List(_, most) => format!("At most {}. ", thousands(*most)),
        Takes::Truth | Takes::Choice(_) | Takes::Text(_) | Takes::Part(_) => String::new(),
    }
}

fn otherwise(otherwise: &Otherwise) -> String {
    match otherwise {
        Otherwise::Needed(example) => format!("Needed; for example `{example}`. "),
        Otherwise::Default("''" | "[]") => "Default: none. ".to_owned(),
        Otherwise::Default(value) => format!("Default: `{value}`. "),
        Otherwise::Nothing => String::new(),
    }
}

/// A number for people: 100,000.
fn thousands(number: usize) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", thousands(number / 1_000), number % 1_000),
    }
}

/// Where to read on, where that is not right below.
fn more(key: &Key) -> String {
    let (Takes::Part(title) | Takes::List(title, _)) = key.takes else { return String::new() };
    let has_section = GROUPS.iter().flat_map(|(_, sections)| *sections).any(|section| section.title == title);
    if has_section { format!("See `{title}`.") } else { String::new() }
}

const SHORTEST: &str = "\
checks:
  - {label: shop, http: https://shop.example.com/health}";

const EXAMPLES: &[(&str, &str)] = &[
    (
        "One machine that checks, keeps and reports:",
        "\
agent: edge-01
defaults: {interval: 30s, timeout: 5s}
checks:
  - label: shop
    http: https://shop.example.com/health
    interval: 10s
    auth: {bearer: {token_file: secrets/shop}}
    expect:
      body: {json: {/status: up}}
      under: 800ms
      certificate_days: 14

  - {label: db, tcp: \"db.example.com:5432\", expect: {under: 100ms}}

  - label: mail
    tcp: mail.example.com:25
    dialogue: [{expect: \"^220 \"}, {send: \"QUIT\\r\\n\"}, {expect: \"^221 \"}]

  - label: web-{host}
    for: {host: [a.example.com, b.example.com]}
    http: https://{host}/

web: {listen: \"127.0.0.1:8087\"}",
    ),
    (
        "Certificates, where TLS is spoken from the start and where it is asked for (SMTP, IMAP, POP3, PostgreSQL), and each \
         address of a name:",
        "\
checks:
  - {label: imap, tls: \"mail.example.com:993\", expect: {certificate_days: 21, tls_version_min: 1.2}}

  - label: smtp
    tcp: mail.example.com:25
    dialogue: [{expect: \"^220 \"}, {send: \"EHLO pingeon\\r\\n\"}, {expect: \"^250[ -]STARTTLS\"},
      {send: \"STARTTLS\\r\\n\"}, {expect: \"^220 \"}, starttls, {send: \"EHLO pingeon\\r\\n\"}, {expect: \"^250 \"}]
    expect: {certificate_days: 21}

  - label: imap-starttls
    tcp: mail.example.com:143
    dialogue: [{expect: \"^[*] OK\"}, {send: \"a STARTTLS\\r\\n\"}, {expect: \"^a OK\"}, starttls]
    expect: {certificate_days: 21}

  - label: pop3-starttls
    tcp: mail.example.com:110
    dialogue: [{expect: \"^[+]OK\"}, {send: \"STLS\\r\\n\"}, {expect: \"^[+]OK\"}, starttls]
    expect: {certificate_days: 21}

  - label: postgres
    tcp: db.example.com:5432
    dialogue: [{send_hex: \"00000008 04d2162f\"}, {expect: \"^S\"}, starttls]
    expect: {certificate_days: 21}

  - {label: shop, http: https://shop.example.com/health, ip: each}",
    ),
    (
        "An agent that publishes to Kafka (`pingeon produce`):",
        "\
include: conf.d/*.yaml
queue:
  kafka:
    brokers: [\"kafka-1.example.com:9092\", \"kafka-2.example.com:9092\"]
    tls: {}
    sasl: {mechanism: SCRAM-SHA-512, username: pingeon, password_file: secrets/kafka}",
    ),
    (
        "The centre, which carries the topic into Postgres (`pingeon consume`):",
        "\
queue:
  kafka: {brokers: [\"kafka-1.example.com:9092\"], instance_id: centre-1}
store:
  postgres:
    url: postgresql://pingeon_writer@db.example.com/pingeon?sslmode=verify-full
    password_file: secrets/postgres",
    ),
];
