//! When something comes again, in the five fields of crontab(5): minute, hour, day of the month, month, day of the week. Lists,
//! ranges, steps and names. Where both fields of days say something, a day that fits either is one.

use std::time::Duration;

use time::OffsetDateTime;

use super::zone::{Meant, Zone};
use super::{DAY, MINUTE};

/// After so many days all comes again: 28 years, but for the leap years that centuries leave out.
const CYCLE_DAYS: i64 = 28 * 1_461 / 4;

/// Minutes of local time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    /// Of the day, in order.
    minutes: Vec<u16>,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both fields of days say something.
    either: bool,
    /// It goes by the clock's minutes alone: where clocks change, it comes in both of the hours that are one, and in none of those
    /// that are not.
    each_hour: bool,
}

/// One of the fields.
struct Field {
    /// What people call it.
    name: &'static str,
    low: u8,
    high: u8,
    /// Words for numbers, the first for the lower bound.
    words: &'static [&'static str],
}

const MINUTES: Field = Field { name: "minute", low: 0, high: 59, words: &[] };
const HOURS: Field = Field { name: "hour", low: 0, high: 23, words: &[] };
const DAYS: Field = Field { name: "day of the month", low: 1, high: 31, words: &[] };
const MONTHS: Field = Field {
    name: "month",
    low: 1,
    high: 12,
    words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
/// 7 is Sunday, too.
const WEEKDAYS: Field =
    Field { name: "weekday", low: 0, high: 7, words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

impl Cron {
    /// Reads the five fields.
    ///
    /// # Errors
    /// Which one is wrong and how: a clause for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err("is not five fields: minute, hour, day of the month, month, weekday".to_owned());
        };
        let minute = MINUTES.read(minute)?;
        let hours = HOURS.read(hour)?;
        let weekdays = WEEKDAYS.read(weekday)?;
        let minutes = (0..24 * 60).filter(|m| hours >> (m / 60) & 1 == 1 && minute >> (m % 60) & 1 == 1);
        Ok(Cron {
            minutes: minutes.collect(),
            days: DAYS.read(day)?,
            months: MONTHS.read(month)?,
            weekdays: weekdays | weekdays >> 7,
            either: !day.starts_with('*') && !weekday.starts_with('*'),
            each_hour: hour.starts_with('*'),
        })
    }

    /// Reads `sun 03:00`: days of the week, then an hour and a minute.
    ///
    /// # Errors
    /// A clause for people.
    pub fn weekly(text: &str) -> Result<Self, String> {
        let wrong = || "is not a day of the week and a time, such as `sun 03:00` or `mon-fri 22:30`".to_owned();
        let (days, time) = text.split_once(' ').ok_or_else(wrong)?;
        let (hour, minute) = time.trim().split_once(':').ok_or_else(wrong)?;
        let digits = |text: &str| (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(hour) || minute.len() != 2 || !digits(minute) {
            return Err(wrong());
        }
        Self::parse(&format!("{minute} {hour} * * {days}"))
    }

    /// Whether it comes on a day, so many after 1970-01-01.
    fn is_on(&self, day: i64) -> bool {
        let Ok(date) = OffsetDateTime::from_unix_timestamp(day.saturating_mul(DAY)) else { return false };
        let (month, day) = (u8::from(date.month()), date.day());
        let weekday = date.weekday().number_days_from_sunday();
        let is_in = |set: u64, number: u8| set >> number & 1 == 1;
        let (day, weekday) = (is_in(self.days, day), is_in(self.weekdays, weekday));
        is_in(self.months, month) && if self.either { day || weekday } else { day && weekday }
    }

    /// When it comes in days of local time, counted from 1970-01-01; in seconds after that, UTC.
    pub(super) fn moments<'a>(
        &'a self,
        zone: &'a Zone,
        days: impl Iterator<Item = i64> + 'a,
    ) -> impl Iterator<Item = i64> + 'a {
        let on = days.filter(|day| self.is_on(*day));
        let local = on.flat_map(|day| self.minutes.iter().map(move |minute| day * DAY + i64::from(*minute) * MINUTE));
        local.flat_map(|local| {
            match zone.meant(local) {
                Meant::Twice(first, second) if self.each_hour => [Some(first), Some(second)],
                Meant::Skipped(_) if self.each_hour => [None, None],
                Meant::Once(moment) | Meant::Twice(moment, _) | Meant::Skipped(moment) => [Some(moment), None],
            }
            .into_iter()
            .flatten()
        })
    }

    /// How soon it comes again at the soonest, by local time; `None`: it never comes.
    pub fn soonest(&self) -> Option<Duration> {
        let (first, last) = (*self.minutes.first()?, *self.minutes.last()?);
        let within = self.minutes.windows(2).map(|pair| i64::from(pair[1] - pair[0])).min();
        let days: Vec<i64> = (0..CYCLE_DAYS).filter(|day| self.is_on(*day)).collect();
        let over_night = i64::from(first) - i64::from(last);
        let round = days.first()? + CYCLE_DAYS - days.last()?;
        let apart = days.windows(2).map(|pair| pair[1] - pair[0]).chain([round]).min()?;
        let minutes = within.into_iter().chain([apart * DAY / MINUTE + over_night]).min()?;
        Some(Duration::from_secs(u64::try_from(minutes * MINUTE).ok()?))
    }
}

impl Field {
    /// The numbers that `text` lists, as bits.
    fn read(&self, text: &str) -> Result<u64, String> {
        text.split(',').try_fold(0, |set, part| Ok(set | self.part(part)?))
    }

    fn part(&self, text: &str) -> Result<u64, String> {
        let Field { name, low, high, .. } = *self;
        let wrong = |what: &str| Err(format!("has `{text}` as {name}, which {what}"));
        let (range, step) = text.split_once('/').map_or((text, None), |(range, step)| (range, Some(step)));
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (Some(low), Some(high)),
            Some((first, last)) => (self.number(first), self.last(first, last)),
            None if step.is_some() => return wrong("has a step and no range: write `*/2` or `10-30/2`"),
            None => (self.number(range), self.number(range)),
        };
        let (Some(first), Some(last)) = (first, last) else {
            return wrong(&format!("is neither `*` nor from {low} to {high}"));
        };
        if first > last {
            return wrong("ends before it begins");
        }
        match step.map_or(Some(1), |step| digits(step).filter(|step| *step > 0)) {
            Some(step) => Ok((first..=last).step_by(step.into()).fold(0, |set, number| set | 1 << number)),
            None => wrong("has a step that is no number from 1 on"),
        }
    }

    /// A number within the bounds, or what stands for one.
    fn number(&self, text: &str) -> Option<u8> {
        let Field { low, high, words, .. } = *self;
        let named =
            || words.iter().position(|word| word.eq_ignore_ascii_case(text)).and_then(|nth| u8::try_from(nth).ok());
        digits(text).filter(|number| (low..=high).contains(number)).or_else(|| Some(named()? + low))
    }

    /// As the end of a range, Sunday comes after Saturday.
    fn last(&self, first: &str, last: &str) -> Option<u8> {
        let last = self.number(last)?;
        Some(if self.high == WEEKDAYS.high && last == 0 && self.number(first)? > 0 { 7 } else { last })
    }
}

/// A number of one or two digits.
fn digits(text: &str) -> Option<u8> {
    ((1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}
