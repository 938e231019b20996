//! The client's process as its site holds it: asked one thing at a time, ended by letting go of it.

use std::{
    fs::File,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use safelight_policies::id::{ClientAlias, JobId, ObjectId, SessionId, VerifyKey};

use super::protocol::{Answer, Ask, DeliveredReport, NotifiedReport};
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs,
    process::{self, Process},
    state::State,
};

/// The hidden command.
const COMMAND: &str = "__client";

/// How long it may take to take a question, and to end.
const PROMPT: Duration = Duration::from_secs(30);

/// The client's process. One thing is asked at a time: not for several threads at once.
pub(crate) struct ClientProcess {
    process: Option<Process>,
    state: State,
    key: VerifyKey,
    alias: ClientAlias,
}

impl ClientProcess {
    /// Starts the process on a state directory. The client's key is made if there is none.
    pub(crate) fn start(state: &State) -> Result<Self, Failure> {
        let root = OwnedFd::from(File::open(state.root()).or_fail(Kind::Environment)?);
        let process = process::start(COMMAND, &["--state", "."], None, Some(&root))?;
        // An answer takes as long as there is to store; a process that dies hangs up.
        process
            .channel
            .set_timeouts(Some(PROMPT), None)
            .or_fail(Kind::Environment)?;
        match ask(&process, &Ask::Who)? {
            Answer::Client { key, alias } => Ok(Self {
                process: Some(process),
                state: state.clone(),
                key,
                alias,
            }),
            answer => Err(refused(answer)),
        }
    }

    /// True as long as the process is there.
    pub(crate) fn lives(&mut self) -> bool {
        let process = self.process.as_mut();
        process.is_some_and(|process| matches!(process.child.try_wait(), Ok(None)))
    }

    /// The client's signing key, and its alias on this host.
    pub(crate) fn public(&self) -> (VerifyKey, ClientAlias) {
        (self.key, self.alias.clone())
    }

    /// Signs a letter: its context and its bytes, as [`safelight_bundle::seal`] hands them out. Anything but a letter is refused.
    pub(crate) fn sign(&self, context: &str, body: &[u8]) -> Result<[u8; 64], Failure> {
        let (context, body) = (context.to_owned(), body.to_vec());
        match self.ask(&Ask::Sign { context, body })? {
            Answer::Signature(bytes) => bytes.try_into().map_err(|_| out_of_turn()),
            answer => Err(refused(answer)),
        }
    }

    /// Addresses a job to a site, with a prekey that the site signed. Answers the envelope, which is the job's from now on, and the list
    /// of its blobs. The same prekey makes the same envelope.
    pub(crate) fn readdress(
        &self,
        job: JobId,
        prekey: &[u8],
        site: &VerifyKey,
    ) -> Result<(Vec<u8>, ObjectId), Failure> {
        let (prekey, site) = (prekey.to_vec(), *site);
        match self.ask(&Ask::Readdress { job, prekey, site })? {
            Answer::Readdressed { envelope, list } => {
                let bytes = jobs::read(&self.state.job(job)?.join("envelope"))?;
                if safelight_bundle::object_id(&bytes) == envelope {
                    Ok((bytes, list))
                } else {
                    let message = format!("the envelope of {job} was changed meanwhile");
                    Err(Failure::new(Kind::Internal, message))
                }
            }
            answer => Err(refused(answer)),
        }
    }

    /// Stores what a session wrote where it belongs. May be asked again: what stands there already counts as stored.
    pub(crate) fn deliver(
        &self,
        job: JobId,
        session: SessionId,
    ) -> Result<DeliveredReport, Failure> {
        match self.ask(&Ask::Deliver { job, session })? {
            Answer::Delivered(report) => Ok(report),
            answer => Err(refused(answer)),
        }
    }

    /// Has the client look at its registers.
    pub(crate) fn witness(&self) -> Result<(), Failure> {
        match self.ask(&Ask::Witness)? {
            Answer::Witnessed => Ok(()),
            answer => Err(refused(answer)),
        }
    }

    /// Tells whom the job's author wants told that the job came to this state, `at` seconds since 1970.
    pub(crate) fn notify(
        &self,
        job: JobId,
        state: &str,
        at: u64,
    ) -> Result<NotifiedReport, Failure> {
        let state = state.to_owned();
        match self.ask(&Ask::Notify { job, state, at })? {
            Answer::Notified(report) => Ok(report),
            answer => Err(refused(answer)),
        }
    }

    fn ask(&self, question: &Ask) -> Result<Answer, Failure> {
        let process = self.process.as_ref().ok_or_else(out_of_turn)?;
        ask(process, question)
    }
}

/// Hangs up; the process ends by itself, or is ended.
impl Drop for ClientProcess {
    fn drop(&mut self) {
        let Some(Process { mut child, channel }) = self.process.take() else {
            return;
        };
        drop(channel);
        let until = Instant::now() + PROMPT;
        while Instant::now() < until {
            match child.try_wait() {
                Ok(Some(_)) | Err(_) => return,
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn ask(process: &Process, question: &Ask) -> Result<Answer, Failure> {
    let gone = |error: &dyn std::error::Error| {
        let message = format!("the client's process went away: {error}");
        Failure::new(Kind::Environment, message)
    };
    process
        .channel
        .send(question)
        .map_err(|error| gone(&error))?;
    let answer = process.channel.expect::<Answer>();
    Ok(answer.map_err(|error| gone(&error))?.message)
}

fn refused(answer: Answer) -> Failure {
    match answer {
        Answer::Refused { reason, denied } => {
            let kind = if denied {
                Kind::Denied
            } else {
                Kind::Environment
            };
            Failure::new(kind, reason)
        }
        _ => out_of_turn(),
    }
}

fn out_of_turn() -> Failure {
    Failure::new(Kind::Internal, "the client's process spoke out of turn")
}
