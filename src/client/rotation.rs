//! New keys for a client, and the end of a job's or of all keys.
//!
//! Every step replaces one small file, whole and durably. Whoever reads between two steps, or after a crash anywhere, opens every job that
//! was not erased; a rotation that was cut short is finished by the next one.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};
use safelight_policies::id::JobId;
use safelight_seal::{job_keys::JobKeys, key_file::ClientSecret, random::Random};

use crate::{
    failure::{Failure, Kind, OrFail},
    jobs,
    state::State,
};

/// Keeps the client's keys as they are while something is sealed with them, or keeps others from sealing while they change.
pub(crate) struct KeysLock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

impl KeysLock {
    /// The keys stay as they are until this is dropped; any number may hold it.
    pub(crate) fn shared(state: &State) -> Result<Self, Failure> {
        Self::take(state, FlockArg::LockShared)
    }

    /// Nobody seals until this is dropped.
    pub(crate) fn alone(state: &State) -> Result<Self, Failure> {
        Self::take(state, FlockArg::LockExclusive)
    }

    fn take(state: &State, how: FlockArg) -> Result<Self, Failure> {
        let path = state.identity().with_extension("lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path);
        let file = file.or_fail(Kind::Environment)?;
        let lock = Flock::lock(file, how).map_err(|(_, errno)| errno);
        lock.or_fail(Kind::Environment).map(Self)
    }
}

/// What a rotation did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rotated {
    /// True if an earlier one was cut short, and this one finished it and made no other keys.
    pub(crate) finished: bool,
    /// Jobs whose key is wrapped to the new key.
    pub(crate) jobs: u64,
}

/// Makes new receiving and dedup keys, wraps every job's key to the new one, and forgets the old. `step` is asked before each change.
pub(crate) fn rotate(
    state: &State,
    random: &dyn Random,
    step: &mut dyn FnMut() -> Result<(), Failure>,
) -> Result<Rotated, Failure> {
    let _alone = KeysLock::alone(state)?;
    let path = state.identity();
    let mut secret = jobs::client_secret(state, random)?;
    let mut done = Rotated {
        finished: !secret.former_kem.is_empty(),
        jobs: 0,
    };
    if !done.finished {
        secret.rotate(false, random).or_fail(Kind::Internal)?;
        step()?;
        jobs::write_private(&path, &secret.to_file_bytes())?;
    }
    for (job, keys_path) in key_files(state)? {
        if wrap_anew(state, job, &keys_path, &secret, random, step)? {
            done.jobs += 1;
        }
    }
    secret.former_kem.clear();
    step()?;
    jobs::write_private(&path, &secret.to_file_bytes())?;
    Ok(done)
}

/// True if the job's key was wrapped to an older key.
fn wrap_anew(
    state: &State,
    job: JobId,
    path: &Path,
    secret: &ClientSecret,
    random: &dyn Random,
    step: &mut dyn FnMut() -> Result<(), Failure>,
) -> Result<bool, Failure> {
    let Some(keys) = jobs::keys(state, job)? else {
        return Ok(false);
    };
    let present = secret.kem.public();
    if keys.recipients().any(|(_, key)| *key == present) {
        return Ok(false);
    }
    let key = keys.open(job, secret).map_err(|error| {
        let message = format!("{job} cannot be opened with any key of this client: {error}");
        Failure::new(Kind::Denied, message).hint(format!(
            "nothing is lost: the old keys are kept. Restore {}, or erase the job: safelight key erase {job}",
            path.display()
        ))
    })?;
    let anew = JobKeys::wrap(&key, job, &present, &keys.readers(), random);
    step()?;
    jobs::write_private(path, &anew.or_fail(Kind::Internal)?.to_file_bytes())?;
    Ok(true)
}

/// The key files of all jobs that have one.
pub(crate) fn key_files(state: &State) -> Result<Vec<(JobId, PathBuf)>, Failure> {
    let directory = state.root().join("jobs");
    let mut found = Vec::new();
    for entry in fs::read_dir(&directory).or_fail(Kind::Environment)? {
        let entry = entry.or_fail(Kind::Environment)?;
        let keys = entry.path().join("keys");
        let job = entry.file_name().to_str().and_then(|it| it.parse().ok());
        if let (Some(job), true) = (job, keys.try_exists().or_fail(Kind::Environment)?) {
            found.push((job, keys));
        }
    }
    found.sort_unstable_by_key(|(_, path)| path.clone());
    Ok(found)
}

/// Overwrites a small secret file, then takes its name away. What a file system or a backup keeps of older blocks is theirs.
pub(crate) fn shred(path: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        let message = format!("cannot erase {}: {error}", path.display());
        Failure::new(Kind::Environment, message)
    };
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    let zeros = vec![0; usize::try_from(len).or_fail(Kind::Internal)?];
    file.write_all(&zeros).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::remove_file(path).map_err(failed)?;
    let above = path.parent().unwrap_or(Path::new("/"));
    File::open(above)
        .and_then(|above| above.sync_all())
        .map_err(failed)
}

