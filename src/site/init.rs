//! Making a site, and making two sites known to each other.

use std::net::SocketAddr;

use safelight_bundle::Place;
use safelight_policies::id::{NodeName, SiteName, VerifyKey};
use safelight_seal::random::SystemRandom;

use super::{
    card::{Card, Peer, Role},
    config::Config,
    media,
};
use crate::{
    failure::{Failure, Kind},
    jobs,
    run::{self, Books},
    state::State,
    warden,
};

/// Makes a state directory a site's: keys, card, configuration. Doing it again keeps the keys and the configuration's numbers.
pub(crate) fn init(
    state: &State,
    name: SiteName,
    role: Role,
    listen: SocketAddr,
) -> Result<Card, Failure> {
    if let Ok(known) = Config::read(state)
        && (known.name != name || known.role != role)
    {
        let message = format!(
            "{} is the site {} already",
            state.root().display(),
            known.name
        );
        return Err(Failure::new(Kind::User, message).hint("name another place with --state DIR"));
    }
    let config = Config::read(state).unwrap_or_else(|_| Config::new(name.clone(), role, listen));
    let config = Config { listen, ..config };
    let books = Books::open(state)?;
    books.enroll(state)?;
    let schedule = books.schedule();
    let signer = warden::LetterSigner::start(state)?;
    let (letters, client) = match role {
        Role::Remote => (signer.public(), None),
        Role::Local => {
            let secret = jobs::client_secret(state, &SystemRandom::new())?;
            let public = secret.sign.public();
            let alias = jobs::alias(&public)?;
            warden::enroll_client(state, &alias, &public)?;
            (public, Some(alias))
        }
    };
    config.write(state)?;
    let card = Card {
        site: name,
        role,
        letters,
        schedule,
        client,
    };
    card.write(state)?;
    Ok(card)
}

/// Trusts a site whose card was compared, and agrees on the folders in between.
pub(crate) fn enroll(state: &State, card: Card, out: Place, r#in: Place) -> Result<(), Failure> {
    let config = Config::read(state)?;
    if config.role == card.role {
        let message = "two sites of one role have nothing to say to each other: one is local, the other remote";
        return Err(Failure::new(Kind::User, message));
    }
    unambiguous(state, &card)?;
    let (out, r#in) = (media::make(state, out)?, media::make(state, r#in)?);
    if let Some(alias) = &card.client {
        warden::enroll_client(state, alias, &card.letters)?;
    }
    Peer { card, out, r#in }.write(state)
}

/// Refuses a card that takes the place of somebody else: a card says what its site calls itself and its client, and anybody may call
/// himself anything. Two clients of one alias would have one secure area.
fn unambiguous(state: &State, card: &Card) -> Result<(), Failure> {
    let taken = |what: String| {
        let message = format!("{what}: a card cannot take another's place");
        let hint = "if its people have new keys: safelight site revoke NAME, and enroll again";
        Err(Failure::new(Kind::Denied, message).hint(hint))
    };
    for Peer { card: known, .. } in Peer::all(state)? {
        let same = (known.letters == card.letters, known.site == card.site);
        match same {
            (false, true) => return taken(format!("{} is enrolled with another key", card.site)),
            (true, false) => return taken(format!("{} has the same key", known.site)),
            (false, false) if known.client.is_some() && known.client == card.client => {
                return taken(format!("{} has the same client", known.site));
            }
            _ => {}
        }
    }
    let Some(alias) = &card.client else {
        return Ok(());
    };
    match warden::enrolled_client(state, alias) {
        Ok(key) if key != card.letters => taken(format!("the client {alias} has another key here")),
        _ => Ok(()),
    }
}

/// Trusts a site no longer: its letters are refused from now on, and no key is released for its jobs.
pub(crate) fn revoke(state: &State, name: &SiteName) -> Result<(), Failure> {
    let peers = Peer::all(state)?;
    let Some(peer) = peers.iter().find(|peer| peer.card.site == *name) else {
        return Err(
            Failure::new(Kind::User, format!("no site {name} is enrolled"))
                .hint("safelight site status"),
        );
    };
    if let Some(alias) = &peer.card.client {
        warden::revoke_client(state, alias)?;
    }
    peer.remove(state)
}

/// Trusts a node: job keys may be released to its view servers.
pub(crate) fn enroll_node(state: &State, node: &NodeName, key: &VerifyKey) -> Result<(), Failure> {
    Config::read(state)?;
    let refuse = |what: &str, hint: String| {
        Err(Failure::new(Kind::Denied, format!("{node} {what}")).hint(hint))
    };
    if node.as_str() == run::OWN_NODE {
        let hint = "name it otherwise: safelight node join --name NAME".to_owned();
        return refuse("is what this host calls itself", hint);
    }
    if warden::enrolled_node(state, node)?.is_some_and(|known| known != *key) {
        let hint =
            format!("if it has a new key: safelight node revoke {node}, and enroll it again");
        return refuse("is enrolled with another key", hint);
    }
    warden::enroll_node(state, node, key)
}

/// Trusts a node no longer, and forgets it: its sessions are lost, and its name is free.
pub(crate) fn revoke_node(state: &State, node: &NodeName, now: u64) -> Result<(), Failure> {
    warden::revoke_node(state, node)?;
    let books = Books::open(state)?;
    let forgotten = async {
        match books.ledger().forget_node(node, now).await {
            Ok(()) | Err(safelight_scheduler::Error::NoSuchNode { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    };
    books.wait(forgotten)
}

#[cfg(test)]
mod tests {
    use safelight_policies::id::ClientAlias;

    use super::*;

    fn card(site: &str, key: u8, client: Option<&str>) -> Card {
        Card {
            site: site.parse().unwrap(),
            role: if client.is_some() {
                Role::Local
            } else {
                Role::Remote
            },
            letters: VerifyKey([key; 32]),
            schedule: VerifyKey([9; 32]),
            client: client.map(|alias| ClientAlias::new(alias).unwrap()),
        }
    }

    #[test]
    fn a_card_takes_nobody_elses_place() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::open(Some(directory.path())).unwrap();
        let clients = state.warden().join("trust/clients");
        std::fs::create_dir_all(&clients).unwrap();
        std::fs::write(clients.join("c-own"), "07".repeat(32)).unwrap();
        for card in [card("river", 1, Some("c-river")), card("north", 2, None)] {
            let (out, r#in) = ("/out".parse().unwrap(), "/in".parse().unwrap());
            Peer { card, out, r#in }.write(&state).unwrap();
        }
        for (card, why) in [
            (card("river", 1, Some("c-river")), ""),
            (card("lake", 3, Some("c-lake")), ""),
            (card("south", 4, None), ""),
            (card("own", 7, Some("c-own")), ""),
            (
                card("river", 3, Some("c-river")),
                "enrolled with another key",
            ),
            (card("lake", 3, Some("c-river")), "has the same client"),
            (card("lake", 1, Some("c-lake")), "has the same key"),
            (card("south", 2, None), "has the same key"),
            (card("lake", 3, Some("c-own")), "has another key here"),
        ] {
            match unambiguous(&state, &card) {
                Ok(()) => assert_eq!(why, "", "{card:?}"),
                Err(failure) => {
                    assert_ne!(why, "", "{card:?}");
                    assert!(failure.message().contains(why), "{}", failure.message());
                }
            }
        }
    }
}
