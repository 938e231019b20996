//! Tries the walls from the inside, at the last moment: what the kernel says holds, not what we asked for.

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};

use super::{At, failed};
use crate::{
    message::{Failed, Report},
    plan::Plan,
};

/// Reads back capabilities, no-new-privileges and filters, and tries to list the root directory, which no rule allows.
pub(crate) fn verify(plan: &Plan) -> Result<Report, Failed> {
    let status = read("/proc/self/status")?;
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        expect(field(set) == Some("0000000000000000"), set)?;
    }
    expect(field("NoNewPrivs") == Some("1"), "NoNewPrivs")?;
    let filters = if plan.filters.is_some() {
        expect(field("Seccomp") == Some("2"), "Seccomp")?;
        2
    } else {
        0
    };
    let landlock_abi = match &plan.landlock {
        Some(landlock) => {
            let root = openat(
                CWD,
                "/",
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            );
            expect(matches!(root, Err(Errno::ACCESS)), "landlock")?;
            landlock.abi
        }
        None => 0,
    };
    Ok(Report {
        landlock_abi,
        filters,
        network_namespace: plan.network_namespace,
    })
}

fn expect(holds: bool, what: &str) -> Result<(), Failed> {
    if holds {
        Ok(())
    } else {
        Err(failed("verify", what, libc::EPERM))
    }
}

/// Reads a file with no other system call than the filter must allow for it.
fn read(path: &str) -> Result<String, Failed> {
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .at_path("verify", path)?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(&file, &mut buffer).at_path("verify", path)? {
            0 => return String::from_utf8(bytes).map_err(|_| failed("verify", path, libc::EILSEQ)),
            length => bytes.extend_from_slice(&buffer[..length]),
        }
    }
}
