//! What a process inherits and must not: terminal, privileges to gain, signal settings, umask, a parent that is gone.

use rustix::{
    process::{
        DumpableBehavior, Pid, Signal, getppid, set_dumpable_behavior,
        set_parent_process_death_signal, setsid, umask,
    },
    thread::set_no_new_privs,
};

use super::{At, failed};
use crate::{message::Failed, sys};

/// A session of its own without a terminal, no new privileges, default signals, umask 022.
pub(crate) fn detach() -> Result<(), Failed> {
    setsid().at("session")?;
    set_no_new_privs(true).at("no new privileges")?;
    sys::reset_signals().at("signals")?;
    umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok(())
}

/// Dies with its parent, from now on: a change of user clears this, so it comes after. Dumpable so that `/proc/self/uid_map` is ours to write.
pub(crate) fn bind_to_parent(parent: Option<Pid>) -> Result<(), Failed> {
    set_dumpable_behavior(DumpableBehavior::Dumpable).at("dumpable")?;
    set_parent_process_death_signal(Some(Signal::KILL)).at("parent")?;
    if getppid() != parent {
        // It died before the signal was asked for.
        return Err(failed("parent", "", libc::ESRCH));
    }
    Ok(())
}
