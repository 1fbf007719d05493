//! Where a report begins, as people type it.

use std::time::Duration;

use crate::clock::Timestamp;

/// Seconds in each unit.
const UNITS: [(char, u64); 5] = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400), ('w', 7 * 86_400)];

/// Reads how long before `now` (`90m`, `24h`, `7d`), a time (RFC 3339) or a day, which begins at midnight UTC. What lies before
/// 1970 is 1970.
///
/// # Errors
/// A sentence for people: neither of these, or not before `now`.
pub fn parse_since(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let since = match how_long(text) {
        Some(how_long) => now.minus(how_long),
        None => Timestamp::parse(text).or_else(|_| Timestamp::parse(&format!("{text}T00:00:00Z"))).map_err(|_| {
            format!("`{text}` is neither how long ago (90m, 24h, 7d) nor a time (2026-11-24T10:00:00Z, 2026-11-24)")
        })?,
    };
    if since < now { Ok(since) } else { Err(format!("`{text}` leaves no time to report on: it is not in the past")) }
}

fn how_long(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let (_, seconds) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    let number = text.strip_suffix(unit).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    // A number that is too large for its type is longer ago than 1970 too.
    let number = if number.is_empty() { return None } else { number.parse().unwrap_or(u64::MAX) };
    Some(Duration::from_secs(seconds.saturating_mul(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_read() {
        let now = Timestamp::parse("2026-11-24T10:00:00Z").unwrap();
        let neither = |text: &str| {
            format!("`{text}` is neither how long ago (90m, 24h, 7d) nor a time (2026-11-24T10:00:00Z, 2026-11-24)")
        };
        let not_past = |text: &str| format!("`{text}` leaves no time to report on: it is not in the past");
        for (text, expected) in [
            ("30s", Ok("2026-11-24T09:59:30.000000Z")),
            ("90m", Ok("2026-11-24T08:30:00.000000Z")),
            ("24h", Ok("2026-11-23T10:00:00.000000Z")),
            ("7d", Ok("2026-11-17T10:00:00.000000Z")),
            ("2w", Ok("2026-11-10T10:00:00.000000Z")),
            ("99999999999999999999999w", Ok("1970-01-01T00:00:00.000000Z")),
            ("2026-11-24T11:00:00+02:00", Ok("2026-11-24T09:00:00.000000Z")),
            ("2026-11-24", Ok("2026-11-24T00:00:00.000000Z")),
            ("", Err(neither(""))),
            ("h", Err(neither("h"))),
            ("24", Err(neither("24"))),
            ("-1h", Err(neither("-1h"))),
            ("1.5h", Err(neither("1.5h"))),
            ("24 h", Err(neither("24 h"))),
            ("１h", Err(neither("１h"))),
            ("yesterday", Err(neither("yesterday"))),
            ("2026-02-30", Err(neither("2026-02-30"))),
            ("0h", Err(not_past("0h"))),
            ("2026-11-24T10:00:00Z", Err(not_past("2026-11-24T10:00:00Z"))),
            ("2026-11-25", Err(not_past("2026-11-25"))),
        ] {
            assert_eq!(parse_since(text, now).map(|since| since.to_string()), expected.map(str::to_owned), "{text}");
        }
    }
}
