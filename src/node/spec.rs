//! What this host offers: an equal share of it for each slot, the walls that stand, the renderers that answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use safelight_policies::id::VerifyKey;
use safelight_scheduler::{NodeSpec, SlotSpec};
use safelight_worker::probe::{HostReport, Status};

use super::card::Config;
use crate::{
    failure::{Failure, Kind, OrFail},
    state::{State, user},
};

/// Programs that are asked for their version. Each is the name that jobs use for it.
const SOFTWARE: [&str; 2] = ["blender", "povray"];
/// How long a program may take to say its version.
const ANSWER: Duration = Duration::from_secs(20);
/// How much of what it says is read, in bytes.
const SAID_MAX: u64 = 64 * 1024;
const MIB: u64 = 1 << 20;

/// What there is to share, in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Whole {
    cores: u64,
    memory_mib: u64,
    scratch_mib: u64,
}

/// What the node registers.
pub(super) fn read(
    state: &State,
    config: &Config,
    key: VerifyKey,
    report: &HostReport,
) -> Result<NodeSpec, Failure> {
    let whole = Whole {
        cores: std::thread::available_parallelism()
            .or_fail(Kind::Environment)?
            .get() as u64,
        memory_mib: memory(&fs::read_to_string("/proc/meminfo").or_fail(Kind::Environment)?)
            .unwrap_or(0),
        scratch_mib: scratch(state)?,
    };
    let software = SOFTWARE.iter().filter_map(|name| {
        let version = version(&said(state, name)?)?;
        Some(((*name).to_owned(), BTreeSet::from([version])))
    });
    let slot = share(whole, config.slots, walls(report), software.collect());
    Ok(NodeSpec {
        name: config.name.clone(),
        key,
        slots: vec![slot; usize::from(config.slots)],
    })
}

/// One slot of so many.
fn share(
    whole: Whole,
    slots: u16,
    walls: BTreeSet<String>,
    software: BTreeMap<String, BTreeSet<String>>,
) -> SlotSpec {
    let of = |amount: u64| amount / u64::from(slots.max(1));
    let attribute = |name: &str, value: &str| (name.to_owned(), BTreeSet::from([value.to_owned()]));
    SlotSpec {
        // A slot without a processor of its own shares one.
        vcpu: u32::try_from(of(whole.cores).max(1)).unwrap_or(u32::MAX),
        memory_mib: of(whole.memory_mib),
        gpu: 0,
        gpu_memory_mib: 0,
        scratch_mib: of(whole.scratch_mib),
        attributes: BTreeMap::from([
            attribute("attr.worker.os.family", "linux"),
            attribute("attr.worker.cpu.arch", std::env::consts::ARCH),
        ]),
        walls,
        software,
    }
}

/// The walls that stand, in full or in part, by doctor's names. What a policy needs of them it checks itself.
fn walls(report: &HostReport) -> BTreeSet<String> {
    let stands = |status: &Status| matches!(status, Status::Active | Status::Degraded { .. });
    let standing = report.features.iter().filter(|(_, status)| stands(status));
    standing
        .map(|(feature, _)| feature.as_str().to_owned())
        .collect()
}

