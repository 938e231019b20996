//! Reading a job bundle: which files make it, each bounded.

use std::{
    ffi::OsStr,
    fs::File,
    io::{ErrorKind, Read},
    path::{Component, Path, PathBuf},
};

use safelight_job::{Source, source::TEXT_MAX};

use crate::failure::{Failure, Kind, OrFail};

/// The texts of a bundle.
pub(super) struct Bundle {
    directory: String,
    template: String,
    values: Option<String>,
    assets: Option<String>,
    settings: Option<String>,
    environments: Vec<(String, String)>,
}

impl Bundle {
    /// Reads the bundle in a directory, and what the site puts around every job, from its own.
    pub(super) fn read(directory: &Path, environments: &Path) -> Result<Self, Failure> {
        if !directory.is_dir() {
            let message = format!("{} is not a directory", directory.display());
            return Err(Failure::new(Kind::User, message)
                .hint("name a job bundle: a directory with a template.yaml"));
        }
        let template = one_of(directory, &["template.yaml", "template.json"])?;
        Ok(Self {
            template: template.ok_or_else(|| {
                let directory = directory.display();
                let message = format!("{directory} has no template.yaml or template.json");
                Failure::new(Kind::User, message)
            })?,
            values: one_of(
                directory,
                &["parameter_values.yaml", "parameter_values.json"],
            )?,
            assets: one_of(
                directory,
                &["asset_references.yaml", "asset_references.json"],
            )?,
            settings: one_of(directory, &["safelight-job.toml"])?,
            directory: normal(directory)?,
            environments: environments_in(environments)?,
        })
    }

    /// The bundle with values from the command line.
    pub(super) fn source<'a>(&'a self, overrides: &'a [(String, String)]) -> Source<'a> {
        Source {
            directory: &self.directory,
            template: &self.template,
            parameter_values: self.values.as_deref(),
            asset_references: self.assets.as_deref(),
            job: self.settings.as_deref(),
            environments: &self.environments,
            overrides,
        }
    }
}

/// The environment templates of a site, by name; none if there is no such directory.
fn environments_in(directory: &Path) -> Result<Vec<(String, String)>, Failure> {
    let failed = |error: std::io::Error| {
        let message = format!("cannot read {}: {error}", directory.display());
        Failure::new(Kind::Config, message)
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let is_one = [".yaml", ".json"].iter().any(|end| name.ends_with(end));
        // A file that is skipped in silence would be an environment that somebody relies on.
        if !is_one {
            let message = format!("{} is no environment template", path.display());
            return Err(
                Failure::new(Kind::Config, message).hint("only files .yaml and .json belong there")
            );
        }
        let name = name.to_owned();
        found.extend(text(&path)?.map(|text| (name, text)));
    }
    found.sort();
    Ok(found)
}

/// The one of these files that is there.
fn one_of(directory: &Path, names: &[&str]) -> Result<Option<String>, Failure> {
    let mut found: Option<(&str, String)> = None;
    for name in names {
        let Some(text) = text(&directory.join(name))? else {
            continue;
        };
        if let Some((other, _)) = found {
            let directory = directory.display();
            let message = format!("{directory} has both {other} and {name}");
            return Err(Failure::new(Kind::User, message));
        }
        found = Some((name, text));
    }
    Ok(found.map(|(_, text)| text))
}

/// A file's text. One byte more than may be is read, so that what is too long is refused by its length and not cut short.
fn text(path: &Path) -> Result<Option<String>, Failure> {
    let failed = |error: std::io::Error| {
        let message = format!("cannot read {}: {error}", path.display());
        Failure::new(Kind::User, message)
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    file.take(TEXT_MAX as u64 + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(Some(text))
}

/// The directory's absolute path, spelled as its owner spells it: settings may name its parents. Only one that climbs is looked up.
fn normal(directory: &Path) -> Result<String, Failure> {
    let climbs = directory.components().any(|it| it == Component::ParentDir);
    let path = if climbs {
        std::fs::canonicalize(directory).or_fail(Kind::User)?
    } else {
        std::path::absolute(directory).or_fail(Kind::User)?
    };
    let path: PathBuf = path.components().collect();
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        let path = Path::new(OsStr::new(&path)).display();
        Failure::new(Kind::User, format!("the path {path} is not UTF-8"))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_bundle_is_its_files_and_each_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let none = || at("no such directory");
        let why = |directory: &Path| Bundle::read(directory, &none()).err().unwrap().to_string();
        assert!(why(directory.path()).contains("has no template.yaml or template.json"));
        assert!(why(&at("nowhere")).contains("is not a directory"));
        fs::write(at("template.json"), "{}").unwrap();
        fs::write(at("safelight-job.toml"), "priority = 1").unwrap();
        let bundle = Bundle::read(&directory.path().join("."), &none()).unwrap();
        let source = bundle.source(&[]);
        assert_eq!(
            (source.template, source.job, source.parameter_values),
            ("{}", Some("priority = 1"), None)
        );
        assert_eq!(Path::new(source.directory), directory.path());
        fs::write(at("template.yaml"), "").unwrap();
        assert!(why(directory.path()).contains("has both template.yaml and template.json"));
    }

    #[test]
    fn a_site_s_environments_are_taken_by_name_and_nothing_else_lies_there() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("20-server.yaml"), "inner").unwrap();
        fs::write(at("10-licence.json"), "outer").unwrap();
        let own = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let both = [
            own("10-licence.json", "outer"),
            own("20-server.yaml", "inner"),
        ];
        assert_eq!(environments_in(directory.path()).unwrap(), both);
        fs::write(at("20-server.yaml~"), "").unwrap();
        let why = environments_in(directory.path()).unwrap_err().to_string();
        assert!(
            why.contains("20-server.yaml~ is no environment template"),
            "{why}"
        );
    }

    #[test]
    fn what_is_too_long_stays_too_long() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("template.yaml");
        fs::write(&path, "#".repeat(TEXT_MAX + 100)).unwrap();
        assert_eq!(text(&path).unwrap().map(|it| it.len()), Some(TEXT_MAX + 1));
    }
}
