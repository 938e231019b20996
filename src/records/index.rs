//! What is kept beside a large log so that a question need not read all of it.
//!
//! Invariants: an index never says more than its log, since it is made from a log that was whole, every record of which opened in its turn;
//! of any other log there is none, and it is read from its beginning. `audit verify` never asks it. See `file` for when it is of use, and
//! `digest` for what it says. Records that a question is shown are read from the log itself and opened again, and must be the ones that
//! were counted.

mod digest;
mod file;
mod making;
mod sound;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use safelight_audit::{
    Body, Checkpoint, Header, Record,
    pass::{self, Block},
};
use safelight_policies::{
    event::Access,
    id::{SessionId, SiteName},
};
use safelight_seal::{
    audit_key::{AuditKey, IndexKey},
    job_key::JobKey,
};

use self::{
    digest::{Kind, Tally},
    file::{Head, Part, Share},
};
pub(crate) use self::{
    file::Stamp,
    sound::{Against, Sound, sound},
};
use super::{
    OpenedRecord, Place, Span, Wanted, What,
    line::session,
    name::{Name, Runs},
    reading::{open_access, task},
};
use crate::failure::{Failure, Kind as Wrong, OrFail};

/// A log below this many bytes is read faster than it is looked up.
pub(crate) const WORTH: u64 = 4 << 20;

/// Of a block, single records are fetched one by one if they are fewer than this part of it.
const FEW: u64 = 8;

/// Bytes that are read to begin with when a record is fetched.
const FETCH: usize = 512;

/// Records of one kind: the first of them, how many there are, and when the last was written. Bytes are those of all.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) record: OpenedRecord,
    pub(crate) count: u64,
    pub(crate) last_ns: u64,
}

impl From<OpenedRecord> for Group {
    fn from(record: OpenedRecord) -> Self {
        Self {
            count: 1,
            last_ns: record.at_ns,
            record,
        }
    }
}

/// Whose log it is, and what that tells of each record.
#[derive(Clone, Copy)]
pub(super) struct Telling<'a> {
    pub(super) name: Name,
    pub(super) runs: &'a Runs,
    pub(super) site: Option<&'a SiteName>,
    pub(super) key: &'a JobKey,
}

/// The index of a log.
pub(super) struct Index<'a> {
    path: PathBuf,
    file: File,
    key: IndexKey,
    head: Head,
    telling: Telling<'a>,
    places: BTreeMap<SessionId, Arc<Place>>,
    keys: RefCell<BTreeMap<SessionId, AuditKey>>,
}

impl<'a> Index<'a> {
    /// The index at `path`, if it is of these bytes and was held against the same anchor. `name` says whose log it is by its header.
    pub(super) fn open(
        path: &Path,
        telling: Telling<'a>,
        (of, anchor): (&Stamp, Option<Checkpoint>),
        name: impl FnOnce(&Header) -> Option<Name>,
    ) -> Option<Self> {
        let key = telling.key.read_key().index_key();
        let (file, head) = file::open(path, &key)?;
        let fits = head.of == *of && (head.anchor == anchor || anchor == Some(head.end.at));
        let name = name(&head.header).filter(|_| fits)?;
        Some(Self::new(
            path,
            (file, key),
            head,
            Telling { name, ..telling },
        ))
    }

    /// Makes the index of a log that is whole; `None` if the log is not, or an index cannot be kept.
    pub(super) fn make(
        path: &Path,
        telling: Telling<'a>,
        log: impl Read + Seek,
        (of, anchor): (Stamp, Option<Checkpoint>),
    ) -> Option<Self> {
        let key = telling.key.read_key().index_key();
        let only = telling.name.run().map(|run| run.session);
        match making::make(path, (telling.key, &key), log, (of, anchor, only)) {
            Some((file, head)) => Some(Self::new(path, (file, key), head, telling)),
            None => {
                file::remove(path);
                None
            }
        }
    }

    fn new(path: &Path, (file, key): (File, IndexKey), head: Head, telling: Telling<'a>) -> Self {
        let mut places = BTreeMap::new();
        for record in &head.controls {
            if let Body::Control(control) = &record.body
                && let Some((session, place)) = Place::told(control, telling.site)
            {
                places.insert(session, Arc::new(place));
            }
        }
        Self {
            path: path.to_owned(),
            file,
            key,
            head,
            telling,
            places,
            keys: RefCell::default(),
        }
    }

    /// Whose log it is of, and how many records that has.
    pub(super) fn end(&self) -> (Name, u64) {
        (self.telling.name, self.head.end.at.records)
    }

