//! What is kept of a job on this host besides its sealed objects, and how its parts are opened at home.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use safelight_bundle::Envelope;
use safelight_policies::{
    cause::Cause,
    id::{ClientAlias, Fence, JobId, ObjectId, SessionId, SiteName, TaskId, VerifyKey},
    path::CentralPath,
};
use safelight_seal::{job_key::JobKey, job_keys::JobKeys, key_file::ClientSecret, random::Random};
use serde::{Deserialize, Serialize};

use crate::{
    client::{DeliveredReport, rotation},
    failure::{Failure, Kind, OrFail},
    state::State,
};

/// What the agent needs besides the signed envelope. Nothing in it is believed: the policy that it names must have the digest that the
/// client signed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    /// A shipped profile's name, or the absolute path of a policy file.
    pub(crate) policy: String,
    /// Whose job, by alias.
    pub(crate) client: ClientAlias,
    /// Files that were packed.
    pub(crate) files: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

/// Where the results go. Sealed: it names directories of the client's.
#[derive(Serialize, Deserialize)]
pub(crate) struct Homeward {
    /// For each central path the client's directory, as bytes, and whether results may be stored there.
    pub(crate) places: Vec<(CentralPath, Vec<u8>, bool)>,
    /// Where the audit records go besides the log.
    pub(crate) audit: Option<Vec<u8>>,
    /// What the client calls the job.
    pub(crate) title: String,
    /// Whom to tell when it has ended.
    pub(crate) notify: Notify,
}

/// The first bytes of where results go; the last is the version.
const HOME_MAGIC: [u8; 8] = *b"SLHOMEW\x01";

impl Homeward {
    /// The bytes to seal.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Failure> {
        postcard::to_extend(self, HOME_MAGIC.to_vec()).or_fail(Kind::Internal)
    }

    /// Reads what [`Homeward::encode`] wrote.
    pub(crate) fn decode(plain: &[u8]) -> Result<Self, Failure> {
        let unknown = || Failure::new(Kind::Config, "where the results go is of another version");
        let body = plain.strip_prefix(&HOME_MAGIC).ok_or_else(unknown)?;
        match postcard::take_from_bytes(body).or_fail(Kind::Internal)? {
            (home, []) => Ok(home),
            _ => Err(unknown()),
        }
    }
}

/// Whom to tell of a job's end.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Notify {
    /// A program of the client's and its arguments; empty for none.
    pub(crate) command: Vec<String>,
    /// An address to post to.
    pub(crate) url: Option<String>,
}

/// What a finished attempt left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Left {
    /// The task.
    pub(crate) task: TaskId,
    /// The object that holds the result manifest; `None` if nothing was sealed.
    pub(crate) manifest: Option<ObjectId>,
    /// The object that holds the task's log, likewise.
    pub(crate) log: Option<ObjectId>,
    /// The session, attempt and fence that the result manifest is bound to.
    pub(crate) session: SessionId,
    /// The attempt's number.
    pub(crate) attempt: u32,
    /// The fence.
    pub(crate) fence: Fence,
    /// Why the attempt ended.
    pub(crate) cause: Cause,
    /// Output files.
    pub(crate) files: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Objects that hold audit logs of the session's own, in order. Empty where the job has one log on this host.
    pub(crate) audit: Vec<ObjectId>,
    /// The object that lists everything that it left, if it has to travel.
    pub(crate) list: Option<ObjectId>,
    /// Where it ran: another site's name, or nothing for this one.
    pub(crate) site: Option<SiteName>,
    /// When it was written down, in seconds since 1970.
    pub(crate) at: u64,
}

/// Notes what an attempt left.
pub(crate) fn write_left(state: &State, job: JobId, left: &Left) -> Result<(), Failure> {
    write_private(
        &left_path(state, job, left.session)?,
        &serde_json::to_vec(left).or_fail(Kind::Internal)?,
    )
}

/// Notes what a session left, once: what stands there is not replaced by something else. Answers whether it stands there now; when it was
/// written does not matter.
pub(crate) fn keep_left(state: &State, job: JobId, new: &Left) -> Result<bool, Failure> {
    let path = left_path(state, job, new.session)?;
    let bytes = serde_json::to_vec(new).or_fail(Kind::Internal)?;
    if make_private(&path, &bytes)? {
        return Ok(true);
    }
    let known = parse_left(&path)?;
    Ok(*new
        == Left {
            at: new.at,
            ..known
        })
}

