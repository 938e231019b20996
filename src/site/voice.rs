//! Who a site is, and who signs for it: the client's process at a client's own site, the warden at a render site. The site itself holds
//! neither key.

use safelight_policies::id::VerifyKey;

use super::card::Role;
use crate::{client::ClientProcess, failure::Failure, state::State, warden::LetterSigner};

/// The process that signs the site's letters.
pub(super) enum Voice {
    /// A client's.
    Client(ClientProcess),
    /// A render site's.
    Warden(LetterSigner),
}

impl Voice {
    /// Starts the process.
    pub(super) fn start(state: &State, role: Role) -> Result<Self, Failure> {
        Ok(match role {
            Role::Local => Self::Client(ClientProcess::start(state)?),
            Role::Remote => Self::Warden(LetterSigner::start(state)?),
        })
    }

    /// True as long as the process is there.
    pub(super) fn lives(&mut self) -> bool {
        match self {
            Self::Client(client) => client.lives(),
            Self::Warden(warden) => warden.lives(),
        }
    }

    /// Who signs.
    pub(super) fn public(&self) -> VerifyKey {
        match self {
            Self::Client(client) => client.public().0,
            Self::Warden(warden) => warden.public(),
        }
    }

    /// Signs a letter.
    pub(super) fn sign(&self, context: &str, body: &[u8]) -> Result<[u8; 64], Failure> {
        match self {
            Self::Client(client) => client.sign(context, body),
            Self::Warden(warden) => warden.sign(context, body),
        }
    }
}
