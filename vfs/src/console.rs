//! A task's output: kept for its client up to a limit, and shown to whoever may see it.
//!
//! The text is hostile. What is kept is kept as it came; what is shown on a terminal has every control character but newline and tab
//! replaced, so that a job can neither move the cursor nor change a title nor answer itself.

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Write},
    os::fd::AsFd,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use safelight_policies::cause::Cause;

use crate::{
    content::{Content, Store},
    heard::{Heard, Line},
};

/// True for a character that shows something else than what is there, or makes its neighbours do so: a control character, or one that
/// changes the direction in which a line is read (Unicode TR 36, and UAX 9 for the list).
pub fn misleads(character: char) -> bool {
    let turns = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    turns || character.is_control()
}

/// Makes bytes harmless for a terminal. UTF-8 passes; C0 and C1 control characters and DEL do not, in any encoding.
pub fn harmless(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .filter(|character| *character != '\r')
        .map(|character| match character {
            '\n' | '\t' => character,
            character if misleads(character) => '\u{fffd}',
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

/// How much is shown at once: a pipe that poll(2) calls writable takes PIPE_BUF bytes without waiting (pipe(7)).
const AT_ONCE: usize = 4096;

/// How long to wait for a reader before looking whether the session is over.
const LOOK: u8 = 100;

/// How long a reader that takes nothing may hold up a session that is over.
const PATIENCE: Duration = Duration::from_secs(5);

/// The streams of a session on their way out: kept in one log, shown each where it belongs.
pub(crate) struct Console {
    kept: Kept,
    heard: Heard,
    /// Both may be shown in the same pipe, so what one finds writable the other must not fill first.
    showing: Mutex<()>,
    /// When to stop showing: known once the session is over.
    until: OnceLock<Instant>,
    carriers: Mutex<Vec<Carrier>>,
}

struct Carrier {
    thread: JoinHandle<()>,
    /// What it reads from, for what it may not come to.
    from: File,
}

impl Console {
    pub(crate) fn new(kept: Kept, heard: Heard) -> Self {
        Self {
            kept,
            heard,
            showing: Mutex::default(),
            until: OnceLock::new(),
            carriers: Mutex::default(),
        }
    }

    /// Everything that was kept.
    pub(crate) fn text(&self) -> Vec<u8> {
        self.kept.text()
    }

    /// The cause of the session's end, by what it said.
    pub(crate) fn told(&self, cause: Cause) -> Cause {
        self.heard.told(cause)
    }

    /// Reads `from` to its end on a thread of its own: keeps it and shows it. A reader that went away stops the showing, not the keeping.
    /// What leads to a terminal is made harmless, which is seen here for each stream: one may be a terminal when the other is not.
    pub(crate) fn carry(self: &Arc<Self>, from: File, to: File) -> io::Result<()> {
        let (console, again) = (self.clone(), from.try_clone()?);
        let thread = thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || console.carry_all(from, to))?;
        self.carriers().push(Carrier {
            thread,
            from: again,
        });
        Ok(())
    }

    /// The session is over: waits until all that it said is kept, and shown to those who still read.
    pub(crate) fn finish(&self) {
        self.finish_within(PATIENCE);
    }

    fn finish_within(&self, patience: Duration) {
        let until = *self.until.get_or_init(|| Instant::now() + patience);
        let leave = until + Duration::from_secs(1);
        for Carrier { thread, from } in self.carriers().drain(..) {
            while !thread.is_finished() && Instant::now() < leave {
                thread::sleep(Duration::from_millis(5));
            }
            if !thread.is_finished() {
                // A stopped terminal, or a pipe that others fill too, can hold up even a write that was not to wait.
                tracing::warn!("nobody reads the session's output; its last part is not shown");
                self.keep_rest(from);
            }
        }
    }

    /// Keeps what is still in a pipe. Who wrote it is gone.
    fn keep_rest(&self, mut from: File) {
        let flags = FcntlArg::F_SETFL(OFlag::O_NONBLOCK);
        if fcntl(&from, flags).is_err() {
            return;
        }
        let mut buffer = zeroize::Zeroizing::new(vec![0; 64 * 1024]);
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            self.kept.append(&buffer[..count]);
        }
    }

    fn carriers(&self) -> std::sync::MutexGuard<'_, Vec<Carrier>> {
        self.carriers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carry_all(&self, mut from: File, mut to: File) {
        let terminal = to.is_terminal();
        let mut buffer = zeroize::Zeroizing::new(vec![0; 64 * 1024]);
        let (mut shown, mut line) = (true, Line::default());
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let bytes = &buffer[..count];
            self.kept.append(bytes);
            self.heard.hear(&mut line, bytes);
            shown = shown
                && if terminal {
                    self.show(&mut to, harmless(bytes).as_bytes())
                } else {
                    self.show(&mut to, bytes)
                };
        }
        self.heard.end(&mut line);
    }

    /// Shows it, however long its reader takes while the session lasts. False if there is no reader any more.
    fn show(&self, to: &mut File, bytes: &[u8]) -> bool {
        bytes.chunks(AT_ONCE).all(|part| {
            loop {
                if self
                    .until
                    .get()
                    .is_some_and(|until| Instant::now() >= *until)
                {
                    return false;
                }
                if !writable(to, LOOK) {
                    continue;
                }
                let _one = self.showing.lock().unwrap_or_else(PoisonError::into_inner);
                if writable(to, 0) {
                    return to.write_all(part).is_ok();
                }
            }
        })
    }
}

