//! The key warden: holds the site's one-time prekeys, and releases a job's key into one view server at a time.
//!
//! The warden is its own process with its own user (`safelight keyd serve`). The agent that started it is not believed: what it passes
//! on is worth what its signatures are worth. A release goes like this, and each step comes before the next:
//!
//! 1. the judge checks lease, envelope, node, times and fence ([`judge`], pure);
//! 2. the fence is on disk, so that the same lease is never good for a second release ([`store`]);
//! 3. the release is on the audit log, and the log is on disk ([`serve`]);
//! 4. the prekey opens the job key, which is wrapped to the view server's ephemeral key and forgotten.
//!
//! The only door is the channel to the parent. What a node asks comes through its site, which passes on what it cannot read: the request is
//! signed by the node, and the answer is sealed for one view server. The site's letters are signed by a process of the same user
//! ([`letters`]), which has no way to a prekey's secret half but to make a new one.

mod admin;
mod judge;
mod letters;
mod look;
mod request;
mod serve;
mod store;

use std::path::PathBuf;

use clap::Subcommand;
use safelight_channel::Channel;
use safelight_policies::id::{ClientAlias, GrantId, JobId};
use safelight_seal::{harden::harden, job_key::Stanza, random::SystemRandom};
use serde::{Deserialize, Serialize};

pub(crate) use admin::{
    enroll_client, enroll_node, enroll_schedule, enrolled_client, enrolled_node, erase, has_prekey,
    is_withdrawn, mint_prekey, parse_key, revoke_client, revoke_node, withdraw,
};
pub(crate) use letters::LetterSigner;
pub(crate) use look::{LookRequest, OPERATOR_CONTEXT};
pub(crate) use request::{NODE_CONTEXT, Request};

use crate::{
    failure::{Failure, Kind, OrFail},
    process,
};
use store::{Role, Store};

/// What the parent asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Comes first and once, with one descriptor: the warden's channel to the audit writer.
    Audit,
    /// Release a job's key into a view server.
    Release(Request),
    /// Release what reads a job into a view server, by a grant of its client's.
    Look(LookRequest),
    /// The job has ended: erase the one-time prekey that opens it.
    Erase {
        /// The job.
        job: JobId,
        /// Its prekey.
        prekey: [u8; 16],
    },
}

/// What the warden answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The job's key, for the view server alone.
    Released {
        /// Wrapped to the view key.
        stanza: Stanza,
    },
    /// What reads the job, for the view server alone, and for how many seconds.
    Granted {
        /// Wrapped to the view key.
        stanza: Stanza,
        /// When they are over the look ends.
        seconds: u64,
    },
    /// Nothing was released or erased.
    Refused {
        /// Why, in the warden's own words.
        reason: String,
    },
    /// The prekey is gone, and with it this site's way into the job.
    Erased,
}

/// The warden's own commands. They run as the warden's user, on its store.
#[derive(Debug, Subcommand)]
pub(crate) enum KeydCommand {
    /// Serve the process at the other end of standard input
    Serve {
        /// The warden's store
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
    },
    /// Sign letters for the process at the other end of standard input
    Letters {
        /// The warden's store
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
    },
    /// Erase the one-time prekey of a job, and with it this site's way into the job
    Erase {
        /// The warden's store
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
        /// The job
        job: JobId,
        /// Its prekey in hexadecimal digits
        prekey: String,
    },
    /// Trust a key no longer
    Revoke {
        /// The warden's store
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
        /// Whose key it is
        #[arg(value_enum)]
        role: Role,
        /// The client's alias or the node's name
        name: String,
    },
    /// Note that a client revoked one of its debug grants
    Withdraw {
        /// The warden's store
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
        /// The client's alias
        client: ClientAlias,
        /// The grant
        number: GrantId,
    },
    /// Mint a one-time prekey and print its public half, signed, as one line of hexadecimal digits
    Prekey {
        /// The warden's store
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
    },
    /// Trust a key: a client's, a node's or the schedule server's
    Enroll {
        /// The warden's store
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
        /// Whose key it is
        #[arg(value_enum)]
        role: Role,
        /// The client's alias or the node's name; '-' for the schedule server
        name: String,
        /// The public key in hexadecimal digits
        key: String,
    },
}

/// Runs one of the warden's own commands.
pub(crate) fn run(command: KeydCommand) -> Result<(), Failure> {
    harden().or_fail(Kind::Environment)?;
    let random = SystemRandom::new();
    match command {
        KeydCommand::Serve { store } => {
            let store = Store::open(&store, &random).or_fail(Kind::Environment)?;
            let parent = Channel::to_parent().or_fail(Kind::User)?;
            serve::serve(&parent, store, &random, process::now_seconds)
        }
        KeydCommand::Letters { store } => {
            let store = Store::open(&store, &random).or_fail(Kind::Environment)?;
            let parent = Channel::to_parent().or_fail(Kind::User)?;
            letters::serve(&parent, &store, &random, process::now_seconds)
        }
        KeydCommand::Erase { store, job, prekey } => {
            let prekey = admin::parse_prekey(&prekey)?;
            let store = Store::open(&store, &random).or_fail(Kind::Environment)?;
            let erased = store.erase(&prekey, job).or_fail(Kind::Environment)?;
            let other = || Failure::new(Kind::Denied, "the prekey belongs to another job");
            erased.then_some(()).ok_or_else(other)
        }
        KeydCommand::Revoke { store, role, name } => {
            let store = Store::open(&store, &random).or_fail(Kind::Environment)?;
            store.revoke(role, &name).or_fail(Kind::Environment)
        }
        KeydCommand::Withdraw {
            store,
            client,
            number,
        } => {
            let store = Store::open(&store, &random).or_fail(Kind::Environment)?;
            store.withdraw(&client, number).or_fail(Kind::Environment)
        }
        KeydCommand::Prekey { store } => {
            let store = Store::open(&store, &random).or_fail(Kind::Environment)?;
            admin::print_prekey(&store, &random, process::now_seconds())
        }
        KeydCommand::Enroll {
            store,
            role,
            name,
            key,
        } => {
            let key = admin::parse_key(&key)?;
            let store = Store::open(&store, &random).or_fail(Kind::Environment)?;
            store.enroll(role, &name, &key).or_fail(Kind::Environment)
        }
    }
}
