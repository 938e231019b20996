//! Two sites in memory: keys, stores of objects, what their ledgers keep.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    error::Error,
    io::{self, Read},
};

use ring::signature::{Ed25519KeyPair, KeyPair};
use safelight_bundle::{
    Announcement, AnyLetter, Areas, Batch, BlobList, Collected, Delivery, Document, Envelope,
    Epoch, Inbox, Item, Journal, Keeper, Letter, Limits, Load, Medium, Numbers, Objects, Outbox,
    Peer, Posted, Prekey, Pushed, Receipt, Report, Role, Seq, Stamp, Trust, Verdict, Windows,
    object_id, seal, window::Row,
};
use safelight_policies::{
    id::{ClientAlias, JobId, KemKey, ObjectId, PolicyDigest, PolicyName, VerifyKey},
    outline::{Outline, StepOutline},
};

/// When the tests begin, in seconds since 1970.
pub(crate) const START: u64 = 1_700_000_000;
pub(crate) const DAY: u64 = 86_400;

pub(crate) struct Signer(Ed25519KeyPair);

impl Signer {
    pub(crate) fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }
    pub(crate) fn key(&self) -> VerifyKey {
        VerifyKey(self.0.public_key().as_ref().try_into().unwrap())
    }
    pub(crate) fn sign(&self, context: &str, bytes: &[u8]) -> [u8; 64] {
        let message = [b"safelight v1 ", context.as_bytes(), b"\0", bytes].concat();
        self.0.sign(&message).as_ref().try_into().unwrap()
    }
    pub(crate) fn seal<T: Document>(&self, document: &T) -> Vec<u8> {
        seal(document, &self.key(), |context, bytes| {
            self.sign(context, bytes)
        })
        .unwrap()
    }
    /// Signs what [`seal`] would refuse, as a hostile sender does.
    pub(crate) fn force<T: Document>(&self, document: &T, more: &[u8]) -> Vec<u8> {
        let mut body = postcard::to_stdvec(document).unwrap();
        body.extend(more);
        let signature = self.sign(T::CONTEXT, &body);
        [b"SLSIGNED", &[1, 0][..], &self.key().0, &signature, &body].concat()
    }
}

/// A store of objects in memory.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) objects: RefCell<BTreeMap<ObjectId, Vec<u8>>>,
    pub(crate) room: Option<u64>,
}

impl Store {
    pub(crate) fn add(&self, bytes: &[u8]) -> ObjectId {
        let id = object_id(bytes);
        self.objects.borrow_mut().insert(id, bytes.to_vec());
        id
    }
    pub(crate) fn has(&self, id: ObjectId) -> bool {
        self.objects.borrow().contains_key(&id)
    }
}

impl Objects for Store {
    fn len(&self, id: ObjectId) -> io::Result<Option<u64>> {
        Ok(self
            .objects
            .borrow()
            .get(&id)
            .map(|bytes| bytes.len() as u64))
    }
    fn put(&self, id: ObjectId, _len: u64, source: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes)?;
        assert_eq!(object_id(&bytes), id, "nothing unverified is ever stored");
        self.objects.borrow_mut().insert(id, bytes);
        Ok(())
    }
    fn batch(&self) -> Box<dyn Batch + '_> {
        Box::new(OneByOne(self))
    }
    fn open(&self, id: ObjectId) -> io::Result<Box<dyn Read + '_>> {
        let bytes = self
            .objects
            .borrow()
            .get(&id)
            .cloned()
            .ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(io::Cursor::new(bytes)))
    }
    fn room(&self) -> io::Result<u64> {
        Ok(self.room.unwrap_or(u64::MAX))
    }
}

/// A memory is as durable after each as after all.
struct OneByOne<'a>(&'a Store);

impl Batch for OneByOne<'_> {
    fn put(&mut self, id: ObjectId, len: u64, source: &mut dyn Read) -> io::Result<()> {
        self.0.put(id, len, source)
    }
    fn settle(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

impl Areas for Store {
    fn area(&self, _from: &VerifyKey) -> Option<&dyn Objects> {
        Some(self)
    }
}

/// What a site's ledger keeps, and a switch that makes it fail.
#[derive(Clone, Default)]
pub(crate) struct Ledger {
    pub(crate) rows: Vec<Row>,
    pub(crate) delivered: Vec<Delivery>,
    pub(crate) numbers: HashMap<VerifyKey, Numbers>,
    pub(crate) items: BTreeMap<ObjectId, Item>,
    pub(crate) broken: bool,
    /// Letters that make sense only after another.
    pub(crate) early: BTreeSet<ObjectId>,
}

type Kept = Result<(), Box<dyn Error + Send + Sync>>;

impl Ledger {
    fn works(&self) -> Kept {
        if self.broken {
            Err("the ledger is broken".into())
        } else {
            Ok(())
        }
    }
    pub(crate) fn jobs(&self) -> Vec<JobId> {
        let jobs = self
            .delivered
            .iter()
            .filter_map(|delivery| match &delivery.opened.letter {
                AnyLetter::Job(job) => Some(job.job),
                _ => None,
            });
        jobs.collect()
    }
}

impl Keeper for Ledger {
    fn is_due(
        &mut self,
        delivery: &Delivery,
    ) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
        Ok(!self.early.contains(&delivery.opened.of))
    }
    fn keep(&mut self, row: &Row, delivery: Option<&Delivery>) -> Kept {
        self.works()?;
        self.rows.push(*row);
        self.delivered.extend(delivery.cloned());
        Ok(())
    }
}

