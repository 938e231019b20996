//! The certificate of destruction: what was erased, when, by whom, and what is still there.
//!
//! Its text is for people. Before anything is erased the hash of the text goes onto the job's log, the log into the client's register, and
//! the register's head is signed by the site and by the client. With the proof of that record, anybody who has the two public keys can see
//! that this text was what both signed. It is kept before anything is erased, so that no crash leaves keys erased and no certificate, and
//! given out only when the keys are gone.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use data_encoding::BASE64;
use safelight_audit::{Body, Record, Source, tree};
use safelight_policies::{event::Control, id::JobId};
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Failure, Kind, OrFail},
    jobs, needed,
    opened::OpenedJob,
    process,
    records::{self, Logs, Name, utc},
    registers::{self, Proof},
    run::Books,
    state::State,
    terminal::print,
};

/// What the format is called.
const FORMAT: &str = "safelight-certificate/v1";

/// A certificate, as it is written and read.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificate {
    format: String,
    text: String,
    proof: Proof,
}

impl Certificate {
    /// Puts what is about to be erased on the job's log, proves that it is there, and keeps the certificate. `also` is what else is erased.
    pub(super) fn prepare(state: &State, job: JobId, also: Option<&str>) -> Result<(), Failure> {
        let certificate = Self::make(state, job, also)?;
        let bytes = serde_json::to_vec_pretty(&certificate).or_fail(Kind::Internal)?;
        jobs::write_private(&kept(state, job)?, &bytes)
    }

    fn make(state: &State, job: JobId, also: Option<&str>) -> Result<Self, Failure> {
        let opened = OpenedJob::open(state, job)?;
        let text = text(state, &opened, also)?;
        let event = Control::KeyErased {
            uid: nix::unistd::getuid().as_raw(),
            certificate: tree::leaf(text.as_bytes()),
        };
        records::note(state, &opened, Source::Client, event)?;
        let logs = Logs::of(state, &opened)?;
        let gone = || Failure::new(Kind::Internal, "the job's log is gone");
        let log = logs.iter().find(|log| log.name == Name::Job);
        let last = Books::open(state)?.checkpoint(job)?.ok_or_else(gone)?;
        let log = log.ok_or_else(gone)?;
        let proof = registers::prove(state, &opened, (&logs, log), last.records)?;
        let certificate = Self {
            format: FORMAT.to_owned(),
            text,
            proof,
        };
        certificate.matches(job).map(|()| certificate)
    }

    /// The certificate of a job whose keys are gone.
    pub(crate) fn of(state: &State, job: JobId) -> Result<Self, Failure> {
        let path = kept(state, job)?;
        let keys = path.with_file_name("keys").try_exists();
        if keys.or_fail(Kind::Environment)? {
            let message = format!("the keys of {job} are not erased");
            return Err(
                Failure::new(Kind::User, message).hint(format!("safelight key erase {job}"))
            );
        }
        if !path.try_exists().or_fail(Kind::Environment)? {
            let message = format!("{job} has no certificate here: it was erased without one");
            return Err(Failure::new(Kind::User, message));
        }
        Self::read(&jobs::read(&path)?)
            .ok_or_else(|| Failure::new(Kind::Denied, format!("{} is damaged", path.display())))
    }

    /// Writes it, for its owner only.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(self).or_fail(Kind::Internal)?;
        jobs::write_private(&std::path::absolute(path).or_fail(Kind::User)?, &text)
    }

    /// Reads one; `None` if the file is something else.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let read: Self = serde_json::from_slice(bytes).ok()?;
        (read.format == FORMAT).then_some(read)
    }

    /// Verifies it against the keys of the sites that this host knows, and shows it.
    pub(crate) fn verify(&self, state: &State) -> Result<(), Failure> {
        let statement = registers::verify(state, &self.proof)?;
        self.matches(statement.job)?;
        print(self.text.trim_end())
    }

    /// The record that is proved must be about this text, and both about this job.
    fn matches(&self, job: JobId) -> Result<(), Failure> {
        let record = BASE64.decode(self.proof.record.as_bytes());
        let record: Option<Record> = record
            .ok()
            .and_then(|bytes| postcard::from_bytes(&bytes).ok());
        let hash = tree::leaf(self.text.as_bytes());
        let is_about = matches!(
            record.map(|record| record.body),
            Some(Body::Control(Control::KeyErased { certificate, .. })) if certificate == hash
        );
        match is_about && self.text.lines().any(|line| line == format!("job: {job}")) {
            true => Ok(()),
            false => Err(Failure::new(
                Kind::Denied,
                "the certificate does not hold: its text is not the one that was signed",
            )),
        }
    }
}

/// Where a job's certificate is kept.
fn kept(state: &State, job: JobId) -> Result<PathBuf, Failure> {
    Ok(state.job(job)?.join("certificate.json"))
}

fn text(state: &State, opened: &OpenedJob, also: Option<&str>) -> Result<String, Failure> {
    let job = opened.job();
    let readers = jobs::keys(state, job)?.map_or(0, |keys| keys.readers().len());
    let lefts = jobs::all_left(state, job)?;
    let sites: BTreeSet<_> = lefts.iter().filter_map(|left| left.site.clone()).collect();
    let (objects, bytes) = needed::of_job(state, opened)?;
    let mut lines = vec![
        FORMAT.to_owned(),
        format!("job: {job}"),
        format!("client: {}", opened.envelope.outline.client),
        format!("when: {}", utc(process::now_seconds())),
        format!(
            "by: user {} of the client's host",
            nix::unistd::getuid().as_raw()
        ),
        format!(
            "erased: the job's key, as it was wrapped to the client and to {readers} readers; this site's one-time prekey of the job"
        ),
    ];
    if let Some(also) = also {
        lines.push(format!("erased: {also}"));
    }
    for site in &sites {
        lines.push(format!(
            "rendered at: {site}, which erases its one-time prekey when the client has everything; not confirmed by this page"
        ));
    }
    lines.push(format!(
        "still here: {objects} sealed objects of {bytes} bytes, which nothing here opens any more, until they are collected"
    ));
    lines.push(
        "still here: the job's audit log; what it says of files is sealed and was readable with the erased key only".to_owned(),
    );
    lines.push(
        "not covered: bundles packed before, backups, old blocks of the disk, and files that another job has too".to_owned(),
    );
    Ok(lines.join("\n") + "\n")
}
