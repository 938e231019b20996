//! How a node comes to its site: the site's card tells it whose leases to believe, and it tells the site its name and key.
//!
//! The card travels by hand, before anything else: what is in it is what the node believes later.

use std::path::Path;

use data_encoding::HEXLOWER;
use safelight_policies::id::{NodeName, VerifyKey};
use safelight_seal::{identity::SigningSecret, random::SystemRandom};
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Failure, Kind, OrFail},
    jobs,
    lacks::{Lacks, Own},
    run,
    state::State,
    terminal, warden,
};

/// The most slots of one node.
pub(crate) const SLOTS_MAX: u16 = 512;

/// What a node needs of its site's card; the rest is for other readers.
#[derive(Debug, Deserialize)]
struct Card {
    site: String,
    schedule: String,
}

/// `node.toml` as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    site: String,
    schedule: String,
    slots: u16,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lacks: Vec<Own>,
}

/// What a node knows of itself and its site.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Config {
    /// Its name at its site.
    pub(super) name: NodeName,
    /// Where the site is: scheme, host and port, and nothing behind them.
    pub(super) site: String,
    /// Whose leases it believes.
    pub(super) schedule: VerifyKey,
    /// How many sessions it runs at once.
    pub(super) slots: u16,
    /// By what it is known that a task lacked something.
    pub(super) lacks: Lacks,
}

/// Makes the node's key and its configuration; prints its name and public key, which the site must enroll.
pub(crate) fn join(
    state: &State,
    (name, site, slots): (NodeName, &str, u16),
    card: &Path,
) -> Result<(), Failure> {
    let text = jobs::read(card)?;
    let text = std::str::from_utf8(&text).or_fail(Kind::Config)?;
    let refused = |why: String| {
        let message = format!("{} is not a site's card: {why}", card.display());
        Failure::new(Kind::Config, message)
    };
    let Card {
        site: title,
        schedule,
    } = toml::from_str(text).map_err(|error| refused(error.message().to_owned()))?;
    let config = Config {
        name,
        site: address(site)?,
        schedule: warden::parse_key(&schedule).map_err(|failure| refused(failure.message()))?,
        slots,
        lacks: Lacks::shipped(),
    };
    let key = own_key(state)?.public();
    config.write(state)?;
    let (name, key) = (&config.name, HEXLOWER.encode(&key.0));
    terminal::say(format!(
        "{name} will ask the site {} at {}\nnext, at the site: safelight node enroll {name} {key} --state SITE_STATE",
        terminal::shown(title.as_bytes()),
        config.site
    ));
    terminal::print(format!("{name} {key}"))
}

/// The key that a node signs its requests with, made at first use.
pub(super) fn own_key(state: &State) -> Result<SigningSecret, Failure> {
    run::site_key(state, "node", &SystemRandom::new())
}

impl Config {
    /// Reads what `join` wrote.
    pub(super) fn load(state: &State) -> Result<Self, Failure> {
        let path = state.root().join("node.toml");
        if !path.exists() {
            let message = format!("{} is no node's: it has joined no site", path.display());
            return Err(Failure::new(Kind::Config, message).hint("safelight node join --help"));
        }
        let text = String::from_utf8(jobs::read(&path)?).or_fail(Kind::Config)?;
        Self::parse(&text)
            .map_err(|failure| failure.hint(format!("look at {}, or join again", path.display())))
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        let written: Written = toml::from_str(text).or_fail(Kind::Config)?;
        if !(1..=SLOTS_MAX).contains(&written.slots) {
            let message = format!("a node has 1 to {SLOTS_MAX} slots");
            return Err(Failure::new(Kind::Config, message));
        }
        Ok(Self {
            name: written.name.parse().or_fail(Kind::Config)?,
            site: address(&written.site)?,
            schedule: warden::parse_key(&written.schedule)?,
            slots: written.slots,
            lacks: Lacks::with(&written.lacks)?,
        })
    }

    fn write(&self, state: &State) -> Result<(), Failure> {
        let written = Written {
            name: self.name.to_string(),
            site: self.site.clone(),
            schedule: HEXLOWER.encode(&self.schedule.0),
            slots: self.slots,
            lacks: Vec::new(),
        };
        let text = toml::to_string(&written).or_fail(Kind::Internal)?;
        jobs::write_private(&state.root().join("node.toml"), text.as_bytes())
    }
}

/// A site's address without what must not be behind it: requests are signed for paths that begin at the root.
fn address(text: &str) -> Result<String, Failure> {
    let wrong = || {
        let message = format!("{text:?} is not a site's address: expected http://HOST:PORT");
        Failure::new(Kind::User, message)
    };
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    let host = trimmed
        .strip_prefix("http://")
        .or_else(|| trimmed.strip_prefix("https://"))
        .ok_or_else(wrong)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    if host.is_empty() || host.len() > 300 || !host.bytes().all(plain) {
        return Err(wrong());
    }
    Ok(trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_joined_reads_what_it_wrote() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::open(Some(directory.path())).unwrap();
        let card = directory.path().join("card.toml");
        let key = "ab".repeat(32);
        let text = format!("site = \"film\"\nschedule = \"{key}\"\nmore = 1\n");
        std::fs::write(&card, text).unwrap();
        let name: NodeName = "n1".parse().unwrap();
        let asked = |site| join(&state, (name.clone(), site, 3), &card);
        assert!(Config::load(&state).is_err());
        asked("http://127.0.0.1:8000/").unwrap();
        let expected = Config {
            name: name.clone(),
            site: "http://127.0.0.1:8000".to_owned(),
            schedule: VerifyKey([0xab; 32]),
            slots: 3,
            lacks: Lacks::shipped(),
        };
        assert_eq!(Config::load(&state).unwrap(), expected);
        let before = own_key(&state).unwrap().public();
        asked("https://[::1]:8000").unwrap();
        assert_eq!(own_key(&state).unwrap().public(), before, "a key is kept");
        for card_text in ["", "site = \"x\"", "site = \"x\"\nschedule = \"abc\""] {
            std::fs::write(&card, card_text).unwrap();
            let failure = asked("http://h:1").unwrap_err().message();
            assert!(failure.contains("is not a site's card"), "{failure}");
        }
    }

    #[test]
    fn an_address_is_a_scheme_a_host_and_a_port() {
        for good in ["http://h", "https://h.example:1", "http://[::1]:80"] {
            assert_eq!(address(good).unwrap(), good);
        }
        for bad in [
            "",
            "h:80",
            "ftp://h",
            "http://",
            "http://h/x",
            "http://u@h",
            "http://h?x",
            "http://h#x",
            "http://h\n",
            "http://h//",
        ] {
            assert!(address(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_node_toml_may_not_say_is_refused() {
        let key = "ab".repeat(32);
        let text = |name: &str, slots: u32, more: &str| {
            format!(
                "name = {name:?}\nsite = \"http://h:1\"\nschedule = {key:?}\nslots = {slots}\n{more}"
            )
        };
        assert!(Config::parse(&text("n1", 512, "")).is_ok());
        for bad in [
            text("n1", 0, ""),
            text("n1", 513, ""),
            text("N 1", 1, ""),
            text("n1", 1, "more = 1"),
            text("n1", 1, "").replace("http", "gopher"),
            text("n1", 1, "").replace("abab", "xyxy"),
        ] {
            assert!(Config::parse(&bad).is_err(), "{bad}");
        }
    }
}
