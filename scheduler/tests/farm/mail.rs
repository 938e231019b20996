//! Letters, prekeys and errands: kept once, also when they are kept again.

use safelight_bundle::{
    Epoch, Item, Kind, Numbers, Seq, Verdict, Windows,
    window::{Mark, Row},
};
use safelight_policies::id::{ObjectId, VerifyKey};
use safelight_scheduler::{Errand, JobState, Received, Terms};

use crate::site::{START, Site, job, outline};

const THEM: VerifyKey = VerifyKey([7; 32]);

fn seq(number: u64) -> Seq {
    let epoch = Epoch::new(START, [1, 2, 3]);
    Seq { epoch, number }
}

fn row(number: u64, verdict: Option<Verdict>) -> Row {
    let mark = Mark {
        of: ObjectId([9; 32]),
        verdict,
        at: START,
    };
    let from = THEM;
    let seq = seq(number);
    Row { from, seq, mark }
}

#[tokio::test]
async fn a_letter_and_the_job_that_it_brings_are_kept_together() {
    let site = Site::new().await;
    let (new, terms) = (outline(1, &[(2, &[])]), Terms::default());
    let received = Received {
        outline: &new,
        envelope: ObjectId([1; 32]),
        terms: &terms,
    };
    let ledger = &site.ledger;
    ledger
        .keep_letter(&row(1, None), None, START)
        .await
        .unwrap();
    let accepted = row(1, Some(Verdict::Accepted));
    ledger
        .keep_letter(&accepted, Some(received), START)
        .await
        .unwrap();
    assert_eq!(site.state(1).await, JobState::Waiting);
    // The same job once more cannot be received, and the letter that brings it is not kept either.
    let again = row(2, Some(Verdict::Accepted));
    assert!(
        ledger
            .keep_letter(&again, Some(received), START)
            .await
            .is_err()
    );
    let seen = ledger.letters_seen(&THEM).await.unwrap();
    assert_eq!(seen, [accepted]);
    assert!(
        ledger
            .letters_seen(&VerifyKey([8; 32]))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        Windows::restore(seen).of(&THEM).unwrap().newest(),
        Some(seq(1))
    );
}

#[tokio::test]
async fn letters_that_go_are_kept_with_their_numbers_until_they_are_done() {
    let site = Site::new().await;
    let item = |number| Item {
        to: THEM,
        seq: seq(number),
        kind: Kind::Cancel,
        bytes: vec![number as u8; 3],
        load: None,
        expires: START + 9,
        offers: 0,
        offered: 0,
        held: None,
    };
    let numbers = |number| Numbers {
        to: THEM,
        last: seq(number),
    };
    let ledger = &site.ledger;
    assert_eq!(ledger.letters_out(&THEM).await.unwrap(), (None, vec![]));
    for number in [1, 2] {
        ledger
            .store_letter(&numbers(number), &item(number))
            .await
            .unwrap();
    }
    let offered = Item {
        offers: 1,
        ..item(2)
    };
    ledger.store_letter(&numbers(2), &offered).await.unwrap();
    ledger.remove_letter(item(1).of()).await.unwrap();
    ledger.remove_letter(item(1).of()).await.unwrap();
    let out = ledger.letters_out(&THEM).await.unwrap();
    assert_eq!(out, (Some(numbers(2)), vec![offered]));
}

#[tokio::test]
async fn a_letter_that_takes_anothers_place_takes_over_what_is_waited_for() {
    let site = Site::new().await;
    let (new, terms) = (outline(1, &[(1, &[])]), Terms::default());
    let received = Received {
        outline: &new,
        envelope: ObjectId([1; 32]),
        terms: &terms,
    };
    let ledger = &site.ledger;
    let came = row(1, Some(Verdict::Accepted));
    ledger
        .keep_letter(&came, Some(received), START)
        .await
        .unwrap();
    let item = |number: u64| Item {
        to: THEM,
        seq: seq(number),
        kind: Kind::Result,
        bytes: vec![number as u8; 3],
        load: None,
        expires: START + 9,
        offers: 0,
        offered: 0,
        held: None,
    };
    let last = |number| Numbers {
        to: THEM,
        last: seq(number),
    };
    let (old, next) = (item(1), item(2));
    ledger.store_letter(&last(1), &old).await.unwrap();
    let subject = old.of().to_string();
    ledger
        .add_errand("letter", &subject, job(1), START)
        .await
        .unwrap();
    let held = Item {
        held: Some(safelight_bundle::Held {
            code: None,
            at: START,
            again: true,
        }),
        ..old.clone()
    };
    assert!(ledger.change_letter(&held).await.unwrap());
    assert_eq!(ledger.letters_out(&THEM).await.unwrap().1, [held]);
    ledger
        .replace_letter(old.of(), &last(2), &next)
        .await
        .unwrap();
    let out = ledger.letters_out(&THEM).await.unwrap();
    assert_eq!(out, (Some(last(2)), vec![next.clone()]));
    assert!(!ledger.change_letter(&old).await.unwrap(), "it is gone");
    let errands = ledger.errands("letter", None, 9).await.unwrap();
    let subjects: Vec<_> = errands.into_iter().map(|it| it.subject).collect();
    assert_eq!(subjects, [next.of().to_string()]);
    // A new run of numbers begins, and the letters on their way stay.
    ledger.store_numbers(&last(0)).await.unwrap();
    let out = ledger.letters_out(&THEM).await.unwrap();
    assert_eq!(out, (Some(last(0)), vec![next]));
}

