//! What a task says of itself: what it lacked when it failed. Everything else that it says is only kept.
//!
//! The text is hostile. Of it nothing leaves this process but one of a few words, chosen by expressions that the node's operator wrote. They
//! are finite automata: a line takes time in proportion to its length, whatever it is. Of a line that is longer than [`LINE_MAX`] the
//! beginning counts.

use std::sync::{Mutex, PoisonError};

use regex::bytes::{RegexSet, RegexSetBuilder};
use safelight_policies::cause::{Cause, Lack};

/// The most expressions.
pub const LACKS_MAX: usize = 64;
/// The longest expression in bytes.
pub const EXPRESSION_MAX: usize = 512;
/// So much of a line is looked at, in bytes.
const LINE_MAX: usize = 4096;
/// The most memory that the expressions may take together once they are made automata, in bytes.
const AUTOMATA_MAX: usize = 4 << 20;

/// Why expressions are none.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Too many, or one that is too long.
    #[error("more than {LACKS_MAX} expressions, or one of more than {EXPRESSION_MAX} bytes")]
    TooMany,
    /// One cannot be read, or they take too much memory.
    #[error("an expression is not valid")]
    Expression {
        /// Why.
        #[from]
        source: regex::Error,
    },
}

/// Hears what a session says, on all of its streams.
#[derive(Debug)]
pub struct Heard {
    expressions: RegexSet,
    lacks: Vec<Lack>,
    /// What it said last.
    last: Mutex<Option<Lack>>,
}

/// The line that a stream is in.
#[derive(Debug, Default)]
pub(crate) struct Line(zeroize::Zeroizing<Vec<u8>>);

impl Heard {
    /// Knows what is lacked by these expressions, of which the first that matches a line counts.
    pub fn new(lacks: &[(Lack, String)]) -> Result<Self, Unfit> {
        let fits = |(_, expression): &(Lack, String)| expression.len() <= EXPRESSION_MAX;
        if lacks.len() > LACKS_MAX || !lacks.iter().all(fits) {
            return Err(Unfit::TooMany);
        }
        let expressions = lacks.iter().map(|(_, expression)| expression);
        Ok(Self {
            expressions: RegexSetBuilder::new(expressions)
                .size_limit(AUTOMATA_MAX)
                .dfa_size_limit(AUTOMATA_MAX)
                .build()?,
            lacks: lacks.iter().map(|(lack, _)| *lack).collect(),
            last: Mutex::default(),
        })
    }

    /// Hears more of a stream.
    pub(crate) fn hear(&self, line: &mut Line, bytes: &[u8]) {
        if self.lacks.is_empty() {
            return;
        }
        let mut parts = bytes.split(|byte| matches!(byte, b'\n' | b'\r'));
        // What stands before the first end of a line belongs to the line before.
        let mut next = parts.next();
        while let Some(part) = next {
            next = parts.next();
            let room = LINE_MAX.saturating_sub(line.0.len());
            line.0.extend_from_slice(&part[..part.len().min(room)]);
            if next.is_some() {
                self.end(line);
            }
        }
    }

    /// A line is at its end.
    pub(crate) fn end(&self, line: &mut Line) {
        let matching = self.expressions.matches(&line.0).into_iter().next();
        if let Some(lack) = matching.and_then(|first| self.lacks.get(first)) {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(*lack);
        }
        line.0.clear();
    }

    /// The cause of an end, by what was said before it: only of a command that failed by itself, and the last word counts.
    pub(crate) fn told(&self, cause: Cause) -> Cause {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match (cause, last) {
            (Cause::Exited { code: code @ 1.. }, Some(what)) => Cause::Lacked { what, code },
            (cause, _) => cause,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard() -> Heard {
        let lacks = [
            (Lack::Licence, "(?i)no licen[cs]e"),
            (Lack::File, "^cannot find .*[.]exr$"),
            (Lack::Disk, "cannot find"),
        ];
        Heard::new(&lacks.map(|(lack, text)| (lack, text.to_owned()))).unwrap()
    }

    fn after(parts: &[&[u8]]) -> Cause {
        let (heard, mut line) = (heard(), Line::default());
        parts.iter().for_each(|part| heard.hear(&mut line, part));
        heard.end(&mut line);
        heard.told(Cause::Exited { code: 7 })
    }

    #[test]
    fn a_failure_is_put_down_to_what_was_said_last() {
        let lacked = |what| Cause::Lacked { what, code: 7 };
        for (said, expected) in [
            (
                &[&b"Error: No License for you\n"[..]][..],
                lacked(Lack::Licence),
            ),
            (&[b"no lic", b"ense\nand so on\n"], lacked(Lack::Licence)),
            (&[b"no lic", b"\nense"], Cause::Exited { code: 7 }),
            (&[b"no licence\rcannot find a.exr"], lacked(Lack::File)),
            (&[b"so we cannot find a.exr\n"], lacked(Lack::Disk)),
            (&[b"\xff\xfe no licence \xff"], lacked(Lack::Licence)),
            (&[b"all is well"], Cause::Exited { code: 7 }),
            (&[], Cause::Exited { code: 7 }),
        ] {
            assert_eq!(after(said), expected, "{said:?}");
        }
    }

    #[test]
    fn only_a_command_that_failed_by_itself_lacked_something() {
        let (heard, mut line) = (heard(), Line::default());
        heard.hear(&mut line, b"no licence\n");
        for cause in [
            Cause::Exited { code: 0 },
            Cause::Killed { signal: 9 },
            Cause::OutOfMemory,
            Cause::Canceled,
            Cause::Poisoned,
        ] {
            assert_eq!(heard.told(cause.clone()), cause);
        }
    }

    #[test]
    fn of_a_long_line_the_beginning_counts_and_is_all_that_is_held() {
        let (heard, mut line) = (heard(), Line::default());
        for _ in 0..1000 {
            heard.hear(&mut line, &[b'x'; 100]);
        }
        assert_eq!(line.0.len(), LINE_MAX);
        heard.hear(&mut line, b"no licence\n");
        assert_eq!(
            heard.told(Cause::Exited { code: 1 }),
            Cause::Exited { code: 1 }
        );
        heard.hear(&mut line, b"no licence\n");
        assert!(matches!(
            heard.told(Cause::Exited { code: 1 }),
            Cause::Lacked { .. }
        ));
    }

    #[test]
    fn what_is_no_expression_or_too_large_a_one_is_refused() {
        let one = |text: &str| Heard::new(&[(Lack::File, text.to_owned())]).map(drop);
        assert!(one("a+").is_ok());
        assert!(one("(").is_err());
        assert!(one("((a{100}){100}){100}").is_err());
        assert!(one(&"a".repeat(EXPRESSION_MAX + 1)).is_err());
        let many = vec![(Lack::File, "a".to_owned()); LACKS_MAX + 1];
        assert!(Heard::new(&many).is_err());
    }
}
