//! Where a hot folder is, as the configuration has it: a path, `file:` and a path, or `s3://BUCKET/PREFIX`.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest prefix in a bucket, in bytes: with what is below it a key has at most 1,024.
const PREFIX_MAX: usize = 512;

/// Where a hot folder is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// A directory.
    Directory(PathBuf),
    /// A part of a bucket of an object store.
    Bucket {
        /// The bucket's name.
        bucket: String,
        /// What its keys begin with, without a slash at the end; may be empty.
        prefix: String,
    },
}

/// Why something is no place.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlaceError {
    /// Nothing.
    #[error("a hot folder has a path or a URL")]
    Empty,
    /// A URL of another kind.
    #[error("a hot folder's URL is file:/PATH or s3://BUCKET/PREFIX, not {scheme}:")]
    Scheme {
        /// What it says instead.
        scheme: String,
    },
    /// A path of a URL that begins nowhere.
    #[error("file: is followed by a path from the root")]
    Relative,
    /// No name of a bucket.
    #[error("a bucket's name has 3 to 63 small letters, digits, dots and hyphens")]
    Bucket,
    /// No prefix.
    #[error(
        "what follows the bucket has at most 512 letters, digits, dots, hyphens and underscores in parts that slashes divide"
    )]
    Prefix,
}

impl Place {
    /// The directory, if it is one.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::Bucket { .. } => None,
        }
    }

    fn bucket(rest: &str) -> Result<Self, PlaceError> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let named = (3..=63).contains(&bucket.len())
            && bucket
                .bytes()
                .all(|it| plain(it) || matches!(it, b'.' | b'-'))
            && bucket.bytes().next().is_some_and(plain)
            && bucket.bytes().last().is_some_and(plain)
            && !bucket.contains("..");
        if !named {
            return Err(PlaceError::Bucket);
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        // A part of dots only would lead out of the prefix, and out of the bucket, in a URL.
        let part = |part: &str| {
            part.bytes()
                .all(|it| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'-' | b'_'))
                && part.bytes().any(|it| it != b'.')
        };
        if prefix.len() > PREFIX_MAX || !(prefix.is_empty() || prefix.split('/').all(part)) {
            return Err(PlaceError::Prefix);
        }
        Ok(Self::Bucket {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        if text.is_empty() {
            return Err(PlaceError::Empty);
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            return Self::bucket(rest);
        }
        if let Some(rest) = text.strip_prefix("file:") {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            return match path.starts_with('/') {
                true => Ok(Self::Directory(path.into())),
                false => Err(PlaceError::Relative),
            };
        }
        match text.split_once("://") {
            Some((scheme, _)) if !scheme.contains('/') => Err(PlaceError::Scheme {
                scheme: scheme.to_owned(),
            }),
            _ => Ok(Self::Directory(text.into())),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Directory(path) => path.serialize(to),
            bucket @ Self::Bucket { .. } => to.collect_str(bucket),
        }
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_as_it_was_written() {
        let bucket = |prefix: &str| Place::Bucket {
            bucket: "studio.hot-1".into(),
            prefix: prefix.into(),
        };
        for (text, place, written) in [
            ("/srv/hot", Place::Directory("/srv/hot".into()), "/srv/hot"),
            ("hot/a:b", Place::Directory("hot/a:b".into()), "hot/a:b"),
            ("file:/srv/x", Place::Directory("/srv/x".into()), "/srv/x"),
            ("file:///srv/x", Place::Directory("/srv/x".into()), "/srv/x"),
            ("s3://studio.hot-1", bucket(""), "s3://studio.hot-1"),
            ("s3://studio.hot-1/", bucket(""), "s3://studio.hot-1"),
            (
                "s3://studio.hot-1/a/b_1/",
                bucket("a/b_1"),
                "s3://studio.hot-1/a/b_1",
            ),
        ] {
            let read: Place = text.parse().unwrap();
            assert_eq!(read, place, "{text}");
            assert_eq!(read.to_string(), written);
            let json = serde_json::to_string(&read).unwrap();
            assert_eq!(serde_json::from_str::<Place>(&json).unwrap(), place);
        }
    }

    #[test]
    fn what_is_no_place_says_why() {
        let long = format!("s3://bucket/{}", "x".repeat(PREFIX_MAX + 1));
        for (text, why) in [
            ("", PlaceError::Empty),
            ("file:srv", PlaceError::Relative),
            ("s3://", PlaceError::Bucket),
            ("s3://No", PlaceError::Bucket),
            ("s3://-ab", PlaceError::Bucket),
            ("s3://a..b", PlaceError::Bucket),
            ("s3://user@host/x", PlaceError::Bucket),
            ("s3://bucket//x", PlaceError::Prefix),
            ("s3://bucket/..", PlaceError::Prefix),
            ("s3://bucket/a/../b", PlaceError::Prefix),
            ("s3://bucket/a?b", PlaceError::Prefix),
            ("s3://bucket/a%2e", PlaceError::Prefix),
            (&long, PlaceError::Prefix),
        ] {
            assert_eq!(text.parse::<Place>(), Err(why), "{text}");
        }
        let said = "ftp://host/x".parse::<Place>().unwrap_err().to_string();
        assert!(said.ends_with("not ftp:"), "{said}");
    }
}
