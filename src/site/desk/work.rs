//! A lease as a node gets it: signed, with the client's envelope, and with the names of everything that it must fetch.

use std::collections::BTreeSet;

use safelight_policies::{
    cause::Cause,
    lease::{Lease, Wrapper},
    outline::Outline,
};
use safelight_scheduler::{AttemptState, Given};
use safelight_vfs::protocol::LAYERS_MAX;

use super::Desk;
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs::{self, Left},
    node::protocol::{Before, Work},
    run::{LEASE_MARGIN, sign_lease},
};

/// What the node needs for a lease.
///
/// The lease that is signed ends when the task's time is over; the ledger's ends sooner, unless the node goes on to say that it lives.
pub(super) async fn of(desk: &Desk, given: &Given, now: u64) -> Result<Work, Failure> {
    let outline = &given.outline;
    let job = outline.job;
    let timeout = outline
        .steps
        .get(given.task.step as usize)
        .map(|step| step.timeout);
    let timeout = timeout.ok_or_else(|| Failure::new(Kind::Internal, "the step does not exist"))?;
    let lease = Lease {
        client: outline.client.clone(),
        job,
        task: given.task,
        tasks: given.tasks,
        attempt: given.leased.attempt,
        fence: given.leased.fence,
        session: given.ask.session,
        node: given.ask.place.node.clone(),
        node_key: given.node_key,
        slot: given.ask.place.slot,
        expires: now.saturating_add(timeout).saturating_add(LEASE_MARGIN),
        wrapper: Wrapper {
            policy: outline.policy.clone(),
            digest: outline.policy_digest,
        },
    };
    let before = outline.steps_before(given.task.step);
    if tasks_of(outline, &before) > LAYERS_MAX as u64 {
        let message = format!("{job}: the steps before leave more layers than a task may have");
        let cause = Cause::NotStarted {
            step: "layers".to_owned(),
            errno: 0,
        };
        return Err(Failure::new(Kind::User, message).ends_with(cause));
    }
    let layers = if before.is_empty() {
        Vec::new()
    } else {
        layers(desk, outline, &before).await?
    };
    Ok(Work {
        lease: sign_lease(&lease, &desk.schedule)?,
        envelope: jobs::read(&desk.state.job(job)?.join("envelope"))?,
        list: jobs::list(&desk.state, job)?,
        layers,
    })
}

/// How many tasks these steps have: each leaves a layer. Asked before anything is read, since there may be a hundred million.
fn tasks_of(outline: &Outline, steps: &BTreeSet<u32>) -> u64 {
    let steps = steps
        .iter()
        .filter_map(|step| outline.steps.get(*step as usize));
    steps.fold(0, |sum, step| sum.saturating_add(step.tasks))
}

/// The results of these steps' tasks that count, by step, then by task.
async fn layers(
    desk: &Desk,
    outline: &Outline,
    steps: &BTreeSet<u32>,
) -> Result<Vec<Before>, Failure> {
    let attempts = desk.ledger.attempts(outline.job).await;
    let committed: BTreeSet<_> = attempts
        .or_fail(Kind::Environment)?
        .into_iter()
        .filter(|attempt| attempt.state == AttemptState::Committed)
        .map(|attempt| attempt.session)
        .collect();
    let (state, job) = (desk.state.clone(), outline.job);
    let all = tokio::task::spawn_blocking(move || jobs::all_left(&state, job));
    let all = all.await.or_fail(Kind::Internal)??;
    let counts = |left: &Left| steps.contains(&left.task.step) && committed.contains(&left.session);
    all.into_iter()
        .filter(counts)
        .map(|left| before(&left))
        .collect()
}

fn before(left: &Left) -> Result<Before, Failure> {
    let (Some(manifest), Some(list)) = (left.manifest, left.list) else {
        let message = format!("{} counts, but left nothing", left.session);
        return Err(Failure::new(Kind::Internal, message));
    };
    Ok(Before {
        manifest,
        session: left.session,
        attempt: left.attempt,
        fence: left.fence,
        list,
    })
}

#[cfg(test)]
mod tests {
    use safelight_policies::{
        id::{ClientAlias, JobId, PolicyDigest},
        outline::StepOutline,
    };

    use super::*;

    #[test]
    fn a_step_sees_what_all_steps_before_it_left() {
        let step = |depends_on: &[u32]| StepOutline {
            tasks: 1,
            depends_on: depends_on.to_vec(),
            amounts: Default::default(),
            attributes: Default::default(),
            timeout: 1,
            batch: None,
        };
        let outline = Outline {
            job: JobId::from_random([0; 10]),
            client: ClientAlias::new("river").unwrap(),
            priority: 50,
            policy: "generic".parse().unwrap(),
            policy_digest: PolicyDigest([0; 32]),
            steps: vec![step(&[]), step(&[0]), step(&[]), step(&[1, 0])],
            expires: 9,
            central: vec![],
            retries: None,
            wishes: Default::default(),
        };
        let table: [(u32, &[u32]); 5] = [(0, &[]), (1, &[0]), (2, &[]), (3, &[0, 1]), (9, &[])];
        for (step, before) in table {
            let found: Vec<u32> = outline.steps_before(step).into_iter().collect();
            assert_eq!(found, before, "{step}");
            let tasks = tasks_of(&outline, &outline.steps_before(step));
            assert_eq!(tasks, before.len() as u64);
        }
    }
}
