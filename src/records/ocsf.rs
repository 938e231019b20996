//! A record in the shape of the Open Cybersecurity Schema Framework, version 1.8.0. Pure.
//!
//! Files are File System Activity (1001), the session's command is Process Activity (1007), sessions are Scheduled Job Activity (1006),
//! everything else that Safelight does is API Activity (6003). What the schema has no place for is in `unmapped`, as the flat line has it.

use safelight_policies::{
    event::{Access, Control, Op, Verdict},
    outline::Outline,
};
use serde_json::{Value, json};

use super::{Line, OpenedRecord, What, action};

/// The class of an event and the activity in it.
struct Class {
    class: u32,
    activity: u32,
}

/// Numbers of the schema.
mod uid {
    pub(super) const FILE: u32 = 1001;
    pub(super) const JOB: u32 = 1006;
    pub(super) const PROCESS: u32 = 1007;
    pub(super) const API: u32 = 6003;
    pub(super) const OTHER: u32 = 99;
}

/// A record of a job as an event of the schema.
pub(crate) fn ocsf(outline: &Outline, record: &OpenedRecord) -> Value {
    let Class { class, activity } = class(&record.what);
    let (status, severity, denied) = outcome(&record.what);
    let mut event = json!({
        "category_uid": class / 1000,
        "class_uid": class,
        "activity_id": activity,
        "type_uid": class * 100 + activity,
        "activity_name": action(&record.what),
        "time": record.at_ns / 1_000_000,
        "severity_id": severity,
        "status_id": status,
        "action_id": if denied { 2 } else { 1 },
        "disposition_id": if denied { 2 } else { 1 },
        "metadata": metadata(outline, record),
        "unmapped": Line::of(record),
    });
    let about = about(class, outline, record);
    if let Some(all) = event.as_object_mut() {
        all.extend(
            about
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value)),
        );
    }
    event
}

/// Who did it, with what, where.
fn about(class: u32, outline: &Outline, record: &OpenedRecord) -> Vec<(&'static str, Value)> {
    let mut all = Vec::new();
    let mut put = |name, value| all.push((name, value));
    let host = record
        .place
        .as_ref()
        .map_or("unknown", |place| place.node.as_str());
    put(
        "device",
        json!({"hostname": host, "type_id": 1, "uid": host}),
    );
    match &record.what {
        What::Access { access, .. } => {
            put("actor", actor(access));
            if class == uid::PROCESS {
                put("process", process(access));
            } else {
                put("file", file(&access.path));
                if let Some(to) = &access.to {
                    put("file_result", file(to));
                }
            }
            if let Verdict::Denied { rule } = &access.verdict {
                put("firewall_rule", json!({"name": rule}));
            }
        }
        What::Control(_) if class == uid::JOB => {
            put("job", json!({"name": outline.job.to_string()}));
            put("actor", json!({"app_name": record.source.as_str()}));
        }
        _ => {
            put("actor", json!({"app_name": record.source.as_str()}));
            put("api", json!({"operation": action(&record.what)}));
            put("src_endpoint", json!({"hostname": host}));
        }
    }
    all
}

