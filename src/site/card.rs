//! Cards: who a site is, for those who are to trust it, and the peers whose cards were accepted.
//!
//! A card holds public keys only. What makes it worth something is that people compare its fingerprint over another way than the one that
//! the card came by.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use data_encoding::HEXLOWER;
use safelight_bundle::Place;
use safelight_policies::id::{ClientAlias, SiteName, VerifyKey};
use safelight_seal::random::{Random, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Failure, Kind, OrFail},
    jobs,
    state::State,
};

/// What a site does for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// A client's own site: jobs are submitted here, and rendered here or sent away.
    Local,
    /// Renders for other sites.
    Remote,
}

/// A site's public keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Card {
    /// What the site calls itself.
    pub(crate) site: SiteName,
    /// What it does.
    pub(crate) role: Role,
    /// The key that signs its letters: a client's own, or the key of the render site's warden.
    #[serde(with = "hex_key")]
    pub(crate) letters: VerifyKey,
    /// The key that signs its leases, for its nodes.
    #[serde(with = "hex_key")]
    pub(crate) schedule: VerifyKey,
    /// Whose site it is, by alias, if it is a client's.
    pub(crate) client: Option<ClientAlias>,
}

impl Card {
    /// Where a site keeps its own.
    pub(crate) fn path(state: &State) -> PathBuf {
        state.root().join("card.toml")
    }

    /// Reads a card.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = jobs::read(path)?;
        let text = String::from_utf8(text).or_fail(Kind::User)?;
        let card: Self = toml::from_str(&text).map_err(|error| {
            let message = format!("{} is not a site's card: {error}", path.display());
            Failure::new(Kind::User, message).hint("a card is made by: safelight site init")
        })?;
        if (card.role == Role::Local) != card.client.is_some() {
            let message = format!(
                "{} names a client, or none, against its role",
                path.display()
            );
            return Err(Failure::new(Kind::User, message));
        }
        Ok(card)
    }

    /// Writes this site's own card, which everybody may read.
    pub(crate) fn write(&self, state: &State) -> Result<PathBuf, Failure> {
        let path = Self::path(state);
        let text = toml::to_string(self).or_fail(Kind::Internal)?;
        std::fs::write(&path, text).or_fail(Kind::Environment)?;
        Ok(path)
    }
}

/// How long a peer that was restored waits for new prekeys after it last had some in advance.
const RESUPPLY: Duration = Duration::from_secs(600);

/// A site that we deal with, and the folders in between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peer {
    /// Its card.
    pub(crate) card: Card,
    /// The hot folder that we write for it.
    pub(crate) out: Place,
    /// The hot folder that we read from it.
    pub(crate) r#in: Place,
}

fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::from_error(Kind::Environment, &error))
        }
        _ => Ok(()),
    }
}

fn directory(state: &State) -> PathBuf {
    state.root().join("peers")
}

