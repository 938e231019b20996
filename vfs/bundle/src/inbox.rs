//! Reads a hot folder: each letter is accepted once, when all that it brings is here and verified; or refused, with its reason; or it waits.
//!
//! - What is settled is kept by the caller ([`Keeper`]) before anybody is told of it. If that fails, nothing has happened.
//! - A letter that cannot be read or completed never stands in the way of another.
//! - The folder is read in bounded steps, whatever is in it.

mod agreed;
mod listing;
mod report;
mod settle;
mod watch;

use std::collections::{BTreeMap, HashMap};

use safelight_policies::id::{ObjectId, VerifyKey};

use crate::{
    Areas, EntryName, Judgement, Medium, MediumError, Opened, ReadyName, Refusal, Seq, Trust,
    Verdict, Windows, judge,
    patience::Patience,
    take::{Stop, Taker, read},
    window::{Mark, Row, Seen},
};
use agreed::{ENVELOPE_MAX, agreed};
use listing::{Listing, Odd};
pub use report::{Alarm, Delivery, InboxError, Keeper, Owed, Refused, Report, Waiting, Why};
use settle::{Echoes, Settled};
use watch::Watch;

/// How long a settled letter may lie in the folder until its sender is told once more, in seconds.
const RESEND: u64 = 600;
/// How long an odd name may lie in the folder: something may be copying under it. In seconds.
const ODD_MAX: u64 = 86_400;

/// The reader of hot folders. One for each reader's key, and one for each folder.
pub struct Inbox {
    trust: Trust,
    windows: Windows,
    patience: Patience,
    /// What needs no second look for a while.
    settled: HashMap<EntryName, Settled>,
    odd: BTreeMap<EntryName, u64>,
    watch: Watch,
    echoes: Echoes,
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

    /// How long something may look wrong, unchanged, before it is refused, in seconds: what is still being copied looks so. An hour otherwise.
    #[must_use]
    pub fn patient(self, seconds: u64) -> Self {
        Self {
            patience: Patience::of(seconds),
            ..self
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
            .retain(|_, it| scan.now.saturating_sub(it.since) < RESEND);
        let listing = Listing::read(scan.medium, &self.trust, &self.settled)?;
        self.settled
            .retain(|name, it| !it.while_here || listing.settled.contains(name));
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
                let delivery = Delivery {
                    opened,
                    bytes,
                    list,
                    envelope,
                };
                if self.accept(&name, &delivery, scan)? {
                    return Ok(());
                }
                Why::Another
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

    /// Keeps a letter that is complete. False if it is not due.
    fn accept(
        &mut self,
        name: &ReadyName,
        delivery: &Delivery,
        scan: &mut Scan<'_>,
    ) -> Result<bool, InboxError> {
        let due = scan.keeper.is_due(delivery);
        if !due.map_err(|source| InboxError::Keep { source })? {
            return Ok(false);
        }
        let of = delivery.opened.of;
        let row = self.row(name, of, Some(Verdict::Accepted), scan.now);
        self.keep(row, Some(delivery), scan.keeper)?;
        scan.report.accepted += 1;
        self.done(name, of, Verdict::Accepted, scan);
        Ok(true)
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
