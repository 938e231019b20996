//! Letters that are settled: refused and set aside, or accepted; and what their senders are told.

use safelight_policies::id::ObjectId;

use super::{Inbox, InboxError, Owed, RESEND, Refused, Scan, Waiting, Why};
use crate::{EntryName, ReadyName, Reason, Refusal, Verdict, patience::Subject};

/// How many letters whose numbers are refused are answered within [`RESEND`]: whoever kept old letters can bring them again and again.
const ECHOES_MAX: u32 = 256;

/// Since when a letter is settled, in seconds since 1970, and whether that ends when it leaves the folder: another may come under its name,
/// from a sender that was restored from a backup.
#[derive(Clone, Copy)]
pub(super) struct Settled {
    pub(super) since: u64,
    pub(super) while_here: bool,
}

/// How many letters were answered whose numbers are refused, and since when.
#[derive(Default)]
pub(super) struct Echoes {
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

impl Inbox {
    pub(super) fn refuse_or_wait(
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

    pub(super) fn refuse(
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
    pub(super) fn echo(
        &mut self,
        name: ReadyName,
        refusal: Refusal,
        of: ObjectId,
        scan: &mut Scan<'_>,
    ) {
        let code = refusal.code();
        self.settle(name.entry(), false, scan.now);
        self.set_aside(name.entry(), Some(name), refusal, scan);
        if !self.echoes.may(scan.now) {
            return;
        }
        if name.kind.is_answered() {
            scan.report.receipts.push(Owed {
                to: name.from,
                of,
                verdict: Verdict::Refused { code },
            });
        } else {
            scan.report.untold = true;
        }
    }

    pub(super) fn set_aside(
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
            self.settle(entry.clone(), true, scan.now);
        }
        scan.report.refused.push(Refused {
            entry,
            refusal,
            left,
        });
    }

    /// A letter that is settled: its sender is told, and removes it. One that needs no receipt is removed here.
    pub(super) fn done(
        &mut self,
        name: &ReadyName,
        of: ObjectId,
        verdict: Verdict,
        scan: &mut Scan<'_>,
    ) {
        self.settle(name.entry(), true, scan.now);
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

    fn settle(&mut self, entry: EntryName, while_here: bool, since: u64) {
        let settled = Settled { since, while_here };
        self.settled.insert(entry, settled);
    }
}
