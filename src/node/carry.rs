//! Brings a job's sealed objects to this node, and what a session left to its site: by name, a few at a time, what is missing only.

use std::{
    collections::BTreeSet,
    fs::File,
    path::Path,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use safelight_audit::parts::{self, Piece};
use safelight_bundle::{BLOB_MAX, BlobList, LIST_BYTES_MAX, Objects};
use safelight_policies::{
    cause::Cause,
    id::{JobId, ObjectId},
};

use super::http::{Error, KeepOn, Site};
use crate::{
    failure::{Failure, Kind, OrFail},
    store::Store,
};

/// How many objects are under way at once for one session.
const AT_ONCE: usize = 4;
/// How often a session that waits for another one's fetching looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// Jobs whose objects are on their way: sessions of one job wait for each other instead of bringing the same twice.
#[derive(Debug, Default)]
pub(super) struct Fetching {
    jobs: Mutex<BTreeSet<JobId>>,
    over: Condvar,
}

struct Turn<'a>(&'a Fetching, JobId);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.jobs().remove(&self.1);
        self.0.over.notify_all();
    }
}

impl Fetching {
    /// Every change is one insertion or removal, so a panic elsewhere leaves it whole.
    fn jobs(&self) -> MutexGuard<'_, BTreeSet<JobId>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, job: JobId, keep_on: KeepOn<'_>) -> Result<Turn<'_>, Error> {
        let mut jobs = self.jobs();
        while !jobs.insert(job) {
            if !keep_on(Duration::ZERO) {
                return Err(Error::Stopped);
            }
            let waited = self.over.wait_timeout(jobs, LOOK);
            jobs = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(Turn(self, job))
    }

    /// Brings every object of these lists that the area lacks. `needed` must be in the first list, or the job cannot be opened.
    pub(super) fn fetch(
        &self,
        site: &Site,
        job: JobId,
        (lists, needed): (&[ObjectId], &[ObjectId]),
        store: &Store,
        keep_on: KeepOn<'_>,
    ) -> Result<(), Failure> {
        let carried = |error: Error| Failure::from_error(Kind::Environment, &error);
        let _turn = self.turn(job, keep_on).map_err(carried)?;
        for (index, list) in lists.iter().enumerate() {
            let list = fetch_list(site, job, *list, store, keep_on)?;
            if index == 0 && !needed.iter().all(|object| list.has(*object)) {
                let message = "the job's list lacks what the client signed";
                return Err(Failure::new(Kind::Environment, message));
            }
            let missing = missing(&list, store)?;
            require_room(&missing, store)?;
            each(&missing, |(object, len)| {
                let len = u64::from(*len);
                match site.fetch((job, *object), len, store, keep_on)? {
                    came if came == len => Ok(()),
                    // Whole by its hash, so it is the list that is wrong.
                    _ => Err(Error::TooLong { most: len }),
                }
            })
            .map_err(carried)?;
        }
        Ok(())
    }
}

fn fetch_list(
    site: &Site,
    job: JobId,
    list: ObjectId,
    store: &Store,
    keep_on: KeepOn<'_>,
) -> Result<BlobList, Failure> {
    if let Ok(list) = store.list(list) {
        return Ok(list);
    }
    site.fetch((job, list), LIST_BYTES_MAX, store, keep_on)
        .map_err(|error| Failure::from_error(Kind::Environment, &error))?;
    store.list(list)
}

/// What of a list is not in the area with the length that it should have.
fn missing(list: &BlobList, store: &Store) -> Result<Vec<(ObjectId, u32)>, Failure> {
    let mut missing = Vec::new();
    for (object, len) in list.entries() {
        if store.len(*object).or_fail(Kind::Environment)? != Some(u64::from(*len)) {
            missing.push((*object, *len));
        }
    }
    Ok(missing)
}

fn require_room(missing: &[(ObjectId, u32)], store: &Store) -> Result<(), Failure> {
    let needed: u64 = missing.iter().map(|(_, len)| u64::from(*len)).sum();
    let room = store.room().or_fail(Kind::Environment)?;
    if needed < room {
        return Ok(());
    }
    let full = Cause::NotStarted {
        step: "disk".to_owned(),
        errno: libc::ENOSPC,
    };
    let message =
        format!("the job needs {needed} bytes on this node, and there is room for {room}");
    Err(Failure::new(Kind::Environment, message).ends_with(full))
}

/// Brings objects of the area to the site.
pub(super) fn send(
    site: &Site,
    job: JobId,
    objects: &[(ObjectId, u32)],
    store: &Store,
    keep_on: KeepOn<'_>,
) -> Result<(), Error> {
    each(objects, |(object, _)| {
        site.send((job, *object), store, keep_on)
    })
}

