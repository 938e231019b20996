//! Making a site, and making two sites known to each other.

use std::{net::SocketAddr, path::PathBuf};

use safelight_bundle::Directory;
use safelight_policies::id::{NodeName, SiteName, VerifyKey};
use safelight_seal::random::SystemRandom;

use super::{
    card::{Card, Peer, Role},
    config::Config,
};
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs,
    run::Books,
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
pub(crate) fn enroll(
    state: &State,
    card: Card,
    out: PathBuf,
    r#in: PathBuf,
) -> Result<(), Failure> {
    let config = Config::read(state)?;
    if config.role == card.role {
        let message = "two sites of one role have nothing to say to each other: one is local, the other remote";
        return Err(Failure::new(Kind::User, message));
    }
    let absolute = |path: PathBuf| std::path::absolute(path).or_fail(Kind::User);
    let (out, r#in) = (absolute(out)?, absolute(r#in)?);
    for folder in [&out, &r#in] {
        std::fs::create_dir_all(folder).or_fail(Kind::Environment)?;
        Directory::create(folder).or_fail(Kind::Environment)?;
    }
    if let Some(alias) = &card.client {
        warden::enroll_client(state, alias, &card.letters)?;
    }
    Peer { card, out, r#in }.write(state)
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
    warden::enroll_node(state, node, key)
}
