//! The warden signs the site's letters: prekeys, results, receipts. Nothing else is signed for who asks.
//!
//! The key that signs prekeys is who the site is; it stays in the warden's store. Who may speak to this process may say anything in the
//! site's name that a letter can say, and can open nothing with it.

use safelight_bundle::{
    Document, Heartbeat, JobEnded, LookNotice, PrekeyBatch, Receipt, RegisterNotice, ResultNotice,
};
use safelight_channel::Channel;
use safelight_policies::id::VerifyKey;
use serde::{Deserialize, Serialize};

use super::{admin, store::Store};
use crate::{
    failure::{Failure, Kind, OrFail},
    process,
    state::{State, user},
};
use safelight_seal::random::Random;

/// What a letter of a site may be.
const CONTEXTS: [&str; 7] = [
    RegisterNotice::CONTEXT,
    LookNotice::CONTEXT,
    PrekeyBatch::CONTEXT,
    ResultNotice::CONTEXT,
    JobEnded::CONTEXT,
    Receipt::CONTEXT,
    Heartbeat::CONTEXT,
];

#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    /// Who signs?
    Public,
    /// Sign a letter.
    Sign { context: String, body: Vec<u8> },
    /// Make a prekey.
    Mint,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Public(VerifyKey),
    Signature(Vec<u8>),
    Prekey(Vec<u8>),
    Refused { reason: String },
}

/// Answers the parent until it hangs up.
pub(super) fn serve(
    parent: &Channel,
    store: &Store,
    random: &dyn Random,
    now: impl Fn() -> u64,
) -> Result<(), Failure> {
    while let Some(incoming) = parent.recv::<Ask>().or_fail(Kind::Internal)? {
        let (ask, []) = incoming.exactly::<0>().or_fail(Kind::Internal)?;
        let answer = match ask {
            Ask::Public => Answer::Public(store.signing().public()),
            Ask::Sign { context, body } if CONTEXTS.contains(&context.as_str()) => {
                Answer::Signature(store.signing().sign(&context, &body).to_vec())
            }
            Ask::Sign { context, .. } => Answer::Refused {
                reason: format!("{context:?} is no letter of a site"),
            },
            Ask::Mint => Answer::Prekey(admin::mint(store, random, now())?),
        };
        parent.send(&answer).or_fail(Kind::Internal)?;
    }
    Ok(())
}

/// The signing process, as the site loop holds it.
pub(crate) struct LetterSigner {
    process: process::Process,
    public: VerifyKey,
}

impl LetterSigner {
    /// Starts it.
    pub(crate) fn start(state: &State) -> Result<Self, Failure> {
        let store = std::fs::File::open(state.warden()).or_fail(Kind::Environment)?;
        let identity = state
            .is_privileged()
            .then_some((user::WARDEN, user::WARDEN));
        let process = process::start(
            "keyd",
            &["letters", "--store", "."],
            identity,
            Some(&std::os::fd::OwnedFd::from(store)),
        )?;
        let mut signer = Self {
            process,
            public: VerifyKey([0; 32]),
        };
        match signer.ask(&Ask::Public)? {
            Answer::Public(public) => signer.public = public,
            _ => return Err(out_of_turn()),
        }
        Ok(signer)
    }

    /// True as long as the process is there.
    pub(crate) fn lives(&mut self) -> bool {
        matches!(self.process.child.try_wait(), Ok(None))
    }

    /// Who the site is.
    pub(crate) fn public(&self) -> VerifyKey {
        self.public
    }

    /// Signs a letter.
    pub(crate) fn sign(&self, context: &str, body: &[u8]) -> Result<[u8; 64], Failure> {
        let ask = Ask::Sign {
            context: context.to_owned(),
            body: body.to_vec(),
        };
        match self.ask(&ask)? {
            Answer::Signature(signature) => signature.try_into().map_err(|_| out_of_turn()),
            _ => Err(out_of_turn()),
        }
    }

    /// A new prekey, signed.
    pub(crate) fn mint(&self) -> Result<Vec<u8>, Failure> {
        match self.ask(&Ask::Mint)? {
            Answer::Prekey(signed) => Ok(signed),
            _ => Err(out_of_turn()),
        }
    }

    fn ask(&self, ask: &Ask) -> Result<Answer, Failure> {
        let channel = &self.process.channel;
        channel.send(ask).or_fail(Kind::Internal)?;
        match channel.expect::<Answer>().or_fail(Kind::Internal)?.message {
            Answer::Refused { reason } => Err(Failure::new(Kind::Internal, reason)),
            answer => Ok(answer),
        }
    }
}

fn out_of_turn() -> Failure {
    Failure::new(Kind::Internal, "the key warden answered something else")
}
