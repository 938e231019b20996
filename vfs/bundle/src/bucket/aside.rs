//! What was refused, in a bucket: copied by the store whatever its length, with the reason beside it, then removed. A crash in between leaves
//! both, and it is refused once more.

use std::{collections::BTreeMap, ops::ControlFlow};

use safelight_policies::id::VerifyKey;

use super::{Bucket, letter};
use crate::{
    Aside, EntryName, MediumError, ReadyName, Reason,
    directory::{ASIDE_MAX, REASON_MAX},
    name::mailbox,
};

fn folder(to: &VerifyKey) -> String {
    format!("aside/{}/", mailbox(to))
}

/// The stems of what is set aside, and whether the entry itself is there.
fn stems(bucket: &Bucket, to: &VerifyKey) -> Result<BTreeMap<String, bool>, MediumError> {
    let mut stems = BTreeMap::new();
    let mut seen = 0;
    bucket.list(&folder(to), &mut |name, _| {
        seen += 1;
        if let Some((stem, kind)) = name.rsplit_once('.')
            && EntryName::new(stem).is_some()
        {
            let entry = stems.entry(stem.to_owned()).or_insert(false);
            *entry |= kind == "entry";
        }
        match seen < 4 * ASIDE_MAX {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })?;
    Ok(stems)
}

/// Moves an object, if it is there.
fn shift(bucket: &Bucket, from: &str, to: &str) -> Result<bool, MediumError> {
    let copied = bucket.wire.copy(&bucket.key(from), &bucket.key(to));
    if !copied.map_err(bucket.fault("set aside", from))? {
        return Ok(false);
    }
    // A store may say that it began, and fail.
    let there = bucket.wire.len(&bucket.key(to));
    match there.map_err(bucket.fault("look at", to))? {
        Some(_) => bucket.remove(from).map(|()| true),
        None => Ok(false),
    }
}

pub(super) fn set_aside(
    bucket: &Bucket,
    to: &VerifyKey,
    name: &EntryName,
    reason: &Reason,
) -> Result<(), MediumError> {
    let Some(from) = letter(to, name) else {
        return Ok(());
    };
    let there = stems(bucket, to)?;
    if there.len() >= ASIDE_MAX {
        return Err(MediumError::AsideFull {
            folder: bucket.place.clone(),
            count: there.len(),
        });
    }
    let mut numbers = (0..=ASIDE_MAX).map(|number| format!("{}-{number}", reason.at));
    let Some(stem) = numbers.find(|stem| !there.contains_key(stem)) else {
        return Ok(());
    };
    // The reason first: an entry without one could be put back by nobody.
    let path = format!("{}{stem}.json", folder(to));
    let text = serde_json::to_vec_pretty(reason).unwrap_or_default();
    let put = bucket.wire.put(&bucket.key(&path), &text, true);
    put.map_err(bucket.fault("write", &path))?;
    match shift(bucket, &from, &format!("{}{stem}.entry", folder(to)))? {
        true => Ok(()),
        false => bucket.remove(&path),
    }
}

pub(super) fn list(bucket: &Bucket, to: &VerifyKey) -> Result<Vec<Aside>, MediumError> {
    let stems = stems(bucket, to)?.into_iter();
    let stems = stems.filter(|(_, entry)| *entry);
    let found = stems.map(|(stem, _)| {
        let reason = bucket.read(&format!("{}{stem}.json", folder(to)), REASON_MAX);
        let reason = reason.ok().flatten();
        let reason = reason.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Aside { stem, reason }
    });
    Ok(found.collect())
}

pub(super) fn put_back(
    bucket: &Bucket,
    to: &VerifyKey,
    aside: &Aside,
) -> Result<bool, MediumError> {
    // Only what is a letter by its name goes back; the reason beside it is the medium's word, too.
    let said = aside.reason.as_ref();
    let said = said.and_then(|reason| EntryName::new(reason.name.as_str()));
    let said = said.and_then(|name| ReadyName::parse(*to, &name));
    let name = said.and_then(|name| letter(to, &name.entry()));
    let (Some(name), Some(_)) = (name, EntryName::new(aside.stem.as_str())) else {
        return Ok(false);
    };
    let there = bucket.wire.len(&bucket.key(&name));
    if there.map_err(bucket.fault("look at", &name))?.is_some() {
        return Ok(false);
    }
    let (folder, stem) = (folder(to), &aside.stem);
    if !shift(bucket, &format!("{folder}{stem}.entry"), &name)? {
        return Ok(false);
    }
    bucket
        .remove(&format!("{folder}{stem}.json"))
        .map(|()| true)
}

pub(super) fn discard(bucket: &Bucket, to: &VerifyKey, stem: &str) -> Result<bool, MediumError> {
    if EntryName::new(format!("{stem}.entry")).is_none() {
        return Ok(false);
    }
    let entry = format!("{}{stem}.entry", folder(to));
    let there = bucket.wire.len(&bucket.key(&entry));
    if there.map_err(bucket.fault("look at", &entry))?.is_none() {
        return Ok(false);
    }
    bucket.remove(&entry)?;
    bucket
        .remove(&format!("{}{stem}.json", folder(to)))
        .map(|()| true)
}
