//! Jobs move through the queues of both sites, in order, once, and say why.

use safelight_policies::id::{ClientAlias, ObjectId, SiteName};
use safelight_scheduler::{
    ClientProfile, Error, JobState, MoveRefusal, Moved, Queue, QueueRule, Report, SettleRefusal,
    Settlement, Target, Terms, Wanted,
};

use crate::site::{START, Site, done, job, needs, of, outline, place, slot};

fn north() -> SiteName {
    SiteName::new("north").unwrap()
}

fn may_leave() -> ClientProfile {
    ClientProfile {
        sites: vec![north()],
        ..ClientProfile::default()
    }
}

impl Site {
    async fn report(&self, number: u8, report: Report, now: u64) -> Moved {
        self.ledger.report(job(number), report, now).await.unwrap()
    }

    async fn order(&self, queue: Queue) -> Vec<u8> {
        let entries = self.ledger.queue(queue).await.unwrap();
        let positions: Vec<u64> = entries.iter().map(|entry| entry.position).collect();
        assert_eq!(positions, (1..=entries.len() as u64).collect::<Vec<_>>());
        entries
            .iter()
            .map(|entry| entry.job.as_bytes()[0])
            .collect()
    }

    async fn place(&self, number: u8, open: &[SiteName], now: u64) -> Target {
        let profile = may_leave();
        let place = self.ledger.place(job(number), &profile, open.to_vec(), now);
        place.await.unwrap().0.target
    }
}

#[tokio::test]
async fn a_job_is_rendered_elsewhere_and_its_story_told() {
    let site = Site::new().await;
    site.submit(&outline(1, &[(3, &[])]), START).await;
    assert_eq!(site.place(1, &[], START + 1).await, Target::Here);
    // Nothing here fits, and no site was open: it waits here. The next one goes.
    site.submit(&outline(2, &[(3, &[])]), START).await;
    assert_eq!(
        site.place(2, &[north()], START + 2).await,
        Target::There(north())
    );
    assert_eq!(site.order(Queue::Outsourced).await, [2]);
    assert_eq!(
        site.ledger
            .to_publish(START + 3, |_, _| false)
            .await
            .unwrap(),
        Some(job(2))
    );
    for (report, state) in [
        (Report::Published, JobState::Published),
        (Report::Accepted, JobState::Accepted),
        (Report::Returning, JobState::Returning),
        (Report::Delivered, JobState::Delivered),
    ] {
        assert_eq!(site.report(2, report, START + 4).await, done(state));
        assert_eq!(site.report(2, report, START + 5).await, Moved::Already);
        assert_eq!(site.state(2).await, state);
    }
    assert_eq!(
        site.story(2).await,
        [
            "new: submitted",
            "outsourced: rendered at north: no slot here fits step 0",
            "published: put into the hot folder",
            "accepted: accepted by the other site",
            "returning: results on their way home",
            "delivered: results at home",
        ]
    );
    assert!(site.order(Queue::Outsourced).await.is_empty());
    site.recount().await;
}

#[tokio::test]
async fn a_job_that_contradicts_its_client_stays_and_says_so() {
    let site = Site::new().await;
    let terms = Terms {
        wanted: Wanted::Site(north()),
        ..Terms::default()
    };
    let one = outline(1, &[(3, &[])]);
    let submit = site.ledger.submit(&one, ObjectId([1; 32]), &terms, START);
    submit.await.unwrap();
    let home = ClientProfile::default();
    let place = site.ledger.place(job(1), &home, vec![north()], START).await;
    let (placement, moved) = place.unwrap();
    assert_eq!(
        (placement.target.clone(), moved),
        (Target::Nowhere, Moved::Already)
    );
    assert_eq!(site.state(1).await, JobState::New);
    assert_eq!(
        site.ledger.why(job(1), START).await.unwrap().placement,
        Some(placement)
    );
    // Once the client agrees, it goes.
    assert_eq!(
        site.place(1, &[north()], START).await,
        Target::There(north())
    );
    assert_eq!(site.state(1).await, JobState::Outsourced);
    // And placing it again moves nothing.
    let again = site
        .ledger
        .place(job(1), &may_leave(), vec![north()], START)
        .await;
    assert_eq!(again.unwrap().1, Moved::Already);
}

#[tokio::test]
async fn an_id_is_good_for_one_job_at_either_site() {
    let site = Site::new().await;
    let outline = outline(1, &[(1, &[])]);
    site.submit(&outline, START).await;
    let (envelope, terms) = (ObjectId([9; 32]), Terms::default());
    for again in [
        site.ledger.submit(&outline, envelope, &terms, START).await,
        site.ledger.receive(&outline, envelope, &terms, START).await,
        site.ledger.admit_job(&outline, envelope, START).await,
    ] {
        assert!(matches!(again, Err(Error::AlreadyAdmitted { .. })));
    }
    assert_eq!(site.story(1).await, ["new: submitted"]);
}