impl Journal for Ledger {
    fn store(&mut self, numbers: &Numbers, item: &Item) -> Kept {
        self.works()?;
        self.numbers.insert(numbers.to, *numbers);
        self.items.insert(item.of(), item.clone());
        Ok(())
    }
    fn remove(&mut self, of: ObjectId) -> Kept {
        self.works()?;
        self.items.remove(&of);
        Ok(())
    }
    fn replace(&mut self, old: ObjectId, numbers: &Numbers, item: &Item) -> Kept {
        self.works()?;
        self.items.remove(&old);
        self.store(numbers, item)
    }
    fn begin(&mut self, numbers: &Numbers) -> Kept {
        self.works()?;
        self.numbers.insert(numbers.to, *numbers);
        Ok(())
    }
}

/// One site: an inbox, an outbox, a store and a ledger.
pub(crate) struct Party {
    pub(crate) signer: Signer,
    pub(crate) store: Store,
    pub(crate) ledger: Ledger,
    pub(crate) inbox: Inbox,
    pub(crate) outbox: Outbox,
    trust: Trust,
}

impl Party {
    pub(crate) fn new(seed: u8, peer: &Signer, role: Role) -> Self {
        let signer = Signer::new(seed);
        let trust = Trust {
            me: signer.key(),
            peers: HashMap::from([(
                peer.key(),
                Peer {
                    role,
                    limits: Limits::default(),
                },
            )]),
        };
        let inbox = Inbox::new(trust.clone(), Windows::default());
        let outbox = Outbox::new(signer.key(), Epoch::new(START, [seed; 3]), [], []);
        Self {
            signer,
            store: Store::default(),
            ledger: Ledger::default(),
            inbox,
            outbox,
            trust,
        }
    }

    /// What is only in memory is gone; the ledger brings the rest back.
    pub(crate) fn restart(&mut self, now: u64) {
        let windows = Windows::restore(self.ledger.rows.iter().copied());
        assert_eq!(
            &windows,
            self.inbox.windows(),
            "the rows bring back the same state"
        );
        self.inbox = Inbox::new(self.trust.clone(), windows);
        let numbers = self.ledger.numbers.values().copied();
        let items = self.ledger.items.values().cloned();
        self.outbox = Outbox::new(self.signer.key(), Epoch::new(now, [0; 3]), numbers, items);
    }

    pub(crate) fn post<T: Letter>(
        &mut self,
        to: VerifyKey,
        now: u64,
        letter: impl FnOnce(Stamp) -> T,
    ) -> Posted {
        let Self {
            signer,
            ledger,
            outbox,
            ..
        } = self;
        let sign = |context: &str, bytes: &[u8]| signer.sign(context, bytes);
        outbox
            .post(to, (now, now + 7 * DAY), letter, sign, ledger)
            .unwrap()
    }

    pub(crate) fn push(&mut self, medium: &dyn Medium, now: u64) -> Pushed {
        self.outbox.push(medium, &self.store, &mut self.ledger, now)
    }

    pub(crate) fn scan(&mut self, medium: &dyn Medium, now: u64) -> Report {
        self.inbox.scan(medium, &self.store, &mut self.ledger, now)
    }

    /// One turn of a site's loop: read, collect, answer, send.
    pub(crate) fn turn(&mut self, medium: &dyn Medium, now: u64) -> Report {
        let from = self.ledger.delivered.len();
        let report = self.scan(medium, now);
        let receipts: Vec<(VerifyKey, Receipt)> = self.ledger.delivered[from..]
            .iter()
            .filter_map(|delivery| match &delivery.opened.letter {
                AnyLetter::Receipt(receipt) => Some((delivery.opened.name.from, receipt.clone())),
                _ => None,
            })
            .collect();
        for (from, receipt) in receipts {
            let Self {
                outbox,
                store,
                ledger,
                ..
            } = self;
            let collected = outbox.collect(&from, &receipt, medium, store, ledger);
            if let Ok(Collected::Renumber { of, seq, .. }) = collected {
                self.renumber(of, seq, medium, now);
            }
        }
        if !self.ledger.broken {
            for owed in &report.receipts {
                let (of, verdict) = (owed.of, owed.verdict);
                self.post(owed.to, now, |stamp| Receipt { stamp, of, verdict });
            }
        }
        self.push(medium, now);
        report
    }

