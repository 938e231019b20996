//! What one block of a log comes to: which kinds of records it has, how many of each, and where they are. Pure but for the keys.
//!
//! Records are of one *kind* if they tell of the same act of the same process on the same path with the same answer. A question that does
//! not ask for single records is answered from kinds alone.

use std::collections::{BTreeMap, HashMap, btree_map::Entry};

use safelight_audit::{BodyRef, Record, Source, pass::Block};
use safelight_policies::{
    event::{AccessRef, Op, Verdict},
    id::SessionId,
};
use safelight_seal::{audit_key::AuditKey, job_key::JobKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Who {
    pub(super) source: Source,
    pub(super) session: SessionId,
    pub(super) pid: u32,
    pub(super) comm: String,
}

/// What was answered, without what it was answered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Answer {
    Allowed,
    Denied,
    Missing,
    NotAuthentic,
    Failed,
}

impl Answer {
    fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Allowed => Self::Allowed,
            Verdict::Denied { .. } => Self::Denied,
            Verdict::Missing => Self::Missing,
            Verdict::NotAuthentic => Self::NotAuthentic,
            Verdict::Failed { .. } => Self::Failed,
        }
    }

    /// A verdict of this answer; what only single records know is empty.
    pub(super) fn verdict(self) -> Verdict {
        match self {
            Self::Allowed => Verdict::Allowed,
            Self::Denied => Verdict::Denied {
                rule: String::new(),
            },
            Self::Missing => Verdict::Missing,
            Self::NotAuthentic => Verdict::NotAuthentic,
            Self::Failed => Verdict::Failed { errno: 0 },
        }
    }
}

/// A kind of records. Numbers are places in lists of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Kind {
    pub(super) who: u32,
    pub(super) path: u32,
    pub(super) to: Option<u32>,
    pub(super) op: Op,
    pub(super) answer: Answer,
}

