//! What was read of a directory when it was last handed in: files that are the same since then are not read again.
//!
//! What was sealed of each file is in that job's own manifest. Beside it, sealed under that job's key, is what each file was like; and a file
//! whose name says nothing tells which job it was. So nothing of this can be read without the client's keys, and with a job's keys all that
//! was remembered of it is gone. What does not open, does not verify or is not there any more is as if nothing were known.

use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use safelight_policies::{id::JobId, path::CentralPath};
use safelight_seal::{blob::Purpose, segment::DedupKey};
use safelight_vfs::pack::{Facts, Known};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    failure::{Failure, Kind, OrFail},
    jobs,
    opened::OpenedJob,
    state::State,
};

/// What the names of the files are derived by.
const CONTEXT: &str = "safelight v1 which job a directory was last handed in with";

/// What the files of one directory were like.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Remembered {
    /// The directory, as bytes.
    pub(super) host: Vec<u8>,
    /// The tree of the job's manifest that it became.
    pub(super) central: CentralPath,
    /// Each file's path below it, and what it was like.
    pub(super) files: Vec<(Vec<u8>, Facts)>,
}

/// What is known of a directory.
pub(super) fn recall(state: &State, key: &DedupKey, host: &Path) -> Known {
    let known = look(state, key, host);
    known.unwrap_or_else(|failure| {
        tracing::debug!("every file is read: {}", failure.message());
        Known::nothing()
    })
}

fn look(state: &State, key: &DedupKey, host: &Path) -> Result<Known, Failure> {
    let last = jobs::read(&place(state, key, host.as_os_str().as_bytes()))?;
    let last = String::from_utf8(last).or_fail(Kind::Environment)?;
    let job: JobId = last.parse().or_fail(Kind::Environment)?;
    let opened = OpenedJob::open(state, job)?;
    let sealed = jobs::read(&state.job(job)?.join("files"))?;
    let plain = opened
        .key
        .open_blob(Purpose::Files, job.as_bytes(), &sealed);
    let all: Vec<Remembered> =
        postcard::from_bytes(&plain.or_fail(Kind::Denied)?).or_fail(Kind::Denied)?;
    let one = all
        .into_iter()
        .find(|one| one.host == host.as_os_str().as_bytes());
    let trees = opened.inputs()?.trees.into_iter();
    let found = one.and_then(|one| {
        let tree = { trees }.find(|tree| tree.path == one.central)?;
        Some(Known::new(tree.entries, one.files))
    });
    Ok(found.unwrap_or_default())
}

/// Notes which job the directories were handed in with, once its files are there.
pub(super) fn note(
    state: &State,
    key: &DedupKey,
    job: JobId,
    all: &[Remembered],
) -> Result<(), Failure> {
    let directory = state.root().join("client/files");
    std::fs::create_dir_all(directory).or_fail(Kind::Environment)?;
    for one in all {
        let text = job.to_string();
        jobs::write_private(&place(state, key, &one.host), text.as_bytes())?;
    }
    Ok(())
}

/// Where it is noted: a keyed hash of the directory's name.
fn place(state: &State, key: &DedupKey, host: &[u8]) -> PathBuf {
    let key = Zeroizing::new(blake3::derive_key(CONTEXT, &key.to_bytes()[..]));
    let name = blake3::keyed_hash(&key, host);
    let name = HEXLOWER.encode(&name.as_bytes()[..16]);
    state.root().join("client/files").join(name)
}
