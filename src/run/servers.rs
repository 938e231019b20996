//! The three processes beside a session, as the agent holds them: audit writer, key warden, view server.
//!
//! Each is ended by letting go of it: a process of ours ends when its channel does. The agent waits for that, and kills what does not.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::Child,
    time::{Duration, Instant},
};

use safelight_audit::{Checkpoint, FromWriter, Order as AuditOrder, Recorder, Source};
use safelight_channel::Channel;
use safelight_policies::{
    cause::Cause,
    event::Control,
    id::{ClientAlias, JobId, KemKey},
};
use safelight_seal::job_key::Stanza;
use safelight_vfs::protocol::{FromView, Order, Sealed, ToView};

use crate::{
    failure::{Failure, Kind, OrFail},
    process::{self, Process},
    state::{LogOf, State, user},
    warden::{Answer, Ask, LookRequest},
};

/// How long one of our processes may take for what it does at once.
const PROMPT: Duration = Duration::from_secs(30);

/// How long one that was killed may take: whoever waits for a disk that stands still dies when that goes on, which may be never.
const KILLED: Duration = Duration::from_secs(2);

/// Ends a process: its channel is closed, it has a moment to follow, then it is killed.
pub(crate) fn end(process: Process) {
    let Process { mut child, channel } = process;
    drop(channel);
    if is_over(&mut child, PROMPT) {
        return;
    }
    let pid = child.id();
    tracing::warn!(pid, "a process did not end by itself and is killed");
    let _ = child.kill();
    if !is_over(&mut child, KILLED) {
        tracing::error!(
            pid,
            "a process that was killed does not end: it waits for a disk"
        );
    }
}

/// True if a process ends in time.
fn is_over(child: &mut Child, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(Some(_)) | Err(_) => return true,
            Ok(None) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
    false
}

/// The audit writer of a job.
pub(crate) struct AuditWriter {
    process: Process,
    recorder: Recorder,
}

impl AuditWriter {
    /// Starts the writer on one of a job's logs. Answers it with the channels of the other sources, in order.
    pub(crate) fn start(
        state: &State,
        (client, job, which): (&ClientAlias, JobId, LogOf),
        own: Source,
        others: &[Source],
    ) -> Result<(Self, Vec<Channel>), Failure> {
        let path = state.audit_log(client, job, which)?;
        let file: File = safelight_audit::open_file(&path)
            .map_err(|error| no_record(&error).hint(format!("look at {}", path.display())))?;
        let identity = state.is_privileged().then_some((user::AUDIT, user::AUDIT));
        let process = process::start("__audit", &[], identity, None)?;
        let sources: Vec<Source> = [own].iter().chain(others).copied().collect();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in &sources {
            let (a, b) = Channel::pair().or_fail(Kind::Environment)?;
            ours.push(a);
            theirs.push(b);
        }
        let order = AuditOrder {
            job,
            client: client.clone(),
            log: which.id(job),
            sources,
        };
        let descriptors: Vec<BorrowedFd<'_>> = [file.as_fd()]
            .into_iter()
            .chain(theirs.iter().map(AsFd::as_fd))
            .collect();
        process
            .channel
            .set_timeouts(Some(PROMPT), Some(PROMPT))
            .or_fail(Kind::Environment)?;
        process
            .channel
            .send_with(&order, &descriptors)
            .map_err(|error| no_record(&error))?;
        match process
            .channel
            .expect::<FromWriter>()
            .map_err(|error| no_record(&error))?
            .message
        {
            FromWriter::Synced(_) => {}
            FromWriter::Failed { errno } => {
                return Err(cannot_write(errno).hint(format!("look at {}", path.display())));
            }
        }
        let recorder = Recorder::new(ours.remove(0)).or_fail(Kind::Environment)?;
        Ok((Self { process, recorder }, ours))
    }

    /// Puts an act of ours on the log.
    pub(crate) fn note(&self, event: Control) -> Result<(), Failure> {
        self.recorder
            .control(event)
            .map_err(|error| no_record(&error))
    }

    /// Waits until everything so far is on disk.
    pub(crate) fn sync(&self) -> Result<Checkpoint, Failure> {
        self.recorder.sync().map_err(|error| no_record(&error))
    }

