//! Every key of the config, for the page. `tests/manual.rs` holds all of it against what `config` reads: which keys there are,
//! what each takes, its bounds, its default, and what this build does not have yet.

use Otherwise::{Default, Needed, Nothing};
use Takes::{Choice, Duration, List, Number, Part, Percent, Size, Text, Truth};

/// A mapping of the config.
pub struct Section {
    /// Its heading.
    pub title: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// What may stand in it.
    pub keys: &'static [Key],
}

/// What may stand in a section.
pub struct Key {
    /// As it is typed.
    pub name: &'static str,
    /// What its value is.
    pub takes: Takes,
    /// What holds where it is absent.
    pub otherwise: Otherwise,
    /// What it does, in sentences.
    pub does: &'static str,
}

/// What a value is.
pub enum Takes {
    /// A duration from one to another.
    Duration(&'static str, &'static str),
    /// A size from one to another.
    Size(&'static str, &'static str),
    /// A whole number from one to another.
    Number(u64, u64),
    /// A share in percent.
    Percent,
    /// `true` or `false`.
    Truth,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A text of some kind: `URL`, `path`.
    Text(&'static str),
    /// A list of something, with at most so many entries.
    List(&'static str, usize),
    /// A mapping: what is in it, or the title of the section that tells.
    Part(&'static str),
}

/// What holds where a key is absent.
pub enum Otherwise {
    /// It has to be there; for example with this value.
    Needed(&'static str),
    /// The same as with this value.
    Default(&'static str),
    /// What the sentences say, or nothing.
    Nothing,
}

const fn key(name: &'static str, takes: Takes, otherwise: Otherwise, does: &'static str) -> Key {
    Key { name, takes, otherwise, does }
}

const IP: Key = key("ip", Choice(&["any", "v4", "v6", "each"]), Default("any"), IP_DOES);
const IP_DOES: &str = "Which addresses of the name to take. `any`: the first that accepts, in the order of the resolver; `v4`, \
     `v6`: likewise, of that family alone; `each`: all of them, one after the other, each with a fair share of the time, and each \
     by itself must pass. Up to 16; the `addresses` of the result have the verdict, the reason and the phases of each.";
const IP_FAMILY: Key = key(
    "ip",
    Choice(&["any", "v4", "v6"]),
    Default("any"),
    "Which address of the name to take: the first, in the order of the resolver; `v4`, `v6`: the first of that family.",
);
const CA_FILE: Key = key("ca_file", Text("path"), Nothing, "Trust these authorities, and none of the system's.");
const SERVER_NAME: Key =
    key("server_name", Text("name"), Nothing, "Ask for this name and verify it. Default: the host's.");
const CERT_FILE: Key = key(
    "cert_file",
    Text("path"),
    Nothing,
    "The certificate to show, with those between it and its authority. Needs `key_file`.",
);
const KEY_FILE: Key = key("key_file", Text("path"), Nothing, "Its key. Needs `cert_file`.");
const VERIFY: Key = key("verify", Truth, Default("true"), "`false`: whatever certificate the server shows will do.");
const RESUME: Key = key(
    "resume",
    Truth,
    Default("false"),
    "Whether sessions may be resumed, which is quicker and does not show the certificate again.",
);
const TLS_VERSION_MIN: Key = key(
    "tls_version_min",
    Choice(&["1.2", "1.3"]),
    Nothing,
    "An older version of TLS is `down`. None older than 1.2 is spoken.",
);
const CERTIFICATE_PINS: Key = key(
    "certificate_pins",
    List("pin", 10),
    Nothing,
    "The public key of the server's own certificate must be one of these, else the check is `down`: its SHA-256 in base64, as in \
     RFC 7469. `pingeon check` shows the one that is there now; name the next one too before it is changed.",
);
const CERTIFICATE_ISSUER: Key = key(
    "certificate_issuer",
    Part("conditions"),
    Nothing,
    "What the issuer of the server's own certificate must be, written as in `C=US, O=Let's Encrypt, CN=R3`.",
);
const UNDER: Key = key(
    "under",
    Duration("1ms", "1d"),
    Nothing,
    "Slower than this is `degraded`. No longer than the timeout, at which the check is down anyway.",
);
const CERTIFICATE_DAYS: Key = key(
    "certificate_days",
    Number(1, 3_650),
    Nothing,
    "With fewer days left on any certificate of the chain, the check is `degraded`.",
);

/// All of it, in the order of the page, under its headings.
#[rustfmt::skip]
pub const GROUPS: &[(&str, &[Section])] = &[
("The file", &[
    Section { title: "Top level", about: "The file is one mapping with these keys; none has to be there.", keys: &[
        key("agent", Text("text"), Nothing, "Who writes the logs: 1 to 200 bytes without control characters and `/`. Two agents need two names. Default: the host's name."),
        key("defaults", Part("defaults"), Nothing, "What each check gets unless it says otherwise."),
        key("checks", List("checks: entry", 100_000), Default("[]"), "What to look at."),
        key("include", Text("path or list of paths"), Nothing, "Files with more checks: each is a list of them, or a mapping with the one key `checks`. `*`, `?` and `[…]` stand for what a shell has them stand for, `**` for any folders; a pattern may match nothing. At most 10,000 files, taken in the order of their names, a pattern at a time."),
        key("network_gate", List("label", 5), Nothing, "Checks that tell whether the agent's own network works: a gateway, a host nearby, a resolver. When any check fails before it has an answer, these are looked at, for at most two seconds each. Where none of them gets through either, the result is `unknown` and not `down`, its reason begins with `own network`, and it holds what each of them said. That goes for these checks, too: name two that do not fail together."),
        key("maintenance", List("maintenance: window", 1_000), Default("[]"), "Time that reports count as planned: it is in no percentage, and outages in it say so. Checks go on in it, and logs stay as they are; so a window may be written down after it was."),
        key("spool", Part("spool"), Nothing, "The queue on the agent's disk."),
        key("queue", Part("queue"), Nothing, "Kafka, between agents and store. Without it logs go from the spool to the store of the same process."),
        key("store", Part("store"), Nothing, "Where logs end up. Default: SQLite beside the spool; with a `queue`, none, and the process only produces."),
        key("web", Part("web"), Nothing, "Where the process tells how it is. Default: nowhere."),
        key("log", Part("log"), Nothing, "What it says to standard error."),
    ]},
    Section { title: "maintenance: window", about: "Each has a name, how long it lasts, and one of `from`, `weekly` and `cron`.", keys: &[
        key("name", Text("text"), Needed("database upgrade"), "What it is called in reports: 1 to 200 bytes without control characters. Several may have one name."),
        key("labels", List("label", 1_000), Nothing, "The checks that it is of, by their labels or by patterns of them, in which `*`, `?` and `[…]` stand for what a shell has them stand for. At a centre these may be labels of other agents' checks. Default: all checks."),
        key("from", Text("time"), Nothing, "When it begins, if it comes once: RFC 3339, such as `2026-11-30T22:00:00Z`."),
        key("weekly", Text("days and time"), Nothing, "When it begins in each week: `sun 03:00`, `mon-fri 22:30`, `sat,sun 00:00`."),
        key("cron", Text("five fields"), Nothing, "When it begins, as crontab(5) has it: minute, hour, day of the month, month, day of the week, with lists, ranges, steps and names. Where neither of the two fields of days begins with `*`, a day that fits either of them counts."),
        key("for", Duration("1s", "31d"), Needed("2h"), "How long it lasts; no longer than until it comes again."),
        key("zone", Text("name"), Nothing, "Whose clocks `weekly` and `cron` go by: a zone of the system's time zone database (package tzdata), such as `Europe/Berlin`. A time that clocks skip counts with the offset from before, 02:30 as 03:30; of one that comes twice, the first counts. Where the hour is `*`, it comes in every hour that there is. Default: UTC."),
    ]},
    Section { title: "defaults", about: "What each check gets unless it says otherwise.", keys: &[
        key("interval", Duration("100ms", "1d"), Default("30s"), "How often a check runs."),
        key("timeout", Duration("10ms", "1d"), Default("5s"), "How long it may take; no longer than the interval."),
        key("confirm", Number(1, 100), Default("1"), "Results in a row that turn the state that is shown; or so many of the last so many, more than half of them: `3 of 5`."),
        key("workers_max", Number(1, 10_000), Default("256"), "Threads that may run checks at once. As many are started as are needed when every check runs to its timeout; `pingeon validate` says how many, and whether this bound is too low for that."),
    ]},
]),
("Checks", &[
    Section { title: "checks: entry", about: "Each is a mapping with a label, one of `http`, `steps`, `tcp`, `tls`, `icmp`, `dns` and `exec`, which makes it a check of that kind, and the kind's other keys. Every check may have:", keys: &[
        key("label", Text("text"), Needed("shop"), "What it is called in logs, in reports and on the command line: 1 to 200 bytes without control characters. No two checks have the same."),
        key("for", Part("variables"), Nothing, "Makes many checks of one entry, one for each combination: a mapping from up to 16 variables to lists of texts, such as `{host: [a, b], port: ['80', '443']}`. `{host: {file: hosts.txt}}` takes the values from a file: one a line (empty ones and those that begin with `#` are none), or a list in a `.json`. `{file: shops.csv}` takes a table, whose columns are variables: a CSV (RFC 4180) with a header, or a `.json` with a list of objects. Files are taken as they are, nothing in them is filled in; they are read again with the config. Everywhere in the entry `{name}` stands for the variable's value, and `{{` and `}}` for braces. Each variable has to be used, but for columns of a table."),
        key("interval", Duration("100ms", "1d"), Nothing, "How often it runs. It keeps its place within the interval over restarts, and never overlaps with itself. Default: that of `defaults`."),
        key("timeout", Duration("10ms", "1d"), Nothing, "How long all of it may take, redirects included; no longer than its interval. Past it the check is down. Default: that of `defaults`, or the interval where that is shorter."),
        key("confirm", Number(1, 100), Nothing, "Results in a row that turn the state that is shown, or `3 of 5` of them. `report` then lists as outages, and as the state of now, only what was confirmed (but with `--quorum` and `--rollup`); logs and shares of time are as they were. What could not be judged does not count. Default: that of `defaults`."),
    ]},
    Section { title: "http", about: "One request in HTTP/1.1 over a new connection, and what is expected of the answer. Nothing is sent twice.", keys: &[
        key("http", Text("URL"), Needed("https://shop.example.com/health"), "Whom to ask: `http` or `https`, without a user in it. With `ws` or `wss` it asks to go on as a WebSocket (RFC 6455): by GET without a body, and the status must be 101 and the answer a right one to the key that was sent; then it says goodbye. Where `headers` have `Sec-WebSocket-Protocol`, the server must take one of the subprotocols in it. Logs leave out its query, and what of its path came from the environment."),
        key("method", Text("method"), Default("GET"), "In capitals; any but `CONNECT`."),
        key("headers", Part("headers"), Nothing, "Sent beside `Host`, `User-Agent` and what else is needed: a mapping from names to texts of printable ASCII. `Content-Length` and `Transfer-Encoding` follow from the body."),
        key("body", Text("text"), Default("''"), "Sent as it is, up to 1 MiB; nothing where it is empty."),
        key("body_file", Text("path"), Nothing, "The file that holds the body instead: UTF-8, up to 1 MiB, sent byte for byte. `pingeon explain` does not show what is in it, and a log leaves it out where an answer repeats all of it."),
        key("auth", Part("auth"), Nothing, "Credentials. Redirects to another scheme, host or port get none."),
        key("redirects", Number(0, 20), Default("5"), "How many to follow; 0: a redirect is an answer like any other. One that would take the body to another scheme, host or port makes the check `down`."),
        key("redirects_allow", List("word", 2), Default("[]"), "Where redirects may lead that otherwise make the check `down`. `downgrade`: from `https` to `http`; `link_local`: to a link-local address (169.254.0.0/16, fe80::/10), or another at which clouds tell a machine its credentials. What counts is the address that would be connected to; through a proxy, which looks up names itself, only one that stands in the URL, and what ends in a number and is none. Redirects that stay at the check's own host are followed where that has such an address from the start."),
        key("proxy", Text("URL or word"), Default("environment"), "`none`, `environment`, or the URL of one, `http://host:port` or `socks5://host:port`, with `user:password@` where it asks for that. `environment`: what `http_proxy` and the like say; see `pingeon`(1)."),
        key("connect_to", Text("address"), Nothing, "Go to this address, with or without a port, and keep `Host` and the name in TLS."),
        IP,
        key("tls", Part("tls settings"), Nothing, "How to do TLS."),
        key("expect", Part("http: expect"), Nothing, "What the answer must be."),
    ]},
    Section { title: "steps", about: "Requests, one after the other, each over a new connection, where a later one may send what the answer to an earlier one held. The first that is `down` or `unknown` ends the check, and its reason names the step. The phases are sums over all steps; the `steps` of the result have the verdict, the reason, the phases and the status of each, and `null` for one that was not reached. There is no store of cookies: take what is needed out of `set-cookie`, and send it in `Cookie`.", keys: &[
        key("steps", List("steps: step", 20), Needed("[{http: 'https://shop.example.com/login'}]"), "What to ask, in turn; the timeout is for all of it. Logs name the URL of the first one as the target."),
        key("expect", Part("steps: expect"), Nothing, "What must hold of all steps together."),
    ]},
    Section { title: "steps: step", about: "All that an `http` check may have, but for `ip: each`; its `expect` is about this step alone. In its `http`, `headers`, `body` and `auth`, `{name}` stands for what a step before took by that name, the newest of several; `{{name}}` writes `{name}`, and other braces stay as they are (but with a `for`, whose variables come first). In the URL it may stand in path and query, and is percent-encoded; in a body whose `Content-Type` is `application/json` or ends in `+json`, or that begins with `{` or `[`, it is escaped as within a JSON text (the quotes around it are yours), in one whose `Content-Type` is `application/x-www-form-urlencoded` percent-encoded, and in any other it goes as it is. What a header cannot hold, such as a line break, is not sent: the step is `down`. A value is looked at once: braces in it mean nothing. Beside:", keys: &[
        key("name", Text("text"), Nothing, "What reasons and results call it, beside its number: 1 to 200 bytes without control characters."),
        key("take", Part("steps: take"), Nothing, "A mapping from names to where in the answer the value is, such as `{token: {json: /access_token}}`; 20 for all steps. A value is 1 byte to 8 KiB of UTF-8. Where there is none, the step is `down`. Values are secrets: neither logs nor `pingeon check` show them, also where a server repeats them."),
    ]},
    Section { title: "steps: take", about: "One of these; a header may have a `regex` beside.", keys: &[
        key("json", Text("pointer"), Nothing, "At this JSON pointer (RFC 6901) of the body: a text, a whole number, `true` or `false`."),
        key("regex", Text("regex"), Nothing, "In the body, or in the header: what the first group matches, or all that is matched where there is no group."),
        key("header", Text("text"), Nothing, "In this header of the answer; of several of the name, in the first one that matches."),
    ]},
    Section { title: "steps: expect", about: "", keys: &[UNDER, CERTIFICATE_DAYS] },
    Section { title: "auth", about: "One of:", keys: &[
        key("basic", Part("basic"), Nothing, "User and password (RFC 7617)."),
        key("bearer", Part("bearer"), Nothing, "A token (RFC 6750)."),
        key("oauth2", Part("oauth2"), Nothing, "A token that the check gets first, as a client for itself (RFC 6749, section 4.4)."),
    ]},
    Section { title: "basic", about: "", keys: &[
        key("user", Text("text"), Needed("probe"), "Without a colon."),
        key("password", Text("secret"), Nothing, "One of this and the next has to be there."),
        key("password_file", Text("path"), Nothing, "The file that holds it."),
    ]},
    Section { title: "bearer", about: "", keys: &[
        key("token", Text("secret"), Nothing, "One of this and the next has to be there."),
        key("token_file", Text("path"), Nothing, "The file that holds it."),
    ]},
    Section { title: "oauth2", about: "Checks for which all of this is equal share a token, in memory, until 30 seconds before it ends, or a tenth of its time where that is less; for 5 minutes where its server does not say when it ends. One check at a time gets a new one, the others wait. A target that answers 401 to it, and is not expected to, is `down`; the token is dropped, so that the next check gets a new one. Where no token is to be had nothing is known about the target: `unknown`, and the reason begins with `token from`. How long the token took is `token_us` of the result: that is part of no phase and of no `under`, but of the timeout and of the log's `duration_us`. The token's server is reached through the proxy that the environment names; its redirects are not followed, and its certificate does not count in `certificate_days`.", keys: &[
        key("token_url", Text("URL"), Needed("https://id.example.com/oauth2/token"), "Where to get it: an http or https URL without user and fragment."),
        key("client_id", Text("text"), Needed("pingeon"), "Who asks."),
        key("client_secret", Text("secret"), Nothing, "What proves it. One of this and the next has to be there."),
        key("client_secret_file", Text("path"), Nothing, "The file that holds it."),
        key("scope", Text("text"), Nothing, "What the token shall be good for, with spaces between; without it the server decides."),
        key("audience", Text("text"), Nothing, "For whom it shall be, where the server wants to know."),
        key("credentials", Choice(&["header", "body"]), Nothing, "Where client and secret go: as user and password in the header (without this key), or in the form."),
        key("tls", Part("tls settings"), Nothing, "How to do TLS with the token's server; the check's own `tls` is for the target alone."),
    ]},
    Section { title: "tls settings", about: "For `http`, `tcp` and `dns` checks and for Kafka; with `tls` checks they stand beside `tls`. All files are PEM, up to 1 MiB.", keys: &[
        CA_FILE,
        SERVER_NAME,
        CERT_FILE,
        KEY_FILE,
        VERIFY,
        RESUME,
    ]},
    Section { title: "http: expect", about: "All that is said must hold, else the check is `down`; but for the last two.", keys: &[
        key("status", List("status or range", 100), Default("[200-299]"), "Such as `[200-299, 401]`, each from 100 to 999."),
        key("headers", Part("headers"), Nothing, "A mapping from names to what each must be; see `conditions`."),
        key("body", Part("conditions"), Nothing, "What the body must be."),
        key("body_max", Size("1B", "64MiB"), Default("1MiB"), "Read no more of the body than this; what comes after is not looked at."),
        UNDER,
        CERTIFICATE_DAYS,
    ]},
    Section { title: "conditions", about: "What a text must be. At least one of these has to be said, and all that is must hold.", keys: &[
        key("contains", Text("text"), Nothing, "Must hold this."),
        key("equals", Text("text"), Nothing, "Must be exactly this."),
        key("not_contains", Text("text"), Nothing, "Must not hold this."),
        key("matches", Text("regex"), Nothing, "Must match this somewhere."),
        key("json", Part("values"), Nothing, "Of a body only: a mapping from JSON pointers (RFC 6901) to the values that must be there, such as `{/status: ok, /items/0: 7}`. An empty pointer is all of it."),
    ]},
    Section { title: "tcp", about: "A connection, and a dialogue over it.", keys: &[
        key("tcp", Text("host:port"), Needed("'db.example.com:5432'"), "Where to connect; an IPv6 address stands in brackets."),
        key("dialogue", List("tcp: step", 100), Default("[]"), "What to say and to hear, each step in turn. What is expected has to come within 64 KiB."),
        IP,
        key("tls", Part("tls settings"), Nothing, "How to do TLS, where a step is `starttls`."),
        key("expect", Part("tcp: expect"), Nothing, "How quick it must be, and what must hold of TLS."),
    ]},
    Section { title: "tcp: step", about: "A step is one of these, or the word `starttls`, from which on all is said in TLS; as the first step, from the start. What is left of the line that was matched before it is dropped; more plain text than that makes the check `down`.", keys: &[
        key("expect", Text("regex"), Nothing, "Read until it matches what came since the step before. `^` and `$` are those of any line."),
        key("send", Text("text"), Nothing, "Send it as it is; in double quotes, `\\r\\n` ends a line."),
        key("send_hex", Text("bytes"), Nothing, "Send these bytes, each in two hexadecimal digits, such as `'00000008 04d2162f'`."),
    ]},
    Section { title: "tcp: expect", about: "All but the first are for a dialogue with `starttls`.", keys: &[UNDER, TLS_VERSION_MIN, CERTIFICATE_PINS, CERTIFICATE_ISSUER, CERTIFICATE_DAYS] },
    Section { title: "tls", about: "A handshake, and the certificates that come with it, which are told also where they are refused. All that is wrong with them is: expired, not valid yet, for another name, of an unknown authority.", keys: &[
        key("tls", Text("host:port"), Needed("'mail.example.com:993'"), "Where to connect."),
        CA_FILE,
        SERVER_NAME,
        CERT_FILE,
        KEY_FILE,
        VERIFY,
        RESUME,
        IP,
        key("expect", Part("tls: expect"), Nothing, "What must hold."),
    ]},
    Section { title: "tls: expect", about: "", keys: &[UNDER, TLS_VERSION_MIN, CERTIFICATE_PINS, CERTIFICATE_ISSUER, CERTIFICATE_DAYS] },
    Section { title: "icmp", about: "Echo requests, as `ping`(8) sends them. What comes back must be what was sent. Where the kernel lets the agent's group send them (`net.ipv4.ping_group_range`) nothing else is needed, otherwise CAP_NET_RAW; without either the check is `unknown`.", keys: &[
        key("icmp", Text("host"), Needed("192.0.2.1"), "Whom to ask."),
        key("count", Number(1, 100), Default("1"), "How many requests: 200 ms apart, or closer, so that all are out within half of the timeout. Each may be answered until the timeout."),
        IP_FAMILY,
        key("expect", Part("icmp: expect"), Nothing, "What must hold."),
    ]},
    Section { title: "icmp: expect", about: "", keys: &[
        key("loss", Percent, Default("0%"), "More of them lost than this: `down`."),
        UNDER,
    ]},
    Section { title: "dns", about: "One question to a DNS server (RFC 1035). One that gets lost is not sent again. What comes by UDP from elsewhere, with another id or to another question is counted and ignored (RFC 5452).", keys: &[
        key("dns", Part("dns: question"), Needed("{name: example.com, type: A, server: '192.0.2.53'}"), "What to ask of whom."),
        key("ip", Choice(&["any", "v4", "v6"]), Default("any"), "Which addresses of a server's name to ask. `any`: one after the other until one answers; `v4`, `v6`: likewise, of that family alone."),
        key("tls", Part("tls settings"), Nothing, "How to do TLS, with `transport: tls`."),
        key("expect", Part("dns: expect"), Nothing, "What the answer must be."),
    ]},
    Section { title: "dns: question", about: "", keys: &[
        key("name", Text("name"), Needed("example.com"), "What to ask for, all of it: no domain is added. `.` is the root. For `PTR` an address will do."),
        key("type", Choice(&["A", "AAAA", "CAA", "CNAME", "DS", "MX", "NS", "PTR", "SOA", "SRV", "TLSA", "TXT"]), Needed("A"), "The kind of record."),
        key("server", Text("host, or list of hosts"), Nothing, "Whom to ask; the port is 53, or 853 for `tls`, unless it says otherwise: `192.0.2.53`, `ns1.example.com:5353`, `[2001:db8::53]:53`. Of a list of up to 8 each is asked, in a fair share of the time, and has to pass. Default: the servers that `/etc/resolv.conf` names are asked in turn until one answers, and that one is judged."),
        key("transport", Choice(&["udp", "tcp", "tls"]), Default("udp"), "How. `udp`: and once more by TCP where the answer was cut off; `tls`: DNS over TLS (RFC 7858)."),
        key("recursion", Truth, Default("true"), "Whether the server is to ask others for what it does not know."),
    ]},
    Section { title: "dns: expect", about: "All that is said must hold, else the check is `down`; but for the last two.", keys: &[
        key("rcode", Choice(&["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE"]), Default("NOERROR"), "The response code."),
        key("answers", Part("dns: answers"), Nothing, "What the answers must be: the records of the type that was asked for, also where aliases lead to them."),
        key("answers_min", Number(0, 1_000), Nothing, "How many answers there must be at least. Default: 1; or 0 with another `rcode` than `NOERROR`, or with `exactly`."),
        key("authority", Part("conditions"), Nothing, "The same of the records in the authority section, each as `example.com. NS ns1.example.com.`: one must be or hold what is said, and none what must not be."),
        key("authoritative", Truth, Nothing, "Whether the server has to speak for the zone itself (the flag AA), or must not. Default: either will do."),
        key("same_serial", Truth, Default("false"), "Whether all servers of the list must have the same serial number, with `type: SOA`."),
        UNDER,
        key("certificate_days", Number(1, 3_650), Nothing, "With fewer days left on any certificate of the chain, the check is `degraded`. With `transport: tls`."),
    ]},
    Section { title: "dns: answers", about: "What records hold, as `dig +short` prints it: `10 mail.example.com.`, with names in lower case and with their last dot. But the strings of a TXT record are joined, and in no quotes. At least one of these has to be said, and all that is must hold.", keys: &[
        key("contains", Text("text"), Nothing, "One of them must hold this."),
        key("equals", Text("text"), Nothing, "One of them must be this."),
        key("not_contains", Text("text"), Nothing, "None of them must hold this."),
        key("matches", Text("regex"), Nothing, "One of them must match this somewhere."),
        key("exactly", List("text", 1_000), Nothing, "They must be these, in whatever order, and no others; `[]`: there must be none."),
    ]},
    Section { title: "exec", about: "A monitoring plugin, one of hundreds: exit code 0 is `up`, 1 `degraded`, 2 `down`, and anything else `unknown`, a signal and a program that cannot be started included. The first line that it prints is the reason; what stands behind a `|` is performance data, which the log holds as `perfdata`. At the timeout its process group is killed (SIGKILL) and it is `down`; what it leaves running in that group when it ends is killed, too. It runs as the user of the agent, in `/`, with `/dev/null` to read. What a plugin says is taken at its word: `network_gate` does not look into it.", keys: &[
        key("exec", List("text", 1_000), Needed("[/usr/lib/nagios/plugins/check_disk, -w, 10%]"), "The program and its arguments; no shell is in between. A path is relative to the config, a name without `/` is looked up in its `PATH`. Other users of the machine can read arguments: secrets go into `env`."),
        key("env", Part("variables"), Nothing, "What its environment holds beside `LANG=C` and a `PATH` of the system's directories, or instead of these: a mapping from names to texts. Of the agent's own environment it gets nothing: `HOME: ${HOME}` passes one on."),
    ]},
]),
("Where logs go", &[
    Section { title: "spool", about: "A log counts as accepted once it is in here. One process may use a spool at a time.", keys: &[
        key("path", Text("path"), Default("spool.db"), "The file."),
        key("max_bytes", Size("1MiB", "1024GiB"), Default("256MiB"), "How large it may become."),
        key("when_full", Choice(&["thin", "drop_oldest", "block"]), Default("thin"), "What happens then. `thin`: logs with the verdict `up` between changes are dropped first, the oldest of them first; `drop_oldest`: the oldest are; `block`: none is, checks wait, and those that were due are `missed`. What is dropped is counted, and leaves its sequence numbers missing."),
        key("flush", Duration("10ms", "1m"), Default("1s"), "Logs are written to disk together, this often. That much may be lost when the power goes."),
    ]},
    Section { title: "queue", about: "", keys: &[
        key("kafka", Part("queue: kafka"), Needed("{brokers: ['kafka-1.example.com:9092']}"), "A Kafka cluster, 1.0 to 4.x."),
    ]},
    Section { title: "queue: kafka", about: "The topic has to exist. A log leaves the spool once every replica that has to has it.", keys: &[
        key("brokers", List("host:port", 100), Needed("['kafka-1.example.com:9092']"), "Whom to ask first; the others are learned from them."),
        key("topic", Text("text"), Default("pingeon.logs"), "1 to 249 letters, digits, `.`, `_` and `-`."),
        key("client", Choice(&["auto", "kafka-crate", "native"]), Default("auto"), "Which client to use. `native`: our own, for all that is said here; `kafka-crate`: the crate of that name, for brokers up to 3.9, without TLS, SASL, lz4 and shared partitions; `auto`: ask a broker, and say in the log which one was taken and why."),
        key("compression", Choice(&["none", "gzip", "snappy", "lz4"]), Default("lz4"), "How batches are compressed. With `client: kafka-crate` the default is `snappy`."),
        key("group", Text("text"), Default("pingeon"), "Consumers of one group share the partitions of the topic. Named as topics are."),
        key("instance_id", Text("text"), Nothing, "By this the group knows a consumer again after a restart (KIP-345): each has its own. Back within 45 seconds, it goes on with its partitions. Named as topics are."),
        key("tls", Part("tls settings"), Nothing, "How to do TLS; `{}` trusts the authorities of the system. Default: no TLS."),
        key("sasl", Part("queue: kafka: sasl"), Nothing, "How to log in. Default: not at all."),
    ]},
    Section { title: "queue: kafka: sasl", about: "", keys: &[
        key("mechanism", Choice(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]), Needed("SCRAM-SHA-512"), "`PLAIN` shows the password to the broker: use it over TLS."),
        key("username", Text("text"), Needed("pingeon"), "Who logs in."),
        key("password", Text("secret"), Nothing, "One of this and the next has to be there."),
        key("password_file", Text("path"), Nothing, "The file that holds it."),
    ]},
    Section { title: "store", about: "One of:", keys: &[
        key("sqlite", Part("store: sqlite"), Nothing, "A file, for one process."),
        key("postgres", Part("store: postgres"), Nothing, "A server, Postgres 14 to 18, for a fleet. `pingeon migrate` makes its schema."),
    ]},
    Section { title: "store: sqlite", about: "", keys: &[
        key("path", Text("path"), Nothing, "The file. Default: `pingeon.db` beside the spool."),
        key("retention", Duration("1h", "3650d"), Default("30d"), "How long logs are kept."),
    ]},
    Section { title: "store: postgres", about: "", keys: &[
        key("url", Text("URL"), Needed("postgresql://pingeon_writer@db.example.com/pingeon"), "Where the server is, and as whom to ask it, as libpq has it: several hosts, Unix sockets, and the parameters `sslmode`, `sslrootcert`, `sslcert`, `sslkey`, `channel_binding`, `target_session_attrs`, `connect_timeout`, `application_name`, `options`, `user`, `dbname`, `host` and `port`. Over a network, `?sslmode=verify-full`. It holds no password."),
        key("password", Text("secret"), Nothing, "Where the server asks for one."),
        key("password_file", Text("path"), Nothing, "The file that holds it, which is read again for each connection."),
        key("batch_max", Number(1, 10_000), Default("2000"), "Logs in one insert."),
        key("batch_wait", Duration("1ms", "10s"), Default("500ms"), "How long a smaller batch may wait for more."),
        key("connections", Number(1, 64), Default("2"), "Consumers in this process, each with a connection of its own."),
        key("prepared", Choice(&["auto", "named", "unnamed"]), Default("auto"), "How statements are prepared. `auto`: named, until a pooler that pools by transaction turns out to be in the way; `unnamed`: anew with each batch, up to 20 % slower."),
        key("retention", Duration("1h", "3650d"), Default("90d"), "How long logs are kept; never shorter than what the owner of the schema last gave to `pingeon migrate`."),
    ]},
]),
("The process", &[
    Section { title: "web", about: "", keys: &[
        key("listen", Text("address:port"), Needed("'127.0.0.1:8087'"), "Where `/healthz` is served: 200 while all threads work, else 503, with JSON that says what is stuck."),
    ]},
    Section { title: "log", about: "", keys: &[
        key("level", Choice(&["error", "warn", "info", "debug", "trace"]), Default("info"), "How much to say."),
    ]},
]),
];
