//! A record as a person reads it, on one line. Pure. Everything of a job's is made harmless here.

use safelight_policies::event::{Access, Op, Verdict};

use super::rows::{program, task_cell};
use crate::{
    records::{Line, OpenedRecord, What, action, utc_of_ns},
    terminal::shown,
};

/// Fields of a line that a sentence says by itself: time, number, source, action.
const SAID: usize = 4;

/// A record on one line, with its task if that says something.
pub(super) fn sentence(record: &OpenedRecord, names_tasks: bool) -> String {
    let said = match &record.what {
        What::Access { access, .. } => access_sentence(access),
        _ => {
            let line = Line::said(record);
            let field = |(name, value): (&str, &serde_json::Value)| match value.as_str() {
                Some(text) => format!("{name}={}", shown(text.as_bytes())),
                None => format!("{name}={value}"),
            };
            line.fields(SAID).map(field).collect::<Vec<_>>().join(" ")
        }
    };
    let (time, source) = (utc_of_ns(record.at_ns), record.source.as_str());
    let task = match names_tasks {
        true => format!("{:<8}  ", task_cell(record.task)),
        false => String::new(),
    };
    format!(
        "{time}  {task}{source:<6}  {:<12}  {said}",
        action(&record.what)
    )
}

fn access_sentence(access: &Access) -> String {
    let mut text = shown(&access.path);
    match (&access.to, access.op) {
        (Some(words), Op::Exec) => {
            for word in words.split(|byte| *byte == 0) {
                text.push(' ');
                text.push_str(&shown(word));
            }
        }
        (Some(from), Op::Program) => {
            for parent in from.split(|byte| *byte == 0) {
                text.push_str(" < ");
                text.push_str(&shown(parent));
            }
        }
        (Some(to), Op::Symlink | Op::Link | Op::Rename) => {
            text.push_str(" -> ");
            text.push_str(&shown(to));
        }
        _ => {}
    }
    if matches!(access.op, Op::CloseRead | Op::CloseWrite) {
        text.push_str(&format!("  {} bytes", access.bytes));
    }
    match &access.verdict {
        Verdict::Allowed => {}
        Verdict::Denied { rule } => {
            text.push_str(&format!("  denied by {}", shown(rule.as_bytes())))
        }
        Verdict::Missing => text.push_str("  missing"),
        Verdict::NotAuthentic => text.push_str("  not authentic"),
        Verdict::Failed { errno } => {
            let why = std::io::Error::from_raw_os_error(*errno);
            text.push_str(&format!("  failed: {why}"));
        }
    }
    format!("{text}  ({})", program(access))
}

#[cfg(test)]
mod tests {
    use safelight_policies::{event::Control, id::TaskId};

    use super::*;
    use crate::records::samples::*;

    #[test]
    fn a_record_is_a_sentence() {
        let mut exec = allowed(Op::Exec, "/usr/bin/povray");
        access_of(&mut exec).to = Some(b"povray\0+W64".to_vec());
        let mut kernel = closed(Op::CloseWrite, "/c/a", 5);
        access_of(&mut kernel).pid = 0;
        for (record, expected) in [
            (read("/c/a"), "view    open-read     /c/a  (povray 7)"),
            (
                not_found("/c/\x1b[2J"),
                "view    lookup        /c/\\u{1b}[2J  missing  (povray 7)",
            ),
            (
                denied("/c/a"),
                "view    open-read     /c/a  denied by p.toml:3 deny **  (povray 7)",
            ),
            (
                renamed("/c/a", "/c/b\n"),
                "view    rename        /c/a -> /c/b\\n  (povray 7)",
            ),
            (
                exec,
                "view    exec          /usr/bin/povray povray +W64  (povray 7)",
            ),
            (kernel, "view    close-write   /c/a  5 bytes  (kernel)"),
            (
                control(Control::DebugAccess {
                    uid: 0,
                    how: "a\x07".to_owned(),
                }),
                "agent   debug-access  uid=0 how=a\\u{7}",
            ),
            (
                unreadable(),
                "view    unreadable    session=ses-0000000000000000 index=4",
            ),
        ] {
            assert_eq!(
                sentence(&record, false),
                format!("1970-01-01T00:00:01Z  {expected}")
            );
        }
    }

    #[test]
    fn a_job_of_many_tasks_says_which() {
        let mut record = read("/c/a");
        record.task = Some(TaskId { step: 0, task: 11 });
        let said = sentence(&record, true);
        assert!(said.contains("Z  0/11      view    open-read "), "{said}");
        let own = control(Control::Recovered { bytes: 1 });
        assert!(sentence(&own, true).contains("Z  -         agent "));
    }
}