    /// Readable when the writer says or does something unasked for: it only ever fails.
    pub(crate) fn watch(&self) -> BorrowedFd<'_> {
        self.process.channel.as_fd()
    }

    /// Hangs up and waits for the log's last word.
    pub(crate) fn finish(self) -> Result<Checkpoint, Failure> {
        let Self { process, recorder } = self;
        drop(recorder);
        let last = process
            .channel
            .expect::<FromWriter>()
            .map_err(|error| no_record(&error));
        end(process);
        match last?.message {
            FromWriter::Synced(checkpoint) => Ok(checkpoint),
            FromWriter::Failed { errno } => Err(cannot_write(errno)),
        }
    }
}

fn cannot_write(errno: i32) -> Failure {
    let why = std::io::Error::from_raw_os_error(errno);
    Failure::new(
        Kind::Environment,
        format!("the audit log cannot be written: {why}"),
    )
    .ends_with(Cause::AuditLost)
}

/// No record, no answer: a log that cannot be written ends whatever it was for.
fn no_record(error: &dyn std::error::Error) -> Failure {
    Failure::from_error(Kind::Environment, error).ends_with(Cause::AuditLost)
}

/// The key warden.
pub(crate) struct KeyWarden {
    process: Process,
}

impl KeyWarden {
    /// Starts the warden with its channel to the audit writer.
    pub(crate) fn start(state: &State, audit: Channel) -> Result<Self, Failure> {
        let store = File::open(state.warden()).or_fail(Kind::Environment)?;
        let identity = state
            .is_privileged()
            .then_some((user::WARDEN, user::WARDEN));
        let process = process::start(
            "keyd",
            &["serve", "--store", "."],
            identity,
            Some(&OwnedFd::from(store)),
        )?;
        process
            .channel
            .set_timeouts(Some(PROMPT), Some(PROMPT))
            .or_fail(Kind::Environment)?;
        process
            .channel
            .send_with(&Ask::Audit, &[audit.as_fd()])
            .map_err(|error| went_away(&error))?;
        Ok(Self { process })
    }

    /// Asks for the job key, wrapped to a view server's ephemeral key. We pass on what we cannot read.
    pub(crate) fn release(&self, ask: &Ask) -> Result<Stanza, Failure> {
        let no_key = |message| Failure::new(Kind::Denied, message).ends_with(Cause::NoKey);
        match self.ask(ask)? {
            Answer::Released { stanza } => Ok(stanza),
            Answer::Refused { reason } => Err(no_key(format!(
                "the key warden refuses to release the job's key: {reason}"
            ))),
            Answer::Erased | Answer::Granted { .. } => {
                Err(no_key("the key warden answered something else".to_owned()))
            }
        }
    }

    /// Asks for what reads a job, wrapped to the key of the process that shows it, and for how many seconds.
    pub(crate) fn grant(&self, request: LookRequest) -> Result<(Stanza, u64), Failure> {
        match self.ask(&Ask::Look(request))? {
            Answer::Granted { stanza, seconds } => Ok((stanza, seconds)),
            Answer::Refused { reason } => Err(Failure::new(Kind::Denied, reason)),
            Answer::Released { .. } | Answer::Erased => {
                let message = "the key warden answered something else";
                Err(Failure::new(Kind::Internal, message))
            }
        }
    }

    /// Has the one-time prekey erased: from then on this site cannot open the job any more.
    pub(crate) fn erase(&self, ask: &Ask) -> Result<(), Failure> {
        match self.ask(ask)? {
            Answer::Erased => Ok(()),
            _ => Err(Failure::new(
                Kind::Internal,
                "the key warden did not erase the job's prekey",
            )),
        }
    }

    fn ask(&self, ask: &Ask) -> Result<Answer, Failure> {
        self.process
            .channel
            .send(ask)
            .map_err(|error| went_away(&error))?;
        let answer = self.process.channel.expect::<Answer>();
        Ok(answer.map_err(|error| went_away(&error))?.message)
    }

    /// Lets the warden go.
    pub(crate) fn finish(self) {
        end(self.process);
    }
}

/// The warden died: then no key is released.
fn went_away(error: &dyn std::error::Error) -> Failure {
    let message = format!("the key warden went away: {error}");
    Failure::new(Kind::Environment, message).ends_with(Cause::NoKey)
}