/// True if this is the result of its task that counts: the first one that came with this question asked. One result of a task counts.
pub(crate) fn counts(state: &State, job: JobId, left: &Left) -> Result<bool, Failure> {
    let TaskId { step, task } = left.task;
    let path = left_path(state, job, left.session)?.with_file_name(format!("{step}.{task}.counts"));
    let session = left.session.to_string();
    if make_private(&path, session.as_bytes())? {
        return Ok(true);
    }
    Ok(read(&path)? == session.as_bytes())
}

/// What a session left; `None` if it left nothing.
pub(crate) fn left(state: &State, job: JobId, session: SessionId) -> Result<Option<Left>, Failure> {
    let path = left_path(state, job, session)?;
    if !path.exists() {
        return Ok(None);
    }
    parse_left(&path).map(Some)
}

/// What all sessions of a job left: by task, then by attempt.
pub(crate) fn all_left(state: &State, job: JobId) -> Result<Vec<Left>, Failure> {
    let files = left_files(state, job, "json")?;
    let mut all = files
        .iter()
        .map(|path| parse_left(path))
        .collect::<Result<Vec<_>, _>>()?;
    all.sort_by_key(|left| (left.task, left.attempt, left.fence));
    Ok(all)
}

/// What is noted of a job's sessions in files of one kind. Beside them may be one that is being written.
fn left_files(state: &State, job: JobId, kind: &str) -> Result<Vec<PathBuf>, Failure> {
    let directory = state.job(job)?.join("left");
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(cannot_read(&directory, &error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|error| cannot_read(&directory, &error))?
            .path();
        if path.extension().is_some_and(|extension| extension == kind) {
            files.push(path);
        }
    }
    Ok(files)
}

fn parse_left(path: &Path) -> Result<Left, Failure> {
    serde_json::from_slice(&read(path)?)
        .map_err(|error| Failure::new(Kind::Internal, format!("{}: {error}", path.display())))
}

/// Notes that what a session left is at home, and how.
pub(crate) fn write_delivered(
    state: &State,
    job: JobId,
    session: SessionId,
    report: &DeliveredReport,
) -> Result<(), Failure> {
    write_private(
        &delivered_path(state, job, session)?,
        &serde_json::to_vec(report).or_fail(Kind::Internal)?,
    )
}

/// How what a session left came home; `None` as long as it is not there.
pub(crate) fn delivered(
    state: &State,
    job: JobId,
    session: SessionId,
) -> Result<Option<DeliveredReport>, Failure> {
    let path = delivered_path(state, job, session)?;
    if !path.exists() {
        return Ok(None);
    }
    serde_json::from_slice(&read(&path)?)
        .map(Some)
        .map_err(|error| Failure::new(Kind::Internal, format!("{}: {error}", path.display())))
}

/// The sessions whose results are at home.
pub(crate) fn all_delivered(state: &State, job: JobId) -> Result<BTreeSet<SessionId>, Failure> {
    let files = left_files(state, job, "delivered")?;
    let session = |path: PathBuf| path.file_stem()?.to_str()?.parse().ok();
    Ok(files.into_iter().filter_map(session).collect())
}

fn delivered_path(state: &State, job: JobId, session: SessionId) -> Result<PathBuf, Failure> {
    left_path(state, job, session).map(|path| path.with_extension("delivered"))
}

fn left_path(state: &State, job: JobId, session: SessionId) -> Result<PathBuf, Failure> {
    let directory = state.job(job)?.join("left");
    fs::create_dir_all(&directory).map_err(|error| cannot_write(&directory, &error))?;
    Ok(directory.join(format!("{session}.json")))
}

/// Notes which object lists the blobs of a job: its envelope, its recipe, its manifest, its segments.
pub(crate) fn write_list(state: &State, job: JobId, list: ObjectId) -> Result<(), Failure> {
    write_private(&state.job(job)?.join("list"), list.to_string().as_bytes())
}

/// The object that lists the blobs of a job.
pub(crate) fn list(state: &State, job: JobId) -> Result<ObjectId, Failure> {
    let path = state.job(job)?.join("list");
    let text = read(&path)?;
    let text = std::str::from_utf8(&text).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| Failure::new(Kind::Internal, format!("{} is damaged", path.display())))
}

