//! The hot folders of a configuration: opened where their URLs say, with what `safelight.toml` has for their stores.
//!
//! The key of an object store is in a file of its own, which nobody else may read: never on a command line, never in the environment.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf};

use safelight_bundle::{Bucket, Directory, Medium, Place, Store};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::config::Config;
use crate::{
    failure::{Failure, Kind, OrFail},
    state::State,
};

/// The longest file with a key, in bytes.
const KEY_MAX: u64 = 16 * 1024;

/// Where a bucket's store is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreConfig {
    /// Its address.
    pub(crate) endpoint: String,
    /// The region that signatures name.
    #[serde(default = "region")]
    pub(crate) region: String,
    /// The file with our key there: `key = "…"` and `secret = "…"`.
    pub(crate) credentials: PathBuf,
    /// That it may be spoken to without TLS, though it is on another machine.
    #[serde(default)]
    pub(crate) http: bool,
}

fn region() -> String {
    "us-east-1".to_owned()
}

/// The file with a key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    key: String,
    secret: Zeroizing<String>,
}

/// Opens a hot folder. Whether it is there is found out by what is done with it.
pub(super) fn open(state: &State, place: &Place) -> Result<Box<dyn Medium + Send>, Failure> {
    Ok(match place {
        Place::Directory(path) => Box::new(Directory::at(path)),
        Place::Bucket { bucket, prefix } => Box::new(bucket_of(state, bucket, prefix)?),
    })
}

/// Makes a hot folder; answers where it is from wherever one stands.
pub(super) fn make(state: &State, place: Place) -> Result<Place, Failure> {
    match place {
        Place::Directory(path) => {
            let path = std::path::absolute(path).or_fail(Kind::User)?;
            fs::create_dir_all(&path).or_fail(Kind::Environment)?;
            Directory::create(&path).or_fail(Kind::Environment)?;
            Ok(Place::Directory(path))
        }
        Place::Bucket { bucket, prefix } => {
            let opened = bucket_of(state, &bucket, &prefix)?;
            opened.create().map_err(|error| {
                Failure::from_error(Kind::Environment, &error).hint(error.next_step())
            })?;
            Ok(Place::Bucket { bucket, prefix })
        }
    }
}

fn bucket_of(state: &State, bucket: &str, prefix: &str) -> Result<Bucket, Failure> {
    let stores = Config::read(state)?.stores;
    let Some(store) = stores.get(bucket) else {
        let path = Config::path(state);
        let message = format!(
            "{} does not say where the bucket {bucket} is",
            path.display()
        );
        let hint = format!(
            "add to it: [stores.\"{bucket}\"] with endpoint = \"https://…\" and credentials = \"FILE\""
        );
        return Err(Failure::new(Kind::Config, message).hint(hint));
    };
    let KeyFile { key, secret } = key_file(&store.credentials)?;
    let store = Store {
        endpoint: store.endpoint.clone(),
        region: store.region.clone(),
        http: store.http,
        key,
        secret,
    };
    let opened = Bucket::at(bucket, prefix, store).or_fail(Kind::Config);
    opened.map_err(|failure| {
        failure.hint("with http = true it is spoken to all the same: only on a network of its own")
    })
}

/// Reads a key that is nobody else's.
fn key_file(path: &std::path::Path) -> Result<KeyFile, Failure> {
    let wrong = |why: &dyn std::fmt::Display| {
        let message = format!("{} is not usable as a store's key: {why}", path.display());
        Failure::new(Kind::Config, message)
    };
    let about = fs::metadata(path).map_err(|error| wrong(&error))?;
    if !about.is_file() || about.len() > KEY_MAX {
        return Err(wrong(&"it is no small file"));
    }
    if about.mode() & 0o077 != 0 {
        let hint = format!("chmod 600 {}", path.display());
        return Err(wrong(&"others may read or write it").hint(hint));
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(|error| wrong(&error))?);
    // What does not parse is not shown: it may be the key.
    toml::from_str(&text)
        .map_err(|_| wrong(&"it has to have key = \"…\" and secret = \"…\", and nothing else"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_read_from_a_file_of_ones_own_and_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.toml");
        let said = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            match key_file(&path) {
                Ok(file) => format!("{} {}", file.key, file.secret.as_str()),
                Err(failure) => failure.message(),
            }
        };
        let good = "key = \"AKIA\"\nsecret = \"geheim\"\n";
        assert_eq!(said(good, 0o600), "AKIA geheim");
        assert!(said(good, 0o640).ends_with("others may read or write it"));
        for text in [
            "secret = \"geheim\"\n",
            "geheim",
            &format!("{good}more = 1\n"),
        ] {
            let said = said(text, 0o600);
            assert!(said.contains("and nothing else"), "{said}");
            assert!(!said.contains("geheim"), "{said}");
        }
        fs::remove_file(&path).unwrap();
        assert!(key_file(&path).is_err());
    }
}
