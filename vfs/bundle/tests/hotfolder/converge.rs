//! Whatever the medium does, as long as it works in the end: each job is accepted once, each sender learns of it, and the folder is empty.

use std::collections::BTreeSet;

use safelight_bundle::{AnyLetter, Heartbeat, Why, object_id};
use safelight_policies::id::JobId;

use crate::{
    faults::{Dice, Rough},
    parties::{DAY, Party, START, pair},
};

const JOBS: u8 = 8;
/// Seconds between two turns.
const STEP: u64 = 120;

struct Run {
    client: Party,
    site: Party,
    medium: Rough,
    dice: Dice,
    now: u64,
    announced: BTreeSet<JobId>,
}

impl Run {
    fn new(seed: u64, faults: u64) -> Self {
        let (client, site) = pair();
        let medium = Rough::new(seed, faults);
        Self {
            client,
            site,
            medium,
            dice: Dice::new(!seed),
            now: START + 1_000,
            announced: BTreeSet::new(),
        }
    }

    fn announce(&mut self, number: u8) {
        let blobs: Vec<Vec<u8>> = (0..4)
            .map(|blob| vec![number ^ blob; 50 + usize::from(blob)])
            .collect();
        let mut blobs: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
        blobs.push(b"shared by all jobs");
        let to = self.site.signer.key();
        let (job, _) = self.client.announce(number, to, &blobs, self.now);
        self.announced.insert(job);
    }

    fn turn(&mut self, rough: bool) {
        self.now += STEP;
        self.medium.tick();
        for who in 0..2 {
            let party = if who == 0 {
                &mut self.client
            } else {
                &mut self.site
            };
            if rough && self.dice.percent(10) {
                party.restart(self.now);
            }
            party.ledger.broken = rough && self.dice.percent(10);
            let report = party.turn(&self.medium, self.now);
            party.ledger.broken = false;
            // A receipt goes once: a spoilt one is set aside, and the letter that comes again brings another. No job is refused.
            let receipt = |refused: &safelight_bundle::Refused| {
                refused.entry.to_string().ends_with(".receipt")
            };
            assert!(report.refused.iter().all(receipt), "{:?}", report.refused);
        }
    }

    fn is_done(&self) -> bool {
        self.client.outbox.items().next().is_none()
    }

    fn check(&self, seed: u64) {
        let jobs = self.site.ledger.jobs();
        let unique: BTreeSet<JobId> = jobs.iter().copied().collect();
        assert_eq!(
            jobs.len(),
            unique.len(),
            "seed {seed}: a job was accepted twice"
        );
        assert_eq!(unique, self.announced, "seed {seed}: a job is missing");
        for delivery in &self.site.ledger.delivered {
            let AnyLetter::Job(job) = &delivery.opened.letter else {
                continue;
            };
            let (envelope, _) = delivery.envelope.as_ref().unwrap();
            assert_eq!(envelope.outline.job, job.job);
            let entries = delivery.list.as_ref().unwrap().entries();
            assert!(
                entries.iter().all(|(id, _)| self.site.store.has(*id)),
                "seed {seed}"
            );
        }
        let aside = self.medium.aside();
        assert!(
            aside
                .iter()
                .all(|(name, _)| name.to_string().ends_with(".receipt")),
            "seed {seed}: {aside:?}"
        );
    }
}

#[test]
fn each_job_is_accepted_once_whatever_the_medium_does() {
    let mut met = std::collections::BTreeMap::new();
    for seed in 0..60 {
        let mut run = Run::new(seed, 5 + seed % 20);
        for number in 0..JOBS {
            run.announce(number + 1);
            run.turn(true);
        }
        // Less than the time after which what stays wrong is refused.
        for _ in 0..12 {
            run.turn(true);
        }
        for (name, count) in run.medium.counted() {
            *met.entry(name).or_insert(0) += count;
        }
        run.medium.heal();
        let mut turns = 0;
        while !run.is_done() {
            run.turn(false);
            turns += 1;
            assert!(turns < 2_000, "seed {seed}: not done after {turns} turns");
        }
        run.check(seed);
    }
    assert_eq!(met.len(), 11, "{met:?}");
    assert!(
        met.values().all(|count| *count > 5),
        "a fault that hardly happens tests nothing: {met:?}"
    );
}

#[test]
fn a_good_medium_is_empty_in_the_end() {
    let mut run = Run::new(1, 0);
    for number in 1..=JOBS {
        run.announce(number);
    }
    for _ in 0..4 {
        run.turn(false);
    }
    run.check(1);
    assert!(run.is_done());
    assert_eq!(run.medium.holds(), (0, 0));
    assert_eq!(run.client.ledger.items.len(), 0);
    // Receipts are not answered: they end with their reader, and in the sender's books a day later.
    run.now += 2 * DAY;
    run.turn(false);
    assert_eq!(run.site.ledger.items.len(), 0);
}

