//! A job as its client opens it at home: envelope, key, manifests, layers.

use safelight_bundle::Envelope;
use safelight_job::recipe::Recipe;
use safelight_policies::id::{JobId, ObjectId};
use safelight_seal::{
    blob::Purpose,
    job_key::JobKey,
    manifest::{Kind as ManifestKind, Manifest},
    random::SystemRandom,
};
use safelight_vfs::area::Area;

use crate::{
    failure::{Failure, Kind, OrFail},
    jobs::{self, Homeward, Left},
    state::State,
};

/// A job, opened with the client's own key.
pub(crate) struct OpenedJob {
    pub(crate) envelope: Envelope,
    pub(crate) key: JobKey,
    pub(crate) area: Area,
}

impl OpenedJob {
    /// Opens a job.
    pub(crate) fn open(state: &State, job: JobId) -> Result<Self, Failure> {
        if !state.identity().exists() {
            return Err(Failure::new(
                Kind::Denied,
                format!(
                    "no client key in {}: a job is opened where its client is at home",
                    state.root().display()
                ),
            ));
        }
        let secret = jobs::client_secret(state, &SystemRandom::new())?;
        let envelope = jobs::verify(
            &jobs::read(&state.job(job)?.join("envelope"))?,
            job,
            &secret.sign.public(),
        )?;
        let key = jobs::job_key(&envelope, &secret)?;
        let area = Area::open(state.area(&envelope.outline.client)?).or_fail(Kind::Environment)?;
        Ok(Self {
            envelope,
            key,
            area,
        })
    }

    /// The job's id.
    pub(crate) fn job(&self) -> JobId {
        self.envelope.outline.job
    }

    /// The inputs as the client sealed them.
    pub(crate) fn inputs(&self) -> Result<Manifest, Failure> {
        let sealed = self
            .area
            .read(self.envelope.inputs)
            .or_fail(Kind::Environment)?;
        Manifest::open(
            &sealed,
            &self.key,
            self.job(),
            &ManifestKind::Inputs,
            &self.envelope.client_verify,
        )
        .or_fail(Kind::Denied)
    }

    /// What was to be run.
    pub(crate) fn recipe(&self) -> Result<Recipe, Failure> {
        let sealed = self
            .area
            .read(self.envelope.recipe)
            .or_fail(Kind::Environment)?;
        let plain = self
            .key
            .open_blob(Purpose::Recipe, self.job().as_bytes(), &sealed)
            .or_fail(Kind::Denied)?;
        Recipe::decode(&plain).or_fail(Kind::Denied)
    }

    /// What an attempt wrote.
    pub(crate) fn results(&self, left: &Left) -> Result<Manifest, Failure> {
        let sealed = self.read(left.manifest, left)?;
        let kind = ManifestKind::Result {
            session: left.session,
            attempt: left.attempt,
            fence: left.fence,
        };
        Manifest::open(
            &sealed,
            &self.key,
            self.job(),
            &kind,
            &self.key.attest_key().public(),
        )
        .or_fail(Kind::Denied)
    }

    fn read(&self, object: Option<ObjectId>, left: &Left) -> Result<Vec<u8>, Failure> {
        let sealed_nothing = || {
            let message = format!("{} of {} sealed nothing", left.session, self.job());
            Failure::new(Kind::User, message)
        };
        let object = object.ok_or_else(sealed_nothing)?;
        self.area.read(object).or_fail(Kind::Environment)
    }

    /// What a task printed.
    pub(crate) fn log(&self, left: &Left) -> Result<Vec<u8>, Failure> {
        let sealed = self.read(left.log, left)?;
        self.key
            .open_blob(Purpose::TaskLog, self.job().as_bytes(), &sealed)
            .or_fail(Kind::Denied)
    }

    /// Where the results go.
    pub(crate) fn homeward(&self, state: &State) -> Result<Homeward, Failure> {
        let sealed = jobs::read(&state.job(self.job())?.join("home"))?;
        let plain = self
            .key
            .open_blob(Purpose::Home, self.job().as_bytes(), &sealed)
            .or_fail(Kind::Denied)?;
        postcard::from_bytes(&plain).or_fail(Kind::Internal)
    }
}
