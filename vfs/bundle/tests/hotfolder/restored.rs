//! A sender that was restored from a backup, and letters that are kept back.

use safelight_bundle::{
    AnyLetter, Code, Collected, Heartbeat, Kind, PrekeyBatch, Receipt, Seq, Verdict, Why,
};
use safelight_policies::id::JobId;

use crate::{
    faults::Rough,
    parties::{DAY, Ledger, Party, START, pair, prekey},
};

const NOW: u64 = START + 1_000;

/// Goes back in time: what was written after the backup is gone.
fn restore(party: &mut Party, backup: &Ledger, now: u64) {
    party.ledger = backup.clone();
    party.inbox = safelight_bundle::Inbox::new(
        party.inbox.trust_mut().clone(),
        safelight_bundle::Windows::restore(backup.rows.iter().copied()),
    );
    party.restart(now);
}

fn turns(one: &mut Party, other: &mut Party, medium: &Rough, now: &mut u64) {
    for _ in 0..8 {
        *now += 30;
        one.turn(medium, *now);
        other.turn(medium, *now);
    }
}

/// What the other side says it has seen.
fn newest_heard(party: &Party) -> Option<Seq> {
    let letters = party.ledger.delivered.iter();
    let seen = letters.filter_map(|delivery| match &delivery.opened.letter {
        AnyLetter::Heartbeat(letter) => letter.last_seen,
        _ => None,
    });
    seen.max()
}

#[test]
fn what_a_restored_sender_announces_under_used_numbers_is_accepted_under_new_ones() {
    let (mut client, mut site) = pair();
    let (to, medium, mut now) = (site.signer.key(), Rough::new(1, 0), NOW);
    let mut jobs: Vec<JobId> = vec![client.announce(1, to, &[b"one"], now).0];
    turns(&mut client, &mut site, &medium, &mut now);
    let backup = client.ledger.clone();
    for number in 2..5 {
        jobs.push(client.announce(number, to, &[&[number]], now).0);
        turns(&mut client, &mut site, &medium, &mut now);
    }
    let before = client.outbox.last(&to);
    restore(&mut client, &backup, now);
    assert!(client.outbox.last(&to) < before, "the backup is older");
    // Three letters under numbers that are used, and one beyond.
    for number in 5..11 {
        jobs.push(client.announce(number, to, &[&[number]], now).0);
    }
    turns(&mut client, &mut site, &medium, &mut now);
    turns(&mut client, &mut site, &medium, &mut now);
    assert_eq!(site.ledger.jobs().len(), jobs.len(), "each once");
    assert!(jobs.iter().all(|job| site.ledger.jobs().contains(job)));
    assert_eq!(
        client
            .outbox
            .items()
            .filter(|it| it.kind.is_answered())
            .count(),
        0
    );
    assert!(client.outbox.last(&to).epoch > before.epoch, "a new run");
    // What was refused by its number lies aside with that reason, and nothing else does.
    let aside = medium.aside();
    assert!(!aside.is_empty());
    assert!(
        aside
            .iter()
            .all(|(_, reason)| reason.code == Code::Replayed),
        "{aside:?}"
    );
}

#[test]
fn what_comes_under_the_name_of_a_letter_that_was_collected_is_looked_at_at_once() {
    let (mut client, mut site) = pair();
    let (to, medium, mut now) = (site.signer.key(), Rough::new(1, 0), NOW);
    let backup = client.ledger.clone();
    client.announce(1, to, &[b"one"], now);
    turns(&mut client, &mut site, &medium, &mut now);
    assert_eq!(site.ledger.jobs().len(), 1);
    restore(&mut client, &backup, now);
    let (job, _) = client.announce(2, to, &[b"two"], now);
    // Refused by its number, told, and sent anew: in less time than a settled letter is left alone.
    turns(&mut client, &mut site, &medium, &mut now);
    assert!(site.ledger.jobs().contains(&job));
}

#[test]
fn a_letter_that_waits_for_another_waits_alone() {
    let (mut client, mut site) = pair();
    let (to, medium, mut now) = (site.signer.key(), Rough::new(1, 0), NOW);
    let (early, posted) = client.announce(1, to, &[b"one"], now);
    let (job, _) = client.announce(2, to, &[b"two"], now);
    site.ledger.early.insert(posted.of);
    client.turn(&medium, now);
    let report = site.turn(&medium, now);
    assert_eq!(site.ledger.jobs(), [job]);
    assert!(matches!(&report.waiting[..], [it] if matches!(it.why, Why::Another)));
    site.ledger.early.clear();
    turns(&mut client, &mut site, &medium, &mut now);
    assert_eq!(site.ledger.jobs(), [job, early]);
}

#[test]
fn a_sender_that_lost_count_is_told_so_by_a_sign_of_life() {
    let (mut client, mut site) = pair();
    let (to, medium, mut now) = (site.signer.key(), Rough::new(1, 0), NOW);
    let backup = client.ledger.clone();
    for number in 1..4 {
        client.announce(number, to, &[&[number]], now);
        turns(&mut client, &mut site, &medium, &mut now);
    }
    let last_seen = site.inbox.newest(&client.signer.key());
    site.post(client.signer.key(), now, |stamp| Heartbeat {
        stamp,
        last_seen,
    });
    site.push(&medium, now);
    client.turn(&medium, now);
    // Before the restore the same words are no reason for anything.
    assert_eq!(newest_heard(&client), last_seen);
    let seen = last_seen.unwrap();
    assert!(!client.outbox.lost_count(&to, seen, now));
    restore(&mut client, &backup, START);
    // A run that is said to begin tomorrow is no reason either: the next would be later still.
    let ahead = Seq {
        epoch: safelight_bundle::Epoch::new(now + DAY, [0; 3]),
        number: 1,
    };
    assert!(!client.outbox.lost_count(&to, ahead, now));
    let later = Seq {
        number: seen.number + 9,
        ..client.outbox.last(&to)
    };
    assert!(client.outbox.lost_count(&to, later, now));
    let Party { outbox, ledger, .. } = &mut client;
    let epoch = outbox.begin(to, Some(later), (later.epoch.seconds(), [0; 3]), ledger);
    assert!(
        epoch.unwrap() > later.epoch,
        "though the clock stands still"
    );
    assert!(!client.outbox.lost_count(&to, later, now));
    client.restart(now);
    assert!(!client.outbox.lost_count(&to, later, now), "it is kept");
    let posted = client.announce(9, to, &[b"on"], now).1;
    assert_eq!(posted.seq.number, 1);
}

