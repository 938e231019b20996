//! A task's output: kept for its client up to a limit, and shown to whoever may see it.
//!
//! The text is hostile. What is kept is kept as it came; what is shown on a terminal has every control character but newline and tab
//! replaced, so that a job can neither move the cursor nor change a title nor answer itself.

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Write},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use crate::content::{Content, Store};

/// Makes bytes harmless for a terminal. UTF-8 passes; C0 and C1 control characters and DEL do not, in any encoding.
pub fn harmless(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .filter(|character| *character != '\r')
        .map(|character| match character {
            '\n' | '\t' => character,
            // Bidirectional overrides can make a line read as something else (Unicode TR 36).
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            character if character.is_control() => '\u{fffd}',
            character => character,
        })
        .collect()
}

/// Where output is kept: an encrypted file of the upper that has no name in the view.
pub(crate) struct Kept {
    store: Arc<Store>,
    content: Content,
    limit: u64,
    /// True once something did not fit. Also orders those who append: standard output and standard error come on threads of their own.
    cut: Mutex<bool>,
}

/// What a log that was cut off says at its end.
const CUT: &[u8] = b"\n[the output limit was reached; the rest was not kept]\n";

impl Kept {
    pub(crate) fn new(store: Arc<Store>, limit: u64) -> Self {
        let content = Content::empty(store.file_number());
        Self {
            store,
            content,
            limit,
            cut: Mutex::new(false),
        }
    }

    /// Appends what fits.
    fn append(&self, bytes: &[u8]) {
        let mut cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        if *cut {
            return;
        }
        let len = self.content.len();
        let room = self.limit.saturating_sub(len);
        let fits = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let mut kept = self.content.write(&self.store, len, &bytes[..fits]);
        if fits < bytes.len() {
            *cut = true;
            kept = kept.and_then(|()| {
                let end = len + fits as u64;
                self.content.write(&self.store, end, CUT)
            });
        }
        if kept.is_err() {
            *cut = true;
            tracing::warn!("the task's output is no longer kept");
        }
    }

    /// Everything that was kept.
    pub(crate) fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        match self
            .content
            .read(&self.store, 0, self.content.len() as usize, &mut text)
        {
            Ok(()) => text,
            Err(_) => b"[the output cannot be read back]\n".to_vec(),
        }
    }
}

/// Reads `from` to its end on a thread of its own: keeps it and shows it. A reader that went away stops the showing, not the keeping.
/// What leads to a terminal is made harmless, which is seen here for each stream: one may be a terminal when the other is not.
pub(crate) fn carry(mut from: File, mut to: File, kept: Arc<Kept>) -> io::Result<JoinHandle<()>> {
    let terminal = to.is_terminal();
    thread::Builder::new()
        .name("output".to_owned())
        .spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            let mut shown = true;
            loop {
                let count = match from.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(_) => break,
                };
                let bytes = &buffer[..count];
                kept.append(bytes);
                if shown {
                    let written = if terminal {
                        to.write_all(harmless(bytes).as_bytes())
                    } else {
                        to.write_all(bytes)
                    };
                    shown = written.is_ok();
                }
            }
            zeroize::Zeroize::zeroize(&mut buffer);
        })
}

#[cfg(test)]
mod tests {
    use safelight_seal::{random::SystemRandom, working::WorkingKey};

    use super::*;
    use crate::{area::Area, lower::Segments, upper::Upper};

    fn kept(limit: u64) -> Kept {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let key = WorkingKey::generate(&SystemRandom::new()).unwrap();
        let upper = Upper::new(tempfile::tempfile().unwrap(), key, 1 << 20);
        Kept::new(Store::new(Segments::new(area), Some(upper)).into(), limit)
    }

    #[test]
    fn output_is_kept_up_to_the_limit_and_says_where_it_was_cut() {
        let exact = kept(6);
        exact.append(b"abc");
        exact.append(b"def");
        assert_eq!(exact.text(), b"abcdef");
        for more in [&b"g"[..], b"gh"] {
            exact.append(more);
            assert_eq!(exact.text(), [b"abcdef", CUT].concat());
        }
        let within = kept(4);
        within.append(b"abc");
        within.append(b"def");
        within.append(b"g");
        assert_eq!(within.text(), [b"abcd", CUT].concat());
    }

    #[test]
    fn what_two_streams_say_at_once_is_kept_of_both() {
        let kept = Arc::new(kept(1 << 20));
        let speakers = [b'o', b'e'].map(|byte| {
            let kept = kept.clone();
            thread::spawn(move || (0..500).for_each(|_| kept.append(&[byte; 16])))
        });
        for speaker in speakers {
            speaker.join().unwrap();
        }
        let text = kept.text();
        assert_eq!(text.len(), 2 * 500 * 16);
        assert!(
            text.chunks(16)
                .all(|line| line.iter().all(|byte| *byte == line[0]))
        );
    }

    #[test]
    fn a_terminal_gets_text_and_nothing_else() {
        assert_eq!(
            harmless(b"a\x1b]0;title\x07b\r\n\tc\x7f"),
            "a\u{fffd}]0;title\u{fffd}b\n\tc\u{fffd}"
        );
        assert_eq!(
            harmless("\u{9b}31m \u{e9} \u{202e}x".as_bytes()),
            "\u{fffd}31m \u{e9} \u{fffd}x"
        );
        assert_eq!(harmless(&[0xff, b'x']), "\u{fffd}x");
    }
}
