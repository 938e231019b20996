//! What a wrangler is told: licences that are in use, what runs where, what failed and why, what is left and until when, who used how much.

use safelight_policies::{cause::Cause, outline::Outline};
use safelight_scheduler::{
    Forecast, Hold, Next, Rules, Settlement, SlotSpec, SqliteLedger, StepHold,
};
use sqlx::Row;

use crate::site::{START, Site, TTL, job, of, outline, place, slot};

const C: &str = "amount.licence.c";

/// A job of so many tasks, each of which needs a licence.
fn licensed(number: u8, tasks: u64, needs: f64) -> Outline {
    let mut outline = outline(number, &[(tasks, &[])]);
    outline.steps[0].amounts.insert(C.to_owned(), needs);
    outline
}

async fn site(licences: u32) -> Site {
    let site = Site::with(Rules {
        pools: [(C.to_owned(), licences)].into(),
        ..Rules::default()
    })
    .await;
    site.node("n1", &[slot(4), slot(4)], START).await;
    site.node("n22", &[slot(8)], START).await;
    site
}

#[tokio::test]
async fn one_licence_is_one_session_on_all_nodes_together() {
    let site = site(1).await;
    site.receive(&licensed(1, 3, 1.0), START).await;
    let first = site.given(place("n1", 0), START).await;
    assert_eq!(first.outline.job, job(1));
    for other in [place("n1", 1), place("n22", 0)] {
        assert_eq!(site.next(other, START).await, Next::Nothing);
    }
    let why = site.ledger.why(job(1), START).await.unwrap();
    let pool = StepHold::Pool {
        name: C.to_owned(),
        needs: 1.0,
        used: 1.0,
        size: 1,
    };
    assert_eq!(
        (why.holds, why.steps[0].hold.clone()),
        (Vec::<Hold>::new(), Some(pool))
    );
    assert!(why.steps[0].slots.iter().all(|slot| slot.lacks.is_empty()));
    // Who needs none is not kept.
    site.receive(&outline(2, &[(1, &[])]), START).await;
    let free = site.given(place("n1", 1), START).await;
    assert_eq!(free.outline.job, job(2));
    assert_eq!(site.commit(&first, START + 10).await, Settlement::Accepted);
    let second = site.given(place("n22", 0), START + 10).await;
    assert_eq!(second.task.task, 1);
    // Its node is gone, and its program may not be: the licence is in use until the lease ends.
    site.beat("n1", &[], START + 10 + TTL - 1).await;
    assert_eq!(
        site.next(place("n1", 0), START + 10 + TTL - 1).await,
        Next::Nothing
    );
    let late = START + 11 + TTL;
    site.beat("n1", &[], late).await;
    let _over = site.ledger.expire(late).await.unwrap();
    let third = site.given(place("n1", 0), late).await;
    assert_eq!(third.outline.job, job(1));
    site.recount().await;
}

#[tokio::test]
async fn several_slots_that_ask_at_once_share_what_is_left() {
    let site = site(3).await;
    site.receive(&licensed(1, 9, 2.0), START).await;
    let asks = [place("n1", 0), place("n1", 1), place("n22", 0)].map(|place| site.ask(place));
    let answers = site.ledger.next_for(&asks, START, TTL).await.unwrap();
    let given = answers
        .iter()
        .filter(|it| matches!(it, Next::Leased(_)))
        .count();
    assert_eq!(given, 1, "two of three licences, and one is too few");
    assert_eq!(site.ledger.pools().await.unwrap()[C], (2.0, 3));
    // More than there is fits nowhere, and that is what is said.
    site.receive(&licensed(2, 1, 4.0), START).await;
    let why = site.ledger.why(job(2), START).await.unwrap();
    let lacks: Vec<_> = why.steps[0].slots.iter().flat_map(|it| &it.lacks).collect();
    assert_eq!(lacks.len(), 3);
    assert_eq!(lacks[0].to_string(), "needs 4 licence.c, has 3");
}

#[tokio::test]
async fn a_pool_is_right_whoever_opens_the_ledger() {
    let site = site(1).await;
    site.receive(&licensed(1, 2, 1.0), START).await;
    let _first = site.given(place("n1", 0), START).await;
    // Another process, and one that knows no pool: there no slot has the licence.
    let again = SqliteLedger::open_with(&site.path, site.ledger.rules().clone())
        .await
        .unwrap();
    let without = SqliteLedger::open(&site.path).await.unwrap();
    for ledger in [&again, &without] {
        let ask = site.ask(place("n22", 0));
        assert_eq!(ledger.next(&ask, START, TTL).await.unwrap(), Next::Nothing);
    }
}