/// Twice restored, or with a clock that was set back: the new run is older than the one that the other side knows.
#[test]
fn a_sender_with_nothing_to_be_answered_learns_that_its_run_is_over() {
    let (mut client, mut site) = pair();
    let (to, from) = (site.signer.key(), client.signer.key());
    let (medium, mut now) = (Rough::new(1, 0), NOW);
    let begin = |client: &mut Party, seen, now| {
        let Party { outbox, ledger, .. } = client;
        outbox.begin(to, seen, (now, [7; 3]), ledger).unwrap()
    };
    client.announce(1, to, &[b"one"], now);
    turns(&mut client, &mut site, &medium, &mut now);
    let backup = client.ledger.clone();
    begin(&mut client, None, now + DAY);
    client.announce(2, to, &[b"two"], now + DAY);
    now += DAY;
    turns(&mut client, &mut site, &medium, &mut now);
    assert_eq!(site.ledger.jobs().len(), 2);
    let known = site.inbox.newest(&from).unwrap();
    restore(&mut client, &backup, now);
    let stale = begin(&mut client, None, now - DAY / 2);
    assert!(stale < known.epoch);
    let alive = |party: &mut Party, to, last_seen, now| {
        party.post(to, now, |stamp| Heartbeat { stamp, last_seen });
        party.push(&medium, now);
    };
    alive(&mut client, to, None, now);
    let report = site.turn(&medium, now);
    // It owes no receipt, so the site is to say by itself what it has seen.
    assert!(report.untold && report.receipts.is_empty(), "{report:?}");
    assert!(!site.turn(&medium, now).untold, "once for each letter");
    alive(&mut site, from, Some(known), now);
    client.turn(&medium, now);
    assert_eq!(newest_heard(&client), Some(known));
    assert!(client.outbox.lost_count(&to, known, now));
    let next = begin(&mut client, Some(known), now - DAY / 2);
    assert!(next > known.epoch);
    alive(&mut client, to, None, now);
    assert!(!site.turn(&medium, now).untold);
    assert_eq!(site.inbox.newest(&from).unwrap().epoch, next);
}

#[test]
fn what_no_other_letter_tells_is_kept_back_and_goes_again_when_somebody_says_so() {
    let (mut client, mut site) = pair();
    let (to, medium, mut now) = (client.signer.key(), Rough::new(1, 0), NOW);
    let prekeys = vec![prekey(&site.signer, 1)];
    let batch = |stamp| PrekeyBatch { stamp, prekeys };
    let posted = site.post(to, now, batch);
    site.push(&medium, now);
    let verdict = Verdict::Refused {
        code: Code::Disagrees,
    };
    let stamp = crate::letters::stamp();
    let receipt = Receipt {
        stamp,
        of: posted.of,
        verdict,
    };
    let Party {
        outbox,
        store,
        ledger,
        ..
    } = &mut site;
    let collected = outbox.collect(&to, &receipt, &medium, store, ledger);
    let (of, code) = (posted.of, Code::Disagrees);
    assert_eq!(collected.unwrap(), Collected::Held { of, code });
    assert_eq!(medium.holds(), (0, 0), "it is off the medium");
    // Nor does it go by itself, or end.
    site.restart(now);
    assert_eq!(site.push(&medium, now + 60 * DAY).offered, []);
    let held: Vec<_> = site
        .outbox
        .held()
        .map(|(item, held)| (item.kind, held.code))
        .collect();
    assert_eq!(held, [(Kind::Prekeys, Some(code))]);
    let Party {
        outbox,
        ledger,
        signer,
        ..
    } = &mut site;
    let sign = |context: &str, bytes: &[u8]| signer.sign(context, bytes);
    let again = outbox.renumber(of, now + 60 * DAY, sign, &medium, ledger);
    assert_eq!(again.unwrap().unwrap().seq.number, posted.seq.number + 1);
    now += 60 * DAY;
    turns(&mut site, &mut client, &medium, &mut now);
    let came = client.ledger.delivered.iter();
    let batches = came.filter(|it| matches!(it.opened.letter, AnyLetter::Prekeys(_)));
    assert_eq!(batches.count(), 1);
    assert_eq!(site.outbox.held().count(), 0);
}

#[test]
fn a_letter_that_nobody_answers_is_kept_back_too_unless_it_may_be_handed_in_again() {
    let (client, mut site) = pair();
    let (to, medium) = (client.signer.key(), Rough::new(1, 0));
    let prekeys = vec![prekey(&site.signer, 1)];
    let posted = site.post(to, NOW, |stamp| PrekeyBatch { stamp, prekeys });
    site.push(&medium, NOW);
    let pushed = site.push(&medium, NOW + 7 * DAY);
    assert_eq!((pushed.held, pushed.lapsed), (vec![posted.of], vec![]));
    assert_eq!(medium.holds(), (0, 0));
    let held: Vec<_> = site.outbox.held().map(|(_, held)| held.code).collect();
    assert_eq!(held, [None]);
}
