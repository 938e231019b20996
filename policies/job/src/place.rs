//! Where a path that somebody wrote lies: below which central path, whatever system's spelling it has.
//!
//! A path is first made normal by its words alone (links are the packer's business), then matched against every spelling of every central
//! path, the longest first. The answer always lies below a central path; a path that does not is nowhere.

use openjd_expr::{PathFormat, PathMappingRule};

use crate::settings::Central;

/// A path below a central path, on the client's host and in the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// On the client's host.
    pub(crate) host: String,
    /// In the session.
    pub(crate) path: String,
    /// True if it may be written.
    pub(crate) write: bool,
}

/// Every spelling of every central path.
pub(crate) struct Places<'a> {
    directory: &'a str,
    centrals: &'a [Central],
    /// The longest first, each with the index of its central path.
    spellings: Vec<(PathMappingRule, usize)>,
}

impl<'a> Places<'a> {
    /// `directory` is where relative paths begin. Two central paths with one spelling are an error, by the index of the second.
    pub(crate) fn new(directory: &'a str, centrals: &'a [Central]) -> Result<Self, usize> {
        let mut spellings: Vec<(PathMappingRule, usize)> = Vec::new();
        for (index, central) in centrals.iter().enumerate() {
            let own = [central.host.as_str(), central.path.as_str()];
            for source in own
                .into_iter()
                .chain(central.also.iter().map(String::as_str))
            {
                let (format, source) = normal(directory, source).ok_or(index)?;
                let same = |rule: &PathMappingRule| match format {
                    PathFormat::Windows => rule.source_path.eq_ignore_ascii_case(&source),
                    _ => rule.source_path == source,
                };
                match spellings.iter().find(|(rule, _)| same(rule)) {
                    Some((_, other)) if *other == index => continue,
                    Some(_) => return Err(index),
                    None => {}
                }
                let rule = PathMappingRule {
                    source_path_format: format,
                    source_path: source,
                    destination_path: central.path.as_str().to_owned(),
                };
                spellings.push((rule, index));
            }
        }
        spellings.sort_by_key(|(rule, _)| std::cmp::Reverse(rule.source_path.len()));
        Ok(Self {
            directory,
            centrals,
            spellings,
        })
    }

    /// Where a path as written lies; `None` if it lies below no central path.
    pub(crate) fn find(&self, written: &str) -> Option<Place> {
        let (format, path) = normal(self.directory, written)?;
        let (mapped, index) = self
            .spellings
            .iter()
            .filter(|(rule, _)| rule.source_path_format == format)
            .find_map(|(rule, index)| {
                let mapped = rule.apply_with_format(&path, PathFormat::Posix)?;
                Some((mapped, *index))
            })?;
        let central = &self.centrals[index];
        let below = mapped.strip_prefix(central.path.as_str())?;
        let place = Place {
            host: format!("{}{below}", central.host),
            write: central.write,
            path: mapped.clone(),
        };
        let sound = below.is_empty() || below.starts_with('/');
        (sound && is_normal(&mapped)).then_some(place)
    }

    /// The rules as a session may show them to an application.
    pub(crate) fn rules(&self) -> Vec<PathMappingRule> {
        let central = |rule: &PathMappingRule| rule.source_path == rule.destination_path;
        let rules = self.spellings.iter().map(|(rule, _)| rule);
        rules.filter(|rule| !central(rule)).cloned().collect()
    }
}

/// True for an absolute path without empty, `.` and `..` parts and without NUL.
pub(crate) fn is_normal(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| {
        !path.contains('\0') && rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
    })
}

