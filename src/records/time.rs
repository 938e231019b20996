//! Points in time as RFC 3339 writes them, in UTC. Pure.

use std::str::FromStr;

const DAY: u64 = 86_400;

/// Days of 400 years of the Gregorian calendar, after which it repeats.
const ERA: u64 = 146_097;

/// Seconds since 1970 as `2025-01-31T12:00:00Z`.
pub(crate) fn utc(seconds: u64) -> String {
    format!("{}Z", date_and_time(seconds))
}

/// Nanoseconds since 1970, to the second.
pub(crate) fn utc_of_ns(ns: u64) -> String {
    utc(ns / 1_000_000_000)
}

/// Nanoseconds since 1970, to the nanosecond.
pub(crate) fn utc_exact(ns: u64) -> String {
    let (seconds, rest) = (ns / 1_000_000_000, ns % 1_000_000_000);
    format!("{}.{rest:09}Z", date_and_time(seconds))
}

fn date_and_time(seconds: u64) -> String {
    let (year, month, day) = date(seconds / DAY);
    let time = seconds % DAY;
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// The date of a day since 1970. Years are counted from March, so that the day a leap year adds is the last of its year.
fn date(days: u64) -> (u64, u64, u64) {
    // From 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days / ERA, days % ERA);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// A point in time as a person names it, in nanoseconds since 1970: a date, a date with a time, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Nanoseconds since 1970.
    At(u64),
    /// Seconds before now.
    Ago(u64),
}

impl Moment {
    /// Nanoseconds since 1970, if it is now `now_ns`.
    pub(crate) fn ns(self, now_ns: u64) -> u64 {
        match self {
            Self::At(ns) => ns,
            Self::Ago(seconds) => now_ns.saturating_sub(seconds.saturating_mul(1_000_000_000)),
        }
    }
}

impl FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let moment = match text.strip_suffix(['s', 'm', 'h', 'd']) {
            Some(number) => ago(number, text.as_bytes()[text.len() - 1]),
            None => absolute(text),
        };
        moment.ok_or("expected a time such as 2026-01-31, 2026-01-31T12:00:00Z, or 2h (ago)")
    }
}

fn ago(number: &str, unit: u8) -> Option<Moment> {
    let seconds = match unit {
        b'm' => 60,
        b'h' => 3600,
        b'd' => DAY,
        _ => 1,
    };
    let number = digits(number)?;
    number.checked_mul(seconds).map(Moment::Ago)
}

fn absolute(text: &str) -> Option<Moment> {
    let (day, time) = match text.split_once(['T', ' ']) {
        Some((day, time)) => (day, time.strip_suffix('Z').unwrap_or(time)),
        None => (text, "00:00:00"),
    };
    let mut parts = day.split('-').map(digits);
    let (year, month, of_month) = (parts.next()??, parts.next()??, parts.next()??);
    let known =
        (1970..2554).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&of_month);
    if !known || parts.next().is_some() {
        return None;
    }
    let days = days_until(year, month, of_month);
    // Of a day that the month does not have, another day comes out.
    if date(days) != (year, month, of_month) {
        return None;
    }
    let mut parts = time.split(':');
    let (hour, minute) = (digits(parts.next()?)?, digits(parts.next()?)?);
    let (second, fraction) = match parts.next().unwrap_or("00").split_once('.') {
        Some((second, fraction)) => (second, fraction),
        None => (time.split(':').nth(2).unwrap_or("00"), "0"),
    };
    let second = digits(second)?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 || fraction.len() > 9 {
        return None;
    }
    let scale = 10_u64.pow(9 - u32::try_from(fraction.len()).ok()?);
    let ns = digits(fraction)? * scale;
    let seconds = days * DAY + hour * 3600 + minute * 60 + second;
    seconds
        .checked_mul(1_000_000_000)?
        .checked_add(ns)
        .map(Moment::At)
}

fn digits(text: &str) -> Option<u64> {
    let only = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| only)
}

/// The inverse of [`date`].
fn days_until(year: u64, month: u64, day: u64) -> u64 {
    let from_march = (month + 9) % 12;
    let year = year - u64::from(month <= 2);
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * ERA + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_points_in_time() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_000_000_000, "2001-09-09T01:46:40Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), text);
        }
        assert_eq!(utc_of_ns(u64::MAX), "2554-07-21T23:34:33Z");
        assert_eq!(
            utc_exact(1_000_000_000_000_000_042),
            "2001-09-09T01:46:40.000000042Z"
        );
    }

    #[test]
    fn every_day_of_800_years_follows_the_day_before() {
        let mut last = date(0);
        for day in 1..2 * ERA {
            let next = date(day);
            let (year, month, of_month) = last;
            let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
            let length = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            let expected = match (of_month < length, month) {
                (true, _) => (year, month, of_month + 1),
                (false, 12) => (year + 1, 1, 1),
                (false, _) => (year, month + 1, 1),
            };
            assert_eq!(next, expected);
            last = next;
        }
    }

    #[test]
    fn a_moment_reads_as_it_is_written() {
        let parse = |text: &str| text.parse::<Moment>().ok();
        for (text, expected) in [
            ("1970-01-01", Some(Moment::At(0))),
            (
                "2000-02-29T00:00:00Z",
                Some(Moment::At(951_782_400_000_000_000)),
            ),
            (
                "2001-09-09 01:46:40.5",
                Some(Moment::At(1_000_000_000_500_000_000)),
            ),
            (
                "2001-09-09T01:46",
                Some(Moment::At(999_999_960_000_000_000)),
            ),
            ("90s", Some(Moment::Ago(90))),
            ("2h", Some(Moment::Ago(7200))),
            ("7d", Some(Moment::Ago(604_800))),
            ("2026-02-30", None),
            ("2026-13-01", None),
            ("2026-01-01T24:00:00Z", None),
            ("-1h", None),
            ("h", None),
            ("", None),
            ("99999999999999999999d", None),
            ("2026-01-01T00:00:00.1234567890", None),
            ("yesterday", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
        for seconds in (0..5_000_000_000_u64).step_by(86_399 * 97) {
            let at = Moment::At(seconds * 1_000_000_000);
            assert_eq!(parse(&utc(seconds)), Some(at));
        }
        assert_eq!(Moment::Ago(5).ns(7_000_000_000), 2_000_000_000);
        assert_eq!(Moment::Ago(5).ns(7), 0);
    }
}