/// What a view server is connected to.
pub(crate) struct ViewIo<'a> {
    pub(crate) audit: Channel,
    pub(crate) launcher: Channel,
    pub(crate) shown: [BorrowedFd<'a>; 2],
    pub(crate) area: &'a OwnedFd,
    pub(crate) attempt: &'a OwnedFd,
}

/// The view server of a session.
pub(crate) struct ViewServer {
    process: Process,
}

impl ViewServer {
    /// Starts a view server and gives it its order. Answers it with the public half of its ephemeral key.
    pub(crate) fn start(
        state: &State,
        slot: u16,
        order: Order,
        io: &ViewIo<'_>,
    ) -> Result<(Self, KemKey), Failure> {
        let identity = state
            .is_privileged()
            .then_some((user::view(slot), user::AREA));
        let process = process::start("__view", &[], identity, None)?;
        process
            .channel
            .set_timeouts(Some(PROMPT), Some(PROMPT))
            .or_fail(Kind::Environment)?;
        let [out, err] = io.shown;
        let descriptors = [
            io.audit.as_fd(),
            io.launcher.as_fd(),
            out,
            err,
            io.area.as_fd(),
            io.attempt.as_fd(),
        ];
        order
            .send(&process.channel, &descriptors)
            .or_fail(Kind::Environment)?;
        let server = Self { process };
        match server.hear()? {
            FromView::Asks { key } => Ok((server, key)),
            _ => Err(out_of_turn()),
        }
    }

    /// Gives it the key and waits until it has opened the job.
    pub(crate) fn unlock(&self, stanza: Stanza) -> Result<(), Failure> {
        self.process
            .channel
            .send(&ToView::Key { stanza })
            .or_fail(Kind::Environment)?;
        match self.hear()? {
            FromView::Ready => Ok(()),
            _ => Err(out_of_turn()),
        }
    }

    /// Waits until it serves.
    pub(crate) fn serving(&self) -> Result<(), Failure> {
        match self.hear()? {
            FromView::Serving => Ok(()),
            _ => Err(out_of_turn()),
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Readable when it has something to say, or is gone.
    pub(crate) fn watch(&self) -> BorrowedFd<'_> {
        self.process.channel.as_fd()
    }

    /// Says that the session is over; waits until what it wrote is sealed.
    pub(crate) fn seal(&self, cause: &Cause) -> Result<Sealed, Failure> {
        // Sealing takes as long as the outputs are large; a server that dies hangs up.
        self.process
            .channel
            .set_timeouts(Some(PROMPT), None)
            .or_fail(Kind::Environment)?;
        self.process
            .channel
            .send(&ToView::Ended {
                cause: cause.clone(),
            })
            .map_err(|_| gone())?;
        loop {
            match self.hear()? {
                FromView::Sealed(sealed) => return Ok(sealed),
                // Said before the end, and known by now.
                FromView::Trouble { .. } | FromView::Serving => {}
                _ => return Err(out_of_turn()),
            }
        }
    }

    /// What ended the session, if the server made it end: its trouble, or that it is gone.
    pub(crate) fn trouble(&self) -> Cause {
        loop {
            match self.hear() {
                Ok(FromView::Trouble { cause }) => return cause,
                Ok(FromView::Serving) => {}
                _ => return Cause::ViewLost,
            }
        }
    }

    /// Lets the server go. What it did not seal never happened.
    pub(crate) fn finish(self) {
        end(self.process);
    }

    fn hear(&self) -> Result<FromView, Failure> {
        match self
            .process
            .channel
            .expect::<FromView>()
            .map_err(|_| gone())?
            .message
        {
            FromView::Refused { cause, reason } => {
                let message = format!("the view server cannot go on: {reason}");
                Err(Failure::new(Kind::JobFailed, message).ends_with(cause))
            }
            said => Ok(said),
        }
    }
}

fn gone() -> Failure {
    Failure::new(
        Kind::JobFailed,
        "the view server went away, and with it the session's files",
    )
    .hint("run the job again; nothing of this attempt was kept")
    .ends_with(Cause::ViewLost)
}

fn out_of_turn() -> Failure {
    Failure::new(Kind::Internal, "the view server spoke out of turn")
}
