//! From what a run of a program did below its central paths to a policy that allows it, for a person to read and to tighten.
//!
//! What was seen is a job's word: names are taken only as far as they can be written as globs, and programs only as plain words.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    amount::{show_bytes, show_seconds},
    glob::Glob,
    id::PolicyName,
    never::why_never,
};

/// The most rules of a kind. More than this are joined, directory by directory, from the deepest.
const RULES_MAX: usize = 48;

/// The most programs that a reason names.
const PROGRAMS_MAX: usize = 4;

/// Something that was done below a central path.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The path relative to its central path; empty for the central path itself.
    pub path: &'a str,
    /// True if it was changed, made or taken away; false if it was read, listed or looked for.
    pub wrote: bool,
    /// The program, as it calls itself.
    pub program: &'a str,
}

/// A rule in the making.
#[derive(Debug, Clone, Default)]
struct Rule {
    times: u64,
    programs: BTreeSet<String>,
}

/// What was seen of one run, so far.
#[derive(Debug, Clone, Default)]
pub struct Lesson {
    read: BTreeMap<String, Rule>,
    write: BTreeMap<String, Rule>,
    /// System calls that the filter refused, and how often.
    calls: BTreeMap<String, u64>,
    /// What Landlock refused: the right and the path, and how often.
    paths: BTreeMap<(String, String), u64>,
}

impl Lesson {
    /// Takes note of a system call that the filter refused, so many times in all.
    pub fn call_refused(&mut self, call: &str, times: u64) {
        if is_word(call) {
            self.calls.insert(call.to_owned(), times);
        }
    }

    /// Takes note of what Landlock refused at a path of the host's.
    pub fn path_refused(&mut self, right: &str, path: &str, times: u64) {
        let plain = path.chars().all(|c| c.is_ascii_graphic() && c != '"');
        if plain
            && !path.is_empty()
            && right.split(['.', ',']).all(is_word)
            && self.paths.len() < RULES_MAX
        {
            self.paths
                .insert((right.to_owned(), path.to_owned()), times);
        }
    }

    /// Takes note of one act. A file stands for all of its directory: the next frame has another name.
    pub fn see(&mut self, seen: Seen<'_>) {
        // The central path itself can be looked at and listed if anything below it can.
        if seen.path.is_empty() {
            return;
        }
        let rules = if seen.wrote {
            &mut self.write
        } else {
            &mut self.read
        };
        let rule = rules.entry(glob_of(seen.path)).or_default();
        rule.times += 1;
        let plain = |c: &char| c.is_ascii_alphanumeric() || "._+-".contains(*c);
        let program: String = seen.program.chars().filter(plain).take(32).collect();
        if !program.is_empty() && rule.programs.len() <= PROGRAMS_MAX {
            rule.programs.insert(program);
        }
        while rules.len() > RULES_MAX {
            join_deepest(rules);
        }
    }

    /// The policy: what `base` allows of the system, and of the central paths only what was seen. `seconds` is how long it took, `bytes` how
    /// much it wrote.
    pub fn policy(&self, name: &PolicyName, base: &PolicyName, seconds: u64, bytes: u64) -> String {
        let wall = show_seconds(seconds.saturating_mul(4).clamp(60, 60 * 86_400));
        let quota = show_bytes(bytes.saturating_mul(4).max(64 << 20).next_power_of_two());
        let mut text = format!(
            "# Learned from one run. Read it, tighten it, and compare: safelight policy diff {base} THIS_FILE\n\n\
             schema = 1\nname = \"{name}\"\nsummary = \"What one run was seen to need, on top of {base}\"\nextends = [\"{base}\"]\n\n\
             [limits]\n# four times what it took\nwall = \"{wall}\"\n# four times what it wrote\nquota = \"{quota}\"\n\n\
             [central]\n# what {base} allows below a central path does not hold here\ninherit = false\n"
        );
        for (list, rules) in [("read", &self.read), ("write", &self.write)] {
            for (glob, rule) in rules {
                let glob = toml::Value::String(glob.clone());
                let by = match rule.programs.len() {
                    0 => String::new(),
                    n if n > PROGRAMS_MAX => " by many programs".to_owned(),
                    _ => {
                        let programs: Vec<&str> =
                            rule.programs.iter().map(String::as_str).collect();
                        format!(" by {}", programs.join(", "))
                    }
                };
                let times = match rule.times {
                    1 => "once".to_owned(),
                    times => format!("{times} times"),
                };
                text.push_str(&format!(
                    "\n[[central.{list}]]\nglob = {glob}\nreason = \"seen {times}{by}\"\n"
                ));
            }
        }
        self.refusals(&mut text);
        text
    }