/// The client sends on; the medium swallows one letter. Everything else arrives, and somebody is told.
#[test]
fn a_gap_is_reported_and_blocks_nothing() {
    let mut run = Run::new(1, 0);
    run.announce(1);
    let swallowed = run.client.outbox.items().next().unwrap().clone();
    run.client.push(&run.medium, run.now);
    let name = safelight_bundle::ReadyName {
        to: swallowed.to,
        from: run.client.signer.key(),
        seq: swallowed.seq,
        kind: swallowed.kind,
    };
    safelight_bundle::Medium::remove_ready(&run.medium, &swallowed.to, &name.entry()).unwrap();
    run.announce(2);
    run.client.push(&run.medium, run.now);
    let report = run.site.scan(&run.medium, run.now);
    assert_eq!((report.accepted, report.alarms.len()), (1, 0));
    let report = run.site.scan(&run.medium, run.now + 3_600);
    let [safelight_bundle::Alarm::Gap { numbers, since, .. }] = &report.alarms[..] else {
        panic!("{:?}", report.alarms)
    };
    assert_eq!((numbers.clone(), *since), (1..=1, run.now));
    // Silence is told as well.
    let report = run.site.scan(&run.medium, run.now + 3 * 3_600);
    assert_eq!(report.alarms.len(), 2, "{:?}", report.alarms);
    // And a heartbeat ends it.
    let to = run.site.signer.key();
    run.now += 3 * 3_600;
    run.client.post(to, run.now, |stamp| Heartbeat {
        stamp,
        last_seen: None,
    });
    run.client.push(&run.medium, run.now);
    let report = run.site.scan(&run.medium, run.now);
    assert_eq!(report.refused.len() + report.waiting.len(), 0);
    // The client offers the first letter again by itself by now, so the gap is closed too.
    assert!(report.alarms.is_empty(), "{:?}", report.alarms);
}

#[test]
fn what_does_not_fit_waits_and_takes_nothing() {
    let mut run = Run::new(1, 0);
    run.announce(1);
    run.announce(2);
    run.client.push(&run.medium, run.now);
    let whole: u64 = run
        .client
        .outbox
        .items()
        .map(|item| item.load.unwrap().bytes)
        .next()
        .unwrap();
    run.site.store.room = Some(whole - 1);
    let report = run.site.scan(&run.medium, run.now);
    assert_eq!(report.accepted, 0);
    let wait = |why: &Why| matches!(why, Why::Room { .. });
    assert!(report.waiting.len() == 2 && report.waiting.iter().all(|waiting| wait(&waiting.why)));
    // Only the two lists were fetched.
    assert_eq!(run.site.store.objects.borrow().len(), 2);
    run.site.store.room = None;
    assert_eq!(run.site.scan(&run.medium, run.now).accepted, 2);
}

/// A ledger that fails: nothing has happened, no receipt is owed, and the next scan does it all.
#[test]
fn what_cannot_be_kept_is_not_accepted() {
    let mut run = Run::new(1, 0);
    run.announce(1);
    run.client.push(&run.medium, run.now);
    run.site.ledger.broken = true;
    let report = run.site.scan(&run.medium, run.now);
    assert!(report.stopped.is_some() && report.receipts.is_empty() && report.accepted == 0);
    assert_eq!(
        run.site.inbox.windows(),
        &safelight_bundle::Windows::default()
    );
    run.site.ledger.broken = false;
    let report = run.site.scan(&run.medium, run.now);
    assert_eq!((report.accepted, report.receipts.len()), (1, 1));
}

#[test]
fn nothing_leaves_that_was_not_kept() {
    let mut run = Run::new(1, 0);
    let (job, envelope, load) = run
        .client
        .job(1, run.site.signer.key(), &[b"blob"], run.now);
    let Party {
        outbox,
        signer,
        ledger,
        ..
    } = &mut run.client;
    ledger.broken = true;
    let to = run.site.signer.key();
    let sign = |context: &str, bytes: &[u8]| signer.sign(context, bytes);
    let announce = |stamp| safelight_bundle::Announcement {
        stamp,
        job,
        envelope,
        load,
    };
    let posted = outbox.post(to, (run.now, run.now + DAY), announce, sign, ledger);
    assert_eq!(
        posted.unwrap_err().to_string(),
        "the state of the outbox could not be kept"
    );
    assert_eq!(outbox.items().count(), 0);
    ledger.broken = false;
    let sign = |context: &str, bytes: &[u8]| signer.sign(context, bytes);
    let posted = outbox
        .post(to, (run.now, run.now + DAY), announce, sign, ledger)
        .unwrap();
    assert_eq!(posted.seq.number, 1, "the number was not used");
}

