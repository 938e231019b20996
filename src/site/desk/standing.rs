//! The state of a log of a session that goes on: into its client's register, from where it goes to the client's own site.

use safelight_audit::Statement;
use safelight_policies::id::NodeName;
use safelight_scheduler::AttemptState;

use super::{Desk, call};
use crate::{
    failure::{Failure, Kind, OrFail},
    node::protocol::{Answer, Standing},
    registers,
    state::LogOf,
};

/// Notes it, if the session is this node's and goes on. What a node says of its log binds the node: its end must go on from there.
pub(super) async fn note(
    desk: &Desk,
    node: &NodeName,
    said: Standing,
    now: u64,
) -> Result<Answer, Failure> {
    let Some((job, entry)) = call::attempt(desk, node, said.session).await? else {
        return Ok(call::refused("no such session of this node"));
    };
    if entry.state != AttemptState::Running || entry.fence != said.fence {
        return Ok(call::refused("the session's lease is over"));
    }
    if !desk.guard.goes_on(said.session, said.records, now) {
        return Ok(call::refused(
            "the state of this log is no later one, or comes too soon",
        ));
    }
    let told = desk.ledger.job(&job.to_string()).await;
    let client = told.or_fail(Kind::Environment)?.outline.client;
    let statement = Statement {
        job,
        log: LogOf::Session(said.session).id(job),
        records: said.records,
        root: said.root,
        chain: said.chain,
    };
    let state = desk.state.clone();
    let note = move || registers::register(&state, &client, &[statement]);
    tokio::task::spawn_blocking(note)
        .await
        .or_fail(Kind::Internal)??;
    Ok(Answer::Settled)
}
