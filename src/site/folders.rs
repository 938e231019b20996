//! The hot folders of a site as its operator sees them: how each is, what was set aside or kept back, and what is to be tried again.
//!
//! Everything is read from the ledger and the folders, so it is true whether or not the site is served. What is decided is written into the
//! ledger first; then a site that is served is asked to read its memory anew; then the folder is changed. Whatever breaks off in between may
//! be done again.

use std::ops::ControlFlow;

use safelight_bundle::{
    AnyLetter, Aside, Code, EntryName, Held, Item, Kind as LetterKind, Medium, MediumError, Place,
    ReadyName, What, Windows, window::Row,
};
use safelight_policies::id::{JobId, SiteName, VerifyKey};
use safelight_scheduler::SqliteLedger;

use super::{
    card::{Card, Peer},
    errand, media,
    status::Status,
};
use crate::{
    failure::{Failure, Kind, OrFail},
    run::Books,
    state::State,
};

/// Which way a folder goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// This site writes it.
    Out,
    /// This site reads it.
    In,
}

impl Way {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }
}

/// How one folder is.
pub(crate) struct Folder {
    /// The other site.
    pub(crate) site: SiteName,
    /// Which way.
    pub(crate) way: Way,
    /// Where it is.
    pub(crate) place: String,
    /// What is wrong with it, in one word and in a sentence, if anything is.
    pub(crate) fault: Option<(&'static str, Failure)>,
    /// How many letters of this link lie there.
    pub(crate) lying: u64,
    /// How many bytes may still be written.
    pub(crate) room: Option<u64>,
    /// Out: letters that wait for a receipt.
    pub(crate) going: u64,
    /// In: what was set aside. Out: letters that were refused there or not answered, and are kept back.
    pub(crate) aside: u64,
    /// In: letters that came and wait, each with what for, as the served site last said.
    pub(crate) waiting: Vec<String>,
    /// What somebody should look at, as the served site last said.
    pub(crate) alarms: Vec<String>,
    /// In: when a letter last came, in seconds since 1970; 0 for never.
    pub(crate) heard: u64,
}

/// Something that was refused, here or there.
pub(crate) struct Refused {
    /// What it is called in commands.
    pub(crate) entry: String,
    /// The site of the link; none if what it says of its sender is nobody's name here.
    pub(crate) site: Option<SiteName>,
    /// In: refused by us. Out: refused by them, or not answered.
    pub(crate) way: Way,
    /// Its kind, if it has a letter's name.
    pub(crate) kind: Option<LetterKind>,
    /// Its number, likewise.
    pub(crate) number: Option<u64>,
    /// The job that it is about, if it is ours.
    pub(crate) job: Option<JobId>,
    /// The reason in one word, if it is known.
    pub(crate) code: Option<Code>,
    /// The reason in a sentence.
    pub(crate) reason: String,
    /// When, in seconds since 1970.
    pub(crate) at: Option<u64>,
    what: Thing,
}

/// Where it is.
enum Thing {
    Aside(Peer, Aside),
    Kept(Peer, Box<Item>),
}

/// The hot folders of a site that need not be served.
pub(crate) struct Folders {
    state: State,
    books: Books,
    me: VerifyKey,
    peers: Vec<Peer>,
}

impl Folders {
    /// Those of all links, or of one.
    pub(crate) fn open(state: &State, only: Option<&SiteName>) -> Result<Self, Failure> {
        let me = Card::read(&Card::path(state))?.letters;
        let mut peers = Peer::all(state)?;
        if let Some(name) = only {
            peers.retain(|peer| peer.card.site == *name);
            if peers.is_empty() {
                let message = format!("no site {name} is enrolled");
                return Err(Failure::new(Kind::User, message).hint("safelight site status"));
            }
        }
        let books = Books::open(state)?;
        Ok(Self {
            state: state.clone(),
            books,
            me,
            peers,
        })
    }

    fn medium(&self, place: &Place) -> Result<Box<dyn Medium + Send>, Failure> {
        media::open(&self.state, place)
    }

    fn ledger(&self) -> &SqliteLedger {
        self.books.ledger()
    }