#[tokio::test]
async fn bundles_leave_by_priority_and_only_as_many_as_may() {
    let site = Site::new().await;
    for (number, priority) in [(1, 10), (2, 90), (3, 50), (4, 50)] {
        let mut outline = outline(number, &[(1, &[])]);
        outline.priority = priority;
        site.submit(&outline, START + u64::from(number)).await;
    }
    assert_eq!(site.order(Queue::New).await, [2, 3, 4, 1]);
    for number in 1..=4 {
        site.place(number, &[north()], START + 10).await;
    }
    let cap = |cap, paused| QueueRule { paused, cap };
    let set = |rule| site.ledger.set_queue(Queue::Outsourced, rule);
    set(cap(Some(2), false)).await.unwrap();
    let next = || site.ledger.to_publish(START + 20, |_, _| false);
    for number in [2, 3] {
        assert_eq!(next().await.unwrap(), Some(job(number)));
        assert_eq!(
            site.report(number, Report::Published, START).await,
            done(JobState::Published)
        );
    }
    assert_eq!(next().await.unwrap(), None);
    // What is passed over hides nothing behind it.
    set(cap(None, false)).await.unwrap();
    let pass = |passed, site: Option<&_>| {
        assert_eq!(site, Some(&north()));
        passed == job(4)
    };
    let behind = site.ledger.to_publish(START + 20, pass).await.unwrap();
    assert_eq!(behind, Some(job(1)));
    set(cap(Some(2), false)).await.unwrap();
    let full = MoveRefusal::Full {
        queue: Queue::Outsourced,
        cap: 2,
    };
    let refused = Moved::Refused { reason: full };
    assert_eq!(site.report(4, Report::Published, START).await, refused);
    assert_eq!(site.state(4).await, JobState::Outsourced);
    // One comes home, the next may leave; unless the queue or the job is held.
    for report in [Report::Returning, Report::Delivered] {
        let _moved = site.report(2, report, START).await;
    }
    assert_eq!(next().await.unwrap(), Some(job(4)));
    set(cap(Some(2), true)).await.unwrap();
    assert_eq!(next().await.unwrap(), None);
    set(cap(Some(2), false)).await.unwrap();
    assert_eq!(
        site.ledger.pause(job(4), true, START).await.unwrap(),
        done(JobState::Outsourced)
    );
    assert_eq!(next().await.unwrap(), Some(job(1)));
    assert_eq!(
        site.report(4, Report::Recalled, START).await,
        done(JobState::New)
    );
    assert_eq!(site.order(Queue::New).await, [4]);
    site.recount().await;
}

#[tokio::test]
async fn slots_are_given_the_oldest_job_of_the_highest_priority() {
    let site = Site::new().await;
    site.node("n1", &vec![slot(4); 5], START).await;
    for (number, priority, at) in [(1, 10, 0), (2, 90, 1), (3, 90, 2), (4, 10, 60_000)] {
        let mut outline = outline(number, &[(1, &[])]);
        outline.priority = priority;
        site.receive(&outline, START - 60_000 + at).await;
    }
    let mut taken = Vec::new();
    for slot in 0..5 {
        taken.push(site.takes(place("n1", slot), START).await);
    }
    assert_eq!(taken, ["2:0.0", "3:0.0", "1:0.0", "4:0.0", "-"]);
    site.recount().await;
}

#[tokio::test]
async fn a_job_that_does_not_fit_lets_others_pass() {
    let site = Site::new().await;
    site.node("n1", &[slot(4), slot(32)], START).await;
    site.receive(&needs(16.0, outline(1, &[(1, &[])])), START)
        .await;
    site.receive(&needs(2.0, outline(2, &[(1, &[])])), START + 1)
        .await;
    assert_eq!(site.takes(place("n1", 0), START).await, "2:0.0");
    assert_eq!(site.takes(place("n1", 1), START).await, "1:0.0");
}

#[tokio::test]
async fn many_jobs_that_do_not_fit_hide_none_that_does() {
    let site = Site::new().await;
    site.node("n1", &[slot(4)], START).await;
    for number in 1..=40 {
        site.receive(&needs(16.0, outline(number, &[(1, &[])])), START)
            .await;
    }
    assert_eq!(site.takes(place("n1", 0), START).await, "-");
    site.receive(&needs(4.0, outline(41, &[(1, &[])])), START)
        .await;
    assert_eq!(site.takes(place("n1", 0), START).await, "41:0.0");
}

