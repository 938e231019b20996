//! A record as one flat JSON object, which is what scripts and other systems read.
//!
//! Names that are not UTF-8 stand twice: readable in `path`, exact in `path_hex`. Fields are append-only.

use safelight_policies::{
    event::{Access, Control, Hold, Op, Verdict},
    id::SessionId,
};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{Name, OpenedRecord, What, action, time::utc_exact};
use crate::results::task_name;

/// A flat JSON object whose fields keep their order.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Line(Vec<(&'static str, Value)>);

impl Line {
    /// Everything that a record says, and in which log.
    pub(crate) fn of(record: &OpenedRecord) -> Self {
        let mut line = Self::said(record);
        line.stands(record.log);
        if let Some(place) = &record.place {
            line.add("node", place.node.as_str());
            line.add("slot", place.slot.0);
            if let Some(site) = &place.site {
                line.add("site", site.as_str());
            }
        }
        line
    }

    /// Everything that a record says.
    pub(crate) fn said(record: &OpenedRecord) -> Self {
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

    /// Where the record stands, unless it is in the job's own log.
    fn stands(&mut self, log: Name) {
        let Some(run) = log.run() else { return };
        let kind = match log {
            Name::Release(_) => "release",
            Name::Look(_) => "look",
            _ => "session",
        };
        self.put("log", kind);
        self.put("log_session", run.session.to_string());
        if let Some((task, attempt)) = run.of {
            self.add("task", task_name(task));
            self.put("task_attempt", attempt);
        }
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

    /// The line with one more field, before all others.
    pub(crate) fn first(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.insert(0, (name, value.into()));
        self
    }

    /// The fields after the first `skip`.
    pub(crate) fn fields(&self, skip: usize) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().skip(skip).map(|(name, value)| (*name, value))
    }

    fn put(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.push((name, value.into()));
    }

    /// Puts what the line does not say yet.
    fn add(&mut self, name: &'static str, value: impl Into<Value>) {
        if !self.0.iter().any(|(known, _)| *known == name) {
            self.put(name, value);
        }
    }

    fn name(&mut self, [text, exact]: [&'static str; 2], bytes: &[u8]) {
        self.put(text, String::from_utf8_lossy(bytes));
        if std::str::from_utf8(bytes).is_err() {
            self.put(exact, data_encoding::HEXLOWER.encode(bytes));
        }
    }

    fn access(&mut self, access: &Access) {
        self.name(["path", "path_hex"], &access.path);
        match &access.to {
            Some(from) if access.op == Op::Program => {
                let parents = from.split(|byte| *byte == 0);
                let parents: Vec<_> = parents.map(String::from_utf8_lossy).collect();
                self.put("parents", serde_json::json!(parents));
            }
            Some(to) => self.name(["to", "to_hex"], to),
            None => {}
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
        if let Some(session) = session_of(control) {
            self.put("session", session.to_string());
        }
        match control {
            Control::Packed { files, bytes } => self.amounts(*files, *bytes),
            Control::Leased {
                task,
                attempt,
                fence,
                node,
                slot,
                ..
            } => {
                self.put("task", task_name(*task));
                self.put("attempt", *attempt);
                self.put("fence", *fence);
                self.put("node", node.as_str());
                self.put("slot", slot.0);
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
            Control::KeyErased { uid, certificate } => {
                self.put("uid", *uid);
                self.hash("certificate", certificate);
            }
            _ => self.session_used(control),
        }
    }

    /// What held a session, and what it was connected to.
    fn session_used(&mut self, control: &Control) {
        match control {
            Control::Connecting { number, to, .. } => {
                self.put("connection", *number);
                self.put("to", to.as_str());
            }
            Control::Disconnected {
                number,
                sent,
                received,
                errno,
                ..
            } => {
                self.put("connection", *number);
                self.put("sent", *sent);
                self.put("received", *received);
                self.put("errno", *errno);
            }
            Control::DoorsShut { after, .. } => self.put("connections", *after),
            Control::Held {
                memory,
                processes,
                processors,
                disk,
                ..
            } => {
                self.hold(["memory_by", "memory_most", "memory_refused"], memory);
                let names = ["processes_by", "processes_most", "processes_refused"];
                self.hold(names, processes);
                let names = ["processors_by", "processors_most", "processors_refused"];
                self.hold(names, processors);
                self.hold(["disk_by", "disk_most", "disk_refused"], disk);
            }
            _ => self.session_refused(control),
        }
    }

    /// What walls refused that have no log of their own.
    fn session_refused(&mut self, control: &Control) {
        match control {
            Control::CallRefused { call, times, .. } => {
                self.put("call", call.as_str());
                self.put("times", *times);
            }
            Control::PathRefused {
                what, path, times, ..
            } => {
                self.put("what", what.as_str());
                self.put("path", path.as_str());
                self.put("times", *times);
            }
            Control::Heard { calls, paths, .. } => {
                self.put("calls_unheard", calls.as_str());
                self.put("paths_unheard", paths.as_str());
            }
            _ => {}
        }
    }

    fn hold(&mut self, [by, most, refused]: [&'static str; 3], hold: &Hold) {
        self.put(by, hold.by.as_str());
        if let Some(amount) = hold.most {
            self.put(most, amount);
        }
        self.put(refused, hold.refused);
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

/// The session that a record names.
pub(super) fn session(what: &What) -> Option<SessionId> {
    match what {
        What::Control(control) => session_of(control),
        What::Access { session, .. }
        | What::Unreadable { session, .. }
        | What::OutOfTurn { session, .. } => Some(*session),
    }
}

fn session_of(control: &Control) -> Option<SessionId> {
    match control {
        Control::Leased { session, .. }
        | Control::KeyReleased { session, .. }
        | Control::KeyRefused { session, .. }
        | Control::Started { session, .. }
        | Control::Ended { session, .. }
        | Control::Committed { session, .. }
        | Control::Held { session, .. }
        | Control::Connecting { session, .. }
        | Control::Disconnected { session, .. }
        | Control::DoorsShut { session, .. }
        | Control::CallRefused { session, .. }
        | Control::Heard { session, .. }
        | Control::PathRefused { session, .. }
        | Control::SetApart { session, .. } => Some(*session),
        Control::Packed { .. }
        | Control::DebugAccess { .. }
        | Control::Delivered { .. }
        | Control::Recovered { .. }
        | Control::HungUp { .. }
        | Control::KeyErased { .. } => None,
    }
}

#[cfg(test)]
mod tests {
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
}
