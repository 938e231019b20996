//! The recipe: what to run, where, with which variables, and what must be there afterwards.
//!
//! Everything in it is the client's secret: it is sealed on the client's site and opened by the view server, so it has no `Debug` that
//! prints contents, and no error repeats any. It may have been written by anyone: decoding bounds it before it looks at it, and a recipe
//! that was decoded is valid.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// The longest encoded recipe in bytes: it travels in one message, with room for the rest of the message.
pub const RECIPE_MAX: usize = 100 * 1024;

/// The first bytes of an encoded recipe; the last is the version.
const MAGIC: [u8; 8] = *b"SLRECIP\x01";

/// The longest title in bytes.
const TITLE_MAX: usize = 256;

/// The longest path in bytes, as the kernel counts them.
const PATH_MAX: usize = 4095;

/// A recipe that cannot be. The messages name no content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not fit a message.
    #[error("a recipe of {len} bytes is too long (at most {RECIPE_MAX})")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The bytes do not begin like a recipe of this version.
    #[error("not a recipe, or one of another version")]
    NotARecipe,
    /// The bytes after the beginning are damaged.
    #[error("a recipe does not decode")]
    Damaged {
        /// Why.
        source: postcard::Error,
    },
    /// More bytes follow the recipe.
    #[error("a recipe is followed by {len} more bytes")]
    Trailing {
        /// How many.
        len: usize,
    },
    /// There is nothing to run.
    #[error("the command is empty")]
    NoCommand,
    /// The kernel takes words that end at a NUL.
    #[error("{what} has a NUL")]
    Nul {
        /// Which part.
        what: &'static str,
    },
    /// A path is not absolute and normal.
    #[error(
        "{what} must be an absolute path of at most {PATH_MAX} bytes without '.', '..' and '//'"
    )]
    BadPath {
        /// Which part.
        what: &'static str,
    },
    /// A variable's name is empty or has an equals sign.
    #[error("a variable's name is empty or has a '='")]
    BadVariable,
    /// The title is too long or would move a terminal's cursor.
    #[error("the title is longer than {TITLE_MAX} bytes or has a control character")]
    BadTitle,
    /// An output is expected twice.
    #[error("an output is expected twice")]
    ExpectedTwice,
}

/// What to run. Bytes, since arguments and paths are.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// The program and its arguments.
    pub command: Vec<Vec<u8>>,
    /// The working directory inside the session: absolute.
    pub directory: Vec<u8>,
    /// Variables that the job sets for itself.
    pub env: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Outputs that must exist afterwards: absolute paths inside central paths.
    pub expect: Vec<Vec<u8>>,
    /// What the client calls the job.
    pub title: String,
}

impl Recipe {
    /// The bytes to seal: magic with version, then postcard. Only a valid recipe has any.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        self.check()?;
        let bytes = postcard::to_extend(self, MAGIC.to_vec())
            .map_err(|source| Error::Damaged { source })?;
        if bytes.len() > RECIPE_MAX {
            return Err(Error::TooLong { len: bytes.len() });
        }
        Ok(bytes)
    }

    /// Reads what [`Recipe::encode`] wrote, and checks it again.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > RECIPE_MAX {
            return Err(Error::TooLong { len: bytes.len() });
        }
        let body = bytes.strip_prefix(&MAGIC).ok_or(Error::NotARecipe)?;
        let (recipe, rest): (Self, _) =
            postcard::take_from_bytes(body).map_err(|source| Error::Damaged { source })?;
        if !rest.is_empty() {
            return Err(Error::Trailing { len: rest.len() });
        }
        recipe.check()?;
        Ok(recipe)
    }

    fn check(&self) -> Result<(), Error> {
        if self.command.first().is_none_or(Vec::is_empty) {
            return Err(Error::NoCommand);
        }
        no_nul("the command", &self.command)?;
        check_path("the working directory", &self.directory, true)?;
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(&b'=') {
                return Err(Error::BadVariable);
            }
            no_nul("a variable", [name, value])?;
        }
        for path in &self.expect {
            check_path("an expected output", path, false)?;
        }
        let mut sorted: Vec<_> = self.expect.iter().collect();
        sorted.sort();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::ExpectedTwice);
        }
        if self.title.len() > TITLE_MAX || self.title.chars().any(char::is_control) {
            return Err(Error::BadTitle);
        }
        Ok(())
    }
}

/// Says how much there is, never what.
impl fmt::Debug for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipe")
            .field("words", &self.command.len())
            .field("variables", &self.env.len())
            .field("expected", &self.expect.len())
            .finish_non_exhaustive()
    }
}

fn no_nul<'a>(
    what: &'static str,
    words: impl IntoIterator<Item = &'a Vec<u8>>,
) -> Result<(), Error> {
    if words.into_iter().any(|word| word.contains(&0)) {
        return Err(Error::Nul { what });
    }
    Ok(())
}

