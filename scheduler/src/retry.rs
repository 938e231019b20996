//! May a task be tried again? By the cause of its last attempt's end and by what happened to it before. Pure.

use safelight_policies::cause::{Cause, Lack};

use crate::rules::Rules;

/// Whose fault an end was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The task's: it would probably end so anywhere. Costs one of its retries.
    Task,
    /// The node's: it may end well elsewhere. Costs no retry, but is counted, because a task may also be what brings nodes down.
    Node,
    /// Neither's alone: this job and this node do not go together, or the job asked for more than it was given. Whoever submits a job can
    /// bring it about anywhere and at will, so no node is blamed; else one client could have every node drained.
    Apart,
    /// Nobody's: refused, or tampered with. Trying again is what an attacker would want.
    Denied,
    /// Nobody's: someone asked for it.
    Asked,
}

/// The steps before a session begins that fail by what the job is: its policy, what it asks for, its files.
const APART: [&str; 8] = [
    "policy",
    "grant",
    "host",
    "lease",
    "layers",
    "disk",
    "job files",
    "one client at a time without root",
];

/// Whose fault it was.
pub fn fault(cause: &Cause) -> Fault {
    match cause {
        Cause::NotStarted { step, .. } if APART.contains(&step.as_str()) => Fault::Apart,
        // A write beyond the quota does it.
        Cause::Poisoned => Fault::Apart,
        // Another node may have it, or this one a while later.
        Cause::Lacked {
            what: Lack::Licence | Lack::Graphics | Lack::GraphicsMemory | Lack::Disk | Lack::PlugIn,
            ..
        } => Fault::Apart,
        Cause::Exited { .. }
        | Cause::Killed { .. }
        | Cause::TimedOut { .. }
        | Cause::OutOfMemory
        | Cause::NoOutput
        | Cause::Flooded
        | Cause::Lacked {
            what: Lack::Memory | Lack::File,
            ..
        } => Fault::Task,
        Cause::NodeLost | Cause::ViewLost | Cause::AuditLost | Cause::NotStarted { .. } => {
            Fault::Node
        }
        Cause::NotAuthentic | Cause::NoKey => Fault::Denied,
        Cause::Canceled => Fault::Asked,
    }
}

/// How the attempts of a task ended so far, since it was last let go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    /// By its own fault.
    pub task: u32,
    /// By its node's fault, or apart.
    pub node: u32,
}

impl History {
    /// With one more end.
    pub fn with(self, fault: Fault) -> Self {
        Self {
            task: self.task.saturating_add(u32::from(fault == Fault::Task)),
            node: self
                .node
                .saturating_add(u32::from(matches!(fault, Fault::Node | Fault::Apart))),
        }
    }
}

/// What becomes of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is tried again.
    Again {
        /// Not on the same node, for a while.
        elsewhere: bool,
    },
    /// It is not.
    GiveUp,
}

/// Decides. `history` includes the end of which `fault` was.
pub fn verdict(fault: Fault, history: History, retries: u32, rules: &Rules) -> Verdict {
    let again = |may, elsewhere| {
        if may {
            Verdict::Again { elsewhere }
        } else {
            Verdict::GiveUp
        }
    };
    match fault {
        Fault::Task => again(history.task <= retries, false),
        Fault::Node | Fault::Apart => again(history.node < rules.losses_max, true),
        Fault::Denied => Verdict::GiveUp,
        Fault::Asked => again(true, false),
    }
}

/// Decides for several tasks of one session, of which nobody knows which one it was: each is tried again in a session of its own, and that
/// decides then.
pub fn of_several(fault: Fault) -> Verdict {
    match fault {
        Fault::Denied => Verdict::GiveUp,
        Fault::Task | Fault::Asked => Verdict::Again { elsewhere: false },
        Fault::Node | Fault::Apart => Verdict::Again { elsewhere: true },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_tried_again_by_the_cause_of_its_end() {
        let here = Verdict::Again { elsewhere: false };
        let elsewhere = Verdict::Again { elsewhere: true };
        let rules = Rules {
            losses_max: 3,
            ..Rules::default()
        };
        let exit = Cause::Exited { code: 1 };
        let lacked = |what| Cause::Lacked { what, code: 1 };
        let mount = Cause::NotStarted {
            step: "mount".into(),
            errno: 1,
        };
        // Cause, how often the task and its nodes failed before, what follows with two retries.
        let table = [
            (exit.clone(), 0, 0, here),
            (exit.clone(), 1, 2, here),
            (exit, 2, 0, Verdict::GiveUp),
            (Cause::OutOfMemory, 2, 0, Verdict::GiveUp),
            (Cause::TimedOut { seconds: 9 }, 1, 0, here),
            (Cause::NoOutput, 1, 0, here),
            (Cause::Flooded, 1, 0, here),
            (Cause::Flooded, 2, 0, Verdict::GiveUp),
            (lacked(Lack::File), 1, 0, here),
            (lacked(Lack::Memory), 2, 0, Verdict::GiveUp),
            (lacked(Lack::Licence), 9, 0, elsewhere),
            (lacked(Lack::Licence), 0, 2, Verdict::GiveUp),
            (lacked(Lack::PlugIn), 9, 1, elsewhere),
            (Cause::Killed { signal: 9 }, 1, 0, here),
            (Cause::NodeLost, 9, 0, elsewhere),
            (Cause::NodeLost, 0, 1, elsewhere),
            (Cause::NodeLost, 0, 2, Verdict::GiveUp),
            (mount, 0, 1, elsewhere),
            (Cause::Poisoned, 0, 0, elsewhere),
            (Cause::ViewLost, 0, 0, elsewhere),
            (Cause::AuditLost, 0, 0, elsewhere),
            (Cause::NotAuthentic, 0, 0, Verdict::GiveUp),
            (Cause::NoKey, 0, 0, Verdict::GiveUp),
            (Cause::Canceled, 9, 2, here),
        ];
        for (cause, task, node, expected) in table {
            let history = History { task, node }.with(fault(&cause));
            assert_eq!(
                verdict(fault(&cause), history, 2, &rules),
                expected,
                "{cause} {task} {node}"
            );
        }
    }
}
