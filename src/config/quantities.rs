//! Durations, sizes, shares and ranges, as people write them, and back.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::error::Complaint;

const DURATIONS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZES: [(&str, u64); 7] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// A duration within a range, in whole milliseconds: `250ms`, `10s`, `5m`, `1h`, `90d`.
pub(super) fn duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, Complaint> {
    let (low, high) = (duration_text(*range.start()), duration_text(*range.end()));
    let millis = quantity(text, "a duration", &DURATIONS)?;
    let duration = Duration::from_millis(millis);
    if range.contains(&duration) { Ok(duration) } else { Err(format!("is not between {low} and {high}").into()) }
}

/// A duration as [`duration`] reads it, in the largest unit that fits exactly; what is finer than a millisecond is cut off.
pub(crate) fn duration_text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fits = DURATIONS.iter().rev().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit));
    let (name, unit) = fits.unwrap_or(&DURATIONS[0]);
    // A retention of days is said in days, a timeout of two minutes not as 120s: the largest unit, always.
    format!("{}{name}", millis / unit)
}

/// A number of bytes within a range: `256MiB`, `64kB`.
pub(super) fn size(text: &str, range: RangeInclusive<u64>) -> Result<u64, Complaint> {
    let bytes = quantity(text, "a size", &SIZES)?;
    let (low, high) = (size_text(*range.start()), size_text(*range.end()));
    if range.contains(&bytes) { Ok(bytes) } else { Err(format!("is not between {low} and {high}").into()) }
}

/// A size as [`size`] reads it, in the largest binary unit that fits exactly.
pub(crate) fn size_text(bytes: u64) -> String {
    let fits =
        [6, 5, 4].into_iter().map(|index| SIZES[index]).find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    let (name, unit) = fits.unwrap_or(SIZES[0]);
    format!("{}{name}", bytes / unit)
}

/// A whole number and a unit right behind it, multiplied.
fn quantity(text: &str, what: &str, units: &[(&str, u64)]) -> Result<u64, Complaint> {
    let names = units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, name) = text.split_at(digits);
    let complaint = Complaint::new(format!("is not {what}"));
    let Some((_, unit)) = units.iter().find(|(known, _)| *known == name) else {
        let same = units.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        return Err(match same {
            Some((known, _)) if digits > 0 => complaint.hint(format!("did you mean `{number}{known}`?")),
            _ if name.is_empty() && digits > 0 => complaint.hint(format!("a unit is missing: one of {names}")),
            _ => complaint.hint(format!("write a whole number and right behind it one of {names}")),
        });
    };
    if digits == 0 {
        return Err(complaint.hint(format!("write a whole number before `{name}`")));
    }
    number.parse().ok().and_then(|number: u64| number.checked_mul(*unit)).ok_or_else(|| "is too large".into())
}

/// A share, in whole percent: `20%`.
pub(super) fn percent(text: &str) -> Result<u8, Complaint> {
    let number = text.strip_suffix('%').and_then(|digits| digits.parse().ok());
    number.filter(|number| *number <= 100).ok_or_else(|| {
        Complaint::new("is not a share from 0% to 100%").hint("write a whole number and `%`, such as `20%`")
    })
}

/// A status code or a range of them, ends included: `200-299`, `401`.
pub(super) fn statuses(text: &str) -> Result<(u16, u16), Complaint> {
    let code = |text: &str| text.trim().parse().ok().filter(|code| (100..=999).contains(code));
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    match (code(low), code(high)) {
        (Some(low), Some(high)) if low <= high => Ok((low, high)),
        (Some(low), Some(high)) => Err(Complaint::new("is an empty range").hint(format!("write `{high}-{low}`"))),
        _ => Err(Complaint::new("is neither a status code nor a range of them").hint("write `204` or `200-299`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn durations_are_read() {
        for (text, millis) in
            [("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000), ("1d", 86_400_000), ("0s", 0)]
        {
            assert_eq!(duration(text, Duration::ZERO..=DAY), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_says_why() {
        for (text, what, hint) in [
            ("", "is not a duration", "write a whole number and right behind it one of ms, s, m, h, d"),
            ("10", "is not a duration", "a unit is missing: one of ms, s, m, h, d"),
            ("10 s", "is not a duration", "write a whole number and right behind it one of ms, s, m, h, d"),
            ("1.5s", "is not a duration", "write a whole number and right behind it one of ms, s, m, h, d"),
            ("s", "is not a duration", "write a whole number before `s`"),
            ("10S", "is not a duration", "did you mean `10s`?"),
            ("-1s", "is not a duration", "write a whole number and right behind it one of ms, s, m, h, d"),
            ("2d", "is not between 0ms and 1d", ""),
            ("99999999999999999999d", "is too large", ""),
            ("99999999999999999d", "is too large", ""),
        ] {
            let complaint = duration(text, Duration::ZERO..=DAY).unwrap_err();
            assert_eq!((&*complaint.what, complaint.hint.as_deref().unwrap_or("")), (what, hint), "{text}");
        }
    }

    #[test]
    fn shares_and_statuses_are_read() {
        for (text, read) in
            [("20%", Some(20)), ("0%", Some(0)), ("101%", None), ("20", None), ("-1%", None), ("%", None)]
        {
            assert_eq!(percent(text).ok(), read, "{text}");
        }
        for (text, read) in [
            ("200-299", Some((200, 299))),
            ("401", Some((401, 401))),
            ("299-200", None),
            ("99", None),
            ("1000", None),
            ("2xx", None),
            ("", None),
            ("-", None),
        ] {
            assert_eq!(statuses(text).ok(), read, "{text}");
        }
    }

    proptest! {
        #[test]
        fn durations_and_sizes_read_what_they_write(number in 0u64..=u64::MAX / 1_000_000) {
            let time = Duration::from_millis(number);
            prop_assert_eq!(duration(&duration_text(time), Duration::ZERO..=Duration::MAX), Ok(time));
            prop_assert_eq!(size(&size_text(number), 0..=u64::MAX), Ok(number));
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = (duration(&text, Duration::ZERO..=DAY), size(&text, 0..=1), percent(&text), statuses(&text));
        }
    }
}