    /// Sends a letter under a new number, of a new run if its number was of the current one.
    pub(crate) fn renumber(&mut self, of: ObjectId, seq: Seq, medium: &dyn Medium, now: u64) {
        let Self {
            signer,
            ledger,
            outbox,
            ..
        } = self;
        let to = outbox.items().find(|item| item.of() == of).unwrap().to;
        if outbox.last(&to).epoch == seq.epoch {
            outbox.begin(to, None, (now, [7; 3]), ledger).unwrap();
        }
        let sign = |context: &str, bytes: &[u8]| signer.sign(context, bytes);
        outbox.renumber(of, now, sign, medium, ledger).unwrap();
    }

    /// Puts a job of these blobs into the store; returns what announces it.
    pub(crate) fn job(
        &self,
        number: u8,
        site: VerifyKey,
        blobs: &[&[u8]],
        now: u64,
    ) -> (JobId, ObjectId, Load) {
        let envelope = envelope(&self.signer, number, site, &self.store, now);
        let job = envelope.outline.job;
        let signed = self.signer.seal(&envelope);
        let mut entries = vec![entry(&self.store, &signed)];
        entries.extend([envelope.inputs, envelope.recipe].map(|id| (id, self.store.len_of(id))));
        entries.extend(blobs.iter().map(|blob| entry(&self.store, blob)));
        let list = BlobList::new(entries).unwrap();
        (job, object_id(&signed), load(&self.store, &list))
    }

    /// Posts the announcement of a job.
    pub(crate) fn announce(
        &mut self,
        number: u8,
        site: VerifyKey,
        blobs: &[&[u8]],
        now: u64,
    ) -> (JobId, Posted) {
        let (job, envelope, load) = self.job(number, site, blobs, now);
        let posted = self.post(site, now, |stamp| Announcement {
            stamp,
            job,
            envelope,
            load,
        });
        (job, posted)
    }
}

impl Store {
    pub(crate) fn len_of(&self, id: ObjectId) -> u32 {
        u32::try_from(self.objects.borrow()[&id].len()).unwrap()
    }
}

pub(crate) fn entry(store: &Store, bytes: &[u8]) -> (ObjectId, u32) {
    (store.add(bytes), u32::try_from(bytes.len()).unwrap())
}

pub(crate) fn load(store: &Store, list: &BlobList) -> Load {
    Load {
        list: store.add(&list.encode().unwrap()),
        bytes: list.bytes(),
    }
}

pub(crate) fn envelope(
    client: &Signer,
    number: u8,
    site: VerifyKey,
    store: &Store,
    now: u64,
) -> Envelope {
    Envelope {
        version: 1,
        outline: Outline {
            job: JobId::from_random([number; 10]),
            client: ClientAlias::new("river").unwrap(),
            priority: 50,
            policy: PolicyName::new("blender").unwrap(),
            policy_digest: PolicyDigest([2; 32]),
            steps: vec![StepOutline {
                tasks: 240,
                depends_on: vec![],
                amounts: BTreeMap::new(),
                attributes: BTreeMap::new(),
                timeout: 3600,
                batch: None,
            }],
            expires: now + 8 * DAY,
            central: vec![],
            retries: None,
            wishes: Default::default(),
        },
        client_verify: client.key(),
        attest: VerifyKey([3; 32]),
        inputs: store.add(&[b"manifest", &[number][..]].concat()),
        recipe: store.add(&[b"recipe", &[number][..]].concat()),
        prekey: [6; 16],
        site,
        stanza_for_site: vec![7; 81],
        issued: now,
        expires: now + 8 * DAY,
    }
}

pub(crate) fn prekey(site: &Signer, id: u8) -> Vec<u8> {
    site.seal(&Prekey {
        id: [id; 16],
        key: KemKey([2; 32]),
        site: site.key(),
        issued: START,
    })
}

/// A client and a render site that know each other.
pub(crate) fn pair() -> (Party, Party) {
    let (client, site) = (Signer::new(1), Signer::new(2));
    (
        Party::new(1, &site, Role::Site),
        Party::new(2, &client, Role::Client),
    )
}

pub(crate) fn accepted() -> Verdict {
    Verdict::Accepted
}
