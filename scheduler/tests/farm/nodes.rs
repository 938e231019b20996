//! Render servers come, are heard of, fall silent, are drained and come back late.

use safelight_policies::{cause::Cause, id::VerifyKey};
use safelight_scheduler::{
    Error, Holding, NodeSpec, NodeState, Rules, SettleRefusal, Settlement, Unavailable,
};

use crate::site::{START, Site, TTL, holding, job, node, outline, place, session, slot};

fn refused(reason: SettleRefusal) -> Settlement {
    Settlement::Refused { reason }
}

#[tokio::test]
async fn a_slot_takes_one_session_at_a_time() {
    let site = Site::new().await;
    site.node("n1", &[slot(4), slot(4)], START).await;
    site.receive(&outline(1, &[(9, &[])]), START).await;
    let given = site.given(place("n1", 0), START).await;
    let busy = format!("{} is in it", given.ask.session);
    assert_eq!(site.takes(place("n1", 0), START).await, busy);
    assert_eq!(site.commit(&given, START).await, Settlement::Accepted);
    assert_eq!(site.takes(place("n1", 0), START).await, "1:0.1");
    // Two asks for one slot in one call: the second finds it taken.
    let asks = [site.ask(place("n1", 1)), site.ask(place("n1", 1))];
    let answers = site.ledger.next_for(&asks, START, TTL).await.unwrap();
    assert!(matches!(answers[0], safelight_scheduler::Next::Leased(_)));
    assert_eq!(
        answers[1],
        safelight_scheduler::Next::Refused {
            reason: Unavailable::Busy {
                session: asks[0].session
            }
        }
    );
    site.recount().await;
}

#[tokio::test]
async fn what_nobody_registered_is_an_error() {
    let site = Site::new().await;
    site.node("n1", &[slot(4)], START).await;
    for (name, slot) in [("n1", 1), ("n2", 0)] {
        let ask = site.ask(place(name, slot));
        let next = site.ledger.next(&ask, START, TTL).await;
        assert!(
            matches!(next, Err(Error::NoSuchSlot { .. })),
            "{name} {slot}"
        );
    }
    let drain = site.ledger.drain_node(&node("n2")).await;
    assert_eq!(
        drain.unwrap_err().to_string(),
        "n2 is not in the resource database"
    );
    // A name belongs to the key that took it first.
    let other = NodeSpec {
        name: node("n1"),
        key: VerifyKey([99; 32]),
        slots: vec![slot(64)],
    };
    let error = site.ledger.register_node(&other, START).await.unwrap_err();
    assert_eq!(error.to_string(), "n1 is known by another key");
    site.ledger.forget_node(&node("n1"), START).await.unwrap();
    site.ledger.register_node(&other, START).await.unwrap();
    let many = NodeSpec {
        slots: vec![slot(1); 4_097],
        ..other
    };
    let error = site.ledger.register_node(&many, START).await.unwrap_err();
    assert!(matches!(
        error,
        Error::OutOfRange {
            what: "slots",
            value: 4_097
        }
    ));
}

#[tokio::test]
async fn a_heartbeat_keeps_what_is_held_and_names_what_is_not() {
    let site = Site::new().await;
    site.node("n1", &[slot(4), slot(4)], START).await;
    site.node("n22", &[slot(4)], START).await;
    site.receive(&outline(1, &[(9, &[])]), START).await;
    let given = site.given(place("n1", 0), START).await;
    for now in [START + 40, START + 80, START + 120] {
        assert_eq!(site.beat("n1", &[&given], now).await, [vec![], vec![]]);
        assert!(site.ledger.expire(now).await.unwrap().sessions.is_empty());
    }
    // Another node's session, a wrong fence and a stranger are no one's.
    assert_eq!(
        site.beat("n22", &[&given], START).await,
        [vec![given.ask.session], vec![]]
    );
    let wrong = Holding {
        fence: safelight_policies::id::Fence(77),
        ..holding(&given)
    };
    let stranger = Holding {
        session: session(12_345),
        ..wrong
    };
    let (name, both) = (node("n1"), [wrong, stranger]);
    let beat = site.ledger.heartbeat(&name, &both, START + 130, TTL).await;
    assert_eq!(beat.unwrap().lost, [given.ask.session, session(12_345)]);
    // What was committed is held no more.
    assert_eq!(site.commit(&given, START + 130).await, Settlement::Accepted);
    assert_eq!(
        site.beat("n1", &[&given], START + 131).await,
        [vec![given.ask.session], vec![]]
    );
    // A node that nobody knows holds nothing.
    assert_eq!(
        site.beat("n333", &[&given], START).await,
        [vec![given.ask.session], vec![]]
    );
}

