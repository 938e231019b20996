//! Checks a whole log and names what is wrong with it.
//!
//! First all threads look whether anything is wrong at all, which is seldom. If so, two more passes say what, each in constant memory. The first follows the links and notes each record that does not follow from the one before it (a
//! *suspect*). The second, only if there are suspects, looks for the record that each of them says it follows: if the link holds
//! with that one, the suspect is genuine and was only moved; if it does not hold, the suspect was changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Seek, SeekFrom},
};

use crate::{
    Error, Header,
    findings::{Finding, Run, order},
    format::{Chain, FRAME_MAX, Frame, HEADER_MAX, Linker, Split, split, split_despite_length},
    pass::{Block, pass},
    record::{Checkpoint, Record},
    window::Window,
};

/// The most suspects that are looked into; each may hold a whole record in memory.
const SUSPECTS_MAX: usize = 256;

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whose log it is; `None` if the header does not say.
    pub header: Option<Header>,
    /// The number of records that are there.
    pub records: u64,
    /// The last link.
    pub chain: Chain,
    /// What is wrong, in the order of [`Finding`]; empty if nothing is.
    pub findings: Vec<Finding>,
}

impl Report {
    /// True if nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Verifies a log from its beginning, against an anchor if one was noted. Records after the anchor are no finding: a log grows.
///
/// An error means that the file could not be read, or has another version; everything else is in the report.
pub fn verify<R: Read + Seek>(mut source: R, anchor: Option<Checkpoint>) -> Result<Report, Error> {
    let read = |source| Error::Read { source };
    if let Some(report) = whole(&mut source, anchor)? {
        return Ok(report);
    }
    source.seek(SeekFrom::Start(0)).map_err(read)?;
    let mut window = Window::new(source);
    let found = match Header::find(window.peek(HEADER_MAX).map_err(read)?) {
        Ok(found) => found,
        Err(Error::NotALog) => return Ok(not_a_log()),
        Err(error) => return Err(error),
    };
    window.advance(found.size);
    let mut walk = Walk::new(found.stored, anchor);
    if found.stored != found.computed {
        walk.header_changed = true;
        // If the first record follows from the header's text, then it was the stored link that was changed.
        if let Split::Frame(frame) = split(window.peek_frame().map_err(read)?)
            && walk.linker.link(&found.computed, frame.body) == frame.stored
        {
            walk.stored = found.computed;
        }
    }
    let begin = walk.stored;
    walk.run(&mut window)?;
    let mut source = window.into_inner();
    source
        .seek(SeekFrom::Start(found.size as u64))
        .map_err(read)?;
    walk.settle(Window::new(source), begin)?;
    Ok(walk.report(found.header, anchor))
}

/// The report of a log with which nothing is wrong; `None` if something is.
fn whole<R: Read + Seek>(
    source: &mut R,
    anchor: Option<Checkpoint>,
) -> Result<Option<Report>, Error> {
    let mut anchored = anchor.is_none();
    let judge = |block: &Block| {
        let mut met = anchor == Some(block.from.at);
        let follow = block.records().all(|entry| {
            let Some(entry) = entry else { return false };
            met |= anchor.is_some_and(|anchor| {
                anchor.records == entry.record.seq && anchor.chain == entry.link
            });
            true
        });
        (follow, met)
    };
    let passed = pass(source, judge, |(follow, met)| {
        anchored |= met;
        follow
    });
    let passed = match passed {
        Ok(passed) => passed,
        Err(Error::NotALog) => return Ok(None),
        Err(error) => return Err(error),
    };
    anchored |= anchor == Some(passed.end.at);
    Ok((passed.complete && anchored).then_some(Report {
        header: Some(passed.header),
        records: passed.end.at.records,
        chain: passed.end.at.chain,
        findings: Vec::new(),
    }))
}

fn not_a_log() -> Report {
    Report {
        header: None,
        records: 0,
        chain: [0; 32],
        findings: vec![Finding::HeaderChanged],
    }
}

/// A record that does not follow from the one before it in the file.
struct Suspect {
    /// The run that it begins.
    run: usize,
    /// The number that it bears.
    claimed: u64,
    body: Vec<u8>,
    stored: Chain,
}

/// The state of the first pass.
struct Walk {
    linker: Linker,
    anchor: Option<Checkpoint>,
    header_changed: bool,
    /// The link of the last record as it is stored.
    stored: Chain,
    /// The link that the last record should have had, if that is another.
    computed: Option<Chain>,
    /// The number of the last record.
    number: u64,
    records: u64,
    runs: Vec<Run>,
    suspects: Vec<Suspect>,
    changed: BTreeSet<u64>,
    /// The link of the anchored record.
    at_anchor: Option<Chain>,
    end: Option<Finding>,
}

impl Walk {
    fn new(stored: Chain, anchor: Option<Checkpoint>) -> Self {
        Self {
            linker: Linker::new(),
            anchor,
            header_changed: false,
            stored,
            computed: None,
            number: 0,
            records: 0,
            runs: Vec::new(),
            suspects: Vec::new(),
            changed: BTreeSet::new(),
            at_anchor: anchor.filter(|anchor| anchor.records == 0).map(|_| stored),
            end: None,
        }
    }