    /// What was refused, as a proposal that is not in force: the program got along without.
    fn refusals(&self, text: &mut String) {
        for (call, times) in &self.calls {
            match why_never(call) {
                Some(why) => text.push_str(&format!("\n# {call} was refused ({times}), as it is under every policy: {why}.\n")),
                None => text.push_str(&format!("\n# {call} was refused, and the run succeeded without it. If it should not have to:\n# [[seccomp.allow]]\n# calls = [\"{call}\"]\n# reason = \"refused, times: {times}\"\n")),
            }
        }
        for ((right, path), times) in &self.paths {
            text.push_str(&format!("\n# Landlock refused {right} at {path} ({times}), and the run succeeded without it.\n"));
        }
    }
}

/// A name of the kernel's.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The glob for a path's directory and all below it; for what cannot be written as one, that of the next directory above that can. What lies
/// in the central path itself is taken by its name, with any number in the place of each number: the next frame has another.
fn glob_of(path: &str) -> String {
    let plain = |text: &str| {
        !text.contains(['*', '?', '[', ']', '{', '}', '\\', '!'])
            && !text.chars().any(char::is_control)
    };
    let Some((mut directory, _)) = path.rsplit_once('/') else {
        let glob = any_number(path);
        return if plain(path) && Glob::new(&glob).is_ok() {
            glob
        } else {
            "*".to_owned()
        };
    };
    loop {
        let glob = format!("{directory}/**");
        if plain(directory) && Glob::new(&glob).is_ok() {
            return glob;
        }
        match directory.rsplit_once('/') {
            Some((above, _)) => directory = above,
            None => return "**".to_owned(),
        }
    }
}

/// A name with `*` for each run of digits.
fn any_number(name: &str) -> String {
    let mut glob = String::new();
    for c in name.chars() {
        if !c.is_ascii_digit() {
            glob.push(c);
        } else if !glob.ends_with('*') {
            glob.push('*');
        }
    }
    glob
}

