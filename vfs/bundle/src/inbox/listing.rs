//! One look at a recipient's folder: which letters to read, and what does not belong there. Bounded, whatever is in the folder.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::ControlFlow,
};

use crate::{EntryName, InboxError, Medium, ReadyName, Refusal, Seq, Trust, What};

use super::settle::Settled;

/// The most letters of one sender that are read in a scan.
const LETTERS_MAX: usize = 2_048;
/// The most entries that do not belong there and are dealt with in a scan.
const ODD_MAX: usize = 256;

/// Something that is no letter, or a stranger's.
pub(super) struct Odd {
    pub(super) entry: EntryName,
    pub(super) refusal: Refusal,
}

/// What to look at.
pub(super) struct Listing {
    /// By sender, the oldest first.
    pub(super) letters: Vec<ReadyName>,
    pub(super) odd: Vec<Odd>,
    /// What is settled, and still here.
    pub(super) settled: HashSet<EntryName>,
}

impl Listing {
    /// Lists the folder, without what is known to be settled.
    pub(super) fn read(
        medium: &dyn Medium,
        trust: &Trust,
        settled: &HashMap<EntryName, Settled>,
    ) -> Result<Self, InboxError> {
        let mut senders: BTreeMap<[u8; 32], BTreeMap<(Seq, EntryName), ReadyName>> =
            BTreeMap::new();
        let mut odd = Vec::new();
        let mut here = HashSet::new();
        let mut visit = |entry: crate::Entry| {
            if settled.contains_key(&entry.name) {
                here.insert(entry.name);
                return ControlFlow::Continue(());
            }
            if entry.name.is_hidden() && entry.what == What::File {
                return ControlFlow::Continue(());
            }
            match classify(&entry, trust) {
                Ok(name) => {
                    let letters = senders.entry(name.from.0).or_default();
                    letters.insert((name.seq, entry.name), name);
                    if letters.len() > LETTERS_MAX {
                        letters.pop_last();
                    }
                }
                Err(refusal) if odd.len() < ODD_MAX => odd.push(Odd {
                    entry: entry.name,
                    refusal,
                }),
                Err(_) => {}
            }
            ControlFlow::Continue(())
        };
        medium
            .list_ready(&trust.me, &mut visit)
            .map_err(|source| InboxError::Medium { source })?;
        let letters = senders
            .into_values()
            .flat_map(BTreeMap::into_values)
            .collect();
        Ok(Self {
            letters,
            odd,
            settled: here,
        })
    }
}

fn classify(entry: &crate::Entry, trust: &Trust) -> Result<ReadyName, Refusal> {
    if entry.what != What::File {
        return Err(Refusal::NotAFile { what: entry.what });
    }
    let name = ReadyName::parse(trust.me, &entry.name).ok_or(Refusal::Misnamed)?;
    if trust.peers.contains_key(&name.from) {
        Ok(name)
    } else {
        Err(Refusal::UnknownSigner { signer: name.from })
    }
}
