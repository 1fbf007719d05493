//! Local time, by a zone of the IANA time zone database as the system has it (TZif files, RFC 9636).
//!
//! Which moment a local time means is as in RFC 5545, section 3.3.5: of one that comes twice, when clocks are set back, the first;
//! one that clocks skip is counted with the offset from before.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use tz::TimeZone;

use super::DAY;

/// Where systems have the database.
const PLACES: [&str; 3] = ["/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/etc/zoneinfo"];
/// How large the file of a zone may be: the largest ones have 4 KiB.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// How long the name of a zone may be: the longest one has 32.
const NAME_BYTES_MAX: usize = 64;
/// A zone has to tell the time until then: in the year 2200, in seconds.
const FAR: i64 = 7_258_118_400;

/// The rules by which local time follows from UTC.
#[derive(Clone)]
pub struct Zone {
    name: Arc<str>,
    /// `None`: UTC, which takes no file.
    rules: Option<Arc<TimeZone>>,
}

/// Which moments a local time is, in seconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meant {
    Once(i64),
    Twice(i64, i64),
    /// Clocks skip it; the moment by the offset before.
    Skipped(i64),
}

impl Zone {
    /// The zone that a config need not name.
    pub fn utc() -> Self {
        Zone { name: "UTC".into(), rules: None }
    }

    /// The zone of that name; `None`: the system knows none.
    pub fn named(name: &str) -> Option<Self> {
        if name == "UTC" {
            return Some(Self::utc());
        }
        let part =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-".contains(&b));
        if name.len() > NAME_BYTES_MAX || !name.split('/').all(part) {
            return None;
        }
        PLACES.iter().find_map(|place| Self::read(name, &content(&Path::new(place).join(name))?))
    }

    /// The zone that a TZif file holds.
    pub fn read(name: &str, file: &[u8]) -> Option<Self> {
        let rules = TimeZone::from_tz_data(file).ok()?;
        rules.find_local_time_type(FAR).ok()?;
        Some(Zone { name: name.into(), rules: Some(Arc::new(rules)) })
    }

    /// As it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// By how many seconds local time is ahead of UTC, so many seconds after 1970.
    pub(super) fn offset(&self, unix: i64) -> i64 {
        let Some(rules) = &self.rules else { return 0 };
        // It knows all times from the first on to beyond what is asked.
        rules.find_local_time_type(unix).map_or(0, |kind| kind.ut_offset().into())
    }

    /// What a local time means, which is in seconds as well: those that UTC would have at 1970 and at the same day and hour.
    pub(super) fn meant(&self, local: i64) -> Meant {
        // Clocks do not change twice within two days.
        let (before, after) = (self.offset(local - DAY), self.offset(local + DAY));
        let moment = |offset: i64| Some(local - offset).filter(|moment| self.offset(*moment) == offset);
        match (moment(before), moment(after)) {
            (Some(first), Some(second)) if first != second => Meant::Twice(first, second),
            (Some(moment), _) | (None, Some(moment)) => Meant::Once(moment),
            (None, None) => Meant::Skipped(local - before),
        }
    }
}

fn content(path: &Path) -> Option<Vec<u8>> {
    let file = Some(path).filter(|path| path.is_file()).and_then(|path| File::open(path).ok())?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::clock::Timestamp;

    /// A zone that goes by a rule of POSIX alone: a TZif file of version 2 without transitions (RFC 9636, section 3).
    pub(in super::super) fn zone(rule: &str) -> Zone {
        let header = |types: u8, characters: u8| {
            let mut header = b"TZif2".to_vec();
            header.extend([0; 15]);
            header.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, types, 0, 0, 0, characters]);
            header
        };
        let local_type = [&[0, 0, 0, 0, 0, 0][..], b"UTC\0"].concat();
        let file = [header(1, 4), local_type.clone(), header(1, 4), local_type, format!("\n{rule}\n").into_bytes()];
        Zone::read("test", &file.concat()).unwrap()
    }

    /// Central Europe, without the need of a file.
    pub(in super::super) fn berlin() -> Zone {
        zone("CET-1CEST,M3.5.0,M10.5.0/3")
    }

    fn seconds(text: &str) -> i64 {
        Timestamp::parse(text).unwrap().as_micros() / 1_000_000
    }

    #[test]
    fn a_local_time_means_a_moment() {
        let new_york = zone("EST5EDT,M3.2.0,M11.1.0");
        let lord_howe = zone("<+1030>-10:30<+11>-11,M10.1.0,M4.1.0");
        let z = |text: &str| seconds(&format!("{text}:00Z"));
        for (zone, local, expected) in [
            (&Zone::utc(), "2026-03-29T02:30", Meant::Once(z("2026-03-29T02:30"))),
            (&berlin(), "2026-01-15T12:00", Meant::Once(z("2026-01-15T11:00"))),
            (&berlin(), "2026-07-15T12:00", Meant::Once(z("2026-07-15T10:00"))),
            (&berlin(), "2026-03-29T01:59", Meant::Once(z("2026-03-29T00:59"))),
            (&berlin(), "2026-03-29T02:00", Meant::Skipped(z("2026-03-29T01:00"))),
            (&berlin(), "2026-03-29T02:30", Meant::Skipped(z("2026-03-29T01:30"))),
            (&berlin(), "2026-03-29T03:00", Meant::Once(z("2026-03-29T01:00"))),
            (&berlin(), "2026-10-25T01:59", Meant::Once(z("2026-10-24T23:59"))),
            (&berlin(), "2026-10-25T02:30", Meant::Twice(z("2026-10-25T00:30"), z("2026-10-25T01:30"))),
            (&berlin(), "2026-10-25T03:00", Meant::Once(z("2026-10-25T02:00"))),
            (&new_york, "2026-03-08T02:30", Meant::Skipped(z("2026-03-08T07:30"))),
            (&new_york, "2026-11-01T01:30", Meant::Twice(z("2026-11-01T05:30"), z("2026-11-01T06:30"))),
            (&lord_howe, "2026-10-04T02:15", Meant::Skipped(z("2026-10-03T15:45"))),
            (&lord_howe, "2026-04-05T01:45", Meant::Twice(z("2026-04-04T14:45"), z("2026-04-04T15:15"))),
        ] {
            assert_eq!(zone.meant(z(local)), expected, "{local}");
        }
    }

    #[test]
    fn only_names_of_zones_are_looked_for() {
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        for name in
            ["", "/etc/passwd", "../../etc/passwd", "Europe/", "Europe", "Europe/Berln", "a\0b", "Ärger", ".", &long]
        {
            assert!(Zone::named(name).is_none(), "{name}");
        }
        assert_eq!(Zone::named("UTC").unwrap().name(), "UTC");
        for file in [&b""[..], b"TZif", b"TZif2", &[0; 100]] {
            assert!(Zone::read("a", file).is_none(), "{file:?}");
        }
    }
}
