//! The decisions of the ledger, as functions of what it holds. Pure: the store reads, asks here, and writes the answer in one transaction.

use safelight_policies::{
    id::{Fence, SessionId, TaskId},
    outline::Outline,
};

use crate::ledger::{Anchor, AttemptState, JobState, LeaseRefusal, SettleRefusal};

/// What a decision needs to know of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Its session.
    pub session: SessionId,
    /// Counts the attempts of the task, from one.
    pub attempt: u32,
    /// Its fence.
    pub fence: Fence,
    /// Where it stands.
    pub state: AttemptState,
    /// The end of its lease, in seconds since 1970.
    pub lease_until: u64,
}

/// A lease that may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grantable {
    /// The number of the new attempt.
    pub attempt: u32,
    /// The attempt whose lease ran out and which is superseded.
    pub supersedes: Option<Fence>,
}

/// True if the outline has such a task.
pub fn has_task(outline: &Outline, task: TaskId) -> bool {
    usize::try_from(task.step)
        .ok()
        .and_then(|step| outline.steps.get(step))
        .is_some_and(|step| task.task < step.tasks)
}

/// May a task be leased? `done[step]` counts the tasks of each step that have a result; `newest` is the task's newest attempt.
pub fn lease(
    outline: &Outline,
    task: TaskId,
    done: &[u64],
    newest: Option<Holder>,
    now: u64,
) -> Result<Grantable, LeaseRefusal> {
    if let Some(holder) = newest {
        match holder.state {
            AttemptState::Committed => return Err(LeaseRefusal::Done),
            AttemptState::Running if now < holder.lease_until => {
                return Err(LeaseRefusal::Held {
                    session: holder.session,
                    until: holder.lease_until,
                });
            }
            AttemptState::Running | AttemptState::Failed | AttemptState::Superseded => {}
        }
    }
    if now >= outline.expires {
        return Err(LeaseRefusal::Expired);
    }
    let before = outline.steps.get(task.step as usize);
    for step in before.map_or(&[][..], |step| &step.depends_on) {
        let needed = outline.steps.get(*step as usize).map(|step| step.tasks);
        if needed.is_none() || needed > done.get(*step as usize).copied() {
            return Err(LeaseRefusal::NotReady { step: *step });
        }
    }
    Ok(Grantable {
        attempt: newest.map_or(1, |holder| holder.attempt.saturating_add(1)),
        supersedes: newest
            .filter(|holder| holder.state == AttemptState::Running)
            .map(|holder| holder.fence),
    })
}

/// May an attempt commit, end or renew? `fence` is what the session shows, `newest` the newest fence of its task.
///
/// A lease that ran out but was not given to another still counts: nobody else can have a result, and the work is not thrown away.
pub fn settle(held: Holder, fence: Fence, newest: Fence) -> Result<(), SettleRefusal> {
    if held.fence != fence {
        return Err(SettleRefusal::WrongFence);
    }
    match held.state {
        AttemptState::Committed => Err(SettleRefusal::Committed),
        AttemptState::Failed => Err(SettleRefusal::Ended),
        AttemptState::Superseded => Err(SettleRefusal::OldFence),
        AttemptState::Running if fence != newest => Err(SettleRefusal::OldFence),
        AttemptState::Running => Ok(()),
    }
}

/// May an attempt commit? As [`settle`], and not if its job was canceled.
pub fn commit(
    held: Holder,
    fence: Fence,
    newest: Fence,
    job: JobState,
) -> Result<(), SettleRefusal> {
    settle(held, fence, newest)?;
    match job {
        JobState::Canceled => Err(SettleRefusal::Canceled),
        _ => Ok(()),
    }
}

/// How many attempts of a job stand where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Attempts that hold a lease.
    pub running: u64,
    /// Tasks with a result.
    pub committed: u64,
    /// Tasks whose newest attempt failed.
    pub failed: u64,
}

/// Where a job that is in no queue stands.
pub fn job_state(outline: &Outline, tally: Tally) -> JobState {
    let tasks = outline
        .steps
        .iter()
        .fold(0u64, |sum, step| sum.saturating_add(step.tasks));
    if tally.committed >= tasks {
        JobState::Succeeded
    } else if tally.running > 0 {
        JobState::Running
    } else if tally.failed > 0 {
        JobState::Failed
    } else {
        JobState::Waiting
    }
}