    /// How each folder is.
    pub(crate) fn status(&self) -> Result<Vec<Folder>, Failure> {
        let said = Status::read(&self.state)?.unwrap_or_default();
        let mut folders = Vec::new();
        for peer in &self.peers {
            let link = said.links.get(peer.card.site.as_str());
            let link = link.cloned().unwrap_or_default();
            let theirs = peer.card.letters;
            let (_, items) = self.books.wait(self.ledger().letters_out(&theirs))?;
            let (to, from) = (self.medium(&peer.out)?, self.medium(&peer.r#in)?);
            let mut out = folder(peer, &*to, Way::Out, self.me, theirs);
            let held = items.iter().filter(|item| item.held.is_some()).count();
            let answered = items.iter().filter(|item| item.kind.is_answered()).count();
            (out.going, out.aside) = ((answered - held) as u64, held as u64);
            let mut into = folder(peer, &*from, Way::In, theirs, self.me);
            let rows = self.books.wait(self.ledger().letters_seen(&theirs))?;
            let windows = Windows::restore(rows);
            into.heard = windows.of(&theirs).map_or(0, |window| window.heard());
            into.aside = self
                .asides(peer, &*from)
                .map_or(0, |asides| asides.len() as u64);
            into.waiting = link.waiting;
            into.alarms = link.alarms;
            folders.extend([out, into]);
        }
        Ok(folders)
    }

    /// What is set aside in the folder of a peer, with whom it is from.
    fn asides(
        &self,
        peer: &Peer,
        medium: &dyn Medium,
    ) -> Result<Vec<(Aside, Option<SiteName>)>, MediumError> {
        let asides = medium.aside(&self.me)?;
        let named = asides.into_iter().map(|aside| {
            let from = aside.reason.as_ref().and_then(|it| it.from.clone());
            let mut peers = self.peers.iter();
            let known =
                from.and_then(|from| peers.find(|peer| *peer.card.letters.fingerprint() == *from));
            (aside, known.map(|peer| peer.card.site.clone()))
        });
        // One folder may serve several links.
        let mine = named.filter(|(_, site)| site.as_ref().is_none_or(|it| *it == peer.card.site));
        Ok(mine.collect())
    }

    /// What was refused, here and there.
    pub(crate) fn refused(&self) -> Result<Vec<Refused>, Failure> {
        let mut all: Vec<Refused> = Vec::new();
        let mut read = Vec::new();
        for peer in &self.peers {
            let medium = self.medium(&peer.r#in)?;
            for (aside, site) in self.asides(peer, &*medium).or_fail(Kind::Environment)? {
                let folder = (peer.r#in.clone(), aside.stem.clone());
                // A stranger's entry is in each list of a folder that serves several links.
                if !read.contains(&folder) {
                    read.push(folder);
                    all.push(self.set_aside(peer, site, aside));
                }
            }
            let out = self.ledger().letters_out(&peer.card.letters);
            for item in self.books.wait(out)?.1 {
                if let Some(held) = item.held {
                    all.push(self.kept_back(peer, item, held));
                }
            }
        }
        Ok(all)
    }

    fn set_aside(&self, peer: &Peer, site: Option<SiteName>, aside: Aside) -> Refused {
        let name = self.name_of(&aside);
        let reason = aside.reason.as_ref();
        Refused {
            entry: aside.stem.clone(),
            site,
            way: Way::In,
            kind: name.map(|name| name.kind),
            number: name.map(|name| name.seq.number),
            job: None,
            code: reason.map(|reason| reason.code),
            reason: reason.map_or_else(
                || "the reason beside it cannot be read".to_owned(),
                |reason| reason.reason.clone(),
            ),
            at: reason.map(|reason| reason.at),
            what: Thing::Aside(peer.clone(), aside),
        }
    }

    fn kept_back(&self, peer: &Peer, item: Item, held: Held) -> Refused {
        let letter = AnyLetter::open(item.kind, &item.bytes, &self.me).ok();
        let job = letter.and_then(|letter| match letter {
            AnyLetter::Result(letter) => Some(letter.job),
            AnyLetter::Ended(letter) => Some(letter.job),
            AnyLetter::Look(letter) => Some(letter.job),
            _ => None,
        });
        let site = &peer.card.site;
        let reason = match held.code {
            Some(_) if held.again => "it goes again".to_owned(),
            Some(_) => format!("{site} refused it; its people know more"),
            None => format!("{site} never answered; it goes again when it is heard"),
        };
        Refused {
            entry: item.of().to_string()[..16].to_owned(),
            site: Some(site.clone()),
            way: Way::Out,
            kind: Some(item.kind),
            number: Some(item.seq.number),
            job,
            code: held.code,
            reason,
            at: Some(held.at),
            what: Thing::Kept(peer.clone(), Box::new(item)),
        }
    }

    /// The letter's name that something set aside had, if it had one. The reason beside it is the medium's word, too.
    fn name_of(&self, aside: &Aside) -> Option<ReadyName> {
        let name = EntryName::new(aside.reason.as_ref()?.name.as_str())?;
        ReadyName::parse(self.me, &name)
    }

    /// Lets what was refused be tried again. False if nothing of the kind can be.
    pub(crate) fn retry(&self, refused: &Refused) -> Result<bool, Failure> {
        match &refused.what {
            Thing::Kept(peer, item) => {
                let mut item = item.clone();
                let Some(held) = &mut item.held else {
                    return Ok(false);
                };
                held.again = true;
                let there = self.books.wait(self.ledger().change_letter(&item))?;
                peer.ask(&self.state)?;
                Ok(there)
            }
            Thing::Aside(peer, aside) => {
                let Some(name) = self.name_of(aside) else {
                    return Ok(false);
                };
                self.forgive(&name)?;
                peer.ask(&self.state)?;
                let folder = self.medium(&peer.r#in)?;
                folder.put_back(&self.me, aside).or_fail(Kind::Environment)
            }
        }
    }

    fn forgive(&self, name: &ReadyName) -> Result<(), Failure> {
        let (from, seq) = (name.from, name.seq);
        let rows = self.books.wait(self.ledger().letters_seen(&from))?;
        let windows = Windows::restore(rows);
        let Some(mark) = windows.of(&from).and_then(|window| window.forgiven(seq)) else {
            return Ok(());
        };
        let row = Row { from, seq, mark };
        let at = crate::process::now_seconds();
        self.books.wait(self.ledger().keep_letter(&row, None, at))
    }

    /// Gives up what was refused: deletes what was set aside, and waits no longer for a letter that was kept back.
    pub(crate) fn discard(&self, refused: &Refused) -> Result<bool, Failure> {
        match &refused.what {
            Thing::Aside(peer, aside) => {
                let folder = self.medium(&peer.r#in)?;
                let gone = folder.discard(&self.me, &aside.stem);
                gone.or_fail(Kind::Environment)
            }
            Thing::Kept(peer, item) => {
                let (of, now) = (item.of(), crate::process::now_seconds());
                let subject = of.to_string();
                for kind in [errand::LETTER, errand::FAREWELL] {
                    let finished = self.ledger().finish_errand(kind, &subject, now);
                    let _ = self.books.wait(finished)?;
                }
                self.books.wait(self.ledger().remove_letter(of))?;
                peer.ask(&self.state)?;
                Ok(true)
            }
        }
    }
}

/// Looks at one folder.
fn folder(peer: &Peer, medium: &dyn Medium, way: Way, from: VerifyKey, to: VerifyKey) -> Folder {
    let (room, lying) = (medium.room(), lying(medium, from, to));
    let full = matches!(room, Ok(0)).then(|| {
        let message = format!("the hot folder {} is full", medium.place().display());
        let failure = Failure::new(Kind::Environment, message);
        (
            "full",
            failure.hint("free space on it; nothing is lost, and sending goes on by itself"),
        )
    });
    let first = [room.as_ref().err(), lying.as_ref().err()];
    let fault = first.into_iter().flatten().next().map(|error| {
        let failure = Failure::from_error(Kind::Environment, error);
        (error.code(), failure.hint(error.next_step()))
    });
    Folder {
        site: peer.card.site.clone(),
        way,
        place: medium.place().display().to_string(),
        fault: fault.or(full),
        lying: lying.unwrap_or(0),
        room: room.ok(),
        going: 0,
        aside: 0,
        waiting: Vec::new(),
        alarms: Vec::new(),
        heard: 0,
    }
}

/// How many letters from one to the other lie there.
fn lying(medium: &dyn Medium, from: VerifyKey, to: VerifyKey) -> Result<u64, MediumError> {
    let mut lying = 0;
    medium.list_ready(&to, &mut |entry| {
        let name = ReadyName::parse(to, &entry.name).filter(|name| name.from == from);
        lying += u64::from(entry.what == What::File && name.is_some());
        ControlFlow::Continue(())
    })?;
    Ok(lying)
}
