//! What a session used, and what held it to its limits, from the files of its groups.

use std::{fs, path::Path};

use safelight_policies::event::{By, Hold};

use super::{Leaf, field};

/// What a session used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Memory in bytes, and how many processes its limit killed.
    pub memory: Hold,
    /// Processes, and how often one more was refused.
    pub processes: Hold,
    /// Microseconds of processors.
    pub processors: Hold,
    /// Bytes from and to disks.
    pub disk: Hold,
}

impl Default for Usage {
    /// Of a session without groups: it is held by the limit of processes that each of its own has, and by nothing else.
    fn default() -> Self {
        let by = |by| Hold {
            by,
            most: None,
            refused: 0,
        };
        Self {
            memory: by(By::Nothing),
            processes: by(By::ProcessLimit),
            processors: by(By::Nothing),
            disk: by(By::Nothing),
        }
    }
}

impl Leaf {
    /// What the session used so far.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        let group_if = |held: bool, other: By| if held { By::ControlGroup } else { other };
        usage.memory.by = group_if(self.limits_memory, By::Nothing);
        usage.processes.by = group_if(self.limits_pids, By::ProcessLimit);
        usage.disk.by = group_if(self.limits_disk, By::Nothing);
        if let Some(group) = &self.unified {
            let weighs = group.path.join("cpu.weight").exists();
            usage.processors.by = group_if(weighs, By::Nothing);
            usage.add_unified(&group.path);
        }
        if let Some(group) = &self.memory {
            let peak = number(&group.path, "memory.max_usage_in_bytes");
            usage.memory.most = usage.memory.most.or(peak);
            usage.memory.refused += count(&group.path, "memory.oom_control", "oom_kill");
        }
        if let Some(group) = &self.pids {
            usage.processes.refused += count(&group.path, "pids.events", "max");
        }
        usage
    }
}

impl Usage {
    /// From a group of cgroup v2. A file of a controller that is not there counts nothing.
    fn add_unified(&mut self, group: &Path) {
        self.memory.most = number(group, "memory.peak");
        self.memory.refused = count(group, "memory.events", "oom_kill");
        self.processes.most = number(group, "pids.peak");
        self.processes.refused = count(group, "pids.events", "max");
        self.processors.most = field(&read(group, "cpu.stat"), "usage_usec");
        self.disk.most = moved(&read(group, "io.stat"));
    }
}

/// Bytes read and written in all, from `io.stat`: a line for each device, `rbytes=` and `wbytes=` among its words.
fn moved(text: &str) -> Option<u64> {
    let bytes = |word: &str| {
        let (name, value) = word.split_once('=')?;
        let value = value.parse::<u64>().ok()?;
        matches!(name, "rbytes" | "wbytes").then_some(value)
    };
    let words = text.split_whitespace().filter_map(bytes);
    words.reduce(u64::saturating_add)
}

fn read(group: &Path, file: &str) -> String {
    fs::read_to_string(group.join(file)).unwrap_or_default()
}

fn number(group: &Path, file: &str) -> Option<u64> {
    read(group, file).trim().parse().ok()
}

fn count(group: &Path, file: &str, name: &str) -> u64 {
    field(&read(group, file), name).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_group_counted_is_read() {
        let group = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("memory.peak", "4096\n"),
            ("memory.events", "low 0\noom 1\noom_kill 2\n"),
            ("pids.peak", "7\n"),
            ("pids.events", "max 3\n"),
            ("cpu.stat", "usage_usec 55\nuser_usec 50\n"),
            (
                "io.stat",
                "259:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=9 dios=0\n8:0 rbytes=5 wbytes=0\n",
            ),
        ] {
            fs::write(group.path().join(file), text).unwrap();
        }
        let mut usage = Usage::default();
        usage.add_unified(group.path());
        let said = |hold: Hold| (hold.most, hold.refused);
        assert_eq!(said(usage.memory), (Some(4096), 2));
        assert_eq!(said(usage.processes), (Some(7), 3));
        assert_eq!(said(usage.processors), (Some(55), 0));
        assert_eq!(said(usage.disk), (Some(35), 0));
    }

    #[test]
    fn a_group_without_controllers_counts_nothing() {
        let group = tempfile::tempdir().unwrap();
        let mut usage = Usage::default();
        usage.add_unified(group.path());
        assert_eq!(usage, Usage::default());
    }
}
