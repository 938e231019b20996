//! Which sealed objects of a client's area something here still refers to.
//!
//! Whatever cannot be told is an error, and then nothing of that area is collected: an object too many costs room, one too few a job.

use std::{collections::HashSet, fs, path::Path};

use safelight_bundle::Envelope;
use safelight_policies::id::{ClientAlias, JobId, ObjectId};
use safelight_seal::manifest::{EntryKind, Manifest};

use crate::{
    failure::{Failure, Kind, OrFail},
    jobs::{self, Left},
    looked,
    opened::OpenedJob,
    state::State,
    store::Store,
    warden,
};

/// What an area is needed for.
pub(crate) enum Needed {
    /// A session works with it now.
    InUse(JobId),
    /// These objects; all others may go once they are old.
    Objects(HashSet<ObjectId>),
}

/// What refers to objects of this client's area.
pub(crate) fn needed(state: &State, client: &ClientAlias) -> Result<Needed, Failure> {
    let mut objects = HashSet::new();
    for job in all_jobs(state)? {
        let directory = state.root().join("jobs").join(job.to_string());
        if let Some(envelope) = envelope(&directory)? {
            if envelope.outline.client != *client {
                continue;
            }
            if has_sessions(&directory)? {
                return Ok(Needed::InUse(job));
            }
            if is_kept(state, &directory, &envelope)? {
                add_job(state, client, job, &envelope, &mut objects)?;
            }
        } else if has_sessions(&directory)? {
            // A node knows a job by its sessions only.
            return Ok(Needed::InUse(job));
        }
    }
    Ok(Needed::Objects(objects))
}

/// A client's job is kept until its keys are erased; another client's until this site cannot open it any more.
fn is_kept(state: &State, directory: &Path, envelope: &Envelope) -> Result<bool, Failure> {
    let at_home = directory.join("home").try_exists();
    if at_home.or_fail(Kind::Environment)? {
        let keys = directory.join("keys").try_exists();
        return keys.or_fail(Kind::Environment);
    }
    warden::has_prekey(state, &envelope.prekey)
}

fn all_jobs(state: &State) -> Result<Vec<JobId>, Failure> {
    let directory = state.root().join("jobs");
    let failed = |error| unreadable(&directory, &error);
    let mut all = Vec::new();
    for entry in fs::read_dir(&directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        all.extend(name.to_str().and_then(|name| name.parse::<JobId>().ok()));
    }
    Ok(all)
}

fn has_sessions(directory: &Path) -> Result<bool, Failure> {
    let sessions = directory.join("sessions");
    match fs::read_dir(&sessions) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(unreadable(&sessions, &error)),
    }
}

/// The sealed objects of a job that are on this host, and their bytes.
pub(crate) fn of_job(state: &State, opened: &OpenedJob) -> Result<(u64, u64), Failure> {
    let mut objects = HashSet::new();
    let envelope = &opened.envelope;
    let client = &envelope.outline.client;
    add_job(state, client, opened.job(), envelope, &mut objects)?;
    let (mut count, mut bytes) = (0, 0);
    for object in objects {
        if let Some(len) = opened.area.len(object).or_fail(Kind::Environment)? {
            count += 1;
            bytes += len;
        }
    }
    Ok((count, bytes))
}

/// The envelope of a job, whoever signed it: it says whose area the job is in, and no more is believed.
fn envelope(directory: &Path) -> Result<Option<Envelope>, Failure> {
    let path = directory.join("envelope");
    if !path.try_exists().or_fail(Kind::Environment)? {
        return Ok(None);
    }
    let signed = jobs::read(&path)?;
    let signer = safelight_bundle::claimed_signer(&signed).or_fail(Kind::Config)?;
    let envelope = safelight_bundle::open(&signed, &signer).or_fail(Kind::Config)?;
    Ok(Some(envelope))
}

fn add_job(
    state: &State,
    client: &ClientAlias,
    job: JobId,
    envelope: &Envelope,
    objects: &mut HashSet<ObjectId>,
) -> Result<(), Failure> {
    let store = Store::open(state, client)?;
    objects.extend([envelope.inputs, envelope.recipe]);
    // A job that was never to travel has no list: then only its client can say.
    let mut opened = None;
    let directory = state.job(job)?;
    if directory.join("list").exists() {
        add_list(&store, jobs::list(state, job)?, objects)?;
    } else {
        add_segments(&open(&mut opened, state, job)?.inputs()?, objects);
    }
    for look in looked::all(state, job)? {
        objects.extend(look.audit);
        add_list(&store, look.list, objects)?;
    }
    for left in jobs::all_left(state, job)? {
        add_left(&store, &left, objects)?;
        if left.list.is_none() && left.manifest.is_some() {
            add_segments(&open(&mut opened, state, job)?.results(&left)?, objects);
        }
    }
    Ok(())
}

fn open<'a>(
    opened: &'a mut Option<OpenedJob>,
    state: &State,
    job: JobId,
) -> Result<&'a OpenedJob, Failure> {
    if opened.is_none() {
        *opened = Some(OpenedJob::open(state, job)?);
    }
    let open = opened.as_ref();
    open.ok_or_else(|| Failure::new(Kind::Internal, "the job was not opened"))
}

fn add_left(store: &Store, left: &Left, objects: &mut HashSet<ObjectId>) -> Result<(), Failure> {
    objects.extend(left.manifest.iter().chain(&left.log).chain(&left.audit));
    left.list
        .map_or(Ok(()), |list| add_list(store, list, objects))
}

fn add_list(store: &Store, list: ObjectId, objects: &mut HashSet<ObjectId>) -> Result<(), Failure> {
    objects.insert(list);
    let list = store.list(list)?;
    objects.extend(list.entries().iter().map(|(object, _)| *object));
    Ok(())
}

/// The objects of a manifest's files.
pub(crate) fn add_segments(manifest: &Manifest, objects: &mut HashSet<ObjectId>) {
    for entry in manifest.trees.iter().flat_map(|tree| &tree.entries) {
        if let EntryKind::File { segments, .. } = &entry.kind {
            objects.extend(segments.iter().filter_map(|segment| segment.object));
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let message = format!("cannot read {}: {error}", path.display());
    Failure::new(Kind::Environment, message)
}
