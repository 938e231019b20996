//! Globs over paths that are bytes.
//!
//! A glob is matched part by part: `**` stands for any number of parts, and within a part `*`, `?`, `[a-z]` and `{a,b}` mean what they
//! mean in a shell, without exceptions for names that begin with a dot. A path is a sequence of parts and never a string with slashes
//! in it, so no byte of a name, valid UTF-8 or not, can change which part it belongs to. Matching is a walk over a set of positions:
//! linear in the path, whatever the glob.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

/// The longest glob in bytes.
const LEN_MAX: usize = 1024;

/// The most parts of a glob; positions fit the bits of one word.
const PARTS_MAX: usize = 63;

/// A compiled glob.
#[derive(Debug, Clone)]
pub(crate) struct Glob {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    /// `**`
    Across,
    /// A name without wildcards.
    Name(Vec<u8>),
    /// Anything else.
    Pattern(globset::GlobMatcher),
}

/// Where a path stands in a glob. Bit `i` is set if the path so far matches the parts before `i`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Positions(u64);

impl Glob {
    /// Compiles a glob over a path that is relative to a central path.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        if text.len() > LEN_MAX {
            return Err(format!("it is longer than {LEN_MAX} bytes"));
        }
        if text.starts_with('/') {
            return Err(
                "it begins with '/', but rules are relative to each central path".to_owned(),
            );
        }
        let parts = text
            .split('/')
            .map(Part::new)
            .collect::<Result<Vec<_>, _>>()?;
        if parts.len() > PARTS_MAX {
            return Err(format!("it has more than {PARTS_MAX} parts"));
        }
        Ok(Self { parts })
    }

    /// The same glob without a trailing `**`, if something stands before it.
    pub(crate) fn without_trailing_across(mut self) -> Self {
        while self.parts.len() > 1 && matches!(self.parts.last(), Some(Part::Across)) {
            self.parts.pop();
        }
        self
    }

    /// The positions of the empty path.
    pub(crate) fn start(&self) -> Positions {
        self.close(1)
    }

    /// The positions after one more part of the path.
    pub(crate) fn step(&self, from: Positions, name: &[u8]) -> Positions {
        let mut to = 0;
        for (index, part) in self.parts.iter().enumerate() {
            if from.0 & (1 << index) == 0 {
                continue;
            }
            to |= match part {
                Part::Across => (1 << index) | (1 << (index + 1)),
                Part::Name(own) if own == name => 1 << (index + 1),
                Part::Pattern(own) if own.is_match(OsStr::from_bytes(name)) => 1 << (index + 1),
                Part::Name(_) | Part::Pattern(_) => 0,
            };
        }
        self.close(to)
    }

    /// True if the path so far is one that the glob names.
    pub(crate) fn accepts(&self, at: Positions) -> bool {
        at.0 & (1 << self.parts.len()) != 0
    }

    /// True if the glob can name something below the path so far.
    pub(crate) fn may_accept_below(&self, at: Positions) -> bool {
        at.0 & ((1 << self.parts.len()) - 1) != 0
    }

    /// `**` may stand for nothing, except at the end of `a/**`, which names what is below `a` and not `a` itself.
    fn close(&self, mut at: u64) -> Positions {
        let last = self.parts.len() - 1;
        for (index, part) in self.parts.iter().enumerate() {
            let here = at & (1 << index) != 0;
            if here && matches!(part, Part::Across) && (index < last || last == 0) {
                at |= 1 << (index + 1);
            }
        }
        Positions(at)
    }
}

