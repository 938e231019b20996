//! Answers "may a job do this, and who says so?" from the policy's own lines.

use serde::Serialize;

use crate::{
    central::{BadRule, Found, Judge, Want},
    grant::{Feature, Requirement, Rights},
    never::why_never,
    origin::Origin,
    place::{SYNTHESIZED, within},
    policy::Policy,
};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Query<'a> {
    /// A path inside the session: absolute for the system's, relative for one below any central path.
    Path(&'a str),
    /// A system call by name.
    Syscall(&'a str),
    /// A host, with or without a port.
    Address(&'a str),
}

/// The answer in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Reading only.
    Read,
    /// Reading and executing.
    ReadExecute,
    /// Reading and writing.
    ReadWrite,
    /// Reading, writing and executing.
    ReadWriteExecute,
    /// Writing, but not reading.
    Write,
    /// Looking up and listing, on the way to what a rule names.
    Traverse,
    /// Done as asked.
    Allowed,
    /// Done for harmless arguments, refused for others.
    Filtered,
    /// Refused.
    Denied,
    /// Not there at all.
    Absent,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// In a word.
    pub verdict: Verdict,
    /// The rule that decided.
    pub rule: String,
    /// Where the rule stands; `None` if no policy can say otherwise.
    pub origin: Option<String>,
    /// Why.
    pub why: String,
}

/// Calls whose arguments the sandbox looks at, whatever the policy says. The worker's filter has the same list.
const FILTERED: [(&str, &str); 8] = [
    (
        "clone",
        "processes and threads may be made, namespaces may not",
    ),
    (
        "ioctl",
        "requests that push input into a terminal are refused",
    ),
    (
        "socket",
        "Unix and IP sockets may be made, other families may not",
    ),
    (
        "socketpair",
        "Unix sockets may be made, other families may not",
    ),
    (
        "personality",
        "it may be asked for, and set to that of Linux",
    ),
    ("sendto", FAST_OPEN),
    ("sendmsg", FAST_OPEN),
    ("sendmmsg", FAST_OPEN),
];

const FAST_OPEN: &str = "data may be sent, but not by opening a connection with it";

/// What the sandbox looks at in a call's arguments, whatever the policy says; `None` if it looks at none.
pub fn filtered(call: &str) -> Option<&'static str> {
    let found = FILTERED.iter().find(|(name, _)| *name == call);
    found.map(|(_, what)| *what)
}

impl Policy {
    /// Explains what the policy says to a query.
    pub fn explain(&self, query: Query<'_>) -> Result<Explanation, BadRule> {
        match query {
            Query::Path(path) if path.starts_with('/') => Ok(self.explain_system(path)),
            Query::Path(path) => self.explain_central(path),
            Query::Syscall(call) => Ok(self.explain_call(call)),
            Query::Address(address) => Ok(self.explain_address(address)),
        }
    }

    fn explain_system(&self, path: &str) -> Explanation {
        let path = match path.trim_end_matches('/') {
            "" => "/",
            path => path,
        };
        let odd = path
            .split('/')
            .skip(1)
            .any(|part| matches!(part, "" | "." | "..") && path != "/");
        if odd {
            return fixed(
                Verdict::Denied,
                "the path is not normal",
                "ask for it without '.', '..' and '//'",
            );
        }
        if let Some((at, entry)) = self.layer.tmp.iter().find(|(at, _)| within(path, at)) {
            let verdict = if entry.value.exec {
                Verdict::ReadWriteExecute
            } else {
                Verdict::ReadWrite
            };
            return ruled(verdict, format!("tmp {at}"), &entry.origin, &entry.reason);
        }
        let mut holding: Vec<_> = self
            .layer
            .root
            .iter()
            .filter(|(at, _)| within(path, at))
            .collect();
        // Rights of nested paths add up, so the one that grants most decides; among equals the nearest.
        holding.sort_by_key(|(at, entry)| (entry.value.rights == Rights::ReadExecute, at.len()));
        if let Some((at, entry)) = holding.pop() {
            let verdict = match entry.value.rights {
                Rights::Read => Verdict::Read,
                Rights::ReadExecute => Verdict::ReadExecute,
            };
            return ruled(verdict, format!("root {at}"), &entry.origin, &entry.reason);
        }
        self.explain_own(path)
    }

    /// Places that the sandbox makes for each session, and what is left.
    fn explain_own(&self, path: &str) -> Explanation {
        if let Some((name, entry)) = path
            .strip_prefix("/dev/")
            .and_then(|name| self.layer.devices.get_key_value(name))
        {
            return ruled(
                Verdict::ReadWrite,
                format!("device {name}"),
                &entry.origin,
                &entry.reason,
            );
        }
        if SYNTHESIZED.contains(&path) {
            return fixed(
                Verdict::Read,
                "the session has its own",
                "it names nobody but the session's user; the host's is not shown",
            );
        }
        if within(path, "/proc") {
            return fixed(
                Verdict::Read,
                "the session has its own /proc",
                "it shows the session's processes only",
            );
        }
        let below = self
            .layer
            .root
            .keys()
            .chain(self.layer.tmp.keys())
            .any(|at| path == "/" || within(at, path));
        if below {
            return fixed(
                Verdict::Traverse,
                "a directory on the way",
                "it holds what the policy names below it, and nothing else",
            );
        }
        fixed(
            Verdict::Absent,
            "no root path, tmp directory or device covers it",
            "what no rule names does not exist in the session",
        )
    }