fn metadata(outline: &Outline, record: &OpenedRecord) -> Value {
    json!({
        "version": "1.8.0",
        "product": {
            "name": "Safelight",
            "vendor_name": "Safelight",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "profiles": ["security_control", "host"],
        "log_name": record.log.to_string(),
        "sequence": record.seq,
        "tenant_uid": outline.client.as_str(),
        "correlation_uid": outline.job.to_string(),
    })
}

fn class(what: &What) -> Class {
    let of = |class, activity| Class { class, activity };
    match what {
        What::Access { access, .. } => match access.op {
            Op::Exec | Op::Program => of(uid::PROCESS, 1),
            Op::Create | Op::Mkdir | Op::Symlink | Op::Link | Op::Mknod => of(uid::FILE, 1),
            Op::CloseRead | Op::List => of(uid::FILE, 2),
            Op::CloseWrite => of(uid::FILE, 3),
            Op::Unlink | Op::Rmdir => of(uid::FILE, 4),
            Op::Rename => of(uid::FILE, 5),
            Op::Setattr | Op::Xattr => of(uid::FILE, 6),
            Op::Lookup => of(uid::FILE, 8),
            Op::OpenRead | Op::OpenWrite => of(uid::FILE, 14),
        },
        What::Control(control) => match control {
            Control::Packed { .. } => of(uid::JOB, 1),
            Control::Started { .. } => of(uid::JOB, 6),
            Control::Leased { .. } | Control::Ended { .. } => of(uid::JOB, 2),
            Control::KeyReleased { .. }
            | Control::KeyRefused { .. }
            | Control::DebugAccess { .. } => of(uid::API, 2),
            Control::Committed { .. } | Control::SetApart { .. } | Control::Delivered { .. } => {
                of(uid::API, 1)
            }
            _ => of(uid::API, uid::OTHER),
        },
        What::Unreadable { .. } | What::OutOfTurn { .. } => of(uid::API, uid::OTHER),
    }
}

/// Status, severity, and whether it was denied.
fn outcome(what: &What) -> (u32, u32, bool) {
    const SUCCESS: u32 = 1;
    const FAILURE: u32 = 2;
    match what {
        What::Access { access, .. } => match access.verdict {
            Verdict::Allowed => (SUCCESS, 1, false),
            Verdict::Denied { .. } => (FAILURE, 3, true),
            Verdict::Missing | Verdict::Failed { .. } => (FAILURE, 1, false),
            Verdict::NotAuthentic => (FAILURE, 5, true),
        },
        What::Control(
            Control::KeyRefused { .. } | Control::CallRefused { .. } | Control::PathRefused { .. },
        ) => (FAILURE, 3, true),
        What::Control(_) => (SUCCESS, 1, false),
        What::Unreadable { .. } | What::OutOfTurn { .. } => (FAILURE, 5, false),
    }
}

fn actor(access: &Access) -> Value {
    json!({"process": {"pid": access.pid, "name": access.comm}})
}

fn process(access: &Access) -> Value {
    let words: Vec<_> = access
        .to
        .iter()
        .flat_map(|to| to.split(|byte| *byte == 0))
        .map(String::from_utf8_lossy)
        .collect();
    let path = String::from_utf8_lossy(&access.path);
    json!({"pid": access.pid, "file": file(&access.path), "cmd_line": format!("{path} {}", words.join(" "))})
}

fn file(path: &[u8]) -> Value {
    let text = String::from_utf8_lossy(path);
    let name = text.rsplit('/').next().unwrap_or_default();
    json!({"path": text, "name": name, "type_id": 0})
}

#[cfg(test)]
mod tests {
    use super::{super::samples::*, *};

    fn outline() -> Outline {
        farm::Farm::new().opened.envelope.outline.clone()
    }

    #[test]
    fn every_event_has_what_the_schema_requires() {
        let outline = outline();
        let mut all: Vec<_> = controls().into_iter().map(control).collect();
        all.extend([
            read("/c/a"),
            denied("/c/b"),
            renamed("/c/a", "/c/b"),
            unreadable(),
            out_of_turn(),
        ]);
        for number in 0..=u8::MAX {
            let Ok(op) = postcard::from_bytes::<Op>(&[number]) else {
                break;
            };
            all.push(allowed(op, "/c/a"));
        }
        for record in &all {
            let event = ocsf(&outline, record);
            let number = |name: &str| {
                event[name]
                    .as_u64()
                    .unwrap_or_else(|| panic!("{name}: {event}"))
            };
            assert_eq!(
                number("type_uid"),
                number("class_uid") * 100 + number("activity_id")
            );
            assert_eq!(number("category_uid"), number("class_uid") / 1000);
            for name in ["time", "severity_id", "status_id", "action_id"] {
                number(name);
            }
            assert_eq!(event["metadata"]["version"], "1.8.0");
            assert!(event["device"]["hostname"].is_string());
            let own = match number("class_uid") {
                1001 => "file",
                1006 => "job",
                1007 => "process",
                6003 => "api",
                other => panic!("{other}"),
            };
            assert!(event[own].is_object(), "{event}");
        }
        let refused = ocsf(&outline, &denied("/c/b"));
        assert_eq!(
            (&refused["action_id"], &refused["type_uid"]),
            (&json!(2), &json!(100_114))
        );
        assert_eq!(refused["firewall_rule"]["name"], "p.toml:3 deny **");
    }
}
