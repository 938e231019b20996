//! A medium in memory that misbehaves: by a seed, so that a failure can be repeated.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{self, Read},
    ops::ControlFlow,
    path::PathBuf,
};

use safelight_bundle::{
    Aside, Blob, Entry, EntryName, Medium, MediumError, ReadyName, Reason, What,
};
use safelight_policies::id::{ObjectId, VerifyKey};

/// A small generator (SplitMix64): the same seed, the same faults.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % end.max(1) as u64).unwrap()
    }
    /// True so many times in a hundred.
    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.roll() % 100 < chance
    }
}

struct Put {
    bytes: Vec<u8>,
    /// The tick from which it is seen.
    seen: u64,
}

/// A recipient and a name in its folder.
type Key = ([u8; 32], EntryName);

struct State {
    dice: Dice,
    tick: u64,
    blobs: BTreeMap<ObjectId, Put>,
    letters: BTreeMap<Key, Put>,
    /// Letters that were ever there: a relay brings them back.
    history: Vec<(Key, Vec<u8>)>,
    aside: Vec<(EntryName, Reason)>,
    /// How often in a hundred anything goes wrong.
    faults: u64,
    counted: BTreeMap<&'static str, u64>,
}

/// The medium.
pub(crate) struct Rough(RefCell<State>);

impl Rough {
    pub(crate) fn new(seed: u64, faults: u64) -> Self {
        Self(RefCell::new(State {
            dice: Dice::new(seed),
            tick: 0,
            blobs: BTreeMap::new(),
            letters: BTreeMap::new(),
            history: Vec::new(),
            aside: Vec::new(),
            faults,
            counted: BTreeMap::new(),
        }))
    }

    /// Time goes on. Some letters that were removed come back.
    pub(crate) fn tick(&self) {
        let state = &mut *self.0.borrow_mut();
        state.tick += 1;
        if !state.history.is_empty() && state.fault("a letter comes back") {
            let at = state.dice.below(state.history.len());
            let (key, bytes) = state.history[at].clone();
            let seen = state.tick;
            state.letters.entry(key).or_insert(Put { bytes, seen });
        }
    }

    pub(crate) fn heal(&self) {
        self.0.borrow_mut().faults = 0;
    }

    pub(crate) fn aside(&self) -> Vec<(EntryName, Reason)> {
        self.0.borrow().aside.clone()
    }

    /// How many letters and blobs there are.
    pub(crate) fn holds(&self) -> (usize, usize) {
        let state = self.0.borrow();
        (state.letters.len(), state.blobs.len())
    }

    pub(crate) fn counted(&self) -> BTreeMap<&'static str, u64> {
        self.0.borrow().counted.clone()
    }
}

impl State {
    fn fault(&mut self, name: &'static str) -> bool {
        let hit = self.dice.percent(self.faults);
        *self.counted.entry(name).or_default() += u64::from(hit);
        hit
    }

    /// Fails altogether, as a folder that vanishes or is full does.
    fn reach(&mut self) -> Result<(), MediumError> {
        let folder = PathBuf::from("rough");
        if self.dice.percent(self.faults / 4) {
            return Err(MediumError::Gone {
                folder,
                source: io::ErrorKind::NotFound.into(),
            });
        }
        Ok(())
    }

    /// What arrives of what was put: all, or a part, or nothing; now or later. And whether the writer is told.
    fn arrive(&mut self, bytes: Vec<u8>) -> (Option<Put>, Result<(), MediumError>) {
        let folder = PathBuf::from("rough");
        let seen = if self.fault("seen late") {
            self.tick + 1 + self.dice.roll() % 8
        } else {
            self.tick
        };
        if self.fault("no room") {
            return (
                None,
                Err(MediumError::Full {
                    folder,
                    needed: 1,
                    free: 0,
                }),
            );
        }
        if self.fault("cut, and told") {
            let bytes = bytes[..self.dice.below(bytes.len())].to_vec();
            let source = io::ErrorKind::TimedOut.into();
            return (
                Some(Put { bytes, seen }),
                Err(MediumError::Io {
                    folder,
                    act: "write",
                    path: "x".into(),
                    source,
                }),
            );
        }
        if self.fault("cut, not told") {
            let bytes = bytes[..self.dice.below(bytes.len())].to_vec();
            return (Some(Put { bytes, seen }), Ok(()));
        }
        if self.fault("zeros, not told") {
            return (
                Some(Put {
                    bytes: vec![0; bytes.len()],
                    seen,
                }),
                Ok(()),
            );
        }
        if self.fault("lost, not told") {
            return (None, Ok(()));
        }
        if self.fault("there, but told otherwise") {
            let source = io::ErrorKind::TimedOut.into();
            return (
                Some(Put { bytes, seen }),
                Err(MediumError::Io {
                    folder,
                    act: "write",
                    path: "x".into(),
                    source,
                }),
            );
        }
        (Some(Put { bytes, seen }), Ok(()))
    }
}

