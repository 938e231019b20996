//! Decides what a session may do below a central path.
//!
//! A denial beats every allowance, the order of rules never matters, and a denied directory takes everything below it along. What no
//! rule allows is refused. A path that is not normal is refused before any rule is asked.

use crate::{
    glob::{Glob, Positions},
    grant::{CentralGrant, CentralRule, CentralRules},
};

/// What a session wants to do with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Look it up, see its kind, size and times, and, if it is a directory, list it. Allowed on the way to whatever a rule allows.
    Traverse,
    /// Read its bytes, its target or its attributes.
    Read,
    /// Create, change, rename or remove it.
    Write,
    /// Create a directory here: allowed where writing is, and on the way to where writing may be allowed.
    MakeDirectory,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// It may be done.
    Allow,
    /// It may not be done.
    Deny {
        /// The rule with its `file:line`, or why no rule applies.
        rule: String,
    },
}

/// A rule that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: glob {glob:?}: {problem}")]
pub struct BadRule {
    /// Its `file:line`.
    pub origin: String,
    /// Its glob.
    pub glob: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The compiled rules of one central path.
#[derive(Debug, Clone)]
pub struct Judge {
    read: Vec<Rule>,
    write: Vec<Rule>,
    deny: Vec<Rule>,
    read_only: bool,
}

#[derive(Debug, Clone)]
struct Rule {
    glob: Glob,
    text: CentralRule,
}

/// Why the judge answered as it did.
pub(crate) enum Found<'a> {
    Allowed(&'a CentralRule),
    Denied(&'a CentralRule),
    NotNormal,
    ReadOnly,
    NoRule,
}

/// The longest path that is judged, in bytes: as long as the kernel takes.
const PATH_MAX: usize = 4096;

impl Judge {
    /// Compiles rules.
    pub fn new(rules: &CentralRules) -> Result<Self, BadRule> {
        let compile = |rules: &[CentralRule], change: fn(Glob) -> Glob| {
            rules
                .iter()
                .map(|rule| Rule::new(rule, change))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            read: compile(&rules.read, |glob| glob)?,
            write: compile(&rules.write, |glob| glob)?,
            // Below a denied directory all is denied, so `a/**` is taken to mean `a`: a directory that is denied throughout is not shown.
            deny: compile(&rules.deny, Glob::without_trailing_across)?,
            read_only: false,
        })
    }

    /// Compiles the rules of a granted central path, whose `write = false` refuses every write.
    pub fn for_grant(grant: &CentralGrant) -> Result<Self, BadRule> {
        Ok(Self {
            read_only: !grant.write,
            ..Self::new(&grant.rules)?
        })
    }

    /// Answers for a path relative to the central path; the empty path is the central path itself.
    pub fn decide(&self, path: &[u8], want: Want) -> Decision {
        let rule = match self.find(path, want) {
            Found::Allowed(_) => return Decision::Allow,
            Found::Denied(rule) => format!("{}: deny {:?}", rule.origin, rule.glob),
            Found::NotNormal => "the path is not normal".to_owned(),
            Found::ReadOnly => "the central path was granted read-only".to_owned(),
            Found::NoRule => match want {
                Want::Traverse | Want::Read => "no rule allows reading here".to_owned(),
                Want::Write | Want::MakeDirectory => "no rule allows writing here".to_owned(),
            },
        };
        Decision::Deny { rule }
    }

    pub(crate) fn find(&self, path: &[u8], want: Want) -> Found<'_> {
        let Some(names) = parts(path) else {
            return Found::NotNormal;
        };
        if let Some(rule) = self.deny.iter().find(|rule| rule.names_any_prefix(&names)) {
            return Found::Denied(&rule.text);
        }
        let writes = matches!(want, Want::Write | Want::MakeDirectory);
        if writes && self.read_only {
            return Found::ReadOnly;
        }
        let allow: [&[Rule]; 2] = match want {
            Want::Read => [&self.read, &[]],
            Want::Write | Want::MakeDirectory => [&[], &self.write],
            Want::Traverse => [&self.read, &self.write],
        };
        let on_the_way = matches!(want, Want::Traverse | Want::MakeDirectory);
        allow
            .into_iter()
            .flatten()
            .find(|rule| rule.allows(&names, on_the_way))
            .map_or(Found::NoRule, |rule| Found::Allowed(&rule.text))
    }
}