/// Which of two anchors is kept: the longer. `Err` if both are of the same length and differ, which no honest log does.
pub fn anchor(known: Option<Anchor>, new: Anchor) -> Result<Anchor, Anchor> {
    match known {
        Some(known) if known.records > new.records => Ok(known),
        Some(known) if known.records == new.records && known.chain != new.chain => Err(known),
        _ => Ok(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safelight_policies::{
        id::{ClientAlias, JobId, PolicyDigest, PolicyName},
        outline::StepOutline,
    };

    fn outline() -> Outline {
        let step = |tasks, depends_on| StepOutline {
            tasks,
            depends_on,
            amounts: Default::default(),
            attributes: Default::default(),
            timeout: 60,
            batch: None,
        };
        Outline {
            job: JobId::from_random([1; 10]),
            client: ClientAlias::new("river").unwrap(),
            priority: 50,
            policy: PolicyName::new("blender").unwrap(),
            policy_digest: PolicyDigest([0; 32]),
            steps: vec![step(2, vec![]), step(1, vec![0])],
            expires: 1_000,
            central: vec![],
            retries: None,
            wishes: Default::default(),
        }
    }

    fn holder(state: AttemptState, lease_until: u64) -> Option<Holder> {
        Some(Holder {
            session: SessionId::from_random([1; 10]),
            attempt: 4,
            fence: Fence(9),
            state,
            lease_until,
        })
    }

    #[test]
    fn a_lease_is_given_when_nobody_holds_the_task_and_it_can_run() {
        use AttemptState::{Committed, Failed, Running, Superseded};
        let session = SessionId::from_random([1; 10]);
        let given = |attempt, supersedes: Option<u64>| {
            Ok(Grantable {
                attempt,
                supersedes: supersedes.map(Fence),
            })
        };
        let held = Err(LeaseRefusal::Held {
            session,
            until: 100,
        });
        let not_ready = Err(LeaseRefusal::NotReady { step: 0 });
        let table = [
            (0, [0, 0], None, 50, given(1, None)),
            (0, [0, 0], holder(Running, 100), 99, held),
            (0, [0, 0], holder(Running, 100), 100, given(5, Some(9))),
            (0, [0, 0], holder(Failed, 100), 50, given(5, None)),
            (0, [0, 0], holder(Superseded, 100), 50, given(5, None)),
            (
                0,
                [1, 0],
                holder(Committed, 100),
                50,
                Err(LeaseRefusal::Done),
            ),
            (0, [0, 0], None, 999, given(1, None)),
            (0, [0, 0], None, 1_000, Err(LeaseRefusal::Expired)),
            (
                0,
                [0, 0],
                holder(Running, 2_000),
                1_000,
                Err(LeaseRefusal::Held {
                    session,
                    until: 2_000,
                }),
            ),
            (1, [0, 0], None, 50, not_ready),
            (1, [1, 0], None, 50, not_ready),
            (1, [2, 0], None, 50, given(1, None)),
        ];
        for (step, done, newest, now, expected) in table {
            let task = TaskId { step, task: 0 };
            assert_eq!(
                lease(&outline(), task, &done, newest, now),
                expected,
                "{step} {done:?} {newest:?} {now}"
            );
        }
    }

    #[test]
    fn a_dependency_that_does_not_exist_is_never_done() {
        let mut outline = outline();
        outline.steps[1].depends_on = vec![7];
        let task = TaskId { step: 1, task: 0 };
        assert_eq!(
            lease(&outline, task, &[2, 0], None, 1),
            Err(LeaseRefusal::NotReady { step: 7 })
        );
    }

    #[test]
    fn only_the_newest_fence_settles_and_only_once() {
        use AttemptState::{Committed, Failed, Running, Superseded};
        let table = [
            (Running, 9, 9, Ok(())),
            (Running, 9, 10, Err(SettleRefusal::OldFence)),
            (Running, 8, 9, Err(SettleRefusal::WrongFence)),
            (Committed, 9, 9, Err(SettleRefusal::Committed)),
            (Failed, 9, 9, Err(SettleRefusal::Ended)),
            (Superseded, 9, 10, Err(SettleRefusal::OldFence)),
            (Committed, 8, 9, Err(SettleRefusal::WrongFence)),
        ];
        for (state, shown, newest, expected) in table {
            let held = holder(state, 100).unwrap();
            assert_eq!(
                settle(held, Fence(shown), Fence(newest)),
                expected,
                "{state} {shown} {newest}"
            );
        }
    }

    #[test]
    fn nothing_of_a_canceled_job_is_committed() {
        let held = holder(AttemptState::Running, 100).unwrap();
        let ask = |job| commit(held, Fence(9), Fence(9), job);
        assert_eq!(ask(JobState::Running), Ok(()));
        assert_eq!(ask(JobState::Canceled), Err(SettleRefusal::Canceled));
        assert_eq!(
            commit(held, Fence(9), Fence(10), JobState::Canceled),
            Err(SettleRefusal::OldFence)
        );
    }

    #[test]
    fn a_job_stands_where_its_attempts_stand() {
        let table = [
            (0, 0, 0, JobState::Waiting),
            (1, 0, 0, JobState::Running),
            (1, 2, 1, JobState::Running),
            (0, 2, 0, JobState::Waiting),
            (0, 2, 1, JobState::Failed),
            (0, 3, 0, JobState::Succeeded),
        ];
        for (running, committed, failed, expected) in table {
            let tally = Tally {
                running,
                committed,
                failed,
            };
            assert_eq!(job_state(&outline(), tally), expected, "{tally:?}");
        }
    }

    #[test]
    fn an_anchor_never_goes_back() {
        let at = |records, byte| Anchor {
            records,
            chain: [byte; 32],
        };
        for (known, new, expected) in [
            (None, at(3, 1), Ok(at(3, 1))),
            (Some(at(3, 1)), at(4, 2), Ok(at(4, 2))),
            (Some(at(4, 2)), at(3, 1), Ok(at(4, 2))),
            (Some(at(3, 1)), at(3, 1), Ok(at(3, 1))),
            (Some(at(3, 1)), at(3, 2), Err(at(3, 1))),
        ] {
            assert_eq!(anchor(known, new), expected);
        }
    }

    #[test]
    fn tasks_are_those_of_the_outline() {
        for (step, task, expected) in [(0, 1, true), (0, 2, false), (1, 0, true), (2, 0, false)] {
            assert_eq!(has_task(&outline(), TaskId { step, task }), expected);
        }
    }
}