#[tokio::test]
async fn prekeys_are_forgotten_unless_a_job_has_them() {
    let site = Site::new().await;
    let ledger = &site.ledger;
    let two = [([1; 16], vec![1]), ([2; 16], vec![2])];
    ledger.add_prekeys(&THEM, &two).await.unwrap();
    ledger.take_prekey(&THEM, job(1)).await.unwrap();
    ledger.forget_prekeys(&THEM).await.unwrap();
    assert_eq!(ledger.prekeys_left(&THEM).await.unwrap(), 0);
    let kept = ledger.take_prekey(&THEM, job(1)).await.unwrap();
    assert_eq!(kept, Some(vec![1]));
}

#[tokio::test]
async fn a_prekey_is_one_jobs_for_good() {
    let site = Site::new().await;
    let ledger = &site.ledger;
    let two = [([1; 16], vec![1]), ([2; 16], vec![2])];
    ledger.add_prekeys(&THEM, &two).await.unwrap();
    ledger.add_prekeys(&THEM, &two).await.unwrap();
    assert_eq!(ledger.prekeys_left(&THEM).await.unwrap(), 2);
    for _again in 0..2 {
        assert_eq!(
            ledger.take_prekey(&THEM, job(1)).await.unwrap(),
            Some(vec![1])
        );
    }
    assert_eq!(
        ledger.take_prekey(&THEM, job(2)).await.unwrap(),
        Some(vec![2])
    );
    assert_eq!(ledger.take_prekey(&THEM, job(3)).await.unwrap(), None);
    ledger.add_prekeys(&THEM, &two).await.unwrap();
    assert_eq!(ledger.prekeys_left(&THEM).await.unwrap(), 0);
    assert_eq!(
        ledger
            .take_prekey(&VerifyKey([8; 32]), job(4))
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn an_errand_is_run_until_it_is_noted_and_never_again() {
    let site = Site::new().await;
    site.receive(&outline(1, &[(2, &[])]), START).await;
    let ledger = &site.ledger;
    for (subject, at) in [("b", START), ("a", START + 1), ("b", START + 2)] {
        ledger
            .add_errand("result", subject, job(1), at)
            .await
            .unwrap();
    }
    let open = |subjects: &[&str]| -> Vec<Errand> {
        let errand = |subject: &&str| Errand {
            at: if *subject == "b" { START } else { START + 1 },
            subject: (*subject).to_owned(),
            job: job(1),
        };
        subjects.iter().map(errand).collect()
    };
    assert_eq!(
        ledger.errands("result", None, 9).await.unwrap(),
        open(&["b", "a"])
    );
    assert_eq!(
        ledger.errands("result", None, 1).await.unwrap(),
        open(&["b"])
    );
    assert_eq!(ledger.errands("letter", None, 9).await.unwrap(), []);
    for _again in 0..2 {
        let done = ledger
            .finish_errand("result", "b", START + 3)
            .await
            .unwrap();
        assert_eq!(done, Some(job(1)));
    }
    assert_eq!(
        ledger.finish_errand("letter", "b", START).await.unwrap(),
        None
    );
    ledger
        .add_errand("result", "b", job(1), START + 4)
        .await
        .unwrap();
    assert_eq!(
        ledger.errands("result", None, 9).await.unwrap(),
        open(&["a"])
    );
    assert_eq!(ledger.errands_of(job(1), "result").await.unwrap(), (1, 2));
    assert_eq!(ledger.errands_of(job(1), "letter").await.unwrap(), (0, 0));
}

#[tokio::test]
async fn errands_that_cannot_be_done_hide_none_behind_them() {
    let site = Site::new().await;
    site.receive(&outline(1, &[(1, &[])]), START).await;
    let ledger = &site.ledger;
    for number in 0..10u64 {
        let subject = format!("s{number}");
        let add = ledger.add_errand("end", &subject, job(1), START + number / 3);
        add.await.unwrap();
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = ledger.errands("end", after.as_ref(), 4).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        seen.extend(page.into_iter().map(|errand| errand.subject));
    }
    let all: Vec<String> = (0..10).map(|number| format!("s{number}")).collect();
    assert_eq!(seen, all);
}
