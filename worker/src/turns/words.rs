//! What an action says to whoever runs it, on lines of its standard output (OpenJD 2023-09, "How Jobs Are Run"). Pure.
//!
//! The lines are hostile: what makes no sense is text like any other.

/// The longest value of a variable in bytes.
const VALUE_MAX: usize = 64 * 1024;

/// A variable that an environment sets or takes away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Set { name: Vec<u8>, value: Vec<u8> },
    Unset { name: Vec<u8> },
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) change: Change,
    /// The value is not to be shown.
    pub(super) secret: bool,
}

/// Reads a line.
pub(super) fn read(line: &[u8]) -> Option<Said> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if let Some(name) = line.strip_prefix(b"openjd_unset_env: ") {
        let name = name.trim_ascii();
        let change = Change::Unset {
            name: name.to_vec(),
        };
        let secret = false;
        return is_name(name).then_some(Said { change, secret });
    }
    let (rest, secret) = match line.strip_prefix(b"openjd_redacted_env: ") {
        Some(rest) => (rest, true),
        None => (line.strip_prefix(b"openjd_env: ")?, false),
    };
    let rest = rest.trim_ascii_start();
    // A value of several lines comes as a JSON string.
    let whole = if rest.starts_with(b"\"") {
        unquote(rest.trim_ascii_end())?
    } else {
        rest.to_vec()
    };
    let at = whole.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (whole[..at].to_vec(), whole[at + 1..].to_vec());
    let fits = is_name(&name) && value.len() <= VALUE_MAX && !value.contains(&0);
    let change = Change::Set { name, value };
    fits.then_some(Said { change, secret })
}

fn is_name(name: &[u8]) -> bool {
    let begins = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    name.len() <= 255
        && name.first().is_some_and(begins)
        && name
            .iter()
            .all(|byte| begins(byte) || byte.is_ascii_digit())
}

/// The text of a JSON string (RFC 8259, section 7).
fn unquote(quoted: &[u8]) -> Option<Vec<u8>> {
    serde_json::from_slice::<String>(quoted)
        .ok()
        .map(String::into_bytes)
}

/// What stands where a secret was.
const HIDDEN: &[u8] = b"********";

/// A line without the secrets in it. The longest are looked for first, since one may hold another.
pub(super) fn redact(line: &[u8], secrets: &[Vec<u8>]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        match secrets.iter().find(|secret| rest.starts_with(secret)) {
            Some(secret) => {
                shown.extend_from_slice(HIDDEN);
                rest = &rest[secret.len()..];
            }
            None => {
                shown.push(rest[0]);
                rest = &rest[1..];
            }
        }
    }
    shown
}

/// What must not be shown of a value: each of its lines, the longest first, and none twice.
pub(super) fn keep_secret(secrets: &mut Vec<Vec<u8>>, value: &[u8]) {
    for line in value.split(|byte| *byte == b'\n') {
        if !line.is_empty() && !secrets.iter().any(|known| known == line) {
            secrets.push(line.to_vec());
        }
    }
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str, secret: bool) -> Option<Said> {
        let (name, value) = (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        let change = Change::Set { name, value };
        Some(Said { change, secret })
    }

    #[test]
    fn lines_say_what_they_say() {
        let unset = Change::Unset {
            name: b"A".to_vec(),
        };
        let unset = Some(Said {
            change: unset,
            secret: false,
        });
        let long = format!("openjd_env: A={}", "x".repeat(VALUE_MAX + 1));
        for (line, said) in [
            ("openjd_env: A=1\n", set("A", "1", false)),
            (
                "openjd_env: A_2=a b = c \r\n",
                set("A_2", "a b = c ", false),
            ),
            ("openjd_env: A=", set("A", "", false)),
            (
                r#"openjd_env: "A=1\n\u00e92""#,
                set("A", "1\n\u{e9}2", false),
            ),
            ("openjd_redacted_env: PASS=word", set("PASS", "word", true)),
            ("openjd_unset_env: A\n", unset),
            ("openjd_unset_env: A=1", None),
            (" openjd_env: A=1", None),
            ("openjd_env:A=1", None),
            ("openjd_env: 1A=1", None),
            ("openjd_env: =1", None),
            ("openjd_env: A", None),
            ("openjd_env: A\0B=1", None),
            ("openjd_env: A=a\0b", None),
            (r#"openjd_env: "A=1"#, None),
            ("openjd_progress: 50", None),
            (&long, None),
        ] {
            assert_eq!(read(line.as_bytes()), said, "{line:?}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let mut secrets = Vec::new();
        keep_secret(&mut secrets, b"pass\nword pass\n\npass");
        assert_eq!(secrets, [b"word pass".to_vec(), b"pass".to_vec()]);
        for (line, shown) in [
            ("passpass!", "****************!"),
            ("a word pass b\n", "a ******** b\n"),
            ("a pas s", "a pas s"),
            ("", ""),
        ] {
            assert_eq!(redact(line.as_bytes(), &secrets), shown.as_bytes());
        }
        assert_eq!(redact(b"as it is", &[]), b"as it is");
    }
}