#[tokio::test]
async fn a_silent_node_loses_its_tasks_to_another_and_comes_back_too_late() {
    let site = Site::new().await;
    site.node("n1", &[slot(4)], START).await;
    site.receive(&outline(1, &[(1, &[])]), START).await;
    let old = site.given(place("n1", 0), START).await;
    let now = START + TTL;
    let reaped = site.ledger.expire(now).await.unwrap();
    assert_eq!(reaped.sessions, [old.ask.session]);
    assert_eq!(reaped.nodes, [node("n1")]);
    assert_eq!(
        site.takes(place("n1", 0), now).await,
        format!("its node was not heard of for {TTL} s")
    );
    site.node("n22", &[slot(4)], now).await;
    let new = site.given(place("n22", 0), now).await;
    assert_eq!((new.task, new.leased.attempt), (old.task, 2));
    assert!(new.leased.fence > old.leased.fence);
    // The old one wakes up.
    assert_eq!(
        site.beat("n1", &[&old], now + 1).await,
        [vec![old.ask.session], vec![]]
    );
    assert_eq!(
        site.commit(&old, now + 1).await,
        refused(SettleRefusal::Ended)
    );
    let renew = site
        .ledger
        .renew(old.ask.session, old.leased.fence, now + 1, TTL)
        .await;
    assert_eq!(renew.unwrap(), refused(SettleRefusal::Ended));
    assert_eq!(site.commit(&new, now + 2).await, Settlement::Accepted);
    assert_eq!(site.ledger.nodes().await.unwrap()[0].state, NodeState::Up);
    assert!(
        site.ledger
            .expire(now + 2)
            .await
            .unwrap()
            .sessions
            .is_empty()
    );
    site.recount().await;
}

#[tokio::test]
async fn a_node_that_begins_again_holds_nothing() {
    let site = Site::new().await;
    site.node("n1", &[slot(4), slot(4)], START).await;
    site.receive(&outline(1, &[(2, &[])]), START).await;
    let given = site.given(place("n1", 0), START).await;
    site.node("n1", &[slot(4)], START + 5).await;
    assert_eq!(
        site.commit(&given, START + 5).await,
        refused(SettleRefusal::Ended)
    );
    let attempts = site.ledger.attempts(given.outline.job).await.unwrap();
    assert_eq!(attempts[0].cause, Some(Cause::NodeLost));
    let slots = site.ledger.slots(START + 5).await.unwrap();
    assert_eq!(slots.len(), 1);
    assert_eq!((slots[0].unavailable, slots[0].holds), (None, None));
    site.recount().await;
}

#[tokio::test]
async fn a_drained_node_ends_what_it_has() {
    let site = Site::new().await;
    site.node("n1", &[slot(4), slot(4)], START).await;
    site.receive(&outline(1, &[(3, &[])]), START).await;
    let given = site.given(place("n1", 0), START).await;
    assert_eq!(
        site.ledger.drain_node(&node("n1")).await.unwrap(),
        NodeState::Draining
    );
    assert_eq!(
        site.takes(place("n1", 1), START).await,
        "its node is being drained"
    );
    assert_eq!(site.beat("n1", &[&given], START).await, [vec![], vec![]]);
    assert_eq!(site.commit(&given, START).await, Settlement::Accepted);
    // A restart does not undo it.
    site.node("n1", &[slot(4)], START).await;
    assert_eq!(
        site.takes(place("n1", 0), START).await,
        "its node is being drained"
    );
    assert_eq!(
        site.ledger.resume_node(&node("n1")).await.unwrap(),
        NodeState::Up
    );
    assert_eq!(site.takes(place("n1", 0), START).await, "1:0.1");
    site.ledger.leave_node(&node("n1"), START).await.unwrap();
    assert_eq!(site.takes(place("n1", 0), START).await, "its node is down");
    site.recount().await;
}