/// The normal form of a path in its own system's spelling: `..` and `.` are resolved by words. `None` if there is none.
pub(crate) fn normal(directory: &str, written: &str) -> Option<(PathFormat, String)> {
    if written.is_empty() || written.contains('\0') || openjd_expr::uri_path::is_uri(written) {
        return None;
    }
    let (format, root, rest) = split_root(directory, written)?;
    let separators: &[char] = match format {
        PathFormat::Windows => &['/', '\\'],
        _ => &['/'],
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in rest.split(separators) {
        match part {
            "" | "." => {}
            ".." => {
                // Above the root there is nothing that anybody meant.
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    let separator = if format == PathFormat::Windows {
        "\\"
    } else {
        "/"
    };
    let joined = parts.join(separator);
    Some((format, format!("{root}{separator}{joined}")))
        .map(|(format, path)| (format, trimmed(path, separator)))
}

/// Takes the separator from the end of a root with nothing below it.
fn trimmed(mut path: String, separator: &str) -> String {
    if path.len() > separator.len() && path.ends_with(separator) {
        path.truncate(path.len() - separator.len());
    }
    path
}

/// The system, the root without a separator at its end, and the rest.
fn split_root(directory: &str, written: &str) -> Option<(PathFormat, String, String)> {
    let bytes = written.as_bytes();
    if let Some(rest) = written.strip_prefix(r"\\") {
        let mut parts = rest.splitn(3, ['/', '\\']);
        let (server, share) = (parts.next()?, parts.next()?);
        let named = !server.is_empty() && !share.is_empty();
        let rest = parts.next().unwrap_or_default().to_owned();
        return named.then(|| (PathFormat::Windows, format!(r"\\{server}\{share}"), rest));
    }
    if bytes.len() >= 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':' {
        let rest = &written[2..];
        // "Z:name" is relative to a directory that only that system knows.
        let absolute = rest.is_empty() || rest.starts_with(['/', '\\']);
        return absolute.then(|| {
            (
                PathFormat::Windows,
                written[..2].to_owned(),
                rest.to_owned(),
            )
        });
    }
    let absolute = match written.strip_prefix('/') {
        Some(rest) => rest.to_owned(),
        None => format!("{}/{written}", directory.strip_prefix('/')?),
    };
    Some((PathFormat::Posix, String::new(), absolute))
}

#[cfg(test)]
mod tests {
    use super::*;
    use safelight_policies::path::CentralPath;

    fn centrals() -> Vec<Central> {
        let central = |host: &str, path: &str, write, also: &[&str]| Central {
            host: host.to_owned(),
            path: CentralPath::new(path).unwrap(),
            write,
            also: also.iter().map(|it| (*it).to_owned()).collect(),
        };
        vec![
            central(
                "/home/ann/show",
                "/mnt/central",
                true,
                &["Z:\\show", "/Volumes/show", r"\\nas\show"],
            ),
            central(
                "/home/ann/show/lib",
                "/mnt/library",
                false,
                &["Z:/show/lib"],
            ),
        ]
    }

    #[test]
    fn every_spelling_leads_to_the_central_path() {
        let centrals = centrals();
        let places = Places::new("/home/ann/show/jobs/a", &centrals).unwrap();
        for (written, host, path) in [
            (
                "/mnt/central/a.blend",
                "/home/ann/show/a.blend",
                "/mnt/central/a.blend",
            ),
            (
                "/home/ann/show/a.blend",
                "/home/ann/show/a.blend",
                "/mnt/central/a.blend",
            ),
            ("/home/ann/show/", "/home/ann/show", "/mnt/central"),
            (
                "../../a.blend",
                "/home/ann/show/a.blend",
                "/mnt/central/a.blend",
            ),
            (
                "./tex//b.png",
                "/home/ann/show/jobs/a/tex/b.png",
                "/mnt/central/jobs/a/tex/b.png",
            ),
            (
                "Z:\\show\\s 1\\a.blend",
                "/home/ann/show/s 1/a.blend",
                "/mnt/central/s 1/a.blend",
            ),
            (
                "z:/SHOW/a.blend",
                "/home/ann/show/a.blend",
                "/mnt/central/a.blend",
            ),
            ("Z:\\show\\x\\..\\a", "/home/ann/show/a", "/mnt/central/a"),
            (r"\\NAS\show\a", "/home/ann/show/a", "/mnt/central/a"),
            ("/Volumes/show/a", "/home/ann/show/a", "/mnt/central/a"),
            (
                "/home/ann/show/lib/x",
                "/home/ann/show/lib/x",
                "/mnt/library/x",
            ),
            ("Z:\\show\\lib\\x", "/home/ann/show/lib/x", "/mnt/library/x"),
        ] {
            let place = places
                .find(written)
                .unwrap_or_else(|| panic!("{written:?}"));
            assert_eq!(
                (place.host.as_str(), place.path.as_str()),
                (host, path),
                "{written:?}"
            );
        }
    }

    #[test]
    fn what_lies_nowhere_is_nowhere() {
        let centrals = centrals();
        let places = Places::new("/home/ann/show/jobs/a", &centrals).unwrap();
        for written in [
            "",
            "/etc/passwd",
            "/home/ann/showy/a",
            "/mnt/central/../../etc/passwd",
            "/mnt/central/../../../../etc",
            "../../../../ann/other",
            "Z:show",
            "Z:\\showy",
            "Y:\\show\\a",
            "Z:\\show\\..\\..\\..\\x",
            r"\\nas",
            "s3://bucket/show",
            "file:///mnt/central/a",
            "/mnt/central/a\0b",
        ] {
            assert_eq!(places.find(written), None, "{written:?}");
        }
    }

    #[test]
    fn one_spelling_leads_to_one_place() {
        let mut twice = centrals();
        twice[1].also.push("/Volumes/show/".to_owned());
        assert_eq!(Places::new("/d", &twice).err(), Some(1));
        let mut twice = centrals();
        twice[1].also.push("z:/SHOW".to_owned());
        assert_eq!(Places::new("/d", &twice).err(), Some(1));
        let mut own = centrals();
        own[0].also.push("/mnt/central".to_owned());
        assert!(Places::new("/d", &own).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn nothing_escapes_its_central_path(written in "[/\\\\.aZ:~ ]{0,24}") {
            let centrals = centrals();
            let places = Places::new("/home/ann/show/jobs/a", &centrals).unwrap();
            if let Some(place) = places.find(&written) {
                proptest::prop_assert!(is_normal(&place.path) && is_normal(&place.host));
                let below = centrals.iter().any(|it| {
                    let below = place.path.strip_prefix(it.path.as_str());
                    below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
                });
                proptest::prop_assert!(below);
            }
        }
    }
}