impl Peer {
    /// Every peer, by name.
    pub(crate) fn all(state: &State) -> Result<Vec<Self>, Failure> {
        let entries = match std::fs::read_dir(directory(state)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Failure::from_error(Kind::Environment, &error)),
        };
        let mut peers = Vec::new();
        for entry in entries {
            let path = entry.or_fail(Kind::Environment)?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                let text = String::from_utf8(jobs::read(&path)?).or_fail(Kind::Config)?;
                let peer: Self = toml::from_str(&text).map_err(|error| {
                    Failure::new(Kind::Config, format!("{}: {error}", path.display()))
                })?;
                peers.push(peer);
            }
        }
        peers.sort_by(|a, b| a.card.site.cmp(&b.card.site));
        Ok(peers)
    }

    /// Keeps a peer, in place of what was known under its name.
    pub(crate) fn write(&self, state: &State) -> Result<(), Failure> {
        std::fs::create_dir_all(directory(state)).or_fail(Kind::Environment)?;
        let text = toml::to_string(self).or_fail(Kind::Internal)?;
        jobs::write_private(&self.path(state), text.as_bytes())
    }

    /// Forgets a peer.
    pub(crate) fn remove(&self, state: &State) -> Result<(), Failure> {
        std::fs::remove_file(self.path(state)).or_fail(Kind::Environment)
    }

    /// Marks that the peer had its first prekeys.
    pub(super) fn supplied(&self, state: &State) -> PathBuf {
        directory(state).join(format!("{}.supplied", self.card.letters.fingerprint()))
    }

    /// Says that the peer began a new run of letters: it was restored from a backup, and is to have prekeys as if it had none.
    pub(super) fn resupply(&self, state: &State) -> Result<(), Failure> {
        jobs::write_private(&self.resupply_path(state), b"")
    }

    /// True if the peer is to have prekeys in advance. One that says again and again that it was restored waits [`RESUPPLY`] in between.
    pub(super) fn is_to_be_supplied(&self, state: &State) -> bool {
        let since = |path: &Path| {
            std::fs::metadata(path)
                .ok()?
                .modified()
                .ok()?
                .elapsed()
                .ok()
        };
        match since(&self.supplied(state)) {
            Some(since) => since >= RESUPPLY && self.resupply_path(state).exists(),
            None => !self.supplied(state).exists(),
        }
    }

    /// The peer has prekeys in advance. If it was restored, its copy of our register is older than what we sent: it is sent anew.
    pub(super) fn now_supplied(&self, state: &State) -> Result<(), Failure> {
        remove(&self.registered(state))?;
        jobs::write_private(&self.supplied(state), b"")?;
        remove(&self.resupply_path(state))
    }

    /// How many entries of its client's register the peer was sent, in digits.
    pub(super) fn registered(&self, state: &State) -> PathBuf {
        self.supplied(state).with_extension("registered")
    }

    fn resupply_path(&self, state: &State) -> PathBuf {
        directory(state).join(format!("{}.resupply", self.card.letters.fingerprint()))
    }

    /// What the folders' commands asked of the link last: a site that is served compares it, and reads the ledger anew when it changed.
    pub(super) fn asked(&self, state: &State) -> Result<Vec<u8>, Failure> {
        match std::fs::read(self.asked_path(state)) {
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Failure::from_error(Kind::Environment, &error)),
        }
    }

    /// Says that the ledger was changed beside the site that is served.
    pub(super) fn ask(&self, state: &State) -> Result<(), Failure> {
        let mut random = [0; 16];
        SystemRandom::new()
            .fill(&mut random)
            .or_fail(Kind::Internal)?;
        jobs::write_private(&self.asked_path(state), HEXLOWER.encode(&random).as_bytes())
    }

    /// What the peer is known to have accepted lately: see [`super::holdings`].
    pub(super) fn holdings(&self, state: &State) -> PathBuf {
        directory(state).join(format!("{}.holds", self.card.letters.fingerprint()))
    }

    fn asked_path(&self, state: &State) -> PathBuf {
        directory(state).join(format!("{}.asked", self.card.letters.fingerprint()))
    }

    fn path(&self, state: &State) -> PathBuf {
        directory(state).join(format!("{}.toml", self.card.site))
    }
}

mod hex_key {
    use super::{HEXLOWER, VerifyKey};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(key: &VerifyKey, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&HEXLOWER.encode(&key.0))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<VerifyKey, D::Error> {
        let text = String::deserialize(from)?;
        let key = HEXLOWER.decode(text.as_bytes()).ok();
        key.and_then(|key| key.try_into().ok())
            .map(VerifyKey)
            .ok_or_else(|| D::Error::custom("a public key is 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_reads_back_and_says_what_it_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("card.toml");
        let card = Card {
            site: "north".parse().unwrap(),
            role: Role::Remote,
            letters: VerifyKey([1; 32]),
            schedule: VerifyKey([2; 32]),
            client: None,
        };
        let text = toml::to_string(&card).unwrap();
        let refused = [
            text.replace("0101", "01"),
            text.replace("remote", "local"),
            text.replace("north", "No Name"),
            format!("{text}more = 1\n"),
            "x".to_owned(),
        ];
        for text in refused {
            std::fs::write(&path, &text).unwrap();
            assert!(Card::read(&path).is_err(), "{text}");
        }
        std::fs::write(&path, &text).unwrap();
        assert_eq!(Card::read(&path).unwrap(), card);
    }
}
