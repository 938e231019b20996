//! The child of a probe: tries one feature by the same functions that a launch uses.

use std::{collections::BTreeSet, convert::Infallible, io::Write, process::ExitCode};

use nix::sys::wait::{WaitStatus, waitpid};
use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
    process::{DumpableBehavior, set_dumpable_behavior},
    thread::set_no_new_privs,
};
use safelight_policies::grant::Feature;

use super::{denials::LISTEN, diagnose::probe_limits};
use crate::{
    facts::landlock_abi,
    message::Failed,
    plan::{Identity, Landlock, Mount, Plan, init_filter},
    sandbox::{
        At, devices, failed, fuse, ids, landlock, mounts, namespaces, proc, process, seccomp,
    },
    sys::{self, Fork},
};

/// The user that a probe becomes if it is root, as a session would: "nobody" of the kernel's own overflow id.
const NOBODY: u32 = 65_534;

/// Tries the feature of this name. Says nothing if it works, else `errno TAB step TAB path`.
pub fn child_main(name: &str) -> ExitCode {
    let found = Feature::ALL
        .into_iter()
        .find(|feature| feature.as_str() == name);
    if name == LISTEN {
        return match try_listener() {
            Ok(()) => ExitCode::SUCCESS,
            Err(failed) => complain(&failed),
        };
    }
    match found
        .ok_or_else(|| failed("probe", name, libc::EINVAL))
        .and_then(attempt)
    {
        Ok(()) => ExitCode::SUCCESS,
        // A child of ours has said why.
        Err(failed) if failed.step.is_empty() => ExitCode::FAILURE,
        Err(failed) => complain(&failed),
    }
}

fn complain(failed: &Failed) -> ExitCode {
    let _ = write!(
        std::io::stdout(),
        "{}\t{}\t{}",
        failed.errno,
        failed.step,
        failed.path
    );
    ExitCode::FAILURE
}

fn attempt(feature: Feature) -> Result<(), Failed> {
    process::detach()?;
    match feature {
        Feature::Landlock => try_landlock(),
        Feature::Seccomp => {
            seccomp::load(&init_filter().map_err(|_| failed("seccomp", "", libc::EINVAL))?)
        }
        Feature::UserNamespace => {
            become_nobody()?;
            namespaces::enter_user()?;
            namespaces::enter_user()
        }
        Feature::Namespaces => rehearse(),
        Feature::NetworkNamespace => {
            become_nobody()?;
            namespaces::enter_user()?;
            namespaces::enter_others(true, "probe")
        }
        Feature::Fuse => {
            let node = devices::own_fuse_node(identity());
            become_nobody()?;
            namespaces::enter_user()?;
            namespaces::enter_others(false, "probe")?;
            for device in devices::open_fuse(node.as_ref(), 1)? {
                fuse::mount(&device, "")?;
            }
            Ok(())
        }
        // Control groups are tried by the probe itself.
        Feature::CgroupKill | Feature::CgroupLimits => {
            Err(failed("probe", feature.as_str(), libc::EINVAL))
        }
    }
}

fn identity() -> Identity {
    let (uid, gid) = ids::current();
    if uid == 0 {
        Identity::Root {
            uid: NOBODY,
            gid: NOBODY,
        }
    } else {
        Identity::Rootless { uid, gid }
    }
}

fn become_nobody() -> Result<(), Failed> {
    ids::become_session(identity())?;
    set_dumpable_behavior(DumpableBehavior::Dumpable).at("dumpable")
}

/// Listens to a filter that lets everything pass.
fn try_listener() -> Result<(), Failed> {
    process::detach()?;
    set_no_new_privs(true).at("listen")?;
    let mut pass = [libc::sock_filter {
        code: u16::try_from(libc::BPF_RET | libc::BPF_K).unwrap_or_default(),
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_ALLOW,
    }];
    sys::load_filter_that_asks(&mut pass).at("listen").map(drop)
}

fn try_landlock() -> Result<(), Failed> {
    sys::landlock_abi().at("landlock")?;
    landlock::apply(&Landlock {
        abi: landlock_abi(),
        rules: Vec::new(),
        ports: Vec::new(),
        log: false,
    })?;
    match openat(
        CWD,
        "/",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Err(Errno::ACCESS) => Ok(()),
        _ => Err(failed("landlock", "/", libc::ENOTSUP)),
    }
}

/// A whole launch of nothing: a root with a process table, entered by PID 1, and the second user namespace of its child.
fn rehearse() -> Result<(), Failed> {
    become_nobody()?;
    namespaces::enter_user()?;
    namespaces::enter_others(false, "probe")?;
    let built = mounts::build(&nothing(), &[])?;
    namespaces::enter_pid()?;
    match sys::fork().at("fork")? {
        Fork::Parent(init) => collect(init),
        Fork::Child => end(proc::mount(&built.root).and_then(|()| {
            mounts::enter(built.root)?;
            namespaces::allow_one_more_user()?;
            match sys::fork().at("fork")? {
                Fork::Parent(job) => collect(job),
                Fork::Child => end(namespaces::enter_second_user()).map(|never| match never {}),
            }
        }))
        .map(|never| match never {}),
    }
}

/// Ends a process of the rehearsal; the first that fails says why, the others only that they failed.
fn end(result: Result<(), Failed>) -> Result<Infallible, Failed> {
    match result {
        Ok(()) => std::process::exit(0),
        Err(failed) if failed.step.is_empty() => std::process::exit(1),
        Err(failed) => {
            complain(&failed);
            std::process::exit(1)
        }
    }
}

fn collect(child: nix::unistd::Pid) -> Result<(), Failed> {
    match waitpid(child, None).at("wait")? {
        WaitStatus::Exited(_, 0) => Ok(()),
        // It has said why.
        _ => Err(failed("", "", 0)),
    }
}

fn nothing() -> Plan {
    Plan {
        policy: String::new(),
        identity: identity(),
        hostname: String::new(),
        network_namespace: false,
        reach: Vec::new(),
        mounts: vec![Mount::Proc],
        landlock: None,
        filters: None,
        init_filter: Vec::new(),
        limits: probe_limits(),
        features: BTreeSet::new(),
        notes: Vec::new(),
    }
}