impl Part {
    fn new(text: &str) -> Result<Self, String> {
        match text {
            "" => return Err("it has an empty part".to_owned()),
            "." | ".." => return Err("it has a '.' or '..' part".to_owned()),
            "**" => return Ok(Self::Across),
            _ => {}
        }
        if text.contains("**") {
            return Err("'**' must stand alone between slashes".to_owned());
        }
        if text.contains('\0') {
            return Err("it has a NUL".to_owned());
        }
        if !text.contains(['*', '?', '[', ']', '{', '}', '\\']) {
            return Ok(Self::Name(text.as_bytes().to_vec()));
        }
        if text.contains(['[', '?']) && !text.is_ascii() {
            return Err(
                "'[' and '?' stand for single bytes and cannot be mixed with letters outside ASCII"
                    .to_owned(),
            );
        }
        globset::GlobBuilder::new(text)
            .backslash_escape(true)
            .build()
            .map(|glob| Self::Pattern(glob.compile_matcher()))
            .map_err(|error| error.kind().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn walk(glob: &Glob, path: &[u8]) -> Positions {
        path.split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
            .fold(glob.start(), |at, name| glob.step(at, name))
    }

    fn matches(glob: &str, path: &[u8]) -> bool {
        let glob = Glob::new(glob).unwrap();
        glob.accepts(walk(&glob, path))
    }

    #[test]
    fn globs_name_what_they_say() {
        for (glob, path, expected) in [
            ("**", "", true),
            ("**", "a/b", true),
            ("a", "a", true),
            ("a", "a/b", false),
            ("a/**", "a", false),
            ("a/**", "a/b/c", true),
            ("a/**", "ab/c", false),
            ("a/**/d", "a/d", true),
            ("a/**/d", "a/b/c/d", true),
            ("**/.git/**", "x/.git/config", true),
            ("**/.git/**", "x/.git", false),
            ("*/b", "a/b", true),
            ("*", "a/b", false),
            ("*", ".hidden", true),
            ("*.exr", "beauty.0001.exr", true),
            ("*.exr", "a/beauty.exr", false),
            ("shot_[0-9]?/{in,out}/*", "shot_12/out/x", true),
            ("shot_[0-9]?/{in,out}/*", "shot_12/tmp/x", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
        ] {
            assert_eq!(
                matches(glob, path.as_bytes()),
                expected,
                "{glob:?} over {path:?}"
            );
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_only_bytes() {
        assert!(matches("*", b"\xff\xfe"));
        assert!(matches("a*z", b"a\xff\nz"));
        assert!(matches("?", b"\xff"));
        assert!(!matches("a*", b"\xffa"));
        assert!(matches("m\u{e9}dia/*", b"m\xc3\xa9dia/x"));
        assert!(!matches("m\u{e9}dia/*", b"m\xe9dia/x"));
    }

    #[test]
    fn a_glob_that_could_be_misread_is_refused() {
        for glob in [
            "", "/a", "a//b", "a/", "../a", "a/./b", "a**", "**b/c", "{a/b,c}", "[a", "{a", "a\\",
            "[\u{e9}]",
        ] {
            assert!(Glob::new(glob).is_err(), "{glob:?}");
        }
        assert!(Glob::new(&vec!["a"; 63].join("/")).is_ok());
        assert!(Glob::new(&vec!["a"; 64].join("/")).is_err());
        assert!(Glob::new(&"a".repeat(1025)).is_err());
    }

    #[test]
    fn a_glob_of_the_most_parts_still_ends() {
        let text = format!("{}b", "**/".repeat(62));
        assert!(matches(&text, &[b"a/".repeat(500), b"b".to_vec()].concat()));
        assert!(!matches(&text, &b"a/".repeat(500)));
        assert!(matches(&vec!["*"; 63].join("/"), &b"a/".repeat(63)));
    }

    proptest! {
        #[test]
        fn it_agrees_with_globset(
            glob in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "?", "**", "[ab]c", "a*"]), 1..5),
            path in prop::collection::vec(prop::sample::select(vec!["a", "b", "ac", "bc", "abc", ".a"]), 1..6),
        ) {
            // A run of `**` means the same as one; globset has its own idea of it only there.
            let mut glob = glob;
            glob.dedup_by(|a, b| a == b && *a == "**");
            let (glob, path) = (glob.join("/"), path.join("/"));
            let other = globset::GlobBuilder::new(&glob).literal_separator(true).build().unwrap().compile_matcher();
            prop_assert_eq!(matches(&glob, path.as_bytes()), other.is_match(&path), "{} over {}", glob, path);
        }

        #[test]
        fn what_is_named_below_is_foreseen_above(
            glob in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "**"]), 1..5),
            path in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..6),
        ) {
            let (glob, path) = (Glob::new(&glob.join("/")).unwrap(), path.join("/"));
            if glob.accepts(walk(&glob, path.as_bytes())) {
                for (index, _) in path.match_indices('/') {
                    prop_assert!(glob.may_accept_below(walk(&glob, &path.as_bytes()[..index])));
                }
                prop_assert!(glob.may_accept_below(glob.start()));
            }
        }

        #[test]
        fn no_text_breaks_the_compiler(text in ".{0,40}", path: Vec<u8>) {
            if let Ok(glob) = Glob::new(&text) {
                let _ = glob.accepts(walk(&glob, &path));
            }
        }
    }
}
