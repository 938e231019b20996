//! The blobs of a letter on the medium: brought there unless they are there, with the right length and hash.

use std::{collections::BTreeSet, io};

use safelight_policies::id::ObjectId;

use super::{OutboxError, Pushed};
use crate::{
    BlobList, LIST_BYTES_MAX, Load, Medium, MediumError, Objects, objects::Verified, take::read,
};

/// Puts what is not there yet and not among what the recipient `holds`, the list last. Refuses to begin if it does not fit.
pub(super) fn put_load(
    load: &Load,
    medium: &dyn Medium,
    objects: &dyn Objects,
    holds: &BTreeSet<ObjectId>,
    there: &mut BTreeSet<ObjectId>,
    sharing: Sharing,
    pushed: &mut Pushed,
) -> Result<(), OutboxError> {
    let list = load_list(load, objects)?;
    let failed = |source| OutboxError::Medium { source };
    let list_len = objects
        .len(load.list)
        .ok()
        .flatten()
        .unwrap_or(LIST_BYTES_MAX);
    let blobs = list
        .entries()
        .iter()
        .map(|(id, len)| (*id, u64::from(*len)));
    let blobs: Vec<_> = blobs
        .chain([(load.list, list_len)])
        .filter(|(id, _)| !there.contains(id) && !holds.contains(id))
        .collect();
    let (mut needed, mut lacking) = (0, BTreeSet::new());
    for (id, len) in &blobs {
        match medium.blob_len(*id) {
            Ok(found) if found == Some(*len) => {}
            // What is no file is replaced, if it can be.
            Ok(_) | Err(MediumError::Irregular { .. }) => {
                needed += len;
                lacking.insert(*id);
            }
            Err(source) => return Err(failed(source)),
        }
    }
    let free = medium.room().map_err(failed)?;
    if needed > free {
        return Err(failed(MediumError::Full {
            folder: medium.place(),
            needed,
            free,
        }));
    }
    let mut sharing = Some(sharing);
    for (id, len) in blobs {
        if !lacking.contains(&id) && is_there(id, len, medium)? {
            pushed.skipped += 1;
        } else {
            put_blob(id, len, medium, objects, &mut sharing)?;
            pushed.sent.0 += 1;
            pushed.sent.1 += len;
        }
        there.insert(id);
    }
    medium.settle().map_err(failed)
}

fn is_there(id: ObjectId, len: u64, medium: &dyn Medium) -> Result<bool, OutboxError> {
    match medium.open_blob(id) {
        Ok(Some(mut blob)) if blob.len == len => {
            let mut source = Verified::new(&mut *blob.source, id, len);
            Ok(io::copy(&mut source, &mut io::sink()).is_ok())
        }
        Ok(_) | Err(MediumError::TooLong { .. } | MediumError::Irregular { .. }) => Ok(false),
        Err(source) => Err(OutboxError::Medium { source }),
    }
}

/// What is known of a file of ours before it gets a name on the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// That it has its length. Whoever takes it reads all of it and believes nothing; reading it here, too, would take as long as sealing.
    Unread,
    /// That it has its hash: nobody answered, and this may be why.
    Verified,
}

/// Puts a blob. `sharing` is none once the medium did not take a file of ours as it is.
fn put_blob(
    id: ObjectId,
    len: u64,
    medium: &dyn Medium,
    objects: &dyn Objects,
    sharing: &mut Option<Sharing>,
) -> Result<(), OutboxError> {
    let unreadable = |source| OutboxError::Objects { object: id, source };
    let failed = |source| OutboxError::Medium { source };
    if let Some(how) = *sharing
        && let Some(file) = objects.file(id).map_err(unreadable)?
    {
        // What gets the name is the file that was looked at, whatever has its name in our store by then.
        if file.metadata().map_err(unreadable)?.len() != len {
            return Err(unreadable(io::ErrorKind::InvalidData.into()));
        }
        if how == Sharing::Verified {
            let mut source = &file;
            let mut source = Verified::new(&mut source, id, len);
            io::copy(&mut source, &mut io::sink()).map_err(unreadable)?;
        }
        if medium.share_blob(id, &file).map_err(failed)? {
            return Ok(());
        }
        *sharing = None;
    }
    let mut source = objects.open(id).map_err(unreadable)?;
    let mut source = Verified::new(&mut *source, id, len);
    let put = medium.put_blob(id, len, &mut source);
    if source.fault.is_some() {
        // Our own store is damaged; what reached the medium is not taken for the blob by anybody.
        return Err(unreadable(io::ErrorKind::InvalidData.into()));
    }
    put.map_err(failed)
}

pub(super) fn load_list(load: &Load, objects: &dyn Objects) -> Result<BlobList, OutboxError> {
    let object = load.list;
    let bytes = read(objects, object, LIST_BYTES_MAX)
        .map_err(|source| OutboxError::Objects { object, source })?;
    let list = BlobList::decode(&bytes).map_err(|error| OutboxError::List {
        object,
        source: Some(error),
    })?;
    if list.bytes() == load.bytes {
        Ok(list)
    } else {
        Err(OutboxError::List {
            object,
            source: None,
        })
    }
}