impl Medium for Rough {
    fn put_blob(&self, id: ObjectId, _len: u64, source: &mut dyn Read) -> Result<(), MediumError> {
        let state = &mut *self.0.borrow_mut();
        state.reach()?;
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes).map_err(|source| {
            let folder = PathBuf::from("rough");
            MediumError::Io {
                folder,
                act: "read",
                path: "x".into(),
                source,
            }
        })?;
        let (put, told) = state.arrive(bytes);
        if let Some(put) = put {
            state.blobs.insert(id, put);
        }
        told
    }

    fn settle(&self) -> Result<(), MediumError> {
        self.0.borrow_mut().reach()
    }

    fn blob_len(&self, id: ObjectId) -> Result<Option<u64>, MediumError> {
        let state = &mut *self.0.borrow_mut();
        state.reach()?;
        Ok(state
            .blobs
            .get(&id)
            .filter(|put| put.seen <= state.tick)
            .map(|put| put.bytes.len() as u64))
    }

    fn open_blob(&self, id: ObjectId) -> Result<Option<Blob<'_>>, MediumError> {
        let state = &mut *self.0.borrow_mut();
        state.reach()?;
        let Some(put) = state.blobs.get(&id).filter(|put| put.seen <= state.tick) else {
            return Ok(None);
        };
        let (bytes, len) = (put.bytes.clone(), put.bytes.len() as u64);
        let bytes = if state.fault("read cut") {
            bytes[..bytes.len() / 2].to_vec()
        } else {
            bytes
        };
        Ok(Some(Blob {
            len,
            source: Box::new(io::Cursor::new(bytes)),
        }))
    }

    fn remove_blob(&self, id: ObjectId) -> Result<(), MediumError> {
        let state = &mut *self.0.borrow_mut();
        state.reach()?;
        state.blobs.remove(&id);
        Ok(())
    }

    fn room(&self) -> Result<u64, MediumError> {
        Ok(u64::MAX)
    }

    fn place(&self) -> PathBuf {
        "rough".into()
    }

    fn put_ready(&self, name: &ReadyName, bytes: &[u8]) -> Result<(), MediumError> {
        let state = &mut *self.0.borrow_mut();
        state.reach()?;
        let key = (name.to.0, name.entry());
        let (put, told) = state.arrive(bytes.to_vec());
        if let Some(put) = put {
            state.history.push((key.clone(), bytes.to_vec()));
            state.letters.insert(key, put);
        }
        told
    }

    fn list_ready(
        &self,
        to: &VerifyKey,
        visit: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<(), MediumError> {
        let state = &mut *self.0.borrow_mut();
        state.reach()?;
        let there = state
            .letters
            .iter()
            .filter(|(_, put)| put.seen <= state.tick);
        let names: Vec<_> = there
            .filter(|((of, _), _)| *of == to.0)
            .map(|((_, name), _)| name.clone())
            .collect();
        for name in names {
            if !state.fault("not listed")
                && visit(Entry {
                    name,
                    what: What::File,
                })
                .is_break()
            {
                break;
            }
        }
        Ok(())
    }

    fn read_ready(
        &self,
        to: &VerifyKey,
        name: &EntryName,
        max: u64,
    ) -> Result<Option<Vec<u8>>, MediumError> {
        let state = &mut *self.0.borrow_mut();
        state.reach()?;
        let bytes = state
            .letters
            .get(&(to.0, name.clone()))
            .map(|put| put.bytes.clone());
        assert!(bytes.as_ref().is_none_or(|bytes| bytes.len() as u64 <= max));
        Ok(bytes)
    }

    fn remove_ready(&self, to: &VerifyKey, name: &EntryName) -> Result<(), MediumError> {
        let state = &mut *self.0.borrow_mut();
        state.reach()?;
        if !state.fault("not removed, not told") {
            state.letters.remove(&(to.0, name.clone()));
        }
        Ok(())
    }

    fn set_aside(
        &self,
        to: &VerifyKey,
        name: &EntryName,
        reason: &Reason,
    ) -> Result<(), MediumError> {
        let state = &mut *self.0.borrow_mut();
        state.letters.remove(&(to.0, name.clone()));
        state.aside.push((name.clone(), reason.clone()));
        Ok(())
    }
    fn aside(&self, _: &VerifyKey) -> Result<Vec<Aside>, MediumError> {
        let names = self.0.borrow();
        let found = names.aside.iter().map(|(name, reason)| Aside {
            stem: name.to_string(),
            reason: Some(reason.clone()),
        });
        Ok(found.collect())
    }

    /// Nobody of these tests decides anything about what was refused.
    fn put_back(&self, _: &VerifyKey, _: &Aside) -> Result<bool, MediumError> {
        Ok(false)
    }

    fn discard(&self, _: &VerifyKey, _: &str) -> Result<bool, MediumError> {
        Ok(false)
    }
}
