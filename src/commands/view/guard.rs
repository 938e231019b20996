//! What a session may do to the terminal of whoever looks at it: write, and move about on it. Pure.
//!
//! Invariants: an escape byte goes out only as the beginning of a sequence that is known, whole and bounded, so that no terminal can read it
//! otherwise than we did. Nothing goes out that a terminal answers, since the answer would be typed; nothing that sets a title or a
//! clipboard, prints, resizes a window or reports a mouse. What is not known is not passed.

use safelight_vfs::console::misleads;

/// The longest sequence that is passed.
const SEQUENCE_MAX: usize = 64;

/// Bytes of a string for the terminal (a title, a clipboard) that are swallowed before it is taken for text that was never ended.
const STRING_MAX: usize = 4096;

/// The most digits of a number in a sequence: no terminal has more lines or columns.
const DIGITS_MAX: usize = 4;

/// Modes that may be set and reset: cursor keys, wrapping, a blinking or hidden cursor, the other screen, marked pastes.
const MODES: [&str; 9] = ["1", "7", "12", "25", "47", "1047", "1048", "1049", "2004"];

/// Ends of sequences that move the cursor, or insert, repeat, erase and scroll.
const WRITES: &[u8] = b"@ABCDEFGHJKLMPXZ`abdefgrsu";

/// Stands for what is not shown.
const REPLACED: &[u8] = "\u{fffd}".as_bytes();

/// Where in its input the guard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    /// In a character of this many bytes.
    Character(usize),
    Escape,
    /// After `ESC (` or `ESC )`.
    Charset,
    /// After `ESC [`.
    Control,
    /// In a string, of which so many bytes were swallowed.
    String(usize),
    /// In a string, after an escape.
    StringEscape,
}

/// Lets through what may go to a terminal.
#[derive(Debug)]
pub(super) struct Guard {
    state: State,
    /// What was seen of a character or a sequence.
    seen: Vec<u8>,
}

impl Guard {
    pub(super) fn new() -> Self {
        Self {
            state: State::Text,
            seen: Vec::with_capacity(SEQUENCE_MAX),
        }
    }

    /// What of these bytes, which go on from those before, may go out.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        for byte in bytes {
            self.take(*byte, &mut out);
        }
        out
    }

    fn take(&mut self, byte: u8, out: &mut Vec<u8>) {
        match self.state {
            State::Text => self.text(byte, out),
            State::Character(len) => self.character(byte, len, out),
            State::Escape => self.escape(byte, out),
            State::Charset => {
                self.state = State::Text;
                if matches!(byte, b'0' | b'A' | b'B') {
                    self.seen.push(byte);
                    out.extend_from_slice(&self.seen);
                }
            }
            State::Control => self.control(byte, out),
            State::String(len) => {
                self.state = match byte {
                    0x07 | 0x18 | 0x1a => State::Text,
                    0x1b => State::StringEscape,
                    _ if len >= STRING_MAX => State::Text,
                    _ => State::String(len + 1),
                }
            }
            State::StringEscape => {
                self.state = State::Text;
                if byte != b'\\' {
                    self.seen = vec![0x1b];
                    self.escape(byte, out);
                }
            }
        }
    }

    fn text(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            0x1b => self.begin(State::Escape, byte),
            0x07..=0x0a | 0x0d | 0x20..=0x7e => out.push(byte),
            0xc2..=0xdf => self.begin(State::Character(2), byte),
            0xe0..=0xef => self.begin(State::Character(3), byte),
            0xf0..=0xf4 => self.begin(State::Character(4), byte),
            0x80.. => out.extend_from_slice(REPLACED),
            // What else there is of control characters: some of them are answered.
            _ => {}
        }
    }

    fn begin(&mut self, state: State, byte: u8) {
        self.state = state;
        self.seen.clear();
        self.seen.push(byte);
    }

    fn character(&mut self, byte: u8, len: usize, out: &mut Vec<u8>) {
        if byte & 0xc0 != 0x80 {
            self.state = State::Text;
            out.extend_from_slice(REPLACED);
            return self.text(byte, out);
        }
        self.seen.push(byte);
        if self.seen.len() < len {
            return;
        }
        self.state = State::Text;
        let text = std::str::from_utf8(&self.seen);
        let good = text.is_ok_and(|text| !text.chars().any(misleads));
        out.extend_from_slice(if good { &self.seen } else { REPLACED });
    }

    fn escape(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.seen.push(byte);
        self.state = match byte {
            b'[' => State::Control,
            b']' | b'P' | b'X' | b'^' | b'_' => State::String(0),
            b'(' | b')' => State::Charset,
            // Save and restore the cursor, line feeds, the keypad.
            b'7' | b'8' | b'D' | b'E' | b'M' | b'=' | b'>' => {
                out.extend_from_slice(&self.seen);
                State::Text
            }
            0x1b => return self.begin(State::Escape, byte),
            _ => State::Text,
        };
    }

    fn control(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            0x20..=0x3f => {
                // One that is too long is read to its end and passed no more.
                if self.seen.len() <= SEQUENCE_MAX {
                    self.seen.push(byte);
                }
            }
            0x40..=0x7e => {
                self.state = State::Text;
                if self.seen.len() < SEQUENCE_MAX && is_harmless(&self.seen[2..], byte) {
                    self.seen.push(byte);
                    out.extend_from_slice(&self.seen);
                }
            }
            _ => {
                self.state = State::Text;
                self.text(byte, out);
            }
        }
    }
}