/// A push that was interrupted goes on where it was.
#[test]
fn what_is_there_is_not_sent_again() {
    let mut run = Run::new(1, 0);
    run.announce(1);
    let first = run.client.push(&run.medium, run.now);
    assert_eq!(
        (first.sent.0, first.skipped, first.offered.len()),
        (9, 0, 1)
    );
    let again = run.client.push(&run.medium, run.now);
    assert_eq!(
        (again.sent.0, again.skipped, again.offered.len()),
        (0, 0, 0),
        "not due"
    );
    let later = run.client.push(&run.medium, run.now + 600);
    assert_eq!(
        (later.sent, later.skipped, later.offered.len()),
        ((0, 0), 9, 1)
    );
    // What two jobs share goes once, and stays while one of them needs it.
    run.announce(2);
    let second = run.client.push(&run.medium, run.now + 600);
    assert_eq!((second.sent.0, second.skipped), (8, 1));
}

#[test]
fn our_own_damaged_store_is_noticed_before_anybody_else_does() {
    let mut run = Run::new(1, 0);
    run.announce(1);
    let blob = safelight_bundle::object_id(b"shared by all jobs");
    run.client
        .store
        .objects
        .borrow_mut()
        .insert(blob, b"shared by all jobz".to_vec());
    let pushed = run.client.push(&run.medium, run.now);
    assert_eq!(
        pushed.stopped.unwrap().to_string(),
        format!("object {blob} cannot be read to be sent")
    );
    assert!(pushed.offered.is_empty());
}

#[test]
fn a_list_that_is_spoilt_in_our_own_store_is_taken_once_more() {
    let mut run = Run::new(1, 0);
    run.announce(1);
    run.announce(2);
    run.client.push(&run.medium, run.now);
    let item = run.client.outbox.items().next().unwrap();
    let list = item.load.unwrap().list;
    let objects = &run.site.store.objects;
    objects.borrow_mut().insert(list, b"spoilt".to_vec());
    let report = run.site.scan(&run.medium, run.now);
    assert!(report.stopped.is_none(), "{report:?}");
    assert_eq!(report.accepted, 2, "{report:?}");
}

#[test]
fn a_blob_of_another_length_in_our_own_store_is_taken_once_more() {
    for spoil in [
        |bytes: &mut Vec<u8>| bytes.truncate(3),
        |bytes: &mut Vec<u8>| bytes.push(0),
        |bytes: &mut Vec<u8>| bytes.clear(),
    ] {
        let mut run = Run::new(1, 0);
        let shared = object_id(b"shared by all jobs");
        run.site.store.add(b"shared by all jobs");
        spoil(
            run.site
                .store
                .objects
                .borrow_mut()
                .get_mut(&shared)
                .unwrap(),
        );
        run.announce(1);
        run.turn(false);
        run.turn(false);
        assert_eq!(run.site.ledger.jobs().len(), 1);
        let healed = run.site.store.objects.borrow()[&shared].clone();
        assert_eq!(healed, b"shared by all jobs");
    }
}

#[test]
fn only_the_reader_of_a_letter_can_end_it() {
    use safelight_bundle::{Collected, Receipt};
    let mut run = Run::new(1, 0);
    run.announce(1);
    run.client.push(&run.medium, run.now);
    let item = run.client.outbox.items().next().unwrap().clone();
    let stamp = crate::letters::stamp();
    let receipt = Receipt {
        stamp,
        of: item.of(),
        verdict: crate::parties::accepted(),
    };
    let Party {
        outbox,
        store,
        ledger,
        ..
    } = &mut run.client;
    let stranger = crate::parties::Signer::new(9).key();
    let mut collect = |from, receipt: &Receipt| {
        outbox
            .collect(&from, receipt, &run.medium, store, ledger)
            .unwrap()
    };
    assert_eq!(collect(stranger, &receipt), Collected::Unknown);
    assert_eq!(
        collect(item.to, &receipt),
        Collected::Accepted { of: item.of() }
    );
    assert_eq!(collect(item.to, &receipt), Collected::Unknown);
    assert_eq!(run.medium.holds(), (0, 0));
}

#[test]
fn a_letter_that_ends_without_a_receipt_is_told_and_removed() {
    let mut run = Run::new(1, 0);
    run.announce(1);
    run.client.push(&run.medium, run.now);
    let pushed = run.client.push(&run.medium, run.now + 7 * DAY);
    assert_eq!(pushed.lapsed.len(), 1);
    assert_eq!(run.medium.holds(), (0, 0));
    assert_eq!(run.client.ledger.items.len(), 0);
}
