//! Sessions of several tasks: how many they are given, that they count together, and what becomes of them if they do not.

use safelight_policies::{
    cause::Cause,
    outline::{Batch, Outline, Wishes},
};
use safelight_scheduler::{JobState, Settlement};

use crate::site::{START, Site, done, job, outline, place, slot};

fn sitting(number: u8, tasks: u64, size: u32) -> Outline {
    let mut outline = outline(number, &[(tasks, &[])]);
    outline.steps[0].batch = Some(Batch { size, target: 60 });
    outline
}

#[tokio::test]
async fn a_session_has_as_many_tasks_as_fit_its_time() {
    let site = Site::new().await;
    site.node("n1", &[slot(4), slot(4)], START).await;
    site.receive(&sitting(1, 100, 2), START).await;
    let first = site.given(place("n1", 0), START).await;
    assert_eq!((first.task.task, first.tasks), (0, 2));
    site.recount().await;
    // Two tasks took forty seconds: three fit a minute.
    assert_eq!(site.commit(&first, START + 40).await, Settlement::Accepted);
    site.recount().await;
    let second = site.given(place("n1", 0), START + 40).await;
    assert_eq!((second.task.task, second.tasks), (2, 3));
    let third = site.given(place("n1", 1), START + 40).await;
    assert_eq!((third.task.task, third.tasks), (5, 3));
    site.recount().await;
    let attempts = site.ledger.attempts(job(1)).await.unwrap();
    let tasks: Vec<u32> = attempts.iter().map(|attempt| attempt.tasks).collect();
    assert_eq!(tasks, [2, 3, 3]);
}

#[tokio::test]
async fn tasks_that_failed_together_are_tried_alone_and_lose_no_retry() {
    let site = Site::new().await;
    site.node("n1", &[slot(4)], START).await;
    let mut outline = sitting(1, 3, 3);
    outline.retries = Some(0);
    site.receive(&outline, START).await;
    let together = site.given(place("n1", 0), START).await;
    assert_eq!(together.tasks, 3);
    let failed = Cause::Exited { code: 3 };
    assert_eq!(
        site.end(&together, &failed, START).await,
        Settlement::Accepted
    );
    site.recount().await;
    // Too late: what it brings counts no more.
    assert!(matches!(
        site.commit(&together, START).await,
        Settlement::Refused { .. }
    ));
    for task in 0..3 {
        let alone = site.given(place("n1", 0), START).await;
        assert_eq!((alone.task.task, alone.tasks), (task, 1));
        if task == 1 {
            // The one that it was. It had no retry, and now it is given up.
            assert_eq!(site.end(&alone, &failed, START).await, Settlement::Accepted);
        } else {
            assert_eq!(site.commit(&alone, START).await, Settlement::Accepted);
        }
        site.recount().await;
    }
    assert_eq!(site.takes(place("n1", 0), START).await, "-");
    assert_eq!(site.state(1).await, JobState::Failed);
    let again = site.ledger.retry(job(1), START).await.unwrap();
    assert_eq!(again, done(JobState::Waiting));
    site.recount().await;
    let last = site.given(place("n1", 0), START).await;
    assert_eq!((last.task.task, last.tasks), (1, 1));
    assert_eq!(site.commit(&last, START).await, Settlement::Accepted);
    assert_eq!(site.state(1).await, JobState::Succeeded);
}

#[tokio::test]
async fn what_is_denied_to_several_is_tried_again_only_when_someone_says_so() {
    let site = Site::new().await;
    site.node("n1", &[slot(4)], START).await;
    site.receive(&sitting(1, 4, 4), START).await;
    let together = site.given(place("n1", 0), START).await;
    let denied = site.end(&together, &Cause::NoKey, START).await;
    assert_eq!(denied, Settlement::Accepted);
    assert_eq!(site.state(1).await, JobState::Failed);
    site.recount().await;
    let again = site.ledger.retry(job(1), START).await.unwrap();
    assert_eq!(again, done(JobState::Waiting));
    site.recount().await;
    for task in 0..4 {
        let alone = site.given(place("n1", 0), START).await;
        assert_eq!((alone.task.task, alone.tasks), (task, 1));
        assert_eq!(site.commit(&alone, START).await, Settlement::Accepted);
    }
    assert_eq!(site.state(1).await, JobState::Succeeded);
}

#[tokio::test]
async fn a_trial_comes_before_the_rest_and_a_moment_before_nothing() {
    let site = Site::new().await;
    site.node("n1", &[slot(4)], START).await;
    let mut tried = outline(1, &[(9, &[])]);
    tried.wishes = Wishes {
        trial: true,
        not_before: Some(START + 10),
        ..Wishes::default()
    };
    site.receive(&tried, START).await;
    assert_eq!(site.takes(place("n1", 0), START + 9).await, "-");
    let mut order = Vec::new();
    for _ in 0..9 {
        let given = site.given(place("n1", 0), START + 10).await;
        order.push(given.task.task);
        assert_eq!(site.commit(&given, START + 10).await, Settlement::Accepted);
    }
    assert_eq!(order, [0, 8, 4, 1, 2, 3, 5, 6, 7]);
    assert_eq!(site.state(1).await, JobState::Succeeded);
}

#[tokio::test]
async fn the_rest_waits_until_the_trial_is_done() {
    let site = Site::new().await;
    site.node("n1", &[slot(4), slot(4), slot(4), slot(4)], START)
        .await;
    let mut tried = outline(1, &[(9, &[])]);
    tried.wishes.trial = true;
    site.receive(&tried, START).await;
    let first = site.given(place("n1", 0), START).await;
    for slot in 1..3 {
        let other = site.given(place("n1", slot), START).await;
        assert_eq!(site.commit(&other, START).await, Settlement::Accepted);
    }
    assert_eq!(site.takes(place("n1", 3), START).await, "-");
    let why = site.ledger.why(job(1), START).await.unwrap();
    assert!(format!("{why:?}").contains("Trial"), "{why:?}");
    assert_eq!(site.commit(&first, START).await, Settlement::Accepted);
    assert_ne!(site.takes(place("n1", 3), START).await, "-");
}
