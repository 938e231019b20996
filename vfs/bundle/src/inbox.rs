//! Reads a hot folder: each letter is accepted once, when all that it brings is here and verified; or refused, with its reason; or it waits.
//!
//! - What is settled is kept by the caller ([`Keeper`]) before anybody is told of it. If that fails, nothing has happened.
//! - A letter that cannot be read or completed never stands in the way of another.
//! - The folder is read in bounded steps, whatever is in it.

mod agreed;
mod listing;
mod report;
mod watch;

use std::collections::{BTreeMap, HashMap};

use safelight_policies::id::{ObjectId, VerifyKey};

use crate::{
    Areas, EntryName, Judgement, Medium, MediumError, Opened, ReadyName, Reason, Refusal, Seq,
    Trust, Verdict, Windows, judge,
    patience::{Patience, Subject},
    take::{Stop, Taker, read},
    window::{Mark, Row, Seen},
};
use agreed::{ENVELOPE_MAX, agreed};
use listing::{Listing, Odd};
pub use report::{Alarm, Delivery, InboxError, Keeper, Owed, Refused, Report, Waiting, Why};
use watch::Watch;

/// How long a settled letter may lie in the folder until its sender is told once more, in seconds.
const RESEND: u64 = 600;
/// How long an odd name may lie in the folder: something may be copying under it. In seconds.
const ODD_MAX: u64 = 86_400;
/// How many letters whose numbers are refused are answered within [`RESEND`]: whoever kept old letters can bring them again and again.
const ECHOES_MAX: u32 = 256;

/// The reader of hot folders. One for each reader's key, and one for each folder.
pub struct Inbox {
    trust: Trust,
    windows: Windows,
    patience: Patience,
    /// What needs no second look for a while, and since when.
    settled: HashMap<EntryName, u64>,
    odd: BTreeMap<EntryName, u64>,
    watch: Watch,
    echoes: Echoes,
}

/// How many letters were answered whose numbers are refused, and since when.
#[derive(Default)]
struct Echoes {
    since: u64,
    count: u32,
}

impl Echoes {
    fn may(&mut self, now: u64) -> bool {
        if now.saturating_sub(self.since) >= RESEND {
            (self.since, self.count) = (now, 0);
        }
        self.count = self.count.saturating_add(1);
        self.count <= ECHOES_MAX
    }
}

/// What one scan works with.
struct Scan<'a> {
    medium: &'a dyn Medium,
    areas: &'a dyn Areas,
    keeper: &'a mut dyn Keeper,
    now: u64,
    reserved: u64,
    report: &'a mut Report,
}

impl Inbox {
    /// An inbox that goes on from what was read before.
    pub fn new(trust: Trust, windows: Windows) -> Self {
        Self {
            trust,
            windows,
            patience: Patience::default(),
            settled: HashMap::new(),
            odd: BTreeMap::new(),
            watch: Watch::default(),
            echoes: Echoes::default(),
        }
    }

    /// Whom the inbox knows. Change it between scans.
    pub fn trust_mut(&mut self) -> &mut Trust {
        &mut self.trust
    }

    /// What was read.
    pub fn windows(&self) -> &Windows {
        &self.windows
    }

    /// The newest letter of a sender, for a heartbeat.
    pub fn newest(&self, from: &VerifyKey) -> Option<Seq> {
        self.windows.of(from)?.newest()
    }

    /// Lets a refused letter be tried again. False if none was refused there.
    pub fn forgive(
        &mut self,
        from: &VerifyKey,
        seq: Seq,
        keeper: &mut dyn Keeper,
    ) -> Result<bool, InboxError> {
        let Some(mark) = self
            .windows
            .of(from)
            .and_then(|window| window.forgiven(seq))
        else {
            return Ok(false);
        };
        self.keep(
            Row {
                from: *from,
                seq,
                mark,
            },
            None,
            keeper,
        )?;
        self.settled.clear();
        Ok(true)
    }

    /// Reads the folder once. `now` is in seconds since 1970.
    pub fn scan(
        &mut self,
        medium: &dyn Medium,
        areas: &dyn Areas,
        keeper: &mut dyn Keeper,
        now: u64,
    ) -> Report {
        let mut report = Report::default();
        let mut scan = Scan {
            medium,
            areas,
            keeper,
            now,
            reserved: 0,
            report: &mut report,
        };
        let stopped = self.read_all(&mut scan).err();
        self.patience.turn();
        report.alarms = self
            .watch
            .alarms(self.trust.peers.keys(), &self.windows, now);
        report.stopped = stopped;
        report
    }