    /// Shows every kind of record of some time to `each`. Where the time cuts through a block, its records are shown one by one.
    pub(super) fn groups<R: Read + Seek>(
        &self,
        span: Span,
        mut log: impl FnMut() -> Result<R, Failure>,
        mut each: impl FnMut(&Group) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for record in &self.head.controls {
            if span.holds(record.at_ns) {
                each(&self.control(record).into())?;
            }
        }
        if span == Span::default() {
            let mut kinds = self.head.kinds.iter();
            return kinds.try_for_each(|(kind, tally)| each(&self.group(*kind, *tally)));
        }
        let mut opened = None;
        for (number, part) in self.head.parts.iter().enumerate() {
            if !span.meets(part.times) {
                continue;
            }
            if span.covers(part.times) {
                for Share { kind, tally } in self.shares(number, part)?.shares {
                    each(&self.group(self.kind(kind)?, tally))?;
                }
                continue;
            }
            let source = match &mut opened {
                Some(source) => source,
                None => opened.insert(log()?),
            };
            self.block(source, part, |record| {
                let shown = span.holds(record.at_ns) && !matches!(record.what, What::Control(_));
                if shown { each(&record.into()) } else { Ok(()) }
            })?;
        }
        Ok(())
    }

    /// Shows the records that are wanted to `each`, in order.
    pub(super) fn select<R: Read + Seek>(
        &self,
        wanted: Wanted<'_>,
        mut log: impl FnMut() -> Result<R, Failure>,
        mut each: impl FnMut(OpenedRecord) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Wanted { span, keep, after } = wanted;
        let after = after(self.telling.name);
        let kinds = self.head.kinds.iter();
        let kept: Vec<bool> = kinds
            .map(|(kind, tally)| keep(&self.group(*kind, *tally).record))
            .collect();
        let any = kept.contains(&true);
        let is_kept = |kind: u32| kept.get(kind as usize).copied().unwrap_or(false);
        let mut controls = self.head.controls.iter().peekable();
        let mut opened = None;
        for (number, part) in self.head.parts.iter().enumerate() {
            let mut found = Vec::new();
            while let Some(record) = controls.next_if(|it| it.seq <= part.to.at.records) {
                let record = self.control(record);
                if span.holds(record.at_ns) && keep(&record) {
                    found.push(record);
                }
            }
            if any && span.meets(part.times) && part.to.at.records > after {
                let places = self.shares(number, part)?.places(is_kept);
                let source = match &mut opened {
                    Some(source) => source,
                    None => opened.insert(log()?),
                };
                self.fetch(source, part, &places, &mut found)?;
            }
            found.sort_by_key(|record| record.seq);
            found
                .into_iter()
                .filter(|record| record.seq > after && span.holds(record.at_ns))
                .try_for_each(&mut each)?;
        }
        Ok(())
    }

    fn fetch<R: Read + Seek>(
        &self,
        log: &mut R,
        part: &Part,
        places: &[(u32, Share)],
        found: &mut Vec<OpenedRecord>,
    ) -> Result<(), Failure> {
        let records = part.to.at.records - part.from.at.records;
        if places.len() as u64 > records / FEW {
            let mut rest = places.iter().peekable();
            let block = Block::read(log, (part.from, part.to)).or_fail(Wrong::Environment)?;
            for entry in block.records() {
                let entry = entry.ok_or_else(|| self.other_log())?;
                if let Some((_, share)) = rest.next_if(|(at, _)| *at as usize == entry.offset) {
                    found.push(self.fetched(entry.encoded, part, share)?);
                }
            }
            return match rest.next() {
                None => Ok(()),
                Some(_) => Err(self.other_log()),
            };
        }
        let mut bytes = vec![0; FETCH];
        for (place, share) in places {
            let at = part.from.offset + u64::from(*place);
            let mut want = FETCH;
            let encoded = loop {
                bytes.resize(want, 0);
                let have = read_at(log, at, &mut bytes).or_fail(Wrong::Environment)?;
                match pass::encoded(&bytes[..have]) {
                    Ok(encoded) => break encoded,
                    Err(more) if more > want && have == want => want = more,
                    Err(_) => return Err(self.other_log()),
                }
            };
            found.push(self.fetched(encoded, part, share)?);
        }
        Ok(())
    }

