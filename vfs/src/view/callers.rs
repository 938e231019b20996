//! What processes call themselves: evidence for a reader, never the ground of a decision.
//!
//! A record needs it each time, since a process may call itself something else meanwhile. Opening its file in `/proc` costs more than all the
//! rest of a record, so the files of those who asked last stay open; one of a process that is gone answers nothing, whoever has its number now.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::{Mutex, PoisonError},
};

/// How many files stay open. A renderer's threads are one process.
const OPEN_MAX: usize = 32;

/// More than the longest name (TASK_COMM_LEN of Linux).
const NAME_MAX: usize = 64;

/// Files of those who asked last.
#[derive(Debug, Default)]
pub(super) struct Callers {
    open: Mutex<Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    pid: u32,
    file: File,
    /// What it called itself last.
    name: String,
}

impl Callers {
    /// What a process calls itself, empty if it is gone, or the kernel itself; and whether that is news: it was not among those who asked
    /// last, or had another name.
    pub(super) fn name(&self, pid: u32) -> (String, bool) {
        if pid == 0 {
            return (String::new(), false);
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = open.iter().position(|known| known.pid == pid) {
            let known = &mut open[at];
            if let Some(name) = read(&known.file) {
                let is_new = name != known.name;
                if is_new {
                    known.name.clone_from(&name);
                }
                return (name, is_new);
            }
            open.remove(at);
        }
        let Ok(file) = File::open(format!("/proc/{pid}/comm")) else {
            return (String::new(), false);
        };
        let name = read(&file).unwrap_or_default();
        if open.len() >= OPEN_MAX {
            open.remove(0);
        }
        open.push(Known {
            pid,
            file,
            name: name.clone(),
        });
        (name, true)
    }
}

fn read(file: &File) -> Option<String> {
    let mut buffer = [0; NAME_MAX];
    let count = file.read_at(&mut buffer, 0).ok()?;
    let text = &buffer[..count];
    Some(String::from_utf8_lossy(text.strip_suffix(b"\n").unwrap_or(text)).into_owned())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_named_as_it_calls_itself_now_and_not_after_its_end() {
        let callers = Callers::default();
        let mut shell = Command::new("sh")
            .args(["-c", "read -r _; exec sleep 60"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = shell.id();
        let becomes = |name: &str| {
            while callers.name(pid).0 != name {
                std::thread::yield_now();
            }
        };
        becomes("sh");
        drop(shell.stdin.take());
        becomes("sleep");
        assert!(!callers.name(pid).1, "no news");
        shell.kill().unwrap();
        shell.wait().unwrap();
        assert_eq!(callers.name(pid), (String::new(), false));
        assert_eq!(callers.name(0), (String::new(), false));
    }

    #[test]
    fn few_files_stay_open() {
        let callers = Callers::default();
        let own = std::process::id();
        for turn in 0..3 {
            let (name, is_new) = callers.name(own);
            assert!(!name.is_empty());
            assert_eq!(is_new, turn == 0);
        }
        assert_eq!(callers.open.lock().unwrap().len(), 1);
        let mut open = callers.open.lock().unwrap();
        let other = || Known {
            pid: 0,
            file: File::open("/proc/self/comm").unwrap(),
            name: String::new(),
        };
        while open.len() < OPEN_MAX {
            open.push(other());
        }
        open.retain(|known| known.pid == 0);
        open.push(other());
        drop(open);
        assert!(callers.name(own).1);
        assert_eq!(callers.open.lock().unwrap().len(), OPEN_MAX);
    }
}
