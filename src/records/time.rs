//! Points in time as RFC 3339 writes them, in UTC. Pure.

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
}