    fn run<R: Read>(&mut self, window: &mut Window<R>) -> Result<(), Error> {
        let read = |source| Error::Read { source };
        while self.end.is_none() {
            let frame = match split(window.peek_frame().map_err(read)?) {
                Split::End => return Ok(()),
                Split::Frame(frame) => Some(frame),
                Split::Short | Split::NoFrame => None,
            };
            if let Some(frame) = frame.filter(|frame| self.follows(frame)) {
                let size = frame.size();
                self.take_linked(&frame);
                window.advance(size);
                continue;
            }
            let whole = frame.is_some();
            let bytes = window.peek(FRAME_MAX).map_err(read)?;
            if let Some(frame) = split_despite_length(&self.linker, &self.stored, bytes) {
                let size = frame.size();
                self.changed.insert(self.number + 1);
                self.take_linked(&frame);
                window.advance(size);
            } else if let (true, Split::Frame(frame)) = (whole, split(bytes)) {
                let size = frame.size();
                self.take_suspect(&frame);
                window.advance(size);
            } else {
                self.take_rest(window)?;
            }
        }
        Ok(())
    }

    fn follows(&self, frame: &Frame<'_>) -> bool {
        let links = |previous: &Chain| self.linker.link(previous, frame.body) == frame.stored;
        links(&self.stored) || self.computed.as_ref().is_some_and(links)
    }

    /// A record that follows from the one before it, either by that one's stored link or by the one it should have had.
    fn take_linked(&mut self, frame: &Frame<'_>) {
        if self.computed.is_some() {
            self.judge_last(frame);
        }
        let number = self.number.saturating_add(1);
        // No writer numbers otherwise: such a record was rewritten together with its link.
        if frame.record().is_none_or(|record| record.seq != number) {
            self.changed.insert(number);
        }
        self.extend_run(number);
        self.took(number, frame.stored);
    }

    fn extend_run(&mut self, number: u64) {
        match self.runs.last_mut() {
            Some(run) => run.last = number,
            None => self.runs.push(Run {
                first: number,
                last: number,
            }),
        }
    }

    /// True if the record would follow from the last one if it bore the next number.
    fn only_number_changed(&self, record: &Record, stored: &Chain) -> bool {
        let expected = Record {
            seq: self.number.saturating_add(1),
            ..record.clone()
        };
        expected.seq != record.seq
            && postcard::to_stdvec(&expected)
                .is_ok_and(|body| self.linker.link(&self.stored, &body) == *stored)
    }

    /// The last record did not follow from its predecessor, but `frame` follows from it: this tells which part of it was changed.
    fn judge_last(&mut self, frame: &Frame<'_>) {
        if self.linker.link(&self.stored, frame.body) != frame.stored {
            // Linked to the hash of its body: its body is genuine and its own link was changed.
            self.acquit_last();
            self.changed.insert(self.number);
            return;
        }
        let number = frame.record().and_then(|record| record.seq.checked_sub(1));
        let Some(number) = number.filter(|number| *number > 0 && *number != self.number) else {
            return;
        };
        // It bears another number than the one under which it was written: its body was changed.
        if !self.acquit_last() {
            self.changed.remove(&self.number);
        }
        self.changed.insert(number);
        self.number = number;
        if let Some(run) = self.runs.last_mut() {
            (run.first, run.last) = (number, number);
        }
    }

    /// Takes the last record off the suspects; false if it was not among them, since it is no record.
    fn acquit_last(&mut self) -> bool {
        let last = self.runs.len().checked_sub(1);
        let found = self.suspects.last().map(|suspect| suspect.run) == last && last.is_some();
        if found {
            self.suspects.pop();
        }
        found
    }

