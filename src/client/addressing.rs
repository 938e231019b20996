//! For whom a job is sealed: its key is wrapped to one prekey of one site.
//!
//! A job is addressed again without being sealed again: outline, manifest, recipe and segments stay, and only the envelope is new.

use safelight_bundle::{BlobList, Envelope, Prekey};
use safelight_policies::{
    id::{JobId, ObjectId, VerifyKey},
    outline::Outline,
};
use safelight_seal::{
    job_key::{JobKey, TO_WARDEN},
    key_file::ClientSecret,
    manifest::{EntryKind, Manifest},
    random::{Random, SystemRandom},
};

use crate::{
    failure::{Failure, Kind, OrFail},
    jobs,
    opened::OpenedJob,
    process,
    state::State,
    store::Store,
};

/// What an envelope announces.
pub(super) struct Announced {
    pub(super) outline: Outline,
    /// The sealed manifest.
    pub(super) inputs: ObjectId,
    /// The sealed recipe.
    pub(super) recipe: ObjectId,
}

/// The signed envelope: the job key wrapped to the site's one-time prekey, and nothing that says what the job is.
pub(super) fn envelope(
    secret: &ClientSecret,
    random: &dyn Random,
    key: &JobKey,
    announced: Announced,
    prekey: &Prekey,
) -> Result<Vec<u8>, Failure> {
    let Announced {
        outline,
        inputs,
        recipe,
    } = announced;
    let stanza = key.wrap(&prekey.key, TO_WARDEN, outline.job, random);
    let stanza = stanza.or_fail(Kind::Internal)?;
    let envelope = Envelope {
        version: safelight_bundle::ENVELOPE_VERSION,
        client_verify: secret.sign.public(),
        attest: key.attest_key().public(),
        inputs,
        recipe,
        prekey: prekey.id,
        site: prekey.site,
        stanza_for_site: stanza.to_bytes().to_vec(),
        issued: process::now_seconds(),
        expires: outline.expires,
        outline,
    };
    safelight_bundle::seal(&envelope, &envelope.client_verify, |context, body| {
        secret.sign.sign(context, body)
    })
    .or_fail(Kind::Internal)
}

/// The list of everything that a job is made of: its envelope, its manifest, its recipe, its segments.
pub(super) fn list(
    store: &Store,
    envelope: ObjectId,
    sealed: [ObjectId; 2],
    inputs: &Manifest,
) -> Result<BlobList, Failure> {
    let entries = inputs.trees.iter().flat_map(|tree| &tree.entries);
    let segments = entries.filter_map(|entry| match &entry.kind {
        EntryKind::File { segments, .. } => Some(segments),
        _ => None,
    });
    let mut objects: Vec<_> = segments.flatten().filter_map(|it| it.object).collect();
    objects.push(envelope);
    objects.extend(sealed);
    objects.sort_unstable();
    objects.dedup();
    let blob = |id: ObjectId| {
        let len = store.area().claim(id).or_fail(Kind::Environment)?;
        let len = len.and_then(|len| u32::try_from(len).ok()).ok_or_else(|| {
            Failure::new(
                Kind::Environment,
                format!("object {id} is not in the secure area"),
            )
        })?;
        Ok((id, len))
    };
    let blobs: Result<Vec<_>, Failure> = objects.into_iter().map(blob).collect();
    BlobList::new(blobs?)
        .map_err(|error| Failure::from_error(Kind::User, &error).hint("name fewer files"))
}

/// Addresses a job to the site that signed this prekey. Answers the envelope and the list of the job's blobs.
///
/// The envelope takes its place before the list does, and a job whose envelope has this prekey keeps it: whatever a crash leaves undone,
/// the next call does, and makes no second envelope for one prekey.
pub(super) fn readdress(
    state: &State,
    secret: &ClientSecret,
    job: JobId,
    prekey: &[u8],
    site: &VerifyKey,
) -> Result<(ObjectId, ObjectId), Failure> {
    let prekey: Prekey = safelight_bundle::open(prekey, site).or_fail(Kind::Denied)?;
    let opened = OpenedJob::open(state, job)?;
    let now = &opened.envelope;
    let store = Store::open(state, &now.outline.client)?;
    let path = state.job(job)?.join("envelope");
    let signed = if (now.prekey, now.site) == (prekey.id, prekey.site) {
        jobs::read(&path)?
    } else {
        let announced = Announced {
            outline: now.outline.clone(),
            inputs: now.inputs,
            recipe: now.recipe,
        };
        envelope(
            secret,
            &SystemRandom::new(),
            &opened.key,
            announced,
            &prekey,
        )?
    };
    let id = store.put_bytes(&signed)?;
    let list = list(&store, id, [now.inputs, now.recipe], &opened.inputs()?)?;
    let list = store.put_list(&list)?;
    jobs::write_private(&path, &signed)?;
    jobs::write_list(state, job, list)?;
    Ok((id, list))
}
