//! What holds a job and a step, and which step a slot is given.

use super::*;
use crate::progress::tests::{count, outline};

const IDLE: [u64; 6] = [9, 0, 0, 0, 0, 0];
const BUSY: [u64; 6] = [9, 2, 2, 0, 0, 0];
const DEAD: [u64; 6] = [9, 5, 0, 0, 5, 1];

/// What holds a job of nine tasks that may have three given up, after `but` was done to it.
fn said(count_of: [u64; 6], held: Held, now: u64, but: impl Fn(&mut Candidate<'_>)) -> Vec<String> {
    let outline = outline(&[(9, &[])]);
    let counts = [count(count_of)];
    let mut job = Candidate {
        outline: &outline,
        state: JobState::Waiting,
        queue: Some(Queue::Active),
        paused: false,
        counts: &counts,
        dead_max: 3,
    };
    but(&mut job);
    holds(&job, &held, now)
        .iter()
        .map(Hold::to_string)
        .collect()
}

#[test]
fn what_people_and_time_hold_is_said() {
    let free = Held::default();
    let nothing: [&str; 0] = [];
    assert_eq!(said(IDLE, free, 999, |_| {}), nothing);
    assert_eq!(said(IDLE, free, 1_000, |_| {}), ["the job expired"]);
    let mut stopped = free;
    stopped.queue.paused = true;
    assert_eq!(
        said(IDLE, stopped, 0, |job| job.paused = true),
        ["the job is paused", "the active queue is paused"]
    );
    let outsourced = |job: &mut Candidate<'_>| {
        (job.state, job.queue) = (JobState::Outsourced, Some(Queue::Outsourced));
    };
    assert_eq!(
        said(IDLE, free, 0, outsourced),
        ["the job is outsourced, not in the active queue"]
    );
    assert_eq!(
        said(DEAD, free, 0, |_| {}),
        ["4 tasks were given up and the limit is 3"]
    );
    assert_eq!(said(DEAD, free, 0, |job| job.dead_max = 4), nothing);
}

#[test]
fn caps_hold_and_say_so() {
    let under_way = |under_way| Held {
        queue: QueueRule {
            paused: false,
            cap: Some(2),
        },
        under_way,
        ..Held::default()
    };
    let client = |client| Held {
        client,
        client_cap: Some(5),
        ..Held::default()
    };
    let full = "2 jobs are under way and the limit is 2";
    let many = "its client has 5 sessions and the limit is 5";
    let table: [([u64; 6], Held, &[&str]); 5] = [
        (IDLE, under_way(1), &[]),
        (IDLE, under_way(2), &[full]),
        // A job that is under way is one of them and goes on.
        (BUSY, under_way(2), &[]),
        (IDLE, client(4), &[]),
        (BUSY, client(5), &[many]),
    ];
    for (count, held, expected) in table {
        assert_eq!(said(count, held, 0, |_| {}), expected, "{count:?} {held:?}");
    }
}

#[test]
fn a_slot_is_given_the_most_demanding_step_that_fits_and_is_ready() {
    let mut outline = outline(&[(4, &[]), (4, &[]), (4, &[]), (4, &[0])]);
    for (step, vcpu) in [(0, 1.0), (1, 4.0), (2, 16.0), (3, 8.0)] {
        let amounts = &mut outline.steps[step].amounts;
        amounts.insert("amount.worker.vcpu".into(), vcpu);
    }
    let slot = SlotSpec {
        vcpu: 8,
        ..SlotSpec::default()
    };
    let none = PoolUse::default();
    let fresh = count([4, 0, 0, 0, 0, 0]);
    let done = count([4, 4, 0, 4, 0, 0]);
    assert_eq!(steps_for(&slot, &none, &outline, &[fresh; 4]), [1, 0]);
    assert_eq!(
        steps_for(&slot, &none, &outline, &[done, fresh, fresh, fresh]),
        [3, 1]
    );
    let given_out = count([4, 4, 4, 0, 0, 0]);
    assert_eq!(
        steps_for(&slot, &none, &outline, &[fresh, given_out, fresh, fresh]),
        [0]
    );
    let again = count([4, 4, 3, 0, 1, 1]);
    assert_eq!(
        steps_for(&slot, &none, &outline, &[fresh, again, fresh, fresh]),
        [1, 0]
    );
}

#[test]
fn a_step_waits_for_what_others_hold_of_a_pool() {
    const C: &str = "amount.licence.c";
    let mut outline = outline(&[(4, &[]), (4, &[])]);
    outline.steps[0].amounts.insert(C.to_owned(), 1.0);
    let fresh = [count([4, 0, 0, 0, 0, 0]); 2];
    let slot = SlotSpec::default();
    let mut pools = PoolUse::new(&[(C.to_owned(), 1)].into());
    assert_eq!(steps_for(&slot, &pools, &outline, &fresh), [0, 1]);
    pools.take(&outline.steps[0].amounts, 1);
    assert_eq!(steps_for(&slot, &pools, &outline, &fresh), [1]);
    let hold = step_hold(&outline, &fresh, 0, &pools).unwrap();
    assert_eq!(
        hold.to_string(),
        "needs 1 of amount.licence.c, and 1 of 1 are in use"
    );
    // Where there is no such pool, no slot has it either.
    assert_eq!(steps_for(&slot, &PoolUse::default(), &outline, &fresh), [1]);
}
