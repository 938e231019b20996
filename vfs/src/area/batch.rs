//! Many objects at once: written, then made durable together, then named. A sync for each would cost more than sealing does.
//!
//! No object of a batch has its name before all bytes of the batch are on the disk, and a batch that is dropped before
//! [`Batch::settle`] leaves nothing.

use std::{
    collections::{BTreeSet, HashSet},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use safelight_policies::id::ObjectId;

use super::{Area, Error};

/// The most objects, and the most bytes, that wait for their names.
const WAITING_MAX: usize = 1024;
const BYTES_MAX: u64 = 512 << 20;

/// Objects on their way into an area. Several threads may put into it: they encrypt and write side by side, and name what is there together.
#[derive(Debug)]
pub struct Batch<'a> {
    area: &'a Area,
    state: Mutex<Waiting>,
}

/// What is written and has no name yet.
#[derive(Debug, Default)]
struct Waiting {
    objects: Vec<(ObjectId, PathBuf)>,
    known: HashSet<ObjectId>,
    /// Directories with names that may not be durable yet.
    touched: BTreeSet<PathBuf>,
    bytes: u64,
}

impl Area {
    /// Begins a batch. What is put into it is in the area once it is settled.
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            area: self,
            state: Mutex::default(),
        }
    }
}

impl Batch<'_> {
    /// Puts an object into the batch. What is in the area already is compared, and replaced if somebody changed it.
    pub fn put(&self, id: ObjectId, bytes: &[u8]) -> Result<(), Error> {
        debug_assert_eq!(blake3::hash(bytes).as_bytes(), &id.0);
        let area = self.area;
        if !self.waiting().known.insert(id) {
            return Ok(());
        }
        let directory = area.fan(id)?;
        // Its directory may be new, and then its name is not durable either.
        self.waiting().touched.insert(area.root().to_owned());
        if area.pinned(&directory, || area.holds(id, bytes))? {
            self.waiting().touched.insert(directory);
            return Ok(());
        }
        let temporary = area.temporary(&directory);
        let written = area
            .disk
            .create(&temporary)
            .and_then(|mut file| area.disk.write(&mut file, bytes));
        if let Err(source) = written {
            let _ = area.disk.remove(&temporary);
            let path = area.path(id);
            return Err(Error::Write { path, source });
        }
        let mut waiting = self.waiting();
        waiting.objects.push((id, temporary));
        waiting.bytes += bytes.len() as u64;
        if waiting.objects.len() >= WAITING_MAX || waiting.bytes >= BYTES_MAX {
            name_them(area, &mut waiting)?;
        }
        Ok(())
    }

    /// Makes all of it durable, under its names.
    pub fn settle(self) -> Result<(), Error> {
        name_them(self.area, &mut self.waiting())
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name_them(area: &Area, waiting: &mut Waiting) -> Result<(), Error> {
    let failed = |path: PathBuf| move |source| Error::Write { path, source };
    if !waiting.objects.is_empty() {
        area.disk
            .sync_all(area.root())
            .map_err(failed(area.root().to_owned()))?;
    }
    // One that fails stays in the list, with all after it, and is removed with the batch.
    while let Some((id, temporary)) = waiting.objects.last() {
        let place = area.path(*id);
        let directory = area.fan(*id)?;
        area.pinned(&directory, || area.disk.rename(temporary, &place))?
            .map_err(failed(place))?;
        waiting.touched.insert(directory);
        waiting.objects.pop();
    }
    while let Some(directory) = waiting.touched.pop_first() {
        area.sync_directory(&directory)?;
    }
    waiting.bytes = 0;
    Ok(())
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        for (_, temporary) in &self.waiting().objects {
            let _ = self.area.disk.remove(temporary);
        }
    }
}