#[tokio::test]
async fn caps_of_a_client_and_of_the_queue_hold() {
    let site = Site::new().await;
    site.node("n1", &vec![slot(4); 8], START).await;
    site.receive(&outline(1, &[(9, &[])]), START).await;
    site.receive(&of("lake", outline(2, &[(9, &[])])), START + 1)
        .await;
    site.receive(&of("sea", outline(3, &[(9, &[])])), START + 2)
        .await;
    let river = ClientAlias::new("river").unwrap();
    site.ledger.set_client_cap(&river, Some(2)).await.unwrap();
    let rule = QueueRule {
        paused: false,
        cap: Some(2),
    };
    site.ledger.set_queue(Queue::Active, rule).await.unwrap();
    let mut taken = Vec::new();
    for slot in 0..5 {
        taken.push(site.takes(place("n1", slot), START).await);
    }
    // The third job may not begin while two are under way.
    assert_eq!(taken, ["1:0.0", "1:0.1", "2:0.0", "2:0.1", "2:0.2"]);
    let why = site.ledger.why(job(3), START).await.unwrap();
    let holds: Vec<String> = why.holds.iter().map(|hold| hold.to_string()).collect();
    assert_eq!(holds, ["2 jobs are under way and the limit is 2"]);
    let why = site.ledger.why(job(1), START).await.unwrap();
    let holds: Vec<String> = why.holds.iter().map(|hold| hold.to_string()).collect();
    assert_eq!(holds, ["its client has 2 sessions and the limit is 2"]);
    site.ledger.set_client_cap(&river, None).await.unwrap();
    assert_eq!(site.takes(place("n1", 5), START).await, "1:0.2");
}

#[tokio::test]
async fn steps_wait_for_those_before_them() {
    let site = Site::new().await;
    site.node("n1", &[slot(4), slot(4), slot(4)], START).await;
    site.receive(&outline(1, &[(2, &[]), (1, &[0])]), START)
        .await;
    let first = site.given(place("n1", 0), START).await;
    let second = site.given(place("n1", 1), START).await;
    assert_eq!(site.takes(place("n1", 2), START).await, "-");
    assert_eq!(site.commit(&first, START).await, Settlement::Accepted);
    assert_eq!(site.takes(place("n1", 2), START).await, "-");
    assert_eq!(site.commit(&second, START).await, Settlement::Accepted);
    let last = site.given(place("n1", 2), START).await;
    assert_eq!(last.task.to_string(), "1.0");
    assert_eq!(site.commit(&last, START).await, Settlement::Accepted);
    assert_eq!(site.state(1).await, JobState::Succeeded);
    assert_eq!(
        site.story(1).await,
        [
            "waiting: received from its home site",
            "running: first task started",
            "succeeded: every task has a result"
        ]
    );
    for (report, state) in [
        (Report::Returning, JobState::Returning),
        (Report::Delivered, JobState::Delivered),
    ] {
        assert_eq!(site.report(1, report, START).await, done(state));
    }
    site.recount().await;
}

#[tokio::test]
async fn a_paused_job_or_queue_begins_nothing_and_what_runs_goes_on() {
    let site = Site::new().await;
    site.node("n1", &[slot(4), slot(4)], START).await;
    site.receive(&outline(1, &[(3, &[])]), START).await;
    let given = site.given(place("n1", 0), START).await;
    let pause = |paused| site.ledger.pause(job(1), paused, START);
    assert_eq!(pause(true).await.unwrap(), done(JobState::Running));
    assert_eq!(pause(true).await.unwrap(), Moved::Already);
    assert_eq!(site.takes(place("n1", 1), START).await, "-");
    assert_eq!(site.commit(&given, START).await, Settlement::Accepted);
    assert_eq!(pause(false).await.unwrap(), done(JobState::Waiting));
    let stop = |paused| {
        site.ledger
            .set_queue(Queue::Active, QueueRule { paused, cap: None })
    };
    stop(true).await.unwrap();
    assert_eq!(site.takes(place("n1", 1), START).await, "-");
    stop(false).await.unwrap();
    assert_eq!(site.takes(place("n1", 1), START).await, "1:0.1");
    site.recount().await;
}

