//! A link to one other site: what is read from its hot folder and what is written into ours, with everything that must be remembered in
//! the ledger.
//!
//! What a letter means is decided by [`super::arrivals`]; here it is only kept, once.

use std::collections::{BTreeMap, HashMap};

use safelight_bundle::{
    Areas, BlobList, Code, Collected, Delivery, Directory, Epoch, Held, Inbox, Item, Journal,
    Keeper, Kind as LetterKind, Letter, Limits, Load, Medium, Numbers, Objects, Outbox,
    Peer as Known, Posted, Pushed, Receipt, Report, Role, Seq, Stamp, Trust, Windows, window::Row,
};
use safelight_policies::id::{ObjectId, VerifyKey};
use safelight_seal::random::{Random, SystemRandom};

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
    state: State,
    inbox: Inbox,
    outbox: Outbox,
    from: Box<dyn Medium + Send>,
    to: Box<dyn Medium + Send>,
    /// Receipts whose letters are to leave our folder.
    collected: Vec<Receipt>,
    /// Bytes of blobs that were written into our folder since the site began.
    pub(super) sent: u64,
    /// When the last sign of life was sent, in seconds since 1970.
    pub(super) beat: u64,
    /// What the folders' commands had asked for when this was opened.
    asked: Vec<u8>,
    /// What is to be told of the run of numbers, if it is not the one that was expected.
    pub(super) restored: Option<String>,
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

    fn replace(&mut self, old: ObjectId, numbers: &Numbers, item: &Item) -> Result<(), Boxed> {
        let replaced = self.books.ledger().replace_letter(old, numbers, item);
        self.books.wait(replaced).map_err(boxed)
    }

    fn begin(&mut self, numbers: &Numbers) -> Result<(), Boxed> {
        let stored = self.books.ledger().store_numbers(numbers);
        self.books.wait(stored).map_err(boxed)
    }
}

/// Keeps letters that come, with what they mean.
struct Kept<'a, 'b> {
    arrivals: &'a mut Arrivals<'b>,
}

impl Keeper for Kept<'_, '_> {
    fn is_due(&mut self, delivery: &Delivery) -> Result<bool, Boxed> {
        self.arrivals.is_due(delivery).map_err(boxed)
    }

    fn keep(&mut self, row: &Row, delivery: Option<&Delivery>) -> Result<(), Boxed> {
        self.arrivals.keep(row, delivery).map_err(boxed)
    }
}