/// Joins the deepest rule with the directory above it: `a/b/**` becomes `a/**`.
fn join_deepest(rules: &mut BTreeMap<String, Rule>) {
    let depth = |glob: &&String| glob.matches('/').count();
    let Some(deepest) = rules.keys().max_by_key(depth).cloned() else {
        return;
    };
    let Some(rule) = rules.remove(&deepest) else {
        return;
    };
    let above = match deepest.strip_suffix("/**") {
        None => "*".to_owned(),
        Some(directory) => match directory.rsplit_once('/') {
            Some((above, _)) => format!("{above}/**"),
            None => "**".to_owned(),
        },
    };
    let into = rules.entry(above).or_default();
    into.times += rule.times;
    into.programs.extend(rule.programs);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Catalogue,
        explain::{Query, Verdict},
    };

    fn seen(path: &str, wrote: bool) -> Seen<'_> {
        Seen {
            path,
            wrote,
            program: "povray",
        }
    }

    fn learned(acts: &[(&str, bool)]) -> crate::Policy {
        let mut lesson = Lesson::default();
        for (path, wrote) in acts {
            lesson.see(seen(path, *wrote));
        }
        let [name, base] = ["learned", "generic"].map(|name| PolicyName::new(name).unwrap());
        let text = lesson.policy(&name, &base, 10, 1 << 20);
        let mut catalogue = Catalogue::shipped().unwrap();
        catalogue
            .add(&text, "learned.toml")
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        catalogue.resolve(&name).unwrap()
    }

    #[test]
    fn what_was_seen_is_allowed_and_its_neighbours_and_nothing_else() {
        let policy = learned(&[
            ("scene/a.pov", false),
            ("textures/wood/oak.png", false),
            ("out/0001.png", true),
            ("still-7.png", false),
        ]);
        for (path, verdict) in [
            ("scene/a.pov", Verdict::Read),
            ("scene/b.pov", Verdict::Read),
            ("textures/wood/oak.png", Verdict::Read),
            ("textures/stone.png", Verdict::Denied),
            ("out/0002.png", Verdict::Write),
            ("secret/plan.txt", Verdict::Denied),
            ("still-12.png", Verdict::Read),
            ("plan.txt", Verdict::Denied),
        ] {
            assert_eq!(
                policy.explain(Query::Path(path)).unwrap().verdict,
                verdict,
                "{path}"
            );
        }
        assert_eq!(policy.limits().wall, 60);
        assert_eq!(policy.limits().quota, 64 << 20);
    }

    #[test]
    fn names_that_are_no_globs_and_programs_that_are_no_words_break_nothing() {
        let mut lesson = Lesson::default();
        for path in [
            "a/*/b",
            "a/[x]/b",
            "a/\"\n[central]\ninherit = true\n/b",
            "\u{1b}]0;/x",
            "a/{b,c}/d",
            "../up/x",
            "a//b",
            "**/x",
        ] {
            lesson.see(Seen {
                path,
                wrote: false,
                program: "sh\"\n[[root]]",
            });
        }
        let [name, base] = ["learned", "generic"].map(|name| PolicyName::new(name).unwrap());
        let text = lesson.policy(&name, &base, 1, 0);
        Catalogue::shipped()
            .unwrap()
            .add(&text, "x")
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert!(text.contains("by shroot"), "{text}");
    }

    #[test]
    fn what_was_refused_is_proposed_and_not_allowed() {
        let mut lesson = Lesson::default();
        lesson.call_refused("mbind", 3);
        lesson.call_refused("unshare", 1);
        lesson.call_refused("x\"]\n[[root]]", 1);
        lesson.path_refused("fs.read_dir", "/", 2);
        lesson.path_refused("fs.read_dir", "/a\n[limits]", 2);
        let [name, base] = ["learned", "generic"].map(|name| PolicyName::new(name).unwrap());
        let text = lesson.policy(&name, &base, 1, 0);
        let digest = |text: &str| {
            let mut catalogue = Catalogue::shipped().unwrap();
            catalogue.add(text, "learned.toml").unwrap();
            catalogue.resolve(&name).unwrap().digest()
        };
        assert_eq!(
            digest(&text),
            digest(&Lesson::default().policy(&name, &base, 1, 0))
        );
        assert!(
            text.contains("as it is under every policy: it enters"),
            "{text}"
        );
        assert!(text.contains("# Landlock refused fs.read_dir at / (2)"));
        assert!(!text.contains("x\"]") && !text.contains("/a"), "{text}");
        // Taken up as it is proposed, the one is allowed.
        let taken = text
            .replace("# [[seccomp", "[[seccomp")
            .replace("# calls", "calls")
            .replace("# reason = \"refused,", "reason = \"refused,");
        let mut catalogue = Catalogue::shipped().unwrap();
        catalogue.add(&taken, "taken.toml").unwrap();
        let policy = catalogue.resolve(&name).unwrap();
        let verdict = policy.explain(Query::Syscall("mbind")).unwrap().verdict;
        assert_eq!(verdict, Verdict::Allowed);
    }

    #[test]
    fn many_directories_are_joined() {
        let mut lesson = Lesson::default();
        for number in 0..10_000 {
            let path = format!("deep/{}/{number}/x", number % 7);
            lesson.see(seen(&path, false));
        }
        assert!(lesson.read.len() <= RULES_MAX);
        let times: u64 = lesson.read.values().map(|rule| rule.times).sum();
        assert_eq!(times, 10_000, "nothing is forgotten");
    }
}