/// True if a sequence with these parameters and this end only writes or moves.
fn is_harmless(parameters: &[u8], end: u8) -> bool {
    let Ok(parameters) = std::str::from_utf8(parameters) else {
        return false;
    };
    let is_number =
        |it: &str| it.len() <= DIGITS_MAX && it.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(modes) = parameters.strip_prefix('?') {
        return matches!(end, b'h' | b'l') && modes.split(';').all(|mode| MODES.contains(&mode));
    }
    match end {
        b'm' => parameters.split([';', ':']).all(is_number),
        b'h' | b'l' => parameters == "4",
        // One number or none.
        b'S' | b'T' => is_number(parameters),
        _ => WRITES.contains(&end) && parameters.split(';').all(is_number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(bytes: &[u8]) -> Vec<u8> {
        Guard::new().pass(bytes)
    }

    #[test]
    fn what_a_shell_an_editor_and_a_pager_need_is_passed() {
        for good in [
            "plain text\r\n\ttab\x08\x07",
            "d\u{e9}j\u{e0} vu \u{6771}\u{4eac} \u{1f3ac}",
            "\x1b[0m\x1b[1;31mred\x1b[m\x1b[38;5;208m\x1b[38:2::1:2:3m",
            "\x1b[2J\x1b[H\x1b[10;20H\x1b[K\x1b[3A\x1b[4P\x1b[2@\x1b[1;24r\x1b[L\x1b[5M\x1b[70b",
            "\x1b[?1049h\x1b[?25l\x1b[?7h\x1b[?2004h\x1b[?1;7h\x1b[4l",
            "\x1b7\x1b8\x1bM\x1b(0\x1b(B\x1b=\x1b>",
        ] {
            assert_eq!(passed(good.as_bytes()), good.as_bytes(), "{good:?}");
        }
    }

    #[test]
    fn what_is_answered_or_leaves_the_screen_is_not() {
        for bad in [
            // A title, a clipboard, a link: with both ends, and one that ends with the next.
            "\x1b]0;title\x07",
            "\x1b]52;c;cm0gLXJm\x1b\\",
            "\x1b]8;;http://x\x1b\\",
            "\x1bP$q m\x1b\\",
            "\x1b_apc\x1b\\",
            "\x1b^pm\x1b\\",
            // Reports of a cursor, a device, a mode, a window, a graphic; a mouse; keys; printing; a reset.
            "\x1b[6n",
            "\x1b[c",
            "\x1b[>c",
            "\x1b[?25$p",
            "\x1b[21t",
            "\x1b[?1;1;0S",
            "\x1b[?1000h",
            "\x1b[?25;1000h",
            "\x1b[>4;2m",
            "\x1b[5i",
            "\x1bc",
            "\x1bZ",
            "\x05",
            "\x1b[1;2;3;4;5T",
            // Too many digits, too long, broken off.
            "\x1b[99999@",
            "\x1b[20h",
            "\x1b[",
            "\x1b",
        ] {
            assert_eq!(passed(bad.as_bytes()), b"", "{bad:?}");
        }
        let long = format!("\x1b[{}m", "1;".repeat(SEQUENCE_MAX));
        assert_eq!(passed(long.as_bytes()), b"");
    }

    #[test]
    fn what_a_terminal_would_take_for_something_else_is_replaced() {
        let shown = |bytes: &[u8]| String::from_utf8(passed(bytes)).unwrap();
        // A C1 control as a byte and as a character, a turn of direction, a character that is broken off.
        assert_eq!(shown(b"a\x9b6nb"), "a\u{fffd}6nb");
        assert_eq!(shown("a\u{9b}6nb".as_bytes()), "a\u{fffd}6nb");
        assert_eq!(shown("\u{202e}".as_bytes()), "\u{fffd}");
        assert_eq!(shown(b"\xe6\x9dx\xc3"), "\u{fffd}x");
        assert_eq!(shown(b"\xed\xa0\x80"), "\u{fffd}");
        assert_eq!(shown(b"\x1b[\x1b[31mred"), "\x1b[31mred");
        assert_eq!(shown(b"\x1b]0;t\x1b[31mred"), "\x1b[31mred");
    }

    #[test]
    fn a_string_without_an_end_hides_no_more_than_a_page() {
        let mut bytes = b"\x1b]0;".to_vec();
        bytes.extend(vec![b'x'; 3 * STRING_MAX]);
        let shown = passed(&bytes).len();
        assert!(shown > STRING_MAX && shown < 3 * STRING_MAX, "{shown}");
    }

    #[test]
    fn it_makes_no_difference_where_the_bytes_are_cut_and_no_other_escape_comes_out() {
        let mut state = 0x5afe_u64;
        let alphabet = b"\x1b\x1b\x1b[[]]P?;:019mnhlcHJK\\\x07\x9b\xc2\x9b\xe6\x9d\xb1 a\x05";
        for _ in 0..2000 {
            let mut draw = |limit: usize| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state % limit as u64) as usize
            };
            let bytes: Vec<u8> = (0..40).map(|_| alphabet[draw(alphabet.len())]).collect();
            let cut = draw(bytes.len());
            let whole = passed(&bytes);
            let mut guard = Guard::new();
            let mut parts = guard.pass(&bytes[..cut]);
            parts.extend(guard.pass(&bytes[cut..]));
            assert_eq!(parts, whole, "{bytes:?} cut at {cut}");
            // What came out is what comes out again.
            assert_eq!(passed(&whole), whole, "{bytes:?}");
        }
    }
}
