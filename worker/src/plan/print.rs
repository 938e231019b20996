//! The plan as people read it, step by step in the order in which the launcher acts.

use std::fmt;

use super::{Access, Identity, Mount, Plan};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.lines() {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

impl Plan {
    /// One line for each thing that is done.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("policy     {}", self.policy)];
        lines.push(match self.identity {
            Identity::Root { uid, gid } => format!("user       1000:1000 inside, {uid}:{gid} on the host, a user of its own"),
            Identity::Rootless { uid, gid } => {
                format!("user       1000:1000 inside, {uid}:{gid} on the host, the user who runs safelight")
            }
        });
        lines.push(format!(
            "namespaces user (two of them), mount, pid, ipc, uts, cgroup{}; host name {}",
            if self.network_namespace {
                ", network (empty)"
            } else {
                "; the network of the HOST"
            },
            self.hostname
        ));
        let doors = self.reach.iter();
        lines.extend(doors.map(|to| format!("reach      tcp {to}, through a proxy")));
        lines.extend(self.mounts.iter().map(mount));
        self.print_landlock(&mut lines);
        lines.push(match &self.filters {
            Some(filters) => format!(
                "seccomp    {} system calls allowed; the others: {}",
                filters.allowed.len(),
                filters.otherwise
            ),
            None => "seccomp    OFF".to_owned(),
        });
        let limits = &self.limits;
        lines.push(format!(
            "limits     memory {} MiB, {} processes, {} s (then {} s to end), {} open files, no core dump",
            limits.memory >> 20,
            limits.pids,
            limits.wall,
            limits.term_grace,
            limits.files
        ));
        if let Some(rate) = limits.io {
            lines.push(format!(
                "disks      {} KiB a second read, as many written",
                rate >> 10
            ));
        }
        lines.extend(self.notes.iter().map(|note| format!("note       {note}")));
        lines
    }

    fn print_landlock(&self, lines: &mut Vec<String>) {
        let Some(landlock) = &self.landlock else {
            lines.push("landlock   OFF".to_owned());
            return;
        };
        lines.push(format!(
            "landlock   ABI {}{}{}",
            landlock.abi,
            match (landlock.abi, landlock.ports.is_empty()) {
                (..4, _) => "",
                (_, true) => ", no TCP",
                (_, false) => ", TCP to the ports above only",
            },
            if landlock.abi >= 6 {
                ", no signals or abstract sockets out of the session"
            } else {
                ""
            }
        ));
        for rule in &landlock.rules {
            let may = match rule.access {
                Access::Read => "read",
                Access::ReadExecute => "read, execute",
                Access::Device => "read, write the device",
                Access::Scratch => "read, write",
                Access::ScratchExecute => "read, write, execute",
                Access::View => "what the view server allows",
            };
            lines.push(format!("  allow    {}: {may}", rule.at));
        }
    }
}

fn mount(mount: &Mount) -> String {
    match mount {
        Mount::Bind { at, exec, .. } => {
            format!(
                "bind       {at} (read-only, nosuid, nodev{})",
                if *exec { "" } else { ", noexec" }
            )
        }
        Mount::Symlink { at, target } => format!("link       {at} -> {target}"),
        Mount::Device { at } => format!("device     {at}"),
        Mount::Tmp {
            at,
            bytes,
            inodes,
            exec,
        } => format!(
            "memory     {at} ({} MiB, {inodes} files, nosuid, nodev{})",
            bytes >> 20,
            if *exec { "" } else { ", noexec" }
        ),
        Mount::File { at, content } => {
            format!("file       {at} ({} bytes, made up)", content.len())
        }
        Mount::View { at } => format!("view       {at} (nosuid, nodev)"),
        Mount::Proc => "proc       /proc (own processes only)".to_owned(),
    }
}
