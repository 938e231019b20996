//! Where a bench is run: facts without which a figure says nothing.

use std::{
    fmt, fs,
    io::{BufRead, BufReader},
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Command, Stdio},
};

use serde::Serialize;

use crate::{process, records::time};

/// Facts about this host.
#[derive(Debug, Serialize)]
pub(crate) struct HostFacts {
    /// The time, in UTC.
    at: String,
    /// Our own version, and whether it was built to be fast.
    safelight: String,
    kernel: String,
    cores: usize,
    processor: String,
    /// Bytes.
    memory: u64,
    /// File system and block device of the directory that is measured in.
    storage: String,
}

impl HostFacts {
    /// Those of this host; `directory` is where the bench works.
    pub(crate) fn read(directory: &Path) -> Self {
        let build = if cfg!(debug_assertions) {
            " (not a release build)"
        } else {
            ""
        };
        Self {
            at: time::utc(process::now_seconds()),
            safelight: format!("{}{build}", env!("CARGO_PKG_VERSION")),
            kernel: first_line("/proc/sys/kernel/osrelease"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: of_proc("/proc/cpuinfo", "model name"),
            memory: of_proc("/proc/meminfo", "MemTotal")
                .trim_end_matches(" kB")
                .parse::<u64>()
                .map_or(0, |kib| kib * 1024),
            storage: storage(directory).unwrap_or_else(|| "unknown".to_owned()),
        }
    }
}

impl fmt::Display for HostFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = crate::terminal::bytes(self.memory);
        write!(
            f,
            "safelight {}, {}: Linux {}, {} cores of {}, {memory}, {}",
            self.safelight, self.at, self.kernel, self.cores, self.processor, self.storage
        )
    }
}

/// What a program says of its version, in its first line; `None` if it is not installed.
pub(crate) fn version_of(program: &str, argument: &str) -> Option<String> {
    let said = Command::new(program)
        .arg(argument)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = [said.stdout, said.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    Some(text.lines().next().unwrap_or_default().trim().to_owned())
}

fn first_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The value of the first line with this name in a file of `name : value` lines.
fn of_proc(path: &str, name: &str) -> String {
    let Ok(file) = fs::File::open(path) else {
        return String::new();
    };
    let lines = BufReader::new(file).lines().map_while(Result::ok);
    let mut values = lines.filter_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    });
    values.next().unwrap_or_default()
}

/// File system type, source and kind of the device below a directory.
fn storage(directory: &Path) -> Option<String> {
    let device = fs::metadata(directory).ok()?.dev();
    let number = format!("{}:{}", libc::major(device), libc::minor(device));
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let of = mounts.lines().find_map(|line| of_mount(line, &number))?;
    let rotational = first_line(&format!("/sys/dev/block/{number}/queue/rotational"));
    Some(match rotational.as_str() {
        "0" => format!("{of}, not rotational"),
        "1" => format!("{of}, rotational"),
        _ => of,
    })
}

/// `type on source` of a line of mountinfo (proc(5)) if it is of this device.
fn of_mount(line: &str, number: &str) -> Option<String> {
    let (head, tail) = line.split_once(" - ")?;
    let mut tail = tail.split(' ');
    let (kind, source) = (tail.next()?, tail.next()?);
    (head.split(' ').nth(2)? == number).then(|| format!("{kind} on {source}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_number() {
        let line = "29 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard";
        assert_eq!(of_mount(line, "254:1").unwrap(), "ext4 on /dev/vda");
        assert_eq!(of_mount(line, "254:2"), None);
        assert_eq!(of_mount("garbage", "254:1"), None);
    }

    #[test]
    fn this_host_has_facts() {
        let facts = HostFacts::read(Path::new("/"));
        assert!(facts.cores > 0 && facts.memory > 0 && !facts.kernel.is_empty());
        assert_eq!(version_of("/no/such/program", "--version"), None);
    }
}