#[tokio::test]
async fn what_runs_and_what_is_left_is_told() {
    let site = Site::new().await;
    site.node("n1", &[slot(4), slot(4)], START).await;
    site.receive(&outline(1, &[(9, &[]), (1, &[0])]), START)
        .await;
    let first = site.given(place("n1", 0), START).await;
    let left = site.ledger.left(START).await.unwrap();
    assert_eq!(left[0].forecast, Forecast::Unknown { step: 0 });
    assert_eq!(site.commit(&first, START + 100).await, Settlement::Accepted);
    site.beat("n1", &[], START + 100).await;
    let second = site.given(place("n1", 0), START + 100).await;
    let running = site.ledger.sessions(START + 400).await.unwrap();
    assert_eq!(running.len(), 1);
    assert_eq!(
        (running[0].session, running[0].task),
        (second.ask.session, second.task)
    );
    let times =
        |running: &safelight_scheduler::Running| (running.elapsed, running.usual, running.stuck);
    assert_eq!(times(&running[0]), (300, Some(100), false));
    let later = site.ledger.sessions(START + 401).await.unwrap();
    assert_eq!(times(&later[0]), (301, Some(100), true));
    assert_eq!(
        site.commit(&second, START + 200).await,
        Settlement::Accepted
    );
    site.beat("n1", &[], START + 200).await;
    // Nobody knows how long the second step takes.
    let left = site.ledger.left(START + 200).await.unwrap();
    assert_eq!((left[0].tasks, left[0].done, left[0].running), (10, 2, 0));
    assert_eq!(left[0].forecast, Forecast::Unknown { step: 1 });
    // A job of one step: seven tasks of a hundred seconds, two at once.
    site.receive(&outline(2, &[(8, &[])]), START).await;
    let _paused = site.ledger.pause(job(1), true, START).await.unwrap();
    let other = site.given(place("n1", 1), START + 200).await;
    assert_eq!(other.outline.job, job(2));
    assert_eq!(site.commit(&other, START + 300).await, Settlement::Accepted);
    site.beat("n1", &[], START + 300).await;
    let left = site.ledger.left(START + 300).await.unwrap();
    assert_eq!((left[0].paused, left[1].paused), (true, false));
    assert_eq!(left[1].forecast, Forecast::In { seconds: 400 });
    // Nodes that were not heard of take nothing.
    let left = site.ledger.left(START + 3_000).await.unwrap();
    assert_eq!(left[1].forecast, Forecast::NoSlot { step: 0 });
}

#[tokio::test]
async fn what_failed_is_told_by_cause_and_place() {
    let site = Site::new().await;
    site.node("n1", &[slot(4)], START).await;
    site.node("n22", &[slot(4)], START).await;
    site.receive(&outline(1, &[(3, &[])]), START).await;
    let code = Cause::Exited { code: 3 };
    for (node, cause, at) in [
        ("n1", &code, 10),
        ("n1", &code, 20),
        ("n22", &code, 30),
        ("n22", &Cause::OutOfMemory, 40),
    ] {
        let given = site.given(place(node, 0), START + at).await;
        assert_eq!(
            site.end(&given, cause, START + at).await,
            Settlement::Accepted
        );
    }
    let rows = async |job, since| {
        let rows = site.ledger.failures(job, since).await.unwrap();
        let row = |it: &safelight_scheduler::Failures| {
            let cause = it.cause.as_ref().map(ToString::to_string);
            format!("{} {} {}", it.node, it.attempts, cause.unwrap_or_default())
        };
        rows.iter().map(row).collect::<Vec<_>>()
    };
    let all = [
        "n22 1 out of memory",
        "n22 1 exited with code 3",
        "n1 2 exited with code 3",
    ];
    assert_eq!(rows(None, 0).await, all);
    assert_eq!(rows(Some(job(1)), START + 30).await, all[..2]);
    assert_eq!(rows(Some(job(2)), 0).await, Vec::<String>::new());
}

#[tokio::test]
async fn who_used_how_much_is_kept_by_day() {
    let site = Site::new().await;
    let gpu = SlotSpec { gpu: 2, ..slot(8) };
    site.node("n1", &[slot(4), gpu], START).await;
    site.receive(&of("river", outline(1, &[(2, &[])])), START)
        .await;
    site.receive(&of("stone", outline(2, &[(1, &[])])), START)
        .await;
    let first = site.given(place("n1", 0), START).await;
    assert_eq!(site.commit(&first, START + 100).await, Settlement::Accepted);
    site.beat("n1", &[], START + 100).await;
    let second = site.given(place("n1", 1), START + 100).await;
    let lost = site.end(&second, &Cause::Canceled, START + 110).await;
    assert_eq!(lost, Settlement::Accepted);
    let other = loop {
        let given = site.given(place("n1", 1), START + 110).await;
        if given.outline.job == job(2) {
            break given;
        }
        assert_eq!(site.commit(&given, START + 110).await, Settlement::Accepted);
    };
    let day = 86_400;
    assert_eq!(
        site.commit(&other, START + 2 * day).await,
        Settlement::Accepted
    );
    let used = async |since| {
        let rows = site.ledger.usage(since).await.unwrap();
        let row = |it: &safelight_scheduler::Usage| {
            let (client, seconds, core, gpu) =
                (&it.client, it.seconds, it.core_seconds, it.gpu_seconds);
            format!(
                "{client} {} {seconds} {core} {gpu} {}",
                it.tasks, it.lost_seconds
            )
        };
        rows.iter().map(row).collect::<Vec<_>>()
    };
    let long = 2 * day - 110;
    let stone = format!("stone 1 {long} {} {} 0", 8 * long, 2 * long);
    let all = used(0).await;
    // 100 s on four processors, and 10 s on eight with two cards that came to nothing.
    assert!(all[0].ends_with(" 110 480 20 10"), "{all:?}");
    assert_eq!(all[1], stone);
    assert_eq!(used(START + 2 * day).await, [stone]);
    assert_eq!(used(START + 3 * day).await, Vec::<String>::new());
    site.recount().await;
    // What was asked of the rows is what the attempts say, also for a ledger that had none.
    let mut raw = site.raw().await;
    let sum = "SELECT sum(ended_at - leased_at) FROM attempt";
    let sum: i64 = sqlx::query(sum).fetch_one(&mut raw).await.unwrap().get(0);
    assert_eq!(sum as u64, 110 + long);
}

