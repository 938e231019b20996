//! The memory of a session that no control group limits: looked at ten times a second, and the session is ended when it has too much.
//!
//! What counts is what a group would count: the pages of its processes, those that several share in parts, and what lies in its private
//! directories. Nothing here may look at a path of a view: its server may be waiting for us.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// More processes than this are not looked at one by one; a session that has so many is held by the limit of processes.
const PROCESSES_MAX: usize = 16_384;

/// Watches over one session.
#[derive(Debug)]
pub(crate) struct Watchdog {
    launcher: i32,
    limit: u64,
    /// The private directories.
    tmp: Vec<String>,
    next: Instant,
    peak: u64,
}

impl Watchdog {
    /// Watches the processes below the launcher.
    pub(crate) fn new(launcher: i32, limit: u64, tmp: Vec<String>) -> Self {
        Self {
            launcher,
            limit,
            tmp,
            next: Instant::now() + LOOK,
            peak: 0,
        }
    }

    /// When it will look again.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// The most that it has seen.
    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }

    /// Looks if it is time to; true if there is more than there may be.
    pub(crate) fn exceeded(&mut self) -> bool {
        if Instant::now() < self.next {
            return false;
        }
        self.next = Instant::now() + LOOK;
        let processes = below(self.launcher);
        let held = self.in_directories(&processes);
        let resident: u64 = processes.iter().map(|pid| resident(*pid)).sum();
        let mut used = held.saturating_add(resident);
        if used > self.limit {
            // Pages that several map were counted for each of them; it costs more to count them in parts.
            let parts: u64 = processes.iter().map(|pid| proportional(*pid)).sum();
            used = held.saturating_add(parts);
        }
        self.peak = self.peak.max(used);
        used > self.limit
    }

    /// What lies in the private directories, seen through the command: the launcher's only child is PID 1, and its first is the command. As an
    /// ordinary user we may not look through PID 1.
    fn in_directories(&self, processes: &[i32]) -> u64 {
        let Some(inside) = processes.get(2) else {
            return 0;
        };
        let used = |at: &String| {
            let found = rustix::fs::statvfs(format!("/proc/{inside}/root{at}")).ok()?;
            Some(found.f_blocks.saturating_sub(found.f_bfree) * found.f_frsize)
        };
        self.tmp.iter().filter_map(used).sum()
    }
}

/// A process and all that come from it, itself first.
fn below(root: i32) -> Vec<i32> {
    let mut found = vec![root];
    let mut known = BTreeSet::from([root]);
    let mut at = 0;
    while let Some(pid) = found.get(at).copied() {
        at += 1;
        // A child belongs to the thread that made it.
        let threads = fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten();
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children"));
            for child in children.unwrap_or_default().split_whitespace() {
                if let Ok(child) = child.parse()
                    && found.len() < PROCESSES_MAX
                    && known.insert(child)
                {
                    found.push(child);
                }
            }
        }
    }
    found
}

/// Bytes of a process in memory, shared ones and all (proc_pid_statm(5)).
fn resident(pid: i32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    let page = rustix::param::page_size() as u64;
    pages.unwrap_or(0).saturating_mul(page)
}

/// The same with shared pages in parts, without those of files, which the kernel can take away; all of it if that cannot be seen.
fn proportional(pid: i32) -> u64 {
    let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
        return resident(pid);
    };
    let field = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    // Shared memory lies in /dev/shm mostly, which is counted as a directory.
    field("Pss_Anon:").map_or_else(|| resident(pid), |kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_and_its_children_are_found_and_weighed() {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 60 & wait"])
            .spawn()
            .unwrap();
        let pid = child.id().cast_signed();
        while below(pid).len() < 2 {
            std::thread::yield_now();
        }
        let found = below(pid);
        assert_eq!(found[0], pid);
        assert!(found.iter().all(|pid| resident(*pid) > 0));
        assert!(proportional(pid) <= resident(pid));
        for pid in found.iter().rev() {
            let pid = rustix::process::Pid::from_raw(*pid).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        child.wait().unwrap();
    }

    #[test]
    fn it_looks_when_it_is_time_and_not_before() {
        let own = std::process::id().cast_signed();
        let mut watchdog = Watchdog::new(own, 1, Vec::new());
        assert!(!watchdog.exceeded(), "it is not time yet");
        watchdog.next = Instant::now();
        assert!(watchdog.exceeded());
        assert!(watchdog.peak() > 1);
        let mut roomy = Watchdog::new(own, 1 << 50, Vec::new());
        roomy.next = Instant::now();
        assert!(!roomy.exceeded());
    }
}
