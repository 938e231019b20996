//! Many objects at once: written, then made durable together, then named. A sync for each would cost more than sealing does.
//!
//! No object of a batch has its name before all bytes of the batch are on the disk, and a batch that is dropped before
//! [`Batch::settle`] leaves nothing.

use std::{
    collections::{BTreeSet, HashSet},
    path::PathBuf,
};

use safelight_policies::id::ObjectId;

use super::{Area, Error};

/// The most objects, and the most bytes, that wait for their names.
const WAITING_MAX: usize = 1024;
const BYTES_MAX: u64 = 512 << 20;

/// Objects on their way into an area.
#[derive(Debug)]
pub struct Batch<'a> {
    area: &'a Area,
    waiting: Vec<(ObjectId, PathBuf)>,
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
            waiting: Vec::new(),
            known: HashSet::new(),
            touched: BTreeSet::new(),
            bytes: 0,
        }
    }
}

impl Batch<'_> {
    /// Puts an object into the batch. What is in the area already is compared, and replaced if somebody changed it.
    pub fn put(&mut self, id: ObjectId, bytes: &[u8]) -> Result<(), Error> {
        debug_assert_eq!(blake3::hash(bytes).as_bytes(), &id.0);
        if !self.known.insert(id) {
            return Ok(());
        }
        let area = self.area;
        let directory = area.fan(id)?;
        // Its directory may be new, and then its name is not durable either.
        self.touched.insert(area.root().to_owned());
        if area.pinned(&directory, || area.holds(id, bytes))? {
            self.touched.insert(directory);
            return Ok(());
        }
        let temporary = area.temporary(&directory);
        // Remembered first: it is removed if anything fails.
        self.waiting.push((id, temporary.clone()));
        let written = area
            .disk
            .create(&temporary)
            .and_then(|mut file| area.disk.write(&mut file, bytes));
        written.map_err(|source| Error::Write {
            path: area.path(id),
            source,
        })?;
        self.bytes += bytes.len() as u64;
        if self.waiting.len() >= WAITING_MAX || self.bytes >= BYTES_MAX {
            self.name_them()?;
        }
        Ok(())
    }

    /// Makes all of it durable, under its names.
    pub fn settle(mut self) -> Result<(), Error> {
        self.name_them()
    }

    fn name_them(&mut self) -> Result<(), Error> {
        let area = self.area;
        let failed = |path: PathBuf| move |source| Error::Write { path, source };
        if !self.waiting.is_empty() {
            area.disk
                .sync_all(area.root())
                .map_err(failed(area.root().to_owned()))?;
        }
        // One that fails stays in the list, with all after it, and is removed with the batch.
        while let Some((id, temporary)) = self.waiting.last() {
            let place = area.path(*id);
            let directory = area.fan(*id)?;
            area.pinned(&directory, || area.disk.rename(temporary, &place))?
                .map_err(failed(place))?;
            self.touched.insert(directory);
            self.waiting.pop();
        }
        while let Some(directory) = self.touched.pop_first() {
            area.sync_directory(&directory)?;
        }
        self.bytes = 0;
        Ok(())
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        for (_, temporary) in &self.waiting {
            let _ = self.area.disk.remove(temporary);
        }
    }
}