/// Signs with the site's voice. A signature that is none does not verify, so nothing is kept or sent.
fn signer<'a>(
    voice: &'a Voice,
    unsigned: &'a mut Option<Failure>,
) -> impl FnOnce(&str, &[u8]) -> [u8; 64] + 'a {
    |context, body| match voice.sign(context, body) {
        Ok(signature) => signature,
        Err(failure) => {
            *unsigned = Some(failure);
            [0; 64]
        }
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
        let asked = peer.asked(state)?;
        let seen = books.wait(books.ledger().letters_seen(&theirs))?;
        let (numbers, items) = books.wait(books.ledger().letters_out(&theirs))?;
        Ok(Self {
            store: Store::open(state, client)?,
            state: state.clone(),
            inbox: Inbox::new(trust, Windows::restore(seen)),
            outbox: Outbox::new(me, epoch, numbers, items),
            from: super::media::open(state, &peer.r#in)?,
            to: super::media::open(state, &peer.out)?,
            collected: Vec::new(),
            sent: 0,
            beat: 0,
            asked,
            restored: None,
            peer,
        })
    }

    /// How long what looks wrong may do so, in seconds.
    pub(super) fn patient(self, seconds: u64) -> Self {
        Self {
            inbox: self.inbox.patient(seconds),
            ..self
        }
    }

    /// True if a command changed in the ledger what this link remembers.
    pub(super) fn is_stale(&self, state: &State) -> Result<bool, Failure> {
        Ok(self.peer.asked(state)? != self.asked)
    }

    /// Goes on where another, which is stale, was.
    pub(super) fn after(mut self, stale: &mut Self) -> Self {
        self.collected = std::mem::take(&mut stale.collected);
        self.restored = stale.restored.take();
        (self.beat, self.sent) = (stale.beat, stale.sent);
        self
    }

    /// The key of the site at the other end.
    pub(super) fn key(&self) -> VerifyKey {
        self.peer.card.letters
    }

    /// Where its letters come into, if it is a directory.
    pub(super) fn mailbox(&self, me: &VerifyKey) -> Option<std::path::PathBuf> {
        let folder = self.peer.r#in.directory()?;
        Some(Directory::at(folder).mailbox(me))
    }

    /// The newest letter that came.
    pub(super) fn newest(&self) -> Option<safelight_bundle::Seq> {
        self.inbox.newest(&self.key())
    }

    /// The letters that are on their way.
    pub(super) fn going(&self) -> BTreeMap<ObjectId, LetterKind> {
        let items = self.outbox.items();
        items.map(|item| (item.of(), item.kind)).collect()
    }

    /// How many letters are kept back: refused over there, or not answered.
    pub(super) fn held(&self) -> usize {
        self.outbox.held().count()
    }

    /// Letters on their way that wait for a receipt.
    pub(super) fn waiting(&self) -> usize {
        let items = self.outbox.items();
        let waits = |item: &&Item| item.kind.is_answered() && item.held.is_none();
        items.filter(waits).count()
    }

    /// Reads the peer's hot folder. What arrives is kept through `arrivals`.
    pub(super) fn scan(&mut self, arrivals: &mut Arrivals<'_>, now: u64) -> Report {
        let area = OneArea {
            of: self.peer.card.letters,
            store: &self.store,
        };
        let mut kept = Kept { arrivals };
        self.inbox.scan(&*self.from, &area, &mut kept, now)
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
        let sign = signer(voice, &mut unsigned);
        let to = self.peer.card.letters;
        let posted = self.outbox.post(to, times, letter, sign, &mut journal);
        match unsigned {
            Some(failure) => Err(failure),
            None => posted.or_fail(Kind::Environment),
        }
    }

    /// Sends a letter once more, under a new number.
    fn renumber(
        &mut self,
        books: &Books,
        voice: &Voice,
        of: ObjectId,
        now: u64,
    ) -> Result<(), Failure> {
        let mut journal = Ledgered { books };
        let mut unsigned = None;
        let sign = signer(voice, &mut unsigned);
        let posted = self.outbox.renumber(of, now, sign, &*self.to, &mut journal);
        match unsigned {
            Some(failure) => Err(failure),
            None => posted.or_fail(Kind::Environment).map(drop),
        }
    }

    /// Sends what somebody decided to send again; and what nobody answered, when the other site is `heard` again.
    pub(super) fn again(
        &mut self,
        books: &Books,
        voice: &Voice,
        heard: bool,
        now: u64,
    ) -> Result<(), Failure> {
        let goes = |held: &Held| held.again || (heard && held.code.is_none());
        let held = self.outbox.held().filter(|(_, held)| goes(held));
        let held: Vec<ObjectId> = held.map(|(item, _)| item.of()).collect();
        held.into_iter()
            .try_for_each(|of| self.renumber(books, voice, of, now))
    }

    /// Compares what the other side says it has seen of us with what we know of ourselves: if it knows more, this is a copy from before.
    pub(super) fn compare(
        &mut self,
        books: &Books,
        voice: &Voice,
        seen: Seq,
        now: u64,
    ) -> Result<(), Failure> {
        if !self.outbox.lost_count(&self.key(), seen, now) {
            return Ok(());
        }
        self.begin(books, Some(seen), now)?;
        self.found_out(now);
        // What went under a number that the other side may know as another's goes again; what was taken there is taken once all the same.
        let items = self.outbox.items();
        let doubtful = items.filter(|item| item.kind.is_answered() && item.held.is_none());
        let doubtful: Vec<ObjectId> = doubtful
            .filter(|item| item.seq <= seen)
            .map(Item::of)
            .collect();
        doubtful
            .into_iter()
            .try_for_each(|of| self.renumber(books, voice, of, now))
    }

    /// Begins a new run of numbers. Of the other site's prekeys that this copy believes to be unused some may be used: it sends others when
    /// it reads a letter of the new run.
    pub(super) fn begin(
        &mut self,
        books: &Books,
        seen: Option<Seq>,
        now: u64,
    ) -> Result<(), Failure> {
        let mut random = [0; 3];
        SystemRandom::new()
            .fill(&mut random)
            .or_fail(Kind::Internal)?;
        books.wait(books.ledger().forget_prekeys(&self.key()))?;
        let mut journal = Ledgered { books };
        let begun = self
            .outbox
            .begin(self.key(), seen, (now, random), &mut journal);
        // The other site may have nothing else to read of the new run, and writes its prekeys only then.
        self.beat = 0;
        begun.or_fail(Kind::Environment).map(drop)
    }

    /// Tells that this is a copy from before.
    fn found_out(&mut self, now: u64) {
        let said = format!(
            "{} knows letters of this site that this site does not: it was restored from a backup. A new run of numbers began at {}",
            self.peer.card.site,
            crate::records::utc(now)
        );
        tracing::error!("{said}");
        self.restored = Some(said);
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
        if self.outbox.has_load_to_offer() {
            let held = super::holdings::read(&self.peer, &self.state, &self.store, now);
            self.outbox.believe(held);
        }
        let mut journal = Ledgered { books };
        let pushed = self.outbox.push(&*self.to, &self.store, &mut journal, now);
        self.sent += pushed.sent.1;
        pushed
    }

    /// Takes letters that came with a receipt out of our folder. One that cannot be taken out now is taken out in a later turn.
    pub(super) fn collect(
        &mut self,
        books: &Books,
        voice: &Voice,
        receipts: Vec<Receipt>,
        now: u64,
    ) -> Result<(), Failure> {
        self.collected.extend(receipts);
        let from = self.key();
        while let Some(receipt) = self.collected.last().cloned() {
            let mut journal = Ledgered { books };
            let (to, store) = (&*self.to, &self.store);
            let load = self
                .outbox
                .items()
                .find(|item| item.of() == receipt.of)
                .and_then(|item| item.load);
            let collected = self
                .outbox
                .collect(&from, &receipt, to, store, &mut journal);
            if let (Ok(Collected::Accepted { .. }), Some(load)) = (&collected, load) {
                super::holdings::note(&self.peer, &self.state, load.list, now)?;
            }
            if let Collected::Renumber { of, seq, code } = collected.or_fail(Kind::Environment)? {
                // One that is only late needs a new number; a number that is another's, or of a run that is over, shows that we lost count.
                if code != Code::TooOld && self.outbox.last(&from).epoch == seq.epoch {
                    self.begin(books, None, now)?;
                    self.found_out(now);
                }
                self.renumber(books, voice, of, now)?;
            }
            self.collected.pop();
        }
        Ok(())
    }
}
