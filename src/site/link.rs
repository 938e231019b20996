//! A link to one other site: what is read from its hot folder and what is written into ours, with everything that must be remembered in
//! the ledger.
//!
//! What a letter means is decided by [`super::arrivals`]; here it is only kept, once.

use std::collections::{BTreeSet, HashMap};

use safelight_bundle::{
    Areas, BlobList, Delivery, Directory, Epoch, Inbox, Item, Journal, Keeper, Letter, Limits,
    Load, Numbers, Objects, Outbox, Peer as Known, Posted, Pushed, Receipt, Report, Role, Stamp,
    Trust, Windows, window::Row,
};
use safelight_policies::id::{ObjectId, VerifyKey};

use super::{arrivals::Arrivals, card, card::Peer, voice::Voice};
use crate::{
    failure::{Failure, Kind, OrFail},
    run::Books,
    state::State,
    store::Store,
};

type Boxed = Box<dyn std::error::Error + Send + Sync>;

/// A link to another site.
pub(super) struct Link {
    pub(super) peer: Peer,
    pub(super) store: Store,
    inbox: Inbox,
    outbox: Outbox,
    from: Directory,
    to: Directory,
    /// Receipts whose letters are to leave our folder.
    collected: Vec<Receipt>,
    /// When the last sign of life was sent, in seconds since 1970.
    pub(super) beat: u64,
}

/// A sender's objects are its client's: at a render site the sender's own, at home ours.
struct OneArea<'a> {
    of: VerifyKey,
    store: &'a Store,
}

impl Areas for OneArea<'_> {
    fn area(&self, from: &VerifyKey) -> Option<&dyn Objects> {
        (*from == self.of).then_some(self.store)
    }
}

/// Keeps letters that go in the ledger.
struct Ledgered<'a> {
    books: &'a Books,
}

impl Journal for Ledgered<'_> {
    fn store(&mut self, numbers: &Numbers, item: &Item) -> Result<(), Boxed> {
        let stored = self.books.ledger().store_letter(numbers, item);
        self.books.wait(stored).map_err(boxed)
    }

    fn remove(&mut self, of: ObjectId) -> Result<(), Boxed> {
        let removed = self.books.ledger().remove_letter(of);
        self.books.wait(removed).map_err(boxed)
    }
}

/// Keeps letters that come, with what they mean.
struct Kept<'a, 'b> {
    arrivals: &'a mut Arrivals<'b>,
}

impl Keeper for Kept<'_, '_> {
    fn keep(&mut self, row: &Row, delivery: Option<&Delivery>) -> Result<(), Boxed> {
        self.arrivals.keep(row, delivery).map_err(boxed)
    }
}

fn boxed(failure: Failure) -> Boxed {
    failure.message().into()
}

impl Link {
    /// Takes up a link where the ledger has it. `epoch` is used only towards a peer that was never written to.
    pub(super) fn open(
        state: &State,
        books: &Books,
        me: VerifyKey,
        own_client: Option<&safelight_policies::id::ClientAlias>,
        peer: Peer,
        epoch: Epoch,
    ) -> Result<Self, Failure> {
        let (role, client) = match peer.card.role {
            card::Role::Local => (Role::Client, peer.card.client.as_ref()),
            card::Role::Remote => (Role::Site, own_client),
        };
        let client = client.ok_or_else(|| {
            Failure::new(
                Kind::Config,
                format!("{} is no client's site", peer.card.site),
            )
        })?;
        let theirs = peer.card.letters;
        let known = Known {
            role,
            limits: Limits::default(),
        };
        let trust = Trust {
            me,
            peers: HashMap::from([(theirs, known)]),
        };
        let seen = books.wait(books.ledger().letters_seen(&theirs))?;
        let (numbers, items) = books.wait(books.ledger().letters_out(&theirs))?;
        Ok(Self {
            store: Store::open(state, client)?,
            inbox: Inbox::new(trust, Windows::restore(seen)),
            outbox: Outbox::new(me, epoch, numbers, items),
            from: Directory::at(&peer.r#in),
            to: Directory::at(&peer.out),
            collected: Vec::new(),
            beat: 0,
            peer,
        })
    }

    /// The key of the site at the other end.
    pub(super) fn key(&self) -> VerifyKey {
        self.peer.card.letters
    }

    /// The newest letter that came.
    pub(super) fn newest(&self) -> Option<safelight_bundle::Seq> {
        self.inbox.newest(&self.key())
    }

    /// The letters that are on their way.
    pub(super) fn going(&self) -> BTreeSet<ObjectId> {
        self.outbox
            .items()
            .map(safelight_bundle::Item::of)
            .collect()
    }

    /// Letters on their way that wait for a receipt.
    pub(super) fn waiting(&self) -> usize {
        let items = self.outbox.items();
        items.filter(|item| item.kind.is_answered()).count()
    }

    /// Reads the peer's hot folder. What arrives is kept through `arrivals`.
    pub(super) fn scan(&mut self, arrivals: &mut Arrivals<'_>, now: u64) -> Report {
        let area = OneArea {
            of: self.peer.card.letters,
            store: &self.store,
        };
        let mut kept = Kept { arrivals };
        self.inbox.scan(&self.from, &area, &mut kept, now)
    }

    /// Posts a letter. It leaves with the next push.
    pub(super) fn post<T: Letter>(
        &mut self,
        books: &Books,
        voice: &Voice,
        times: (u64, u64),
        letter: impl FnOnce(Stamp) -> T,
    ) -> Result<Posted, Failure> {
        let mut journal = Ledgered { books };
        let mut unsigned = None;
        // A signature that is none does not verify, so nothing is kept or sent.
        let sign = |context: &str, body: &[u8]| match voice.sign(context, body) {
            Ok(signature) => signature,
            Err(failure) => {
                unsigned = Some(failure);
                [0; 64]
            }
        };
        let to = self.peer.card.letters;
        let posted = self.outbox.post(to, times, letter, sign, &mut journal);
        match unsigned {
            Some(failure) => Err(failure),
            None => posted.or_fail(Kind::Environment),
        }
    }

    /// A load of these blobs: the list becomes an object.
    pub(super) fn load(&self, list: ObjectId) -> Result<Load, Failure> {
        let blobs: BlobList = self.store.list(list)?;
        Ok(Load {
            list,
            bytes: blobs.bytes(),
        })
    }

    /// Writes what is due into our hot folder.
    pub(super) fn push(&mut self, books: &Books, now: u64) -> Pushed {
        let mut journal = Ledgered { books };
        self.outbox.push(&self.to, &self.store, &mut journal, now)
    }

    /// Takes letters that came with a receipt out of our folder. One that cannot be taken out now is taken out in a later turn.
    pub(super) fn collect(&mut self, books: &Books, receipts: Vec<Receipt>) -> Result<(), Failure> {
        self.collected.extend(receipts);
        let mut journal = Ledgered { books };
        let from = self.key();
        while let Some(receipt) = self.collected.last() {
            let (to, store) = (&self.to, &self.store);
            let collected = self.outbox.collect(&from, receipt, to, store, &mut journal);
            let _ = collected.or_fail(Kind::Environment)?;
            self.collected.pop();
        }
        Ok(())
    }
}