/// True if a write will not wait, or will say why it cannot be done.
fn writable(to: &File, milliseconds: u8) -> bool {
    let mut polled = [PollFd::new(to.as_fd(), PollFlags::POLLOUT)];
    match poll(&mut polled, PollTimeout::from(milliseconds)) {
        Ok(ready) => ready > 0,
        Err(errno) => errno != Errno::EINTR,
    }
}

#[cfg(test)]
mod tests {
    use safelight_seal::{random::SystemRandom, working::WorkingKey};

    use super::*;
    use crate::{
        area::Area,
        lower::Segments,
        upper::{Quota, Upper},
    };

    fn kept(limit: u64) -> Kept {
        let directory = tempfile::tempdir().unwrap();
        let area = Area::open(directory.path()).unwrap();
        let key = WorkingKey::generate(&SystemRandom::new()).unwrap();
        let upper = Upper::new(
            tempfile::tempfile().unwrap(),
            key,
            Quota {
                bytes: 1 << 20,
                entries: 0,
            },
        );
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

    fn console() -> Arc<Console> {
        Arc::new(Console::new(kept(1 << 20), Heard::new(&[]).unwrap()))
    }

    fn pipe() -> (File, File) {
        let (read, write) = nix::unistd::pipe().unwrap();
        (read.into(), write.into())
    }

    #[test]
    fn a_reader_that_takes_nothing_holds_up_nobody_once_the_session_is_over() {
        // Standard output and standard error in the same pipe, as `2>&1 | program` has it.
        let (unread, shown) = pipe();
        let console = console();
        let speakers = [b'o', b'e'].map(|byte| {
            let (from, mut says) = pipe();
            console.carry(from, shown.try_clone().unwrap()).unwrap();
            thread::spawn(move || says.write_all(&vec![byte; 300_000]).unwrap())
        });
        thread::sleep(Duration::from_millis(50));
        assert!(!speakers[0].is_finished(), "the reader holds up who speaks");
        let begun = Instant::now();
        console.finish_within(Duration::from_millis(100));
        assert!(begun.elapsed() < Duration::from_secs(5));
        for speaker in speakers {
            speaker.join().unwrap();
        }
        // All of it is kept, though most of it was never shown.
        assert_eq!(console.text().len(), 600_000);
        drop(unread);
    }

    #[test]
    fn a_write_that_hangs_costs_the_log_nothing() {
        let (_reads, shown) = pipe();
        let console = console();
        let (from, mut says) = pipe();
        console.carry(from, shown).unwrap();
        let hangs = console.showing.lock().unwrap();
        says.write_all(b"one").unwrap();
        thread::sleep(Duration::from_millis(50));
        says.write_all(b", two").unwrap();
        drop(says);
        console.finish_within(Duration::ZERO);
        assert_eq!(console.text(), b"one, two");
        drop(hangs);
    }

    #[test]
    fn a_reader_that_takes_its_time_gets_everything() {
        let (mut reads, shown) = pipe();
        let console = console();
        let (from, mut says) = pipe();
        console.carry(from, shown).unwrap();
        let text: Vec<u8> = (0..200_000u32).map(|at| (at % 251) as u8).collect();
        let said = text.clone();
        let speaker = thread::spawn(move || says.write_all(&said).unwrap());
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            let mut part = [0; 10_000];
            while let Ok(count @ 1..) = reads.read(&mut part) {
                all.extend_from_slice(&part[..count]);
                thread::sleep(Duration::from_millis(2));
            }
            all
        });
        speaker.join().unwrap();
        console.finish_within(Duration::from_secs(20));
        assert!(reader.join().unwrap() == text);
        assert!(console.text() == text);
    }

    #[test]
    fn a_reader_that_went_away_stops_the_showing_and_not_the_keeping() {
        let (reads, shown) = pipe();
        drop(reads);
        let console = console();
        let (from, mut says) = pipe();
        console.carry(from, shown).unwrap();
        says.write_all(&[b'x'; 100_000]).unwrap();
        drop(says);
        console.finish_within(Duration::from_secs(20));
        assert_eq!(console.text().len(), 100_000);
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
        assert_eq!(
            harmless("a\u{200f}b\u{61c}c".as_bytes()),
            "a\u{fffd}b\u{fffd}c"
        );
        assert_eq!(harmless(&[0xff, b'x']), "\u{fffd}x");
    }
}
