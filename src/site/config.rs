//! `safelight.toml`: what the operator of a site decides. Made by `safelight site init`; every number has a default.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use safelight_policies::id::SiteName;
use safelight_scheduler::{ClientProfile, QueueRule, Rules, pools};
use serde::{Deserialize, Serialize};

use super::{card::Role, media::StoreConfig};
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs,
    state::State,
};

/// What a site is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Its name.
    pub(crate) name: SiteName,
    /// What it does.
    pub(crate) role: Role,
    /// Where its nodes reach it.
    pub(crate) listen: SocketAddr,
    /// How often the hot folders are looked at, in milliseconds.
    #[serde(default = "poll")]
    pub(crate) poll_ms: u64,
    /// How long something in a hot folder may look wrong, unchanged, before it is refused, in seconds: what is still being copied looks so.
    #[serde(default = "patience")]
    pub(crate) patience: u64,
    /// How often each peer is told that we live, in seconds.
    #[serde(default = "heartbeat")]
    pub(crate) heartbeat: u64,
    /// How often a node says that it lives, in seconds.
    #[serde(default = "beat")]
    pub(crate) beat: u64,
    /// For how long a lease outlives the last word of its node, in seconds.
    #[serde(default = "lease")]
    pub(crate) lease: u64,
    /// How often, in seconds, the state of the log of a session that goes on is noted, and sent to the client's own site.
    #[serde(default = "checkpoint")]
    pub(crate) checkpoint: u64,
    /// And after how many records at the latest.
    #[serde(default = "checkpoint_records")]
    pub(crate) checkpoint_records: u64,
    /// Whether users of this host may look at jobs by grants of their clients. Nobody may unless the operator of the site says so: whoever
    /// has an account on the host can then ask.
    #[serde(default)]
    pub(crate) looks: bool,
    /// One-time prekeys that each client has in advance.
    #[serde(default = "prekeys")]
    pub(crate) prekeys: u64,
    /// Jobs that may be at other sites at once.
    #[serde(default)]
    pub(crate) away: Option<u64>,
    /// The scheduler's numbers.
    #[serde(default)]
    pub(crate) rules: Rules,
    /// What may leave home, and when.
    #[serde(default)]
    pub(crate) placement: ClientProfile,
    /// Where the object stores of hot folders are, by the names of their buckets.
    #[serde(default)]
    pub(crate) stores: BTreeMap<String, StoreConfig>,
}

fn poll() -> u64 {
    500
}
fn patience() -> u64 {
    3_600
}
fn heartbeat() -> u64 {
    300
}
fn beat() -> u64 {
    5
}
fn lease() -> u64 {
    60
}
fn checkpoint() -> u64 {
    300
}
fn checkpoint_records() -> u64 {
    100_000
}
fn prekeys() -> u64 {
    32
}

impl Config {
    /// A site's numbers as they are until somebody changes them.
    pub(crate) fn new(name: SiteName, role: Role, listen: SocketAddr) -> Self {
        Self {
            name,
            role,
            listen,
            poll_ms: poll(),
            patience: patience(),
            heartbeat: heartbeat(),
            beat: beat(),
            lease: lease(),
            checkpoint: checkpoint(),
            checkpoint_records: checkpoint_records(),
            looks: false,
            prekeys: prekeys(),
            away: None,
            rules: Rules::default(),
            placement: ClientProfile::default(),
            stores: BTreeMap::new(),
        }
    }

    /// Where it is.
    pub(crate) fn path(state: &State) -> PathBuf {
        state.root().join("safelight.toml")
    }

    /// Reads it.
    pub(crate) fn read(state: &State) -> Result<Self, Failure> {
        let path = Self::path(state);
        if !path.exists() {
            let message = format!("{} is not a site's", state.root().display());
            return Err(Failure::new(Kind::Config, message)
                .hint("make it one: safelight site init --name NAME --role local|remote"));
        }
        let text = String::from_utf8(jobs::read(&path)?).or_fail(Kind::Config)?;
        let config: Self = toml::from_str(&text)
            .map_err(|error| Failure::new(Kind::Config, format!("{}: {error}", path.display())))?;
        config.check(&path)?;
        Ok(config)
    }

    fn check(&self, path: &std::path::Path) -> Result<(), Failure> {
        let refuse = |what: &str| {
            let message = format!("{}: {what}", path.display());
            Err(Failure::new(Kind::Config, message))
        };
        if self.beat == 0 || self.beat * 3 > self.lease {
            return refuse("a lease must outlive three beats");
        }
        if self.poll_ms == 0 || self.heartbeat == 0 {
            return refuse("poll_ms and heartbeat must be more than 0");
        }
        if self.checkpoint == 0 || self.checkpoint_records == 0 {
            return refuse("checkpoint and checkpoint_records must be more than 0");
        }
        if self.prekeys == 0 || self.prekeys > 256 {
            return refuse("prekeys must be 1 to 256");
        }
        if let Some(name) = self.rules.pools.keys().find(|name| !pools::is_name(name)) {
            return refuse(&format!(
                "rules.pools: {name:?} is no amount of the whole site, like amount.licence.c"
            ));
        }
        Ok(())
    }

    /// Writes it.
    pub(crate) fn write(&self, state: &State) -> Result<(), Failure> {
        let text = toml::to_string(self).or_fail(Kind::Internal)?;
        jobs::write_private(&Self::path(state), text.as_bytes())
    }

    /// The outsourced queue's rule.
    pub(crate) fn outsourced(&self, paused: bool) -> QueueRule {
        QueueRule {
            paused,
            cap: self.away,
        }
    }
}