    fn read_all(&mut self, scan: &mut Scan<'_>) -> Result<(), InboxError> {
        self.settled
            .retain(|_, since| scan.now.saturating_sub(*since) < RESEND);
        let listing = Listing::read(scan.medium, &self.trust, &self.settled)?;
        self.odd
            .retain(|name, _| listing.odd.iter().any(|odd| odd.entry == *name));
        for odd in listing.odd {
            self.judge_odd(odd, scan);
        }
        for name in listing.letters {
            self.letter(name, scan)?;
        }
        Ok(())
    }

    /// What is no letter by its name or nature: what cannot be a copy under way goes at once, the rest after a day.
    fn judge_odd(&mut self, odd: Odd, scan: &mut Scan<'_>) {
        let since = *self.odd.entry(odd.entry.clone()).or_insert(scan.now);
        let may_be_copied = matches!(odd.refusal, Refusal::Misnamed);
        if !may_be_copied || scan.now.saturating_sub(since) >= ODD_MAX {
            self.set_aside(odd.entry, None, odd.refusal, scan);
        }
    }

    fn letter(&mut self, name: ReadyName, scan: &mut Scan<'_>) -> Result<(), InboxError> {
        let entry = name.entry();
        let max = name.kind.bytes_max() as u64;
        let bytes = match scan.medium.read_ready(&name.to, &entry, max) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(()), // listed, and gone or not here yet
            Err(MediumError::TooLong { len, max, .. }) => {
                self.set_aside(entry, Some(name), Refusal::OverLong { len, max }, scan);
                return Ok(());
            }
            Err(MediumError::Irregular { what, .. }) => {
                self.set_aside(entry, Some(name), Refusal::NotAFile { what }, scan);
                return Ok(());
            }
            Err(error) => return wait_for_medium(name, error, scan),
        };
        match judge(&name, &bytes, &self.trust, &self.windows, scan.now) {
            Judgement::Take(opened) => self.take(*opened, bytes, scan),
            Judgement::Again { of, verdict } => {
                self.done(&name, of, verdict, scan);
                Ok(())
            }
            Judgement::Later(later) => {
                scan.report.waiting.push(Waiting {
                    name,
                    why: Why::Later(later),
                });
                Ok(())
            }
            Judgement::Refuse { refusal, of } => {
                self.refuse_or_wait(name, &bytes, refusal, of, scan)
            }
            Judgement::Renumber { refusal, of } => {
                self.echo(name, refusal, of, scan);
                Ok(())
            }
        }
    }

    fn refuse_or_wait(
        &mut self,
        name: ReadyName,
        bytes: &[u8],
        refusal: Refusal,
        of: Option<ObjectId>,
        scan: &mut Scan<'_>,
    ) -> Result<(), InboxError> {
        let digest = blake3::hash(bytes).into();
        let subject = Subject::Letter(name.entry());
        if refusal.may_heal() && !self.patience.is_over(subject, digest, scan.now) {
            scan.report.waiting.push(Waiting {
                name,
                why: Why::Unsettled(refusal),
            });
            return Ok(());
        }
        self.refuse(name, refusal, of, scan)
    }

    fn take(
        &mut self,
        opened: Opened,
        bytes: Vec<u8>,
        scan: &mut Scan<'_>,
    ) -> Result<(), InboxError> {
        let (name, of) = (opened.name, opened.of);
        let taken = match opened.letter.load() {
            None => Ok((None, None)),
            Some(load) => {
                let Some(objects) = scan.areas.area(&name.from) else {
                    scan.report.waiting.push(Waiting {
                        name,
                        why: Why::NoArea,
                    });
                    return Ok(());
                };
                let limits = self
                    .trust
                    .peers
                    .get(&name.from)
                    .map(|peer| peer.limits)
                    .unwrap_or_default();
                let mut taker = Taker {
                    medium: scan.medium,
                    objects,
                    patience: &mut self.patience,
                    reserved: &mut scan.reserved,
                    limits,
                    now: scan.now,
                };
                taker.take(load).and_then(|list| {
                    let envelope = agreed(&opened, &list, |id| read(objects, id, ENVELOPE_MAX))?;
                    Ok((Some(list), envelope))
                })
            }
        };
        let why = match taken {
            Ok((list, envelope)) => {
                let row = self.row(&name, of, Some(Verdict::Accepted), scan.now);
                let delivery = Delivery {
                    opened,
                    bytes,
                    list,
                    envelope,
                };
                self.keep(row, Some(&delivery), scan.keeper)?;
                scan.report.accepted += 1;
                self.done(&name, of, Verdict::Accepted, scan);
                return Ok(());
            }
            Err(Stop::Refused(refusal)) => return self.refuse(name, refusal, Some(of), scan),
            Err(Stop::Objects(source)) => return Err(InboxError::Objects { source }),
            Err(Stop::Medium(error)) => return wait_for_medium(name, error, scan),
            Err(Stop::Missing { blobs }) => Why::Blobs(blobs),
            Err(Stop::NoRoom { needed, free }) => Why::Room { needed, free },
        };
        if self.windows.seen(&name.from, name.seq, of) == Seen::Never {
            let row = self.row(&name, of, None, scan.now);
            self.keep(row, None, scan.keeper)?;
        }
        scan.report.waiting.push(Waiting { name, why });
        Ok(())
    }

    fn refuse(
        &mut self,
        name: ReadyName,
        refusal: Refusal,
        of: Option<ObjectId>,
        scan: &mut Scan<'_>,
    ) -> Result<(), InboxError> {
        let verdict = Verdict::Refused {
            code: refusal.code(),
        };
        if let Some(of) = of {
            let row = self.row(&name, of, Some(verdict), scan.now);
            self.keep(row, None, scan.keeper)?;
            if name.kind.is_answered() {
                scan.report.receipts.push(Owed {
                    to: name.from,
                    of,
                    verdict,
                });
            }
        }
        self.set_aside(name.entry(), Some(name), refusal, scan);
        Ok(())
    }

    /// A letter whose number is refused: its sender is told that, for a while once only, whoever brings it again.
    fn echo(&mut self, name: ReadyName, refusal: Refusal, of: ObjectId, scan: &mut Scan<'_>) {
        let code = refusal.code();
        self.settled.insert(name.entry(), scan.now);
        self.set_aside(name.entry(), Some(name), refusal, scan);
        if name.kind.is_answered() && self.echoes.may(scan.now) {
            scan.report.receipts.push(Owed {
                to: name.from,
                of,
                verdict: Verdict::Refused { code },
            });
        }
    }

    fn set_aside(
        &mut self,
        entry: EntryName,
        name: Option<ReadyName>,
        refusal: Refusal,
        scan: &mut Scan<'_>,
    ) {
        let reason = Reason {
            code: refusal.code(),
            reason: refusal.to_string(),
            name: entry.to_string(),
            from: name.map(|name| name.from.fingerprint()),
            at: scan.now,
        };
        let left = scan.medium.set_aside(&self.trust.me, &entry, &reason).err();
        if left.is_some() {
            self.settled.insert(entry.clone(), scan.now);
        }
        scan.report.refused.push(Refused {
            entry,
            refusal,
            left,
        });
    }

    /// A letter that is settled: its sender is told, and removes it. One that needs no receipt is removed here.
    fn done(&mut self, name: &ReadyName, of: ObjectId, verdict: Verdict, scan: &mut Scan<'_>) {
        self.settled.insert(name.entry(), scan.now);
        if name.kind.is_answered() {
            scan.report.receipts.push(Owed {
                to: name.from,
                of,
                verdict,
            });
        } else {
            // If it cannot be removed, its sender removes it in time, and until then it is known.
            let _ = scan.medium.remove_ready(&name.to, &name.entry());
        }
    }

    fn row(&self, name: &ReadyName, of: ObjectId, verdict: Option<Verdict>, now: u64) -> Row {
        Row {
            from: name.from,
            seq: name.seq,
            mark: Mark {
                of,
                verdict,
                at: now,
            },
        }
    }

    fn keep(
        &mut self,
        row: Row,
        delivery: Option<&Delivery>,
        keeper: &mut dyn Keeper,
    ) -> Result<(), InboxError> {
        keeper
            .keep(&row, delivery)
            .map_err(|source| InboxError::Keep { source })?;
        self.windows.apply(&row);
        Ok(())
    }
}

fn wait_for_medium(
    name: ReadyName,
    error: MediumError,
    scan: &mut Scan<'_>,
) -> Result<(), InboxError> {
    if error.is_of_the_folder() {
        return Err(InboxError::Medium { source: error });
    }
    scan.report.waiting.push(Waiting {
        name,
        why: Why::Medium(error),
    });
    Ok(())
}