#[tokio::test]
async fn a_node_that_only_fails_is_drained() {
    let site = Site::with(Rules {
        elsewhere: 0,
        ..Rules::default()
    })
    .await;
    site.node("n1", &[slot(4)], START).await;
    site.receive(&outline(1, &[(9, &[])]), START).await;
    let mount = Cause::NotStarted {
        step: "mount".into(),
        errno: 28,
    };
    for _ in 0..2 {
        let given = site.given(place("n1", 0), START).await;
        assert_eq!(site.end(&given, &mount, START).await, Settlement::Accepted);
    }
    // A result in between clears its name; a job's own failure does not count.
    let given = site.given(place("n1", 0), START).await;
    assert_eq!(site.commit(&given, START).await, Settlement::Accepted);
    let exit = Cause::Exited { code: 1 };
    for cause in [&mount, &exit, &mount] {
        let given = site.given(place("n1", 0), START).await;
        assert_eq!(site.end(&given, cause, START).await, Settlement::Accepted);
    }
    assert_eq!(site.ledger.nodes().await.unwrap()[0].state, NodeState::Up);
    let given = site.given(place("n1", 0), START).await;
    assert_eq!(site.end(&given, &mount, START).await, Settlement::Accepted);
    assert_eq!(
        site.ledger.nodes().await.unwrap()[0].state,
        NodeState::Draining
    );
    site.recount().await;
}

#[tokio::test]
async fn what_a_client_can_bring_about_by_itself_drains_no_node() {
    let not_started = |step: &str| Cause::NotStarted {
        step: step.to_owned(),
        errno: 0,
    };
    let causes = [
        (not_started("policy"), NodeState::Up),
        (not_started("grant"), NodeState::Up),
        (not_started("host"), NodeState::Up),
        (not_started("layers"), NodeState::Up),
        (not_started("disk"), NodeState::Up),
        (not_started("job files"), NodeState::Up),
        (
            not_started("one client at a time without root"),
            NodeState::Up,
        ),
        (Cause::Poisoned, NodeState::Up),
        (not_started("mount"), NodeState::Draining),
        (Cause::ViewLost, NodeState::Draining),
    ];
    for (cause, expected) in causes {
        let site = Site::new().await;
        site.node("n1", &[slot(4)], START).await;
        for number in 1..=4 {
            site.receive(&outline(number, &[(1, &[])]), START).await;
        }
        for _ in 0..site.ledger.rules().node_faults {
            let given = site.given(place("n1", 0), START).await;
            assert_eq!(site.end(&given, &cause, START).await, Settlement::Accepted);
        }
        let nodes = site.ledger.nodes().await.unwrap();
        assert_eq!(nodes[0].state, expected, "{cause}");
        site.recount().await;
    }
}

#[tokio::test]
async fn a_node_works_for_a_job_while_a_session_of_it_runs_there() {
    let site = Site::new().await;
    for name in ["n1", "n2"] {
        site.node(name, &[slot(4)], START).await;
    }
    site.receive(&outline(1, &[(1, &[])]), START).await;
    site.receive(&outline(2, &[(1, &[])]), START).await;
    let works = async |name: &str, number| {
        let works = site.ledger.works_for(&node(name), job(number)).await;
        works.unwrap()
    };
    assert!(!works("n1", 1).await);
    let given = site.given(place("n1", 0), START).await;
    assert!(works("n1", 1).await);
    assert!(!works("n1", 2).await && !works("n2", 1).await);
    assert_eq!(site.commit(&given, START).await, Settlement::Accepted);
    assert!(!works("n1", 1).await);
}
