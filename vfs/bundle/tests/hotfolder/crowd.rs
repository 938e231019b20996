//! A folder that is full of names, a carrier that withholds, and clocks that differ.

use std::{cell::Cell, io::Read, ops::ControlFlow, path::PathBuf};

use safelight_bundle::{
    Aside, Blob, Code, Entry, EntryName, Epoch, Kind, Later, Medium, MediumError, ReadyName,
    Reason, Seq, Verdict, What, Why,
};
use safelight_policies::id::{ObjectId, VerifyKey};

use crate::{
    faults::Rough,
    parties::{DAY, START, pair},
};

const NOW: u64 = START + 1_000;
const MANY: u64 = 1_000_000;

/// A folder with a million names of each sort besides what somebody put into it, and a count of what a reader does about them.
struct Crowded {
    inner: Rough,
    from: VerifyKey,
    reads: Cell<u64>,
    aside: Cell<u64>,
}

impl Medium for Crowded {
    fn put_blob(&self, id: ObjectId, len: u64, source: &mut dyn Read) -> Result<(), MediumError> {
        self.inner.put_blob(id, len, source)
    }
    fn settle(&self) -> Result<(), MediumError> {
        self.inner.settle()
    }
    fn blob_len(&self, id: ObjectId) -> Result<Option<u64>, MediumError> {
        self.inner.blob_len(id)
    }
    fn open_blob(&self, id: ObjectId) -> Result<Option<Blob<'_>>, MediumError> {
        self.inner.open_blob(id)
    }
    fn remove_blob(&self, id: ObjectId) -> Result<(), MediumError> {
        self.inner.remove_blob(id)
    }
    fn room(&self) -> Result<u64, MediumError> {
        self.inner.room()
    }
    fn place(&self) -> PathBuf {
        self.inner.place()
    }
    fn put_ready(&self, name: &ReadyName, bytes: &[u8]) -> Result<(), MediumError> {
        self.inner.put_ready(name, bytes)
    }

    fn list_ready(
        &self,
        to: &VerifyKey,
        visit: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<(), MediumError> {
        let what = What::File;
        for number in 1..=MANY {
            let name = EntryName::new(format!("no letter {number}")).unwrap();
            let seq = Seq {
                epoch: Epoch::new(START + 60, [9; 3]),
                number,
            };
            let (to, from, kind) = (*to, self.from, Kind::Job);
            let letter = ReadyName {
                to,
                from,
                seq,
                kind,
            };
            for name in [name, letter.entry()] {
                if visit(Entry { name, what }).is_break() {
                    return Ok(());
                }
            }
        }
        self.inner.list_ready(to, visit)
    }

    fn read_ready(
        &self,
        to: &VerifyKey,
        name: &EntryName,
        max: u64,
    ) -> Result<Option<Vec<u8>>, MediumError> {
        self.reads.set(self.reads.get() + 1);
        self.inner.read_ready(to, name, max)
    }

    fn remove_ready(&self, to: &VerifyKey, name: &EntryName) -> Result<(), MediumError> {
        self.inner.remove_ready(to, name)
    }

    fn set_aside(&self, _: &VerifyKey, _: &EntryName, _: &Reason) -> Result<(), MediumError> {
        self.aside.set(self.aside.get() + 1);
        Ok(())
    }
    fn aside(&self, to: &VerifyKey) -> Result<Vec<Aside>, MediumError> {
        Medium::aside(&self.inner, to)
    }
    fn put_back(&self, to: &VerifyKey, aside: &Aside) -> Result<bool, MediumError> {
        self.inner.put_back(to, aside)
    }
    fn discard(&self, to: &VerifyKey, stem: &str) -> Result<bool, MediumError> {
        self.inner.discard(to, stem)
    }
}

#[test]
fn a_million_names_are_looked_at_in_bounded_steps_and_hide_no_letter() {
    let (mut client, mut site) = pair();
    let medium = Crowded {
        inner: Rough::new(1, 0),
        from: client.signer.key(),
        reads: Cell::new(0),
        aside: Cell::new(0),
    };
    let (job, _) = client.announce(1, site.signer.key(), &[b"honest"], NOW);
    client.push(&medium, NOW);
    let report = site.scan(&medium, NOW);
    assert!(report.stopped.is_none(), "{:?}", report.stopped);
    assert_eq!(site.ledger.jobs(), [job]);
    assert!(
        medium.reads.get() <= 2_048,
        "{} letters were read",
        medium.reads.get()
    );
    assert!(
        medium.aside.get() <= 256,
        "{} were set aside",
        medium.aside.get()
    );
    // A day later what is no letter goes, so many at a time.
    let report = site.scan(&medium, NOW + DAY + 1);
    assert_eq!(report.refused.len() as u64, medium.aside.get());
    assert_eq!(medium.aside.get(), 256);
}

#[test]
fn a_blob_that_is_withheld_holds_up_one_letter_and_that_until_it_ends() {
    let (mut client, mut site) = pair();
    let (to, medium) = (site.signer.key(), Rough::new(1, 0));
    let (first, posted) = client.announce(1, to, &[b"withheld"], NOW);
    client.push(&medium, NOW);
    let blob = safelight_bundle::object_id(b"withheld");
    medium.remove_blob(blob).unwrap();
    let report = site.scan(&medium, NOW);
    assert!(matches!(report.waiting[..], [ref it] if matches!(it.why, Why::Blobs(1))));
    let (second, _) = client.announce(2, to, &[b"carried"], NOW + 60);
    client.push(&medium, NOW + 60);
    medium.remove_blob(blob).unwrap();
    assert_eq!(site.scan(&medium, NOW + 60).accepted, 1);
    assert_eq!(site.ledger.jobs(), [second]);
    // What is there of it is kept, and nothing counts of it; in the end both know.
    let report = site.scan(&medium, NOW + 8 * DAY);
    let refused: Vec<_> = report.refused.iter().map(|it| it.refusal.code()).collect();
    assert_eq!(refused, [Code::Expired]);
    let code = Code::Expired;
    let told = report.receipts.iter().find(|owed| owed.of == posted.of);
    assert_eq!(
        told.map(|owed| owed.verdict),
        Some(Verdict::Refused { code })
    );
    assert!(!site.ledger.jobs().contains(&first));
}

#[test]
fn clocks_that_differ_delay_a_letter_and_use_up_no_number() {
    for (ahead, waits) in [(250, false), (3_600, true), (2 * DAY, true)] {
        let (mut client, mut site) = pair();
        let (to, medium) = (site.signer.key(), Rough::new(1, 0));
        let (job, _) = client.announce(1, to, &[b"early"], NOW + ahead);
        client.push(&medium, NOW + ahead);
        let report = site.scan(&medium, NOW);
        assert_eq!(report.accepted, u64::from(!waits), "{ahead}: {report:?}");
        let clock =
            |why: &Why| matches!(why, Why::Later(Later::Clock { ahead: by }) if *by == ahead);
        if ahead > DAY {
            let [refused] = &report.refused[..] else {
                panic!("{report:?}")
            };
            assert_eq!(refused.refusal.code(), Code::NotYetValid);
            assert!(
                report.receipts.is_empty(),
                "a clock is no reason to tell anybody"
            );
            // When it was put right the sender's next offer is taken.
            client.push(&medium, NOW + ahead + DAY);
        } else if waits {
            assert!(report.waiting.iter().all(|it| clock(&it.why)), "{report:?}");
        }
        site.scan(&medium, NOW + ahead + DAY);
        assert_eq!(site.ledger.jobs(), [job], "{ahead}");
    }
}