#[tokio::test]
async fn a_backup_is_the_ledger_at_one_moment_and_goes_on_from_there() {
    use std::os::unix::fs::PermissionsExt;
    let site = site(1).await;
    site.receive(&licensed(1, 3, 1.0), START).await;
    let first = site.given(place("n1", 0), START).await;
    assert_eq!(site.commit(&first, START + 10).await, Settlement::Accepted);
    let second = site.given(place("n1", 0), START + 10).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    site.ledger.backup(&path).await.unwrap();
    // What happens after it is not in it.
    assert_eq!(site.commit(&second, START + 20).await, Settlement::Accepted);
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(
        site.ledger.backup(&path).await.is_err(),
        "never over another file"
    );
    let rules = site.ledger.rules().clone();
    let copy = SqliteLedger::open_with(&path, rules).await.unwrap();
    let states = |attempts: Vec<safelight_scheduler::AttemptEntry>| {
        attempts
            .iter()
            .map(|it| it.state.as_str())
            .collect::<Vec<_>>()
    };
    let there = copy.attempts(job(1)).await.unwrap();
    assert_eq!(states(there), ["committed", "running"]);
    let here = site.ledger.attempts(job(1)).await.unwrap();
    assert_eq!(states(here), ["committed", "committed"]);
    // The fences go on behind those that it knows.
    let late = START + 11 + TTL;
    copy.heartbeat(&crate::site::node("n1"), &[], late, TTL)
        .await
        .unwrap();
    let _over = copy.expire(late).await.unwrap();
    let ask = site.ask(place("n1", 1));
    let Next::Leased(again) = copy.next(&ask, late, TTL).await.unwrap() else {
        panic!("nothing")
    };
    assert!(again.leased.fence > second.leased.fence);
}

#[tokio::test]
async fn a_job_is_put_elsewhere_in_its_queue_and_its_story_says_so() {
    use safelight_scheduler::{Moved, Queue, Turn};
    let site = Site::new().await;
    site.node("n1", &[slot(4)], START).await;
    // Three of one second, so that their keys are the same, and one that is far ahead.
    for number in 1..=4 {
        let mut outline = outline(number, &[(1, &[])]);
        outline.priority = if number == 4 { 99 } else { 50 };
        site.receive(&outline, START).await;
    }
    let order = async || {
        let queue = site.ledger.queue(Queue::Active).await.unwrap();
        queue
            .iter()
            .map(|it| it.job.as_bytes()[0])
            .collect::<Vec<_>>()
    };
    assert_eq!(order().await, [4, 1, 2, 3]);
    for (number, turn, expected) in [
        (3, Turn::Before(job(2)), [4, 1, 3, 2]),
        (2, Turn::Before(job(1)), [4, 2, 1, 3]),
        (3, Turn::First, [3, 4, 2, 1]),
        (3, Turn::Before(job(3)), [3, 4, 2, 1]),
        (4, Turn::Last, [3, 2, 1, 4]),
        (1, Turn::Before(job(3)), [1, 3, 2, 4]),
    ] {
        let moved = site.ledger.reorder(job(number), turn, START).await.unwrap();
        let already = turn == Turn::Before(job(number));
        assert_eq!(moved == Moved::Already, already, "{moved:?}");
        assert_eq!(order().await, expected, "{number} {turn:?}");
    }
    let story = site.story(1).await;
    assert_eq!(
        story.last().unwrap(),
        "waiting: put at place 1 of its queue"
    );
    // Slots are given in that order, and what is over is in no queue.
    let first = site.given(place("n1", 0), START).await;
    assert_eq!(first.outline.job, job(1));
    assert_eq!(site.commit(&first, START).await, Settlement::Accepted);
    let gone = site
        .ledger
        .reorder(job(1), Turn::First, START)
        .await
        .unwrap();
    assert!(matches!(gone, Moved::Refused { .. }), "{gone:?}");
    let beside = site
        .ledger
        .reorder(job(2), Turn::Before(job(1)), START)
        .await;
    assert!(
        beside
            .unwrap_err()
            .to_string()
            .ends_with("is not in the active queue")
    );
    assert_eq!(order().await, [3, 2, 4]);
    site.recount().await;
}
