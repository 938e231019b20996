//! Amounts as people write them: `2GiB`, `64KiB`, `4h`, `1h30m`, `90s`.
//!
//! Powers of 1,024 only; a unit is mandatory, so that nobody has to guess it.

/// Reads a number of bytes.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let problem = || "expected a number and one of B, KiB, MiB, GiB, TiB, like 2GiB".to_owned();
    let (number, unit) = split(text).ok_or_else(problem)?;
    let factor = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(problem()),
    };
    number.checked_mul(factor).ok_or_else(problem)
}

/// Reads a number of seconds: one or more numbers with d, h, m or s, from large to small.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let problem = || "expected numbers with d, h, m or s, like 4h or 1h30m".to_owned();
    let mut rest = text;
    let mut total: u64 = 0;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let (number, tail) = split(rest).ok_or_else(problem)?;
        let unit = tail.chars().next().ok_or_else(problem)?;
        let factor = match unit {
            'd' => 86_400,
            'h' => 3_600,
            'm' => 60,
            's' => 1,
            _ => return Err(problem()),
        };
        if factor >= last {
            return Err(problem());
        }
        last = factor;
        let part = number.checked_mul(factor).ok_or_else(problem)?;
        total = total.checked_add(part).ok_or_else(problem)?;
        rest = &tail[unit.len_utf8()..];
    }
    if text.is_empty() {
        return Err(problem());
    }
    Ok(total)
}

/// Writes bytes in the largest unit that divides them.
pub(crate) fn show_bytes(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >> shift > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

/// Writes seconds in the units that [`seconds`] reads.
pub(crate) fn show_seconds(seconds: u64) -> String {
    let mut text = String::new();
    let mut rest = seconds;
    for (factor, unit) in [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')] {
        if rest >= factor {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

/// The digits at the beginning as a number, and what follows them.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_read_with_their_units_only() {
        for (text, amount) in [
            ("0B", 0),
            ("512B", 512),
            ("64KiB", 65_536),
            ("2GiB", 2_147_483_648),
        ] {
            assert_eq!(bytes(text), Ok(amount), "{text}");
        }
        for text in [
            "",
            "2",
            "2GB",
            "2 GiB",
            "-2GiB",
            "+2GiB",
            "2.5GiB",
            "GiB",
            "18446744073709551615KiB",
            "\u{663}B",
        ] {
            assert!(bytes(text).is_err(), "{text}");
        }
        for (text, amount) in [
            ("10s", 10),
            ("4h", 14_400),
            ("1h30m", 5_400),
            ("1d1s", 86_401),
        ] {
            assert_eq!(seconds(text), Ok(amount), "{text}");
        }
        for text in [
            "",
            "10",
            "1m1h",
            "1h1h",
            "s",
            "1\u{e9}",
            "99999999999999999d",
            "1h ",
        ] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(amount: u64) {
            prop_assert_eq!(bytes(&show_bytes(amount)), Ok(amount));
            prop_assert_eq!(seconds(&show_seconds(amount)), Ok(amount));
        }
        #[test]
        fn no_text_breaks_the_reader(text: String) {
            let _ = (bytes(&text), seconds(&text));
        }
    }
}
