//! What a record tells of, in one word: the names of the audit format.

use safelight_policies::event::{Control, Op};

use super::What;

/// Every action that a record can tell of, by name.
pub(crate) const ACTIONS: [&str; 40] = [
    "lookup",
    "open-read",
    "open-write",
    "create",
    "mkdir",
    "symlink",
    "link",
    "rename",
    "unlink",
    "rmdir",
    "setattr",
    "xattr",
    "list",
    "close-read",
    "close-write",
    "mknod",
    "exec",
    "program",
    "packed",
    "leased",
    "key-released",
    "key-refused",
    "started",
    "ended",
    "committed",
    "set-apart",
    "debug-access",
    "delivered",
    "recovered",
    "hung-up",
    "key-erased",
    "held",
    "connecting",
    "disconnected",
    "doors-shut",
    "call-refused",
    "heard",
    "path-refused",
    "unreadable",
    "out-of-turn",
];

/// The action that a record tells of.
pub(crate) fn action(what: &What) -> &'static str {
    match what {
        What::Access { access, .. } => operation(access.op),
        What::Control(control) => act(control),
        What::Unreadable { .. } => "unreadable",
        What::OutOfTurn { .. } => "out-of-turn",
    }
}

fn operation(op: Op) -> &'static str {
    match op {
        Op::Lookup => "lookup",
        Op::OpenRead => "open-read",
        Op::OpenWrite => "open-write",
        Op::Create => "create",
        Op::Mkdir => "mkdir",
        Op::Symlink => "symlink",
        Op::Link => "link",
        Op::Rename => "rename",
        Op::Unlink => "unlink",
        Op::Rmdir => "rmdir",
        Op::Setattr => "setattr",
        Op::Xattr => "xattr",
        Op::List => "list",
        Op::CloseRead => "close-read",
        Op::CloseWrite => "close-write",
        Op::Mknod => "mknod",
        Op::Exec => "exec",
        Op::Program => "program",
    }
}

fn act(control: &Control) -> &'static str {
    match control {
        Control::Packed { .. } => "packed",
        Control::Leased { .. } => "leased",
        Control::KeyReleased { .. } => "key-released",
        Control::KeyRefused { .. } => "key-refused",
        Control::Started { .. } => "started",
        Control::Ended { .. } => "ended",
        Control::Committed { .. } => "committed",
        Control::SetApart { .. } => "set-apart",
        Control::DebugAccess { .. } => "debug-access",
        Control::Delivered { .. } => "delivered",
        Control::Recovered { .. } => "recovered",
        Control::HungUp { .. } => "hung-up",
        Control::KeyErased { .. } => "key-erased",
        Control::Held { .. } => "held",
        Control::Connecting { .. } => "connecting",
        Control::Disconnected { .. } => "disconnected",
        Control::DoorsShut { .. } => "doors-shut",
        Control::CallRefused { .. } => "call-refused",
        Control::Heard { .. } => "heard",
        Control::PathRefused { .. } => "path-refused",
    }
}

#[cfg(test)]
mod tests {
    use super::{super::samples::*, *};

    #[test]
    fn actions_are_named_as_in_the_format() {
        let mut names = Vec::new();
        for number in 0..=u8::MAX {
            let Ok(op) = postcard::from_bytes::<Op>(&[number]) else {
                break;
            };
            assert_eq!(serde_json::to_value(op).unwrap(), operation(op));
            names.push(operation(op));
        }
        for control in controls() {
            let value = serde_json::to_value(&control).unwrap();
            let name = value.as_object().unwrap().keys().next().unwrap().clone();
            assert_eq!(name, act(&control));
            names.push(act(&control));
        }
        assert!(names.len() > 25);
        for name in names {
            assert!(ACTIONS.contains(&name), "{name}");
        }
    }
}
