//! Many objects at once: written, then made durable together, then named. A sync for each would cost more than sealing does.
//!
//! No object of a batch has its name before all bytes of the batch are on the disk, and a batch that is dropped before
//! [`Batch::settle`] leaves nothing.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashSet},
    fs,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use safelight_policies::id::ObjectId;

use super::{Area, Error};

/// The most objects, and the most bytes, that wait for their names. Each time costs a wait for the disk, however few there are.
const WAITING_MAX: usize = 1 << 16;
const BYTES_MAX: u64 = 2 << 30;
/// From this length on an object goes to the disk as it is written, so that at the end there is little to wait for.
const PAST_MIN: usize = 1 << 20;
/// So many directories are made durable one by one; more than that, all together.
const DIRECTORIES_MAX: usize = 4;

/// Objects on their way into an area. Several threads may put into it: they encrypt and write side by side, and one that names what is there
/// keeps no other waiting.
#[derive(Debug)]
pub struct Batch<'a> {
    area: &'a Area,
    known: Mutex<HashSet<ObjectId>>,
    waiting: Mutex<Waiting<'a>>,
}

/// What is written and has no name yet. Dropped, it leaves nothing.
#[derive(Debug)]
struct Waiting<'a> {
    area: &'a Area,
    objects: Vec<(ObjectId, PathBuf)>,
    /// Directories with names that may not be durable yet.
    touched: BTreeSet<PathBuf>,
    bytes: u64,
}

impl Area {
    /// Begins a batch. What is put into it is in the area once it is settled.
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            area: self,
            known: Mutex::default(),
            waiting: Mutex::new(Waiting::new(self)),
        }
    }
}

impl Batch<'_> {
    /// Puts an object into the batch. What is in the area already is compared, and replaced if somebody changed it.
    pub fn put(&self, id: ObjectId, bytes: &[u8]) -> Result<(), Error> {
        debug_assert_eq!(blake3::hash(bytes).as_bytes(), &id.0);
        let area = self.area;
        if !held(&self.known).insert(id) {
            return Ok(());
        }
        let directory = area.fan(id)?;
        // Its directory may be new, and then its name is not durable either.
        held(&self.waiting).touched.insert(area.root().to_owned());
        // What is not there needs no lock to be found so.
        let is_there = fs::symlink_metadata(area.path(id)).is_ok();
        if is_there && area.pinned(&directory, || area.holds(id, bytes))? {
            held(&self.waiting).touched.insert(directory);
            return Ok(());
        }
        let temporary = area.temporary(&directory);
        let written = area
            .disk
            .create(&temporary)
            .and_then(|mut file| match bytes.len() {
                PAST_MIN.. => area.disk.write_past(&mut file, bytes),
                _ => area.disk.write(&mut file, bytes),
            });
        if let Err(source) = written {
            let _ = area.disk.remove(&temporary);
            let path = area.path(id);
            return Err(Error::Write { path, source });
        }
        let due = {
            let mut waiting = held(&self.waiting);
            waiting.objects.push((id, temporary));
            waiting.bytes += bytes.len() as u64;
            let is_due = waiting.objects.len() >= WAITING_MAX || waiting.bytes >= BYTES_MAX;
            is_due.then(|| waiting.take())
        };
        due.map_or(Ok(()), Waiting::name_them)
    }

    /// Makes all of it durable, under its names.
    pub fn settle(self) -> Result<(), Error> {
        held(&self.waiting).take().name_them()
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Waiting<'a> {
    fn new(area: &'a Area) -> Self {
        Self {
            area,
            objects: Vec::new(),
            touched: BTreeSet::new(),
            bytes: 0,
        }
    }

    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(self.area))
    }

    fn name_them(mut self) -> Result<(), Error> {
        let area = self.area;
        let failed = |path: PathBuf| move |source| Error::Write { path, source };
        let sync_all = || {
            let synced = area.disk.sync_all(area.root());
            synced.map_err(failed(area.root().to_owned()))
        };
        if !self.objects.is_empty() {
            sync_all()?;
        }
        // By directories, each of which is locked once.
        self.objects.sort_unstable_by_key(|(id, _)| Reverse(*id));
        while let Some((id, _)) = self.objects.last() {
            let directory = area.fan(*id)?;
            area.pinned(&directory, || self.name_last())??;
            self.touched.insert(directory);
        }
        if self.touched.len() > DIRECTORIES_MAX {
            return sync_all();
        }
        while let Some(directory) = self.touched.pop_first() {
            area.sync_directory(&directory)?;
        }
        Ok(())
    }
}

impl Waiting<'_> {
    /// Names the last one, and those before it that go into the same directory. One that fails stays, with all before it, and is removed with
    /// the batch.
    fn name_last(&mut self) -> Result<(), Error> {
        let fan = self.objects.last().map(|(id, _)| id.0[0]);
        while let Some((id, temporary)) = self.objects.last()
            && Some(id.0[0]) == fan
        {
            let path = self.area.path(*id);
            let renamed = self.area.disk.rename(temporary, &path);
            renamed.map_err(|source| Error::Write { path, source })?;
            self.objects.pop();
        }
        Ok(())
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        for (_, temporary) in &self.objects {
            let _ = self.area.disk.remove(temporary);
        }
    }
}