/// How much there is of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) count: u64,
    pub(super) bytes: u64,
    /// When the first and the last was written, in nanoseconds since 1970.
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Tally {
    pub(super) fn one(at_ns: u64, bytes: u64) -> Self {
        Self {
            count: 1,
            bytes,
            first: at_ns,
            last: at_ns,
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.count += other.count;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// Things by their numbers.
#[derive(Debug)]
pub(super) struct Names<T> {
    numbers: HashMap<T, u32>,
    pub(super) all: Vec<T>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self {
            numbers: HashMap::new(),
            all: Vec::new(),
        }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Names<T> {
    /// The number of a thing. What is known costs no copy.
    pub(super) fn number<Q>(&mut self, thing: &Q) -> Option<u32>
    where
        T: std::borrow::Borrow<Q>,
        Q: Eq + std::hash::Hash + ToOwned<Owned = T> + ?Sized,
    {
        if let Some(number) = self.numbers.get(thing) {
            return Some(*number);
        }
        let number = u32::try_from(self.all.len()).ok()?;
        self.numbers.insert(thing.to_owned(), number);
        self.all.push(thing.to_owned());
        Some(number)
    }
}

/// A block in short.
#[derive(Debug)]
pub(super) struct Digest {
    pub(super) whos: Vec<Who>,
    pub(super) paths: Vec<Vec<u8>>,
    /// Each with where its records begin in the block.
    pub(super) kinds: Vec<(Kind, Tally, Vec<u32>)>,
    /// Acts of ours, as they stand there.
    pub(super) controls: Vec<Record>,
    /// The first and the last number of the records of each session.
    pub(super) turns: BTreeMap<SessionId, (u64, u64)>,
    /// When the first and the last record was written.
    pub(super) times: (u64, u64),
}

/// Opens sealed records one upon another.
pub(super) struct Opening<'a> {
    key: &'a JobKey,
    /// The only session that the log may tell of.
    only: Option<SessionId>,
    keys: BTreeMap<SessionId, AuditKey>,
    plain: Zeroizing<Vec<u8>>,
    turns: BTreeMap<SessionId, (u64, u64)>,
}

impl<'a> Opening<'a> {
    pub(super) fn new(key: &'a JobKey, only: Option<SessionId>) -> Self {
        Self {
            key,
            only,
            keys: BTreeMap::new(),
            plain: Zeroizing::new(Vec::new()),
            turns: BTreeMap::new(),
        }
    }

    /// Opens a record; `None` if it does not open, is of another session, or is not the next of its own.
    pub(super) fn open(
        &mut self,
        session: SessionId,
        index: u64,
        sealed: &[u8],
    ) -> Option<AccessRef<'_>> {
        if self.only.is_some_and(|only| only != session) {
            return None;
        }
        match self.turns.entry(session) {
            Entry::Vacant(first) => _ = first.insert((index, index)),
            Entry::Occupied(mut before) => {
                if before.get().1.checked_add(1) != Some(index) {
                    return None;
                }
                before.get_mut().1 = index;
            }
        }
        let key = self.keys.entry(session);
        let key = key.or_insert_with(|| self.key.audit_key(session));
        key.open_into(index, sealed, &mut self.plain).ok()?;
        match postcard::take_from_bytes(&self.plain) {
            Ok((access, [])) => Some(access),
            _ => None,
        }
    }

    /// The first and the last number of the records of each session.
    pub(super) fn turns(self) -> BTreeMap<SessionId, (u64, u64)> {
        self.turns
    }
}

/// Whether the records of each session come one after the other over all blocks.
#[derive(Debug, Default)]
pub(super) struct Turns(BTreeMap<SessionId, u64>);

impl Turns {
    /// Takes those of the next block; false if one of them is out of turn.
    pub(super) fn follow(&mut self, turns: &BTreeMap<SessionId, (u64, u64)>) -> bool {
        turns.iter().all(|(session, (first, last))| {
            let expected = match self.0.get(session) {
                Some(last) => last.checked_add(1),
                None => Some(0),
            };
            self.0.insert(*session, *last);
            expected == Some(*first)
        })
    }
}

/// A block in short; `None` if anything in it is not as it was written.
pub(super) fn digest(block: &Block, key: &JobKey, only: Option<SessionId>) -> Option<Digest> {
    let mut opening = Opening::new(key, only);
    let (mut gathered, mut controls) = (Gathered::default(), Vec::new());
    let mut times: Option<(u64, u64)> = None;
    for entry in block.records() {
        let entry = entry?;
        let record = entry.record;
        let (first, last) = times.unwrap_or((record.at_ns, record.at_ns));
        times = Some((first.min(record.at_ns), last.max(record.at_ns)));
        let BodyRef::Sealed {
            session,
            index,
            bytes,
        } = record.body
        else {
            controls.push(postcard::from_bytes(entry.encoded).ok()?);
            continue;
        };
        let access = opening.open(session, index, bytes)?;
        let offset = u32::try_from(entry.offset).ok()?;
        let said = (record.at_ns, record.source, session);
        gathered.add(said, &access, offset)?;
    }
    Some(Digest {
        whos: gathered.whos.all,
        paths: gathered.paths.all,
        kinds: gathered.kinds,
        controls,
        turns: opening.turns(),
        times: times?,
    })
}

/// Records by their kinds.
#[derive(Default)]
struct Gathered {
    whos: Names<Who>,
    paths: Names<Vec<u8>>,
    numbers: HashMap<Kind, usize>,
    kinds: Vec<(Kind, Tally, Vec<u32>)>,
    /// Who asked last.
    last: Option<u32>,
}

impl Gathered {
    /// Adds a record; `None` if there are more names than numbers.
    fn add(
        &mut self,
        (at_ns, source, session): (u64, Source, SessionId),
        access: &AccessRef<'_>,
        offset: u32,
    ) -> Option<()> {
        let kind = Kind {
            who: self.who(source, session, access)?,
            path: self.paths.number(access.path)?,
            to: match access.to {
                Some(to) => Some(self.paths.number(to)?),
                None => None,
            },
            op: access.op,
            answer: Answer::of(&access.verdict),
        };
        let one = Tally::one(at_ns, access.bytes);
        match self.numbers.get(&kind) {
            Some(number) => {
                let (_, tally, offsets) = &mut self.kinds[*number];
                tally.add(one);
                offsets.push(offset);
            }
            None => {
                self.numbers.insert(kind, self.kinds.len());
                self.kinds.push((kind, one, vec![offset]));
            }
        }
        Some(())
    }

    fn who(&mut self, source: Source, session: SessionId, access: &AccessRef<'_>) -> Option<u32> {
        let is = |who: &Who| {
            (who.source, who.session, who.pid) == (source, session, access.pid)
                && who.comm == access.comm
        };
        // Mostly the one who asked before.
        let same = self.last.filter(|who| is(&self.whos.all[*who as usize]));
        if same.is_none() {
            self.last = Some(self.whos.number(&Who {
                source,
                session,
                pid: access.pid,
                comm: access.comm.to_owned(),
            })?);
        }
        self.last
    }
}