    fn take_suspect(&mut self, frame: &Frame<'_>) {
        let expected = self.number.saturating_add(1);
        if self.runs.len() >= SUSPECTS_MAX {
            self.end = Some(Finding::TooMany { after: self.number });
            return;
        }
        let record = frame.record();
        if let Some(record) = &record
            && self.only_number_changed(record, &frame.stored)
        {
            self.changed.insert(expected);
            self.extend_run(expected);
            self.took(expected, frame.stored);
            return;
        }
        let claimed = record.map(|record| record.seq).filter(|seq| *seq > 0);
        let number = claimed.unwrap_or(expected);
        match claimed {
            Some(claimed) => self.suspects.push(Suspect {
                run: self.runs.len(),
                claimed,
                body: frame.body.to_vec(),
                stored: frame.stored,
            }),
            None => {
                self.changed.insert(number);
            }
        }
        self.runs.push(Run {
            first: number,
            last: number,
        });
        let computed = self.linker.link(&self.stored, frame.body);
        self.took(number, frame.stored);
        self.computed = Some(computed);
    }

    fn took(&mut self, number: u64, stored: Chain) {
        self.number = number;
        self.stored = stored;
        self.computed = None;
        self.records += 1;
        if self.anchor.is_some_and(|anchor| anchor.records == number) {
            self.at_anchor.get_or_insert(stored);
        }
    }

    fn take_rest<R: Read>(&mut self, window: &mut Window<R>) -> Result<(), Error> {
        let read = |source| Error::Read { source };
        let short = matches!(split(window.peek_frame().map_err(read)?), Split::Short);
        let (bytes, zero) = window.drain().map_err(read)?;
        let after = self.number;
        self.end = Some(if short || zero {
            Finding::Torn { after, bytes }
        } else {
            Finding::Garbage { after, bytes }
        });
        Ok(())
    }

    /// The second pass: were the suspects moved or changed?
    fn settle<R: Read>(&mut self, mut window: Window<R>, header: Chain) -> Result<(), Error> {
        if self.suspects.is_empty() {
            return Ok(());
        }
        let mut wanted: BTreeMap<u64, Vec<Chain>> = self
            .suspects
            .iter()
            .map(|suspect| (suspect.claimed - 1, Vec::new()))
            .collect();
        if let Some(links) = wanted.get_mut(&0) {
            links.push(header);
        }
        let mut previous = header;
        for _ in 0..self.records {
            let bytes = window
                .peek(FRAME_MAX)
                .map_err(|source| Error::Read { source })?;
            let frame = match split(bytes) {
                Split::Frame(frame) if self.linker.link(&previous, frame.body) == frame.stored => {
                    Some(frame)
                }
                Split::Frame(frame) => {
                    split_despite_length(&self.linker, &previous, bytes).or(Some(frame))
                }
                _ => split_despite_length(&self.linker, &previous, bytes),
            };
            let Some(frame) = frame else { break };
            if let Some(links) = frame
                .record()
                .and_then(|record| wanted.get_mut(&record.seq))
                && links.len() < SUSPECTS_MAX
            {
                links.push(frame.stored);
            }
            previous = frame.stored;
            let size = frame.size();
            window.advance(size);
        }
        for suspect in std::mem::take(&mut self.suspects) {
            let links = &wanted[&(suspect.claimed - 1)];
            let genuine = links
                .iter()
                .any(|link| self.linker.link(link, &suspect.body) == suspect.stored);
            // With the record before it missing, nothing can be said about it; that one is reported.
            if !genuine && !links.is_empty() {
                self.changed.insert(self.runs[suspect.run].first);
            }
        }
        Ok(())
    }

    fn report(self, header: Header, anchor: Option<Checkpoint>) -> Report {
        let mut findings = order(&self.runs);
        findings.extend(
            self.changed
                .iter()
                .map(|record| Finding::Changed { record: *record }),
        );
        if self.header_changed {
            findings.push(Finding::HeaderChanged);
        }
        findings.extend(self.end);
        if let Some(anchor) = anchor {
            let after = self.runs.iter().map(|run| run.last).max().unwrap_or(0);
            if after < anchor.records {
                findings.push(Finding::CutOff {
                    after,
                    anchored: anchor.records,
                });
            } else if self.at_anchor.is_some_and(|link| link != anchor.chain)
                && !self.changed.contains(&anchor.records)
                && !(anchor.records == 0 && self.header_changed)
            {
                findings.push(Finding::Rewritten {
                    record: anchor.records,
                });
            }
        }
        findings.sort();
        findings.dedup();
        Report {
            header: Some(header),
            records: self.records,
            chain: self.stored,
            findings,
        }
    }
}