/// Makes a log objects of the area, one for each part of at most `most` bytes; answers their names and lengths, in order.
pub(super) fn keep_log(
    path: &Path,
    store: &Store,
    most: u64,
) -> Result<Vec<(ObjectId, u32)>, Failure> {
    let file = File::open(path).or_fail(Kind::Environment)?;
    let pieces = parts::cut(&file, most).or_fail(Kind::Environment)?;
    let keep = |piece: &Piece| {
        let len = piece.len();
        let fits = u32::try_from(len).ok().filter(|_| len <= BLOB_MAX);
        let Some(short) = fits else {
            let message = format!(
                "a part of {} is longer than an object may be",
                path.display()
            );
            return Err(Failure::new(Kind::Environment, message));
        };
        let mut hasher = blake3::Hasher::new();
        let bytes = piece.read(&file).or_fail(Kind::Environment)?;
        hasher.update_reader(bytes).or_fail(Kind::Environment)?;
        let object = ObjectId(hasher.finalize().into());
        let mut bytes = piece.read(&file).or_fail(Kind::Environment)?;
        store
            .put(object, len, &mut bytes)
            .or_fail(Kind::Environment)?;
        Ok((object, short))
    };
    pieces.iter().map(keep).collect()
}

/// Acts on each, a few at once; the first error ends it.
fn each<T: Sync>(items: &[T], act: impl Fn(&T) -> Result<(), Error> + Sync) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    let work = || -> Result<(), Error> {
        while !over.load(Ordering::SeqCst) {
            let Some(item) = items.get(next.fetch_add(1, Ordering::SeqCst)) else {
                break;
            };
            act(item).inspect_err(|_| over.store(true, Ordering::SeqCst))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers = (1..AT_ONCE.min(items.len())).filter_map(|_| {
            // With fewer threads it takes longer.
            std::thread::Builder::new().spawn_scoped(scope, work).ok()
        });
        let workers: Vec<_> = workers.collect();
        let own = work();
        let others = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or(Err(Error::Stopped)));
        others.fold(own, Result::and)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use safelight_audit::Body;
    use safelight_policies::event::Control;

    use super::*;
    use crate::{
        records::{joined, samples::farm::log_of},
        state::LogOf,
    };

    #[test]
    fn each_item_is_acted_on_once_and_the_first_error_ends_it() {
        let items: Vec<usize> = (0..100).collect();
        let done: Vec<AtomicUsize> = items.iter().map(|_| AtomicUsize::new(0)).collect();
        let count = |item: &usize| {
            done[*item].fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        each(&items, count).unwrap();
        assert!(done.iter().all(|one| one.load(Ordering::SeqCst) == 1));
        each::<usize>(&[], |_| Err(Error::Stopped)).unwrap();
        let acted = AtomicUsize::new(0);
        let fails = |item: &usize| {
            acted.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(1));
            if *item == 3 {
                Err(Error::Stopped)
            } else {
                Ok(())
            }
        };
        assert!(matches!(each(&items, fails), Err(Error::Stopped)));
        assert!(acted.load(Ordering::SeqCst) < 100);
    }

    #[test]
    fn sessions_of_one_job_wait_for_each_other() {
        let fetching = Fetching::default();
        let job = |byte| JobId::from_random([byte; 10]);
        let first = fetching.turn(job(1), &|_| true).unwrap();
        assert!(fetching.turn(job(2), &|_| false).is_ok());
        let stopped = fetching.turn(job(1), &|_| false);
        assert!(matches!(stopped, Err(Error::Stopped)));
        std::thread::scope(|scope| {
            let second = scope.spawn(|| fetching.turn(job(1), &|_| true).is_ok());
            std::thread::sleep(Duration::from_millis(10));
            assert!(!second.is_finished());
            drop(first);
            assert!(second.join().unwrap());
        });
    }

    #[test]
    fn a_log_becomes_an_object_under_its_hash_or_several_that_join() {
        let directory = tempfile::tempdir().unwrap();
        let state = crate::state::State::open(Some(directory.path())).unwrap();
        let store = Store::open(&state, &"c-one".parse().unwrap()).unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, b"records").unwrap();
        let [(object, 7)] = keep_log(&path, &store, 7).unwrap()[..] else {
            panic!("one part");
        };
        assert_eq!(object, safelight_bundle::object_id(b"records"));
        assert_eq!(store.area().read(object).unwrap(), b"records");
        let list = BlobList::new([(object, 7), (ObjectId([1; 32]), 5)]).unwrap();
        assert_eq!(missing(&list, &store).unwrap(), [(ObjectId([1; 32]), 5)]);
        let huge = BlobList::new([(object, 8)]).unwrap();
        assert_eq!(missing(&huge, &store).unwrap(), [(object, 8)]);
        let delivered = |files| {
            let kept_aside = 0;
            let event = Control::Delivered { files, kept_aside };
            (1, Body::Control(event))
        };
        let (log, _) = log_of(LogOf::Job, (0..50).map(delivered));
        std::fs::write(&path, &log).unwrap();
        let parts = keep_log(&path, &store, 700).unwrap();
        assert!(parts.len() > 3 && parts.iter().all(|(_, len)| *len <= 700));
        let parts: Vec<_> = parts.into_iter().map(|(object, _)| object).collect();
        let left = [&parts[..], &[object]].concat();
        let logs = joined::logs(store.area(), &left).unwrap();
        assert_eq!(logs, [parts.clone(), vec![object]]);
        let mut again = Vec::new();
        let Ok(mut bytes) = joined::open(store.area(), &parts) else {
            panic!("the parts join");
        };
        bytes.read_to_end(&mut again).unwrap();
        assert_eq!(again, log);
        assert!(joined::open(store.area(), &parts[1..]).is_err());
    }
}