/// True of what [`shred`] leaves if it is stopped before the name is gone.
pub(crate) fn is_shredded(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use safelight_policies::id::KemKey;
    use safelight_seal::{identity::KemSecret, job_key::JobKey, random::SystemRandom};

    use super::*;

    struct World {
        _directory: tempfile::TempDir,
        state: State,
        jobs: Vec<(JobId, [u8; 32])>,
        reader: KemSecret,
    }

    /// A client with three jobs, each with a reader.
    fn world() -> World {
        let directory = tempfile::tempdir().unwrap();
        let state = State::open(Some(directory.path())).unwrap();
        let random = SystemRandom::new();
        let secret = jobs::client_secret(&state, &random).unwrap();
        let reader = KemSecret::generate(&random).unwrap();
        let readers: [KemKey; 1] = [reader.public()];
        let job = |number: u8| {
            let job = JobId::from_random([number; 10]);
            let key = JobKey::generate(&random).unwrap();
            let keys = JobKeys::wrap(&key, job, &secret.kem.public(), &readers, &random).unwrap();
            let path = state.job(job).unwrap().join("keys");
            jobs::write_private(&path, &keys.to_file_bytes()).unwrap();
            (job, key.attest_key().public().0)
        };
        let jobs = (1..=3).map(job).collect();
        World {
            _directory: directory,
            state,
            jobs,
            reader,
        }
    }

    impl World {
        fn secret(&self) -> ClientSecret {
            let bytes = fs::read(self.state.identity()).unwrap();
            ClientSecret::from_file_bytes(&bytes).unwrap()
        }

        /// How many jobs a client's keys open.
        fn opened(&self, secret: &ClientSecret) -> usize {
            let opens = |(job, attest): &&(JobId, [u8; 32])| {
                let keys = jobs::keys(&self.state, *job).unwrap().unwrap();
                assert!(keys.open_to_read(*job, &self.reader).is_ok());
                keys.open(*job, secret)
                    .is_ok_and(|key| key.attest_key().public().0 == *attest)
            };
            self.jobs.iter().filter(opens).count()
        }
    }

    #[test]
    fn a_rotation_that_is_cut_short_anywhere_loses_nothing_and_is_finished() {
        let random = SystemRandom::new();
        for cut in 0..=5 {
            let world = world();
            let old = world.secret();
            let mut steps = 0;
            let outcome = rotate(&world.state, &random, &mut || {
                steps += 1;
                match steps > cut {
                    true => Err(Failure::new(Kind::Internal, "killed")),
                    false => Ok(()),
                }
            });
            assert_eq!(outcome.is_err(), cut < 5, "there are five steps");
            assert_eq!(world.opened(&world.secret()), 3, "after {cut} steps");
            let begun = rotate(&world.state, &random, &mut || Ok(())).unwrap();
            assert_eq!(begun.finished, (1..5).contains(&cut), "{cut}");
            let new = world.secret();
            assert_eq!(world.opened(&new), 3);
            assert_eq!(world.opened(&old), 0, "the old key is good for nothing");
            assert_eq!(new.sign.public(), old.sign.public());
            assert!(new.former_kem.is_empty() && new.dedup.to_bytes() != old.dedup.to_bytes());
        }
    }

    #[test]
    fn a_job_that_cannot_be_opened_keeps_the_old_keys() {
        let world = world();
        let random = SystemRandom::new();
        let stranger = ClientSecret::generate(&random).unwrap();
        let key = JobKey::generate(&random).unwrap();
        let job = JobId::from_random([2; 10]);
        let foreign = JobKeys::wrap(&key, job, &stranger.kem.public(), &[], &random).unwrap();
        let path = world.state.job(job).unwrap().join("keys");
        jobs::write_private(&path, &foreign.to_file_bytes()).unwrap();
        let failure = rotate(&world.state, &random, &mut || Ok(())).unwrap_err();
        assert!(failure.to_string().contains(&job.to_string()), "{failure}");
        assert_eq!(world.secret().former_kem.len(), 1);
        shred(&path).unwrap();
        assert!(
            rotate(&world.state, &random, &mut || Ok(()))
                .unwrap()
                .finished
        );
        assert!(world.secret().former_kem.is_empty());
    }

    #[test]
    fn keys_that_were_overwritten_and_still_have_a_name_are_erased() {
        let world = world();
        let job = world.jobs[0].0;
        let path = world.state.job(job).unwrap().join("keys");
        assert!(jobs::keys(&world.state, job).unwrap().is_some());
        let len = fs::read(&path).unwrap().len();
        fs::write(&path, vec![0; len]).unwrap();
        assert!(jobs::keys(&world.state, job).unwrap().is_none());
        // Damage is something else.
        fs::write(&path, vec![1; len]).unwrap();
        assert!(jobs::keys(&world.state, job).is_err());
    }

    #[test]
    fn what_is_shredded_is_overwritten_before_it_loses_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        fs::write(&path, b"a secret").unwrap();
        // Another name of the same file shows what is left of it.
        fs::hard_link(&path, directory.path().join("other")).unwrap();
        shred(&path).unwrap();
        assert!(!path.exists());
        assert_eq!(fs::read(directory.path().join("other")).unwrap(), [0; 8]);
        assert!(shred(&path).is_err());
    }
}
