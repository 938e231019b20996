//! The grants that this client gave, as they are kept beside the job that each is for.

use std::{fs, path::PathBuf};

use safelight_bundle::DebugGrant;
use safelight_policies::id::{GrantId, JobId};

use crate::{
    failure::{Failure, Kind, OrFail},
    jobs,
    state::State,
};

fn path(state: &State, job: JobId, number: GrantId) -> PathBuf {
    let jobs = state.root().join("jobs").join(job.to_string());
    jobs.join("grants").join(number.to_string())
}

/// Keeps a grant.
pub(crate) fn keep(state: &State, grant: &DebugGrant, signed: &[u8]) -> Result<(), Failure> {
    let path = path(state, grant.job, grant.number);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).or_fail(Kind::Environment)?;
    }
    jobs::write_private(&path, signed)
}

/// Notes that a grant was taken back.
pub(crate) fn revoke(state: &State, grant: &DebugGrant) -> Result<(), Failure> {
    let path = path(state, grant.job, grant.number).with_extension("revoked");
    jobs::make_private(&path, b"").map(drop)
}

/// True if a grant was taken back.
pub(crate) fn is_revoked(state: &State, grant: &DebugGrant) -> bool {
    let path = path(state, grant.job, grant.number);
    path.with_extension("revoked").exists()
}

/// Every grant for a job, by number. They are this client's own, in its own directory: who signed them is what they say.
pub(crate) fn of_job(state: &State, job: JobId) -> Result<Vec<DebugGrant>, Failure> {
    let directory = state
        .root()
        .join("jobs")
        .join(job.to_string())
        .join("grants");
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::from_error(Kind::Environment, &error)),
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.or_fail(Kind::Environment)?;
        // Beside them may be one that is being written.
        let name = entry.file_name();
        if name
            .to_str()
            .is_some_and(|it| it.parse::<GrantId>().is_ok())
        {
            all.push(open(&jobs::read(&entry.path())?)?);
        }
    }
    all.sort_by_key(|grant: &DebugGrant| grant.number);
    Ok(all)
}

/// A grant by its number, of whichever job.
pub(crate) fn find(state: &State, number: GrantId) -> Result<Option<DebugGrant>, Failure> {
    for entry in fs::read_dir(state.root().join("jobs")).or_fail(Kind::Environment)? {
        let name = entry.or_fail(Kind::Environment)?.file_name();
        let Some(job) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let path = path(state, job, number);
        if path.exists() {
            return open(&jobs::read(&path)?).map(Some);
        }
    }
    Ok(None)
}

fn open(signed: &[u8]) -> Result<DebugGrant, Failure> {
    let signer = safelight_bundle::claimed_signer(signed).or_fail(Kind::Config)?;
    safelight_bundle::open(signed, &signer).or_fail(Kind::Config)
}