fn check_path(what: &'static str, path: &[u8], root: bool) -> Result<(), Error> {
    if path.contains(&0) {
        return Err(Error::Nul { what });
    }
    if root && path == b"/" {
        return Ok(());
    }
    let normal = path.len() <= PATH_MAX
        && path.strip_prefix(b"/").is_some_and(|rest| {
            rest.split(|byte| *byte == b'/')
                .all(|part| !matches!(part, b"" | b"." | b".."))
        });
    if normal {
        Ok(())
    } else {
        Err(Error::BadPath { what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    fn recipe() -> Recipe {
        Recipe {
            command: words(&["povray", "+Iscene.pov", ""]),
            directory: b"/projects/show".to_vec(),
            env: BTreeMap::from([(b"TZ".to_vec(), b"UTC".to_vec())]),
            expect: words(&["/projects/show/out/0001.png"]),
            title: "the dragon".to_owned(),
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn each_refusal_says_why_and_nothing_of_the_content() {
        type Change = fn(&mut Recipe);
        let rows: [(Change, &str); 17] = [
            (|it| it.command.clear(), "the command is empty"),
            (|it| it.command[0].clear(), "the command is empty"),
            (
                |it| it.command[1] = b"a\0".to_vec(),
                "the command has a NUL",
            ),
            (
                |it| it.env = BTreeMap::from([(b"A".to_vec(), vec![0])]),
                "a variable has a NUL",
            ),
            (
                |it| it.env = BTreeMap::from([(vec![0], vec![])]),
                "a variable has a NUL",
            ),
            (
                |it| it.env = BTreeMap::from([(b"A=B".to_vec(), vec![])]),
                "a variable's name is empty or has a '='",
            ),
            (
                |it| it.env = BTreeMap::from([(vec![], vec![])]),
                "a variable's name is empty or has a '='",
            ),
            (
                |it| it.directory = b"show".to_vec(),
                "the working directory must be",
            ),
            (
                |it| it.directory = b"".to_vec(),
                "the working directory must be",
            ),
            (
                |it| it.directory = b"/a/../b".to_vec(),
                "the working directory must be",
            ),
            (
                |it| it.directory = b"/a\0".to_vec(),
                "the working directory has a NUL",
            ),
            (|it| it.expect = words(&["/"]), "an expected output must be"),
            (
                |it| it.expect = words(&["/a/"]),
                "an expected output must be",
            ),
            (
                |it| it.expect = words(&["/a", "/b", "/a"]),
                "an output is expected twice",
            ),
            (
                |it| it.title = "\u{1b}[2J".to_owned(),
                "the title is longer",
            ),
            (|it| it.title = "x".repeat(257), "the title is longer"),
            (
                |it| it.command.push(vec![b'x'; RECIPE_MAX]),
                "a recipe of 1024",
            ),
        ];
        for (change, message) in rows {
            let mut changed = recipe();
            change(&mut changed);
            let error = changed.encode().unwrap_err().to_string();
            assert!(error.starts_with(message), "{error:?} {message:?}");
        }
        assert!(
            Recipe {
                directory: b"/".to_vec(),
                ..recipe()
            }
            .encode()
            .is_ok()
        );
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let bytes = recipe().encode().unwrap();
        assert_eq!(Recipe::decode(&bytes), Ok(recipe()));
        for end in 0..bytes.len() {
            assert!(Recipe::decode(&bytes[..end]).is_err(), "{end}");
        }
        let longer = [bytes.as_slice(), b"x"].concat();
        assert_eq!(Recipe::decode(&longer), Err(Error::Trailing { len: 1 }));
        let mut other = bytes.clone();
        other[7] = 2;
        assert_eq!(Recipe::decode(&other), Err(Error::NotARecipe));
        let len = RECIPE_MAX + 1;
        assert_eq!(Recipe::decode(&vec![0; len]), Err(Error::TooLong { len }));
    }

    #[test]
    fn decoding_checks_what_another_program_encoded() {
        let mut empty = recipe();
        empty.command.clear();
        let bytes = postcard::to_extend(&empty, MAGIC.to_vec()).unwrap();
        assert_eq!(Recipe::decode(&bytes), Err(Error::NoCommand));
        // A count far beyond the bytes that follow allocates nothing of that size.
        let huge = [
            MAGIC.as_slice(),
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ]
        .concat();
        assert!(matches!(Recipe::decode(&huge), Err(Error::Damaged { .. })));
    }

    #[test]
    fn debug_prints_counts_only() {
        let text = format!("{:?}", recipe());
        assert_eq!(text, "Recipe { words: 3, variables: 1, expected: 1, .. }");
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_decoder(body: Vec<u8>) {
            let _ = Recipe::decode(&body);
            let _ = Recipe::decode(&[MAGIC.as_slice(), &body].concat());
        }

        #[test]
        fn what_is_encoded_decodes(
            command in prop::collection::vec(prop::collection::vec(1u8.., 1..20), 1..5),
            env in prop::collection::btree_map("[A-Z]{1,8}".prop_map(String::into_bytes), prop::collection::vec(1u8.., 0..9), 0..4),
            title in "[a-z\u{e9} ]{0,20}",
        ) {
            let recipe = Recipe { command, env, title, ..recipe() };
            prop_assert_eq!(Recipe::decode(&recipe.encode().unwrap()), Ok(recipe));
        }
    }
}
