//! `safelight run`: one untrusted command, from the client's directory to the results at home, in three processes with one number.
//!
//! The client packs, and then *becomes* the agent by `exec`; the agent becomes the client again to take the results home. An `exec`
//! leaves nothing of the old program's memory, arguments and environment, so while the job runs no name, parameter or byte of the
//! client's is in any process but the view server and the session.

mod agent;
mod arguments;
mod attempt;
mod books;
mod client;
mod doors;
mod home;
mod servers;
mod settle;
mod signals;
mod slot;

pub(crate) use self::{
    agent::{admit, check_host, check_report, draw_session, run as agent},
    arguments::{AgentArgs, Central, HomeArgs, RunArgs, duration},
    attempt::{Attempt, Ending},
    books::{Books, LEASE_MARGIN, NODE as OWN_NODE, node_name as own_node, sign_lease, site_key},
    client::run as client,
    doors::Recorded,
    home::run as home,
    servers::{AuditWriter, KeyWarden, ViewIo, ViewServer, end},
    signals::{Signals, stay_on_hang_up},
    slot::{Slot, claim as claim_slot},
};
