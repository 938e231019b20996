//! Looks at this client's jobs at other sites, as their letters told of them.

use std::fs;

use safelight_bundle::LookNotice;
use safelight_policies::id::{JobId, ObjectId, SessionId, SiteName};
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Failure, Kind, OrFail},
    jobs,
    state::State,
};

/// How many looks at one job are kept.
const LOOKS_MAX: usize = 10_000;

/// One look at a job at another site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Looked {
    /// Its own session, which names its log.
    pub(crate) session: SessionId,
    /// Objects that hold its log, in order.
    pub(crate) audit: Vec<ObjectId>,
    /// The object that lists them.
    pub(crate) list: ObjectId,
    /// Where.
    pub(crate) site: SiteName,
}

fn directory(state: &State, job: JobId) -> Result<std::path::PathBuf, Failure> {
    Ok(state.job(job)?.join("looks"))
}

/// Keeps what a letter tells of a look, once. Answers false for one that is another than was told before, or one too many.
pub(crate) fn keep(state: &State, site: &SiteName, letter: &LookNotice) -> Result<bool, Failure> {
    let looked = Looked {
        session: letter.session,
        audit: letter.audit.clone(),
        list: letter.load.list,
        site: site.clone(),
    };
    let directory = directory(state, letter.job)?;
    fs::create_dir_all(&directory).or_fail(Kind::Environment)?;
    let path = directory.join(format!("{}.json", letter.session));
    if !path.exists() && fs::read_dir(&directory).or_fail(Kind::Environment)?.count() >= LOOKS_MAX {
        return Ok(false);
    }
    let bytes = serde_json::to_vec(&looked).or_fail(Kind::Internal)?;
    Ok(jobs::make_private(&path, &bytes)? || jobs::read(&path)? == bytes)
}

/// All looks at a job at other sites, by session.
pub(crate) fn all(state: &State, job: JobId) -> Result<Vec<Looked>, Failure> {
    let entries = match fs::read_dir(directory(state, job)?) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::from_error(Kind::Environment, &error)),
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry.or_fail(Kind::Environment)?.path();
        if path.extension().is_some_and(|it| it == "json") {
            let looked: Looked = serde_json::from_slice(&jobs::read(&path)?).map_err(|error| {
                Failure::new(Kind::Internal, format!("{}: {error}", path.display()))
            })?;
            all.push(looked);
        }
    }
    all.sort_by_key(|looked| looked.session);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use safelight_bundle::{Epoch, Load, Seq, Stamp};
    use safelight_policies::id::VerifyKey;

    use super::*;

    #[test]
    fn a_look_is_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::open(Some(directory.path())).unwrap();
        let job = JobId::from_random([1; 10]);
        let letter = |session: u8, part: u8| LookNotice {
            stamp: Stamp {
                to: VerifyKey([1; 32]),
                seq: Seq {
                    epoch: Epoch::new(9, [0; 3]),
                    number: 1,
                },
                issued: 10,
                expires: 20,
            },
            job,
            session: SessionId::from_random([session; 10]),
            audit: vec![ObjectId([part; 32])],
            load: Load {
                list: ObjectId([9; 32]),
                bytes: 1,
            },
        };
        let site = "north".parse().unwrap();
        assert!(all(&state, job).unwrap().is_empty());
        for (session, part, kept) in [(2, 5, true), (1, 4, true), (2, 5, true), (2, 6, false)] {
            assert_eq!(keep(&state, &site, &letter(session, part)).unwrap(), kept);
        }
        let all = all(&state, job).unwrap();
        let parts: Vec<_> = all.iter().map(|it| it.audit[0].0[0]).collect();
        assert_eq!(parts, [4, 5]);
    }
}