    /// A record from the log, which must be one of those that were counted.
    fn fetched(&self, encoded: &[u8], part: &Part, share: &Share) -> Result<OpenedRecord, Failure> {
        let other = || self.other_log();
        let record: Record = postcard::from_bytes(encoded).map_err(|_| other())?;
        let opened = self.open_record(&record).ok_or_else(other)?;
        let kind = self.kind(share.kind)?;
        let who = &self.head.whos[kind.who as usize];
        let numbers = part.from.at.records + 1..=part.to.at.records;
        let times = share.tally.first..=share.tally.last;
        let same = session(&opened.what) == Some(who.session)
            && opened.source == who.source
            && numbers.contains(&opened.seq)
            && times.contains(&opened.at_ns);
        if same { Ok(opened) } else { Err(other()) }
    }

    fn block<R: Read + Seek>(
        &self,
        log: &mut R,
        part: &Part,
        mut each: impl FnMut(OpenedRecord) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let block = Block::read(log, (part.from, part.to)).or_fail(Wrong::Environment)?;
        if block.bytes().len() as u64 != part.to.offset - part.from.offset {
            return Err(self.other_log());
        }
        for entry in block.records() {
            let entry = entry.ok_or_else(|| self.other_log())?;
            let record: Record =
                postcard::from_bytes(entry.encoded).map_err(|_| self.other_log())?;
            each(self.open_record(&record).ok_or_else(|| self.other_log())?)?;
        }
        Ok(())
    }

    fn open_record(&self, record: &Record) -> Option<OpenedRecord> {
        let Body::Sealed {
            session,
            index,
            bytes,
        } = &record.body
        else {
            return Some(self.control(record));
        };
        let session = *session;
        let mut keys = self.keys.borrow_mut();
        let key = keys
            .entry(session)
            .or_insert_with(|| self.telling.key.audit_key(session));
        let access = open_access(key, *index, bytes)?;
        Some(self.opened(record.seq, record, What::Access { session, access }))
    }

    fn control(&self, record: &Record) -> OpenedRecord {
        let what = match &record.body {
            Body::Control(control) => What::Control(control.clone()),
            // Only acts of ours are kept in a head.
            Body::Sealed { session, index, .. } => What::Unreadable {
                session: *session,
                index: *index,
            },
        };
        self.opened(record.seq, record, what)
    }

    fn opened(&self, seq: u64, record: &Record, what: What) -> OpenedRecord {
        OpenedRecord {
            log: self.telling.name,
            task: task(self.telling.name, self.telling.runs, &what),
            place: session(&what).and_then(|session| self.places.get(&session).cloned()),
            seq,
            at_ns: record.at_ns,
            source: record.source,
            what,
        }
    }

    fn group(&self, kind: Kind, tally: Tally) -> Group {
        let path = |number: u32| self.head.paths[number as usize].clone();
        let who = &self.head.whos[kind.who as usize];
        let what = What::Access {
            session: who.session,
            access: Access {
                at: tally.first,
                pid: who.pid,
                comm: who.comm.clone(),
                op: kind.op,
                path: path(kind.path),
                to: kind.to.map(path),
                verdict: kind.answer.verdict(),
                bytes: tally.bytes,
            },
        };
        Group {
            record: OpenedRecord {
                log: self.telling.name,
                task: task(self.telling.name, self.telling.runs, &what),
                place: self.places.get(&who.session).cloned(),
                seq: 0,
                at_ns: tally.first,
                source: who.source,
                what,
            },
            count: tally.count,
            last_ns: tally.last,
        }
    }

    fn kind(&self, number: u32) -> Result<Kind, Failure> {
        let kind = self.head.kinds.get(number as usize);
        kind.map(|(kind, _)| *kind).ok_or_else(|| self.damaged())
    }

    fn shares(&self, number: usize, part: &Part) -> Result<file::Shares, Failure> {
        file::part(&self.file, &self.key, number, part).ok_or_else(|| self.damaged())
    }

    fn damaged(&self) -> Failure {
        let message = format!("the index {} is damaged", self.path.display());
        let hint = format!("rm {}    it is made again", self.path.display());
        Failure::new(Wrong::Environment, message).hint(hint)
    }

    fn other_log(&self) -> Failure {
        let job = self.head.header.job;
        let how = "a record is not where it was when it was counted";
        super::log::changed_log(job, self.telling.name, how)
            .hint(format!("safelight audit verify {job}"))
    }
}

/// Reads as many bytes as there are.
fn read_at<R: Read + Seek>(log: &mut R, at: u64, bytes: &mut [u8]) -> std::io::Result<usize> {
    log.seek(SeekFrom::Start(at))?;
    let mut have = 0;
    while have < bytes.len() {
        match log.read(&mut bytes[have..]) {
            Ok(0) => break,
            Ok(count) => have += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}
