//! Somebody who may read a job besides its client, as people name them: by their receiving key.

use std::str::FromStr;

use safelight_policies::id::KemKey;

/// A receiving key: 64 hexadecimal digits, `kem_key` in what `safelight key show` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reader(pub(crate) KemKey);

impl FromStr for Reader {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes());
        let key = bytes.ok().and_then(|bytes| bytes.try_into().ok());
        key.map(|key| Self(KemKey(key)))
            .ok_or("expected a receiving key: 64 hexadecimal digits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_a_key_of_64_digits() {
        let text = "0a".repeat(32);
        assert_eq!(text.parse(), Ok(Reader(KemKey([10; 32]))));
        assert_eq!(text.to_uppercase().parse(), Ok(Reader(KemKey([10; 32]))));
        for text in ["", "0a", &text[1..], &"0a".repeat(33), &"xy".repeat(32)] {
            assert!(text.parse::<Reader>().is_err(), "{text:?}");
        }
    }
}
