//! Packing: a job of this client's, its results and its logs, into a directory that is whole when it has a file `bundle`.

use std::{collections::HashSet, fs, path::Path};

use safelight_bundle::{BLOB_MAX, BlobList, Load, Packed, PackedResult, object_id};
use safelight_policies::id::{JobId, KemKey, ObjectId};
use safelight_seal::{job_keys::JobKeys, random::SystemRandom};
use safelight_vfs::area::Area;

use crate::{
    failure::{Failure, Kind, OrFail},
    jobs::{self, Left},
    needed::add_segments,
    opened::OpenedJob,
    process,
    state::{LogOf, State},
};

/// What was packed.
pub(crate) struct Done {
    pub(crate) objects: usize,
    pub(crate) bytes: u64,
    pub(crate) results: usize,
    pub(crate) readers: usize,
}

/// Packs a job for its client, for the readers that it was sealed for, and for `more`.
pub(crate) fn pack(state: &State, job: JobId, to: &Path, more: &[KemKey]) -> Result<Done, Failure> {
    let random = SystemRandom::new();
    let secret = jobs::client_secret(state, &random)?;
    let opened = OpenedJob::open(state, job)?;
    require_empty(to)?;
    let area = Area::open(to.join("blobs")).or_fail(Kind::Environment)?;
    let signed = jobs::read(&state.job(job)?.join("envelope"))?;
    let signer = opened.envelope.client_verify;
    if signer != secret.sign.public() {
        let message = format!("{job} was signed with a former key of this client");
        return Err(Failure::new(Kind::Denied, message));
    }
    let mut objects = HashSet::from([opened.envelope.inputs, opened.envelope.recipe]);
    add_segments(&opened.inputs()?, &mut objects);
    let log = put_log(state, &opened, &area)?;
    let mut results = Vec::new();
    for left in jobs::all_left(state, job)? {
        objects.extend(left.manifest.iter().chain(&left.log).chain(&left.audit));
        if left.manifest.is_some() {
            add_segments(&opened.results(&left)?, &mut objects);
        }
        results.push(result(left, log));
    }
    let mut blobs: Vec<_> = copy(&opened.area, &area, &objects)?;
    let envelope = put(&area, &signed)?;
    blobs.push((envelope, short(signed.len() as u64)?));
    if let (Some(log), false) = (log, results.is_empty()) {
        let len = area.len(log).or_fail(Kind::Environment)?;
        blobs.push((log, short(len.unwrap_or_default())?));
    }
    let list = BlobList::new(blobs).or_fail(Kind::User)?;
    let packed = Packed {
        job,
        envelope,
        results,
        load: Load {
            list: put(&area, &list.encode().or_fail(Kind::Internal)?)?,
            bytes: list.bytes(),
        },
        issued: process::now_seconds(),
    };
    let mut readers = jobs::keys(state, job)?.map_or_else(Vec::new, |keys| keys.readers());
    readers.extend_from_slice(more);
    let keys = JobKeys::wrap(&opened.key, job, &secret.kem.public(), &readers, &random);
    let keys = keys.or_fail(Kind::User)?;
    jobs::write_private(&to.join("keys"), &keys.to_file_bytes())?;
    let bundle = safelight_bundle::seal(&packed, &signer, |context, body| {
        secret.sign.sign(context, body)
    });
    jobs::write_private(&to.join("bundle"), &bundle.or_fail(Kind::Internal)?)?;
    Ok(Done {
        objects: list.entries().len(),
        bytes: list.bytes(),
        results: packed.results.len(),
        readers: keys.readers().len(),
    })
}

fn require_empty(to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to).or_fail(Kind::User)?;
    if fs::read_dir(to).or_fail(Kind::User)?.next().is_none() {
        return Ok(());
    }
    let message = format!("{} is not empty", to.display());
    Err(Failure::new(Kind::User, message).hint("name a new directory"))
}

fn result(left: Left, log: Option<ObjectId>) -> PackedResult {
    // A job that ran at home has one log on this host, and not one for each session.
    let audit = match left.audit.is_empty() {
        true => log.into_iter().collect(),
        false => left.audit,
    };
    PackedResult {
        task: left.task,
        session: left.session,
        attempt: left.attempt,
        fence: left.fence,
        manifest: left.manifest,
        log: left.log,
        audit,
        cause: left.cause,
    }
}

/// The job's own audit log, as an object.
fn put_log(state: &State, opened: &OpenedJob, area: &Area) -> Result<Option<ObjectId>, Failure> {
    let client = &opened.envelope.outline.client;
    let path = state.audit_log(client, opened.job(), LogOf::Job)?;
    if !path.exists() {
        return Ok(None);
    }
    put(area, &jobs::read(&path)?).map(Some)
}

fn put(area: &Area, bytes: &[u8]) -> Result<ObjectId, Failure> {
    let id = object_id(bytes);
    area.put(id, bytes).or_fail(Kind::Environment)?;
    Ok(id)
}

fn copy(
    from: &Area,
    to: &Area,
    objects: &HashSet<ObjectId>,
) -> Result<Vec<(ObjectId, u32)>, Failure> {
    let one = |object: &ObjectId| {
        let mut file = from.object(*object).or_fail(Kind::Environment)?;
        let len = to.receive(*object, BLOB_MAX, &mut file);
        Ok((*object, short(len.or_fail(Kind::Denied)?)?))
    };
    objects.iter().map(one).collect()
}

fn short(len: u64) -> Result<u32, Failure> {
    u32::try_from(len).or_fail(Kind::Internal)
}