#[tokio::test]
async fn a_canceled_job_gets_no_lease_and_no_result() {
    let site = Site::new().await;
    site.node("n1", &[slot(4), slot(4)], START).await;
    site.receive(&outline(1, &[(3, &[])]), START).await;
    let given = site.given(place("n1", 0), START).await;
    assert_eq!(
        site.report(1, Report::Canceled, START).await,
        done(JobState::Canceled)
    );
    assert_eq!(site.takes(place("n1", 1), START).await, "-");
    let refused = Settlement::Refused {
        reason: SettleRefusal::Canceled,
    };
    assert_eq!(site.commit(&given, START).await, refused);
    assert_eq!(
        site.beat("n1", &[&given], START).await,
        [vec![], vec![given.ask.session]]
    );
    let end = site
        .end(&given, &safelight_policies::cause::Cause::Canceled, START)
        .await;
    assert_eq!(end, Settlement::Accepted);
    assert_eq!(site.takes(place("n1", 0), START).await, "-");
    assert_eq!(site.state(1).await, JobState::Canceled);
    site.recount().await;
}

#[tokio::test]
async fn a_job_expires_where_it_waits_but_what_left_is_not_ours_to_end() {
    let site = Site::new().await;
    for number in 1..=4 {
        let mut outline = outline(number, &[(1, &[])]);
        outline.expires = START + 100;
        site.submit(&outline, START).await;
    }
    site.place(2, &[north()], START).await;
    site.place(3, &[north()], START).await;
    site.place(4, &[], START).await;
    let _moved = site.report(3, Report::Published, START).await;
    assert!(
        site.ledger
            .expire(START + 99)
            .await
            .unwrap()
            .jobs
            .is_empty()
    );
    let over = site.ledger.expire(START + 100).await.unwrap().jobs;
    assert_eq!(over, [job(1), job(2), job(4)]);
    assert_eq!(site.state(3).await, JobState::Published);
    assert!(
        site.ledger
            .expire(START + 101)
            .await
            .unwrap()
            .jobs
            .is_empty()
    );
    site.recount().await;
}

#[tokio::test]
async fn the_supplier_is_told_once_of_each_end() {
    let site = Site::new().await;
    site.submit(&outline(1, &[(1, &[])]), START).await;
    site.submit(&outline(2, &[(1, &[])]), START).await;
    let _moved = site.report(1, Report::Canceled, START + 1).await;
    let _moved = site.report(1, Report::Canceled, START + 2).await;
    site.place(2, &[north()], START).await;
    for report in [
        Report::Published,
        Report::Returning,
        Report::Delivered,
        Report::Delivered,
    ] {
        let _moved = site.report(2, report, START + 3).await;
    }
    let notices = site.ledger.notices(10).await.unwrap();
    let said: Vec<_> = notices
        .iter()
        .map(|one| (one.job, one.state, one.at))
        .collect();
    assert_eq!(
        said,
        [
            (job(1), JobState::Canceled, START + 1),
            (job(2), JobState::Delivered, START + 3)
        ]
    );
    assert_eq!(site.ledger.notices(1).await.unwrap(), notices[..1]);
    assert!(
        site.ledger
            .notice_sent(notices[0].number, START + 9)
            .await
            .unwrap()
    );
    assert!(
        !site
            .ledger
            .notice_sent(notices[0].number, START + 9)
            .await
            .unwrap()
    );
    assert_eq!(site.ledger.notices(10).await.unwrap(), notices[1..]);
}

#[tokio::test]
async fn a_job_outside_the_queues_is_left_alone() {
    let site = Site::new().await;
    site.node("n1", &[slot(4)], START).await;
    let own = outline(1, &[(1, &[])]);
    site.ledger
        .admit_job(&own, ObjectId([1; 32]), START)
        .await
        .unwrap();
    assert_eq!(site.takes(place("n1", 0), START).await, "-");
    let refused = Moved::Refused {
        reason: MoveRefusal::NoQueue,
    };
    assert_eq!(site.report(1, Report::Canceled, START).await, refused);
    assert_eq!(
        site.ledger.pause(job(1), true, START).await.unwrap(),
        refused
    );
    assert_eq!(site.ledger.retry(job(1), START).await.unwrap(), refused);
    assert!(site.story(1).await.is_empty());
    // And the other way round: a queued task is not leased by name.
    site.receive(&outline(2, &[(1, &[])]), START).await;
    let task = safelight_policies::id::TaskId { step: 0, task: 0 };
    let here = place("n1", 0);
    let lease = site
        .ledger
        .lease(job(2), task, crate::site::session(99), &here, START, 9);
    let queued = safelight_scheduler::LeaseRefusal::Queued;
    assert_eq!(
        lease.await.unwrap(),
        safelight_scheduler::Leasing::Refused { reason: queued }
    );
    site.recount().await;
}