impl Rule {
    fn new(text: &CentralRule, change: fn(Glob) -> Glob) -> Result<Self, BadRule> {
        Glob::new(&text.glob)
            .map(|glob| Self {
                glob: change(glob),
                text: text.clone(),
            })
            .map_err(|problem| BadRule {
                origin: text.origin.clone(),
                glob: text.glob.clone(),
                problem,
            })
    }

    fn allows(&self, names: &[&[u8]], on_the_way: bool) -> bool {
        let at = names
            .iter()
            .fold(self.glob.start(), |at, name| self.glob.step(at, name));
        self.glob.accepts(at) || (on_the_way && self.glob.may_accept_below(at))
    }

    fn names_any_prefix(&self, names: &[&[u8]]) -> bool {
        let mut at: Positions = self.glob.start();
        let mut found = self.glob.accepts(at);
        for name in names {
            at = self.glob.step(at, name);
            found |= self.glob.accepts(at);
        }
        found
    }
}

/// The parts of a normal relative path; `None` if it is not one.
fn parts(path: &[u8]) -> Option<Vec<&[u8]>> {
    if path.is_empty() {
        return Some(Vec::new());
    }
    if path.len() > PATH_MAX || path.contains(&0) {
        return None;
    }
    let names: Vec<_> = path.split(|byte| *byte == b'/').collect();
    let normal = names
        .iter()
        .all(|name| !matches!(*name, b"" | b"." | b".."));
    normal.then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules(read: &[&str], write: &[&str], deny: &[&str]) -> CentralRules {
        let list = |name: &str, globs: &[&str]| {
            globs
                .iter()
                .enumerate()
                .map(|(index, glob)| CentralRule {
                    glob: (*glob).to_owned(),
                    origin: format!("{name}.toml:{}", index + 1),
                })
                .collect()
        };
        CentralRules {
            read: list("read", read),
            write: list("write", write),
            deny: list("deny", deny),
        }
    }

    fn judge(read: &[&str], write: &[&str], deny: &[&str]) -> Judge {
        Judge::new(&rules(read, write, deny)).unwrap()
    }

    fn allowed(judge: &Judge, path: &str, want: Want) -> bool {
        judge.decide(path.as_bytes(), want) == Decision::Allow
    }

    #[test]
    fn the_way_to_an_allowed_file_is_open_and_no_wider() {
        let judge = judge(&["assets/*/model.abc"], &["jobs/7/out/**"], &[]);
        for path in [
            "",
            "assets",
            "assets/car",
            "assets/car/model.abc",
            "jobs",
            "jobs/7",
            "jobs/7/out",
            "jobs/7/out/x",
        ] {
            assert!(allowed(&judge, path, Want::Traverse), "{path:?}");
        }
        for path in ["asset", "assets/car/other.abc", "jobs/8", "jobs/7/in"] {
            assert!(!allowed(&judge, path, Want::Traverse), "{path:?}");
        }
        for path in ["", "assets", "assets/car", "jobs/7/out/x"] {
            assert!(!allowed(&judge, path, Want::Read), "{path:?}");
        }
        assert!(allowed(&judge, "assets/car/model.abc", Want::Read));
    }

    #[test]
    fn directories_may_be_made_on_the_way_to_where_writing_is_allowed() {
        let judge = judge(&["**"], &["jobs/7/out/**"], &["jobs/7/out/secret"]);
        for path in ["jobs", "jobs/7", "jobs/7/out", "jobs/7/out/a"] {
            assert!(allowed(&judge, path, Want::MakeDirectory), "{path:?}");
        }
        for path in ["jobs/8", "other", "jobs/7/out/secret"] {
            assert!(!allowed(&judge, path, Want::MakeDirectory), "{path:?}");
        }
        assert!(!allowed(&judge, "jobs/7/out", Want::Write));
        assert!(allowed(&judge, "jobs/7/out/a", Want::Write));
    }

    #[test]
    fn a_denied_directory_takes_along_what_is_below() {
        for deny in ["show/secret", "show/secret/**", "**/secret/**", "*/sec*"] {
            let judge = judge(&["**"], &["**"], &[deny]);
            for path in ["show/secret", "show/secret/a", "show/secret/a/b"] {
                for want in [Want::Traverse, Want::Read, Want::Write, Want::MakeDirectory] {
                    assert_eq!(
                        judge.decide(path.as_bytes(), want),
                        Decision::Deny {
                            rule: format!("deny.toml:1: deny {deny:?}")
                        },
                        "{deny:?} over {path:?}"
                    );
                }
            }
            assert!(allowed(&judge, "show", Want::Traverse));
            assert!(allowed(&judge, "show/open", Want::Read));
        }
    }

    #[test]
    fn each_refusal_says_why() {
        let judge = judge(&["in/**"], &["out/**"], &[]);
        for (path, want, why) in [
            ("in/a", Want::Write, "no rule allows writing here"),
            ("out/a", Want::Read, "no rule allows reading here"),
            ("in/../out/a", Want::Write, "the path is not normal"),
            ("/out/a", Want::Write, "the path is not normal"),
            ("out//a", Want::Write, "the path is not normal"),
            ("out/a/", Want::Write, "the path is not normal"),
            ("out/.", Want::Write, "the path is not normal"),
            ("out/\0", Want::Write, "the path is not normal"),
        ] {
            assert_eq!(
                judge.decide(path.as_bytes(), want),
                Decision::Deny {
                    rule: why.to_owned()
                },
                "{path:?}"
            );
        }
    }

    #[test]
    fn a_read_only_grant_refuses_every_write() {
        let grant = CentralGrant {
            path: "/central".parse().unwrap(),
            write: false,
            rules: rules(&["**"], &["**"], &[]),
        };
        let judge = Judge::for_grant(&grant).unwrap();
        assert!(allowed(&judge, "a", Want::Read));
        for want in [Want::Write, Want::MakeDirectory] {
            let why = "the central path was granted read-only".to_owned();
            assert_eq!(judge.decide(b"a", want), Decision::Deny { rule: why });
        }
    }

    #[test]
    fn a_bad_rule_is_named() {
        let error = Judge::new(&rules(&["a", "../b"], &[], &[])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "read.toml:2: glob \"../b\": it has a '.' or '..' part"
        );
    }

    const GLOBS: [&str; 9] = [
        "**", "a", "a/**", "*/b", "**/b", "a/*/c", "b/**/a", "[ab]", "c",
    ];
    const WANTS: [Want; 4] = [Want::Traverse, Want::Read, Want::Write, Want::MakeDirectory];

    fn globs() -> impl Strategy<Value = Vec<&'static str>> {
        prop::collection::vec(prop::sample::select(GLOBS.to_vec()), 0..4)
    }

    fn path() -> impl Strategy<Value = Vec<&'static str>> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 0..5)
    }

    proptest! {
        #[test]
        fn fewer_allowances_and_more_denials_only_narrow(
            (read, write, deny) in (globs(), globs(), globs()),
            (drop, extra, path) in (any::<prop::sample::Index>(), globs(), path()),
        ) {
            let (path, wide) = (path.join("/"), judge(&read, &write, &deny));
            let mut less = read.clone();
            if !less.is_empty() {
                less.remove(drop.index(less.len()));
            }
            let denying = judge(&read, &write, &[deny.clone(), extra].concat());
            let lacking = judge(&less, &write, &deny);
            for want in WANTS {
                for narrow in [&denying, &lacking] {
                    prop_assert!(!allowed(narrow, &path, want) || allowed(&wide, &path, want));
                }
            }
        }

        #[test]
        fn what_is_denied_is_denied_below_and_for_every_want(
            (read, write, deny) in (globs(), globs(), globs()), path in path(), below in path(),
        ) {
            let judge = judge(&read, &write, &deny);
            let at = path.join("/");
            let under = [path, below].concat().join("/");
            if matches!(judge.find(at.as_bytes(), Want::Read), Found::Denied(_)) {
                for want in WANTS {
                    prop_assert!(matches!(judge.find(under.as_bytes(), want), Found::Denied(_)));
                }
            }
        }

        #[test]
        fn what_may_be_read_or_written_can_be_reached(
            (read, write, deny) in (globs(), globs(), globs()), path in path(),
        ) {
            let judge = judge(&read, &write, &deny);
            let whole = path.join("/");
            if allowed(&judge, &whole, Want::Read) || allowed(&judge, &whole, Want::Write) {
                for end in 0..=path.len() {
                    prop_assert!(allowed(&judge, &path[..end].join("/"), Want::Traverse));
                }
            }
        }

        #[test]
        fn no_path_breaks_the_judge(bytes: Vec<u8>) {
            let judge = judge(&["**/a*", "?[!b]/**"], &["**"], &["*z"]);
            for want in WANTS {
                let _ = judge.decide(&bytes, want);
            }
        }
    }
}
