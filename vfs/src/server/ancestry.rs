//! What a program comes from, as the kernel tells it while the program waits for its answer: it can neither end nor become another then.
//!
//! Nothing of a program's memory is read, its command line neither: a job could lay a file of this very view there, and have us wait for
//! ourselves. Evidence for a reader, never the ground of a decision. Names are what programs call themselves; who started whom is the kernel's word.

use std::fs;

use safelight_policies::event::{Access, Op, Verdict};

use crate::view::Clock;

/// How far back it is followed.
const PARENTS_MAX: usize = 16;

/// That a program began to ask.
pub(super) fn program(pid: u32, comm: &str, clock: Clock) -> Access {
    Access {
        at: clock(),
        pid,
        comm: comm.to_owned(),
        op: Op::Program,
        path: comm.as_bytes().to_vec(),
        to: Some(parents(pid).join("\0").into_bytes()),
        verdict: Verdict::Allowed,
        bytes: 0,
    }
}

/// Whoever started it, and whoever started that, as far as the session goes: its first process is number one inside.
fn parents(pid: u32) -> Vec<String> {
    let (mut all, mut next) = (Vec::new(), pid);
    while all.len() < PARENTS_MAX {
        let Some(Status { parent, first, .. }) = Status::of(next) else {
            break;
        };
        if first || parent == 0 {
            break;
        }
        let Some(above) = Status::of(parent) else {
            break;
        };
        all.push(format!("{parent} {}", above.name));
        next = parent;
    }
    all
}

struct Status {
    name: String,
    parent: u32,
    /// True of the first process of a namespace of its own.
    first: bool,
}

impl Status {
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read(format!("/proc/{pid}/status")).ok()?;
        Self::read(&String::from_utf8_lossy(&text))
    }

    fn read(text: &str) -> Option<Self> {
        let of = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(":\t"));
            lines
                .find(|(found, _)| *found == name)
                .map(|(_, value)| value)
        };
        let numbers: Vec<_> = of("NSpid").unwrap_or_default().split('\t').collect();
        Some(Self {
            name: of("Name")?.to_owned(),
            parent: of("PPid")?.parse().ok()?,
            first: numbers.len() > 1 && numbers.last() == Some(&"1"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_status_says_whose_child_it_is_and_where_a_session_begins() {
        let text = "Name:\tsh\nUmask:\t0022\nPPid:\t41\nNSpid:\t42\t1\n";
        let status = Status::read(text).unwrap();
        assert_eq!(
            (status.name.as_str(), status.parent, status.first),
            ("sh", 41, true)
        );
        let outside = text.replace("42\t1", "1");
        assert!(!Status::read(&outside).unwrap().first);
        assert!(Status::read("Name:\tsh\n").is_none());
    }

    #[test]
    fn who_started_a_program_is_told_nearest_first() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = shell.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        let sleep: u32 = line.trim().parse().unwrap();
        while Status::of(sleep).unwrap().name != "sleep" {
            std::thread::yield_now();
        }
        let told = program(sleep, "sleep", || 7);
        assert_eq!(
            (told.op, told.path.as_slice()),
            (Op::Program, &b"sleep"[..])
        );
        let parents = String::from_utf8(told.to.unwrap()).unwrap();
        let first = parents.split('\0').next().unwrap();
        assert_eq!(first, format!("{} sh", shell.id()));
        // A program that is gone has come from nowhere, and that is no error.
        let sleeping = nix::unistd::Pid::from_raw(sleep.cast_signed());
        nix::sys::signal::kill(sleeping, nix::sys::signal::Signal::SIGKILL).unwrap();
        shell.wait().unwrap();
        assert_eq!(program(sleep, "sleep", || 7).to, Some(Vec::new()));
    }
}