/// The host's memory in MiB, of `proc_meminfo(5)`.
fn memory(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|it| it.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

/// The room where sessions write, in MiB.
fn scratch(state: &State) -> Result<u64, Failure> {
    let at = nix::sys::statvfs::statvfs(state.root()).or_fail(Kind::Environment)?;
    Ok(at.blocks_available().saturating_mul(at.fragment_size()) / MIB)
}

/// The first version in what a program says of itself: digits with points between them, at the beginning of a word.
fn version(said: &str) -> Option<String> {
    said.split_whitespace().find_map(|word| {
        let word = word.strip_prefix('v').unwrap_or(word);
        let end = word.find(|it: char| !it.is_ascii_digit() && it != '.');
        let number = word[..end.unwrap_or(word.len())].trim_end_matches('.');
        let parts = number.split('.').count();
        let whole = number.split('.').all(|part| !part.is_empty());
        (parts > 1 && whole && number.len() <= 32).then(|| number.to_owned())
    })
}

/// What `NAME --version` says on either output; `None` if there is no such program or it says nothing in time.
fn said(state: &State, name: &str) -> Option<String> {
    let mut file = tempfile::tempfile().ok()?;
    let mut command = Command::new(name);
    command
        .arg("--version")
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        // A program that looks for its user's directory must not need an entry in /etc/passwd.
        .env("HOME", "/")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(file.try_clone().ok()?)
        .stderr(file.try_clone().ok()?);
    if state.is_privileged() {
        // Nothing but the sessions of the first slot is this user's.
        command.uid(user::session(0)).gid(user::session(0));
    }
    end(command.spawn().ok()?, ANSWER)?;
    file.seek(SeekFrom::Start(0)).ok()?;
    let mut said = Vec::new();
    file.take(SAID_MAX).read_to_end(&mut said).ok()?;
    Some(String::from_utf8_lossy(&said).into_owned())
}

/// Waits for the end of a program, and kills it if that takes too long.
fn end(mut child: Child, limit: Duration) -> Option<()> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(Some(_)) => return Some(()),
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            Err(_) => return None,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

#[cfg(test)]
mod tests {
    use safelight_policies::grant::Feature;

    use super::*;

    #[test]
    fn slots_share_what_there_is() {
        let whole = Whole {
            cores: 8,
            memory_mib: 16_000,
            scratch_mib: 900,
        };
        for (slots, vcpu, memory, scratch) in
            [(1, 8, 16_000, 900), (3, 2, 5333, 300), (9, 1, 1777, 100)]
        {
            let slot = share(whole, slots, BTreeSet::new(), BTreeMap::new());
            assert_eq!(
                (slot.vcpu, slot.memory_mib, slot.scratch_mib),
                (vcpu, memory, scratch)
            );
            assert!(slot.attributes["attr.worker.os.family"].contains("linux"));
        }
    }

    #[test]
    fn a_version_is_found_in_what_renderers_say() {
        for (said, expected) in [
            ("Blender 4.0.2\n\tbuild date: 2024-01-05", Some("4.0.2")),
            (
                "POV-Ray 3.7.0.10.unofficial\n\nCopyright 1991-2013",
                Some("3.7.0.10"),
            ),
            ("tool v5.1-rc2", Some("5.1")),
            ("tool 2013 of 3", None),
            ("tool .5 1..2 a1.2", None),
            ("", None),
        ] {
            assert_eq!(version(said).as_deref(), expected, "{said}");
        }
        assert_eq!(version(&format!("1.{}", "1".repeat(40))), None);
    }

    #[test]
    fn memory_is_what_the_kernel_says() {
        let text = "MemTotal:       16384256 kB\nMemFree:  1 kB\n";
        assert_eq!(memory(text), Some(16_000));
        assert_eq!(memory("MemFree: 1 kB\n"), None);
        assert_eq!(memory("MemTotal: many kB\n"), None);
    }

    #[test]
    fn walls_that_do_not_stand_are_not_offered() {
        let (why, remedy) = (String::new(), String::new());
        let features = BTreeMap::from([
            (Feature::Landlock, Status::Active),
            (
                Feature::CgroupLimits,
                Status::Degraded {
                    why: why.clone(),
                    remedy: remedy.clone(),
                },
            ),
            (Feature::Fuse, Status::Unavailable { why, remedy }),
        ]);
        let report = HostReport {
            kernel: String::new(),
            root: false,
            landlock_abi: 7,
            features,
            concerns: Vec::new(),
        };
        let names = [Feature::Landlock, Feature::CgroupLimits].map(|it| it.as_str().to_owned());
        assert_eq!(walls(&report), BTreeSet::from(names));
    }

    #[test]
    fn a_program_that_says_nothing_in_time_is_ended() {
        let mut sleep = Command::new("sleep");
        let child = sleep.arg("60").spawn().unwrap();
        let began = Instant::now();
        assert_eq!(end(child, Duration::from_millis(50)), None);
        assert!(began.elapsed() < Duration::from_secs(10));
        let directory = tempfile::tempdir().unwrap();
        let state = State::open(Some(directory.path())).unwrap();
        assert_eq!(said(&state, "no-such-renderer-here"), None);
    }
}
