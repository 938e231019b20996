//! Sealing a job on its client's host: objects into the area, a signed envelope and what belongs to it into the job's directory.
//!
//! Nothing here tells anyone of the job: until a ledger has it, what was sealed is an unused directory and unused objects.

use safelight_bundle::Prekey;
use safelight_policies::{
    id::{ClientAlias, JobId, KemKey, ObjectId},
    outline::Outline,
};
use safelight_seal::{
    blob::Purpose,
    job_key::JobKey,
    job_keys::JobKeys,
    key_file::ClientSecret,
    manifest::{Kind as ManifestKind, Manifest, Tree},
    random::Random,
};
use safelight_vfs::{area::Area, pack::Known};

use super::{
    addressing::{self, Announced},
    remembered::{self, Remembered},
    rotation::KeysLock,
};
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs::{self, Homeward, Order},
    state::State,
    store::Store,
};

/// A new job of this client's: its id, its key, and the area that it is sealed into.
pub(crate) struct Sealing<'a> {
    state: &'a State,
    secret: &'a ClientSecret,
    random: &'a dyn Random,
    job: JobId,
    alias: ClientAlias,
    key: JobKey,
    store: Store,
    /// The keys stay as they are until the job is sealed with them.
    _lock: KeysLock,
}

/// What is sealed.
pub(crate) struct Goods {
    /// The packed central directories.
    pub(crate) trees: Vec<Tree>,
    /// The encoded recipe.
    pub(crate) recipe: Vec<u8>,
    /// Where the results go.
    pub(crate) homeward: Homeward,
    /// What the agent is told.
    pub(crate) order: Order,
    /// Who may read the job besides its client.
    pub(crate) readers: Vec<KemKey>,
}

/// A job that is sealed.
pub(crate) struct Sealed {
    inputs: Manifest,
    objects: [ObjectId; 2],
    /// The signed envelope.
    pub(crate) envelope: Vec<u8>,
}

impl<'a> Sealing<'a> {
    /// Draws an id and a key.
    pub(crate) fn begin(
        state: &'a State,
        secret: &'a ClientSecret,
        random: &'a dyn Random,
    ) -> Result<Self, Failure> {
        let lock = KeysLock::shared(state)?;
        // They were read before the lock was there.
        let present = jobs::client_secret(state, random)?;
        if present.kem.public() != secret.kem.public() {
            let message = "the client's keys were rotated at this moment";
            return Err(Failure::new(Kind::Environment, message).hint("try again"));
        }
        let mut bytes = [0; 10];
        random.fill(&mut bytes).or_fail(Kind::Internal)?;
        let alias = jobs::alias(&secret.sign.public())?;
        Ok(Self {
            state,
            secret,
            random,
            job: JobId::from_random(bytes),
            key: JobKey::generate(random).or_fail(Kind::Internal)?,
            store: Store::open(state, &alias)?,
            alias,
            _lock: lock,
        })
    }

    /// The job's id.
    pub(crate) fn job(&self) -> JobId {
        self.job
    }

    /// The client's alias.
    pub(crate) fn client(&self) -> &ClientAlias {
        &self.alias
    }

    /// Where segments go.
    pub(crate) fn area(&self) -> &Area {
        self.store.area()
    }

    /// Seals everything, and leaves the signed envelope in the job's directory last.
    pub(crate) fn seal(
        &self,
        goods: Goods,
        outline: Outline,
        prekey: &Prekey,
    ) -> Result<Sealed, Failure> {
        let Goods {
            mut trees,
            recipe,
            homeward,
            order,
            readers,
        } = goods;
        trees.sort_by(|a, b| a.path.cmp(&b.path));
        let manifest = Manifest {
            job: self.job,
            kind: ManifestKind::Inputs,
            trees,
        };
        let sealed = manifest
            .sign_and_seal(&self.secret.sign, &self.key, self.random)
            .or_fail(Kind::Internal)?;
        let inputs = self.store.put_bytes(&sealed)?;
        let recipe = self
            .store
            .put_bytes(&self.blob(Purpose::Recipe, &recipe)?)?;
        let home = self.blob(Purpose::Home, &homeward.encode()?)?;
        let announced = Announced {
            outline,
            inputs,
            recipe,
        };
        let envelope =
            addressing::envelope(self.secret, self.random, &self.key, announced, prekey)?;
        let directory = self.state.job(self.job)?;
        let keys = JobKeys::wrap(
            &self.key,
            self.job,
            &self.secret.kem.public(),
            &readers,
            self.random,
        );
        let keys = keys.or_fail(Kind::User)?.to_file_bytes();
        jobs::write_private(&directory.join("keys"), &keys)?;
        jobs::write_private(&directory.join("home"), &home)?;
        jobs::write_private(
            &directory.join("order.json"),
            &serde_json::to_vec(&order).or_fail(Kind::Internal)?,
        )?;
        jobs::write_private(&directory.join("envelope"), &envelope)?;
        Ok(Sealed {
            inputs: manifest,
            objects: [inputs, recipe],
            envelope,
        })
    }

    /// Notes what the job is made of, for those who carry it to where it is rendered. Answers the envelope's name.
    pub(crate) fn list(&self, sealed: &Sealed) -> Result<ObjectId, Failure> {
        let envelope = self.store.put_bytes(&sealed.envelope)?;
        let list = addressing::list(&self.store, envelope, sealed.objects, &sealed.inputs)?;
        let list = self.store.put_list(&list)?;
        jobs::write_list(self.state, self.job, list)?;
        Ok(envelope)
    }

    /// Keeps beside the job what its files were like.
    pub(super) fn remember(&self, all: &[Remembered]) -> Result<(), Failure> {
        let plain = postcard::to_stdvec(all).or_fail(Kind::Internal)?;
        let sealed = self.blob(Purpose::Files, &plain)?;
        jobs::write_private(&self.state.job(self.job)?.join("files"), &sealed)?;
        remembered::note(self.state, &self.secret.dedup, self.job, all)
    }

    /// What is known of a directory from when it was last handed in.
    pub(super) fn recall(&self, host: &std::path::Path) -> Known {
        remembered::recall(self.state, &self.secret.dedup, host)
    }

    fn blob(&self, purpose: Purpose, bytes: &[u8]) -> Result<Vec<u8>, Failure> {
        self.key
            .seal_blob(purpose, self.job.as_bytes(), bytes, self.random)
            .or_fail(Kind::Internal)
    }
}
