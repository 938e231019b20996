//! A record as one flat JSON object, which is what scripts and other systems read.
//!
//! Names that are not UTF-8 stand twice: readable in `path`, exact in `path_hex`. Fields are append-only.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

use safelight_policies::event::{Access, Control, Op, Verdict};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{OpenedRecord, What, time::utc_exact};
use crate::failure::{Failure, Kind, OrFail};

/// Every action that a record can tell of, by name.
pub(crate) const ACTIONS: [&str; 31] = [
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
    }
}

/// A flat JSON object whose fields keep their order.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Line(Vec<(&'static str, Value)>);

impl Line {
    /// Everything that a record says.
    pub(crate) fn of(record: &OpenedRecord) -> Self {
        let mut line = Self::default()
            .with("time", utc_exact(record.at_ns))
            .with("seq", record.seq)
            .with("source", record.source.as_str())
            .with("event", action(&record.what));
        match &record.what {
            What::Control(control) => line.control(control),
            What::Access { session, access } => {
                line.put("session", session.to_string());
                line.access(access);
            }
            What::Unreadable { session, index } => {
                line.put("session", session.to_string());
                line.put("index", *index);
            }
            What::OutOfTurn {
                session,
                index,
                expected,
            } => {
                line.put("session", session.to_string());
                line.put("index", *index);
                line.put("expected", *expected);
            }
        }
        line
    }

