//! Finds the policy that a command line names: one that ships with Safelight, or a file of the user's own.

use std::{fs::File, io::Read, path::Path};

use safelight_policies::{catalogue::Catalogue, id::PolicyName};

use crate::failure::{Failure, Kind, OrFail};

/// More than the longest policy, so that a longer one is refused by its length and not cut short.
const READ_MAX: u64 = 1024 * 1024;

/// The policies that exist, and the name of the one that is meant. What has a slash or ends in `.toml` is a file.
pub(crate) fn load(spec: &str) -> Result<(Catalogue, PolicyName), Failure> {
    if is_file(spec) {
        return load_file(Path::new(spec));
    }
    let catalogue = Catalogue::shipped().or_fail(Kind::Internal)?;
    let known = |name: &PolicyName| catalogue.list().any(|(known, _)| known == name);
    match spec.parse::<PolicyName>().ok().filter(known) {
        Some(name) => Ok((catalogue, name)),
        None => Err(unknown(spec, &catalogue)),
    }
}

/// The shipped policies and a user's own, which may extend them.
pub(crate) fn load_file(path: &Path) -> Result<(Catalogue, PolicyName), Failure> {
    let mut catalogue = Catalogue::shipped().or_fail(Kind::Internal)?;
    let text = read(path).map_err(|error| {
        Failure::new(
            Kind::User,
            format!("cannot read the policy {}: {error}", path.display()),
        )
        .hint("'safelight policy list' shows those that need no file")
    })?;
    let name = catalogue
        .add(&text, &path.display().to_string())
        .or_fail(Kind::Config)?;
    Ok((catalogue, name))
}

/// The same policy, named so that a process in another directory finds it.
pub(crate) fn absolute(spec: &str) -> Result<String, Failure> {
    if !is_file(spec) {
        return Ok(spec.to_owned());
    }
    let path = Path::new(spec).canonicalize().map_err(|error| {
        Failure::new(
            Kind::User,
            format!("cannot find the policy {spec}: {error}"),
        )
    })?;
    path.into_os_string().into_string().map_err(|path| {
        let path = path.display();
        Failure::new(
            Kind::User,
            format!("the path of the policy is not UTF-8: {path}"),
        )
    })
}

fn is_file(spec: &str) -> bool {
    spec.contains('/') || spec.ends_with(".toml")
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(READ_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn unknown(spec: &str, catalogue: &Catalogue) -> Failure {
    let names: Vec<_> = catalogue.list().map(|(name, _)| name.to_string()).collect();
    let failure = Failure::new(
        Kind::User,
        format!(
            "there is no policy named {spec:?}; there are: {}",
            names.join(", ")
        ),
    );
    if Path::new(spec).exists() {
        failure.hint(format!("to name the file, write ./{spec}"))
    } else {
        failure.hint("'safelight policy list' says what each is for")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const OWN: &str = "schema = 1\nname = \"own\"\nsummary = \"x\"\nextends = [\"generic\"]\n";

    #[test]
    fn a_policy_is_found_by_name_or_by_file() {
        let (_, name) = load("generic").unwrap();
        assert_eq!(name.as_str(), "generic");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("own.toml");
        File::create(&path)
            .unwrap()
            .write_all(OWN.as_bytes())
            .unwrap();
        let spec = path.to_str().unwrap();
        let (catalogue, name) = load(spec).unwrap();
        let policy = catalogue.resolve(&name).unwrap();
        assert_eq!(policy.name().as_str(), "own");
        assert_eq!(
            absolute(spec).unwrap(),
            path.canonicalize().unwrap().to_str().unwrap()
        );
        assert_eq!(absolute("generic").unwrap(), "generic");
    }

    #[test]
    fn what_cannot_be_found_is_named() {
        for (spec, message) in [
            (
                "nope",
                "error: there is no policy named \"nope\"; there are: base, blender, ffmpeg, generic, povray, python, strict\nhint: 'safelight policy list' says what each is for",
            ),
            (
                "Not A Name",
                "error: there is no policy named \"Not A Name\"; there are:",
            ),
            (
                "/nowhere/own.toml",
                "error: cannot read the policy /nowhere/own.toml: No such file",
            ),
            (
                "src",
                "error: there is no policy named \"src\"; there are: base, blender, ffmpeg, generic, povray, python, strict\nhint: to name the file, write ./src",
            ),
        ] {
            let failure = load(spec).err().unwrap().to_string();
            assert!(failure.starts_with(message), "{failure}");
        }
    }

    #[test]
    fn a_policy_longer_than_what_is_read_is_refused_and_not_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("own.toml");
        let text = format!("{OWN}#{}", "x".repeat(2 * 1024 * 1024));
        File::create(&path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let failure = load_file(&path).err().unwrap().to_string();
        assert!(failure.contains("is too long"), "{failure}");
    }
}
