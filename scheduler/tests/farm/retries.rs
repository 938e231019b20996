//! What fails is tried again by its cause, and given up in the end.

use safelight_policies::{cause::Cause, id::ObjectId};
use safelight_scheduler::{Event, JobState, MoveRefusal, Moved, Rules, Settlement, Terms};

use crate::site::{START, Site, done, job, outline, place, slot};

async fn fail(site: &Site, cause: &Cause) {
    let given = site.given(place("n1", 0), START).await;
    assert_eq!(site.end(&given, cause, START).await, Settlement::Accepted);
    site.recount().await;
}

#[tokio::test]
async fn a_task_that_fails_by_itself_is_tried_as_often_as_agreed() {
    let site = Site::new().await;
    site.node("n1", &[slot(4)], START).await;
    let terms = Terms {
        task_retries: Some(2),
        ..Terms::default()
    };
    let one = outline(1, &[(1, &[])]);
    site.ledger
        .receive(&one, ObjectId([1; 32]), &terms, START)
        .await
        .unwrap();
    for expected in [JobState::Waiting, JobState::Waiting, JobState::Failed] {
        fail(&site, &Cause::Exited { code: 3 }).await;
        assert_eq!(site.state(1).await, expected);
    }
    assert_eq!(site.takes(place("n1", 0), START).await, "-");
    let last = site.ledger.story(job(1)).await.unwrap().pop().unwrap();
    assert_eq!(
        (last.to, last.event),
        (JobState::Failed, Event::Failed { tasks: 1 })
    );
    // Someone mended it: it may try as often again, and its end is told again.
    assert_eq!(
        site.ledger.retry(job(1), START).await.unwrap(),
        done(JobState::Waiting)
    );
    site.recount().await;
    let refused = MoveRefusal::Unfit {
        state: JobState::Waiting,
    };
    assert_eq!(
        site.ledger.retry(job(1), START).await.unwrap(),
        Moved::Refused { reason: refused }
    );
    for expected in [JobState::Waiting, JobState::Waiting, JobState::Failed] {
        fail(&site, &Cause::OutOfMemory).await;
        assert_eq!(site.state(1).await, expected);
    }
    let notices = site.ledger.notices(9).await.unwrap();
    assert_eq!(notices.len(), 2);
    let attempts = site.ledger.attempts(job(1)).await.unwrap();
    let numbers: Vec<u32> = attempts.iter().map(|attempt| attempt.attempt).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn what_is_denied_or_not_authentic_is_never_tried_again() {
    for cause in [Cause::NotAuthentic, Cause::NoKey] {
        let site = Site::new().await;
        site.node("n1", &[slot(4)], START).await;
        site.receive(&outline(1, &[(1, &[])]), START).await;
        fail(&site, &cause).await;
        assert_eq!(site.state(1).await, JobState::Failed, "{cause}");
        assert_eq!(site.takes(place("n1", 0), START).await, "-");
    }
}

#[tokio::test]
async fn what_a_node_lost_is_tried_elsewhere_first() {
    let site = Site::with(Rules {
        node_faults: 0,
        ..Rules::default()
    })
    .await;
    site.node("n1", &[slot(4)], START).await;
    site.node("n22", &[slot(4)], START).await;
    site.receive(&outline(1, &[(1, &[])]), START).await;
    fail(&site, &Cause::Poisoned).await;
    assert_eq!(site.takes(place("n1", 0), START).await, "-");
    let why = site.ledger.why(job(1), START).await.unwrap();
    assert_eq!(why.steps[0].kept_from, [crate::site::node("n1")]);
    let elsewhere = site.given(place("n22", 0), START).await;
    assert_eq!(elsewhere.leased.attempt, 2);
    assert_eq!(
        site.end(&elsewhere, &Cause::ViewLost, START).await,
        Settlement::Accepted
    );
    // The one that lost it last is the one it is kept from, for a while.
    assert_eq!(site.takes(place("n22", 0), START).await, "-");
    let later = START + site.ledger.rules().elsewhere;
    assert_eq!(site.beat("n22", &[], later).await, [vec![], vec![]]);
    assert_eq!(site.takes(place("n22", 0), later).await, "1:0.0");
    site.recount().await;
}

#[tokio::test]
async fn nothing_is_kept_from_the_only_node() {
    let site = Site::new().await;
    site.node("n1", &[slot(4)], START).await;
    site.receive(&outline(1, &[(1, &[])]), START).await;
    fail(&site, &Cause::Poisoned).await;
    let why = site.ledger.why(job(1), START).await.unwrap();
    assert_eq!(why.steps[0].kept_from, []);
    assert_eq!(site.given(place("n1", 0), START).await.leased.attempt, 2);
    site.recount().await;
}

#[tokio::test]
async fn a_task_that_brings_nodes_down_is_given_up() {
    let site = Site::with(Rules {
        losses_max: 3,
        elsewhere: 0,
        ..Rules::default()
    })
    .await;
    site.receive(&outline(1, &[(1, &[])]), START).await;
    for round in 0..3 {
        assert_ne!(site.state(1).await, JobState::Failed, "{round}");
        site.node("n1", &[slot(4)], START).await;
        let _given = site.given(place("n1", 0), START).await;
    }
    site.node("n1", &[slot(4)], START).await;
    assert_eq!(site.state(1).await, JobState::Failed);
    site.recount().await;
}

#[tokio::test]
async fn being_asked_to_stop_costs_nothing() {
    let site = Site::new().await;
    site.node("n1", &[slot(4)], START).await;
    site.receive(&outline(1, &[(1, &[])]), START).await;
    for _ in 0..9 {
        fail(&site, &Cause::Canceled).await;
    }
    let given = site.given(place("n1", 0), START).await;
    assert_eq!(site.commit(&given, START).await, Settlement::Accepted);
    assert_eq!(site.state(1).await, JobState::Succeeded);
}

#[tokio::test]
async fn a_job_goes_on_beside_what_was_given_up_until_it_is_too_much() {
    let site = Site::with(Rules {
        task_retries: 0,
        dead_max: 2,
        ..Rules::default()
    })
    .await;
    site.node("n1", &[slot(4), slot(4)], START).await;
    site.receive(&outline(1, &[(9, &[]), (1, &[0])]), START)
        .await;
    let other = site.given(place("n1", 1), START).await;
    for _ in 0..2 {
        fail(&site, &Cause::NoOutput).await;
    }
    assert_eq!(site.state(1).await, JobState::Running);
    fail(&site, &Cause::NoOutput).await;
    assert_eq!(site.takes(place("n1", 0), START).await, "-");
    // What runs may end: its result counts, and then the job is over.
    assert_eq!(site.state(1).await, JobState::Running);
    assert_eq!(site.commit(&other, START).await, Settlement::Accepted);
    assert_eq!(site.state(1).await, JobState::Failed);
    site.recount().await;
    // Taken up again, it fails no result that it has.
    assert_eq!(
        site.ledger.retry(job(1), START).await.unwrap(),
        done(JobState::Waiting)
    );
    for _ in 0..8 {
        let given = site.given(place("n1", 0), START).await;
        assert_ne!(given.task, other.task);
        assert_eq!(site.commit(&given, START).await, Settlement::Accepted);
    }
    assert_eq!(site.takes(place("n1", 0), START).await, "1:1.0");
    site.recount().await;
}

/// A site with two nodes of one slot each, and a job of six tasks with a result from `n22`.
async fn two_nodes(rules: Rules) -> Site {
    let site = Site::with(rules).await;
    site.node("n1", &[slot(4)], START).await;
    site.node("n22", &[slot(4)], START).await;
    site.receive(&outline(1, &[(6, &[])]), START).await;
    let good = site.given(place("n22", 0), START).await;
    assert_eq!(site.commit(&good, START).await, Settlement::Accepted);
    site
}

/// What `why` says of the slot of `n1`.
async fn said(site: &Site) -> String {
    let why = site.ledger.why(job(1), START).await.unwrap();
    why.steps[0].slots[0].to_string()
}

const KEPT: &str = "n1/0: kept from this node: its sessions failed here 3 times, and others work";

#[tokio::test]
async fn a_job_is_kept_from_a_node_on_which_only_it_fails() {
    for (job_faults, kept) in [(3, true), (0, false)] {
        let site = two_nodes(Rules {
            job_faults,
            ..Rules::default()
        })
        .await;
        for _ in 0..2 {
            fail(&site, &Cause::Exited { code: 127 }).await;
        }
        assert_eq!(said(&site).await, "n1/0: fits");
        fail(&site, &Cause::Exited { code: 127 }).await;
        if !kept {
            assert_eq!(said(&site).await, "n1/0: fits");
            assert_eq!(site.takes(place("n1", 0), START).await, "1:0.1");
            continue;
        }
        assert_eq!(said(&site).await, KEPT);
        // Another job is not; and what failed there is done elsewhere, before it was given up.
        site.receive(&outline(2, &[(1, &[])]), START).await;
        assert_eq!(site.takes(place("n1", 0), START).await, "2:0.0");
        let elsewhere = site.given(place("n22", 0), START).await;
        assert_eq!((elsewhere.task.task, elsewhere.leased.attempt), (1, 4));
        assert_eq!(site.commit(&elsewhere, START).await, Settlement::Accepted);
        site.recount().await;
    }
}

#[tokio::test]
async fn a_job_is_not_kept_from_the_only_node_that_could_take_it() {
    let site = two_nodes(Rules::default()).await;
    for _ in 0..3 {
        fail(&site, &Cause::Exited { code: 127 }).await;
    }
    assert_eq!(site.takes(place("n1", 0), START).await, "-");
    // A busy node is one to wait for; one that is drained is not.
    let busy = site.given(place("n22", 0), START).await;
    assert_eq!(said(&site).await, KEPT);
    assert_eq!(
        site.end(&busy, &Cause::Canceled, START).await,
        Settlement::Accepted
    );
    let other = crate::site::node("n22");
    site.ledger.drain_node(&other).await.unwrap();
    assert_eq!(said(&site).await, "n1/0: fits");
    let given = site.given(place("n1", 0), START).await;
    // A result there clears it.
    assert_eq!(site.commit(&given, START).await, Settlement::Accepted);
    site.ledger.resume_node(&other).await.unwrap();
    assert_eq!(said(&site).await, "n1/0: fits");
}

#[tokio::test]
async fn a_task_that_fails_on_two_nodes_is_held_against_neither() {
    let site = two_nodes(Rules::default()).await;
    for _ in 0..3 {
        fail(&site, &Cause::Exited { code: 3 }).await;
    }
    assert_eq!(said(&site).await, KEPT);
    let given = site.given(place("n22", 0), START).await;
    let cause = Cause::Exited { code: 3 };
    assert_eq!(site.end(&given, &cause, START).await, Settlement::Accepted);
    assert_eq!(said(&site).await, "n1/0: fits");
    assert_eq!(site.takes(place("n1", 0), START).await, "1:0.2");
}

#[tokio::test]
async fn where_nothing_works_no_node_is_the_reason_and_a_retry_begins_anew() {
    let site = Site::with(Rules {
        task_retries: 9,
        ..Rules::default()
    })
    .await;
    site.node("n1", &[slot(4)], START).await;
    site.node("n22", &[slot(4)], START).await;
    site.receive(&outline(1, &[(2, &[])]), START).await;
    let waits = site.given(place("n22", 0), START).await;
    for _ in 0..9 {
        fail(&site, &Cause::Exited { code: 127 }).await;
    }
    assert_eq!(said(&site).await, "n1/0: fits");
    fail(&site, &Cause::Exited { code: 127 }).await;
    // The result that shows that it is the node comes late: the job is over, and forgets.
    assert_eq!(site.commit(&waits, START).await, Settlement::Accepted);
    assert_eq!(site.state(1).await, JobState::Failed);
    assert_eq!(
        site.ledger.retry(job(1), START).await.unwrap(),
        done(JobState::Waiting)
    );
    assert_eq!(site.takes(place("n1", 0), START).await, "1:0.1");
    site.recount().await;
}
