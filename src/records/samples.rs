//! Records made by hand, and a job of many tasks with its logs, for tests.

pub(crate) mod farm;

use safelight_audit::Source;
use safelight_policies::{
    cause::Cause,
    event::{Access, By, Control, Hold, Op, Verdict},
    id::{SessionId, SlotIndex, TaskId},
};

use super::{Name, OpenedRecord, Paths, What};

pub(crate) const SESSION: SessionId = SessionId::from_random([0; 10]);

/// What records say of each path.
pub(crate) fn gathered(records: &[OpenedRecord]) -> Paths {
    let mut paths = Paths::default();
    records.iter().for_each(|record| paths.add(record));
    paths
}

fn record(source: Source, what: What) -> OpenedRecord {
    OpenedRecord {
        log: Name::Job,
        task: None,
        place: None,
        seq: 1,
        at_ns: 1_000_000_500,
        source,
        what,
    }
}

pub(crate) fn control(control: Control) -> OpenedRecord {
    record(Source::Agent, What::Control(control))
}

pub(crate) fn with(op: Op, path: &str, verdict: Verdict) -> OpenedRecord {
    let access = Access {
        at: 1_000_000_000,
        pid: 7,
        comm: "povray".to_owned(),
        op,
        path: path.as_bytes().to_vec(),
        to: None,
        verdict,
        bytes: 0,
    };
    record(
        Source::View,
        What::Access {
            session: SESSION,
            access,
        },
    )
}

pub(crate) fn access_of(record: &mut OpenedRecord) -> &mut Access {
    match &mut record.what {
        What::Access { access, .. } => access,
        other => panic!("{other:?} is no access"),
    }
}

pub(crate) fn allowed(op: Op, path: &str) -> OpenedRecord {
    with(op, path, Verdict::Allowed)
}

pub(crate) fn read(path: &str) -> OpenedRecord {
    allowed(Op::OpenRead, path)
}

pub(crate) fn not_found(path: &str) -> OpenedRecord {
    with(Op::Lookup, path, Verdict::Missing)
}

pub(crate) fn denied(path: &str) -> OpenedRecord {
    let rule = "p.toml:3 deny **".to_owned();
    with(Op::OpenRead, path, Verdict::Denied { rule })
}

pub(crate) fn closed(op: Op, path: &str, bytes: u64) -> OpenedRecord {
    let mut record = allowed(op, path);
    access_of(&mut record).bytes = bytes;
    record
}

pub(crate) fn renamed(from: &str, to: &str) -> OpenedRecord {
    let mut record = allowed(Op::Rename, from);
    access_of(&mut record).to = Some(to.as_bytes().to_vec());
    record
}

pub(crate) fn unreadable() -> OpenedRecord {
    let (session, index) = (SESSION, 4);
    record(Source::View, What::Unreadable { session, index })
}

pub(crate) fn out_of_turn() -> OpenedRecord {
    let what = What::OutOfTurn {
        session: SESSION,
        index: 4,
        expected: 2,
    };
    record(Source::View, what)
}

/// One of each.
pub(crate) fn controls() -> [Control; 20] {
    let (session, reason) = (SESSION, "why".to_owned());
    let [held, connecting, disconnected, shut, call, heard, path] = used();
    [
        Control::Packed { files: 1, bytes: 2 },
        Control::Leased {
            session,
            task: TaskId { step: 0, task: 12 },
            attempt: 1,
            fence: 2,
            node: "localhost".parse().unwrap(),
            slot: SlotIndex(3),
        },
        Control::KeyReleased {
            session,
            to: [1; 32],
        },
        Control::KeyRefused {
            session,
            reason: reason.clone(),
        },
        Control::Started {
            session,
            policy: [2; 32],
            landlock_abi: 7,
        },
        Control::Ended {
            session,
            cause: Cause::OutOfMemory,
        },
        Control::Committed {
            session,
            manifest: [3; 32],
            files: 1,
            bytes: 2,
        },
        Control::SetApart { session, reason },
        Control::DebugAccess {
            uid: 0,
            how: "mount".to_owned(),
        },
        Control::Delivered {
            files: 1,
            kept_aside: 0,
        },
        Control::Recovered { bytes: 3 },
        Control::HungUp {
            source: "view".to_owned(),
        },
        Control::KeyErased {
            uid: 0,
            certificate: [5; 32],
        },
        held,
        connecting,
        disconnected,
        shut,
        call,
        heard,
        path,
    ]
}

/// What held a session, what it was connected to, and what its walls refused.
fn used() -> [Control; 7] {
    let session = SESSION;
    let hold = Hold {
        by: By::ControlGroup,
        most: Some(5),
        refused: 1,
    };
    [
        Control::Held {
            session,
            memory: hold,
            processes: hold,
            processors: hold,
            disk: Hold { most: None, ..hold },
        },
        Control::Connecting {
            session,
            number: 1,
            to: "192.0.2.10:27000".to_owned(),
        },
        Control::Disconnected {
            session,
            number: 1,
            sent: 6,
            received: 7,
            errno: 0,
        },
        Control::DoorsShut { session, after: 1 },
        Control::CallRefused {
            session,
            call: "ptrace".to_owned(),
            times: 2,
        },
        Control::Heard {
            session,
            calls: String::new(),
            paths: "the kernel's audit is off".to_owned(),
        },
        Control::PathRefused {
            session,
            what: "fs.write_file".to_owned(),
            path: "/usr/lib".to_owned(),
            times: 1,
        },
    ]
}
