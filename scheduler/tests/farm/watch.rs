//! What people are told: why a job does not run, and where the work is.

use safelight_policies::id::ClientAlias;
use safelight_scheduler::{Overview, Queue, SlotAnswer, Unavailable};

use crate::site::{START, Site, job, needs, node, outline, place, short, slot};

#[tokio::test]
async fn why_answers_as_leases_are_given() {
    let site = Site::new().await;
    site.node("n1", &[slot(4), slot(16)], START).await;
    site.node("n22", &[slot(64)], START).await;
    site.ledger.drain_node(&node("n22")).await.unwrap();
    site.receive(&outline(1, &[(1, &[])]), START).await;
    site.receive(&needs(16.0, outline(2, &[(1, &[]), (1, &[0])])), START + 1)
        .await;
    let given = site.given(place("n1", 0), START).await;
    let why = site.ledger.why(job(2), START).await.unwrap();
    assert_eq!((why.position, why.holds.is_empty()), (Some(2), true));
    let said: Vec<String> = why.steps[0]
        .slots
        .iter()
        .map(SlotAnswer::to_string)
        .collect();
    let busy = Unavailable::Busy {
        session: given.ask.session,
    };
    assert_eq!(
        said,
        [
            format!("n1/0: needs 16 vcpu, has 4; {busy}"),
            "n1/1: fits".to_owned(),
            "n22/0: its node is being drained".to_owned(),
        ]
    );
    let hold = why.steps[1].hold.as_ref().unwrap();
    assert_eq!(hold.to_string(), "step 0 is not done");
    // And so it is.
    assert_eq!(site.takes(place("n1", 1), START).await, "2:0.0");
    let why = site.ledger.why(job(2), START).await.unwrap();
    let hold = why.steps[0].hold.as_ref().unwrap();
    assert_eq!(
        hold.to_string(),
        "no task is left: 1 run, 0 are done, 0 were given up"
    );
}

#[tokio::test]
async fn slots_say_what_is_in_them() {
    let site = Site::new().await;
    site.node("n1", &[slot(4), slot(4)], START).await;
    site.receive(&outline(1, &[(1, &[])]), START).await;
    let given = site.given(place("n1", 1), START).await;
    let slots = site.ledger.slots(START).await.unwrap();
    assert_eq!((slots[0].unavailable, slots[0].holds), (None, None));
    assert_eq!(slots[1].holds, Some((job(1), given.ask.session)));
    let silent = site.ledger.slots(START + 46).await.unwrap();
    assert_eq!(
        silent[0].unavailable,
        Some(Unavailable::Silent { seconds: 46 })
    );
}

#[tokio::test]
async fn those_who_watch_miss_nothing() {
    let site = Site::new().await;
    for number in 1..=5 {
        site.submit(&outline(number, &[(1, &[])]), START).await;
    }
    let first = site.ledger.story_after(0, 3).await.unwrap();
    let rest = site.ledger.story_after(first[2].number, 9).await.unwrap();
    let jobs: Vec<_> = first.iter().chain(&rest).map(|line| line.job).collect();
    assert_eq!(jobs, [1, 2, 3, 4, 5].map(job));
}

/// Pages of 4 KiB of this process in memory.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_large_job_is_a_few_rows_until_it_is_leased() {
    let site = Site::new().await;
    site.node("n1", &vec![slot(4); 64], START).await;
    let before = (resident(), std::fs::metadata(&site.path).unwrap().len());
    site.receive(&outline(1, &[(100_000, &[]), (100_000_000, &[0])]), START)
        .await;
    for number in 0..64 {
        let taken = site.takes(place("n1", number), START).await;
        let task = safelight_policies::id::TaskId {
            step: 0,
            task: number.into(),
        };
        assert_eq!(taken, short(job(1), task));
    }
    let after = (resident(), std::fs::metadata(&site.path).unwrap().len());
    // As rows, the tasks would be tens of MiB.
    assert!(after.0 < before.0 + 2_048, "{before:?} {after:?}");
    assert!(after.1 < before.1 + (1 << 20), "{before:?} {after:?}");
    let mut raw = site.raw().await;
    let rows = "SELECT (SELECT count(*) FROM step) + (SELECT count(*) FROM attempt) + (SELECT count(*) FROM again)";
    let rows = sqlx::query(rows).fetch_one(&mut raw).await.unwrap();
    assert_eq!(sqlx::Row::get::<i64, _>(&rows, 0), 2 + 64);
    site.recount().await;
}

#[tokio::test]
async fn the_last_task_of_a_large_job_is_as_near_as_its_first() {
    let site = Site::new().await;
    site.node("n1", &[slot(4)], START).await;
    site.receive(&outline(1, &[(1_000_000, &[])]), START).await;
    // As if all but one had been given out long ago.
    let mut raw = site.raw().await;
    let skip = sqlx::query("UPDATE step SET fresh = 999999, done = 999999");
    skip.execute(&mut raw).await.unwrap();
    assert_eq!(site.takes(place("n1", 0), START).await, "1:0.999999");
    let cap = ClientAlias::new("river").unwrap();
    site.ledger.set_client_cap(&cap, Some(1)).await.unwrap();
    let why = site.ledger.why(job(1), START).await.unwrap();
    assert_eq!(why.steps.len(), 1);
}

#[tokio::test]
async fn an_overview_says_where_each_job_stands() {
    let site = Site::new().await;
    site.node("n1", &[slot(4)], START).await;
    site.receive(&outline(1, &[(2, &[]), (1, &[0])]), START)
        .await;
    site.submit(&outline(2, &[(3, &[])]), START + 1).await;
    assert_eq!(site.takes(place("n1", 0), START + 1).await, "1:0.0");
    let all = site.ledger.overviews().await.unwrap();
    let stands = |it: &Overview| (it.job.id(), it.queue, it.farm, it.site.clone());
    assert_eq!(
        all.iter().map(stands).collect::<Vec<_>>(),
        [
            (job(2), Some(Queue::New), true, None),
            (job(1), Some(Queue::Active), true, None)
        ]
    );
    let counts: Vec<_> = all[1]
        .steps
        .iter()
        .map(|step| (step.tasks, step.running, step.done))
        .collect();
    assert_eq!(counts, [(2, 1, 0), (1, 0, 0)]);
    assert_eq!(site.ledger.overview(job(1)).await.unwrap(), all[1]);
    assert!(site.ledger.overview(job(9)).await.is_err());
}