    /// The line with one more field.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.put(name, value);
        self
    }

    /// The line with a path: as text, and exactly if it is not text.
    pub(crate) fn with_path(mut self, path: &[u8]) -> Self {
        self.name(["path", "path_hex"], path);
        self
    }

    /// The fields after the first `skip`, for people.
    pub(crate) fn fields(&self, skip: usize) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().skip(skip).map(|(name, value)| (*name, value))
    }

    fn put(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.push((name, value.into()));
    }

    fn name(&mut self, [text, exact]: [&'static str; 2], bytes: &[u8]) {
        self.put(text, String::from_utf8_lossy(bytes));
        if std::str::from_utf8(bytes).is_err() {
            self.put(exact, data_encoding::HEXLOWER.encode(bytes));
        }
    }

    fn access(&mut self, access: &Access) {
        self.name(["path", "path_hex"], &access.path);
        if let Some(to) = &access.to {
            self.name(["to", "to_hex"], to);
        }
        self.put("verdict", verdict(&access.verdict));
        match &access.verdict {
            Verdict::Denied { rule } => self.put("rule", rule.as_str()),
            Verdict::Failed { errno } => self.put("errno", *errno),
            Verdict::Allowed | Verdict::Missing | Verdict::NotAuthentic => {}
        }
        self.put("pid", access.pid);
        self.put("comm", access.comm.as_str());
        if matches!(access.op, Op::CloseRead | Op::CloseWrite) {
            self.put("bytes", access.bytes);
        }
    }

    fn control(&mut self, control: &Control) {
        if let Some(session) = session(control) {
            self.put("session", session.to_string());
        }
        match control {
            Control::Packed { files, bytes } => self.amounts(*files, *bytes),
            Control::Leased { attempt, fence, .. } => {
                self.put("attempt", *attempt);
                self.put("fence", *fence);
            }
            Control::KeyReleased { to, .. } => self.hash("key", to),
            Control::KeyRefused { reason, .. } | Control::SetApart { reason, .. } => {
                self.put("reason", reason.as_str());
            }
            Control::Started {
                policy,
                landlock_abi,
                ..
            } => {
                self.hash("policy", policy);
                self.put("landlock_abi", *landlock_abi);
            }
            Control::Ended { cause, .. } => self.put("cause", cause.to_string()),
            Control::Committed {
                manifest,
                files,
                bytes,
                ..
            } => {
                self.hash("manifest", manifest);
                self.amounts(*files, *bytes);
            }
            Control::DebugAccess { uid, how } => {
                self.put("uid", *uid);
                self.put("how", how.as_str());
            }
            Control::Delivered { files, kept_aside } => {
                self.put("files", *files);
                self.put("kept_aside", *kept_aside);
            }
            Control::Recovered { bytes } => self.put("bytes", *bytes),
            Control::HungUp { source } => self.put("process", source.as_str()),
        }
    }

    fn amounts(&mut self, files: u64, bytes: u64) {
        self.put("files", files);
        self.put("bytes", bytes);
    }

    fn hash(&mut self, name: &'static str, bytes: &[u8; 32]) {
        self.put(name, data_encoding::HEXLOWER.encode(bytes));
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

fn verdict(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Allowed => "allowed",
        Verdict::Denied { .. } => "denied",
        Verdict::Missing => "missing",
        Verdict::NotAuthentic => "not-authentic",
        Verdict::Failed { .. } => "failed",
    }
}

fn session(control: &Control) -> Option<safelight_policies::id::SessionId> {
    match control {
        Control::Leased { session, .. }
        | Control::KeyReleased { session, .. }
        | Control::KeyRefused { session, .. }
        | Control::Started { session, .. }
        | Control::Ended { session, .. }
        | Control::Committed { session, .. }
        | Control::SetApart { session, .. } => Some(*session),
        Control::Packed { .. }
        | Control::DebugAccess { .. }
        | Control::Delivered { .. }
        | Control::Recovered { .. }
        | Control::HungUp { .. } => None,
    }
}

/// Writes records to a file as JSON lines: whole or not at all, durable, for its owner only. Replaces a file of that name, nothing else.
pub(crate) fn export(records: &[OpenedRecord], path: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        let message = format!("cannot write {}: {error}", path.display());
        Failure::new(Kind::Environment, message)
    };
    // Renaming over a device or a link would take it away from everyone.
    if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) {
        let message = format!("{} is there and is not a regular file", path.display());
        return Err(Failure::new(Kind::User, message));
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // A temporary file is made with mode 0600.
    let file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    let mut out = BufWriter::new(file);
    for record in records {
        serde_json::to_writer(&mut out, &Line::of(record)).or_fail(Kind::Environment)?;
        out.write_all(b"\n").map_err(failed)?;
    }
    let file = out
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use safelight_policies::cause::Cause;

    use super::{super::samples::*, *};

    fn json(record: &OpenedRecord) -> String {
        serde_json::to_string(&Line::of(record)).unwrap()
    }

    #[test]
    fn a_record_is_a_flat_object() {
        let mut exec = allowed(Op::Exec, "/usr/bin/povray");
        access_of(&mut exec).to = Some(b"+Iscene.pov\0+W64".to_vec());
        for (record, expected) in [
            (
                denied("/c/secret"),
                r#""source":"view","event":"open-read","session":"ses-0000000000000000","path":"/c/secret","verdict":"denied","rule":"p.toml:3 deny **","pid":7,"comm":"povray"}"#,
            ),
            (
                closed(Op::CloseRead, "/c/a", 5),
                r#""source":"view","event":"close-read","session":"ses-0000000000000000","path":"/c/a","verdict":"allowed","pid":7,"comm":"povray","bytes":5}"#,
            ),
            (
                with(Op::Mkdir, "/c/a", Verdict::Failed { errno: 17 }),
                r#""source":"view","event":"mkdir","session":"ses-0000000000000000","path":"/c/a","verdict":"failed","errno":17,"pid":7,"comm":"povray"}"#,
            ),
            (
                exec,
                r#""source":"view","event":"exec","session":"ses-0000000000000000","path":"/usr/bin/povray","to":"+Iscene.pov\u0000+W64","verdict":"allowed","pid":7,"comm":"povray"}"#,
            ),
            (
                control(Control::Packed { files: 2, bytes: 9 }),
                r#""source":"agent","event":"packed","files":2,"bytes":9}"#,
            ),
            (
                control(Control::Ended {
                    session: SESSION,
                    cause: Cause::Exited { code: 3 },
                }),
                r#""source":"agent","event":"ended","session":"ses-0000000000000000","cause":"exited with code 3"}"#,
            ),
            (
                unreadable(),
                r#""source":"view","event":"unreadable","session":"ses-0000000000000000","index":4}"#,
            ),
            (
                out_of_turn(),
                r#""source":"view","event":"out-of-turn","session":"ses-0000000000000000","index":4,"expected":2}"#,
            ),
        ] {
            let start = r#"{"time":"1970-01-01T00:00:01.000000500Z","seq":1,"#;
            assert_eq!(json(&record), format!("{start}{expected}"));
        }
    }

    #[test]
    fn a_name_that_is_no_text_is_there_exactly() {
        let mut record = renamed("/c/a", "/c/b");
        access_of(&mut record).path = b"/c/\xff\n".to_vec();
        let value: Value = serde_json::from_str(&json(&record)).unwrap();
        assert_eq!(value["path"], "/c/\u{fffd}\n");
        assert_eq!(value["path_hex"], "2f632fff0a");
        assert_eq!(value["to"], "/c/b");
        assert_eq!(value.get("to_hex"), None);
    }

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

    #[test]
    fn an_export_is_one_line_for_each_record_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.jsonl");
        export(&[read("/c/a"), read("/c/b\nc")], &path).unwrap();
        export(&[read("/c/a"), read("/c/b\nc"), unreadable()], &path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 3);
        for line in text.lines() {
            serde_json::from_str::<Value>(line).unwrap();
        }
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_export_takes_no_ones_place_but_a_files() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (
            directory.path().join("target"),
            directory.path().join("link"),
        );
        fs::write(&target, "x").unwrap();
        symlink(&target, &link).unwrap();
        for path in [link.as_path(), directory.path(), Path::new("/dev/null")] {
            let failure = export(&[], path).err().unwrap().to_string();
            assert!(failure.ends_with("is not a regular file"), "{failure}");
        }
        assert_eq!(fs::read_to_string(&target).unwrap(), "x");
    }
}
