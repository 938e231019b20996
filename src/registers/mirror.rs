//! What another site's register of this client says, kept here: the client's own copy, grown by letters.

use std::path::PathBuf;

use safelight_audit::{
    Error, Register,
    note::{Role, Verifier},
};
use safelight_bundle::RegisterNotice;
use safelight_policies::id::{ClientAlias, SiteName};

use super::{SITE, directory};
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs,
    state::State,
};

/// Where the copies are.
pub(super) fn place(state: &State, client: &ClientAlias) -> PathBuf {
    directory(state, client).with_file_name("sites")
}

/// The key that a site signs its registers with, as its first letter named it.
pub(super) fn key(directory: &std::path::Path) -> Result<Verifier, Failure> {
    let path = directory.join("key");
    let bytes = jobs::read(&path)?;
    let damaged = || Failure::new(Kind::Denied, format!("{} is damaged", path.display()));
    let key = <[u8; 32]>::try_from(&bytes[..]).map_err(|_| damaged())?;
    let (name, role) = (SITE.to_owned(), Role::Log);
    Ok(Verifier { name, role, key })
}

/// False if entries are missing before those that a letter brings: letters overtake each other, and a copy that was restored from a backup
/// lacks what came after that.
pub(crate) fn is_next(
    state: &State,
    client: &ClientAlias,
    site: &SiteName,
    letter: &RegisterNotice,
) -> Result<bool, Failure> {
    let at = place(state, client).join(site.as_str());
    std::fs::create_dir_all(&at).or_fail(Kind::Environment)?;
    Ok(letter.first <= Register::open(&at).or_fail(Kind::Denied)?.size())
}

/// Takes what is new. A letter that came before is nothing new; one that comes too early, see [`is_next`], is an error.
pub(crate) fn take(
    state: &State,
    client: &ClientAlias,
    site: &SiteName,
    letter: &RegisterNotice,
) -> Result<(), Failure> {
    let at = place(state, client).join(site.as_str());
    let denied = |what: &str| Failure::new(Kind::Denied, format!("{site}'s register: {what}"));
    std::fs::create_dir_all(&at).or_fail(Kind::Environment)?;
    jobs::make_private(&at.join("key"), &letter.key)?;
    let signer = key(&at)?;
    if signer.key != letter.key {
        return Err(denied("it is signed by another key than before"));
    }
    let (head, _) = signer
        .open(&letter.checkpoint)
        .ok_or_else(|| denied("its checkpoint is not signed"))?;
    let known = Register::open(&at).or_fail(Kind::Denied)?.size();
    let last = letter.first.saturating_add(letter.entries.len() as u64);
    if head.size != last {
        return Err(denied("its checkpoint is of another size"));
    }
    if letter.first > known {
        let message = format!("{site}'s register: a letter before this one has not come");
        return Err(Failure::new(Kind::Environment, message));
    }
    let new = usize::try_from(known - letter.first).or_fail(Kind::Internal)?;
    let Some(new) = letter.entries.get(new..).filter(|new| !new.is_empty()) else {
        return Ok(());
    };
    let grown = Register::append_checked(&at, &head.origin, new, |grown| match *grown == head {
        true => Ok(letter.checkpoint.clone()),
        false => Err(Error::Register { path: at.clone() }),
    });
    grown.map(drop).map_err(|error| match error {
        Error::Register { .. } => {
            denied("its entries are not those that it signed, or not after those that came before")
        }
        error => Failure::from_error(Kind::Environment, &error),
    })
}

#[cfg(test)]
mod tests {
    use safelight_audit::{
        note::{Head, Signer},
        tree::{self, Frontier},
    };
    use safelight_bundle::{Epoch, Seq, Stamp};
    use safelight_policies::id::VerifyKey;

    use super::*;

    fn letter(first: u64, last: u64, history: &str, seed: u8) -> RegisterNotice {
        let entry = |number: u64| format!("{history} {number}").into_bytes();
        let mut frontier = Frontier::default();
        (0..last).for_each(|number| frontier.push(tree::leaf(&entry(number))));
        let signer = Signer::new(SITE, Role::Log, &[seed; 32]).unwrap();
        let head = Head {
            origin: "o".to_owned(),
            size: last,
            root: frontier.root(),
        };
        RegisterNotice {
            stamp: Stamp {
                to: VerifyKey([1; 32]),
                seq: Seq {
                    epoch: Epoch::new(9, [0; 3]),
                    number: 1,
                },
                issued: 10,
                expires: 20,
            },
            first,
            entries: (first..last).map(entry).collect(),
            checkpoint: signer.sign(&head, 0),
            key: signer.verifier().key,
        }
    }

    #[test]
    fn a_copy_grows_by_what_the_site_signed_and_by_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::open(Some(directory.path())).unwrap();
        let (client, site) = (ClientAlias::new("c-x").unwrap(), "north".parse().unwrap());
        let take = |letter: &RegisterNotice| take(&state, &client, &site, letter);
        let size = || {
            Register::open(&place(&state, &client).join("north"))
                .unwrap()
                .size()
        };
        take(&letter(0, 200, "true", 1)).unwrap();
        // Again, and overlapping: nothing new, and then something.
        take(&letter(0, 200, "true", 1)).unwrap();
        take(&letter(150, 300, "true", 1)).unwrap();
        assert_eq!(size(), 300);
        let early = take(&letter(400, 410, "true", 1)).unwrap_err();
        assert_eq!(early.kind(), Kind::Environment, "nothing is wrong with it");
        let is_next = |first| is_next(&state, &client, &site, &letter(first, 410, "true", 1));
        assert!(!is_next(301).unwrap());
        assert!(is_next(300).unwrap() && is_next(0).unwrap());
        // Another history, signed by the same key; another key; entries that are not those that were signed.
        let mut forged = letter(300, 310, "true", 1);
        forged.entries[3] = b"other".to_vec();
        for wrong in [
            letter(300, 310, "false", 1),
            letter(300, 310, "true", 2),
            forged,
        ] {
            let failure = take(&wrong).unwrap_err();
            assert_eq!(failure.kind(), Kind::Denied, "{failure}");
            assert_eq!(size(), 300);
        }
        take(&letter(300, 310, "true", 1)).unwrap();
        assert_eq!(size(), 310);
    }
}
