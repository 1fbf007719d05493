//! A URL taken apart (RFC 3986, and libpq's several hosts).

use super::Unusable;

/// What the parameters of a URL may be.
const PARAMETERS: &[&str] = &[
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "options",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
    "user",
];

/// The parts of a URL, decoded.
pub(super) struct Parts {
    pub(super) user: Option<String>,
    /// Hosts and their ports.
    pub(super) hosts: Vec<(String, Option<String>)>,
    pub(super) database: Option<String>,
    pub(super) parameters: Vec<(String, String)>,
}

impl Parts {
    /// # Errors
    /// What is wrong with the URL. Passwords are looked for first, since all other messages may show what was typed.
    pub(super) fn of(url: &str) -> Result<Self, Unusable> {
        // It may hold any character, and stand in what is no such URL.
        let user_info =
            url.split_once("://").map_or(url, |(_, after)| after).rsplit_once('@').map_or("", |(user, _)| user);
        if user_info.contains(':') || url.contains("password=") {
            return Err(holds_password());
        }
        let after = url.strip_prefix("postgresql://").or_else(|| url.strip_prefix("postgres://"));
        let Some(after) = after.filter(|after| !after.chars().any(|c| c.is_whitespace() || c.is_control())) else {
            let what = "what was typed is not the URL of a Postgres server";
            return Err(Unusable::new(what, "write `postgresql://user@host/database`"));
        };
        let (before, query) = after.split_once('?').unwrap_or((after, ""));
        let (authority, path) = before.split_once('/').unwrap_or((before, ""));
        let (user, hosts) = authority.rsplit_once('@').map_or((None, authority), |(user, hosts)| (Some(user), hosts));
        let given = |text: &str| if text.is_empty() { Ok(None) } else { decoded(text).map(Some) };
        let hosts = hosts.split(',').filter(|_| !hosts.is_empty()).map(host_and_port).collect::<Result<_, _>>()?;
        Ok(Parts { user: given(user.unwrap_or(""))?, hosts, database: given(path)?, parameters: parameters(query)? })
    }
}

fn holds_password() -> Unusable {
    Unusable::new("the URL holds a password", "use `password_file: secrets/postgres`")
}

fn parameters(query: &str) -> Result<Vec<(String, String)>, Unusable> {
    let mut parameters: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|_| !query.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Unusable::new("a parameter of the URL has no value", "write `?sslmode=verify-full`"));
        };
        let (key, value) = (decoded(key)?, decoded(value)?);
        if key.contains("password") {
            return Err(holds_password());
        }
        if !PARAMETERS.contains(&&*key) {
            let near = crate::config::nearest(&key, PARAMETERS);
            let all = || format!("known: {}", PARAMETERS.join(", "));
            let hint = near.map_or_else(all, |near| format!("did you mean `{near}`?"));
            return Err(Unusable::new(format!("unknown parameter `{}` in the URL", key.escape_default()), hint));
        }
        if parameters.iter().any(|(known, _)| *known == key) {
            return Err(Unusable::new(format!("`{key}` is given twice in the URL"), "take one of them out"));
        }
        if !value.is_empty() {
            parameters.push((key, value));
        }
    }
    Ok(parameters)
}

/// `host:port` of a URL, where an IPv6 address stands in brackets.
fn host_and_port(text: &str) -> Result<(String, Option<String>), Unusable> {
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or("no port"))),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    Ok((decoded(host)?, port.map(decoded).transpose()?))
}

/// Without its percent signs (RFC 3986, section 2.1).
fn decoded(text: &str) -> Result<String, Unusable> {
    let wrong = || Unusable::new("a `%` in the URL is not followed by two hexadecimal digits", "write `%25` for `%`");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| (byte? as char).to_digit(16);
        bytes.push(match byte {
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => u8::try_from(high * 16 + low).map_err(|_| wrong())?,
                _ => return Err(wrong()),
            },
            byte => byte,
        });
    }
    let text = String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control));
    text.ok_or_else(|| Unusable { what: "the URL holds what is no text, percent-encoded".to_owned(), hint: None })
}

/// With percent signs for all but letters, digits, `-._~` and what is in `also`.
pub(super) fn encoded(text: &str, also: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also.as_bytes().contains(&byte);
    text.bytes().map(|byte| if plain(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") }).collect()
}