    fn explain_central(&self, path: &str) -> Result<Explanation, BadRule> {
        let judge = Judge::new(&self.central_rules())?;
        let [read, write, traverse] =
            [Want::Read, Want::Write, Want::Traverse].map(|want| judge.find(path.as_bytes(), want));
        let because = |verdict, rule: &crate::grant::CentralRule, list: &str| Explanation {
            verdict,
            rule: format!("central {list} {:?}", rule.glob),
            origin: Some(rule.origin.clone()),
            why: self.central_reason(list, &rule.glob),
        };
        Ok(match (read, write, traverse) {
            (Found::Denied(rule), ..) => because(Verdict::Denied, rule, "deny"),
            (Found::NotNormal, ..) => fixed(
                Verdict::Denied,
                "the path is not normal",
                "ask for it without '.', '..' and '//'",
            ),
            (Found::Allowed(_), Found::Allowed(rule), _) => {
                because(Verdict::ReadWrite, rule, "write")
            }
            (Found::Allowed(rule), ..) => because(Verdict::Read, rule, "read"),
            (_, Found::Allowed(rule), _) => because(Verdict::Write, rule, "write"),
            (_, _, Found::Allowed(rule)) => Explanation {
                verdict: Verdict::Traverse,
                rule: format!("on the way to {:?}", rule.glob),
                origin: Some(rule.origin.clone()),
                why: "a directory can be listed if a rule names something below it".to_owned(),
            },
            _ => fixed(
                Verdict::Denied,
                "no central rule names it",
                "what no rule allows is refused",
            ),
        })
    }

    fn central_reason(&self, list: &str, glob: &str) -> String {
        let map = match list {
            "read" => &self.layer.read,
            "write" => &self.layer.write,
            _ => &self.layer.deny,
        };
        map.get(glob)
            .map(|entry| entry.reason.clone())
            .unwrap_or_default()
    }

    fn explain_call(&self, call: &str) -> Explanation {
        if let Some(why) = why_never(call) {
            return fixed(Verdict::Denied, "no policy may allow it", why);
        }
        if let Some(entry) = self.layer.denied_calls.get(call) {
            return ruled(
                Verdict::Denied,
                format!("seccomp deny {call}"),
                &entry.origin,
                &entry.reason,
            );
        }
        let Some(entry) = self.layer.calls.get(call) else {
            return ruled(
                Verdict::Denied,
                "no seccomp rule allows it".to_owned(),
                &self.on_deny.origin,
                "what no rule allows is refused",
            );
        };
        let (verdict, why) = match filtered(call) {
            Some(filter) => (Verdict::Filtered, format!("{}; {filter}", entry.reason)),
            None => (Verdict::Allowed, entry.reason.clone()),
        };
        ruled(
            verdict,
            format!("seccomp allow {call}"),
            &entry.origin,
            &why,
        )
    }

    fn explain_address(&self, address: &str) -> Explanation {
        let tcp = address.strip_prefix("tcp:").unwrap_or(address);
        if let Some(entry) = self.layer.reach.get(tcp) {
            let why = format!(
                "{}; through a proxy, each connection on the log",
                entry.reason
            );
            return ruled(
                Verdict::Allowed,
                format!("reach tcp {tcp}"),
                &entry.origin,
                &why,
            );
        }
        let wanted = self.layer.features.get(&Feature::NetworkNamespace);
        let (verdict, why) = match wanted.map(|at| at.value) {
            Some(Requirement::Require) => (
                Verdict::Denied,
                if self.layer.reach.is_empty() {
                    "the session's network has no interface that leads anywhere"
                } else {
                    "the session's network leads to the addresses and ports that the policy names, and nowhere else"
                },
            ),
            Some(Requirement::BestEffort) => (
                Verdict::Filtered,
                "refused where the host can give a session a network of its own, else reachable like from the host",
            ),
            Some(Requirement::Off) | None => {
                (Verdict::Allowed, "the session shares the host's network")
            }
        };
        Explanation {
            verdict,
            rule: format!("network of {address:?}"),
            origin: wanted.map(|at| at.origin.to_string()),
            why: why.to_owned(),
        }
    }
}

fn ruled(verdict: Verdict, rule: String, origin: &Origin, why: &str) -> Explanation {
    Explanation {
        verdict,
        rule,
        origin: Some(origin.to_string()),
        why: why.to_owned(),
    }
}

fn fixed(verdict: Verdict, rule: &str, why: &str) -> Explanation {
    Explanation {
        verdict,
        rule: rule.to_owned(),
        origin: None,
        why: why.to_owned(),
    }
}