/// Loads this client's secret, making it at first use.
pub(crate) fn client_secret(state: &State, random: &dyn Random) -> Result<ClientSecret, Failure> {
    let path = state.identity();
    match fs::read(&path) {
        Ok(bytes) => {
            ClientSecret::from_file_bytes(&zeroize::Zeroizing::new(bytes)).map_err(|error| {
                Failure::new(Kind::Config, format!("{}: {error}", path.display()))
                    .hint("restore the key file from a backup")
            })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret = ClientSecret::generate(random).or_fail(Kind::Internal)?;
            if make_private(&path, &secret.to_file_bytes())? {
                return Ok(secret);
            }
            // Somebody made it at the same time; there is one client, and theirs it is.
            client_secret(state, random)
        }
        Err(error) => Err(Failure::new(
            Kind::Environment,
            format!("cannot read {}: {error}", path.display()),
        )),
    }
}

/// A client's alias on its own host: opaque, and the same for the same key.
pub(crate) fn alias(key: &VerifyKey) -> Result<ClientAlias, Failure> {
    let letters: String = key
        .fingerprint()
        .chars()
        .filter(|letter| *letter != '-')
        .take(8)
        .collect();
    ClientAlias::new(format!("c-{letters}")).or_fail(Kind::Internal)
}

/// Who may open a job here; `None` if its keys were erased, also by somebody who was stopped when they were overwritten and still had a name.
pub(crate) fn keys(state: &State, job: JobId) -> Result<Option<JobKeys>, Failure> {
    let path = state.job(job)?.join("keys");
    let bytes = match fs::read(&path) {
        Ok(bytes) if rotation::is_shredded(&bytes) => return Ok(None),
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot_read(&path, &error)),
    };
    let keys = JobKeys::from_file_bytes(&bytes).map_err(|error| {
        Failure::new(Kind::Config, format!("{}: {error}", path.display()))
            .hint("restore the file from a backup")
    });
    keys.map(Some)
}

/// Opens a job's key with the client's own.
pub(crate) fn job_key(
    state: &State,
    envelope: &Envelope,
    secret: &ClientSecret,
) -> Result<JobKey, Failure> {
    let job = envelope.outline.job;
    let denied = |why: &str| Failure::new(Kind::Denied, format!("{job} cannot be opened: {why}"));
    let keys = keys(state, job)?.ok_or_else(|| denied("its keys were erased"))?;
    let key = keys.open(job, secret).map_err(|error| {
        let message = format!("this client's key does not open {job}: {error}");
        Failure::new(Kind::Denied, message)
    })?;
    if key.attest_key().public() != envelope.attest {
        return Err(denied("its key is not the one that its envelope names"));
    }
    Ok(key)
}

/// Verifies a job's envelope against the keys that this client signs and signed with.
pub(crate) fn verify_own(
    signed: &[u8],
    job: JobId,
    secret: &ClientSecret,
) -> Result<Envelope, Failure> {
    let claimed = safelight_bundle::claimed_signer(signed).or_fail(Kind::Denied)?;
    let own = secret.signing().find(|key| *key == claimed);
    verify(signed, job, &own.unwrap_or(secret.sign.public()))
}

/// Verifies a job's envelope against the client that this host knows.
pub(crate) fn verify(signed: &[u8], job: JobId, client: &VerifyKey) -> Result<Envelope, Failure> {
    let envelope = safelight_bundle::open::<Envelope>(signed, client).or_fail(Kind::Denied)?;
    if envelope.outline.job == job {
        Ok(envelope)
    } else {
        Err(Failure::new(
            Kind::Denied,
            format!("the envelope of {job} is another job's"),
        ))
    }
}

/// Reads a small file of the state.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| cannot_read(path, &error))
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        Kind::Environment,
        format!("cannot read {}: {error}", path.display()),
    )
}

/// Writes a small file durably and whole, readable by its owner only.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let file = beside(path, bytes)?;
    file.persist(path)
        .map_err(|error| cannot_write(path, &error.error))?;
    sync_parent(path)
}

/// The same, if nothing is there yet; answers whether it did. Of several that do so at the same time, one does.
pub(crate) fn make_private(path: &Path, bytes: &[u8]) -> Result<bool, Failure> {
    match beside(path, bytes)?.persist_noclobber(path) {
        Ok(_) => sync_parent(path).map(|()| true),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(cannot_write(path, &error.error)),
    }
}

/// A file beside `path`, on the disk, that waits for its name.
fn beside(path: &Path, bytes: &[u8]) -> Result<tempfile::NamedTempFile, Failure> {
    let failed = |error: std::io::Error| cannot_write(path, &error);
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(0o600))
        .map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    Ok(file)
}

fn sync_parent(path: &Path) -> Result<(), Failure> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY)
        .open(directory)
        .and_then(|it| it.sync_all())
        .map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        Kind::Environment,
        format!("cannot write {}: {error}", path.display()),
    )
}

#[cfg(test)]
mod tests;
