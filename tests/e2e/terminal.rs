//! `view shell` on a terminal of one's own: what is typed gets there, Ctrl-C ends a command and not the look, the window's size is known
//! inside, and what the session says to the terminal cannot make it answer.

use std::{
    fs::File,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use nix::{
    pty::{Winsize, openpty},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::termios::tcsetwinsize;

use crate::harness::{Host, end, requires};

const NEEDS: &[&str] = &["fuse", "userns", "landlock"];
const PATIENCE: Duration = Duration::from_secs(60);

/// A person at a terminal, and a look that runs in it.
struct Person {
    child: Child,
    /// The person's side of the terminal.
    keys: File,
    /// The terminal itself, whose window the person resizes.
    window: OwnedFd,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Person {
    fn look(host: &Host, job: &str) -> Self {
        let size = size(24, 80);
        let pty = openpty(Some(&size), None).expect("a terminal");
        let end_of = || Stdio::from(pty.slave.try_clone().expect("an end"));
        let mut shell = host.safelight();
        shell.args(["view", "shell", job]).env("TERM", "xterm");
        shell.stdin(end_of()).stdout(end_of()).stderr(end_of());
        // A group of its own: what is typed must reach the session by the look, and not by the tester's terminal.
        let child = shell.process_group(0).spawn().expect("a look");
        let keys = File::from(pty.master);
        let mut from = keys.try_clone().expect("an end");
        let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
        let into = Arc::clone(&seen);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                into.lock()
                    .expect("seen")
                    .extend_from_slice(&buffer[..count]);
            }
        });
        Self {
            child,
            keys,
            window: pty.slave,
            seen,
        }
    }

    fn type_in(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).expect("typed");
    }

    /// Waits until this stands on the screen, and answers everything that was sent to it.
    #[track_caller]
    fn until(&self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let seen = self.seen.lock().expect("seen").clone();
            let seen = String::from_utf8_lossy(&seen).into_owned();
            if seen.contains(text) {
                return seen;
            }
            assert!(Instant::now() < until, "no {text:?} in {seen:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it is over.
    #[track_caller]
    fn over(&mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status.code();
            }
            assert!(Instant::now() < until, "the look does not end");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        );
        let _ = self.child.wait();
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// A job that a person looks at.
fn looked_at() -> Option<(Host, String)> {
    if !requires(NEEDS) {
        return None;
    }
    let host = Host::new();
    host.write("show/board.txt", "a storyboard\n");
    let show = host.path("show");
    let mut run = host.run(&[(&show, "/mnt/c")], &["--json"], &["cat", "board.txt"]);
    let job = end(&mut run).ok().said()["job"]
        .as_str()
        .expect("job")
        .to_owned();
    Some((host, job))
}

#[test]
fn a_person_at_a_terminal_stands_where_the_task_stood() {
    let Some((host, job)) = looked_at() else {
        return;
    };
    let mut person = Person::look(&host, &job);
    // What is typed comes back as it was typed, so what is waited for is what only the session can have made of it.
    person.type_in("cat board.txt; echo in-$((20+3))\n");
    let seen = person.until("in-23");
    assert!(seen.contains("a storyboard"), "{seen:?}");

    person.type_in("stty size; echo sized-$((1+1))\n");
    assert!(person.until("sized-2").contains("24 80"));
    tcsetwinsize(
        &person.window,
        rustix::termios::Winsize {
            ws_row: 40,
            ws_col: 132,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
    .expect("another size");
    // It is looked at ten times a second.
    person.type_in(
        "while [ \"$(stty size)\" != '40 132' ]; do sleep 0.05; done; echo resized-$((2+2))\n",
    );
    person.until("resized-4");

    person.type_in("echo asleep-$((3+3)); sleep 1000\n");
    person.until("asleep-6");
    thread::sleep(Duration::from_millis(200));
    person.type_in("\x03");
    person.type_in("echo awake-$((4+4))\n");
    person.until("awake-8");

    person.type_in("exit 7\n");
    assert_eq!(person.over(), Some(7));
}

/// Everything that makes a terminal answer, or leave its screen, said by the session. The control: colours arrive, and so does the text around.
#[test]
fn what_a_session_says_to_a_terminal_cannot_make_it_answer() {
    let Some((host, job)) = looked_at() else {
        return;
    };
    let mut person = Person::look(&host, &job);
    let say = concat!(
        r"printf 'one\033[6n\033[c\033]0;title\007\033]52;c;eA==\033\\\033P$q m\033\\",
        r"\033[5i\033[21t\033[?1000h\005\302\2336n\2336n\033c\033[32mtwo\033[m-%s\n' $((5+5))",
        "\n"
    );
    person.type_in(say);
    let seen = person.until("-10");
    assert!(seen.contains("\x1b[32mtwo\x1b[m-10"), "{seen:?}");
    let shown = &seen[..seen.rfind("-10").expect("seen")];
    let shown = &shown[shown.rfind("one").expect("seen")..];
    let known = shown.replace("\x1b[32m", "").replace("\x1b[m", "");
    assert!(
        !known.contains('\x1b') && !known.contains('\x05'),
        "{known:?}"
    );
    assert!(
        !known.contains('\u{9b}') && !known.contains("title"),
        "{known:?}"
    );
    person.type_in("exit\n");
    assert_eq!(person.over(), Some(0));
}
